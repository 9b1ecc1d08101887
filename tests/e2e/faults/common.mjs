// What every fault is measured against: the installation goes on as if nothing had happened.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdtemp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { DAEMONS, domains, pid, quickstart, readPorts, root, state, until, useVidictl } from '../stack.mjs'
import { open, openFirstApp, signIn } from '../browser.mjs'
import { freePort } from '../port.mjs'

// A daemon says why it cannot start, or a program that it is done, in this time.
const END_SECONDS_MAX = 60

export const world = {}

// Brings up the installation and a signed-in browser; what is noted here must not change.
export async function begin() {
  world.access = await quickstart('up')
  useVidictl(world.access.vidictl)
  world.vidictl = world.access.vidictl.split(' ')
  world.bin = dirname(world.vidictl[0])
  world.ports = await readPorts()
  world.pids = Object.fromEntries(await Promise.all(DAEMONS.map(async (daemon) => [daemon, await pid(daemon)])))
  world.domains = await domains()
  assert.equal(world.domains.length, 1, 'quickstart leaves exactly one desktop running')
  world.folder = await mkdtemp(join(dirname(state), 'f.'))
  world.browser = await open()
  await signIn(world.browser.page, world.access.url, world.access.user, world.access.password)
  await world.browser.page.getByTestId('app-list').waitFor()
}

export async function end() {
  await world.browser?.close()
  if (world.folder) await rm(world.folder, { recursive: true, force: true })
}

// A test whose fault must leave the installation unharmed. `opens` false: nothing that the user needs
// was touched, so that opening the desktop again would only cost time.
export function fault(name, { opens = true } = {}, work) {
  test(name, { timeout: 180_000 }, async (context) => {
    await work(context)
    await unharmed()
    if (opens) await userCanOpen()
  })
}

// All daemons live, are the same processes, have not panicked; the same desktop runs, and no other.
export async function unharmed() {
  for (const daemon of DAEMONS) {
    assert.equal(await pid(daemon), world.pids[daemon], `${daemon} is the same process`)
    const answer = await fetch(`http://127.0.0.1:${world.ports[`${daemon}_metrics`]}/live`)
    assert.equal(answer.status, 200, `${daemon} says that it lives`)
    noPanic(await readFile(join(state, 'log', `${daemon}.log`), 'utf8'), `${daemon}.log`)
  }
  assert.deepEqual(await domains(), world.domains, 'the same desktop runs, and no other')
}

export function noPanic(text, where) {
  const at = text.indexOf('panicked')
  assert.ok(at < 0, `${where} tells of a panic: ${text.slice(Math.max(0, at - 200), at + 400)}`)
}

export async function userCanOpen() {
  const { page } = world.browser
  await page.goto(world.access.url)
  await openFirstApp(page)
}

// A sentence that helps: names the thing, and is more than a code.
export function says(text, ...words) {
  for (const word of words) assert.match(text, word instanceof RegExp ? word : new RegExp(escape(word), 'i'))
  assert.ok(text.trim().split(/\s+/).length >= 4, `not a sentence: ${text}`)
}
const escape = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

// Runs a program to its end: {code, text} of everything it said.
export function ended(file, args, { input } = {}) {
  return new Promise((resolve, reject) => {
    const child = execFile(file, args, { maxBuffer: 16 << 20, timeout: END_SECONDS_MAX * 1000 }, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') reject(new Error(`${file} ${args.join(' ')} did not end by itself (${error.signal ?? error.code}): ${stdout}${stderr}`))
      else resolve({ code: error?.code ?? 0, text: stdout + stderr })
    })
    // A program that reads nothing is gone before it is written to.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
}

export const refusedVidictl = async (...args) => {
  const { code, text } = await ended(world.vidictl[0], [...world.vidictl.slice(1), ...args])
  assert.notEqual(code, 0, `vidictl ${args.join(' ')} should be refused, and said: ${text}`)
  noPanic(text, 'vidictl')
  return text
}

export async function file(name, text) {
  const path = join(world.folder, name)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
  return path
}

export async function folder(name) {
  const path = join(world.folder, name)
  await mkdir(path, { recursive: true })
  return path
}

// A daemon beside the installation's own, with a configuration of its own.
export class Daemon {
  constructor(name, config) {
    this.name = name
    this.text = ''
    this.child = spawn(join(world.bin, `vidi-${name}`), ['--config', config], { stdio: ['ignore', 'pipe', 'pipe'] })
    const keep = (data) => (this.text += data)
    this.child.stdout.on('data', keep)
    this.child.stderr.on('data', keep)
    this.closed = new Promise((resolve) => this.child.on('close', resolve))
  }

  // Its exit code, when it ends by itself.
  async code() {
    let timer
    const late = new Promise((resolve) => (timer = setTimeout(resolve, END_SECONDS_MAX * 1000, 'late')))
    const code = await Promise.race([this.closed, late])
    clearTimeout(timer)
    if (code === 'late') {
      await this.stop()
      assert.fail(`vidi-${this.name} went on instead of ending: ${this.text}`)
    }
    return code
  }

  lives() {
    assert.equal(this.child.exitCode ?? this.child.signalCode, null, `vidi-${this.name} ended: ${this.text}`)
  }

  answers(port, path = 'ready') {
    return until(`${this.name}'s /${path}`, async () => {
      this.lives()
      return (await fetch(`http://127.0.0.1:${port}/${path}`)).ok
    })
  }

  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM')
      const timer = setTimeout(() => this.child.kill('SIGKILL'), 15_000)
      await this.closed
      clearTimeout(timer)
    }
    noPanic(this.text, `vidi-${this.name}`)
  }
}

// A second controller, on a state and ports of its own: {daemon, grpc, socket, vidictl, stop}.
export async function secondController(name, { images, stateFolder } = {}) {
  const base = await folder(name)
  const [grpc, metrics] = [await freePort(), await freePort()]
  const socket = join(base, 'c.sock')
  const config = await file(`${name}/controller.toml`, [
    `state = "${stateFolder ?? join(base, 'state')}"`,
    `images = "${images ?? join(base, 'images')}"`,
    `listen = "127.0.0.1:${grpc}"`,
    `socket = "${socket}"`,
    `key_file = "${join(base, 'controller.key')}"`,
    '[telemetry]',
    `listen = "127.0.0.1:${metrics}"`,
  ].join('\n'))
  const daemon = new Daemon('controller', config)
  try {
    await daemon.answers(metrics)
  } catch (error) {
    await daemon.stop()
    throw error
  }
  return {
    daemon, grpc, socket, metrics,
    vidictl: (...args) => ended(world.vidictl[0], ['--socket', socket, ...args]),
    stop: () => daemon.stop(),
  }
}

// A tmpfs of `size` (as mount takes it); gives the function that takes it away.
export async function smallDisk(path, size) {
  await mkdir(path, { recursive: true })
  const { code, text } = await ended('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=755`, 'vidi-faults', path])
  assert.equal(code, 0, text)
  return () => ended('umount', ['-l', path])
}

let template
export async function microTemplate() {
  if (!template) {
    const { code, text } = await ended(join(root, 'packaging/images/build'), ['micro'])
    assert.equal(code, 0, text)
    template = text.trim().split('\n').at(-1)
  }
  return template
}

export { state }
