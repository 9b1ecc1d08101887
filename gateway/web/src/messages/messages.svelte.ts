// The language in use, and messages in it.

import { catalogues, fill, type Language, languages, type MessageKey, pickLanguage } from "./catalogue.js";

/** Where the person's own choice is kept. */
const STORAGE_KEY = "vidi.language";

let language = $state<Language>(initial());

/** A message in the language in use. */
export function t(key: MessageKey, values: Readonly<Record<string, string>> = {}): string {
  return fill(catalogues[language][key], values);
}

export function currentLanguage(): Language {
  return language;
}

/** Switches the pages to this language and remembers it. */
export function chooseLanguage(chosen: Language): void {
  language = chosen;
  document.documentElement.lang = chosen;
  try {
    localStorage.setItem(STORAGE_KEY, chosen);
  } catch {
    // Without storage the choice lasts until the page is left.
  }
}

function initial(): Language {
  let chosen: string | null = null;
  try {
    chosen = localStorage.getItem(STORAGE_KEY);
  } catch {
    // No storage: the browser's languages decide.
  }
  const found = languages.find((known) => known === chosen) ?? pickLanguage(navigator.languages);
  document.documentElement.lang = found;
  return found;
}
