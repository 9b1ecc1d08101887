// The public API as a program uses it: gRPC over the controller's socket for the operator, gRPC-Web
// through the gateway for users, repeated as docs/api.md tells clients.
import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { Agent, request as requestHttps } from 'node:https'
import { createRequire } from 'node:module'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { results, root } from '../e2e/stack.mjs'

// Longer than a healthy answer takes, shorter than the longest halt of a daemon.
const ANSWER_SECONDS_MAX = 12
const WAIT_MS_FIRST = 100
const WAIT_MS_MAX = 2000

const require = createRequire(join(root, 'gateway/web/package.json'))
const { createFileRegistry, fromBinary, fromJson, toBinary, toJson } = require('@bufbuild/protobuf')
const { FileDescriptorSetSchema } = require('@bufbuild/protobuf/wkt')

// The contract itself, not a copy of it.
const descriptors = join(results, 'vidi.descriptors')
execFileSync('protoc', [
  `--proto_path=${join(root, 'proto')}`, '--include_imports', `--descriptor_set_out=${descriptors}`,
  ...readdirSync(join(root, 'proto/vidi/v1')).filter((name) => name.endsWith('.proto')).map((name) => `vidi/v1/${name}`),
])
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)))

function methodOf(path) {
  const [service, method] = path.split('/')
  const found = registry.getService(`vidi.v1.${service}`)?.methods.find(({ name }) => name === method)
  if (!found) throw new Error(`there is no ${path} in the contract`)
  return found
}

function framed(bytes) {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([head, bytes])
}

// An answer that is a decision: repeating the request would not change it.
export class Refused extends Error {
  constructor(path, code, reason, message) {
    super(`${path}: ${code} ${reason || '(no reason)'} ${message}`)
    Object.assign(this, { path, code, reason })
  }
}

// No answer, or one that says to try again.
class Again extends Error {
  constructor(message, waitMs = 0) {
    super(message)
    this.waitMs = waitMs
  }
}

// Answers that ask for a repetition.
const TRANSIENT = new Set([14 /* UNAVAILABLE */, 8 /* RESOURCE_EXHAUSTED */])

function judge(path, status, message, details) {
  if (status === '0') return
  const code = Number(status)
  const text = decodeURIComponent(message ?? '')
  if (status === undefined) throw new Again(`${path} ended without a status`)
  const { reason, retryMs } = readDetails(details)
  if (TRANSIENT.has(code)) throw new Again(`${path}: ${code} ${reason} ${text}`, retryMs)
  throw new Refused(path, code, reason, text)
}

// Reason and time of the google.rpc.Status in grpc-status-details-bin.
function readDetails(base64) {
  const found = { reason: '', retryMs: 0 }
  if (!base64) return found
  for (const any of fields(Buffer.from(base64, 'base64'), 3)) {
    const [type] = fields(any, 1).map(String)
    const [value] = fields(any, 2)
    if (type?.endsWith('google.rpc.ErrorInfo')) found.reason = String(fields(value, 1)[0] ?? '')
    if (type?.endsWith('google.rpc.RetryInfo')) found.retryMs = 1000 * (fields(fields(value, 1)[0] ?? Buffer.alloc(0), 1)[0] ?? 0)
  }
  return found
}

// The values of one field of an encoded message: numbers, or the bytes of what has a length.
function fields(bytes, wanted) {
  const values = []
  let at = 0
  const varint = () => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++]
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const tag = varint()
    let value
    if ((tag & 7) === 0) value = varint()
    else if ((tag & 7) === 2) {
      const length = varint()
      value = bytes.subarray(at, at + length)
      at += length
    } else at += (tag & 7) === 1 ? 8 : 4
    if (tag >>> 3 === wanted) values.push(value)
  }
  return values
}

// Repeats until there is a decision. `ended` says when nobody wants the answer any more.
class Client {
  constructor({ ended }) {
    this.ended = ended
  }

  async ask(path, body = {}, { seconds = ANSWER_SECONDS_MAX } = {}) {
    const method = methodOf(path)
    const bytes = Buffer.from(toBinary(method.input, fromJson(method.input, body)))
    let waitMs = WAIT_MS_FIRST
    for (;;) {
      try {
        const answer = await this.once(path, bytes, seconds)
        return toJson(method.output, fromBinary(method.output, answer))
      } catch (error) {
        if (!(error instanceof Again)) throw error
        if (this.ended()) throw new Error(`nobody waits longer for ${path}: ${error.message}`)
        await delay(Math.max(error.waitMs, waitMs * (0.5 + Math.random())))
        waitMs = Math.min(waitMs * 2, WAIT_MS_MAX)
      }
    }
  }
}

// Root on the controller's socket.
export class Operator extends Client {
  constructor(socket, options) {
    super(options)
    this.socket = socket
  }

  connection() {
    if (!this.session || this.session.closed || this.session.destroyed) {
      this.session = connectHttp2('http://localhost', { createConnection: () => connectSocket(this.socket) })
      this.session.on('error', () => {})
      this.session.unref()
    }
    return this.session
  }

  close() {
    this.session?.destroy()
  }

  once(path, bytes, seconds) {
    return new Promise((resolve, reject) => {
      const session = this.connection()
      const timer = setTimeout(() => done(new Again(`${path}: no answer within ${seconds} s`)), seconds * 1000)
      const parts = []
      let trailers = {}
      const done = (error) => {
        clearTimeout(timer)
        if (error && this.session === session) {
          this.session = undefined
          // Others wait for their answers on it; it goes when they have ended.
          session.close()
        }
        stream?.close()
        error ? reject(error) : resolve(Buffer.concat(parts).subarray(5))
      }
      let stream
      try {
        stream = session.request({ ':method': 'POST', ':path': `/vidi.v1.${path}`, 'content-type': 'application/grpc', te: 'trailers' })
      } catch (error) {
        return done(new Again(`${path}: ${error.message}`))
      }
      const note = (headers) => (trailers = { ...trailers, ...headers })
      stream.on('response', note)
      stream.on('trailers', note)
      stream.on('data', (part) => parts.push(part))
      stream.on('error', (error) => done(new Again(`${path}: ${error.message}`)))
      stream.on('close', () => {
        try {
          judge(path, trailers['grpc-status'], trailers['grpc-message'], trailers['grpc-status-details-bin'])
          done()
        } catch (error) {
          done(error)
        }
      })
      stream.end(framed(bytes))
    })
  }
}

// A person's browser: a cookie, and what a page may call.
export class Person extends Client {
  constructor(port, user, password, options) {
    super(options)
    Object.assign(this, { port, user, password, cookie: '' })
    this.agent = new Agent({ keepAlive: true, maxSockets: 4 })
  }

  get origin() {
    return `https://localhost:${this.port}`
  }

  close() {
    this.agent.destroy()
  }

  http(method, path, headers, body, seconds = ANSWER_SECONDS_MAX) {
    return new Promise((resolve, reject) => {
      const again = (error) => {
        clearTimeout(timer)
        call.destroy()
        reject(new Again(`${path}: ${error.message}`))
      }
      const timer = setTimeout(() => again(new Error(`no answer within ${seconds} s`)), seconds * 1000)
      const call = requestHttps({
        // The page's certificate is self-made; who is meant is asked elsewhere.
        host: '127.0.0.1', port: this.port, servername: 'localhost', rejectUnauthorized: false, agent: this.agent, method, path,
        headers: { host: `localhost:${this.port}`, origin: this.origin, ...headers },
      }, (response) => {
        const parts = []
        response.on('data', (part) => parts.push(part))
        response.on('error', again)
        response.on('end', () => {
          clearTimeout(timer)
          resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) })
        })
      })
      call.on('error', again)
      call.end(body)
    })
  }

  // `POST /session`, repeated until it is decided.
  async signIn() {
    for (let waitMs = WAIT_MS_FIRST; ; waitMs = Math.min(waitMs * 2, WAIT_MS_MAX)) {
      try {
        const { status, headers, body } = await this.http('POST', '/session', { 'content-type': 'application/json' },
          JSON.stringify({ tenant: '', user: this.user, password: this.password }))
        if (status === 204) {
          this.cookie = headers['set-cookie'][0].split(';')[0]
          return
        }
        if (status < 500 && status !== 429) throw new Refused('POST /session', status, '', body.toString().slice(0, 200))
      } catch (error) {
        if (!(error instanceof Again)) throw error
      }
      if (this.ended()) throw new Error('nobody waits longer for the sign-in')
      await delay(waitMs)
    }
  }

  // `DELETE /session`; whether it was answered. A sign-in that nobody ended ends by itself.
  async signOut() {
    const { cookie } = this
    this.cookie = ''
    const answer = await this.http('DELETE', '/session', { cookie }).catch(() => undefined)
    return answer?.status === 204
  }

  async once(path, bytes, seconds) {
    const { status, headers, body } = await this.http('POST', `/vidi.v1.${path}`,
      { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1', cookie: this.cookie }, framed(bytes), seconds)
    if (status >= 500) throw new Again(`${path}: HTTP ${status}`)
    if (status !== 200) throw new Refused(path, -status, '', body.toString().slice(0, 200))
    let message = Buffer.alloc(0)
    let trailers = headers
    for (let at = 0; at + 5 <= body.length;) {
      const end = at + 5 + body.readUInt32BE(at + 1)
      const part = body.subarray(at + 5, end)
      if (body[at] & 0x80) trailers = Object.fromEntries(part.toString('latin1').split('\r\n').map((line) => {
        const colon = line.indexOf(':')
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
      }))
      else message = part
      at = end
    }
    judge(path, trailers['grpc-status'], trailers['grpc-message'], trailers['grpc-status-details-bin'])
    return message
  }
}

// Every page of a list.
export async function listAll(client, path, field, body = {}) {
  const items = []
  let pageToken = ''
  do {
    const answer = await client.ask(path, { ...body, pageSize: 1000, pageToken })
    items.push(...(answer[field] ?? []))
    pageToken = answer.nextPageToken ?? ''
  } while (pageToken)
  return items
}
