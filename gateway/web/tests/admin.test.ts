import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { generatePassword } from "../src/admin/password.js";
import { rightsOf } from "../src/admin/rights.js";
import { csv, decimalHours, sum } from "../src/admin/usage.js";
import { after, untold, type Work } from "../src/admin/work.js";
import { Requests } from "../src/api/requests.js";
import { traceparent } from "../src/api/trace.js";
import { type End, endingOf, spanWords, toldEnd } from "../src/ending.js";
import { DesktopSchema, Power, WantedPower } from "../src/gen/vidi/v1/desktops_pb.js";
import { OperationSchema } from "../src/gen/vidi/v1/operations_pb.js";
import { SessionEndCause } from "../src/gen/vidi/v1/sessions_pb.js";
import { UsageSchema } from "../src/gen/vidi/v1/usage_pb.js";
import { progressOf } from "../src/progress.js";

it("hours add up", () => {
  const usage = [
    create(UsageSchema, { runningSecs: 3600n, connectedSecs: 60n }),
    create(UsageSchema, { runningSecs: 1800n }),
  ];
  expect(sum(usage)).toEqual({ runningSecs: 5400, connectedSecs: 60 });
  expect(decimalHours(5400)).toBe("1.50");
});

it("a file for a spreadsheet holds every name as it is, and runs none of them", () => {
  expect(csv(["a", "b"], [['say "hi", you', "=1+1"], [-2.5, "two\nlines"]])).toBe(
    '\uFEFFa,b\r\n"say ""hi"", you",\'=1+1\r\n-2.5,"two\nlines"\r\n',
  );
});

it("roles open what they are for, and no more", () => {
  expect(rightsOf(["user"])).toMatchObject({ see: false, seeHosts: false, createDesktop: false, changeUsers: false });
  expect(rightsOf(["auditor"])).toMatchObject({ see: true, power: false, destroyDesktop: false, seeHosts: false });
  expect(rightsOf(["helpdesk"])).toMatchObject({ see: true, power: true, createDesktop: true, changeUsers: false });
  expect(rightsOf(["admin"])).toMatchObject({ changeUsers: true, seeHosts: false, changeHosts: false });
  expect(rightsOf(["admin"]).roles).not.toContain("operator");
  expect(rightsOf(["operator"])).toMatchObject({ changeHosts: true, seeHosts: true });
  expect(rightsOf(["installation-auditor"])).toMatchObject({ see: true, seeHosts: true, changeHosts: false, power: false });
  expect(rightsOf([]).see).toBe(false);
});

it("a made password is long enough, has no letters that look alike, and every letter may come", () => {
  expect(generatePassword((bytes) => bytes.fill(255))).toBe("99999-99999-99999-99999");
  expect(generatePassword()).toMatch(/^[a-km-np-z2-9]{5}(-[a-km-np-z2-9]{5}){3}$/);
});

it("a trace is a fresh one each time, as the standard wants it", () => {
  expect(traceparent()).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  expect(traceparent()).not.toBe(traceparent());
});

const work: Work = { kind: "start", operation: "", target: "", title: "x", stage: "", failure: undefined };

it("an operation is followed to its end", () => {
  const going = create(OperationSchema, { name: "operations/1", target: "d", stage: "starting" });
  expect(after(work, going)).toMatchObject({ operation: "operations/1", target: "d", stage: "starting" });
  expect(after(work, create(OperationSchema, { name: "operations/1", done: true }))).toBeUndefined();
  const failed = create(OperationSchema, {
    done: true,
    result: { case: "error", value: { reason: "NO_HOST", message: "full" } },
  });
  expect(after(work, failed)?.failure).toEqual({ reason: "NO_HOST", message: "full" });
});

it("a failure whose row is not there, or goes after it, is told apart", () => {
  const failure = { reason: "NO_HOST", message: "full" };
  const [failed, going] = [{ ...work, target: "a", failure }, { ...work, target: "b" }];
  expect(untold([failed, going], [{ name: "a" }, { name: "b" }])).toEqual([]);
  expect(untold([failed, going], [])).toEqual([failed]);
});

it("what is asked again is the same request, until it was done or is another", () => {
  const requests = new Requests();
  const first = requests.idOf({ name: "a" });
  expect(first).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(requests.idOf({ name: "a" })).toBe(first);
  expect(requests.idOf({ name: "b" })).not.toBe(first);
  const last = requests.idOf({ name: "b" });
  requests.done();
  expect(requests.idOf({ name: "b" })).not.toBe(last);
});

const end = (endCause: SessionEndCause, more: Partial<End> = {}): End => ({ endCause, awaySecs: 0, endReason: "", ...more });

it("an ending is told by its cause, one that is not known in the service's words", () => {
  expect(endingOf(end(SessionEndCause.AWAY, { awaySecs: 600 }))).toMatchObject({ title: "ended.away", again: true });
  expect(endingOf(end(SessionEndCause.DESTROYED))).toMatchObject({ title: "ended.destroyed", again: false });
  expect(endingOf(end(SessionEndCause.HOST_SERVICED))).toMatchObject({ title: "ended.serviced" });
  expect(endingOf(end(SessionEndCause.UNSPECIFIED, { endReason: "so it is" }))).toMatchObject({ title: "ended.other", again: true });
  expect(endingOf(end(99 as SessionEndCause, { endReason: "something new" }))).toMatchObject({ title: "ended.other" });
  expect(endingOf(end(SessionEndCause.UNSPECIFIED))).toMatchObject({ title: "desktop.ended" });
});

it("every cause of the contract has its own words", () => {
  const causes = Object.values(SessionEndCause).filter((cause) => typeof cause === "number");
  const others = [SessionEndCause.UNSPECIFIED, SessionEndCause.RELEASED];
  const titles = causes.filter((cause) => !others.includes(cause)).map((cause) => endingOf(end(cause, { endReason: "x" })).title);
  expect(titles).not.toContain("ended.other");
  expect(new Set(titles).size).toBe(titles.length);
});

it("the gateway tells of an end by its cause, or in words", () => {
  expect(toldEnd("AWAY 600: nobody was connected for 10 minutes")).toEqual(
    end(SessionEndCause.AWAY, { awaySecs: 600, endReason: "nobody was connected for 10 minutes" }),
  );
  expect(toldEnd("RELEASED: signed off")).toEqual(end(SessionEndCause.RELEASED, { endReason: "signed off" }));
  for (const text of ["", "so it is", "NOT_FOUND: no such session", "something: else"]) {
    expect(toldEnd(text)).toEqual(end(SessionEndCause.UNSPECIFIED, { endReason: text }));
  }
});

it("a span is told in its largest unit of which there are two", () => {
  expect([10, 119, 600, 7199, 7200].map((secs) => spanWords(secs, "en"))).toEqual([
    "10 seconds", "119 seconds", "10 minutes", "119 minutes", "2 hours",
  ]);
  expect(spanWords(600, "es")).toBe("10 minutos");
});

function steps(power: Power, more: { host?: string; ready?: boolean; restarting?: boolean } = {}, was = false) {
  const one = create(DesktopSchema, {
    spec: { power: WantedPower.ON, restarting: more.restarting ?? false },
    status: { power, host: more.host ?? "hosts/h", ready: more.ready ?? false },
  });
  const progress = progressOf(one, was);
  return [progress.steps.map(({ step, state }) => `${step} ${state}`).join(", "), progress.ready] as const;
}

it("the way to the picture is told step by step", () => {
  expect(steps(Power.PREPARING, { host: "" })).toEqual(["place now, disk todo, machine todo, picture todo", false]);
  expect(steps(Power.PREPARING)).toEqual(["place done, disk now, machine todo, picture todo", false]);
  expect(steps(Power.OFF)).toEqual(["place done, disk done, machine now, picture todo", false]);
  expect(steps(Power.STARTING)).toEqual(["place done, disk done, machine now, picture todo", false]);
  expect(steps(Power.RUNNING)).toEqual(["place done, disk done, machine done, picture now", false]);
  expect(steps(Power.RUNNING, { ready: true })[1]).toBe(true);
});

it("a restart is its going down and its coming up", () => {
  expect(steps(Power.RUNNING, { ready: true, restarting: true })).toEqual(["down now, machine todo, picture todo", false]);
  expect(steps(Power.STARTING, {}, true)).toEqual(["down done, machine now, picture todo", false]);
  expect(steps(Power.PREPARING, {}, true)).toEqual(["down done, machine now, picture todo", false]);
});
