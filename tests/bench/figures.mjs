// The figures of a run: medians, the file of DESIGN's form, the table.
import { createHash } from 'node:crypto'
import { rename, writeFile } from 'node:fs/promises'

// A run to see that it works, or one whose figures count.
export const repetitions = process.env.VIDI_BENCH_SHORT === '1' ? 1 : 5

const CALIBRATION_BYTES = 256 << 20

export class Figures {
  constructor(bench) {
    this.bench = bench
    this.lines = []
  }

  // `values` of one metric; with a peer, the peer's `values` of the same run.
  add(metric, unit, values, peer) {
    const value = median(values)
    // At once: whoever ends a long run early has what was measured until then.
    console.error(`== ${metric}: ${round(value)} ${unit}`)
    this.lines.push({
      bench: this.bench, metric, value: round(value), unit,
      peer: peer?.name ?? null,
      ratio: peer ? round(value / median(peer.values)) : null,
      repetitions: values.length, min: round(Math.min(...values)), max: round(Math.max(...values)),
    })
  }

  // One that was not measured, and why.
  miss(metric, why) {
    this.lines.push({ bench: this.bench, metric, value: null, unit: null, peer: null, ratio: null, repetitions: 0, min: null, max: null, why })
  }

  async write(path) {
    const text = this.lines.map((line) => JSON.stringify(line) + '\n').join('')
    await writeFile(`${path}.new`, text)
    await rename(`${path}.new`, path)
  }

  table() {
    const rows = [['metric', 'value', 'unit', 'min', 'max', 'n', 'ratio', 'peer']]
    for (const { metric, value, unit, min, max, repetitions, ratio, peer } of this.lines) {
      rows.push([metric, value ?? 'not measured', unit ?? '', min ?? '', max ?? '', repetitions, ratio ?? '', peer ?? ''].map(String))
    }
    const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
    return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd()).join('\n')
  }
}

export function median(values) {
  const sorted = [...values].sort((one, other) => one - other)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

// Four significant digits: what a busy machine's clock is worth.
const round = (value) => (value === 0 ? 0 : Number(value.toPrecision(4)))

export async function seconds(work) {
  const began = performance.now()
  await work()
  return (performance.now() - began) / 1000
}

// How fast this machine is just now: SHA-256 of 256 MiB of zeros, in seconds.
export function calibrate() {
  const block = Buffer.alloc(1 << 20)
  const hash = createHash('sha256')
  const began = performance.now()
  for (let bytes = 0; bytes < CALIBRATION_BYTES; bytes += block.length) hash.update(block)
  hash.digest()
  return (performance.now() - began) / 1000
}
