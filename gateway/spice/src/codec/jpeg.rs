//! JPEG, and JPEG with an alpha plane beside it (spice-common, `canvas_base.c`,
//! `canvas_get_jpeg_alpha`).

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Size, Unpacked, check_expansion, lz};
use crate::display::bitmap::Format;
use crate::error::SpiceError;

const WHAT: &str = "jpeg image";
/// Pixels that one byte can make at most: a block of 8 x 8 takes a bit.
const PIXELS_PER_BYTE_MAX: usize = 512;

/// A JPEG image, as BGRX.
pub(crate) fn unpack(packed: &[u8], size: Size) -> Result<Unpacked, SpiceError> {
    let pixels = colors(packed, size)?;
    Ok(Unpacked::of_pixels(Format::Bgrx32, size, true, pixels))
}

/// A JPEG image of `jpeg_size` bytes with its alpha plane behind it, as BGRA.
pub(crate) fn unpack_with_alpha(
    packed: &[u8],
    jpeg_size: u32,
    size: Size,
) -> Result<Unpacked, SpiceError> {
    let jpeg_size = usize::try_from(jpeg_size).unwrap_or(usize::MAX);
    let (jpeg, alpha) =
        packed.split_at_checked(jpeg_size).ok_or(SpiceError::Truncated { what: WHAT })?;
    let (top_down, alphas) = lz::unpack_alpha(alpha, size)?;
    let mut pixels = colors(jpeg, size)?;
    // The picture is top down in any case; only the plane follows the flag.
    let put = |(row, alphas): (&mut [[u8; 4]], &[u8])| {
        for ([_, _, _, alpha], value) in row.iter_mut().zip(alphas) {
            *alpha = *value;
        }
    };
    let alphas = alphas.chunks_exact(size.columns());
    let rows = pixels.chunks_exact_mut(size.columns());
    if top_down {
        rows.zip(alphas).for_each(put);
    } else {
        rows.zip(alphas.rev()).for_each(put);
    }
    Ok(Unpacked::of_pixels(Format::Bgra32, size, true, pixels))
}

fn colors(packed: &[u8], size: Size) -> Result<Vec<[u8; 4]>, SpiceError> {
    const DAMAGED: SpiceError =
        SpiceError::Malformed { what: WHAT, problem: "its jpeg stream is damaged" };
    check_expansion(WHAT, packed.len(), size.area(), PIXELS_PER_BYTE_MAX)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(size.columns())
        .set_max_height(size.rows())
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(packed), options);
    decoder.decode_headers().map_err(|_| DAMAGED)?;
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let (width, height) = decoder.dimensions().ok_or(DAMAGED)?;
    size.agree(WHAT, side(width), side(height))?;
    let bytes = decoder.decode().map_err(|_| DAMAGED)?;
    let (pixels, _rest) = bytes.as_chunks::<3>();
    if pixels.len() != size.area() {
        return Err(DAMAGED);
    }
    Ok(pixels.iter().map(|[red, green, blue]| [*blue, *green, *red, 255]).collect())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{jpeg, lz_header, lz_tokens};
    use super::*;

    #[test]
    fn blocks_come_back_in_their_places() {
        let size = Size::new(17, 9).unwrap();
        let greys = [0, 255, 128, 7, 99, 200];
        let unpacked = unpack(&jpeg(size, &greys), size).unwrap();
        let expected = |index: usize| {
            let grey = greys[index / 17 / 8 * 3 + index % 17 / 8];
            [grey, grey, grey, 255]
        };
        let expected: Vec<_> = (0..size.area()).map(expected).collect();
        assert_eq!(unpacked.data, expected.as_flattened());
        assert_eq!((unpacked.format, unpacked.top_down), (Format::Bgrx32, true));
    }

    #[test]
    fn an_alpha_plane_follows_its_own_orientation() {
        let size = Size::new(2, 2).unwrap();
        let jpeg = jpeg(size, &[50]);
        for (top_down, rows) in [(1, [1, 2, 3, 4]), (0, [3, 4, 1, 2])] {
            let mut packed = jpeg.clone();
            packed.extend(lz_header(10, size, 8, top_down));
            packed.extend(lz_tokens(&[[1], [2], [3], [4]], 3, |alpha| alpha.to_vec()));
            let jpeg_size = u32::try_from(jpeg.len()).unwrap();
            let unpacked = unpack_with_alpha(&packed, jpeg_size, size).unwrap();
            let expected = rows.map(|alpha| [50, 50, 50, alpha]);
            assert_eq!(unpacked.data, expected.as_flattened());
            assert!(unpack_with_alpha(&packed, jpeg_size - 1, size).is_err());
            assert!(unpack_with_alpha(&packed, u32::MAX, size).is_err());
        }
    }

    #[test]
    fn a_cut_or_contradictory_image_is_refused() {
        let size = Size::new(24, 16).unwrap();
        let packed = jpeg(size, &[1, 50, 3, 200, 5, 60]);
        assert!(unpack(&packed, size).is_ok());
        // What is missing of the last blocks is made up; what comes before them is not.
        let scan = packed.len() - 12;
        for end in 0..packed.len() {
            let cut = unpack(&packed[..end], size);
            assert!(cut.is_err() || end > scan, "cut at {end} of {}", packed.len());
        }
        assert!(unpack(&packed, Size::new(24, 17).unwrap()).is_err());
        let large = Size::new(7680, 4352).unwrap();
        assert_eq!(unpack(&packed, large), Err(SpiceError::Truncated { what: WHAT }));
    }
}
