//! Drawing messages for the tests of totality: well-formed, and damaged here and there.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;

use super::number;
use crate::codec::{Size, samples};
use crate::test_support::{Body, Pointed, message};

/// left, top, right, bottom, mostly of something.
fn rect() -> impl Strategy<Value = [i32; 4]> {
    (-2..7_i32, -2..4_i32, 0..9_i32, 0..5_i32)
        .prop_map(|(left, top, width, height)| [left, top, left + width, top + height])
}

/// `DisplayBase` on one of the surfaces, clipped or not, and its box.
fn base() -> impl Strategy<Value = (Body, [i32; 4])> {
    let surface = prop_oneof![8 => 0..2_u32, 1 => 0..5_u32];
    (surface, rect(), prop::option::of(vec(rect(), 0..4))).prop_map(|(surface, target, clip)| {
        let wire = |body: Body, [left, top, right, bottom]: [i32; 4]| {
            body.i32s(&[top, left, bottom, right])
        };
        let body = wire(Body::default().u32(surface), target);
        let body = match clip {
            None => body.u8(0),
            Some(clip) => {
                let count = u32::try_from(clip.len()).unwrap();
                clip.into_iter().fold(body.u8(1).u32(count), wire)
            }
        };
        (body, target)
    })
}

/// DRAW_COPY of a bitmap, a cached image or a surface, scaled or not.
fn copy() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let kind = prop_oneof![6 => Just(0_u8), 1 => Just(103), 1 => Just(104)];
    let flags = prop::sample::select(vec![0, 4, 4, 4, 1, 5, 2_u8]);
    let image = (kind, 1..10_u8, 0..8_u8, flags, 1..9_u32, 1..5_u32);
    let area = (-1..4_i32, -1..4_i32, prop::option::weighted(0.1, rect()));
    let stride = prop_oneof![4 => 36..40_u32, 1 => 0..40_u32];
    (base(), image, area, stride).prop_map(|((base, target), image, area, stride)| {
        let (kind, format, image_flags, bitmap_flags, width, height) = image;
        let [left, top, right, bottom] = target;
        let area = match area {
            (_, _, Some([left, top, right, bottom])) => [top, left, bottom, right],
            (x, y, None) => [y, x, y + bottom - top, x + right - left],
        };
        let at = u32::try_from(base.0.len() + 4 + 16 + 2 + 1 + 13).unwrap();
        let body = base.u32(at).i32s(&area).u16(8).u8(image_flags & 1).bytes(&[0; 13]);
        let body = body.u64(1).u8(kind).u8(image_flags).u32(width).u32(height);
        let body = match kind {
            0 => {
                let palette = at + 18 + 18 + stride * height;
                let body = body.u8(format).u8(bitmap_flags).u32(width).u32(height).u32(stride);
                let body = if bitmap_flags & 2 == 0 { body.u32(palette) } else { body.u64(1) };
                let pixels = vec![0xa5; usize::try_from(stride * height).unwrap()];
                body.bytes(&pixels).u64(1).u16(2).u32(0x00ab_cdef).u32(3)
            }
            _ => body.u32(1),
        };
        (304, body.0)
    })
}

/// An image of a few pixels: direct colour, alpha alone, cached, or a surface.
fn image() -> impl Strategy<Value = Vec<u8>> {
    let size = (prop::sample::select(vec![0_u8, 0, 0, 0, 103, 104]), 1..9_u32, 1..6_u32);
    (size, prop::sample::select(vec![6, 8, 9, 9, 10_u8]), vec(any::<u8>(), 200), 0..4_u32).prop_map(
        |((kind, width, height), format, data, surface)| {
            let body = Body::default().u64(1).u8(kind).u8(0).u32(width).u32(height);
            let body = match kind {
                0 => {
                    let body = body.u8(format).u8(4).u32(width).u32(height).u32(4 * width);
                    body.u32(0).bytes(&data)
                }
                _ => body.u32(surface),
            };
            body.0
        },
    )
}

fn brush() -> impl Strategy<Value = Pointed> {
    prop_oneof![
        Just(Pointed::new(Body::default().u8(0))),
        any::<u32>().prop_map(|color| Pointed::new(Body::default().u8(1).u32(color))),
        (image(), number(), number()).prop_map(|(image, x, y)| {
            let brush = Pointed::new(Body::default().u8(2)).pointer(Body(image));
            brush.bytes(&x.to_le_bytes()).bytes(&y.to_le_bytes())
        }),
    ]
}

fn mask() -> impl Strategy<Value = Pointed> {
    let bitmap = (1..12_u32, 1..6_u32, 0..4_u8, 1..3_u8, vec(any::<u8>(), 16)).prop_map(
        |(width, height, flags, format, data)| {
            let body = Body::default().u64(1).u8(0).u8(flags & 1).u32(width).u32(height);
            let body = body.u8(format).u8(2 * (flags & 2)).u32(width).u32(height).u32(2);
            body.u32(0).bytes(&data).0
        },
    );
    let image = prop_oneof![3 => bitmap, 1 => image()];
    let there = (any::<bool>(), -3..6_i32, -3..6_i32, image).prop_map(|(inverted, x, y, image)| {
        Pointed::new(Body::default().u8(inverted.into()).i32s(&[x, y])).pointer(Body(image))
    });
    prop_oneof![1 => Just(Pointed::new(Body::default().bytes(&[0; 13]))), 1 => there]
}

fn area() -> impl Strategy<Value = Vec<u8>> {
    rect()
        .prop_map(|[left, top, right, bottom]| Body::default().i32s(&[top, left, bottom, right]).0)
}

/// Raster operations, transparency and alpha with whatever they read.
fn raster() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let read = (image(), area(), brush(), mask());
    (base(), 302..314_u16, read, any::<u16>(), any::<bool>()).prop_map(
        |((base, _), kind, (image, area, brush, mask), operation, nearest)| {
            let base = Pointed::new(base);
            let sourced = |base: Pointed| base.pointer(Body(image.clone())).bytes(&area);
            let operation = operation.to_le_bytes();
            let mode = [u8::from(nearest)];
            let body = match kind {
                302 => base.join(brush).bytes(&operation).join(mask),
                303 => sourced(base).join(brush).bytes(&operation).bytes(&mode).join(mask),
                304 | 305 => sourced(base).bytes(&operation).bytes(&mode).join(mask),
                306..=308 => base.join(mask),
                309 => sourced(base).join(brush).bytes(&operation[..1]).bytes(&mode).join(mask),
                312 => sourced(base).bytes(&[0; 4]).bytes(&operation).bytes(&[0; 2]),
                _ => sourced(base.bytes(&operation)),
            };
            (if matches!(kind, 310 | 311) { 313 } else { kind }, body.build())
        },
    )
}

fn composite() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let operator = prop_oneof![1 => 0..0x40_u32, 1 => Just(3_u32)];
    let flags = (operator, 0..8_u32, 0..8_u32, 0..0x800_u32);
    let matrix = vec(prop_oneof![number(), Just(0x8000_u32), Just(0x1_0000)], 6);
    (base(), flags, [image(), image()], [matrix.clone(), matrix], any::<[u8; 8]>()).prop_map(
        |((base, _), (operator, source_filter, mask_filter, rest), images, matrices, origins)| {
            let flags = operator | (source_filter << 8) | (mask_filter << 11) | (rest << 14);
            let [image, mask] = images;
            let mut body = Pointed::new(base.u32(flags)).pointer(Body(image));
            if flags & (1 << 19) != 0 {
                body = body.pointer(Body(mask));
            }
            for (matrix, bit) in matrices.iter().zip([20, 21]) {
                if flags & (1 << bit) != 0 {
                    body = matrix.iter().fold(body, |body, word| body.bytes(&word.to_le_bytes()));
                }
            }
            (318, body.bytes(&origins).build())
        },
    )
}

fn stroke() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let edge = || prop_oneof![3 => -50..200_i32, 1 => any::<i32>()];
    let segment = (any::<u8>(), vec([edge(), edge()], 0..7));
    let style = prop::option::of((any::<bool>(), vec(-9..60_i32, 0..5)));
    (base(), vec(segment, 0..4), style, brush(), any::<u16>()).prop_map(
        |((base, _), segments, style, brush, mode)| {
            let count = u32::try_from(segments.len()).unwrap();
            let path = segments.iter().fold(Body::default().u32(count), |body, (flags, points)| {
                let count = u32::try_from(points.len()).unwrap();
                points.iter().fold(body.u8(*flags).u32(count), |body, point| body.i32s(point))
            });
            let body = Pointed::new(base).pointer(path);
            let body = match style {
                None => body.bytes(&[0]),
                Some((gap_first, lengths)) => {
                    let count = u8::try_from(lengths.len()).unwrap();
                    let style = Body::default().i32s(&lengths);
                    body.bytes(&[8 | u8::from(gap_first) << 2, count]).pointer(style)
                }
            };
            (310, body.join(brush).bytes(&mode.to_le_bytes()).bytes(&[0; 2]).build())
        },
    )
}

fn text() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let edge = || prop_oneof![9 => -4..9_i32, 1 => any::<i32>()];
    let glyph = ([edge(), edge(), edge(), edge()], 0..9_u16, 0..5_u16, vec(any::<u8>(), 40));
    (base(), 1..16_u8, vec(glyph, 0..4), area(), brush(), brush()).prop_map(
        |((base, _), flags, glyphs, area, fore, back)| {
            let bits = [8, 1, 4, 1][usize::from(flags & 3)];
            let count = u16::try_from(glyphs.len()).unwrap();
            let string = Body::default().u16(count).u8(flags);
            let string = glyphs.iter().fold(string, |body, (places, width, height, data)| {
                let bytes = (usize::from(*width) * bits).div_ceil(8) * usize::from(*height);
                body.i32s(places).u16(*width).u16(*height).bytes(&data[..bytes.min(40)])
            });
            let body = Pointed::new(base).pointer(string).bytes(&area);
            (311, body.join(fore).join(back).bytes(&[8, 0, 8, 0]).build())
        },
    )
}

/// A video stream, and what may follow: a frame, another clip, its end.
fn video() -> impl Strategy<Value = (u16, Vec<u8>)> {
    static FRAME: LazyLock<Vec<u8>> =
        LazyLock::new(|| samples::jpeg(Size { width: 8, height: 8 }, &[99]));
    (122..127_u16, 0..3_u32, any::<bool>(), area(), base()).prop_map(
        |(kind, id, sized, area, (base, _))| {
            let length = u32::try_from(FRAME.len()).unwrap();
            // The clip is what follows the surface and the box.
            let clip = &base.0[20..];
            let (kind, body) = match kind {
                122 => {
                    let body = Body::default().u32(0).u32(id).u8(1).u8(1).u64(0);
                    let body = [8, 8, 8, 8].into_iter().fold(body, Body::u32);
                    (kind, body.bytes(&area).bytes(clip))
                }
                123 if sized => {
                    let body = Body::default().u32(id).u32(0).u32(8).u32(8).bytes(&area);
                    (316, body.u32(length).bytes(&FRAME))
                }
                123 => (kind, Body::default().u32(id).u32(0).u32(length).bytes(&FRAME)),
                124 => (kind, Body::default().u32(id).bytes(clip)),
                _ => (kind, Body::default().u32(id)),
            };
            (kind, body.0)
        },
    )
}

/// The other drawing messages, surfaces and invalidations.
fn other() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let surface = (
        0..4_u32,
        1..9_u32,
        1..5_u32,
        0..2_u32,
        prop::sample::select(vec![1, 8, 16, 32, 80, 96_u32]),
    );
    prop_oneof![
        3 => (base(), any::<u32>(), prop::sample::select(vec![8, 16, 32, 64, 512, 1032_u16]))
            .prop_map(|((base, _), color, operation)| {
                (302, base.u8(1).u32(color).u16(operation).bytes(&[0; 13]).0)
            }),
        3 => (base(), -2..9_i32, -2..5_i32).prop_map(|((base, _), x, y)| (104, base.i32s(&[x, y]).0)),
        1 => (base(), 306..309_u16).prop_map(|((base, _), kind)| (kind, base.bytes(&[0; 13]).0)),
        1 => surface.prop_map(|(id, width, height, primary, format)| {
            (314, Body::default().u32(id).u32(width).u32(height).u32(format).u32(primary).0)
        }),
        1 => (0..3_u32).prop_map(|id| (315, Body::default().u32(id).0)),
        1 => Just((105, Body::default().u16(1).u8(1).u64(1).0)),
    ]
}

/// Well-formed drawing messages, in some of which bytes are changed or the end is cut.
pub(super) fn drawing() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop_oneof![
        8 => Just(Vec::new()),
        1 => vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ];
    let cut = prop::option::weighted(0.05, any::<prop::sample::Index>());
    let vector = prop_oneof![stroke(), text()];
    let kinds = prop_oneof![
        2 => copy(), 2 => other(), 3 => raster(), 1 => composite(), 1 => vector, 1 => video(),
    ];
    let one = (kinds, changes, cut).prop_map(|((kind, mut bytes), changes, cut)| {
        for (index, value) in changes {
            let place = index.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        message(kind, &bytes)
    });
    vec(one, 1..8).prop_map(|messages| messages.concat())
}
