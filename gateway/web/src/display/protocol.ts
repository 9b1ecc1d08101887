// The codec of docs/display-protocol.md: records from the gateway in, records to the gateway out.

/** What the WebSocket asks for in Sec-WebSocket-Protocol. */
export const SUBPROTOCOL = "vidi.display.v1";
/** The version that both hellos carry. */
export const VERSION = 1;

const HEADER_BYTES = 8;
const RECTANGLE_BYTES = 8;
const PIXEL_BYTES = 4;
/** Larger surfaces are refused: 2^25 pixels are 128 MiB of canvas. */
const PIXELS_MAX = 2 ** 25;
/** Of the text in a status record, the part that is kept. */
const STATUS_TEXT_BYTES_MAX = 2048;

/** Types of the records that the gateway sends. */
export const GatewayType = {
  hello: 1,
  size: 2,
  fill: 3,
  copy: 4,
  raw: 5,
  image: 6,
  frameEnd: 7,
  cursor: 8,
  cursorPosition: 9,
  pointerMode: 10,
  lockKeys: 11,
  status: 12,
  pong: 13,
  clipboard: 14,
  abilities: 15,
} as const;

/** Types of the records that the browser sends. */
export const BrowserType = {
  hello: 65,
  ack: 66,
  key: 67,
  pointer: 68,
  pointerDelta: 69,
  wheel: 70,
  releaseAll: 71,
  ping: 72,
  refresh: 73,
  clipboard: 74,
  window: 75,
} as const;

/** The state that a status record tells. */
export const Status = { connected: 1, connecting: 2, paused: 3, ended: 4 } as const;

/** What a record of the clipboard holds. */
export const ClipboardKind = { text: 1, png: 2 } as const;

/** Bits of a button mask. */
export const Button = { left: 1, middle: 2, right: 4, back: 8, forward: 16 } as const;

/** A message that does not follow the document. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** A part of a surface, in guest pixels. */
export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The shape of the guest's pointer; width 0 means the browser's own default. */
export interface CursorShape {
  readonly visible: boolean;
  readonly hotspotX: number;
  readonly hotspotY: number;
  readonly width: number;
  readonly height: number;
  /** RGBA rows, not premultiplied. */
  readonly pixels: Uint8Array;
}

/** What the guest can do beyond showing a picture. */
export interface Abilities {
  /** It takes the person's clipboard. */
  readonly takesClipboard: boolean;
  /** It gives its own. */
  readonly givesClipboard: boolean;
  /** Its screen follows the window. */
  readonly followsWindow: boolean;
}

/** One record from the gateway. Bytes are views of the message, not copies. */
export type GatewayRecord = { readonly view: number } & (
  | { readonly type: "hello"; readonly version: number; readonly mayInput: boolean }
  | { readonly type: "size"; readonly width: number; readonly height: number }
  | {
      readonly type: "fill";
      readonly area: Rectangle;
      readonly red: number;
      readonly green: number;
      readonly blue: number;
    }
  | {
      readonly type: "copy";
      readonly area: Rectangle;
      readonly sourceX: number;
      readonly sourceY: number;
    }
  | { readonly type: "raw"; readonly area: Rectangle; readonly pixels: Uint8ClampedArray }
  | {
      readonly type: "image";
      readonly area: Rectangle;
      readonly mime: string;
      readonly exact: boolean;
      readonly bytes: Uint8Array;
    }
  | { readonly type: "frameEnd"; readonly sequence: number }
  | { readonly type: "cursor"; readonly shape: CursorShape }
  | { readonly type: "cursorPosition"; readonly x: number; readonly y: number }
  | { readonly type: "pointerMode"; readonly relative: boolean }
  | {
      readonly type: "lockKeys";
      readonly scroll: boolean;
      readonly number: boolean;
      readonly caps: boolean;
    }
  | { readonly type: "status"; readonly state: number; readonly text: string }
  | { readonly type: "pong"; readonly id: bigint }
  | {
      readonly type: "clipboard";
      readonly kind: number;
      readonly more: boolean;
      readonly bytes: Uint8Array;
    }
  | { readonly type: "abilities"; readonly abilities: Abilities }
);

/**
 * The records of one message, in order. Unknown types are skipped, so that new ones can be added.
 * Throws `ProtocolError` on anything that is cut short or contradicts itself.
 */
export function decodeMessage(message: ArrayBuffer): GatewayRecord[] {
  const records: GatewayRecord[] = [];
  const data = new DataView(message);
  let offset = 0;
  while (offset < message.byteLength) {
    if (message.byteLength - offset < HEADER_BYTES) {
      throw new ProtocolError("the message ends within a record's header");
    }
    const type = data.getUint8(offset);
    const view = data.getUint8(offset + 1);
    const length = data.getUint32(offset + 4, true);
    const start = offset + HEADER_BYTES;
    if (length > message.byteLength - start) {
      throw new ProtocolError(`the message ends within the body of a record of type ${type}`);
    }
    const record = decodeBody(type, view, new Body(message, start, length));
    if (record !== undefined) {
      records.push(record);
    }
    offset = start + length;
  }
  return records;
}

/** Reads one record's body; never past its end. */
class Body {
  private readonly data: DataView;
  private offset = 0;

  constructor(
    private readonly buffer: ArrayBuffer,
    private readonly start: number,
    length: number,
  ) {
    this.data = new DataView(buffer, start, length);
  }

  get left(): number {
    return this.data.byteLength - this.offset;
  }

  u8(): number {
    return this.data.getUint8(this.take(1));
  }

  u16(): number {
    return this.data.getUint16(this.take(2), true);
  }

  u32(): number {
    return this.data.getUint32(this.take(4), true);
  }

  u64(): bigint {
    return this.data.getBigUint64(this.take(8), true);
  }

  bytes(length: number): Uint8Array {
    return new Uint8Array(this.buffer, this.start + this.take(length), length);
  }

  clamped(length: number): Uint8ClampedArray {
    return new Uint8ClampedArray(this.buffer, this.start + this.take(length), length);
  }

  rectangle(): Rectangle {
    if (this.left < RECTANGLE_BYTES) {
      throw new ProtocolError("a record's body is too short for its rectangle");
    }
    const area = { x: this.u16(), y: this.u16(), width: this.u16(), height: this.u16() };
    if (area.width === 0 || area.height === 0) {
      throw new ProtocolError("a rectangle is empty");
    }
    return area;
  }

  end(): void {
    if (this.left !== 0) {
      throw new ProtocolError(`a record's body has ${this.left} bytes too many`);
    }
  }

  private take(length: number): number {
    if (length > this.left) {
      throw new ProtocolError("a record's body is too short");
    }
    const at = this.offset;
    this.offset += length;
    return at;
  }
}

function decodeBody(type: number, view: number, body: Body): GatewayRecord | undefined {
  const record = decodeKnown(type, view, body);
  if (record !== undefined) {
    body.end();
  }
  return record;
}

function decodeKnown(type: number, view: number, body: Body): GatewayRecord | undefined {
  switch (type) {
    case GatewayType.hello: {
      const version = body.u16();
      return { type: "hello", view, version, mayInput: (body.u16() & 1) !== 0 };
    }
    case GatewayType.size:
      return decodeSize(view, body);
    case GatewayType.fill: {
      const area = body.rectangle();
      const [red, green, blue] = [body.u8(), body.u8(), body.u8()];
      body.u8();
      return { type: "fill", view, area, red, green, blue };
    }
    case GatewayType.copy:
      return {
        type: "copy",
        view,
        area: body.rectangle(),
        sourceX: body.u16(),
        sourceY: body.u16(),
      };
    case GatewayType.raw: {
      const area = body.rectangle();
      return { type: "raw", view, area, pixels: body.clamped(area.width * area.height * PIXEL_BYTES) };
    }
    case GatewayType.image:
      return decodeImage(view, body);
    case GatewayType.frameEnd:
      return { type: "frameEnd", view, sequence: body.u32() };
    case GatewayType.cursor:
      return decodeCursor(view, body);
    case GatewayType.cursorPosition:
      return { type: "cursorPosition", view, x: body.u16(), y: body.u16() };
    case GatewayType.pointerMode:
      return { type: "pointerMode", view, relative: body.u8() === 2 };
    case GatewayType.lockKeys: {
      const bits = body.u8();
      return {
        type: "lockKeys",
        view,
        scroll: (bits & 1) !== 0,
        number: (bits & 2) !== 0,
        caps: (bits & 4) !== 0,
      };
    }
    case GatewayType.status: {
      const state = body.u8();
      const text = body.bytes(body.left);
      return {
        type: "status",
        view,
        state,
        text: new TextDecoder().decode(text.subarray(0, STATUS_TEXT_BYTES_MAX)),
      };
    }
    case GatewayType.pong:
      return { type: "pong", view, id: body.u64() };
    case GatewayType.clipboard: {
      const kind = body.u8();
      const more = (body.u8() & 1) !== 0;
      body.u16();
      return { type: "clipboard", view, kind, more, bytes: body.bytes(body.left) };
    }
    case GatewayType.abilities:
      return { type: "abilities", view, abilities: decodeAbilities(body.u8()) };
    default:
      return undefined;
  }
}

function decodeAbilities(bits: number): Abilities {
  return {
    takesClipboard: (bits & 1) !== 0,
    givesClipboard: (bits & 2) !== 0,
    followsWindow: (bits & 4) !== 0,
  };
}

function decodeSize(view: number, body: Body): GatewayRecord {
  const width = body.u32();
  const height = body.u32();
  if (width === 0 || height === 0 || width > 0xffff || height > 0xffff || width * height > PIXELS_MAX) {
    throw new ProtocolError(`a surface of ${width} x ${height} pixels is impossible`);
  }
  return { type: "size", view, width, height };
}

const MIMES: readonly (string | undefined)[] = [undefined, "image/png", "image/webp", "image/jpeg"];

function decodeImage(view: number, body: Body): GatewayRecord {
  const area = body.rectangle();
  const codec = body.u8();
  const flags = body.u8();
  body.u16();
  const mime = MIMES[codec];
  if (mime === undefined) {
    throw new ProtocolError(`image codec ${codec} is unknown`);
  }
  return { type: "image", view, area, mime, exact: (flags & 1) === 0, bytes: body.bytes(body.left) };
}

function decodeCursor(view: number, body: Body): GatewayRecord {
  const visible = body.u8() !== 0;
  body.u8();
  const [hotspotX, hotspotY, width, height] = [body.u16(), body.u16(), body.u16(), body.u16()];
  const pixels = body.bytes(width * height * PIXEL_BYTES);
  return { type: "cursor", view, shape: { visible, hotspotX, hotspotY, width, height, pixels } };
}

/** A record with an empty body of `length` bytes, and a view to fill the body with. */
function record(type: number, length: number): [Uint8Array<ArrayBuffer>, DataView] {
  const bytes = new Uint8Array(HEADER_BYTES + length);
  bytes[0] = type;
  const header = new DataView(bytes.buffer);
  header.setUint32(4, length, true);
  return [bytes, new DataView(bytes.buffer, HEADER_BYTES)];
}

/** Size of the place for the picture in device pixels. */
export interface WindowSize {
  readonly width: number;
  readonly height: number;
}

/** The first record on every connection. */
export function encodeHello(decodesWebp: boolean, size: WindowSize): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(BrowserType.hello, 12);
  body.setUint16(0, VERSION, true);
  body.setUint16(2, decodesWebp ? 1 : 0, true);
  body.setUint32(4, 0, true);
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
