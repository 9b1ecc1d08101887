//! The cursor channel's messages and every kind of shape.

use expect_test::{Expect, expect};

use super::*;
use crate::test_support::{Body, message};

fn cursor() -> CursorChannel {
    CursorChannel::over(Channel::opened(ChannelKind::Cursor))
}

fn header(flags: u16, kind: u8, size: [u16; 2], hot_spot: [u16; 2]) -> Body {
    let body = Body::default().u16(3).u16(4).u8(1).u16(flags).u64(0xcafe).u8(kind);
    body.u16(size[0]).u16(size[1]).u16(hot_spot[0]).u16(hot_spot[1])
}

fn tell(cursor: &mut CursorChannel, kind: u16, body: &Body) -> CursorEvent {
    cursor.receive(&message(kind, &body.0)).unwrap();
    cursor.next_event().unwrap().unwrap()
}

/// The RGBA pixels of a shape 2 columns wide and 1 row high.
fn check_shape(kind: u8, data: &[u8], expected: Expect) {
    let event = tell(&mut cursor(), 103, &header(0, kind, [2, 1], [9, 0]).bytes(data));
    let CursorEvent::Set { position, visible: true, shape: Some(shape) } = event else {
        panic!("{event:?}")
    };
    assert_eq!(position, Point::new(3, 4));
    assert_eq!((shape.hot_x, shape.hot_y), (1, 0), "a hot spot outside is moved to the edge");
    let pixels: Vec<_> = shape.rgba.chunks(4).map(|pixel| format!("{pixel:?}")).collect();
    expected.assert_eq(&pixels.join(" "));
}

#[test]
fn every_kind_of_shape_becomes_rgba() {
    check_shape(0, &[1, 2, 3, 4, 5, 6, 7, 8], expect!["[3, 2, 1, 4] [7, 6, 5, 8]"]);
    check_shape(1, &[0b1000_0000, 0b1100_0000], expect!["[48, 48, 48, 192] [255, 255, 255, 255]"]);
    check_shape(1, &[0b1000_0000, 0], expect!["[0, 0, 0, 0] [0, 0, 0, 255]"]);
    let mut palette = vec![0; 64];
    palette[4..7].copy_from_slice(&[1, 2, 3]);
    palette[60..63].copy_from_slice(&[7, 8, 9]);
    let data = [&[0xf1][..], &palette, &[0b0100_0000]].concat();
    check_shape(2, &data, expect!["[9, 8, 7, 255] [0, 0, 0, 0]"]);
    let mut palette = vec![0; 1024];
    palette[1020..1023].copy_from_slice(&[255, 255, 255]);
    let data = [&[255, 0][..], &palette, &[0b1000_0000]].concat();
    check_shape(3, &data, expect!["[48, 48, 48, 192] [0, 0, 0, 255]"]);
    check_shape(4, &[0x1f, 0, 0xe0, 3, 0], expect!["[0, 0, 255, 255] [0, 255, 0, 255]"]);
    check_shape(5, &[1, 2, 3, 4, 5, 6, 0x40], expect!["[3, 2, 1, 255] [0, 0, 0, 0]"]);
    check_shape(6, &[1, 2, 3, 0, 4, 5, 6, 0, 0x80], expect!["[0, 0, 0, 0] [6, 5, 4, 255]"]);
}

#[test]
fn a_cached_shape_comes_back_until_the_server_drops_it() {
    let mut cursor = cursor();
    let shape = header(FLAG_CACHE_ME, 0, [1, 1], [0, 0]).bytes(&[1, 2, 3, 4]);
    let first = tell(&mut cursor, 103, &shape);
    let again = header(FLAG_FROM_CACHE, 0, [1, 1], [0, 0]);
    assert_eq!(tell(&mut cursor, 103, &again), first);
    cursor.receive(&message(107, &Body::default().u64(0xcafe).0)).unwrap();
    let gone = tell(&mut cursor, 103, &again);
    assert_eq!(gone, unsupported(Feature::UncachedImage(0xcafe)));
}

#[test]
fn the_other_messages_are_told() {
    let mut cursor = cursor();
    let moved = Body::default().u16(0xffff).u16(5);
    assert_eq!(tell(&mut cursor, 104, &moved), CursorEvent::Moved(Point::new(-1, 5)));
    assert_eq!(tell(&mut cursor, 105, &Body::default()), CursorEvent::Hidden);
    assert_eq!(tell(&mut cursor, 102, &Body::default()), CursorEvent::Reset);
    let none = Body::default().u16(3).u16(4).u8(0).u16(FLAG_NONE);
    let position = Point::new(3, 4);
    let expected = CursorEvent::Set { position, visible: false, shape: None };
    assert_eq!(tell(&mut cursor, 103, &none), expected);
    let trail = CursorEvent::Trail { length: 2, frequency: 50 };
    assert_eq!(tell(&mut cursor, 106, &Body::default().u16(2).u16(50)), trail);
}

#[test]
fn impossible_shapes_are_refused() {
    for (body, expected) in [
        (
            header(0, 0, [0, 1], [0, 0]),
            expect!["the server's pointer shape is not valid: it has no pixels"],
        ),
        (
            header(0, 0, [513, 1], [0, 0]),
            expect![
                "the server's pointer's longest side is 513, more than the 512 that are allowed"
            ],
        ),
        (
            header(0, 9, [1, 1], [0, 0]),
            expect!["the server's pointer shape is not valid: its kind is unknown"],
        ),
        (
            header(0, 6, [1, 1], [0, 0]).u32(0),
            expect![
                "the server's pointer shape is cut short; the stream is damaged, connect again"
            ],
        ),
    ] {
        let mut cursor = cursor();
        cursor.receive(&message(103, &body.0)).unwrap();
        expected.assert_eq(&cursor.next_event().unwrap_err().to_string());
    }
}
