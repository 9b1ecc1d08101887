//! The display channel's messages, from wire to pixels.

use expect_test::{Expect, expect};

use super::*;
use crate::link::Capabilities;
use crate::test_support::{Body, message, setup};

/// A channel with a primary surface 0 of 8 x 4 and an ARGB surface 1 of 4 x 4.
pub(crate) fn display() -> DisplayChannel {
    let transfer = ImageTransfer::uncompressed();
    let mut display = DisplayChannel::over(Channel::opened(ChannelKind::Display), 0, transfer);
    for words in [[0, 8, 4, 32, 1], [1, 4, 4, 96, 0]] {
        let body = words.into_iter().fold(Body::default(), Body::u32);
        tell(&mut display, server::SURFACE_CREATE, &body).unwrap();
    }
    display
}

fn tell(display: &mut DisplayChannel, kind: u16, body: &Body) -> Option<DisplayEvent> {
    display.receive(&message(kind, &body.0)).unwrap();
    display.next_event().unwrap()
}

fn check(kind: u16, body: &Body, expected: Expect) {
    let mut display = display();
    display.receive(&message(kind, &body.0)).unwrap();
    let told = match display.next_event() {
        Ok(Some(event)) => format!("{event:?}"),
        Ok(None) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&told);
}

/// surface, box as left, top, right, bottom, no clip.
fn base(surface: u32, [left, top, right, bottom]: [i32; 4]) -> Body {
    Body::default().u32(surface).i32s(&[top, left, bottom, right]).u8(0)
}

/// The same with clip rectangles.
fn clipped(surface: u32, [left, top, right, bottom]: [i32; 4], clip: &[[i32; 4]]) -> Body {
    let body = Body::default().u32(surface).i32s(&[top, left, bottom, right]).u8(1);
    let body = body.u32(u32::try_from(clip.len()).unwrap());
    clip.iter()
        .fold(body, |body, [left, top, right, bottom]| body.i32s(&[*top, *left, *bottom, *right]))
}

const NO_MASK: [u8; 13] = [0; 13];

/// The rest of a DRAW_COPY, with `image` behind it.
fn copied(base: Body, [left, top, right, bottom]: [i32; 4], image: &Body) -> Body {
    let at = u32::try_from(base.0.len() + 4 + 16 + 2 + 1 + 13).unwrap();
    let body = base.u32(at).i32s(&[top, left, bottom, right]).u16(raster::OP_PUT).u8(1);
    body.bytes(&NO_MASK).bytes(&image.0)
}

fn descriptor(kind: u8, flags: u8, [width, height]: [u32; 2]) -> Body {
    Body::default().u64(0xabc).u8(kind).u8(flags).u32(width).u32(height)
}

/// A BITMAP image with palette pointer `palette`.
fn bitmap(format: u8, flags: u8, [width, height, stride]: [u32; 3], palette: u32) -> Body {
    let body = descriptor(0, 0, [width, height]).u8(format).u8(flags);
    body.u32(width).u32(height).u32(stride).u32(palette)
}

/// Each pixel of the copy that `image` (`width` columns) gives on surface `surface`.
fn check_pixels_on(surface: u32, image: &Body, [width, height]: [i32; 2], expected: Expect) {
    let area = [0, 0, width, height];
    let event = tell(&mut display(), server::DRAW_COPY, &copied(base(surface, area), area, image));
    let Some(DisplayEvent::Copy(Copy { source: CopySource::Pixels(pixels), .. })) = event else {
        panic!("{event:?}")
    };
    let rows: Vec<_> = (0..pixels.height)
        .map(|y| {
            let row = pixels.row(y).unwrap().chunks(4);
            row.map(|pixel| format!("{pixel:?}")).collect::<Vec<_>>().join(" ")
        })
        .collect();
    expected.assert_eq(&rows.join("\n"));
}

fn check_pixels(image: &Body, size: [i32; 2], expected: Expect) {
    check_pixels_on(0, image, size, expected);
}

const TOP_DOWN: u8 = 4;

#[test]
fn direct_colour_bitmaps_become_bgrx() {
    let two = [1, 2, 3, 0, 4, 5, 6, 0];
    let image = bitmap(8, TOP_DOWN, [2, 1, 8], 0).bytes(&two);
    check_pixels(&image, [2, 1], expect!["[1, 2, 3, 255] [4, 5, 6, 255]"]);
    let image = bitmap(9, TOP_DOWN, [2, 1, 8], 0).bytes(&two);
    check_pixels(&image, [2, 1], expect!["[1, 2, 3, 255] [4, 5, 6, 255]"]);
    check_pixels_on(1, &image, [2, 1], expect!["[1, 2, 3, 0] [4, 5, 6, 0]"]);
    let image = bitmap(7, TOP_DOWN, [2, 1, 8], 0).bytes(&[1, 2, 3, 4, 5, 6, 9, 9]);
    check_pixels(&image, [2, 1], expect!["[1, 2, 3, 255] [4, 5, 6, 255]"]);
    let image = bitmap(6, TOP_DOWN, [2, 1, 4], 0).bytes(&[0xff, 0x7f, 0x00, 0x7c]);
    check_pixels(&image, [2, 1], expect!["[255, 255, 255, 255] [0, 0, 255, 255]"]);
}

#[test]
fn rows_may_be_bottom_up_and_padded() {
    let rows = [1, 1, 1, 0, 9, 9, 9, 9, 2, 2, 2, 0, 9, 9, 9, 9];
    check_pixels(
        &bitmap(8, 0, [1, 2, 8], 0).bytes(&rows),
        [1, 2],
        expect![[r#"
        [2, 2, 2, 255]
        [1, 1, 1, 255]"#]],
    );
    check_pixels(
        &bitmap(8, TOP_DOWN, [1, 2, 8], 0).bytes(&rows),
        [1, 2],
        expect![[r#"
        [1, 1, 1, 255]
        [2, 2, 2, 255]"#]],
    );
}

/// A palette of `count` colours, colour i being (i, i, i), where the copy of a 1-row bitmap with
/// `data` bytes of pixels has it.
fn with_palette(format: u8, width: u32, flags: u8, data: &[u8], count: u8) -> Body {
    let stride = u32::try_from(data.len()).unwrap();
    let image_at = 21 + 4 + 16 + 2 + 1 + 13;
    let palette_at = image_at + 18 + 18 + stride;
    let image = bitmap(format, flags | TOP_DOWN, [width, 1, stride], palette_at).bytes(data);
    let palette = image.u64(0x9a1).u16(count.into());
    (0..count).fold(palette, |body, index| body.bytes(&[index, index, index, 0]))
}

#[test]
fn palette_bitmaps_take_their_colours_in_bit_order() {
    let three = [3, 1];
    let image = with_palette(1, 3, 0, &[0b0000_0011], 2);
    check_pixels(&image, three, expect!["[1, 1, 1, 255] [1, 1, 1, 255] [0, 0, 0, 255]"]);
    let image = with_palette(2, 3, 0, &[0b0110_0000], 2);
    check_pixels(&image, three, expect!["[0, 0, 0, 255] [1, 1, 1, 255] [1, 1, 1, 255]"]);
    let image = with_palette(3, 3, 0, &[0x21, 0x03], 16);
    check_pixels(&image, three, expect!["[1, 1, 1, 255] [2, 2, 2, 255] [3, 3, 3, 255]"]);
    let image = with_palette(4, 3, 0, &[0x21, 0x30], 16);
    check_pixels(&image, three, expect!["[2, 2, 2, 255] [1, 1, 1, 255] [3, 3, 3, 255]"]);
    let image = with_palette(5, 3, 0, &[7, 0, 99], 8);
    check_pixels(&image, three, expect!["[7, 7, 7, 255] [0, 0, 0, 255] [0, 0, 0, 255]"]);
}

#[test]
fn a_cached_palette_is_used_until_the_server_drops_it() {
    let mut display = display();
    let area = [0, 0, 1, 1];
    let keep = copied(base(0, area), area, &with_palette(5, 1, 1, &[4], 8));
    assert!(matches!(tell(&mut display, server::DRAW_COPY, &keep), Some(DisplayEvent::Copy(_))));
    let image = descriptor(0, 0, [1, 1]).u8(5).u8(2 | TOP_DOWN).u32(1).u32(1).u32(1);
    let from_cache = copied(base(0, area), area, &image.u64(0x9a1).bytes(&[6]));
    let again = tell(&mut display, server::DRAW_COPY, &from_cache);
    let Some(DisplayEvent::Copy(Copy { source: CopySource::Pixels(pixels), .. })) = again else {
        panic!("{again:?}")
    };
    assert_eq!(pixels.row(0), Some(&[6, 6, 6, 255][..]));
    assert_eq!(tell(&mut display, server::INVAL_PALETTE, &Body::default().u64(0x9a1)), None);
    let gone = tell(&mut display, server::DRAW_COPY, &from_cache);
    assert_eq!(gone, Some(unsupported_at(area, Feature::UncachedPalette(0x9a1))));
}

fn unsupported_at([left, top, right, bottom]: [i32; 4], feature: Feature) -> DisplayEvent {
    let place = Some((SurfaceId(0), Rect::new(left, top, right, bottom)));
    DisplayEvent::Unsupported(Unsupported { feature, place })
}

#[test]
fn tight_opaque_pixels_are_not_copied() {
    let mut display = display();
    let area = [0, 0, 2, 1];
    let image = bitmap(8, TOP_DOWN, [2, 1, 8], 0).bytes(&[1, 2, 3, 255, 4, 5, 6, 255]);
    let body = Bytes::from(copied(base(0, area), area, &image).0);
    let told = display.handle(&Message { kind: server::DRAW_COPY, body: body.clone() });
    let Ok(Some(DisplayEvent::Copy(Copy { source: CopySource::Pixels(pixels), .. }))) = told else {
        panic!("{told:?}")
    };
    assert_eq!(pixels.data.as_ptr(), body.slice(body.len() - 8..).as_ptr());
}

#[test]
fn a_cached_image_is_drawn_again_until_the_server_drops_it() {
    let area = [0, 0, 1, 1];
    let keep = descriptor(0, 1, [1, 1]).u8(8).u8(TOP_DOWN).u32(1).u32(1).u32(4).u32(0);
    let keep = copied(base(0, area), area, &keep.bytes(&[1, 2, 3, 0]));
    let again = copied(base(0, area), area, &descriptor(103, 0, [1, 1]));
    let gone = Some(unsupported_at(area, Feature::UncachedImage(0xabc)));
    for (kind, body) in [
        (server::INVAL_LIST, Body::default().u16(1).u8(1).u64(0xabc)),
        (server::INVAL_ALL_PIXMAPS, Body::default().u8(0)),
    ] {
        let mut display = display();
        let first = tell(&mut display, server::DRAW_COPY, &keep);
        assert!(matches!(first, Some(DisplayEvent::Copy(_))));
        assert_eq!(tell(&mut display, server::DRAW_COPY, &again), first);
        assert_eq!(tell(&mut display, kind, &body), None);
        assert_eq!(tell(&mut display, server::DRAW_COPY, &again), gone);
    }
}

#[test]
fn copies_are_clipped_to_surface_clip_and_source() {
    let image = bitmap(8, TOP_DOWN, [4, 2, 16], 0).bytes(&[255; 32]);
    let whole = base(0, [2, 1, 6, 3]);
    check(
        server::DRAW_COPY,
        &copied(whole, [0, 0, 4, 2], &image),
        expect![
            "Copy(Copy { surface: SurfaceId(0), rects: [Rect { left: 2, top: 1, right: 6, bottom: 3 }], source: Pixels(Pixels(4x2, stride 16, 32 bytes)), offset: Point { x: -2, y: -1 } })"
        ],
    );
    let clip = [[0, 0, 3, 4], [5, 2, 100, 100], [7, 7, 7, 7]];
    let parts = clipped(0, [2, 1, 6, 3], &clip);
    check(
        server::DRAW_COPY,
        &copied(parts, [0, 0, 4, 2], &image),
        expect![
            "Copy(Copy { surface: SurfaceId(0), rects: [Rect { left: 5, top: 2, right: 6, bottom: 3 }, Rect { left: 2, top: 1, right: 3, bottom: 3 }], source: Pixels(Pixels(4x2, stride 16, 32 bytes)), offset: Point { x: -2, y: -1 } })"
        ],
    );
    let beyond = base(0, [6, -1, 10, 1]);
    check(
        server::DRAW_COPY,
        &copied(beyond, [3, 0, 7, 2], &image),
        expect![
            "Copy(Copy { surface: SurfaceId(0), rects: [Rect { left: 6, top: 0, right: 7, bottom: 1 }], source: Pixels(Pixels(4x2, stride 16, 32 bytes)), offset: Point { x: -3, y: 1 } })"
        ],
    );
    let outside = base(0, [8, 0, 12, 2]);
    check(server::DRAW_COPY, &copied(outside, [0, 0, 4, 2], &image), expect!["nothing"]);
    let surface = descriptor(104, 0, [4, 4]).u32(1);
    check(
        server::DRAW_COPY,
        &copied(base(0, [0, 0, 4, 4]), [1, 0, 5, 4], &surface),
        expect![
            "Copy(Copy { surface: SurfaceId(0), rects: [Rect { left: 0, top: 0, right: 3, bottom: 4 }], source: Surface(SurfaceId(1)), offset: Point { x: 1, y: 0 } })"
        ],
    );
    let far = base(0, [i32::MIN, 0, i32::MIN + 4, 2]);
    check(
        server::DRAW_COPY,
        &copied(far, [1, 0, 5, 2], &image),
        expect!["the server's drawing is not valid: its source and destination are too far apart"],
    );
}

#[test]
fn fills_become_one_colour_or_a_combination() {
    let fill = |operation: u16| {
        base(0, [0, 0, 2, 2]).u8(1).u32(0x0011_2233).u16(operation).bytes(&NO_MASK)
    };
    check(
        server::DRAW_FILL,
        &fill(raster::OP_PUT),
        expect![
            "Fill(Fill { surface: SurfaceId(0), rects: [Rect { left: 0, top: 0, right: 2, bottom: 2 }], color: [51, 34, 17, 255] })"
        ],
    );
    check(
        server::DRAW_FILL,
        &fill(1 << 6),
        expect![
            "Combine(Combine { surface: SurfaceId(0), rects: [Rect { left: 0, top: 0, right: 2, bottom: 2 }], and: 4294967295, xor: 1122867 })"
        ],
    );
    let constant = || base(0, [7, 3, 99, 99]).bytes(&NO_MASK);
    check(
        server::DRAW_BLACKNESS,
        &constant(),
        expect![
            "Fill(Fill { surface: SurfaceId(0), rects: [Rect { left: 7, top: 3, right: 8, bottom: 4 }], color: [0, 0, 0, 255] })"
        ],
    );
    check(
        server::DRAW_WHITENESS,
        &constant(),
        expect![
            "Fill(Fill { surface: SurfaceId(0), rects: [Rect { left: 7, top: 3, right: 8, bottom: 4 }], color: [255, 255, 255, 255] })"
        ],
    );
    check(
        server::DRAW_INVERS,
        &constant(),
        expect![
            "Combine(Combine { surface: SurfaceId(0), rects: [Rect { left: 7, top: 3, right: 8, bottom: 4 }], and: 4294967295, xor: 16777215 })"
        ],
    );
}

#[test]
fn a_fill_takes_its_colour_in_the_form_of_the_surface() {
    for (format, color, expected) in [
        (16, 0x7c1f, [255, 0, 255, 255]),
        (16, 0x0220, [0, 140, 0, 255]),
        (80, 0xf81f, [255, 0, 255, 255]),
        (80, 0x07e0, [0, 255, 0, 255]),
        (80, 0x0400, [0, 130, 0, 255]),
    ] {
        let mut display = display();
        let surface = [0, 8, 4, format, 1].into_iter().fold(Body::default(), Body::u32);
        tell(&mut display, server::SURFACE_CREATE, &surface);
        let fill = base(0, [0, 0, 1, 1]).u8(1).u32(color).u16(raster::OP_PUT).bytes(&NO_MASK);
        let event = tell(&mut display, server::DRAW_FILL, &fill);
        let Some(DisplayEvent::Fill(fill)) = event else { panic!("{event:?}") };
        assert_eq!(fill.color, expected, "{color:#x} on format {format}");
    }
}

#[test]
fn a_small_message_cannot_expand_without_limit() {
    let area = [0, 0, 1, 1];
    let bits = vec![0; 1024 * 8192];
    let palette = 21 + 4 + 16 + 2 + 1 + 13;
    let image = bitmap(1, TOP_DOWN, [8192, 8192, 1024], palette).bytes(&bits);
    check(
        server::DRAW_COPY,
        &copied(base(0, area), area, &image),
        expect![
            "the server's bitmap's number of pixels is 67108864, more than the 33423360 that are allowed"
        ],
    );
}

#[test]
fn moved_bits_read_only_what_exists_and_in_a_safe_order() {
    let down = clipped(0, [0, 1, 8, 4], &[[0, 1, 8, 2], [0, 2, 8, 3], [0, 3, 8, 4]]);
    check(
        server::COPY_BITS,
        &down.i32s(&[0, 0]),
        expect![
            "CopyBits(CopyBits { surface: SurfaceId(0), rects: [Rect { left: 0, top: 3, right: 8, bottom: 4 }, Rect { left: 0, top: 2, right: 8, bottom: 3 }, Rect { left: 0, top: 1, right: 8, bottom: 2 }], offset: Point { x: 0, y: -1 } })"
        ],
    );
    check(
        server::COPY_BITS,
        &base(0, [0, 0, 8, 4]).i32s(&[2, -1]),
        expect![
            "CopyBits(CopyBits { surface: SurfaceId(0), rects: [Rect { left: 0, top: 1, right: 6, bottom: 4 }], offset: Point { x: 2, y: -1 } })"
        ],
    );
    check(server::COPY_BITS, &base(0, [0, 0, 8, 4]).i32s(&[99, 0]), expect!["nothing"]);
}

#[test]
fn what_is_not_carried_out_is_named() {
    let area = [0, 0, 1, 1];
    let body = copied(base(0, area), area, &descriptor(42, 0, [1, 1]));
    let event = tell(&mut display(), server::DRAW_COPY, &body);
    assert_eq!(event, Some(unsupported_at(area, Feature::ImageType(42))));
    // Glyphs as outlines, which no server sends.
    let at = u32::try_from(base(0, area).0.len() + 4 + 16 + 1 + 1 + 2 + 2).unwrap();
    let text = base(0, area).u32(at).i32s(&[0; 4]).u8(0).u8(0).u16(8).u16(8);
    check(
        server::DRAW_TEXT,
        &text.u16(1).u8(0),
        expect![
            "Unsupported(Unsupported { feature: Operation(Text), place: Some((SurfaceId(0), Rect { left: 0, top: 0, right: 1, bottom: 1 })) })"
        ],
    );
    check(
        server::DRAW_FILL,
        &base(9, area).u8(1).u32(0).u16(8).bytes(&NO_MASK),
        expect![
            "Unsupported(Unsupported { feature: UnknownSurface(SurfaceId(9)), place: Some((SurfaceId(9), Rect { left: 0, top: 0, right: 1, bottom: 1 })) })"
        ],
    );
    let stream =
        Body::default().u32(0).u32(1).u8(1).u8(2).u64(0).bytes(&[0; 16]).i32s(&[0, 0, 2, 3]);
    check(
        server::STREAM_CREATE,
        &stream.u8(0),
        expect![
            "Unsupported(Unsupported { feature: Stream(2), place: Some((SurfaceId(0), Rect { left: 0, top: 0, right: 3, bottom: 2 })) })"
        ],
    );
    check(
        999,
        &Body::default(),
        expect!["Unsupported(Unsupported { feature: Message(999), place: None })"],
    );
}

#[test]
fn surfaces_and_monitors_are_told_within_limits() {
    let surface = |words: [u32; 5]| words.into_iter().fold(Body::default(), Body::u32);
    check(
        server::SURFACE_CREATE,
        &surface([5, 640, 480, 32, 1]),
        expect![
            "SurfaceCreated(Surface { id: SurfaceId(5), width: 640, height: 480, format: Xrgb32, primary: true })"
        ],
    );
    check(
        server::SURFACE_CREATE,
        &surface([5, 0, 480, 32, 1]),
        expect!["the server's surface is not valid: it has no pixels"],
    );
    check(
        server::SURFACE_CREATE,
        &surface([5, 16385, 1, 32, 1]),
        expect![
            "the server's surface's longest side is 16385, more than the 16384 that are allowed"
        ],
    );
    check(
        server::SURFACE_CREATE,
        &surface([5, 9000, 9000, 32, 1]),
        expect![
            "the server's surface's number of pixels is 81000000, more than the 33423360 that are allowed"
        ],
    );
    check(
        server::SURFACE_DESTROY,
        &Body::default().u32(1),
        expect!["SurfaceDestroyed(SurfaceId(1))"],
    );
    let heads = Body::default().u16(1).u16(4);
    let heads = [0, 0, 640, 480, 10, 20, 0].into_iter().fold(heads, Body::u32);
    check(
        server::MONITORS_CONFIG,
        &heads,
        expect![
            "Monitors(Monitors { allowed_max: 4, heads: [Head { id: 0, surface: SurfaceId(0), area: Rect { left: 10, top: 20, right: 650, bottom: 500 } }] })"
        ],
    );
    check(
        server::MONITORS_CONFIG,
        &Body::default().u16(65).u16(65),
        expect!["the server's number of monitors is 65, more than the 64 that are allowed"],
    );
    check(server::MARK, &Body::default(), expect!["Mark"]);
    check(server::RESET, &Body::default(), expect!["Reset"]);
}

#[test]
fn hostile_bitmaps_are_refused() {
    let area = [0, 0, 1, 1];
    for (image, expected) in [
        (
            bitmap(8, 0, [2, 1, 4], 0).bytes(&[0; 4]),
            expect!["the server's bitmap is not valid: its stride is below its width"],
        ),
        (
            bitmap(8, 0, [1, 2, 4], 0).bytes(&[0; 4]),
            expect!["the server's image is cut short; the stream is damaged, connect again"],
        ),
        (
            bitmap(8, 0, [1, u32::MAX, u32::MAX], 0),
            expect!["the server's image is cut short; the stream is damaged, connect again"],
        ),
        (bitmap(8, 0, [0, 0, 0], 0), expect!["the server's bitmap is not valid: it has no pixels"]),
        (
            bitmap(5, 0, [1, 1, 1], 0).bytes(&[0]),
            expect!["the server's image is not valid: it needs a palette and has none"],
        ),
        (
            bitmap(5, 0, [1, 1, 1], 9999).bytes(&[0]),
            expect!["the server's palette is not valid: its offset is outside the message"],
        ),
    ] {
        check(server::DRAW_COPY, &copied(base(0, area), area, &image), expected);
    }
    let clip = Body::default().u32(0).i32s(&[0, 0, 1, 1]).u8(1).u32(u32::MAX);
    check(
        server::COPY_BITS,
        &clip,
        expect![
            "the server's number of clip rectangles is 4294967295, more than the 16384 that are allowed"
        ],
    );
}

#[test]
fn compression_is_declined_before_the_channel_is_initialised() {
    let mut display = DisplayChannel::new(setup());
    display.channel = Channel::opened(ChannelKind::Display);
    let channel = Capabilities::of(&[transfer::CAPABILITY_PREFERRED_COMPRESSION]);
    display.initialise(Linked { common: Capabilities::default(), channel }).unwrap();
    let init = Body::default().u8(0).u64(2 << 20).u8(1).u32(1);
    let expected = [message(103, &[1]), message(101, &init.0)].concat();
    assert_eq!(display.poll_transmit().unwrap(), expected);
}
