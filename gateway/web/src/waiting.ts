// What a person reads of a pool: whether a desktop is ready, how long it takes, what becomes of it.

import { spanWords } from "./ending.js";
import { type App, ReleasePolicy } from "./gen/vidi/v1/sessions_pb.js";
import type { MessageKey } from "./messages/catalogue.js";

/** How an app of a pool stands, in one sentence; `time` fills its place. */
export interface PoolState {
  readonly key: MessageKey;
  readonly secs: number;
}

/** Of an app that has a pool behind it. */
export function poolState(app: App): PoolState {
  const said = (key: MessageKey, secs = 0) => ({ key, secs });
  if (app.session !== "" && app.desktop === "") {
    return said("app.state.waiting");
  }
  if (app.session !== "" && app.ready) {
    return said("app.state.open");
  }
  if (app.ready) {
    return said("app.state.ready");
  }
  if (app.suspended) {
    return said("app.state.suspended");
  }
  if (app.estimateSecs > 0) {
    return said("app.state.about", app.estimateSecs);
  }
  return said(app.reason === "" ? "app.state.preparing" : "app.state.full");
}

/** "40 seconds": rounded up to what an estimate is worth. */
export function aboutWords(secs: number, language: string): string {
  const step = secs <= 60 ? 5 : secs < 120 ? 10 : 60;
  return spanWords(Math.ceil(secs / step) * step, language);
}

/** Whether a desktop goes with everything on it, or stays, when its session ends; undefined: nobody here
 * knows, as of a physical machine. */
export type Fate = "delete" | "kept" | undefined;

export function fateOf(policy: ReleasePolicy): Fate {
  switch (policy) {
    case ReleasePolicy.DELETE:
      return "delete";
    case ReleasePolicy.KEEP:
    case ReleasePolicy.STOP:
      return "kept";
    case ReleasePolicy.UNSPECIFIED:
      return undefined;
  }
}
