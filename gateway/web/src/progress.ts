// How far a desktop is on its way to a picture, from what is observed of it.

import { type Desktop, Power, WantedPower } from "./gen/vidi/v1/desktops_pb.js";

/** What happens one after the other before there is a picture. */
export type Step = "down" | "place" | "disk" | "machine" | "picture";

export interface Progress {
  readonly steps: readonly { readonly step: Step; readonly state: "done" | "now" | "todo" }[];
  /** It is there: only the connection is missing. */
  readonly ready: boolean;
  readonly restarting: boolean;
  /** Why it failed, or what it waits for, in the service's words. */
  readonly reason: string;
  readonly failed: boolean;
  readonly hostAway: boolean;
}

const FROM_NOTHING: readonly Step[] = ["place", "disk", "machine", "picture"];
const AGAIN: readonly Step[] = ["down", "machine", "picture"];

/** What is known of the way; `wasRestarting`: it was seen going down before. */
export function progressOf({ spec, status }: Desktop, wasRestarting: boolean): Progress {
  const power = status?.power ?? Power.UNSPECIFIED;
  const down = spec?.restarting === true;
  const restarting = down || wasRestarting;
  const ready = power === Power.RUNNING && status?.ready === true && !down && spec?.power !== WantedPower.OFF;
  const now = current(power, status?.host ?? "", down);
  const steps = restarting ? AGAIN : FROM_NOTHING;
  // What the longer way has and the shorter has not lies behind it.
  const at = Math.max(0, steps.indexOf(steps.includes(now) ? now : "machine"));
  return {
    steps: steps.map((step, index) => ({
      step,
      state: index < at ? "done" : index === at ? "now" : "todo",
    })),
    ready,
    restarting,
    reason: status?.reason ?? "",
    failed: power === Power.FAILED,
    hostAway: status?.hostUnreachable === true,
  };
}

function current(power: Power, host: string, down: boolean): Step {
  if (down) {
    return "down";
  }
  if (host === "") {
    return "place";
  }
  switch (power) {
    case Power.RUNNING:
      return "picture";
    case Power.STARTING:
    case Power.OFF:
    case Power.SAVED:
    case Power.FAILED:
      return "machine";
    case Power.PREPARING:
    case Power.UNSPECIFIED:
      return "disk";
  }
}
