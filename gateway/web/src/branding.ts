// What a customer's own look changes, in one place; later it comes from the tenant as data.

/** Name and colours of the pages. */
export interface Branding {
  readonly name: string;
  /** Accent on a light page; text on it is white. At least 4.5:1 against white. */
  readonly accent: string;
  /** Accent on a dark page; text on it is near black. */
  readonly accentDark: string;
}

export const branding: Branding = {
  name: "Vidi",
  accent: "#1f5fbf",
  accentDark: "#8ab6f9",
};

/** Makes the branding visible to the style sheets and the window's title. */
export function applyBranding(root: HTMLElement): void {
  root.style.setProperty("--brand-accent", branding.accent);
  root.style.setProperty("--brand-accent-dark", branding.accentDark);
  document.title = branding.name;
}
