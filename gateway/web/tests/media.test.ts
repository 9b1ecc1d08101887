// Sound, microphone and files: records, schedule, pace.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FileSender, type Transfer } from "../src/display/files.js";
import {
  decodeMedia,
  encodeFileCancel,
  encodeFileData,
  encodeFileStart,
  encodeSpeech,
  type MediaRecord,
} from "../src/display/media-protocol.js";
import { Media, type MediaView } from "../src/display/media.js";
import { Microphone, Resampler } from "../src/display/microphone.js";
import { samplesOf, Schedule } from "../src/display/sound.js";
import { Uploads } from "../src/display/uploads.js";

type TransferRecord = MediaRecord & { readonly type: "transfer" };

const bytes = (...values: number[]) => Uint8Array.from(values);

describe("records", () => {
  it("of the gateway are read as documented", () => {
    const sound = bytes(1, 2, 0, 0, 0x80, 0xbb, 0, 0, 2, 1, 0, 0, 0x61, 0x62);
    expect(decodeMedia(20, sound)).toEqual({
      type: "sound", codec: "opus", channels: 2, rate: 48_000, time: 258, bytes: bytes(0x61, 0x62),
    });
    expect(decodeMedia(21, bytes(1, 0, 0xff, 0xff))).toEqual({ type: "soundState", playing: true, muted: false, volume: 1 });
    expect(decodeMedia(22, bytes(1, 1, 0, 0, 0x80, 0xbb, 0, 0))).toEqual({
      type: "microphone", wanted: true, heard: true, rate: 48_000,
    });
    const transfer = bytes(7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0);
    expect(decodeMedia(23, transfer)).toEqual({
      type: "transfer", file: 7, state: "open", reason: 0, taken: 2 ** 32 + 1, room: 0x4_0000,
    });
  });

  it("that make no sense are none", () => {
    for (const kind of [20, 21, 22, 23, 24]) {
      for (let length = 0; length < 40; length++) {
        const record = decodeMedia(kind, new Uint8Array(length).fill(0xff));
        expect(record === undefined || record.type === "soundState" || record.type === "microphone").toBe(true);
      }
    }
    expect(decodeMedia(22, bytes(1, 1, 0, 0, 0, 0, 0, 0))).toMatchObject({ wanted: false, heard: false });
  });

  it("of the browser have the layout of the document", () => {
    expect([...encodeFileStart(7, 2 ** 32 + 5, "ü")]).toEqual([
      77, 0, 0, 0, 18, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0xc3, 0xbc,
    ]);
    expect([...encodeFileData(7, bytes(1, 2))]).toEqual([77, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 1, 2]);
    expect([...encodeFileCancel(7)]).toEqual([77, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0]);
    expect([...encodeSpeech(Int16Array.of(1, -2))]).toEqual([78, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0xfe, 0xff]);
    expect([...encodeSpeech(undefined)]).toEqual([78, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    expect(encodeFileStart(1, 0, "ü".repeat(2000)).length).toBe(8 + 16 + 1024);
  });
});

describe("sound", () => {
  it("begins a little later and then follows without a gap", () => {
    const schedule = new Schedule();
    expect(schedule.place(10, 0.01)).toBeCloseTo(10.08);
    expect(schedule.place(10.005, 0.01)).toBeCloseTo(10.09);
    expect(schedule.place(10.09, 0.01)).toBeCloseTo(10.1);
    // It came too late: everything begins anew.
    expect(schedule.place(11, 0.01)).toBeCloseTo(11.08);
  });

  it("that came in one lump behind a line that was stuck is skipped, not heard later and later", () => {
    const schedule = new Schedule();
    const placed = Array.from({ length: 200 }, () => schedule.place(5, 0.01)).filter((at) => at !== undefined);
    expect(placed.length).toBeLessThan(30);
    expect(Math.max(...placed)).toBeLessThan(5.32);
  });

  it("of plain samples comes channel by channel, and a frame that is cut short is left out", () => {
    const record = {
      type: "sound", codec: "pcm", channels: 2, rate: 48_000, time: 0,
      bytes: new Uint8Array(Int16Array.of(0x4000, -0x8000, 0, 0x7fff, 9).buffer),
    } as const;
    const [left, right] = samplesOf(record);
    expect([...left!]).toEqual([0.5, 0]);
    expect([...right!].map((value) => value.toFixed(3))).toEqual(["-1.000", "1.000"]);
  });
});

describe("the microphone", () => {
  it("gives a tone of the same pitch at another rate, without a step between pieces", () => {
    for (const [from, to] of [[44_100, 48_000], [48_000, 44_100], [48_000, 16_000], [48_000, 48_000]] as const) {
      const resampler = new Resampler(from, to);
      const out: number[] = [];
      for (let piece = 0; piece < 100; piece++) {
        const samples = Float32Array.from({ length: 1024 }, (_none, at) =>
          Math.sin((2 * Math.PI * 440 * (piece * 1024 + at)) / from),
        );
        out.push(...resampler.take(samples));
      }
      expect(Math.abs(out.length - (100 * 1024 * to) / from)).toBeLessThan(3);
      const crossings = out.filter((value, at) => at > 0 && out[at - 1]! < 0 && value >= 0).length;
      expect(Math.abs(crossings / (out.length / to) - 440)).toBeLessThan(2);
      const steps = out.slice(1).map((value, at) => Math.abs(value - out[at]!));
      const largest = (2 * Math.PI * 440 * 0x7fff) / to;
      expect(Math.max(...steps)).toBeLessThan(largest * 1.05 + 2);
    }
  });
});

describe("files", () => {
  let sent: Uint8Array[];
  let seen: readonly Transfer[];
  let sender: FileSender;

  beforeEach(() => {
    vi.useFakeTimers();
    sent = [];
    seen = [];
    sender = new FileSender(
      (record) => sent.push(record),
      (transfers) => (seen = transfers),
    );
    sender.setOffered(true);
  });
  afterEach(() => void vi.useRealTimers());

  const told = (file: number, state: TransferRecord["state"], taken: number, room: number, reason = 0) =>
    sender.take({ type: "transfer", file, state, taken, room, reason });
  const settle = async () => {
    for (let turn = 0; turn < 200; turn++) {
      await Promise.resolve();
      await vi.advanceTimersByTimeAsync(0);
    }
  };
  const content = (record: Uint8Array) => record.subarray(16);

  it("go as far as there is room, whole and in order", async () => {
    const whole = Uint8Array.from({ length: 100_000 }, (_none, at) => at % 251);
    sender.add([new File([whole], "a.bin")]);
    expect(sent).toEqual([encodeFileStart(1, 100_000, "a.bin")]);
    await settle();
    expect(sent.length).toBe(1);
    told(1, "open", 0, 40_000);
    await settle();
    const first = sent.slice(1).map(content);
    expect(first.reduce((sum, part) => sum + part.length, 0)).toBe(40_000);
    told(1, "open", 40_000, 1_000_000);
    await settle();
    const all = sent.slice(1).flatMap((record) => [...content(record)]);
    expect(all).toEqual([...whole]);
    expect(Math.max(...sent.map(({ length }) => length))).toBeLessThan(60 * 1024);
    told(1, "done", 100_000, 100_000);
    expect(seen).toMatchObject([{ id: 1, state: "done", taken: 100_000 }]);
    sender.clear();
    expect(seen).toEqual([]);
  });

  it("are at most four at once, and the others follow", async () => {
    sender.add(Array.from({ length: 6 }, (_none, at) => new File(["x"], `f${at}`)));
    expect(seen.map(({ state }) => state)).toEqual(["active", "active", "active", "active", "waiting", "waiting"]);
    told(2, "failed", 0, 4096, 1);
    expect(seen.map(({ state }) => state)).toEqual(["active", "failed", "active", "active", "active", "waiting"]);
    expect(seen[1]).toMatchObject({ reason: 1 });
    // Somebody else has files under way too: it tries again.
    told(5, "failed", 0, 0, 6);
    expect(seen[4]).toMatchObject({ state: "waiting" });
    await vi.advanceTimersByTimeAsync(2000);
    expect(seen[4]).toMatchObject({ state: "active" });
  });

  it("end when they are given up, when the connection is lost, when they cannot be read", async () => {
    sender.add([new File(["abc"], "a"), new File(["abc"], "b")]);
    sender.cancel(1);
    expect(sent.at(-1)).toEqual(encodeFileCancel(1));
    expect(seen.map(({ id }) => id)).toEqual([2]);
    sender.setOffered(false);
    expect(seen).toMatchObject([{ id: 2, state: "failed", reason: 7 }]);
    sender.setOffered(true);
    const gone = { name: "c", size: 5, slice: () => new Blob(["ab"]) } as unknown as File;
    sender.add([gone]);
    told(3, "open", 0, 1000);
    await settle();
    expect(seen.at(-1)).toMatchObject({ id: 3, state: "failed", reason: 100 });
    expect(sent.at(-1)).toEqual(encodeFileCancel(3));
  });
});

describe("uploads", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("wait while the socket is busy, in their order, and are forgotten with the connection", async () => {
    const line = { backlog: 0, passed: [] as number[], send(record: Uint8Array) { this.passed.push(record[0]!); return true; } };
    const uploads = new Uploads(line);
    uploads.push(bytes(1));
    line.backlog = 40_000;
    uploads.push(bytes(2));
    uploads.push(bytes(3));
    await vi.advanceTimersByTimeAsync(100);
    expect(line.passed).toEqual([1]);
    line.backlog = 0;
    await vi.advanceTimersByTimeAsync(10);
    expect(line.passed).toEqual([1, 2, 3]);
    line.backlog = 40_000;
    uploads.push(bytes(4));
    uploads.clear();
    line.backlog = 0;
    await vi.advanceTimersByTimeAsync(1000);
    expect(line.passed).toEqual([1, 2, 3]);
  });
});

describe("what the page shows", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("is told when it changes, not with every packet of a sound that the browser holds back", () => {
    vi.stubGlobal("document", new EventTarget());
    vi.stubGlobal("AudioContext", class {
      readonly state = "suspended";
      createGain = () => ({ connect: () => undefined, gain: { setTargetAtTime: () => undefined } });
      resume = () => new Promise(() => undefined);
    });
    const told: MediaView[] = [];
    const media = new Media({ send: () => undefined, upload: () => undefined, changed: (view) => told.push(view) });
    const packet = bytes(2, 1, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 0, 0, 1, 2);
    media.take(20, packet);
    media.take(20, packet);
    media.take(20, packet);
    expect(told.map(({ blocked }) => blocked)).toEqual([true]);
  });
});

describe("an opened microphone", () => {
  const stream = () => {
    const track = { stop: vi.fn(), onended: null };
    return { track, opened: { getTracks: () => [track], getAudioTracks: () => [track] } as unknown as MediaStream };
  };

  it("is let go where the browser has no sound for it", async () => {
    const { track, opened } = stream();
    const states: string[] = [];
    const microphone = new Microphone(
      {
        open: () => Promise.resolve(opened),
        newContext: () => {
          throw new DOMException("no sound card", "NotSupportedError");
        },
      },
      () => undefined,
      (state) => states.push(state),
    );
    await microphone.start();
    expect(track.stop).toHaveBeenCalledOnce();
    expect(states).toEqual(["asking", "refused"]);
  });

  it("is let go where it was switched off before the browser gave it", async () => {
    const { track, opened } = stream();
    let give: (stream: MediaStream) => void = () => undefined;
    const microphone = new Microphone(
      { open: () => new Promise((resolve) => (give = resolve)), newContext: () => expect.fail("it was switched off") },
      () => undefined,
      () => undefined,
    );
    const started = microphone.start();
    microphone.stop();
    give(opened);
    await started;
    expect(track.stop).toHaveBeenCalledOnce();
  });
});
