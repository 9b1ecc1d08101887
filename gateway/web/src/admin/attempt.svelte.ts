// Something that a person asks for and may be refused: one at a time, with the reason in words.

import { troubleText } from "../messages/admin/troubles.js";
import type { Office } from "./office.svelte.js";

/** What a form or a question shows of what it asked for. */
export class Attempt {
  busy = $state(false);
  /** Why the last one failed; empty where none did. */
  error = $state("");

  constructor(private readonly office: Pick<Office, "troubleOf">) {}

  /** Does it, unless one is under way. */
  async run(act: () => Promise<void>): Promise<void> {
    if (this.busy) {
      return;
    }
    this.busy = true;
    this.error = "";
    try {
      await act();
    } catch (thrown) {
      this.error = troubleText(this.office.troubleOf(thrown));
    } finally {
      this.busy = false;
    }
  }
}
