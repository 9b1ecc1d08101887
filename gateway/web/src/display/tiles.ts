// The tile cache: what was shown before, in slots that the gateway names.

import type { Context, Surface } from "./painter.js";
import { ProtocolError } from "./protocol.js";

/** Side of a tile. */
export const TILE_SIDE = 64;
/** What a slot costs: its pixels. */
const TILE_BYTES = TILE_SIDE * TILE_SIDE * 4;
/** More slots than this are never named. */
const SLOTS_MAX = 8192;
/** Tiles in a row of a page, and rows. A page is 1024 x 1024 pixels, 4 MiB, and made when it is needed. */
const PAGE_TILES = 16;
const PAGE_SLOTS = PAGE_TILES * PAGE_TILES;

/** The slots of one view. */
export class TileCache {
  private readonly pages: (Context | undefined)[] = [];
  /** Width and height of each slot's tile; 0 where the slot is empty. */
  private readonly widths: Uint8Array;
  private readonly heights: Uint8Array;
  /** How many slots there are. */
  readonly slots: number;

  constructor(
    bytes: number,
    private readonly makePage: (width: number, height: number) => Context,
  ) {
    this.slots = Math.min(Math.floor(bytes / TILE_BYTES), SLOTS_MAX);
    this.widths = new Uint8Array(this.slots);
    this.heights = new Uint8Array(this.slots);
  }

  /** All slots are empty from now on. */
  clear(): void {
    this.widths.fill(0);
    this.heights.fill(0);
  }

  /** Remembers the tile at this place of the view. */
  keep(view: Surface, x: number, y: number, slot: number): void {
    if (slot >= this.slots) {
      throw new ProtocolError(`slot ${slot} of the tile cache was never offered`);
    }
    const width = Math.min(TILE_SIDE, view.width - x);
    const height = Math.min(TILE_SIDE, view.height - y);
    if (width <= 0 || height <= 0) {
      throw new ProtocolError("a tile to keep lies outside the surface");
    }
    const [left, top] = place(slot);
    this.page(slot).drawImage(view, x, y, width, height, left, top, width, height);
    this.widths[slot] = width;
    this.heights[slot] = height;
  }

  /** Draws what the slot holds; false when that is nothing. */
  recall(context: Context, x: number, y: number, slot: number): boolean {
    const width = this.widths[slot] ?? 0;
    const height = this.heights[slot] ?? 0;
    const page = this.pages[Math.floor(slot / PAGE_SLOTS)];
    if (width === 0 || page === undefined) {
      return false;
    }
    if (x + width > context.canvas.width || y + height > context.canvas.height) {
      throw new ProtocolError("a tile reaches beyond the surface");
    }
    const [left, top] = place(slot);
    context.drawImage(page.canvas, left, top, width, height, x, y, width, height);
    return true;
  }

  private page(slot: number): Context {
    const index = Math.floor(slot / PAGE_SLOTS);
    let page = this.pages[index];
    if (page === undefined) {
      const side = PAGE_TILES * TILE_SIDE;
      const slots = Math.min(PAGE_SLOTS, this.slots - index * PAGE_SLOTS);
      page = this.makePage(side, Math.ceil(slots / PAGE_TILES) * TILE_SIDE);
      this.pages[index] = page;
    }
    return page;
  }
}

function place(slot: number): [number, number] {
  const within = slot % PAGE_SLOTS;
  return [(within % PAGE_TILES) * TILE_SIDE, Math.floor(within / PAGE_TILES) * TILE_SIDE];
}
