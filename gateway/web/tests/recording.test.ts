import { describe, expect, it } from "vitest";
import { Recording, RecordingError } from "../src/display/recording.js";
import * as peer from "./peer.js";

const entry = (milliseconds: number, ...records: Uint8Array[]): Uint8Array => {
  const message = new Uint8Array(peer.message(...records));
  return Uint8Array.from([...peer.u32(milliseconds, message.length), ...message]);
};
const file = (...parts: Uint8Array[]) =>
  new Blob([new TextEncoder().encode("VIDIREC1"), ...(parts as Uint8Array<ArrayBuffer>[])]);

const whole = [
  entry(0, peer.hello()),
  entry(0, peer.size(10, 10), peer.frameEnd(1)),
  entry(500, peer.fill(0, 0, 1, 1, [1, 2, 3]), peer.frameEnd(2)),
  entry(60_000, peer.size(10, 10), peer.frameEnd(3)),
  entry(60_500, peer.frameEnd(4)),
];

describe("a recording", () => {
  it("says how long it is, when its messages came and where to begin anew", async () => {
    const recording = await Recording.open(file(...whole));
    expect(recording.count).toBe(5);
    expect(recording.duration).toBe(60_500);
    expect([0, 1, 2, 3, 4, 5].map((index) => recording.time(index))).toEqual([0, 0, 500, 60_000, 60_500, Infinity]);
    expect([0, 59_999, 60_000, 99_999].map((time) => recording.keyBefore(time))).toEqual([1, 1, 3, 3]);
    expect(new Uint8Array(await recording.message(2))).toEqual(
      new Uint8Array(peer.message(peer.fill(0, 0, 1, 1, [1, 2, 3]), peer.frameEnd(2))),
    );
  });

  it("that was cut off is good up to there", async () => {
    const last = entry(61_000, peer.frameEnd(5));
    for (let length = 0; length < last.length; length += 1) {
      const recording = await Recording.open(file(...whole, last.subarray(0, length)));
      expect(recording.duration).toBe(60_500);
    }
    expect((await Recording.open(file())).count).toBe(0);
  });

  it.each([
    ["of another kind", new Blob(["VIDIREC2"])],
    ["of nothing", new Blob([])],
    ["with a message of no bytes", file(Uint8Array.from([...peer.u32(0, 0), 0]))],
    ["with a message of 17 MiB", file(Uint8Array.from([...peer.u32(0, 17 << 20), 0]))],
    ["whose time goes back", file(entry(5, peer.frameEnd(1)), entry(4, peer.frameEnd(2)))],
  ])("%s is refused", async (_, broken) => {
    await expect(Recording.open(broken)).rejects.toThrow(RecordingError);
  });

  it("of any bytes at all is opened or refused, and ends", async () => {
    let seed = 1;
    const random = () => (seed = (seed * 48_271) % 0x7fff_ffff) & 255;
    for (let round = 0; round < 300; round += 1) {
      const bytes = Uint8Array.from({ length: random() }, random);
      // Mostly small lengths, so that there is more than one message.
      bytes[6] = bytes[7] = bytes[5] = 0;
      await Recording.open(file(bytes)).then(
        (recording) => expect(recording.count).toBeLessThanOrEqual(256),
        (error: unknown) => expect(error).toBeInstanceOf(RecordingError),
      );
    }
  });
});
