// A gateway that a test plays: the real pages, a person who is signed in, one desktop that is ready, and
// the gateway's end of docs/display-protocol.md, written from that document.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join } from 'node:path'

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' }
// What gateway/src/http/pages.rs sends.
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; " +
  "worker-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; " +
  "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html vidi"

export const SESSION = '00000000-0000-4000-8000-000000000001'
const NAMES = { user: 'tenants/default/users/peer', session: `tenants/default/sessions/${SESSION}`, desktop: 'tenants/default/desktops/00000000-0000-4000-8000-000000000002' }

// The wire of protobuf, as far as it is needed: strings, numbers, messages.
const varint = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)])
const text = (number, value) => [...varint((number << 3) | 2), ...varint(value.length), ...Buffer.from(value)]
const number = (field, value) => [...varint(field << 3), ...varint(value)]
const within = (field, bytes) => [...varint((field << 3) | 2), ...varint(bytes.length), ...bytes]

// Of proto/vidi/v1: the answers that a page with a desktop asks for.
const ANSWERS = {
  WhoAmI: () => [...text(1, NAMES.user), ...text(2, 'Peer'), ...text(3, 'user'), ...text(3, 'admin')],
  GetSession: () => [...text(1, NAMES.session), ...text(2, NAMES.user), ...text(3, NAMES.desktop), ...number(4, 2)],
  GetDesktop: () => [...text(1, NAMES.desktop), ...within(2, number(4, 2)), ...within(3, [...number(1, 4), ...number(3, 1), ...text(4, 'hosts/one')])],
}

// A message, or that there is no such call (12, unimplemented).
function grpcWeb(message) {
  const frame = (kind, bytes) => {
    const head = Buffer.alloc(5)
    head[0] = kind
    head.writeUInt32BE(bytes.length, 1)
    return Buffer.concat([head, bytes])
  }
  const trailers = frame(0x80, Buffer.from(`grpc-status: ${message ? 0 : 12}\r\n`))
  return message ? Buffer.concat([frame(0, Buffer.from(message)), trailers]) : trailers
}

export class DisplayPeer {
  // `pages` is the folder of the built pages. `viewed` is called with each viewer that has said hello.
  constructor(pages, viewed) {
    this.pages = pages
    this.viewed = viewed
    this.viewers = []
    this.files = new Map()
    this.server = createServer((request, response) => void this.answer(request, response))
    this.server.on('upgrade', (request, socket) => this.upgrade(request, socket))
    this.sockets = new Set()
    this.server.on('connection', (socket) => {
      this.sockets.add(socket)
      socket.on('close', () => this.sockets.delete(socket))
      socket.on('error', () => {})
    })
  }

  async listen(port = 0) {
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve))
    this.port = this.server.address().port
    this.url = `http://localhost:${this.port}/`
  }

  // As when a gateway falls: everything breaks, and nobody listens.
  async fall() {
    const closed = new Promise((resolve) => this.server.close(resolve))
    for (const socket of this.sockets) socket.destroy()
    await closed
  }

  async answer(request, response) {
    const path = new URL(request.url, 'http://localhost').pathname
    response.setHeader('content-security-policy', POLICY)
    const rpc = /^\/vidi\.v1\.\w+\/(\w+)$/.exec(path)
    if (rpc) {
      request.resume()
      response.setHeader('content-type', 'application/grpc-web+proto')
      response.end(grpcWeb(ANSWERS[rpc[1]]?.()))
      return
    }
    if (this.files.has(path)) {
      response.setHeader('content-type', 'application/octet-stream')
      response.end(this.files.get(path))
      return
    }
    const name = extname(path) ? path : '/index.html'
    try {
      const bytes = await readFile(join(this.pages, name))
      response.setHeader('content-type', TYPES[extname(name)] ?? 'application/octet-stream')
      response.end(bytes)
    } catch {
      response.statusCode = 404
      response.end()
    }
  }

  upgrade(request, socket) {
    const key = request.headers['sec-websocket-key']
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
    socket.setNoDelay(true)
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: vidi.display.v1\r\n\r\n`,
    )
    new Viewer(this, socket)
  }
}

// One browser at the peer.
class Viewer {
  constructor(peer, socket) {
    this.peer = peer
    this.socket = socket
    this.acked = 0
    this.records = []
    this.waiting = []
    this.rest = Buffer.alloc(0)
    this.isOpen = true
    // While true, nothing is read and nothing answered, as by a network that lost both ends.
    this.deaf = false
    socket.on('data', (chunk) => this.data(chunk))
    socket.on('close', () => {
      this.isOpen = false
      this.wake()
    })
    socket.on('error', () => {})
  }

  data(chunk) {
    this.rest = Buffer.concat([this.rest, chunk])
    for (;;) {
      if (this.rest.length < 6) return
      let length = this.rest[1] & 127
      let at = 2
      if (length === 126) {
        length = this.rest.readUInt16BE(2)
        at = 4
      }
      if (this.rest.length < at + 4 + length) return
      const mask = this.rest.subarray(at, at + 4)
      const body = Buffer.from(this.rest.subarray(at + 4, at + 4 + length))
      for (let index = 0; index < body.length; index++) body[index] ^= mask[index % 4]
      const opcode = this.rest[0] & 15
      this.rest = this.rest.subarray(at + 4 + length)
      if (opcode === 8) this.socket.end()
      if (opcode === 2 && !this.deaf) this.message(body)
    }
  }

  message(bytes) {
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at + 4)
      const type = bytes[at]
      const body = bytes.subarray(at + 8, at + 8 + length)
      at += 8 + length
      this.records.push({ type, body })
      if (type === 65) {
        this.hello = { flags: body.readUInt16LE(2), tileCacheBytes: body.readUInt32LE(4) }
        this.peer.viewers.push(this)
        void this.peer.viewed?.(this)
      } else if (type === 66) {
        this.acked = body.readUInt32LE(0)
        this.drawMicros = body.readUInt32LE(4)
      } else if (type === 72) {
        this.send(record(13, body))
      }
    }
    this.wake()
  }

  wake() {
    const waiting = this.waiting
    this.waiting = []
    for (const resolve of waiting) resolve()
  }

  // Waits until the viewer has presented this frame; false when it is gone.
  async presented(sequence) {
    while (this.isOpen && this.acked < sequence) await new Promise((resolve) => this.waiting.push(resolve))
    return this.isOpen
  }

  send(...records) {
    if (this.deaf || this.socket.destroyed) return
    const body = Buffer.concat(records)
    const head = Buffer.alloc(body.length < 126 ? 2 : body.length < 65536 ? 4 : 10)
    head[0] = 0x82
    if (body.length < 126) head[1] = body.length
    else if (body.length < 65536) {
      head[1] = 126
      head.writeUInt16BE(body.length, 2)
    } else {
      head[1] = 127
      head.writeBigUInt64BE(BigInt(body.length), 2)
    }
    this.socket.write(Buffer.concat([head, body]))
  }
}

const u16 = (...values) => values.flatMap((value) => [value & 255, (value >> 8) & 255])
const u32 = (...values) => values.flatMap((value) => [...u16(value & 0xffff), ...u16(value >>> 16)])

export function record(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)))
  return Buffer.concat([Buffer.from([type, 0, 0, 0, ...u32(body.length)]), body])
}

export const hello = () => record(1, u16(1, 1))
export const size = (width, height) => record(2, u32(width, height))
export const fill = (area, [red, green, blue]) => record(3, u16(...area), [red, green, blue, 255])
export const copy = (area, x, y) => record(4, u16(...area, x, y))
export const raw = (area, rgba) => record(5, u16(...area), rgba)
export const image = (area, codec, bytes, flags = 0) => record(6, u16(...area), [codec, flags, 0, 0], bytes)
export const frameEnd = (sequence) => record(7, u32(sequence))
export const status = (state, said = '') => record(12, [state], Buffer.from(said))
export const keep = (...tiles) => record(16, tiles.flatMap(([x, y, slot]) => [...u16(x, y), ...u32(slot)]))
export const recall = (...tiles) => record(17, tiles.flatMap(([x, y, slot]) => [...u16(x, y), ...u32(slot)]))
export const video = (area, region, key, [width, height], unit) =>
  record(18, u16(...area), [region, key ? 1 : 0, 0, 0], u16(width, height), unit)
export const videoEnd = (region) => record(19, [region, 0, 0, 0])
