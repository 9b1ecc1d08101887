import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Keyboard, platformOf } from "../src/display/keyboard.js";
import { scanCode } from "../src/display/scan-codes.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function board(platform: "windows" | "mac" | "other" = "other") {
  const log: string[] = [];
  const hex = (code: readonly number[]) => code.map((byte) => byte.toString(16)).join(" ");
  const keyboard = new Keyboard(platform, {
    key: (down, code) => log.push(`${down ? "+" : "-"}${hex(code)}`),
    releaseAll: () => log.push("release all"),
    menu: () => log.push("menu"),
  });
  let timeStamp = 0;
  const input = (code: string, after: number, ctrlKey: boolean) => {
    timeStamp += after;
    return { code, ctrlKey, timeStamp };
  };
  return {
    log,
    keyboard,
    down: (code: string, after = 0, ctrlKey = false) => keyboard.down(input(code, after, ctrlKey)),
    up: (code: string, after = 0) => keyboard.up(input(code, after, false)),
  };
}

describe("scan codes", () => {
  it("are those of set 1, with E0 for the extended keys", () => {
    const table: [string, number[] | undefined][] = [
      ["Escape", [0x01]],
      ["Digit0", [0x0b]],
      ["KeyA", [0x1e]],
      ["KeyM", [0x32]],
      ["IntlBackslash", [0x56]],
      ["F10", [0x44]],
      ["F11", [0x57]],
      ["NumLock", [0x45]],
      ["Numpad7", [0x47]],
      ["Home", [0xe0, 0x47]],
      ["ArrowUp", [0xe0, 0x48]],
      ["Delete", [0xe0, 0x53]],
      ["NumpadEnter", [0xe0, 0x1c]],
      ["NumpadDivide", [0xe0, 0x35]],
      ["ControlRight", [0xe0, 0x1d]],
      ["AltRight", [0xe0, 0x38]],
      ["MetaLeft", [0xe0, 0x5b]],
      ["ContextMenu", [0xe0, 0x5d]],
      ["PrintScreen", [0xe0, 0x37]],
      ["IntlRo", [0x73]],
      ["IntlYen", [0x7d]],
      ["AudioVolumeUp", undefined],
      ["toString", undefined],
      ["", undefined],
    ];
    for (const [code, bytes] of table) {
      expect([code, scanCode(code)]).toEqual([code, bytes]);
    }
  });

  it("are all different, and no byte has the break bit", () => {
    const codes = ["Key", "Digit", "Numpad", "F"].flatMap((kind) => {
      const ends =
        kind === "Key"
          ? Array.from({ length: 26 }, (_, index) => String.fromCharCode(65 + index))
          : Array.from({ length: kind === "F" ? 24 : 10 }, (_, index) =>
              String(kind === "F" ? index + 1 : index),
            );
      return ends.map((end) => scanCode(`${kind}${end}`));
    });
    expect(codes).not.toContain(undefined);
    expect(new Set(codes.map(String)).size).toBe(codes.length);
    expect(codes.every((code) => (code?.[0] ?? 0x80) < 0x80)).toBe(true);
  });
});

describe("the keyboard", () => {
  it("sends press and release of a key, and takes it from the browser", () => {
    const { log, down, up } = board();
    expect([down("ArrowUp"), up("ArrowUp")]).toEqual([true, true]);
    expect(log).toEqual(["+e0 48", "-e0 48"]);
  });

  it("sends a held key's press again when it repeats", () => {
    const { log, down, up } = board();
    down("KeyA");
    down("KeyA");
    up("KeyA");
    expect(log).toEqual(["+1e", "+1e", "-1e"]);
  });

  it("leaves keys without a scan code to the browser", () => {
    const { log, down, up } = board();
    expect([down("AudioVolumeUp"), up("AudioVolumeUp"), down("")]).toEqual([false, false, false]);
    expect(log).toEqual([]);
  });

  it("does not send a release without its press", () => {
    const { log, up } = board();
    up("KeyA");
    expect(log).toEqual([]);
  });

  it("presses Print Screen where only its release is reported", () => {
    const { log, up } = board("windows");
    up("PrintScreen");
    expect(log).toEqual(["+e0 37", "-e0 37"]);
  });

  it("sends Pause as one sequence without a release, and Break with Control", () => {
    const { log, down, up } = board();
    down("Pause");
    up("Pause");
    expect(log).toEqual(["+e1 1d 45 e1 9d c5"]);
    down("Pause", 0, true);
    expect(log.slice(1)).toEqual(["+e0 46", "-e0 46"]);
  });

  it("drops the Control that Windows reports before AltGr", () => {
    const { log, down, up } = board("windows");
    down("ControlLeft");
    down("AltRight");
    down("KeyQ", 30);
    up("KeyQ");
    up("ControlLeft");
    up("AltRight");
    vi.runAllTimers();
    expect(log).toEqual(["+e0 38", "+10", "-10", "-e0 38"]);
  });

  it("keeps a real Control on Windows: before another key, after a while, or let go at once", () => {
    const { log, down, up } = board("windows");
    down("ControlLeft");
    down("KeyC", 5);
    up("KeyC");
    up("ControlLeft");
    expect(log.splice(0)).toEqual(["+1d", "+2e", "-2e", "-1d"]);
    down("ControlLeft", 100);
    vi.advanceTimersByTime(60);
    expect(log.splice(0)).toEqual(["+1d"]);
    up("ControlLeft");
    down("ControlLeft", 100);
    up("ControlLeft", 5);
    vi.runAllTimers();
    expect(log).toEqual(["-1d", "+1d", "-1d"]);
  });

  it("keeps a Control that was pressed well before AltGr", () => {
    const { log, down } = board("windows");
    down("ControlLeft");
    down("AltRight", 60);
    expect(log).toEqual(["+1d", "+e0 38"]);
  });

  it("flushes a waiting Control before a click", () => {
    const { log, keyboard, down } = board("windows");
    down("ControlLeft");
    keyboard.flush();
    expect(log).toEqual(["+1d"]);
  });

  it("sends Control at once elsewhere", () => {
    const { log, down } = board("other");
    down("ControlLeft");
    expect(log).toEqual(["+1d"]);
  });

  it("lets everything go when the focus leaves, and sends no release afterwards", () => {
    const { log, keyboard, down, up } = board("windows");
    down("KeyA");
    down("ControlLeft");
    keyboard.releaseAll();
    vi.runAllTimers();
    up("KeyA");
    up("ControlLeft");
    expect(log).toEqual(["+1e", "release all"]);
  });

  it("releases what macOS does not report when Command goes up", () => {
    const { log, down, up } = board("mac");
    down("MetaLeft");
    down("KeyC");
    up("MetaLeft");
    expect(log).toEqual(["+e0 5b", "+2e", "-e0 5b", "-2e"]);
  });

  it("turns macOS's halves of Caps Lock into whole strokes", () => {
    const { log, down, up } = board("mac");
    down("CapsLock");
    up("CapsLock");
    expect(log).toEqual(["+3a", "-3a", "+3a", "-3a"]);
  });

  it("opens the toolbar when Control, Alt and Shift alone were pressed together and let go", () => {
    const { log, down, up } = board();
    down("ControlLeft");
    down("AltLeft");
    down("ShiftLeft");
    up("AltLeft");
    expect(log.slice(3)).toEqual(["-38", "release all", "menu"]);
  });

  it("does not open the toolbar when another key was part of the chord", () => {
    const { log, down, up } = board();
    for (const code of ["ControlLeft", "AltLeft", "ShiftLeft", "KeyX"]) {
      down(code);
    }
    for (const code of ["KeyX", "ShiftLeft", "AltLeft", "ControlLeft"]) {
      up(code);
    }
    expect(log).not.toContain("menu");
    expect(log).toHaveLength(8);
  });
});

it("the platform is told from the navigator", () => {
  const platform = (name: string, userAgent = "") => platformOf({ platform: name, userAgent });
  expect([platform("Win32"), platform("MacIntel"), platform("Linux x86_64")]).toEqual([
    "windows",
    "mac",
    "other",
  ]);
});
