// The suite `control`: the control plane, by itself and beside its peers. docs/benchmarks.md says what each
// figure means.
import { decisions } from './control-decisions.mjs'
import { claims, committed, fleet } from './control-fleet.mjs'
import { hspace, placement } from './control-peers.mjs'
import { repetitions } from './figures.mjs'
import { Suite } from './suite.mjs'

const PARTS = { decisions, claims, committed, fleet, placement, hspace }
// What is compared is worth nothing in the short form.
const SHORT = ['decisions', 'claims', 'committed', 'fleet']

const suite = new Suite('control')
await suite.run(async () => {
  // VIDI_BENCH_PARTS names some of them, for whoever works on one.
  const names = process.env.VIDI_BENCH_PARTS?.split(',') ?? (repetitions === 1 ? SHORT : Object.keys(PARTS))
  for (const name of names) {
    const began = performance.now()
    await suite.parts([PARTS[name]], suite)
    await suite.closeAll()
    console.error(`== ${name}: ${Math.round((performance.now() - began) / 1000)} s`)
  }
})
