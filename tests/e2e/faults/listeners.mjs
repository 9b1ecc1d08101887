// Truncated, oversized and foreign bytes on every listener: the caller is dropped, nobody else notices.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { record } from '../frames.mjs'
import { fault, userCanOpen, world } from './common.mjs'
import { liveSession } from './sign-in.mjs'
import {
  BINARY, TEXT, clientHello, exchange, framed, grpc, grpcWeb, https, signedInCookie, websocket,
} from './wire.mjs'

const PROTOCOL_ERROR = 1002
const TOO_BIG = 1009
// docs/display-protocol.md: a message from the browser is at most this.
const MESSAGE_BYTES_MAX = 64 << 10

const HTTP1 = { ALPNProtocols: ['http/1.1'], servername: 'localhost' }
const HTTP2 = { ALPNProtocols: ['h2'], servername: 'localhost' }
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

// What any TLS listener has to survive before its handshake is over.
async function rawBytes(port, name) {
  const cases = [
    ['random bytes', [randomBytes(4096)]],
    ['a plain HTTP request', ['GET / HTTP/1.1\r\nHost: localhost\r\n\r\n']],
    ['half a client hello, and the end', [clientHello(0.5)], { half: true }],
    ['half a client hello, and silence', [clientHello(0.5)]],
    ['a client hello, and silence', [clientHello()]],
    ['a record that claims more than TLS allows', [Buffer.from([0x16, 3, 1, 0xff, 0xff]), randomBytes(70_000)]],
    ['silence', []],
  ]
  await Promise.all(cases.map(async ([what, chunks, options]) => {
    const answer = await exchange(port, chunks, options)
    assert.ok(answer.ended, `${name} keeps a connection with ${what}`)
  }))
}

export default function () {
  fault('https: bytes that are no TLS', {}, () => rawBytes(world.ports.https_port, 'the gateway'))
  fault('controller: bytes that are no TLS', {}, () => rawBytes(world.ports.grpc_port, 'the controller'))
  fault('relay: bytes that are no TLS', {}, () => rawBytes(world.ports.relay_port, 'the relay'))

  fault('https: requests without end or measure', {}, async () => {
    const port = world.ports.https_port
    const head = 'GET / HTTP/1.1\r\nHost: localhost\r\n'
    for (const [what, chunks, status] of [
      ['a header of 1 MiB', [`${head}X-Big: ${'a'.repeat(1 << 20)}\r\n\r\n`], /^HTTP\/1.1 431/],
      ['5,000 headers', [head + 'X-Many: a\r\n'.repeat(5000) + '\r\n'], /^HTTP\/1.1 431/],
      ['a path of 1 MiB', [`GET /${'a'.repeat(1 << 20)} HTTP/1.1\r\nHost: localhost\r\n\r\n`], /^HTTP\/1.1 4\d\d/],
      ['a head that stops', [head], /^(HTTP\/1.1 408|$)/],
      ['a request that is none', ['\0\x01\x02 nonsense\r\n\r\n'], /^HTTP\/1.1 400/],
      ['a length that is none', [`POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Length: minus one\r\n\r\n`], /^HTTP\/1.1 400/],
      ['two lengths', [`POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab`], /^HTTP\/1.1 400/],
    ]) {
      const answer = await exchange(port, chunks, { tls: HTTP1 })
      assert.ok(answer.ended, `${what}: the connection stays`)
      // The peer may reset before what it said was read: then there is nothing to judge.
      if (answer.bytes.length || !answer.error) assert.match(answer.bytes.toString('latin1').slice(0, 40), status, what)
    }
    const cut = await exchange(port, [`POST /session HTTP/1.1\r\nHost: localhost:${port}\r\nOrigin: https://localhost:${port}\r\nContent-Length: 100\r\n\r\n{"user"`], { tls: HTTP1, half: true })
    assert.ok(cut.ended, 'a body that stops')
    const garbage = await exchange(port, [PREFACE, randomBytes(65536)], { tls: HTTP2 })
    assert.ok(garbage.ended, 'HTTP/2 frames that are none')
  })

  fault('https: calls that are cut, too long or no protobuf', { opens: false }, async () => {
    const cookie = await signedInCookie()
    for (const [what, body] of [
      ['nothing', Buffer.alloc(0)],
      ['a cut frame', framed(Buffer.alloc(4), 4000)],
      ['a frame of 4 GiB', framed(Buffer.alloc(64), 0xffffffff)],
      ['no protobuf', framed(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff]))],
      ['random bytes', randomBytes(1000)],
    ]) {
      const answer = await grpcWeb('SessionService/OpenApp', { cookie, body })
      assert.ok(answer.status !== 0 && (answer.status !== undefined || answer.http >= 400), `${what}: ${JSON.stringify(answer)}`)
    }
    const big = await grpcWeb('SessionService/OpenApp', { cookie, body: framed(Buffer.alloc(1 << 20)) }).catch((error) => ({ error: error.code }))
    assert.ok(big.status !== 0, `a body of 1 MiB: ${JSON.stringify(big)}`)
    const text = await https('POST', '/vidi.v1.SessionService/ListApps', { headers: { cookie, 'content-type': 'text/plain' }, body: 'hello' })
    assert.ok(text.status >= 400 || Number(text.headers['grpc-status']) > 0, `${text.status}`)
  })

  fault('websocket: what is no protocol of ours closes the socket', {}, async () => {
    await userCanOpen()
    const [session, cookie] = [await liveSession(), await signedInCookie()]
    const wrong = []
    for (const [what, send, ...codes] of [
      ['text', (socket) => socket.send(TEXT, Buffer.from('hello')), PROTOCOL_ERROR],
      ['random bytes', (socket) => socket.send(BINARY, Buffer.concat([Buffer.from([200]), randomBytes(999)])), PROTOCOL_ERROR],
      ['a record that is cut', (socket) => socket.send(BINARY, record(67, Buffer.from([1]), 4)), PROTOCOL_ERROR],
      ['a record of 4 GiB', (socket) => socket.send(BINARY, record(65, Buffer.alloc(12), 0xffffffff)), PROTOCOL_ERROR],
      ['an unknown record', (socket) => socket.send(BINARY, record(99, Buffer.alloc(4))), PROTOCOL_ERROR],
      ['a key of no code', (socket) => socket.send(BINARY, record(67, Buffer.from([1, 0]))), PROTOCOL_ERROR],
      ['a message over the limit', (socket) => socket.send(BINARY, Buffer.alloc(MESSAGE_BYTES_MAX + 1)), TOO_BIG, PROTOCOL_ERROR, 1006],
      ['a message of 2^62 bytes', (socket) => socket.send(BINARY, Buffer.alloc(16), { claims: 2 ** 62 }), TOO_BIG, PROTOCOL_ERROR, 1006],
      ['no mask', (socket) => socket.send(BINARY, record(65, Buffer.alloc(12)), { masked: false }), PROTOCOL_ERROR, 1006],
    ]) {
      for (const greets of [false, true]) {
        const socket = await websocket(session, { cookie })
        assert.equal(socket.status, 101)
        if (greets) {
          socket.hello()
          assert.ok(await socket.first, `${what}: a viewer that says hello is answered`)
        }
        send(socket)
        const code = await socket.closed
        if (!codes.includes(code)) wrong.push(`${what}, ${greets ? 'after' : 'instead of'} hello: ${code} instead of ${codes.join(' or ')}`)
      }
    }
    assert.deepEqual(wrong, [], 'the close codes of docs/display-protocol.md')
    const silent = await websocket(session, { cookie })
    assert.equal(await silent.closed, PROTOCOL_ERROR, 'a browser that never says hello')
    const empty = await websocket(session, { cookie })
    empty.send(BINARY, Buffer.alloc(0))
    assert.equal(await empty.closed, PROTOCOL_ERROR, 'nothing instead of hello')
    assert.equal((await websocket(session, { cookie, protocol: 'binary' })).status, 400, 'no subprotocol of ours')
  })

  fault('controller: calls that are cut, too long or no protobuf', {}, async () => {
    const port = world.ports.grpc_port
    const tls = { servername: 'controller.vidi.internal' }
    for (const [what, body] of [
      ['nothing', Buffer.alloc(0)],
      ['a cut frame', framed(Buffer.alloc(10), 100)],
      ['a frame of 4 GiB', framed(Buffer.alloc(65536), 0xffffffff)],
      ['no protobuf', framed(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff]))],
      ['8 MiB', framed(Buffer.alloc(8 << 20))],
      ['random bytes', randomBytes(4096)],
    ]) {
      const answer = await grpc(port, 'SignInService/SignIn', body, { tls })
      assert.ok(answer.status !== 0 && (answer.status || answer.error) && answer.error !== 'no answer', `${what}: ${JSON.stringify(answer)}`)
    }
    const many = await grpc(port, 'SignInService/SignIn', framed(Buffer.alloc(0)), { tls, headers: { 'x-big': 'a'.repeat(1 << 20) } })
    assert.ok(many.status !== 0 && many.error !== 'no answer', `a header of 1 MiB: ${JSON.stringify(many)}`)
    const http1 = await exchange(port, ['GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'], { tls: { ...tls, ALPNProtocols: ['http/1.1'] } })
    assert.ok(http1.ended, 'HTTP/1.1 inside TLS')
    const garbage = await exchange(port, [PREFACE, randomBytes(65536)], { tls: { ...tls, ALPNProtocols: ['h2'] } })
    assert.ok(garbage.ended, 'HTTP/2 frames that are none')
  })
}
