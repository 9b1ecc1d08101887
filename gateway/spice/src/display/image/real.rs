//! Images that a real server sent: each becomes what its guest had drawn, and none of their
//! parts makes a decoder panic.

use super::super::{Copy, CopySource, DisplayChannel, DisplayEvent, ImageTransfer, server};
use super::*;
use crate::channel::Channel;
use crate::display::bitmap::widen5;
use crate::link::ChannelKind;
use crate::test_support::{Body, message};

const SAMPLES: &str = include_str!("../../../tests/samples/images.txt");
const WIDTH: u32 = 21;
const HEIGHT: u32 = 13;
/// Where the image begins in each body.
const IMAGE: usize = 57;

/// One line of the samples.
struct Sample {
    compression: &'static str,
    format: u8,
    drawing: u8,
    top_down: bool,
    kind: u8,
    body: Vec<u8>,
}

fn samples() -> impl Iterator<Item = Sample> {
    SAMPLES.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let [compression, format, drawing, direction, kind, digits] =
            line.split(' ').collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        let digit = |place: usize| u8::from_str_radix(&digits[place..place + 2], 16).unwrap();
        Sample {
            compression,
            format: format.parse().unwrap(),
            drawing: drawing.parse().unwrap(),
            top_down: direction == "down",
            kind: kind.parse().unwrap(),
            body: (0..digits.len()).step_by(2).map(digit).collect(),
        }
    })
}

/// What the guest had drawn, as the test that took the samples has it.
fn drawn(sample: &Sample, x: u32, y: u32) -> [u8; 4] {
    let low = |value: u32| value.to_le_bytes()[0];
    let color = |index: u8| {
        let [blue, green, red, _] = u32::from(index).wrapping_mul(0x0035_2b17).to_le_bytes();
        [blue, green, red, 255]
    };
    let [blue, green, red, alpha] = match sample.drawing {
        0 => [low(x + y), low(2 * x), low(3 * y), low(255 - x)],
        _ if (x / 9 + y / 5).is_multiple_of(4) && (x * 7 + y * 3) % 5 < 2 => [20, 20, 60, 255],
        _ => [235; 4],
    };
    match sample.format {
        1 | 2 => color(blue >> 7),
        3 | 4 => color(blue >> 4),
        5 => color(blue),
        6 => [widen5(blue >> 3), widen5(green >> 3), widen5(red >> 3), 255],
        9 => [blue, green, red, alpha],
        10 => [0, 0, 0, blue],
        _ => [blue, green, red, 255],
    }
}

/// A channel with a surface that keeps alpha.
fn channel() -> DisplayChannel {
    let transfer = ImageTransfer { compression: None, dictionary: GlzDictionary::new(1 << 16) };
    let channel = Channel::opened(ChannelKind::Display);
    let mut display = DisplayChannel::over(channel, 0, transfer);
    let body = [0, 1024, 768, 96, 0].into_iter().fold(Body::default(), Body::u32);
    display.receive(&message(server::SURFACE_CREATE, &body.0)).unwrap();
    assert!(matches!(display.next_event(), Ok(Some(DisplayEvent::SurfaceCreated(_)))));
    display
}

fn draw(display: &mut DisplayChannel, body: &[u8]) -> Vec<[u8; 4]> {
    display.receive(&message(server::DRAW_COPY, body)).unwrap();
    match display.next_event() {
        Ok(Some(DisplayEvent::Copy(Copy { source: CopySource::Pixels(pixels), .. }))) => {
            (0..pixels.height).flat_map(|y| pixels.row(y).unwrap().as_chunks().0.to_vec()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_becomes_what_its_guest_had_drawn() {
    let mut displays = std::collections::BTreeMap::new();
    let mut count = 0;
    for sample in samples() {
        let display = displays.entry(sample.compression).or_insert_with(channel);
        let mut pixels = draw(display, &sample.body);
        let Sample { compression, format, drawing, kind, .. } = sample;
        if format == 8 {
            // 32BIT has no alpha, but encodings that do not look into pixels carry the byte.
            pixels.iter_mut().for_each(|[_, _, _, alpha]| *alpha = 255);
        }
        let expected = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
        let expected: Vec<_> = expected.map(|(x, y)| drawn(&sample, x, y)).collect();
        if matches!(kind, kind::JPEG | kind::JPEG_ALPHA) {
            let apart = pixels.as_flattened().iter().zip(expected.as_flattened());
            let apart: u32 = apart.map(|(one, other)| u32::from(one.abs_diff(*other))).sum();
            assert!(apart < 6 * WIDTH * HEIGHT * 3, "{compression} {format} {drawing}: {apart}");
            let alphas =
                |pixels: &[[u8; 4]]| pixels.iter().map(|pixel| pixel[3]).collect::<Vec<_>>();
            assert_eq!(alphas(&pixels), alphas(&expected));
        } else {
            assert!(pixels == expected, "{compression} {format} {drawing} {kind}");
        }
        count += 1;
    }
    assert!(count > 40, "{count} samples");
}

#[test]
fn the_samples_have_both_directions_of_rows() {
    for kind in [kind::QUIC, kind::LZ_RGB, kind::LZ_PALETTE, kind::GLZ_RGB, kind::LZ4] {
        for top_down in [true, false] {
            let like = |sample: &Sample| (sample.kind, sample.top_down) == (kind, top_down);
            assert!(samples().any(|sample| like(&sample)), "{kind} {top_down}");
        }
    }
}

/// The packed data of a sample, whether it is in the message or in a zlib stream.
fn packed(sample: &Sample) -> Bytes {
    let image = Bytes::copy_from_slice(&sample.body[IMAGE + 18..]);
    let sized = |at: usize| {
        let length = u32::from_le_bytes(*image[at..].first_chunk().unwrap());
        let start = at + 4 + if sample.kind == kind::LZ_PALETTE { 4 } else { 0 };
        image.slice(start..start + usize::try_from(length).unwrap())
    };
    match sample.kind {
        kind::LZ_PALETTE => sized(1),
        kind::ZLIB_GLZ_RGB => sized(4),
        kind::JPEG_ALPHA => sized(5),
        _ => sized(0),
    }
}

type Decode = fn(&[u8], Size) -> Result<Unpacked, SpiceError>;

#[test]
fn a_cut_image_is_refused_wherever_it_is_cut() {
    let size = Size::new(WIDTH, HEIGHT).unwrap();
    for sample in samples() {
        // QUIC ends with words for readers that look ahead; what a JPEG lacks is made up.
        let (decode, spare): (Decode, usize) = match sample.kind {
            kind::QUIC => (quic::unpack, 9),
            kind::LZ_RGB | kind::LZ_PALETTE => (lz::unpack, 0),
            kind::LZ4 => (lz4::unpack, 0),
            kind::JPEG => (jpeg::unpack, usize::MAX),
            _ => continue,
        };
        let data = packed(&sample);
        assert!(decode(&data, size).is_ok(), "{}", sample.kind);
        for end in 0..data.len() {
            let cut = decode(&data[..end], size);
            assert!(cut.is_err() || data.len() - end <= spare, "{} at {end}", sample.kind);
        }
    }
}

#[test]
fn a_cut_glz_image_is_refused_wherever_it_is_cut() {
    let size = Size::new(WIDTH, HEIGHT).unwrap();
    let run = |packed: Bytes, dictionary: &GlzDictionary| {
        Glz::open(packed, size, dictionary)?.resume(dictionary)
    };
    let mut before = Vec::new();
    for sample in samples().filter(|sample| sample.kind == kind::GLZ_RGB) {
        let data = packed(&sample);
        for end in 0..data.len() {
            let dictionary = GlzDictionary::new(1 << 16);
            for earlier in &before {
                assert!(matches!(run(Bytes::clone(earlier), &dictionary), Ok(Progress::Done(_))));
            }
            assert!(run(data.slice(..end), &dictionary).is_err(), "at {end} of {}", data.len());
        }
        before.push(data);
    }
    assert_eq!(before.len(), 8);
}

#[test]
fn a_message_that_is_cut_or_changed_in_one_byte_is_drawn_or_refused() {
    for sample in samples() {
        for place in 0..sample.body.len() {
            let mut changed = sample.body.clone();
            changed[place] ^= 1 << (place % 8);
            for body in [&sample.body[..place], &changed] {
                let mut display = channel();
                display.receive(&message(server::DRAW_COPY, body)).unwrap();
                while let Ok(Some(_)) = display.next_event() {}
            }
        }
    }
}
