// Clients that behave badly: raw bytes over TCP and TLS, HTTP by hand, a WebSocket without manners.
import { request } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { connect as connectHttp2 } from 'node:http2'
import { randomBytes } from 'node:crypto'
import { firstFrame, record } from '../frames.mjs'
import { world } from './common.mjs'

// Every listener drops a silent stranger within 10 s; twice that on a busy machine.
export const DROP_SECONDS_MAX = 25

// Sends `chunks` and listens until the other side ends it: {ended, bytes, error}.
export function exchange(port, chunks, { tls, seconds = DROP_SECONDS_MAX, half = false } = {}) {
  return new Promise((resolve) => {
    const received = []
    let error
    const done = (ended) => {
      clearTimeout(timer)
      socket.destroy()
      resolve({ ended, bytes: Buffer.concat(received), error })
    }
    const timer = setTimeout(done, seconds * 1000, false)
    const send = async () => {
      for (const chunk of chunks) {
        if (socket.destroyed) return
        if (!socket.write(chunk)) await new Promise((drained) => socket.once('drain', drained).once('close', drained))
      }
      if (half) socket.end()
    }
    const socket = tls
      ? connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ...tls }, send)
      : connectTcp({ host: '127.0.0.1', port }, send)
    socket.on('data', (data) => received.push(data))
    socket.on('error', (cause) => (error = cause.message))
    socket.on('close', () => done(true))
  })
}

// The beginning of a real TLS client hello of 512 bytes: whole, or cut in the middle.
export function clientHello(part = 1) {
  const body = Buffer.concat([Buffer.from([0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]), randomBytes(32), Buffer.from([0]), randomBytes(469)])
  const record = Buffer.concat([Buffer.from([0x16, 0x03, 0x01, body.length >> 8, body.length & 255]), body])
  return record.subarray(0, Math.floor(record.length * part))
}

const origin = () => `https://localhost:${world.ports.https_port}`

// One https request to the gateway: {status, headers, body}.
export function https(method, path, { headers = {}, body, from = origin() } = {}) {
  return new Promise((resolve, reject) => {
    const call = request({
      host: '127.0.0.1', port: world.ports.https_port, servername: 'localhost', method, path, rejectUnauthorized: false, agent: false,
      headers: { host: `localhost:${world.ports.https_port}`, ...(from === null ? {} : { origin: from }), ...headers },
      timeout: DROP_SECONDS_MAX * 1000,
    }, (response) => {
      const parts = []
      response.on('data', (part) => parts.push(part))
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }))
      response.on('error', reject)
    })
    call.on('timeout', () => call.destroy(new Error('no answer')))
    call.on('error', reject)
    call.end(body)
  })
}

// Signs in as a page does; gives the cookie.
export async function signedInCookie() {
  const { user, password } = world.access
  const { status, headers } = await https('POST', '/session', {
    headers: { 'content-type': 'application/json' }, body: JSON.stringify({ tenant: '', user, password }),
  })
  if (status !== 204) throw new Error(`signing in was answered with ${status}`)
  return headers['set-cookie'][0].split(';')[0]
}

// A call of a page: the gRPC status and message, wherever they were put.
export async function grpcWeb(method, { cookie, body = Buffer.alloc(5), from } = {}) {
  const answer = await https('POST', `/vidi.v1.${method}`, {
    headers: { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1', ...(cookie ? { cookie } : {}) }, body, from,
  })
  const trailers = answer.body.toString('latin1')
  const found = (name) => answer.headers[name] ?? new RegExp(`${name}: ?([^\r\n]*)`, 'i').exec(trailers)?.[1]
  const status = found('grpc-status')
  return { http: answer.status, status: status === undefined ? undefined : Number(status), message: decodeURIComponent(found('grpc-message') ?? '') }
}

// One call of gRPC over HTTP/2: {status, message, error}; `tls` adds certificates.
export function grpc(port, method, body, { tls = {}, headers = {}, seconds = DROP_SECONDS_MAX } = {}) {
  return new Promise((resolve) => {
    const answer = {}
    const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, ...tls })
    const done = () => {
      clearTimeout(timer)
      session.destroy()
      resolve(answer)
    }
    const timer = setTimeout(() => {
      answer.error ??= 'no answer'
      done()
    }, seconds * 1000)
    session.on('error', (error) => {
      answer.error ??= error.message
      done()
    })
    session.on('close', done)
    const stream = session.request({ ':method': 'POST', ':path': `/vidi.v1.${method}`, 'content-type': 'application/grpc', te: 'trailers', ...headers })
    const note = (fields) => {
      if (fields['grpc-status'] === undefined) return
      answer.status = Number(fields['grpc-status'])
      answer.message = decodeURIComponent(fields['grpc-message'] ?? '')
    }
    stream.on('response', note)
    stream.on('trailers', note)
    stream.on('data', () => (answer.data = true))
    stream.on('error', (error) => (answer.error ??= error.message))
    stream.on('close', done)
    stream.end(body)
  })
}

// A message as gRPC frames it; `claims` is the length it says it has.
export function framed(message, claims = message.length) {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(claims, 1)
  return Buffer.concat([head, message])
}

// A WebSocket to /display: {status} when it was not upgraded, else {send, closed}.
export function websocket(session, { cookie, from = origin(), protocol = 'vidi.display.v1' } = {}) {
  return new Promise((resolve, reject) => {
    const call = request({
      host: '127.0.0.1', port: world.ports.https_port, servername: 'localhost', path: `/display/${session}`, rejectUnauthorized: false, agent: false,
      ALPNProtocols: ['http/1.1'],
      headers: {
        host: `localhost:${world.ports.https_port}`, connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13',
        'sec-websocket-key': randomBytes(16).toString('base64'), 'sec-websocket-protocol': protocol,
        ...(from === null ? {} : { origin: from }), ...(cookie ? { cookie } : {}),
      },
    })
    call.on('response', (response) => {
      response.resume()
      resolve({ status: response.statusCode })
    })
    call.on('upgrade', (_response, socket, head) => resolve(new Rude(socket, head)))
    call.on('error', reject)
    call.end()
  })
}

export const TEXT = 1
export const BINARY = 2

class Rude {
  status = 101
  messages = 0

  constructor(socket, head) {
    this.socket = socket
    this.buffer = Buffer.alloc(0)
    let heard
    this.first = new Promise((resolve) => (heard = resolve))
    this.closed = new Promise((resolve) => {
      const timer = setTimeout(() => {
        socket.destroy()
        resolve('still open')
      }, DROP_SECONDS_MAX * 1000)
      const read = (data) => {
        this.buffer = Buffer.concat([this.buffer, data])
        for (let frame; (frame = firstFrame(this.buffer)); this.buffer = frame.rest) {
          if (frame.opcode === BINARY) heard(++this.messages)
          if (frame.opcode === 8) this.code = frame.body.length < 2 ? 1005 : frame.body.readUInt16BE(0)
        }
      }
      socket.on('data', read)
      socket.on('error', () => {})
      socket.on('close', () => {
        clearTimeout(timer)
        heard(0)
        resolve(this.code ?? 1006)
      })
      if (head.length) read(head)
    })
  }

  // One frame; `claims` is the length it says it has, `masked` false breaks RFC 6455 (5.1).
  send(opcode, payload, { masked = true, claims = payload.length } = {}) {
    const head = Buffer.alloc(10)
    head[0] = 0x80 | opcode
    head[1] = 127 | (masked ? 0x80 : 0)
    head.writeBigUInt64BE(BigInt(claims), 2)
    const mask = masked ? randomBytes(4) : Buffer.alloc(0)
    const body = masked ? payload.map((byte, at) => byte ^ mask[at & 3]) : payload
    this.socket.write(Buffer.concat([head, mask, body]))
  }

  // The record of docs/display-protocol.md that a browser begins with.
  hello() {
    this.send(BINARY, record(65, Buffer.from([1, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 3])))
  }
}
