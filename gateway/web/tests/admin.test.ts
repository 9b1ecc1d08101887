import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { generatePassword } from "../src/admin/password.js";
import { rightsOf } from "../src/admin/rights.js";
import { csv, decimalHours, sum } from "../src/admin/usage.js";
import { after, type Work } from "../src/admin/work.js";
import { traceparent } from "../src/api/trace.js";
import { endingOf, spanWords } from "../src/ending.js";
import { DesktopSchema, Power, WantedPower } from "../src/gen/vidi/v1/desktops_pb.js";
import { OperationSchema } from "../src/gen/vidi/v1/operations_pb.js";
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

it("an ending is told by its reason, an unknown one as it is", () => {
  expect(endingOf("nobody was connected for 10 minutes")).toMatchObject({ title: "ended.away", again: true });
  expect(spanWords({ count: 10, unit: "minute" }, "es")).toBe("10 minutos");
  expect(spanWords({ count: 1, unit: "hour" }, "en")).toBe("1 hour");
  expect(endingOf("the desktop was deleted")).toMatchObject({ title: "ended.destroyed", again: false });
  expect(endingOf("something new")).toMatchObject({ title: "ended.other", again: true });
  expect(endingOf("")).toMatchObject({ title: "desktop.ended" });
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
