// The page's end of the display: starts the engine, captures input on the canvas, reports what happens.
// Knows the canvas and nothing else of the page.

import { ClipboardKeeper } from "./clipboard.js";
import { cssCursor } from "./cursor.js";
import { Engine } from "./engine.js";
import { Keyboard, platformOf } from "./keyboard.js";
import type { EngineCommand, EngineEvent } from "./messages.js";
import { Outbox } from "./outbox.js";
import { buttonsOf, guestPoint, Pointer } from "./pointer.js";
import {
  type CursorShape,
  encodeKey,
  encodePointer,
  encodePointerDelta,
  encodeReleaseAll,
  encodeWheel,
  type WindowSize,
} from "./protocol.js";
import { scanCode } from "./scan-codes.js";
import { browserSurroundings } from "./surroundings.js";
import { browserClipboard, pastedPiece } from "./system-clipboard.js";
import workerAddress from "./worker.ts?worker&url";

/** What the client is told. */
export interface DisplayOptions {
  readonly canvas: HTMLCanvasElement;
  /** Address of the WebSocket. */
  readonly url: string;
  /** The place for the picture. */
  readonly window: WindowSize;
  /** Everything that happens; the client itself has already done its part. */
  onEvent(event: EngineEvent): void;
  /** The keyboard asks for the page's own controls. */
  onMenu(): void;
  /** Whether the browser refused what was copied in the guest, though the person was there. */
  onClipboardRefused(refused: boolean): void;
}

/** One display on one canvas. The canvas is used up: a new client needs a new one. */
export class DisplayClient {
  private readonly canvas: HTMLCanvasElement;
  private readonly engine: { command(command: EngineCommand, transfer?: Transferable[]): void };
  private readonly worker: Worker | undefined;
  private readonly keyboard: Keyboard;
  private readonly pointer: Pointer;
  private readonly outbox: Outbox;
  private readonly clipboard: ClipboardKeeper;
  private readonly cleanups: (() => void)[] = [];
  private guest = { width: 0, height: 0 };
  private cursor: CursorShape | undefined;
  private connected = false;
  private mayInput = false;
  private relative = false;
  private lastButtons = 0;

  constructor(private readonly options: DisplayOptions) {
    this.canvas = options.canvas;
    const platform = platformOf(navigator);
    this.outbox = new Outbox((bytes, droppable) =>
      this.engine.command({ type: "send", bytes, droppable }),
    );
    this.clipboard = new ClipboardKeeper(platform, {
      system: browserClipboard,
      outbox: this.outbox,
      refused: (refused) => options.onClipboardRefused(refused),
      now: () => performance.now(),
    });
    this.keyboard = new Keyboard(platform, {
      key: (down, code) => this.send(encodeKey(down, code)),
      releaseAll: () => this.send(encodeReleaseAll()),
      menu: () => options.onMenu(),
    });
    this.pointer = new Pointer({
      position: (x, y, buttons) => this.send(encodePointer(x, y, buttons), this.isMove(buttons)),
      delta: (dx, dy, buttons) => this.send(encodePointerDelta(dx, dy, buttons)),
      wheel: (clicks, buttons) => this.send(encodeWheel(clicks, buttons)),
      nextFrame: (callback) => void requestAnimationFrame(callback),
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

  /** Presses these keys (`KeyboardEvent.code`) in order and lets them go in reverse. */
  tap(codes: readonly string[]): void {
    const keys = codes.map((code) => scanCode(code) ?? []).filter((code) => code.length > 0);
    for (const code of keys) {
      this.send(encodeKey(true, code));
    }
    for (const code of keys.reverse()) {
      this.send(encodeKey(false, code));
    }
  }

  /** Dials at once instead of after the pause. */
  retry(): void {
    this.engine.command({ type: "retry" });
  }

  /** Takes the session back after it was opened elsewhere. */
  takeBack(): void {
    this.engine.command({ type: "takeBack" });
  }

  /** The place for the picture has another size. */
  resized(window: WindowSize): void {
    this.engine.command({ type: "window", window });
  }

  /** The canvas is shown at another size. */
  placed(): void {
    this.showCursor();
  }

  /** Ends the display; the canvas keeps its last picture. */
  stop(): void {
    this.outbox.open();
    this.keyboard.releaseAll();
    for (const cleanup of this.cleanups) {
      cleanup();
    }
    this.engine.command({ type: "stop" });
    this.worker?.terminate();
    if (document.pointerLockElement === this.canvas) {
      document.exitPointerLock();
    }
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
    switch (event.type) {
      case "state":
        this.canvas.dataset["state"] = event.state;
        this.connected = event.state === "connected";
        if (event.state !== "connected") {
          this.keyboard.forget();
          this.pointer.forget();
          this.outbox.forget();
        }
        break;
      case "size":
        this.guest = { width: event.width, height: event.height };
        break;
      case "frame":
        this.canvas.dataset["frames"] = String(event.count);
        break;
      case "mayInput":
        this.mayInput = event.mayInput;
        break;
      case "abilities":
        this.clipboard.setTakes(event.abilities.takesClipboard && this.mayInput);
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
        this.setRelative(event.relative);
        break;
      default:
        break;
    }
    this.options.onEvent(event);
  }

  private send(bytes: Uint8Array<ArrayBuffer>, droppable = false): void {
    if (this.mayInput) {
      this.outbox.send(bytes, droppable);
    }
  }

  /** Whether nothing but the place changed. */
  private isMove(buttons: number): boolean {
    const same = buttons === this.lastButtons;
    this.lastButtons = buttons;
    return same;
  }

  private setRelative(relative: boolean): void {
    this.relative = relative;
    if (!relative && document.pointerLockElement === this.canvas) {
      document.exitPointerLock();
    }
    this.showCursor();
  }

  private showCursor(): void {
    const { cursor, canvas } = this;
    if (this.relative) {
      // The page draws the guest's pointer itself where the guest says it is.
      canvas.style.cursor = "default";
    } else if (cursor !== undefined) {
      const shown = canvas.getBoundingClientRect().width;
      // A browser that does not know the scaled form keeps the first.
      canvas.style.cursor = cssCursor(cursor, 1);
      canvas.style.cursor = cssCursor(cursor, this.guest.width > 0 ? shown / this.guest.width : 1);
    }
  }

  private listen(): void {
    const { canvas } = this;
    this.on(canvas, "keydown", (event) => this.keyDown(event));
    this.on(canvas, "keyup", (event) => this.keyUp(event));
    this.on(canvas, "focus", () => void this.clipboard.focused());
    this.on(canvas, "pointerenter", () => this.clipboard.entered());
    this.on(canvas, "pointerdown", (event) => this.pointerDown(event));
    this.on(canvas, "pointermove", (event) => this.pointerMoved(event));
    this.on(canvas, "pointerup", (event) => this.pointerUp(event));
    this.on(canvas, "pointercancel", () => this.letGo());
    this.on(canvas, "contextmenu", (event) => event.preventDefault());
    this.on(canvas, "wheel", (event) => this.wheel(event), { passive: false });
    this.on(canvas, "blur", () => this.letGo());
    this.on(window, "blur", () => this.letGo());
    this.on(window, "pagehide", () => this.letGo());
    this.on(window, "online", () => this.retry());
    // A paste event goes to where a selection is or would be, which is never a canvas.
    this.on(document, "paste", (event) => this.pasted(event));
    // Safari pastes over what cannot be edited only where somebody says beforehand that this is right.
    this.on(document, "beforepaste" as "paste", (event) => this.isOverPicture() && event.preventDefault());
    this.on(document, "visibilitychange", () => {
      if (document.visibilityState === "hidden") {
        this.letGo();
      } else {
        this.retry();
      }
    });
  }

  private on<Target extends HTMLElement | Window | Document, Name extends keyof Events<Target>>(
    target: Target,
    name: Name & string,
    handler: (event: Events<Target>[Name]) => void,
    options?: AddEventListenerOptions,
  ): void {
    const listener = handler as unknown as EventListener;
    target.addEventListener(name, listener, options);
    this.cleanups.push(() => target.removeEventListener(name, listener, options));
  }

  /** While there is no picture to type into, keys work the page: Tab reaches what lies over it. */
  private keyDown(event: KeyboardEvent): void {
    if (!this.connected) {
      return;
    }
    const isBrowsers = this.clipboard.keyDown(event);
    if (this.keyboard.down(event)) {
      event.stopPropagation();
      if (!isBrowsers) {
        event.preventDefault();
      }
    }
  }

  private keyUp(event: KeyboardEvent): void {
    if (this.connected && this.keyboard.up(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  private pasted(event: ClipboardEvent): void {
    if (this.isOverPicture()) {
      event.preventDefault();
      void this.clipboard.pasted(pastedPiece(event.clipboardData));
    }
  }

  private isOverPicture(): boolean {
    return this.connected && document.activeElement === this.canvas;
  }

  private letGo(): void {
    this.pointer.forget();
    this.lastButtons = 0;
    this.keyboard.releaseAll();
  }

  private pointerDown(event: PointerEvent): void {
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.clipboard.pressed();
    if (this.relative && document.pointerLockElement !== this.canvas) {
      void Promise.resolve(this.canvas.requestPointerLock()).catch(() => undefined);
      return;
    }
    if (!this.relative) {
      this.canvas.setPointerCapture(event.pointerId);
    }
    this.pointerMoved(event);
  }

  /** Where a finger's touch counts as a gesture, it does so when it ends. */
  private pointerUp(event: PointerEvent): void {
    this.clipboard.pressed();
    this.pointerMoved(event);
  }

  private pointerMoved(event: PointerEvent): void {
    if (!event.isPrimary) {
      return;
    }
    this.keyboard.flush();
    const buttons = buttonsOf(event.buttons);
    if (!this.relative) {
      const box = this.canvas.getBoundingClientRect();
      const { left, top, width, height } = box;
      const placement = {
        left,
        top,
        width,
        height,
        guestWidth: this.guest.width,
        guestHeight: this.guest.height,
      };
      this.pointer.at(...guestPoint(placement, event.clientX, event.clientY), buttons);
    } else if (document.pointerLockElement === this.canvas) {
      this.pointer.by(event.movementX, event.movementY, buttons);
    }
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    this.keyboard.flush();
    this.pointer.wheel(event.deltaY, event.deltaMode);
  }
}

type Events<Target> = Target extends Window
  ? WindowEventMap
  : Target extends Document
    ? DocumentEventMap
    : HTMLElementEventMap;

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
