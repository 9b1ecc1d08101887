// What the gateway says of a desktop, in the language in use where its code is known.

import { isMessageKey } from "./catalogue.js";
import { t } from "./messages.svelte.js";

/** The code of a status text (docs/display-protocol.md): `CODE: sentence`; "" of a sentence alone. */
export function statusCode(text: string): string {
  return /^([A-Z_]{2,40}): /.exec(text)?.[1] ?? "";
}

/** Its sentence. */
export function statusWords(text: string): string {
  const code = statusCode(text);
  const key = `why.${code}`;
  if (isMessageKey(key)) {
    return t(key);
  }
  return code === "" ? text : text.slice(`${code}: `.length);
}
