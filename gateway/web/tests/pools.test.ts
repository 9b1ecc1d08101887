import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { fieldsOf, NEW_POOL, POOL_PATHS, suggestedId, wishOf } from "../src/admin/pools.js";
import { policyFields, policyWish } from "../src/admin/policy.js";
import { isWhole, newRule, ruleFields, ruleWish } from "../src/admin/schedule.js";
import { ClipboardWays, DisplayPolicySchema, Permission, Recording } from "../src/gen/vidi/v1/desktops_pb.js";
import { PoolKind, PoolSchema, ScheduleRuleSchema } from "../src/gen/vidi/v1/pools_pb.js";
import { AppSchema, ReleasePolicy } from "../src/gen/vidi/v1/sessions_pb.js";
import { statusCode, withoutCode } from "../src/messages/code.js";
import { aboutWords, fateOf, poolState } from "../src/waiting.js";

it("an app of a pool says whether it is ready, yours, waited for, or why not", () => {
  const state = (app: Parameters<typeof create<typeof AppSchema>>[1]) => poolState(create(AppSchema, app));
  expect(state({ ready: true }).key).toBe("app.state.ready");
  expect(state({ ready: true, suspended: true }).key).toBe("app.state.ready");
  expect(state({ estimateSecs: 40 })).toEqual({ key: "app.state.about", secs: 40 });
  expect(state({}).key).toBe("app.state.preparing");
  expect(state({ reason: "all 4 are in use" }).key).toBe("app.state.full");
  expect(state({ suspended: true, reason: "no disk", estimateSecs: 40 }).key).toBe("app.state.suspended");
  expect(state({ session: "s" }).key).toBe("app.state.waiting");
  expect(state({ session: "s", desktop: "d", ready: true }).key).toBe("app.state.open");
});

it("an estimate is as exact as it is worth", () => {
  const said = [1, 38, 60, 61, 118, 130, 600].map((secs) => aboutWords(secs, "en"));
  expect(said).toEqual(["5 seconds", "40 seconds", "60 seconds", "70 seconds", "2 minutes", "3 minutes", "10 minutes"]);
});

it("a desktop goes or stays, and of what is none nothing is said", () => {
  expect(fateOf(ReleasePolicy.DELETE)).toBe("delete");
  expect([fateOf(ReleasePolicy.KEEP), fateOf(ReleasePolicy.STOP)]).toEqual(["kept", "kept"]);
  expect(fateOf(ReleasePolicy.UNSPECIFIED)).toBeUndefined();
});

it("a code may have numbers behind it, and a sentence that only begins like one is none", () => {
  expect(statusCode("WAITING_FOR_DESKTOP 2 40: none is ready")).toBe("WAITING_FOR_DESKTOP");
  expect(statusCode("AWAY 600: nobody")).toBe("AWAY");
  expect(statusCode("HOST_AWAY: it is away")).toBe("HOST_AWAY");
  expect(statusCode("CPU 1 2 3: hot")).toBe("");
  expect(withoutCode("WAITING_FOR_DESKTOP 2 40: none is ready")).toBe("none is ready");
  expect(withoutCode("it is: so")).toBe("it is: so");
  expect(statusCode("WAITING 2 forty: x")).toBe("");
});

it("a form sends what it shows, in the units of the contract", () => {
  const pool = create(PoolSchema, {
    displayName: "Kiosk", minSpare: 2, maxDesktops: 9, users: ["tenants/t/users/ana"], disconnectSecs: 90,
    maxSessionSecs: 5400, releasePolicy: ReleasePolicy.KEEP, kind: PoolKind.DEDICATED,
  });
  const same = fieldsOf(wishOf(pool), pool.kind);
  expect(same).toMatchObject({ displayName: "Kiosk", minSpare: 2, maxDesktops: 9, disconnectSecs: 90, maxSessionSecs: 5400 });
  expect(same).toMatchObject({ users: ["tenants/t/users/ana"], everyone: false, releasePolicy: ReleasePolicy.KEEP });
  expect(fieldsOf({ ...wishOf(pool), everyone: true }, PoolKind.FLOATING)).toMatchObject({
    users: [], releasePolicy: ReleasePolicy.UNSPECIFIED,
  });
  // An emptied number field.
  const odd = fieldsOf({ ...NEW_POOL, minSpare: NaN, maxDesktops: -3, awayMinutes: 1e300 }, PoolKind.FLOATING);
  expect(odd).toMatchObject({ minSpare: 0, maxDesktops: 0, disconnectSecs: 0xffffffff });
  expect(POOL_PATHS.length).toBe(Object.keys(same).length);
});

it("an id is made of a name", () => {
  expect(suggestedId("Kiosk – Hall 2")).toBe("kiosk-hall-2");
  expect(suggestedId("3º Curso: Física")).toBe("curso-fisica");
  expect(suggestedId("日本")).toBe("");
  expect(suggestedId(`a${"-b".repeat(40)}`)).toMatch(/^[a-z][a-z0-9-]{0,38}[a-z0-9]$/);
});

it("a rule is sent as it was read, and a day has an end", () => {
  const rule = create(ScheduleRuleSchema, { days: [1, 5], from: "07:30", to: "18:00", minSpare: 0 });
  expect(ruleFields(ruleWish(rule))).toEqual({ days: [1, 5], from: "07:30", to: "18:00", minSpare: 0 });
  const always = create(ScheduleRuleSchema, { from: "00:00", to: "24:00", maxDesktops: 4 });
  const wish = ruleWish(always);
  expect([wish.days.length, wish.to]).toEqual([7, "00:00"]);
  expect(ruleFields(wish)).toEqual({ days: [], from: "00:00", to: "24:00", maxDesktops: 4 });
  expect(ruleFields({ ...wish, days: [5, 1], maxDesktops: -2, minSpare: NaN })).toMatchObject({ days: [1, 5], maxDesktops: 0 });
  expect(isWhole(newRule())).toBe(false);
  expect(isWhole({ ...newRule(), minSpare: 2 })).toBe(true);
  expect(isWhole({ ...newRule(), minSpare: 2, days: [] })).toBe(false);
  expect(isWhole({ ...newRule(), minSpare: 2, to: "08:00" })).toBe(false);
});

it("a policy that says nothing allows what is usual, and what was read is sent", () => {
  const usual = policyWish(undefined);
  expect(usual).toEqual(policyWish(create(DisplayPolicySchema, {})));
  expect([usual.files, usual.raw, usual.clipboard]).toEqual([true, false, ClipboardWays.BOTH]);
  const strict = create(DisplayPolicySchema, {
    clipboard: ClipboardWays.OFF, files: Permission.DENIED, recording: Recording.ALWAYS, watermark: true,
  });
  expect(policyFields(policyWish(strict))).toMatchObject({
    clipboard: ClipboardWays.OFF, files: Permission.DENIED, sound: Permission.ALLOWED, raw: Permission.DENIED,
    recording: Recording.ALWAYS, watermark: true,
  });
});
