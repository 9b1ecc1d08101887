//! LZ as spice-server sends it to a client that has no GLZ (spice-common, `lz.c`): a header in big
//! endian, then runs of pixels as they are and copies of earlier ones.

/// "  ZL", read as big endian.
const MAGIC: u32 = 0x2020_5a4c;
/// 1.1
const VERSION: u32 = 0x0001_0001;
/// `LZ_IMAGE_TYPE_RGB32`
const TYPE_RGB32: u32 = 8;
/// Pixels that one token holds as they are.
const LITERALS_MAX: usize = 32;
/// A distance from here on needs two more bytes.
const DISTANCE_FAR: usize = 8191;
/// The largest distance that a token can name.
const DISTANCE_MAX: usize = DISTANCE_FAR + 0xffff;
/// A copy of fewer pixels saves nothing.
const COPY_MIN: usize = 2;
/// What a token holds of a copy's length; more follows in bytes.
const LENGTH_SHORT_MAX: usize = 6;
const TABLE_BITS: u32 = 14;

/// Packs rows of 4 bytes a pixel (blue, green, red, unused), top row first.
pub(crate) fn pack(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / 8 + 64);
    for word in [MAGIC, VERSION, TYPE_RGB32, width, height, width * 4, 1] {
        out.extend(word.to_be_bytes());
    }
    let (pixels, _none) = pixels.as_chunks::<4>();
    // Alpha does not travel: it must not part what is equal.
    let same = |one: usize, other: usize| pixels[one][..3] == pixels[other][..3];
    let mut table = vec![usize::MAX; 1 << TABLE_BITS];
    let (mut at, mut literals) = (0, 0);
    while at < pixels.len() {
        let mut from = usize::MAX;
        if at + 1 < pixels.len() {
            let slot = slot(pixels[at], pixels[at + 1]);
            from = if 0 < at && same(at - 1, at) { at - 1 } else { table[slot] };
            table[slot] = at;
        }
        let near = from != usize::MAX && at - from <= DISTANCE_MAX;
        let length = match near {
            true => (at..pixels.len()).take_while(|next| same(*next, from + next - at)).count(),
            false => 0,
        };
        if COPY_MIN <= length {
            flush(&pixels[literals..at], &mut out);
            copy(at - from, length, &mut out);
            at += length;
            literals = at;
        } else {
            at += 1;
        }
    }
    flush(&pixels[literals..], &mut out);
    out
}

fn slot(one: [u8; 4], other: [u8; 4]) -> usize {
    let word = |pixel: [u8; 4]| u64::from(u32::from_le_bytes(pixel) & 0x00ff_ffff);
    let mixed = (word(one) << 24 | word(other)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - TABLE_BITS)) as usize
}

fn flush(literals: &[[u8; 4]], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        for pixel in run {
            out.extend_from_slice(&pixel[..3]);
        }
    }
}

fn copy(distance: usize, count: usize, out: &mut Vec<u8>) {
    let (distance, length) = (distance - 1, count - 1);
    let near = distance.min(DISTANCE_FAR);
    let head = |length: usize| (((length + 1) << 5) | (near >> 8)) as u8;
    if length < LENGTH_SHORT_MAX {
        out.push(head(length));
    } else {
        out.push(head(LENGTH_SHORT_MAX));
        let mut rest = length - LENGTH_SHORT_MAX;
        while 255 <= rest {
            out.push(255);
            rest -= 255;
        }
        out.push(rest as u8);
    }
    out.push(near as u8);
    if near == DISTANCE_FAR {
        out.extend(((distance - DISTANCE_FAR) as u16).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Area, Picture};

    /// The reading side, from the format's description.
    fn unpack(packed: &[u8]) -> Vec<[u8; 3]> {
        let mut input = packed[28..].iter().map(|byte| usize::from(*byte));
        let mut pixels: Vec<[u8; 3]> = Vec::new();
        while let Some(control) = input.next() {
            if control < 32 {
                for _ in 0..=control {
                    pixels.push(std::array::from_fn(|_| input.next().unwrap() as u8));
                }
                continue;
            }
            let mut length = (control >> 5) - 1;
            while length >= 6 {
                let more = input.next().unwrap();
                length += more;
                if more != 255 {
                    break;
                }
            }
            let mut distance = (control & 31) << 8 | input.next().unwrap();
            if distance == DISTANCE_FAR {
                distance += input.next().unwrap() << 8 | input.next().unwrap();
            }
            for _ in 0..=length {
                pixels.push(pixels[pixels.len() - 1 - distance]);
            }
        }
        pixels
    }

    #[test]
    fn pictures_come_back_as_they_were() {
        let mut picture = Picture::new(200, 150);
        picture.text(3, 5, "The quick brown fox", [0, 0, 0]);
        let mut photo = Picture::photo(200, 150, 7);
        photo.fill(Area { x: 20, y: 20, width: 90, height: 90 }, [1, 2, 3]);
        for picture in [Picture::new(1, 1), Picture::new(640, 480), picture, photo] {
            let packed = pack(&picture.pixels, picture.width.into(), picture.height.into());
            let wanted: Vec<[u8; 3]> =
                picture.pixels.as_chunks::<4>().0.iter().map(|[b, g, r, _]| [*b, *g, *r]).collect();
            assert!(unpack(&packed) == wanted, "{}x{}", picture.width, picture.height);
        }
        assert!(pack(&Picture::new(640, 480).pixels, 640, 480).len() < 2_000);
    }
}
