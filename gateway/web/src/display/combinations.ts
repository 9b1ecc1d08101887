// Keys together that a browser or the person's own system keeps for itself, or that a touch screen lacks.

/** A combination for the menu. */
export interface Combination {
  /** Also the end of its test id. */
  readonly id: string;
  /** What is printed on the keys, in no language. */
  readonly label: string;
  /** `KeyboardEvent.code` of each, in the order of pressing. */
  readonly codes: readonly string[];
}

const CONTROL_ALT = ["ControlLeft", "AltLeft"];

/** In the order of the menu. */
export const combinations: readonly Combination[] = [
  { id: "ctrl-alt-del", label: "Ctrl+Alt+Del", codes: [...CONTROL_ALT, "Delete"] },
  { id: "alt-tab", label: "Alt+Tab", codes: ["AltLeft", "Tab"] },
  { id: "alt-f4", label: "Alt+F4", codes: ["AltLeft", "F4"] },
  { id: "win", label: "Win", codes: ["MetaLeft"] },
  { id: "win-l", label: "Win+L", codes: ["MetaLeft", "KeyL"] },
  { id: "ctrl-esc", label: "Ctrl+Esc", codes: ["ControlLeft", "Escape"] },
  { id: "ctrl-w", label: "Ctrl+W", codes: ["ControlLeft", "KeyW"] },
  { id: "ctrl-t", label: "Ctrl+T", codes: ["ControlLeft", "KeyT"] },
  { id: "print", label: "Print", codes: ["PrintScreen"] },
  ...Array.from({ length: 7 }, (_, index) => ({
    id: `ctrl-alt-f${index + 1}`,
    label: `Ctrl+Alt+F${index + 1}`,
    codes: [...CONTROL_ALT, `F${index + 1}`],
  })),
];

/** A key of the row above an on-screen keyboard. */
export interface RowKey {
  readonly code: string;
  readonly label: string;
  /** It is held for the next key. */
  readonly sticky?: boolean;
}

/** What on-screen keyboards lack. */
export const rowKeys: readonly RowKey[] = [
  { code: "Escape", label: "Esc" },
  { code: "Tab", label: "Tab" },
  { code: "ControlLeft", label: "Ctrl", sticky: true },
  { code: "AltLeft", label: "Alt", sticky: true },
  { code: "ShiftLeft", label: "Shift", sticky: true },
  { code: "MetaLeft", label: "Win", sticky: true },
  { code: "AltRight", label: "AltGr", sticky: true },
  { code: "ArrowLeft", label: "←" },
  { code: "ArrowUp", label: "↑" },
  { code: "ArrowDown", label: "↓" },
  { code: "ArrowRight", label: "→" },
  { code: "Home", label: "Home" },
  { code: "End", label: "End" },
  { code: "PageUp", label: "PgUp" },
  { code: "PageDown", label: "PgDn" },
  { code: "Insert", label: "Ins" },
  { code: "Delete", label: "Del" },
  ...Array.from({ length: 12 }, (_, index) => ({ code: `F${index + 1}`, label: `F${index + 1}` })),
];
