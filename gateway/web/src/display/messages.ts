// What the page and the engine tell each other, whether a worker lies between them or not.

import type { Lights } from "./lock-keys.js";
import type { MonitorPlace, MonitorWindowSize } from "./monitors.js";
import type { Surface } from "./painter.js";
import type { Piece } from "./pieces.js";
import type { Abilities, CursorShape, WindowSize } from "./protocol.js";
import type { SharingNews } from "./sharing.js";

/** From the page to the engine. */
export type EngineCommand =
  | { readonly type: "start"; readonly surface: Surface; readonly url: string; readonly window: WindowSize }
  /** Records to send; droppable ones may be left out while the connection is congested. */
  | { readonly type: "send"; readonly bytes: Uint8Array<ArrayBuffer>; readonly droppable: boolean }
  /** Records that may wait behind others; forgotten with the connection. */
  | { readonly type: "upload"; readonly bytes: Uint8Array<ArrayBuffer> }
  /** The line may be there again: ask at once whether it is, dial now instead of after the backoff. */
  | { readonly type: "retry" }
  /** Dial again after the session was taken over. */
  | { readonly type: "takeBack" }
  /** The place for the picture has another size. */
  | { readonly type: "window"; readonly window: WindowSize }
  /** A monitor is shown on this canvas as well, or no longer. */
  | { readonly type: "openMonitor"; readonly monitor: number; readonly surface: Surface }
  | { readonly type: "closeMonitor"; readonly monitor: number }
  /** The places for the pictures of the other monitors' windows, from left to right. */
  | { readonly type: "windows"; readonly windows: readonly MonitorWindowSize[] }
  | { readonly type: "stop" };

/** Where the display is in its life. */
export type DisplayState = "connecting" | "connected" | "lost" | "ended";

/** Why the display ended for good. */
export type EndReason = "finished" | "signedOut" | "takenOver" | "notYours" | "letGo";

/** Measured over the last second or so. */
export interface Statistics {
  /** Round trip to the gateway, in milliseconds; undefined until measured. */
  readonly latencyMs: number | undefined;
  readonly bytesPerSecond: number;
  readonly framesPerSecond: number;
  /** How the picture came, the most bytes first. */
  readonly codecs: readonly Codec[];
  /** From the end of a frame to its being drawn, in milliseconds; undefined where there was no frame. */
  readonly drawMs: number | undefined;
  /** The guest's screen, in pixels. */
  readonly width: number;
  readonly height: number;
}

/** Ways in which a picture comes. */
export type Codec = "png" | "webp" | "jpeg" | "h264" | "palette" | "raw" | "tiles";

/** From the engine to the page. */
export type EngineEvent =
  | { readonly type: "state"; readonly state: DisplayState }
  /** What the gateway says about the desktop, for people. */
  | { readonly type: "status"; readonly status: number; readonly text: string }
  | { readonly type: "ended"; readonly reason: EndReason; readonly text: string }
  /** An attempt to dial failed; counts from 1 since the connection was lost. */
  | { readonly type: "attemptFailed"; readonly count: number }
  /** The part of the guest's picture that the page shows has this size. */
  | { readonly type: "size"; readonly width: number; readonly height: number }
  /** How many monitors there can be, and which part of the guest's picture each shows; the page's is the first. */
  | { readonly type: "monitors"; readonly most: number; readonly shown: readonly MonitorPlace[] }
  /** How many frames were presented so far. */
  | { readonly type: "frame"; readonly count: number }
  | { readonly type: "mayInput"; readonly mayInput: boolean }
  | { readonly type: "cursor"; readonly shape: CursorShape }
  | { readonly type: "cursorPosition"; readonly x: number; readonly y: number }
  | { readonly type: "pointerMode"; readonly relative: boolean }
  | ({ readonly type: "lockKeys" } & Lights)
  /** What the guest can do; nothing of it on a connection that has not said so. */
  | { readonly type: "abilities"; readonly abilities: Abilities }
  /** A record of sound, microphone or files: its type and its body. */
  | { readonly type: "media"; readonly kind: number; readonly bytes: Uint8Array }
  /** The guest fetched what its clipboard was offered. */
  | { readonly type: "fetched" }
  /** A part came of what somebody copied in the guest; more follows. */
  | { readonly type: "clipboardComing" }
  /** Somebody copied this in the guest. */
  | { readonly type: "clipboard"; readonly piece: Piece }
  /** Who is here, who asks, whether it is recorded. */
  | { readonly type: "sharing"; readonly news: SharingNews }
  | { readonly type: "statistics"; readonly statistics: Statistics };
