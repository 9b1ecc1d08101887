// When a guest whose screens follow the windows hears of their sizes.

import { FIRST_MONITOR, type MonitorWindowSize } from "./monitors.js";
import type { WindowSize } from "./protocol.js";

/** While somebody drags the window's edge its size changes all the time: what counts is where it stays. */
const SETTLE_MS = 200;

/** The windows that are open, the page's first. */
export type Windows = readonly [MonitorWindowSize, ...MonitorWindowSize[]];

/** The windows' sizes, and what the guest was told of them. */
export class WindowFollower {
  private size: WindowSize = { width: 0, height: 0 };
  private beside: readonly MonitorWindowSize[] = [];
  /** What the guest of this connection was told last. */
  private told = "";
  private follows = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly tell: (windows: Windows) => void) {}

  /** The size that a hello tells: none where it would take monitors from the guest that come back at once. */
  get ofHello(): WindowSize {
    return this.beside.length === 0 ? this.size : { width: 0, height: 0 };
  }

  /** The page's window has this size. */
  resize(size: WindowSize): void {
    this.size = size;
    this.settleSoon();
  }

  /** These windows are open beside the page's. */
  others(windows: readonly MonitorWindowSize[]): void {
    this.beside = windows;
    this.settleSoon();
  }

  /** Whether the guest's screen follows; false also says that it forgot what it was told. */
  setFollows(follows: boolean): void {
    this.follows = follows;
    if (follows) {
      this.settle();
    } else {
      this.told = "";
    }
  }

  private settleSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.settle(), SETTLE_MS);
  }

  private settle(): void {
    const windows: Windows = [{ monitor: FIRST_MONITOR, ...this.size }, ...this.beside];
    const wanted = JSON.stringify(windows);
    // A page that nobody sees may have no size.
    if (this.follows && wanted !== this.told && windows.every(({ width, height }) => width > 0 && height > 0)) {
      this.told = wanted;
      this.tell(windows);
    }
  }
}
