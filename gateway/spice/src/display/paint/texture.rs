//! What pixels are taken from: images, surfaces, masks, and the coverage of glyphs.

use bytes::Bytes;

use crate::geometry::SurfaceId;

use super::super::event::Pixels;
use super::super::form::ALPHA;

/// A grid of pixels 0xaarrggbb; outside of it all is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::display) enum Texture {
    Pixels(Pixels),
    Surface(SurfaceId),
    Bits(Bits),
    Levels(Levels),
}

/// Which end of a byte holds the first of its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) enum BitOrder {
    LowFirst,
    HighFirst,
}

/// 1 bit per pixel: alpha 255 or 0, no colour.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::display) struct Bits {
    pub(in crate::display) width: u32,
    pub(in crate::display) height: u32,
    /// Bytes from one row to the next.
    pub(in crate::display) stride: usize,
    pub(in crate::display) order: BitOrder,
    pub(in crate::display) top_down: bool,
    pub(in crate::display) data: Bytes,
}

/// 8 bits per pixel: alpha, no colour. Rows without gaps, top row first.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::display) struct Levels {
    pub(in crate::display) width: u32,
    pub(in crate::display) height: u32,
    pub(in crate::display) data: Bytes,
}

/// The pixels of a surface, for drawings that read it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Blue, green, red, alpha as little-endian numbers, top row first, without gaps; what is
    /// missing at the end reads as 0.
    pub pixels: &'a [u32],
}

/// A texture whose pixels are at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid<'a> {
    pub(super) pixels: GridPixels<'a>,
    /// Bits that are set in every pixel inside: alpha, if the texture has none that counts.
    pub(super) always: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum GridPixels<'a> {
    Pixels(&'a Pixels),
    Surface(View<'a>),
    Bits(&'a Bits),
    Levels(&'a Levels),
}

impl Bits {
    /// Whether the pixel is set; not outside.
    pub(in crate::display) fn is_set(&self, x: u32, y: u32) -> bool {
        if x >= self.width || y >= self.height {
            return false;
        }
        let row = if self.top_down { y } else { self.height - 1 - y };
        let byte = index(row).saturating_mul(self.stride).saturating_add(index(x / 8));
        let shift = match self.order {
            BitOrder::LowFirst => x % 8,
            BitOrder::HighFirst => 7 - x % 8,
        };
        self.data.get(byte).is_some_and(|byte| byte >> shift & 1 != 0)
    }
}

impl Grid<'_> {
    pub(super) const fn size(&self) -> (u32, u32) {
        match &self.pixels {
            GridPixels::Pixels(pixels) => (pixels.width, pixels.height),
            GridPixels::Surface(view) => (view.width, view.height),
            GridPixels::Bits(bits) => (bits.width, bits.height),
            GridPixels::Levels(levels) => (levels.width, levels.height),
        }
    }

    /// The pixel at a place, 0 outside.
    pub(super) fn pixel(&self, x: i64, y: i64) -> u32 {
        let (width, height) = self.size();
        let inside = |at: i64, side: u32| u32::try_from(at).ok().filter(|at| *at < side);
        let (Some(x), Some(y)) = (inside(x, width), inside(y, height)) else { return 0 };
        let place = index(y).saturating_mul(index(width)).saturating_add(index(x));
        let pixel = match &self.pixels {
            GridPixels::Pixels(pixels) => {
                let (row, _rest) = pixels.row(y).unwrap_or_default().as_chunks::<4>();
                row.get(index(x)).map_or(0, |pixel| u32::from_le_bytes(*pixel))
            }
            GridPixels::Surface(view) => view.pixels.get(place).copied().unwrap_or(0),
            GridPixels::Bits(bits) if bits.is_set(x, y) => ALPHA,
            GridPixels::Bits(_) => 0,
            GridPixels::Levels(levels) => {
                levels.data.get(place).map_or(0, |level| u32::from_le_bytes([0, 0, 0, *level]))
            }
        };
        pixel | self.always
    }

    /// The pixels of a row from `x` on.
    pub(super) fn row(&self, x: i64, y: i64, out: &mut [u32]) {
        let inside = usize::try_from(x).ok().zip(u32::try_from(y).ok());
        let length = out.len();
        let end = |start: usize| start.saturating_add(length);
        match (&self.pixels, inside) {
            (GridPixels::Pixels(pixels), Some((x, y))) if end(x) <= index(pixels.width) => {
                let row = pixels.row(y).and_then(|row| row.get(4 * x..4 * end(x)));
                let (row, _rest) = row.unwrap_or_default().as_chunks::<4>();
                out.fill(0);
                for (out, pixel) in out.iter_mut().zip(row) {
                    *out = u32::from_le_bytes(*pixel) | self.always;
                }
            }
            (GridPixels::Surface(view), Some((x, y)))
                if end(x) <= index(view.width) && y < view.height =>
            {
                let start = index(y).saturating_mul(index(view.width)).saturating_add(x);
                let row = view.pixels.get(start..end(start)).unwrap_or_default();
                out.fill(0);
                for (out, pixel) in out.iter_mut().zip(row) {
                    *out = *pixel | self.always;
                }
            }
            _ => out.iter_mut().zip(x..).for_each(|(out, x)| *out = self.pixel(x, y)),
        }
    }
}

fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl std::fmt::Debug for Bits {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Bits({}x{})", self.width, self.height)
    }
}

impl std::fmt::Debug for Levels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Levels({}x{})", self.width, self.height)
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "View({}x{})", self.width, self.height)
    }
}
