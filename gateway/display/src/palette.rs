//! Small images of few colours, for which a browser needs no decoder (`docs/display-protocol.md`,
//! "Palette images").

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Most colours of one: four bits a pixel. With more, other forms are as short.
const COLORS_MAX: usize = 16;

/// Longest image in bytes: 768 pixels of 16 colours, more of fewer. Above, an image that is packed is so
/// much shorter that it is worth its decoder's time.
const BYTES_MAX: usize = 448;

/// Pixels as numbers of colours.
#[derive(Debug)]
pub(crate) struct Paletted {
    /// Red, green and blue of each colour.
    pub(crate) colors: Vec<[u8; 3]>,
    /// Bits of a number: 1, 2, 4 or 8.
    pub(crate) bits: usize,
    /// The numbers, the leftmost in the highest bits; each row begins with a new byte.
    pub(crate) rows: Vec<u8>,
}

impl Paletted {
    /// These rows of `width` pixels, none of which is empty; none for what has more colours than
    /// `colors_max`, which is at most 256.
    pub(crate) fn new(pixels: &[u32], width: usize, colors_max: usize) -> Option<Self> {
        let mut known: BTreeMap<u32, u8> = BTreeMap::new();
        let mut colors = Vec::with_capacity(COLORS_MAX);
        let mut numbers: Vec<u8> = Vec::with_capacity(pixels.len());
        let mut last = None;
        for pixel in pixels {
            let number = match last {
                Some((same, number)) if same == *pixel => number,
                _ => *match known.entry(*pixel) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(_) if colors.len() >= colors_max => return None,
                    Entry::Vacant(entry) => {
                        let [_, red, green, blue] = pixel.to_be_bytes();
                        let number = u8::try_from(colors.len()).ok()?;
                        colors.push([red, green, blue]);
                        entry.insert(number)
                    }
                },
            };
            last = Some((*pixel, number));
            numbers.push(number);
        }
        let bits = match colors.len() {
            0 => return None,
            1..=2 => 1,
            3..=4 => 2,
            5..=16 => 4,
            _ => 8,
        };
        Some(Self { rows: packed(&numbers, width.max(1), bits), colors, bits })
    }
}

fn packed(numbers: &[u8], width: usize, bits: usize) -> Vec<u8> {
    let in_a_byte = 8 / bits;
    let mut rows = Vec::with_capacity(numbers.len() / in_a_byte);
    for row in numbers.chunks(width) {
        for together in row.chunks(in_a_byte) {
            let number = |position| u32::from(together.get(position).copied().unwrap_or(0));
            let byte = (0..in_a_byte).fold(0, |byte, position| (byte << bits) | number(position));
            rows.push(u8::try_from(byte).unwrap_or(0));
        }
    }
    rows
}

/// The image of these rows of `width` pixels; none for what has too many colours, or is too long.
pub(crate) fn encode(pixels: &[u32], width: usize) -> Option<Vec<u8>> {
    let Paletted { colors, rows, .. } = Paletted::new(pixels, width, COLORS_MAX)?;
    let mut data = vec![u8::try_from(colors.len().checked_sub(1)?).ok()?];
    data.extend(colors.iter().flatten());
    data.extend_from_slice(&rows);
    (data.len() <= BYTES_MAX).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_the_documented_bytes() {
        let (black, white, red) = (0, 0x00ff_ffff, 0x00ff_0000);
        let rows = [white, black, black, white, white, white, white, black, white];
        let expected = [1, 255, 255, 255, 0, 0, 0, 0b0110_0001, 0];
        assert_eq!(encode(&rows, 9).unwrap(), expected);
        let rows = [black, white, red, red, black, black];
        let expected = [2, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0b0001_1000, 0b1000_0000];
        assert_eq!(encode(&rows, 3).unwrap(), expected[..].to_vec());
        let many: Vec<u32> = (0..17).collect();
        assert_eq!(encode(&many, 17), None);
        assert_eq!(encode(&many[..16], 16).unwrap().len(), 1 + 48 + 8);
        assert_eq!(encode(&[], 3), None);
        let of_two: Vec<u32> = (0..4096).map(|index| index / 7 % 2).collect();
        assert_eq!(encode(&of_two[..3000], 60).unwrap().len(), 1 + 6 + 50 * 8);
        assert_eq!(encode(&of_two, 64), None, "a packed image is shorter");
    }
}
