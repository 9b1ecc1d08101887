// What a placement costs the controller, without anything around it: vidi-decide, on a whole fleet and on a
// tenth of it.
import { join } from 'node:path'
import { command } from '../e2e/stack.mjs'
import { repetitions } from './figures.mjs'
import { need } from './suite.mjs'

const SHORT = repetitions === 1
const DECISIONS = SHORT ? 1000 : 20000
const FLEETS = SHORT ? [500] : [500, 5000]

export async function decisions(suite) {
  const { figures } = suite
  for (const hosts of FLEETS) {
    const runs = await suite.repeat((index) => decided(hosts, index + 1))
    const add = (metric, unit, of) => figures.add(`${metric}_${hosts}_hosts`, unit, runs.map(of))
    add('decisions_per_s_core', 'decisions/s', ({ per_s }) => per_s)
    add('decision_p50_us', 'us', ({ p50_us }) => p50_us)
    add('decision_p99_us', 'us', ({ p99_us }) => p99_us)
    add('placement_settled_us', 'us', ({ settled_us }) => settled_us)
    const nowhere = runs.reduce((sum, run) => sum + run.nowhere, 0)
    if (nowhere) throw new Error(`${nowhere} desktops found no host: what was measured is no placement`)
  }
}

async function decided(hosts, seed) {
  const options = ['--hosts', hosts, '--decisions', DECISIONS, '--seed', seed].map(String)
  return JSON.parse(await command(join(need('VIDI_BENCH_PROGRAMS'), 'vidi-decide'), ...options))
}
