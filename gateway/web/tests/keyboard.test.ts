import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type KeyInput, Keyboard, keyName, platformOf } from "../src/display/keyboard.js";
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
  /** What the person's own keyboard shows; undefined where the browser does not say. */
  const lights = new Map<string, boolean>();
  const input = (code: string, after: number, more: Partial<KeyInput>): KeyInput => {
    timeStamp += after;
    return {
      code,
      key: code.startsWith("Key") ? code.slice(3).toLowerCase() : code,
      ctrlKey: false,
      metaKey: false,
      timeStamp,
      ...(lights.size > 0 && { getModifierState: (name: string) => lights.get(name) === true }),
      ...more,
    };
  };
  return {
    log,
    keyboard,
    lights,
    down: (code: string, after = 0, more: Partial<KeyInput> = {}) => keyboard.down(input(code, after, more)),
    up: (code: string, after = 0, more: Partial<KeyInput> = {}) => keyboard.up(input(code, after, more)),
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
    down("Pause", 0, { ctrlKey: true });
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
    expect(log).toEqual(["+e0 5b", "+2e", "-2e", "-e0 5b"]);
    down("KeyX");
    down("MetaLeft");
    up("MetaLeft");
    expect(log.slice(4)).toEqual(["+2d", "+e0 5b", "-e0 5b", "-2d"]);
  });

  it("strikes a key anew each time it repeats while Command is held", () => {
    const { log, down } = board("mac");
    down("MetaLeft");
    down("ArrowLeft", 0, { metaKey: true });
    down("ArrowLeft", 0, { metaKey: true });
    down("ShiftLeft", 0, { metaKey: true });
    expect(log.slice(1)).toEqual(["+e0 4b", "-e0 4b", "+e0 4b", "-e0 4b", "+2a"]);
  });

  it("makes Command the guest's Control on a Mac where that was chosen, and nowhere else", () => {
    for (const [platform, code] of [["mac", "1d"], ["other", "e0 5b"]] as const) {
      const { log, keyboard, down, up } = board(platform);
      keyboard.commandIsControl = true;
      down("MetaLeft");
      up("MetaLeft");
      expect(log).toEqual([`+${code}`, `-${code}`]);
    }
  });

  it("turns macOS's halves of Caps Lock into whole strokes", () => {
    const { log, down, up } = board("mac");
    down("CapsLock");
    up("CapsLock");
    expect(log).toEqual(["+3a", "-3a", "+3a", "-3a"]);
  });

  it("lets both Shifts go on Windows, which reports only the second", () => {
    const { log, down, up } = board("windows");
    down("ShiftLeft");
    down("ShiftRight");
    up("ShiftRight");
    expect(log).toEqual(["+2a", "+36", "-36", "-2a"]);
  });

  it("strikes the keys of Japanese and Korean keyboards that Windows never lets go", () => {
    const { log, down } = board("windows");
    down("Backquote", 0, { key: "Hankaku" });
    down("Backquote", 0, { key: "Zenkaku" });
    down("KanaMode", 0, { key: "Hiragana" });
    expect(log).toEqual(["+29", "-29", "+29", "-29", "+70", "-70"]);
    const korean = board("other");
    korean.down("Lang1", 0, { key: "HangulMode" });
    korean.up("Lang1", 0, { key: "HangulMode" });
    expect(korean.log).toEqual(["+72", "-72"]);
  });

  it("knows keys without a place by their meaning, and leaves characters without one", () => {
    const { log, down, up } = board();
    expect([down("", 0, { key: "Enter" }), up("", 0, { key: "Enter" })]).toEqual([true, true]);
    expect([down("", 0, { key: "ArrowUp" }), up("Unidentified", 0, { key: "ArrowUp" })]).toEqual([true, true]);
    expect(log).toEqual(["+1c", "-1c", "+e0 48", "-e0 48"]);
    expect([down("", 0, { key: "ñ" }), down("", 0, { key: "Unidentified" }), down("", 0, { key: "Process" })]).toEqual([
      false,
      false,
      false,
    ]);
    expect([keyName({ code: "", key: " " }), keyName({ code: "", key: "AltGraph" }), keyName({ code: "", key: "a" })]).toEqual([
      "Space",
      "AltRight",
      "",
    ]);
  });

  it("strikes a combination in order and leaves what is held as it is", () => {
    const { log, keyboard } = board();
    keyboard.strike(["ControlLeft", "AltLeft", "Delete"]);
    expect(log.splice(0)).toEqual(["+1d", "+38", "+e0 53", "-e0 53", "-38", "-1d"]);
    keyboard.hold("ControlLeft");
    keyboard.strike(["ControlLeft", "KeyC"]);
    keyboard.letGo("ControlLeft");
    keyboard.letGo("ControlLeft");
    expect(log).toEqual(["+1d", "+2e", "-2e", "-1d"]);
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

describe("lock keys", () => {
  const on = { caps: true, number: true };
  const off = { caps: false, number: false };

  it("are put right in the guest before the first key that they change", () => {
    const { log, keyboard, lights, down, up } = board();
    lights.set("CapsLock", true);
    keyboard.locks.told(off);
    down("Enter", 1000);
    up("Enter");
    down("ShiftLeft");
    up("ShiftLeft");
    log.length = 0;
    down("KeyA");
    up("KeyA");
    down("KeyB", 1000);
    expect(log).toEqual(["+3a", "-3a", "+1e", "-1e", "+30"]);
  });

  it("are corrected once in a guest that never tells its lights, or has another key there", () => {
    const { log, keyboard, lights, down, up } = board();
    lights.set("CapsLock", true);
    keyboard.locks.told(off);
    for (let at = 0; at < 5; at += 1) {
      down("KeyA", 2000);
      up("KeyA");
    }
    expect(log.filter((line) => line === "+3a")).toHaveLength(1);
  });

  it("are left alone when the person presses them, though the guest's word is late", () => {
    const { log, keyboard, lights, down, up } = board();
    keyboard.locks.told(off);
    lights.set("CapsLock", true);
    down("CapsLock", 1000);
    up("CapsLock");
    down("KeyA", 50);
    expect(log).toEqual(["+3a", "-3a", "+1e"]);
    lights.set("CapsLock", false);
    down("CapsLock", 100);
    up("CapsLock");
    keyboard.locks.told(on);
    down("KeyB", 100);
    expect(log.slice(3)).toEqual(["+3a", "-3a", "+30"]);
    keyboard.locks.told(off);
    down("KeyC", 2000);
    expect(log.slice(6)).toEqual(["+2e"]);
  });

  it("of numbers count only on the number pad, which on a Mac always types numbers", () => {
    const { log, keyboard, lights, down } = board();
    lights.set("NumLock", true);
    keyboard.locks.told(off);
    down("KeyA", 1000);
    down("Numpad7");
    expect(log).toEqual(["+1e", "+45", "-45", "+47"]);
    const mac = board("mac");
    mac.lights.set("NumLock", false);
    mac.keyboard.locks.told(off);
    mac.down("Numpad7", 1000, { key: "7" });
    expect(mac.log).toEqual(["+45", "-45", "+47"]);
  });

  it("are not touched before the guest said anything, nor where the browser does not", () => {
    const { log, keyboard, lights, down } = board();
    lights.set("CapsLock", true);
    down("KeyA", 1000);
    keyboard.locks.told(off);
    keyboard.locks.forget();
    down("KeyB", 1000);
    expect(log).toEqual(["+1e", "+30"]);
    const silent = board();
    silent.keyboard.locks.told(on);
    silent.down("KeyA", 1000);
    expect(silent.log).toEqual(["+1e"]);
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
