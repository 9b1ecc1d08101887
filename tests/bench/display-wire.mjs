// What goes over the wires: when, and how much.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { setTimeout as delay } from 'node:timers/promises'
import { until } from '../e2e/stack.mjs'
import { signIn } from '../e2e/browser.mjs'
import { median, repetitions } from './figures.mjs'
import { fromClick } from './picture.mjs'
import { quantile } from './screen.mjs'
import { Viewer } from './viewer.mjs'

const SHORT = repetitions === 1
const TEXT_SECONDS = SHORT ? 2 : 10
const OFFICE_SECONDS = SHORT ? 3 : 60
const IDLE_SECONDS = SHORT ? 3 : 60
// A scene of a film: its first frame and the exact one at its end are in it, each 66 Mbit.
const VIDEO_SECONDS = SHORT ? 2 : 30
// The time of one change, and a little less than to the next one.
const CHANGE_NS = 95e6
const QUIET_MS = SHORT ? 400 : 3000

// From the moment the last byte of a change leaves the SPICE server to the one when the last byte of its
// pixels is read from the WebSocket: through relay, gateway, TLS.
export async function changeToSocket(stage) {
  const { suite, replay, person } = stage
  replay.tell('to plain')
  const session = await stage.session()
  const viewer = new Viewer(person, session.name)
  suite.closing.push(async () => viewer.leave())
  if (!(await viewer.picture(30))) throw new Error('the viewer got no picture')
  const [p50, p95, lost] = [[], [], []]
  await suite.repeat(async () => {
    const { reports } = await replay.play('text', TEXT_SECONDS)
    await delay(200)
    const left = reports.filter(({ event, mark }) => event === 'left' && mark.startsWith('text'))
    const values = left.map(({ at }) => [at, viewer.frameDrawn(at, at + CHANGE_NS)])
    const taken = values.filter(([, came]) => came !== undefined).map(([at, came]) => (came - at) / 1e6)
    lost.push(values.length - taken.length)
    if (taken.length < values.length / 2) throw new Error(`only ${taken.length} of ${values.length} changes were seen`)
    p50.push(median(taken))
    p95.push(quantile(taken, 0.95))
    viewer.seen.length = 0
  })
  suite.figures.add('guest_change_to_ws_p50_ms', 'ms', p50)
  suite.figures.add('guest_change_to_ws_p95_ms', 'ms', p95)
  suite.figures.add('guest_change_missing', 'changes', lost)
}

// From the click on the menu to the picture, the gateway attaching anew each time.
export async function firstPicture(stage) {
  const { suite, replay } = stage
  replay.tell('to plain')
  const { page } = await stage.ours()
  await signIn(page, stage.url, stage.access.user, stage.access.password)
  await page.getByTestId('app-list').waitFor()
  const once = async () => {
    await stage.releaseAll()
    await page.goto(stage.url)
    const app = page.getByTestId('app-list').locator('[data-testid^="app-"]:not([disabled])').first()
    await app.waitFor()
    const from = replay.events.length
    const value = await fromClick(page, app)
    await replay.heard('the new attachment', ({ event }) => event === 'joined', from)
    return value
  }
  await once()
  suite.figures.add('first_picture_ms', 'ms', await suite.repeat(once))
}

// Bytes to the browser while somebody works, and while nobody does.
export async function bytesOfWork(stage) {
  const { suite, replay } = stage
  const ours = await stage.ours()
  await stage.openOurs(ours.page)
  await stage.theirs()
  const measure = async (who, line, script, seconds) => {
    replay.tell(`to ${who}`)
    await quiet(line)
    const before = await line.count()
    await replay.play(script, seconds)
    await quiet(line)
    return ((await line.count()).down - before.down) * 8 / 1000 / seconds
  }
  const office = await suite.repeat(async () => [
    await measure('plain', stage.line, 'office', OFFICE_SECONDS),
    await measure('lz', stage.peerLine, 'office', OFFICE_SECONDS),
  ])
  suite.compare({ name: 'office_kbit_s', peer: 'office_peer_kbit_s', ratio: 'bytes_ratio', unit: 'kbit/s' }, office)
  suite.figures.add('idle_kbit_s', 'kbit/s', await suite.repeat(() => measure('plain', stage.line, 'idle', IDLE_SECONDS), SHORT ? 1 : 3))
}

// Waits until what was drawn has arrived, and what is refined later too.
async function quiet(line) {
  let last = await line.count()
  await until('quiet on the line', async () => {
    await delay(QUIET_MS)
    const now = await line.count()
    const still = now.down - last.down < 2000
    last = now
    return still
  })
}

// A film in full HD that the guest draws frame by frame: bits between host and gateway, and how many
// frames the guest got rid of.
export async function relayedVideo(stage) {
  const { suite, replay } = stage
  replay.tell('to plain')
  const { page } = await stage.ours()
  await stage.openOurs(page)
  replay.tell('size 1920 1080')
  await until('the larger screen', () => page.getByTestId('desktop-canvas').evaluate((canvas) => canvas.width === 1920))
  const [rates, frames] = [[], []]
  try {
    await suite.repeat(async () => {
      const before = await sentFrom(stage.relayPort)
      const { reports, began, ended } = await replay.play('video', VIDEO_SECONDS)
      const seconds = (ended - began) / 1e9
      rates.push((await sentFrom(stage.relayPort) - before) * 8 / 1e6 / seconds)
      frames.push(reports.filter(({ event, mark }) => event === 'left' && mark.startsWith('frame')).length / seconds)
    })
  } finally {
    replay.tell('size 1024 768')
  }
  suite.figures.add('relay_mbit_s_video', 'Mbit/s', rates)
  suite.figures.add('relay_video_frames_s', 'frames/s', frames)
}

// Bytes that TCP has sent from this port and that were acknowledged, over all that is connected now: ss(8).
async function sentFrom(port) {
  const { stdout } = await promisify(execFile)('ss', ['-tinH', 'state', 'established', `sport = :${port}`])
  const sent = [...stdout.matchAll(/bytes_acked:(\d+)/g)].map(([, bytes]) => Number(bytes))
  if (sent.length === 0) throw new Error(`nobody is connected to port ${port}`)
  return sent.reduce((sum, bytes) => sum + bytes, 0)
}
