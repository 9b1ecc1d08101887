// SPICE as its clients speak it, as far as a test needs: the link of a channel (spice/protocol.h).
import { createPublicKey, constants, publicEncrypt } from 'node:crypto'
import { request } from 'node:https'

export const CHANNELS = { main: 1, display: 2, inputs: 3, cursor: 4, playback: 5, record: 6, usbredir: 9 }
export const LINK_ERRORS = { none: 0, badMagic: 2, badData: 3, denied: 7, badConnection: 8, noChannel: 9 }

// A server that says nothing for this long will not.
const WORD_MS_MAX = 60_000

// Common capabilities: selects its authentication, knows tickets, mini headers.
const COMMON = 0b1011

// A tunnel to a desktop through the gateway as an HTTP proxy: {code, socket}; no socket when refused.
export function tunnel(gateway, desktop, port = 5900) {
  const { hostname, port: at } = new URL(gateway)
  return new Promise((resolve, reject) => {
    const asking = request({ host: hostname, port: at, method: 'CONNECT', path: `${desktop}:${port}`, rejectUnauthorized: false, agent: false })
    asking.on('connect', (response, socket, head) => {
      if (response.statusCode !== 200) socket.destroy()
      socket.setNoDelay(true)
      resolve({ code: response.statusCode, socket: new Bytes(socket, head) })
    })
    asking.on('response', (response) => {
      response.resume()
      resolve({ code: response.statusCode })
    })
    asking.on('error', reject)
    asking.end()
  })
}

// Reads a socket by counts of bytes.
export class Bytes {
  constructor(socket, head = Buffer.alloc(0)) {
    this.socket = socket
    this.waiting = head
    this.ended = false
    this.wake = () => {}
    socket.on('data', (data) => {
      this.waiting = Buffer.concat([this.waiting, data])
      this.wake()
    })
    for (const event of ['end', 'close', 'error']) socket.on(event, () => {
      this.ended = true
      this.wake()
    })
  }

  // The next `count` bytes; undefined when the stream ends before.
  async take(count) {
    while (this.waiting.length < count) {
      if (this.ended) return undefined
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no word of the SPICE server within ${WORD_MS_MAX / 1000} s`)), WORD_MS_MAX)
        this.wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    const taken = this.waiting.subarray(0, count)
    this.waiting = this.waiting.subarray(count)
    return taken
  }

  write(bytes) {
    this.socket.write(bytes)
  }

  close() {
    this.socket.destroy()
  }
}

// What the client says first.
export function linkMessage({ kind, id = 0, connection = 0, common = COMMON, channel = 0 }) {
  const bytes = Buffer.alloc(16 + 18 + 8)
  bytes.write('REDQ')
  bytes.writeUInt32LE(2, 4)
  bytes.writeUInt32LE(2, 8)
  bytes.writeUInt32LE(26, 12)
  bytes.writeUInt32LE(connection >>> 0, 16)
  bytes.writeUInt8(kind, 20)
  bytes.writeUInt8(id, 21)
  bytes.writeUInt32LE(1, 22)
  bytes.writeUInt32LE(1, 26)
  bytes.writeUInt32LE(18, 30)
  bytes.writeUInt32LE(common, 34)
  bytes.writeUInt32LE(channel, 38)
  return bytes
}

// Links a channel with this ticket; gives the number of the error, 0 when it is open.
export async function link(stream, ticket, channel) {
  stream.write(linkMessage(channel))
  const header = await stream.take(16)
  if (!header) return undefined
  const reply = await stream.take(header.readUInt32LE(12))
  if (!reply) return undefined
  const error = reply.readUInt32LE(0)
  if (error !== 0) return error
  const key = createPublicKey({ key: reply.subarray(4, 166), format: 'der', type: 'spki' })
  const padding = constants.RSA_PKCS1_OAEP_PADDING
  const plain = Buffer.from(`${ticket}\0`)
  stream.write(Buffer.concat([Buffer.from([1, 0, 0, 0]), publicEncrypt({ key, padding, oaepHash: 'sha1' }, plain)]))
  return (await stream.take(4))?.readUInt32LE(0)
}

// The next message of a channel with mini headers: {type, body}; undefined at the end.
export async function message(stream) {
  const header = await stream.take(6)
  if (!header) return undefined
  return { type: header.readUInt16LE(0), body: await stream.take(header.readUInt32LE(2)) }
}

// A message with its mini header.
export function framed(type, body = Buffer.alloc(0)) {
  const header = Buffer.alloc(6)
  header.writeUInt16LE(type)
  header.writeUInt32LE(body.length, 2)
  return Buffer.concat([header, body])
}
