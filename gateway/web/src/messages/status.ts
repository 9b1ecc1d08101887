// What the gateway says of a desktop, in the language in use where its code is known.

import { isMessageKey } from "./catalogue.js";
import { statusCode, withoutCode } from "./code.js";
import { t } from "./messages.svelte.js";

/** The sentence of a status text. */
export function statusWords(text: string): string {
  const code = statusCode(text);
  const key = `why.${code}`;
  return isMessageKey(key) ? t(key) : withoutCode(text);
}
