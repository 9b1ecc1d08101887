// The admin page's message files, typed by the English one.

import type { Language } from "../catalogue.js";
import en from "./en.json";
import es from "./es.json";
import it from "./it.json";

export type AdminMessageKey = keyof typeof en;

export const adminCatalogues: Readonly<Record<Language, Readonly<Record<AdminMessageKey, string>>>> = { en, es, it };

/** Whether a message of this name exists. */
export function isAdminMessageKey(key: string): key is AdminMessageKey {
  return Object.hasOwn(en, key);
}
