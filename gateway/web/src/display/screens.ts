// On which of the person's screens a new window goes, where the browser tells of them (Window Management).

interface ScreenPlace {
  readonly availLeft: number;
  readonly availTop: number;
  readonly availWidth: number;
  readonly availHeight: number;
}

interface ManagedWindow {
  readonly screen: { readonly isExtended?: boolean };
  getScreenDetails?(): Promise<{ readonly screens: readonly ScreenPlace[] }>;
}

/** Where a window is. */
export interface WindowPlace {
  readonly screenX: number;
  readonly screenY: number;
  readonly outerWidth: number;
  readonly outerHeight: number;
}

/** The first screen without the middle of any window on it. */
export function freeScreen(
  screens: readonly ScreenPlace[],
  windows: readonly WindowPlace[],
): ScreenPlace | undefined {
  const holds = (screen: ScreenPlace, { screenX, screenY, outerWidth, outerHeight }: WindowPlace) => {
    const [x, y] = [screenX + outerWidth / 2 - screen.availLeft, screenY + outerHeight / 2 - screen.availTop];
    return x >= 0 && x < screen.availWidth && y >= 0 && y < screen.availHeight;
  };
  return screens.find((screen) => !windows.some((window) => holds(screen, window)));
}

/** Moves a window to a screen where none of the others is. The browser may ask the person for leave; refused, or
 * where there is one screen only, the window stays where it is. */
export async function placeOnScreen(view: Window, windows: readonly Window[]): Promise<void> {
  const managed = window as ManagedWindow;
  if (managed.getScreenDetails === undefined || managed.screen.isExtended !== true) {
    return;
  }
  try {
    const { screens } = await managed.getScreenDetails();
    const others = windows.filter((one) => one !== view);
    const free = freeScreen(screens, others);
    if (free !== undefined && !view.closed) {
      view.moveTo(free.availLeft, free.availTop);
      view.resizeTo(free.availWidth, free.availHeight);
    }
  } catch {
    // Not allowed.
  }
}
