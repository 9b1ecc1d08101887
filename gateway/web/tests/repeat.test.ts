import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { repeat } from "../src/repeat.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("calls while the page is seen and at once when it is shown again, until it is stopped", async () => {
  const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  vi.stubGlobal("document", page);
  const show = (state: string) => {
    page.visibilityState = state;
    page.dispatchEvent(new Event("visibilitychange"));
  };
  const call = vi.fn(() => Promise.resolve());
  const stop = repeat(1000, call);
  await vi.advanceTimersByTimeAsync(1500);
  expect(call).toHaveBeenCalledTimes(2);
  show("hidden");
  await vi.advanceTimersByTimeAsync(10_000);
  expect(call).toHaveBeenCalledTimes(2);
  show("visible");
  expect(call).toHaveBeenCalledTimes(3);
  stop();
  show("visible");
  await vi.advanceTimersByTimeAsync(10_000);
  expect(call).toHaveBeenCalledTimes(3);
});
