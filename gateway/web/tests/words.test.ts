import { expect, it } from "vitest";
import { exact, hours, memory, millis, monthName, months, monthSpan, relative } from "../src/admin/words.js";

const at = Date.UTC(2026, 10, 22, 9, 0, 0);
const ago = (secs: number, language = "en") => relative(at, at + secs * 1000, language);

it("the past is told in its largest unit", () => {
  expect([0, 9, 10, 59, 60, 119, 3600, 86_399, 86_400, 2_592_000, 40_000_000].map((secs) => ago(secs))).toEqual([
    "now", "now", "10 seconds ago", "59 seconds ago", "1 minute ago", "1 minute ago", "1 hour ago", "23 hours ago",
    "yesterday", "last month", "last year",
  ]);
});

it("a clock that is behind makes no future", () => {
  expect(ago(-300)).toBe("now");
});

it("the words are those of the language", () => {
  expect(ago(300, "es")).toBe("hace 5 minutos");
  expect(ago(300, "it")).toBe("5 minuti fa");
});

it("a time that is not set is none", () => {
  expect(millis(undefined)).toBeUndefined();
  expect(millis({ seconds: 0n, nanos: 0 })).toBeUndefined();
  expect(millis({ seconds: 5n, nanos: 7_900_000 })).toBe(5007);
  expect(exact(0, "en")).toContain("1970");
});

it("what was used at all is at least a minute", () => {
  expect([0, 1, 59, 60, 3599, 3600, 515_100].map((secs) => hours(secs, "en"))).toEqual([
    "0 min", "1 min", "1 min", "1 min", "59 min", "1 hr 0 min", "143 hr 5 min",
  ]);
});

it("memory is told in what people compare", () => {
  expect([512, 1024, 7987].map((mib) => memory(mib, "en"))).toEqual(["512 MiB", "1 GiB", "7.8 GiB"]);
});

it("months go back over the turn of the year, and end where the next begins", () => {
  expect(months(Date.UTC(2027, 1, 28), 4)).toEqual(["2027-02", "2027-01", "2026-12", "2026-11"]);
  const { start, end } = monthSpan("2026-12");
  expect([Number(start), Number(end)]).toEqual([Date.UTC(2026, 11, 1) / 1000, Date.UTC(2027, 0, 1) / 1000]);
  expect(monthName("2026-12", "it")).toBe("dicembre 2026");
});
