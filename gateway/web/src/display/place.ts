// The place for the picture on the page.

import type { Size } from "./fit.js";
import type { WindowSize } from "./protocol.js";

/** A length in CSS pixels is a whole number of them, of which each has at most so many device pixels. */
const ROUNDING = 6;

/** How large an element is, in device pixels. */
export function deviceSize(element: HTMLElement): WindowSize {
  const ratio = window.devicePixelRatio;
  return {
    width: Math.round(element.clientWidth * ratio),
    height: Math.round(element.clientHeight * ratio),
  };
}

/** The screen that a guest is asked for which follows its place: on a dense screen it may be a coarser one. */
export function wantedScreen(size: WindowSize, ratio: number, choice: Size): WindowSize {
  return choice === "large"
    ? { width: Math.round(size.width / ratio), height: Math.round(size.height / ratio) }
    : size;
}

/** Tells the size in device pixels now and whenever it changes; gives what ends that. */
export function watchDeviceSize(element: HTMLElement, tell: (size: WindowSize) => void): () => void {
  const observer = new ResizeObserver((entries) => {
    const about = deviceSize(element);
    const box = entries[entries.length - 1]?.devicePixelContentBoxSize?.[0];
    const exact = box === undefined ? about : { width: box.inlineSize, height: box.blockSize };
    tell(isNear(exact, about) ? exact : about);
  });
  try {
    observer.observe(element, { box: "device-pixel-content-box" });
  } catch {
    // Safari does not know this box.
    observer.observe(element);
  }
  return () => observer.disconnect();
}

/** Where a browser plays another device, its exact count is that of the real screen. */
function isNear(one: WindowSize, other: WindowSize): boolean {
  return Math.abs(one.width - other.width) <= ROUNDING && Math.abs(one.height - other.height) <= ROUNDING;
}
