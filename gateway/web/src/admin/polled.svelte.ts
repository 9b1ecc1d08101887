// A list that nothing tells of changes: it is read anew now and again while it is looked at.

import { untrack } from "svelte";
import { repeat } from "../repeat.js";
import type { Office } from "./office.svelte.js";
import type { Trouble } from "./work.js";

/** The list of one tenant. Another tenant's is another object, so that nobody sees rows of both. */
export class Polled<Row> {
  /** undefined: not read yet. */
  rows = $state.raw<readonly Row[] | undefined>();
  /** Why the last reading failed. */
  trouble = $state.raw<Trouble | undefined>();
  private begun = 0;

  constructor(
    private readonly office: Pick<Office, "parent" | "troubleOf">,
    private readonly periodMs: number,
    private readonly read: (parent: string) => Promise<readonly Row[]>,
  ) {}

  /** Reads again and again until the returned function is called. */
  follow(): () => void {
    return untrack(() => {
      const end = repeat(this.periodMs, () => this.look());
      return () => {
        end();
        this.begun += 1;
      };
    });
  }

  /** Reads now; what was asked for before and is answered later is not kept. */
  async look(): Promise<void> {
    this.begun += 1;
    const own = this.begun;
    try {
      const rows = await this.read(this.office.parent);
      if (own === this.begun) {
        this.rows = rows;
        this.trouble = undefined;
      }
    } catch (thrown) {
      if (own === this.begun) {
        this.trouble = this.office.troubleOf(thrown);
      }
    }
  }
}
