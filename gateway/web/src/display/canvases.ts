// Which part of the guest's picture each window shows: one canvas for each monitor that has a window.

import { FIRST_MONITOR, type MonitorPlace, type Monitors } from "./monitors.js";
import type { Part, Surface } from "./painter.js";
import type { Rectangle } from "./protocol.js";

/** What is known before the guest has said anything. */
const UNKNOWN: Monitors = { most: 1, places: [] };

/** Where the decisions go. */
export interface CanvasOutlets {
  /** From now on these canvases show these parts of the picture; the page's own shows all of it where there is none. */
  split(parts: readonly Part[]): void;
  /** How many monitors there can be, and what is shown where: the page's part first. */
  changed(most: number, shown: readonly MonitorPlace[]): void;
  /** The page's part has this size, and nothing on it or something else. */
  sized(width: number, height: number): void;
}

/** The canvases of one display. */
export class MonitorCanvases {
  private told = UNKNOWN;
  private size = { width: 0, height: 0 };
  private readonly surfaces = new Map<number, Surface>();
  /** The page shows its own monitor only. It stays so until the guest has no other. */
  private isSplit = false;
  private before = "";
  private sizedBefore = "";

  constructor(
    private readonly main: Surface,
    private readonly outlets: CanvasOutlets,
  ) {}

  /** A monitor has a window. */
  open(monitor: number, surface: Surface): void {
    this.surfaces.set(monitor, surface);
    this.arrange();
  }

  /** It has none any more. */
  close(monitor: number): void {
    this.surfaces.delete(monitor);
    this.arrange();
  }

  /** The guest says where its monitors are. */
  tell(monitors: Monitors): void {
    this.told = monitors;
    this.arrange();
  }

  /** Another connection: nothing that was said holds. What is shown stays. */
  forget(): void {
    this.told = { ...this.told, most: 1 };
    this.arrange();
  }

  /** The picture has this size now, and nothing on it. */
  resized(width: number, height: number): void {
    this.size = { width, height };
    this.before = "";
    this.sizedBefore = "";
    this.arrange();
  }

  private arrange(): void {
    const whole = { monitor: FIRST_MONITOR, x: 0, y: 0, ...this.size };
    const places = this.told.places.map((place) => ({ ...place, ...clipped(place, this.size) }));
    const seen = places.filter(({ width, height }) => width > 0 && height > 0);
    const first = seen.find(({ monitor }) => monitor === FIRST_MONITOR);
    this.isSplit = first !== undefined && (this.surfaces.size > 0 || (this.isSplit && seen.length > 1));
    const shown = first === undefined || !this.isSplit ? [whole] : [first, ...seen.filter((one) => one !== first)];
    const parts = shown.flatMap((area) => {
      const surface = area.monitor === FIRST_MONITOR ? this.main : this.surfaces.get(area.monitor);
      return surface === undefined ? [] : [{ surface, area }];
    });
    this.outlets.split(this.isSplit ? parts : []);
    const [{ width, height } = whole] = shown;
    if (this.sizedBefore !== `${width}x${height}`) {
      this.sizedBefore = `${width}x${height}`;
      this.outlets.sized(width, height);
    }
    const now = JSON.stringify([this.told.most, shown]);
    if (now !== this.before) {
      this.before = now;
      this.outlets.changed(this.told.most, shown);
    }
  }
}

/** The part of a rectangle that lies on the picture. */
function clipped(area: Rectangle, size: { width: number; height: number }): Rectangle {
  const [x, y] = [Math.min(area.x, size.width), Math.min(area.y, size.height)];
  return { x, y, width: Math.min(area.width, size.width - x), height: Math.min(area.height, size.height - y) };
}
