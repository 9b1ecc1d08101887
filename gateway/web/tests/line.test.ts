import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import * as peer from "./peer.js";
import { rig } from "./rig.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

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
      await vi.advanceTimersByTimeAsync(round === 0 ? 0 : 250 * round);
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
    connect();
    await vi.advanceTimersByTimeAsync(900);
    expect(sockets.length).toBe(count + 1);
  });

  it("a retry leaves a working connection alone", async () => {
    const { engine, sockets, connect } = await rig();
    connect();
    engine.command({ type: "retry" });
    expect(sockets).toHaveLength(1);
  });

  it("measures the round trip", async () => {
    const { last, connect, events } = await rig();
    last().answers = false;
    connect();
    await vi.advanceTimersByTimeAsync(30);
    const ping = last().sent.filter((record) => record.type === 72).pop();
    last().tell(peer.rec(13, ping?.body ?? []));
    await vi.advanceTimersByTimeAsync(1000);
    const measured = events.filter((event) => event.type === "statistics").pop();
    expect(measured?.type === "statistics" && measured.statistics.latencyMs).toBe(30);
  });

  it("measures the rate of one connection, over a whole interval", async () => {
    const { last, connect, events } = await rig();
    connect();
    last().lose();
    await vi.advanceTimersByTimeAsync(0);
    last().answers = false;
    last().open();
    last().tell(peer.rec(200, new Uint8Array(1992)));
    await vi.advanceTimersByTimeAsync(1000);
    const measured = events.filter((event) => event.type === "statistics");
    expect(measured).toHaveLength(1);
    expect(measured[0]?.statistics.bytesPerSecond).toBe(2000);
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

describe("a line that falls silent", () => {
  /** Connected, and from now on nothing answers. */
  async function silent() {
    const rigged = await rig();
    rigged.connect();
    await vi.advanceTimersByTimeAsync(100);
    rigged.last().answers = false;
    return { ...rigged, first: rigged.last() };
  }

  it("is dialled beside after a second without an answer, and told of after three", async () => {
    const { sockets, states } = await silent();
    await vi.advanceTimersByTimeAsync(1800);
    expect(sockets).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(200);
    expect(sockets).toHaveLength(2);
    expect(sockets[0]?.closedWith).toBeUndefined();
    expect(states().pop()).toBe("connected");
    await vi.advanceTimersByTimeAsync(2200);
    expect(states().pop()).toBe("lost");
  });

  it("is kept when it speaks before the other one is open", async () => {
    const { sockets, first, states } = await silent();
    await vi.advanceTimersByTimeAsync(4500);
    expect(states().pop()).toBe("lost");
    // Under the veil nobody holds anything.
    expect(first.types()).toContain(71);
    first.answers = true;
    first.tell(peer.status(1, ""));
    expect(states().pop()).toBe("connected");
    const count = sockets.length;
    expect(sockets[count - 1]?.closedWith).toBeDefined();
    await vi.advanceTimersByTimeAsync(5000);
    expect(sockets).toHaveLength(count);
    expect(first.closedWith).toBeUndefined();
  });

  it("and speaks again every time is slow, and doubted later and later", async () => {
    const { sockets, first } = await silent();
    const doubts: number[] = [];
    for (let second = 0; second < 24; second += 1.5) {
      const count = sockets.length;
      await vi.advanceTimersByTimeAsync(1500);
      doubts.push(sockets.length - count);
      first.tell(peer.status(1, ""));
    }
    expect(doubts.reduce((sum, doubt) => sum + doubt)).toBeLessThanOrEqual(2);
    expect(first.closedWith).toBeUndefined();
  });

  it("is left for the other one as soon as that is open", async () => {
    const { first, last, connect, states } = await silent();
    await vi.advanceTimersByTimeAsync(2000);
    expect(last()).not.toBe(first);
    last().open();
    expect(first.closedWith).toBeDefined();
    expect(last().types()[0]).toBe(65);
    expect(states().pop()).toBe("lost");
    connect();
    expect(states().pop()).toBe("connected");
  });

  it("counts as dead after eight seconds, and as alive with answers", async () => {
    const { first, sockets } = await silent();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(first.closedWith).toBeDefined();
    const { sockets: alive, connect } = await rig();
    connect();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(alive).toHaveLength(1);
    expect(sockets.length).toBeGreaterThan(2);
  });

  it("is asked at once when the network comes back, and dialled beside 60 ms later", async () => {
    const { engine, first, sockets } = await silent();
    engine.command({ type: "retry" });
    expect(first.types().filter((type) => type === 72)).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(59);
    expect(sockets).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(sockets).toHaveLength(2);
  });

  it("is dialled anew when a handshake hangs longer than handshakes do", async () => {
    const { first, sockets } = await silent();
    first.lose();
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(299);
    expect(sockets).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(2);
    expect(sockets).toHaveLength(3);
    expect(sockets[1]?.closedWith).toBeDefined();
  });

  it("is dialled often at first and then ever less, since browsers slow down who dials in vain", async () => {
    const { first, sockets } = await silent();
    first.lose();
    const dials: number[] = [];
    for (const seconds of [2, 8, 20, 30]) {
      const count = sockets.length;
      await vi.advanceTimersByTimeAsync(seconds * 1000);
      dials.push(sockets.length - count);
    }
    expect(dials).toEqual([7, 7, 3, 3]);
  });

  it("is dialled after a pause, not at once, where one that hung is followed by one that was refused", async () => {
    const { first, sockets, last } = await silent();
    first.lose();
    await vi.advanceTimersByTimeAsync(301);
    expect(sockets).toHaveLength(3);
    last().lose();
    await vi.advanceTimersByTimeAsync(249);
    expect(sockets).toHaveLength(3);
    await vi.advanceTimersByTimeAsync(1);
    expect(sockets).toHaveLength(4);
  });

  it("is asked about eight times a second at first, and after each hundredth of a longer break", async () => {
    const { first, last, probes } = await silent();
    first.lose();
    await vi.advanceTimersByTimeAsync(0);
    last().lose();
    const asked = async (milliseconds: number) => {
      const count = probes.length;
      for (let passed = 0; passed < milliseconds; passed += 20) {
        probes.at(-1)?.(false);
        await vi.advanceTimersByTimeAsync(20);
      }
      return probes.length - count;
    };
    expect(await asked(2000)).toBeGreaterThanOrEqual(14);
    await asked(58_000);
    expect(await asked(3000)).toBeLessThanOrEqual(5);
  });

  it("is dialled as soon as a small request is answered where the one before was not", async () => {
    const { first, sockets, last, probes } = await silent();
    first.lose();
    for (let attempt = 0; attempt < 6; attempt += 1) {
      await vi.advanceTimersByTimeAsync(0);
      last().lose();
      await vi.advanceTimersByTimeAsync(4000);
    }
    last().lose();
    const count = sockets.length;
    probes.pop()?.(false);
    await vi.advanceTimersByTimeAsync(240);
    expect(sockets).toHaveLength(count);
    probes.pop()?.(true);
    await vi.advanceTimersByTimeAsync(0);
    expect(sockets).toHaveLength(count + 1);
  });

  it("loses what is typed meanwhile, rather than typing it twice", async () => {
    const { engine, first, last, connect } = await silent();
    const key = new Uint8Array(peer.rec(67, [1, 1, 0x1e]));
    engine.command({ type: "send", bytes: key, droppable: false });
    expect(first.types()).toContain(67);
    await vi.advanceTimersByTimeAsync(2000);
    connect();
    await vi.advanceTimersByTimeAsync(5000);
    expect(last().types()).not.toContain(67);
  });

  it("is asked after the computer slept", async () => {
    const { sockets, first } = await silent();
    vi.setSystemTime(Date.now() + 3_600_000);
    await vi.advanceTimersByTimeAsync(1000);
    expect(first.types().filter((type) => type === 72).length).toBeGreaterThan(1);
    await vi.advanceTimersByTimeAsync(250);
    expect(sockets).toHaveLength(2);
  });
});
