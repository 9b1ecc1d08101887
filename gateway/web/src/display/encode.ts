// What the browser says: the records of docs/display-protocol.md that go out.

import { BrowserType, VERSION } from "./protocol.js";
import { HEADER_BYTES, record } from "./record.js";

/** Size of the place for the picture in device pixels. */
export interface WindowSize {
  readonly width: number;
  readonly height: number;
}

/** What a browser can do beyond drawing PNG and JPEG. */
export interface Skills {
  readonly webp: boolean;
  /** It decodes H.264 and draws regions of video. */
  readonly h264: boolean;
  /** It plays Opus. */
  readonly opus: boolean;
  /** Memory for tiles that were shown before; 0 where none are kept. */
  readonly tileCacheBytes: number;
}

/** Flag bits of the hello. Palette images every browser draws. */
const SkillBit = { webp: 1, h264: 2, palette: 4, opus: 8 } as const;

/** The first record on every connection. */
export function encodeHello(skills: Skills, size: WindowSize): Uint8Array<ArrayBuffer> {
  const webp = skills.webp ? SkillBit.webp : 0;
  const h264 = skills.h264 ? SkillBit.h264 : 0;
  const opus = skills.opus ? SkillBit.opus : 0;
  const [bytes, body] = record(BrowserType.hello, 12);
  body.setUint16(0, VERSION, true);
  body.setUint16(2, webp | h264 | opus | SkillBit.palette, true);
  body.setUint32(4, skills.tileCacheBytes, true);
  body.setUint16(8, clamp(size.width, 0, 0xffff), true);
  body.setUint16(10, clamp(size.height, 0, 0xffff), true);
  return bytes;
}

/** Says that the frame was presented, and how long that took. */
export function encodeAck(sequence: number, drawMicros: number): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.ack, 8);
  body.setUint32(0, sequence, true);
  body.setUint32(4, clamp(drawMicros, 0, 0xffff_ffff), true);
  return bytes;
}

/** A key with the bytes of its scan code of set 1, at most 6. */
export function encodeKey(down: boolean, code: readonly number[]): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.key, 2 + code.length);
  body.setUint8(0, down ? 1 : 0);
  body.setUint8(1, code.length);
  code.forEach((value, index) => body.setUint8(2 + index, value));
  return bytes;
}

/** Where the pointer is, in guest pixels, and which buttons are held. */
export function encodePointer(x: number, y: number, buttons: number): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.pointer, 6);
  body.setUint16(0, clamp(x, 0, 0xffff), true);
  body.setUint16(2, clamp(y, 0, 0xffff), true);
  body.setUint8(4, buttons);
  return bytes;
}

/** How far the pointer moved, and which buttons are held. */
export function encodePointerDelta(dx: number, dy: number, buttons: number): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.pointerDelta, 6);
  body.setInt16(0, clamp(dx, -0x8000, 0x7fff), true);
  body.setInt16(2, clamp(dy, -0x8000, 0x7fff), true);
  body.setUint8(4, buttons);
  return bytes;
}

/** Clicks of the wheel; positive is away from the user. */
export function encodeWheel(clicks: number, buttons: number): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.wheel, 2);
  body.setInt8(0, clamp(clicks, -127, 127));
  body.setUint8(1, buttons);
  return bytes;
}

/** Lets go of everything that this viewer holds. */
export function encodeReleaseAll(): Uint8Array<ArrayBuffer> {
  return record(BrowserType.releaseAll, 0)[0];
}

/** Asks for a pong with the same number. */
export function encodePing(id: bigint): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.ping, 8);
  body.setBigUint64(0, id, true);
  return bytes;
}

/** What became of a region's decoder. */
export const CannotDecode = { ever: 1, untilKeyFrame: 2 } as const;

/** Says that the access units of a region cannot be decoded: none at all, or none before a key frame. */
export function encodeCannotDecode(region: number, what: number): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.cannotDecode, 4);
  body.setUint8(0, region);
  body.setUint8(1, what);
  return bytes;
}

/** Asks for the whole picture. */
export function encodeRefresh(): Uint8Array<ArrayBuffer> {
  return record(BrowserType.refresh, 0)[0];
}

/** A part of what the person copied; the parts of one piece follow each other. */
export function encodeClipboard(
  kind: number,
  more: boolean,
  part: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.clipboard, 4 + part.length);
  body.setUint8(0, kind);
  body.setUint8(1, more ? 1 : 0);
  bytes.set(part, HEADER_BYTES + 4);
  return bytes;
}

/** How large the place for the picture is. */
export function encodeWindow(size: WindowSize): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.window, 4);
  body.setUint16(0, clamp(size.width, 0, 0xffff), true);
  body.setUint16(2, clamp(size.height, 0, 0xffff), true);
  return bytes;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, Math.round(value)));
}
