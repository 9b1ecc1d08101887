// Makes the pictures of docs/walkthrough.md: a new user's first hour, as it happens.
//   tests/e2e/run walkthrough      VIDI_WALKTHROUGH_TEMPLATE=micro for the small guest
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { domains, guestRun, quickstart, root, until, useVidictl, vidictlJson } from './stack.mjs'
import { connected, open, place, signIn } from './browser.mjs'
import { small } from './pictures.mjs'

const template = process.env.VIDI_WALKTHROUGH_TEMPLATE ?? 'desktop'
// An emulated processor on a busy machine takes its time.
const BOOT_SECS = 900
const PROGRAM_SECS = 180
const BYTES_MAX = 150_000
const images = join(root, 'docs/images')
const screen = { locale: 'en-GB', viewport: { width: 1280, height: 800 } }

// The colleague, and where the template's panel has its text editor: from the left, from the bottom.
const NAME = 'Ana García'
const EDITOR = [161, 18]
const TEXT = 'hello from my first desktop'

// A guest's screen has gradients, for which a palette is too coarse.
const JPEG_QUALITY = 85

let count = 0
async function picture(page, name) {
  const guest = (await page.getByTestId('desktop-canvas').count()) > 0
  // What moves or fades has come to rest.
  await delay(400)
  const bytes = guest ? await page.screenshot({ type: 'jpeg', quality: JPEG_QUALITY }) : small(await page.screenshot())
  const file = join(images, `walkthrough-${String(++count).padStart(2, '0')}-${name}.${guest ? 'jpg' : 'png'}`)
  if (bytes.length > BYTES_MAX) throw new Error(`${file} has ${bytes.length} bytes`)
  await writeFile(file, bytes)
  console.log(`${file} ${bytes.length}`)
}

async function appears(page) {
  await connected(page, BOOT_SECS)
  await until('nothing over the picture', async () => (await page.getByTestId('desktop-steps').count()) === 0, BOOT_SECS)
}

// The guest draws after it is ready: the wallpaper, the panel.
async function calm(page) {
  const canvas = page.getByTestId('desktop-canvas')
  let last
  for (let same = 0; same < 3;) {
    const now = await canvas.getAttribute('data-frames')
    same = now === last ? same + 1 : 0
    last = now
    await delay(1000)
    // The small guest's clock ticks for ever.
    if (template === 'micro') return
  }
}

// Opens the guest's editor and writes into it, as its user.
async function work(page, domain) {
  if (template === 'desktop') {
    const [left, bottom] = EDITOR
    const height = await page.getByTestId('desktop-canvas').evaluate((canvas) => canvas.height)
    const at = await place(page, [left, height - bottom])
    await page.mouse.move(...at)
    await page.mouse.click(...at, { delay: 80 })
    await until('the editor', async () => /Mousepad/.test(await guestRun(domain, 'xwininfo -id $(xprop -root _NET_ACTIVE_WINDOW | grep -o 0x.*)')), PROGRAM_SECS)
    await calm(page)
  } else {
    await page.getByTestId('desktop-canvas').click({ position: { x: 5, y: 5 } })
  }
  for (const word of TEXT.split(/(?<= )/)) {
    await page.keyboard.type(word, { delay: 40 })
    await delay(600)
  }
  await calm(page)
}

async function domainOf(user) {
  const { desktops } = await vidictlJson('desktop', 'list')
  return `vidi-${desktops.find(({ spec }) => spec.assigned_user.endsWith(`/${user}`)).name.split('/').at(-1)}`
}

const access = await quickstart('up', '--template', template)
useVidictl(access.vidictl)
await mkdir(images, { recursive: true })
for (const old of (await readdir(images)).filter((name) => name.startsWith('walkthrough-'))) await rm(join(images, old))

const admin = await open(screen)
const ana = await open(screen)
try {
  let page = admin.page
  await page.goto(access.url)
  await page.getByTestId('login-user').fill(access.user)
  await page.getByTestId('login-password').fill(access.password)
  await picture(page, 'sign-in')
  await page.getByTestId('login-submit').click()
  await page.getByTestId('app-list').locator('button').waitFor()
  await picture(page, 'menu')
  await page.getByTestId('app-list').locator('button').click()
  await appears(page)
  await calm(page)
  await picture(page, 'desktop')
  await page.goto(access.url)

  await page.getByTestId('admin-link').click()
  await page.getByTestId('admin-desktops').locator('table').waitFor()
  await delay(1500)
  await picture(page, 'admin')
  await page.getByTestId('admin-create').click()
  await page.getByTestId('admin-create-person').click()
  await page.getByTestId('admin-person-name').fill(NAME)
  await picture(page, 'add-colleague')
  await page.getByTestId('admin-person-submit').click()
  const password = await page.getByTestId('admin-person-password').innerText()
  await picture(page, 'colleague-added')
  await page.getByTestId('admin-person-close').click()
  await page.getByTestId('admin-create-submit').waitFor()
  await picture(page, 'create-desktop')
  await page.getByTestId('admin-create-submit').click()
  await page.getByTestId('admin-created').waitFor()
  await picture(page, 'hand-over')
  await page.getByTestId('admin-created-close').click()
  await page.locator('[data-testid^="admin-row-"]').filter({ hasText: NAME }).waitFor()
  await picture(page, 'being-made')

  page = ana.page
  await signIn(page, access.url, 'ana.garcia', password)
  await page.getByTestId('app-list').locator('button').click()
  await page.getByTestId('desktop-steps').waitFor({ timeout: 10_000 })
  await picture(page, 'steps')
  await appears(page)
  await calm(page)
  const domain = await domainOf('ana.garcia')
  if (!(await domains()).includes(domain)) throw new Error(`${domain} does not run`)
  await work(page, domain)
  await picture(page, 'work')

  page = admin.page
  await until('her presence', async () => (await page.locator('[data-presence="connected"]').count()) > 0)
  await picture(page, 'in-use')
  await page.getByTestId('admin-usage').click()
  await page.getByTestId('admin-usage').locator('tbody tr').first().waitFor()
  await picture(page, 'hours')
  await page.getByTestId('admin-part-hosts').click()
  await page.getByTestId('admin-cordon').first().waitFor()
  await picture(page, 'hosts')
  await page.getByTestId('admin-part-desktops').click()
  await page.locator('[data-testid^="admin-row-"]').filter({ hasText: NAME }).getByTestId('admin-destroy').click()
  await page.getByTestId('admin-ask').waitFor()
  await picture(page, 'destroy')
  await page.getByTestId('admin-promise').check()
  await page.getByTestId('admin-confirm').click()
  await ana.page.getByTestId('desktop-ended').waitFor({ timeout: PROGRAM_SECS * 1000 })
  await picture(ana.page, 'destroyed')
} finally {
  await admin.close()
  await ana.close()
}
