// Turns fingers into what a mouse does.
//
//   where the guest has an absolute pointer       where it has not: the picture is a touch pad
//   tap                  click there              click where the pointer is
//   tap twice            double click             double click
//   hold still           right click              right click
//   move                 drag with the left       move the pointer
//                        button, from where the
//                        finger came down
//   tap, then move at once  (the same)            drag with the left button
//   two fingers move     turn the wheel; while the picture is larger than its place, move the picture
//   two fingers part     show the picture larger, or smaller
//   two fingers tap      right click

/** A finger that moved less than this has not moved, in CSS pixels. */
const STILL_PX = 10;
/** A finger that stays this long means the right button. */
const HOLD_MS = 500;
/** Of two taps that belong together the second comes down within this time and distance of the first. */
const DOUBLE_MS = 350;
const DOUBLE_PX = 30;
/** Two fingers that were both up within this time have tapped. */
const TAP_MS = 300;
/** Two fingers whose distance changed by this much change the size of the picture. */
const PINCH_PX = 24;

/** A place on the page, in CSS pixels. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/** One finger's event. */
export interface Finger extends Point {
  readonly id: number;
  /** Milliseconds of a monotonic clock. */
  readonly time: number;
}

/** What fingers mean. */
export interface TouchOutlets {
  /** The guest has no absolute pointer. */
  isPad(): boolean;
  /** The picture is larger than its place: two fingers move it. */
  isLarger(): boolean;
  click(at: Point, button: "left" | "right"): void;
  /** The left button goes down, moves while it is held, and goes up. */
  press(at: Point): void;
  drag(at: Point): void;
  release(at: Point): void;
  /** The pointer of a touch pad moves, or is dragged. */
  move(dx: number, dy: number): void;
  /** Two fingers moved together up or down by this much. */
  scroll(dy: number): void;
  /** The picture is shown larger by this factor around a place, and moved. */
  view(factor: number, around: Point, dx: number, dy: number): void;
}

type Single = {
  readonly kind: "one";
  readonly finger: Finger;
  last: Point;
  doing: "nothing" | "drag" | "move";
  /** It came down at once after a tap. */
  readonly again: Point | undefined;
};
type Pair = {
  readonly kind: "two";
  readonly since: number;
  readonly first: Point;
  readonly places: Map<number, Point>;
  start: { middle: Point; distance: number };
  last: { middle: Point; distance: number };
  doing: "nothing" | "scroll" | "view";
};
type State = { readonly kind: "none" } | { readonly kind: "done" } | Single | Pair;

/** The fingers on one picture. */
export class TouchGestures {
  private state: State = { kind: "none" };
  private readonly down = new Set<number>();
  private lastTap: (Point & { readonly time: number }) | undefined;
  private holdTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly outlets: TouchOutlets) {}

  /** A finger came down. */
  began(finger: Finger): void {
    this.down.add(finger.id);
    const { state } = this;
    if (this.down.size === 1) {
      const again = this.tapBefore(finger);
      this.state = { kind: "one", finger, last: finger, doing: "nothing", again };
      clearTimeout(this.holdTimer);
      this.holdTimer = setTimeout(() => this.heldStill(), HOLD_MS);
    } else if (this.down.size === 2 && state.kind === "one") {
      this.endDrag(state);
      const places = new Map<number, Point>([
        [state.finger.id, state.last],
        [finger.id, finger],
      ]);
      const span = spanOf(places);
      const doing = this.outlets.isLarger() ? "view" : "nothing";
      this.become({ kind: "two", since: finger.time, first: state.last, places, start: span, last: span, doing });
    } else {
      this.become({ kind: "done" });
    }
  }

  /** A finger moved. */
  moved(finger: Finger): void {
    const { state } = this;
    if (state.kind === "one" && finger.id === state.finger.id) {
      this.moveOne(state, finger);
    } else if (state.kind === "two" && state.places.has(finger.id)) {
      state.places.set(finger.id, finger);
      this.moveTwo(state);
    }
  }

  /** A finger went up. */
  ended(finger: Finger): void {
    this.down.delete(finger.id);
    const { state } = this;
    if (state.kind === "one" && finger.id === state.finger.id) {
      if (state.doing === "nothing") {
        this.tapped(state, finger);
      } else {
        state.last = finger;
        this.endDrag(state);
      }
    } else if (state.kind === "two" && state.doing === "nothing" && finger.time - state.since < TAP_MS) {
      this.outlets.click(state.first, "right");
    }
    this.become(this.down.size === 0 ? { kind: "none" } : { kind: "done" });
  }

  /** The browser took the fingers away, or the picture lost the focus. */
  forget(): void {
    if (this.state.kind === "one") {
      this.endDrag(this.state);
    }
    this.down.clear();
    this.lastTap = undefined;
    this.become({ kind: "none" });
  }

  private become(state: State): void {
    clearTimeout(this.holdTimer);
    this.state = state;
  }

  private tapBefore(finger: Finger): Point | undefined {
    const { lastTap } = this;
    this.lastTap = undefined;
    return lastTap !== undefined &&
      finger.time - lastTap.time < DOUBLE_MS &&
      distance(lastTap, finger) < DOUBLE_PX
      ? lastTap
      : undefined;
  }

  private heldStill(): void {
    const { state } = this;
    if (state.kind === "one" && state.doing === "nothing") {
      this.outlets.click(state.finger, "right");
      this.become({ kind: "done" });
    }
  }

  private moveOne(state: Single, finger: Finger): void {
    const from = state.last;
    if (state.doing === "nothing") {
      if (distance(state.finger, finger) < STILL_PX) {
        return;
      }
      clearTimeout(this.holdTimer);
      const drags = !this.outlets.isPad() || state.again !== undefined;
      state.doing = drags ? "drag" : "move";
      if (drags) {
        this.outlets.press(state.finger);
      }
    }
    state.last = finger;
    if (this.outlets.isPad()) {
      this.outlets.move(finger.x - from.x, finger.y - from.y);
    } else {
      this.outlets.drag(finger);
    }
  }

  private moveTwo(state: Pair): void {
    const now = spanOf(state.places);
    if (state.doing === "nothing") {
      if (Math.abs(now.distance - state.start.distance) > PINCH_PX) {
        state.doing = "view";
      } else if (distance(now.middle, state.start.middle) > STILL_PX) {
        state.doing = "scroll";
      } else {
        return;
      }
      // What decided it is not lost.
      state.last = state.start;
    }
    const [dx, dy] = [now.middle.x - state.last.middle.x, now.middle.y - state.last.middle.y];
    if (state.doing === "scroll") {
      this.outlets.scroll(dy);
    } else {
      this.outlets.view(now.distance / Math.max(1, state.last.distance), now.middle, dx, dy);
    }
    state.last = now;
  }

  private tapped(state: Single, finger: Finger): void {
    // The second click of a double click is where the first one was, or no guest takes it for one.
    const at = state.again ?? state.finger;
    this.outlets.click(at, "left");
    this.lastTap = state.again === undefined ? { x: at.x, y: at.y, time: finger.time } : undefined;
  }

  private endDrag(state: Single): void {
    if (state.doing === "drag") {
      this.outlets.release(state.last);
    }
  }
}

function distance(one: Point, other: Point): number {
  return Math.hypot(one.x - other.x, one.y - other.y);
}

function spanOf(places: ReadonlyMap<number, Point>): { middle: Point; distance: number } {
  const [one = { x: 0, y: 0 }, other = one] = [...places.values()];
  return {
    middle: { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 },
    distance: distance(one, other),
  };
}
