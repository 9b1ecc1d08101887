// Decisions that a seed repeats: one stream for each who decides, so that nobody's timing moves
// another's decisions.
import { createHash } from 'node:crypto'

export class Random {
  constructor(seed, name) {
    const bytes = createHash('sha256').update(`${seed}/${name}`).digest()
    this.state = bytes.readUInt32LE(0)
  }

  // 0 <= x < 1 (mulberry32).
  unit() {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = this.state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  between(low, high) {
    return low + (high - low) * this.unit()
  }

  chance(share) {
    return this.unit() < share
  }

  // One key of {key: weight}.
  weighted(weights) {
    const sum = Object.values(weights).reduce((one, other) => one + other, 0)
    let left = this.unit() * sum
    for (const [key, weight] of Object.entries(weights)) {
      left -= weight
      if (left < 0) return key
    }
    return Object.keys(weights).at(-1)
  }

  id() {
    return Array.from({ length: 4 }, () => Math.floor(this.unit() * 2 ** 32).toString(16).padStart(8, '0')).join('')
  }
}
