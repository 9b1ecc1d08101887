//! The pixels of a surface, of which those that nobody draws take less memory.
//!
//! Bands of rows are packed with LZ4, each by itself: a caret that blinks in one of them leaves the
//! others packed. A band that is only read is unpacked for as long as it is read.

use std::sync::OnceLock;

use lz4_flex::block;

use crate::framebuffer::TILE;

/// Rows of one band: those of a row of tiles.
pub(crate) const BAND_ROWS: usize = TILE as usize;

/// The rows of a picture, without gaps.
#[derive(Debug, Default)]
pub(crate) struct PixelRows {
    width: usize,
    height: usize,
    /// All of them; empty while they rest.
    flat: Vec<u32>,
    /// While they rest: the same in bands.
    bands: Vec<Band>,
}

/// Rows that were drawn not long ago, or packed ones.
#[derive(Debug)]
enum Band {
    Open {
        pixels: Vec<u32>,
        /// Drawn since bands were packed last.
        is_drawn: bool,
    },
    Packed {
        bytes: Vec<u8>,
        pixels: usize,
        /// For who reads them.
        read: OnceLock<Vec<u32>>,
    },
}

impl PixelRows {
    /// Black ones.
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self { width, height, flat: vec![0; width * height], bands: Vec::new() }
    }

    /// All pixels; none while they rest.
    pub(crate) fn flat(&self) -> &[u32] {
        &self.flat
    }

    /// All pixels, which do not rest from now on.
    pub(crate) fn flat_mut(&mut self) -> &mut [u32] {
        if self.is_resting() {
            self.flat.reserve_exact(self.width * self.height);
            for band in std::mem::take(&mut self.bands) {
                self.flat.extend_from_slice(band.pixels());
            }
        }
        &mut self.flat
    }

    /// The row of this number; empty where there is none.
    pub(crate) fn row(&self, y: usize) -> &[u32] {
        let (pixels, y) = match self.bands.get(y / BAND_ROWS) {
            Some(band) => (band.pixels(), y % BAND_ROWS),
            None => (self.flat.as_slice(), y),
        };
        pixels.get(y * self.width..(y + 1) * self.width).unwrap_or_default()
    }

    /// The same, to be drawn on.
    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u32] {
        let (pixels, y) = match self.bands.get_mut(y / BAND_ROWS) {
            Some(band) => (band.draw(), y % BAND_ROWS),
            None => (self.flat.as_mut_slice(), y),
        };
        pixels.get_mut(y * self.width..(y + 1) * self.width).unwrap_or_default()
    }

    /// Packs the bands that nobody has drawn since the last time. `is_drawn` knows of which that is so
    /// while none was packed; where those are most, all stay as they are.
    pub(crate) fn rest(&mut self, is_drawn: impl Fn(usize) -> bool) {
        if !self.is_resting() {
            let count = self.height.div_ceil(BAND_ROWS);
            let drawn = (0..count).filter(|band| is_drawn(*band)).count();
            if count < drawn * 2 || self.width == 0 {
                return;
            }
            let bands = self.flat.chunks(BAND_ROWS * self.width).enumerate();
            let bands = bands.map(|(number, pixels)| match is_drawn(number) {
                true => Band::Open { pixels: pixels.to_vec(), is_drawn: false },
                false => Band::packed(pixels),
            });
            self.bands = bands.collect();
            self.flat = Vec::new();
            return;
        }
        let drawn = self.bands.iter().filter(|band| band.is_drawn()).count();
        if self.bands.len() < drawn * 2 {
            let _all = self.flat_mut();
            return;
        }
        for band in &mut self.bands {
            match band {
                Band::Open { is_drawn: is_drawn @ true, .. } => *is_drawn = false,
                Band::Open { pixels, .. } => *band = Band::packed(pixels),
                Band::Packed { read, .. } => drop(read.take()),
            }
        }
    }

    /// Whether they are in bands.
    pub(crate) const fn is_resting(&self) -> bool {
        !self.bands.is_empty()
    }

    /// Whether there is nothing to pack.
    pub(crate) fn is_packed(&self) -> bool {
        let packed =
            |band: &Band| matches!(band, Band::Packed { read, .. } if read.get().is_none());
        self.flat.is_empty() && self.bands.iter().all(packed)
    }

    /// Bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.flat.len() * 4 + self.bands.iter().map(Band::bytes).sum::<usize>()
    }
}

impl Band {
    fn packed(pixels: &[u32]) -> Self {
        let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let mut bytes = block::compress(&bytes);
        bytes.shrink_to_fit();
        Self::Packed { bytes, pixels: pixels.len(), read: OnceLock::new() }
    }

    fn pixels(&self) -> &[u32] {
        match self {
            Self::Open { pixels, .. } => pixels,
            Self::Packed { bytes, pixels, read } => read.get_or_init(|| unpacked(bytes, *pixels)),
        }
    }

    /// The pixels, to be drawn on.
    fn draw(&mut self) -> &mut [u32] {
        self.open();
        match self {
            Self::Open { pixels, is_drawn } => {
                *is_drawn = true;
                pixels
            }
            Self::Packed { .. } => &mut [],
        }
    }

    fn open(&mut self) {
        if let Self::Packed { bytes, pixels, read } = self {
            let pixels = read.take().unwrap_or_else(|| unpacked(bytes, *pixels));
            *self = Self::Open { pixels, is_drawn: true };
        }
    }

    const fn is_drawn(&self) -> bool {
        matches!(self, Self::Open { is_drawn: true, .. })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Open { pixels, .. } => pixels.len() * 4,
            Self::Packed { bytes, read, .. } => {
                bytes.capacity() + read.get().map_or(0, |pixels| pixels.len() * 4)
            }
        }
    }
}

/// As many pixels as were packed.
fn unpacked(bytes: &[u8], count: usize) -> Vec<u32> {
    // What was packed here is unpacked here: it fails for nothing but lost memory.
    let bytes = block::decompress(bytes, count * 4).unwrap_or_default();
    let mut pixels: Vec<u32> =
        bytes.as_chunks::<4>().0.iter().map(|pixel| u32::from_le_bytes(*pixel)).collect();
    pixels.resize(count, 0);
    pixels
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(rows: &PixelRows, height: usize) -> Vec<u32> {
        (0..height).flat_map(|y| rows.row(y).to_vec()).collect()
    }

    #[test]
    fn a_caret_leaves_the_other_bands_packed() {
        let mut rows = PixelRows::new(640, 640);
        rows.flat_mut().fill(0x00ff_ffff);
        rows.rest(|_band| false);
        let packed = rows.bytes();
        assert!(packed * 20 < 640 * 640 * 4 && rows.is_packed(), "{packed} bytes");
        for blink in 0..6 {
            rows.row_mut(100)[7] = blink;
            let open = rows.bytes();
            assert!(open < packed + 640 * BAND_ROWS * 4 && !rows.is_packed(), "{open} bytes");
            assert_eq!((rows.row(100)[7], rows.row(101)[7]), (blink, 0x00ff_ffff));
            rows.rest(|_band| unreachable!("they rest"));
        }
        // It has stopped: once for the last blink, once for the rest.
        rows.rest(|_band| unreachable!("they rest"));
        assert!(rows.is_packed());
        assert_eq!(rows.row(100)[7], 5);
        // What was read is let go.
        assert!(!rows.is_packed());
        rows.rest(|_band| unreachable!("they rest"));
        assert!(rows.is_packed());
    }

    #[test]
    fn what_is_drawn_all_over_is_not_packed() {
        let mut rows = PixelRows::new(64, 256);
        rows.rest(|_band| true);
        assert_eq!((rows.is_resting(), rows.bytes()), (false, 64 * 256 * 4));
        rows.rest(|band| band == 1);
        assert!(rows.is_resting());
        (0..256).for_each(|y| rows.row_mut(y).fill(3));
        rows.rest(|_band| false);
        assert_eq!((rows.is_resting(), rows.flat()), (false, &[3; 64 * 256][..]));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Draw(usize, u32),
        Rest,
        Wake,
    }

    proptest! {
        #[test]
        fn whatever_rests_shows_what_was_drawn(
            height in 1..300_usize,
            acts in proptest::collection::vec(prop_oneof![
                4 => (0..300_usize, any::<u32>()).prop_map(|(y, pixel)| Act::Draw(y, pixel)),
                2 => Just(Act::Rest),
                1 => Just(Act::Wake),
            ], 0..40),
        ) {
            let mut rows = PixelRows::new(5, height);
            let mut expected = vec![0; 5 * height];
            for act in acts {
                match act {
                    Act::Draw(y, pixel) => {
                        rows.row_mut(y).fill(pixel);
                        if y < height {
                            expected[y * 5..y * 5 + 5].fill(pixel);
                        }
                    }
                    Act::Rest => rows.rest(|band| band % 3 == 0),
                    Act::Wake => prop_assert_eq!(&*rows.flat_mut(), &expected[..]),
                }
                prop_assert_eq!(all(&rows, height), &expected[..]);
            }
        }
    }
}
