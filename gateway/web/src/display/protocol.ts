// The codec of docs/display-protocol.md: records from the gateway in; `encode.ts` has those that go out.

import { MediaType } from "./media-protocol.js";
import { decodeMonitors, type Monitors, MonitorsType } from "./monitors.js";
import { HEADER_BYTES } from "./record.js";
import { decodeSharing, type SharingNews, SharingType } from "./sharing.js";

export * from "./encode.js";

/** What the WebSocket asks for in Sec-WebSocket-Protocol. */
export const SUBPROTOCOL = "vidi.display.v1";
/** The version that both hellos carry. */
export const VERSION = 1;

const RECTANGLE_BYTES = 8;
const PIXEL_BYTES = 4;
/** Palette images are for letters: 64 x 64 at most. */
const PALETTE_PIXELS_MAX = 4096;
/** One tile of a keep or a recall: its place and its slot. */
const TILE_BYTES = 8;
/** Regions of video are numbered below this. */
export const VIDEO_REGIONS_MAX = 8;
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
  fetched: 30,
  keep: 16,
  recall: 17,
  video: 18,
  videoEnd: 19,
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
  cannotDecode: 76,
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
  /** It takes files. */
  readonly takesFiles: boolean;
  /** It has sound. */
  readonly hasSound: boolean;
  /** It takes a microphone. */
  readonly takesMicrophone: boolean;
}

/** Places of tiles and their slots, read where they lie in the message. */
export class Tiles {
  constructor(private readonly data: DataView) {}

  get count(): number {
    return this.data.byteLength / TILE_BYTES;
  }

  x(index: number): number {
    return this.data.getUint16(index * TILE_BYTES, true);
  }

  y(index: number): number {
    return this.data.getUint16(index * TILE_BYTES + 2, true);
  }

  slot(index: number): number {
    return this.data.getUint32(index * TILE_BYTES + 4, true);
  }
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
  | {
      readonly type: "palette";
      readonly area: Rectangle;
      readonly exact: boolean;
      /** Red, green and blue of each colour. */
      readonly colours: Uint8Array;
      /** Bits of a pixel's number. */
      readonly bits: number;
      readonly pixels: Uint8Array;
    }
  | { readonly type: "keep"; readonly tiles: Tiles }
  | { readonly type: "recall"; readonly tiles: Tiles }
  | {
      readonly type: "video";
      readonly area: Rectangle;
      readonly region: number;
      readonly key: boolean;
      readonly codedWidth: number;
      readonly codedHeight: number;
      /** One access unit, as Annex B of H.264 has it. */
      readonly bytes: Uint8Array;
    }
  | { readonly type: "videoEnd"; readonly region: number }
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
  | { readonly type: "fetched" }
  /** Sound, microphone or files: `media-protocol.ts` reads the body. */
  | { readonly type: "media"; readonly kind: number; readonly bytes: Uint8Array }
  | { readonly type: "sharing"; readonly news: SharingNews }
  | { readonly type: "monitors"; readonly monitors: Monitors }
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

  tiles(): Tiles {
    const length = this.left;
    if (length === 0 || length % TILE_BYTES !== 0) {
      throw new ProtocolError("a record of tiles has a length that is impossible");
    }
    return new Tiles(new DataView(this.buffer, this.start + this.take(length), length));
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
    case SharingType.people:
    case SharingType.requests:
    case SharingType.recording:
    case SharingType.messages: {
      const news = decodeSharing(type, body.bytes(body.left));
      if (news === undefined) {
        throw new ProtocolError("a record of the people at the session is cut short");
      }
      return { type: "sharing", view, news };
    }
    case MonitorsType.monitors: {
      const monitors = decodeMonitors(body.bytes(body.left));
      if (monitors === undefined) {
        throw new ProtocolError("a record of the monitors is cut short");
      }
      return { type: "monitors", view, monitors };
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
    case GatewayType.keep:
      return { type: "keep", view, tiles: body.tiles() };
    case GatewayType.recall:
      return { type: "recall", view, tiles: body.tiles() };
    case GatewayType.video:
      return decodeVideo(view, body);
    case GatewayType.videoEnd: {
      const region = decodeRegion(body);
      body.bytes(3);
      return { type: "videoEnd", view, region };
    }
    case GatewayType.fetched:
      return { type: "fetched", view };
    case GatewayType.abilities:
      return { type: "abilities", view, abilities: decodeAbilities(body.u8()) };
    case MediaType.sound:
    case MediaType.soundState:
    case MediaType.microphone:
    case MediaType.transfer:
      return { type: "media", view, kind: type, bytes: body.bytes(body.left) };
    default:
      return undefined;
  }
}

function decodeAbilities(bits: number): Abilities {
  return {
    takesClipboard: (bits & 1) !== 0,
    givesClipboard: (bits & 2) !== 0,
    followsWindow: (bits & 4) !== 0,
    takesFiles: (bits & 8) !== 0,
    hasSound: (bits & 16) !== 0,
    takesMicrophone: (bits & 32) !== 0,
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

/** The codec of an image that needs no decoder. */
const PALETTE_CODEC = 4;
const MIMES: readonly (string | undefined)[] = [undefined, "image/png", "image/webp", "image/jpeg"];

function decodeImage(view: number, body: Body): GatewayRecord {
  const area = body.rectangle();
  const codec = body.u8();
  const flags = body.u8();
  body.u16();
  if (codec === PALETTE_CODEC) {
    return decodePalette(view, area, (flags & 1) === 0, body);
  }
  const mime = MIMES[codec];
  if (mime === undefined) {
    throw new ProtocolError(`image codec ${codec} is unknown`);
  }
  return { type: "image", view, area, mime, exact: (flags & 1) === 0, bytes: body.bytes(body.left) };
}

function decodePalette(view: number, area: Rectangle, exact: boolean, body: Body): GatewayRecord {
  if (area.width * area.height > PALETTE_PIXELS_MAX) {
    throw new ProtocolError("a palette image is too large");
  }
  const count = body.u8() + 1;
  const colours = body.bytes(3 * count);
  const bits = count <= 2 ? 1 : count <= 4 ? 2 : count <= 16 ? 4 : 8;
  const pixels = body.bytes(Math.ceil((area.width * bits) / 8) * area.height);
  return { type: "palette", view, area, exact, colours, bits, pixels };
}

function decodeVideo(view: number, body: Body): GatewayRecord {
  const area = body.rectangle();
  const region = decodeRegion(body);
  const key = (body.u8() & 1) !== 0;
  body.u16();
  const [codedWidth, codedHeight] = [body.u16(), body.u16()];
  if (codedWidth === 0 || codedHeight === 0 || codedWidth * codedHeight > PIXELS_MAX) {
    throw new ProtocolError(`video of ${codedWidth} x ${codedHeight} pixels is impossible`);
  }
  const bytes = body.bytes(body.left);
  return { type: "video", view, area, region, key, codedWidth, codedHeight, bytes };
}

function decodeRegion(body: Body): number {
  const region = body.u8();
  if (region >= VIDEO_REGIONS_MAX) {
    throw new ProtocolError(`video region ${region} is impossible`);
  }
  return region;
}

function decodeCursor(view: number, body: Body): GatewayRecord {
  const visible = body.u8() !== 0;
  body.u8();
  const [hotspotX, hotspotY, width, height] = [body.u16(), body.u16(), body.u16(), body.u16()];
  const pixels = body.bytes(width * height * PIXEL_BYTES);
  return { type: "cursor", view, shape: { visible, hotspotX, hotspotY, width, height, pixels } };
}
