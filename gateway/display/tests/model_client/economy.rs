//! In which form parts of the picture go, what they cost, and when they are exact.

use std::time::Duration;

use vidi_spice::{Point, Rect};

use crate::guest::{Step, event};
use crate::world::World;

#[test]
fn scrolling_is_sent_as_copies() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.surface(200, 150);
    let whole = Rect::of_size(200, 150);
    world.step(Step::Picture { rect: whole, seed: 0x0001_0203 });
    world.settle();
    let before = world.image_pixels;
    for line in 0..20 {
        let rect = Rect::new(0, 0, 200, 134);
        world.step(Step::CopyBits { rect, offset: Point::new(0, 16) });
        let rect = Rect::new(0, 134, 200, 150);
        world.step(Step::Fill { rect, shade: line });
        world.step(Step::Drained);
        if line % 3 == 0 {
            world.settle();
            world.assert_equal();
        }
    }
    world.settle();
    world.assert_equal();
    assert_eq!(world.copies, 20);
    let images = world.image_pixels - before;
    assert!(images < 20 * 16 * 200 * 2, "{images} pixels came as images, not only the new lines");
}

#[test]
fn viewers_of_one_session_share_what_is_encoded() {
    let mut world = World::new();
    for _viewer in 0..3 {
        world.step(Step::Join { webp: true, h264: true, slots: 40 });
    }
    world.step(Step::Picture { rect: Rect::of_size(200, 150), seed: 77 });
    world.step(Step::Drained);
    assert_eq!(world.jobs.len(), 1);
    world.settle();
    world.assert_equal();
    assert_eq!(world.images, 3);
}

/// Bytes and recalled tiles since the last call.
fn spent(world: &mut World) -> (usize, usize) {
    (std::mem::take(&mut world.bytes), std::mem::take(&mut world.recalls))
}

#[test]
fn a_menu_that_was_open_before_costs_a_few_bytes_a_tile() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    let desktop = Step::Picture { rect: Rect::of_size(450, 280), seed: 0x0001_0203 };
    let menu = Step::Picture { rect: Rect::new(20, 20, 220, 200), seed: 0x0031_0b07 };
    world.step(desktop);
    world.settle();
    let (first, _) = spent(&mut world);
    for round in 0..4 {
        for step in [menu, desktop] {
            world.step(Step::Wait { millis: 600 });
            world.step(step);
            world.settle();
            world.assert_equal();
            let (bytes, recalls) = spent(&mut world);
            if round > 0 {
                assert_eq!(recalls, 16, "every tile that changed comes from memory");
                assert!(bytes < 16 * 16 + 40, "{bytes} bytes for what was there before");
            }
        }
    }
    assert!(first > 500);
}

#[test]
fn a_blinking_caret_costs_less_than_2_kbit_each_second() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    let letters = Step::Picture { rect: Rect::of_size(450, 280), seed: 0x0001_0203 };
    world.step(letters);
    world.settle();
    let caret = Rect::new(100, 100, 101, 116);
    for blink in 0..8 {
        if blink == 4 {
            spent(&mut world);
        }
        world.step(Step::Wait { millis: 530 });
        world.step(Step::Invert { rect: caret });
        world.settle();
    }
    // Keep or recall, and the frame's end.
    let (bytes, recalls) = spent(&mut world);
    assert_eq!((bytes, recalls), (4 * (16 + 12), 4));
    world.assert_equal();
}

#[test]
fn what_is_drawn_anew_as_it_was_costs_nothing() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 0 });
    let same = Step::Picture { rect: Rect::of_size(450, 280), seed: 0x0001_0203 };
    world.step(same);
    world.settle();
    let frames = world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    spent(&mut world);
    for _again in 0..5 {
        world.step(Step::Wait { millis: 100 });
        world.step(same);
        world.settle();
    }
    assert_eq!(spent(&mut world), (0, 0));
    assert_eq!(world.session.viewer_statistics(world.clients[0].id).unwrap().frames, frames);
    world.assert_equal();
}

/// Lets everything come to rest, which takes less than a second from now.
fn assert_exact_within_a_second(world: &mut World) {
    let quiet_since = world.now;
    world.settle();
    world.assert_equal();
    let took = world.exact_at - quiet_since;
    assert!(took < Duration::from_secs(1), "it was exact after {took:?}");
}

#[test]
fn a_photo_on_a_slow_line_comes_quickly_and_then_exactly_within_a_second() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.settle();
    spent(&mut world);
    // A slow line: the rate that it has is known from pictures that took long.
    let photo = Rect::new(10, 10, 330, 250);
    for seed in 0..8 {
        world.step(Step::Photo { rect: photo, seed });
        world.step(Step::Drained);
        world.encode_all();
        // On a slow line messages are short, and few wait at once.
        for _message in 0..32 {
            world.step(Step::Write { which: 0, count: usize::MAX });
        }
        world.step(Step::Wait { millis: 100 });
        for _message in 0..32 {
            world.step(Step::Receive { which: 0, count: usize::MAX });
        }
        world.step(Step::Acknowledge { which: 0 });
    }
    assert!(world.lossy > 5, "only {} images were not exact", world.lossy);
    assert!(world.clients[0].inexact.contains(&true));
    assert_exact_within_a_second(&mut world);
}

#[test]
fn letters_and_windows_are_never_inexact() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 0 });
    for seed in 0..60 {
        world.step(Step::Picture { rect: Rect::of_size(450, 280), seed: seed * 0x0001_0305 });
        world.step(Step::Drained);
        world.step(Step::Wait { millis: 30 });
        world.settle();
    }
    assert_eq!(world.lossy, 0);
    world.assert_equal();
}

#[test]
fn what_moves_is_sent_as_video_and_then_exactly() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Join { webp: true, h264: true, slots: 0 });
    world.step(Step::Join { webp: true, h264: false, slots: 40 });
    world.settle();
    let rect = Rect::new(37, 21, 301, 221);
    for seed in 0..75 {
        world.now += Duration::from_millis(40);
        world.step(Step::Movie { rect, seed });
        world.step(Step::Drained);
        for _round in 0..3 {
            world.encode_all();
            (0..3).for_each(|which| world.deliver(which, usize::MAX));
        }
    }
    let videos = world.videos;
    assert!(videos > 80, "only {videos} pictures were sent as video to two viewers");
    assert_exact_within_a_second(&mut world);
}

#[test]
fn a_picture_that_rests_takes_little_memory_and_comes_back() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Picture { rect: Rect::of_size(450, 280), seed: 0x0001_0203 });
    let before = world.session.pixel_bytes();
    assert_eq!(before, 450 * 280 * 4);
    world.settle();
    let packed = world.session.pixel_bytes();
    assert!(packed * 10 < before, "{packed} bytes of {before}");
    // What comes is drawn on what was there, and a new viewer sees it all.
    world.draw(&event(Step::Invert { rect: Rect::new(5, 5, 90, 90) }));
    world.step(Step::Drained);
    world.settle();
    world.assert_equal();
    world.step(Step::Wait { millis: 31_000 });
    assert!(world.session.pixel_bytes() * 10 < before);
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.settle();
    world.assert_equal();
}
