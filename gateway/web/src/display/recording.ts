// A recorded session as docs/display-protocol.md ("Recordings") lays it out: messages with their times.

import { GatewayType } from "./protocol.js";

const MAGIC = "VIDIREC1";
const HEADER_BYTES = 8;
/** Longer messages are not recorded. */
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** More messages than this are refused: 16 hours at 60 in a second. */
const MESSAGES_MAX = 4_000_000;
/** The file is looked through in pieces of this size. */
const PIECE_BYTES = 4 * 1024 * 1024;

/** A file that is no recording, or a broken one. */
export class RecordingError extends Error {
  override readonly name = "RecordingError";
}

/** Where its messages lie, and when they came. */
export class Recording {
  private constructor(
    private readonly file: Blob,
    /** Milliseconds since the beginning, never less than before. */
    private readonly times: readonly number[],
    private readonly offsets: readonly number[],
    private readonly lengths: readonly number[],
    /** Messages from which everything is drawn anew, the first one among them. */
    private readonly keys: readonly number[],
  ) {}

  /** Looks through a file. One that ends inside a message is good up to there. */
  static async open(file: Blob): Promise<Recording> {
    const times: number[] = [];
    const offsets: number[] = [];
    const lengths: number[] = [];
    const keys: number[] = [];
    const reader = new Reader(file);
    const magic = await reader.at(0, MAGIC.length);
    if (magic === undefined || new TextDecoder().decode(magic) !== MAGIC) {
      throw new RecordingError("this file is no recording");
    }
    let offset = MAGIC.length;
    for (;;) {
      // The header and the type of the first record.
      const head = await reader.at(offset, HEADER_BYTES + 1);
      if (head === undefined) {
        break;
      }
      const data = new DataView(head.buffer, head.byteOffset, head.byteLength);
      const time = data.getUint32(0, true);
      const length = data.getUint32(4, true);
      if (length === 0 || length > MESSAGE_BYTES_MAX || time < (times[times.length - 1] ?? 0)) {
        throw new RecordingError("this recording is broken");
      }
      if (offset + HEADER_BYTES + length > file.size) {
        break;
      }
      if (times.length === 0 || data.getUint8(HEADER_BYTES) === GatewayType.size) {
        keys.push(times.length);
      }
      times.push(time);
      offsets.push(offset + HEADER_BYTES);
      lengths.push(length);
      offset += HEADER_BYTES + length;
      if (times.length > MESSAGES_MAX) {
        throw new RecordingError("this recording has too many messages");
      }
    }
    return new Recording(file, times, offsets, lengths, keys);
  }

  get count(): number {
    return this.times.length;
  }

  /** Length in milliseconds. */
  get duration(): number {
    return this.times[this.times.length - 1] ?? 0;
  }

  /** When this message came; for ever after the last one. */
  time(index: number): number {
    return this.times[index] ?? Number.POSITIVE_INFINITY;
  }

  message(index: number): Promise<ArrayBuffer> {
    const offset = this.offsets[index] ?? 0;
    return this.file.slice(offset, offset + (this.lengths[index] ?? 0)).arrayBuffer();
  }

  /** The last message at or before this time from which everything is drawn anew. */
  keyBefore(milliseconds: number): number {
    let found = 0;
    for (const key of this.keys) {
      if (this.time(key) > milliseconds) {
        break;
      }
      found = key;
    }
    return found;
  }
}

/** Reads a file in large pieces. */
class Reader {
  private piece = new Uint8Array(0);
  private start = 0;

  constructor(private readonly file: Blob) {}

  /** undefined where the file ends before. */
  async at(offset: number, length: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (offset + length > this.file.size) {
      return undefined;
    }
    if (offset < this.start || offset + length > this.start + this.piece.length) {
      this.start = offset;
      this.piece = new Uint8Array(await this.file.slice(offset, offset + PIECE_BYTES).arrayBuffer());
    }
    return this.piece.subarray(offset - this.start, offset - this.start + length);
  }
}
