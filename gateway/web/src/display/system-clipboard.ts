// The browser's clipboard, as far as it lets a page.

import { isEmpty, type Piece, withoutCarriageReturns } from "./pieces.js";

/** What the display needs of the clipboard of the person's own machine. */
export interface SystemClipboard {
  /** Browsers let nobody write or read while the person is elsewhere. */
  hasFocus(): boolean;
  /** Whether the person has just done something here, as far as the browser tells. */
  isActivated(): boolean;
  write(piece: Piece): Promise<void>;
  /** undefined where it is empty, or where reading would be refused or asked about. */
  read(): Promise<Piece | undefined>;
}

/** The real one, as the window has it in which the person works. */
export const browserClipboard = (view: () => Window): SystemClipboard => ({
  hasFocus: () => view().document.hasFocus(),

  isActivated: () => (view().navigator as { userActivation?: UserActivation }).userActivation?.isActive ?? true,

  async write(piece) {
    const { clipboard } = view().navigator as { clipboard?: Clipboard };
    if (clipboard === undefined || (piece.kind === "png" && typeof ClipboardItem !== "function")) {
      throw new DOMException("this browser has no clipboard for this", "NotAllowedError");
    }
    if (piece.kind === "text") {
      await clipboard.writeText(piece.text);
    } else {
      const blob = new Blob([piece.bytes], { type: "image/png" });
      await clipboard.write([new ClipboardItem({ "image/png": blob })]);
    }
  },

  async read() {
    if (!(await mayRead())) {
      return undefined;
    }
    for (const item of await view().navigator.clipboard.read()) {
      if (item.types.includes("text/plain")) {
        return textPiece(await (await item.getType("text/plain")).text());
      }
      if (item.types.includes("image/png")) {
        return await pngPiece(await item.getType("image/png"));
      }
    }
    return undefined;
  },
});

/** What a paste event brings: text if there is any, or else a picture, which takes its time. */
export function pastedPiece(
  data: DataTransfer | null,
): Piece | undefined | Promise<Piece | undefined> {
  const text = textPiece(data?.getData("text/plain") ?? "");
  if (text !== undefined) {
    return text;
  }
  const isPicture = (item: DataTransferItem) => item.kind === "file" && item.type === "image/png";
  const file = Array.from(data?.items ?? []).find(isPicture)?.getAsFile();
  return file === null || file === undefined ? undefined : pngPiece(file);
}

/** Whether the browser lets the page read without a word to the person. */
async function mayRead(): Promise<boolean> {
  try {
    // Not in TypeScript's list of names, nor in that of every browser: those throw.
    const name = "clipboard-read" as PermissionName;
    return (await navigator.permissions.query({ name })).state === "granted";
  } catch {
    return false;
  }
}

function textPiece(text: string): Piece | undefined {
  return text === "" ? undefined : { kind: "text", text: withoutCarriageReturns(text) };
}

async function pngPiece(blob: Blob): Promise<Piece | undefined> {
  const piece: Piece = { kind: "png", bytes: new Uint8Array(await blob.arrayBuffer()) };
  return isEmpty(piece) ? undefined : piece;
}
