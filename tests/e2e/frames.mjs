// What a display's WebSocket carries: frames (RFC 6455, section 5.2) and in them the records of
// docs/display-protocol.md.

// The first whole frame of what a server has sent, and what lies behind it: {final, opcode, body, rest}.
export function firstFrame(bytes) {
  if (bytes.length < 2) return undefined
  let length = bytes[1] & 127
  let at = 2
  if (length === 126) {
    if (bytes.length < 4) return undefined
    length = bytes.readUInt16BE(2)
    at = 4
  } else if (length === 127) {
    if (bytes.length < 10) return undefined
    length = Number(bytes.readBigUInt64BE(2))
    at = 10
  }
  const end = at + length
  if (bytes.length < end) return undefined
  return { final: (bytes[0] & 128) !== 0, opcode: bytes[0] & 15, body: bytes.subarray(at, end), rest: bytes.subarray(end) }
}

// A record; `claims` is the length it says it has.
export function record(type, body, claims = body.length) {
  const head = Buffer.alloc(8)
  head[0] = type
  head.writeUInt32LE(claims, 4)
  return Buffer.concat([head, body])
}
