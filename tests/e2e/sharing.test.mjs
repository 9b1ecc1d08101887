// A colleague comes by a link, through another gateway, and asks; the user lets look, gives control, takes
// it away. Meanwhile the session is recorded, and the recording ends with the picture that was seen.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { spawn } from 'node:child_process'
import { mkdir, readFile, readlink, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { join } from 'node:path'
import {
  Console, createUser, domains, kill9, pid, quickstart, readPorts, results, screenshot, state, until, useVidictl, vidictl,
  vidictlJson,
} from './stack.mjs'
import { canvasPixels, connected, differing, open, openFirstApp, photograph, pixels, quietMoment, signIn, typeLine } from './browser.mjs'
import { freePort } from './port.mjs'
import { steps } from './steps.mjs'

const PASSWORD = 'a long enough password'
// Longer than a key takes from the browser to the guest.
const NOTHING_MS = 1500

let access, ana, ben, console_, domain, edge, edgePort, desktop, last
const step = steps(async () => {
  await ana && photograph(ana.page, 'sharing-user').catch(() => {})
  await ben && photograph(ben.page, 'sharing-guest').catch(() => {})
})

// A second gateway of the same installation, as on another machine.
async function startEdge() {
  const folder = join(state, 'edge-2')
  await mkdir(folder, { recursive: true })
  const ports = await readPorts()
  edgePort = await freePort()
  const config = join(folder, 'gateway.toml')
  await writeFile(config, [
    `state = "${folder}/state"`,
    '[https]', `listen = "127.0.0.1:${edgePort}"`,
    '[peer]', `listen = "127.0.0.1:${await freePort()}"`,
    '[controller]', `addresses = ["127.0.0.1:${ports.grpc_port}"]`, `socket = "${join(state, 'run/controller.sock')}"`, 'id = "edge-2"',
    '[telemetry]', `listen = "127.0.0.1:${await freePort()}"`,
  ].join('\n'))
  const program = await readlink(`/proc/${await pid('gateway')}/exe`)
  edge = spawn(program, ['--config', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  edge.stderr.on('data', (chunk) => (log += chunk))
  edge.on('close', () => writeFile(join(results, 'edge-2.log'), log))
  await until('the second gateway', () => /Gateway is open/.test(log) && /link to the controller is up/.test(log))
}

before(async () => {
  access = await quickstart('up')
  useVidictl(access.vidictl)
  ;[domain] = await domains()
  console_ = await Console.open(domain)
  desktop = (await vidictlJson('desktop', 'list')).desktops[0].name
  await vidictl('desktop', 'update', desktop, '--recording', 'on-request')
  await createUser('ben', PASSWORD, '--role', 'user', '--display-name', 'Ben').catch(() => {})
  // What is attached follows its policy within 20 s, what is attached anew at once.
  await kill9('gateway')
  await quickstart('up')
  await startEdge()
  ana = await open()
  ben = await open()
})

after(async () => {
  await vidictl('desktop', 'update', desktop, '--recording', 'never', '--watermark', 'off')
  // What is attached follows its policy within 20 s, what is attached anew at once.
  await kill9('gateway')
  await quickstart('up')
  console_?.close()
  await ana?.close()
  await ben?.close()
  edge?.kill()
})

const byId = (browser, id) => browser.page.getByTestId(id)

step('a colleague who opens the link at another gateway is asked for, and sees nothing before', async () => {
  await signIn(ana.page, access.url, access.user, access.password)
  await openFirstApp(ana.page)
  await byId(ana, 'toolbar-show').click()
  await byId(ana, 'share-open').click()
  const link = new URL(await byId(ana, 'share-link').inputValue())
  await signIn(ben.page, `https://localhost:${edgePort}/`, 'ben', PASSWORD)
  await byId(ben, 'app-list').waitFor({ state: 'attached' })
  await ben.page.goto(`https://localhost:${edgePort}${link.pathname}`)
  await byId(ana, 'request').waitFor()
  assert.match(await byId(ana, 'request').textContent(), /ben/i)
  assert.equal(await byId(ben, 'desktop-canvas').getAttribute('data-frames'), '0')
  await photograph(ana.page, 'sharing-request')
})

step('let in to look, the colleague sees the desktop and types in vain', async () => {
  await byId(ana, 'request-allow-look').click()
  await connected(ben.page)
  await byId(ben, 'visit-sign').waitFor()
  await byId(ana, 'people-sign').waitFor()
  const seen = await quietMoment(ben.page, domain)
  assert.equal(seen.wrong, 0, 'what the colleague sees is the guest')
  const from = console_.lines.length
  await byId(ben, 'desktop-canvas').click({ position: { x: 5, y: 5 } })
  await ben.page.keyboard.type('in vain')
  await ben.page.keyboard.press('Enter')
  await delay(NOTHING_MS)
  assert.ok(!console_.lines.slice(from).some((line) => /line /.test(line)), console_.lines.slice(from).join('\n'))
  await photograph(ben.page, 'sharing-look')
})

step('with control the colleague types, and so does the user', async () => {
  await openPanel()
  await byId(ana, 'people-control').click()
  await until('control', async () => /control/.test(await byId(ben, 'visit-sign').textContent()))
  await byId(ben, 'desktop-canvas').click({ position: { x: 5, y: 5 } })
  await typeLine(ben.page, console_, 'by the colleague')
  await byId(ana, 'desktop-canvas').click({ position: { x: 5, y: 5 } })
  await typeLine(ana.page, console_, 'by the user')
})

step('a recording is seen by both while it goes on', async () => {
  await openPanel()
  await byId(ana, 'record-toggle').click()
  for (const browser of [ana, ben]) await byId(browser, 'record-sign').waitFor()
  await byId(ana, 'desktop-canvas').click({ position: { x: 5, y: 5 } })
  await typeLine(ana.page, console_, 'this is recorded')
  // What is on its way to the browser is on its way to the recorder.
  await quietMoment(ana.page, domain)
  await openPanel()
  await byId(ana, 'record-toggle').click()
  last = await pixels(ana.page)
  for (const browser of [ana, ben]) await byId(browser, 'record-sign').waitFor({ state: 'hidden' })
})

step('a guest that is removed is told so and is back at the menu', async () => {
  await openPanel()
  await byId(ana, 'people-remove').click()
  await byId(ben, 'app-list').waitFor({ state: 'attached' })
  await byId(ana, 'people-sign').waitFor({ state: 'hidden' })
  await photograph(ben.page, 'sharing-removed')
})

step('the recording is for administrators only, and plays to the picture that was seen last', async () => {
  const origin = new URL(access.url).origin
  const refused = await ben.context.request.get(`${origin}/recordings`)
  assert.ok([401, 403].includes(refused.status()), `${refused.status()}`)
  const list = await until('the end of the recording', async () => {
    const { recordings } = await (await ana.context.request.get(`${origin}/recordings`)).json()
    return recordings[0]?.end && recordings
  })
  assert.equal(list[0].desktop, desktop)
  const file = await ana.context.request.get(`${origin}/recordings/${list[0].name}`, { headers: { range: 'bytes=0-7' } })
  assert.equal(file.status(), 206)
  assert.equal((await file.body()).toString(), 'VIDIREC1')
  const path = join(state, 'lib/gateway/recordings/default', `${list[0].name}.json`)
  assert.equal(JSON.parse(await readFile(path, 'utf8')).bytes, list[0].bytes)
  await ana.page.goto(`${origin}/#/recordings/${list[0].name}`)
  await byId(ana, 'recording-canvas').waitFor()
  await until('the last picture', async () => {
    const shown = await canvasPixels(byId(ana, 'recording-canvas'))
    const size = last.width * last.height
    return shown.width === last.width && shown.height === last.height && differing(shown.rgb, last.rgb) * size <= CLOCK_PIXELS_MAX
  }, 30)
  await photograph(ana.page, 'sharing-recording')
})

step('a watermark is drawn over what is sent, and not into the guest', async () => {
  await vidictl('desktop', 'update', desktop, '--watermark', 'on')
  await kill9('gateway')
  await quickstart('up')
  await ana.page.goto(access.url)
  await openFirstApp(ana.page)
  const marked = await until('a marked picture', async () => {
    const [seen, guest] = [await pixels(ana.page), await screenshot(domain)]
    if (seen.rgb.length !== guest.rgb.length) return undefined
    let faint = 0
    for (let at = 0; at < seen.rgb.length; at += 3) {
      const [red, green, blue] = [0, 1, 2].map((channel) => Math.abs(seen.rgb[at + channel] - guest.rgb[at + channel]))
      if (Math.max(red, green, blue) > 0 && Math.max(red, green, blue) <= WATERMARK_STRENGTH_MAX) faint++
    }
    const share = faint / (seen.rgb.length / 3)
    // Photos are exact a moment after they are shown.
    return share < WATERMARK_SHARE_MAX && share
  })
  await photograph(ana.page, 'sharing-watermark')
  assert.ok(marked > WATERMARK_SHARE_MIN, `${marked} of the pixels are marked`)
})

// A faint text: it takes little of the picture, and each of its pixels is nearly what is below it.
const WATERMARK_STRENGTH_MAX = 24
const WATERMARK_SHARE_MIN = 0.005
const WATERMARK_SHARE_MAX = 0.1
// The guest's clock may tick between the last frame that is recorded and what is looked at.
const CLOCK_PIXELS_MAX = 2000

async function openPanel() {
  if (!(await byId(ana, 'share-open').isVisible())) await byId(ana, 'toolbar-show').click()
  if (!(await byId(ana, 'people-list').isVisible())) await byId(ana, 'share-open').click()
  await byId(ana, 'people-list').waitFor()
}
