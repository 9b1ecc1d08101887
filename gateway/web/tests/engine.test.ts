import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Engine } from "../src/display/engine.js";
import type { EngineEvent } from "../src/display/messages.js";
import * as peer from "./peer.js";
import { EMPTY_SLOT, rig } from "./rig.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("frames", () => {
  it("hello goes first and every presented frame is acknowledged", async () => {
    const { last, connect, events, states } = await rig();
    connect();
    expect(last().types()[0]).toBe(65);
    const acks = last().sent.filter((record) => record.type === 66);
    expect(acks.map((record) => record.body[0])).toEqual([1]);
    expect(events).toContainEqual({ type: "frame", count: 1 });
    expect(events).toContainEqual({ type: "size", width: 100, height: 100 });
    expect(states()).toEqual(["connecting", "connected"]);
  });

  it("images are decoded side by side, drawn in order, and the frame is drawn in one go", async () => {
    const { last, connect, drawn, decodings, closed } = await rig();
    connect();
    drawn.length = 0;
    last().tell(peer.fill(1, 0, 1, 1, [0, 0, 0]), peer.image(2, 0, 1, 1, 1, [0]));
    last().tell(peer.copy(3, 0, 1, 1, 9, 0), peer.image(4, 0, 1, 1, 2, [0]));
    last().tell(peer.raw(5, 0, 1, 1, [0, 0, 0, 255]), peer.frameEnd(2));
    expect(decodings).toHaveLength(2);
    decodings[1]?.finish();
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual([]);
    decodings[0]?.finish();
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual(["fill 1", "image 2", "copy 9->3", "image 4", "raw 5"]);
    expect(closed).toHaveLength(2);
  });

  it("a frame waits for the one before it", async () => {
    const { last, connect, drawn, decodings } = await rig();
    connect();
    drawn.length = 0;
    last().tell(peer.image(1, 0, 1, 1, 1, [0]), peer.frameEnd(2));
    last().tell(peer.fill(2, 0, 1, 1, [0, 0, 0]), peer.frameEnd(3));
    expect(drawn).toEqual([]);
    decodings[0]?.finish();
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual(["image 1", "fill 2"]);
    const acks = last().sent.filter((record) => record.type === 66);
    expect(acks.map((record) => record.body[0])).toEqual([1, 2, 3]);
  });

  it("nothing is drawn before its frame end", async () => {
    const { last, connect, drawn } = await rig();
    connect();
    drawn.length = 0;
    last().tell(peer.fill(1, 0, 1, 1, [0, 0, 0]));
    expect(drawn).toEqual([]);
  });

  it("an image that cannot be decoded is skipped and the whole picture asked for, once a second", async () => {
    const { last, connect, decodings } = await rig();
    connect();
    last().tell(peer.image(1, 0, 1, 1, 1, [0]), peer.frameEnd(2), peer.image(1, 0, 1, 1, 1, [0]), peer.frameEnd(3));
    decodings.forEach((decoding) => decoding.fail());
    await vi.advanceTimersByTimeAsync(0);
    expect(last().types().filter((type) => type === 73)).toHaveLength(1);
    expect(last().types().filter((type) => type === 66)).toHaveLength(3);
  });

  it("records of other views are not drawn", async () => {
    const { last, connect, drawn } = await rig();
    connect();
    drawn.length = 0;
    last().tell(peer.rec(3, [...peer.u16(1, 1, 1, 1), 0, 0, 0, 255], 2), peer.frameEnd(2));
    expect(drawn).toEqual([]);
  });

  it("images still being decoded when the connection goes are never drawn", async () => {
    const { last, connect, drawn, decodings, closed } = await rig();
    connect();
    drawn.length = 0;
    last().tell(peer.image(1, 0, 1, 1, 1, [0]), peer.frameEnd(2));
    last().lose();
    decodings[0]?.finish();
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual([]);
    expect(closed).toHaveLength(1);
  });
});

describe("tiles that were shown before", () => {
  const tile = (x: number, slot: number) => [...peer.u16(x, 0), ...peer.u32(slot)];

  it("are kept and drawn in the order of records, images that are still decoded included", async () => {
    const { last, connect, drawn, decodings } = await rig();
    connect();
    drawn.length = 0;
    last().tell(peer.image(1, 0, 1, 1, 2, [0]), peer.rec(16, tile(1, 5)), peer.rec(17, tile(64, 5)), peer.frameEnd(2));
    expect(drawn).toEqual([]);
    decodings[0]?.finish();
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual(["image 1", "keep 1 in 5", "recall 5 at 64"]);
    expect(last().types()).not.toContain(73);
  });

  it("that are not there are asked for with the whole picture", async () => {
    const { last, connect } = await rig();
    connect();
    last().tell(peer.rec(17, tile(0, EMPTY_SLOT)), peer.frameEnd(2));
    expect(last().types()).toContain(73);
  });
});

describe("video", () => {
  const SPS = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0x95, 0xa0, 0x14, 0x01];
  const unit = (x: number, key: boolean, side = 96, region = 3) =>
    peer.rec(18, [...peer.u16(x, 0, 90, 90), region, key ? 1 : 0, 0, 0, ...peer.u16(side, side), ...(key ? SPS : [0, 0, 1, 0x41, 1, 2, 3])]);
  const told = (sent: peer.BrowserRecord[]) =>
    sent.filter(({ type }) => type === 76).map(({ body }) => Array.from(body.slice(0, 2)));

  it("is decoded as its parameter set says and drawn in its place among the others", async () => {
    const { last, connect, drawn, decoders } = await rig();
    connect();
    drawn.length = 0;
    last().tell(unit(1, true), peer.fill(2, 0, 1, 1, [0, 0, 0]), peer.frameEnd(2), unit(3, false), peer.frameEnd(3));
    expect(decoders).toHaveLength(1);
    expect(decoders[0]?.config).toMatchObject({ codec: "avc1.42c01f", optimizeForLatency: true });
    expect(decoders[0]?.chunks.map(({ type }) => type)).toEqual(["key", "delta"]);
    expect(drawn).toEqual([]);
    decoders[0]?.give(0);
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual(["video 1", "fill 2"]);
    decoders[0]?.give(1);
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual(["video 1", "fill 2", "video 3"]);
    expect(decoders[0]?.closedPictures).toBe(2);
    expect(last().types().filter((type) => type === 66)).toHaveLength(3);
  });

  it("has another decoder when its size changes, and none after its end", async () => {
    const { last, connect, decoders } = await rig();
    connect();
    last().tell(unit(0, true), unit(0, true), unit(0, true, 128));
    expect(decoders).toHaveLength(2);
    expect(decoders[0]?.chunks).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(0);
    expect(decoders[0]?.state).toBe("closed");
    last().tell(peer.rec(19, [3, 0, 0, 0]));
    await vi.advanceTimersByTimeAsync(0);
    expect(decoders[1]?.state).toBe("closed");
  });

  it("that cannot be decoded is passed over until a key frame, and the gateway hears of it", async () => {
    const { last, connect, drawn, decoders } = await rig();
    connect();
    drawn.length = 0;
    last().tell(unit(1, true), peer.frameEnd(2));
    decoders[0]?.fail();
    await vi.advanceTimersByTimeAsync(0);
    expect(told(last().sent)).toEqual([[3, 2]]);
    last().tell(unit(1, false), peer.frameEnd(3), unit(2, true), peer.frameEnd(4));
    decoders[1]?.give(0);
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual(["video 2"]);
    expect(last().types().filter((type) => type === 66)).toHaveLength(4);
    expect(last().types()).not.toContain(73);
  });

  it("is given up after three faults without a picture between them", async () => {
    const { last, connect, decoders } = await rig();
    connect();
    for (let fault = 0; fault < 3; fault += 1) {
      last().tell(unit(1, true), peer.frameEnd(2 + fault));
      decoders[fault]?.fail();
      await vi.advanceTimersByTimeAsync(0);
    }
    expect(told(last().sent)).toEqual([[3, 2], [3, 2], [3, 1]]);
    last().tell(unit(1, true), peer.frameEnd(9));
    await vi.advanceTimersByTimeAsync(0);
    expect(decoders).toHaveLength(3);
    expect(last().types().filter((type) => type === 66)).toHaveLength(5);
  });

  it("whose decoder keeps pictures back counts as one that cannot be decoded", async () => {
    const { last, connect } = await rig();
    connect();
    last().tell(unit(1, true), peer.frameEnd(2));
    await vi.advanceTimersByTimeAsync(1500);
    expect(told(last().sent)).toEqual([[3, 2]]);
    expect(last().types().filter((type) => type === 66)).toHaveLength(2);
  });

  it("without a parameter set is a fault of that region only", async () => {
    const { last, connect, sockets } = await rig();
    connect();
    last().tell(peer.rec(18, [...peer.u16(0, 0, 9, 9), 0, 1, 0, 0, ...peer.u16(16, 16), 1, 2, 3]), peer.frameEnd(2));
    await vi.advanceTimersByTimeAsync(0);
    expect(told(last().sent)).toEqual([[0, 2]]);
    expect(sockets).toHaveLength(1);
  });
});

describe("the clipboard", () => {
  const pieces = (events: EngineEvent[]) =>
    events.flatMap((event) => (event.type === "clipboard" ? [event.piece] : []));

  it("of the guest is put together from its parts, whatever comes between them", async () => {
    const { last, connect, events } = await rig();
    connect();
    last().tell(peer.clipboard(1, true, "one "), peer.fill(1, 0, 1, 1, [0, 0, 0]));
    last().tell(peer.clipboard(1, true, "two "), peer.frameEnd(2));
    expect(pieces(events)).toEqual([]);
    expect(events.filter((event) => event.type === "clipboardComing")).toHaveLength(2);
    last().tell(peer.clipboard(1, false, "three"));
    expect(pieces(events)).toEqual([{ kind: "text", text: "one two three" }]);
  });

  it("begins anew with the connection: half a piece of the one before is nothing", async () => {
    const { last, connect, events } = await rig();
    connect();
    last().tell(peer.clipboard(1, true, "lost "));
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    connect();
    last().tell(peer.clipboard(1, false, "whole"));
    expect(pieces(events)).toEqual([{ kind: "text", text: "whole" }]);
  });

  it("and the rest of what a guest can do are nothing until a connection says so", async () => {
    const { last, connect, events } = await rig();
    const takes = () =>
      events.flatMap((event) => (event.type === "abilities" ? [event.abilities.takesClipboard] : []));
    connect();
    expect(takes()).toEqual([false]);
    last().tell(peer.abilities(1));
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    connect();
    expect(takes()).toEqual([false, true, false, false]);
  });
});

describe("a screen that follows the window", () => {
  const told = (sent: peer.BrowserRecord[]) =>
    sent.flatMap(({ type, body }) => {
      const data = new DataView(body.buffer);
      return type === 75 ? [`${data.getUint16(0, true)}x${data.getUint16(2, true)}`] : [];
    });
  const resize = (engine: Engine, width: number, height: number) =>
    engine.command({ type: "window", window: { width, height } });

  it("is told the size when the gateway says that it follows, and again on every connection", async () => {
    const { last, connect } = await rig();
    connect();
    expect(told(last().sent)).toEqual([]);
    last().tell(peer.abilities(4));
    expect(told(last().sent)).toEqual(["800x600"]);
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    connect();
    expect(told(last().sent)).toEqual([]);
    last().tell(peer.abilities(4));
    expect(told(last().sent)).toEqual(["800x600"]);
  });

  it("is told the size at which the window stays, 200 ms after its last change", async () => {
    const { engine, last, connect } = await rig();
    connect();
    last().tell(peer.abilities(4));
    for (let width = 810; width <= 900; width += 10) {
      resize(engine, width, 600);
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(told(last().sent)).toEqual(["800x600"]);
    await vi.advanceTimersByTimeAsync(99);
    expect(told(last().sent)).toEqual(["800x600"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(told(last().sent)).toEqual(["800x600", "900x600"]);
  });

  it("is told nothing of a window that is as it was, or that has no size", async () => {
    const { engine, last, connect } = await rig();
    connect();
    last().tell(peer.abilities(4));
    resize(engine, 900, 700);
    resize(engine, 800, 600);
    await vi.advanceTimersByTimeAsync(1000);
    resize(engine, 0, 0);
    await vi.advanceTimersByTimeAsync(1000);
    last().tell(peer.abilities(4));
    expect(told(last().sent)).toEqual(["800x600"]);
  });

  it("is told nothing while the guest does not follow; the next hello has the new size all the same", async () => {
    const { engine, last, connect } = await rig();
    connect();
    last().tell(peer.abilities(3));
    resize(engine, 1920, 1080);
    await vi.advanceTimersByTimeAsync(1000);
    expect(told(last().sent)).toEqual([]);
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    last().open();
    expect(Array.from(last().sent[0]?.body.slice(8) ?? [])).toEqual(peer.u16(1920, 1080));
  });

  it("is told anew by a guest whose agent came back", async () => {
    const { last, connect } = await rig();
    connect();
    last().tell(peer.abilities(4), peer.abilities(0), peer.abilities(4));
    expect(told(last().sent)).toEqual(["800x600", "800x600"]);
  });

  it("is not told by an engine that was stopped", async () => {
    const { engine, last, connect } = await rig();
    connect();
    last().tell(peer.abilities(4));
    resize(engine, 1000, 1000);
    engine.command({ type: "stop" });
    await vi.advanceTimersByTimeAsync(1000);
    expect(told(last().sent)).toEqual(["800x600"]);
  });

  it("keeps its last picture until the first frame of the new size is whole", async () => {
    const { last, connect, drawn, decodings, events } = await rig();
    connect();
    drawn.length = 0;
    last().tell(peer.size(90, 90), peer.image(1, 0, 1, 1, 1, [0]));
    last().tell(peer.frameEnd(2));
    expect(drawn).toEqual([]);
    expect(events).not.toContainEqual({ type: "size", width: 90, height: 90 });
    decodings[0]?.finish();
    await vi.advanceTimersByTimeAsync(0);
    expect(drawn).toEqual(["size 90x90", "image 1"]);
    expect(events).toContainEqual({ type: "size", width: 90, height: 90 });
  });
});

describe("input", () => {
  const move = new Uint8Array(peer.rec(68, [1, 0, 1, 0, 0, 0]));
  const key = new Uint8Array(peer.rec(67, [1, 1, 0x1e]));

  it("is dropped while there is no connection", async () => {
    const { engine, last, connect } = await rig();
    connect();
    last().lose();
    engine.command({ type: "send", bytes: key, droppable: false });
    await vi.advanceTimersByTimeAsync(0);
    connect();
    expect(last().types()).not.toContain(67);
  });

  it("moves of the pointer are dropped on a congested connection, keys never", async () => {
    const { engine, last, connect } = await rig();
    connect();
    last().bufferedAmount = 1 << 20;
    engine.command({ type: "send", bytes: move, droppable: true });
    engine.command({ type: "send", bytes: key, droppable: false });
    engine.command({ type: "send", bytes: move, droppable: false });
    expect(last().types().filter((type) => type === 67 || type === 68)).toEqual([67, 68]);
  });
});
