// The display client of the real pages, in browsers of all kinds, against a gateway that this test plays:
// every pixel, video, a slow computer, a network that goes and comes back.
import { after, before, test } from 'node:test'
import { readFile } from 'node:fs/promises'
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { chromium } from 'playwright-core'
import * as peer from './display-peer.mjs'
import { SCENE, drawScene, encodePhoto, encodeVideo, encodeWith } from './display-scene.mjs'

const pages = process.env.VIDI_PAGES ?? join(import.meta.dirname, '../../gateway/web/dist')
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking']

let browser
before(async () => {
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS })
})
after(() => browser?.close())

// What a browser may lack, taken away before the page begins. What a page's worker has cannot be taken
// away from here, so each of these also keeps the display on the page.
const LACKS = {
  nothing: [],
  OffscreenCanvas: ['OffscreenCanvas'],
  createImageBitmap: ['OffscreenCanvas', 'createImageBitmap'],
  WebP: ['OffscreenCanvas', 'WebP'],
  WebCodecs: ['OffscreenCanvas', 'VideoDecoder', 'EncodedVideoChunk'],
  everything: ['OffscreenCanvas', 'createImageBitmap', 'WebP', 'VideoDecoder', 'EncodedVideoChunk'],
}

async function openPage(display, lacks = []) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
  const page = await context.newPage()
  page.setDefaultTimeout(20_000)
  const problems = []
  page.on('pageerror', (error) => problems.push(error.message))
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()))
  await page.addInitScript((lacks) => {
    for (const name of lacks) {
      if (name !== 'WebP') delete globalThis[name]
    }
    if (lacks.includes('WebP')) {
      const isWebp = (blob) => blob.type === 'image/webp'
      const make = globalThis.createImageBitmap
      if (make) {
        globalThis.createImageBitmap = (blob, ...rest) =>
          isWebp(blob) ? Promise.reject(new DOMException('no WebP', 'InvalidStateError')) : make(blob, ...rest)
      }
      const source = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, 'src')
      Object.defineProperty(HTMLImageElement.prototype, 'src', {
        ...source,
        set(address) {
          source.set.call(this, address.startsWith('data:image/webp') ? 'data:,' : address)
        },
      })
    }
  }, lacks)
  await page.goto(`${display.url}desktop/${peer.SESSION}`)
  await page.getByTestId('desktop-canvas').waitFor()
  return { context, page, problems }
}

async function play(viewed) {
  const display = new peer.DisplayPeer(pages, viewed)
  await display.listen()
  return display
}

const state = (page) => page.getByTestId('desktop-canvas').getAttribute('data-state')

async function until(what, check, seconds = 20) {
  const end = performance.now() + seconds * 1000
  for (;;) {
    const value = await check()
    if (value) return value
    if (performance.now() > end) throw new Error(`${what} did not come within ${seconds} s`)
    await delay(10)
  }
}

// What the canvas shows, read by the page: a canvas that a worker draws can be drawn like an image.
async function pixels(page) {
  const base64 = await page.evaluate(() => {
    const canvas = document.querySelector('[data-testid="desktop-canvas"]')
    const copy = document.createElement('canvas')
    copy.width = canvas.width
    copy.height = canvas.height
    const context = copy.getContext('2d', { willReadFrequently: true })
    context.drawImage(canvas, 0, 0)
    const { data } = context.getImageData(0, 0, copy.width, copy.height)
    let text = ''
    for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768))
    return btoa(text)
  })
  return Buffer.from(base64, 'base64')
}

function wrongPixels(got, wanted, tolerance = 0) {
  assert.equal(got.length, wanted.length)
  let wrong = 0
  for (let at = 0; at < got.length; at++) {
    if (Math.abs(got[at] - wanted[at]) > tolerance) wrong++
  }
  return wrong
}

for (const [lack, names] of Object.entries(LACKS)) {
  test(`every pixel is right in a browser that lacks ${lack}`, async () => {
    const display = await play()
    const { context, page, problems } = await openPage(display, names)
    const viewer = await until('hello', () => display.viewers[0])
    const has = { webp: !names.includes('WebP'), h264: !names.includes('VideoDecoder') }
    assert.equal(viewer.hello.flags & 7, (has.webp ? 1 : 0) | (has.h264 ? 2 : 0) | 4)
    assert.ok(viewer.hello.tileCacheBytes >= 1 << 20)
    if (names.includes('OffscreenCanvas')) assert.equal(viewer.hello.tileCacheBytes, 8 << 20)
    const webp = has.webp ? await encodeWith(page, 'image/webp') : undefined
    viewer.send(peer.hello(), peer.status(1))
    const wanted = drawScene(viewer, { webp })
    assert.ok(await viewer.presented(3))
    const shown = await page.getByTestId('desktop-canvas').evaluate((canvas) => [canvas.width, canvas.height])
    assert.deepEqual(shown, [SCENE.width, SCENE.height])
    await until('the right pixels', async () => wrongPixels(await pixels(page), wanted) === 0, 5)
    assert.equal(await state(page), 'connected')
    assert.equal(viewer.records.filter(({ type }) => type === 73).length, 0, 'nothing was asked for again')
    assert.deepEqual(problems, [])
    await context.close()
    await display.fall()
  })
}

// The processes that draw pages.
async function renderers() {
  const session = await browser.newBrowserCDPSession()
  const { processInfo } = await session.send('SystemInfo.getProcessInfo')
  await session.detach()
  return processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id)
}

// What a process has, in MB; what it shares with others counts in part.
async function memoryOf(process) {
  const rollup = await readFile(`/proc/${process}/smaps_rollup`, 'utf8')
  return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)[1]) / 1000
}

// Seconds that the page's own thread has had a processor.
async function busySeconds(process) {
  return Number((await readFile(`/proc/${process}/task/${process}/schedstat`, 'utf8')).split(' ')[0]) / 1e9
}

// The mean colour of a part of the canvas.
function mean(rgba, width, [left, top, right, bottom]) {
  const sum = [0, 0, 0]
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      for (let channel = 0; channel < 3; channel++) sum[channel] += rgba[(y * width + x) * 4 + channel]
    }
  }
  return sum.map((value) => Math.round(value / ((right - left) * (bottom - top))))
}

const isNear = (one, other) => one.every((value, index) => Math.abs(value - other[index]) < 12)

for (const where of ['a worker', 'the page']) {
  test(`video is decoded on ${where}, in its place, and what cannot be decoded is told`, async () => {
    const display = await play()
    const { context, page } = await openPage(display, where === 'a worker' ? [] : ['OffscreenCanvas'])
    const viewer = await until('hello', () => display.viewers[0])
    assert.equal(viewer.hello.flags & 2, 2)
    const coded = [320, 180]
    const units = await encodeVideo(page, coded, 20)
    viewer.send(peer.hello(), peer.status(1), peer.size(500, 300), peer.fill([0, 0, 500, 300], [0, 255, 0]), peer.frameEnd(1))
    let sequence = 1
    // Stretched by half, and drawn over in the same frame.
    const area = [10, 10, 480, 270]
    for (const { key, unit } of units) {
      sequence += 1
      viewer.send(peer.video(area, 2, key, coded, unit), peer.fill([10, 250, 480, 30], [255, 255, 0]), peer.frameEnd(sequence))
      assert.ok(await viewer.presented(sequence))
    }
    const last = (units.length - 1) * 4
    const shown = await until('the last picture', async () => {
      const rgba = await pixels(page)
      return isNear(mean(rgba, 500, [10 + (last + 5) * 1.5, 55, 10 + (last + 35) * 1.5, 85].map(Math.round)), [230, 40, 30]) && rgba
    }, 5)
    assert.ok(isNear(mean(shown, 500, [400, 100, 480, 200]), [40, 90, 200]), `${mean(shown, 500, [400, 100, 480, 200])}`)
    assert.deepEqual(mean(shown, 500, [12, 252, 480, 278]), [255, 255, 0])
    assert.deepEqual(mean(shown, 500, [0, 0, 9, 300]), [0, 255, 0])

    // A damaged key frame: the region is lost until the next one, the rest goes on.
    const broken = Buffer.from(units[0].unit)
    broken.fill(0xff, 40)
    viewer.send(peer.video(area, 2, true, coded, broken), peer.frameEnd(++sequence))
    assert.ok(await viewer.presented(sequence))
    const told = await until('record 76', () => viewer.records.find(({ type }) => type === 76))
    assert.deepEqual([...told.body], [2, 2, 0, 0])
    viewer.send(peer.video(area, 2, false, coded, units[1].unit), peer.frameEnd(++sequence))
    viewer.send(peer.video(area, 2, true, coded, units[0].unit), peer.videoEnd(2), peer.frameEnd(++sequence))
    assert.ok(await viewer.presented(sequence))
    await until('the picture after it', async () => isNear(mean(await pixels(page), 500, [20, 55, 60, 85]), [230, 40, 30]), 5)
    await context.close()
    await display.fall()
  })
}

// A picture for every viewer that comes: one colour, and a word about how it is.
const greet = (colour) => (viewer) => {
  viewer.send(peer.hello(), peer.status(1), peer.size(400, 300), peer.fill([0, 0, 400, 300], colour), peer.frameEnd(1))
}

const colourOf = async (page) => mean(await pixels(page), 400, [0, 0, 400, 300])

test('the picture is back soon after a gateway that fell, under a veil that keeps the last one', async (context) => {
  const display = await play(greet([200, 30, 40]))
  const { context: own, page } = await openPage(display)
  await until('the picture', async () => (await state(page)) === 'connected')
  await until('its colour', async () => isNear(await colourOf(page), [200, 30, 40]))
  const times = []
  for (const seconds of [0.2, 2, 7]) {
    const count = display.viewers.length
    await delay(1100)
    await display.fall()
    await until('the veil', async () => (await state(page)) === 'lost')
    await page.getByTestId('connection-lost').waitFor()
    assert.ok(isNear(await colourOf(page), [200, 30, 40]), 'the last picture stays')
    await delay(seconds * 1000)
    display.server.listen(display.port, '127.0.0.1')
    const back = performance.now()
    await until('a new viewer', () => display.viewers.length > count)
    assert.ok(await display.viewers.at(-1).presented(1))
    times.push(Math.round(performance.now() - back))
    await until('the end of the veil', async () => (await page.getByTestId('connection-lost').count()) === 0)
  }
  context.diagnostic(`back after ${times.join(', ')} ms`)
  assert.ok(times.every((time) => time < 1000), `${times}`)
  await own.close()
  await display.fall()
})

test('a line that fell silent is left for another, and nothing is typed twice', async (context) => {
  const display = await play(greet([30, 200, 40]))
  const { context: own, page } = await openPage(display)
  await until('the picture', async () => (await state(page)) === 'connected')
  await page.getByTestId('desktop-canvas').focus()
  const presses = () => display.viewers.flatMap(({ records }) => records.filter(({ type, body }) => type === 67 && body[0] === 1))
  await page.keyboard.press('a')
  await until('a key', () => presses().length === 1)

  // The address changed, say: nothing comes through any more, in neither direction.
  display.viewers[0].deaf = true
  const silent = performance.now()
  await page.keyboard.press('b')
  await until('another socket', () => display.viewers.length === 2)
  context.diagnostic(`dialled beside a silent line after ${Math.round(performance.now() - silent)} ms`)
  assert.ok(performance.now() - silent < 4000)
  await until('the picture', async () => (await state(page)) === 'connected' && display.viewers[1].acked === 1)
  await page.keyboard.press('c')
  await until('a key', () => presses().length === 2)
  assert.deepEqual(presses().map(({ body }) => body[2]), [0x1e, 0x2e], 'a and c, each once; what was pressed into the break is lost')

  // The same, but the browser says that the network is back.
  display.viewers[1].deaf = true
  const online = performance.now()
  await page.evaluate(() => window.dispatchEvent(new Event('online')))
  await until('another socket', () => display.viewers.length === 3)
  assert.ok(await display.viewers[2].presented(1))
  const time = Math.round(performance.now() - online)
  context.diagnostic(`back ${time} ms after the network`)
  assert.ok(time < 1000, `${time}`)
  await own.close()
  await display.fall()
})

test('what is measured is shown over the picture on request', async () => {
  const display = await play(greet([30, 40, 200]))
  const { context, page } = await openPage(display)
  await until('the picture', async () => (await state(page)) === 'connected')
  assert.equal(await page.getByTestId('statistics').count(), 0)
  await page.getByTestId('toolbar-show').hover()
  await page.getByTestId('toolbar-info').click()
  await page.getByTestId('statistics').waitFor()
  const stop = setInterval(() => display.viewers[0].send(peer.image([0, 0, 2, 2], 4, [0, 255, 0, 0, 0, 0]), peer.frameEnd(2)), 100)
  await until('figures', async () => {
    const [latency, codecs, size] = await Promise.all(['latency', 'codecs', 'size'].map((name) => page.getByTestId(`statistics-${name}`).innerText()))
    return /^\d.* ms$/.test(latency) && codecs === 'letters' && size === '400 × 300'
  })
  clearInterval(stop)
  // The picture has the keys again.
  await page.keyboard.press('x')
  await until('a key', () => display.viewers[0].records.some(({ type }) => type === 67))
  await page.getByTestId('toolbar-show').hover()
  await page.getByTestId('toolbar-info').click()
  assert.equal(await page.getByTestId('statistics').count(), 0)
  await context.close()
  await display.fall()
})

const OLD_FRAMES = 40

// A film's frames are all others: the same image with another comment, so that no browser has it already.
const remarked = (jpeg, number) => {
  const comment = Buffer.from([0xff, 0xfe, 0, 4, number >> 8, number & 255])
  return Buffer.concat([jpeg.subarray(0, 2), comment, jpeg.subarray(2)])
}

// How fast is measured where nothing else runs: `old_pc_frames_s` of the bench.
test('an old computer with an old browser shows every frame in 150 MB', async (context) => {
  const display = await play()
  const { context: own, page } = await openPage(display, [...LACKS.WebCodecs, 'WebP'])
  context.after(async () => {
    await own.close()
    await display.fall()
  })
  const viewer = await until('hello', () => display.viewers[0])
  const film = [1024, 640]
  const jpegs = await Promise.all([0, 1, 2, 3].map((seed) => encodePhoto(page, film, seed)))
  const session = await own.newCDPSession(page)
  await session.send('Emulation.setCPUThrottlingRate', { rate: 20 })
  const [width, height] = [1920, 1080]
  viewer.send(peer.hello(), peer.status(1), peer.size(width, height), peer.fill([0, 0, width, height], [20, 40, 60]), peer.frameEnd(1))
  assert.ok(await viewer.presented(1))
  // A film in a window, a text that scrolls, letters that are typed, tiles that come back.
  let sequence = 1
  const processes = await renderers()
  const before = await Promise.all(processes.map(busySeconds))
  const begun = performance.now()
  const letter = (count) => [1, 255, 255, 255, 0, 0, 0, ...Array.from({ length: 32 }, (_, row) => (row * 37 + count) & 255)]
  while (sequence <= OLD_FRAMES) {
    sequence += 1
    const count = sequence
    const letters = Array.from({ length: 12 }, (_, at) => peer.image([20 + at * 20, 900 + (count % 5) * 20, 16, 16], 4, letter(count + at)))
    viewer.send(
      peer.image([100, 100, ...film], 3, remarked(jpegs[count % 4], count), 1),
      peer.copy([1200, 100, 600, 380], 1200, 120),
      peer.fill([1200, 480, 600, 20], [count & 255, 90, 90]),
      ...letters,
      peer.keep([1000, 400, count % 512], [1064, 400, (count + 1) % 512]),
      peer.recall([20, 600, count % 512]),
      peer.frameEnd(sequence),
    )
    assert.ok(await viewer.presented(sequence))
  }
  // Of the processor's time that the page got: the slowed thread never rests, and what others take from it
  // is no fault of the page.
  const busy = (await Promise.all(processes.map(busySeconds))).map((seconds, at) => seconds - before[at])
  // The one that worked most is the page's.
  const at = busy.indexOf(Math.max(...busy))
  const rate = (sequence - 1) / busy[at]
  const seen = (sequence - 1) / ((performance.now() - begun) / 1000)
  const memory = await memoryOf(processes[at])
  context.diagnostic(`${rate.toFixed(1)} frames/s, ${seen.toFixed(1)} on this busy machine, ${memory.toFixed(0)} MB`)
  assert.ok(memory < 150, `${memory}`)
})

test('a recording plays, pauses and is sought through', async () => {
  const display = await play()
  const [red, green, blue, yellow] = [[220, 20, 20], [20, 180, 30], [20, 30, 200], [230, 220, 10]]
  const all = [0, 0, 400, 300]
  const entry = (milliseconds, ...records) => {
    const message = Buffer.concat(records)
    const head = Buffer.alloc(8)
    head.writeUInt32LE(milliseconds, 0)
    head.writeUInt32LE(message.length, 4)
    return Buffer.concat([head, message])
  }
  const name = `${peer.SESSION}-20260102T030405Z`
  display.files.set(`/recordings/${name}`, Buffer.concat([
    Buffer.from('VIDIREC1'),
    entry(0, peer.hello()),
    entry(0, peer.size(400, 300), peer.fill(all, red), peer.frameEnd(1)),
    entry(60_000, peer.fill([0, 0, 200, 300], green), peer.frameEnd(2)),
    entry(120_000, peer.size(400, 300), peer.fill(all, blue), peer.frameEnd(3)),
    entry(180_000, peer.fill([200, 0, 200, 300], yellow), peer.frameEnd(4)),
    // The gateway fell while it wrote this one.
    entry(240_000, peer.fill(all, red), peer.frameEnd(5)).subarray(0, 20),
  ]))
  display.files.set('/recordings', Buffer.from(JSON.stringify({
    recordings: [{ name, user: 'tenants/default/users/eve', user_display_name: 'Eve', start: '2026-01-02T03:04:05Z', end: '2026-01-02T03:07:05Z' }],
  })))
  const context = await browser.newContext({ viewport: { width: 1000, height: 800 } })
  const page = await context.newPage()
  const problems = []
  page.on('pageerror', (error) => problems.push(error.message))
  await page.goto(`${display.url}#/recordings`)
  const link = page.getByTestId(`recording-${name}`)
  assert.match(await link.innerText(), /Eve[^]*0:03:00/)
  await link.click()
  const canvas = page.getByTestId('recording-canvas')
  const halves = () => canvas.evaluate((canvas) => {
    const context = canvas.getContext('2d')
    return [100, 300].map((x) => [...context.getImageData(x, 150, 1, 1).data.slice(0, 3)])
  })
  const shows = (left, right) => until(`${left} and ${right}`, async () => {
    const seen = await halves()
    return String(seen) === String([left, right])
  }, 10)
  await shows(red, red)
  const seek = (seconds) => page.getByTestId('recording-place').evaluate((input, value) => {
    input.value = value
    input.dispatchEvent(new Event('input', { bubbles: true }))
  }, seconds * 1000)
  await page.getByTestId('recording-play').click()
  await seek(61)
  await shows(green, red)
  await seek(185)
  await shows(blue, yellow)
  await seek(130)
  await shows(blue, blue)
  await seek(59.9)
  await shows(red, red)
  await page.getByTestId('recording-speed').selectOption('8')
  await page.getByTestId('recording-play').click()
  await shows(green, red)

  display.files.set(`/recordings/${name}`, Buffer.from('VIDIREC2'))
  await page.reload()
  await page.getByTestId('recording-problem').waitFor()
  assert.deepEqual(problems, [])
  await context.close()
  await display.fall()
})
