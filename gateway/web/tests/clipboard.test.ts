import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type ClipboardKey, ClipboardKeeper, isPasteKey } from "../src/display/clipboard.js";
import { Keyboard, type Platform } from "../src/display/keyboard.js";
import { Outbox } from "../src/display/outbox.js";
import type { Piece } from "../src/display/pieces.js";
import { encodeKey, encodeReleaseAll } from "../src/display/protocol.js";
import { pastedPiece } from "../src/display/system-clipboard.js";
import * as peer from "./peer.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const text = (value: string): Piece => ({ kind: "text", text: value });
const png = (...bytes: number[]): Piece => ({ kind: "png", bytes: Uint8Array.from(bytes) });
const refusal = () => new DOMException("no", "NotAllowedError");


/** A page with a real keyboard and outbox; only the browser's own clipboard is played. */
function rig(platform: Platform = "other") {
  const log: string[] = [];
  const decoder = new TextDecoder();
  const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16)).join(" ");
  const outbox = new Outbox((bytes) => {
    const [record] = peer.browserRecords(bytes);
    const { type, body } = record ?? { type: 0, body: new Uint8Array() };
    if (type === 67) {
      log.push(`${body[0] === 1 ? "+" : "-"}${hex(body.slice(2))}`);
    } else if (type === 74) {
      const content = body[0] === 1 ? decoder.decode(body.slice(4)) : `png ${hex(body.slice(4))}`;
      log.push(`${content}${body[1] === 1 ? "…" : ""}`);
    } else {
      log.push(`type ${type}`);
    }
  });
  const browser = {
    focused: true,
    activated: true,
    /** What a write answers; undefined is done. */
    refuses: undefined as Error | undefined,
    /** What reading gives; undefined where that is not allowed. */
    holds: undefined as Piece | undefined,
    written: [] as Piece[],
    reads: 0,
  };
  const refused: boolean[] = [];
  const keeper = new ClipboardKeeper(platform, {
    system: {
      hasFocus: () => browser.focused,
      isActivated: () => browser.activated,
      write: async (piece) => {
        if (browser.refuses !== undefined) {
          throw browser.refuses;
        }
        browser.written.push(piece);
      },
      read: async () => {
        browser.reads += 1;
        return browser.holds;
      },
    },
    outbox,
    refused: (is) => refused.push(is),
    now: () => Date.now(),
  });
  const keyboard = new Keyboard(platform, {
    key: (down, code) => outbox.send(encodeKey(down, code)),
    releaseAll: () => outbox.send(encodeReleaseAll()),
    menu: () => log.push("menu"),
  });
  /** As client.ts has it; whether the browser goes on with the key. */
  const down = (code: string, held: Partial<ClipboardKey> = {}) => {
    const none = { ctrlKey: false, shiftKey: false, altKey: false, metaKey: false };
    const key = { key: code.replace(/^Key/, "").toLowerCase(), code, ...none, ...held };
    const isBrowsers = keeper.keyDown(key);
    keyboard.down({ ...key, timeStamp: Date.now() });
    return isBrowsers;
  };
  const rest = () => vi.advanceTimersByTimeAsync(0);
  /** The browser's paste event comes, and all that follows from it. */
  const paste = async (found: Parameters<ClipboardKeeper["pasted"]>[0]) => {
    void keeper.pasted(found);
    await vi.advanceTimersByTimeAsync(150);
  };
  /** Control and V, as a browser tells them. */
  const ctrlV = () => {
    down("ControlLeft", { ctrlKey: true });
    return down("KeyV", { ctrlKey: true });
  };
  return { log, browser, refused, keeper, keyboard, outbox, down, ctrlV, paste, rest };
}

const CTRL_V = ["+1d", "+2f"];

describe("pasting into the guest", () => {
  it("offers what the person has before the guest hears of the key", async () => {
    const { log, keeper, ctrlV, rest } = rig();
    keeper.setTakes(true);
    expect(ctrlV()).toBe(true);
    expect(log).toEqual(["+1d"]);
    void keeper.pasted(text("hello"));
    await rest();
    expect(log).toEqual(["+1d", "hello"]);
    // The guest's agent takes over the clipboard meanwhile.
    await vi.advanceTimersByTimeAsync(149);
    expect(log).toEqual(["+1d", "hello"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(log).toEqual(["+1d", "hello", "+2f"]);
  });

  it("holds back everything that comes after the key, in its order", async () => {
    const { log, keeper, keyboard, ctrlV, down, paste } = rig();
    keeper.setTakes(true);
    ctrlV();
    keyboard.up({ code: "KeyV", key: "", ctrlKey: true, metaKey: false, timeStamp: 0 });
    keyboard.up({ code: "ControlLeft", key: "", ctrlKey: false, metaKey: false, timeStamp: 0 });
    down("Enter");
    keyboard.releaseAll();
    expect(log).toEqual(["+1d"]);
    await paste(text("hello"));
    expect(log).toEqual(["+1d", "hello", "+2f", "-2f", "-1d", "+1c", "type 71"]);
  });

  it("offers before Control too, where Windows' Control waits for AltGr", async () => {
    const { log, keeper, ctrlV, paste } = rig("windows");
    keeper.setTakes(true);
    ctrlV();
    expect(log).toEqual([]);
    await paste(text("hello"));
    expect(log).toEqual(["hello", ...CTRL_V]);
  });

  it("sends the key after 50 ms when the browser tells of no paste", async () => {
    const { log, keeper, ctrlV } = rig();
    keeper.setTakes(true);
    ctrlV();
    await vi.advanceTimersByTimeAsync(49);
    expect(log).toEqual(["+1d"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(log).toEqual(CTRL_V);
  });

  it("sends the key when there is nothing to paste", async () => {
    const { log, keeper, ctrlV, rest } = rig();
    keeper.setTakes(true);
    ctrlV();
    void keeper.pasted(undefined);
    await rest();
    expect(log).toEqual(CTRL_V);
  });

  it("waits for a picture that takes its time, but not for ever", async () => {
    const { log, keeper, ctrlV } = rig();
    keeper.setTakes(true);
    const after = (ms: number, piece: Piece) =>
      new Promise<Piece>((resolve) => setTimeout(() => resolve(piece), ms));
    ctrlV();
    void keeper.pasted(after(800, png(1, 2)));
    await vi.advanceTimersByTimeAsync(799);
    expect(log).toEqual(["+1d"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(log).toEqual(["+1d", "png 1 2"]);
    await vi.advanceTimersByTimeAsync(150);
    expect(log).toEqual(["+1d", "png 1 2", "+2f"]);
    log.length = 0;
    ctrlV();
    void keeper.pasted(after(3000, png(3)));
    await vi.advanceTimersByTimeAsync(1000);
    expect(log).toEqual(CTRL_V);
    await vi.advanceTimersByTimeAsync(2000);
    expect(log).toEqual([...CTRL_V, "png 3"]);
  });

  it("sends the key when what was pasted cannot be read", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
    const { log, keeper, ctrlV, rest } = rig();
    keeper.setTakes(true);
    ctrlV();
    void keeper.pasted(Promise.reject(new Error("gone")));
    await rest();
    expect(log).toEqual(CTRL_V);
    expect(warn).toHaveBeenCalledOnce();
    warn.mockRestore();
  });

  it("sends a long text in parts, all of them before the key", async () => {
    const { log, keeper, ctrlV, paste } = rig();
    keeper.setTakes(true);
    ctrlV();
    await paste(text("a".repeat(100_000)));
    expect(log.map((line) => `${line.slice(-1)}${line.length > 10}`)).toEqual(["dfalse", "…true", "atrue", "ffalse"]);
  });

  it("does not pass on what is too large, and sends the key", async () => {
    const { log, keeper, ctrlV, rest } = rig();
    keeper.setTakes(true);
    ctrlV();
    void keeper.pasted(text("a".repeat(2 ** 20 + 1)));
    await rest();
    expect(log).toEqual(CTRL_V);
  });

  it("offers the same again only to a guest that does not have it any longer", async () => {
    const { log, keeper, ctrlV, paste, rest } = rig();
    keeper.setTakes(true);
    ctrlV();
    await paste(text("hello"));
    expect(log).toEqual(["+1d", "hello", "+2f"]);
    log.length = 0;
    ctrlV();
    void keeper.pasted(text("hello"));
    await rest();
    expect(log).toEqual(CTRL_V);
    log.length = 0;
    keeper.setTakes(false);
    keeper.setTakes(true);
    ctrlV();
    await paste(text("hello"));
    expect(log).toEqual(["+1d", "hello", "+2f"]);
  });

  it("lets a second paste wait for what the first one offered", async () => {
    const { log, keeper, ctrlV, rest, down } = rig();
    keeper.setTakes(true);
    ctrlV();
    void keeper.pasted(text("hello"));
    await vi.advanceTimersByTimeAsync(60);
    down("KeyV", { ctrlKey: true });
    void keeper.pasted(text("hello"));
    await rest();
    expect(log).toEqual(["+1d", "hello"]);
    await vi.advanceTimersByTimeAsync(90);
    expect(log).toEqual(["+1d", "hello", "+2f", "+2f"]);
  });

  it("lets a paste wait for what a look offered just before", async () => {
    const { log, browser, keeper, ctrlV } = rig();
    browser.holds = text("hello");
    keeper.setTakes(true);
    await vi.advanceTimersByTimeAsync(20);
    ctrlV();
    void keeper.pasted(text("hello"));
    await vi.advanceTimersByTimeAsync(129);
    expect(log).toEqual(["hello", "+1d"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(log).toEqual(["hello", ...CTRL_V]);
  });

  it("leaves keys alone while the guest takes nothing", async () => {
    const { log, ctrlV, paste } = rig();
    expect(ctrlV()).toBe(false);
    expect(log).toEqual(CTRL_V);
    await paste(text("hello"));
    expect(log).toEqual(CTRL_V);
  });

  it("holds nothing more when the connection went", async () => {
    const { log, keeper, outbox, ctrlV } = rig();
    keeper.setTakes(true);
    ctrlV();
    outbox.forget();
    await vi.advanceTimersByTimeAsync(1000);
    outbox.send(encodeReleaseAll());
    expect(log).toEqual(["+1d", "type 71"]);
  });

  it("holds back no more than somebody can type in that time", () => {
    const { log, keeper, outbox, ctrlV } = rig();
    keeper.setTakes(true);
    ctrlV();
    for (let count = 0; count < 256; count += 1) {
      outbox.send(encodeReleaseAll());
    }
    expect(log).toHaveLength(2 + 256);
  });
});

describe("copying in the guest", () => {
  it("writes to the person's clipboard", async () => {
    const { browser, keeper, rest, refused } = rig();
    keeper.given(text("from the guest"));
    await rest();
    keeper.given(png(1, 2, 3));
    await rest();
    expect(browser.written).toEqual([text("from the guest"), png(1, 2, 3)]);
    expect(refused).toEqual([]);
  });

  it("waits while the person is elsewhere, and writes the newest when the picture has the focus", async () => {
    const { browser, keeper, rest } = rig();
    browser.focused = false;
    keeper.given(text("one"));
    keeper.given(text("two"));
    await rest();
    expect(browser.written).toEqual([]);
    browser.focused = true;
    await keeper.focused();
    expect(browser.written).toEqual([text("two")]);
    await keeper.focused();
    expect(browser.written).toHaveLength(1);
  });

  it.each([
    ["a press of the pointer", (r: ReturnType<typeof rig>) => r.keeper.pressed()],
    ["a key", (r: ReturnType<typeof rig>) => r.down("KeyA")],
  ])("waits for %s where the browser wants a gesture", async (_, gesture) => {
    const all = rig();
    all.browser.refuses = refusal();
    all.keeper.given(text("one"));
    await all.rest();
    all.browser.refuses = undefined;
    gesture(all);
    await all.rest();
    expect(all.browser.written).toEqual([text("one")]);
    expect(all.refused).toEqual([]);
  });

  it("says so when the browser refuses though the person was there, until it does no more", async () => {
    const { browser, keeper, rest, refused, down } = rig();
    browser.refuses = refusal();
    keeper.given(text("one"));
    await rest();
    expect(refused).toEqual([]);
    browser.activated = false;
    down("ShiftLeft");
    await rest();
    expect(refused).toEqual([]);
    browser.activated = true;
    down("KeyA");
    await rest();
    expect(refused).toEqual([true]);
    browser.refuses = undefined;
    keeper.pressed();
    await rest();
    expect(browser.written).toEqual([]);
    keeper.given(text("two"));
    await rest();
    expect(browser.written).toEqual([text("two")]);
    expect(refused).toEqual([true, false]);
  });

  it("is not refused by a browser that finds the picture broken", async () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
    const { browser, keeper, rest, refused, down } = rig();
    browser.refuses = new DOMException("not a PNG", "DataError");
    keeper.given(png(0));
    await rest();
    browser.refuses = undefined;
    down("KeyA");
    await rest();
    expect([browser.written, refused]).toEqual([[], []]);
    expect(warn).toHaveBeenCalledOnce();
    warn.mockRestore();
  });

  it("keeps nothing that the guest has taken back", async () => {
    const { browser, keeper } = rig();
    browser.focused = false;
    keeper.given(text("a password"));
    keeper.given(text(""));
    browser.focused = true;
    await keeper.focused();
    expect(browser.written).toEqual([]);
  });
});

describe("nothing goes round in circles", () => {
  it("what the guest copied is not offered to it, neither by a look nor by a paste", async () => {
    const { log, browser, keeper, ctrlV, rest } = rig();
    keeper.setTakes(true);
    keeper.given(text("the guest's"));
    await rest();
    browser.holds = text("the guest's");
    await keeper.focused();
    ctrlV();
    void keeper.pasted(text("the guest's"));
    await rest();
    expect(log).toEqual(CTRL_V);
  });

  it("nor when it forgot what it had", async () => {
    const { log, browser, keeper, rest } = rig();
    keeper.setTakes(true);
    keeper.given(text("the guest's"));
    await rest();
    browser.holds = text("the guest's");
    keeper.setTakes(false);
    keeper.setTakes(true);
    await rest();
    expect(log).toEqual([]);
  });

  it("nor is a picture that the browser encoded anew", async () => {
    const { log, browser, keeper, rest } = rig();
    keeper.setTakes(true);
    browser.holds = png(9, 9);
    keeper.given(png(1));
    await rest();
    await keeper.focused();
    expect(log).toEqual([]);
  });

  it("what the guest emptied is offered again by a paste, not by a look", async () => {
    const { log, browser, keeper, ctrlV, rest, paste } = rig();
    keeper.setTakes(true);
    keeper.given(text("secret"));
    await rest();
    keeper.given(text(""));
    browser.holds = text("secret");
    await keeper.focused();
    expect(log).toEqual([]);
    ctrlV();
    await paste(text("secret"));
    expect(log).toEqual(["+1d", "secret", "+2f"]);
  });

  it("what the guest's clipboard manager gives back at once is not written", async () => {
    const { browser, keeper, ctrlV, rest, paste } = rig();
    keeper.setTakes(true);
    ctrlV();
    await paste(text("mine"));
    keeper.given(text("mine"));
    await rest();
    expect(browser.written).toEqual([]);
    await vi.advanceTimersByTimeAsync(2000);
    keeper.given(text("mine"));
    await rest();
    expect(browser.written).toEqual([text("mine")]);
  });

  it("a paste right after a copy in the guest is the guest's own affair", async () => {
    const { log, keeper, down, ctrlV } = rig();
    keeper.setTakes(true);
    down("KeyC", { ctrlKey: true });
    log.length = 0;
    expect(ctrlV()).toBe(false);
    expect(log).toEqual(CTRL_V);
    await vi.advanceTimersByTimeAsync(500);
    expect(ctrlV()).toBe(true);
  });

  it("so is one while a large copy of the guest is under way", async () => {
    const { keeper, ctrlV } = rig();
    keeper.setTakes(true);
    for (let part = 0; part < 5; part += 1) {
      keeper.coming();
      await vi.advanceTimersByTimeAsync(400);
    }
    expect(ctrlV()).toBe(false);
    await vi.advanceTimersByTimeAsync(100);
    expect(ctrlV()).toBe(true);
  });

  it("a paste while the guest's copy waits to be written is the guest's own affair", async () => {
    const { browser, keeper, ctrlV, rest } = rig();
    keeper.setTakes(true);
    browser.refuses = refusal();
    browser.activated = false;
    keeper.given(text("newer"));
    await rest();
    expect(ctrlV()).toBe(false);
  });

  it("what the person had before the guest copied does not replace it, where writing was refused", async () => {
    const { log, browser, keeper, ctrlV, rest, paste } = rig();
    keeper.setTakes(true);
    ctrlV();
    await paste(text("old"));
    browser.refuses = refusal();
    keeper.given(text("the guest's"));
    keeper.pressed();
    await rest();
    keeper.pressed();
    await rest();
    log.length = 0;
    ctrlV();
    void keeper.pasted(text("old"));
    await rest();
    expect(log).toEqual(CTRL_V);
    log.length = 0;
    ctrlV();
    void keeper.pasted(text("the guest's"));
    await rest();
    expect(log).toEqual(CTRL_V);
    log.length = 0;
    ctrlV();
    await paste(text("new"));
    expect(log).toEqual(["+1d", "new", "+2f"]);
  });
});

describe("looking at the person's clipboard", () => {
  it("offers what changed, once, when the picture gets the focus", async () => {
    const { log, browser, keeper } = rig();
    keeper.setTakes(true);
    browser.holds = text("one");
    await keeper.focused();
    await keeper.focused();
    browser.holds = text("two");
    await keeper.focused();
    expect(log).toEqual(["one", "two"]);
  });

  it("begins when the guest begins to take it, and again when it forgot", async () => {
    const { log, browser, keeper, rest } = rig();
    browser.holds = text("one");
    keeper.setTakes(true);
    await rest();
    expect(log).toEqual(["one"]);
    keeper.setTakes(true);
    await rest();
    expect(log).toEqual(["one"]);
    keeper.setTakes(false);
    keeper.setTakes(true);
    await rest();
    expect(log).toEqual(["one", "one"]);
  });

  it("comes with the pointer too, at most once a second", async () => {
    const { browser, keeper, rest } = rig();
    keeper.setTakes(true);
    await rest();
    const { reads } = browser;
    keeper.entered();
    await rest();
    expect(browser.reads).toBe(reads);
    await vi.advanceTimersByTimeAsync(1000);
    keeper.entered();
    await rest();
    expect(browser.reads).toBe(reads + 1);
  });

  it("does not happen while the person is elsewhere, or the guest takes nothing", async () => {
    const { browser, keeper } = rig();
    await keeper.focused();
    browser.focused = false;
    keeper.setTakes(true);
    await keeper.focused();
    expect(browser.reads).toBe(0);
  });

  it("brings nothing that is older than what the guest copied meanwhile", async () => {
    const { log, browser, keeper, rest } = rig();
    browser.holds = text("old");
    keeper.setTakes(true);
    keeper.given(text("newer"));
    await rest();
    expect(log).toEqual([]);
  });
});

describe("keys that paste", () => {
  const key = (code: string, letter: string, held: Partial<ClipboardKey>): ClipboardKey => ({
    key: letter,
    code,
    ctrlKey: false,
    shiftKey: false,
    altKey: false,
    metaKey: false,
    ...held,
  });

  it.each<[string, ClipboardKey, Platform, boolean]>([
    ["Ctrl+V", key("KeyV", "v", { ctrlKey: true }), "other", true],
    ["Ctrl+Shift+V, as terminals have it", key("KeyV", "V", { ctrlKey: true, shiftKey: true }), "windows", true],
    ["Shift+Insert", key("Insert", "Insert", { shiftKey: true }), "other", true],
    ["Cmd+V on a Mac", key("KeyV", "v", { metaKey: true }), "mac", true],
    ["Ctrl+V on a Mac, which pastes nothing there", key("KeyV", "v", { ctrlKey: true }), "mac", false],
    ["the V of a Dvorak keyboard", key("Period", "v", { ctrlKey: true }), "other", true],
    ["the key with a V on it, on a Dvorak keyboard", key("KeyV", "k", { ctrlKey: true }), "other", false],
    ["the same place on a Cyrillic keyboard", key("KeyV", "м", { ctrlKey: true }), "other", true],
    ["AltGr+V", key("KeyV", "v", { ctrlKey: true, altKey: true }), "windows", false],
    ["the Windows key and V", key("KeyV", "v", { metaKey: true }), "windows", false],
    ["V", key("KeyV", "v", {}), "other", false],
    ["Insert", key("Insert", "Insert", {}), "other", false],
    ["Ctrl+Insert", key("Insert", "Insert", { ctrlKey: true }), "other", false],
  ])("%s", (_, input, platform, pastes) => {
    expect(isPasteKey(input, platform)).toBe(pastes);
  });
});

describe("a text that was typed without keys", () => {
  it("is lent to a guest that takes it, and no other", () => {
    const { log, keeper } = rig();
    expect(keeper.lend("漢字")).toBe(false);
    keeper.setTakes(true);
    expect(keeper.lend("漢字")).toBe(true);
    expect(log).toEqual(["漢字"]);
  });

  it("gives way again to what the guest had, also after several in a row", () => {
    const { log, keeper } = rig();
    keeper.setTakes(true);
    keeper.given(text("the guest's own"));
    keeper.lend("a");
    keeper.lend("b");
    keeper.giveBack();
    keeper.giveBack();
    expect(log).toEqual(["a", "b", "the guest's own"]);
  });

  it("leaves alone what somebody copied meanwhile, and a picture that is too large to send twice", () => {
    const { log, keeper } = rig();
    keeper.setTakes(true);
    keeper.given(text("old"));
    keeper.lend("a");
    keeper.given(text("new"));
    keeper.giveBack();
    expect(log).toEqual(["a"]);
    keeper.given({ kind: "png", bytes: new Uint8Array(2 ** 20 + 1) });
    keeper.lend("b");
    keeper.giveBack();
    expect(log).toEqual(["a", "b"]);
  });

  it("never gets into the person's clipboard, though a clipboard manager repeats it", async () => {
    const { browser, keeper, rest } = rig();
    keeper.setTakes(true);
    keeper.lend("secret");
    keeper.given(text("secret"));
    keeper.giveBack();
    keeper.given(text("secret"));
    await rest();
    expect(browser.written).toEqual([]);
  });

  it("does not keep the person's own from being pasted afterwards", async () => {
    const { log, keeper, ctrlV, paste } = rig();
    keeper.setTakes(true);
    ctrlV();
    await paste(text("mine"));
    keeper.lend("typed");
    keeper.giveBack();
    log.length = 0;
    ctrlV();
    await paste(text("mine"));
    expect(log.at(-1)).toBe("+2f");
    expect(log).not.toContain("typed");
  });
});

describe("what a paste event brings", () => {
  const bytes = Uint8Array.of(1, 2, 3);
  const item = (kind: string, type: string) => ({ kind, type, getAsFile: () => new Blob([bytes]) });
  const data = (plain: string, ...items: ReturnType<typeof item>[]) =>
    ({ getData: (type: string) => (type === "text/plain" ? plain : ""), items }) as unknown as DataTransfer;

  it("is its text, whose lines end one way", () => {
    expect(pastedPiece(data("a\r\nb", item("file", "image/png")))).toEqual(text("a\nb"));
  });

  it("is its picture where there is no text", async () => {
    expect(await pastedPiece(data("", item("string", "text/html"), item("file", "image/png")))).toEqual(png(1, 2, 3));
  });

  it("is nothing where there are only files of other kinds", () => {
    expect(pastedPiece(data("", item("file", "application/pdf")))).toBeUndefined();
    expect(pastedPiece(null)).toBeUndefined();
  });
});
