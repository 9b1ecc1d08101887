// How large the picture is shown: as large as fits, pixel for pixel where that is almost the same; or in its
// actual size, whatever fits.

/** A scale this close above a whole number becomes that number: crisp beats a sliver of size. */
const SNAP = 0.03;

/** How to show the picture, in CSS pixels. */
export interface Fit {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  /** Every guest pixel is a square of whole device pixels. */
  readonly crisp: boolean;
}

/**
 * As large as fits; the same, of a guest that has fewer and so larger pixels; or one guest pixel for each of the
 * screen's.
 */
export type Size = "fit" | "large" | "actual";

/** Fits a guest's picture into a space of device pixels; `ratio` is how many of them make a CSS pixel. */
export function fit(
  space: { width: number; height: number },
  guest: { width: number; height: number },
  ratio: number,
  size: Size = "fit",
): Fit {
  if (space.width <= 0 || space.height <= 0 || guest.width <= 0 || guest.height <= 0) {
    return { left: 0, top: 0, width: 0, height: 0, crisp: true };
  }
  let scale = size === "actual" ? 1 : Math.min(space.width / guest.width, space.height / guest.height);
  const whole = Math.floor(scale + 1e-6);
  const crisp = whole >= 1 && scale - whole <= SNAP;
  if (crisp) {
    scale = whole;
  }
  const [width, height] = [guest.width * scale, guest.height * scale];
  return {
    left: Math.floor((space.width - width) / 2) / ratio,
    top: Math.floor((space.height - height) / 2) / ratio,
    width: width / ratio,
    height: height / ratio,
    crisp,
  };
}
