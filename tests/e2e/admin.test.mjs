// The help desk gives somebody a desktop, sees what goes on with it, stops, starts, restarts and
// destroys it; its user sees each of these from the other side.
import assert from 'node:assert/strict'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Console, createUser, domains, kill9, quickstart, root, state, until, useVidictl, vidictl, vidictlJson } from './stack.mjs'
import { accessFaults } from './axe.mjs'
import { connected, open, photograph, signIn, typeLine } from './browser.mjs'
import { steps } from './steps.mjs'

const PASSWORD = 'a long enough password'
const TITLE = "Ulla's own desktop"
// A guest with an emulated processor boots in ten seconds, or in two minutes on a busy machine.
const BOOT_SECS = 300
// The shortest that the controller's configuration allows.
const DISCONNECT_SECS = 10
const IMPATIENT = `\n[presence]\ndisconnect_secs = ${DISCONNECT_SECS}\n`
const configuration = join(state, 'etc/controller.toml')

let access, origin
const browsers = {}
const page = (who) => browsers[who].page
const step = steps(async () => {
  for (const [who, { page }] of Object.entries(browsers)) await photograph(page, `admin-failure-${who}`).catch(() => {})
})

before(async () => {
  access = await quickstart('up')
  origin = new URL(access.url).origin
  useVidictl(access.vidictl)
  await createUser('hilda', PASSWORD, '--display-name', 'Hilda Help', '--role', 'helpdesk')
  await createUser('ulla', PASSWORD, '--display-name', 'Ulla User', '--role', 'user')
})

after(async () => {
  for (const browser of Object.values(browsers)) await browser.close()
  await patient()
})

// The other suites' sessions are waited for as long as usual.
async function patient() {
  const text = await readFile(configuration, 'utf8')
  if (!text.includes(IMPATIENT)) return
  await writeFile(configuration, text.replace(IMPATIENT, ''))
  await kill9('controller')
  await quickstart('up')
}

async function enter(who, user, password, options = {}) {
  browsers[who] = await open({ locale: 'en-GB', ...options })
  await signIn(page(who), access.url, user, password)
  await page(who).getByTestId('app-list').waitFor({ state: 'attached' })
}

async function accessible(at, what) {
  assert.deepEqual((await accessFaults(at)).map((fault) => `${what}: ${fault}`), [])
}

const row = (who) => page(who).locator('[data-testid^="admin-row-"]').filter({ hasText: TITLE })
const shows = (who, attribute, value, seconds = BOOT_SECS) =>
  until(`${TITLE} ${value}`, async () => (await row(who).getAttribute(attribute)) === value, seconds)

async function act(who, name, { promise = false } = {}) {
  await row(who).getByTestId(`admin-${name}`).click()
  const question = page(who).getByTestId('admin-ask')
  await question.waitFor()
  const text = await question.innerText()
  if (promise) await question.getByTestId('admin-promise').check()
  await question.getByTestId('admin-confirm').click()
  return text
}

const picture = async (who) => {
  const at = page(who)
  await connected(at, BOOT_SECS)
  await until('nothing over the picture', async () => (await at.getByTestId('desktop-steps').count()) === 0, BOOT_SECS)
}

// Watches what the veil says until the picture is there: the step that goes on, each one once.
async function stepsUntilPicture(who) {
  const at = page(who)
  const seen = []
  await until('the picture', async () => {
    const now = await at.evaluate(() => [
      document.querySelector('li[data-step][data-state="now"]')?.dataset.step,
      document.querySelector('[data-testid="desktop-canvas"]')?.dataset.state,
      document.querySelector('[data-testid="desktop-steps"]') !== null,
    ])
    if (now[0] !== undefined && seen.at(-1) !== now[0]) {
      seen.push(now[0])
      await photograph(at, `admin-steps-${seen.length}-${now[0]}`)
    }
    return seen.length > 0 && now[1] === 'connected' && !now[2]
  }, BOOT_SECS)
  return seen
}

// The user sees this very guest and works on it: its pictures come (its clock ticks), and what is typed
// arrives, by its own word.
async function worksOn(who, text) {
  const at = page(who)
  const canvas = at.getByTestId('desktop-canvas')
  const frames = async () => Number(await canvas.getAttribute('data-frames'))
  const before_ = await frames()
  await until('new pictures', async () => (await frames()) > before_)
  const console_ = await Console.open(await domainOf(TITLE))
  try {
    await canvas.click({ position: { x: 5, y: 5 } })
    await typeLine(at, console_, text)
  } finally {
    console_.close()
  }
}

async function domainOf(title) {
  const { desktops } = await vidictlJson('desktop', 'list')
  return `vidi-${desktops.find(({ display_name }) => display_name === title).name.split('/').at(-1)}`
}

// A call of a public method with an empty request, as the page would make it: the status' number.
const grpcStatus = (at, method) => at.evaluate(async (path) => {
  const answer = await fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1' },
    body: new Uint8Array(5),
  })
  const trailers = new TextDecoder().decode(await answer.arrayBuffer())
  return Number(answer.headers.get('grpc-status') ?? /grpc-status: ?(\d+)/.exec(trailers)?.[1])
}, `/vidi.v1.${method}`)
const PERMISSION_DENIED = 7

step('somebody without a role sees no admin page, and is refused by every call behind it', async () => {
  await enter('ulla', 'ulla', PASSWORD)
  const at = page('ulla')
  assert.equal(await at.getByTestId('admin-link').count(), 0)
  for (const method of [
    'UserService/ListUsers', 'UserService/CreateUser', 'UserService/SetPassword', 'UserService/DeleteUser',
    'DesktopService/CreateDesktop', 'DesktopService/DeleteDesktop', 'HostService/ListHosts', 'HostService/DrainHost',
    'TemplateService/ListTemplates',
  ]) {
    assert.equal(await grpcStatus(at, method), PERMISSION_DENIED, method)
  }
  await at.goto(`${origin}/admin`)
  await at.getByTestId('admin-refused').waitFor()
  assert.equal(await at.getByTestId('admin-desktops').count(), 0)
  await photograph(at, 'admin-refused')
  await accessible(at, 'refused')
  await at.goto(origin)
})

step('the help desk makes a desktop for somebody, and everybody who looks sees it appear', async () => {
  await enter('admin', access.user, access.password)
  await page('admin').getByTestId('admin-link').click()
  await page('admin').getByTestId('admin-desktops').locator('table').waitFor()
  await enter('hilda', 'hilda', PASSWORD)
  const at = page('hilda')
  await at.getByTestId('admin-link').click()
  await at.getByTestId('admin-desktops').locator('table').waitFor()
  assert.equal(await at.getByTestId('admin-part-hosts').count(), 0, 'hosts are for operators')
  await at.getByTestId('admin-create').click()
  await accessible(at, 'create form')
  // All by keyboard, as somebody would who cannot use a mouse.
  await at.getByTestId('admin-create-user').fill('ull')
  await at.keyboard.press('Enter')
  assert.equal(await at.getByTestId('admin-create-user').inputValue(), 'Ulla User')
  assert.equal(await at.getByTestId('admin-create-name').inputValue(), 'Desktop of Ulla User')
  await at.getByTestId('admin-create-name').fill(TITLE)
  await photograph(at, 'admin-create')
  await at.keyboard.press('Enter')
  await at.getByTestId('admin-created').waitFor()
  await photograph(at, 'admin-created')
  assert.match(await at.getByTestId('admin-created').innerText(), new RegExp(`${origin}/`))
  await at.keyboard.press('Enter')
  // The administrator's page was there before, and was not loaded again.
  await row('admin').waitFor()
  await shows('hilda', 'data-state', 'running')
  await shows('admin', 'data-state', 'running')
  assert.match(await row('hilda').innerText(), /Ulla User/)
  await photograph(at, 'admin-desktops')
  await accessible(at, 'desktops')
})

step('its user opens it, and the help desk sees that', async () => {
  await shows('hilda', 'data-presence', 'none')
  await page('ulla').getByTestId('app-list').locator('button').click()
  await picture('ulla')
  await shows('hilda', 'data-presence', 'connected')
  await shows('admin', 'data-presence', 'connected')
  await photograph(page('hilda'), 'admin-connected')
})

step('a stop says whom it hits, and the user is told', async () => {
  const said = await act('hilda', 'stop')
  assert.match(said, /Ulla User is on it now/)
  await page('ulla').getByTestId('desktop-ended').waitFor({ timeout: 120_000 })
  await photograph(page('ulla'), 'admin-ended-stopped')
  assert.match(await page('ulla').getByTestId('desktop-ended').innerText(), /switched off/)
  await accessible(page('ulla'), 'ended')
  await shows('hilda', 'data-state', 'off')
  await shows('hilda', 'data-presence', 'none')
  assert.ok(!(await domains()).includes(await domainOf(TITLE)), 'it runs no more')
})

step('a click on a desktop that is off starts it, step by step', async () => {
  await page('ulla').goto(origin)
  await page('ulla').getByTestId('app-list').locator('button').click()
  const steps = await stepsUntilPicture('ulla')
  assert.ok(steps.includes('picture'), steps.join())
  await shows('hilda', 'data-state', 'running')
  await worksOn('ulla', 'after the click')
})

step('a restart under a user shows the way, and then the picture again by itself', async () => {
  const session = page('ulla').url()
  const said = act('hilda', 'restart')
  const steps = await stepsUntilPicture('ulla')
  assert.match(await said, /Ulla User is on it now/)
  assert.equal(steps[0], 'down', steps.join())
  assert.equal(page('ulla').url(), session, 'the session goes on')
  await shows('hilda', 'data-state', 'running')
  await shows('hilda', 'data-presence', 'connected')
  await worksOn('ulla', 'after the restart')
})

step('the hours that were used are there, add up, and can be taken along', async () => {
  const at = page('hilda')
  await at.getByTestId('admin-usage').click()
  const line = at.getByTestId('admin-usage').locator('tbody tr').filter({ hasText: TITLE }).filter({ hasText: 'Ulla User' })
  await line.waitFor()
  const secs = await line.locator('[data-secs]').evaluateAll((cells) => cells.map((cell) => Number(cell.dataset.secs)))
  assert.ok(secs[0] > 0 && secs[1] > 0, `running and connected: ${secs}`)
  assert.ok(secs[1] <= secs[0], `nobody is connected to a desktop that does not run: ${secs}`)
  const [download] = await Promise.all([at.waitForEvent('download'), at.getByTestId('admin-csv').click()])
  const text = await readFile(await download.path(), 'utf8')
  assert.match(text, /Ulla User,ulla,\d+\.\d\d,\d+\.\d\d\r\n/)
  await photograph(at, 'admin-hours')
  await accessible(at, 'hours')
  await at.getByTestId('admin-part-people').click()
  await at.getByTestId('admin-person-ulla').waitFor()
  assert.equal(await at.getByTestId('admin-person-create').count(), 0, 'the help desk makes no people')
  await accessible(at, 'people')
  await at.goto(`${origin}/admin`)
  await row('hilda').waitFor()
})

step('an operator closes a host, opens it again, and makes a person', async () => {
  const at = page('admin')
  await at.getByTestId('admin-part-hosts').click()
  const host = at.getByTestId('admin-hosts').locator('> li')
  await host.getByTestId('admin-cordon').click()
  await accessible(at, 'cordon question')
  await at.getByTestId('admin-confirm').click()
  await host.getByTestId('admin-uncordon').waitFor()
  await photograph(at, 'admin-hosts')
  await accessible(at, 'hosts')
  await host.getByTestId('admin-uncordon').click()
  await at.getByTestId('admin-confirm').click()
  await host.getByTestId('admin-cordon').waitFor()
  await at.getByTestId('admin-part-people').click()
  await at.getByTestId('admin-person-create').click()
  await at.getByTestId('admin-person-name').fill('Nadia Née')
  assert.equal(await at.getByTestId('admin-person-id').inputValue(), 'nadia.nee')
  await accessible(at, 'person form')
  await at.getByTestId('admin-person-submit').click()
  const password = await at.getByTestId('admin-person-password').innerText()
  await at.getByTestId('admin-person-close').click()
  await at.getByTestId('admin-person-nadia.nee').waitFor()
  await photograph(at, 'admin-people')
  await enter('nadia', 'nadia.nee', password)
  await browsers.nadia.close()
  delete browsers.nadia
  await at.getByTestId('admin-person-nadia.nee').getByTestId('admin-person-delete').click()
  await at.getByTestId('admin-confirm').click()
  await at.getByTestId('admin-person-nadia.nee').waitFor({ state: 'detached' })
  await at.getByTestId('admin-part-desktops').click()
  await row('admin').waitFor()
})

step('it looks right in the dark, on a telephone and in another language', async () => {
  browsers.phone = await open({ locale: 'es-ES', colorScheme: 'dark', viewport: { width: 390, height: 844 } })
  const at = page('phone')
  await signIn(at, access.url, 'hilda', PASSWORD)
  await at.getByTestId('admin-link').click()
  await at.getByTestId('admin-desktops').locator('table').waitFor()
  assert.match(await row('phone').innerText(), /En marcha/)
  assert.equal(await at.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true, 'nothing sticks out')
  await photograph(at, 'admin-phone')
  await accessible(at, 'phone')
  await browsers.phone.close()
  delete browsers.phone
})

step('the pages have the name and the colours that the tenant has chosen', async () => {
  const look = async (name) => {
    browsers.brand = await open({ locale: 'en-GB', colorScheme: 'light' })
    const at = page('brand')
    await until(`the name ${name}`, async () => {
      await at.goto(new URL('/?tenant=default', access.url).href)
      await until('a name', async () => (await at.getByTestId('brand-name').first().innerText()) === name, 2)
      return true
    })
    const accent = await at.evaluate(() => document.documentElement.style.getPropertyValue('--brand-accent'))
    await photograph(at, `admin-brand-${name}`)
    await accessible(at, name)
    await browsers.brand.close()
    delete browsers.brand
    return accent
  }
  const refused = await vidictl('tenant', 'brand', 'default', '--accent', '#ffff00').then(() => undefined, ({ stderr }) => stderr)
  assert.match(refused ?? '', /accent/, 'white text on it could not be read')
  await vidictl('tenant', 'brand', 'default', '--product-name', 'Lakeside', '--accent', '#7a1f3d', '--accent-dark', '#e79bb4')
  assert.equal(await look('Lakeside'), '#7a1f3d')
  await vidictl('tenant', 'brand', 'default', '--product-name', '', '--accent', '', '--accent-dark', '')
  await look('Vidi')
})

step('while the controller is away the page says that it is not up to date, and then is again', async () => {
  await kill9('controller')
  await page('hilda').getByTestId('admin-stale').waitFor({ timeout: 120_000 })
  await photograph(page('hilda'), 'admin-stale')
  // Somebody who goes away is waited for no longer than this until `patient` is called.
  await writeFile(configuration, `${await readFile(configuration, 'utf8')}${IMPATIENT}`)
  await quickstart('up')
  await page('hilda').getByTestId('admin-stale').waitFor({ state: 'detached', timeout: 120_000 })
  await shows('hilda', 'data-presence', 'connected')
})

step('a session whose user is gone ends, the desktop follows its policy, and the user is told', async () => {
  const session = page('ulla').url()
  await page('ulla').goto('about:blank')
  await shows('hilda', 'data-presence', 'away')
  await shows('hilda', 'data-presence', 'none')
  await shows('hilda', 'data-state', 'off')
  await page('ulla').goto(session)
  await page('ulla').getByTestId('desktop-ended').waitFor()
  assert.match(await page('ulla').getByTestId('desktop-ended').innerText(), /You were away for 10 seconds/)
  await photograph(page('ulla'), 'admin-ended-away')
})

step('the help desk starts it, and destroys it only after a promise when somebody is on it', async () => {
  await row('hilda').getByTestId('admin-start').click()
  await shows('hilda', 'data-state', 'running')
  await page('ulla').goto(origin)
  await page('ulla').getByTestId('app-list').locator('button').click()
  await picture('ulla')
  await shows('hilda', 'data-presence', 'connected')
  const domain = await domainOf(TITLE)
  await row('hilda').getByTestId('admin-destroy').click()
  const question = page('hilda').getByTestId('admin-ask')
  await question.waitFor()
  await photograph(page('hilda'), 'admin-destroy')
  await accessible(page('hilda'), 'destroy question')
  assert.equal(await question.getByTestId('admin-confirm').isEnabled(), false)
  await page('hilda').keyboard.press('Escape')
  await question.waitFor({ state: 'detached' })
  assert.ok((await domains()).includes(domain), 'nothing was done')
  const said = await act('hilda', 'destroy', { promise: true })
  assert.match(said, /Everything on its system disk is deleted/)
  assert.match(said, /cannot be undone/)
  await page('ulla').getByTestId('desktop-ended').waitFor({ timeout: 120_000 })
  assert.match(await page('ulla').getByTestId('desktop-ended').innerText(), /no longer there/)
  await photograph(page('ulla'), 'admin-ended-destroyed')
  await row('hilda').waitFor({ state: 'detached', timeout: 120_000 })
  await row('admin').waitFor({ state: 'detached' })
  await page('hilda').getByTestId('admin-news').waitFor()
  assert.ok(!(await domains()).includes(domain), 'its domain is gone')
})

step('no page has had an error', async () => {
  for (const [who, { problems }] of Object.entries(browsers)) assert.deepEqual(problems, [], who)
})

test('every picture that the walk-through names is there, and no other', async () => {
  const text = await readFile(join(root, 'docs/walkthrough.md'), 'utf8')
  const named = [...text.matchAll(/\(images\/(walkthrough-[a-z0-9-]+\.[a-z]+)\)/g)].map(([, name]) => name)
  const there = (await readdir(join(root, 'docs/images'))).filter((name) => name.startsWith('walkthrough-'))
  assert.ok(named.length > 8, `${named.length} pictures`)
  assert.deepEqual([...new Set(named)].sort(), there.sort())
})
