// Rules of a pool's schedule, as a form has them: pure, for its tests.

import type { ScheduleRule } from "../gen/vidi/v1/pools_pb.js";

/** Limit of the contract. */
export const RULES_MAX = 16;
/** Monday is 1, as in the contract. */
export const WEEKDAYS = [1, 2, 3, 4, 5, 6, 7] as const;
const WORKING_DAYS = 5;

/** A rule in the fields of a form; an empty number field says nothing of it. */
export interface RuleWish {
  days: number[];
  /** HH:MM */
  from: string;
  /** HH:MM; 00:00 is the day's end. */
  to: string;
  minSpare: number | null | undefined;
  maxDesktops: number | null | undefined;
}

/** What is offered first: a working day. */
export function newRule(): RuleWish {
  return { days: WEEKDAYS.slice(0, WORKING_DAYS), from: "08:00", to: "18:00", minSpare: undefined, maxDesktops: undefined };
}

export function ruleWish({ days, from, to, minSpare, maxDesktops }: ScheduleRule): RuleWish {
  // A time field has no 24:00.
  return { days: days.length === 0 ? [...WEEKDAYS] : [...days], from, to: to === DAY_END ? "00:00" : to, minSpare, maxDesktops };
}

export function ruleFields({ days, from, to, minSpare, maxDesktops }: RuleWish) {
  return {
    days: days.length === WEEKDAYS.length ? [] : [...days].sort((one, other) => one - other),
    from,
    to: to === "00:00" ? DAY_END : to,
    ...counted("minSpare", minSpare),
    ...counted("maxDesktops", maxDesktops),
  };
}

const DAY_END = "24:00";

function counted<Name extends string>(name: Name, count: number | null | undefined): Partial<Record<Name, number>> {
  const MOST = 0xffffffff;
  const said = typeof count === "number" && Number.isFinite(count);
  return said ? ({ [name]: Math.min(MOST, Math.max(0, Math.round(count))) } as Record<Name, number>) : {};
}

/** Of a rule in which nothing is asked for nothing is to be sent. */
export function isWhole({ days, from, to, minSpare, maxDesktops }: RuleWish): boolean {
  const said = [minSpare, maxDesktops].some((count) => typeof count === "number" && Number.isFinite(count));
  return said && days.length > 0 && from !== "" && to !== "" && from !== to;
}

/** The time zones that this browser knows; none where it does not say. */
export function zones(): readonly string[] {
  return typeof Intl.supportedValuesOf === "function" ? Intl.supportedValuesOf("timeZone") : [];
}

/** That of this browser; empty where it does not know. */
export function ownZone(): string {
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  return timeZone === "Etc/Unknown" ? "" : timeZone;
}
