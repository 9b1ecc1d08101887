// Bytes put together, and as text.

/** Bytes that become text at a time: arguments of one call. */
const TEXT_STEP_BYTES = 8192;

/** All parts, one behind the other. */
export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

/** As base64 (RFC 4648). */
export function base64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += TEXT_STEP_BYTES) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + TEXT_STEP_BYTES) as unknown as number[]);
  }
  return btoa(text);
}
