import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { TouchGestures } from "../src/display/touch.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Fingers on a picture; `log` says what they meant. */
function hand({ pad = false, larger = false } = {}) {
  const log: string[] = [];
  const at = ({ x, y }: { x: number; y: number }) => `${x},${y}`;
  const touch = new TouchGestures({
    isPad: () => pad,
    isLarger: () => larger,
    click: (point, button) => log.push(`${button} ${at(point)}`),
    press: (point) => log.push(`press ${at(point)}`),
    drag: (point) => log.push(`drag ${at(point)}`),
    release: (point) => log.push(`release ${at(point)}`),
    move: (dx, dy) => log.push(`move ${dx},${dy}`),
    scroll: (dy) => log.push(`scroll ${dy}`),
    view: (factor, around, dx, dy) => log.push(`view ${factor.toFixed(2)} at ${at(around)} by ${dx},${dy}`),
  });
  let time = 0;
  const finger = (id: number, x: number, y: number, after: number) => {
    vi.advanceTimersByTime(after);
    time += after;
    return { id, x, y, time };
  };
  return {
    log,
    touch,
    down: (id: number, x: number, y: number, after = 0) => touch.began(finger(id, x, y, after)),
    move: (id: number, x: number, y: number, after = 10) => touch.moved(finger(id, x, y, after)),
    up: (id: number, x: number, y: number, after = 50) => touch.ended(finger(id, x, y, after)),
  };
}

describe("one finger", () => {
  it("clicks where it came down, though it trembles", () => {
    const { log, down, move, up } = hand();
    down(1, 100, 50);
    move(1, 103, 52);
    up(1, 104, 52);
    expect(log).toEqual(["left 100,50"]);
  });

  it("makes a double click of two taps close together, and not of others", () => {
    const { log, down, up } = hand();
    down(1, 100, 50);
    up(1, 100, 50);
    down(1, 108, 55, 100);
    up(1, 108, 55);
    down(1, 108, 55, 100);
    up(1, 108, 55);
    down(1, 109, 55, 600);
    up(1, 109, 55);
    expect(log).toEqual(["left 100,50", "left 100,50", "left 108,55", "left 109,55"]);
  });

  it("means the right button where it is held still, once", () => {
    const { log, down, move, up } = hand();
    down(1, 10, 20);
    vi.advanceTimersByTime(600);
    move(1, 200, 200);
    up(1, 200, 200);
    expect(log).toEqual(["right 10,20"]);
  });

  it("drags from where it came down, once it has moved", () => {
    const { log, down, move, up } = hand();
    down(1, 10, 20);
    move(1, 15, 20);
    move(1, 30, 20);
    move(1, 40, 20, 600);
    up(1, 40, 20);
    expect(log).toEqual(["press 10,20", "drag 30,20", "drag 40,20", "release 40,20"]);
  });

  it("lets go of what it drags when the browser takes it away", () => {
    const { log, touch, down, move } = hand();
    down(1, 10, 20);
    move(1, 30, 20);
    touch.forget();
    move(1, 50, 20);
    vi.runAllTimers();
    expect(log).toEqual(["press 10,20", "drag 30,20", "release 30,20"]);
  });
});

describe("one finger on a touch pad", () => {
  it("moves the pointer, and clicks", () => {
    const { log, down, move, up } = hand({ pad: true });
    down(1, 10, 20);
    move(1, 30, 25);
    move(1, 32, 25);
    up(1, 32, 25);
    down(1, 100, 100, 500);
    up(1, 100, 100);
    expect(log).toEqual(["move 20,5", "move 2,0", "left 100,100"]);
  });

  it("drags after a tap", () => {
    const { log, down, move, up } = hand({ pad: true });
    down(1, 10, 20);
    up(1, 10, 20);
    down(1, 10, 20, 100);
    move(1, 40, 20);
    up(1, 40, 20);
    expect(log).toEqual(["left 10,20", "press 10,20", "move 30,0", "release 40,20"]);
  });
});

describe("two fingers", () => {
  it("turn the wheel when they move together", () => {
    const { log, down, move, up } = hand();
    down(1, 100, 100);
    down(2, 150, 100, 20);
    move(1, 100, 140);
    move(2, 150, 140);
    up(1, 100, 140);
    move(2, 300, 300);
    up(2, 300, 300);
    expect(log).toEqual(["scroll 20", "scroll 20"]);
  });

  it("show the picture larger when they part", () => {
    const { log, down, move } = hand();
    down(1, 100, 100);
    down(2, 200, 100);
    move(2, 300, 100);
    expect(log).toEqual(["view 2.00 at 200,100 by 50,0"]);
  });

  it("move a picture that is larger than its place", () => {
    const { log, down, move } = hand({ larger: true });
    down(1, 100, 100);
    down(2, 200, 100);
    move(1, 100, 106);
    move(2, 200, 106);
    expect(log).toEqual(["view 1.00 at 150,103 by 0,3", "view 1.00 at 150,106 by 0,3"]);
  });

  it("click the right button when they tap, and a third finger spoils it", () => {
    const { log, down, up } = hand();
    down(1, 100, 100);
    down(2, 150, 100, 20);
    up(2, 150, 100);
    up(1, 100, 100);
    expect(log.splice(0)).toEqual(["right 100,100"]);
    down(1, 100, 100, 1000);
    down(2, 150, 100);
    down(3, 200, 100);
    up(1, 0, 0);
    up(2, 0, 0);
    up(3, 0, 0);
    expect(log).toEqual([]);
  });

  it("end a drag that one of them had begun", () => {
    const { log, down, move } = hand();
    down(1, 100, 100);
    move(1, 130, 100);
    down(2, 200, 100);
    expect(log).toEqual(["press 100,100", "drag 130,100", "release 130,100"]);
  });
});
