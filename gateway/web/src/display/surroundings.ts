// The browser as the engine sees it, the same in a worker and on the page.

import type { Surroundings } from "./engine.js";
import type { EngineEvent } from "./messages.js";
import { CanvasPainter, decodePicture, decodesWebp } from "./painter.js";

/** Real sockets, real decoders, real clock. */
export function browserSurroundings(emit: (event: EngineEvent) => void): Surroundings {
  return {
    dial: (url, subprotocol) => new WebSocket(url, subprotocol),
    paint: (surface) => new CanvasPainter(surface),
    decode: decodePicture,
    decodesWebp,
    now: () => performance.now(),
    emit,
  };
}
