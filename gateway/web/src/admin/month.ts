// The hours of one month.

import { all, usages } from "../api/admin.js";
import type { Usage } from "../gen/vidi/v1/usage_pb.js";
import type { Office } from "./office.svelte.js";
import { Polled } from "./polled.svelte.js";
import { monthSpan } from "./words.js";

const PERIOD_MS = 30_000;

/** Those of this month ("2026-11"). */
export function hoursOf(office: Office, month: string): Polled<Usage> {
  const { start, end } = monthSpan(month);
  return new Polled(office, PERIOD_MS, (parent) => {
    // What lies ahead is not asked for: the service counts up to now.
    const over = Number(end) * 1000 <= Date.now();
    const span = { startTime: { seconds: start, nanos: 0 }, ...(over ? { endTime: { seconds: end, nanos: 0 } } : {}) };
    return all((page) => usages.listUsage({ parent, ...span, ...page }), (part) => part.usage);
  });
}
