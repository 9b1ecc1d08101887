// Keeps a watch on the desktops: goes on behind the last token, starts anew when that is too old,
// waits longer after each failure, and says when what it told may be old.

import { Code, ConnectError } from "@connectrpc/connect";
import type { WatchDesktopsResponse } from "../gen/vidi/v1/desktops_pb.js";
import { Fleet, type Row } from "./fleet.js";

/** A bookmark comes every 10 s: after this much silence the stream is dead. */
export const SILENCE_MS = 25_000;
const FIRST_WAIT_MS = 500;
const WAIT_MS_MAX = 10_000;
/** Changes that come together are shown together. */
const GATHER_MS = 60;

/** What the watch needs and whom it tells. */
export interface Watching {
  open(resumeToken: string, signal: AbortSignal): AsyncIterable<WatchDesktopsResponse>;
  /** New lines. */
  rows(rows: Row[]): void;
  /** Whether what was told is as it is now. */
  live(live: boolean): void;
  /** The stream ended with this; false: the watch ends too (signed out, not allowed). */
  failed(error: unknown): boolean;
}

/** Watches until the returned function is called. */
export function watch(watching: Watching): () => void {
  const stop = new AbortController();
  void run(watching, stop.signal);
  return () => stop.abort();
}

async function run(watching: Watching, stop: AbortSignal): Promise<void> {
  const fleet = new Fleet();
  const show = gather(() => !stop.aborted && watching.rows(fleet.rows()));
  let wait = FIRST_WAIT_MS;
  while (!stop.aborted) {
    try {
      await stream(fleet, watching, stop, show, () => (wait = FIRST_WAIT_MS));
    } catch (error) {
      if (stop.aborted) {
        return;
      }
      if (ConnectError.from(error).code === Code.OutOfRange) {
        fleet.restart();
      } else if (!watching.failed(error)) {
        watching.live(false);
        return;
      }
    }
    if (!stop.aborted) {
      watching.live(false);
      await delay(wait, stop);
      wait = Math.min(WAIT_MS_MAX, wait * 2);
    }
  }
}

async function stream(
  fleet: Fleet,
  watching: Watching,
  stop: AbortSignal,
  show: () => void,
  heard: () => void,
): Promise<void> {
  const own = new AbortController();
  const end = () => own.abort();
  stop.addEventListener("abort", end);
  let silence = setTimeout(end, SILENCE_MS);
  try {
    fleet.begin();
    for await (const message of watching.open(fleet.resumeToken, own.signal)) {
      clearTimeout(silence);
      silence = setTimeout(end, SILENCE_MS);
      heard();
      watching.live(true);
      if (fleet.take(message)) {
        show();
      }
    }
  } finally {
    clearTimeout(silence);
    stop.removeEventListener("abort", end);
  }
}

/** Calls once for all that is asked within a moment, at its end. */
function gather(call: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      call();
    }, GATHER_MS);
  };
}

function delay(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      stop.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    stop.addEventListener("abort", done);
  });
}
