// The page's end of the display: starts the engine, hands it the person's input, reports what happens.
// Knows the canvas, the text field and nothing else of the page.

import { ClipboardKeeper } from "./clipboard.js";
import { showCursor } from "./cursor.js";
import { Engine } from "./engine.js";
import { InputCapture, type InputHooks } from "./input.js";
import type { InputSettings } from "./input-settings.js";
import { platformOf } from "./keyboard.js";
import { Listeners } from "./listeners.js";
import { Media, type MediaView } from "./media.js";
import type { EngineCommand, EngineEvent } from "./messages.js";
import { MonitorWindows, type MonitorsView } from "./monitor-windows.js";
import { Outbox } from "./outbox.js";
import type { CursorShape, WindowSize } from "./protocol.js";
import { browserSurroundings } from "./surroundings.js";
import { browserClipboard } from "./system-clipboard.js";
import workerAddress from "./worker.ts?worker&url";

/** What the client is told. */
export interface DisplayOptions {
  readonly canvas: HTMLCanvasElement;
  /** Takes the keys of input methods and of on-screen keyboards. */
  readonly field: HTMLTextAreaElement;
  /** Address of the WebSocket. */
  readonly url: string;
  /** The place for the picture. */
  readonly window: WindowSize;
  /** Everything that happens; the client itself has already done its part. */
  onEvent(event: EngineEvent): void;
  /** What input asks of the page. */
  readonly hooks: InputHooks;
  /** Whether the browser refused what was copied in the guest, though the person was there. */
  onClipboardRefused(refused: boolean): void;
  /** Sound, microphone and files are like this now. */
  onMedia(view: MediaView): void;
  /** The other monitors are like this now. */
  onMonitors(view: MonitorsView): void;
  /** What a monitor's window is called, counted from 1. */
  monitorTitle(number: number): string;
}

/** One display on one canvas. The canvas is used up: a new client needs a new one. */
export class DisplayClient {
  /** Keyboard, mouse and fingers. */
  readonly input: InputCapture;
  /** Sound, microphone and files. */
  readonly media: Media;
  /** The windows of the guest's other monitors. */
  readonly monitors: MonitorWindows;
  private readonly canvas: HTMLCanvasElement;
  private readonly engine: { command(command: EngineCommand, transfer?: Transferable[]): void };
  private readonly worker: Worker | undefined;
  private readonly outbox: Outbox;
  private readonly clipboard: ClipboardKeeper;
  private readonly listeners = new Listeners();
  private guest = { x: 0, y: 0, width: 0, height: 0 };
  private cursor: CursorShape | undefined;
  private mayInput = false;
  private relative = false;

  constructor(private readonly options: DisplayOptions) {
    this.canvas = options.canvas;
    const platform = platformOf(navigator);
    this.outbox = new Outbox((bytes, droppable) =>
      this.engine.command({ type: "send", bytes, droppable }),
    );
    this.clipboard = new ClipboardKeeper(platform, {
      system: browserClipboard(() => this.monitors.focused ?? window),
      outbox: this.outbox,
      refused: (refused) => options.onClipboardRefused(refused),
      now: () => performance.now(),
    });
    this.input = new InputCapture({
      canvas: this.canvas,
      field: options.field,
      platform,
      clipboard: this.clipboard,
      outbox: this.outbox,
      hooks: options.hooks,
    });
    this.monitors = new MonitorWindows({
      command: (command, transfer) => this.engine.command(command, transfer),
      transfers: () => this.worker !== undefined,
      input: (canvas, field, hooks) => {
        const { clipboard, outbox } = this;
        return new InputCapture({ canvas, field, platform, clipboard, outbox, hooks });
      },
      menu: () => options.hooks.menu(),
      takesFiles: () => this.media.takesFiles,
      dropped: (files) => this.media.addFiles(files),
      title: (number) => options.monitorTitle(number),
      changed: (view) => options.onMonitors(view),
    });
    this.media = new Media({
      send: (bytes) => this.engine.command({ type: "send", bytes, droppable: false }),
      upload: (bytes) => this.engine.command({ type: "upload", bytes }),
      changed: (view) => options.onMedia(view),
    });
    this.worker = startWorker();
    this.engine = this.worker === undefined ? this.engineOnPage() : this.engineInWorker(this.worker);
    this.listen();
    this.canvas.dataset["state"] = "connecting";
    this.canvas.dataset["frames"] = "0";
    const surface = this.worker === undefined ? this.canvas : this.canvas.transferControlToOffscreen();
    this.engine.command(
      { type: "start", surface, url: options.url, window: options.window },
      surface === this.canvas ? [] : [surface as OffscreenCanvas],
    );
  }

  /** Dials at once instead of after the pause. */
  retry(): void {
    this.engine.command({ type: "retry" });
  }

  /** Takes the session back after it was opened elsewhere. */
  takeBack(): void {
    this.engine.command({ type: "takeBack" });
  }

  /** Sends a record that has nothing to do with input. */
  send(record: Uint8Array<ArrayBuffer>): void {
    this.engine.command({ type: "send", bytes: record, droppable: false });
  }

  /** The place for the picture has another size. */
  resized(window: WindowSize): void {
    this.engine.command({ type: "window", window });
  }

  /** What the person chose. */
  set settings(settings: InputSettings) {
    this.input.settings = settings;
    this.monitors.settings = settings;
  }

  /** The canvas is shown at another size. */
  placed(): void {
    this.showCursor();
  }

  /** Ends the display; the canvas keeps its last picture. */
  stop(): void {
    this.input.stop();
    this.media.stop();
    this.monitors.stop();
    this.listeners.end();
    this.engine.command({ type: "stop" });
    this.worker?.terminate();
  }

  private engineInWorker(worker: Worker) {
    worker.onmessage = (message: MessageEvent<EngineEvent>) => this.take(message.data);
    return {
      command: (command: EngineCommand, transfer: Transferable[] = []) =>
        worker.postMessage(command, transfer),
    };
  }

  private engineOnPage() {
    return new Engine(browserSurroundings((event) => this.take(event)));
  }

  private take(event: EngineEvent): void {
    this.monitors.take(event);
    switch (event.type) {
      case "state":
        this.canvas.dataset["state"] = event.state;
        this.input.setConnected(event.state === "connected");
        break;
      case "monitors":
        this.guest = event.shown[0] ?? this.guest;
        this.input.setGuest(this.guest);
        this.showCursor();
        break;
      case "frame":
        this.canvas.dataset["frames"] = String(event.count);
        break;
      case "mayInput":
        this.mayInput = event.mayInput;
        this.input.setMayInput(event.mayInput);
        break;
      case "abilities":
        this.clipboard.setTakes(event.abilities.takesClipboard && this.mayInput);
        this.media.setAbilities(event.abilities);
        break;
      case "media":
        this.media.take(event.kind, event.bytes);
        break;
      case "clipboardComing":
        this.clipboard.coming();
        break;
      case "clipboard":
        this.clipboard.given(event.piece);
        break;
      case "cursor":
        this.cursor = event.shape;
        this.showCursor();
        break;
      case "pointerMode":
        this.relative = event.relative;
        this.input.setRelative(event.relative);
        this.showCursor();
        break;
      case "fetched":
        this.input.fetched();
        break;
      case "lockKeys":
        this.input.setLights(event);
        break;
      default:
        break;
    }
    this.options.onEvent(event);
  }

  private showCursor(): void {
    const { cursor, canvas } = this;
    if (this.relative) {
      // The page draws the guest's pointer itself where the guest says it is.
      canvas.style.cursor = "default";
    } else if (cursor !== undefined) {
      const shown = canvas.getBoundingClientRect().width;
      showCursor(canvas, cursor, this.guest.width > 0 ? shown / this.guest.width : 1);
    }
  }

  private listen(): void {
    const { listeners } = this;
    listeners.on(window, "online", () => this.retry());
    // The page comes back from where the browser keeps those that were left, its sockets closed.
    listeners.on(window, "pageshow", (event) => (event as PageTransitionEvent).persisted && this.retry());
    this.watchNetwork();
    listeners.on(document, "visibilitychange", () => document.visibilityState === "visible" && this.retry());
  }

  /** Another network may mean another address: what is open may be dead without knowing it. */
  private watchNetwork(): void {
    const { connection } = navigator as { readonly connection?: EventTarget };
    const changed = () => this.retry();
    connection?.addEventListener("change", changed);
    this.listeners.atEnd(() => connection?.removeEventListener("change", changed));
  }
}

/** undefined where a worker cannot draw or decode: the engine then runs on the page. */
function startWorker(): Worker | undefined {
  const able =
    typeof Worker === "function" &&
    typeof OffscreenCanvas === "function" &&
    typeof createImageBitmap === "function" &&
    "transferControlToOffscreen" in HTMLCanvasElement.prototype;
  if (!able || !drawsOffscreen()) {
    return undefined;
  }
  try {
    return new Worker(trusted(workerAddress) as string);
  } catch (error) {
    console.warn("the display draws on the page, since its worker does not start", error);
    return undefined;
  }
}

/** Some browsers have OffscreenCanvas without its 2D context. */
function drawsOffscreen(): boolean {
  try {
    return new OffscreenCanvas(1, 1).getContext("2d") !== null;
  } catch {
    return false;
  }
}

interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL(address: string): string },
  ): { createScriptURL(address: string): unknown };
}

let policy: ReturnType<TrustedTypes["createPolicy"]> | undefined;

/** The pages run under Trusted Types: the one script address that is ever made is the worker's. */
function trusted(address: string): unknown {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  if (trustedTypes === undefined) {
    return address;
  }
  policy ??= trustedTypes.createPolicy("vidi", {
    createScriptURL(wanted) {
      if (wanted !== workerAddress) {
        throw new TypeError("only the display's own worker may be started");
      }
      return wanted;
    },
  });
  return policy.createScriptURL(address);
}
