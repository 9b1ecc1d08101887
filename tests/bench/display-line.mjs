// A line like users have: 25 ms each way, 2 Mbit/s, stalls as lost packets make them; and one that is gone
// for a while.
import { createServer, connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../e2e/port.mjs'
import { until } from '../e2e/stack.mjs'
import { signIn } from '../e2e/browser.mjs'
import { focus, typeKeys } from './display-eyes.mjs'
import { median, repetitions } from './figures.mjs'
import { FRAME_AT, quantile, stopWatching, untilSeen, watchNumber, watched } from './screen.mjs'

const SHORT = repetitions === 1
const DELAY_MS = 25
const MBIT_S = 2
const LOST_OF_MILLION = 5000
const SEED = 20
const KEYS = SHORT ? 4 : 40
const KEY_PAUSE_MS = 450
// A film in a window that leaves the place of the keys alone.
const FILM = [350, 250, 640, 360, 30]
const ECHOES = SHORT ? 10 : 60
const FLOOD_BYTES = SHORT ? 200_000 : 600_000
const CUT_SECONDS = SHORT ? 2 : 10
const CANVAS = '[data-testid="desktop-canvas"]'

// A keystroke while a film plays: what passes beyond the line's own round trip.
export async function badLine(stage) {
  const { suite, replay } = stage
  replay.tell('to plain')
  const line = await stage.newLine(stage.port, SEED)
  const { page } = await stage.ours()
  const url = `https://localhost:${line.port}/`
  await signIn(page, url, stage.access.user, stage.access.password)
  await stage.clickApp(page)
  await focus(page, CANVAS)
  const bad = `bad ${DELAY_MS} ${MBIT_S} ${LOST_OF_MILLION}`
  await measureLine(stage, bad)
  line.tell(bad)
  const [p50, p95] = [[], []]
  await suite.repeat(async () => {
    const seconds = KEYS * (KEY_PAUSE_MS + 60) / 1000 + 20
    await replay.begin('video', seconds, ...FILM)
    // Until the gateway has seen that it is one.
    await delay(SHORT ? 500 : 3000)
    const keys = await typeKeys(page, replay, KEYS, KEY_PAUSE_MS)
    replay.tell('stop')
    const added = keys.map(({ total, guest }) => total - guest - 2 * DELAY_MS)
    p50.push(quantile(added, 0.5))
    p95.push(quantile(added, 0.95))
  })
  line.tell('clear')
  suite.figures.add('bad_line_keystroke_p50_added_ms', 'ms', p50)
  suite.figures.add('bad_line_keystroke_p95_added_ms', 'ms', p95)
}

// What the line itself does, told by an echo behind one like it: a round trip of one byte, and its rate.
async function measureLine(stage, bad) {
  const { suite } = stage
  const echo = createServer((socket) => socket.on('error', () => {}).pipe(socket))
  const port = await freePort()
  await new Promise((resolve) => echo.listen(port, '127.0.0.1', resolve))
  suite.closing.push(() => new Promise((resolve) => echo.close(resolve)))
  const line = await stage.newLine(port, SEED)
  line.tell(bad)
  const socket = connect({ port: line.port, host: '127.0.0.1', noDelay: true })
  suite.closing.push(async () => socket.destroy())
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  const trips = []
  for (let count = 0; count < ECHOES; count++) {
    const began = performance.now()
    socket.write('x')
    await new Promise((resolve) => socket.once('data', resolve))
    trips.push(performance.now() - began)
  }
  // From the first byte that is back: the way there and back is no part of the rate.
  let [came, began] = [0, 0]
  const all = new Promise((resolve) => socket.on('data', (data) => {
    began ||= performance.now()
    if ((came += data.length) >= FLOOD_BYTES) resolve()
  }))
  socket.write(Buffer.alloc(FLOOD_BYTES))
  await all
  suite.figures.add('line_round_trip_ms', 'ms', [median(trips)])
  suite.figures.add('line_mbit_s', 'Mbit/s', [FLOOD_BYTES * 8 / 1e3 / (performance.now() - began)])
}

// How a network goes and comes back: the browser is told of both, or has to find out.
const BREAKS = [
  { figure: 'reconnect_ms', isTold: true },
  { figure: 'reconnect_untold_ms', isTold: false },
]

// The network goes, comes back, and with it the picture; each key came once at most.
export async function reconnection(stage) {
  const { suite, replay } = stage
  replay.tell('to plain')
  const { page, context } = await stage.ours()
  await stage.openOurs(page)
  await focus(page, CANVAS)
  const doubled = []
  const once = async ({ isTold }) => {
    const from = replay.events.length
    await replay.begin('animate', CUT_SECONDS + 60, 0, 0, 1024, 768, 10)
    await delay(500)
    const letters = [...'abcdefghijklmnopqrstuvwxyz']
    const type = async (count) => {
      for (const letter of letters.splice(0, count)) await page.keyboard.press(letter)
    }
    await type(8)
    stage.line.tell('cut')
    if (isTold) await context.setOffline(true)
    await type(4)
    await until('the veil', async () => (await page.locator(CANVAS).getAttribute('data-state')) !== 'connected')
    await type(4)
    await delay(CUT_SECONDS * 1000)
    await watchNumber(page, FRAME_AT)
    await delay(200)
    stage.line.tell('restore')
    if (isTold) await context.setOffline(false)
    const restored = performance.timeOrigin + performance.now()
    // The first look found the picture of before the cut.
    await untilSeen(page, 'a new frame', (seen) => seen.length > 1)
    await stopWatching(page)
    const { seen } = await watched(page)
    const back = (await page.evaluate(() => performance.timeOrigin)) + seen[1][1] - restored
    await stage.shown(page)
    await type(10)
    await delay(500)
    replay.tell('stop')
    const codes = replay.events.slice(from).filter(({ event }) => event === 'key').map(({ code }) => code)
    doubled.push(codes.length - new Set(codes).size)
    if (codes.length < 10) throw new Error(`of 26 keys the guest heard only ${codes.length}`)
    return back
  }
  const values = await suite.repeat(async () => {
    const times = []
    for (const way of BREAKS) times.push(await once(way))
    return times
  })
  BREAKS.forEach(({ figure }, at) => suite.figures.add(figure, 'ms', values.map((times) => times[at])))
  suite.figures.add('reconnect_keys_doubled', 'keys', doubled)
  if (doubled.some((count) => count !== 0)) throw new Error(`keys came twice: ${doubled}`)
}
