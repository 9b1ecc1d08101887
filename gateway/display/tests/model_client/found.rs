//! What the property has found, by name.

use vidi_spice::{Point, Rect};

use crate::every_viewer_ends_equal;
use crate::guest::Step;
use crate::world::World;

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
fn an_answer_that_newer_pixels_make_whole_holds_up_no_clipboard() {
    every_viewer_ends_equal([
        Step::Key { which: 0 },
        Step::Fill { rect: Rect::new(0, 0, 1, 1), shade: 0 },
        Step::Surface { width: 293, height: 175 },
        Step::Film { rect: Rect::new(35, 159, 52, 175), count: 14 },
        Step::Write { which: 0, count: 1 },
        Step::Receive { which: 0, count: 1 },
        Step::Write { which: 0, count: 2 },
        Step::Receive { which: 0, count: 2 },
        Step::Acknowledge { which: 0 },
        Step::Wait { millis: 100 },
        Step::Photo { rect: Rect::new(0, 33, 32, 127), seed: 0 },
        Step::Copied { length: 2047 },
        Step::Key { which: 0 },
        Step::Drained,
        Step::Encode { which: 4 },
        Step::Picture { rect: Rect::new(0, 9, 271, 163), seed: 7 },
        Step::Picture { rect: Rect::new(0, 122, 1, 129), seed: 0 },
        Step::Wait { millis: 16 },
    ]);
}

#[test]
fn a_rest_that_is_drawn_back_as_it_was_holds_up_no_clipboard() {
    let rest = Rect::new(0, 64, 450, 280);
    every_viewer_ends_equal([
        Step::Drained,
        Step::Encode { which: 0 },
        Step::Write { which: 0, count: 9 },
        Step::Receive { which: 0, count: 9 },
        Step::Acknowledge { which: 0 },
        Step::Wait { millis: 1_000 },
        Step::Drained,
        Step::Key { which: 0 },
        Step::Fill { rect: Rect::new(0, 0, 8, 8), shade: 1 },
        Step::Fill { rect: rest, shade: 2 },
        Step::Drained,
        Step::Fill { rect: rest, shade: 0 },
        Step::Copied { length: 1 },
        Step::Drained,
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

/// The answer to a key leaves the newest picture of a region, which had become exact, for the next
/// frame.
fn world_that_carries_a_picture(film: Rect) -> World {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Film { rect: film, count: 14 });
    world.deliver(0, usize::MAX);
    for (seed, millis) in [(90, 40), (91, 40), (92, 40), (93, 600), (93, 40)] {
        world.step(Step::Movie { rect: film, seed });
        world.step(Step::Wait { millis });
        world.encode_all();
        world.deliver(0, usize::MAX);
    }
    assert!(!world.clients[0].inexact.contains(&true));
    world.step(Step::Movie { rect: film, seed: 94 });
    world.step(Step::Drained);
    world.step(Step::Key { which: 0 });
    world.step(Step::Fill { rect: Rect::new(377, 9, 450, 11), shade: 65 });
    world.step(Step::Drained);
    assert_eq!(world.jobs.len(), 1, "the picture is not made yet");
    world
}

#[test]
fn a_copy_takes_nothing_from_a_picture_of_video_that_is_left_for_later() {
    let mut world = world_that_carries_a_picture(Rect::new(0, 0, 128, 128));
    let rect = Rect::new(0, 150, 100, 250);
    world.step(Step::Fill { rect, shade: 9 });
    world.step(Step::CopyBits { rect, offset: Point::new(10, -140) });
    world.settle();
    world.assert_equal();
}

#[test]
fn a_picture_of_video_that_is_left_for_later_is_made_exact_where_it_comes_last() {
    let mut world = world_that_carries_a_picture(Rect::new(10, 10, 186, 186));
    world.step(Step::Fill { rect: Rect::new(0, 0, 5, 5), shade: 65 });
    world.step(Step::Fill { rect: Rect::new(300, 200, 310, 205), shade: 66 });
    world.step(Step::Wait { millis: 600 });
    world.step(Step::Encode { which: 1 });
    world.step(Step::Encode { which: 1 });
    world.settle();
    world.assert_equal();
}

#[test]
fn a_region_that_is_over_has_no_more_pictures() {
    let mut world = world_that_carries_a_picture(Rect::new(0, 0, 128, 128));
    world.step(Step::Wait { millis: 2100 });
    world.settle();
    world.assert_equal();
}
