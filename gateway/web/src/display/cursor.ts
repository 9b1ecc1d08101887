// The guest's pointer shape as a CSS cursor, so that moving it needs no round trip.

import { base64, joined } from "./bytes.js";
import type { CursorShape } from "./protocol.js";

/** Browsers ignore larger cursors. */
const SIDE_MAX = 128;
/** The most that one stored block of deflate holds. */
const BLOCK_MAX = 0xffff;

/** Shows the shape as the canvas' pointer. `scale` is CSS pixels per guest pixel. */
export function showCursor(canvas: HTMLCanvasElement, shape: CursorShape, scale: number): void {
  // A browser that does not know the scaled form keeps the first.
  canvas.style.cursor = cssCursor(shape, 1);
  canvas.style.cursor = cssCursor(shape, scale);
}

/** The value for the `cursor` property. `scale` is CSS pixels per guest pixel. */
export function cssCursor(shape: CursorShape, scale: number): string {
  if (!shape.visible) {
    return "none";
  }
  if (shape.width === 0 || shape.height === 0 || shape.width > SIDE_MAX || shape.height > SIDE_MAX) {
    return "default";
  }
  const x = Math.min(shape.hotspotX, shape.width - 1);
  const y = Math.min(shape.hotspotY, shape.height - 1);
  const address = cursorAddress(shape);
  if (scale > 0 && scale < 0.99) {
    // A picture shown smaller has a smaller pointer; hotspots count in the shown size.
    const [hotX, hotY] = [Math.round(x * scale), Math.round(y * scale)];
    return `image-set(url("${address}") ${(1 / scale).toFixed(3)}x) ${hotX} ${hotY}, default`;
  }
  return `url("${address}") ${x} ${y}, default`;
}

/** A shape is shown again with each step of a change of size. */
const addresses = new WeakMap<CursorShape, string>();

/** The shape as the address of a PNG. */
export function cursorAddress(shape: CursorShape): string {
  const known = addresses.get(shape);
  if (known !== undefined) {
    return known;
  }
  const address = `data:image/png;base64,${base64(encodePng(shape.width, shape.height, shape.pixels))}`;
  addresses.set(shape, address);
  return address;
}

/** An uncompressed PNG (RFC 2083) of RGBA rows: exact, where a canvas would premultiply alpha. */
export function encodePng(width: number, height: number, rgba: Uint8Array): Uint8Array {
  const stride = width * 4;
  const rows = new Uint8Array((stride + 1) * height);
  for (let row = 0; row < height; row += 1) {
    rows.set(rgba.subarray(row * stride, (row + 1) * stride), row * (stride + 1) + 1);
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 6, 0, 0, 0], 8); // 8 bits, RGBA, deflate, adaptive filters, not interlaced
  return joined([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", header),
    chunk("IDAT", zlibStored(rows)),
    chunk("IEND", new Uint8Array()),
  ]);
}

function chunk(name: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let index = 0; index < 4; index += 1) {
    bytes[4 + index] = name.charCodeAt(index);
  }
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** A zlib stream (RFC 1950) of stored blocks. */
function zlibStored(data: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(0x78, 0x01)];
  for (let start = 0; start < data.length; start += BLOCK_MAX) {
    const block = data.subarray(start, start + BLOCK_MAX);
    const last = start + BLOCK_MAX >= data.length ? 1 : 0;
    const { length } = block;
    parts.push(
      Uint8Array.of(last, length & 255, length >> 8, ~length & 255, (~length >> 8) & 255),
      block,
    );
  }
  const sum = new Uint8Array(4);
  new DataView(sum.buffer).setUint32(0, adler32(data));
  return joined([...parts, sum]);
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) {
      crc = crc & 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
    }
  }
  return ~crc >>> 0;
}

function adler32(bytes: Uint8Array): number {
  let low = 1;
  let high = 0;
  for (const byte of bytes) {
    low = (low + byte) % 65521;
    high = (high + low) % 65521;
  }
  return ((high << 16) | low) >>> 0;
}
