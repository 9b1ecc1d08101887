// What is seen in a browser: after a key, of an animation, on an old PC.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { repetitions } from './figures.mjs'
import { below, processes } from './processes.mjs'
import { FRAME_AT, KEYS_AT, quantile, stopWatching, untilSeen, watchNumber, watched } from './screen.mjs'

const SHORT = repetitions === 1
const KEYS = SHORT ? 4 : 20
const KEY_PAUSE_MS = 220
const ANIMATION_SECONDS = SHORT ? 2 : 10
const RATE = 30
const THROTTLE = 20
const ECHO_SECONDS_MAX = 20

// Types on a page; gives per key what passed until it was seen, and the guest's part of that, in milliseconds.
export async function typeKeys(page, replay, count, pauseMs, keys = () => 'a') {
  const from = replay.events.length
  await watchNumber(page, KEYS_AT)
  for (let index = 0; index < count; index++) {
    await page.keyboard.press(keys(index))
    await delay(pauseMs)
  }
  const reports = () => replay.events.slice(from)
  const pressed = () => reports().filter(({ event }) => event === 'key')
  await replay.heard(`${count} keys`, () => pressed().length >= count, from, ECHO_SECONDS_MAX)
  const last = pressed().at(-1).count
  await untilSeen(page, `key ${last} on the page`, (seen) => seen.some(([number]) => number === last), ECHO_SECONDS_MAX)
  await stopWatching(page)
  const { seen, keys: times } = await watched(page)
  if (times.length !== count || pressed().length !== count) {
    throw new Error(`${count} keys were typed, the page saw ${times.length}, the guest ${pressed().length}`)
  }
  return pressed().map(({ count: number, at }, index) => {
    // A number that was never seen was overtaken by a later one.
    const shown = seen.find(([found, when]) => number <= found && times[index] <= when)?.[1]
    const left = reports().find(({ event, mark }) => event === 'left' && mark === `key ${number}`)
    if (shown === undefined) throw new Error(`key ${number} was not seen`)
    return { total: shown - times[index], guest: left ? (left.at - at) / 1e6 : 0 }
  })
}

// A click into the picture, where nothing is: keys go there afterwards.
export async function focus(page, selector) {
  await page.locator(selector).first().click({ position: { x: 500, y: 30 } })
}
const OURS = '[data-testid="desktop-canvas"]'
const THEIRS = '#spice-screen canvas'

// Both of our pages, one of them shown at a time.
async function bothPages(stage) {
  const ours = await stage.ours()
  await stage.openOurs(ours.page)
  const theirs = await stage.theirs()
  await focus(ours.page, OURS)
  await focus(theirs.page, THEIRS)
  return { plain: ours.page, lz: theirs.page }
}

// From a key in the page to its pixels on the page, what the guest takes left out.
export async function keyToPixel(stage) {
  const { suite, replay } = stage
  const pages = await bothPages(stage)
  const once = async (who) => {
    replay.tell(`to ${who}`)
    await delay(500)
    const keys = await typeKeys(pages[who], replay, KEYS, KEY_PAUSE_MS)
    return quantile(keys.map(({ total, guest }) => total - guest), 0.5)
  }
  const values = await suite.repeat(async () => [await once('plain'), await once('lz')])
  suite.compare({ name: 'key_to_pixel_ms', peer: 'key_to_pixel_peer_ms', ratio: 'key_to_pixel_ratio', unit: 'ms' }, values)
}

// Different frames that were on the page while all of a window moves: a film, of which every pixel is
// another each time, and flat shapes, which are small for everybody.
export async function framesShown(stage) {
  const { suite, replay } = stage
  const pages = await bothPages(stage)
  const once = async (who, script) => {
    replay.tell(`to ${who}`)
    await delay(500)
    await watchNumber(pages[who], FRAME_AT)
    await replay.play(script, ANIMATION_SECONDS, 0, 0, 1024, 768, RATE)
    await delay(500)
    await stopWatching(pages[who])
    const { seen } = await watched(pages[who])
    return (new Set(seen.map(([number]) => number)).size - 1) / ANIMATION_SECONDS
  }
  const scripts = [['video', 'frames_shown'], ['animate', 'flat_frames_shown']]
  for (const [script, name] of SHORT ? scripts.slice(0, 1) : scripts) {
    const values = await suite.repeat(async () => [await once('plain', script), await once('lz', script)])
    suite.compare({ name: `${name}_s`, peer: `${name}_peer_s`, ratio: `${name}_ratio`, unit: 'frames/s' }, values)
  }
}

// Twenty times slower, and without what browsers have learnt in the last years.
export async function oldPc(stage) {
  const { suite, replay } = stage
  replay.tell('to plain')
  const home = await mkdtemp(join(tmpdir(), 'vidi-old-'))
  suite.closing.push(() => rm(home, { recursive: true, force: true }))
  const { page, context } = await stage.ours({ home })
  await context.addInitScript(forget)
  await stage.openOurs(page)
  const [rates, memory] = [[], []]
  const devtools = await context.newCDPSession(page)
  await devtools.send('Emulation.setCPUThrottlingRate', { rate: THROTTLE })
  const frames = async () => Number(await page.locator(OURS).getAttribute('data-frames'))
  await suite.repeat(async () => {
    const before = await frames()
    await replay.play('animate', ANIMATION_SECONDS, 0, 0, 1024, 768, RATE)
    rates.push((await frames() - before) / ANIMATION_SECONDS)
    memory.push(await tabMemory(home))
  })
  suite.figures.add('old_pc_frames_s', 'frames/s', rates)
  suite.figures.add('old_pc_tab_mb', 'MB', memory)
}

// Runs in the page before anything else.
function forget() {
  for (const name of ['VideoDecoder', 'VideoEncoder', 'VideoFrame', 'ImageDecoder', 'AudioDecoder', 'AudioEncoder',
    'AudioData', 'EncodedVideoChunk', 'EncodedAudioChunk', 'OffscreenCanvas', 'MediaStreamTrackProcessor']) delete window[name]
  delete HTMLCanvasElement.prototype.transferControlToOffscreen
  const isWebp = (blob) => blob instanceof Blob && blob.type === 'image/webp'
  const decode = window.createImageBitmap
  window.createImageBitmap = (source, ...rest) => (isWebp(source) ? Promise.reject(new DOMException('no WebP', 'InvalidStateError')) : decode(source, ...rest))
  const source = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, 'src')
  Object.defineProperty(HTMLImageElement.prototype, 'src', {
    ...source,
    set(address) {
      source.set.call(this, address.startsWith('data:image/webp') ? 'data:,' : address)
    },
  })
  const address = URL.createObjectURL
  URL.createObjectURL = (blob) => address.call(URL, isWebp(blob) ? new Blob(['no WebP']) : blob)
}

// What the tab's process has for itself, in MB: the largest renderer below the browser with this profile.
async function tabMemory(home) {
  const all = await processes()
  const browsers = all.filter(({ command }) => command.includes(`--user-data-dir=${home}`)).map(({ pid }) => pid)
  const renderers = below(all, browsers).filter(({ command }) => command.includes('--type=renderer'))
  if (renderers.length === 0) throw new Error('the tab\'s process was not found')
  const kib = (status, name) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0)
  return Math.max(...renderers.map(({ status }) => kib(status, 'RssAnon') + kib(status, 'RssShmem'))) * 1024 / 1e6
}
