//! LZ4: blocks that share one history (spice-common, `canvas_base.c`, `canvas_get_lz4`).
//!
//! Top down u8, bitmap format u8, then blocks until the end: size u32 big endian, LZ4 block.

use super::input::Input;
use super::{Size, Unpacked, check_expansion};
use crate::display::bitmap::Format;
use crate::error::SpiceError;

const WHAT: &str = "lz4 image";
/// Bytes that one byte can make at most: a continuation of a length.
const BYTES_PER_BYTE_MAX: usize = 256;
/// How far back a block may refer (LZ4 block format, "offset").
const HISTORY: usize = 65_535;

/// An LZ4 image, with tight rows.
pub(crate) fn unpack(packed: &[u8], size: Size) -> Result<Unpacked, SpiceError> {
    let mut input = Input::new(packed, WHAT);
    let top_down = input.u8()? != 0;
    let format = match Format::from_wire(input.u8()?) {
        Some(format) if !format.has_palette() => format,
        _ => return Err(input.malformed("its bitmap format is not one of lz4")),
    };
    let stride = format.row_bytes(size.width);
    let bytes = usize::try_from(stride).unwrap_or(usize::MAX).saturating_mul(size.rows());
    check_expansion(WHAT, input.remaining(), bytes, BYTES_PER_BYTE_MAX)?;
    let mut data = vec![0; bytes];
    let mut made = 0;
    while made < bytes {
        let block = usize::try_from(input.u32()?).unwrap_or(usize::MAX);
        let block = input.take(block)?;
        let (history, rest) = data.split_at_mut(made);
        let near = history.get(made.saturating_sub(HISTORY)..).unwrap_or_default();
        match lz4_flex::block::decompress_into_with_dict(block, rest, near) {
            Ok(count) if count > 0 => made += count,
            _ => return Err(input.malformed("one of its blocks is damaged")),
        }
    }
    let stride = u32::try_from(stride).unwrap_or(u32::MAX);
    Ok(Unpacked { format, size, stride, top_down, data: data.into() })
}

#[cfg(test)]
mod tests {
    use super::super::samples::pictures;
    use super::*;

    /// One block of literals, or, for a second one, of a repetition of `count` bytes from
    /// `distance` before.
    fn literals(bytes: &[u8]) -> Vec<u8> {
        let mut block = vec![0xf0];
        let mut left = bytes.len() - 15;
        while left >= 255 {
            block.push(255);
            left -= 255;
        }
        block.push(left.to_le_bytes()[0]);
        block.extend(bytes);
        block
    }

    fn packed(format: u8, blocks: &[Vec<u8>]) -> Vec<u8> {
        let mut packed = vec![1, format];
        for block in blocks {
            packed.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            packed.extend(block);
        }
        packed
    }

    #[test]
    fn blocks_follow_each_other_and_refer_to_earlier_ones() {
        let (size, pixels) = pictures().swap_remove(38);
        let bytes = pixels.into_flattened();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let sound = packed(9, &[literals(first), literals(second)]);
        assert_eq!(unpack(&sound, size).unwrap().data, bytes);
        for end in 0..sound.len() {
            assert!(unpack(&sound[..end], size).is_err(), "cut at {end} of {}", sound.len());
        }

        // 20 bytes; then, in a block of its own, 15 of them again and 5 literals.
        let size = Size::new(5, 2).unwrap();
        let again = vec![0x0b, 20, 0, 0x50, 7, 7, 7, 7, 7];
        let first: Vec<u8> = (0..20).collect();
        let unpacked = unpack(&packed(8, &[literals(&first), again]), size).unwrap();
        let expected: Vec<u8> = (0..20).chain(0..15).chain([7; 5]).collect();
        assert_eq!(unpacked.data, expected);
    }

    #[test]
    fn other_formats_and_too_many_bytes_are_refused() {
        let size = Size::new(5, 1).unwrap();
        let bytes = [7; 20];
        assert!(unpack(&packed(8, &[literals(&bytes)]), size).is_ok());
        assert!(unpack(&packed(8, &[literals(&[7; 21])]), size).is_err());
        assert!(unpack(&packed(8, &[vec![0], literals(&bytes)]), size).is_err(), "an empty block");
        for format in [0, 1, 5, 11] {
            assert!(unpack(&packed(format, &[literals(&bytes)]), size).is_err());
        }
        let large = Size::new(7680, 4352).unwrap();
        let refused = unpack(&packed(8, &[literals(&bytes)]), large);
        assert_eq!(refused, Err(SpiceError::Truncated { what: WHAT }));
    }
}
