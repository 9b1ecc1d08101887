// What a person chose about typing and about the size of the picture; kept in the browser.

import type { Size } from "./fit.js";
import { layouts } from "./layouts.js";
import { defaultText, deliveries, type TextSettings } from "./typist.js";

/** Everything that is kept. */
export interface InputSettings extends TextSettings {
  /** On a Mac: Command is the guest's Control. */
  readonly commandIsControl: boolean;
  readonly size: Size;
}

export const defaultSettings: InputSettings = {
  ...defaultText,
  commandIsControl: false,
  size: "fit",
};

const STORAGE_KEY = "vidi.input";
const SIZES: readonly Size[] = ["fit", "large", "actual"];

/** What is kept, as far as it is there and makes sense. */
export function readSettings(text: string | null): InputSettings {
  let kept: Partial<Record<string, unknown>> = {};
  try {
    kept = (JSON.parse(text ?? "{}") ?? {}) as typeof kept;
  } catch {
    // Somebody else wrote it: as if nothing was there.
  }
  const one = <Value>(values: readonly Value[], value: unknown, otherwise: Value): Value =>
    values.find((known) => known === value) ?? otherwise;
  return {
    delivery: one(deliveries, kept["delivery"], defaultSettings.delivery),
    layout: one(layouts, kept["layout"], defaultSettings.layout),
    commandIsControl: kept["commandIsControl"] === true,
    size: one(SIZES, kept["size"], defaultSettings.size),
  };
}

export function loadSettings(): InputSettings {
  try {
    return readSettings(localStorage.getItem(STORAGE_KEY));
  } catch {
    return defaultSettings;
  }
}

export function saveSettings(settings: InputSettings): void {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(settings));
  } catch {
    // Without storage the choice lasts until the page is left.
  }
}
