import { expect, it } from "vitest";
import { fit } from "../src/display/fit.js";
import { wantedScreen } from "../src/display/place.js";
import { edgePush, isLarger, NO_ZOOM, uncover, zoomBy, zoomed } from "../src/display/zoom.js";

const space = { width: 400, height: 300, covered: 0 };
const guest = { width: 800, height: 600 };
const place = fit(space, guest, 1);

it("a picture that nobody enlarged lies as it fits", () => {
  expect(zoomed(place, NO_ZOOM, space, guest.width, 1)).toBe(place);
});

it("what is under the fingers stays under them", () => {
  const zoom = zoomBy(place, NO_ZOOM, space, 2, { x: 100, y: 75 }, 0, 0);
  const shown = zoomed(place, zoom, space, guest.width, 1);
  // The guest's pixel under the fingers was a quarter of the way, and is.
  expect([(100 - shown.left) / shown.width, (75 - shown.top) / shown.height]).toEqual([0.25, 0.25]);
  expect([shown.width, shown.crisp]).toEqual([800, true]);
});

it("it moves to its edges and no further, and never gets smaller than its fit", () => {
  let zoom = zoomBy(place, NO_ZOOM, space, 2, { x: 200, y: 150 }, 5000, 5000);
  let shown = zoomed(place, zoom, space, guest.width, 1);
  expect([shown.left, shown.top]).toEqual([0, 0]);
  zoom = zoomBy(place, zoom, space, 1, { x: 0, y: 0 }, -5000, -5000);
  shown = zoomed(place, zoom, space, guest.width, 1);
  expect([shown.left + shown.width, shown.top + shown.height]).toEqual([400, 300]);
  expect(zoomBy(place, zoom, space, 0.01, { x: 0, y: 0 }, 9, 9)).toEqual(NO_ZOOM);
  expect(zoomBy(place, zoom, space, 1000, { x: 0, y: 0 }, 0, 0).scale).toBe(6);
});

it("in its actual size it is as large as the guest says, on the screen's own pixels", () => {
  const actual = fit({ width: 800, height: 600 }, { width: 1600, height: 900 }, 2, "actual");
  expect([actual.width, actual.height, actual.crisp]).toEqual([800, 450, true]);
  expect(isLarger(actual, NO_ZOOM, space)).toBe(true);
  const moved = zoomBy(actual, NO_ZOOM, space, 1, { x: 0, y: 0 }, 5000, 0);
  expect(zoomed(actual, moved, space, 1600, 2).left).toBe(0);
  const small = fit({ width: 800, height: 600 }, { width: 200, height: 100 }, 1, "actual");
  expect([small.left, small.top, small.width]).toEqual([300, 250, 200]);
});

it("a guest that follows its place is asked for the screen's own pixels, or for fewer on a dense one", () => {
  const size = { width: 1171, height: 2532 };
  expect(wantedScreen(size, 3, "fit")).toBe(size);
  expect(wantedScreen(size, 3, "large")).toEqual({ width: 390, height: 844 });
  expect(fit(size, { width: 390, height: 844 }, 3, "large").crisp).toBe(true);
});

it("keys that cover its lower end can be moved away from what is under them", () => {
  const covered = { ...space, covered: 150 };
  const up = zoomBy(place, NO_ZOOM, covered, 1, { x: 0, y: 0 }, 0, -5000);
  const shown = zoomed(place, up, covered, guest.width, 1);
  expect(shown.top + shown.height).toBe(150);
  expect(uncover(place, NO_ZOOM, covered, 20)).toBe(NO_ZOOM);
  expect(zoomed(place, uncover(place, NO_ZOOM, covered, 200), covered, guest.width, 1).top).toBe(-125);
  expect(uncover(place, NO_ZOOM, space, 290)).toBe(NO_ZOOM);
});

it("the mouse pushes only at the edges, and harder further out", () => {
  expect(edgePush(space, 200, 150)).toEqual([0, 0]);
  const [left] = edgePush(space, 0, 150);
  const [less] = edgePush(space, 20, 150);
  expect(left).toBeGreaterThan(less);
  expect(less).toBeGreaterThan(0);
  expect(edgePush(space, 399, 299).every((push) => push < 0)).toBe(true);
});
