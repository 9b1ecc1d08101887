// The browser as the engine sees it, the same in a worker and on the page.

import type { Surroundings } from "./engine.js";
import type { EngineEvent } from "./messages.js";
import { CanvasPainter } from "./painter.js";
import { decodePicture, decodesWebp } from "./pictures.js";
import type { Skills } from "./protocol.js";
import { playsOpus } from "./sound.js";
import { decodesH264 } from "./video.js";

const MIB = 1024 * 1024;
/** Memory for tiles where the browser does not say how much the computer has. */
const TILES_UNKNOWN_BYTES = 16 * MIB;
/** An old browser is on an old computer: 512 tiles, half a screen of 1080p twice over. */
const TILES_OLD_BYTES = 8 * MIB;
const TILES_MAX_BYTES = 64 * MIB;
/** Of each GiB of the computer's memory, so much goes to tiles. */
const TILES_PER_GIB_BYTES = 8 * MIB;

/** Real sockets, real decoders, real clock. */
export function browserSurroundings(emit: (event: EngineEvent) => void): Surroundings {
  return {
    dial: (url, subprotocol) => new WebSocket(url, subprotocol),
    reach,
    paint: (surface, tileCacheBytes) => new CanvasPainter(surface, tileCacheBytes),
    decode: decodePicture,
    newVideoDecoder: (output, error) => new VideoDecoder({ output, error }),
    newVideoChunk: (init) => new EncodedVideoChunk(init),
    skills,
    now: () => performance.now(),
    emit,
  };
}

async function skills(): Promise<Skills> {
  const [webp, h264, opus] = await Promise.all([decodesWebp(), decodesH264(), playsOpus()]);
  return { webp, h264, opus, tileCacheBytes: tileCacheBytes() };
}

/** Tiles live in the tab's memory or the graphics card's, both of which belong to others as well. */
function tileCacheBytes(): number {
  if (typeof OffscreenCanvas !== "function" || typeof createImageBitmap !== "function") {
    return TILES_OLD_BYTES;
  }
  const { deviceMemory } = navigator as { readonly deviceMemory?: number };
  return deviceMemory === undefined
    ? TILES_UNKNOWN_BYTES
    : Math.min(TILES_MAX_BYTES, Math.max(MIB, deviceMemory * TILES_PER_GIB_BYTES));
}

/** Any answer will do; nothing of the person goes with the question. */
async function reach(signal: AbortSignal): Promise<boolean> {
  try {
    await fetch("/", { method: "HEAD", cache: "no-store", credentials: "omit", redirect: "manual", signal });
    return true;
  } catch {
    return false;
  }
}
