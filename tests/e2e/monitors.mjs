// More monitors of the Debian desktop, each in a window: opened, used and closed as a person does.
import assert from 'node:assert/strict'
import { guestRun, screenshot, until } from './stack.mjs'
import { seriousFaults } from './axe.mjs'
import { near, photograph, quietMoment } from './browser.mjs'

// An emulated processor takes its time for a new mode.
const MODE_SECONDS = 120

// The guest's monitors that are on, by its own word: [x, y, width, height] by name.
export async function guestMonitors(domain) {
  const text = await guestRun(domain, 'xrandr')
  const on = text.matchAll(/^(\S+) connected.*? (\d+)x(\d+)\+(\d+)\+(\d+)/gm)
  return Object.fromEntries([...on].map(([, name, ...numbers]) => {
    const [width, height, x, y] = numbers.map(Number)
    return [name, [x, y, width, height]]
  }))
}

const monitorsAre = (domain, expected) => until(`the monitors ${JSON.stringify(expected)}`, async () =>
  JSON.stringify(await guestMonitors(domain)) === JSON.stringify(expected), MODE_SECONDS)

async function openPanel(page) {
  await page.getByTestId('toolbar-show').click()
  await page.getByTestId('toolbar-monitors').click()
}

// Opens one more monitor; gives its window.
export async function add(page) {
  await openPanel(page)
  const [window_] = await Promise.all([page.waitForEvent('popup'), page.getByTestId('monitor-add').click()])
  window_.setDefaultTimeout(20_000)
  await page.keyboard.press('Escape')
  await page.keyboard.press('Escape')
  return window_
}

// The canvas of a window: its pixels, its place.
export const canvasOf = (window_) => window_.locator('[data-testid="desktop-canvas"], [data-testid="monitor-canvas"]')

const pixelsOf = (window_) => canvasOf(window_).evaluate(({ width, height }) => [width, height])

// Compares a window with its part of the guest's screen, as libvirt has that.
async function compared(window_, domain, name, [x, y, width, height]) {
  const part = async () => {
    const whole = await screenshot(domain)
    const rows = Array.from({ length: height }, (_, row) => {
      const from = ((y + row) * whole.width + x) * 3
      return whole.rgb.subarray(from, from + width * 3)
    })
    return { width, height, rgb: Buffer.concat(rows) }
  }
  await until(`a canvas of ${width}x${height}`, async () => String(await pixelsOf(window_)) === String([width, height]))
  const seen = await quietMoment(window_, part)
  await photograph(window_, `debian-${name}`)
  return { name, wrong: seen.wrong, colors: seen.colors }
}

const sizeOf = (window_) => window_.evaluate(() => [innerWidth, innerHeight].map((side) => Math.round(side * devicePixelRatio)))

// What a small program in the guest, whose window is at this place, hears of pointer and keys.
async function listener(domain, [x, y]) {
  const log = '/tmp/heard'
  await guestRun(domain, `setsid stdbuf -oL xev -geometry 300x160+${x}+${y} -event button -event keyboard >${log} 2>&1 </dev/null &`)
  await until('its window', async () => (await guestRun(domain, 'xwininfo -name "Event Tester" || true')).includes('IsViewable'), MODE_SECONDS)
  return async (what, seconds = MODE_SECONDS) =>
    until(`${what} in the guest`, async () => what.exec(await guestRun(domain, `cat ${log}`)), seconds)
}

// Runs in the window: whether it takes a file that is dragged over it.
function dragged() {
  const dataTransfer = new DataTransfer()
  dataTransfer.items.add(new File(['text'], 'name'))
  return !document.querySelector('canvas').dispatchEvent(new DragEvent('dragover', { dataTransfer, bubbles: true, cancelable: true }))
}

// The whole way: a second monitor comes, shows its part, is used, goes; comes again and goes with the page's leave.
export async function comeAndGo(page, domain) {
  const alone = await guestMonitors(domain)
  const [[first, [, , width, height]]] = Object.entries(alone)
  const second = await add(page)
  const [wide, high] = await sizeOf(second)
  const name = first.replace(/\d+$/, (number) => Number(number) + 1)
  const both = { ...alone, [name]: [width, 0, wide & ~1, high] }
  await monitorsAre(domain, both)
  const seen = [
    await compared(page, domain, 'first-monitor', both[first]),
    await compared(second, domain, 'second-monitor', both[name]),
  ]
  assert.deepEqual(await seriousFaults(second), [])
  assert.ok(await second.evaluate(dragged), 'a file that is dropped there is not shown in place of the monitor')

  const heard = await listener(domain, [width + 40, 60])
  const at = [100, 120]
  const box = await canvasOf(second).boundingBox()
  // Now and then a click is lost in a busy guest (desktop.test.mjs, `launch`); a person clicks again.
  let press
  for (let tries = 0; !press && tries < 4; tries++) {
    await second.mouse.move(box.x + at[0], box.y + at[1])
    await second.mouse.click(box.x + at[0], box.y + at[1], { delay: 150 })
    press = await heard(/ButtonPress[^]*?root:\((\d+),(\d+)\)/, 15).catch(() => undefined)
    if (!press) console.log('desktop monitors: a click was lost')
  }
  assert.ok(press, 'a click in the second window is heard in the guest')
  assert.ok(near([Number(press[1]), Number(press[2])], [width + at[0], at[1]]), `the click was at ${press.slice(1)}`)
  await second.keyboard.press('v', { delay: 60 })
  await heard(/KeyPress[^]*?keysym 0x76, v[^]*?KeyRelease[^]*?keysym 0x76, v/)
  // What is held when the window loses the focus is let go.
  await second.keyboard.down('Shift')
  await heard(/KeyPress[^]*?Shift_L/)
  await second.evaluate(() => window.dispatchEvent(new Event('blur')))
  await heard(/KeyRelease[^]*?Shift_L/)
  await second.keyboard.up('Shift')
  seen.push(await compared(second, domain, 'second-monitor-used', both[name]))
  await guestRun(domain, 'kill $(pidof xev)')

  await second.close()
  await monitorsAre(domain, alone)
  seen.push(await compared(page, domain, 'first-monitor-alone', alone[first]))

  const again = await add(page)
  await monitorsAre(domain, both)
  seen.push(await compared(again, domain, 'second-monitor-again', both[name]))
  await openPanel(page)
  await Promise.all([again.waitForEvent('close'), page.getByTestId('monitor-close-2').click()])
  await page.keyboard.press('Escape')
  await page.keyboard.press('Escape')
  await page.getByTestId('toolbar').waitFor({ state: 'detached' })
  await monitorsAre(domain, alone)
  return seen
}
