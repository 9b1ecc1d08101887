// Keeps Caps Lock and Num Lock of the guest as they are on the person's keyboard.
//
// The guest tells its lights. Between two words of it the presses that were passed on are counted, so that a
// guest that tells nothing, or whose Caps Lock is another key, is corrected once and not at every key.
// Scroll Lock is passed on and left alone: few systems know it, and browsers tell little of it.

/** A guest's word about its lights may be older than a press that was passed on within this time. */
const SETTLE_MS = 500;

/** The part of a KeyboardEvent that is used. */
export interface LockInput {
  readonly key: string;
  readonly timeStamp: number;
  /** Missing where an event is made by hand. */
  getModifierState?(name: string): boolean;
}

/** What the guest's lights show. */
export interface Lights {
  readonly caps: boolean;
  readonly number: boolean;
}

/** The lock keys of one guest. */
export class LockKeys {
  private lights: { caps: boolean; number: boolean } | undefined;
  private passedAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly isMac: boolean) {}

  /** Whether capitals are locked in the guest, as far as anybody knows. */
  get caps(): boolean {
    return this.lights?.caps === true;
  }

  /** The guest said what its lights show. */
  told(lights: Lights): void {
    this.lights = { caps: lights.caps, number: lights.number };
  }

  /** Another guest, or the same one after a while: nothing is known. */
  forget(): void {
    this.lights = undefined;
    this.passedAt = Number.NEGATIVE_INFINITY;
  }

  /** A press of this key goes to the guest. */
  passed(code: string, timeStamp: number): void {
    if (this.lights !== undefined && (code === "CapsLock" || code === "NumLock")) {
      const light = code === "CapsLock" ? "caps" : "number";
      this.lights[light] = !this.lights[light];
      this.passedAt = timeStamp;
    }
  }

  /** The lock key to press before this key, so that it means in the guest what it means here. */
  wrongBefore(code: string, input: LockInput): "CapsLock" | "NumLock" | undefined {
    const { lights } = this;
    if (lights === undefined || input.timeStamp - this.passedAt < SETTLE_MS) {
      return undefined;
    }
    if (/^Numpad([0-9]|Decimal)$/.test(code)) {
      // A Mac has no Num Lock: its number pad types numbers.
      const number = this.isMac ? input.key.length === 1 : input.getModifierState?.("NumLock");
      return number !== undefined && number !== lights.number ? "NumLock" : undefined;
    }
    if (!isLetter(input.key)) {
      return undefined;
    }
    const caps = input.getModifierState?.("CapsLock");
    return caps !== undefined && caps !== lights.caps ? "CapsLock" : undefined;
  }
}

/** Other keys mean the same with Caps Lock and without. */
function isLetter(key: string): boolean {
  return key.toLowerCase() !== key.toUpperCase() && Array.from(key).length === 1;
}
