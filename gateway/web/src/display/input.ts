// What a person does with keyboard, mouse, pen and fingers on the picture, on its way to the guest.
//
// Two elements take keys: the canvas, and a text field for input methods and on-screen keyboards. Only one has
// the focus; `setTexting` chooses.

import type { ClipboardKeeper } from "./clipboard.js";
import { defaultSettings, type InputSettings } from "./input-settings.js";
import { Keyboard, keyName, type Platform } from "./keyboard.js";
import { strokesOf } from "./layouts.js";
import { Listeners } from "./listeners.js";
import type { Lights } from "./lock-keys.js";
import type { Outbox } from "./outbox.js";
import { buttonsOf, guestPoint, type Placement, Pointer } from "./pointer.js";
import {
  Button,
  encodeKey,
  encodePointer,
  encodePointerDelta,
  encodeReleaseAll,
  encodeWheel,
  type Rectangle,
} from "./protocol.js";
import { type Hold, StickyKeys } from "./sticky.js";
import { pastedPiece } from "./system-clipboard.js";
import { isComposed, watchField } from "./text-field.js";
import { type Point, TouchGestures } from "./touch.js";
import { Typist } from "./typist.js";

/** So much of a wheel's turn is one pixel of two fingers' way: lists follow the fingers about as fast. */
const SCROLL_PER_PIXEL = 2.5;
/** Pinching a touch pad of the person's own comes as a wheel: so much of its turn doubles the size, about. */
const PINCH_PER_TURN = 140;

/** Text that is the same key on every layout. */
const KEYS_OF_TEXT: Readonly<Record<string, string | undefined>> = { "\n": "Enter", "\t": "Tab", " ": "Space" };

/** What the page is told, and asked. */
export interface InputHooks {
  /** The keyboard asks for the page's own controls. */
  menu(): void;
  /** The mouse belongs to the guest, or does no longer. */
  locked(locked: boolean): void;
  /** A button went down or a finger tapped here, in CSS pixels of the page. */
  pointed(at: Point): void;
  /** The picture is larger than its place. */
  isLarger(): boolean;
  /** The person wants the picture larger by this factor around a place, and moved. */
  view(factor: number, around: Point, dx: number, dy: number): void;
  /** Modifiers that are held without a finger. */
  sticky(held: ReadonlyMap<string, Hold>): void;
  /** What an input method is composing; "" when nothing is. */
  composing(text: string): void;
  /** Characters that could not be typed; "" when all could. */
  missing(characters: string): void;
}

/** What the input is taken from and given to. */
export interface InputParts {
  readonly canvas: HTMLCanvasElement;
  readonly field: HTMLTextAreaElement;
  readonly platform: Platform;
  readonly clipboard: ClipboardKeeper;
  readonly outbox: Outbox;
  readonly hooks: InputHooks;
}

/** The input of one picture. */
export class InputCapture {
  private readonly keyboard: Keyboard;
  private readonly pointer: Pointer;
  private readonly sticky: StickyKeys;
  private readonly touch: TouchGestures;
  private readonly typist: Typist;
  private readonly listeners = new Listeners();
  private guest: Rectangle = { x: 0, y: 0, width: 0, height: 0 };
  /** Those of the window that the picture is in. */
  private readonly page: Document;
  private readonly view: Window;
  private connected = false;
  private mayInput = false;
  private relative = false;
  private texting = false;
  private lastButtons = 0;
  /** The mouse's own counts come while it is locked, not what the system makes of them. */
  private rawMotion = false;

  constructor(private readonly parts: InputParts) {
    const { platform, hooks, outbox, clipboard } = parts;
    this.page = parts.canvas.ownerDocument;
    this.view = this.page.defaultView ?? window;
    this.keyboard = new Keyboard(platform, {
      key: (down, code) => this.send(encodeKey(down, code)),
      releaseAll: () => this.send(encodeReleaseAll()),
      menu: () => hooks.menu(),
    });
    this.pointer = new Pointer({
      position: (x, y, buttons) => this.send(encodePointer(x, y, buttons), this.isMove(buttons)),
      delta: (dx, dy, buttons) => this.send(encodePointerDelta(dx, dy, buttons)),
      wheel: (clicks, buttons) => this.send(encodeWheel(clicks, buttons)),
      nextFrame: (callback) => void this.view.requestAnimationFrame(callback),
    });
    this.sticky = new StickyKeys({
      press: (code) => this.keyboard.hold(code),
      release: (code) => this.keyboard.letGo(code),
      changed: (held) => hooks.sticky(held),
    });
    this.typist = new Typist({
      outbox,
      lend: (text) => this.mayInput && clipboard.lend(text),
      giveBack: () => clipboard.giveBack(),
      release: () => this.keyboard.isHolding && this.releaseKeys(),
      caps: () => this.keyboard.locks.caps,
      strike: (codes) => this.keyboard.strike(codes),
      missing: (characters) => hooks.missing(characters),
    });
    this.touch = new TouchGestures({
      isPad: () => this.relative,
      isLarger: () => hooks.isLarger(),
      click: (at, button) => this.click(at, button === "left" ? Button.left : Button.right),
      press: (at) => this.point(at, Button.left),
      drag: (at) => this.point(at, Button.left),
      release: (at) => {
        this.point(at, 0);
        this.sticky.used();
      },
      move: (dx, dy) => this.moveBy(dx, dy, this.lastButtons),
      scroll: (dy) => this.pointer.wheel(-dy * SCROLL_PER_PIXEL, 0),
      view: (factor, around, dx, dy) => hooks.view(factor, around, dx, dy),
    });
    this.settings = defaultSettings;
    this.listen();
  }

  /** What the person chose. */
  set settings(settings: InputSettings) {
    this.typist.settings = settings;
    this.keyboard.commandIsControl = settings.commandIsControl;
  }

  /** Whether there is a picture to type into; without one the guest has let go of everything. */
  setConnected(connected: boolean): void {
    this.connected = connected;
    if (!connected) {
      this.keyboard.forget();
      this.keyboard.locks.forget();
      this.sticky.forget();
      this.touch.forget();
      this.typist.forget();
      this.pointer.forget();
      this.parts.outbox.forget();
    }
  }

  setMayInput(mayInput: boolean): void {
    this.mayInput = mayInput;
  }

  /** The canvas shows this part of the guest's picture. */
  setGuest(guest: Rectangle): void {
    this.guest = guest;
  }

  /** The guest has no absolute pointer. */
  setRelative(relative: boolean): void {
    this.relative = relative;
    if (!relative) {
      this.unlock();
    }
  }

  /** The guest's lights. */
  setLights(lights: Lights): void {
    this.keyboard.locks.told(lights);
  }

  /** The guest fetched what its clipboard was offered. */
  fetched(): void {
    this.typist.fetched();
  }

  /** Presses these keys (`KeyboardEvent.code`) in order and lets them go in reverse. */
  tap(codes: readonly string[]): void {
    this.keyboard.strike(codes);
    this.sticky.used();
  }

  /** A tap on a modifier of the on-screen keys. */
  toggleSticky(code: string): void {
    this.sticky.toggle(code);
  }

  /** Whether the text field takes the keys, as on-screen keyboards and input methods need it. */
  setTexting(texting: boolean): void {
    this.texting = texting;
    if (!texting && this.sticky.any) {
      this.releaseKeys();
    }
    if (texting && this.page.activeElement === this.parts.field) {
      // Only a new focus brings back an on-screen keyboard that was put away.
      this.parts.field.blur();
    }
    this.focus();
  }

  /** Keys go to the guest again. */
  focus(): void {
    const { canvas, field } = this.parts;
    (this.texting ? field : canvas).focus({ preventScroll: true });
  }

  /** Lets everything go, and takes nothing more. */
  stop(): void {
    this.parts.outbox.open();
    this.typist.forget();
    this.releaseKeys();
    this.listeners.end();
    this.unlock();
  }

  private send(bytes: Uint8Array<ArrayBuffer>, droppable = false): void {
    if (!this.mayInput) {
      return;
    }
    if (!droppable) {
      this.typist.key();
    }
    this.parts.outbox.send(bytes, droppable);
  }

  /** Whether nothing but the place changed. */
  private isMove(buttons: number): boolean {
    const same = buttons === this.lastButtons;
    this.lastButtons = buttons;
    return same;
  }

  private listen(): void {
    const { canvas, field, clipboard, hooks } = this.parts;
    const { listeners } = this;
    for (const taker of [canvas, field]) {
      listeners.on(taker, "keydown", (event) => this.keyDown(event));
      listeners.on(taker, "keyup", (event) => this.keyUp(event));
      listeners.on(taker, "focus", () => void clipboard.focused());
      listeners.on(taker, "blur", (event) => this.blurred(event));
    }
    listeners.on(canvas, "pointerenter", () => clipboard.entered());
    listeners.on(canvas, "pointerdown", (event) => this.pointerDown(event));
    listeners.on(canvas, "pointermove", (event) => this.pointerMoved(event));
    listeners.on(canvas, "pointerup", (event) => this.pointerUp(event));
    listeners.on(canvas, "pointercancel", () => this.letGo());
    listeners.on(canvas, "contextmenu", (event) => event.preventDefault());
    listeners.on(canvas, "wheel", (event) => this.wheel(event), { passive: false });
    // Safari enlarges pages by these, whatever the page says of touching.
    listeners.on(this.page, "gesturestart" as "scroll", (event) => event.preventDefault(), { passive: false });
    listeners.on(this.view, "blur", () => this.letGo());
    listeners.on(this.view, "pagehide", () => this.letGo());
    listeners.on(this.page, "visibilitychange", () => this.page.visibilityState === "hidden" && this.letGo());
    listeners.on(this.page, "pointerlockchange", () => {
      hooks.locked(this.page.pointerLockElement === canvas);
      this.letGo();
    });
    // A paste event goes to where a selection is or would be, which is never a canvas.
    listeners.on(this.page, "paste", (event) => this.pasted(event));
    // Safari pastes over what cannot be edited only where somebody says beforehand that this is right.
    listeners.on(this.page, "beforepaste" as "paste", (event) => this.hasFocus() && event.preventDefault());
    listeners.atEnd(
      watchField(field, {
        text: (text) => this.text(text),
        backspace: (count) => {
          for (let at = 0; at < count; at += 1) {
            this.tap(["Backspace"]);
          }
        },
        composing: (text) => hooks.composing(text),
      }),
    );
  }

  /** While there is no picture to type into, keys work the page: Tab reaches what lies over it. */
  private keyDown(event: KeyboardEvent): void {
    if (!this.connected || (event.target === this.parts.field && isComposed(event))) {
      return;
    }
    const isBrowsers = this.parts.clipboard.keyDown(event);
    if (this.keyboard.down(event)) {
      event.stopPropagation();
      if (!isBrowsers) {
        event.preventDefault();
      }
    } else if (keyName(event) === "" && Array.from(event.key).length === 1) {
      // A character without a key: an on-screen keyboard of the system, a remote control.
      event.preventDefault();
      this.character(event);
    }
  }

  private keyUp(event: KeyboardEvent): void {
    if (this.connected && this.keyboard.up(event)) {
      event.preventDefault();
      event.stopPropagation();
      if (!/^(Control|Alt|Shift|Meta)/.test(keyName(event))) {
        this.sticky.used();
      }
    }
  }

  private character(event: KeyboardEvent): void {
    const held = [
      ...(event.ctrlKey ? ["ControlLeft"] : []),
      ...(event.altKey ? ["AltLeft"] : []),
      ...(event.metaKey ? ["MetaLeft"] : []),
    ];
    if (held.length === 0) {
      this.text(event.key);
    } else {
      this.strikeCharacter(event.key, held);
    }
  }

  /** Text goes as text; with a modifier held it is keys of the layout that the person chose. */
  private text(text: string): void {
    if (!this.connected || !this.mayInput) {
      return;
    }
    const key = KEYS_OF_TEXT[text];
    if (key !== undefined) {
      this.tap([key]);
    } else if (this.sticky.any) {
      for (const character of text) {
        this.strikeCharacter(character, []);
      }
    } else {
      this.typist.text(text);
    }
  }

  private strikeCharacter(character: string, held: readonly string[]): void {
    const strokes = strokesOf(character, this.typist.settings.layout);
    this.parts.hooks.missing(strokes === undefined ? character : "");
    for (const { code, shift, altGr } of strokes ?? []) {
      this.keyboard.strike([...held, ...(shift ? ["ShiftLeft"] : []), ...(altGr ? ["AltRight"] : []), code]);
    }
    this.sticky.used();
  }

  private pasted(event: ClipboardEvent): void {
    if (this.hasFocus()) {
      event.preventDefault();
      void this.parts.clipboard.pasted(pastedPiece(event.clipboardData));
    }
  }

  private hasFocus(): boolean {
    const { activeElement } = this.page;
    return this.connected && (activeElement === this.parts.canvas || activeElement === this.parts.field);
  }

  /** From the canvas to the text field and back nothing is let go. */
  private blurred(event: FocusEvent): void {
    const { canvas, field } = this.parts;
    if (event.relatedTarget !== canvas && event.relatedTarget !== field) {
      this.letGo();
    }
  }

  private letGo(): void {
    this.pointer.forget();
    this.touch.forget();
    this.lastButtons = 0;
    this.releaseKeys();
  }

  private releaseKeys(): void {
    this.sticky.forget();
    this.keyboard.releaseAll();
  }

  private pointerDown(event: PointerEvent): void {
    const { canvas, clipboard, hooks } = this.parts;
    event.preventDefault();
    this.focus();
    clipboard.pressed();
    hooks.pointed({ x: event.clientX, y: event.clientY });
    if (event.pointerType === "touch") {
      this.keyboard.flush();
      this.touch.began(fingerOf(event));
      return;
    }
    if (this.relative && this.page.pointerLockElement !== canvas) {
      void this.lock();
      return;
    }
    if (!this.relative) {
      canvas.setPointerCapture(event.pointerId);
    }
    this.pointerMoved(event);
  }

  /** Where a finger's touch counts as a gesture, it does so when it ends. */
  private pointerUp(event: PointerEvent): void {
    this.parts.clipboard.pressed();
    if (event.pointerType === "touch") {
      this.touch.ended(fingerOf(event));
      return;
    }
    this.pointerMoved(event);
    if (event.buttons === 0) {
      this.sticky.used();
    }
  }

  private pointerMoved(event: PointerEvent): void {
    if (event.pointerType === "touch") {
      this.touch.moved(fingerOf(event));
      return;
    }
    if (!event.isPrimary) {
      return;
    }
    this.keyboard.flush();
    const buttons = buttonsOf(event.buttons);
    if (!this.relative) {
      this.point({ x: event.clientX, y: event.clientY }, buttons);
    } else if (this.page.pointerLockElement === this.parts.canvas) {
      this.moveBy(event.movementX, event.movementY, buttons);
    }
  }

  /** The pointer is at this place of the page. */
  private point(at: Point, buttons: number): void {
    if (this.relative) {
      this.pointer.by(0, 0, buttons);
      this.lastButtons = buttons;
    } else if (this.guest.width > 0) {
      const [x, y] = guestPoint(this.placement(), at.x, at.y);
      this.pointer.at(this.guest.x + x, this.guest.y + y, buttons);
    }
  }

  /** CSS pixels become as many of the guest's as they cover; the mouse's own counts stay what they are. */
  private moveBy(dx: number, dy: number, buttons: number): void {
    const { width, guestWidth } = this.placement();
    const scale = this.rawMotion || width <= 0 ? 1 : guestWidth / width;
    this.pointer.by(dx * scale, dy * scale, buttons);
  }

  private click(at: Point, button: number): void {
    if (!this.relative) {
      this.point(at, 0);
    }
    this.point(at, button);
    this.point(at, 0);
    this.sticky.used();
  }

  private placement(): Placement {
    const { left, top, width, height } = this.parts.canvas.getBoundingClientRect();
    return { left, top, width, height, guestWidth: this.guest.width, guestHeight: this.guest.height };
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    this.keyboard.flush();
    if (event.ctrlKey && !this.keyboard.holds(/^Control/)) {
      this.parts.hooks.view(2 ** (-event.deltaY / PINCH_PER_TURN), { x: event.clientX, y: event.clientY }, 0, 0);
      return;
    }
    // With Shift browsers turn the wheel sideways; the guest has Shift and does so itself.
    const turn = event.deltaY === 0 && event.shiftKey ? event.deltaX : event.deltaY;
    this.pointer.wheel(turn, event.deltaMode);
  }

  /** The guest speeds up the mouse itself: what the person's system adds to that is left out where possible. */
  private async lock(): Promise<void> {
    const { canvas } = this.parts;
    try {
      await request(canvas, { unadjustedMovement: true });
      this.rawMotion = true;
    } catch {
      this.rawMotion = false;
      await request(canvas).catch(() => undefined);
    }
  }

  private unlock(): void {
    if (this.page.pointerLockElement === this.parts.canvas) {
      this.page.exitPointerLock();
    }
  }
}

/** Older browsers give no promise. */
async function request(canvas: HTMLCanvasElement, options?: { unadjustedMovement: boolean }): Promise<void> {
  const ask = canvas.requestPointerLock as (options?: { unadjustedMovement: boolean }) => Promise<void> | undefined;
  await ask.call(canvas, options);
}

function fingerOf(event: PointerEvent) {
  return { id: event.pointerId, x: event.clientX, y: event.clientY, time: event.timeStamp };
}
