// The place for the picture on the page.

import type { WindowSize } from "./protocol.js";

/** How large an element is, in device pixels. */
export function deviceSize(element: HTMLElement): WindowSize {
  const ratio = window.devicePixelRatio;
  return {
    width: Math.round(element.clientWidth * ratio),
    height: Math.round(element.clientHeight * ratio),
  };
}

/** Tells the size in device pixels now and whenever it changes; gives what ends that. */
export function watchDeviceSize(element: HTMLElement, tell: (size: WindowSize) => void): () => void {
  const observer = new ResizeObserver((entries) => {
    const exact = entries[entries.length - 1]?.devicePixelContentBoxSize?.[0];
    tell(exact === undefined ? deviceSize(element) : { width: exact.inlineSize, height: exact.blockSize });
  });
  try {
    observer.observe(element, { box: "device-pixel-content-box" });
  } catch {
    // Safari does not know this box.
    observer.observe(element);
  }
  return () => observer.disconnect();
}
