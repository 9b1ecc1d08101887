// Records of sound, microphone and files (docs/display-protocol.md): bodies in, records out.

import { HEADER_BYTES, record } from "./record.js";

/** Types of the records, from the gateway and from the browser. */
export const MediaType = {
  sound: 20,
  soundState: 21,
  microphone: 22,
  transfer: 23,
  file: 77,
  speech: 78,
} as const;

/** How samples are packed. */
export type SoundCodec = "opus" | "pcm";

/** A record of these types. */
export type MediaRecord =
  | {
      readonly type: "sound";
      readonly codec: SoundCodec;
      readonly channels: number;
      readonly rate: number;
      /** Milliseconds of the guest's clock. */
      readonly time: number;
      readonly bytes: Uint8Array;
    }
  /** Volume from 0 to 1. */
  | { readonly type: "soundState"; readonly playing: boolean; readonly muted: boolean; readonly volume: number }
  /** Somebody in the guest records, and whether it is this person whom it hears. */
  | { readonly type: "microphone"; readonly wanted: boolean; readonly heard: boolean; readonly rate: number }
  | {
      readonly type: "transfer";
      readonly file: number;
      readonly state: TransferState;
      readonly reason: number;
      /** Bytes that went to the guest. */
      readonly taken: number;
      /** The file may be sent as far as this byte; of some reasons, the room on the guest's disk. */
      readonly room: number;
    };

/** How a file gets on. */
export type TransferState = "open" | "done" | "failed";

/** Why it did not arrive, as far as more is known than that. */
export const TransferReason = {
  noRoom: 1,
  nobody: 2,
  locked: 3,
  disabled: 4,
  policy: 5,
  tooMany: 6,
  lost: 7,
  cancelled: 9,
  /** No gateway's: the browser cannot read the file, or it changed meanwhile. */
  unreadable: 100,
} as const;

const CHANNELS_MAX = 8;
const RATE_MAX = 192_000;
const TRANSFER_STATES: readonly (TransferState | undefined)[] = [undefined, "open", "done", "failed"];

/** Reads a record's body; undefined for one that makes no sense. */
export function decodeMedia(kind: number, bytes: Uint8Array): MediaRecord | undefined {
  const body = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (kind) {
    case MediaType.sound:
      return bytes.length <= 12 ? undefined : decodeSound(body, bytes.subarray(12));
    case MediaType.soundState:
      return bytes.length !== 4
        ? undefined
        : {
            type: "soundState",
            playing: body.getUint8(0) !== 0,
            muted: body.getUint8(1) !== 0,
            volume: body.getUint16(2, true) / 0xffff,
          };
    case MediaType.microphone: {
      if (bytes.length !== 8) {
        return undefined;
      }
      const rate = body.getUint32(4, true);
      const wanted = body.getUint8(0) !== 0 && rate > 0 && rate <= RATE_MAX;
      return { type: "microphone", wanted, heard: wanted && body.getUint8(1) !== 0, rate };
    }
    case MediaType.transfer:
      return bytes.length !== 24 ? undefined : decodeTransfer(body);
    default:
      return undefined;
  }
}

function decodeSound(body: DataView, bytes: Uint8Array): MediaRecord | undefined {
  const codec = body.getUint8(0) === 1 ? "opus" : body.getUint8(0) === 2 ? "pcm" : undefined;
  const [channels, rate] = [body.getUint8(1), body.getUint32(4, true)];
  const sound = channels > 0 && channels <= CHANNELS_MAX && rate > 0 && rate <= RATE_MAX;
  if (codec === undefined || !sound) {
    return undefined;
  }
  return { type: "sound", codec, channels, rate, time: body.getUint32(8, true), bytes };
}

function decodeTransfer(body: DataView): MediaRecord | undefined {
  const state = TRANSFER_STATES[body.getUint8(4)];
  if (state === undefined) {
    return undefined;
  }
  return {
    type: "transfer",
    file: body.getUint32(0, true),
    state,
    reason: body.getUint8(5),
    taken: Number(body.getBigUint64(8, true)),
    room: Number(body.getBigUint64(16, true)),
  };
}

/** Announces a file. */
export function encodeFileStart(file: number, size: number, name: string): Uint8Array<ArrayBuffer> {
  const text = shortName(name);
  const [bytes, body] = record(MediaType.file, 16 + text.length);
  body.setUint8(0, 1);
  body.setUint32(4, file, true);
  body.setBigUint64(8, BigInt(size), true);
  bytes.set(text, HEADER_BYTES + 16);
  return bytes;
}

/** The next bytes of a file. */
export function encodeFileData(file: number, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(MediaType.file, 8 + data.length);
  body.setUint8(0, 2);
  body.setUint32(4, file, true);
  bytes.set(data, HEADER_BYTES + 8);
  return bytes;
}

/** The person gives a file up. */
export function encodeFileCancel(file: number): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(MediaType.file, 8);
  body.setUint8(0, 3);
  body.setUint32(4, file, true);
  return bytes;
}

/** What the microphone heard, one channel; undefined: it is off. */
export function encodeSpeech(samples: Int16Array | undefined): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(MediaType.speech, 4 + 2 * (samples?.length ?? 0));
  body.setUint8(0, samples === undefined ? 0 : 1);
  samples?.forEach((sample, index) => body.setInt16(4 + 2 * index, sample, true));
  return bytes;
}

/** Of a name, the part that a record takes; cut between characters. */
function shortName(name: string): Uint8Array {
  const NAME_BYTES_MAX = 1024;
  const room = new Uint8Array(NAME_BYTES_MAX);
  const { written } = new TextEncoder().encodeInto(name, room);
  return room.subarray(0, written);
}
