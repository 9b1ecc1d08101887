import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { PAGE_ROWS, pageOf } from "../src/admin/find.js";
import { countGroups, Fleet, inGroup, type Row, rowOf, select, stateOf } from "../src/admin/fleet.js";
import { ChangeKind } from "../src/gen/vidi/v1/common_pb.js";
import {
  type Desktop, DesktopSchema, Power, WantedPower, WatchDesktopsResponseSchema,
} from "../src/gen/vidi/v1/desktops_pb.js";
import { SessionState } from "../src/gen/vidi/v1/sessions_pb.js";

type Wanted = Partial<{
  id: string; title: string; power: Power; ready: boolean; wanted: WantedPower; restarting: boolean; away: boolean;
  session: SessionState; seen: bigint; secs: bigint;
}>;

function desktop(wanted: Wanted = {}): Desktop {
  const id = wanted.id ?? "a";
  return create(DesktopSchema, {
    name: `tenants/t/desktops/${id}`,
    displayName: wanted.title ?? id,
    spec: { power: wanted.wanted ?? WantedPower.ON, restarting: wanted.restarting ?? false, generation: 3n },
    status: {
      power: wanted.power ?? Power.RUNNING,
      ready: wanted.ready ?? true,
      hostUnreachable: wanted.away ?? false,
      sessionState: wanted.session ?? SessionState.UNSPECIFIED,
      observedGeneration: wanted.seen ?? 3n,
      powerSince: { seconds: wanted.secs ?? 1n, nanos: 0 },
    },
  });
}

const told = (kind: ChangeKind, one?: Desktop, resumeToken = "") =>
  create(WatchDesktopsResponseSchema, { kind, resumeToken, ...(one === undefined ? {} : { desktop: one }) });
const titles = (fleet: Fleet) => fleet.rows().map(({ title }) => title).sort();

it("a stream that begins anew forgets what it does not name", () => {
  const fleet = new Fleet();
  fleet.begin();
  fleet.take(told(ChangeKind.ADDED, desktop({ id: "a" })));
  fleet.take(told(ChangeKind.ADDED, desktop({ id: "b" })));
  expect(fleet.take(told(ChangeKind.BOOKMARK, undefined, "7"))).toBe(true);
  expect(titles(fleet)).toEqual(["a", "b"]);
  fleet.restart();
  fleet.begin();
  fleet.take(told(ChangeKind.ADDED, desktop({ id: "b" })));
  expect(titles(fleet)).toEqual(["a", "b"]);
  fleet.take(told(ChangeKind.BOOKMARK, undefined, "8"));
  expect(titles(fleet)).toEqual(["b"]);
});

it("a stream that goes on behind its token keeps what it had", () => {
  const fleet = new Fleet();
  fleet.begin();
  fleet.take(told(ChangeKind.ADDED, desktop({ id: "a" })));
  fleet.take(told(ChangeKind.BOOKMARK, undefined, "7"));
  expect(fleet.resumeToken).toBe("7");
  fleet.begin();
  fleet.take(told(ChangeKind.MODIFIED, desktop({ id: "a", title: "A" }), "8"));
  expect(fleet.take(told(ChangeKind.BOOKMARK, undefined, "9"))).toBe(false);
  expect(titles(fleet)).toEqual(["A"]);
  expect(fleet.take(told(ChangeKind.DELETED, create(DesktopSchema, { name: "tenants/t/desktops/a" })))).toBe(true);
  expect(titles(fleet)).toEqual([]);
});

it("a stream that is cut before it has told everything is not gone on with", () => {
  const fleet = new Fleet();
  fleet.begin();
  fleet.take(told(ChangeKind.ADDED, desktop({ id: "a" }), "7"));
  expect(fleet.resumeToken).toBe("");
});

it("a list is turned page by page, and its last page stays when it gets shorter", () => {
  const list = Array.from({ length: PAGE_ROWS + 1 }, (_, at) => at);
  expect(pageOf(list, 0)).toMatchObject({ at: 0, last: 1, all: PAGE_ROWS + 1, rows: list.slice(0, PAGE_ROWS) });
  expect(pageOf(list, 1).rows).toEqual([PAGE_ROWS]);
  expect(pageOf(list.slice(0, PAGE_ROWS), 1)).toMatchObject({ at: 0, last: 0 });
  expect(pageOf([], 3)).toEqual({ rows: [], at: 0, last: 0, all: 0 });
});

it("a state is what is observed in the light of what is wanted", () => {
  const states: [Wanted, string][] = [
    [{}, "running"],
    [{ ready: false }, "starting"],
    [{ power: Power.STARTING }, "starting"],
    [{ wanted: WantedPower.OFF }, "stopping"],
    [{ power: Power.STARTING, wanted: WantedPower.OFF }, "stopping"],
    [{ wanted: WantedPower.OFF, restarting: true }, "restarting"],
    [{ power: Power.OFF, wanted: WantedPower.OFF }, "off"],
    [{ power: Power.OFF, wanted: WantedPower.ON, seen: 2n }, "starting"],
    [{ power: Power.PREPARING }, "preparing"],
    [{ power: Power.SAVED }, "saved"],
    [{ power: Power.FAILED }, "failed"],
    [{ away: true }, "unreachable"],
  ];
  for (const [wanted, state] of states) {
    expect([wanted, stateOf(desktop(wanted))]).toEqual([wanted, state]);
  }
});

const fleetOf = (...wanted: Wanted[]): Row[] => wanted.map((one) => rowOf(desktop(one)));
const texts = (row: Row) => ({
  title: row.title, user: "Ana García", state: row.state, host: "h1", template: "micro", session: row.presence,
});
const any = { filter: "", group: "all", column: "title", descending: false, language: "es" } as const;

it("every word of the filter has to be there, wherever it is", () => {
  const rows = fleetOf({ id: "a", title: "Ventas" }, { id: "b", title: "Compras", power: Power.OFF, wanted: WantedPower.OFF });
  const found = (filter: string) => select(rows, texts, { ...any, filter }).map(({ title }) => title);
  expect(found("")).toEqual(["Compras", "Ventas"]);
  expect(found("GARCÍA vent")).toEqual(["Ventas"]);
  expect(found("off micro")).toEqual(["Compras"]);
  expect(found("nadie")).toEqual([]);
});

it("numbers sort as numbers, and the newest change comes first", () => {
  const rows = fleetOf({ id: "a", title: "PC 10", secs: 5n }, { id: "b", title: "PC 9", secs: 9n });
  expect(select(rows, texts, any).map(({ title }) => title)).toEqual(["PC 9", "PC 10"]);
  expect(select(rows, texts, { ...any, descending: true }).map(({ title }) => title)).toEqual(["PC 10", "PC 9"]);
  expect(select(rows, texts, { ...any, column: "since" }).map(({ title }) => title)).toEqual(["PC 9", "PC 10"]);
});

it("every desktop is in the groups that it belongs to", () => {
  const rows = fleetOf(
    { id: "a", session: SessionState.CONNECTED },
    { id: "b", power: Power.OFF, wanted: WantedPower.OFF },
    { id: "c", power: Power.FAILED },
    { id: "d", power: Power.PREPARING },
    { id: "e", session: SessionState.DISCONNECTED },
  );
  expect(countGroups(rows)).toEqual({ all: 5, used: 1, running: 2, changing: 1, off: 1, trouble: 1 });
  expect(rows.every((row) => inGroup(row, "all"))).toBe(true);
});

it("a thousand desktops are found and sorted in a blink", () => {
  const rows = fleetOf(...Array.from({ length: 1000 }, (_, at) => ({ id: `d${at}`, title: `Desktop ${(at * 7919) % 1000}` })));
  const began = performance.now();
  expect(select(rows, texts, { ...any, filter: "desktop" })).toHaveLength(1000);
  expect(performance.now() - began).toBeLessThan(500);
});
