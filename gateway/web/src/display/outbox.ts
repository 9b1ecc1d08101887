// Input on its way to the guest. A key that pastes waits here until the guest was offered what it pastes;
// whatever comes after it waits behind it.

/** More than anybody does in the time of a paste; then nothing waits any longer. */
const HELD_MAX = 256;

type Held =
  | { readonly bytes: Uint8Array<ArrayBuffer>; readonly droppable: boolean }
  | { readonly step: () => void };

/** Passes records on, in their order. */
export class Outbox {
  private held: Held[] | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly pass: (bytes: Uint8Array<ArrayBuffer>, droppable: boolean) => void) {}

  /** Sends a record, or lets it wait. */
  send(bytes: Uint8Array<ArrayBuffer>, droppable = false): void {
    if (this.held === undefined) {
      this.pass(bytes, droppable);
      return;
    }
    this.push({ bytes, droppable });
  }

  /** Does this in the order of what is sent: now, or when what waits is sent. The step may hold what follows. */
  then(step: () => void): void {
    if (this.held === undefined) {
      step();
    } else {
      this.push({ step });
    }
  }

  /** Sends a record before everything that waits. */
  sendFirst(bytes: Uint8Array<ArrayBuffer>): void {
    this.pass(bytes, false);
  }

  /** From now on everything waits until `open`, but no longer than this. */
  hold(waitMs: number): void {
    if (this.held === undefined) {
      this.held = [];
      this.timer = setTimeout(() => this.open(), waitMs);
    }
  }

  /** What waits may wait this long from now. */
  extend(waitMs: number): void {
    if (this.held !== undefined) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.open(), waitMs);
    }
  }

  /** Sends what waited; nothing waits any longer, unless a step says so. */
  open(): void {
    const held = this.held ?? [];
    this.forget();
    while (this.held === undefined) {
      const next = held.shift();
      if (next === undefined) {
        return;
      }
      if ("step" in next) {
        next.step();
      } else {
        this.pass(next.bytes, next.droppable);
      }
    }
    // A step holds what follows it; it may have sent something itself meanwhile.
    this.held = [...this.heldNow(), ...held];
  }

  /** Drops what waited. */
  forget(): void {
    clearTimeout(this.timer);
    this.held = undefined;
  }

  private push(next: Held): void {
    this.held?.push(next);
    if (this.heldNow().length >= HELD_MAX) {
      this.open();
    }
  }

  private heldNow(): Held[] {
    return this.held ?? [];
  }
}
