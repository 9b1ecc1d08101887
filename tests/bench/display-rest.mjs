// What else belongs to the display path: work of the edge, memory, the raw mode, fuzzing.
import { readFile, readdir } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pid, results, root } from '../e2e/stack.mjs'
import { open } from '../e2e/browser.mjs'
import { focus } from './display-eyes.mjs'
import { repetitions } from './figures.mjs'
import { PEER, startPeer } from './peer.mjs'
import { need } from './suite.mjs'

const SHORT = repetitions === 1
const WORK_SECONDS = SHORT ? 3 : 20
const KEY_PERIOD_MS = 200
// Clock ticks of proc(5), which are hundredths of a second on Linux.
const TICKS = 100

// Processor time of guest and edge while somebody types and changes the picture, ours and the peer's, each
// on a guest of its own.
export async function edgeWork(stage) {
  const { suite, replay } = stage
  const peer = await startPeer({ template: need('VIDI_BENCH_TEMPLATE'), scratch: results, pids: need('VIDI_BENCH_PIDS') })
  suite.closing.push(peer.stop)
  // The sockets lead to the guest, from the next session on.
  await stage.releaseAll()
  replay.tell('door guest')
  suite.closing.push(async () => {
    await stage.releaseAll()
    replay.tell('door here')
  })
  const ours = await stage.ours()
  await stage.openOurs(ours.page)
  const theirs = await open()
  suite.closing.push(() => theirs.close())
  await stage.openTheirs(theirs.page, peer.url)
  await focus(ours.page, '[data-testid="desktop-canvas"]')
  await focus(theirs.page, '#spice-screen canvas')
  const guest = await guestOf(stage.desktop.split('/').at(-1))
  const our = [guest, await pid('relay'), await pid('gateway')]
  const values = await suite.repeat(async () => [
    await worked(ours.page, our),
    await worked(theirs.page, [peer.guest, peer.server]),
  ])
  const [ourSeconds, theirSeconds] = [0, 1].map((side) => values.map((pair) => pair[side]))
  suite.figures.add('edge_cpu_s', 's', ourSeconds, { name: PEER, values: theirSeconds })
  suite.figures.add('edge_cpu_peer_s', 's', theirSeconds)
  suite.figures.add('edge_cpu_ratio', 'ratio', ourSeconds.map((value, index) => value / theirSeconds[index]))
}

// The same keys at the same times; the processor time that these processes and their children took.
async function worked(page, pids) {
  const before = await processorSeconds(pids)
  const began = performance.now()
  for (let key = 0; key * KEY_PERIOD_MS < WORK_SECONDS * 1000; key++) {
    await delay(began + key * KEY_PERIOD_MS - performance.now())
    await page.keyboard.press(key % 15 === 14 ? 'F2' : 'abcdefgh '[key % 9])
  }
  return (await processorSeconds(pids)) - before
}

async function processorSeconds(pids) {
  const stats = new Map()
  for (const name of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const text = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    if (text) stats.set(Number(name), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) })
  }
  const wanted = new Set(pids)
  for (let size = -1; size !== wanted.size;) {
    size = wanted.size
    for (const [id, { parent }] of stats) if (wanted.has(parent)) wanted.add(id)
  }
  for (const id of pids) if (!stats.has(id)) throw new Error(`the process ${id} is gone`)
  return [...wanted].reduce((sum, id) => sum + (stats.get(id)?.ticks ?? 0), 0) / TICKS
}

// The QEMU of a desktop, by what libvirt calls it.
async function guestOf(desktop) {
  for (const name of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    if (command.includes(`guest=vidi-${desktop}`)) return Number(name)
  }
  throw new Error(`no QEMU runs ${desktop}`)
}

// The raw mode's own measurements, where they are.
export async function raw(stage) {
  const file = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, 'raw.mjs')
  if (!existsSync(file)) {
    stage.suite.unmeasured(['raw_added_p99_ms', 'raw_rss_kib_per_session'], 'there is no tests/bench/raw.mjs')
    return
  }
  // Other viewers have the desktop for themselves: the next part begins with a session of its own.
  stage.suite.closing.push(() => stage.releaseAll())
  const { measureRaw } = await import(file)
  await measureRaw(stage)
}

// What the last long run of the fuzzers found: tests/fuzz/record.json.
export async function fuzzing({ suite }) {
  const file = join(root, 'tests/fuzz/record.json')
  const record = existsSync(file) ? JSON.parse(await readFile(file, 'utf8')) : {}
  for (const [metric, unit] of [['fuzz_cpu_minutes_min', 'minutes'], ['fuzz_line_coverage_min', 'ratio'], ['fuzz_findings_open', 'findings']]) {
    if (typeof record[metric] === 'number') suite.figures.add(metric, unit, [record[metric]])
    else suite.unmeasured([metric], 'it is not in tests/fuzz/record.json')
  }
}
