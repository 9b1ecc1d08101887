//! Pixels of a picture that nobody draws or needs, in less memory.
//!
//! LZ4 in pieces of a few rows, so that packing and unpacking never hold more than one piece twice.

use lz4_flex::block;

/// Pixels of one piece: 256 KiB.
const PIECE_PIXELS: usize = 64 * 1024;

/// Packed pixels.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pieces: Vec<Vec<u8>>,
}

impl Packed {
    /// Packs the pixels.
    pub(crate) fn new(pixels: &[u32]) -> Self {
        let piece = |pixels: &[u32]| {
            let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
            let mut packed = block::compress(&bytes);
            packed.shrink_to_fit();
            packed
        };
        Self { pieces: pixels.chunks(PIECE_PIXELS).map(piece).collect() }
    }

    /// The pixels, `count` as were packed.
    pub(crate) fn pixels(&self, count: usize) -> Vec<u32> {
        let mut pixels = Vec::with_capacity(count);
        for piece in &self.pieces {
            // What was packed here is unpacked here: it fails for nothing but lost memory.
            let bytes = block::decompress(piece, PIECE_PIXELS * 4).unwrap_or_default();
            pixels.extend(bytes.as_chunks::<4>().0.iter().map(|pixel| u32::from_le_bytes(*pixel)));
        }
        pixels.resize(count, 0);
        pixels
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(Vec::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            runs in proptest::collection::vec((any::<u32>(), 1..40_000_usize), 0..8),
        ) {
            let pixels: Vec<u32> =
                runs.iter().flat_map(|(pixel, count)| std::iter::repeat_n(*pixel, *count)).collect();
            let packed = Packed::new(&pixels);
            prop_assert!(packed.bytes() < pixels.len() * 4 / 20 + 2000);
            prop_assert_eq!(packed.pixels(pixels.len()), pixels);
        }
    }
}
