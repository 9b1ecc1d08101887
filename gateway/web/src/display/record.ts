// What every record begins with (docs/display-protocol.md).

/** Type, view, two reserved bytes, length of the body. */
export const HEADER_BYTES = 8;

/** A record with an empty body of `length` bytes, and a view to fill the body with. */
export function record(type: number, length: number): [Uint8Array<ArrayBuffer>, DataView] {
  const bytes = new Uint8Array(HEADER_BYTES + length);
  bytes[0] = type;
  const header = new DataView(bytes.buffer);
  header.setUint32(4, length, true);
  return [bytes, new DataView(bytes.buffer, HEADER_BYTES)];
}
