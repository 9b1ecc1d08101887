// Keeps the clipboards of the person and of the guest together, without a panel between them.
//
//   guest copies      the piece is written to the person's clipboard; where the browser wants focus or a
//                     gesture first, as soon as there is one
//   person pastes     the browser's own paste event brings what the person has and needs no permission;
//                     the guest is offered it before it hears of the key
//   person comes back what changed meanwhile is offered, where the browser lets the page read
//
// What came from one side is never given back to it: `guestHas` and `seen` are the last on each.

import type { Platform } from "./keyboard.js";
import type { Outbox } from "./outbox.js";
import { clipboardRecords, isEmpty, isSame, type Piece } from "./pieces.js";
import type { SystemClipboard } from "./system-clipboard.js";

/** The paste event follows its key in the same task, or, where another process decides, soon. */
const PASTE_WAIT_MS = 50;
/** Within this time the browser hands over a picture of some MiB; longer nobody waits for a key. */
const PICTURE_WAIT_MS = 1000;
/** A guest hears of a key sooner than its agent has taken over the clipboard. */
const OFFER_MS = 150;
/** Whoever copies and pastes in the guest may be faster than the news of what was copied. */
const COPY_NEWS_MS = 500;
/** A guest's clipboard manager takes over what is offered, and offers it itself, within this time. */
const ECHO_MS = 2000;
/** A larger picture is not sent again after every word; the person still has it, and pastes it anew. */
const GIVE_BACK_BYTES_MAX = 2 ** 20;
/** Every look makes the browser encode a picture anew: the pointer comes and goes more often. */
const LOOK_INTERVAL_MS = 1000;

/** The part of a KeyboardEvent that is used. */
export interface ClipboardKey {
  readonly key: string;
  readonly code: string;
  readonly ctrlKey: boolean;
  readonly shiftKey: boolean;
  readonly altKey: boolean;
  readonly metaKey: boolean;
}

/** What the clipboards' keeper is given. */
export interface ClipboardOutlets {
  readonly system: SystemClipboard;
  readonly outbox: Outbox;
  /** Whether the browser refused what the guest copied, though the person was there. */
  refused(refused: boolean): void;
  /** Milliseconds of a monotonic clock. */
  now(): number;
}

interface Loan {
  readonly piece: Piece;
  readonly before: Piece | undefined;
  /** Kept after that, because a clipboard manager of the guest may repeat the piece. */
  readonly isOver: boolean;
}

/** The clipboards of one person and one guest. */
export class ClipboardKeeper {
  private takes = false;
  /** What is in the guest's clipboard, as far as anybody said. */
  private guestHas: Piece | undefined;
  /** What was in the person's clipboard when it was read or written last. */
  private seen: { readonly piece: Piece; readonly isGuests: boolean } | undefined;
  /** What the guest copied and the person's clipboard does not have yet. */
  private pending: Piece | undefined;
  private isWriting = false;
  private isLooking = false;
  private isRefused = false;
  private offeredAt = Number.NEGATIVE_INFINITY;
  /** When something was last heard of a copy in the guest that is not here yet. */
  private copyingAt = Number.NEGATIVE_INFINITY;
  private lookedAt = Number.NEGATIVE_INFINITY;
  /** Counts what the guest copied. */
  private copies = 0;
  /** What the guest was lent last, and what it had before. */
  private lent: Loan | undefined;

  constructor(
    private readonly platform: Platform,
    private readonly outlets: ClipboardOutlets,
  ) {}

  /** Whether the guest takes the person's clipboard; false also says that it forgot what it had. */
  setTakes(takes: boolean): void {
    const begins = takes && !this.takes;
    this.takes = takes;
    if (!takes) {
      this.lent = undefined;
      this.guestHas = undefined;
      this.seen = this.seen?.isGuests === true ? this.seen : undefined;
    }
    if (begins) {
      void this.look();
    }
  }

  /** A part of what somebody copied in the guest came: a large piece is under way for long. */
  coming(): void {
    this.copyingAt = this.outlets.now();
  }

  /** Somebody copied this in the guest, or emptied its clipboard. */
  given(piece: Piece): void {
    this.copies += 1;
    this.copyingAt = Number.NEGATIVE_INFINITY;
    if (isEmpty(piece)) {
      // The person keeps what was written before; what was not is gone, as its owner wanted.
      this.guestHas = undefined;
      this.pending = undefined;
      return;
    }
    const isEcho =
      (isSame(piece, this.guestHas) || isSame(piece, this.lent?.piece)) &&
      this.outlets.now() - this.offeredAt < ECHO_MS;
    this.guestHas = piece;
    if (!isEcho) {
      this.lent = undefined;
      this.pending = piece;
      void this.write(false);
    }
  }

  /** The picture has the focus. */
  async focused(): Promise<void> {
    await this.write(false);
    await this.look();
  }

  /** The pointer came into the picture. */
  entered(): void {
    if (this.outlets.now() - this.lookedAt >= LOOK_INTERVAL_MS) {
      void this.look();
    }
  }

  /** A button of the pointer was pressed or let go in the picture. */
  pressed(): void {
    void this.write(true);
  }

  /**
   * A key went down in the picture; call it before the keyboard sends anything of it. True when the browser
   * must go on with the key, because its paste event is waited for.
   */
  keyDown(key: ClipboardKey): boolean {
    void this.write(true);
    if (isCopyKey(key)) {
      this.copyingAt = this.outlets.now();
    }
    // What was copied in the guest just now is newer than anything here.
    const guestCopies =
      this.pending !== undefined || this.outlets.now() - this.copyingAt < COPY_NEWS_MS;
    if (!this.takes || guestCopies || !isPasteKey(key, this.platform)) {
      return false;
    }
    this.outlets.outbox.hold(PASTE_WAIT_MS);
    return true;
  }

  /** The browser's paste event came over the picture. */
  async pasted(found: Piece | undefined | Promise<Piece | undefined>): Promise<void> {
    const { outbox } = this.outlets;
    outbox.extend(PICTURE_WAIT_MS);
    const { copies } = this;
    try {
      const piece = await found;
      const isOld = isSame(piece, this.seen?.piece) && this.guestHas !== undefined;
      if (piece !== undefined && !isOld && copies === this.copies && this.offer(piece)) {
        outbox.extend(OFFER_MS);
        return;
      }
    } catch (error) {
      console.warn("what was pasted cannot be read", error);
    }
    // What a look or another paste offered just now is not the guest's yet.
    const wait = this.offeredAt + OFFER_MS - this.outlets.now();
    if (wait > 0) {
      outbox.extend(wait);
    } else {
      outbox.open();
    }
  }

  /**
   * Offers the guest a text that was typed and not copied, to be pasted at once; false where it takes none.
   * The person's own clipboard has no part in it.
   */
  lend(text: string): boolean {
    const piece: Piece = { kind: "text", text };
    const records = this.takes ? clipboardRecords(piece) : [];
    for (const record of records) {
      this.outlets.outbox.sendFirst(record);
    }
    if (records.length === 0) {
      return false;
    }
    const goesOn = this.lent?.isOver === false && isSame(this.guestHas, this.lent.piece);
    this.lent = { piece, before: goesOn ? this.lent?.before : this.guestHas, isOver: false };
    this.guestHas = piece;
    this.offeredAt = this.outlets.now();
    return true;
  }

  /** The guest gets back what it had before it was lent a text, unless somebody copied something since. */
  giveBack(): void {
    const { lent } = this;
    if (lent === undefined || lent.isOver || !isSame(this.guestHas, lent.piece)) {
      return;
    }
    const isSmall = lent.before?.kind === "text" || (lent.before?.bytes.length ?? 0) <= GIVE_BACK_BYTES_MAX;
    const before = isSmall ? lent.before : undefined;
    for (const record of before === undefined ? [] : clipboardRecords(before)) {
      this.outlets.outbox.sendFirst(record);
    }
    this.lent = { ...lent, isOver: true };
    this.guestHas = before;
    this.offeredAt = this.outlets.now();
  }

  /** Offers the guest what changed in the person's clipboard, where the browser lets the page read it. */
  private async look(): Promise<void> {
    const { system, now } = this.outlets;
    if (!this.takes || this.isLooking || this.pending !== undefined || !system.hasFocus()) {
      return;
    }
    this.isLooking = true;
    this.lookedAt = now();
    const { copies } = this;
    try {
      const piece = await system.read();
      if (piece !== undefined && copies === this.copies && !isSame(piece, this.seen?.piece)) {
        this.offer(piece);
      }
    } catch {
      // The person went elsewhere meanwhile, or the clipboard holds what the browser cannot give.
    } finally {
      this.isLooking = false;
    }
  }

  /** Whether the guest did not have it yet. */
  private offer(piece: Piece): boolean {
    if (!this.takes) {
      return false;
    }
    this.seen = { piece, isGuests: false };
    const records = isSame(piece, this.guestHas) ? [] : clipboardRecords(piece);
    if (records.length === 0) {
      return false;
    }
    for (const record of records) {
      this.outlets.outbox.sendFirst(record);
    }
    this.guestHas = piece;
    this.offeredAt = this.outlets.now();
    return true;
  }

  /** Writes what the guest copied, if anything waits; `byGesture` when the person has just done something. */
  private async write(byGesture: boolean): Promise<void> {
    const { system } = this.outlets;
    const piece = this.pending;
    if (piece === undefined || this.isWriting || !system.hasFocus()) {
      return;
    }
    this.isWriting = true;
    const isFinal = byGesture && system.isActivated();
    try {
      await system.write(piece);
      this.seen = { piece: await this.asWritten(piece), isGuests: true };
      this.drop(piece);
      this.tellRefused(false);
    } catch (error) {
      if (!isRefusal(error)) {
        console.warn("the browser does not take what was copied in the desktop", error);
        this.drop(piece);
      } else if (isFinal && system.hasFocus()) {
        this.drop(piece);
        this.tellRefused(true);
      }
    } finally {
      this.isWriting = false;
    }
    if (this.pending !== piece) {
      await this.write(byGesture);
    }
  }

  /** Browsers encode a picture anew: what came out is not to be taken for the person's own. */
  private async asWritten(piece: Piece): Promise<Piece> {
    if (piece.kind === "text") {
      return piece;
    }
    try {
      return (await this.outlets.system.read()) ?? piece;
    } catch {
      return piece;
    }
  }

  private drop(piece: Piece): void {
    if (this.pending === piece) {
      this.pending = undefined;
    }
  }

  private tellRefused(refused: boolean): void {
    if (refused !== this.isRefused) {
      this.isRefused = refused;
      this.outlets.refused(refused);
    }
  }
}

/** Whether the browser pastes with this key: Ctrl+V, with Shift too, Cmd+V, Shift+Insert. */
export function isPasteKey(key: ClipboardKey, platform: Platform): boolean {
  if (key.altKey) {
    return false;
  }
  const [command, other] = platform === "mac" ? [key.metaKey, key.ctrlKey] : [key.ctrlKey, key.metaKey];
  if (command && !other) {
    return isLetter(key, "v");
  }
  return platform !== "mac" && !command && !other && key.shiftKey && key.code === "Insert";
}

/** Whether a guest copies or cuts with this key: Ctrl+C, Ctrl+X, Ctrl+Insert, Shift+Delete, and Cmd's. */
function isCopyKey(key: ClipboardKey): boolean {
  if (key.ctrlKey || key.metaKey) {
    return isLetter(key, "c") || isLetter(key, "x") || key.code === "Insert";
  }
  return key.shiftKey && key.code === "Delete";
}

/** Browsers go by the letter of the person's layout; where it has no Latin ones, by the place. */
function isLetter(key: ClipboardKey, letter: string): boolean {
  const typed = key.key.toLowerCase();
  return /^[a-z]$/.test(typed) ? typed === letter : key.code === `Key${letter.toUpperCase()}`;
}

function isRefusal(error: unknown): boolean {
  return error instanceof DOMException && /^(NotAllowed|Security)Error$/.test(error.name);
}
