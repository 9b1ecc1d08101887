// A user's browser: signing in, opening a desktop, reading the picture.
import { chromium } from 'playwright-core'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { results, screenshot, until, withoutAlpha } from './stack.mjs'

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
]

// `trust` false: the page CA is trusted for real by the caller (NSS), nothing is ignored.
// `flags` are Chromium's own; `options` go to the browser: language, size, colours.
export async function open({ ignoreCertificate = true, home, flags = [], ...options } = {}) {
  const profile = home ?? (await mkdtemp(join(tmpdir(), 'vidi-e2e-')))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: '/usr/bin/chromium',
    args: [...FLAGS, ...flags],
    ignoreHTTPSErrors: ignoreCertificate,
    viewport: { width: 1280, height: 900 },
    ...options,
  })
  context.setDefaultTimeout(20_000)
  const page = context.pages()[0] ?? (await context.newPage())
  const problems = []
  page.on('pageerror', (error) => problems.push(error.message))
  return {
    context, page, problems,
    async close() {
      await context.close()
      if (!home) await rm(profile, { recursive: true, force: true })
    },
  }
}

export async function signIn(page, url, user, password) {
  await page.goto(url)
  await page.getByTestId('login-user').fill(user)
  await page.getByTestId('login-password').fill(password)
  await page.getByTestId('login-submit').click()
}

export async function openFirstApp(page) {
  const app = page.getByTestId('app-list').locator('[data-testid^="app-"]').first()
  await app.waitFor()
  await app.click()
  await connected(page)
}

export async function connected(page, seconds = 60) {
  const canvas = page.getByTestId('desktop-canvas')
  await canvas.waitFor()
  await until('the picture', async () => (await canvas.getAttribute('data-state')) === 'connected' && Number(await canvas.getAttribute('data-frames')) > 0, seconds)
}

// A pixel of the guest's screen, as a place on the page.
export async function place(page, [x, y]) {
  const canvas = page.getByTestId('desktop-canvas')
  const box = await canvas.boundingBox()
  const [width, height] = await canvas.evaluate((canvas) => [canvas.width, canvas.height])
  return [box.x + ((x + 0.5) * box.width) / width, box.y + ((y + 0.5) * box.height) / height]
}

// Whether two pixels are one, as far as a tablet can tell: its 32,768 steps do not fall on pixels, and
// QEMU and the guest each round down.
export const near = ([x, y], [otherX, otherY]) => Math.abs(x - otherX) <= 2 && Math.abs(y - otherY) <= 2

// Types a line on the small guest and waits until that says, on its console, that it read the line.
export async function typeLine(page, console_, text) {
  const from = console_.lines.length
  await page.keyboard.type(text, { delay: 20 })
  await page.keyboard.press('Enter')
  await console_.said(new RegExp(`line ${text}$`), from)
}

export const photograph = (page, name) => page.screenshot({ path: join(results, `${name}.png`) })

// Keeps the canvas' pixels in the page; says whether they are the ones that were kept before. Only
// what is asked for leaves the page: that takes a quarter of a second, and the guest's clock ticks.
const keepPixels = (page) => page.evaluate(() => {
  const canvas = document.querySelector('[data-testid="desktop-canvas"], [data-testid="monitor-canvas"]')
  const copy = new OffscreenCanvas(canvas.width, canvas.height)
  const context = copy.getContext('2d', { willReadFrequently: true })
  context.drawImage(canvas, 0, 0)
  const kept = window.vidiKept
  window.vidiKept = context.getImageData(0, 0, canvas.width, canvas.height)
  if (kept?.width !== canvas.width || kept.height !== canvas.height) return false
  const [before, now] = [kept, window.vidiKept].map(({ data }) => new Uint32Array(data.buffer))
  return now.every((pixel, at) => pixel === before[at])
})

// An ImageData of the page: {width, height, rgb}.
async function readOut(image) {
  const { width, height, base64 } = await image.evaluate(({ data, width, height }) => {
    let text = ''
    for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768))
    return { width, height, base64: btoa(text) }
  })
  await image.dispose()
  return { width, height, rgb: withoutAlpha(Buffer.from(base64, 'base64')) }
}

// The pixels that were kept last.
const keptPixels = async (page) => readOut(await page.evaluateHandle(() => window.vidiKept))

// What a canvas shows that the page itself draws on.
export const canvasPixels = async (canvas) =>
  readOut(await canvas.evaluateHandle((canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)))

// What the canvas shows now.
export async function pixels(page) {
  await keepPixels(page)
  return keptPixels(page)
}

// So long after a part of the picture has come to rest it is exact (docs/display-protocol.md): half a second of
// rest, and as long for the portions in which it then comes; and a look's time.
const EXACT_MS = 1000 + 500
// What blinks or tells the time is less of the screen than this.
const LIVELY_SHARE = 0.01

// Compares canvas and libvirt's screenshot at a moment when nothing moves: canvas, screenshot, a
// quarter of a second, screenshot, canvas; both pairs equal, or another try. Gives what was seen.
// `domain` may also be what gives the guest's picture.
export async function quietMoment(page, domain, tries = 40) {
  const look = typeof domain === 'function' ? domain : () => screenshot(domain)
  let rested
  for (let attempt = 0; attempt < tries; attempt++) {
    await keepPixels(page)
    const first = await look()
    await delay(250)
    const second = await look()
    const same = await keepPixels(page)
    if (!same || !first.rgb.equals(second.rgb)) continue
    const seen = compare(await keptPixels(page), second)
    if (!rested || LIVELY_SHARE < differing(rested.rgb, second.rgb)) rested = { at: performance.now(), rgb: second.rgb }
    // Photos may come roughly first.
    if (seen.wrong === 0 || rested.at + EXACT_MS < performance.now()) return seen
  }
  throw new Error('no quiet moment was found: something moves all the time')
}

// The share of pixels in which two pictures differ, given as their RGB; of different sizes: all.
export function differing(one, other) {
  if (one.length !== other.length) return 1
  let wrong = 0
  for (let at = 0; at < one.length; at += 3) {
    if (one[at] !== other[at] || one[at + 1] !== other[at + 1] || one[at + 2] !== other[at + 2]) wrong++
  }
  return (wrong * 3) / one.length
}

function compare(canvas, guest) {
  if (canvas.width !== guest.width || canvas.height !== guest.height) {
    throw new Error(`the canvas is ${canvas.width}x${canvas.height}, the guest ${guest.width}x${guest.height}`)
  }
  const counts = new Map()
  let wrong = 0
  for (let at = 0; at < guest.rgb.length; at += 3) {
    const color = guest.rgb.readUIntBE(at, 3)
    counts.set(color, (counts.get(color) ?? 0) + 1)
    if (canvas.rgb.readUIntBE(at, 3) !== color) wrong++
  }
  const background = Math.max(...counts.values())
  return {
    wrong,
    colors: counts.size,
    foreground: 1 - background / (guest.width * guest.height),
    digest: guest.rgb,
  }
}
