// Figures with their units, in the person's language.

import { t } from "./messages/messages.svelte.js";

/** A time in milliseconds; a dash where it is not known. */
export function inMilliseconds(value: number | undefined): string {
  return value === undefined ? "–" : t("unit.ms", { value: value < 10 ? value.toFixed(1) : value.toFixed(0) });
}

/** A rate, from bytes in a second. */
export function perSecond(bytes: number): string {
  const bits = bytes * 8;
  return bits >= 1e6
    ? t("unit.mbit", { value: (bits / 1e6).toFixed(1) })
    : t("unit.kbit", { value: (bits / 1e3).toFixed(0) });
}
