// Kills, halts and restarts the parts of an installation by a schedule that a seed repeats, and
// restarts what died, as an init system would.
import { execFile, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { DAEMONS, root, state, until } from '../e2e/stack.mjs'

const run = promisify(execFile)

const TARGETS = { controller: 26, agent: 26, relay: 10, gateway: 14, libvirtd: 20, guest: 6 }
const ACTIONS = { kill: 58, halt: 33, end: 9 }
// Sometimes several fall at once, each of them with this chance.
const STORM_CHANCE = 0.12
const STORM_SHARE = 0.6
// Many kills wait for a client's next change and follow it closely: what is half done then is what
// has to be found again.
const HEEL_CHANCE = 0.6
const HEEL_SECONDS_MAX = 1.5
const HEEL_WAIT_SECONDS_MAX = 4
const [GAP_SECONDS_MIN, GAP_SECONDS_MAX] = [1.5, 6]
const [HALT_SECONDS_MIN, HALT_SECONDS_MAX] = [1, 20]
const PAUSE_SECONDS_MAX = 5
// libvirtd asks every QEMU anew what it can do: a fault before it answers would hit nothing.
const BACK_SECONDS = { controller: 2, agent: 2, relay: 2, gateway: 2, libvirtd: 10, guest: 0 }
// systemd's RestartSec of our units, for one that ends by itself.
const RESTART_SECONDS = 1
const END_SECONDS_MAX = 30

// Which fault when: {at, target, action, seconds, heel}; `seconds` until it is restarted or goes on,
// `heel` seconds after a change that a client asks for then.
export function schedule(random, seconds) {
  const faults = []
  const free = {}
  for (let at = random.between(1, 3); at < seconds; at += random.between(GAP_SECONDS_MIN, GAP_SECONDS_MAX)) {
    const storm = random.chance(STORM_CHANCE)
    const target = random.weighted(TARGETS)
    const action = random.weighted(ACTIONS)
    const heel = random.chance(HEEL_CHANCE) ? random.between(0, 1) ** 2 * HEEL_SECONDS_MAX : undefined
    const which = random.unit()
    for (const one of Object.keys(TARGETS)) {
      if (storm ? !random.chance(STORM_SHARE) : one !== target) continue
      const doing = storm || one === 'guest' ? 'kill' : action
      const lasts = doing === 'halt' ? random.between(HALT_SECONDS_MIN, HALT_SECONDS_MAX) : random.between(0, PAUSE_SECONDS_MAX)
      if (at < (free[one] ?? 0)) continue
      free[one] = at + lasts + BACK_SECONDS[one]
      faults.push({ at, target: one, action: doing, seconds: lasts, heel: doing === 'kill' ? heel : undefined, which })
    }
  }
  return faults
}

async function isGone(pid) {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat === '' || stat.includes(') Z ')
}

// One of our daemons, held up by this process.
class Daemon {
  constructor(name, bin, told) {
    Object.assign(this, { name, bin, told, wanted: false, expected: false })
  }

  // Takes over the one that quickstart started.
  async takeOver() {
    const pid = Number(await readFile(join(state, 'run', `${this.name}.pid`), 'utf8'))
    process.kill(pid, 'SIGTERM')
    await until(`the end of vidi-${this.name}`, () => isGone(pid), END_SECONDS_MAX)
    await this.start()
  }

  async start() {
    this.wanted = true
    if (this.child) return
    const log = openSync(join(state, 'log', `${this.name}.log`), 'a')
    const child = spawn(join(this.bin, `vidi-${this.name}`), ['--config', join(state, 'etc', `${this.name}.toml`)], { detached: true, stdio: ['ignore', log, log] })
    closeSync(log)
    this.child = child
    this.expected = false
    this.ended = new Promise((resolve) => child.once('exit', (code, signal) => {
      this.child = undefined
      if (!this.expected) {
        this.told(`vidi-${this.name} ended by itself (${signal ?? `exit code ${code}`})`)
        setTimeout(() => this.wanted && this.start(), RESTART_SECONDS * 1000)
      }
      resolve()
    }))
    await writeFile(join(state, 'run', `${this.name}.pid`), `${child.pid}\n`)
  }

  signal(name) {
    this.child?.kill(name)
  }

  async down(signal) {
    this.wanted = false
    const { child, ended } = this
    if (!child) return
    this.expected = true
    child.kill(signal)
    const timer = setTimeout(() => {
      this.told(`vidi-${this.name} did not end within ${END_SECONDS_MAX} s of ${signal}`)
      child.kill('SIGKILL')
    }, END_SECONDS_MAX * 1000)
    await ended
    clearTimeout(timer)
  }
}

// The private libvirt's daemon; its guests live on without it.
class Libvirtd {
  constructor(folder) {
    Object.assign(this, { name: 'libvirtd', folder })
  }

  async pid() {
    return Number(await readFile(join(this.folder, 'libvirtd.pid'), 'utf8'))
  }

  async start() {
    await run(join(root, 'packaging/private-libvirt'), ['start', this.folder])
  }

  async signal(name) {
    const pid = await this.pid().catch(() => undefined)
    if (pid !== undefined && !(await isGone(pid))) process.kill(pid, name)
  }

  async down(signal) {
    const pid = await this.pid()
    await this.signal(signal)
    await until('the end of libvirtd', () => isGone(pid), END_SECONDS_MAX).catch(() => this.signal('SIGKILL'))
  }
}

export class Faults {
  // `told` gets a sentence for each thing that went wrong by itself; `nextChange` settles when a client
  // asks for a change; `killGuest` kills one of the guests.
  constructor({ bin, libvirtFolder, told, log, nextChange, killGuest }) {
    Object.assign(this, { nextChange, killGuest })
    this.parts = Object.fromEntries(DAEMONS.map((name) => [name, new Daemon(name, bin, told)]))
    this.parts.libvirtd = new Libvirtd(libvirtFolder)
    this.told = told
    this.log = log
    this.injected = 0
    // Windows of time in which a part was away or was coming back, for those who measure.
    this.windows = []
  }

  async takeOver() {
    for (const name of DAEMONS) await this.parts[name].takeOver()
  }

  // Plays the schedule; ends when its last fault is over and everything is up.
  async play(faults) {
    const began = performance.now()
    const running = faults.map(async (fault) => {
      await delay(fault.at * 1000)
      if (fault.heel !== undefined) {
        await Promise.race([this.nextChange(), delay(HEEL_WAIT_SECONDS_MAX * 1000)])
        await delay(fault.heel * 1000)
      }
      await this.inject(fault, (performance.now() - began) / 1000).catch((error) => this.told(`${fault.action} ${fault.target}: ${error.message}`))
    })
    await Promise.all(running)
  }

  async inject({ target, action, seconds, which }, now) {
    this.log(`${now.toFixed(1)} s: ${action} ${target}, ${seconds.toFixed(1)} s`)
    this.injected++
    if (target === 'guest') return this.killGuest(which)
    const part = this.parts[target]
    const window = { target, action, from: Date.now(), to: Infinity }
    this.windows.push(window)
    if (action === 'halt') {
      await part.signal('SIGSTOP')
      await delay(seconds * 1000)
      await part.signal('SIGCONT')
    } else {
      await part.down(action === 'kill' ? 'SIGKILL' : 'SIGTERM')
      await delay(seconds * 1000)
      await part.start()
    }
    window.to = Date.now()
  }

  // Everything runs, whatever the schedule left behind.
  async allUp() {
    for (const part of Object.values(this.parts)) {
      await part.signal('SIGCONT')
      await part.start()
    }
  }

  async allDown() {
    for (const name of [...DAEMONS].reverse()) {
      await this.parts[name].signal('SIGCONT')
      await this.parts[name].down('SIGTERM')
    }
  }
}
