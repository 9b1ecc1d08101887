import { describe, expect, it } from "vitest";
import { buttonsOf, guestPoint, Pointer, WheelAccumulator } from "../src/display/pointer.js";

function rig() {
  const log: string[] = [];
  let callbacks: (() => void)[] = [];
  const pointer = new Pointer({
    position: (x, y, buttons) => log.push(`at ${x},${y} ${buttons}`),
    delta: (dx, dy, buttons) => log.push(`by ${dx},${dy} ${buttons}`),
    wheel: (clicks, buttons) => log.push(`wheel ${clicks} ${buttons}`),
    nextFrame: (callback) => callbacks.push(callback),
  });
  const frame = () => {
    const due = callbacks;
    callbacks = [];
    due.forEach((callback) => callback());
  };
  return { log, pointer, frame, asked: () => callbacks.length };
}

describe("the pointer", () => {
  it("sends the first move at once and the newest of the others with the next frame", () => {
    const { log, pointer, frame } = rig();
    pointer.at(1, 1, 0);
    pointer.at(2, 2, 0);
    pointer.at(3, 3, 0);
    expect(log).toEqual(["at 1,1 0"]);
    frame();
    expect(log).toEqual(["at 1,1 0", "at 3,3 0"]);
  });

  it("never delays or loses a change of buttons", () => {
    const { log, pointer, frame } = rig();
    pointer.at(1, 1, 0);
    pointer.at(2, 2, 0);
    pointer.at(3, 3, 1);
    pointer.at(3, 3, 0);
    pointer.at(3, 3, 1);
    frame();
    expect(log).toEqual(["at 1,1 0", "at 3,3 1", "at 3,3 0", "at 3,3 1"]);
  });

  it("asks for frames only while there is something to send", () => {
    const { pointer, frame, asked } = rig();
    pointer.at(1, 1, 0);
    pointer.at(2, 2, 0);
    frame();
    expect(asked()).toBe(1);
    frame();
    expect(asked()).toBe(0);
  });

  it("adds up relative motion and keeps fractions of a pixel", () => {
    const { log, pointer, frame } = rig();
    pointer.by(0.5, 1, 0);
    pointer.by(0.5, 1, 0);
    pointer.by(1, 1.5, 0);
    frame();
    expect(log).toEqual(["by 0,1 0", "by 2,2 0"]);
  });

  it("sends where it is before the wheel turns", () => {
    const { log, pointer } = rig();
    pointer.at(1, 1, 0);
    pointer.at(9, 9, 0);
    pointer.wheel(-100, 0);
    expect(log).toEqual(["at 1,1 0", "at 9,9 0", "wheel 1 0"]);
  });
});

it("buttons are told in the protocol's order", () => {
  expect([1, 2, 4, 8, 16, 31].map(buttonsOf)).toEqual([1, 4, 2, 8, 16, 31]);
});

it("points of the page become guest pixels, kept inside the picture", () => {
  const at = { left: 100, top: 50, width: 512, height: 384, guestWidth: 1024, guestHeight: 768 };
  expect(guestPoint(at, 100, 50)).toEqual([0, 0]);
  expect(guestPoint(at, 100.5, 50.5)).toEqual([1, 1]);
  expect(guestPoint(at, 611.9, 433.9)).toEqual([1023, 767]);
  expect(guestPoint(at, 5000, -5000)).toEqual([1023, 0]);
  expect(guestPoint({ ...at, width: 0 }, 100, 50)).toEqual([0, 0]);
});

it("wheels count whole clicks, up is positive, and a change of direction starts over", () => {
  const wheel = new WheelAccumulator();
  expect([30, 30, 30, 30].map((delta) => wheel.add(delta, 0))).toEqual([0, 0, 0, -1]);
  expect([-80, -20].map((delta) => wheel.add(delta, 0))).toEqual([0, 1]);
  expect([wheel.add(3, 1), wheel.add(-6, 1), wheel.add(1, 2)]).toEqual([-1, 2, -1]);
});
