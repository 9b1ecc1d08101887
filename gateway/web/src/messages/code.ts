// The code that a status text begins with (docs/display-protocol.md).

/** `CODE: sentence`, or `CODE 2 40: sentence`. */
const CODED = /^([A-Z_]{2,40})(?: \d{1,10}){0,2}: /;

/** The code of a status text; "" of a sentence alone. */
export function statusCode(text: string): string {
  return CODED.exec(text)?.[1] ?? "";
}

/** Its sentence. */
export function withoutCode(text: string): string {
  return text.replace(CODED, "");
}
