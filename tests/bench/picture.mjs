// How long a person waits for a picture, measured inside the page: from a click, or from the start of
// a navigation, to the first frame whose canvas shows more than COLORS_MIN colours.

// A frame with more than these is a picture and not a background, a veil or a boot message.
export const COLORS_MIN = 64
const PICTURE_SECONDS_MAX = 60

// From a real click on `locator` to the picture, in milliseconds.
export async function fromClick(page, locator) {
  await page.evaluate(watch, options('click'))
  await locator.click()
  return outcome(page)
}

// From the start of the navigation to `url` to the picture, in milliseconds.
export async function fromNavigation(page, url) {
  await page.goto(url, { waitUntil: 'commit' })
  return outcome(page)
}

// Makes every later page of `context` measure from its own navigation's start.
export const watchNavigations = (context) => context.addInitScript(watch, options('navigation'))

const options = (from) => ({ from, colorsMin: COLORS_MIN, secondsMax: PICTURE_SECONDS_MAX })

async function outcome(page) {
  const value = await page.evaluate(() => window.vidiBench)
  if (typeof value !== 'number') throw new Error(value)
  return value
}

// Runs in the page. The canvases are looked at once per presented frame, in a small copy without
// smoothing: every 4th pixel or so, so that looking costs a millisecond and not the whole frame.
function watch({ from, colorsMin, secondsMax }) {
  const copy = new OffscreenCanvas(256, 192)
  const context = copy.getContext('2d', { willReadFrequently: true })
  context.imageSmoothingEnabled = false

  function shows(canvas) {
    if (!canvas.width || !canvas.height) return false
    context.clearRect(0, 0, copy.width, copy.height)
    context.drawImage(canvas, 0, 0, copy.width, copy.height)
    const pixels = new Uint32Array(context.getImageData(0, 0, copy.width, copy.height).data.buffer)
    const seen = new Set()
    for (const pixel of pixels) {
      seen.add(pixel)
      if (colorsMin < seen.size) return true
    }
    return false
  }

  window.vidiBench = new Promise((resolve) => {
    let start = from === 'navigation' ? 0 : undefined
    if (start === undefined) {
      addEventListener('click', (event) => (start ??= event.timeStamp), { capture: true, once: true })
    }
    const end = performance.now() + secondsMax * 1000
    const look = () => {
      const now = performance.now()
      if (start !== undefined && [...document.querySelectorAll('canvas')].some(shows)) {
        resolve(performance.now() - start)
      } else if (now > end) {
        resolve(`no picture came within ${secondsMax} s`)
      } else {
        requestAnimationFrame(look)
      }
    }
    requestAnimationFrame(look)
  })
}
