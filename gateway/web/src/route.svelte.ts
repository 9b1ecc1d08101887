// Which view the address names: `/` the menu, `/desktop/{session uuid}` a desktop.

/** Kept beside the history entry, so that a reload still knows the app. */
export interface DesktopEntry {
  /** tenants/{t}/apps/{id} */
  readonly app: string;
  readonly title: string;
}

export type Route =
  | { readonly view: "menu" }
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

window.addEventListener("popstate", () => {
  route = read();
});

function read(): Route {
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
