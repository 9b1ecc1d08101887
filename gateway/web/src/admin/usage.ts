// Hours used: sums, and the same as a file for a spreadsheet.

import type { Usage } from "../gen/vidi/v1/usage_pb.js";

export interface Sum {
  readonly runningSecs: number;
  readonly connectedSecs: number;
}

/** What was used: a desktop, or a physical machine. */
export function placeOf(usage: Usage): string {
  return usage.desktop || usage.machine;
}

/** All lines together. */
export function sum(usage: readonly Usage[]): Sum {
  return usage.reduce<Sum>(
    (sum, one) => ({
      runningSecs: sum.runningSecs + Number(one.runningSecs),
      connectedSecs: sum.connectedSecs + Number(one.connectedSecs),
    }),
    { runningSecs: 0, connectedSecs: 0 },
  );
}

/** The lines as CSV (RFC 4180) with a byte order mark, which spreadsheets need for letters beyond ASCII. */
export function csv(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  return `\uFEFF${[head, ...rows].map((row) => row.map(field).join(",")).join("\r\n")}\r\n`;
}

/** Hours with two digits behind the point, as a spreadsheet adds them up. */
export function decimalHours(secs: number): string {
  return (secs / 3600).toFixed(2);
}

function field(value: string | number): string {
  let text = String(value);
  // A spreadsheet would run what begins like a formula.
  if (/^[=+\-@\t\r]/.test(text) && !/^-?[\d.]+$/.test(text)) {
    text = `'${text}`;
  }
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
