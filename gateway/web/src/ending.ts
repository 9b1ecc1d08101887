// Why a session ended, as the service says it, and what the person can do then.

import { type Session, SessionEndCause } from "./gen/vidi/v1/sessions_pb.js";
import type { MessageKey } from "./messages/catalogue.js";

/** What the service says of an end; `endReason` is in its own words. */
export type End = Pick<Session, "endCause" | "awaySecs" | "endReason">;

export interface Ending {
  /** May have places for `reason` and `time`. */
  readonly title: MessageKey;
  readonly hint: MessageKey;
  /** Opening the app again may help. */
  readonly again: boolean;
}

const OTHER: Ending = { title: "ended.other", hint: "ended.again.hint", again: true };
const UNTOLD: Ending = { title: "desktop.ended", hint: "ended.again.hint", again: true };

/** The causes of docs/desktop-life.md. */
const endings: Readonly<Record<SessionEndCause, Ending>> = {
  [SessionEndCause.UNSPECIFIED]: OTHER,
  [SessionEndCause.RELEASED]: UNTOLD,
  [SessionEndCause.BY_ADMINISTRATOR]: { title: "ended.administrator", hint: "ended.again.hint", again: true },
  [SessionEndCause.AWAY]: { title: "ended.away", hint: "ended.away.hint", again: true },
  [SessionEndCause.IDLE]: { title: "ended.idle", hint: "ended.idle.hint", again: true },
  [SessionEndCause.SWITCHED_OFF]: { title: "ended.off", hint: "ended.off.hint", again: true },
  [SessionEndCause.DESTROYED]: { title: "ended.destroyed", hint: "ended.destroyed.hint", again: false },
  [SessionEndCause.FAILED]: { title: "ended.failed", hint: "ended.failed.hint", again: true },
  [SessionEndCause.NO_HOST]: { title: "ended.noHost", hint: "ended.noHost.hint", again: true },
  [SessionEndCause.HOST_SERVICED]: { title: "ended.serviced", hint: "ended.serviced.hint", again: true },
  [SessionEndCause.MAX_TIME]: { title: "ended.maxTime", hint: "ended.maxTime.hint", again: true },
  [SessionEndCause.HOST_LOST]: { title: "ended.hostLost", hint: "ended.hostLost.hint", again: true },
};

/** What an end means for people; a cause that this page does not know is shown in the service's words. */
export function endingOf({ endCause, endReason }: End): Ending {
  const ending = (endings as Partial<Record<number, Ending>>)[endCause] ?? OTHER;
  return ending === OTHER && endReason === "" ? UNTOLD : ending;
}

/** The end that the gateway told of (docs/display-protocol.md): `CAUSE: sentence`, `AWAY seconds:
 * sentence`, or another text, which then is the reason. */
export function toldEnd(text: string): End {
  const [, name = "", secs = "0", sentence = ""] = /^([A-Z_]{2,40})(?: (\d{1,9}))?: (.*)$/s.exec(text) ?? [];
  const endCause = (SessionEndCause as unknown as Partial<Record<string, SessionEndCause>>)[name];
  return endCause === undefined
    ? { endCause: SessionEndCause.UNSPECIFIED, awaySecs: 0, endReason: text }
    : { endCause, awaySecs: Number(secs), endReason: sentence };
}

/** "10 minutes": in the largest unit of which there are at least two. */
export function spanWords(secs: number, language: string): string {
  const [unit, size] = secs < 120 ? (["second", 1] as const) : secs < 7200 ? (["minute", 60] as const) : (["hour", 3600] as const);
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "long" }).format(Math.floor(secs / size));
}
