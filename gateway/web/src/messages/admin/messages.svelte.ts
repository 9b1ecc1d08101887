// Messages of the admin page, apart so that nobody else has to load them.

import { fill } from "../catalogue.js";
import { currentLanguage } from "../messages.svelte.js";
import { adminCatalogues, type AdminMessageKey } from "./catalogue.js";

/** A message of the admin page in the language in use. */
export function ta(key: AdminMessageKey, values: Readonly<Record<string, string>> = {}): string {
  return fill(adminCatalogues[currentLanguage()][key], values);
}
