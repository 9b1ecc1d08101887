// Images of few colours, such as letters: drawn without a decoder.

import type { GatewayRecord } from "./protocol.js";

/** A record of such an image. */
export type PaletteImage = Extract<GatewayRecord, { type: "palette" }>;

/** Its pixels as a canvas takes them: red, green, blue, 255. */
export function palettePixels(image: PaletteImage): Uint8ClampedArray<ArrayBuffer> {
  const { area, colours, bits, pixels } = image;
  const words = new Uint32Array(area.width * area.height);
  // A number without a colour is black; the bytes of a word are red first, as on every machine with a browser.
  const table = new Uint32Array(256).fill(0xff00_0000);
  for (let index = 0; 3 * index < colours.length; index += 1) {
    const [red = 0, green = 0, blue = 0] = colours.subarray(3 * index, 3 * index + 3);
    table[index] = (0xff00_0000 | (blue << 16) | (green << 8) | red) >>> 0;
  }
  const mask = (1 << bits) - 1;
  let at = 0;
  let from = 0;
  for (let row = 0; row < area.height; row += 1) {
    let byte = 0;
    let left = 0;
    for (let column = 0; column < area.width; column += 1) {
      if (left === 0) {
        byte = pixels[from] ?? 0;
        from += 1;
        left = 8;
      }
      left -= bits;
      words[at] = table[(byte >> left) & mask] ?? 0;
      at += 1;
    }
  }
  return new Uint8ClampedArray(words.buffer);
}
