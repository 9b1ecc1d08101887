// Passwords that are read out on the telephone: no letters or digits that look alike.

const LETTERS = "abcdefghijkmnpqrstuvwxyz23456789";
const GROUPS = 4;
const GROUP_LETTERS = 5;

/** Four groups of five letters: 100 random bits. */
export function generatePassword(random: (bytes: Uint8Array) => Uint8Array = (bytes) => crypto.getRandomValues(bytes)): string {
  const bytes = random(new Uint8Array(GROUPS * GROUP_LETTERS));
  // 32 letters: every byte maps evenly.
  const letters = Array.from(bytes, (byte) => LETTERS[byte % LETTERS.length]).join("");
  return (letters.match(/.{5}/g) ?? []).join("-");
}
