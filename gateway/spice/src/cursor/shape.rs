//! Pointer shapes of every kind to RGBA (`enums.h`, `SpiceCursorType`).
//!
//! | kind | data |
//! | --- | --- |
//! | ALPHA | blue, green, red, alpha per pixel |
//! | MONO | plane "and", plane "xor" |
//! | COLOR4, COLOR8 | indices, palette of 16 or 256 colours, mask |
//! | COLOR16, COLOR24, COLOR32 | pixels, mask |
//!
//! Planes and masks have one bit per pixel, first in the highest bit, rows of whole bytes.

use bytes::Bytes;

use crate::channel::too_large;
use crate::display::rgb555;
use crate::error::SpiceError;

/// Longest side of a pointer, in pixels; QEMU's own limit is 512.
pub const CURSOR_SIDE_MAX: u16 = 512;

const TRANSPARENT: [u8; 4] = [0, 0, 0, 0];
const WHITE: [u8; 3] = [255, 255, 255];
/// Pixels that invert what is below them cannot be shown by a browser: dark and light grey in
/// turn, half transparent, are seen on any background.
const INVERTING: [[u8; 4]; 2] = [[0x30, 0x30, 0x30, 0xc0], [0xd0, 0xd0, 0xd0, 0xc0]];

/// A pointer's picture.
#[derive(Clone, PartialEq, Eq)]
pub struct CursorShape {
    /// Columns, at least 1 and at most [`CURSOR_SIDE_MAX`].
    pub width: u16,
    /// Rows, at least 1 and at most [`CURSOR_SIDE_MAX`].
    pub height: u16,
    /// Column of the hot spot, below `width`.
    pub hot_x: u16,
    /// Row of the hot spot, below `height`.
    pub hot_y: u16,
    /// Red, green, blue, alpha per pixel, top row first, without gaps. Alpha is as the guest gave
    /// it.
    pub rgba: Bytes,
}

/// How a kind's data is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Alpha,
    Mono,
    Palette4,
    Palette8,
    Rgb555,
    Bgr24,
    Bgrx32,
}

impl std::fmt::Debug for CursorShape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, height, hot_x, hot_y, rgba } = self;
        write!(formatter, "CursorShape({width}x{height} at {hot_x},{hot_y}: {} bytes)", rgba.len())
    }
}

/// Decodes a shape of `kind` (a wire number); a hot spot outside is moved to the edge.
pub(super) fn decode(
    kind: u8,
    [width, height]: [u16; 2],
    [hot_x, hot_y]: [u16; 2],
    data: &Bytes,
) -> Result<CursorShape, SpiceError> {
    const WHAT: &str = "pointer shape";
    let layout = match kind {
        0 => Layout::Alpha,
        1 => Layout::Mono,
        2 => Layout::Palette4,
        3 => Layout::Palette8,
        4 => Layout::Rgb555,
        5 => Layout::Bgr24,
        6 => Layout::Bgrx32,
        _ => return Err(SpiceError::Malformed { what: WHAT, problem: "its kind is unknown" }),
    };
    let side = width.max(height);
    if width == 0 || height == 0 {
        return Err(SpiceError::Malformed { what: WHAT, problem: "it has no pixels" });
    }
    if side > CURSOR_SIDE_MAX {
        return Err(too_large("pointer's longest side", side.into(), CURSOR_SIDE_MAX.into()));
    }
    let (columns, rows) = (usize::from(width), usize::from(height));
    let mut rest: &[u8] = data;
    let mut part = |bytes: usize| {
        let (front, back) =
            rest.split_at_checked(bytes).ok_or(SpiceError::Truncated { what: WHAT })?;
        rest = back;
        Ok::<_, SpiceError>(front)
    };
    let plane_bytes = columns.div_ceil(8) * rows;
    let pixels = part(layout.row_bytes(columns) * rows)?;
    let palette = part(layout.palette_colors() * 4)?;
    let mask = if layout == Layout::Alpha { &[][..] } else { part(plane_bytes)? };
    let mut rgba = Vec::with_capacity(columns * rows * 4);
    for y in 0..rows {
        for x in 0..columns {
            let place = Place { x, y, columns };
            let pixel = match layout {
                Layout::Alpha => {
                    let [blue, green, red, alpha] = place.bytes(pixels);
                    [red, green, blue, alpha]
                }
                // The first plane is "and", the second, in the mask's place, "xor".
                Layout::Mono => match (place.bit(pixels), place.bit(mask)) {
                    (false, false) => [0, 0, 0, 255],
                    (false, true) => [255, 255, 255, 255],
                    (true, false) => TRANSPARENT,
                    (true, true) => place.inverting(),
                },
                _ => match (place.bit(mask), place.color(layout, pixels, palette)) {
                    (false, [red, green, blue]) => [red, green, blue, 255],
                    (true, WHITE) => place.inverting(),
                    (true, _) => TRANSPARENT,
                },
            };
            rgba.extend_from_slice(&pixel);
        }
    }
    let (hot_x, hot_y) = (hot_x.min(width - 1), hot_y.min(height - 1));
    Ok(CursorShape { width, height, hot_x, hot_y, rgba: rgba.into() })
}

impl Layout {
    const fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::Alpha | Self::Bgrx32 => columns * 4,
            Self::Mono => columns.div_ceil(8),
            Self::Palette4 => columns.div_ceil(2),
            Self::Palette8 => columns,
            Self::Rgb555 => columns * 2,
            Self::Bgr24 => columns * 3,
        }
    }

    const fn palette_colors(self) -> usize {
        match self {
            Self::Palette4 => 16,
            Self::Palette8 => 256,
            Self::Alpha | Self::Mono | Self::Rgb555 | Self::Bgr24 | Self::Bgrx32 => 0,
        }
    }
}

/// A pixel's place in planes of `columns`.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: usize,
    y: usize,
    columns: usize,
}

impl Place {
    /// Its bit in a plane with rows of whole bytes.
    fn bit(self, plane: &[u8]) -> bool {
        let at = self.y * self.columns.div_ceil(8) + self.x / 8;
        plane.get(at).is_some_and(|byte| byte & (0x80 >> (self.x % 8)) != 0)
    }

    /// Its `N` bytes in rows without gaps; zeros beyond the end, which is never reached.
    fn bytes<const N: usize>(self, pixels: &[u8]) -> [u8; N] {
        let at = (self.y * self.columns + self.x) * N;
        pixels.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn inverting(self) -> [u8; 4] {
        let [dark, light] = INVERTING;
        if (self.x ^ self.y) & 1 == 0 { dark } else { light }
    }

    /// Its red, green, blue.
    fn color(self, layout: Layout, pixels: &[u8], palette: &[u8]) -> [u8; 3] {
        let from_palette = |index: u8| {
            let entry = Self { x: index.into(), y: 0, columns: 0 };
            let [blue, green, red, _unused] = entry.bytes(palette);
            [red, green, blue]
        };
        match layout {
            Layout::Palette4 => {
                let at = self.y * self.columns.div_ceil(2) + self.x / 2;
                let byte = pixels.get(at).copied().unwrap_or(0);
                from_palette(if self.x.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
            }
            Layout::Palette8 => {
                let [index] = self.bytes(pixels);
                from_palette(index)
            }
            Layout::Rgb555 => {
                let [blue, green, red, _] = rgb555(u16::from_le_bytes(self.bytes(pixels)));
                [red, green, blue]
            }
            Layout::Bgr24 => {
                let [blue, green, red] = self.bytes(pixels);
                [red, green, blue]
            }
            Layout::Bgrx32 | Layout::Alpha => {
                let [blue, green, red, _] = self.bytes(pixels);
                [red, green, blue]
            }
            Layout::Mono => [0; 3],
        }
    }
}
