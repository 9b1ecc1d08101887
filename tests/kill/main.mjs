// The real stack, killed: faults by a schedule, clients at work, then what must hold.
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { command, DAEMONS, quickstart, readPorts, results, state, useVidictl } from '../e2e/stack.mjs'
import { Operator, Person } from './api.mjs'
import { leaks, logs, replays, unsettled } from './check.mjs'
import { Owner, Steady, User } from './clients.mjs'
import { Display } from './display.mjs'
import { Faults, schedule } from './faults.mjs'
import { Ledger } from './ledger.mjs'
import { Librarian, strayImages } from './librarian.mjs'
import { Observer, guests } from './observer.mjs'
import { Random } from './random.mjs'
import { usage } from './usage.mjs'

// With the untouched one: as many guests as two processors can emulate.
const USERS = 3
const PASSWORD = 'a long enough password'
// A guest that boots under emulation, asked to go off, answers within 60 s or is unplugged.
const SETTLE_SECONDS_MAX = 150
const PICTURE_SECONDS_MAX = 60
const SETTLE_LOOK_MS = 1000
// Longer than any chain of faults that keeps the controller from hearing of a guest's end.
const HEARD_SECONDS_MAX = 60

const seconds = Number(process.env.VIDI_KILL_SECONDS)
const seed = process.env.VIDI_KILL_SEED
const began = performance.now()
const say = (text) => console.error(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} ${text}`)

let phase = 'faults'
const ledger = new Ledger()
const access = await quickstart('up')
const ports = await readPorts()
const subject = await command('openssl', 'x509', '-in', join(state, 'lib/agent/identity/cert.pem'), '-noout', '-ext', 'subjectAltName')
const installation = /URI:vidi:\/\/([0-9a-f-]*)\//.exec(subject)[1]
const bin = process.env.VIDI_KILL_BIN || dirname(access.vidictl.split(' ')[0])
const faults = new Faults({ bin, libvirtFolder: process.env.VIDI_LIBVIRT_DIR, told: (sentence) => ledger.wrong.push(sentence), log: say, nextChange: () => ledger.nextChange(), killGuest })
useVidictl(access.vidictl)
const options = { ended: () => phase === 'over' }
const operator = new Operator(join(state, 'run/controller.sock'), options)
const world = { operator, ports, installation, images: join('/var/lib/vidi/images', installation) }
world.observer = new Observer({ installation, ports, operator, ledger })
const measured = []
const librarian = new Librarian({ ledger, random: new Random(seed, 'librarian'), stopping: () => stopping(), folder: join(dirname(state), 'library') })
const stopping = () => phase !== 'faults'
const person = (user, password) => new Person(ports.https_port, user, password, options)

const found = []
try {
  await faults.takeOver()
  await torture()
  say('everything is brought up and left to settle')
  found.push(...await settled())
  found.push(...await usage(world, { observer: world.observer, ledger, windows: faults.windows, measured }))
  found.push(...await replays(world, ledger))
  found.push(...await works())
  await librarian.upload()
  found.push(...await strayImages())
  found.push(...await logs())
  found.push(...await leaks(Object.fromEntries(DAEMONS.map((name) => [name, faults.parts[name].child?.pid]))))
} catch (error) {
  found.push({ text: `the run itself failed: ${error.stack}`, lost: false })
} finally {
  phase = 'over'
  await world.observer.stop()
  operator.close()
  await faults.allDown().catch((error) => found.push({ text: error.message, lost: false }))
}
await report()

async function torture() {
  const owners = []
  const users = []
  for (let index = 1; index <= USERS; index++) {
    const user = `user-${index}`
    await operator.ask('UserService/CreateUser', { parent: 'tenants/default', userId: user, user: { displayName: user, roles: ['user'] }, password: PASSWORD })
    owners.push(new Owner({ operator, ledger, random: new Random(seed, `owner ${index}`), user, stopping }))
    users.push(new User({ person: person(user, PASSWORD), ledger, random: new Random(seed, user), stopping }))
  }
  const steady = new Steady({ person: person(access.user, access.password), ledger, stopping })
  await steady.begin()
  world.steady = { desktop: steady.app.desktop, session: steady.session.name }
  world.steady.pid = (await guests(installation)).found.get(world.steady.desktop.split('/').at(-1))
  world.observer.start()
  const clients = [...owners, ...users, steady, librarian].map((client) => client.run().catch((error) => ledger.wrong.push(`a client stopped: ${error.stack}`)))
  // Without faults, to know what the clients alone see.
  if (process.env.VIDI_KILL_CALM) await delay(seconds * 1000)
  else await faults.play(schedule(new Random(seed, 'faults'), seconds))
  await faults.allUp()
  phase = 'settling'
  await within(SETTLE_SECONDS_MAX, Promise.all(clients), 'the clients did not come to their end')
  found.push(...await untouched(world.steady))
  say(`the longest time without a picture of the untouched desktop: ${steady.longestDark.toFixed(1)} s`)
}

// One of the guests whose desktop anybody may touch; to the controller it went off by itself, once it
// hears of it.
async function killGuest(which) {
  const { found: running } = await guests(installation)
  running.delete(world.steady.desktop.split('/').at(-1))
  const [id, pid] = [...running][Math.floor(which * running.size)] ?? []
  if (id === undefined) return
  const want = ledger.want(`tenants/default/desktops/${id}`, false, { maybe: true })
  process.kill(pid, 'SIGKILL')
  want.to = Date.now() + HEARD_SECONDS_MAX * 1000
}

async function within(limit, promise, sentence) {
  const late = Symbol('late')
  const timer = new AbortController()
  const first = await Promise.race([promise, delay(limit * 1000, late, { signal: timer.signal })])
  timer.abort()
  if (first === late) ledger.wrong.push(`${sentence} within ${limit} s`)
}

async function untouched({ desktop, pid, session }) {
  const { found: now } = await guests(installation)
  const there = now.get(desktop.split('/').at(-1))
  const wrong = there === pid ? [] : [{ text: `the untouched desktop's QEMU was ${pid} and is ${there}`, lost: true }]
  const { state: phaseOf } = await operator.ask('SessionService/GetSession', { name: session })
  if (phaseOf === 'SESSION_STATE_ENDED') wrong.push({ text: `the session on the untouched desktop has ended`, lost: true })
  return wrong
}

async function settled() {
  const end = performance.now() + SETTLE_SECONDS_MAX * 1000
  for (;;) {
    const left = await unsettled(world, ledger).catch((error) => [{ text: `the installation cannot be looked at: ${error.message}`, lost: false }])
    if (left.length === 0) {
      say('settled')
      return []
    }
    if (performance.now() > end) return left
    await delay(SETTLE_LOOK_MS)
  }
}

// Afterwards it is an installation like any other: who has a desktop opens it and sees a picture.
async function works() {
  const wrong = []
  for (let index = 1; index <= USERS; index++) {
    const one = person(`user-${index}`, PASSWORD)
    await one.signIn()
    const { apps = [] } = await one.ask('SessionService/ListApps')
    for (const { name } of apps) {
      const session = await one.ask('SessionService/OpenApp', { name, requestId: `after-${index}` })
      const end = performance.now() + PICTURE_SECONDS_MAX * 1000
      let seen = false
      while (!seen && performance.now() < end) {
        const display = new Display(one, session.name)
        seen = await display.picture((end - performance.now()) / 1000)
        display.leave()
        if (!seen) await delay(500)
      }
      if (!seen) wrong.push({ text: `user-${index} opens ${name} and sees no picture`, lost: false })
      await one.ask('SessionService/ReleaseSession', { name: session.name })
    }
    one.close()
  }
  return wrong
}

async function report() {
  const sentences = [...new Set([...ledger.wrong, ...found.map(({ text, lost }) => (lost ? `LOST: ${text}` : text))])]
  const summary = {
    seed, seconds, rounds: faults.injected, lost: new Set(found.filter(({ lost }) => lost).map(({ text }) => text)).size, wrong: sentences,
    counts: ledger.counts, operations: ledger.operations.size, desktops: ledger.desktops.size, sessions: ledger.sessions.size,
  }
  await writeFile(join(results, 'seen.json'), JSON.stringify({ windows: faults.windows, runs: [...world.observer.runs], connections: ledger.connections, usage: measured }))
  await writeFile(join(results, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`)
  say(`${summary.operations} operations, ${summary.desktops} desktops, ${summary.sessions} sessions: ${Object.entries(ledger.counts).map(([what, count]) => `${what} ${count}`).join(', ')}`)
  for (const sentence of sentences) say(`WRONG: ${sentence}`)
  console.log(`seed ${seed}: kill_rounds ${summary.rounds}, kill_lost ${summary.lost}, ${sentences.length} wrong`)
  process.exitCode = sentences.length === 0 ? 0 : 1
}
