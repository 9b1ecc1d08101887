// What a page shows, seen from inside: the numbers that the replayed screen draws as black and white squares,
// and when each was first seen.
import { until } from '../e2e/stack.mjs'

// As vidi-replay has them: where the frame's number and the count of keys stand.
export const FRAME_AT = [16, 16]
export const KEYS_AT = [16, 48]

// Waits until `wanted` accepts what was seen, [[number, ms]]. The page's rules let nobody make code of
// text, which Playwright's own way to wait does.
export const untilSeen = (page, what, wanted, seconds = 30) => until(what, async () => wanted((await watched(page)).seen), seconds)

// Watches the number at this place of the guest's screen from now on; with it the page's key presses.
export const watchNumber = (page, [x, y]) => page.evaluate(watch, { x, y })

// {seen: [[number, ms]], keys: [ms]}, times of the page's own clock.
export const watched = (page) => page.evaluate(() => window.vidiWatch && { seen: window.vidiWatch.seen, keys: window.vidiWatch.keys })
export const stopWatching = (page) => page.evaluate(() => (window.vidiWatch.over = true))

// Runs in the page: one look per frame that the browser presents.
function watch({ x, y }) {
  const [BITS, BIT] = [16, 16]
  if (window.vidiWatch) window.vidiWatch.over = true
  const state = (window.vidiWatch = { seen: [], keys: [], over: false })
  if (!window.vidiKeys) {
    window.vidiKeys = true
    addEventListener('keydown', (event) => window.vidiWatch.keys.push(event.timeStamp), { capture: true })
  }
  const copy = document.createElement('canvas')
  copy.width = BITS * BIT
  copy.height = BIT
  const context = copy.getContext('2d', { willReadFrequently: true })

  function number() {
    // The screen, and not a picture in a corner of the page.
    const canvas = [...document.querySelectorAll('canvas')].sort((one, other) => other.width * other.height - one.width * one.height)[0]
    if (!canvas?.width) return undefined
    context.drawImage(canvas, x, y, copy.width, copy.height, 0, 0, copy.width, copy.height)
    const { data } = context.getImageData(0, BIT / 2, copy.width, 1)
    let found = 0
    for (let bit = 0; bit < BITS; bit++) if (data[(bit * BIT + BIT / 2) * 4 + 1] < 128) found |= 1 << bit
    return found
  }

  const look = () => {
    if (state.over) return
    const now = performance.now()
    const found = number()
    if (found !== undefined && found !== state.seen.at(-1)?.[0]) state.seen.push([found, now])
    requestAnimationFrame(look)
  }
  look()
}

// A value below which this part of the values lie.
export function quantile(values, part) {
  if (values.length === 0) throw new Error('there are no values')
  const sorted = [...values].sort((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]
}
