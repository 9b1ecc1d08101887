// What the gateway says of a desktop, in the language in use where its code is known.

import { isMessageKey } from "./catalogue.js";
import { t } from "./messages.svelte.js";

/** The sentence of a status text (docs/display-protocol.md): `CODE: sentence`, or a sentence alone. */
export function statusWords(text: string): string {
  const [, code = "", sentence = text] = /^([A-Z_]{2,40}): (.*)$/s.exec(text) ?? [];
  const key = `why.${code}`;
  return isMessageKey(key) ? t(key) : sentence;
}
