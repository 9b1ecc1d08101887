//! Uncompressed bitmaps of every depth to BGRX (`spice.proto`, `BitmapData`; `enums.h`,
//! `SpiceBitmapFmt`).

use bytes::Bytes;

use crate::error::SpiceError;

use super::event::Pixels;

/// Pixels of one image: a surface of the largest size. Bounds what a 1-bit bitmap expands to.
pub(crate) const IMAGE_PIXELS_MAX: u64 = super::SURFACE_PIXELS_MAX;

/// The form of a bitmap's pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// 1: palette, first pixel in the lowest bit.
    Palette1Low,
    /// 2: palette, first pixel in the highest bit.
    Palette1High,
    /// 3: palette, first pixel in the low half.
    Palette4Low,
    /// 4: palette, first pixel in the high half.
    Palette4High,
    /// 5: palette.
    Palette8,
    /// 6: u16 of x, 5 red, 5 green, 5 blue.
    Rgb555,
    /// 7: blue, green, red.
    Bgr24,
    /// 8: blue, green, red, garbage.
    Bgrx32,
    /// 9: blue, green, red, alpha.
    Bgra32,
    /// 10: alpha of black.
    Alpha8,
}

/// A bitmap as it came.
#[derive(Debug)]
pub(super) struct Bitmap<'a> {
    pub(super) format: Format,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) stride: u32,
    pub(super) top_down: bool,
    /// Blue, green, red, 255; a colour beyond its end is black.
    pub(super) palette: &'a [[u8; 4]],
    /// `stride` x `height` bytes.
    pub(super) data: Bytes,
}

/// A decoded image before it is known where it goes.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) pixels: Pixels,
    pub(super) alpha: PictureAlpha,
}

/// What the alpha bytes of a picture are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PictureAlpha {
    /// 255 everywhere.
    Opaque,
    /// Whatever the guest had there. Its format has no alpha, but a surface that it is put on may
    /// be declared to have one later.
    Undefined,
    Own,
}

impl Format {
    pub(crate) const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Palette1Low,
            2 => Self::Palette1High,
            3 => Self::Palette4Low,
            4 => Self::Palette4High,
            5 => Self::Palette8,
            6 => Self::Rgb555,
            7 => Self::Bgr24,
            8 => Self::Bgrx32,
            9 => Self::Bgra32,
            10 => Self::Alpha8,
            _ => return None,
        })
    }

    pub(crate) const fn has_palette(self) -> bool {
        match self {
            Self::Palette1Low
            | Self::Palette1High
            | Self::Palette4Low
            | Self::Palette4High
            | Self::Palette8 => true,
            Self::Rgb555 | Self::Bgr24 | Self::Bgrx32 | Self::Bgra32 | Self::Alpha8 => false,
        }
    }

    /// What the alpha bytes of pixels are that came in this format.
    fn alpha(self, pixels: &Pixels) -> PictureAlpha {
        match self {
            Self::Bgra32 | Self::Alpha8 if !is_opaque(pixels) => PictureAlpha::Own,
            Self::Bgrx32 if !is_opaque(pixels) => PictureAlpha::Undefined,
            _ => PictureAlpha::Opaque,
        }
    }

    /// Bytes of a row without padding.
    pub(crate) fn row_bytes(self, width: u32) -> u64 {
        (u64::from(width) * self.bits()).div_ceil(8)
    }

    const fn bits(self) -> u64 {
        match self {
            Self::Palette1Low | Self::Palette1High => 1,
            Self::Palette4Low | Self::Palette4High => 4,
            Self::Palette8 | Self::Alpha8 => 8,
            Self::Rgb555 => 16,
            Self::Bgr24 => 24,
            Self::Bgrx32 | Self::Bgra32 => 32,
        }
    }
}

impl Picture {
    pub(super) fn area(&self) -> u64 {
        u64::from(self.pixels.width) * u64::from(self.pixels.height)
    }

    /// The pixels for an opaque destination: alpha is 255 in all of them.
    pub(super) fn into_opaque(self) -> Pixels {
        match self.alpha {
            PictureAlpha::Opaque => self.pixels,
            PictureAlpha::Undefined | PictureAlpha::Own => without_alpha(&self.pixels),
        }
    }

    /// The picture whose undefined alpha is known to be 255 (`SPICE_IMAGE_FLAGS_HIGH_BITS_SET`).
    pub(super) fn with_high_bits(self) -> Self {
        match self.alpha {
            PictureAlpha::Undefined => {
                Self { pixels: self.into_opaque(), alpha: PictureAlpha::Opaque }
            }
            PictureAlpha::Opaque | PictureAlpha::Own => self,
        }
    }
}

impl Bitmap<'_> {
    /// The bitmap as BGRX, without a copy if it already is that.
    pub(super) fn decode(self) -> Result<Picture, SpiceError> {
        const WHAT: &str = "bitmap";
        let area = u64::from(self.width) * u64::from(self.height);
        if area == 0 {
            return Err(SpiceError::Malformed { what: WHAT, problem: "it has no pixels" });
        }
        if area > IMAGE_PIXELS_MAX {
            let (what, limit) = ("bitmap's number of pixels", IMAGE_PIXELS_MAX);
            return Err(SpiceError::TooLarge { what, value: area, limit });
        }
        let row_bytes = self.format.row_bytes(self.width);
        if u64::from(self.stride) < row_bytes {
            return Err(SpiceError::Malformed {
                what: WHAT,
                problem: "its stride is below its width",
            });
        }
        let stride = usize::try_from(self.stride).unwrap_or(usize::MAX);
        let row_bytes = usize::try_from(row_bytes).unwrap_or(usize::MAX);
        let needed = u64::from(self.stride) * u64::from(self.height);
        if u64::try_from(self.data.len()).unwrap_or(0) < needed {
            return Err(SpiceError::Truncated { what: WHAT });
        }
        if self.top_down && self.format.bits() == 32 {
            let Self { format, width, height, data, .. } = self;
            let pixels = Pixels { width, height, stride, data };
            let alpha = format.alpha(&pixels);
            return Ok(Picture { pixels, alpha });
        }
        let out_row = usize::try_from(self.width).unwrap_or(usize::MAX).saturating_mul(4);
        let out_bytes = usize::try_from(area * 4).unwrap_or(usize::MAX);
        let mut out = Vec::with_capacity(out_bytes);
        let rows = self.data.chunks_exact(stride).take(usize::try_from(self.height).unwrap_or(0));
        let as_it_came = if self.format == Format::Bgrx32 { Format::Bgra32 } else { self.format };
        let mut expand = |row: &[u8]| {
            let end = out.len() + out_row;
            expand_row(as_it_came, row.get(..row_bytes).unwrap_or(row), self.palette, &mut out);
            out.truncate(end);
        };
        if self.top_down {
            rows.for_each(&mut expand);
        } else {
            rows.rev().for_each(&mut expand);
        }
        let (width, height) = (self.width, self.height);
        let pixels = Pixels { width, height, stride: out_row, data: out.into() };
        let alpha = self.format.alpha(&pixels);
        Ok(Picture { pixels, alpha })
    }
}

/// Appends one row as BGRX; formats below a byte may append up to 7 pixels too many.
fn expand_row(format: Format, row: &[u8], palette: &[[u8; 4]], out: &mut Vec<u8>) {
    const BLACK: [u8; 4] = [0, 0, 0, 255];
    let mut put = |index: u8| {
        out.extend_from_slice(palette.get(usize::from(index)).unwrap_or(&BLACK));
    };
    match format {
        Format::Palette1Low => {
            for byte in row {
                (0..8).for_each(|bit| put((byte >> bit) & 1));
            }
        }
        Format::Palette1High => {
            for byte in row {
                (0..8).rev().for_each(|bit| put((byte >> bit) & 1));
            }
        }
        Format::Palette4Low => row.iter().for_each(|byte| {
            put(byte & 15);
            put(byte >> 4);
        }),
        Format::Palette4High => row.iter().for_each(|byte| {
            put(byte >> 4);
            put(byte & 15);
        }),
        Format::Palette8 => row.iter().for_each(|byte| put(*byte)),
        Format::Rgb555 => {
            let (pixels, _odd) = row.as_chunks::<2>();
            out.extend(pixels.iter().flat_map(|pixel| rgb555(u16::from_le_bytes(*pixel))));
        }
        Format::Bgr24 => {
            let (pixels, _odd) = row.as_chunks::<3>();
            out.extend(pixels.iter().flat_map(|[blue, green, red]| [*blue, *green, *red, 255]));
        }
        Format::Bgrx32 => {
            let start = out.len();
            out.extend_from_slice(row);
            let (pixels, _odd) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<4>();
            pixels.iter_mut().for_each(|[_, _, _, alpha]| *alpha = 255);
        }
        Format::Bgra32 => out.extend_from_slice(row),
        Format::Alpha8 => out.extend(row.iter().flat_map(|alpha| [0, 0, 0, *alpha])),
    }
}

/// x, 5 red, 5 green, 5 blue to BGRX; the high bits fill the low ones, so that white stays white.
pub(crate) fn rgb555(pixel: u16) -> [u8; 4] {
    let channel = |shift: u16| {
        let [five, _zero] = ((pixel >> shift) & 31).to_le_bytes();
        widen5(five)
    };
    [channel(0), channel(5), channel(10), 255]
}

/// 5 bits to 8.
pub(crate) const fn widen5(five: u8) -> u8 {
    (five << 3) | ((five & 31) >> 2)
}

/// 5 red, 6 green, 5 blue to BGRX.
pub(super) fn rgb565(pixel: u16) -> [u8; 4] {
    let [blue, _, red, alpha] = rgb555((pixel & 31) | ((pixel >> 1) & 0x7c00));
    let [six, _zero] = ((pixel >> 5) & 63).to_le_bytes();
    [blue, (six << 2) | (six >> 4), red, alpha]
}

fn is_opaque(pixels: &Pixels) -> bool {
    (0..pixels.height).all(|y| {
        let (row, _rest) = pixels.row(y).unwrap_or_default().as_chunks::<4>();
        row.iter().all(|[_, _, _, alpha]| *alpha == 255)
    })
}

/// A copy with tight rows and alpha 255.
fn without_alpha(pixels: &Pixels) -> Pixels {
    copied_as(Format::Bgrx32, pixels)
}

/// A copy with tight rows, which shares no memory with a message.
pub(super) fn compact(pixels: &Pixels) -> Pixels {
    copied_as(Format::Bgra32, pixels)
}

fn copied_as(format: Format, pixels: &Pixels) -> Pixels {
    let stride = usize::try_from(pixels.width).unwrap_or(0).saturating_mul(4);
    let height = usize::try_from(pixels.height).unwrap_or(0);
    let mut out = Vec::with_capacity(stride.saturating_mul(height));
    for y in 0..pixels.height {
        expand_row(format, pixels.row(y).unwrap_or_default(), &[], &mut out);
    }
    Pixels { stride, data: out.into(), ..*pixels }
}
