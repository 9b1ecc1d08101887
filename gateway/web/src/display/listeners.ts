// What is listened to as long as something lives, and what else ends with it.

/** Listeners, and what undoes other things. */
export class Listeners {
  private readonly cleanups: (() => void)[] = [];

  on<Target extends HTMLElement | Window | Document, Name extends keyof Events<Target>>(
    target: Target,
    name: Name & string,
    handler: (event: Events<Target>[Name]) => void,
    options?: AddEventListenerOptions,
  ): void {
    const listener = handler as unknown as EventListener;
    target.addEventListener(name, listener, options);
    this.cleanups.push(() => target.removeEventListener(name, listener, options));
  }

  /** Is done at the end. */
  atEnd(cleanup: () => void): void {
    this.cleanups.push(cleanup);
  }

  /** Nothing is listened to any longer. */
  end(): void {
    for (const cleanup of this.cleanups.splice(0)) {
      cleanup();
    }
  }
}

type Events<Target> = Target extends Window
  ? WindowEventMap
  : Target extends Document
    ? DocumentEventMap
    : HTMLElementEventMap;
