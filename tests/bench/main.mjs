// The suite `main`: from nothing to a picture, beside what spice-html5 needs for the same.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command, domains, quickstart, results, root, until, useVidictl, vidictl, vidictlJson } from '../e2e/stack.mjs'
import { connected, open, openFirstApp, quietMoment, signIn } from '../e2e/browser.mjs'
import { calibrate, repetitions, seconds } from './figures.mjs'
import { startPeer } from './peer.mjs'
import { fromClick, fromNavigation, watchNavigations } from './picture.mjs'
import { Suite, need } from './suite.mjs'

const QUIET_MOMENTS = 5
const DESKTOPS = 3

const suite = new Suite('main')
const { figures, closing } = suite
const repeat = (work) => suite.repeat(work)
await suite.run(measure)

async function measure() {
  await suite.parts([kills, install])
  const access = await quickstart('up').catch((error) => suite.failed(error))
  if (!access) return
  useVidictl(access.vidictl)
  await suite.alone([warmStarts, createToReady, pictures, wrongPixels, restarts, createDesktops], access)
}

// What tests/kill found just now: faults injected, and acknowledged things that were lost (0).
async function kills() {
  const { rounds, lost, wrong } = JSON.parse(await readFile(need('VIDI_KILL_SUMMARY'), 'utf8'))
  figures.add('kill_rounds', 'faults', [rounds])
  figures.add('kill_lost', 'things', [lost])
  if (wrong.length) throw new Error(`after the kills: ${wrong.join('; ')}`)
}

// What tests/packages/guest measured just now: from `apt install` to a signed-in page.
async function install() {
  if (repetitions === 1) {
    console.log('install_minutes is not measured in the short form')
    return
  }
  const { VIDI_INSTALL_MINUTES: minutes, VIDI_INSTALL_FAILED: broken } = process.env
  if (minutes) figures.add('install_minutes', 'minutes', [Number(minutes)])
  if (!minutes || broken) throw new Error('tests/packages/guest failed: its lines above say at what')
}

async function warmStarts(access) {
  const values = await repeat(() => seconds(async () => {
    const again = await quickstart('up')
    if (again.url !== access.url) throw new Error(`the second run says ${again.url}, the first said ${access.url}`)
  }))
  figures.add('quickstart_warm_s', 's', values)
}

async function restarts() {
  const values = await repeat(() => seconds(async () => {
    await quickstart('down')
    await quickstart('up')
  }))
  figures.add('quickstart_restart_s', 's', values)
}

async function createToReady() {
  figures.add('create_to_ready_micro_s', 's', await repeat((index) => createOne('micro', `bench-${index}`)))
}

// A Debian desktop boots for more than a minute under emulation: only where figures count.
async function createDesktops() {
  if (repetitions === 1) {
    console.log('create_to_ready_desktop_s is not measured in the short form')
    return
  }
  const folder = (await command(join(root, 'packaging/images/build'), 'desktop')).trim().split('\n').at(-1)
  await vidictl('template', 'create', 'desktop', '--from', folder)
  // The host fetches the template once; what counts is a desktop from one that is there.
  await createOne('desktop', 'bench-first')
  const values = []
  for (let index = 0; index < DESKTOPS; index++) {
    suite.calibration.push(calibrate())
    values.push(await createOne('desktop', `bench-desktop-${index}`))
  }
  figures.add('create_to_ready_desktop_s', 's', values)
}

// Makes a desktop, waits until it is ready, destroys it: the seconds until it was ready.
async function createOne(template, name) {
  const before = await desktopNames()
  const made = async () => (await desktopNames()).filter((name) => !before.includes(name))
  try {
    const elapsed = await seconds(() => vidictl('desktop', 'create', '--template', template, '--name', name, '--start', '--wait'))
    const [desktop, ...more] = await made()
    if (!desktop || more.length) throw new Error(`${more.length + Boolean(desktop)} desktops were made instead of one`)
    const { status } = await vidictlJson('desktop', 'get', desktop)
    if (!status?.ready) throw new Error(`--wait came back before the desktop was ready: ${JSON.stringify(status)}`)
    return elapsed
  } finally {
    // One that did not become ready would run beside what is measured next.
    for (const desktop of await made()) await vidictl('desktop', 'delete', desktop, '--wait')
  }
}

async function desktopNames() {
  return [...new Set(JSON.stringify(await vidictlJson('desktop', 'list')).match(/tenants\/[^"]*\/desktops\/[0-9a-f-]{36}/g) ?? [])]
}

async function liveSessions() {
  const { sessions = [] } = await vidictlJson('session', 'list')
  return sessions.filter(({ state }) => !/ENDED/.test(state)).map(({ name }) => name)
}

// Ours and the peer's, in turn, so that what else this machine does falls on both.
async function pictures(access) {
  const peer = await startPeer({ template: need('VIDI_BENCH_TEMPLATE'), scratch: results, pids: need('VIDI_BENCH_PIDS') })
  closing.push(peer.stop)
  const [ours, theirs] = [await open(), await open()]
  closing.push(() => ours.close(), () => theirs.close())
  await watchNavigations(theirs.context)
  await signIn(ours.page, access.url, access.user, access.password)
  // Both pages come from the cache afterwards. The peer leaves before we come: a SPICE server that
  // has not yet noticed that its client went shows the next one nothing.
  const inTurn = async () => {
    const theirValue = await fromNavigation(theirs.page, peer.url)
    await theirs.page.goto('about:blank')
    return [await firstPicture(ours.page, access), theirValue]
  }
  await inTurn()
  const [name, peerName] = ['click_to_first_picture_ms', 'click_to_first_picture_peer_ms']
  suite.compare({ name, peer: peerName, unit: 'ms' }, await repeat(inTurn))
}

// From the click on the menu to the picture, with a session of its own.
async function firstPicture(page, access) {
  const sessions = await liveSessions()
  for (const session of sessions) await vidictl('session', 'release', session.split('/').at(-1))
  // A released desktop is switched off by its policy; what is measured is the way to one that runs.
  if (sessions.length > 0) await until('the end of the desktop', async () => (await domains()).length === 0)
  for (const name of await desktopNames()) await vidictl('desktop', 'start', name, '--wait')
  await page.goto(access.url)
  const app = page.getByTestId('app-list').locator('[data-testid^="app-"]:not([disabled])').first()
  await app.waitFor()
  const value = await fromClick(page, app)
  await connected(page)
  return value
}

async function wrongPixels(access) {
  const browser = await open()
  closing.push(() => browser.close())
  const { page } = browser
  await signIn(page, access.url, access.user, access.password)
  const running = await domains()
  if (running.length !== 1) throw new Error(`${running.length} desktops run instead of one`)
  await openFirstApp(page)
  await page.getByTestId('desktop-canvas').click({ position: { x: 5, y: 5 } })
  const wrong = []
  for (let moment = 0; moment < QUIET_MOMENTS; moment++) {
    wrong.push((await quietMoment(page, running[0])).wrong)
    await page.keyboard.press('F2')
    await page.keyboard.type(`moment ${moment}`)
  }
  const sum = wrong.reduce((one, other) => one + other, 0)
  figures.add('canvas_wrong_pixels', 'pixels', [sum])
  if (sum !== 0) throw new Error(`${sum} pixels of the canvas differ from the guest's`)
}
