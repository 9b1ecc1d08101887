import { describe, expect, it, vi } from "vitest";
import { MonitorCanvases } from "../src/display/canvases.js";
import { decodeMonitors, encodeWindows, type MonitorPlace } from "../src/display/monitors.js";
import type { Part, Surface } from "../src/display/painter.js";
import { freeScreen } from "../src/display/screens.js";
import { WindowFollower } from "../src/display/window.js";
import * as peer from "./peer.js";
import { rig } from "./rig.js";

const LEFT = [0, 0, 0, 0, 0, 0, 100, 0, 80, 0];
const RIGHT = [2, 0, 100, 0, 1, 0, 0x40, 1, 60, 0];

describe("records", () => {
  it("monitors are read as documented, and nothing that is cut short", () => {
    const body = [4, 0, 0, 0, ...LEFT, ...RIGHT];
    expect(decodeMonitors(Uint8Array.from(body))).toEqual({
      most: 4,
      places: [
        { monitor: 0, x: 0, y: 0, width: 100, height: 80 },
        { monitor: 2, x: 100, y: 1, width: 320, height: 60 },
      ],
    });
    expect(decodeMonitors(Uint8Array.of(1, 0, 0, 0))).toEqual({ most: 1, places: [] });
    for (const wrong of [[], [1, 0, 0], body.slice(1), [4, 0, 0, 0, ...Array(5).fill(LEFT).flat()]]) {
      expect(decodeMonitors(Uint8Array.from(wrong))).toBeUndefined();
    }
  });

  it("windows are written as documented", () => {
    const bytes = encodeWindows([
      { monitor: 0, width: 1280, height: 513 },
      { monitor: 2, width: 1e6, height: 1 },
    ]);
    expect([...bytes]).toEqual([
      83, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 2, 0, 0, 0, 0xff, 0xff, 1, 0,
    ]);
  });
});

describe("canvases", () => {
  const surface = (name: string) => name as unknown as Surface;
  function canvases() {
    let parts: readonly Part[] = [];
    let shown: readonly MonitorPlace[] = [];
    const sizes: string[] = [];
    const made = new MonitorCanvases(surface("page"), {
      split: (now) => (parts = now),
      changed: (_most, now) => (shown = now),
      sized: (width, height) => sizes.push(`${width}x${height}`),
    });
    const at = ({ surface: canvas, area }: Part) => `${canvas as unknown as string} ${area.x}+${area.width}x${area.height}`;
    return { made, sizes, parts: () => parts.map(at), shown: () => shown };
  }
  const places = (...widths: readonly number[]) => ({
    most: 4,
    places: widths.map((width, monitor) => ({
      monitor,
      x: widths.slice(0, monitor).reduce((sum, one) => sum + one, 0),
      y: 0,
      width,
      height: 80,
    })),
  });

  it("without other windows the page shows all of the picture, however many monitors there are", () => {
    const { made, parts, shown, sizes } = canvases();
    made.resized(300, 80);
    made.tell(places(100, 200));
    expect(parts()).toEqual([]);
    expect(shown()).toEqual([{ monitor: 0, x: 0, y: 0, width: 300, height: 80 }]);
    expect(sizes).toEqual(["300x80"]);
  });

  it("with a window each shows its own monitor, as far as there is a picture of it", () => {
    const { made, parts, shown, sizes } = canvases();
    made.resized(100, 80);
    made.tell(places(100));
    made.open(1, surface("second"));
    expect(parts()).toEqual(["page 0+100x80"]);
    made.tell(places(100, 200));
    expect(parts()).toEqual(["page 0+100x80"]);
    made.resized(300, 80);
    expect(parts()).toEqual(["page 0+100x80", "second 100+200x80"]);
    expect(shown().map(({ monitor }) => monitor)).toEqual([0, 1]);
    expect(sizes).toEqual(["100x80", "100x80"]);
  });

  it("a window that is closed changes nothing on the page until the monitor is gone", () => {
    const { made, parts } = canvases();
    made.resized(300, 80);
    made.tell(places(100, 200));
    made.open(1, surface("second"));
    made.close(1);
    expect(parts()).toEqual(["page 0+100x80"]);
    made.tell(places(100));
    made.resized(100, 80);
    expect(parts()).toEqual([]);
  });
});

describe("sizes", () => {
  it("of several windows go as one record, and the hello that follows asks for no other screen", () => {
    vi.useFakeTimers();
    const told: string[] = [];
    const follower = new WindowFollower((windows) =>
      told.push(windows.map(({ monitor, width }) => `${monitor}:${width}`).join()),
    );
    follower.resize({ width: 800, height: 600 });
    follower.setFollows(true);
    follower.others([{ monitor: 1, width: 640, height: 480 }]);
    follower.others([{ monitor: 1, width: 600, height: 480 }]);
    vi.advanceTimersByTime(1000);
    expect(told).toEqual(["0:800", "0:800,1:600"]);
    expect(follower.ofHello).toEqual({ width: 0, height: 0 });
    follower.setFollows(false);
    follower.setFollows(true);
    expect(told.slice(2)).toEqual(["0:800,1:600"]);
    follower.others([]);
    vi.advanceTimersByTime(1000);
    expect(told.slice(3)).toEqual(["0:800"]);
    expect(follower.ofHello).toEqual({ width: 800, height: 600 });
    vi.useRealTimers();
  });
});

it("the engine splits the picture for a window, and says in one record what is wanted", async () => {
  vi.useFakeTimers();
  const { engine, last, connect, drawn, events } = await rig();
  connect();
  last().tell(peer.rec(15, Uint8Array.of(4)), peer.rec(28, Uint8Array.from([4, 0, 0, 0, 0, 0, ...[0, 0, 0, 0, 50, 0, 100, 0], 1, 0, ...[50, 0, 0, 0, 50, 0, 100, 0]])));
  engine.command({ type: "openMonitor", monitor: 1, surface: {} as HTMLCanvasElement });
  engine.command({ type: "windows", windows: [{ monitor: 1, width: 640, height: 480 }] });
  await vi.advanceTimersByTimeAsync(1000);
  expect(drawn).toContain("split 0,50");
  expect(last().types()).toContain(83);
  const shown = events.filter((event) => event.type === "monitors");
  expect(shown[shown.length - 1]).toMatchObject({ most: 4, shown: [{ monitor: 0, width: 50 }, { monitor: 1, x: 50 }] });
  vi.useRealTimers();
});

it("a new window goes to the first screen that has none", () => {
  const screens = [0, 1000, 2000].map((availLeft) => ({ availLeft, availTop: 0, availWidth: 1000, availHeight: 800 }));
  const window = (screenX: number) => ({ screenX, screenY: 0, outerWidth: 400, outerHeight: 300 });
  expect(freeScreen(screens, [window(900)])?.availLeft).toBe(0);
  expect(freeScreen(screens, [window(100), window(1100)])?.availLeft).toBe(2000);
  expect(freeScreen(screens, [window(0), window(1000), window(2100)])).toBeUndefined();
});
