import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Engine } from "../src/display/engine.js";
import type { EngineEvent } from "../src/display/messages.js";
import type { Painter, Picture } from "../src/display/painter.js";
import { ProtocolError } from "../src/display/protocol.js";
import * as peer from "./peer.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

class FakeSocket {
  binaryType = "blob";
  readyState = 0;
  bufferedAmount = 0;
  sent: peer.BrowserRecord[] = [];
  closedWith: number | undefined;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;

  send(bytes: Uint8Array): void {
    this.sent.push(...peer.browserRecords(bytes));
  }

  close(code = 1005): void {
    this.closedWith = code;
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  tell(...records: Uint8Array[]): void {
    this.onmessage?.({ data: peer.message(...records) });
  }

  lose(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }

  types(): number[] {
    return this.sent.map((record) => record.type);
  }
}

interface Decoding {
  finish(): void;
  fail(): void;
}

async function rig() {
  const sockets: FakeSocket[] = [];
  const events: EngineEvent[] = [];
  const drawn: string[] = [];
  const decodings: Decoding[] = [];
  const closed: string[] = [];
  const painter: Painter = {
    width: 100,
    height: 100,
    resize: (width, height) => drawn.push(`size ${width}x${height}`),
    fill: (area) => {
      if (area.x > 99) {
        throw new ProtocolError("outside");
      }
      drawn.push(`fill ${area.x}`);
    },
    copy: (area, sourceX) => drawn.push(`copy ${sourceX}->${area.x}`),
    raw: (area) => drawn.push(`raw ${area.x}`),
    picture: (area) => drawn.push(`image ${area.x}`),
  };
  const engine = new Engine({
    dial: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket as unknown as WebSocket;
    },
    paint: () => painter,
    decode: (mime) =>
      new Promise<Picture>((resolve, reject) =>
        decodings.push({
          finish: () => resolve({ close: () => closed.push(mime) } as unknown as Picture),
          fail: () => reject(new Error("broken")),
        }),
      ),
    decodesWebp: () => Promise.resolve(true),
    now: () => Date.now(),
    emit: (event) => events.push(event),
  });
  engine.command({
    type: "start",
    surface: {} as HTMLCanvasElement,
    url: "wss://example/display/1",
    window: { width: 800, height: 600 },
  });
  await vi.advanceTimersByTimeAsync(0);
  const last = () => {
    const socket = sockets[sockets.length - 1];
    if (socket === undefined) {
      throw new Error("nothing was dialled");
    }
    return socket;
  };
  const states = () => events.flatMap((event) => (event.type === "state" ? [event.state] : []));
  const connect = () => {
    last().open();
    last().tell(peer.hello(), peer.status(1, ""), peer.size(100, 100), peer.frameEnd(1));
  };
  return { engine, sockets, events, drawn, decodings, closed, last, states, connect };
}

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

describe("the connection", () => {
  it("dials again at once, then after 250 ms, doubled up to 5 s, for ever", async () => {
    const { sockets, last, connect, states } = await rig();
    connect();
    const waits: number[] = [];
    for (let attempt = 0; attempt < 9; attempt += 1) {
      const count = sockets.length;
      last().lose();
      let waited = 0;
      await vi.advanceTimersByTimeAsync(0);
      while (sockets.length === count) {
        await vi.advanceTimersByTimeAsync(50);
        waited += 50;
      }
      waits.push(waited);
    }
    expect(waits).toEqual([0, 250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    expect(states()).toEqual(["connecting", "connected", "lost"]);
  });

  it("starts over after a connection that showed a picture for a second", async () => {
    const { sockets, last, connect } = await rig();
    connect();
    for (let round = 0; round < 3; round += 1) {
      last().lose();
      await vi.advanceTimersByTimeAsync(300);
    }
    const count = sockets.length;
    connect();
    await vi.advanceTimersByTimeAsync(1000);
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets.length).toBe(count + 1);
  });

  it("counts as connected again only with a picture, not when the socket opens", async () => {
    const { last, connect, states } = await rig();
    connect();
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    last().open();
    last().tell(peer.hello(), peer.status(1, ""));
    expect(states().pop()).toBe("lost");
    last().tell(peer.size(100, 100), peer.frameEnd(1));
    expect(states().pop()).toBe("connected");
  });

  it("is lost while the gateway says that it has no desktop", async () => {
    const { last, connect, states } = await rig();
    connect();
    last().tell(peer.status(2, "waiting for the host"));
    expect(states().pop()).toBe("lost");
    last().tell(peer.frameEnd(2));
    expect(states().pop()).toBe("lost");
    last().tell(peer.status(1, ""), peer.frameEnd(3));
    expect(states().pop()).toBe("connected");
  });

  it("a retry dials at once instead of after the pause", async () => {
    const { engine, sockets, last, connect } = await rig();
    connect();
    for (let attempt = 0; attempt < 5; attempt += 1) {
      last().lose();
      await vi.advanceTimersByTimeAsync(5000);
    }
    last().lose();
    const count = sockets.length;
    engine.command({ type: "retry" });
    expect(sockets.length).toBe(count + 1);
    await vi.advanceTimersByTimeAsync(9000);
    expect(sockets.length).toBe(count + 1);
  });

  it("a retry leaves a working connection alone", async () => {
    const { engine, sockets, connect } = await rig();
    connect();
    engine.command({ type: "retry" });
    expect(sockets).toHaveLength(1);
  });

  it("counts as dead after eight seconds of silence, and as alive with answers", async () => {
    const { sockets, last, connect, states } = await rig();
    connect();
    const answer = () => {
      const ping = last().sent.filter((record) => record.type === 72).pop();
      last().tell(peer.rec(13, ping?.body ?? []));
    };
    for (let second = 0; second < 30; second += 2) {
      await vi.advanceTimersByTimeAsync(2000);
      answer();
    }
    expect(sockets).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(12_000);
    expect(sockets.length).toBeGreaterThan(1);
    expect(states().pop()).toBe("lost");
  });

  it("measures the round trip", async () => {
    const { last, connect, events } = await rig();
    connect();
    await vi.advanceTimersByTimeAsync(30);
    const ping = last().sent.filter((record) => record.type === 72).pop();
    last().tell(peer.rec(13, ping?.body ?? []));
    await vi.advanceTimersByTimeAsync(2000);
    const measured = events.filter((event) => event.type === "statistics").pop();
    expect(measured?.type === "statistics" && measured.statistics.latencyMs).toBe(30);
  });

  it("measures the rate of one connection, over a whole interval", async () => {
    const { last, connect, events } = await rig();
    connect();
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    last().open();
    last().tell(peer.rec(200, new Uint8Array(1992)));
    await vi.advanceTimersByTimeAsync(2000);
    const measured = events.filter((event) => event.type === "statistics");
    expect(measured).toHaveLength(1);
    expect(measured[0]?.statistics.bytesPerSecond).toBe(1000);
  });

  it("gives up a handshake that hangs", async () => {
    const { sockets } = await rig();
    await vi.advanceTimersByTimeAsync(10_001);
    expect(sockets[0]?.closedWith).toBeDefined();
    expect(sockets).toHaveLength(2);
  });

  it.each([
    [1000, "finished"],
    [4001, "signedOut"],
    [4002, "takenOver"],
    [4003, "notYours"],
  ])("ends for good with close code %i", async (code, reason) => {
    const { sockets, last, connect, events, states } = await rig();
    connect();
    last().tell(peer.status(4, "bye"));
    last().lose(code);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(sockets).toHaveLength(1);
    expect(states().pop()).toBe("ended");
    expect(events).toContainEqual({ type: "ended", reason, text: "bye" });
  });

  it.each([1001, 1006, 1011, 1012])("dials again after close code %i", async (code) => {
    const { sockets, last, connect } = await rig();
    connect();
    last().lose(code);
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets).toHaveLength(2);
  });

  it("is taken back on request after a takeover", async () => {
    const { engine, sockets, last, connect, states } = await rig();
    connect();
    last().lose(4002);
    engine.command({ type: "takeBack" });
    expect(sockets).toHaveLength(2);
    connect();
    expect(states()).toEqual(["connecting", "connected", "ended", "lost", "connected"]);
  });

  it.each([
    ["a truncated record", () => peer.rec(3, [1, 2])],
    ["another version", () => peer.rec(1, peer.u16(2, 0))],
  ])("is broken and begun anew after %s", async (_, record) => {
    const error = vi.spyOn(console, "error").mockImplementation(() => undefined);
    const { sockets, last, connect } = await rig();
    connect();
    last().tell(record());
    expect(error).toHaveBeenCalledOnce();
    expect(sockets[0]?.closedWith).toBe(4000);
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets).toHaveLength(2);
    error.mockRestore();
  });

  it("is broken when a rectangle reaches beyond the surface", async () => {
    const error = vi.spyOn(console, "error").mockImplementation(() => undefined);
    const { sockets, last, connect } = await rig();
    connect();
    last().tell(peer.fill(100, 0, 1, 1, [0, 0, 0]), peer.frameEnd(2));
    expect(sockets[0]?.closedWith).toBe(4000);
    expect(error).toHaveBeenCalledOnce();
    error.mockRestore();
  });

  it("counts failed attempts, so that the page can ask whether the session is still there", async () => {
    const { last, connect, events } = await rig();
    const counts = () =>
      events.flatMap((event) => (event.type === "attemptFailed" ? [event.count] : []));
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    last().lose();
    expect(counts()).toEqual([1, 2]);
    await vi.advanceTimersByTimeAsync(250);
    connect();
    last().lose();
    expect(counts()).toEqual([1, 2]);
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
    expect(takes()).toEqual([false, true, false]);
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
