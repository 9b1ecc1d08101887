// A user works on a Debian desktop with mouse and keyboard: writes a text, moves windows, copies and
// pastes, looks at files, uses the terminal, makes the browser's window larger. What the browser shows is
// the guest's screen in every pixel; what was typed is on the guest's disk.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { join } from 'node:path'
import { domains, guestFile, guestRun, metric, quickstart, results, until, useVidictl } from './stack.mjs'
import { near, open, openFirstApp, photograph, place, quietMoment, signIn } from './browser.mjs'
import { makeFilm, makeWebPage, openInGuest } from './looks.mjs'
import * as monitors from './monitors.mjs'
import * as sound from './sound.mjs'
import { steps } from './steps.mjs'

const COLORS_MIN = 1000
// The place for the picture: the guest's screen follows it.
const SCREEN = [1024, 768]
// Where the template's panel has its buttons, on a screen of that size.
const PANEL = { files: [95, 750], terminal: [127, 750], editor: [161, 750] }
// A film of 50 frames on an emulated processor: of most of them something is seen.
const FILM_FRAMES_MIN = 10
// An emulated processor on a busy machine takes its time to start a program.
const PROGRAM_SECONDS = 240

let access, browser, page, domain
const moments = []
const step = steps(() => page && photograph(page, 'desktop-failure').catch(() => {}))

before(async () => {
  access = await quickstart('up', '--template', 'desktop')
  useVidictl(access.vidictl)
  const running = await domains()
  assert.equal(running.length, 1, 'quickstart leaves exactly one desktop running')
  domain = running[0]
  const [width, height] = SCREEN
  const permissions = ['clipboard-read', 'clipboard-write', 'microphone']
  browser = await open({ viewport: { width, height }, permissions, flags: sound.FLAGS })
  page = browser.page
  await sound.listen(page)
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

// As a hand does it: there first, then the press. Programs of the emulated guest lose some clicks that its kernel
// and its X server have (`xinput test-xi2` shows press and release at the right place): of 15 without this pause 5,
// of 12 with it none, and one now and then.
async function click(at) {
  await page.mouse.move(...(await place(page, at)))
  await delay(250)
  await page.mouse.down()
  await delay(150)
  await page.mouse.up()
}

// Drags the window by its title bar; gives where it is then. Before each part the guest says that it has
// taken the one before: QEMU's USB tablet lays a movement over what a busy guest has not fetched yet
// (hw/input/hid.c, hid_pointer_sync), be it the movement before or the button. A guest that is not waited
// for hears of a press, or of letting go, where the pointer went later; and where all movements become
// one the window stays: Openbox begins to drag with the first and moves with the next.
async function drag(title, [right, down]) {
  const from = await standing(title)
  const bar = [from.x + 200, from.y - 12]
  const share = (part) => [bar[0] + right * part, bar[1] + down * part]
  const moveTo = async (part) => page.mouse.move(...(await place(page, share(part))))
  const follows = (what, check) => until(`${what} of ${title} by ${right},${down}`, async () => {
    const now = await activeWindow()
    return now && check(now) && now
  })
  const movements = 12
  const begin = 3
  try {
    await moveTo(0)
    await page.mouse.down()
    await pointerIs(bar, true)
    for (let count = 1; count <= begin; count++) {
      await moveTo(count / movements)
      await pointerIs(share(count / movements), true)
    }
    await follows('the first movement', ({ x, y }) => x !== from.x || y !== from.y)
    // From here on at a hand's pace. Openbox holds the window where the pointer was when the drag began for
    // it, which may be the first movement: what counts is how far it goes with the pointer from now on.
    const held = await standing(title)
    const goal = [held.x + right * (1 - begin / movements), held.y + down * (1 - begin / movements)]
    for (let count = begin + 1; count <= movements; count++) {
      await delay(40)
      await moveTo(count / movements)
    }
    await follows('the whole movement', ({ x, y }) => near([x, y], goal))
    await page.mouse.up()
    await pointerIs(share(1), false)
    const to = await standing(title)
    assert.ok(near([to.x, to.y], goal), 'it stays where it was let go')
    return to
  } catch (error) {
    const now = await Promise.all([activeWindow(), pointer()]).catch(({ message }) => message)
    throw new Error(`${error.message}; it was ${JSON.stringify(from)}, window and pointer are ${JSON.stringify(now)}`)
  }
}

// The tablet by the word of the guest's kernel (linux/input.h): its place of 32,768, its left button.
const TABLET = `perl -e '
  for (glob "/dev/input/event*") {
    open my $device, "<", $_ or next;
    my ($name, $x, $y, $keys) = map { "\\0" x $_ } 64, 24, 24, 96;
    ioctl($device, 0x80404506, $name); # EVIOCGNAME
    next unless $name =~ /USB Tablet/;
    ioctl($device, 0x80184540, $x); # EVIOCGABS(ABS_X)
    ioctl($device, 0x80184541, $y);
    ioctl($device, 0x80604518, $keys); # EVIOCGKEY
    printf "%d %d %d\\n", unpack("l", $x), unpack("l", $y), vec($keys, 0x110, 1); # BTN_LEFT
  }'`
async function pointer() {
  const [x, y, held] = (await guestRun(domain, TABLET)).trim().split(' ').map(Number)
  const [width, height] = await page.getByTestId('desktop-canvas').evaluate((canvas) => [canvas.width, canvas.height])
  return { at: [Math.round((x * width) / 0x8000), Math.round((y * height) / 0x8000)], held: held === 1 }
}

// The guest has heard that the pointer is there, and whether its button is held.
async function pointerIs(at, held) {
  let now
  await until(`the pointer at ${at}, its button ${held ? 'held' : 'let go'}`, async () => {
    now = await pointer()
    return near(now.at, at) && now.held === held
  })
}

// The guest's screen, by its own word.
async function guestScreen() {
  const text = await guestRun(domain, 'xwininfo -root')
  return ['Width', 'Height'].map((name) => Number(new RegExp(`${name}: +(\\d+)`).exec(text)?.[1]))
}

// The canvas: how many pixels it has, and the place it takes on the page.
async function canvasSize() {
  const canvas = page.getByTestId('desktop-canvas')
  const { x, y, width, height } = await canvas.boundingBox()
  return { pixels: await canvas.evaluate(({ width, height }) => [width, height]), box: [x, y, width, height] }
}

// Keys together, held as long as a hand does.
const chord = (keys) => page.keyboard.press(keys, { delay: 60 })

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
async function activeWindow() {
  const text = await guestRun(domain, 'xwininfo -id $(xprop -root _NET_ACTIVE_WINDOW | grep -o 0x.*)')
  const title = /xwininfo: Window id: \S+ "(.*)"/.exec(text)?.[1]
  const number = (name) => Number(new RegExp(`${name}: +(-?\\d+)`).exec(text)?.[1])
  return title && { title, x: number('Absolute upper-left X'), y: number('Absolute upper-left Y'), width: number('Width'), height: number('Height') }
}

function active(title, seconds = PROGRAM_SECONDS) {
  return until(`the window ${title}`, async () => {
    const now = await activeWindow()
    return title.test(now?.title ?? '') && now
  }, seconds)
}

// Starts a program from the panel. Now and then a launcher does nothing for a click, on an idle guest too; a
// person who sees nothing for a minute clicks again.
async function launch(at, title) {
  for (const seconds of [60, 60]) {
    await click(at)
    const found = await active(title, seconds).catch(() => undefined)
    if (found) return found
    console.log(`desktop: no window ${title} after a click at ${at}; the guest's pointer: ${JSON.stringify(await pointer())}`)
  }
  await click(at)
  return active(title)
}

// The same, when it is twice in the same place.
function standing(title) {
  return until(`the window ${title} at rest`, async () => {
    const [first, second] = [await active(title), await active(title)]
    return first.x === second.x && first.y === second.y && second
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

const NOTE = '/home/user/Note of Today.txt'

step('a text typed into the editor and saved is on the disk of the guest', async () => {
  await launch(PANEL.editor, /Mousepad/)
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
  // GTK's dialog takes no answer while it still reads the folder; a user who sees it there clicks again.
  const saved = await until('the file', async () => {
    const there = await guestFile(domain, NOTE).catch(() => '')
    if (there) return there
    const dialog = await activeWindow()
    if (dialog?.title !== 'Save As') return undefined
    await click([dialog.x + dialog.width - 48, dialog.y + dialog.height - 20])
    await delay(3000)
  }, PROGRAM_SECONDS)
  assert.equal(saved, TEXT)
})

step('a window that is dragged leaves nothing behind and nothing out', async () => {
  const titles = 'for id in $(xprop -root _NET_CLIENT_LIST | grep -o "0x[0-9a-f]*"); do xprop -id $id WM_NAME; done'
  await until('the end of the dialog', async () => !(await guestRun(domain, titles)).includes('"Save As"'))
  await active(/Mousepad/)
  await atRest('mousepad')
  await drag(/Mousepad/, [-140, 60])
  await exact('moved')
  await drag(/Mousepad/, [260, -90])
  await exact('moved-again')
})

step('what is copied in the guest is in the clipboard of the browser', async () => {
  await active(/Mousepad/)
  await atRest('mousepad')
  await chord('Control+a')
  await chord('Control+c')
  await until('the text in the clipboard', async () => (await page.evaluate(() => navigator.clipboard.readText())) === TEXT)
})

// No keyboard of the test's has these letters.
const PASTED = 'From elsewhere: ñandú, 10 €, Grüße, 漢字, ✓\nand a second line\n'

step('what is copied elsewhere is pasted into the guest, and on its disk when it is saved', async () => {
  await page.evaluate((text) => navigator.clipboard.writeText(text), PASTED)
  await chord('Control+a')
  await chord('Control+v')
  await active(/^\*.*Mousepad/)
  await atRest('mousepad')
  await chord('Control+s')
  await until('the pasted text on the disk', async () => (await guestFile(domain, NOTE)) === PASTED).catch(() => {})
  assert.equal(await guestFile(domain, NOTE), PASTED)
})

// No key of any layout types these.
const COMPOSED = '漢字と😀'

step('what an input method composed is written in the guest, in order with keys, and its clipboard is as before', async () => {
  const own = await page.evaluate(() => navigator.clipboard.readText())
  const whole = (await canvasSize()).box
  await chord('Control+a')
  await page.getByTestId('toolbar-show').click()
  await page.getByTestId('toolbar-typing').click()
  const devtools = await page.context().newCDPSession(page)
  await devtools.send('Input.imeSetComposition', { text: 'かん', selectionStart: 2, selectionEnd: 2 })
  await page.getByTestId('desktop-composing').waitFor()
  await devtools.send('Input.insertText', { text: COMPOSED })
  await page.keyboard.press('Enter')
  await devtools.send('Input.insertText', { text: 'ñandú' })
  await active(/^\*.*Mousepad/)
  const written = `${COMPOSED}\nñandú`
  // The text is with the program when the guest has fetched it; a key waits for that, saving too.
  await chord('Control+s')
  await until('the composed text on the disk', async () => (await guestFile(domain, NOTE)).trimEnd() === written, PROGRAM_SECONDS)
    .catch(() => {})
  assert.equal((await guestFile(domain, NOTE)).trimEnd(), written)
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), own, 'it has no part in the clipboard of the person')
  await page.getByTestId('screen-keys-close').click()
  // The row of keys has moved the picture: what is clicked next is where it lies when that is over.
  await until('the picture where it was', async () => String((await canvasSize()).box) === String(whole))
})

step('the file manager shows the file', async () => {
  await launch(PANEL.files, /^user$/)
  await atRest('pcmanfm')
  await exact('files')
})

step('a terminal that scrolls is right to the last pixel', async () => {
  await launch(PANEL.terminal, /^user@/)
  await type('ls --color=always -l /usr/lib /etc; seq 200; echo Done\n')
  // The prompt is back when the shell has no child left.
  await until('the prompt', async () => (await guestRun(domain, 'pgrep -u user -P $(pgrep -u user -n bash) || echo none')).trim() === 'none')
  await exact('scrolled')
  await page.keyboard.press('Shift+PageUp')
  await exact('scrolled-back')
})

// Nothing new came for a second.
async function still() {
  await until('a still picture', async () => {
    const before = await frames()
    await delay(1000)
    return (await frames()) === before
  }, PROGRAM_SECONDS)
}

step('a web page with a photo, and a film once it is over, are right to the last pixel', async () => {
  await openInGuest(domain, await makeWebPage(domain, page))
  await active(/^A page/)
  await still()
  await exact('web-page')
  const address = await makeFilm(domain)
  const before = await frames()
  await openInGuest(domain, address)
  await active(/^A film/)
  await still()
  assert.ok((await frames()) - before >= FILM_FRAMES_MIN, 'the film was seen to move')
  await exact('film')
})

step('the screen of the guest follows the window, pixel for pixel', async () => {
  for (const size of [[1280, 900], SCREEN]) {
    const [width, height] = size
    await page.setViewportSize({ width, height })
    await until(`a screen of ${width}x${height}`, async () => String(await guestScreen()) === String(size), PROGRAM_SECONDS)
    await until('a canvas of that size', async () => String((await canvasSize()).pixels) === String(size))
    assert.deepEqual((await canvasSize()).box, [0, 0, width, height])
    await exact(`window-${width}x${height}`)
  }
})

step('a second monitor is a window of its own, with its own pixels, pointer and keys, and goes with it', async () => {
  for (const { name, wrong, colors } of await monitors.comeAndGo(page, domain)) {
    moments.push({ name, wrong, colors })
    console.log(`desktop ${name}: ${colors} colours, ${wrong} wrong pixels`)
    assert.equal(wrong, 0, `${name}: ${wrong} pixels differ from the guest's`)
  }
  await until('the first monitor alone', async () => String(await guestScreen()) === String(SCREEN), PROGRAM_SECONDS)
  await exact('one-monitor')
})

step('what the guest plays is heard in the browser', async () => {
  const { hertz, decibels } = await sound.playsTone(page, domain, 1000)
  console.log(`desktop sound: ${hertz.toFixed(0)} Hz at ${decibels.toFixed(0)} dB`)
})

step('the guest hears the microphone, once it is switched on', async () => {
  console.log(`desktop microphone: the loudest sample is ${await sound.hearsMicrophone(page, domain)}`)
})

step('files that are dropped and chosen are in the guest, byte for byte', async () => {
  const speed = await sound.takesFiles(page, domain, 3 * 1024 * 1024)
  console.log(`desktop files: ${(speed / 1e6).toFixed(1)} MB/s`)
})

step('everything the guest drew was understood', async () => {
  assert.equal(await metric('gateway', 'vidi_gateway_unsupported_draws_total'), 0)
  assert.deepEqual(browser.problems, [], 'no page error')
})
