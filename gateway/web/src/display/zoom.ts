// A picture shown larger than it fits, and moved: by fingers, or because it is shown in its actual size.

import type { Fit } from "./fit.js";

/** As a magnifier for reading; more shows only squares. */
const SCALE_MAX = 6;
/** This close to the edge the mouse pushes the picture, in CSS pixels. */
const EDGE_PX = 32;
/** By how much at most, with each frame. */
const PUSH_PX = 18;

/** How the picture is shown beyond its fit. */
export interface Zoom {
  /** 1 is the fit. */
  readonly scale: number;
  /** How far its middle is from the middle of its place, in CSS pixels. */
  readonly x: number;
  readonly y: number;
}

export const NO_ZOOM: Zoom = { scale: 1, x: 0, y: 0 };

/** The place for the picture, in CSS pixels. */
export interface Space {
  readonly width: number;
  readonly height: number;
  /** So much of its lower end is covered: by an on-screen keyboard. */
  readonly covered: number;
}

/** Where the picture lies then, in CSS pixels. `ratio` is device pixels per CSS pixel. */
export function zoomed(place: Fit, zoom: Zoom, space: Space, guestWidth: number, ratio: number): Fit {
  if (isPlain(zoom)) {
    return place;
  }
  const { scale, x, y } = clamped(place, zoom, space);
  const [width, height] = [place.width * scale, place.height * scale];
  const perPixel = guestWidth > 0 ? (width * ratio) / guestWidth : 1;
  const snap = (value: number) => Math.round(value * ratio) / ratio;
  return {
    left: snap((space.width - width) / 2 + x),
    top: snap((space.height - height) / 2 + y),
    width,
    height,
    crisp: Math.round(perPixel) >= 1 && Math.abs(perPixel - Math.round(perPixel)) < 1e-3,
  };
}

/** Shows it larger by a factor around a point, and moved. */
export function zoomBy(
  place: Fit,
  zoom: Zoom,
  space: Space,
  factor: number,
  around: { readonly x: number; readonly y: number },
  dx: number,
  dy: number,
): Zoom {
  const scale = Math.min(SCALE_MAX, Math.max(1, zoom.scale * factor));
  const by = scale / zoom.scale;
  // What is under the fingers stays under them.
  const x = (around.x - space.width / 2) * (1 - by) + zoom.x * by + dx;
  const y = (around.y - space.height / 2) * (1 - by) + zoom.y * by + dy;
  return clamped(place, { scale, x, y }, space);
}

/** Whether there is more of the picture than its place shows. */
export function isLarger(place: Fit, zoom: Zoom, space: Space): boolean {
  const room = { width: space.width + 1, height: space.height - space.covered + 1 };
  return place.width * zoom.scale > room.width || place.height * zoom.scale > room.height;
}

/** The picture moves no further than its edges, and not at all where it fits. */
export function clamped(place: Fit, zoom: Zoom, space: Space): Zoom {
  const over = (length: number, room: number) => Math.max(0, (length - room) / 2);
  const [height, reach] = [place.height * zoom.scale, over(place.width * zoom.scale, space.width)];
  const down = over(height, space.height);
  // Its lower edge may go up to where the covered part begins, as far as it lies below that.
  const below = (space.height - height) / 2 + height - (space.height - space.covered);
  return {
    scale: zoom.scale,
    x: within(zoom.x, -reach, reach),
    y: within(zoom.y, -Math.max(down, below), down),
  };
}

/** Moves the picture up so far that a point of it (its height on the page) is not covered. */
export function uncover(place: Fit, zoom: Zoom, space: Space, y: number): Zoom {
  const room = space.height - space.covered;
  return space.covered <= 0 || y < room * 0.75
    ? zoom
    : clamped(place, { ...zoom, y: zoom.y - (y - room * 0.5) }, space);
}

/** How far the mouse at this point pushes the picture, which is larger than its place. */
export function edgePush(space: Space, x: number, y: number): readonly [number, number] {
  const push = (at: number, length: number) => {
    const near = Math.min(at, length - at);
    if (near >= EDGE_PX || near < -EDGE_PX) {
      return 0;
    }
    const strength = Math.ceil((PUSH_PX * (EDGE_PX - Math.max(0, near))) / EDGE_PX);
    return at < length / 2 ? strength : -strength;
  };
  return [push(x, space.width), push(y, space.height - space.covered)];
}

function isPlain(zoom: Zoom): boolean {
  return zoom.scale === 1 && zoom.x === 0 && zoom.y === 0;
}

function within(value: number, low: number, high: number): number {
  // 0, never -0.
  return Math.min(high, Math.max(low, value)) + 0;
}
