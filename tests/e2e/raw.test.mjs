// Other viewers on a desktop: Debian's spice-html5 over the gateway's WebSocket and remote-viewer through
// the gateway as its proxy, both as they are; and who comes without a ticket.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { spawn } from 'node:child_process'
import { createServer } from 'node:https'
import { after, before } from 'node:test'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import { PNG } from 'pngjs'
import {
  command, Console, domains, end, metric, quickstart, results, root, screenshot, state, until, useVidictl, vidictl, vidictlJson,
} from './stack.mjs'
import { canvasPixels, connected, differing, open, openFirstApp, photograph, signIn } from './browser.mjs'
import { CHANNELS, LINK_ERRORS, link, message, tunnel } from './spice.mjs'
import { steps } from './steps.mjs'

const PAGES = '/usr/share/spice-html5'
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' }
const SCREEN = ':87'
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
// The guest's clock may tick between two looks at it.
const DIFFERS_MAX = 0.001
const MAIN_INIT = 103

let access, browser, page, console_, domain, desktop, server, origin, scratch
const tickets = []
const children = []

const step = steps(() => photograph(page, 'raw-failed').catch(() => {}))

before(async () => {
  await command('bash', '-c', '. "$1/packaging/lib/common.sh"; ensure_packages spice-html5 virt-viewer glib-networking xvfb imagemagick xdotool openssl', 'raw', root)
  scratch = await mkdtemp(join(tmpdir(), 'vidi-raw-'))
  access = await quickstart('up')
  useVidictl(access.vidictl)
  await servePages()
  const file = join(state, 'etc/gateway.toml')
  const text = await readFile(file, 'utf8')
  await writeFile(file, `${text.replace(/\n\[raw\]\n(?:[^[\n].*\n?)*/, '\n')}\n[raw]\norigins = ["${origin}"]\n`)
  await end('gateway', 'SIGTERM')
  access = await quickstart('up')
  browser = await open()
  page = browser.page
  await signIn(page, access.url, access.user, access.password)
  await openFirstApp(page)
  domain = (await domains())[0]
  desktop = domain.slice('vidi-'.length)
  console_ = await Console.open(domain)
})

after(async () => {
  for (const child of children) child.kill()
  console_?.close()
  await browser?.close()
  server?.close()
  server?.closeAllConnections()
  await vidictl('desktop', 'update', desktop, '--raw', 'off').catch(() => {})
  await rm(scratch, { recursive: true, force: true })
})

// Debian's package, as somebody's own site has it.
async function servePages() {
  const at = (name) => join(scratch, name)
  await command('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=viewers', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', at('key.pem'), '-out', at('cert.pem'))
  const tls = { key: await readFile(at('key.pem')), cert: await readFile(at('cert.pem')) }
  server = createServer(tls, async (request, response) => {
    const { pathname } = new URL(request.url, 'https://viewers')
    try {
      const body = await readFile(join(PAGES, pathname))
      response.setHeader('content-type', TYPES[extname(pathname)] ?? 'application/octet-stream').end(body)
    } catch {
      response.writeHead(404).end()
    }
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  origin = `https://127.0.0.1:${server.address().port}`
}

// Asks for a ticket as the page does: {status, offer}.
async function ask() {
  const answer = await page.evaluate(async (path) => {
    const response = await fetch(path, { method: 'POST' })
    return { status: response.status, offer: await response.json() }
  }, `/spice/${desktop}`)
  if (answer.offer.password) tickets.push(answer.offer.password)
  return answer
}

// The guest reads a line. A viewer that shows the picture may still be opening its keyboard's channel, and
// throws away what is typed until then.
async function reads(line, type) {
  const from = console_.lines.length
  await until(`the line ${line}`, async () => {
    await type(line)
    return console_.said(new RegExp(`line ${line}$`), from, 5)
  })
}

async function opens(kind, ticket, more = {}) {
  const { code, socket } = await tunnel(access.url, desktop)
  assert.equal(code, 200)
  return { socket, error: await link(socket, ticket, { kind, ...more }) }
}

step('a desktop whose policy does not say so is closed to other viewers', async () => {
  const { status, offer } = await ask()
  assert.deepEqual([status, offer.reason], [403, 'NOT_ALLOWED'])
  assert.equal((await tunnel(access.url, desktop)).code, 403)
})

step('a stranger gets nothing: no ticket, a wrong one, a channel that is not passed on', async () => {
  await vidictl('desktop', 'update', desktop, '--raw', 'on')
  assert.equal((await tunnel(access.url, desktop)).code, 403, 'nobody asked for a ticket')
  const { status, offer } = await ask()
  assert.equal(status, 200, JSON.stringify(offer))
  assert.equal((await tunnel(access.url, desktop, 22)).code, 403)
  assert.equal((await tunnel(access.url, 'localhost')).code, 403)
  const { main, display, usbredir } = CHANNELS
  for (const [what, kind, ticket, more, error] of [
    ['a wrong ticket', main, 'f'.repeat(32), {}, LINK_ERRORS.denied],
    ['an empty ticket', main, '', {}, LINK_ERRORS.denied],
    ['a picture before main', display, offer.password, { connection: 7 }, LINK_ERRORS.denied],
    ['a main of another session', main, offer.password, { connection: 7 }, LINK_ERRORS.badConnection],
    ['a USB device', usbredir, offer.password, { connection: 7 }, LINK_ERRORS.noChannel],
  ]) {
    const { socket, error: told } = await opens(kind, ticket, more)
    assert.equal(told, error, what)
    socket.close()
  }
  const foreign = await page.evaluate(async (url) => new Promise((resolve) => {
    const socket = new WebSocket(url, 'vidi.display.v1')
    socket.onopen = () => resolve('open')
    socket.onerror = () => resolve('refused')
  }), offer.url)
  assert.equal(foreign, 'refused', 'another subprotocol')
})

step('a ticket opens one set of channels, which a browser takes over', async () => {
  const { offer } = await ask()
  const { socket, error } = await opens(CHANNELS.main, offer.password)
  assert.equal(error, LINK_ERRORS.none)
  let init
  while (init?.type !== MAIN_INIT) init = await message(socket)
  const connection = init.body.readUInt32LE(0)
  await page.getByTestId('desktop-taken').waitFor()
  const second = await opens(CHANNELS.main, offer.password)
  assert.equal(second.error, LINK_ERRORS.denied, 'it is used')
  const picture = await opens(CHANNELS.display, offer.password, { connection })
  assert.equal(picture.error, LINK_ERRORS.none)
  const again = await opens(CHANNELS.display, offer.password, { connection })
  assert.equal(again.error, LINK_ERRORS.noChannel, 'it is open already')
  const foreign = await opens(CHANNELS.cursor, offer.password, { connection: connection ^ 1 })
  assert.equal(foreign.error, LINK_ERRORS.badConnection, 'the desktop knows its own sessions')
  await page.getByTestId('desktop-take-back').click()
  await connected(page)
  await until('the end of both channels', () => socket.ended && picture.socket.ended)
  assert.equal((await opens(CHANNELS.main, offer.password).catch(() => ({ error: 'refused' }))).error, LINK_ERRORS.denied, 'it is dead')
})

step('spice-html5 shows the guest through the gateway, and types', async () => {
  const { offer } = await ask()
  const { hostname, port } = new URL(access.url)
  const viewer = await browser.context.newPage()
  const said = []
  viewer.on('console', (entry) => said.push(entry.text()))
  await viewer.goto(`${origin}/spice_auto.html?host=${hostname}&port=${port}&path=spice/${desktop}&password=${offer.password}`)
  const canvas = viewer.locator('#spice-screen canvas').first()
  await canvas.waitFor().catch((error) => assert.fail(`${error.message}\n${said.join('\n')}`))
  let differs
  const same = () => until('the picture', async () => {
    const guest = await screenshot(domain)
    differs = differing((await canvasPixels(canvas)).rgb, guest.rgb)
    return differs <= DIFFERS_MAX
  }, 20).catch((error) => assert.fail(`${error.message}: ${differs} differs\n${said.join('\n')}`))
  await same()
  await page.getByTestId('desktop-taken').waitFor()
  await canvas.click()
  await reads('other viewer', async (line) => {
    await viewer.keyboard.type(line, { delay: 30 })
    await viewer.keyboard.press('Enter')
  })
  await same()
  await photograph(viewer, 'raw-spice-html5')
  assert.ok(await metric('gateway', 'vidi_gateway_raw_channels') >= 4)
  const { sessions } = await vidictlJson('session', 'list')
  assert.ok(sessions.some((one) => one.desktop.endsWith(desktop) && one.state === 'SESSION_STATE_CONNECTED'), 'somebody is there')
  await viewer.close()
  await until('the end of its channels', async () => (await metric('gateway', 'vidi_gateway_raw_channels')) === 0)
})

step('remote-viewer shows the guest through the gateway as its proxy, and types', async () => {
  start('Xvfb', [SCREEN, '-screen', '0', '1280x1024x24', '-nolisten', 'tcp'])
  const DISPLAY = SCREEN
  await until('the screen', () => stat(`/tmp/.X11-unix/X${SCREEN.slice(1)}`))
  // The page CA is trusted as an administrator would have it, by this program alone.
  const trusted = join(scratch, 'certificates.crt')
  await writeFile(trusted, Buffer.concat([await readFile(CERTIFICATES), await readFile(join(state, 'lib/controller/page-ca.pem'))]))
  const { offer } = await ask()
  const file = join(scratch, 'desktop.vv')
  // It tries the first address of a name only, which here may be one that the gateway does not listen on.
  await writeFile(file, offer.vv.replace('//localhost:', '//127.0.0.1:'), { mode: 0o600 })
  const viewer = start('unshare', ['--mount', 'bash', '-c', `mount --bind "$1" ${CERTIFICATES} && exec remote-viewer --debug "$2"`, 'viewer', trusted, file], { DISPLAY, GDK_BACKEND: 'x11', NO_AT_BRIDGE: '1', HOME: scratch })
  let shown
  await until('the picture', async () => {
    const guest = await screenshot(domain)
    const shot = join(results, 'raw-remote-viewer.png')
    await command('import', '-display', SCREEN, '-window', 'root', shot)
    shown = find(PNG.sync.read(await readFile(shot)), guest)
    return shown.differs <= DIFFERS_MAX
  }, 40).catch((error) => assert.fail(`${error.message}: ${JSON.stringify(shown)}\n${viewer.words}`))
  const [x, y] = [shown.x + 100, shown.y + 100]
  const xdotool = (...args) => command('env', `DISPLAY=${DISPLAY}`, 'xdotool', ...args)
  await xdotool('mousemove', String(x), String(y), 'click', '1')
  await reads('native viewer', async (line) => {
    await xdotool('type', '--delay', '40', line)
    await xdotool('key', 'Return')
  })
  // What becomes of the file is remote-viewer's own doing: it says so to it.
  await assert.rejects(readFile(file), 'the file with the ticket is gone')
})

step('no log knows a ticket', async () => {
  assert.ok(tickets.length >= 4)
  const log = await readFile(join(state, 'log/gateway.log'), 'utf8')
  assert.ok(log.includes('A ticket for another viewer is given'))
  for (const ticket of tickets) assert.ok(!log.includes(ticket))
  assert.ok(await metric('gateway', 'vidi_gateway_raw_refused_total') >= 8)
})

function start(file, args, env = {}) {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
  child.words = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (child.words = (child.words + data).slice(-8192)))
  children.push(child)
  return child
}

// Where on the screen the guest's picture is, and how much of it differs.
function find(screen, guest) {
  const places = []
  for (let y = 0; y + guest.height <= screen.height; y++) {
    for (let x = 0; x + guest.width <= screen.width; x++) places.push([x, y])
  }
  const at = (x, y) => screen.data.readUIntBE((y * screen.width + x) * 4, 3)
  const pixel = (x, y) => guest.rgb.readUIntBE((y * guest.width + x) * 3, 3)
  // Pixels that differ from their neighbour tell most.
  const marks = []
  for (let y = 0; y < guest.height && marks.length < 400; y += 3) {
    for (let x = 1; x < guest.width; x += 1) {
      if (pixel(x, y) !== pixel(x - 1, y)) marks.push([x, y])
    }
  }
  let best = { x: 0, y: 0, hits: -1 }
  for (const [x, y] of places) {
    let hits = 0
    for (const [index, [dx, dy]] of marks.entries()) {
      if (at(x + dx, y + dy) === pixel(dx, dy)) hits++
      if (index > 20 && hits * 2 < index) break
    }
    if (hits > best.hits) best = { x, y, hits }
  }
  let wrong = 0
  for (let y = 0; y < guest.height; y++) {
    for (let x = 0; x < guest.width; x++) if (best.hits < 0 || at(best.x + x, best.y + y) !== pixel(x, y)) wrong++
  }
  return { ...best, marks: marks.length, differs: wrong / (guest.width * guest.height), screen: [screen.width, screen.height], guest: [guest.width, guest.height] }
}
