import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { adminCatalogues } from "../src/messages/admin/catalogue.js";
import { catalogues, fill, languages, pickLanguage } from "../src/messages/catalogue.js";

type Catalogue = Readonly<Record<string, string>>;
const all = languages.map((language): [string, Catalogue] => [
  language,
  { ...catalogues[language], ...Object.fromEntries(Object.entries(adminCatalogues[language]).map(([key, text]) => [`admin ${key}`, text])) },
]);
const english: Catalogue = all[0]![1];
const places = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();

it("every language has the same messages, none of them empty, with the same places to fill", () => {
  for (const [language, texts] of all) {
    expect(Object.keys(texts).sort()).toEqual(Object.keys(english).sort());
    for (const [key, text] of Object.entries(texts)) {
      expect([language, key, text.trim()]).not.toEqual([language, key, ""]);
      expect([language, key, [...new Set(places(text))]]).toEqual([language, key, [...new Set(places(english[key]!))]]);
    }
  }
});

it("every message is used", () => {
  const src = fileURLToPath(new URL("../src", import.meta.url));
  const source = readdirSync(src, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(ts|svelte)$/.test(name) && !name.startsWith("gen"))
    .map((name) => readFileSync(join(src, name), "utf8"))
    .join("\n");
  // Named by what they are of: `state.${state}`.
  const families = [...source.matchAll(/`([a-zA-Z.]+\.)\$\{[a-z.]+\}(\.[a-zA-Z]+)?`/g)].map(
    ([, before = "", after = ""]) => new RegExp(`^${before.replaceAll(".", "\\.")}[^.]+${after.replaceAll(".", "\\.")}$`),
  );
  const unused = Object.keys(english)
    .map((key) => key.replace(/^admin /, ""))
    .filter((key) => !source.includes(`"${key}"`) && !families.some((family) => family.test(key)));
  expect(unused).toEqual([]);
});

it("the first language that there is gets picked, English otherwise", () => {
  expect(pickLanguage(["de-AT", "es-MX", "it"])).toBe("es");
  expect(pickLanguage(["IT"])).toBe("it");
  expect(pickLanguage(["ca", "fr"])).toBe("en");
  expect(pickLanguage([])).toBe("en");
});

it("places are filled, unknown ones stay", () => {
  expect(fill("{a} and {b}", { a: "1" })).toBe("1 and {b}");
});
