//! Compressed images in drawing messages: caches, palettes, and dictionaries that channels share.

use super::super::{Copy, CopySource, DisplayChannel, DisplayEvent, ImageTransfer, server};
use super::*;
use crate::channel::Channel;
use crate::codec::samples::{glz_copy, glz_header, jpeg, lz_header, lz_tokens};
use crate::link::ChannelKind;
use crate::test_support::{Body, message};

const SIZE: [u32; 2] = [4, 2];

/// A channel with a surface of 8 x 4.
fn channel(transfer: ImageTransfer) -> DisplayChannel {
    let channel = Channel::opened(ChannelKind::Display);
    let mut display = DisplayChannel::over(channel, 0, transfer);
    let body = [0, 8, 4, 32, 1].into_iter().fold(Body::default(), Body::u32);
    assert!(tell(&mut display, server::SURFACE_CREATE, &body).unwrap().is_some());
    display
}

fn tell(
    display: &mut DisplayChannel,
    kind: u16,
    body: &Body,
) -> Result<Option<DisplayEvent>, SpiceError> {
    display.receive(&message(kind, &body.0)).unwrap();
    display.next_event()
}

/// A copy of an image with this number: its type, flags and what follows.
fn copy(id: u64, kind: u8, flags: u8, rest: &[u8]) -> Body {
    let [width, height] = SIZE;
    let area = [0, 0, height, width].map(|edge| i32::try_from(edge).unwrap());
    let body = Body::default().u32(0).i32s(&area).u8(0);
    let at = u32::try_from(body.0.len() + 4 + 16 + 2 + 1 + 13).unwrap();
    let body = body.u32(at).i32s(&area).u16(8).u8(1).bytes(&[0; 13]);
    body.u64(id).u8(kind).u8(flags).u32(width).u32(height).bytes(rest)
}

fn sized(packed: &[u8]) -> Vec<u8> {
    Body::default().u32(u32::try_from(packed.len()).unwrap()).bytes(packed).0
}

/// The pixels that a copy puts.
fn pixels(event: Result<Option<DisplayEvent>, SpiceError>) -> Vec<[u8; 4]> {
    match event {
        Ok(Some(DisplayEvent::Copy(Copy { source: CopySource::Pixels(pixels), .. }))) => {
            (0..pixels.height).flat_map(|y| pixels.row(y).unwrap().as_chunks().0.to_vec()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn size() -> Size {
    Size::new(SIZE[0], SIZE[1]).unwrap()
}

fn feature(event: Result<Option<DisplayEvent>, SpiceError>) -> Feature {
    match event {
        Ok(Some(DisplayEvent::Unsupported(unsupported))) => unsupported.feature,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lossy_image_is_replaced_by_a_lossless_one() {
    let mut display = channel(ImageTransfer::uncompressed());
    let from_cache = |lossless| copy(7, if lossless { 106 } else { 103 }, 0, &[]);
    let lossy = copy(7, 105, CACHE_ME, &sized(&jpeg(size(), &[90])));
    assert_eq!(pixels(tell(&mut display, server::DRAW_COPY, &lossy)), [[90, 90, 90, 255]; 8]);
    let cached = tell(&mut display, server::DRAW_COPY, &from_cache(false));
    assert_eq!(pixels(cached), [[90, 90, 90, 255]; 8]);
    let not_that = tell(&mut display, server::DRAW_COPY, &from_cache(true));
    assert_eq!(feature(not_that), Feature::UncachedImage(7));

    let mut lz = lz_header(8, size(), 16, 1);
    lz.extend(lz_tokens(&[[91, 90, 90, 255]; 8], 1, |pixel| pixel[..3].to_vec()));
    let exact = copy(7, 101, CACHE_REPLACE_ME, &sized(&lz));
    assert_eq!(pixels(tell(&mut display, server::DRAW_COPY, &exact)), [[91, 90, 90, 255]; 8]);
    for lossless in [false, true] {
        let cached = tell(&mut display, server::DRAW_COPY, &from_cache(lossless));
        assert_eq!(pixels(cached), [[91, 90, 90, 255]; 8]);
    }
}

#[test]
fn packed_indices_take_their_colours_from_a_palette_or_its_cache() {
    let mut display = channel(ImageTransfer::uncompressed());
    // 4 bits, the first pixel low: 0 1 2 3 in the bottom row, 3 3 3 3 in the top one.
    let mut lz = lz_header(3, size(), 2, 0);
    lz.extend(lz_tokens(&[[0x10], [0x32], [0x33], [0x33]], 3, |byte| byte.to_vec()));
    let data = u32::try_from(lz.len()).unwrap();
    let head = u32::try_from(copy(1, 100, 0, &[]).0.len()).unwrap();
    let colors = (0..4_u8).flat_map(|index| [index, 10 * index, 100, 0]).collect::<Vec<_>>();
    let with_palette = Body::default().u8(PALETTE_CACHE_ME).u32(data).u32(head + 9 + data);
    let with_palette = with_palette.bytes(&lz).u64(0x9a1).u16(4).bytes(&colors);
    let from_cache = Body::default().u8(PALETTE_FROM_CACHE).u32(data).u64(0x9a1).bytes(&lz);
    let color = |index: u8| [index, 10 * index, 100, 255];
    let expected = [3, 3, 3, 3, 0, 1, 2, 3].map(color);
    for rest in [with_palette, from_cache] {
        let event = tell(&mut display, server::DRAW_COPY, &copy(1, 100, 0, &rest.0));
        assert_eq!(pixels(event), expected);
    }
    let unknown = Body::default().u8(PALETTE_FROM_CACHE).u32(data).u64(0x9a2).bytes(&lz);
    let unknown = tell(&mut display, server::DRAW_COPY, &copy(1, 100, 0, &unknown.0));
    assert_eq!(feature(unknown), Feature::UncachedPalette(0x9a2));
    let none = Body::default().u8(0).u32(data).u32(0).bytes(&lz);
    assert!(tell(&mut display, server::DRAW_COPY, &copy(1, 100, 0, &none.0)).is_err());
}

#[test]
fn indices_without_any_palette_are_refused() {
    let mut display = channel(ImageTransfer::uncompressed());
    let mut lz = lz_header(5, size(), 4, 1);
    lz.extend(lz_tokens(&[[1]; 8], 3, |byte| byte.to_vec()));
    let refused = tell(&mut display, server::DRAW_COPY, &copy(1, 101, 0, &sized(&lz)));
    assert!(matches!(refused, Err(SpiceError::Malformed { .. })), "{refused:?}");
}

/// A GLZ image: literals, or a copy of the one that was `ago` images before.
fn glz(id: u64, ago: u32) -> Vec<u8> {
    let head = u32::try_from(id).unwrap();
    let mut packed = glz_header(8 | 16, size(), id, head);
    if ago == 0 {
        packed.push(7);
        packed.extend((0..8).flat_map(|_| [id.to_le_bytes()[0], 5, 6]));
    } else {
        glz_copy(&mut packed, ago, 0, 8);
    }
    packed
}

#[test]
fn a_channel_waits_for_another_ones_image_and_goes_on_in_order() {
    let dictionary = GlzDictionary::new(1000);
    let transfer = ImageTransfer { compression: None, dictionary };
    let (mut one, mut other) = (channel(transfer.clone()), channel(transfer));
    let draw = |id, ago| copy(id, 102, CACHE_ME, &sized(&glz(id, ago)));
    let serial = one.serial();
    assert_eq!(tell(&mut one, server::DRAW_COPY, &draw(1, 1)), Ok(None));
    assert_eq!((one.awaited_image(), one.serial()), (Some(0), serial));
    // What comes behind it waits too.
    assert_eq!(tell(&mut one, server::DRAW_COPY, &draw(2, 1)), Ok(None));
    assert_eq!(tell(&mut one, server::MARK, &Body::default()), Ok(None));

    let first = [[0, 5, 6, 255]; 8];
    assert_eq!(pixels(tell(&mut other, server::DRAW_COPY, &draw(0, 0))), first);
    assert_eq!(pixels(one.next_event()), first);
    assert_eq!(pixels(one.next_event()), first);
    assert_eq!(one.next_event(), Ok(Some(DisplayEvent::Mark)));
    assert_eq!((one.next_event(), one.awaited_image()), (Ok(None), None));
    assert_eq!(one.serial(), serial + 3);
    let cached = tell(&mut one, server::DRAW_COPY, &copy(1, 103, 0, &[]));
    assert_eq!(pixels(cached), first, "it was cached once it was whole");
}

#[test]
fn a_glz_image_may_be_inside_a_zlib_stream() {
    use std::io::Write;
    let transfer = ImageTransfer { compression: None, dictionary: GlzDictionary::new(1000) };
    let mut display = channel(transfer);
    let packed = glz(0, 0);
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&packed).unwrap();
    let length = u32::try_from(packed.len()).unwrap();
    let rest = Body::default().u32(length).bytes(&sized(&encoder.finish().unwrap())).0;
    let event = tell(&mut display, server::DRAW_COPY, &copy(1, 107, 0, &rest));
    assert_eq!(pixels(event), [[0, 5, 6, 255]; 8]);
}

#[test]
fn a_server_that_need_not_compress_has_no_dictionary() {
    let mut display = channel(ImageTransfer::uncompressed());
    let refused = tell(&mut display, server::DRAW_COPY, &copy(1, 102, 0, &sized(&glz(0, 0))));
    assert!(matches!(refused, Err(SpiceError::TooLarge { .. })), "{refused:?}");
    let unknown = tell(&mut display, server::DRAW_COPY, &copy(1, 42, 0, &[]));
    assert_eq!(feature(unknown), Feature::ImageType(42));
}
