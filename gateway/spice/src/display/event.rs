//! What the display channel tells the display engine, in pixels.
//!
//! Every rectangle in `rects` is not empty and lies inside its surface, and every pixel that a
//! copy reads lies inside its source: the engine needs no clipping of its own. Rectangles are to be
//! drawn one after the other: those of a line that crosses itself overlap, and so may those of a
//! server that does not keep to the protocol.

use bytes::Bytes;

use crate::channel::CommonEvent;
use crate::geometry::{Point, Rect, SurfaceId};
use crate::unsupported::Unsupported;

use super::paint::Paint;

/// One effect on the surfaces, in the order in which they are to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisplayEvent {
    /// Something that any channel may tell, except [`CommonEvent::Unsupported`], which comes as
    /// [`Self::Unsupported`].
    Common(CommonEvent),
    /// A new surface, black until drawn on. One of the same id is replaced by it.
    SurfaceCreated(Surface),
    /// The surface is gone.
    SurfaceDestroyed(SurfaceId),
    /// Pixels to put on a surface.
    Copy(Copy),
    /// One colour to put on a surface.
    Fill(Fill),
    /// A change of each pixel by itself.
    Combine(Combine),
    /// A part of a surface to move within it.
    CopyBits(CopyBits),
    /// Any other drawing.
    Paint(Box<Paint>),
    /// The picture is complete and may be shown for the first time (`DISPLAY_MARK`).
    Mark,
    /// The picture is not to be trusted any more until the next mark (`DISPLAY_RESET`); the
    /// surfaces stay.
    Reset,
    /// Which part of which surface each monitor shows.
    Monitors(Monitors),
    /// Something that is not carried out; where it names a place, the picture is wrong there.
    Unsupported(Unsupported),
}

/// A surface's size and form (`spice.proto`, `surface_create`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surface {
    /// Its number.
    pub id: SurfaceId,
    /// Columns, at least 1 and at most [`super::SURFACE_SIDE_MAX`].
    pub width: u32,
    /// Rows, at least 1 and at most [`super::SURFACE_SIDE_MAX`].
    pub height: u32,
    /// Form of its pixels at the server; here each has blue, green, red and alpha in any case.
    pub format: SurfaceFormat,
    /// Whether the user sees it; others are kept for copies.
    pub primary: bool,
}

/// Form of a surface's pixels (`enums.h`, `SpiceSurfaceFmt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurfaceFormat {
    /// 32: 8 bits per colour, opaque.
    Xrgb32,
    /// 96: 8 bits per colour and for alpha.
    Argb32,
    /// 16: 5 bits per colour.
    Rgb555,
    /// 80: 5, 6 and 5 bits.
    Rgb565,
    /// 8: alpha alone.
    Alpha8,
    /// 1: one bit of alpha.
    Alpha1,
}

/// Pixels to put on a surface, unscaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where to.
    pub surface: SurfaceId,
    /// The destination, clipped.
    pub rects: Vec<Rect>,
    /// Where from.
    pub source: CopySource,
    /// Destination pixel (x, y) is source pixel (x + offset.x, y + offset.y).
    pub offset: Point,
}

/// Where copied pixels come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// An image that came with the message or from the cache.
    Pixels(Pixels),
    /// A surface, maybe the destination itself: then its pixels as before this event, and a copy
    /// must respect overlap as `memmove` does.
    Surface(SurfaceId),
}

/// A decoded image, top row first, 4 bytes per pixel: blue, green, red, alpha.
///
/// Alpha is 255 everywhere if the destination is a primary surface; elsewhere it is kept, since a
/// later drawing may read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next, at least 4 x `width`.
    pub stride: usize,
    /// The rows; at least `stride` x (`height` - 1) + 4 x `width` bytes.
    pub data: Bytes,
}

/// One colour to put on a surface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Where to.
    pub surface: SurfaceId,
    /// The destination, clipped.
    pub rects: Vec<Rect>,
    /// Blue, green, red, alpha; the last is 255 on a primary surface.
    pub color: [u8; 4],
}

/// A change of each pixel, read as a little-endian u32 of blue, green, red, alpha:
/// `pixel = (pixel & and) ^ xor`. Inverting is `and` all ones, `xor` 0x00ff_ffff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combine {
    /// Where to.
    pub surface: SurfaceId,
    /// The destination, clipped.
    pub rects: Vec<Rect>,
    /// Bits that are kept; all of alpha on a primary surface.
    pub and: u32,
    /// Bits that are then inverted; never in alpha on a primary surface.
    pub xor: u32,
}

/// A part of a surface to move within it (scrolling, moving a window).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyBits {
    /// The surface.
    pub surface: SurfaceId,
    /// The destination, clipped, in an order in which no rectangle overwrites what a later one
    /// reads; within one rectangle a copy must respect overlap as `memmove` does.
    pub rects: Vec<Rect>,
    /// Destination pixel (x, y) was pixel (x + offset.x, y + offset.y).
    pub offset: Point,
}

/// Which part of which surface each monitor shows (`spice.proto`, `monitors_config`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitors {
    /// Most monitors that the desktop can have.
    pub allowed_max: u16,
    /// The monitors that are on, at most [`super::HEADS_MAX`].
    pub heads: Vec<Head>,
}

/// One monitor (`spice.proto`, `Head`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub id: u32,
    /// The surface that it shows.
    pub surface: SurfaceId,
    /// The part of the surface; not clipped to it, since the surface may be made afterwards.
    pub area: Rect,
}

impl Pixels {
    /// The bytes of row `y`, 4 x `width` of them; `None` outside the image.
    pub fn row(&self, y: u32) -> Option<&[u8]> {
        if y >= self.height {
            return None;
        }
        let start = usize::try_from(y).ok()?.checked_mul(self.stride)?;
        let length = usize::try_from(self.width).ok()?.checked_mul(4)?;
        self.data.get(start..start.checked_add(length)?)
    }
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, height, stride, data } = self;
        write!(formatter, "Pixels({width}x{height}, stride {stride}, {} bytes)", data.len())
    }
}
