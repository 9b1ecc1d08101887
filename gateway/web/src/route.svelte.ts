// Which view the address names: `/` the menu, `/desktop/{session uuid}` a desktop, `/admin` and what
// lies below it the admin page, `/#/recordings` and what lies below that what was recorded.

/** Kept beside the history entry, so that a reload still knows the app. */
export interface DesktopEntry {
  /** tenants/{t}/apps/{id} */
  readonly app: string;
  readonly title: string;
}

/** The parts of the admin page; the first is at `/admin` itself. */
const adminParts = ["desktops", "pools", "machines", "hosts", "hours", "people"] as const;
export type AdminPart = (typeof adminParts)[number];

export type Route =
  | { readonly view: "menu" }
  | { readonly view: "admin"; readonly part: AdminPart }
  /** `name` is {session}-{start}; undefined for the list. */
  | { readonly view: "recording"; readonly name: string | undefined }
  | { readonly view: "desktop"; readonly session: string; readonly entry: DesktopEntry | undefined };

let route = $state.raw<Route>(read());

/** The session whose address the page was loaded with, as after a reload. */
export const loadedSession: string | undefined = loadedWith();

export function currentRoute(): Route {
  return route;
}

/** Shows a desktop; going back shows the menu again, or what the replaced entry was opened from. */
export function goToDesktop(session: string, entry: DesktopEntry, how: "push" | "replace" = "push"): void {
  const address = `/desktop/${encodeURIComponent(session)}`;
  if (how === "push") {
    history.pushState(entry, "", address);
  } else {
    history.replaceState(entry, "", address);
  }
  route = read();
}

/** Shows the menu in place of what is shown now. */
export function goToMenu(): void {
  history.replaceState(null, "", "/");
  route = read();
}

/** Address of a part of the admin page. */
export function adminAddress(part: AdminPart): string {
  return part === "desktops" ? "/admin" : `/admin/${part}`;
}

/** Address of a recording, or of the list of them. */
export function recordingAddress(name = ""): string {
  return name === "" ? "/#/recordings" : `/#/recordings/${encodeURIComponent(name)}`;
}

/** Goes to an address of these pages, as a click on a link does. */
export function goTo(address: string): void {
  history.pushState(null, "", address);
  route = read();
  window.scrollTo(0, 0);
}

/** A plain click on a link stays in the page; with a modifier the browser opens it elsewhere. */
export function follow(event: MouseEvent & { currentTarget: HTMLAnchorElement }): void {
  if (event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    const { pathname, hash } = new URL(event.currentTarget.href);
    goTo(pathname + hash);
  }
}

window.addEventListener("popstate", () => {
  route = read();
});

function read(): Route {
  // The files themselves are at /recordings.
  const recording = /^#\/recordings(?:\/([0-9A-Za-z_.:-]{1,128}))?\/?$/.exec(location.hash);
  if (recording !== null && location.pathname === "/") {
    return { view: "recording", name: recording[1] };
  }
  const admin = /^\/admin(?:\/([a-z]{1,20}))?\/?$/.exec(location.pathname);
  if (admin !== null) {
    return { view: "admin", part: adminParts.find((part) => part === admin[1]) ?? "desktops" };
  }
  const match = /^\/desktop\/([0-9a-fA-F-]{1,64})\/?$/.exec(location.pathname);
  if (match?.[1] === undefined) {
    return { view: "menu" };
  }
  return { view: "desktop", session: match[1], entry: entryOf(history.state) };
}

function loadedWith(): string | undefined {
  const loaded = read();
  return loaded.view === "desktop" ? loaded.session : undefined;
}

function entryOf(state: unknown): DesktopEntry | undefined {
  if (typeof state === "object" && state !== null && "app" in state && "title" in state) {
    const { app, title } = state;
    if (typeof app === "string" && typeof title === "string") {
      return { app, title };
    }
  }
  return undefined;
}
