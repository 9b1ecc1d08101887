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

import { BREAK, PAUSE, scanCode } from "./scan-codes.js";

/** Windows reports AltGr as Control and AltRight; the two come within this time. */
const ALT_GR_WAIT_MS = 50;
/** Nobody holds more keys than this. */
const HELD_MAX = 64;

/** The part of a KeyboardEvent that is used. */
export interface KeyInput {
  readonly code: string;
  readonly ctrlKey: boolean;
  readonly timeStamp: number;
}

/** Where the keyboard's decisions go. */
export interface KeyboardOutlets {
  key(down: boolean, code: readonly number[]): void;
  releaseAll(): void;
  /** Control, Alt and Shift were pressed together and let go. */
  menu(): void;
}

type Platform = "windows" | "mac" | "other";

/** The keyboard's state between two events. */
export class Keyboard {
  private readonly held = new Map<string, readonly number[]>();
  private pendingControl: { timer: ReturnType<typeof setTimeout>; timeStamp: number } | undefined;
  private chord: "none" | "armed" | "spoiled" = "none";

  constructor(
    private readonly platform: Platform,
    private readonly outlets: KeyboardOutlets,
  ) {}

  /** A key went down, or repeats. True when the browser's own use of it must be prevented. */
  down(input: KeyInput): boolean {
    const code = scanCode(input.code);
    if (code === undefined && input.code !== "Pause") {
      return false;
    }
    if (this.pendingControl !== undefined) {
      this.settleControl(input);
    }
    this.watchChord(input.code);
    if (input.code === "Pause") {
      this.outlets.key(true, input.ctrlKey ? BREAK : PAUSE);
      if (input.ctrlKey) {
        this.outlets.key(false, BREAK);
      }
    } else if (this.isMacCapsLock(input.code)) {
      this.tap(code ?? []);
    } else if (
      this.platform === "windows" &&
      input.code === "ControlLeft" &&
      !this.held.has("ControlLeft")
    ) {
      this.pendingControl = {
        timer: setTimeout(() => this.flush(), ALT_GR_WAIT_MS),
        timeStamp: input.timeStamp,
      };
    } else {
      this.press(input.code, code ?? []);
    }
    return true;
  }

  /** A key went up. True when the browser's own use of it must be prevented. */
  up(input: KeyInput): boolean {
    const code = scanCode(input.code);
    if (code === undefined) {
      return input.code === "Pause";
    }
    this.flush();
    if (this.isMacCapsLock(input.code)) {
      this.tap(code);
      return true;
    }
    const held = this.held.get(input.code);
    if (held !== undefined) {
      this.held.delete(input.code);
      this.outlets.key(false, held);
    } else if (input.code === "PrintScreen") {
      // Windows reports only its release.
      this.tap(code);
    }
    if (this.platform === "mac" && input.code.startsWith("Meta")) {
      // macOS reports no release of keys that were let go while Command was held.
      this.releaseHeld();
    }
    this.finishChord();
    return true;
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

  private settleControl(next: KeyInput): void {
    const pending = this.pendingControl;
    if (pending === undefined) {
      return;
    }
    if (next.code === "AltRight" && next.timeStamp - pending.timeStamp < ALT_GR_WAIT_MS) {
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

  private releaseHeld(): void {
    for (const code of this.held.values()) {
      this.outlets.key(false, code);
    }
    this.held.clear();
  }

  /** macOS reports Caps Lock's press when it goes on and its release when it goes off. */
  private isMacCapsLock(code: string): boolean {
    return this.platform === "mac" && code === "CapsLock";
  }

  private watchChord(code: string): void {
    const isModifier = /^(Control|Alt|Shift)/.test(code);
    if (!isModifier) {
      this.chord = "spoiled";
      return;
    }
    const pressed = (kind: string) =>
      code.startsWith(kind) ||
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

/** The platform as far as the keyboard cares. */
export function platformOf(navigator: { platform: string; userAgent: string }): Platform {
  const text = `${navigator.platform} ${navigator.userAgent}`;
  if (/Win/i.test(text)) {
    return "windows";
  }
  return /Mac|iPhone|iPad/i.test(text) ? "mac" : "other";
}
