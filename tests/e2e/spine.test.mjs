// A user opens a link, signs in, clicks, and works on a guest; then everything is killed, one by one.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  Console, command, createUser, DAEMONS, domains, kill9, pid, quickstart, results, root, state, until, useVidictl, vidictl, vidictlJson,
} from './stack.mjs'
import { seriousFaults } from './axe.mjs'
import { connected, near, open, openFirstApp, photograph, place, quietMoment, signIn, typeLine } from './browser.mjs'
import { steps } from './steps.mjs'

const step = steps(() => page && photograph(page, 'failure').catch(() => {}))

const COLORS_MIN = 64
const FOREGROUND_MIN = 0.3

let access, browser, page, domain, console_
const moments = []

before(async () => {
  access = await quickstart('up')
  useVidictl(access.vidictl)
  const running = await domains()
  assert.equal(running.length, 1, 'quickstart leaves exactly one desktop running')
  domain = running[0]
  console_ = await Console.open(domain)
  browser = await open()
  page = browser.page
})

after(async () => {
  console_?.close()
  await browser?.close()
  await writeFile(join(results, 'moments.json'), JSON.stringify(moments, null, 2))
})

async function exact(name) {
  const seen = await quietMoment(page, domain)
  moments.push({ name, wrong: seen.wrong, colors: seen.colors, foreground: seen.foreground })
  await photograph(page, `desktop-${name}`)
  assert.equal(seen.wrong, 0, `${name}: ${seen.wrong} pixels of the canvas differ from the guest's`)
  assert.ok(seen.colors >= COLORS_MIN, `${name}: ${seen.colors} colours`)
  assert.ok(seen.foreground >= FOREGROUND_MIN, `${name}: ${seen.foreground} is not background`)
  return seen
}

const line = (text) => typeLine(page, console_, text)

step('a wrong password is refused with a sentence', async () => {
  await signIn(page, access.url, access.user, 'not the password')
  await page.getByTestId('login-error').waitFor()
  assert.ok((await page.getByTestId('login-error').textContent()).trim().length > 10)
  await photograph(page, 'sign-in-refused')
  assert.deepEqual(await seriousFaults(page), [])
})

step('the right one leads to the menu', async () => {
  await signIn(page, access.url, access.user, access.password)
  await page.getByTestId('app-list').waitFor()
  await until('the first app', async () => (await page.getByTestId('app-list').locator('button').count()) > 0)
  await photograph(page, 'menu')
  assert.deepEqual(await seriousFaults(page), [])
})

step('a click opens the desktop, and the canvas equals the guest', async () => {
  await openFirstApp(page)
  await exact('boot')
})

step('what is typed arrives, by the word of the guest', async () => {
  await page.getByTestId('desktop-canvas').click({ position: { x: 5, y: 5 } })
  await line('hello vidi 42')
  await exact('typed')
})

step('a click arrives where it was made, and changes the picture', async () => {
  const from = console_.lines.length
  const before_ = (await quietMoment(page, domain)).digest
  // F2 changes the picture too; the button is found by the guest's own word.
  await page.keyboard.press('F2')
  await console_.said(/picture \d/, from)
  const changed = await exact('picture')
  assert.ok(!changed.digest.equals(before_), 'the picture has changed')
  const clicksFrom = console_.lines.length
  const at = [700, 300]
  await page.mouse.click(...(await place(page, at)))
  const arrived = (await console_.said(/click (\d+) (\d+) /, clicksFrom)).slice(1, 3).map(Number)
  assert.ok(near(arrived, at), `the click arrived at ${arrived}`)
})

step('the picture is back after the relay was killed', async () => {
  await kill9('relay')
  await page.getByTestId('connection-lost').waitFor()
  await photograph(page, 'connection-lost')
  await quickstart('up')
  await page.getByTestId('connection-lost').waitFor({ state: 'hidden' })
  await connected(page)
  await exact('reconnect')
  await line('after the relay')
})

step('the picture is back after the gateway was killed, without a new sign-in', async () => {
  await kill9('gateway')
  await page.getByTestId('connection-lost').waitFor()
  await quickstart('up')
  await page.getByTestId('connection-lost').waitFor({ state: 'hidden' })
  await connected(page)
  await exact('gateway-restart')
  await line('after the gateway')
})

step('killing the controller and the agent is not seen by the user', async () => {
  await kill9('controller')
  await line('without a controller')
  await kill9('agent')
  await line('without an agent')
  assert.equal(await page.getByTestId('connection-lost').isVisible(), false)
  await quickstart('up')
  assert.deepEqual(await domains(), [domain], 'the same desktop runs on, and no other')
  await line('all are back')
})

step('a killed libvirtd is survived', async () => {
  const folder = new URL(`file://${process.env.VIDI_LIBVIRT_DIR}/`)
  const daemon = Number(await readFile(new URL('libvirtd.pid', folder), 'utf8'))
  process.kill(daemon, 'SIGKILL')
  await line('without libvirt')
  await command(join(root, 'packaging/private-libvirt'), 'start', process.env.VIDI_LIBVIRT_DIR)
  await until('libvirt with the same desktop', async () => (await domains()).join() === domain)
  await line('libvirt is back')
  await until('the desktop seen as running', async () => JSON.stringify(await vidictlJson('desktop', 'list')).includes('POWER_RUNNING'), 60)
})

step('a second tab takes over, and the first says so', async () => {
  const second = await browser.context.newPage()
  await second.goto(access.url)
  await openFirstApp(second)
  await until('the first tab to know', async () => (await page.getByTestId('desktop-canvas').getAttribute('data-state').catch(() => 'ended')) === 'ended')
  await photograph(page, 'taken-over')
  await second.close()
  await page.goto(access.url)
  await openFirstApp(page)
})

step("another user's desktop is not shown without a yes", async () => {
  await createUser('eva', 'a long enough password', '--role', 'user')
  const { sessions } = await vidictlJson('session', 'list')
  const [, session] = sessions.find(({ state }) => state === 'SESSION_STATE_CONNECTED').name.split('/sessions/')
  const other = await open()
  try {
    await signIn(other.page, access.url, 'eva', 'a long enough password')
    // An empty list has no size to be seen by.
    await other.page.getByTestId('app-list').waitFor({ state: 'attached' })
    assert.equal(await other.page.getByTestId('app-list').locator('button').count(), 0)
    const ending = other.page.evaluate((id) => new Promise((resolve) => {
      const socket = new WebSocket(`wss://${location.host}/display/${id}`, 'vidi.display.v1')
      const types = []
      socket.binaryType = 'arraybuffer'
      // A hello of the protocol's version 1.
      socket.onopen = () => socket.send(new Uint8Array([65, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
      socket.onmessage = ({ data }) => {
        const view = new DataView(data)
        for (let at = 0; at < data.byteLength; at += 8 + view.getUint32(at + 4, true)) types.push(view.getUint8(at))
      }
      socket.onclose = (event) => resolve({ code: event.code, types })
    }), session)
    await page.getByTestId('request-refuse').click()
    const { code, types } = await ending
    assert.equal(code, 4004)
    assert.deepEqual([...new Set(types)].sort((one, two) => one - two), [1, 12], 'hello and status, and nothing of the picture')
    const none = await other.page.evaluate((id) => new Promise((resolve) => {
      const socket = new WebSocket(`wss://${location.host}/display/${id}`, 'vidi.display.v1')
      socket.onclose = (event) => resolve(event.code)
    }), '00000000-0000-4000-8000-000000000000')
    assert.equal(none, 4003, 'there is no such session')
  } finally {
    await other.close()
  }
})

step('a sign-out ends the display that is open', async () => {
  const origin = new URL(access.url).origin
  const answer = await browser.context.request.delete(`${origin}/session`, { headers: { origin } })
  assert.equal(answer.status(), 204)
  await page.getByTestId('login-user').waitFor({ timeout: 60_000 })
  await photograph(page, 'signed-out')
})

step('stop, start and destroy leave nothing behind', async () => {
  const name = /"(tenants\/default\/desktops\/[0-9a-f-]{36})"/.exec(JSON.stringify(await vidictlJson('desktop', 'list')))[1]
  await vidictl('desktop', 'stop', name, '--wait')
  assert.deepEqual(await domains(), [])
  await vidictl('desktop', 'start', name, '--wait')
  assert.deepEqual(await domains(), [domain])
  await vidictl('desktop', 'delete', name, '--wait')
  assert.deepEqual(await domains(), [])
  const uuid = name.split('/').at(-1)
  const left = await command('find', '/var/lib/vidi/images', '-name', `*${uuid}*`)
  assert.equal(left, '', 'no overlay is left')
  const sessions = JSON.stringify(await vidictlJson('session', 'list'))
  assert.ok(!/SESSION_STATE_(OPENING|CONNECTED|DISCONNECTED)/.test(sessions), sessions)
})

step('no secret is in any log', async () => {
  for (const daemon of DAEMONS) {
    const text = await readFile(join(state, 'log', `${daemon}.log`), 'utf8')
    assert.ok(!text.includes(access.password), `${daemon}.log holds the password`)
    assert.ok(!/panicked/.test(text), `${daemon}.log tells of a panic`)
    for (const typed of ['hello vidi 42', 'after the relay']) assert.ok(!text.includes(typed), `${daemon}.log holds what was typed`)
  }
  assert.deepEqual(browser.problems, [], 'no page error')
  assert.ok((await pid('gateway')) > 0)
})
