// The installation under test: its programs, its guests, what libvirt and the guest say of them.
import { PNG } from 'pngjs'
import { execFile, spawn } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { setTimeout as delay } from 'node:timers/promises'

const run = promisify(execFile)
const env = process.env

export const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..')
export const state = need('VIDI_STATE')
export const libvirt = need('VIDI_LIBVIRT')
export const results = need('VIDI_RESULTS')
export const DAEMONS = ['controller', 'agent', 'relay', 'gateway']

function need(name) {
  if (!env[name]) throw new Error(`${name} is not set: run tests/run e2e`)
  return env[name]
}

export async function command(file, ...args) {
  const { stdout } = await run(file, args, { maxBuffer: 64 << 20, encoding: 'utf8' })
  return stdout
}

// Waits for a level, not for a time: `check` gives a value when it is reached.
export async function until(what, check, seconds = 60) {
  const end = performance.now() + seconds * 1000
  let last
  for (;;) {
    try {
      const value = await check()
      if (value) return value
    } catch (error) {
      last = error
    }
    if (performance.now() > end) {
      throw new Error(`${what} did not come within ${seconds} s${last ? `: ${last.message}` : ''}`)
    }
    await delay(100)
  }
}

// Runs packaging/quickstart; gives what it prints last.
export async function quickstart(...args) {
  const child = spawn(join(root, 'packaging/quickstart'), [...args, '--state', state, '--libvirt', libvirt, '--yes'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let out = ''
  child.stdout.on('data', (chunk) => (out += chunk))
  const code = await new Promise((resolve) => child.on('close', resolve))
  if (code !== 0) throw new Error(`quickstart ${args.join(' ')} ended with ${code}`)
  const found = Object.fromEntries(
    out.split('\n').flatMap((line) => {
      const match = /^(url|user|password|vidictl): (.*)$/.exec(line)
      return match ? [[match[1], match[2]]] : []
    }),
  )
  return found
}

// The ports that quickstart chose, by their names.
export async function readPorts() {
  const lines = (await readFile(join(state, 'etc/ports'), 'utf8')).trim().split('\n')
  return Object.fromEntries(lines.map((line) => {
    const [name, port] = line.split('=')
    return [name, Number(port)]
  }))
}

export async function pid(daemon) {
  return Number(await readFile(join(state, 'run', `${daemon}.pid`), 'utf8'))
}

// Ends a daemon. It is over when its process is gone, not when it waits to be reaped: by its number
// and name, which it has until then, quickstart would take it for one that runs.
export async function end(daemon, signal) {
  const id = await pid(daemon)
  process.kill(id, signal)
  await until(`the end of ${daemon}`, () => {
    try {
      process.kill(id, 0)
      return false
    } catch {
      return true
    }
  })
}

export const kill9 = (daemon) => end(daemon, 'SIGKILL')

export const virsh = (...args) => command('virsh', '-q', '-c', libvirt, ...args)

export async function domains() {
  const names = (await virsh('list', '--name')).split('\n')
  return names.filter((name) => name.startsWith('vidi-'))
}

let vidictlWords = []
export function useVidictl(words) {
  vidictlWords = words.split(' ')
}
export const vidictl = (...args) => command(vidictlWords[0], ...vidictlWords.slice(1), ...args)
export const vidictlJson = async (...args) => JSON.parse(await vidictl(...args, '-o', 'json'))

// The same with a line for its standard input.
export async function vidictlWith(line, ...args) {
  const asked = run(vidictlWords[0], [...vidictlWords.slice(1), ...args])
  // A program that reads nothing is gone before it is written to.
  asked.child.stdin.on('error', () => {})
  asked.child.stdin.end(`${line}\n`)
  await asked
}

// Makes a person who may sign in with this password.
export const createUser = (id, password, ...options) => vidictlWith(password, 'user', 'create', id, ...options)

// Asks the guest agent of a desktop (QEMU, docs/interop/qemu-ga-ref); it answers once the desktop is drawn.
export async function guestAgent(domain, execute, args = undefined) {
  const command = JSON.stringify({ execute, ...(args && { arguments: args }) })
  return JSON.parse(await virsh('qemu-agent-command', domain, command)).return
}

// Runs a shell's line in the guest as its root, on the user's screen; gives what it printed.
export async function guestRun(domain, line) {
  const env = ['DISPLAY=:0', 'XAUTHORITY=/home/user/.Xauthority', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin']
  const asked = { path: '/bin/sh', arg: ['-c', line], env, 'capture-output': true }
  const { pid } = await guestAgent(domain, 'guest-exec', asked)
  const ended = await until(`the end of ${line}`, async () => {
    const status = await guestAgent(domain, 'guest-exec-status', { pid })
    return status.exited && status
  })
  return Buffer.from(ended['out-data'] ?? '', 'base64').toString()
}

// The bytes of a file in the guest, at most 64 KiB of them.
export async function guestFile(domain, path) {
  const handle = await guestAgent(domain, 'guest-file-open', { path, mode: 'r' })
  try {
    const read = await guestAgent(domain, 'guest-file-read', { handle, count: 65536 })
    return Buffer.from(read['buf-b64'], 'base64').toString()
  } finally {
    await guestAgent(domain, 'guest-file-close', { handle })
  }
}

// The value of a metric of one daemon of this installation, all its labels summed; 0 before its first.
export async function metric(daemon, name) {
  const port = (await readPorts())[`${daemon}_metrics`]
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  return text.split('\n')
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}

// What the guest shows, by libvirt's own screenshot: {width, height, rgb}.
export async function screenshot(domain, uri = libvirt) {
  const file = join(results, `screenshot-${process.pid}`)
  await command('virsh', '-q', '-c', uri, 'screenshot', domain, file)
  const bytes = await readFile(file)
  await rm(file)
  const { width, height, data } = PNG.sync.read(bytes)
  return { width, height, rgb: withoutAlpha(data) }
}

// RGBA to RGB.
export function withoutAlpha(rgba) {
  const rgb = Buffer.alloc((rgba.length / 4) * 3)
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from]
    rgb[to + 1] = rgba[from + 1]
    rgb[to + 2] = rgba[from + 2]
  }
  return rgb
}

// The guest's own reports, as it repeats them on its serial console.
export class Console {
  static async open(domain) {
    const tty = (await virsh('ttyconsole', domain)).trim()
    return new Console(tty)
  }

  constructor(tty) {
    this.lines = []
    // A read of a terminal cannot be called back; a process can.
    this.reader = spawn('cat', [tty], { stdio: ['ignore', 'pipe', 'ignore'] })
    let rest = ''
    this.reader.stdout.on('data', (chunk) => {
      const parts = (rest + chunk.toString('latin1')).split(/\r*\n/)
      rest = parts.pop()
      this.lines.push(...parts)
    })
  }

  // Waits for a line after the first `from` ones; gives the match.
  said(pattern, from = 0, seconds = 60) {
    return until(`the guest's word ${pattern}`, () => {
      for (const line of this.lines.slice(from)) {
        const match = pattern.exec(line)
        if (match) return match
      }
      return undefined
    }, seconds)
  }

  close() {
    this.reader.kill()
  }
}
