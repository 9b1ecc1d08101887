// When to dial again: at once, then after 250 ms, doubled up to 5 s, for ever.

const FIRST_MS = 250;
const MAX_MS = 5000;
/** A connection that showed a picture and lived this long was a good one: the next loss starts over. */
const GOOD_AFTER_MS = 1000;

/** Counts the attempts since the last good connection. */
export class Backoff {
  private attempts = 0;

  /** How long to wait before the next attempt, in milliseconds. */
  next(): number {
    const delay = this.attempts === 0 ? 0 : Math.min(MAX_MS, FIRST_MS * 2 ** (this.attempts - 1));
    this.attempts += 1;
    return delay;
  }

  /** A connection with a picture ended after it had lived for this long, in milliseconds. */
  lived(milliseconds: number): void {
    if (milliseconds >= GOOD_AFTER_MS) {
      this.attempts = 0;
    }
  }
}
