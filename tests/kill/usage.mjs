// Hours used, compared with what was seen from outside.
//
// A desktop runs from the start of its QEMU to its end; a user is connected while the gateway tells
// the viewer so. The controller learns of each of these moments by way of the daemons, so it may hear
// of one late: at the first time after it at which all that carry the word had been up for as long as
// they need to find each other. Until then a beginning does not count and an end counts on; between a
// beginning and its end nothing may be lost or counted twice, however often anything was killed. So
// the error of a line is at most the sum over its moments of `lateness`.
//
// Of connections three things more are known. Who is back within 15 s was never gone: a gap that short
// counts. A gateway or a controller that is halted loses the other: that time may count or not. An end
// of which no controller heard, because it died too, is put where the controller last wrote that it
// was there, which it does every 60 s.
import { listAll } from './api.mjs'

// A look of the observer, libvirt's event, the agent's round, its report, on a busy machine.
const WORD_SECONDS = 3
// The same after a restart: everything is listed, links are made again.
const RECOVERY_SECONDS = 4
// libvirt prepares a QEMU before it lets its processors run; a busy machine takes so long for it.
const PREPARATION_SECONDS = 12
const GAP_SECONDS = 15
const ALIVE_SECONDS = 60
const CARRIERS = { running: ['controller', 'agent', 'libvirtd'], connected: ['controller', 'gateway'] }

const carried = (windows, targets) => windows.filter(({ target }) => targets.includes(target)).sort((one, other) => one.from - other.from)

// Seconds by which the word of a moment may come late.
export function lateness(at, windows, targets) {
  const carriers = carried(windows, targets)
  // One that came back just before is still finding the others.
  const fresh = carriers.some(({ to }) => to <= at && at < to + RECOVERY_SECONDS * 1000)
  let need = (fresh ? RECOVERY_SECONDS : WORD_SECONDS) * 1000
  let heard = at + need
  for (const { from, to } of carriers) {
    if (from < heard && heard - need < to) {
      need = RECOVERY_SECONDS * 1000
      heard = to + need
    }
  }
  return (heard - at) / 1000
}

const secondsOf = (intervals) => intervals.reduce((sum, { from, to }) => sum + (to - from) / 1000, 0)
const overlap = (one, other) => Math.max(0, Math.min(one.to, other.to) - Math.max(one.from, other.from)) / 1000
const wider = ({ from, to }) => ({ from: from - WORD_SECONDS * 1000, to: to + RECOVERY_SECONDS * 1000 })

function clipped(intervals, start, now) {
  return intervals.map((one) => ({ ...one, from: Math.max(one.from, start), to: Math.min(one.to, now) })).filter(({ from, to }) => from < to)
}

// What the controller may say of the time that a desktop ran: {low, high}.
function runningBounds(runs, windows) {
  let [low, high] = [secondsOf(runs) - 1, secondsOf(runs) + 1]
  for (const { from, to } of runs) {
    low -= Math.min((to - from) / 1000, PREPARATION_SECONDS + lateness(from, windows, CARRIERS.running))
    high += lateness(to, windows, CARRIERS.running)
  }
  return { low, high }
}

// The same for the time that a user was connected.
function connectedBounds(spans, windows) {
  const halts = carried(windows, CARRIERS.connected).filter(({ action }) => action === 'halt').map(wider)
  const gateways = carried(windows, ['gateway']).map(wider)
  const deaths = carried(windows, ['controller']).filter(({ action }) => action !== 'halt').map(wider)
  let [low, high] = [-1, 1]
  spans.forEach((span, index) => {
    const whole = (span.to - span.from) / 1000
    const late = lateness(span.to, windows, CARRIERS.connected)
    const untold = { from: span.to, to: span.to + late * 1000 }
    const unheard = deaths.filter((death) => overlap(death, untold) > 0 || gateways.some((gateway) => overlap(gateway, death) > 0 && overlap(gateway, span) > 0))
    const lost = lateness(span.from, windows, CARRIERS.connected) + halts.reduce((sum, halt) => sum + overlap(span, halt), 0) + ALIVE_SECONDS * unheard.length
    low += Math.max(0, whole - lost)
    const gap = ((spans[index + 1]?.from ?? Infinity) - span.to) / 1000
    // A controller that starts within the gap gives the gateways a whole one anew.
    let grace = GAP_SECONDS + late
    for (const death of deaths) {
      const back = (death.to - span.to) / 1000
      if (back > 0 && (death.from - span.to) / 1000 < grace) grace = Math.max(grace, back + GAP_SECONDS)
    }
    high += whole + (gap < grace ? gap : late)
  })
  return { low, high }
}

// Sentences on every line outside its bounds; `measured` gets what was compared.
export async function usage({ operator }, { observer, ledger, windows, measured }) {
  const found = []
  const start = observer.began
  const lines = await listAll(operator, 'UsageService/ListUsage', 'usage', { parent: 'tenants/default', startTime: new Date(start).toISOString() })
  const now = Date.now()
  const told = new Map()
  const add = (key, seconds) => told.set(key, (told.get(key) ?? 0) + Number(seconds ?? 0))
  for (const { desktop, user, runningSecs, connectedSecs } of lines) {
    add(`running ${desktop}`, runningSecs)
    if (Number(connectedSecs ?? 0) > 0) add(`connected ${desktop} ${user}`, connectedSecs)
  }
  const judge = (key, intervals, bounds) => {
    const [said, seen] = [told.get(key) ?? 0, secondsOf(intervals)]
    const { low, high } = bounds(intervals, windows)
    measured.push({ key, said, seen: Number(seen.toFixed(1)), low: Number(low.toFixed(1)), high: Number(high.toFixed(1)) })
    if (said < Math.floor(low) || said > Math.ceil(high)) {
      found.push({ text: `hours used, ${key}: ${said} s by the controller, ${seen.toFixed(1)} s seen, ${low.toFixed(1)} to ${high.toFixed(1)} s allowed`, lost: true })
    }
  }
  for (const name of ledger.desktops.keys()) {
    judge(`running ${name}`, clipped(observer.runs.get(name.split('/').at(-1)) ?? [], start, now), runningBounds)
  }
  const spans = new Map([...told.keys()].filter((key) => key.startsWith('connected ')).map((key) => [key, []]))
  for (const { user, desktop, from, to } of ledger.connections) {
    const key = `connected ${desktop} ${user}`
    spans.set(key, [...(spans.get(key) ?? []), { from, to }])
  }
  for (const [key, mine] of spans) judge(key, clipped(mine.sort((one, other) => one.from - other.from), start, now), connectedBounds)
  return found
}
