// A viewer of `vidi.display.v1` without a screen: says hello, acknowledges every frame, types.
import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:tls'
import { firstFrame, record } from '../e2e/frames.mjs'

const ANSWER_SECONDS_MAX = 12
// What docs/display-protocol.md numbers.
const [SIZE, FRAME_END, STATUS] = [2, 7, 12]
const CONNECTED = 1
const DRAWS = new Set([3, 4, 5, 6])
const [HELLO, ACK, KEY] = [65, 66, 67]
const [KEY_DOWN, KEY_UP] = [1, 0]

export class Display {
  // `session` is tenants/{t}/sessions/{s}.
  constructor(person, session) {
    this.frames = 0
    this.drawn = false
    this.closeCode = undefined
    this.pictureAt = undefined
    // {from, to}: when the gateway said that the desktop is connected.
    this.spans = []
    this.closed = new Promise((resolve) => (this.hasClosed = resolve))
    this.waiters = []
    const key = randomBytes(16).toString('base64')
    this.accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
    this.pending = Buffer.alloc(0)
    this.parts = []
    this.socket = connect({ host: '127.0.0.1', port: person.port, servername: 'localhost', rejectUnauthorized: false }, () => {
      this.socket.write([
        `GET /display/${session.split('/').at(-1)} HTTP/1.1`, `Host: localhost:${person.port}`, 'Upgrade: websocket', 'Connection: Upgrade',
        `Sec-WebSocket-Key: ${key}`, 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Protocol: vidi.display.v1',
        `Origin: ${person.origin}`, `Cookie: ${person.cookie}`, '', '',
      ].join('\r\n'))
    })
    // A gateway that was halted takes the connection and says nothing.
    this.socket.setTimeout(ANSWER_SECONDS_MAX * 1000, () => {
      if (!this.upgraded) this.socket.destroy()
    })
    this.socket.on('data', (data) => this.read(data))
    this.socket.on('error', () => {})
    this.socket.on('close', () => {
      this.over()
      this.hasClosed(this.closeCode ?? 1006)
      this.wake()
    })
  }

  read(data) {
    this.pending = Buffer.concat([this.pending, data])
    if (!this.upgraded) {
      const end = this.pending.indexOf('\r\n\r\n')
      if (end < 0) return
      const head = this.pending.subarray(0, end).toString('latin1')
      this.status = Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1])
      if (this.status !== 101 || !head.includes(this.accept)) return this.socket.destroy()
      this.upgraded = true
      this.pending = this.pending.subarray(end + 4)
      this.record(HELLO, this.hello())
    }
    for (let frame; (frame = firstFrame(this.pending)); ) {
      this.pending = frame.rest
      this.takeOne(frame)
    }
  }

  // What it says of itself: decodes nothing but PNG and JPEG, keeps no tiles.
  hello() {
    const hello = Buffer.alloc(12)
    hello.writeUInt16LE(1, 0)
    hello.writeUInt16LE(1024, 8)
    hello.writeUInt16LE(768, 10)
    return hello
  }

  takeOne({ final, opcode, body }) {
    if (opcode === 8) {
      this.closeCode = body.length >= 2 ? body.readUInt16BE(0) : 1005
      this.send(8, body.subarray(0, 2))
      this.socket.end()
    } else if (opcode === 9) this.send(10, body)
    else if (opcode <= 2) {
      this.parts.push(body)
      if (!final) return
      this.records(Buffer.concat(this.parts))
      this.parts = []
    }
  }

  records(message) {
    for (let at = 0; at + 8 <= message.length;) {
      const [type, length] = [message[at], message.readUInt32LE(at + 4)]
      const body = message.subarray(at + 8, at + 8 + length)
      at += 8 + length
      if (type === SIZE) this.drawn = false
      else if (DRAWS.has(type)) this.drawn = true
      else if (type === STATUS) this.say(body[0])
      else if (type === FRAME_END) {
        const ack = Buffer.alloc(8)
        body.copy(ack, 0, 0, 4)
        this.record(ACK, ack)
        this.frames++
        if (this.drawn) this.pictureAt ??= Date.now()
      }
      this.wake()
    }
  }

  // The gateway's word on the desktop behind it.
  say(status) {
    const last = this.spans.at(-1)
    if (status !== CONNECTED) this.over()
    else if ((last === undefined || last.to !== undefined) && !this.left) this.spans.push({ from: Date.now(), to: undefined })
  }

  over() {
    const last = this.spans.at(-1)
    if (last) last.to ??= Date.now()
  }

  wake() {
    for (const waiter of this.waiters.splice(0)) waiter()
  }

  // Whether a picture has come, before the time is over or the socket closes.
  async picture(seconds) {
    const end = performance.now() + seconds * 1000
    while (this.pictureAt === undefined && !this.socket.destroyed && performance.now() < end) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, end - performance.now())
        this.waiters.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
    return this.pictureAt !== undefined
  }

  // Presses and lets go of a key, by its scan code of set 1.
  type(code) {
    for (const down of [KEY_DOWN, KEY_UP]) this.record(KEY, Buffer.from([down, 1, code]))
  }

  record(type, body) {
    this.send(2, record(type, body))
  }

  send(opcode, body) {
    if (this.socket.destroyed || this.socket.writableEnded) return
    const mask = randomBytes(4)
    const masked = Buffer.from(body)
    for (let index = 0; index < masked.length; index++) masked[index] ^= mask[index & 3]
    const head = body.length < 126 ? Buffer.from([0x80 | opcode, 0x80 | body.length]) : Buffer.from([0x80 | opcode, 0xfe, body.length >> 8, body.length & 255])
    this.socket.write(Buffer.concat([head, mask, masked]))
  }

  // As a browser that leaves the page; nothing is read any more.
  leave() {
    this.left = true
    this.over()
    this.send(8, Buffer.from([0x03, 0xe8]))
    this.socket.end()
    setTimeout(() => this.socket.destroy(), 1000).unref()
  }

  // As a network that is gone.
  cut() {
    this.over()
    this.socket.destroy()
  }
}
