//! Pictures, and encoders of our own for them, for the tests of the decoders.

use super::Size;

/// Blue, green, red, alpha.
pub(crate) type Pixel = [u8; 4];

/// Pictures as guests draw them, of odd sizes and of one that passes all levels of QUIC.
pub(crate) fn pictures() -> Vec<(Size, Vec<Pixel>)> {
    let sizes = [(1, 1), (1, 5), (5, 1), (2, 2), (4, 3), (7, 9), (64, 48), (641, 33), (3, 700)];
    let draws: [fn(u32, u32) -> Pixel; 6] = [
        |_, _| [7, 7, 7, 7],
        |x, y| [low(x), low(y), low(x + y), low(x * y)],
        |x, y| noise(x, y),
        // Windows with text: runs in both directions, broken now and then.
        |x, y| if (x / 9 + y / 5) % 4 == 0 && (x * 7 + y * 3) % 5 < 2 { [20; 4] } else { [235; 4] },
        |x, y| if y % 11 == 0 { noise(x, y) } else { [low(x / 40), 90, 200, 255] },
        |x, y| [low(x * 3 / 2), low(x / 4 + y), low(y * 2), 128 + low(x) / 2],
    ];
    let one = |(width, height): (u32, u32), draw: fn(u32, u32) -> Pixel| {
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| draw(x, y)));
        (Size::new(width, height).unwrap(), rows.collect())
    };
    sizes.into_iter().flat_map(|size| draws.into_iter().map(move |draw| one(size, draw))).collect()
}

fn low(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

fn noise(x: u32, y: u32) -> Pixel {
    let mixed =
        (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
    (mixed ^ (mixed >> 15)).to_le_bytes()
}

/// LZ's header (big endian).
pub(crate) fn lz_header(kind: u32, size: Size, stride: u32, top_down: u32) -> Vec<u8> {
    [0x2020_5a4c, 0x0001_0001, kind, size.width, size.height, stride, top_down]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect()
}

/// LZ's tokens for `units`; `pack` gives the bytes of one.
pub(crate) fn lz_tokens<const N: usize>(
    units: &[[u8; N]],
    bias: usize,
    pack: fn(&[u8; N]) -> Vec<u8>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut literals = Vec::new();
    let mut at = 0;
    while at < units.len() {
        let distances =
            (1..66).chain(8190..8194).chain([73_000]).filter(|distance| *distance <= at);
        let best = distances
            .map(|distance| (same(&units[at - distance..], &units[at..]), distance))
            .max_by_key(|(count, distance)| (*count, usize::MAX - distance));
        match best {
            Some((count, distance)) if count > bias + 2 => {
                flush(&mut out, &mut literals, pack);
                let length = count - bias;
                let (high, low) = (distance.min(8192) - 1, distance.saturating_sub(8192));
                let top = (high >> 8).to_le_bytes()[0];
                if length < 6 {
                    out.push((length + 1).to_le_bytes()[0] << 5 | top);
                } else {
                    out.push(7 << 5 | top);
                    extend(&mut out, length - 6);
                }
                out.push(high.to_le_bytes()[0]);
                if distance >= 8192 {
                    out.extend(u16::try_from(low).unwrap().to_be_bytes());
                }
                at += count;
            }
            _ => {
                literals.push(units[at]);
                at += 1;
            }
        }
    }
    flush(&mut out, &mut literals, pack);
    out
}

fn same<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn flush<T>(out: &mut Vec<u8>, literals: &mut Vec<T>, pack: fn(&T) -> Vec<u8>) {
    for some in literals.chunks(32) {
        out.push(u8::try_from(some.len() - 1).unwrap());
        out.extend(some.iter().flat_map(pack));
    }
    literals.clear();
}

fn extend(out: &mut Vec<u8>, mut length: usize) {
    while length >= 255 {
        out.push(255);
        length -= 255;
    }
    out.push(length.to_le_bytes()[0]);
}

/// GLZ's header (big endian).
pub(crate) fn glz_header(kind: u8, size: Size, id: u64, head_distance: u32) -> Vec<u8> {
    let mut out: Vec<u8> =
        [0x2020_5a4c, 0x0001_0001].into_iter().flat_map(u32::to_be_bytes).collect();
    out.push(kind);
    out.extend([size.width, size.height, 0].into_iter().flat_map(u32::to_be_bytes));
    out.extend(id.to_be_bytes());
    out.extend(head_distance.to_be_bytes());
    out
}

/// One copy of GLZ, `length` being without the bias.
pub(crate) fn glz_copy(out: &mut Vec<u8>, images: u32, place: usize, length: usize) {
    let bytes = |value: usize| value.to_le_bytes();
    let far = place >= 1 << 12;
    let first = bytes(length.min(7))[0] << 5 | if far { 16 } else { 0 } | bytes(place & 15)[0];
    out.push(first);
    if length >= 7 {
        extend(out, length - 7);
    }
    out.push(bytes(place >> 4)[0]);
    let (in_third, rest) = if far { (0, images) } else { (images & 63, images >> 6) };
    let names = (0..4).find(|count| u64::from(rest) < 1 << (8 * count)).unwrap();
    let long = place >= 1 << 17;
    let third =
        if far { bytes(place >> 12)[0] & 31 | if long { 32 } else { 0 } } else { low(in_third) };
    out.push(third | low(names) << 6);
    out.extend(&rest.to_le_bytes()[..usize::try_from(names).unwrap()]);
    if long {
        out.push(bytes(place >> 17)[0]);
    }
}

/// GLZ's tokens for `pixels`, of which those in `earlier` (how many images ago, its pixels) are
/// referred to.
pub(crate) fn glz_tokens(pixels: &[Pixel], earlier: &[(u32, &[Pixel])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut literals = Vec::new();
    let pack = |pixel: &Pixel| pixel[..3].to_vec();
    let mut at = 0;
    while at < pixels.len() {
        let own = (1..66).filter(|distance| *distance <= at);
        let own =
            own.map(|distance| (same(&pixels[at - distance..], &pixels[at..]), 0, distance - 1));
        let others = earlier.iter().flat_map(|(images, image)| {
            let places =
                [0, 17, at, 1 << 12, 1 << 17].into_iter().filter(|place| *place < image.len());
            places.map(|place| (same(&image[place..], &pixels[at..]), *images, place))
        });
        match own.chain(others).max_by_key(|(count, images, _)| (*count, *images)) {
            Some((count, images, place)) if count > 2 => {
                flush(&mut out, &mut literals, pack);
                glz_copy(&mut out, images, place, count);
                at += count;
            }
            _ => {
                literals.push(pixels[at]);
                at += 1;
            }
        }
    }
    flush(&mut out, &mut literals, pack);
    out
}

/// A baseline JPEG of grey blocks of 8 x 8, block i being `greys[i]`, in three components without
/// subsampling.
pub(crate) fn jpeg(size: Size, greys: &[u8]) -> Vec<u8> {
    let side = |length: u32| u16::try_from(length).unwrap().to_be_bytes();
    let mut out = vec![0xff, 0xd8];
    // Every coefficient counts 8: a DC of 1 is one step of grey.
    out.extend([0xff, 0xdb, 0, 67, 0].into_iter().chain([8; 64]));
    out.extend([0xff, 0xc0, 0, 17, 8].into_iter().chain(side(size.height)).chain(side(size.width)));
    out.extend([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
    // DC: categories 0 to 11 are codes of 4 bits. AC: the end of a block is the code 0.
    out.extend([0xff, 0xc4, 0, 31, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(0..12);
    out.extend([0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend([0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0]);
    let mut bits = Vec::new();
    let mut put =
        |value: u32, count: u32| bits.extend((0..count).rev().map(|bit| value >> bit & 1));
    let mut before = 128_i32;
    for grey in greys {
        let difference = i32::from(*grey) - before;
        before = i32::from(*grey);
        let category = 32 - difference.unsigned_abs().leading_zeros();
        put(category, 4);
        let value = if difference < 0 { difference + (1 << category) - 1 } else { difference };
        put(value.unsigned_abs(), category);
        put(0, 1);
        // No colour: differences of 0, and their ends.
        put(0, 5);
        put(0, 5);
    }
    for byte in bits.chunks(8) {
        let byte = (0..8).map(|bit| byte.get(bit).copied().unwrap_or(1) << (7 - bit)).sum::<u32>();
        out.push(low(byte));
        if byte == 0xff {
            out.push(0);
        }
    }
    out.extend([0xff, 0xd9]);
    out
}
