// Does something now and again while the page is visible.

/** Calls at once, after each period, and when the page is shown again, one at a time, until the
 * returned function is called. `current` tells a call whether its result is still wanted. */
export function repeat(periodMs: number, call: (current: () => boolean) => Promise<void>): () => void {
  let stopped = false;
  let busy = false;
  const go = async () => {
    if (busy || stopped || document.visibilityState !== "visible") {
      return;
    }
    busy = true;
    try {
      await call(() => !stopped);
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(() => void go(), periodMs);
  const shown = () => void go();
  document.addEventListener("visibilitychange", shown);
  void go();
  return () => {
    stopped = true;
    clearInterval(timer);
    document.removeEventListener("visibilitychange", shown);
  };
}
