// Turns pointer and wheel events into pointer records: one per animation frame,
// except that a change of buttons goes out at once.

import { Button } from "./protocol.js";

/** Pixels of scrolling that make one click of a wheel. */
const PIXELS_PER_CLICK = 100;
/** Lines of scrolling that make one click of a wheel. */
const LINES_PER_CLICK = 3;

/** Where the picture lies on the page, in CSS pixels, and how large it is in guest pixels. */
export interface Placement {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly guestWidth: number;
  readonly guestHeight: number;
}

/** Where the pointer's decisions go. */
export interface PointerOutlets {
  position(x: number, y: number, buttons: number): void;
  delta(dx: number, dy: number, buttons: number): void;
  wheel(clicks: number, buttons: number): void;
  /** Calls back before the next picture is shown. */
  nextFrame(callback: () => void): void;
}

/** The bits of `MouseEvent.buttons` in the order of the protocol. */
export function buttonsOf(buttons: number): number {
  return (
    (buttons & 1 ? Button.left : 0) |
    (buttons & 4 ? Button.middle : 0) |
    (buttons & 2 ? Button.right : 0) |
    (buttons & 8 ? Button.back : 0) |
    (buttons & 16 ? Button.forward : 0)
  );
}

/** The guest pixel under a point of the page; points outside the picture give its nearest pixel. */
export function guestPoint(at: Placement, clientX: number, clientY: number): [number, number] {
  const part = (value: number, length: number, guest: number) =>
    length <= 0 || guest <= 0
      ? 0
      : Math.min(guest - 1, Math.max(0, Math.floor((value * guest) / length)));
  return [
    part(clientX - at.left, at.width, at.guestWidth),
    part(clientY - at.top, at.height, at.guestHeight),
  ];
}

/** Counts fractions of wheel clicks until they are whole ones; a change of direction starts over. */
export class WheelAccumulator {
  private rest = 0;

  /** Whole clicks, positive away from the user. `mode` is WheelEvent.deltaMode. */
  add(deltaY: number, mode: number): number {
    const amount = -deltaY / (mode === 0 ? PIXELS_PER_CLICK : mode === 1 ? LINES_PER_CLICK : 1);
    if (amount * this.rest < 0) {
      this.rest = 0;
    }
    this.rest += amount;
    const clicks = Math.trunc(this.rest);
    this.rest -= clicks;
    // 0, never -0.
    return clicks === 0 ? 0 : clicks;
  }
}

/** The pointer's state between two events. */
export class Pointer {
  private readonly accumulator = new WheelAccumulator();
  private buttons = 0;
  private waiting: { x: number; y: number } | undefined;
  private moved = { dx: 0, dy: 0 };
  private frameAsked = false;

  constructor(private readonly outlets: PointerOutlets) {}

  /** The pointer is at this guest pixel with these buttons (protocol's mask). */
  at(x: number, y: number, buttons: number): void {
    if (buttons !== this.buttons || !this.frameAsked) {
      this.buttons = buttons;
      this.waiting = undefined;
      this.outlets.position(x, y, buttons);
      this.askFrame();
    } else {
      this.waiting = { x, y };
    }
  }

  /** The pointer moved by this much while it is locked to the picture. */
  by(dx: number, dy: number, buttons: number): void {
    this.moved.dx += dx;
    this.moved.dy += dy;
    if (buttons !== this.buttons || !this.frameAsked) {
      this.buttons = buttons;
      this.sendDelta();
      this.askFrame();
    }
  }

  /** The wheel turned. */
  wheel(deltaY: number, mode: number): void {
    const clicks = this.accumulator.add(deltaY, mode);
    if (clicks !== 0) {
      this.sendWaiting();
      this.outlets.wheel(clicks, this.buttons);
    }
  }

  /** Nothing is held any longer, and nothing waits. */
  forget(): void {
    this.buttons = 0;
    this.waiting = undefined;
    this.moved = { dx: 0, dy: 0 };
  }

  private askFrame(): void {
    if (this.frameAsked) {
      return;
    }
    this.frameAsked = true;
    this.outlets.nextFrame(() => {
      this.frameAsked = false;
      if (this.waiting !== undefined || this.moved.dx !== 0 || this.moved.dy !== 0) {
        this.sendWaiting();
        this.askFrame();
      }
    });
  }

  private sendWaiting(): void {
    if (this.waiting !== undefined) {
      const { x, y } = this.waiting;
      this.waiting = undefined;
      this.outlets.position(x, y, this.buttons);
    }
    if (this.moved.dx !== 0 || this.moved.dy !== 0) {
      this.sendDelta();
    }
  }

  private sendDelta(): void {
    const [dx, dy] = [Math.trunc(this.moved.dx), Math.trunc(this.moved.dy)];
    this.moved = { dx: this.moved.dx - dx, dy: this.moved.dy - dy };
    this.outlets.delta(dx, dy, this.buttons);
  }
}
