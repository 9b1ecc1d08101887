// The message files, typed by the English one.

import en from "./en.json";
import es from "./es.json";
import it from "./it.json";

/** Every message has a name; all files have the same names (a test compares them). */
export type MessageKey = keyof typeof en;
/** Languages in the order in which they are offered. */
export const languages = ["en", "es", "it"] as const;
export type Language = (typeof languages)[number];

export const catalogues: Readonly<Record<Language, Readonly<Record<MessageKey, string>>>> = {
  en,
  es,
  it,
};

/** The first of a person's languages that there is; English otherwise. */
export function pickLanguage(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const base = tag.toLowerCase().split("-")[0];
    const found = languages.find((language) => language === base);
    if (found !== undefined) {
      return found;
    }
  }
  return "en";
}

/** Fills `{name}` places; unknown places stay as they are. */
export function fill(text: string, values: Readonly<Record<string, string>>): string {
  return text.replace(/\{(\w+)\}/g, (place, name: string) => values[name] ?? place);
}

/** Whether a message of this name exists. */
export function isMessageKey(key: string): key is MessageKey {
  return Object.hasOwn(en, key);
}
