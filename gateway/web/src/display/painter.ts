// Draws records onto a canvas so that every pixel is the guest's own.

import { ProtocolError, type Rectangle } from "./protocol.js";

/** A canvas that the painter can own: on the page or transferred to a worker. */
export type Surface = HTMLCanvasElement | OffscreenCanvas;
/** A decoded image; `close` frees it where the browser offers that. */
export type Picture = ImageBitmap | HTMLImageElement;

/** What the engine needs of a drawing surface. */
export interface Painter {
  readonly width: number;
  readonly height: number;
  resize(width: number, height: number): void;
  fill(area: Rectangle, red: number, green: number, blue: number): void;
  copy(area: Rectangle, sourceX: number, sourceY: number): void;
  raw(area: Rectangle, pixels: Uint8ClampedArray): void;
  picture(area: Rectangle, picture: Picture): void;
}

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

/** Painter of a 2D canvas. */
export class CanvasPainter implements Painter {
  private readonly context: Context;

  constructor(private readonly surface: Surface) {
    // Opaque: no pixel is ever blended. The standard colour space: no pixel is ever converted.
    // `desynchronized` stays off: it may show half a frame.
    const settings: CanvasRenderingContext2DSettings = { alpha: false, colorSpace: "srgb" };
    const context = surface.getContext("2d", settings) as Context | null;
    if (context === null) {
      throw new Error("this browser offers no 2D canvas");
    }
    this.context = context;
  }

  get width(): number {
    return this.surface.width;
  }

  get height(): number {
    return this.surface.height;
  }

  /** Whatever was drawn before is void. */
  resize(width: number, height: number): void {
    if (this.surface.width !== width) {
      this.surface.width = width;
    }
    if (this.surface.height !== height) {
      this.surface.height = height;
    }
    this.context.imageSmoothingEnabled = false;
  }

  fill(area: Rectangle, red: number, green: number, blue: number): void {
    this.check(area);
    this.context.fillStyle = `rgb(${red},${green},${blue})`;
    this.context.fillRect(area.x, area.y, area.width, area.height);
  }

  /** The canvas is read as a whole before it is written, so the regions may overlap. */
  copy(area: Rectangle, sourceX: number, sourceY: number): void {
    this.check(area);
    const { x, y, width, height } = area;
    this.check({ x: sourceX, y: sourceY, width, height });
    this.context.drawImage(this.surface, sourceX, sourceY, width, height, x, y, width, height);
  }

  raw(area: Rectangle, pixels: Uint8ClampedArray): void {
    this.check(area);
    const data = new ImageData(pixels as Uint8ClampedArray<ArrayBuffer>, area.width, area.height);
    this.context.putImageData(data, area.x, area.y);
  }

  picture(area: Rectangle, picture: Picture): void {
    this.check(area);
    if (picture.width !== area.width || picture.height !== area.height) {
      throw new ProtocolError("an image has another size than its record says");
    }
    this.context.drawImage(picture, area.x, area.y);
  }

  private check(area: Rectangle): void {
    if (area.x + area.width > this.width || area.y + area.height > this.height) {
      throw new ProtocolError("a rectangle reaches beyond the surface");
    }
  }
}

/** Decodes an encoded image without touching its colours. */
export async function decodePicture(mime: string, bytes: Uint8Array): Promise<Picture> {
  const blob = new Blob([bytes as Uint8Array<ArrayBuffer>], { type: mime });
  if (typeof createImageBitmap === "function") {
    return await createImageBitmap(blob, {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  }
  return await decodeByElement(blob);
}

/** For browsers without createImageBitmap; on the page only. */
async function decodeByElement(blob: Blob): Promise<HTMLImageElement> {
  const address = URL.createObjectURL(blob);
  try {
    const element = new Image();
    element.src = address;
    await element.decode();
    return element;
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** Frees a decoded image. */
export function closePicture(picture: Picture): void {
  if ("close" in picture) {
    picture.close();
  }
}

/** One lossless WebP pixel: a browser that decodes it decodes all that the gateway sends. */
const WEBP_PIXEL = "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==";

/** Whether this browser decodes WebP. */
export async function decodesWebp(): Promise<boolean> {
  const bytes = Uint8Array.from(atob(WEBP_PIXEL), (char) => char.charCodeAt(0));
  try {
    closePicture(await decodePicture("image/webp", bytes));
    return true;
  } catch {
    return false;
  }
}
