//! What the property has found, by name.

use vidi_spice::{Point, Rect};

use crate::every_viewer_ends_equal;
use crate::guest::Step;

#[test]
fn an_answer_that_is_all_there_is_holds_up_no_clipboard() {
    let dot = Rect::new(0, 0, 1, 1);
    every_viewer_ends_equal([
        Step::Noise { rect: Rect::new(0, 0, 43, 9), seed: 50676 },
        Step::Drained,
        Step::Drained,
        Step::CopyBits { rect: Rect::new(0, 0, 1, 14), offset: Point::new(0, 0) },
        Step::Key { which: 0 },
        Step::Encode { which: 0 },
        Step::Encode { which: 0 },
        Step::Wait { millis: 16 },
        Step::Drained,
        Step::Photo { rect: Rect::new(0, 0, 103, 51), seed: 0 },
        Step::Drained,
        Step::Fill { rect: dot, shade: 1 },
        Step::Encode { which: 0 },
        Step::Picture { rect: Rect::new(64, 0, 67, 86), seed: 1 },
        Step::Encode { which: 0 },
        Step::Encode { which: 0 },
        Step::Drained,
        Step::CopyBits { rect: dot, offset: Point::new(0, 0) },
        Step::Wait { millis: 16 },
        Step::Surface { width: 307, height: 106 },
        Step::Mix { rect: dot, offset: Point::new(0, 0) },
        Step::Copied { length: 2047 },
        Step::Photo { rect: Rect::new(0, 86, 34, 338), seed: 0 },
    ]);
}

#[test]
fn a_tile_that_a_region_leaves_half_drawn_is_not_taken_as_shown() {
    every_viewer_ends_equal([
        Step::Film { rect: Rect::new(0, 100, 385, 224), count: 15 },
        Step::Wait { millis: 251 },
        Step::Leave { which: 0 },
        Step::Noise { rect: Rect::new(4, 0, 5, 4), seed: 102_868_678 },
        Step::Drained,
        Step::Fill { rect: Rect::new(193, 166, 448, 167), shade: 1 },
        Step::Picture { rect: Rect::new(0, 0, 1, 1), seed: 0 },
        Step::Fill { rect: Rect::new(0, 225, 1, 257), shade: 46 },
        Step::Join { webp: false, h264: true, slots: 0 },
        Step::Drained,
        Step::Encode { which: 0 },
        Step::Refresh { which: 0 },
        Step::Film { rect: Rect::new(25, 0, 263, 225), count: 15 },
        Step::DestroySurface,
    ]);
}

#[test]
fn hunted() {
    every_viewer_ends_equal([
        Step::Write { which: 0, count: 1 },
        Step::Noise { rect: Rect::new(136, 12, 168, 221), seed: 0 },
        Step::Drained,
        Step::Drained,
        Step::Drained,
        Step::Encode { which: 0 },
        Step::Drained,
        Step::Picture { rect: Rect::new(0, 64, 258, 195), seed: 1 },
        Step::Fill { rect: Rect::new(0, 64, 1, 65), shade: 0 },
        Step::Write { which: 0, count: 1 },
        Step::Write { which: 0, count: 1 },
        Step::Receive { which: 0, count: 3 },
        Step::Film { rect: Rect::new(151, 0, 219, 129), count: 14 },
        Step::Acknowledge { which: 0 },
        Step::Mix { rect: Rect::new(128, 0, 129, 1), offset: Point::new(0, 0) },
        Step::Key { which: 0 },
        Step::Fill { rect: Rect::new(0, 127, 241, 263), shade: 0 },
        Step::Encode { which: 844 },
        Step::Encode { which: 11605877144933278578 },
        Step::Wait { millis: 4 },
        Step::Wait { millis: 29 },
        Step::Refresh { which: 0 },
        Step::Fill { rect: Rect::new(377, 9, 719, 11), shade: 65 },
        Step::CopyBits { rect: Rect::new(43, 53, 162, 239), offset: Point::new(24, -10) },
    ]);
}
