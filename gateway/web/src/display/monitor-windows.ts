// The windows of the guest's other monitors: opened by the person, each with a canvas, its own keyboard and its own
// pointer; closed with the page. They are blank pages of our own origin, made here, so that they need nothing that
// could be blocked or cached, and they share everything with the page: its connection, its decoder, its clipboard.

import { showCursor } from "./cursor.js";
import { watchDrops } from "./files.js";
import { fit } from "./fit.js";
import type { InputCapture, InputHooks } from "./input.js";
import { defaultSettings, type InputSettings } from "./input-settings.js";
import type { Lights } from "./lock-keys.js";
import type { EngineCommand, EngineEvent } from "./messages.js";
import type { MonitorPlace, MonitorWindowSize } from "./monitors.js";
import type { Surface } from "./painter.js";
import { wantedScreen } from "./place.js";
import type { CursorShape, WindowSize } from "./protocol.js";
import { placeOnScreen } from "./screens.js";

/** How often it is looked whether a window is still there that said nothing when it went. */
const LOOK_MS = 1000;
/** A new window has so much of the screen, until the person says otherwise. */
const PART_OF_SCREEN = 0.6;

/** What the page shows of the other monitors. */
export interface MonitorsView {
  /** The guest can have more than one monitor, and the person may say so. */
  readonly offered: boolean;
  /** There can be one more. */
  readonly more: boolean;
  /** Numbers of those that are open, counted from 1 with the page's as the first. */
  readonly open: readonly number[];
  /** The browser did not let the last one be opened. */
  readonly blocked: boolean;
}

export const NO_MONITORS: MonitorsView = { offered: false, more: false, open: [], blocked: false };

/** What the windows need of the display. */
export interface MonitorParts {
  command(command: EngineCommand, transfer?: Transferable[]): void;
  /** The canvases are drawn on by a worker. */
  transfers(): boolean;
  input(canvas: HTMLCanvasElement, field: HTMLTextAreaElement, hooks: InputHooks): InputCapture;
  /** The keyboard asks for the page's own controls. */
  menu(): void;
  /** Files may be dropped, and were. */
  takesFiles(): boolean;
  dropped(files: readonly File[]): void;
  /** What a monitor's window is called. */
  title(number: number): string;
  changed(view: MonitorsView): void;
}

/** One window. */
interface Opened {
  readonly monitor: number;
  readonly view: Window;
  readonly canvas: HTMLCanvasElement;
  readonly field: HTMLTextAreaElement;
  readonly input: InputCapture;
  room: WindowSize;
  place: MonitorPlace | undefined;
  /** What its input was told. */
  isConnected: boolean;
}

/** The windows of one display. */
export class MonitorWindows {
  private readonly opened = new Map<number, Opened>();
  private most = 1;
  private blocked = false;
  private mayInput = false;
  private follows = false;
  private connected = false;
  private relative = false;
  private lights: Lights | undefined;
  private cursor: CursorShape | undefined;
  private shown: readonly MonitorPlace[] = [];
  private chosen = defaultSettings;
  private told = "";
  private timer: ReturnType<typeof setInterval> | undefined;
  private readonly leave = () => this.closeAll();

  constructor(private readonly parts: MonitorParts) {
    window.addEventListener("pagehide", this.leave);
  }

  /** What the person chose. */
  set settings(settings: InputSettings) {
    this.chosen = settings;
    for (const one of this.opened.values()) {
      one.input.settings = settings;
      this.measure(one);
    }
  }

  /** The window in which the person works, if it is one of these. */
  get focused(): Window | undefined {
    for (const { view } of this.opened.values()) {
      if (view.document.hasFocus()) {
        return view;
      }
    }
    return undefined;
  }

  /** Opens a window for one more monitor; to be called while the person clicks. */
  add(): void {
    const monitor = this.free();
    if (!this.offered || monitor === undefined) {
      return;
    }
    const [width, height] = [screen.availWidth, screen.availHeight].map((side) => Math.round(side * PART_OF_SCREEN));
    const view = window.open("", "_blank", `popup,width=${width},height=${height}`);
    this.blocked = view === null;
    if (view !== null) {
      this.furnish(monitor, view);
      void placeOnScreen(view, [window, ...Array.from(this.opened.values(), (one) => one.view)]);
    }
    this.tell();
  }

  /** The window of a monitor comes to the front. */
  show(number: number): void {
    const one = this.opened.get(number - 1);
    one?.view.focus();
    one?.input.focus();
  }

  /** Takes a monitor from the guest. */
  close(number: number): void {
    const one = this.opened.get(number - 1);
    if (one !== undefined) {
      this.forget(one);
      one.view.close();
    }
  }

  /** Something has happened on the display. */
  take(event: EngineEvent): void {
    switch (event.type) {
      case "state":
        this.connected = event.state === "connected";
        if (event.state === "ended") {
          this.closeAll();
        }
        break;
      case "mayInput":
        this.mayInput = event.mayInput;
        break;
      case "abilities":
        this.follows = event.abilities.followsWindow;
        break;
      case "monitors":
        this.most = event.most;
        this.shown = event.shown;
        break;
      case "cursor":
        this.cursor = event.shape;
        break;
      case "pointerMode":
        this.relative = event.relative;
        break;
      case "lockKeys":
        this.lights = event;
        break;
      case "fetched":
        this.opened.forEach(({ input }) => input.fetched());
        return;
      default:
        return;
    }
    this.opened.forEach((one) => this.bringUpToDate(one));
    this.tell();
  }

  /** The display is over. */
  stop(): void {
    this.closeAll();
    window.removeEventListener("pagehide", this.leave);
  }

  private get offered(): boolean {
    return this.connected && this.mayInput && this.follows && this.most > 1;
  }

  /** The number of a monitor that has no window yet. */
  private free(): number | undefined {
    for (let monitor = 1; monitor < this.most; monitor += 1) {
      if (!this.opened.has(monitor)) {
        return monitor;
      }
    }
    return undefined;
  }

  private closeAll(): void {
    for (const number of Array.from(this.opened.keys())) {
      this.close(number + 1);
    }
  }

  private furnish(monitor: number, view: Window): void {
    const title = this.parts.title(monitor + 1);
    const { canvas, field } = fill(view.document, title);
    const surface: Surface = this.parts.transfers() ? canvas.transferControlToOffscreen() : canvas;
    const input = this.parts.input(canvas, field, {
      menu: () => {
        window.focus();
        this.parts.menu();
      },
      locked: () => undefined,
      pointed: () => undefined,
      isLarger: () => false,
      view: () => undefined,
      sticky: () => undefined,
      composing: () => undefined,
      missing: () => undefined,
    });
    input.settings = this.chosen;
    const room = { width: 0, height: 0 };
    const one: Opened = { monitor, view, canvas, field, input, room, place: undefined, isConnected: false };
    this.opened.set(monitor, one);
    view.addEventListener("resize", () => this.measure(one));
    watchDrops(view.document.documentElement, {
      offered: () => this.parts.takesFiles(),
      over: () => undefined,
      dropped: (files) => this.parts.dropped(files),
    });
    view.addEventListener("pagehide", () => this.forget(one));
    this.parts.command(
      { type: "openMonitor", monitor, surface },
      surface === canvas ? [] : [surface as OffscreenCanvas],
    );
    this.timer ??= setInterval(() => this.lookForClosed(), LOOK_MS);
    this.bringUpToDate(one);
    this.measure(one);
    input.focus();
  }

  /** The window is gone, or about to go. */
  private forget(one: Opened): void {
    if (this.opened.get(one.monitor) !== one) {
      return;
    }
    one.input.stop();
    this.opened.delete(one.monitor);
    this.parts.command({ type: "closeMonitor", monitor: one.monitor });
    if (this.opened.size === 0) {
      clearInterval(this.timer);
      this.timer = undefined;
    }
    this.tellSizes();
    this.tell();
  }

  private lookForClosed(): void {
    for (const one of Array.from(this.opened.values())) {
      if (one.view.closed) {
        this.forget(one);
      }
    }
  }

  private bringUpToDate(one: Opened): void {
    const { input, canvas } = one;
    const place = this.shown.find(({ monitor }) => monitor === one.monitor);
    one.place = place ?? one.place;
    const isLive = this.connected && place !== undefined;
    canvas.dataset["state"] = isLive ? "connected" : "lost";
    canvas.style.filter = isLive ? "" : "grayscale(1) brightness(0.6)";
    if (one.isConnected !== this.connected) {
      one.isConnected = this.connected;
      input.setConnected(this.connected);
    }
    input.setMayInput(this.mayInput);
    input.setRelative(this.relative);
    if (this.lights !== undefined) {
      input.setLights(this.lights);
    }
    // Where the guest has no such monitor yet, or none any more, nothing is pointed at.
    input.setGuest(place ?? { x: 0, y: 0, width: 0, height: 0 });
    this.layOut(one);
  }

  /** The window has another size. */
  private measure(one: Opened): void {
    const { innerWidth, innerHeight, devicePixelRatio } = one.view;
    one.room = {
      width: Math.round(innerWidth * devicePixelRatio),
      height: Math.round(innerHeight * devicePixelRatio),
    };
    this.layOut(one);
    this.tellSizes();
  }

  private layOut({ view, canvas, room, place }: Opened): void {
    const ratio = view.devicePixelRatio;
    const { left, top, width, height, crisp } = fit(room, place ?? room, ratio, this.chosen.size);
    Object.assign(canvas.style, {
      left: `${left}px`,
      top: `${top}px`,
      width: `${width}px`,
      height: `${height}px`,
      imageRendering: crisp ? "pixelated" : "auto",
      cursor: "default",
    });
    if (this.cursor !== undefined && !this.relative && place !== undefined && place.width > 0) {
      showCursor(canvas, this.cursor, width / place.width);
    }
  }

  private tellSizes(): void {
    const seen = Array.from(this.opened.values()).filter(({ room }) => room.width > 0 && room.height > 0);
    const windows: MonitorWindowSize[] = seen
      .sort((first, second) => first.monitor - second.monitor)
      .map(({ monitor, view, room }) => ({
        monitor,
        ...wantedScreen(room, view.devicePixelRatio, this.chosen.size),
      }));
    this.parts.command({ type: "windows", windows });
  }

  private tell(): void {
    const { offered, blocked } = this;
    const open = Array.from(this.opened.keys(), (monitor) => monitor + 1).sort((one, other) => one - other);
    const view: MonitorsView = { offered, more: offered && this.free() !== undefined, open, blocked };
    const now = JSON.stringify(view);
    if (now !== this.told) {
      this.told = now;
      this.parts.changed(view);
    }
  }
}

/** Makes the page of a window: the picture, and the field that takes what input methods write. */
function fill(page: Document, title: string): { canvas: HTMLCanvasElement; field: HTMLTextAreaElement } {
  page.title = title;
  page.documentElement.lang = document.documentElement.lang;
  const main = page.createElement("main");
  const heading = page.createElement("h1");
  heading.textContent = title;
  const canvas = page.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.dataset["testid"] = "monitor-canvas";
  // A screen reader must hand every key to the guest: what is in the picture is an application.
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", title);
  const field = page.createElement("textarea");
  field.tabIndex = -1;
  field.rows = 1;
  field.setAttribute("aria-label", title);
  field.spellcheck = false;
  field.autocapitalize = "off";
  field.setAttribute("autocomplete", "off");
  const hidden = { position: "absolute", width: "1px", height: "1px", overflow: "hidden", clipPath: "inset(50%)" };
  Object.assign(heading.style, hidden);
  Object.assign(field.style, { ...hidden, left: "0", top: "0" });
  Object.assign(page.body.style, { margin: "0", background: "#0b0d12", overflow: "hidden" });
  Object.assign(canvas.style, {
    position: "absolute",
    outline: "none",
    touchAction: "none",
    userSelect: "none",
    objectFit: "contain",
  });
  main.append(heading, canvas, field);
  page.body.append(main);
  return { canvas, field };
}
