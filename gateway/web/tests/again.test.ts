import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { again, inTurn } from "../src/again.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A call that ends when it is told to. */
function slow() {
  const ends: (() => void)[] = [];
  const call = vi.fn((_argument?: string) => new Promise<void>((resolve) => ends.push(resolve)));
  return { call, end: () => ends.shift()?.() };
}

it("calls again after each end, not while a call goes on", async () => {
  const { call, end } = slow();
  const stop = again(100, 1000, call);
  await vi.advanceTimersByTimeAsync(99);
  expect(call).toHaveBeenCalledTimes(0);
  await vi.advanceTimersByTimeAsync(5000);
  expect(call).toHaveBeenCalledTimes(1);
  end();
  await vi.advanceTimersByTimeAsync(1000);
  expect(call).toHaveBeenCalledTimes(2);
  stop();
});

it("is over when it is stopped, also during a call", async () => {
  const { call, end } = slow();
  const stop = again(0, 1000, call);
  await vi.advanceTimersByTimeAsync(1);
  stop();
  end();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(call).toHaveBeenCalledTimes(1);
  expect(vi.getTimerCount()).toBe(0);
});

it("what was told during a call is not lost", async () => {
  const { call, end } = slow();
  const ask = inTurn(call);
  void ask();
  void ask();
  void ask("first");
  void ask("last");
  expect(call.mock.calls).toEqual([[undefined]]);
  end();
  await vi.advanceTimersByTimeAsync(0);
  expect(call.mock.calls).toEqual([[undefined], ["last"]]);
  end();
  await vi.advanceTimersByTimeAsync(0);
  void ask("later");
  expect(call.mock.calls).toEqual([[undefined], ["last"], ["later"]]);
});
