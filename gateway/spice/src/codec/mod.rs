//! The image codecs of SPICE: packed bytes become the rows of a bitmap.
//!
//! ```text
//!  QUIC ─ quic ─┐                        LZ ── lz ──┐
//!  JPEG ─ jpeg ─┤                        LZ4 ─ lz4 ─┼─▶ Unpacked ─▶ display::bitmap
//!  JPEG_ALPHA ──┴─ jpeg + lz    zlib ─▶ GLZ ─ glz ──┘
//!                                              ▲ │
//!                                    GlzDictionary, one for all display channels
//! ```
//!
//! Every decoder is total and bounded: the size that an image declares is compared with that of
//! its descriptor and with what its bytes can possibly make before memory is taken, and each loop
//! either consumes input or makes output.

pub(crate) mod dictionary;
pub(crate) mod glz;
mod input;
pub(crate) mod jpeg;
pub(crate) mod lz;
pub(crate) mod lz4;
pub(crate) mod quic;
mod repeat;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod totality;
pub(crate) mod zlib;

use bytes::Bytes;

use crate::display::bitmap::{Format, IMAGE_PIXELS_MAX};
use crate::error::SpiceError;

/// Columns and rows that an image's descriptor announces, between 1 and
/// [`IMAGE_PIXELS_MAX`] pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// The rows of an image as its encoder got them; a palette, if it needs one, is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) format: Format,
    pub(crate) size: Size,
    /// Bytes from one row to the next.
    pub(crate) stride: u32,
    pub(crate) top_down: bool,
    /// `stride` x height bytes.
    pub(crate) data: Bytes,
}

impl Size {
    pub(crate) fn new(width: u32, height: u32) -> Result<Self, SpiceError> {
        let area = u64::from(width) * u64::from(height);
        if area == 0 {
            return Err(SpiceError::Malformed { what: "image", problem: "it has no pixels" });
        }
        if area > IMAGE_PIXELS_MAX {
            let (what, limit) = ("image's number of pixels", IMAGE_PIXELS_MAX);
            return Err(SpiceError::TooLarge { what, value: area, limit });
        }
        Ok(Self { width, height })
    }

    /// Refuses a codec's own size when it is not the descriptor's.
    fn agree(self, what: &'static str, width: u32, height: u32) -> Result<(), SpiceError> {
        if (self.width, self.height) == (width, height) {
            Ok(())
        } else {
            Err(SpiceError::Malformed { what, problem: "its size is not that of its descriptor" })
        }
    }

    pub(crate) fn columns(self) -> usize {
        usize::try_from(self.width).unwrap_or(usize::MAX)
    }

    pub(crate) fn rows(self) -> usize {
        usize::try_from(self.height).unwrap_or(usize::MAX)
    }

    /// Number of pixels; no overflow, by the limit of [`Self::new`].
    pub(crate) fn area(self) -> usize {
        self.columns().saturating_mul(self.rows())
    }
}

impl Unpacked {
    /// Tight rows of 4 bytes per pixel.
    fn of_pixels(format: Format, size: Size, top_down: bool, pixels: Vec<[u8; 4]>) -> Self {
        let data = Bytes::from(pixels.into_flattened());
        Self { format, size, stride: size.width.saturating_mul(4), top_down, data }
    }
}

/// Refuses an image that declares more than `units_max` units per byte that it has: what is
/// missing cannot come any more.
fn check_expansion(
    what: &'static str,
    packed: usize,
    units: usize,
    units_max: usize,
) -> Result<(), SpiceError> {
    if packed.saturating_mul(units_max) < units {
        return Err(SpiceError::Truncated { what });
    }
    Ok(())
}
