// What lists are found and turned over by.

/** Rows on one page of a list: what a person scrolls through, and a browser draws at once. */
export const PAGE_ROWS = 50;

/** Whether a text has every word that was typed, wherever it is. */
export function finder(typed: string, language: string): (text: string) => boolean {
  const words = typed.toLocaleLowerCase(language).split(/\s+/).filter(Boolean);
  return (text) => {
    const lower = text.toLocaleLowerCase(language);
    return words.every((word) => lower.includes(word));
  };
}

/** One page of a list. */
export interface Page<Row> {
  readonly rows: readonly Row[];
  /** Counted from 0, as is `last`. */
  readonly at: number;
  readonly last: number;
  /** Rows of the whole list. */
  readonly all: number;
}

/** The page that is wanted, or the last one where the list has become shorter. */
export function pageOf<Row>(list: readonly Row[], wanted: number): Page<Row> {
  const last = Math.max(0, Math.ceil(list.length / PAGE_ROWS) - 1);
  const at = Math.min(wanted, last);
  return { rows: list.slice(at * PAGE_ROWS, (at + 1) * PAGE_ROWS), at, last, all: list.length };
}
