//! QUIC: lossless coding of photographs, after SFALIC by Roman Starosolski (spice-common,
//! `quic.c`, `quic_tmpl.c`, `quic_family_tmpl.c`).
//!
//! Header, u32 little endian each: magic, version, type, width, height. Then row by row, top row
//! first, a stream of bits. Each channel of each pixel is predicted from its left and upper
//! neighbours; what is left, the residue, is a Golomb-Rice code, chosen by the residue to its
//! left among buckets that learn. Where both rows above and left repeat themselves, the length of
//! a run follows instead.

mod bits;
mod model;
mod pace;
mod plane;

use super::{Size, Unpacked};
use crate::display::bitmap::{Format, widen5};
use crate::error::SpiceError;

use bits::Bits;
use model::{DEPTH_5, DEPTH_8};
use plane::Plane;

const WHAT: &str = "quic image";
/// "QUIC"
const MAGIC: u32 = u32::from_le_bytes(*b"QUIC");
/// 0.0
const VERSION: u32 = 0;

/// `QuicImageType`
mod kind {
    pub(super) const GRAY: u32 = 1;
    pub(super) const RGB16: u32 = 2;
    pub(super) const RGB24: u32 = 3;
    pub(super) const RGB32: u32 = 4;
    pub(super) const RGBA: u32 = 5;
}

/// A QUIC image of any type, as BGRX or BGRA.
pub(crate) fn unpack(packed: &[u8], size: Size) -> Result<Unpacked, SpiceError> {
    let mut bits = Bits::new(packed);
    if bits.word() != MAGIC || bits.word() != VERSION {
        return Err(malformed("it does not begin as quic 0.0"));
    }
    let kind = bits.word();
    size.agree(WHAT, bits.word(), bits.word())?;
    let (format, pixels) = match kind {
        kind::GRAY => (Format::Bgrx32, gray(&mut bits, size)?),
        kind::RGB16 => (Format::Bgrx32, colors(&mut bits, size, Plane::new(&DEPTH_5), rgb16)?),
        kind::RGB24 | kind::RGB32 => {
            (Format::Bgrx32, colors(&mut bits, size, Plane::new(&DEPTH_8), rgb)?)
        }
        kind::RGBA => (Format::Bgra32, colors_and_alpha(&mut bits, size)?),
        _ => return Err(malformed("its type is unknown")),
    };
    Ok(Unpacked::of_pixels(format, size, true, pixels))
}

fn gray(bits: &mut Bits<'_>, size: Size) -> Result<Vec<[u8; 4]>, SpiceError> {
    rows_fit(bits, size, 1)?;
    let mut plane = Plane::<1>::new(&DEPTH_8);
    let mut pixels = Vec::new();
    for _ in 0..size.height {
        let row = plane.row(bits, size.columns())?;
        pixels.extend(row.iter().map(|[gray]| [*gray, *gray, *gray, 255]));
    }
    Ok(pixels)
}

fn colors(
    bits: &mut Bits<'_>,
    size: Size,
    mut plane: Plane<3>,
    make: fn(&[u8; 3]) -> [u8; 4],
) -> Result<Vec<[u8; 4]>, SpiceError> {
    rows_fit(bits, size, 3)?;
    let mut pixels = Vec::new();
    for _ in 0..size.height {
        pixels.extend(plane.row(bits, size.columns())?.iter().map(make));
    }
    Ok(pixels)
}

/// Each row's colours are followed by its alpha, coded for itself.
fn colors_and_alpha(bits: &mut Bits<'_>, size: Size) -> Result<Vec<[u8; 4]>, SpiceError> {
    rows_fit(bits, size, 4)?;
    let mut colors = Plane::<3>::new(&DEPTH_8);
    let mut alphas = Plane::<1>::new(&DEPTH_8);
    let mut pixels = Vec::new();
    for _ in 0..size.height {
        let colors = colors.row(bits, size.columns())?;
        let alphas = alphas.row(bits, size.columns())?;
        let row = colors.iter().zip(alphas);
        pixels.extend(row.map(|([red, green, blue], [alpha])| [*blue, *green, *red, *alpha]));
    }
    Ok(pixels)
}

/// Refuses a size that the bits cannot fill: the first row has no runs and takes a bit for each
/// channel of each pixel, any other row one for each channel of its first pixel.
fn rows_fit(bits: &Bits<'_>, size: Size, channels: usize) -> Result<(), SpiceError> {
    let least = (size.columns() + size.rows()).saturating_sub(1).saturating_mul(channels);
    if bits.left() < least { Err(SpiceError::Truncated { what: WHAT }) } else { Ok(()) }
}

fn rgb([red, green, blue]: &[u8; 3]) -> [u8; 4] {
    [*blue, *green, *red, 255]
}

fn rgb16([red, green, blue]: &[u8; 3]) -> [u8; 4] {
    [widen5(*blue), widen5(*green), widen5(*red), 255]
}

const fn malformed(problem: &'static str) -> SpiceError {
    SpiceError::Malformed { what: WHAT, problem }
}

#[cfg(test)]
mod tests;
