// What sessions cost the gateway's process: many machines of one SPICE server, each looked at by a viewer.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { end, pid, quickstart, state } from '../e2e/stack.mjs'
import { Operator } from '../kill/api.mjs'
import { repetitions } from './figures.mjs'
import { Viewer } from './viewer.mjs'

const SHORT = repetitions === 1
const BUSY_SESSIONS = SHORT ? 2 : 40
const IDLE_SESSIONS = SHORT ? 4 : 200
// So many at once are opened: each is a handshake of three channels.
const AT_ONCE = 8
const PICTURE_SECONDS_MAX = 60
// What is idle is packed after a while; until then memory falls.
const SETTLE_SECONDS_MAX = SHORT ? 2 : 120
const STILL_SECONDS = SHORT ? 1 : 40
const SETTLE_KIB = 512
const [WIDTH, HEIGHT] = [1024, 768]

export async function memory(stage) {
  const { suite, replay } = stage
  const machines = await makeMachines(stage, IDLE_SESSIONS)
  replay.tell('to all')
  // A new process: one that has worked has memory left over, which would hide what sessions take.
  await end('gateway', 'SIGTERM')
  await quickstart('up')
  await stage.person.ask('SessionService/ListApps')
  const before = await resident()
  const busy = await look(stage, machines.slice(0, BUSY_SESSIONS))
  await replay.begin('idle', 600)
  await delay(3000)
  const pixels = WIDTH * HEIGHT * 4 / 1024
  suite.figures.add('session_overhead_kib', 'KiB', [((await resident()) - before) / BUSY_SESSIONS - pixels])
  replay.tell('stop')
  replay.tell('size 1920 1080')
  suite.closing.push(async () => replay.tell('size 1024 768'))
  await look(stage, machines.slice(busy.length, IDLE_SESSIONS))
  const rss = await settled()
  suite.figures.add(`idle_${IDLE_SESSIONS}_sessions_1080p_rss_mb`, 'MB', [rss * 1024 / 1e6])
  if (SHORT) suite.unmeasured(['idle_200_sessions_1080p_rss_mb'], 'the short form opens only a few')
}

// Machines that are the replayed screen, on the person's menu; `more` are further fields of each.
export async function makeMachines(stage, count, more = {}) {
  const { suite } = stage
  const operator = new Operator(join(state, 'run/controller.sock'), { ended: () => false })
  suite.closing.push(async () => operator.close())
  const parent = 'tenants/default'
  const made = []
  suite.closing.push(async () => {
    for (const { name } of made) await operator.ask('MachineService/DeleteMachine', { name })
  })
  for (let index = 0; index < count; index++) {
    const machine = { displayName: `replayed-${index}`, address: `127.0.0.1:${stage.spicePort}`, assignedUser: `${parent}/users/admin`, ...more }
    made.push(await operator.ask('MachineService/CreateMachine', { parent, machine, requestId: crypto.randomUUID() }))
  }
  return made
}

// Opens a session on each of the machines, with a viewer that has its picture.
async function look(stage, machines) {
  const { suite, person } = stage
  const viewers = []
  const open = async ({ app }) => {
    const session = await person.ask('SessionService/OpenApp', { name: app, requestId: crypto.randomUUID() })
    const viewer = new Viewer(person, session.name)
    suite.closing.push(async () => viewer.leave())
    if (!(await viewer.picture(PICTURE_SECONDS_MAX))) throw new Error(`${app} showed no picture`)
    viewers.push(viewer)
  }
  for (let at = 0; at < machines.length; at += AT_ONCE) await Promise.all(machines.slice(at, at + AT_ONCE).map(open))
  return viewers
}

// The gateway's resident memory, in KiB: proc(5).
export async function resident() {
  const status = await readFile(`/proc/${await pid('gateway')}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)[1])
}

// The same once it has stood still for a while, since what is idle is packed only after some time.
async function settled() {
  const end = performance.now() + SETTLE_SECONDS_MAX * 1000
  let [last, since] = [await resident(), performance.now()]
  while (performance.now() < Math.min(end, since + STILL_SECONDS * 1000)) {
    await delay(1000)
    const now = await resident()
    if (Math.abs(now - last) >= SETTLE_KIB) [last, since] = [now, performance.now()]
  }
  return resident()
}
