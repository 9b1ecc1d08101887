// The gateway's end of docs/display-protocol.md, written from the document apart from the code under test.

export function u16(...values: number[]): number[] {
  return values.flatMap((value) => [value & 255, (value >> 8) & 255]);
}

export function u32(...values: number[]): number[] {
  return values.flatMap((value) => [...u16(value & 0xffff), ...u16(value >>> 16)]);
}

export function rec(type: number, body: ArrayLike<number>, view = 0): Uint8Array {
  const bytes = new Uint8Array(8 + body.length);
  bytes.set([type, view, 0, 0, ...u32(body.length)]);
  bytes.set(Array.from(body), 8);
  return bytes;
}

export function message(...records: Uint8Array[]): ArrayBuffer {
  const bytes = new Uint8Array(records.reduce((sum, record) => sum + record.length, 0));
  let offset = 0;
  for (const record of records) {
    bytes.set(record, offset);
    offset += record.length;
  }
  return bytes.buffer;
}

export const hello = (flags = 1) => rec(1, u16(1, flags));
export const size = (width: number, height: number) => rec(2, u32(width, height));
export const fill = (x: number, y: number, w: number, h: number, rgb: number[]) =>
  rec(3, [...u16(x, y, w, h), ...rgb, 255]);
export const copy = (x: number, y: number, w: number, h: number, sx: number, sy: number) =>
  rec(4, u16(x, y, w, h, sx, sy));
export const raw = (x: number, y: number, w: number, h: number, pixels: ArrayLike<number>) =>
  rec(5, [...u16(x, y, w, h), ...Array.from(pixels)]);
export const image = (
  x: number,
  y: number,
  w: number,
  h: number,
  codec: number,
  bytes: ArrayLike<number>,
  flags = 0,
) => rec(6, [...u16(x, y, w, h), codec, flags, 0, 0, ...Array.from(bytes)]);
export const frameEnd = (sequence: number) => rec(7, u32(sequence));
export const cursor = (
  visible: number,
  hx: number,
  hy: number,
  w: number,
  h: number,
  rgba: ArrayLike<number>,
) => rec(8, [visible, 0, ...u16(hx, hy, w, h), ...Array.from(rgba)]);
export const cursorPosition = (x: number, y: number) => rec(9, u16(x, y));
export const pointerMode = (mode: number) => rec(10, [mode]);
export const lockKeys = (bits: number) => rec(11, [bits]);
export const status = (state: number, text: string) =>
  rec(12, [state, ...new TextEncoder().encode(text)]);

/** A part of a piece; 1 is text, 2 is PNG. */
export const clipboard = (kind: number, more: boolean, part: ArrayLike<number> | string) =>
  rec(14, [kind, more ? 1 : 0, 0, 0, ...(typeof part === "string" ? new TextEncoder().encode(part) : Array.from(part))]);
export const abilities = (bits: number) => rec(15, [bits]);

export interface BrowserRecord {
  type: number;
  view: number;
  body: Uint8Array;
}

export function browserRecords(bytes: Uint8Array): BrowserRecord[] {
  const records: BrowserRecord[] = [];
  let offset = 0;
  while (offset < bytes.length) {
    const data = new DataView(bytes.buffer, bytes.byteOffset + offset);
    const length = data.getUint32(4, true);
    if (data.getUint16(2, true) !== 0 || offset + 8 + length > bytes.length) {
      throw new Error("malformed record from the browser");
    }
    records.push({
      type: data.getUint8(0),
      view: data.getUint8(1),
      body: bytes.slice(offset + 8, offset + 8 + length),
    });
    offset += 8 + length;
  }
  return records;
}
