// Why a session ended, as the service says it, and what the person can do then.

import type { MessageKey } from "./messages/catalogue.js";

export interface Ending {
  readonly title: MessageKey;
  readonly hint: MessageKey;
  /** Opening the app again may help. */
  readonly again: boolean;
  /** How long nobody was there. */
  readonly away: { readonly count: number; readonly unit: "second" | "minute" | "hour" } | undefined;
}

/** The reasons of docs/desktop-life.md. */
const known: Readonly<Record<string, Omit<Ending, "away"> | undefined>> = {
  "the desktop was switched off": { title: "ended.off", hint: "ended.off.hint", again: true },
  "the desktop was deleted": { title: "ended.destroyed", hint: "ended.destroyed.hint", again: false },
  "the desktop failed": { title: "ended.failed", hint: "ended.failed.hint", again: true },
  "ended by an administrator": { title: "ended.administrator", hint: "ended.again.hint", again: true },
  "no host can take the desktop": { title: "ended.noHost", hint: "ended.noHost.hint", again: true },
};

const AWAY = /^nobody was connected for (\d{1,9}) (second|minute|hour)s?$/;

/** What a reason means; one that is not known is shown as it is, under `ended.other`. */
export function endingOf(reason: string): Ending {
  if (reason === "") {
    return { title: "desktop.ended", hint: "ended.again.hint", again: true, away: undefined };
  }
  const away = AWAY.exec(reason);
  if (away !== null) {
    const unit = away[2] as "second" | "minute" | "hour";
    return { title: "ended.away", hint: "ended.away.hint", again: true, away: { count: Number(away[1]), unit } };
  }
  return { ...(known[reason] ?? { title: "ended.other", hint: "ended.again.hint", again: true }), away: undefined };
}

/** "10 minutes". */
export function spanWords(away: NonNullable<Ending["away"]>, language: string): string {
  return new Intl.NumberFormat(language, { style: "unit", unit: away.unit, unitDisplay: "long" }).format(away.count);
}
