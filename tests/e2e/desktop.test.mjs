// A user works on a Debian desktop with mouse and keyboard: writes a text, moves windows, looks at
// files, uses the terminal. What the browser shows is the guest's screen in every pixel; what was
// typed is on the guest's disk.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { join } from 'node:path'
import { domains, guestFile, guestRun, metric, quickstart, results, until, useVidictl } from './stack.mjs'
import { open, openFirstApp, photograph, quietMoment, signIn } from './browser.mjs'

const COLORS_MIN = 1000
// Where the template's panel has its buttons, on a screen of 1024x768.
const PANEL = { files: [95, 750], terminal: [127, 750], editor: [161, 750] }
// An emulated processor on a busy machine takes its time to start a program.
const PROGRAM_SECONDS = 120

let access, browser, page, domain
let broken = false
const moments = []

// Each test goes on where the one before ended: after a failure the rest would only repeat it.
function step(name, body) {
  test(name, async (t) => {
    if (broken) return t.skip('an earlier step failed')
    try {
      await body()
    } catch (error) {
      broken = true
      if (page) await photograph(page, 'desktop-failure').catch(() => {})
      throw error
    }
  })
}

before(async () => {
  access = await quickstart('up', '--template', 'desktop')
  useVidictl(access.vidictl)
  const running = await domains()
  assert.equal(running.length, 1, 'quickstart leaves exactly one desktop running')
  domain = running[0]
  browser = await open()
  page = browser.page
})

after(async () => {
  await browser?.close()
  await writeFile(join(results, 'desktop-moments.json'), JSON.stringify(moments, null, 2))
})

// The canvas equals the guest's screen, and there is something to be equal.
async function exact(name) {
  const seen = await quietMoment(page, domain)
  moments.push({ name, wrong: seen.wrong, colors: seen.colors, foreground: seen.foreground })
  console.log(`desktop ${name}: ${seen.colors} colours, ${seen.wrong} wrong pixels`)
  await photograph(page, `debian-${name}`)
  assert.equal(seen.wrong, 0, `${name}: ${seen.wrong} pixels of the canvas differ from the guest's`)
  assert.ok(seen.colors >= COLORS_MIN, `${name}: ${seen.colors} colours`)
  return seen
}

// A place on the guest's screen, on the page.
async function place([x, y]) {
  const canvas = page.getByTestId('desktop-canvas')
  const box = await canvas.boundingBox()
  const [width, height] = await canvas.evaluate((canvas) => [canvas.width, canvas.height])
  return [box.x + ((x + 0.5) * box.width) / width, box.y + ((y + 0.5) * box.height) / height]
}

async function click(at) {
  await page.mouse.move(...(await place(at)))
  await page.mouse.click(...(await place(at)), { delay: 150 })
}

// At a hand's pace; lets go when the screen has followed.
async function drag(from, to) {
  const steps = 12
  await page.mouse.move(...(await place(from)))
  await page.mouse.down()
  const seen = await frames()
  for (let step = 1; step <= steps; step++) {
    await delay(40)
    const share = step / steps
    await page.mouse.move(...(await place([from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share])))
  }
  await echoed(seen)
  await page.mouse.up()
}

// A tablet's 32,768 steps do not fall on pixels: QEMU and the guest each round down.
const near = (one, other) => Math.abs(one - other) <= 2

// As fingers do: capitals and the upper signs of a US keyboard with Shift.
const UPPER = { '!': '1', '@': '2', '#': '3', $: '4', '%': '5', '^': '6', '&': '7', '*': '8', '(': '9', ')': '0',
  _: '-', '+': '=', '{': '[', '}': ']', '|': '\\', ':': ';', '"': "'", '<': ',', '>': '.', '?': '/', '~': '`' }
async function type(text) {
  for (const word of text.match(/\S+|\s+/g)) {
    const seen = await frames()
    await typeWord(word)
    await echoed(seen)
  }
}

async function typeWord(word) {
  for (const letter of word) {
    const key = letter === '\n' ? 'Enter' : (UPPER[letter] ?? letter.toLowerCase())
    const shifted = letter in UPPER || letter !== letter.toLowerCase()
    if (shifted) await page.keyboard.down('Shift')
    await page.keyboard.press(key, { delay: 20 })
    if (shifted) await page.keyboard.up('Shift')
  }
}

const frames = async () => Number(await page.getByTestId('desktop-canvas').getAttribute('data-frames'))

// Whoever types looks at the screen, and goes on when it shows the word: a guest whose processor is
// emulated on a busy machine forgets keys (evdev's SYN_DROPPED) that no hand types as fast.
async function echoed(seen) {
  let last = await until('an echo', async () => { const now = await frames(); return now > seen && now })
  for (;;) {
    await delay(120)
    const now = await frames()
    if (now === last) return
    last = now
  }
}

// The window with the keyboard, by the guest's own word: its title and where its content lies.
async function active(title) {
  return until(`the window ${title}`, async () => {
    const text = await guestRun(domain, 'xwininfo -id $(xprop -root _NET_ACTIVE_WINDOW | grep -o 0x.*)')
    const number = (name) => Number(new RegExp(`${name}: +(-?\\d+)`).exec(text)[1])
    if (!title.test(/xwininfo: Window id: \S+ "(.*)"/.exec(text)?.[1] ?? '')) return undefined
    return { x: number('Absolute upper-left X'), y: number('Absolute upper-left Y'), width: number('Width'), height: number('Height') }
  }, PROGRAM_SECONDS)
}

// The program waits for its user: twice seen asleep, no work done between. A window that is there
// before its program is ready loses what is typed into it.
async function atRest(program) {
  const look = `for time in 1 2; do cut -d ' ' -f 3,14,15 /proc/$(pidof -s ${program})/stat; sleep 0.7; done`
  await until(`${program} at rest`, async () => {
    const [first, second] = (await guestRun(domain, look)).split('\n')
    return first.startsWith('S') && first === second
  }, PROGRAM_SECONDS)
}

step('a click opens the Debian desktop, and the canvas equals the guest', async () => {
  await signIn(page, access.url, access.user, access.password)
  await openFirstApp(page)
  await exact('opened')
})

step('the desktop has an identity of its own', async () => {
  const uuid = domain.replace(/^vidi-/, '')
  assert.equal((await guestFile(domain, '/etc/machine-id')).trim(), uuid.replaceAll('-', ''))
  assert.equal((await guestRun(domain, 'hostname')).trim(), `vidi-${uuid.slice(0, 8)}`)
  assert.equal((await guestRun(domain, 'systemctl --failed --no-legend')).trim(), '', 'every unit of the guest is fine')
})

const TEXT = 'Dear Vidi, 1234567890 pixels & none is WRONG!\n'
  + 'The quick brown fox jumps over the lazy dog; "Zwei", [3] {4} <5> ~6 | 7^8 = 9%?\n'
  + "@home: it's #1, $2.50 * (3 + 4) / 5 - x_y \\ `ok`\n"

step('a text typed into the editor and saved is on the disk of the guest', async () => {
  await click(PANEL.editor)
  await active(/Mousepad/)
  await atRest('mousepad')
  await type(TEXT)
  await active(/^\*.*Mousepad/)
  await atRest('mousepad')
  await exact('typed')
  await page.keyboard.press('Control+s')
  await active(/^Save As$/)
  await atRest('mousepad')
  await type('Note of Today.txt')
  await atRest('mousepad')
  // Where it lies now: it grows while its list of files comes.
  const dialog = await active(/^Save As$/)
  const path = '/home/user/Note of Today.txt'
  // GTK's dialog takes no answer while it still reads the folder; a user clicks again.
  const saved = await until('the file', async () => {
    const there = await guestFile(domain, path).catch(() => '')
    if (there) return there
    await click([dialog.x + dialog.width - 48, dialog.y + dialog.height - 20])
    await delay(3000)
  }, PROGRAM_SECONDS)
  assert.equal(saved, TEXT)
})

step('a window that is dragged leaves nothing behind and nothing out', async () => {
  const before_ = await active(/Mousepad/)
  const bar = [before_.x + 200, before_.y - 12]
  await drag(bar, [bar[0] - 140, bar[1] + 60])
  let now
  const moved = await until(`the window at ${before_.x - 140},${before_.y + 60}`, async () => {
    now = await active(/Mousepad/)
    return near(now.x, before_.x - 140) && near(now.y, before_.y + 60) && now
  }).catch((error) => {
    throw new Error(`${error.message}; it is at ${now?.x},${now?.y}`)
  })
  await exact('moved')
  const again = [moved.x + 200, moved.y - 12]
  await drag(again, [again[0] + 260, again[1] - 90])
  await exact('moved-again')
})

step('the file manager shows the file', async () => {
  await click(PANEL.files)
  await active(/^user$/)
  await atRest('pcmanfm')
  await exact('files')
})

step('a terminal that scrolls is right to the last pixel', async () => {
  await click(PANEL.terminal)
  await active(/^user@/)
  await type('ls --color=always -l /usr/lib /etc; seq 200; echo Done\n')
  // The prompt is back when the shell has no child left.
  await until('the prompt', async () => (await guestRun(domain, 'pgrep -u user -P $(pgrep -u user -n bash) || echo none')).trim() === 'none')
  await exact('scrolled')
  await page.keyboard.press('Shift+PageUp')
  await exact('scrolled-back')
})

step('everything the guest drew was understood', async () => {
  assert.equal(await metric('gateway', 'vidi_gateway_unsupported_draws_total'), 0)
  assert.deepEqual(browser.problems, [], 'no page error')
})
