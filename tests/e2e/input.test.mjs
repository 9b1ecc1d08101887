// What hands do: keys of other layouts and systems, input methods, fingers, key combinations, a guest
// without an absolute mouse. The guest says on its console what it received.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Console, domains, quickstart, results, until, virsh } from './stack.mjs'
import { seriousFaults } from './axe.mjs'
import { near, open, openFirstApp, photograph, place, signIn } from './browser.mjs'
import { steps } from './steps.mjs'

// linux/input-event-codes.h
const KEY = {
  esc: 1, tab: 15, q: 16, e: 18, enter: 28, ctrl: 29, a: 30, d: 32, g: 34, l: 38, shift: 42, c: 46, alt: 56, caps: 58,
  f1: 59, f4: 62, f7: 65, altGr: 100, up: 103, delete: 111, win: 125, print: 99, two: 3, backspace: 14, hangul: 122,
  left: 272, right: 273,
}

let access, browser, page, cdp, domain, console_
const step = steps(() => page && photograph(page, 'input-failure').catch(() => {}))

before(async () => {
  access = await quickstart('up')
  domain = (await domains())[0]
  console_ = await Console.open(domain)
  browser = await open({ hasTouch: true })
  page = browser.page
  cdp = await browser.context.newCDPSession(page)
  // Windows has the strangest keyboard events.
  const userAgent = await page.evaluate(() => navigator.userAgent)
  await cdp.send('Emulation.setUserAgentOverride', { userAgent, platform: 'Win32' })
  await signIn(page, access.url, access.user, access.password)
  await openFirstApp(page)
})

after(async () => {
  // Other files' steps work on this guest too, also after one that failed here.
  await giveTabletBack()
  console_?.close()
  await browser?.close()
})

const canvas = () => page.getByTestId('desktop-canvas')

// Presses a button of the toolbar, which may be away.
async function tool(testid) {
  if (!(await page.getByTestId('toolbar').isVisible())) await page.getByTestId('toolbar-show').click()
  await page.getByTestId(testid).click()
}

// Opens a panel of the toolbar, unless it is open.
async function panel(testid) {
  if (!(await page.getByTestId(`${testid}-panel`).isVisible())) await tool(testid)
}

// What the guest hears of keys and buttons while `act` runs, until it has heard `count` of them:
// [code, down], as words like '+30 -30'.
async function heard(count, act) {
  const from = console_.lines.length
  await act()
  const keys = () => console_.lines.slice(from).flatMap((line) => {
    const match = /key (\d+) (down|up)$/.exec(line)
    return match ? [`${match[2] === 'down' ? '+' : '-'}${match[1]}`] : []
  })
  await until(`${count} strokes`, () => keys().length >= count, 20).catch((error) => {
    throw new Error(`${error.message}; heard: ${keys().join(' ')}`)
  })
  // Whatever comes too much comes at once.
  await delay(150)
  return keys().join(' ')
}

const words = (...strokes) => strokes.map(([sign, key]) => `${sign}${KEY[key]}`).join(' ')
const tapOf = (...keys) => words(...keys.map((key) => ['+', key]), ...keys.toReversed().map((key) => ['-', key]))

// A key event as the browser's own process sends it: Windows' AltGr, a Korean keyboard, a screen's keyboard.
const key = (type, options) => cdp.send('Input.dispatchKeyEvent', { type, ...options })

step('letters of another layout are the keys in their places', async () => {
  await heard(2, () => canvas().click({ position: { x: 5, y: 5 } }))
  // A French keyboard types a where others have q.
  const seen = await heard(2, async () => {
    await key('keyDown', { code: 'KeyQ', key: 'a', text: 'a', windowsVirtualKeyCode: 65 })
    await key('keyUp', { code: 'KeyQ', key: 'a', windowsVirtualKeyCode: 65 })
  })
  assert.equal(seen, tapOf('q'))
})

step('AltGr without the Control that Windows adds, dead keys and the Korean key arrive as themselves', async () => {
  const seen = await heard(8, async () => {
    await key('rawKeyDown', { code: 'ControlLeft', key: 'Control', location: 1, windowsVirtualKeyCode: 17 })
    await key('rawKeyDown', { code: 'AltRight', key: 'AltGraph', location: 2, windowsVirtualKeyCode: 18 })
    await key('keyDown', { code: 'KeyQ', key: '@', text: '@', windowsVirtualKeyCode: 81 })
    await key('keyUp', { code: 'KeyQ', key: '@', windowsVirtualKeyCode: 81 })
    await key('keyUp', { code: 'ControlLeft', key: 'Control', location: 1, windowsVirtualKeyCode: 17 })
    await key('keyUp', { code: 'AltRight', key: 'AltGraph', location: 2, windowsVirtualKeyCode: 18 })
    await key('rawKeyDown', { code: 'KeyE', key: 'Dead', windowsVirtualKeyCode: 69 })
    await key('keyUp', { code: 'KeyE', key: 'Dead', windowsVirtualKeyCode: 69 })
    await key('rawKeyDown', { code: 'Lang1', key: 'HangulMode', windowsVirtualKeyCode: 21 })
    await key('keyUp', { code: 'Lang1', key: 'HangulMode', windowsVirtualKeyCode: 21 })
  })
  assert.equal(seen, `${words(['+', 'altGr'], ['+', 'q'], ['-', 'q'], ['-', 'altGr'])} ${tapOf('e')} ${tapOf('hangul')}`)
})

step('keys that are held are let go when the person goes elsewhere', async () => {
  const seen = await heard(4, async () => {
    await page.keyboard.down('Control')
    await page.keyboard.down('a')
    await canvas().evaluate((element) => element.blur())
  })
  assert.equal(seen.split(' ').toSorted().join(' '), ['+29', '+30', '-29', '-30'].toSorted().join(' '))
  await page.keyboard.up('a')
  await page.keyboard.up('Control')
  await canvas().focus()
})

step('combinations go from the menu, by keyboard alone', async () => {
  await page.keyboard.down('Control')
  await page.keyboard.down('Alt')
  await page.keyboard.down('Shift')
  await page.keyboard.up('Shift')
  await page.keyboard.up('Alt')
  await page.keyboard.up('Control')
  await page.getByTestId('toolbar').waitFor()
  // From the first button to that of the keys.
  await until('the button of the keys', async () => {
    const at = await page.evaluate(() => document.activeElement?.dataset?.testid)
    if (at === 'toolbar-keys') return true
    await page.keyboard.press('ArrowRight')
    return false
  }, 10)
  await page.keyboard.press('Enter')
  await page.getByTestId('keys-ctrl-alt-del').focus()
  assert.equal(await heard(6, () => page.keyboard.press('Enter')), tapOf('ctrl', 'alt', 'delete'))
  assert.equal(await page.evaluate(() => document.activeElement?.dataset?.testid), 'desktop-canvas', 'keys go to the guest again')
})

step('every combination of the menu is what it says', async () => {
  const table = [
    ['alt-tab', ['alt', 'tab']], ['alt-f4', ['alt', 'f4']], ['win', ['win']], ['print', ['print']],
    ['ctrl-esc', ['ctrl', 'esc']], ['ctrl-alt-f1', ['ctrl', 'alt', 'f1']], ['ctrl-alt-f7', ['ctrl', 'alt', 'f7']],
  ]
  for (const [name, keys] of table) {
    await panel('toolbar-keys')
    if (name === 'alt-tab') assert.deepEqual(await seriousFaults(page), [])
    assert.equal(await heard(keys.length * 2, () => page.getByTestId(`keys-${name}`).click()), tapOf(...keys), name)
  }
})

step('text of an input method is typed where the guest takes no clipboard, and the rest is told', async () => {
  await tool('toolbar-typing')
  await page.getByTestId('screen-keys').waitFor()
  const from = console_.lines.length
  await cdp.send('Input.imeSetComposition', { text: 'Vid', selectionStart: 3, selectionEnd: 3 })
  await page.getByTestId('desktop-composing').waitFor()
  await photograph(page, 'input-composing')
  await cdp.send('Input.insertText', { text: 'Vidi @ 漢 42' })
  await page.getByTestId('desktop-missing').waitFor()
  assert.ok((await page.getByTestId('desktop-missing').textContent()).includes('漢'))
  await page.keyboard.press('Enter')
  await console_.said(/line .*Vidi @ {2}42$/, from)
  await console_.said(new RegExp(`key ${KEY.enter} up$`), from)
})

step('what an on-screen keyboard takes away is Backspace, and its row holds modifiers for one key', async () => {
  assert.equal(await heard(2, () => page.evaluate(() => {
    // As Android does it: no key, only a change of the field.
    const field = document.querySelector('[data-testid="desktop-text"]')
    field.setRangeText('', field.value.length - 1, field.value.length, 'end')
    field.dispatchEvent(new InputEvent('input', { inputType: 'deleteContentBackward' }))
  })), tapOf('backspace'))
  const seen = await heard(4, async () => {
    await page.getByTestId('screen-key-ControlLeft').click()
    await cdp.send('Input.insertText', { text: 'c' })
  })
  assert.equal(seen, tapOf('ctrl', 'c'))
  assert.equal(await heard(2, () => page.getByTestId('screen-key-ArrowUp').click()), tapOf('up'))
  assert.equal(await page.evaluate(() => document.activeElement?.dataset?.testid), 'desktop-text', 'the field keeps the focus')
  await page.getByTestId('screen-keys-close').click()
})

// Fingers: each is [guest x, guest y] or left out when it is up.
async function fingers(type, ...points) {
  const touchPoints = await Promise.all(points.map(async (at, id) => {
    const [x, y] = await place(page, at)
    return { x, y, id }
  }))
  await cdp.send('Input.dispatchTouchEvent', { type, touchPoints })
}

step('a tap clicks, a finger that stays clicks the right button, one that moves drags', async () => {
  let from = console_.lines.length
  await fingers('touchStart', [500, 300])
  await fingers('touchEnd')
  const click = (await console_.said(/click (\d+) (\d+) /, from)).slice(1, 3).map(Number)
  assert.ok(near(click, [500, 300]), `the tap arrived at ${click}`)
  const right = await heard(2, async () => {
    await fingers('touchStart', [400, 300])
    await delay(700)
    await fingers('touchEnd')
  })
  assert.equal(right, tapOf('right'))
  from = console_.lines.length
  await fingers('touchStart', [300, 300])
  for (const x of [320, 360, 420]) {
    await fingers('touchMove', [x, 340])
    await delay(60)
  }
  await fingers('touchEnd')
  const dropped = (await console_.said(/click (\d+) (\d+) /, from)).slice(1, 3).map(Number)
  assert.ok(near(dropped, [420, 340]), `the drag ended at ${dropped}`)
})

step('two fingers turn the wheel; parted they show the picture larger, and what is tapped is what is seen', async () => {
  const from = console_.lines.length
  await fingers('touchStart', [400, 300], [500, 300])
  for (const y of [330, 360, 420]) await fingers('touchMove', [400, y], [500, y])
  await fingers('touchEnd')
  const [, turned] = await console_.said(/wheel (-?\d+)/, from)
  assert.ok(Number(turned) > 0, 'what is above comes down with the fingers')
  const before_ = await canvas().boundingBox()
  await fingers('touchStart', [450, 300], [550, 300])
  const [[left, top], [right]] = await Promise.all([place(page, [350, 300]), place(page, [650, 300])])
  for (const share of [0.25, 0.5, 1]) {
    const [a, b] = await Promise.all([place(page, [450, 300]), place(page, [550, 300])])
    const touchPoints = [
      { x: a[0] + (left - a[0]) * share, y: top, id: 0 }, { x: b[0] + (right - b[0]) * share, y: top, id: 1 },
    ]
    await cdp.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints })
  }
  await fingers('touchEnd')
  const now = await until('a larger picture', async () => {
    const box = await canvas().boundingBox()
    return box.width > before_.width * 1.5 && box
  }, 10)
  assert.ok(now.width / now.height - before_.width / before_.height < 0.01, 'its shape is kept')
  await photograph(page, 'input-zoomed')
  const taps = console_.lines.length
  await fingers('touchStart', [500, 310])
  await fingers('touchEnd')
  const arrived = (await console_.said(/click (\d+) (\d+) /, taps)).slice(1, 3).map(Number)
  assert.ok(near(arrived, [500, 310]), `the tap arrived at ${arrived}`)
  await panel('toolbar-size')
  await page.getByTestId('size-reset').click()
  assert.deepEqual(await canvas().boundingBox(), before_)
})

step('in its actual size the picture is pixel for pixel', async () => {
  await page.setViewportSize({ width: 600, height: 400 })
  await page.getByTestId('size-actual').check()
  const [box, size] = [await canvas().boundingBox(), await canvas().evaluate(({ width, height }) => [width, height])]
  assert.deepEqual([box.width, box.height], size)
  await page.mouse.move(2, 2)
  await until('the upper left corner', async () => {
    const { x, y } = await canvas().boundingBox()
    return x === 0 && y === 0
  }, 10)
  await photograph(page, 'input-actual')
  await panel('toolbar-size')
  await page.getByTestId('size-fit').check()
  await page.setViewportSize({ width: 1280, height: 900 })
  await canvas().focus()
})

const tablet = join(results, 'tablet.xml')
let detached = false
async function giveTabletBack() {
  if (detached) await virsh('attach-device', domain, tablet, '--live')
  detached = false
}

step('a guest without an absolute mouse gets how far the mouse moves, once it is locked', async () => {
  await writeFile(tablet, '<input type="tablet" bus="usb"/>')
  await virsh('detach-device', domain, tablet, '--live')
  detached = true
  // The guest's mouse is told by the next look at it.
  await page.mouse.move(600, 500)
  await page.getByTestId('pointer-hint').waitFor({ timeout: 20_000 })
  await photograph(page, 'input-relative')
  await page.mouse.click(...(await place(page, [500, 400])))
  await page.getByTestId('pointer-hint').waitFor({ state: 'hidden' })
  const clicked = async () => {
    const from = console_.lines.length
    await page.mouse.down()
    await page.mouse.up()
    return (await console_.said(/click (\d+) (\d+) /, from)).slice(1, 3).map(Number)
  }
  // Away from the edges, where it would stop.
  await page.mouse.move(900, 700)
  const before_ = await clicked()
  await page.mouse.move(1020, 760, { steps: 5 })
  const after_ = await clicked()
  // The picture is shown a little larger than the guest's pixels: the pointer goes as far as the hand, as seen.
  const { width } = await canvas().boundingBox()
  const share = (await canvas().evaluate((element) => element.width)) / width
  const moved = [after_[0] - before_[0], after_[1] - before_[1]]
  assert.ok(near(moved, [120 * share, 60 * share]), `the pointer moved by ${moved}, from ${before_}`)
  await page.evaluate(() => document.exitPointerLock())
  await page.getByTestId('pointer-hint').waitFor()
})

step('it has its absolute mouse back', async () => {
  await giveTabletBack()
  await page.getByTestId('pointer-hint').waitFor({ state: 'hidden' })
})

step('nothing went wrong in the page', () => {
  assert.deepEqual(browser.problems, [])
})
