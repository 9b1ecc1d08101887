import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Polled } from "../src/admin/polled.svelte.js";

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("document", Object.assign(new EventTarget(), { visibilityState: "visible" }));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** A list whose questions are answered by hand, in any order. */
function asked() {
  const questions: { parent: string; answer: (rows: string[]) => void; refuse: (why: unknown) => void }[] = [];
  const read = (parent: string) =>
    new Promise<string[]>((answer, refuse) => void questions.push({ parent, answer, refuse }));
  const office = { parent: "tenants/t", troubleOf: (why: unknown) => ({ reason: "", message: String(why) }) };
  const tell = async (which: number, rows: string[]) => {
    questions[which]?.answer(rows);
    await vi.advanceTimersByTimeAsync(0);
  };
  return { questions, tell, list: new Polled(office, 1000, read) };
}

it("a list is read again and again while it is looked at, and keeps its rows where that fails", async () => {
  const { questions, tell, list } = asked();
  const end = list.follow();
  expect([list.rows, questions.map(({ parent }) => parent)]).toEqual([undefined, ["tenants/t"]]);
  await tell(0, ["one"]);
  expect(list.rows).toEqual(["one"]);
  await vi.advanceTimersByTimeAsync(1000);
  questions[1]?.refuse("away");
  await vi.advanceTimersByTimeAsync(0);
  expect([list.rows, list.trouble?.message]).toEqual([["one"], "away"]);
  await vi.advanceTimersByTimeAsync(1000);
  await tell(2, ["one", "two"]);
  expect([list.rows, list.trouble]).toEqual([["one", "two"], undefined]);
  end();
  await vi.advanceTimersByTimeAsync(5000);
  expect(questions.length).toBe(3);
});

it("what was asked for before a change, or is answered after the end, is not shown", async () => {
  const { tell, list } = asked();
  const end = list.follow();
  void list.look();
  await tell(1, ["after the change"]);
  await tell(0, ["before the change"]);
  expect(list.rows).toEqual(["after the change"]);
  await vi.advanceTimersByTimeAsync(1000);
  end();
  await tell(2, ["too late"]);
  expect(list.rows).toEqual(["after the change"]);
});
