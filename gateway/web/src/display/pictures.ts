// Decodes images with what the browser has, and says what it has.

import { base64 } from "./bytes.js";

/** A decoded image; `close` frees it where the browser offers that. */
export type Picture = ImageBitmap | HTMLImageElement;

/** Images that are decoded side by side: more only wait for the processor, with their memory taken. */
const DECODINGS_MAX = 8;

/** Lets so many through at a time, the others in their order. */
class Gate {
  private free = DECODINGS_MAX;
  private readonly waiting: (() => void)[] = [];

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) {
      this.free -= 1;
    } else {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) {
        this.free += 1;
      } else {
        next();
      }
    }
  }
}

const gate = new Gate();

/** Up to here the time of a blob counts, from there on the memory of the pixels. */
const SMALL_BYTES_MAX = 16 * 1024;

/** Decodes an encoded image without touching its colours. On the page, where only old browsers draw, an
 * element takes half of the time that the page's own thread needs for a bitmap of a small blob. Of a large one
 * the browser may keep the pixels long after the element is gone (Chromium up to 512 MB of them). */
export function decodePicture(mime: string, bytes: Uint8Array): Promise<Picture> {
  const isPage = typeof document === "object";
  const isBitmap = typeof createImageBitmap === "function" && !(isPage && bytes.length <= SMALL_BYTES_MAX);
  return gate.pass<Picture>(() =>
    isBitmap
      ? decodeToBitmap(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: mime }))
      : decodeByElement(mime, bytes),
  );
}

/** Some browsers know the function without its options. */
let takesOptions = true;

async function decodeToBitmap(blob: Blob): Promise<ImageBitmap> {
  if (takesOptions) {
    try {
      return await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    } catch (error) {
      if (!(error instanceof TypeError)) {
        throw error;
      }
      takesOptions = false;
    }
  }
  return await createImageBitmap(blob);
}

/** Larger images go to an element as a blob: their text would be too long. */
const TEXT_BYTES_MAX = 1024 * 1024;

/** On the page only. As text in the address an image takes 60 % of the processor's time that a blob takes,
 * for which the page asks another process. */
async function decodeByElement(mime: string, bytes: Uint8Array): Promise<HTMLImageElement> {
  if (bytes.length <= TEXT_BYTES_MAX) {
    return await loadElement(`data:${mime};base64,${base64(bytes)}`);
  }
  const address = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: mime }));
  try {
    return await loadElement(address);
  } finally {
    URL.revokeObjectURL(address);
  }
}

function loadElement(address: string): Promise<HTMLImageElement> {
  const element = new Image();
  // Not `decode()`: that waits for the page to be painted, which a page that nobody sees never is.
  return new Promise<HTMLImageElement>((resolve, reject) => {
    const settle = (end: () => void) => () => {
      element.onload = element.onerror = null;
      end();
    };
    element.onload = settle(() => resolve(element));
    element.onerror = settle(() => reject(new Error("the image cannot be decoded")));
    element.src = address;
  });
}

/** Frees a decoded image. */
export function closePicture(picture: Picture | VideoFrame): void {
  if ("close" in picture) {
    picture.close();
  }
}

/** One lossless WebP pixel: a browser that decodes it decodes all that the gateway sends. */
const WEBP_PIXEL = "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==";

/** Whether this browser decodes WebP. */
export async function decodesWebp(): Promise<boolean> {
  const bytes = Uint8Array.from(atob(WEBP_PIXEL), (char) => char.charCodeAt(0));
  try {
    closePicture(await decodePicture("image/webp", bytes));
    return true;
  } catch {
    return false;
  }
}
