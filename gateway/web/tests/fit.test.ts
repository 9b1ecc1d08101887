import { expect, it } from "vitest";
import { fit } from "../src/display/fit.js";

const guest = { width: 1024, height: 768 };

it("the picture is as large as fits, in the middle", () => {
  expect(fit({ width: 1280, height: 1536 }, guest, 1)).toEqual({
    left: 0,
    top: 288,
    width: 1280,
    height: 960,
    crisp: false,
  });
});

it("it is shown pixel for pixel where that is almost the same size", () => {
  expect(fit({ width: 1040, height: 780 }, guest, 1)).toEqual({
    left: 8,
    top: 6,
    width: 1024,
    height: 768,
    crisp: true,
  });
});

it("pixels are device pixels, also on a dense screen", () => {
  const dense = fit({ width: 2048, height: 1536 }, guest, 2);
  expect([dense.width, dense.crisp]).toEqual([1024, true]);
  const small = fit({ width: 1024, height: 768 }, guest, 2);
  expect([small.width, small.crisp]).toEqual([512, true]);
});

it("a guest as large as its place is shown pixel for pixel, also where CSS pixels are no whole ones", () => {
  // 1281 x 801 device pixels at 125 %: 1024.8 x 640.8 CSS pixels, which a page would round.
  const odd = { width: 1281, height: 801 };
  expect(fit(odd, odd, 1.25)).toEqual({ left: 0, top: 0, width: 1024.8, height: 640.8, crisp: true });
});

it("a picture shown smaller is smoothed", () => {
  expect(fit({ width: 390, height: 844 }, guest, 1).crisp).toBe(false);
});

it("nothing to show takes no room", () => {
  expect(fit({ width: 0, height: 0 }, guest, 1).width).toBe(0);
  expect(fit({ width: 10, height: 10 }, { width: 0, height: 0 }, 1).width).toBe(0);
});
