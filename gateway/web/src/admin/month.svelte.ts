// The hours of one month, asked for again and again while they are looked at.

import { untrack } from "svelte";
import { all, usages } from "../api/admin.js";
import type { Usage } from "../gen/vidi/v1/usage_pb.js";
import { repeat } from "../repeat.js";
import type { Office } from "./office.svelte.js";
import { monthSpan } from "./words.js";
import type { Trouble } from "./work.js";

const PERIOD_MS = 30_000;

/** What is known of one month. */
export class Month {
  usage = $state.raw<readonly Usage[] | undefined>();
  trouble = $state.raw<Trouble | undefined>();

  constructor(private readonly office: Office) {}

  /** Asks for this month ("2026-11") until the returned function is called. */
  follow(month: string): () => void {
    return untrack(() => {
      this.usage = undefined;
      return repeat(PERIOD_MS, (current) => this.load(month, current));
    });
  }

  private async load(month: string, current: () => boolean): Promise<void> {
    const { start, end } = monthSpan(month);
    const { parent } = this.office;
    // What lies ahead is not asked for: the service counts up to now.
    const over = Number(end) * 1000 <= Date.now();
    try {
      const found = await all(async (pageSize, pageToken) => {
        const page = await usages.listUsage({
          parent,
          startTime: { seconds: start, nanos: 0 },
          ...(over ? { endTime: { seconds: end, nanos: 0 } } : {}),
          pageSize,
          pageToken,
        });
        return { rows: page.usage, next: page.nextPageToken };
      });
      if (current()) {
        this.usage = found;
        this.trouble = undefined;
      }
    } catch (error) {
      if (current()) {
        this.trouble = this.office.troubleOf(error);
      }
    }
  }
}
