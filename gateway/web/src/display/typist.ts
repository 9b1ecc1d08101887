// Text that comes without keys (input methods, on-screen keyboards, emoji) on its way to the guest.
//
// What types a character is decided by the guest's layout, which nobody tells. So a text is lent to the guest's
// clipboard and pasted there. Where the guest has no agent that takes it, or the person said that it should be,
// it is typed on the layout that the person chose; what is not on that layout is told, never guessed.

import { type Layout, type Stroke, strokesOf } from "./layouts.js";
import type { Outbox } from "./outbox.js";

/** A guest that has not fetched what it is to paste within this time pastes nothing: nobody waits for longer. */
const PASTE_MS_MAX = 3000;
/** What the guest fetched is in the program that pastes within this time; what is typed sooner may come before it. */
const SETTLE_MS = 100;
/** After the last paste the guest gets back what it had: programs may fetch more than once. */
const GIVE_BACK_MS = 1500;
/** More at once is no typing; the clipboard itself is for that. */
const TEXT_MAX = 4096;

/** How text gets to the guest. */
export type Delivery = "paste" | "insert" | "type";
export const deliveries: readonly Delivery[] = ["paste", "insert", "type"];

const PASTE_KEYS: Readonly<Record<"paste" | "insert", readonly string[]>> = {
  paste: ["ControlLeft", "KeyV"],
  insert: ["ShiftLeft", "Insert"],
};

/** What the person chose. */
export interface TextSettings {
  /** Ctrl+V, Shift+Insert, or by keys where the layout has them. */
  readonly delivery: Delivery;
  /** The guest's. */
  readonly layout: Layout;
}

/** Until the person chooses. */
export const defaultText: TextSettings = { delivery: "paste", layout: "en-US" };

/** Where the typist's decisions go. */
export interface TypistOutlets {
  readonly outbox: Outbox;
  /** Offers the guest a text for one paste; false where it takes none. */
  lend(text: string): boolean;
  /** The guest gets back what its clipboard had before. */
  giveBack(): void;
  /** Lets go of what is held: it would change what is typed. */
  release(): void;
  /** Whether capitals are locked in the guest. */
  caps(): boolean;
  /** Presses these keys in order and lets them go in reverse. */
  strike(codes: readonly string[]): void;
  /** Some of a text could not be typed; "" for a text that could. */
  missing(characters: string): void;
}

/** Delivers text to one guest, in order with what else is typed. */
export class Typist {
  settings = defaultText;
  /** A text was pasted and not fetched yet. */
  private isPasting = false;
  /** What waits its turn and may still grow. */
  private growing: { text: string } | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly outlets: TypistOutlets) {}

  /** Delivers a text. */
  text(text: string): void {
    const piece = text.slice(0, TEXT_MAX);
    if (piece === "") {
      return;
    }
    if (this.growing !== undefined) {
      this.growing.text += piece;
      return;
    }
    const next = { text: piece };
    this.growing = next;
    this.outlets.outbox.then(() => {
      this.key();
      this.deliver(next.text);
    });
  }

  /** A key goes to the guest: what waits goes before it and is not joined with what comes after. */
  key(): void {
    this.growing = undefined;
  }

  /** The guest fetched what it was lent. */
  fetched(): void {
    if (this.isPasting) {
      this.isPasting = false;
      this.outlets.outbox.extend(SETTLE_MS);
      this.giveBackIn(GIVE_BACK_MS);
    }
  }

  /** The connection went away. */
  forget(): void {
    this.isPasting = false;
    clearTimeout(this.timer);
    this.growing = undefined;
  }

  private deliver(text: string): void {
    this.outlets.release();
    const { delivery, layout } = this.settings;
    const { typable, missing } = split(text, layout);
    if (delivery === "type" && missing === "") {
      this.type(typable);
    } else if (this.outlets.lend(text)) {
      this.paste(PASTE_KEYS[delivery === "type" ? "paste" : delivery]);
    } else {
      this.type(typable);
      this.outlets.missing(missing);
      return;
    }
    this.outlets.missing("");
  }

  private paste(keys: readonly string[]): void {
    const { outbox } = this.outlets;
    this.outlets.strike(keys);
    outbox.hold(PASTE_MS_MAX);
    this.isPasting = true;
    this.giveBackIn(PASTE_MS_MAX + GIVE_BACK_MS);
  }

  private giveBackIn(waitMs: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.outlets.giveBack(), waitMs);
  }

  private type(strokes: readonly Stroke[]): void {
    for (const { code, shift, altGr } of strokes) {
      // Caps Lock changes letters and nothing else.
      const turned = this.outlets.caps() && /^Key[A-Z]$/.test(code) && !altGr;
      this.outlets.strike([
        ...(shift !== turned ? ["ShiftLeft"] : []),
        ...(altGr ? ["AltRight"] : []),
        code,
      ]);
    }
  }
}

/** The strokes of what the layout has, and the characters that it has not, each once. */
function split(text: string, layout: Layout): { typable: Stroke[]; missing: string } {
  const typable: Stroke[] = [];
  const missing = new Set<string>();
  for (const { segment } of characters(text)) {
    const strokes = strokesOf(segment, layout);
    if (strokes === undefined) {
      missing.add(segment);
    } else {
      typable.push(...strokes);
    }
  }
  return { typable, missing: [...missing].join("") };
}

/** Characters as people count them, where the browser knows: an emoji may be many code points. */
function characters(text: string): Iterable<{ readonly segment: string }> {
  const normal = text.normalize("NFC");
  return typeof Intl.Segmenter === "function"
    ? new Intl.Segmenter().segment(normal)
    : Array.from(normal, (segment) => ({ segment }));
}
