// Modifiers of the on-screen keys: a finger cannot hold one key and tap another.
// The first tap holds a modifier for the next key or click, the second until the third.

/** What a tap on a modifier has made of it. */
export type Hold = "once" | "locked";

/** Where modifiers are pressed and let go. */
export interface StickyOutlets {
  press(code: string): void;
  release(code: string): void;
  /** The held ones have changed. */
  changed(held: ReadonlyMap<string, Hold>): void;
}

/** The modifiers that are held without a finger; named as `KeyboardEvent.code` names them. */
export class StickyKeys {
  private readonly held = new Map<string, Hold>();

  constructor(private readonly outlets: StickyOutlets) {}

  /** Whether any is held. */
  get any(): boolean {
    return this.held.size > 0;
  }

  /** A tap on a modifier. */
  toggle(code: string): void {
    const hold = this.held.get(code);
    if (hold === undefined) {
      this.held.set(code, "once");
      this.outlets.press(code);
    } else if (hold === "once") {
      this.held.set(code, "locked");
    } else {
      this.held.delete(code);
      this.outlets.release(code);
    }
    this.outlets.changed(new Map(this.held));
  }

  /** A key or a click went to the guest: those held for one are let go. */
  used(): void {
    const done = [...this.held].filter(([, hold]) => hold === "once").map(([code]) => code);
    for (const code of done) {
      this.held.delete(code);
      this.outlets.release(code);
    }
    if (done.length > 0) {
      this.outlets.changed(new Map(this.held));
    }
  }

  /** The guest has let go of everything. */
  forget(): void {
    if (this.held.size > 0) {
      this.held.clear();
      this.outlets.changed(new Map());
    }
  }
}
