// Looks at the installation from outside while it falls apart: which QEMU runs when, who is on which
// desktop, whether a daemon counts a panic.
import { readFile, readdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { DAEMONS } from '../e2e/stack.mjs'

const LOOK_MS = 250
const ASK_MS = 1000

// The QEMUs of an installation: their process ids by desktop id, and the desktops that have two.
export async function guests(installation) {
  const found = new Map()
  const twice = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const line = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')
    const id = /guest=vidi-([0-9a-f-]{36})/.exec(line)?.[1]
    if (!id || !line.includes(installation)) continue
    // For a moment that is the child which becomes QEMU: only what stays is wrong.
    if (found.has(id)) twice.push(id)
    found.set(id, Number(pid))
  }
  return { found, twice }
}

export class Observer {
  constructor({ installation, ports, operator, ledger }) {
    Object.assign(this, { installation, ports, operator, ledger })
    // By desktop id: [{from, to, pid}], as far as it was seen to run.
    this.runs = new Map()
    this.going = true
    this.done = Promise.resolve()
  }

  start() {
    this.began = Date.now()
    this.done = Promise.all([this.look(), this.ask()])
  }

  async stop() {
    this.going = false
    await this.done
  }

  async look() {
    while (this.going) {
      const { found } = await guests(this.installation)
      const now = Date.now()
      for (const [id, pid] of found) {
        const runs = this.runs.get(id) ?? []
        this.runs.set(id, runs)
        const last = runs.at(-1)
        if (last?.pid === pid) last.to = now
        else runs.push({ from: now, to: now, pid })
      }
      await delay(LOOK_MS)
    }
  }

  async ask() {
    while (this.going) {
      await this.claims().catch(() => {})
      for (const daemon of DAEMONS) await this.panics(daemon).catch(() => {})
      await delay(ASK_MS)
    }
  }

  // Nobody has two sessions on one desktop, and nobody is on another's.
  async claims() {
    const { sessions = [] } = await this.operator.ask('SessionService/ListSessions', { parent: 'tenants/default', pageSize: 1000 }, { seconds: 3 })
    const live = new Map()
    for (const { name, user, desktop, state } of sessions) {
      if (state === 'SESSION_STATE_ENDED') continue
      const other = live.get(desktop)
      if (other) this.ledger.wrongOnce(`${desktop} is claimed twice: by ${other} and by ${name} of ${user}`)
      live.set(desktop, name)
      const owner = this.ledger.desktop(desktop)?.user
      if (owner !== undefined && owner !== user) this.ledger.wrongOnce(`${name}: ${user} is on ${desktop}, which is ${owner}'s`)
    }
  }

  async panics(daemon) {
    const answer = await fetch(`http://127.0.0.1:${this.ports[`${daemon}_metrics`]}/metrics`, { signal: AbortSignal.timeout(1000) })
    const count = /^vidi_task_panics_total\S* (\d+)/m.exec(await answer.text())?.[1]
    if (count !== undefined && count !== '0') this.ledger.wrongOnce(`vidi-${daemon} counts ${count} panics`)
  }
}
