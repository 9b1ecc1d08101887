// Turns keyboard events into presses and releases of scan codes.
//
// While the picture has the focus every key with a scan code belongs to the guest and the browser's own
// use of it is prevented, except:
// - keys that paste, which both have: the browser's paste event tells what the person has (clipboard.ts);
// - keys without a scan code here (sound volume, brightness, power): they stay with the person's machine;
// - what no page can have: the operating system's own chords (Alt+Tab, the Windows key outside full
//   screen) and the browser's reserved ones (Ctrl+T, Ctrl+N, Ctrl+W);
// - Control+Alt+Shift pressed together and let go: opens the toolbar, so that the keyboard alone can
//   always leave the picture.
//
// A key that is held is pressed again each time the browser repeats it, as a keyboard's own wire does:
// guests that repeat by themselves pass that over, those that wait for the keyboard need it.

import { LockKeys } from "./lock-keys.js";
import { BREAK, PAUSE, scanCode } from "./scan-codes.js";

/** Windows reports AltGr as Control and AltRight; the two come within this time. */
const ALT_GR_WAIT_MS = 50;
/** Nobody holds more keys than this. */
const HELD_MAX = 64;
/** Keys of Japanese and Korean keyboards that Windows reports in halves, or never lets go. */
const HALF_KEYS =
  /^(Zenkaku|Hankaku|ZenkakuHankaku|Alphanumeric|Katakana|Hiragana|HiraganaKatakana|Romaji|KanaMode|KanjiMode|Eisu|HangulMode|HanjaMode)$/;

/** The part of a KeyboardEvent that is used. */
export interface KeyInput {
  readonly code: string;
  readonly key: string;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly timeStamp: number;
  /** Missing where an event is made by hand. */
  getModifierState?(name: string): boolean;
}

/** Where the keyboard's decisions go. */
export interface KeyboardOutlets {
  key(down: boolean, code: readonly number[]): void;
  releaseAll(): void;
  /** Control, Alt and Shift were pressed together and let go. */
  menu(): void;
}

export type Platform = "windows" | "mac" | "other";

/** The keyboard's state between two events. */
export class Keyboard {
  /** On a Mac the Command keys are the guest's Control keys: what copies here copies there. */
  commandIsControl = false;
  readonly locks: LockKeys;

  private readonly held = new Map<string, readonly number[]>();
  private pendingControl: { timer: ReturnType<typeof setTimeout>; timeStamp: number } | undefined;
  private chord: "none" | "armed" | "spoiled" = "none";

  constructor(
    private readonly platform: Platform,
    private readonly outlets: KeyboardOutlets,
  ) {
    this.locks = new LockKeys(platform === "mac");
  }

  /** Whether a key is held in the guest. */
  get isHolding(): boolean {
    return this.held.size > 0;
  }

  /** Whether a key of this name is held in the guest. */
  holds(name: RegExp): boolean {
    return [...this.held.keys()].some((held) => name.test(held));
  }

  /** A key went down, or repeats. True when the browser's own use of it must be prevented. */
  down(input: KeyInput): boolean {
    const name = keyName(input);
    const code = this.codeOf(name);
    if (code === undefined && name !== "Pause") {
      return false;
    }
    if (this.pendingControl !== undefined) {
      this.settleControl(name, input.timeStamp);
    }
    this.watchChord(name);
    const lock = this.locks.wrongBefore(name, input);
    if (lock !== undefined) {
      this.tapLock(lock, input.timeStamp);
    }
    if (name === "Pause") {
      this.outlets.key(true, input.ctrlKey ? BREAK : PAUSE);
      if (input.ctrlKey) {
        this.outlets.key(false, BREAK);
      }
    } else if (this.isWholeStroke(name, input)) {
      this.locks.passed(name, input.timeStamp);
      this.tap(code ?? []);
    } else if (
      this.platform === "windows" &&
      name === "ControlLeft" &&
      !this.held.has("ControlLeft")
    ) {
      this.pendingControl = {
        timer: setTimeout(() => this.flush(), ALT_GR_WAIT_MS),
        timeStamp: input.timeStamp,
      };
    } else {
      if (!this.held.has(name)) {
        this.locks.passed(name, input.timeStamp);
      }
      this.press(name, code ?? []);
    }
    return true;
  }

  /** A key went up. True when the browser's own use of it must be prevented. */
  up(input: KeyInput): boolean {
    const name = keyName(input);
    const code = this.codeOf(name);
    if (code === undefined) {
      return name === "Pause";
    }
    this.flush();
    if (this.isMacCapsLock(name)) {
      this.locks.passed(name, input.timeStamp);
      this.tap(code);
      return true;
    }
    if (this.held.has(name)) {
      this.letGo(name);
    } else if (name === "PrintScreen") {
      // Windows reports only its release.
      this.tap(code);
    }
    if (this.platform === "mac" && name.startsWith("Meta")) {
      // macOS reports no release of keys that were let go while Command was held.
      this.releaseHeld();
    }
    if (this.platform === "windows" && name.startsWith("Shift")) {
      // Windows reports no release of a Shift that was let go while the other was held.
      this.letGo("ShiftLeft");
      this.letGo("ShiftRight");
    }
    this.finishChord();
    return true;
  }

  /** Holds a key without an event, until `letGo`. */
  hold(name: string): void {
    const code = this.codeOf(name);
    if (code !== undefined) {
      this.flush();
      this.press(name, code);
    }
  }

  /** Lets go of a key, if it is held. */
  letGo(name: string): void {
    const held = this.held.get(name);
    if (held !== undefined) {
      this.held.delete(name);
      this.outlets.key(false, held);
    }
  }

  /** Presses these keys in order and lets them go in reverse; those that are held stay so. */
  strike(names: readonly string[]): void {
    this.flush();
    const codes = names
      .filter((name) => !this.held.has(name))
      .map((name) => this.codeOf(name) ?? [])
      .filter((code) => code.length > 0);
    for (const code of codes) {
      this.outlets.key(true, code);
    }
    for (const code of codes.reverse()) {
      this.outlets.key(false, code);
    }
  }

  /** Sends what was held back; call it before sending anything of the pointer. */
  flush(): void {
    if (this.pendingControl !== undefined) {
      clearTimeout(this.pendingControl.timer);
      this.pendingControl = undefined;
      this.press("ControlLeft", scanCode("ControlLeft") ?? []);
    }
  }

  /** The focus went away: nothing is held any longer. */
  releaseAll(): void {
    this.forget();
    this.outlets.releaseAll();
  }

  /** The connection went away: the guest has let go of everything already. */
  forget(): void {
    clearTimeout(this.pendingControl?.timer);
    this.pendingControl = undefined;
    this.held.clear();
    this.chord = "none";
  }

  private codeOf(name: string): readonly number[] | undefined {
    const swapped = this.platform === "mac" && this.commandIsControl;
    return scanCode(swapped ? name.replace(/^Meta/, "Control") : name);
  }

  private settleControl(next: string, timeStamp: number): void {
    const pending = this.pendingControl;
    if (pending === undefined) {
      return;
    }
    if (next === "AltRight" && timeStamp - pending.timeStamp < ALT_GR_WAIT_MS) {
      clearTimeout(pending.timer);
      this.pendingControl = undefined;
    } else {
      this.flush();
    }
  }

  private press(name: string, code: readonly number[]): void {
    if (this.held.size >= HELD_MAX) {
      this.releaseAll();
    }
    this.held.set(name, code);
    this.outlets.key(true, code);
  }

  private tap(code: readonly number[]): void {
    this.outlets.key(true, code);
    this.outlets.key(false, code);
  }

  private tapLock(name: "CapsLock" | "NumLock", timeStamp: number): void {
    this.locks.passed(name, timeStamp);
    this.tap(scanCode(name) ?? []);
  }

  private releaseHeld(): void {
    for (const code of this.held.values()) {
      this.outlets.key(false, code);
    }
    this.held.clear();
  }

  /** Keys whose release is never reported, or not reliably. */
  private isWholeStroke(name: string, input: KeyInput): boolean {
    switch (this.platform) {
      case "mac":
        // While Command is held macOS reports no release of other keys.
        return (
          name === "CapsLock" ||
          (!isModifier(name) && (input.metaKey || this.held.has("MetaLeft") || this.held.has("MetaRight")))
        );
      case "windows":
        return HALF_KEYS.test(input.key);
      default:
        return false;
    }
  }

  /** macOS reports Caps Lock's press when it goes on and its release when it goes off. */
  private isMacCapsLock(name: string): boolean {
    return this.platform === "mac" && name === "CapsLock";
  }

  private watchChord(name: string): void {
    if (!/^(Control|Alt|Shift)/.test(name)) {
      this.chord = "spoiled";
      return;
    }
    const pressed = (kind: string) =>
      name.startsWith(kind) ||
      this.held.has(`${kind}Left`) ||
      this.held.has(`${kind}Right`) ||
      (kind === "Control" && this.pendingControl !== undefined);
    if (this.chord === "none" && pressed("Control") && pressed("Alt") && pressed("Shift")) {
      this.chord = "armed";
    }
  }

  private finishChord(): void {
    if (this.chord === "armed") {
      this.chord = "none";
      this.releaseAll();
      this.outlets.menu();
    } else if (this.held.size === 0) {
      this.chord = "none";
    }
  }
}

/** Keys of on-screen keyboards and of some remote controls have no place, but a meaning. */
const PLACES: Readonly<Record<string, string>> = {
  " ": "Space",
  Shift: "ShiftLeft",
  Control: "ControlLeft",
  Alt: "AltLeft",
  AltGraph: "AltRight",
  Meta: "MetaLeft",
  OS: "MetaLeft",
  KanaMode: "KanaMode",
  HangulMode: "Lang1",
  HanjaMode: "Lang2",
};
const NAMED_KEY = /^[A-Z][A-Za-z]*[0-9]{0,2}$/;

/** Which key it is: its place, or where it has none the usual place of its meaning; "" if that is a character. */
export function keyName(input: { readonly code: string; readonly key: string }): string {
  if (input.code !== "" && input.code !== "Unidentified") {
    return input.code;
  }
  const place = Object.hasOwn(PLACES, input.key) ? PLACES[input.key] : undefined;
  // Names of other keys are those of their places: Enter, ArrowUp, F5.
  return place ?? (input.key.length > 1 && NAMED_KEY.test(input.key) ? input.key : "");
}

function isModifier(name: string): boolean {
  return /^(Control|Alt|Shift|Meta|OS)/.test(name);
}

/** The platform as far as the keyboard cares. */
export function platformOf(navigator: { platform: string; userAgent: string }): Platform {
  const text = `${navigator.platform} ${navigator.userAgent}`;
  if (/Win/i.test(text)) {
    return "windows";
  }
  return /Mac|iPhone|iPad/i.test(text) ? "mac" : "other";
}
