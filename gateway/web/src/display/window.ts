// When a guest whose screen follows the window hears of its size.

import type { WindowSize } from "./protocol.js";

/** While somebody drags the window's edge its size changes all the time: what counts is where it stays. */
const SETTLE_MS = 200;

/** The window's size, and what the guest was told of it. */
export class WindowFollower {
  private size: WindowSize = { width: 0, height: 0 };
  /** What the guest of this connection was told last. */
  private told: WindowSize | undefined;
  private follows = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly tell: (size: WindowSize) => void) {}

  /** The size by now. */
  get now(): WindowSize {
    return this.size;
  }

  /** The window has this size. */
  resize(size: WindowSize): void {
    this.size = size;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.settle(), SETTLE_MS);
  }

  /** Whether the guest's screen follows; false also says that it forgot what it was told. */
  setFollows(follows: boolean): void {
    this.follows = follows;
    if (follows) {
      this.settle();
    } else {
      this.told = undefined;
    }
  }

  private settle(): void {
    const { size, told } = this;
    const isNew = size.width !== told?.width || size.height !== told.height;
    // A page that nobody sees may have no size.
    if (this.follows && isNew && size.width > 0 && size.height > 0) {
      this.told = size;
      this.tell(size);
    }
  }
}
