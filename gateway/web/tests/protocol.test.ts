import { describe, expect, it } from "vitest";
import { palettePixels } from "../src/display/palette.js";
import * as protocol from "../src/display/protocol.js";
import * as peer from "./peer.js";

const decode = protocol.decodeMessage;

describe("records from the gateway", () => {
  const pixels = [1, 2, 3, 255, 4, 5, 6, 255];
  const everything = [
    peer.hello(1),
    peer.size(1024, 768),
    peer.fill(1, 2, 3, 4, [5, 6, 7]),
    peer.copy(10, 20, 30, 40, 50, 60),
    peer.raw(7, 8, 2, 1, pixels),
    peer.image(9, 10, 11, 12, 2, [0xaa, 0xbb], 1),
    peer.cursor(1, 0, 0, 1, 2, pixels),
    peer.cursorPosition(70, 80),
    peer.pointerMode(2),
    peer.lockKeys(5),
    peer.status(3, "naïve ✓"),
    peer.rec(13, [1, 0, 0, 0, 0, 0, 0, 128]),
    peer.clipboard(1, true, "ñ"),
    peer.abilities(5),
    peer.frameEnd(0xfedc_ba98),
  ];

  it("are decoded in order from one message", () => {
    const area = (x: number, y: number, width: number, height: number) => ({ x, y, width, height });
    expect(decode(peer.message(...everything))).toEqual([
      { type: "hello", view: 0, version: 1, mayInput: true },
      { type: "size", view: 0, width: 1024, height: 768 },
      { type: "fill", view: 0, area: area(1, 2, 3, 4), red: 5, green: 6, blue: 7 },
      { type: "copy", view: 0, area: area(10, 20, 30, 40), sourceX: 50, sourceY: 60 },
      { type: "raw", view: 0, area: area(7, 8, 2, 1), pixels: Uint8ClampedArray.from(pixels) },
      {
        type: "image",
        view: 0,
        area: area(9, 10, 11, 12),
        mime: "image/webp",
        exact: false,
        bytes: Uint8Array.of(0xaa, 0xbb),
      },
      {
        type: "cursor",
        view: 0,
        shape: {
          visible: true,
          hotspotX: 0,
          hotspotY: 0,
          width: 1,
          height: 2,
          pixels: Uint8Array.from(pixels),
        },
      },
      { type: "cursorPosition", view: 0, x: 70, y: 80 },
      { type: "pointerMode", view: 0, relative: true },
      { type: "lockKeys", view: 0, scroll: true, number: false, caps: true },
      { type: "status", view: 0, state: 3, text: "naïve ✓" },
      { type: "pong", view: 0, id: 0x8000_0000_0000_0001n },
      { type: "clipboard", view: 0, kind: 1, more: true, bytes: Uint8Array.of(0xc3, 0xb1) },
      {
        type: "abilities",
        view: 0,
        abilities: { takesClipboard: true, givesClipboard: false, followsWindow: true, takesFiles: false, hasSound: false, takesMicrophone: false },
      },
      { type: "frameEnd", view: 0, sequence: 0xfedc_ba98 },
    ]);
  });

  it("cut anywhere inside a record are refused, and never read beyond their end", () => {
    for (const record of everything) {
      const whole = peer.message(record);
      for (let length = 1; length < whole.byteLength; length += 1) {
        expect(() => decode(whole.slice(0, length))).toThrow(protocol.ProtocolError);
      }
    }
  });

  it("whose stated length is too short or too long for their body are refused", () => {
    for (const record of everything) {
      const type = record[0] ?? 0;
      const body = record.slice(8);
      // A text, an encoded image and a part for the clipboard end where the record ends.
      if (type === 12 || type === 6 || type === 14) {
        continue;
      }
      expect(() => decode(peer.message(peer.rec(type, body.slice(0, -1))))).toThrow(
        protocol.ProtocolError,
      );
      expect(() => decode(peer.message(peer.rec(type, [...body, 0])))).toThrow(
        protocol.ProtocolError,
      );
    }
  });

  it("of unknown types are skipped", () => {
    const message = peer.message(peer.rec(200, [1, 2, 3]), peer.frameEnd(4), peer.rec(63, []));
    expect(decode(message)).toEqual([{ type: "frameEnd", view: 0, sequence: 4 }]);
  });

  it("keep the view they belong to", () => {
    const [record] = decode(peer.message(peer.rec(7, peer.u32(1), 3)));
    expect(record?.view).toBe(3);
  });

  it("with impossible surfaces, empty rectangles or unknown codecs are refused", () => {
    const bad = [
      peer.size(0, 10),
      peer.size(65536, 1),
      peer.size(60000, 60000),
      peer.fill(0, 0, 0, 1, [0, 0, 0]),
      peer.raw(0, 0, 65535, 65535, []),
      peer.image(0, 0, 1, 1, 5, [1]),
      peer.cursor(1, 0, 0, 65535, 65535, []),
    ];
    for (const record of bad) {
      expect(() => decode(peer.message(record))).toThrow(protocol.ProtocolError);
    }
  });

  it("survive ten thousand random corruptions with an answer or a protocol error", () => {
    const whole = new Uint8Array(peer.message(...everything));
    let seed = 7;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let round = 0; round < 10_000; round += 1) {
      const bytes = whole.slice(0, random(whole.length + 1));
      for (let change = random(8); change >= 0 && bytes.length > 0; change -= 1) {
        bytes[random(bytes.length)] = random(256);
      }
      try {
        decode(bytes.buffer);
      } catch (error) {
        expect(error).toBeInstanceOf(protocol.ProtocolError);
      }
    }
  });
});

describe("records of tiles, letters and video", () => {
  const decode = (...records: Uint8Array[]) => protocol.decodeMessage(peer.message(...records));
  const u16 = (...values: number[]) => peer.u16(...values);

  it("have the layout of the document", () => {
    const tiles = [...u16(64, 128), ...peer.u32(7), ...u16(1919, 1079), ...peer.u32(8191)];
    for (const [type, name] of [[16, "keep"], [17, "recall"]] as const) {
      const [record] = decode(peer.rec(type, tiles));
      if (record?.type !== name) {
        throw new Error(`${record?.type} instead of ${name}`);
      }
      const read = [0, 1].map((index) => [record.tiles.x(index), record.tiles.y(index), record.tiles.slot(index)]);
      expect(record.tiles.count).toBe(2);
      expect(read).toEqual([[64, 128, 7], [1919, 1079, 8191]]);
    }
    expect(decode(peer.rec(18, [...u16(1, 2, 301, 201), 7, 1, 0, 0, ...u16(302, 202), 9, 8, 7]))).toEqual([
      {
        type: "video", view: 0, area: { x: 1, y: 2, width: 301, height: 201 }, region: 7, key: true,
        codedWidth: 302, codedHeight: 202, bytes: Uint8Array.of(9, 8, 7),
      },
    ]);
    expect(decode(peer.rec(19, [5, 0, 0, 0]))).toEqual([{ type: "videoEnd", view: 0, region: 5 }]);
  });

  it.each([
    ["no tile", 16, []],
    ["half a tile", 17, [1, 0, 1, 0]],
    ["a region that there is not", 18, [...peer.u16(0, 0, 2, 2), 8, 1, 0, 0, ...peer.u16(2, 2), 1]],
    ["a video of no size", 18, [...peer.u16(0, 0, 2, 2), 0, 1, 0, 0, ...peer.u16(0, 2), 1]],
    ["the end of a region that there is not", 19, [8, 0, 0, 0]],
    ["a palette image that is too large", 6, [...peer.u16(0, 0, 65, 64), 4, 0, 0, 0, 0, 1, 2, 3]],
    ["a palette image without its last row", 6, [...peer.u16(0, 0, 8, 2), 4, 0, 0, 0, 1, 0, 0, 0, 9, 9, 9, 0xaa]],
    ["a palette image with a row too many", 6, [...peer.u16(0, 0, 8, 1), 4, 0, 0, 0, 1, 0, 0, 0, 9, 9, 9, 0xaa, 0xaa]],
  ])("%s is malformed", (_, type, body) => {
    expect(() => decode(peer.rec(type, body))).toThrow(protocol.ProtocolError);
  });

  it.each([
    [2, 1, [0b1010_0000, 0b0100_0000], [1, 0, 1, 0, 1, 0]],
    [3, 2, [0b0001_1000, 0b1000_0100], [0, 1, 2, 2, 0, 1]],
    [16, 4, [0x0f, 0x10, 0x70, 0x90], [0, 15, 1, 7, 0, 9]],
    [17, 8, [0, 16, 5, 4, 3, 2], [0, 16, 5, 4, 3, 2]],
  ])("a palette of %i colours has %i bits a pixel, and each row its own bytes", (count, bits, rows, numbers) => {
    const colours = Array.from({ length: count }, (_, index) => [index, 100 + index, 200 + index]);
    const [record] = decode(peer.rec(6, [...u16(0, 0, 3, 2), 4, 0, 0, 0, count - 1, ...colours.flat(), ...rows]));
    if (record?.type !== "palette") {
      throw new Error("not a palette image");
    }
    expect(record.bits).toBe(bits);
    expect(Array.from(palettePixels(record))).toEqual(
      numbers.flatMap((number) => [number, 100 + number, 200 + number, 255]),
    );
  });

  it("a number without a colour is black", () => {
    const [record] = decode(peer.rec(6, [...u16(0, 0, 1, 1), 4, 0, 0, 0, 2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xc0]));
    expect(record?.type === "palette" && Array.from(palettePixels(record))).toEqual([0, 0, 0, 255]);
  });
});

describe("records from the browser", () => {
  const read = (bytes: Uint8Array) => {
    const records = peer.browserRecords(bytes);
    expect(records).toHaveLength(1);
    return [records[0]?.type, ...(records[0]?.body ?? [])];
  };

  it("have the layout of the document", () => {
    expect(read(protocol.encodeHello({ webp: true, h264: true, opus: true, tileCacheBytes: 0x01_00_00_00 }, { width: 1920.4, height: 70_000 }))).toEqual([
      65, 1, 0, 15, 0, 0, 0, 0, 1, 0x80, 0x07, 0xff, 0xff,
    ]);
    expect(read(protocol.encodeAck(0xfedc_ba98, 1500.4))).toEqual([
      66, 0x98, 0xba, 0xdc, 0xfe, 0xdc, 0x05, 0, 0,
    ]);
    expect(read(protocol.encodeKey(true, [0xe0, 0x48]))).toEqual([67, 1, 2, 0xe0, 0x48]);
    expect(read(protocol.encodeKey(false, [0x1e]))).toEqual([67, 0, 1, 0x1e]);
    expect(read(protocol.encodePointer(1023, 767, 5))).toEqual([68, 0xff, 3, 0xff, 2, 5, 0]);
    expect(read(protocol.encodePointerDelta(-1, 40_000, 0))).toEqual([
      69, 0xff, 0xff, 0xff, 0x7f, 0, 0,
    ]);
    expect(read(protocol.encodeWheel(-2, 1))).toEqual([70, 0xfe, 1]);
    expect(read(protocol.encodeReleaseAll())).toEqual([71]);
    expect(read(protocol.encodePing(258n))).toEqual([72, 2, 1, 0, 0, 0, 0, 0, 0]);
    expect(read(protocol.encodeRefresh())).toEqual([73]);
    expect(read(protocol.encodeClipboard(2, true, Uint8Array.of(7, 8)))).toEqual([
      74, 2, 1, 0, 0, 7, 8,
    ]);
    expect(read(protocol.encodeClipboard(1, false, new Uint8Array()))).toEqual([74, 1, 0, 0, 0]);
    expect(read(protocol.encodeWindow({ width: 1920.4, height: 70_000 }))).toEqual([
      75, 0x80, 0x07, 0xff, 0xff,
    ]);
  });
});
