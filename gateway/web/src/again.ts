// Calls in their time: again and again, or one after the other.

/** Calls after `firstMs`, then `periodMs` after the end of each call, until the returned function is
 * called: a call that goes on then is the last. */
export function again(firstMs: number, periodMs: number, call: () => Promise<void>): () => void {
  let stopped = false;
  let timer = setTimeout(() => void go(), firstMs);
  async function go(): Promise<void> {
    try {
      await call();
    } finally {
      if (!stopped) {
        timer = setTimeout(() => void go(), periodMs);
      }
    }
  }
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** One call at a time. What is called with an argument meanwhile comes after it, the last of them only;
 * without one it is answered by the call that goes on. */
export function inTurn<Argument>(
  call: (argument: Argument | undefined) => Promise<void>,
): (argument?: Argument) => Promise<void> {
  let busy = false;
  let next: Argument | undefined;
  return async (argument) => {
    if (busy) {
      next = argument ?? next;
      return;
    }
    busy = true;
    try {
      await call(argument);
      while (next !== undefined) {
        const given = next;
        next = undefined;
        await call(given);
      }
    } finally {
      busy = false;
    }
  };
}
