// Cookies that are no sign-in, and pages of other sites.
import assert from 'node:assert/strict'
import { open, openFirstApp, signIn } from '../browser.mjs'
import { vidictlJson } from '../stack.mjs'
import { fault, says, userCanOpen, world } from './common.mjs'
import { grpcWeb, https, signedInCookie, websocket } from './wire.mjs'

const UNAUTHENTICATED = 16
const SIGNED_OUT = 4001
const NOT_YOURS = 4003
const EVIL = 'https://evil.example'

const GARBAGE = [
  '__Host-vidi=garbage', '__Host-vidi=', '__Host-vidi=%00%ff', `__Host-vidi=${'A'.repeat(43)}`, `__Host-vidi=${'A'.repeat(4000)}`,
  '__Host-vidi=../../../etc/passwd', '=;=;;;', 'vidi=1',
]

// A cookie whose sign-in has ended: to everybody who sees it, it has expired.
async function endedCookie() {
  const cookie = await signedInCookie()
  assert.equal((await grpcWeb('SignInService/WhoAmI', { cookie })).status, 0, 'it was good')
  assert.equal((await https('DELETE', '/session', { headers: { cookie } })).status, 204)
  return cookie
}

export async function liveSession() {
  const { sessions = [] } = await vidictlJson('session', 'list')
  const live = sessions.find(({ state }) => !/ENDED/.test(state))
  assert.ok(live, `no session lives: ${JSON.stringify(sessions)}`)
  return live.name.split('/').at(-1)
}

export default function () {
  fault('a garbage or ended cookie is no sign-in, for any call', { opens: false }, async () => {
    for (const cookie of [undefined, ...GARBAGE, await endedCookie()]) {
      for (const method of ['SignInService/WhoAmI', 'SessionService/ListApps', 'DesktopService/ListDesktops', 'UserService/ListUsers']) {
        const answer = await grpcWeb(method, { cookie })
        assert.equal(answer.status, UNAUTHENTICATED, `${method} with ${cookie}: ${JSON.stringify(answer)}`)
        says(answer.message, /sign/i)
      }
    }
  })

  fault('a garbage or ended cookie opens no display', {}, async () => {
    await userCanOpen()
    const session = await liveSession()
    for (const cookie of [undefined, ...GARBAGE, await endedCookie()]) {
      const socket = await websocket(session, { cookie })
      assert.equal(socket.status, 101, 'the browser is told in the socket, where its page can see it')
      assert.equal(await socket.closed, SIGNED_OUT, `with ${cookie}`)
      assert.equal(socket.messages, 0, 'and sees nothing')
    }
  })

  fault('a session that is not there opens no display', { opens: false }, async () => {
    const cookie = await signedInCookie()
    const unknown = await websocket('00000000-0000-4000-8000-000000000000', { cookie })
    assert.equal(await unknown.closed, NOT_YOURS)
    for (const name of ['x', '..%2f..', 'a'.repeat(5000)]) {
      assert.equal((await websocket(name, { cookie })).status, 404, name)
    }
  })

  fault('the page whose sign-in ended shows the sign-in page', { opens: false }, async () => {
    const browser = await open()
    try {
      await signIn(browser.page, world.access.url, world.access.user, world.access.password)
      await browser.page.getByTestId('app-list').waitFor()
      const [cookie] = (await browser.context.cookies()).filter(({ name }) => name === '__Host-vidi')
      assert.ok(cookie.httpOnly && cookie.secure && cookie.sameSite === 'Strict', JSON.stringify(cookie))
      assert.equal((await https('DELETE', '/session', { headers: { cookie: `${cookie.name}=${cookie.value}` } })).status, 204)
      await browser.page.getByTestId('app-list').locator('[data-testid^="app-"]').first().click()
      await browser.page.getByTestId('login-user').waitFor()
      await signIn(browser.page, world.access.url, world.access.user, world.access.password)
      await openFirstApp(browser.page)
    } finally {
      await browser.close()
    }
  })

  fault('another site\'s page gets nothing', { opens: false }, async () => {
    const cookie = await signedInCookie()
    const session = await liveSession()
    for (const from of [EVIL, 'null', `http://localhost:${world.ports.https_port}`, 'https://localhost', null]) {
      assert.equal((await websocket(session, { cookie, from })).status, 403, `websocket from ${from}`)
      const call = await grpcWeb('SessionService/ListApps', { cookie, from })
      assert.equal(call.http, 403, `call from ${from}`)
      const { user, password } = world.access
      const answer = await https('POST', '/session', {
        headers: { 'content-type': 'application/json' }, body: JSON.stringify({ tenant: '', user, password }), from,
      })
      assert.equal(answer.status, 403, `sign-in from ${from}`)
      assert.equal(answer.headers['set-cookie'], undefined)
      says(answer.body.toString(), /page/)
      assert.equal((await https('DELETE', '/session', { headers: { cookie }, from })).status, 403, `sign-out from ${from}`)
    }
    assert.equal((await grpcWeb('SignInService/WhoAmI', { cookie })).status, 0, 'the sign-in is untouched')
  })

  fault('a page cannot reach what is not for pages', { opens: false }, async () => {
    const cookie = await signedInCookie()
    for (const method of ['SignInService/SignIn', 'EnrollService/Enroll', 'GatewayLink/IssueGrant', 'AgentLink/FetchImage', 'Relay/Attach']) {
      const answer = await grpcWeb(method, { cookie })
      assert.ok(answer.http === 404 || answer.http === 405, `${method}: ${JSON.stringify(answer)}`)
    }
  })

  fault('sign-ins that are no JSON, or too much of it', { opens: false }, async () => {
    for (const body of ['', '{', '[]', '{"user":1}', '{"user":"a","password":"b","more":1}', '\0\xff', `{"user":"${'a'.repeat(7000)}","password":"b"}`, JSON.stringify({ user: 'admin', password: 'x'.repeat(2000) })]) {
      const answer = await https('POST', '/session', { headers: { 'content-type': 'application/json' }, body })
      assert.ok([400, 401, 429].includes(answer.status), `${body.slice(0, 40)}: ${answer.status}`)
      const said = JSON.parse(answer.body)
      assert.ok(said.reason)
      says(said.message)
    }
    const big = await https('POST', '/session', { headers: { 'content-type': 'application/json' }, body: Buffer.alloc(1 << 20, 0x20) })
      .catch((error) => ({ status: error.code }))
    assert.ok([413, 'EPIPE', 'ECONNRESET'].includes(big.status), `${big.status}`)
  })
}
