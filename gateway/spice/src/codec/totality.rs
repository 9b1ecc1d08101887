//! No bytes make a decoder panic, and what it gives is whole.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;

use super::dictionary::GlzDictionary;
use super::glz::{Glz, Progress};
use super::samples::{Pixel, glz_header, glz_tokens, jpeg, lz_header, lz_tokens, pictures};
use super::{Size, Unpacked, jpeg as jpeg_codec, lz, lz4, quic, zlib};
use crate::error::SpiceError;

fn size() -> impl Strategy<Value = Size> {
    (1..50_u32, 1..30_u32).prop_map(|(width, height)| Size::new(width, height).unwrap())
}

/// Bytes in which short copies and long ones are as likely as literals.
fn tokens() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        (0..32_u8).prop_map(|count| vec![count]),
        any::<u8>().prop_map(|byte| vec![byte]),
        (32..=255_u8, 0..4_u8).prop_map(|(control, distance)| vec![control & 0xe0, distance, 0]),
        Just(vec![255, 255]),
        vec(any::<u8>(), 0..100),
    ];
    vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

fn check(unpacked: Result<Unpacked, SpiceError>, size: Size) -> Result<bool, TestCaseError> {
    let Ok(unpacked) = unpacked else { return Ok(false) };
    prop_assert_eq!(unpacked.size, size);
    prop_assert!(u64::from(unpacked.stride) >= unpacked.format.row_bytes(size.width));
    let bytes = usize::try_from(unpacked.stride).unwrap() * size.rows();
    prop_assert_eq!(unpacked.data.len(), bytes);
    Ok(true)
}

/// Changes some bytes of an image that is sound.
fn damage(mut packed: Vec<u8>, changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (place, value) in changes {
        let place = place.index(packed.len());
        packed[place] = *value;
    }
    packed
}

/// A picture, as LZ and as GLZ.
type Packed = (Size, Vec<u8>, Vec<u8>);

/// Small pictures.
static SMALL: LazyLock<Vec<Packed>> = LazyLock::new(|| {
    let small = pictures().into_iter().filter(|(size, _)| size.area() < 4000);
    let pack = |(size, pixels): (Size, Vec<Pixel>)| {
        let opaque: Vec<_> = pixels.iter().map(|[b, g, r, _]| [*b, *g, *r, 255]).collect();
        let tokens = lz_tokens(&opaque, 1, |pixel| pixel[..3].to_vec());
        let lz_packed = [lz_header(8, size, 4 * size.width, 1), tokens].concat();
        let glz_packed = [glz_header(8, size, 0, 0), glz_tokens(&opaque, &[])].concat();
        (size, lz_packed, glz_packed)
    };
    small.map(pack).collect()
});

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn lz_is_whole_or_refused(size in size(), kind in 0..13_u32, tokens in tokens()) {
        let (bits, top_down) = ([0, 1, 1, 4, 4, 8, 16, 24, 32, 32, 32, 8, 8][kind as usize], kind % 2);
        let stride = (size.width * bits).div_ceil(8);
        let packed = [lz_header(kind, size, stride, top_down), tokens].concat();
        check(lz::unpack(&packed, size), size)?;
        if let Ok((_, alphas)) = lz::unpack_alpha(&packed, size) {
            prop_assert_eq!(alphas.len(), size.area());
        }
    }

    #[test]
    fn quic_is_whole_or_refused(
        size in size(),
        kind in 0..7_u32,
        bits in prop_oneof![vec(any::<u8>(), 0..3000), vec(Just(255_u8), 0..3000)],
    ) {
        let header = [u32::from_le_bytes(*b"QUIC"), 0, kind, size.width, size.height];
        let header: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
        check(quic::unpack(&[header, bits].concat(), size), size)?;
    }

    #[test]
    fn glz_is_whole_or_refused_or_waits(
        images in vec((size(), 5..11_u8, 0..9_u64, 0..9_u32, tokens()), 1..6),
    ) {
        let dictionary = GlzDictionary::new(1500);
        for (size, kind, id, head, tokens) in images {
            let packed = [glz_header(kind, size, id, head), tokens].concat();
            let Ok(mut glz) = Glz::open(packed.into(), size, &dictionary) else { continue };
            match glz.resume(&dictionary) {
                Ok(Progress::Done(unpacked)) => {
                    check(Ok(unpacked), size)?;
                }
                Ok(Progress::Awaits(awaited)) => prop_assert!(!dictionary.has_seen(awaited)),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn lz4_is_whole_or_refused(
        size in size(),
        format in 0..12_u8,
        blocks in vec(vec(any::<u8>(), 0..200), 0..6),
    ) {
        let mut packed = vec![1, format];
        for block in blocks {
            packed.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            packed.extend(block);
        }
        check(lz4::unpack(&packed, size), size)?;
    }

    #[test]
    fn damaged_images_are_whole_or_refused(
        which in any::<prop::sample::Index>(),
        changes in changes(),
    ) {
        let (size, lz_packed, glz_packed) = which.get(&SMALL);
        let lz_packed = damage(lz_packed.clone(), &changes);
        check(lz::unpack(&lz_packed, *size), *size)?;
        let glz_packed = damage(glz_packed.clone(), &changes).into();
        let dictionary = GlzDictionary::new(1 << 16);
        if let Ok(mut glz) = Glz::open(glz_packed, *size, &dictionary)
            && let Ok(Progress::Done(unpacked)) = glz.resume(&dictionary)
        {
            check(Ok(unpacked), *size)?;
        }
    }

    #[test]
    fn damaged_jpegs_are_whole_or_refused(
        size in size(),
        greys in vec(any::<u8>(), 28),
        changes in changes(),
        cut in any::<prop::sample::Index>(),
    ) {
        let blocks = size.columns().div_ceil(8) * size.rows().div_ceil(8);
        let packed = damage(jpeg(size, &greys[..blocks.min(28)]), &changes);
        check(jpeg_codec::unpack(&packed, size), size)?;
        check(jpeg_codec::unpack(&packed[..cut.index(packed.len())], size), size)?;
    }

    #[test]
    fn anything_is_refused_or_whole(size in size(), bytes in vec(any::<u8>(), 0..200), more in 0..2000_u32) {
        check(jpeg_codec::unpack(&bytes, size), size)?;
        check(jpeg_codec::unpack_with_alpha(&bytes, more, size), size)?;
        if let Ok(unpacked) = zlib::unpack(&bytes, more) {
            prop_assert_eq!(unpacked.len(), usize::try_from(more).unwrap());
        }
    }
}
