// A second machine joins with one pasted line: a network namespace with a libvirt, an agent, a relay
// and a gateway of its own, reached over a cable (veth). A desktop runs there and is seen from here.
import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { after, before } from 'node:test'
import {
  Console, command, createUser, domains, end, quickstart, root, screenshot, state, until, useVidictl, vidictl, vidictlJson,
} from './stack.mjs'
import { differing, open, openFirstApp, photograph, pixels, signIn, typeLine } from './browser.mjs'
import { steps } from './steps.mjs'
import { ended, says } from './faults/common.mjs'

const NAMESPACE = `vidi-h-${process.pid}`
const CABLE = [`vh${process.pid}a`, `vh${process.pid}b`]
// Addresses that nobody routes (RFC 2544).
const [HERE, THERE] = [1, 2].map((last) => `198.18.${process.pid % 256}.${last}`)
const RELAY_PORT = 7444
// The guest's clock and what was typed last may not have arrived yet.
const DIFFERS_MAX = 0.05
const PASSWORD = 'a long enough password'

let access, bin, base, uri, browser, first
const running = {}

const ip = (...args) => command('ip', ...args)
// A program on the second machine, to its end: {code, text}.
const there = (...args) => ended('ip', ['netns', 'exec', NAMESPACE, ...args])
const agent = (...args) => there(join(bin, 'vidi-agent'), ...args)
const configuration = (daemon) => join(base, `${daemon}.toml`)

before(async () => {
  access = await quickstart('up')
  useVidictl(access.vidictl)
  bin = dirname(access.vidictl.split(' ')[0])
  base = await mkdtemp(join(dirname(state), 'h.'))
  await chmod(base, 0o711)
  await ip('netns', 'add', NAMESPACE)
  await ip('link', 'add', CABLE[0], 'type', 'veth', 'peer', 'name', CABLE[1], 'netns', NAMESPACE)
  await ip('addr', 'add', `${HERE}/30`, 'dev', CABLE[0])
  await ip('link', 'set', CABLE[0], 'up')
  await ip('-n', NAMESPACE, 'addr', 'add', `${THERE}/30`, 'dev', CABLE[1])
  for (const link of [CABLE[1], 'lo']) await ip('-n', NAMESPACE, 'link', 'set', link, 'up')
  const started = await there(join(root, 'packaging/private-libvirt'), 'start', join(base, 'v'))
  assert.equal(started.code, 0, started.text)
  uri = started.text.trim().split('\n').at(-1)
  await openToOtherMachines()
  first = (await hosts()).find(({ status }) => status.connected).name.split('/').at(-1)
})

after(async () => {
  await browser?.close()
  for (const daemon of Object.keys(running)) await stop(daemon)
  await there(join(root, 'packaging/private-libvirt'), 'stop', join(base, 'v'))
  await ended('ip', ['netns', 'del', NAMESPACE])
  await rm(base, { recursive: true, force: true })
})

// What docs/install.md says of the first machine: the controller listens for others and tells where.
async function openToOtherMachines() {
  const file = join(state, 'etc/controller.toml')
  const text = await readFile(file, 'utf8')
  const port = /^listen = "127\.0\.0\.1:(\d+)"$/m.exec(text)[1]
  await writeFile(file, text.replace(/^listen = .*$/m, `listen = "0.0.0.0:${port}"\nadvertise = ["${HERE}:${port}"]`))
  await end('controller', 'SIGTERM')
  await quickstart('up')
  await until('the first host', async () => (await hosts()).some(({ status }) => status.connected))
}

async function configure() {
  await mkdir(join(base, 'images'))
  await writeFile(configuration('agent'), [
    '# The second machine.',
    `state = "${base}/agent"`,
    `images = "${base}/images"`,
    `libvirt = "${uri}"`,
    'acceleration = "tcg"',
    `relay_socket = "${base}/relay.sock"`,
    '',
    '# [controller]',
    '# addresses = ["127.0.0.1:7443"]',
    `[telemetry]`,
    'log = "info"',
  ].join('\n'))
  await writeFile(configuration('relay'), `state = "${base}/relay"\nagent_socket = "${base}/relay.sock"\n`)
  await writeFile(configuration('gateway'), `state = "${base}/gateway"\n[https]\nnames = ["${THERE}"]\n`)
}

function start(daemon) {
  const child = spawn('ip', ['netns', 'exec', NAMESPACE, join(bin, `vidi-${daemon}`), '--config', configuration(daemon)], { stdio: ['ignore', 'pipe', 'pipe'] })
  const one = { child, text: '', closed: new Promise((resolve) => child.on('close', resolve)) }
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (one.text += data))
  running[daemon] = one
}

async function stop(daemon) {
  const { child, closed, text } = running[daemon]
  delete running[daemon]
  child.kill('SIGTERM')
  await closed
  assert.ok(!text.includes('panicked'), text)
}

const hosts = async () => (await vidictlJson('host', 'list')).hosts
const host = (id) => vidictlJson('host', 'get', id)
const domainsThere = async () => (await command('virsh', '-q', '-c', uri, 'list', '--name')).split('\n').filter((name) => name.startsWith('vidi-'))

async function findings(...args) {
  const { code, text } = await agent('doctor', '--json', ...args)
  return { code, ...JSON.parse(text), of: (check) => JSON.parse(text).checks.filter((one) => one.check === check) }
}

// How much of the canvas is not what the guest shows. Its clock goes on between the two.
async function shareThatDiffers(page, domain) {
  const guest = await screenshot(domain, uri)
  const seen = await pixels(page)
  assert.deepEqual([seen.width, seen.height], [guest.width, guest.height])
  return differing(seen.rgb, guest.rgb)
}

const step = steps(() => {
  for (const [daemon, { text }] of Object.entries(running)) console.error(`--- ${daemon}\n${text.slice(-4000)}`)
}, { timeout: 120_000 })

step('doctor finds a machine fit that has not joined yet', async () => {
  await configure()
  const report = await findings('--config', configuration('agent'))
  assert.equal(report.code, 1, JSON.stringify(report.checks, null, 1))
  assert.deepEqual(report.checks.filter(({ result }) => result === 'fail'), [])
  assert.match(report.of('certificate')[0].advice, /enroll-token/)
  assert.match(report.of('acceleration')[0].found, /TCG/)
  const people = await agent('doctor', '--config', configuration('agent'))
  assert.match(people.text, /^OK +libvirt /m)
  assert.match(people.text, /^ +-> .*enroll-token/m)
})

step('doctor knows from the agent of the first host how guests run there', async () => {
  const { code, text } = await ended(join(bin, 'vidi-agent'), ['doctor', '--json', '--config', join(state, 'etc/agent.toml')])
  const { checks } = JSON.parse(text)
  const [kvm, acceleration] = ['kvm', 'acceleration'].map((name) => checks.find(({ check }) => check === name))
  assert.ok(code < 2, text)
  assert.match(kvm.found, /\/dev\/kvm/)
  assert.match(acceleration.found, /^KVM: |^emulation \(TCG\): (KVM does not run guests here|there is no)/)
  assert.equal(acceleration.result, acceleration.found.startsWith('KVM') ? 'ok' : 'warn')
  for (const name of ['relay-socket', 'agent', 'relay', 'certificate', 'controller', 'domains']) {
    assert.deepEqual(checks.filter(({ check }) => check === name).map(({ result }) => result), ['ok'], `${name}: ${text}`)
  }
})

step('doctor says what is broken and what to do about it', async () => {
  const good = await readFile(configuration('agent'), 'utf8')
  const closed = join(base, 'closed')
  await mkdir(join(closed, 'images'), { recursive: true, mode: 0o700 })
  for (const [what, text, check, advice] of [
    ['a libvirt that is not there', good.replace(uri, `${uri}-gone`), 'libvirt', /start the libvirtd that listens on/],
    ['a URI that is none', good.replace(uri, 'quemu:///system'), 'libvirt', /qemu:\/\/\/system/],
    ['a folder that QEMU does not get to', good.replace(`${base}/images`, `${closed}/images`), 'images-way', /chmod o\+x .*closed/],
    ['a file in place of a folder', good.replace(`${base}/images`, configuration('relay')), 'images', /correct images/],
    ['a port that the relay does not have', `${good}\n[relay]\nport = 7999\n`, 'port', /same port/],
  ]) {
    const file = join(base, 'broken.toml')
    await writeFile(file, text)
    await writeFile(configuration('relay'), `state = "${base}/relay"\nagent_socket = "${base}/relay.sock"\n`)
    const report = await findings('--config', file)
    assert.equal(report.code, 2, `${what}: ${JSON.stringify(report.checks)}`)
    const found = report.of(check).find(({ result }) => result === 'fail')
    assert.match(found?.advice ?? '', advice, `${what}: ${JSON.stringify(found)}`)
  }
  const bad = join(base, 'broken.toml')
  await writeFile(bad, 'libvrt = "x"\n')
  const { code, text } = await agent('doctor', '--config', bad)
  assert.equal(code, 64, text)
  says(text, 'libvrt')
})

step('a machine that cannot run desktops does not use the token up', async () => {
  const file = join(base, 'unfit.toml')
  await writeFile(file, (await readFile(configuration('agent'), 'utf8')).replace(uri, `${uri}-gone`))
  const token = (await vidictl('host', 'enroll-token', '--id', 'second')).trim()
  const refused = await agent('join', '--config', file, token)
  assert.equal(refused.code, 1, refused.text)
  says(refused.text, 'FAIL', 'libvirt', 'not used up')
  // The same line works once the machine is fit.
  const joined = await agent('join', '--config', configuration('agent'), token)
  assert.equal(joined.code, 0, joined.text)
  says(joined.text, 'joined: host second', 'vidi-relay --config')
  assert.match(await readFile(configuration('agent'), 'utf8'), new RegExp(`^# The second machine\\.[^]*^\\[controller\\]\naddresses = \\["${HERE}:\\d+"\\]`, 'm'))
  const again = await agent('join', '--config', configuration('agent'), token)
  assert.equal(again.code, 1, again.text)
  says(again.text, 'second', '--force')
  const used = await agent('join', '--config', configuration('agent'), '--force', token)
  assert.equal(used.code, 1, used.text)
  says(used.text, 'token')
  const damaged = await agent('join', '--config', configuration('agent'), '--force', token.slice(0, -9))
  assert.equal(damaged.code, 1, damaged.text)
})

step('two hosts are listed, and doctor is content with the second', async () => {
  start('agent')
  start('relay')
  await until('the second host', async () => (await host('second')).status.connected)
  const list = await vidictl('host', 'list')
  assert.match(list, new RegExp(`^${first} +connected `, 'm'))
  assert.match(list, /^second +connected /m)
  await until('the relay', async () => (await findings('--config', configuration('agent'))).of('relay')[0].result === 'ok')
  const report = await findings('--config', configuration('agent'))
  assert.deepEqual(report.checks.filter(({ check, result }) => result !== 'ok' && !['acceleration', 'processor', 'images'].includes(check)), [])
  assert.match(report.of('controller')[0].found, /right certificate and the same time/)
  assert.match(report.of('port')[0].found, /^vidi-relay listens/)
})

step('with the first host cordoned a desktop runs on the second, its image fetched over the cable', async () => {
  await vidictl('host', 'cordon', first)
  assert.match(await vidictl('host', 'list'), new RegExp(`^${first} +connected, cordoned`, 'm'))
  const before_ = await domains()
  await createUser('ben', PASSWORD, '--role', 'user')
  await vidictl('desktop', 'create', '--template', 'micro', '--name', 'away', '--user', 'ben', '--start', '--wait')
  const desktop = await vidictlJson('desktop', 'get', 'away')
  assert.equal(desktop.status.host, 'hosts/second')
  const id = desktop.name.split('/').at(-1)
  assert.deepEqual(await domainsThere(), [`vidi-${id}`])
  assert.deepEqual(await domains(), before_, 'nothing new runs on the first host')
  assert.match(await vidictl('desktop', 'list'), /^\S+ +away +ben +ready +\d+ \w+ +second /m)
})

step('its user sees it, through the gateway here and the relay there', async () => {
  browser = await open()
  await signIn(browser.page, access.url, 'ben', PASSWORD)
  await openFirstApp(browser.page)
  const [domain] = await domainsThere()
  const console_ = new Console((await command('virsh', '-q', '-c', uri, 'ttyconsole', domain)).trim())
  try {
    await browser.page.getByTestId('desktop-canvas').click({ position: { x: 5, y: 5 } })
    await typeLine(browser.page, console_, 'over the cable')
  } finally {
    console_.close()
  }
  const share = await shareThatDiffers(browser.page, domain)
  assert.ok(share < DIFFERS_MAX, `${share} of the canvas differs from the guest's screen`)
  await photograph(browser.page, 'desktop-second-host')
  const links = await command('ss', '-Htn', 'state', 'established', 'dst', `${THERE}:${RELAY_PORT}`)
  assert.ok(links.trim(), 'the gateway has a connection to the relay over the cable')
})

step('a gateway joins the same way', async () => {
  const token = (await vidictl('host', 'enroll-token', '--role', 'gateway', '--id', 'edge')).trim()
  const wrong = await agent('join', '--config', configuration('agent'), '--force', token)
  assert.equal(wrong.code, 1, wrong.text)
  says(wrong.text, 'vidi-gateway join')
  const joined = await there(join(bin, 'vidi-gateway'), 'join', '--config', configuration('gateway'), token)
  assert.equal(joined.code, 0, joined.text)
  says(joined.text, 'joined: gateway edge')
  start('gateway')
  const page = await until('the pages of the second gateway', () => command('curl', '-fsSk', `https://${THERE}:8443/`))
  assert.match(page, /<!doctype html>/i)
  await stop('gateway')
})

step('a drained host runs nothing and starts nothing', async () => {
  await vidictl('host', 'drain', 'second', '--stop-in-use', '--wait')
  assert.deepEqual(await domainsThere(), [])
  assert.match(await vidictl('host', 'list'), /^second +connected, drained/m)
  const [program, ...words] = access.vidictl.split(' ')
  const refused = await ended(program, [...words, 'desktop', 'start', 'away'])
  assert.equal(refused.code, 1, refused.text)
  says(refused.text, 'uncordoned')
  await vidictl('desktop', 'delete', 'away', '--yes', '--wait')
})

step('a host that is not needed any more is deleted, and cannot come back by itself', async () => {
  const [program, ...words] = access.vidictl.split(' ')
  const early = await ended(program, [...words, 'host', 'delete', 'second', '--yes'])
  assert.equal(early.code, 1, early.text)
  await stop('relay')
  await stop('agent')
  await until('the second host away', async () => !(await host('second')).status.connected)
  await vidictl('host', 'delete', 'second', '--yes')
  await vidictl('host', 'uncordon', first)
  assert.deepEqual((await hosts()).map(({ name, spec }) => [name, spec?.cordoned ?? false]), [[`hosts/${first}`, false]])
  start('agent')
  await until('the refusal', () => /removed|refused|not allowed|deleted/i.test(running.agent.text.split('\n').slice(1).join('\n')))
  assert.equal((await hosts()).length, 1)
  await stop('agent')
  assert.equal((await ended(program, [...words, 'host', 'get', 'second'])).code, 5)
  // A new token lets it in again.
  const token = (await vidictl('host', 'enroll-token', '--id', 'second')).trim()
  const joined = await agent('join', '--config', configuration('agent'), '--force', token)
  assert.equal(joined.code, 0, joined.text)
  start('agent')
  await until('the second host again', async () => (await hosts()).some(({ name, status }) => name === 'hosts/second' && status.connected))
})
