// Times, sizes and names in the words of a language. `now` is handed in.

/** Seconds of each unit, the largest first. */
const UNITS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];
/** Shorter than this is "now": seconds that tick are no news. */
const NOW_SECS = 10;

/** A protobuf timestamp in milliseconds; undefined when it is not set. */
export function millis(time: { readonly seconds: bigint; readonly nanos: number } | undefined): number | undefined {
  if (time === undefined || (time.seconds === 0n && time.nanos === 0)) {
    return undefined;
  }
  return Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6);
}

/** "5 minutes ago", "yesterday", "now". A clock that is behind the service's makes no future. */
export function relative(at: number, now: number, language: string): string {
  const format = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const secs = Math.max(0, Math.floor((now - at) / 1000));
  if (secs < NOW_SECS) {
    return format.format(0, "second");
  }
  const [unit, size] = UNITS.find(([, size]) => size <= secs) ?? (["second", 1] as const);
  return format.format(-Math.floor(secs / size), unit);
}

/** Date and time to the second. */
export function exact(at: number, language: string): string {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }).format(at);
}

/** "143 h 05 min"; what is used for less than a minute is "1 min", nothing is "0 min". */
export function hours(secs: number, language: string): string {
  const minutes = secs > 0 ? Math.max(1, Math.floor(secs / 60)) : 0;
  const unit = (value: number, unit: string) =>
    new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(value);
  const rest = unit(minutes % 60, "minute");
  return minutes < 60 ? rest : `${unit(Math.floor(minutes / 60), "hour")} ${rest}`;
}

/** "7.8 GiB" of MiB. */
export function memory(mib: number, language: string): string {
  const number = (value: number, digits: number) =>
    new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
  return mib < 1024 ? `${number(mib, 0)} MiB` : `${number(mib / 1024, 1)} GiB`;
}

/** The months up to now, the newest first, as "2026-11". */
export function months(now: number, count: number): string[] {
  const date = new Date(now);
  return Array.from({ length: count }, (_, back) => {
    const month = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - back, 1));
    return month.toISOString().slice(0, 7);
  });
}

/** "November 2026" of "2026-11". */
export function monthName(month: string, language: string): string {
  const [year = 0, number = 1] = month.split("-").map(Number);
  const format = new Intl.DateTimeFormat(language, { month: "long", year: "numeric", timeZone: "UTC" });
  return format.format(Date.UTC(year, number - 1, 1));
}

/** First moment of a month and of the one after it, in seconds since the epoch (UTC). */
export function monthSpan(month: string): { start: bigint; end: bigint } {
  const [year = 0, number = 1] = month.split("-").map(Number);
  const secs = (months: number) => BigInt(Date.UTC(year, number - 1 + months, 1) / 1000);
  return { start: secs(0), end: secs(1) };
}
