// Why something was refused or failed, in the language in use where the reason is known.

import type { Trouble } from "../../admin/work.js";
import { isAdminMessageKey } from "./catalogue.js";
import { ta } from "./messages.svelte.js";

/** One sentence for people; the service's own words where they say more. */
export function troubleText({ reason, message }: Trouble): string {
  const key = `trouble.${reason}`;
  if (isAdminMessageKey(key)) {
    return ta(key, { message });
  }
  return message === "" ? ta("trouble.other") : ta("trouble.words", { message });
}
