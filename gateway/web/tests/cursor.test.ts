import { inflateSync } from "node:zlib";
import { expect, it } from "vitest";
import { cssCursor, encodePng } from "../src/display/cursor.js";

const shape = (width: number, height: number, visible = true) => ({
  visible,
  hotspotX: 3,
  hotspotY: 200,
  width,
  height,
  pixels: Uint8Array.from({ length: width * height * 4 }, (_, index) => (index * 7) & 255),
});

it("a cursor's PNG holds exactly its pixels, also beyond one block of deflate", () => {
  const { pixels } = shape(128, 129);
  const png = Buffer.from(encodePng(128, 129, pixels));
  expect(png.subarray(0, 8).toString("hex")).toBe("89504e470d0a1a0a");
  expect(png.readUInt32BE(16)).toBe(128);
  expect(png.readUInt32BE(20)).toBe(129);
  const length = png.readUInt32BE(33);
  expect(png.toString("latin1", 37, 41)).toBe("IDAT");
  // inflateSync also checks the Adler checksum.
  const rows = inflateSync(png.subarray(41, 41 + length));
  const back = Buffer.concat(
    Array.from({ length: 129 }, (_, row) => rows.subarray(row * 513 + 1, (row + 1) * 513)),
  );
  expect(back.equals(Buffer.from(pixels))).toBe(true);
  expect(png.subarray(-12).toString("hex")).toBe("0000000049454e44ae426082");
});

it("a hidden cursor is none; none or an oversized one is the browser's own", () => {
  expect(cssCursor(shape(16, 16, false), 1)).toBe("none");
  expect(cssCursor(shape(0, 0), 1)).toBe("default");
  expect(cssCursor(shape(129, 16), 1)).toBe("default");
});

it("the hotspot lies inside the cursor and shrinks with the picture", () => {
  expect(cssCursor(shape(16, 16), 1)).toMatch(/^url\("data:image\/png;base64,.*"\) 3 15, default$/);
  expect(cssCursor(shape(16, 16), 0.5)).toMatch(/^image-set\(url\(".*"\) 2\.000x\) 2 8, default$/);
});
