// Which keys type a character on a guest's keyboard layout, for text that comes without keys: from input
// methods and on-screen keyboards. Only what the layout has on every system counts.

/** One key with what is held for it. */
export interface Stroke {
  /** `KeyboardEvent.code` */
  readonly code: string;
  readonly shift: boolean;
  readonly altGr: boolean;
}

/** Layouts in the order in which they are offered. */
export const layouts = ["en-US", "es", "it"] as const;
export type Layout = (typeof layouts)[number];

const ROWS = [
  "Backquote Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal",
  "KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight",
  "KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backslash",
  "IntlBackslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash",
].map((row) => row.split(" "));

/** What each row types: plain, with Shift, with AltGr. A blank is a key that types nothing of its own there. */
type Levels = readonly [plain: string, shift: string, altGr: string];

const LEVELS: Readonly<Record<Layout, readonly Levels[]>> = {
  "en-US": [
    ["`1234567890-=", "~!@#$%^&*()_+", ""],
    ["qwertyuiop[]", "QWERTYUIOP{}", ""],
    ["asdfghjkl;'\\", 'ASDFGHJKL:"|', ""],
    [" zxcvbnm,./", " ZXCVBNM<>?", ""],
  ],
  es: [
    ["º1234567890'¡", 'ª!"·$%&/()=?¿', "\\|@# €¬"],
    ["qwertyuiop +", "QWERTYUIOP *", "  €       []"],
    ["asdfghjklñ ç", "ASDFGHJKLÑ Ç", "          {}"],
    ["<zxcvbnm,.-", ">ZXCVBNM;:_", ""],
  ],
  it: [
    ["\\1234567890'ì", '|!"£$%&/()=?^', ""],
    ["qwertyuiopè+", "QWERTYUIOPé*", "  €       []"],
    ["asdfghjklòàù", "ASDFGHJKLç°§", "         @#"],
    ["<zxcvbnm,.-", ">ZXCVBNM;:_", ""],
  ],
};

/** Accents that are typed before the letter that bears them, and before a space for themselves. */
const DEAD: Readonly<Record<Layout, readonly (readonly [string, Stroke, string, string])[]>> = {
  "en-US": [],
  es: [
    ["`", stroke("BracketLeft"), "aeiouAEIOU", "àèìòùÀÈÌÒÙ"],
    ["^", stroke("BracketLeft", "shift"), "aeiouAEIOU", "âêîôûÂÊÎÔÛ"],
    ["´", stroke("Quote"), "aeiouAEIOU", "áéíóúÁÉÍÓÚ"],
    ["¨", stroke("Quote", "shift"), "aeiouAEIOU", "äëïöüÄËÏÖÜ"],
  ],
  it: [],
};

/** The same on every layout. */
const EVERYWHERE: readonly (readonly [string, Stroke])[] = [
  [" ", stroke("Space")],
  ["\n", stroke("Enter")],
  ["\t", stroke("Tab")],
];

const tables = new Map<Layout, ReadonlyMap<string, readonly Stroke[]>>();

/** The strokes that type this character, in order; undefined where the layout may not have it. */
export function strokesOf(character: string, layout: Layout): readonly Stroke[] | undefined {
  let table = tables.get(layout);
  if (table === undefined) {
    table = tableOf(layout);
    tables.set(layout, table);
  }
  return table.get(character);
}

function tableOf(layout: Layout): ReadonlyMap<string, readonly Stroke[]> {
  const table = new Map<string, readonly Stroke[]>();
  LEVELS[layout].forEach((levels, row) => {
    levels.forEach((level, at) => {
      Array.from(level).forEach((character, column) => {
        const code = ROWS[row]?.[column];
        if (character !== " " && code !== undefined) {
          table.set(character, [{ code, shift: at === 1, altGr: at === 2 }]);
        }
      });
    });
  });
  for (const [character, key] of EVERYWHERE) {
    table.set(character, [key]);
  }
  for (const [accent, dead, letters, results] of DEAD[layout]) {
    table.set(accent, [dead, stroke("Space")]);
    const plain = Array.from(letters);
    Array.from(results).forEach((result, at) => {
      table.set(result, [dead, ...(table.get(plain[at] ?? "") ?? [])]);
    });
  }
  return table;
}

function stroke(code: string, held?: "shift"): Stroke {
  return { code, shift: held === "shift", altGr: false };
}
