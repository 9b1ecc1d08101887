// A desktop that is always recorded: its user is told and cannot stop it, the administrator finds and plays
// it, nobody else gets at it; a full disk ends the recording and not the session.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command, Console, createUser, domains, kill9, quickstart, state, until, useVidictl, vidictl, vidictlJson } from './stack.mjs'
import { accessFaults } from './axe.mjs'
import { connected, open, openFirstApp, photograph, signIn, typeLine } from './browser.mjs'
import { steps } from './steps.mjs'

const PASSWORD = 'a long enough password'
const configuration = join(state, 'etc/gateway.toml')
// Smaller than what the gateway leaves free on a disk.
const small = join(state, 'small-disk')
const OWN_FOLDER = `\n[recording]\nfolder = "${small}"\n`

let access, origin, user, rita, console_, desktop, name
const step = steps(async () => {
  await user && photograph(user.page, 'recordings-user').catch(() => {})
  await rita && photograph(rita.page, 'recordings-rita').catch(() => {})
})

before(async () => {
  access = await quickstart('up')
  origin = new URL(access.url).origin
  useVidictl(access.vidictl)
  console_ = await Console.open((await domains())[0])
  desktop = (await vidictlJson('desktop', 'list')).desktops[0].name
  await vidictl('desktop', 'update', desktop, '--recording', 'always')
  // What is attached still goes by the policy before.
  await restart()
  await createUser('rita', PASSWORD, '--role', 'user', '--display-name', 'Rita').catch(() => {})
  user = await open({ locale: 'en-GB' })
  rita = await open({ locale: 'en-GB' })
})

after(async () => {
  const text = await readFile(configuration, 'utf8')
  await writeFile(configuration, text.replace(OWN_FOLDER, ''))
  await vidictl('desktop', 'update', desktop, '--recording', 'never')
  await restart()
  await command('umount', small).catch(() => {})
  await rm(small, { recursive: true, force: true })
  console_?.close()
  await user?.close()
  await rita?.close()
})

async function restart() {
  await kill9('gateway')
  await quickstart('up')
}

const byId = (browser, id) => browser.page.getByTestId(id)
const recordings = async () => (await (await user.context.request.get(`${origin}/recordings`)).json()).recordings
const ofDesktop = async () => (await recordings()).find((one) => one.desktop === desktop && one.end === undefined)

async function openShare() {
  await byId(user, 'toolbar-show').click()
  await byId(user, 'share-open').click()
  await byId(user, 'people-list').waitFor()
}

step('a session is recorded from its first picture on, its user is told and has nothing to stop it with', async () => {
  const begun = Date.now()
  await signIn(user.page, access.url, access.user, access.password)
  await openFirstApp(user.page)
  await byId(user, 'record-sign').waitFor()
  assert.match(await byId(user, 'record-sign').innerText(), /recorded/i)
  const shown = Date.now()
  await openShare()
  assert.equal(await byId(user, 'record-toggle').count(), 0)
  const running = await until('the recording', ofDesktop)
  name = running.name
  // To the second.
  const start = Date.parse(running.start)
  assert.ok(begun - 1000 <= start && start <= shown, `${running.start} of ${begun} to ${shown}`)
  await user.page.keyboard.press('Escape')
  await byId(user, 'desktop-canvas').click({ position: { x: 5, y: 5 } })
  await typeLine(user.page, console_, 'this is always recorded')
  await photograph(user.page, 'recordings-always')
})

step('others find neither the list nor a recording', async () => {
  await signIn(rita.page, access.url, 'rita', PASSWORD)
  await byId(rita, 'app-list').waitFor({ state: 'attached' })
  for (const path of ['/recordings', `/recordings/${name}`]) {
    const { status } = await rita.page.evaluate(async (path) => ({ status: (await fetch(path)).status }), path)
    assert.equal(status, 403, path)
  }
  await rita.page.goto(`${origin}/#/recordings`)
  await rita.page.getByRole('alert').first().waitFor()
  await rita.page.goto(`${origin}/#/recordings/${name}`)
  await byId(rita, 'recording-problem').waitFor()
  const anonymous = await statusWithout(`/recordings/${name}`)
  assert.ok([401, 403].includes(anonymous), `${anonymous}`)
})

// Without any sign-in.
async function statusWithout(path) {
  const browser = await open()
  try {
    return (await browser.context.request.get(origin + path)).status()
  } finally {
    await browser.close()
  }
}

step('the administrator finds the recording on its page, plays it, and takes the file with him', async () => {
  await byId(user, 'toolbar-show').click()
  await byId(user, 'toolbar-menu').click()
  await byId(user, 'app-list').waitFor({ state: 'attached' })
  await user.page.goto(`${origin}/admin`)
  await byId(user, 'admin-recordings').click()
  const link = byId(user, `recording-${name}`)
  await link.waitFor()
  assert.deepEqual(await accessFaults(user.page), [])
  await photograph(user.page, 'recordings-list')
  await link.click()
  const canvas = byId(user, 'recording-canvas')
  await until('its first picture', () => canvas.evaluate(({ width, height }) => 1 < width && 1 < height))
  await byId(user, 'recording-speed').selectOption('8')
  await until('its end', () => byId(user, 'recording-place').evaluate(({ value, max }) => Number(max) > 0 && value === max))
  const colours = await canvas.evaluate((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    return new Set(new Uint32Array(data.buffer)).size
  })
  assert.ok(16 < colours, `${colours} colours`)
  const file = await user.context.request.get(`${origin}/recordings/${name}`)
  assert.equal(file.status(), 200)
  assert.equal((await file.body()).subarray(0, 8).toString(), 'VIDIREC1')
  await photograph(user.page, 'recordings-played')
})

step('a full disk ends the recording with its reason, and not the session', async () => {
  await mkdir(small, { recursive: true })
  await command('mount', '-t', 'tmpfs', '-o', 'size=64m', 'vidi-small', small)
  await writeFile(configuration, (await readFile(configuration, 'utf8')) + OWN_FOLDER)
  await restart()
  await user.page.goto(access.url)
  await openFirstApp(user.page)
  await openShare()
  const problem = byId(user, 'record-problem')
  await problem.waitFor()
  assert.match(await problem.innerText(), /full|room|space|free/i)
  assert.equal(await byId(user, 'record-sign').count(), 0)
  await photograph(user.page, 'recordings-full')
  await user.page.keyboard.press('Escape')
  await byId(user, 'desktop-canvas').click({ position: { x: 5, y: 5 } })
  await typeLine(user.page, console_, 'not recorded any more')
  await connected(user.page)
  assert.deepEqual([user.problems, rita.problems], [[], []], 'no page error')
})
