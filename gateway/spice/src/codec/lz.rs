//! LZ: a byte-oriented dictionary coder over pixels (spice-common, `lz.c`,
//! `lz_decompress_tmpl.c`).
//!
//! Header, u32 big endian each: magic, version, type, width, height, stride, top down. Then
//! tokens until all units are made. Units are pixels, or bytes of packed indices where there is a
//! palette. A token below 32 announces that many units, and one more, as they are; any other is a
//! copy: 3 bits of length, 5 and 8 bits of distance, each with a continuation.

use bytes::Bytes;

use super::input::Input;
use super::repeat::{check_room, repeat};
use super::{Size, Unpacked, check_expansion};
use crate::display::bitmap::Format;
use crate::error::SpiceError;

const WHAT: &str = "lz image";
/// "  ZL", read as big endian.
pub(super) const MAGIC: u32 = 0x2020_5a4c;
/// 1.1
pub(super) const VERSION: u32 = 0x0001_0001;
/// `LZ_IMAGE_TYPE_XXXA`: alpha alone, of an image whose colours are elsewhere.
const TYPE_ALPHA_PLANE: u32 = 10;
/// `LZ_IMAGE_TYPE_A8`
const TYPE_ALPHA8: u32 = 11;
/// Tokens below are literals.
pub(super) const LITERALS: u8 = 32;
/// A distance that says that u16 more follow, and the first one beyond it.
const DISTANCE_FAR: usize = 8191;
/// Units that one byte can make at most: a continuation of a length.
pub(super) const UNITS_PER_BYTE_MAX: usize = 256;

/// How units travel.
struct Unit<const N: usize> {
    /// Bytes of one that is not copied.
    packed: usize,
    /// The unit made of those bytes.
    make: fn(&[u8]) -> [u8; N],
    /// What is to be added to a copy's length.
    bias: usize,
}

const INDICES: Unit<1> = Unit { packed: 1, make: byte, bias: 3 };
/// Sent as high byte, low byte; a bitmap has them the other way round.
const RGB555: Unit<2> = Unit { packed: 2, make: swapped, bias: 2 };
const RGB24: Unit<4> = Unit { packed: 3, make: bgr, bias: 1 };

enum Token {
    Literals(usize),
    Copy { distance: usize, length: usize },
}

struct Header {
    kind: u32,
    top_down: bool,
    /// As the header has it.
    stride: u32,
}

/// An LZ_RGB or LZ_PLT image; rows of the latter are indices of a palette.
pub(crate) fn unpack(packed: &[u8], size: Size) -> Result<Unpacked, SpiceError> {
    let mut input = Input::new(packed, WHAT);
    let Header { kind, top_down, stride } = header(&mut input, size)?;
    // Up to RGBA, types have the numbers of bitmap formats.
    let format = match kind {
        TYPE_ALPHA8 => Some(Format::Alpha8),
        other => u8::try_from(other).ok().and_then(Format::from_wire),
    };
    let format = match format {
        Some(format) if kind != TYPE_ALPHA_PLANE => format,
        _ => return Err(input.malformed("its type is unknown, or alpha without colours")),
    };
    if u64::from(stride) != format.row_bytes(size.width) {
        return Err(input.malformed("its stride is not that of its width"));
    }
    let area = size.area();
    let pixels = match format {
        Format::Bgr24 | Format::Bgrx32 => units(&mut input, area, &RGB24)?,
        Format::Bgra32 => {
            let mut pixels = units(&mut input, area, &RGB24)?;
            let alphas = units(&mut input, area, &INDICES)?;
            for ([_, _, _, alpha], [value]) in pixels.iter_mut().zip(alphas) {
                *alpha = value;
            }
            pixels
        }
        Format::Rgb555 => {
            let data = units(&mut input, area, &RGB555)?.into_flattened().into();
            return Ok(Unpacked { format, size, stride, top_down, data });
        }
        _ => {
            let bytes = usize::try_from(stride).unwrap_or(usize::MAX).saturating_mul(size.rows());
            let data = Bytes::from(units(&mut input, bytes, &INDICES)?.into_flattened());
            return Ok(Unpacked { format, size, stride, top_down, data });
        }
    };
    let format = if format == Format::Bgra32 { format } else { Format::Bgrx32 };
    Ok(Unpacked::of_pixels(format, size, top_down, pixels))
}

/// The alpha plane of a JPEG_ALPHA image: whether its first row is the top one, and one byte per
/// pixel.
pub(crate) fn unpack_alpha(packed: &[u8], size: Size) -> Result<(bool, Vec<u8>), SpiceError> {
    let mut input = Input::new(packed, WHAT);
    let Header { kind, top_down, stride } = header(&mut input, size)?;
    if kind != TYPE_ALPHA_PLANE || u64::from(stride) != Format::Bgra32.row_bytes(size.width) {
        return Err(input.malformed("it is not the alpha of its image"));
    }
    Ok((top_down, units(&mut input, size.area(), &INDICES)?.into_flattened()))
}

fn header(input: &mut Input<'_>, size: Size) -> Result<Header, SpiceError> {
    if input.u32()? != MAGIC || input.u32()? != VERSION {
        return Err(input.malformed("it does not begin as lz 1.1"));
    }
    let kind = input.u32()?;
    size.agree(input.what(), input.u32()?, input.u32()?)?;
    let stride = input.u32()?;
    Ok(Header { kind, stride, top_down: input.u32()? != 0 })
}

/// Makes exactly `wanted` units.
fn units<const N: usize>(
    input: &mut Input<'_>,
    wanted: usize,
    unit: &Unit<N>,
) -> Result<Vec<[u8; N]>, SpiceError> {
    check_expansion(WHAT, input.remaining(), wanted, UNITS_PER_BYTE_MAX)?;
    let mut made = Vec::with_capacity(wanted);
    while made.len() < wanted {
        match token(input)? {
            Token::Literals(count) => {
                check_room(WHAT, made.len(), count, wanted)?;
                let literals = input.take(count.saturating_mul(unit.packed))?;
                made.extend(literals.chunks_exact(unit.packed).map(unit.make));
            }
            Token::Copy { distance, length } => {
                let count = length.saturating_add(unit.bias);
                check_room(WHAT, made.len(), count, wanted)?;
                repeat(WHAT, &mut made, distance, count)?;
            }
        }
    }
    Ok(made)
}

fn token(input: &mut Input<'_>) -> Result<Token, SpiceError> {
    let control = input.u8()?;
    if control < LITERALS {
        return Ok(Token::Literals(usize::from(control) + 1));
    }
    let mut length = usize::from(control >> 5) - 1;
    if length == 6 {
        length = input.extension()?.saturating_add(length);
    }
    let mut distance = usize::from(control & 31) << 8 | usize::from(input.u8()?);
    if distance == DISTANCE_FAR {
        distance += usize::from(input.u16()?);
    }
    Ok(Token::Copy { distance: distance + 1, length })
}

fn byte(packed: &[u8]) -> [u8; 1] {
    packed.first_chunk().copied().unwrap_or_default()
}

fn swapped(packed: &[u8]) -> [u8; 2] {
    let [high, low] = packed.first_chunk().copied().unwrap_or_default();
    [low, high]
}

fn bgr(packed: &[u8]) -> [u8; 4] {
    let [blue, green, red] = packed.first_chunk().copied().unwrap_or_default();
    [blue, green, red, 255]
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Pixel, lz_header, lz_tokens, pictures};
    use super::*;

    fn packed_rgb(pixel: &Pixel) -> Vec<u8> {
        pixel[..3].to_vec()
    }

    fn rgb32(size: Size, pixels: &[Pixel]) -> Vec<u8> {
        let mut packed = lz_header(8, size, size.width * 4, 1);
        // Alpha does not travel: it must not part what is equal.
        let opaque: Vec<Pixel> = pixels.iter().map(|[b, g, r, _]| [*b, *g, *r, 255]).collect();
        packed.extend(lz_tokens(&opaque, 1, packed_rgb));
        packed
    }

    fn alphas(pixels: &[Pixel]) -> Vec<[u8; 1]> {
        pixels.iter().map(|[_, _, _, alpha]| [*alpha]).collect()
    }

    #[test]
    fn colours_and_alpha_come_back_as_they_were() {
        for (size, pixels) in pictures() {
            let unpacked = unpack(&rgb32(size, &pixels), size).unwrap();
            let expected: Vec<u8> =
                pixels.iter().flat_map(|[b, g, r, _]| [*b, *g, *r, 255]).collect();
            assert_eq!(unpacked.data, expected);
            assert_eq!((unpacked.format, unpacked.top_down), (Format::Bgrx32, true));

            let mut packed = rgb32(size, &pixels);
            packed[11] = 9;
            packed.extend(lz_tokens(&alphas(&pixels), 3, |alpha| alpha.to_vec()));
            let unpacked = unpack(&packed, size).unwrap();
            assert_eq!(
                (unpacked.data, unpacked.format),
                (pixels.into_flattened().into(), Format::Bgra32)
            );
        }
    }

    #[test]
    fn rows_of_other_depths_come_back_as_they_were() {
        for (size, pixels) in pictures() {
            let units: Vec<[u8; 2]> =
                pixels.iter().map(|[low, high, ..]| [*low, *high & 127]).collect();
            let mut packed = lz_header(6, size, size.width * 2, 0);
            packed.extend(lz_tokens(&units, 2, |[low, high]| vec![*high, *low]));
            let unpacked = unpack(&packed, size).unwrap();
            assert_eq!((unpacked.format, unpacked.top_down), (Format::Rgb555, false));
            assert_eq!(unpacked.data, units.into_flattened());

            for (kind, per_byte) in [(1, 8), (2, 8), (3, 2), (4, 2), (5, 1), (11, 1)] {
                let stride = size.width.div_ceil(per_byte);
                let bytes = usize::try_from(stride * size.height).unwrap();
                let units: Vec<_> = alphas(&pixels).into_iter().cycle().take(bytes).collect();
                let mut packed = lz_header(kind, size, stride, 1);
                packed.extend(lz_tokens(&units, 3, |byte| byte.to_vec()));
                let unpacked = unpack(&packed, size).unwrap();
                assert_eq!(
                    (unpacked.stride, unpacked.data),
                    (stride, units.into_flattened().into())
                );
            }
        }
    }

    #[test]
    fn far_distances_reach_back_beyond_8192_pixels() {
        let size = Size::new(7000, 15).unwrap();
        let pixels: Vec<Pixel> = (0..size.area())
            .map(|index| {
                let [low, high, more, _] = u32::try_from(index % 73_000).unwrap().to_le_bytes();
                [low, high, more, 255]
            })
            .collect();
        let packed = rgb32(size, &pixels);
        assert!(packed.len() < 73_000 * 4, "there was no copy: {}", packed.len());
        assert_eq!(unpack(&packed, size).unwrap().data, pixels.into_flattened());
    }

    #[test]
    fn an_alpha_plane_comes_back_with_its_orientation() {
        let (size, pixels) = pictures().swap_remove(37);
        let mut packed = lz_header(10, size, size.width * 4, 0);
        packed.extend(lz_tokens(&alphas(&pixels), 3, |alpha| alpha.to_vec()));
        let expected = (false, alphas(&pixels).into_flattened());
        assert_eq!(unpack_alpha(&packed, size), Ok(expected));
        assert!(unpack(&packed, size).is_err(), "it has no colours");
    }

    #[test]
    fn a_cut_or_contradictory_image_is_refused() {
        let (size, pixels) = pictures().swap_remove(33);
        let packed = rgb32(size, &pixels);
        for end in 0..packed.len() {
            assert!(unpack(&packed[..end], size).is_err(), "cut at {end} of {}", packed.len());
        }
        let other = Size::new(size.width, size.height + 1).unwrap();
        assert!(unpack(&packed, other).is_err());
        for (place, value) in [(0, 1), (5, 9), (11, 0), (11, 12), (11, 10), (23, 1)] {
            let mut damaged = packed.clone();
            damaged[place] = value;
            assert!(unpack(&damaged, size).is_err(), "{value} at {place}");
        }
    }

    #[test]
    fn no_memory_is_taken_for_more_than_the_bytes_can_make() {
        let size = Size::new(7680, 4352).unwrap();
        let packed = [lz_header(8, size, 4 * 7680, 1), vec![255; 1000]].concat();
        assert_eq!(unpack(&packed, size), Err(SpiceError::Truncated { what: WHAT }));
    }
}
