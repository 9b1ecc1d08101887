//! Images through an encoder of our own and back, and images that are cut or damaged.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::samples::{Pixel, pictures};
use super::plane::encoder::Writer;
use super::*;

fn start(kind: u32, size: Size) -> Writer {
    let mut out = Writer::default();
    for word in [MAGIC, VERSION, kind, size.width, size.height] {
        out.put(word, 32);
    }
    out
}

fn finish(mut out: Writer) -> Vec<u8> {
    out.put(0, 32);
    out.finish()
}

fn encode<const CHANNELS: usize>(
    kind: u32,
    size: Size,
    depth: &'static model::Depth,
    pixels: &[[u8; CHANNELS]],
) -> Vec<u8> {
    let (mut out, mut plane) = (start(kind, size), Plane::new(depth));
    pixels.chunks(size.columns()).for_each(|row| plane.write(row, &mut out));
    finish(out)
}

fn encode_with_alpha(size: Size, pixels: &[Pixel]) -> Vec<u8> {
    let mut out = start(kind::RGBA, size);
    let (mut colors, mut alphas) = (Plane::new(&DEPTH_8), Plane::new(&DEPTH_8));
    for row in pixels.chunks(size.columns()) {
        colors.write(&row.iter().map(|[b, g, r, _]| [*r, *g, *b]).collect::<Vec<_>>(), &mut out);
        alphas.write(&row.iter().map(|[_, _, _, a]| [*a]).collect::<Vec<_>>(), &mut out);
    }
    finish(out)
}

fn check(packed: &[u8], size: Size, expected: impl Iterator<Item = Pixel>) {
    let unpacked = unpack(packed, size).unwrap();
    let expected: Vec<Pixel> = expected.collect();
    assert!(unpacked.data == expected.as_flattened(), "{size:?}");
    assert!(unpacked.top_down);
}

#[test]
fn images_of_every_type_come_back_as_they_were() {
    for (size, pixels) in pictures() {
        let grays: Vec<_> = pixels.iter().map(|[b, ..]| [*b]).collect();
        let packed = encode(kind::GRAY, size, &DEPTH_8, &grays);
        check(&packed, size, grays.iter().map(|[gray]| [*gray, *gray, *gray, 255]));

        let fives: Vec<_> = pixels.iter().map(|[b, g, r, _]| [r & 31, g & 31, b & 31]).collect();
        let packed = encode(kind::RGB16, size, &DEPTH_5, &fives);
        let widened = |[r, g, b]: &[u8; 3]| [widen5(*b), widen5(*g), widen5(*r), 255];
        check(&packed, size, fives.iter().map(widened));

        let colors: Vec<_> = pixels.iter().map(|[b, g, r, _]| [*r, *g, *b]).collect();
        for kind in [kind::RGB24, kind::RGB32] {
            let packed = encode(kind, size, &DEPTH_8, &colors);
            check(&packed, size, colors.iter().map(|[r, g, b]| [*b, *g, *r, 255]));
        }
        check(&encode_with_alpha(size, &pixels), size, pixels.into_iter());
    }
}

#[test]
fn what_repeats_itself_takes_few_bits() {
    let size = Size::new(4000, 200).unwrap();
    let packed = encode(kind::RGB32, size, &DEPTH_8, &vec![[1, 2, 3]; size.area()]);
    assert!(packed.len() < 5000, "{} bytes", packed.len());
    assert_eq!(unpack(&packed, size).unwrap().data, [3, 2, 1, 255].repeat(size.area()));
}

#[test]
fn a_cut_or_contradictory_image_is_refused() {
    let (size, pixels) = pictures().swap_remove(39);
    let packed = encode_with_alpha(size, &pixels);
    // The last word is there for readers that look ahead.
    for end in 0..packed.len() - 4 {
        assert!(unpack(&packed[..end], size).is_err(), "cut at {end} of {}", packed.len());
    }
    let other = Size::new(size.width + 1, size.height).unwrap();
    assert!(unpack(&packed, other).is_err());
    for (place, value) in [(0, 0), (4, 1), (8, 0), (8, 6), (12, 0), (16, 1)] {
        let mut damaged = packed.clone();
        damaged[place] = value;
        assert!(unpack(&damaged, size).is_err(), "{value} at {place}");
    }
}

#[test]
fn a_size_that_the_bits_cannot_fill_takes_no_memory() {
    let size = Size::new(7680, 4352).unwrap();
    let mut packed = finish(start(kind::RGB32, size));
    packed.resize(1400, 0xff);
    assert_eq!(unpack(&packed, size), Err(SpiceError::Truncated { what: WHAT }));
}

#[test]
fn a_run_beyond_its_row_is_refused() {
    let size = Size::new(8, 2).unwrap();
    let colors = vec![[0, 0, 0]; size.area()];
    let mut packed = encode(kind::RGB32, size, &DEPTH_8, &colors);
    let sound = packed.len();
    let refused = (20..sound - 4).filter(|place| {
        let before = std::mem::replace(&mut packed[*place], 0xff);
        let refused = unpack(&packed, size) == Err(malformed("a run goes beyond its row"));
        packed[*place] = before;
        refused
    });
    assert!(refused.count() > 0);
}

/// Small pictures, packed.
static SMALL: LazyLock<Vec<(Size, Vec<u8>)>> = LazyLock::new(|| {
    let small = pictures().into_iter().filter(|(size, _)| size.area() < 4000);
    small.map(|(size, pixels)| (size, encode_with_alpha(size, &pixels))).collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_damaged_image_is_whole_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (size, packed) = which.get(&SMALL);
        let (size, mut packed) = (*size, packed.clone());
        for (place, value) in changes {
            let place = place.index(packed.len());
            packed[place] = value;
        }
        if let Ok(unpacked) = unpack(&packed, size) {
            prop_assert_eq!(unpacked.data.len(), 4 * size.area());
        }
    }
}
