// What a customer's own look changes: name, colours and logo of the pages, chosen by the tenant's administrators.
// Which tenant that is says the address (`/?tenant=school`) until somebody has signed in.

/** Name, colours and logo of the pages. */
export interface Branding {
  readonly name: string;
  /** Accent on a light page; text on it is white. At least 4.5:1 against white. */
  readonly accent: string;
  /** Accent on a dark page; text on it is near black. */
  readonly accentDark: string;
  /** Address of a picture; undefined: Vidi's mark. */
  readonly logo: string | undefined;
}

const VIDI: Branding = {
  name: "Vidi",
  accent: "#1f5fbf",
  accentDark: "#8ab6f9",
  logo: undefined,
};
/** As the contract has it. */
const NAME_LETTERS_MAX = 40;
const TENANT = /^[a-z0-9][a-z0-9-]{0,39}$/;
const COLOUR = /^#[0-9a-f]{6}$/;
/** A page waits for its look no longer than this before it is as it is. */
const TIMEOUT_MS = 10_000;
/** Where the tenant of the last address is kept, for who comes back without it. */
const KEPT = "vidi.tenant";

let chosen = $state.raw<Branding>(VIDI);

/** How the pages look now. */
export function branding(): Branding {
  return chosen;
}

/** The tenant that an address's query names, or else that was kept; empty: none. */
export function tenantOf(search: string, kept: string | null): string {
  const named = new URLSearchParams(search).get("tenant") ?? kept ?? "";
  return TENANT.test(named) ? named : "";
}

/** The tenant whose people come to this address; empty: the installation's first. */
export function tenantHere(): string {
  const tenant = tenantOf(location.search, stored());
  try {
    localStorage.setItem(KEPT, tenant);
  } catch {
    // Without storage the address has to say it each time.
  }
  return tenant;
}

/** The tenant of `tenants/{t}/users/{u}`; empty: it is none's. */
export function tenantOfUser(user: string): string {
  const [kind, tenant] = user.split("/");
  return kind === "tenants" && tenant !== undefined && TENANT.test(tenant) ? tenant : "";
}

/** What a gateway's answer makes of Vidi's own look; what is not as it should be changes nothing. */
export function brandingFrom(answer: unknown, tenant: string): Branding {
  if (typeof answer !== "object" || answer === null) {
    return VIDI;
  }
  const text = (key: string, good: (value: string) => boolean, otherwise: string): string => {
    const value: unknown = Reflect.get(answer, key);
    return typeof value === "string" && good(value) ? value : otherwise;
  };
  const short = (value: string): boolean => value !== "" && [...value].length <= NAME_LETTERS_MAX;
  const colour = (value: string): boolean => COLOUR.test(value);
  const logo: unknown = Reflect.get(answer, "logo");
  return {
    name: text("name", short, VIDI.name),
    accent: text("accent", colour, VIDI.accent),
    accentDark: text("accent_dark", colour, VIDI.accentDark),
    logo: logo === true ? `${addressOf(tenant)}/logo` : undefined,
  };
}

/** Shows the look that this tenant has chosen, as soon as it is known. */
export async function loadBranding(tenant: string): Promise<void> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), TIMEOUT_MS);
  try {
    const response = await fetch(addressOf(tenant), { signal: controller.signal });
    if (response.ok) {
      chosen = brandingFrom(await response.json(), tenant);
      applyBranding(document.documentElement);
    }
  } catch {
    // The look is no reason to show nothing.
  } finally {
    clearTimeout(timer);
  }
}

/** Makes the branding visible to the style sheets. */
export function applyBranding(root: HTMLElement): void {
  root.style.setProperty("--brand-accent", chosen.accent);
  root.style.setProperty("--brand-accent-dark", chosen.accentDark);
}

function addressOf(tenant: string): string {
  return `/branding/${tenant === "" ? "default" : encodeURIComponent(tenant)}`;
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}
