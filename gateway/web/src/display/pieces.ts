// What goes from one clipboard to the other: a piece, cut into records and put together again.

import { joined } from "./bytes.js";
import { ClipboardKind, encodeClipboard } from "./protocol.js";

/** What somebody copied. */
export type Piece =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "png"; readonly bytes: Uint8Array<ArrayBuffer> };

/** A larger text is not passed on (docs/display-protocol.md). */
export const TEXT_BYTES_MAX = 2 ** 20;
/** A larger picture is not passed on (docs/display-protocol.md). */
const PNG_BYTES_MAX = 8 * 2 ** 20;
/** Of a record, so that several of the gateway's and a large one fit into a message of 64 KiB. */
const RECORD_BYTES_MAX = 60 * 1024;
/** Header, kind, flags and a reserved field. */
const HEAD_BYTES = 12;
const PART_BYTES_MAX = RECORD_BYTES_MAX - HEAD_BYTES;

/** The records that carry a piece, in order; none for one that is too large. */
export function clipboardRecords(piece: Piece): Uint8Array<ArrayBuffer>[] {
  const kind = piece.kind === "text" ? ClipboardKind.text : ClipboardKind.png;
  const bytes = piece.kind === "text" ? new TextEncoder().encode(piece.text) : piece.bytes;
  if (bytes.length > bytesMax(kind)) {
    return [];
  }
  const records: Uint8Array<ArrayBuffer>[] = [];
  let start = 0;
  do {
    const end = start + PART_BYTES_MAX;
    records.push(encodeClipboard(kind, end < bytes.length, bytes.subarray(start, end)));
    start = end;
  } while (start < bytes.length);
  return records;
}

/** One part of a piece, as a record brings it. */
export interface Part {
  readonly kind: number;
  readonly more: boolean;
  readonly bytes: Uint8Array;
}

/** Puts the parts of one connection together. Holds no more than the largest piece has. */
export class PieceAssembler {
  private kind: number | undefined;
  private parts: Uint8Array[] = [];
  private size = 0;

  /** The piece that this part completes; undefined while more follows, or when it is too large. */
  add(part: Part): Piece | undefined {
    if (part.kind !== this.kind) {
      this.forget();
      this.kind = part.kind;
    }
    this.size += part.bytes.length;
    const tooLarge = this.size > bytesMax(part.kind);
    if (!tooLarge && part.bytes.length > 0) {
      this.parts.push(part.bytes);
    }
    if (part.more) {
      return undefined;
    }
    const bytes = joined(this.parts);
    this.forget();
    if (tooLarge) {
      return undefined;
    }
    return part.kind === ClipboardKind.text
      ? { kind: "text", text: withoutCarriageReturns(new TextDecoder().decode(bytes)) }
      : { kind: "png", bytes };
  }

  private forget(): void {
    this.kind = undefined;
    this.parts = [];
    this.size = 0;
  }
}

/** Whether there is nothing in it. */
export function isEmpty(piece: Piece): boolean {
  return (piece.kind === "text" ? piece.text : piece.bytes).length === 0;
}

/** Whether both are the same, down to the last byte. */
export function isSame(one: Piece | undefined, other: Piece | undefined): boolean {
  if (one === undefined || other === undefined) {
    return one === other;
  }
  if (one.kind === "text" || other.kind === "text") {
    return one.kind === "text" && other.kind === "text" && one.text === other.text;
  }
  const { bytes } = other;
  return one.bytes.length === bytes.length && one.bytes.every((byte, at) => byte === bytes[at]);
}

/** Lines end differently in the clipboards of Windows and of the others: here they end one way. */
export function withoutCarriageReturns(text: string): string {
  return text.replaceAll("\r\n", "\n");
}

/** Of a kind that nobody knows nothing is kept. */
function bytesMax(kind: number): number {
  switch (kind) {
    case ClipboardKind.text:
      return TEXT_BYTES_MAX;
    case ClipboardKind.png:
      return PNG_BYTES_MAX;
    default:
      return -1;
  }
}
