// Draws records onto a canvas so that every pixel is the guest's own.

import { type PaletteImage, palettePixels } from "./palette.js";
import type { Picture } from "./pictures.js";
import { ProtocolError, type Rectangle, type Tiles } from "./protocol.js";
import { TILE_SIDE, TileCache } from "./tiles.js";

/** A canvas that the painter can own: on the page or transferred to a worker. */
export type Surface = HTMLCanvasElement | OffscreenCanvas;

/** A part of the picture, and the canvas that shows it. */
export interface Part {
  readonly surface: Surface;
  readonly area: Rectangle;
}

/** What the engine needs of a drawing surface. */
export interface Painter {
  readonly width: number;
  readonly height: number;
  resize(width: number, height: number): void;
  fill(area: Rectangle, red: number, green: number, blue: number): void;
  copy(area: Rectangle, sourceX: number, sourceY: number): void;
  raw(area: Rectangle, pixels: Uint8ClampedArray): void;
  palette(image: PaletteImage): void;
  picture(area: Rectangle, picture: Picture): void;
  /** Stretches a picture to its area. */
  video(area: Rectangle, picture: VideoFrame): void;
  keep(tiles: Tiles): void;
  /** False when a slot was empty: the picture is wrong there. */
  recall(tiles: Tiles): boolean;
  /** Shows parts of the picture, each on a canvas; the whole on its own canvas where there are none. */
  split(parts: readonly Part[]): void;
  /** What was drawn is a whole picture: to be shown on all canvases. */
  present(): void;
}

export type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

/** Opaque: no pixel is ever blended. The standard colour space: no pixel is ever converted. `desynchronized`
 * stays off: it may show half a frame. */
const SETTINGS: CanvasRenderingContext2DSettings = { alpha: false, colorSpace: "srgb" };

const NOTHING: Rectangle = { x: 0, y: 0, width: 0, height: 0 };

/** Painter of a 2D canvas. */
export class CanvasPainter implements Painter {
  /** What is drawn on: the canvas itself, or one that nobody sees while parts of it are shown. */
  private surface: Surface;
  private context: Context;
  private readonly tiles: TileCache;
  private parts: readonly Part[] = [];
  /** What was drawn and is not yet shown on the canvases of the parts. */
  private unseen = NOTHING;
  /** Holds what is copied from one place of the canvas to another; as large as was needed so far. */
  private scratch: Context | undefined;

  /** With so many bytes for tiles that were shown before. */
  constructor(
    private readonly own: Surface,
    tileCacheBytes: number,
  ) {
    this.surface = own;
    this.context = contextOf(own);
    this.tiles = new TileCache(tileCacheBytes, (width, height) => newContext(own, width, height));
  }

  get width(): number {
    return this.surface.width;
  }

  get height(): number {
    return this.surface.height;
  }

  /** Whatever was drawn before is void. */
  resize(width: number, height: number): void {
    setSize(this.surface, width, height);
    this.context.imageSmoothingEnabled = false;
    this.tiles.clear();
    this.scratch = undefined;
  }

  fill(area: Rectangle, red: number, green: number, blue: number): void {
    this.check(area);
    this.context.fillStyle = `rgb(${red},${green},${blue})`;
    this.context.fillRect(area.x, area.y, area.width, area.height);
  }

  /** What is copied is read as a whole before it is written, so the regions may overlap. It goes by another
   * canvas: one that is drawn onto itself is copied by the browser with all its pixels, and that costs five
   * times as much. */
  copy(area: Rectangle, sourceX: number, sourceY: number): void {
    this.check(area);
    const { x, y, width, height } = area;
    this.check({ x: sourceX, y: sourceY, width, height });
    const scratch = this.scratchOf(width, height);
    scratch.drawImage(this.surface, sourceX, sourceY, width, height, 0, 0, width, height);
    this.context.drawImage(scratch.canvas, 0, 0, width, height, x, y, width, height);
  }

  raw(area: Rectangle, pixels: Uint8ClampedArray): void {
    this.check(area);
    const data = new ImageData(pixels as Uint8ClampedArray<ArrayBuffer>, area.width, area.height);
    this.context.putImageData(data, area.x, area.y);
  }

  palette(image: PaletteImage): void {
    this.raw(image.area, palettePixels(image));
  }

  picture(area: Rectangle, picture: Picture): void {
    this.check(area);
    if (picture.width !== area.width || picture.height !== area.height) {
      throw new ProtocolError("an image has another size than its record says");
    }
    this.context.drawImage(picture, area.x, area.y);
  }

  video(area: Rectangle, picture: VideoFrame): void {
    this.check(area);
    const { x, y, width, height } = area;
    const { context } = this;
    // Only where it is really stretched: an odd side is one pixel less of the coded picture's.
    context.imageSmoothingEnabled =
      Math.abs(picture.displayWidth - width) > 1 || Math.abs(picture.displayHeight - height) > 1;
    context.drawImage(picture, x, y, width, height);
    context.imageSmoothingEnabled = false;
  }

  keep(tiles: Tiles): void {
    for (let index = 0; index < tiles.count; index += 1) {
      this.tiles.keep(this.surface, tiles.x(index), tiles.y(index), tiles.slot(index));
    }
  }

  recall(tiles: Tiles): boolean {
    let known = true;
    for (let index = 0; index < tiles.count; index += 1) {
      if (this.parts.length > 0) {
        this.unseen = around(this.unseen, { x: tiles.x(index), y: tiles.y(index), width: TILE_SIDE, height: TILE_SIDE });
      }
      const drawn = this.tiles.recall(this.context, tiles.x(index), tiles.y(index), tiles.slot(index));
      known &&= drawn;
    }
    return known;
  }

  split(parts: readonly Part[]): void {
    const { own, surface } = this;
    if (parts.length > 0 && surface === own) {
      this.drawOn(newSurface(own, own.width, own.height));
    } else if (parts.length === 0 && surface !== own) {
      setSize(own, surface.width, surface.height);
      this.drawOn(own);
    }
    this.parts = parts;
    for (const part of parts) {
      setSize(part.surface, part.area.width, part.area.height);
    }
    this.unseen = { x: 0, y: 0, width: this.width, height: this.height };
    this.present();
  }

  present(): void {
    for (const { surface, area } of this.parts) {
      const { x, y, width, height } = common(area, this.unseen);
      if (width > 0 && height > 0) {
        contextOf(surface).drawImage(this.surface, x, y, width, height, x - area.x, y - area.y, width, height);
      }
    }
    this.unseen = NOTHING;
  }

  /** The picture moves to another canvas. */
  private drawOn(surface: Surface): void {
    const before = this.surface;
    this.surface = surface;
    this.context = contextOf(surface);
    this.context.imageSmoothingEnabled = false;
    if (before.width > 0 && before.height > 0) {
      this.context.drawImage(before, 0, 0);
    }
  }

  private scratchOf(width: number, height: number): Context {
    const canvas = this.scratch?.canvas;
    if (this.scratch === undefined || canvas === undefined || canvas.width < width || canvas.height < height) {
      const wide = Math.max(width, canvas?.width ?? 0);
      const high = Math.max(height, canvas?.height ?? 0);
      this.scratch = newContext(this.surface, wide, high);
    }
    return this.scratch;
  }

  private check(area: Rectangle): void {
    if (area.x + area.width > this.width || area.y + area.height > this.height) {
      throw new ProtocolError("a rectangle reaches beyond the surface");
    }
    if (this.parts.length > 0) {
      this.unseen = around(this.unseen, area);
    }
  }
}

function contextOf(surface: Surface): Context {
  const context = surface.getContext("2d", SETTINGS) as Context | null;
  if (context === null) {
    throw new Error("this browser offers no 2D canvas");
  }
  return context;
}

/** A canvas that is given its own size again loses its picture. */
function setSize(surface: Surface, width: number, height: number): void {
  if (surface.width !== width) {
    surface.width = width;
  }
  if (surface.height !== height) {
    surface.height = height;
  }
}

/** The least rectangle that has both. */
function around(one: Rectangle, other: Rectangle): Rectangle {
  if (one.width === 0) {
    return other;
  }
  const [x, y] = [Math.min(one.x, other.x), Math.min(one.y, other.y)];
  const right = Math.max(one.x + one.width, other.x + other.width);
  const bottom = Math.max(one.y + one.height, other.y + other.height);
  return { x, y, width: right - x, height: bottom - y };
}

/** What two rectangles have in common. */
function common(one: Rectangle, other: Rectangle): Rectangle {
  const [x, y] = [Math.max(one.x, other.x), Math.max(one.y, other.y)];
  const right = Math.min(one.x + one.width, other.x + other.width);
  const bottom = Math.min(one.y + one.height, other.y + other.height);
  return { x, y, width: right - x, height: bottom - y };
}

/** Draws on a surface beside this one. */
function newContext(beside: Surface, width: number, height: number): Context {
  const context = contextOf(newSurface(beside, width, height));
  context.imageSmoothingEnabled = false;
  return context;
}

/** A surface beside this one, of its kind. */
function newSurface(beside: Surface, width: number, height: number): Surface {
  if (typeof OffscreenCanvas === "function" && beside instanceof OffscreenCanvas) {
    return new OffscreenCanvas(width, height);
  }
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}
