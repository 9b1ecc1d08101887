// What else belongs to the display path: work of the edge, memory, the raw mode, fuzzing.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pid, results, root } from '../e2e/stack.mjs'
import { open } from '../e2e/browser.mjs'
import { focus } from './display-eyes.mjs'
import { repetitions } from './figures.mjs'
import { startPeer } from './peer.mjs'
import { below, processes, processorSeconds } from './processes.mjs'
import { measureRaw } from './raw.mjs'
import { need } from './suite.mjs'

const SHORT = repetitions === 1
const WORK_SECONDS = SHORT ? 3 : 20
const KEY_PERIOD_MS = 200

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
  // By what libvirt calls it.
  const guest = (await processes()).find(({ command }) => command.includes(`guest=vidi-${stage.desktop.split('/').at(-1)}`))
  if (!guest) throw new Error(`no QEMU runs ${stage.desktop}`)
  const edge = [await pid('relay'), await pid('gateway')]
  const pairs = await suite.repeat(async () => [
    await worked(ours.page, guest.pid, edge),
    await worked(theirs.page, peer.guest, [peer.server]),
  ])
  const both = pairs.map((pair) => pair.map(({ guest, edge }) => guest + edge))
  suite.compare({ name: 'edge_cpu_s', peer: 'edge_cpu_peer_s', ratio: 'edge_cpu_ratio', unit: 's' }, both)
  // Told apart from the guest's.
  suite.compare({ name: 'edge_alone_cpu_s', peer: 'edge_alone_cpu_peer_s', unit: 's' }, pairs.map((pair) => pair.map(({ edge }) => edge)))
}

// The same keys at the same times; the processor time that the guest and the edge's processes took, each with
// its children.
async function worked(page, guest, edge) {
  const taken = async () => ({ guest: await secondsBelow([guest]), edge: await secondsBelow(edge) })
  const before = await taken()
  const began = performance.now()
  for (let key = 0; key * KEY_PERIOD_MS < WORK_SECONDS * 1000; key++) {
    await delay(began + key * KEY_PERIOD_MS - performance.now())
    await page.keyboard.press(key % 15 === 14 ? 'F2' : 'abcdefgh '[key % 9])
  }
  const after = await taken()
  return { guest: after.guest - before.guest, edge: after.edge - before.edge }
}

async function secondsBelow(pids) {
  const all = await processes()
  const gone = pids.filter((id) => !all.some(({ pid }) => pid === id))
  if (gone.length) throw new Error(`these processes are gone: ${gone}`)
  return processorSeconds(below(all, pids).map(({ pid }) => pid))
}

// The raw mode's own measurements.
export async function raw(stage) {
  // Other viewers have the desktop for themselves: the next part begins with a session of its own.
  stage.suite.closing.push(() => stage.releaseAll())
  await measureRaw(stage)
}

// What the fuzzers' recorded runs come to: tests/fuzz/record.json.
export async function fuzzing({ suite }) {
  const record = JSON.parse(await readFile(join(root, 'tests/fuzz/record.json'), 'utf8'))
  for (const [metric, unit] of [['fuzz_cpu_minutes_min', 'minutes'], ['fuzz_line_coverage_min', 'ratio'], ['fuzz_findings_open', 'findings']]) {
    if (typeof record[metric] === 'number') suite.figures.add(metric, unit, [record[metric]])
    else suite.unmeasured([metric], 'it is not in tests/fuzz/record.json')
  }
}
