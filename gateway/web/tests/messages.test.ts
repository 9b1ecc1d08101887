import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { catalogues, fill, languages, pickLanguage } from "../src/messages/catalogue.js";

const keys = (language: (typeof languages)[number]) => Object.keys(catalogues[language]).sort();
const places = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();

it("every language has the same messages, none of them empty, with the same places to fill", () => {
  for (const language of languages) {
    expect(keys(language)).toEqual(keys("en"));
    for (const key of keys("en") as (keyof typeof catalogues.en)[]) {
      expect(catalogues[language][key].trim()).not.toBe("");
      expect([key, places(catalogues[language][key])]).toEqual([key, places(catalogues.en[key])]);
    }
  }
});

it("every message is used", () => {
  const src = fileURLToPath(new URL("../src", import.meta.url));
  const source = readdirSync(src, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(ts|svelte)$/.test(name) && !name.startsWith("gen"))
    .map((name) => readFileSync(join(src, name), "utf8"))
    .join("\n");
  const byReason = /^(signIn|open)\.error\./;
  const unused = keys("en").filter((key) => !byReason.test(key) && !source.includes(`"${key}"`));
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
