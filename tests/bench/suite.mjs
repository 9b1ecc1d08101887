// What every suite does: its parts one after another, each with the values of its figures, and an end that
// leaves nothing running.
import { quickstart } from '../e2e/stack.mjs'
import { Figures, calibrate, repetitions } from './figures.mjs'
import { PEER } from './peer.mjs'

export const need = (name) => {
  if (!process.env[name]) throw new Error(`${name} is not set: run tests/bench/run SUITE`)
  return process.env[name]
}

// Undoes what these do, the last first.
export async function closeAll(closing) {
  while (closing.length) await closing.pop()().catch((error) => console.error(`error: ${error.message}`))
}

export class Suite {
  constructor(name) {
    this.figures = new Figures(name)
    this.calibration = []
    this.closing = []
    this.interrupted = false
    process.on('SIGTERM', () => {
      this.interrupted = true
      this.closeAll().finally(() => process.exit(143))
    })
  }

  // Measures, writes what was measured, and fails if anything did.
  async run(measure) {
    try {
      await measure()
      if (this.calibration.length) this.figures.add('calibration_sha256_s', 's', this.calibration)
      await this.figures.write(need('VIDI_BENCH_OUT'))
      console.log(this.figures.table())
    } catch (error) {
      this.failed(error)
    }
    await this.closeAll()
  }

  failed(error) {
    if (this.interrupted) return
    console.error(`error: ${error.stack ?? error}`)
    process.exitCode = 1
  }

  // Figures that nothing here can give now, and why: never a number in their place. Only where figures count
  // is that a failure.
  unmeasured(metrics, why) {
    for (const metric of metrics) this.figures.miss(metric, why)
    console.error(`not measured: ${metrics.join(', ')}: ${why}`)
    if (repetitions > 1) process.exitCode = 1
  }

  closeAll() {
    return closeAll(this.closing)
  }

  // Values of ours and the peer's, [[ours, theirs]]: figures of both, and how many of theirs ours are.
  compare({ name, peer, ratio, unit }, pairs) {
    const [ours, theirs] = [0, 1].map((side) => pairs.map((pair) => pair[side]))
    this.figures.add(name, unit, ours, { name: PEER, values: theirs })
    this.figures.add(peer, unit, theirs)
    if (ratio) this.figures.add(ratio, 'ratio', pairs.map(([our, their]) => our / their))
  }

  // Parts that need nothing of each other: what one cannot measure does not take the others' figures away; the
  // run fails all the same.
  async parts(parts, ...given) {
    for (const part of parts) if (!this.interrupted) await part(...given).catch((error) => this.failed(error))
  }

  // The same on an installation; the next part finds the daemons and the first desktop running, however
  // this one ended.
  async alone(parts, ...given) {
    for (const part of parts) {
      const good = await part(...given).then(() => true, (error) => this.failed(error))
      await this.closeAll()
      if (!good && !this.interrupted) await quickstart('up').catch((error) => this.failed(error))
    }
  }

  // The values of `work`, one after another, each with a look at how fast the machine is just then.
  async repeat(work, count = repetitions) {
    const values = []
    for (let index = 0; index < count; index++) {
      this.calibration.push(calibrate())
      values.push(await work(index))
    }
    return values
  }
}
