// The guest's monitors and the windows that show them: records 28 and 83 of docs/display-protocol.md.

import type { Rectangle, WindowSize } from "./protocol.js";
import { record } from "./record.js";

/** Types of the records. */
export const MonitorsType = { monitors: 28, windows: 83 } as const;

/** The monitor of the page itself. */
export const FIRST_MONITOR = 0;
/** More than any guest here has. */
const MONITORS_MAX = 4;
const FIELDS_BYTES = 4;
const PLACE_BYTES = 10;
const WINDOW_BYTES = 8;

/** The part of the picture that a monitor shows, in guest pixels. */
export interface MonitorPlace extends Rectangle {
  readonly monitor: number;
}

/** What the guest says of its monitors. */
export interface Monitors {
  /** It can have so many. */
  readonly most: number;
  /** Those that are on; may reach beyond the picture, which may be another one by now. */
  readonly places: readonly MonitorPlace[];
}

/** A window that shows one monitor, and its place for the picture in device pixels. */
export interface MonitorWindowSize extends WindowSize {
  readonly monitor: number;
}

/** The monitors in a record's body; undefined where the body is cut short. */
export function decodeMonitors(body: Uint8Array): Monitors | undefined {
  const count = (body.length - FIELDS_BYTES) / PLACE_BYTES;
  if (count < 0 || count > MONITORS_MAX || !Number.isInteger(count)) {
    return undefined;
  }
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const places: MonitorPlace[] = [];
  for (let at = FIELDS_BYTES; at < body.length; at += PLACE_BYTES) {
    const field = (index: number) => view.getUint16(at + 2 + index * 2, true);
    places.push({ monitor: view.getUint8(at), x: field(0), y: field(1), width: field(2), height: field(3) });
  }
  return { most: view.getUint8(0), places };
}

/** The windows that are open, from left to right, one of them the first monitor's. */
export function encodeWindows(windows: readonly MonitorWindowSize[]): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(MonitorsType.windows, windows.length * WINDOW_BYTES);
  windows.forEach(({ monitor, width, height }, index) => {
    const at = index * WINDOW_BYTES;
    body.setUint8(at, monitor);
    body.setUint16(at + 4, Math.min(width, 0xffff), true);
    body.setUint16(at + 6, Math.min(height, 0xffff), true);
  });
  return bytes;
}
