// A physical machine: QEMU with a SPICE server of its own, over TLS with a password, without an agent and
// without libvirt. It is on the menu as desktops are; what is wrong with it is told to who may mend it.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import { command, Console, createUser, DAEMONS, quickstart, root, state, until, useVidictl, vidictl, vidictlJson, vidictlWith } from './stack.mjs'
import { accessFaults } from './axe.mjs'
import { connected, open, photograph, quietMoment, signIn, typeLine } from './browser.mjs'
import { freePort } from './port.mjs'
import { steps } from './steps.mjs'

const step = steps(() => page && photograph(page, 'machine-failure').catch(() => {}))
const SECRET = 'open-sesame-7'

let access, browser, page, machine, folder

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vidi-machine-'))
  const template = (await command(join(root, 'packaging/images/build'), 'micro')).trim().split('\n').at(-1)
  await certificates()
  machine = await Machine.start(template)
  access = await quickstart('up')
  useVidictl(access.vidictl)
  await createUser('mia', 'a long enough password', '--role', 'user')
  browser = await open()
  page = browser.page
})

after(async () => {
  machine?.stop()
  await browser?.close()
  await rm(folder, { recursive: true, force: true })
})

const at = (name) => join(folder, name)

// The server's certificate descends from `ca-cert.pem`; `other.pem` is a CA that knows nothing of it.
async function certificates() {
  const openssl = (...args) => command('openssl', ...args)
  const key = (name) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-keyout', at(name)]
  await openssl('req', '-x509', ...key('ca-key.pem'), '-subj', '/CN=lab CA', '-out', at('ca-cert.pem'))
  await openssl('req', '-x509', ...key('other-key.pem'), '-subj', '/CN=lab CA', '-out', at('other.pem'))
  await openssl(
    'req', '-x509', ...key('server-key.pem'), '-subj', '/CN=lab 7', '-CA', at('ca-cert.pem'), '-CAkey', at('ca-key.pem'),
    '-addext', 'subjectAltName=DNS:lab-7.test', '-addext', 'basicConstraints=critical,CA:FALSE', '-out', at('server-cert.pem'),
  )
}

// QEMU, its monitor on standard input and output, its guest's console as libvirt's tests have it.
class Machine {
  static async start(template) {
    const [tls, plain] = [await freePort(), await freePort()]
    const manifest = await readFile(join(template, 'template.toml'), 'utf8')
    const cmdline = /cmdline = "(.*)"/.exec(manifest)[1]
    const spice = `tls-port=${tls},port=${plain},addr=127.0.0.1,x509-dir=${folder},password-secret=ticket`
    const process_ = spawn('qemu-system-x86_64', [
      '-accel', 'tcg', '-m', '256', '-nodefaults', '-display', 'none', '-nic', 'none', '-qmp', 'stdio',
      '-kernel', join(template, 'vmlinuz'), '-initrd', join(template, 'initrd'), '-append', cmdline,
      '-device', 'qxl-vga', '-device', 'qemu-xhci', '-device', 'usb-tablet', '-device', 'virtio-keyboard-pci',
      '-chardev', 'pty,id=console', '-serial', 'chardev:console',
      '-object', `secret,id=ticket,data=${SECRET}`, '-spice', spice,
    ], { stdio: ['pipe', 'pipe', 'inherit'] })
    const machine = new Machine(process_, { tls, plain })
    await machine.said
    await machine.ask('qmp_capabilities')
    const devices = await machine.ask('query-chardev')
    machine.console = new Console(devices.find(({ label }) => label === 'console').filename.replace('pty:', ''))
    return machine
  }

  constructor(process_, ports) {
    this.process = process_
    this.ports = ports
    this.waiting = []
    let rest = ''
    let greeted
    this.said = new Promise((resolve) => (greeted = resolve))
    process_.stdout.on('data', (chunk) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()
      // QEMU says there, too, where the console is.
      for (const line of lines.filter((line) => line.startsWith('{'))) {
        const message = JSON.parse(line)
        if (message.QMP) greeted()
        else if (message.return || message.error) this.waiting.shift()?.(message)
      }
    })
  }

  // QEMU, docs/interop/qmp-spec.
  async ask(execute, args = undefined) {
    const answer = new Promise((resolve) => this.waiting.push(resolve))
    this.process.stdin.write(`${JSON.stringify({ execute, ...(args && { arguments: args }) })}\n`)
    const { error, return: value } = await answer
    if (error) throw new Error(`${execute}: ${error.desc}`)
    return value
  }

  // What the guest shows, by QEMU's own word: {width, height, rgb}.
  async screenshot() {
    await this.ask('screendump', { filename: at('screen.ppm') })
    const bytes = await readFile(at('screen.ppm'))
    const [head, width, height] = /^P6\s(\d+) (\d+)\s255\s/.exec(bytes.subarray(0, 32).toString('latin1'))
    return { width: Number(width), height: Number(height), rgb: bytes.subarray(head.length) }
  }

  stop() {
    this.console.close()
    this.process.kill('SIGKILL')
  }
}

const withPassword = (password, ...args) => vidictlWith(password, 'machine', ...args, '--password')

const shown = () => vidictlJson('machine', 'show', 'Lab 7')
const problem = (pattern) => until(`the problem ${pattern}`, async () => pattern.test((await shown()).status?.problem ?? ''))
const told = (text) => page.getByText(text).first().waitFor()

step('a machine is put on the menu', async () => {
  const dead = await freePort()
  const trust = ['--tls-ca', at('other.pem'), '--host-name', 'lab-7.test']
  await withPassword('not-the-password', 'create', '--name', 'Lab 7', '--address', `127.0.0.1:${dead}`, ...trust)
  const one = await shown()
  assert.equal(one.has_password, true)
  assert.ok(!JSON.stringify(one).includes('not-the-password'), 'the password is not given out')
  await signIn(page, access.url, 'mia', 'a long enough password')
  await page.getByTestId('app-lab-7').waitFor()
})

step('what is wrong with it is told: to the user what it means, to the administrator what to do', async () => {
  await page.getByTestId('app-lab-7').click()
  await told('The machine does not answer. It may be off.')
  await problem(/does not answer: 127\.0\.0\.1:\d+: Connection refused/)
  await photograph(page, 'machine-away')
  await withPassword('not-the-password', 'update', 'Lab 7', '--address', `127.0.0.1:${machine.ports.tls}`)
  await told('The machine is not the one that is expected here')
  await problem(/set the right CA/)
  await withPassword('not-the-password', 'update', 'Lab 7', '--tls-ca', at('ca-cert.pem'), '--host-name', 'lab-8.test')
  await problem(/not issued to lab-8\.test/)
  await withPassword('not-the-password', 'update', 'Lab 7', '--host-name', 'lab-7.test')
  await told('The machine refuses the password that is kept for it')
  await problem(/password .* set the right one/)
})

step('on its page an administrator sees what is wrong, puts another machine on the menu and takes it off again', async () => {
  const admin = await open({ locale: 'en-GB' })
  try {
    const byId = (id) => admin.page.getByTestId(id)
    const row = (name) => byId('admin-machines').getByRole('row').filter({ hasText: name })
    await signIn(admin.page, access.url, access.user, access.password)
    await byId('app-list').waitFor({ state: 'attached' })
    await admin.page.goto(new URL('/admin/machines', access.url).href)
    await until('the problem', async () => /set the right one/.test(await row('Lab 7').getByTestId('admin-machine-problem').innerText()))

    await byId('admin-machine-create').click()
    await byId('admin-machine-name').fill('Lab 8')
    assert.ok(await byId('admin-machine-submit').isDisabled(), 'an address is missing')
    await byId('admin-machine-address').fill('nowhere')
    await byId('admin-machine-ca').fill(await readFile(at('ca-cert.pem'), 'utf8'))
    await byId('admin-machine-password').fill(SECRET)
    await byId('admin-machine-submit').click()
    await admin.page.getByRole('alert').waitFor()
    await byId('admin-machine-address').fill(`127.0.0.1:${await freePort()}`)
    await byId('admin-machine-user').selectOption({ label: 'mia' })
    assert.deepEqual(await accessFaults(admin.page), [])
    await photograph(admin.page, 'machine-form')
    await byId('admin-machine-submit').click()
    await byId('admin-machine-form').waitFor({ state: 'detached' })
    await row('Lab 8').waitFor()
    await byId('admin-machine-filter').fill('lab 8')
    await until('only the one that was looked for', async () => (await row('Lab 7').count()) === 0)
    await byId('admin-machine-filter').fill('')
    await photograph(admin.page, 'machine-admin')
    assert.ok(!(await admin.page.content()).includes(SECRET), 'the password is not given out')
    const apps = async () => (await vidictlJson('machine', 'list')).machines.map(({ display_name }) => display_name)
    assert.deepEqual((await apps()).sort(), ['Lab 7', 'Lab 8'])

    await row('Lab 8').getByTestId('admin-machine-delete').click()
    await byId('admin-confirm').click()
    await until('its end', async () => (await row('Lab 8').count()) === 0 && (await apps()).length === 1)
    assert.deepEqual(admin.problems, [], 'no page error')
  } finally {
    await admin.close()
  }
})

// The canvas equals the machine's picture once that is at rest.
async function exact() {
  const seen = await quietMoment(page, () => machine.screenshot())
  assert.equal(seen.wrong, 0, `${seen.wrong} pixels of the canvas differ from the machine's`)
  return seen
}

step('with the right password its picture is there, and equals its own', async () => {
  await withPassword(SECRET, 'update', 'Lab 7')
  await connected(page)
  assert.equal((await shown()).status.problem ?? '', '')
  // It may still boot.
  await machine.console.said(/first picture drawn/)
  const seen = await exact()
  await photograph(page, 'machine')
  assert.ok(64 <= seen.colors, `${seen.colors} colours`)
})

step('what is typed arrives, and the session names the machine', async () => {
  await page.getByTestId('desktop-canvas').click({ position: { x: 5, y: 5 } })
  await typeLine(page, machine.console, 'hello machine')
  const { name } = await shown()
  const sessions = (await vidictlJson('session', 'list')).sessions
  const mine = sessions.find((one) => one.machine === name)
  assert.ok(mine.user.endsWith('/mia'))
  assert.match(mine.state, /CONNECTED/)
})

step('without TLS it works where the operator says so, and the machine pinned by its own certificate', async () => {
  for (const way of [
    ['--no-tls', '--address', `127.0.0.1:${machine.ports.plain}`],
    ['--tls-ca', at('server-cert.pem'), '--address', `127.0.0.1:${machine.ports.tls}`],
  ]) {
    await assert.rejects(vidictl('machine', 'update', 'Lab 7', ...way), /give it again/)
    await withPassword(SECRET, 'update', 'Lab 7', ...way)
    await page.getByTestId('desktop-canvas').waitFor()
    const session = (await shown()).status.session
    await vidictl('session', 'release', session.split('/').at(-1), '--yes')
    await page.getByTestId('desktop-again').click()
    await connected(page)
    await exact()
  }
})

step('it goes, and its session with it; no secret is in any log', async () => {
  await vidictl('machine', 'delete', 'Lab 7', '--yes')
  await page.getByTestId('desktop-ended').waitFor()
  assert.deepEqual((await vidictlJson('machine', 'list')).machines ?? [], [])
  for (const daemon of DAEMONS) {
    const text = await readFile(join(state, 'log', `${daemon}.log`), 'utf8')
    for (const secret of [SECRET, 'not-the-password']) assert.ok(!text.includes(secret), `${daemon}.log holds a password`)
  }
  assert.deepEqual(browser.problems, [], 'no page error')
})
