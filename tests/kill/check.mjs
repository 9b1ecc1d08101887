// What must hold once everything is up again and has settled. Each part gives sentences; an empty
// list is what is wanted. `lost` marks those that tell of something acknowledged that is not so.
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { command, DAEMONS, domains, state, virsh } from '../e2e/stack.mjs'
import { listAll } from './api.mjs'
import { LIBRARY } from './librarian.mjs'
import { guests } from './observer.mjs'

const PARENT = 'tenants/default'
// A daemon of this size has some tens of either; one that leaks with every fault has hundreds.
const FILES_MAX = 256
const THREADS_MAX = 128
const DIGEST = /^[0-9a-f]{64}$/
const OVERLAY = /^desktop-([0-9a-f-]{36})\.qcow2$/
const idOf = (name) => name.split('/').at(-1)
const wrong = (text) => ({ text, lost: false })
const lost = (text) => ({ text, lost: true })

// Everything as it is now: what the API says, and what lies and runs on the machine.
async function look({ operator, installation, images }) {
  const ask = (path, field) => listAll(operator, path, field, { parent: PARENT })
  const byName = (items) => new Map(items.map((item) => [item.name, item]))
  return {
    desktops: byName(await ask('DesktopService/ListDesktops', 'desktops')),
    sessions: byName(await ask('SessionService/ListSessions', 'sessions')),
    operations: byName(await listAll(operator, 'OperationService/ListOperations', 'operations')),
    templates: byName(await ask('TemplateService/ListTemplates', 'templates')),
    hosts: await listAll(operator, 'HostService/ListHosts', 'hosts'),
    domains: (await domains()).map((name) => name.replace('vidi-', '')),
    defined: (await virsh('list', '--all', '--name')).split('\n').filter((name) => name.startsWith('vidi-')),
    guests: await guests(installation),
    images: await readdir(images),
  }
}

// The list that must become empty; everything in it may still be on its way at first.
export async function unsettled(world, ledger) {
  const now = await look(world)
  return [
    ...await health(world.ports, now),
    ...operations(now, ledger),
    ...desktops(now, ledger),
    ...domainsAndGuests(now),
    ...overlays(now, ledger),
    ...sessions(now, ledger),
    ...templates(now, ledger),
    ...await strays(),
  ]
}

async function health(ports, { hosts }) {
  const found = []
  for (const daemon of DAEMONS) {
    const answer = await fetch(`http://127.0.0.1:${ports[`${daemon}_metrics`]}/ready`, { signal: AbortSignal.timeout(3000) }).catch(() => undefined)
    if (answer?.status !== 200) found.push(wrong(`vidi-${daemon} is not ready (${answer?.status ?? 'no answer'})`))
  }
  for (const { name, status } of hosts) {
    if (!status.connected) found.push(wrong(`${name} is not connected`))
    for (const problem of status.problems ?? []) found.push(wrong(`${name} has a problem: ${problem}`))
    for (const foreign of status.foreignDesktops ?? []) found.push(wrong(`${name} reports ${foreign}, which nobody wants there`))
  }
  return found
}

function operations(now, ledger) {
  const found = []
  for (const { name, kind, target, stage, done } of now.operations.values()) {
    if (!done) found.push(wrong(`${name} (${kind} of ${target}) has not ended: ${stage}`))
  }
  for (const [name, entry] of ledger.operations) {
    const operation = now.operations.get(name)
    if (!operation) {
      found.push(lost(`${name} (${entry.path} of ${entry.desktop}) was told to a client and is not there`))
      continue
    }
    if (!operation.done) continue
    ledger.ended(operation)
    const error = operation.error && `${operation.error.reason}: ${operation.error.message}`
    if (error && !excused(entry, ledger)) found.push(wrong(`${name} (${operation.kind} of ${entry.desktop}) failed although nobody wanted otherwise: ${error}`))
  }
  return found
}

// An operation may fail because of what somebody else wanted meanwhile; a deletion never does.
function excused(entry, ledger) {
  if (entry.path.endsWith('DeleteDesktop')) return false
  const on = entry.path.endsWith('CreateDesktop') ? entry.body.start : !entry.path.endsWith('StopDesktop')
  return ledger.wasCrossed(entry, on)
}

function desktops(now, ledger) {
  const found = []
  for (const [name, { user, policy, destroy }] of ledger.desktops) {
    const desktop = now.desktops.get(name)
    if (destroy === 'told' && desktop) found.push(lost(`${name} was destroyed and is there`))
    if (destroy === undefined && !desktop) found.push(lost(`${name} of ${user} was made, never destroyed, and is not there`))
    if (!desktop) continue
    if (desktop.spec.assignedUser !== user) found.push(lost(`${name} belongs to ${desktop.spec.assignedUser} instead of ${user}`))
    if (policy && desktop.spec.releasePolicy !== policy) found.push(lost(`${name} was made with ${policy} and has ${desktop.spec.releasePolicy}`))
    const on = desktop.spec.power === 'WANTED_POWER_ON'
    const wishes = ledger.finalWishes(name)
    if (destroy === undefined && !wishes.has(on)) {
      found.push(lost(`${name} is wanted ${on ? 'on' : 'off'}, and the last who was answered wanted it ${on ? 'off' : 'on'}`))
    }
    const { power, ready, reason, observedGeneration, hostUnreachable } = desktop.status
    const fits = on ? power === 'POWER_RUNNING' && ready : power === 'POWER_OFF'
    if (!fits || hostUnreachable || observedGeneration !== desktop.spec.generation) {
      found.push(wrong(`${name} is wanted ${on ? 'on' : 'off'} and is ${power}${ready ? ', ready' : ''}${reason ? ` (${reason})` : ''}`))
    }
  }
  for (const name of now.desktops.keys()) {
    if (!ledger.desktops.has(name)) found.push(wrong(`${name} is there, and no client was told that it was made`))
  }
  return found
}

function domainsAndGuests(now) {
  const found = []
  const on = new Set([...now.desktops.values()].filter(({ spec }) => spec.power === 'WANTED_POWER_ON').map(({ name }) => idOf(name)))
  for (const id of on) if (!now.domains.includes(id)) found.push(wrong(`the desktop ${id} is wanted on and has no domain`))
  for (const id of now.domains) if (!on.has(id)) found.push(wrong(`the domain vidi-${id} runs and nobody wants it on`))
  for (const name of now.defined) if (!now.domains.includes(name.replace('vidi-', ''))) found.push(wrong(`${name} is defined and does not run`))
  for (const id of now.guests.found.keys()) if (!now.domains.includes(id)) found.push(wrong(`a QEMU of ${id} runs that libvirt does not know`))
  for (const id of now.domains) if (!now.guests.found.has(id)) found.push(wrong(`libvirt lists vidi-${id} and no QEMU runs for it`))
  for (const id of now.guests.twice) found.push(wrong(`two QEMUs of ${id} run`))
  return found
}

function overlays(now, ledger) {
  const found = []
  const ids = new Set([...now.desktops.keys()].map(idOf))
  const there = new Set()
  for (const file of now.images) {
    const id = OVERLAY.exec(file)?.[1]
    if (id) there.add(id)
    if (id && !ids.has(id)) found.push(wrong(`the overlay ${file} belongs to no desktop`))
    if (!id && !DIGEST.test(file)) found.push(wrong(`the images folder holds ${file}`))
  }
  // Once started, a desktop has what its user did on a disk.
  for (const { path, body, desktop, end } of ledger.operations.values()) {
    const started = end?.error === '' && (path.endsWith('StartDesktop') || path.endsWith('RestartDesktop') || (path.endsWith('CreateDesktop') && body.start))
    if (started && ids.has(idOf(desktop)) && !there.has(idOf(desktop))) found.push(lost(`${desktop} was started and has no overlay`))
  }
  return found
}

function sessions(now, ledger) {
  const found = []
  const claims = new Map()
  for (const { name, status } of now.desktops.values()) {
    if (!status.session) continue
    claims.set(status.session, name)
    const session = now.sessions.get(status.session)
    if (!session || session.state === 'SESSION_STATE_ENDED') found.push(wrong(`${name} is claimed by ${status.session}, which ${session ? 'has ended' : 'is not there'}`))
  }
  for (const { name, desktop, state: phase } of now.sessions.values()) {
    if (phase !== 'SESSION_STATE_ENDED' && claims.get(name) !== desktop) found.push(wrong(`${name} lives and ${desktop} is not claimed by it`))
  }
  for (const [name, entry] of ledger.sessions) {
    const session = now.sessions.get(name)
    if (!session) found.push(lost(`${name} was told to ${entry.user} and is not there`))
    else if (session.state === 'SESSION_STATE_ENDED' && !ledger.mayHaveEnded(entry)) found.push(lost(`${name} of ${entry.user} ended (${session.endReason}) although nobody ended it`))
    else if (session.state !== 'SESSION_STATE_ENDED' && entry.release === 'told') found.push(lost(`${name} of ${entry.user} was released and lives`))
  }
  return found
}

function templates(now, { library }) {
  const disk = now.templates.get(`${PARENT}/templates/${LIBRARY}`)?.latest.manifest.disk.sha256
  return library === undefined || disk === library ? [] : [lost(`the template ${LIBRARY} was uploaded with the disk ${library} and has ${disk ?? 'gone'}`)]
}

// Files that only a step in progress has, and sockets that nobody listens on.
async function strays() {
  const names = ['*.part', '*.new', '*.tmp', 'new-*', 'partial-*'].flatMap((name) => ['-o', '-name', name]).slice(1)
  const files = (await command('find', state, '(', ...names, ')')).trim().split('\n').filter(Boolean)
  const sockets = (await command('find', state, '-type', 's')).trim().split('\n').filter(Boolean).sort()
  const expected = ['controller.sock', 'relay.sock'].map((name) => join(state, 'run', name))
  return [
    ...files.map((file) => wrong(`${file} was left behind`)),
    ...sockets.filter((socket) => !expected.includes(socket)).map((socket) => wrong(`the socket ${socket} was left behind`)),
    ...expected.filter((socket) => !sockets.includes(socket)).map((socket) => wrong(`the socket ${socket} is not there`)),
  ]
}

// A request that was answered before is answered so again.
export async function replays({ operator }, ledger) {
  const found = []
  for (const [name, { path, body }] of ledger.operations) {
    const again = await operator.ask(path, body).catch((error) => ({ name: error.message }))
    if (again.name !== name) found.push(lost(`${path} with the request id ${body.requestId} was answered with ${name}, and now with ${again.name}`))
  }
  return found
}

export async function logs() {
  const found = []
  for (const daemon of DAEMONS) {
    const text = await readFile(join(state, 'log', `${daemon}.log`), 'utf8')
    const at = text.indexOf('panicked')
    if (at >= 0) found.push(wrong(`vidi-${daemon} panicked: ${text.slice(Math.max(0, at - 100), at + 300)}`))
  }
  return found
}

// Open files and threads of the daemons, by their process ids.
export async function leaks(pids) {
  const found = []
  for (const [daemon, pid] of Object.entries(pids)) {
    const [files, threads] = [(await readdir(`/proc/${pid}/fd`)).length, (await readdir(`/proc/${pid}/task`)).length]
    if (files > FILES_MAX || threads > THREADS_MAX) found.push(wrong(`vidi-${daemon} has ${files} open files and ${threads} threads`))
  }
  return found
}
