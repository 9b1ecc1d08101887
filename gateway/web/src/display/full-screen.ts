// Full screen, with the keys that a browser hands over only there.

interface KeyboardLock {
  lock?(): Promise<void>;
  unlock?(): void;
}

const keyboardLock = (): KeyboardLock | undefined =>
  (navigator as { keyboard?: KeyboardLock }).keyboard;

/** Whether the browser has full screen for pages at all: the one of a small phone may not. */
export const canFullScreen = (): boolean => document.fullscreenEnabled === true;

/** Whether a page fills the screen now. */
export const isFullScreen = (): boolean => document.fullscreenElement !== null;

/** Whether Escape, Alt+Tab and the Windows key reach the guest in full screen. */
export const canLockKeys = (): boolean => typeof keyboardLock()?.lock === "function";

/** Goes to full screen or leaves it; false where the browser refused. Call it from a gesture. */
export async function toggleFullScreen(element: HTMLElement): Promise<boolean> {
  try {
    if (isFullScreen()) {
      await document.exitFullscreen();
      return true;
    }
    await element.requestFullscreen({ navigationUI: "hide" });
  } catch {
    return false;
  }
  try {
    await keyboardLock()?.lock?.();
  } catch {
    // Without those keys everything else still works.
  }
  return true;
}

/** Tells whenever full screen begins or ends; gives what ends that. */
export function watchFullScreen(tell: (full: boolean) => void): () => void {
  const changed = () => {
    const full = isFullScreen();
    if (!full) {
      keyboardLock()?.unlock?.();
    }
    tell(full);
  };
  document.addEventListener("fullscreenchange", changed);
  return () => document.removeEventListener("fullscreenchange", changed);
}
