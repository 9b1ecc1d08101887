import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { readSettings, defaultSettings } from "../src/display/input-settings.js";
import { layouts, strokesOf } from "../src/display/layouts.js";
import { Outbox } from "../src/display/outbox.js";
import { scanCode } from "../src/display/scan-codes.js";
import { StickyKeys } from "../src/display/sticky.js";
import { changeOf, FILLING, isComposed } from "../src/display/text-field.js";
import { Typist } from "../src/display/typist.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const ASCII = Array.from({ length: 95 }, (_, index) => String.fromCharCode(32 + index));
const named = (character: string, layout: (typeof layouts)[number]) =>
  strokesOf(character, layout)
    ?.map(({ code, shift, altGr }) => `${shift ? "Shift+" : ""}${altGr ? "AltGr+" : ""}${code}`)
    .join(" ");

describe("layouts", () => {
  it("type every character of ASCII, but for what Italian keyboards have nowhere the same", () => {
    const missing = layouts.map((layout) => ASCII.filter((one) => strokesOf(one, layout) === undefined).join(""));
    expect(missing).toEqual(["", "~", "`{}~"]);
  });

  it("type each character in one way, by keys that there are", () => {
    for (const layout of layouts) {
      const ways = ASCII.map((one) => named(one, layout)).filter((way) => way !== undefined);
      expect(new Set(ways).size).toBe(ways.length);
      for (const one of ASCII) {
        for (const { code } of strokesOf(one, layout) ?? []) {
          expect([one, scanCode(code)]).not.toEqual([one, undefined]);
        }
      }
    }
  });

  it("know where signs are", () => {
    expect(["@", "/", ";", "ñ"].map((one) => named(one, "en-US"))).toEqual(["Shift+Digit2", "Slash", "Semicolon", undefined]);
    expect(["@", "/", ";", "ñ", "á", "^", "[", "€"].map((one) => named(one, "es"))).toEqual([
      "AltGr+Digit2", "Shift+Digit7", "Shift+Comma", "Semicolon", "Quote KeyA", "Shift+BracketLeft Space", 
      "AltGr+BracketLeft", "AltGr+KeyE",
    ]);
    expect(["@", "/", "à", "#", "[", "<"].map((one) => named(one, "it"))).toEqual([
      "AltGr+Semicolon", "Shift+Digit7", "Quote", "AltGr+Quote", "AltGr+BracketLeft", "IntlBackslash",
    ]);
  });
});

/** A typist in front of a guest with or without an agent. */
function desk({ takes = true, caps = false } = {}) {
  const log: string[] = [];
  const outbox = new Outbox((bytes) => log.push(new TextDecoder().decode(bytes)));
  const send = (word: string) => outbox.send(new TextEncoder().encode(word) as Uint8Array<ArrayBuffer>);
  const typist = new Typist({
    outbox,
    lend: (text) => takes && log.push(`lend ${text}`) > 0,
    giveBack: () => log.push("give back"),
    release: () => undefined,
    caps: () => caps,
    strike: (codes) => send(codes.join("+")),
    missing: (characters) => characters !== "" && log.push(`missing ${characters}`),
  });
  return {
    log,
    outbox,
    typist,
    /** A key of the person's. */
    key: (word: string) => {
      typist.key();
      send(word);
    },
  };
}

describe("text without keys", () => {
  it("is pasted, and the guest gets back what it had", () => {
    const { log, typist } = desk();
    typist.text("漢字");
    expect(log).toEqual(["lend 漢字", "ControlLeft+KeyV"]);
    vi.runAllTimers();
    expect(log.slice(2)).toEqual(["give back"]);
  });

  it("keeps its order with keys before and after it, and with more text", () => {
    const { log, typist, key } = desk();
    key("A");
    typist.text("漢");
    typist.text("字");
    typist.text("か");
    key("Enter");
    typist.text("な");
    expect(log).toEqual(["A", "lend 漢", "ControlLeft+KeyV"]);
    vi.advanceTimersByTime(2000);
    expect(log).toHaveLength(3);
    typist.fetched();
    vi.advanceTimersByTime(100);
    expect(log.slice(3)).toEqual(["lend 字か", "ControlLeft+KeyV"]);
    typist.fetched();
    vi.advanceTimersByTime(100);
    expect(log.slice(5)).toEqual(["Enter", "lend な", "ControlLeft+KeyV"]);
    typist.fetched();
    vi.runAllTimers();
    expect(log.slice(8)).toEqual(["give back"]);
  });

  it("does not hold up what follows for ever where the guest fetches nothing", () => {
    const { log, typist, key } = desk();
    typist.text("漢");
    key("Enter");
    vi.advanceTimersByTime(2999);
    expect(log).toHaveLength(2);
    vi.advanceTimersByTime(1);
    expect(log.slice(2)).toEqual(["Enter"]);
    vi.runAllTimers();
    expect(log.slice(3)).toEqual(["give back"]);
  });

  it("is pasted with the keys that were chosen", () => {
    const { log, typist } = desk();
    typist.settings = { delivery: "insert", layout: "en-US" };
    typist.text("é");
    expect(log).toEqual(["lend é", "ShiftLeft+Insert"]);
  });

  it("is typed where the guest has no agent, and what the layout has not is told", () => {
    const { log, typist } = desk({ takes: false });
    typist.text("a@ñ漢ñ👩‍👩‍👧\n");
    vi.runAllTimers();
    expect(log).toEqual(["KeyA", "ShiftLeft+Digit2", "Enter", "missing ñ漢👩‍👩‍👧"]);
  });

  it("is typed where that was chosen, and pasted where the layout has not all of it", () => {
    const { log, typist } = desk();
    typist.settings = { delivery: "type", layout: "es" };
    typist.text("a@ñ");
    expect(log.splice(0)).toEqual(["KeyA", "AltRight+Digit2", "Semicolon"]);
    typist.text("a漢");
    expect(log).toEqual(["lend a漢", "ControlLeft+KeyV"]);
  });

  it("is typed right though Caps Lock is on in the guest", () => {
    const { log, typist } = desk({ takes: false, caps: true });
    typist.text("aB1!");
    expect(log).toEqual(["ShiftLeft+KeyA", "KeyB", "Digit1", "ShiftLeft+Digit1"]);
  });

  it("is forgotten with the connection", () => {
    const { log, outbox, typist } = desk();
    typist.text("a");
    typist.text("b");
    typist.forget();
    outbox.forget();
    vi.runAllTimers();
    expect(log).toEqual(["lend a", "ControlLeft+KeyV"]);
  });
});

describe("the text field", () => {
  it("tells what was put in and what was taken away", () => {
    expect(changeOf(FILLING)).toEqual({ deleted: 0, inserted: "" });
    expect(changeOf(`${FILLING}né`)).toEqual({ deleted: 0, inserted: "né" });
    expect(changeOf(FILLING.slice(0, -2))).toEqual({ deleted: 2, inserted: "" });
    expect(changeOf(`${FILLING.slice(0, -1)}x`)).toEqual({ deleted: 1, inserted: "x" });
    expect(changeOf("")).toEqual({ deleted: FILLING.length, inserted: "" });
  });

  it("leaves keys to input methods while they compose", () => {
    const key = { isComposing: false, keyCode: 65, key: "a" };
    expect([key, { ...key, isComposing: true }, { ...key, keyCode: 229 }, { ...key, key: "Process" }].map(isComposed)).toEqual([
      false, true, true, true,
    ]);
  });
});

describe("sticky modifiers", () => {
  it("hold for one key, until the third tap, or until the guest lets go", () => {
    const log: string[] = [];
    const sticky = new StickyKeys({
      press: (code) => log.push(`+${code}`),
      release: (code) => log.push(`-${code}`),
      changed: (held) => log.push([...held].map(([code, hold]) => `${code} ${hold}`).join(", ")),
    });
    sticky.toggle("ControlLeft");
    sticky.used();
    expect(log.splice(0)).toEqual(["+ControlLeft", "ControlLeft once", "-ControlLeft", ""]);
    sticky.toggle("AltLeft");
    sticky.toggle("AltLeft");
    sticky.used();
    expect(log.splice(0)).toEqual(["+AltLeft", "AltLeft once", "AltLeft locked"]);
    sticky.toggle("AltLeft");
    expect(log.splice(0)).toEqual(["-AltLeft", ""]);
    sticky.toggle("ShiftLeft");
    sticky.forget();
    expect([log, sticky.any]).toEqual([["+ShiftLeft", "ShiftLeft once", ""], false]);
  });
});

it("settings that make no sense are those of the beginning", () => {
  expect(readSettings(null)).toEqual(defaultSettings);
  expect(readSettings("nonsense")).toEqual(defaultSettings);
  expect(readSettings("null")).toEqual(defaultSettings);
  expect(readSettings('{"layout":"xx","delivery":"type","commandIsControl":1,"size":"actual"}')).toEqual({
    layout: "en-US",
    delivery: "type",
    commandIsControl: false,
    size: "actual",
  });
});
