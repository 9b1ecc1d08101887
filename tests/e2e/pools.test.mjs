// A floating pool, from its making in the console to its end: a user gets the desktop that was ready, the
// next one finds the pool empty, sees the place in its queue and gets a desktop as soon as there is one,
// reads what all are told, and has a new version of the template only after having ended the old one.
import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import { command, Console, createUser, domains, quickstart, root, until, useVidictl, vidictl, vidictlJson } from './stack.mjs'
import { accessFaults } from './axe.mjs'
import { connected, open, photograph, signIn, typeLine } from './browser.mjs'
import { steps } from './steps.mjs'

const PASSWORD = 'a long enough password'
// A guest with an emulated processor boots in ten seconds, or in two minutes on a busy machine.
const BOOT_SECS = 300

let access
const browsers = {}
const at = (who) => browsers[who].page
const byId = (who, id) => at(who).getByTestId(id)
const step = steps(async () => {
  for (const [who, { page }] of Object.entries(browsers)) await photograph(page, `pools-failure-${who}`).catch(() => {})
})

before(async () => {
  access = await quickstart('up')
  useVidictl(access.vidictl)
  for (const user of ['una', 'dora']) await createUser(user, PASSWORD, '--role', 'user')
})

after(async () => {
  for (const browser of Object.values(browsers)) await browser.close()
})

async function enter(who, user, password, options) {
  browsers[who] = await open({ locale: 'en-GB', ...options })
  await signIn(at(who), access.url, user, password)
  await byId(who, 'app-list').waitFor({ state: 'attached' })
}

const count = async (what) => Number(await byId('admin', 'admin-pool-hall-1').getByTestId(`admin-pool-${what}`).innerText())
const counts = (wanted, seconds = BOOT_SECS) => until(`the counts ${JSON.stringify(wanted)}`, async () => {
  for (const [what, number] of Object.entries(wanted)) if ((await count(what)) !== number) return false
  return true
}, seconds)

const uuids = async () => {
  const { desktops } = await vidictlJson('desktop', 'list', '--pool', 'hall-1')
  return (desktops ?? []).map(({ name }) => name.split('/').at(-1))
}

// Sees the picture of that very desktop, and types on it.
async function worksOn(who, uuid, text) {
  await connected(at(who), BOOT_SECS)
  await until('nothing over the picture', async () => (await byId(who, 'desktop-steps').count()) === 0, BOOT_SECS)
  const console_ = await Console.open(`vidi-${uuid}`)
  try {
    await byId(who, 'desktop-canvas').click({ position: { x: 5, y: 5 } })
    await typeLine(at(who), console_, text)
  } finally {
    console_.close()
  }
}

async function accessible(who, what) {
  assert.deepEqual((await accessFaults(at(who))).map((fault) => `${what}: ${fault}`), [])
}

step('an administrator makes a floating pool in the console, and one desktop gets ready', async () => {
  await enter('admin', access.user, access.password, { viewport: { width: 1400, height: 900 } })
  await at('admin').goto(new URL('/admin/pools', access.url).href)
  await byId('admin', 'admin-pools').waitFor()
  await byId('admin', 'admin-pool-create').click()
  await byId('admin', 'admin-pool-name').fill('Hall 1')
  assert.equal(await byId('admin', 'admin-pool-id').inputValue(), 'hall-1')
  await byId('admin', 'admin-pool-template').selectOption('tenants/default/templates/micro')
  await byId('admin', 'admin-pool-spare').fill('1')
  await byId('admin', 'admin-pool-max').fill('0')
  await byId('admin', 'admin-pool-submit').click()
  await at('admin').getByRole('alert').waitFor()
  await byId('admin', 'admin-pool-max').fill('1')
  await accessible('admin', 'the form')
  await photograph(at('admin'), 'pools-form')
  await byId('admin', 'admin-pool-submit').click()
  await byId('admin', 'admin-pool-hall-1').waitFor()
  await enter('una', 'una', PASSWORD)
  await until('the app', async () => /Preparing/.test(await byId('una', 'app-hall-1').innerText()))
  await photograph(at('una'), 'pools-menu-preparing')
  await counts({ ready: 1, preparing: 0, used: 0, waiting: 0 })
  await accessible('admin', 'the list')
  await photograph(at('admin'), 'pools-list')
})

step('a rule of the week and what passes are chosen in the console', async () => {
  await byId('admin', 'admin-pool-hall-1').getByTestId('admin-pool-change').click()
  await byId('admin', 'admin-pool-rule-add').click()
  // It says what counts anyway: the steps below do not hang on the hour.
  await byId('admin', 'admin-pool-rule-max').fill('1')
  await byId('admin', 'admin-pool-zone').fill('Europe/Rome')
  await byId('admin', 'admin-pool-passes').locator('summary').click()
  await byId('admin', 'admin-policy-files').uncheck()
  await accessible('admin', 'the form with a rule')
  await photograph(at('admin'), 'pools-form-rule')
  await byId('admin', 'admin-pool-submit').click()
  await byId('admin', 'admin-pool-form').waitFor({ state: 'detached' })
  const shown = await vidictl('pool', 'show', 'hall-1')
  assert.match(shown, /mon,tue,wed,thu,fri 08:00-18:00 max=1/)
  assert.match(shown, /Europe\/Rome/)
  assert.match(await vidictl('pool', 'forecast', 'hall-1', '--day', '2026-11-30'), /\n08:00 +1 /)
})

let first
step('a user clicks it, has a picture at once and types; the menu says that it is destroyed afterwards', async () => {
  await until('ready', async () => /Ready/.test(await byId('una', 'app-hall-1').innerText()))
  const fate = byId('una', 'app-hall-1').getByTestId('menu-fate')
  assert.match(await fate.innerText(), /Destroyed with everything on it/)
  await accessible('una', 'the menu')
  await photograph(at('una'), 'pools-menu')
  ;[first] = await uuids()
  const clicked = performance.now()
  await byId('una', 'app-hall-1').click()
  await connected(at('una'))
  console.log(`# a picture after ${Math.round(performance.now() - clicked)} ms`)
  await worksOn('una', first, 'hello pool')
  assert.deepEqual(await uuids(), [first], 'the one that was ready')
  await counts({ ready: 0, used: 1 })
})

step('the next one finds it empty and sees the place in the queue', async () => {
  await enter('dora', 'dora', PASSWORD)
  await until('full', async () => /No desktop is free right now/.test(await byId('dora', 'app-hall-1').innerText()))
  await photograph(at('dora'), 'pools-menu-full')
  await byId('dora', 'app-hall-1').click()
  const queue = byId('dora', 'desktop-queue')
  await queue.waitFor()
  assert.equal(await queue.getAttribute('data-position'), '1')
  assert.match(await queue.innerText(), /You are next for “Hall 1”/)
  assert.match(await queue.innerText(), /in use/)
  await accessible('dora', 'the queue')
  await photograph(at('dora'), 'pools-queue-full')
  await counts({ waiting: 1, used: 1 })
  await photograph(at('admin'), 'pools-list-waiting')
  const sessions = await vidictl('session', 'list')
  assert.match(sessions, /dora +pool hall-1 +waiting, number 1/)
})

step('the first one is told what goes with the session, ends it, and the desktop is destroyed', async () => {
  const page = at('una')
  await byId('una', 'toolbar-show').click()
  await byId('una', 'toolbar-end').click()
  assert.match(await byId('una', 'toolbar-end-fate').innerText(), /is destroyed when you end the session/)
  await photograph(page, 'pools-end')
  await byId('una', 'toolbar-end-confirm').click()
  await byId('una', 'app-list').waitFor()
  await until('its end', async () => !(await uuids()).includes(first) && !(await domains()).includes(`vidi-${first}`))
})

step('another is made, and is the desktop of the one who waited', async () => {
  // How long the first took is known by now.
  await until('an estimate', async () => {
    const about = byId('dora', 'desktop-queue-about')
    return (await about.count()) === 0 || /about \d+ (seconds|minutes)/.test(await about.innerText())
  })
  await photograph(at('dora'), 'pools-queue')
  await connected(at('dora'), BOOT_SECS)
  const [second, ...others] = await uuids()
  assert.deepEqual(others, [])
  assert.notEqual(second, first, 'never used by somebody before')
  await worksOn('dora', second, 'hello again')
  assert.equal(await byId('dora', 'desktop-queue').count(), 0)
  await photograph(at('dora'), 'pools-desktop')
  await counts({ waiting: 0, used: 1 })
})

async function ends(who) {
  await byId(who, 'toolbar-show').click()
  await byId(who, 'toolbar-end').click()
  await byId(who, 'toolbar-end-confirm').click()
  await byId(who, 'app-list').waitFor()
}

step('who works on one of them reads over the picture what all are told', async () => {
  await vidictl('batch', 'message', '--pool', 'hall-1', '--wait', 'The hall closes at six.')
  const message = byId('dora', 'user-message')
  await message.waitFor()
  assert.equal(await byId('dora', 'user-message-text').innerText(), 'The hall closes at six.')
  await accessible('dora', 'the message')
  await photograph(at('dora'), 'pools-message')
  await byId('dora', 'user-message-close').click()
  await message.waitFor({ state: 'detached' })
})

step('a new version is rolled out: who works is not touched, and has it with the next desktop', async () => {
  const micro = (await command(join(root, 'packaging/images/build'), 'micro')).trim().split('\n').at(-1)
  const folder = await mkdtemp(join(tmpdir(), 'vidi-version-'))
  try {
    await cp(micro, folder, { recursive: true })
    const manifest = await readFile(join(folder, 'template.toml'), 'utf8')
    await writeFile(join(folder, 'template.toml'), manifest.replace(/^memory_mib = .*$/m, 'memory_mib = 288'))
    await vidictl('template', 'create', 'micro', '--from', folder, '--draft')
  } finally {
    await rm(folder, { recursive: true })
  }
  const { versions } = await vidictlJson('template', 'versions', 'micro')
  const { digest } = versions.at(-1)
  assert.ok(!versions.at(-1).published, 'a draft is not published')
  const [second] = await uuids()
  await vidictl('rollout', 'start', 'hall-1', digest, '--soak', '0')
  const rollout = async () => (await vidictlJson('rollout', 'list', '--pool', 'hall-1')).rollouts.at(-1)
  await until('that it waits', async () => /\S/.test((await rollout()).status.reason))
  assert.deepEqual(await uuids(), [second], 'she works on it')
  await ends('dora')
  await until('its end', async () => (await rollout()).status.state === 'ROLLOUT_STATE_DONE', BOOT_SECS)
  const { desktops } = await vidictlJson('desktop', 'list', '--pool', 'hall-1')
  assert.deepEqual(desktops.map(({ spec }) => spec.template_digest), [digest])
  await byId('dora', 'app-hall-1').click()
  await worksOn('dora', (await uuids())[0], 'hello version')
  await counts({ waiting: 0, used: 1 })
})

step('the pool is deleted with what is on it, after saying so', async () => {
  await byId('admin', 'admin-pool-hall-1').getByTestId('admin-pool-delete').click()
  const question = byId('admin', 'admin-ask')
  assert.match(await question.innerText(), /Somebody has 1 of them/)
  await photograph(at('admin'), 'pools-delete')
  await question.getByTestId('admin-promise').check()
  await question.getByTestId('admin-confirm').click()
  await byId('dora', 'desktop-ended').waitFor()
  await until('its end', async () => ((await vidictlJson('pool', 'list')).pools ?? []).length === 0)
  await until('no app', async () => (await byId('una', 'app-hall-1').count()) === 0)
  for (const [who, { problems }] of Object.entries(browsers)) assert.deepEqual(problems, [], `no page error of ${who}`)
})
