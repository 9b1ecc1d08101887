//! When something goes to a viewer, and what waits for what.

use std::time::Duration;

use bytes::Bytes;
use vidi_display::IN_SOCKET_MESSAGES_MAX;
use vidi_display::protocol::ViewerMessage;
use vidi_spice::{AgentAbilities, AgentEvent, CursorEvent, Point, Rect};

use crate::guest::Step;
use crate::picture::records;
use crate::world::World;

/// With a full socket, changes a part that waits: it is replaced, and what was there is never sent.
#[test]
fn what_waits_for_the_socket_is_superseded() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    world.encode_all();
    let below = Rect::new(0, 300, 640, 480);
    for seed in 10..13 {
        world.step(Step::Noise { rect: below, seed });
        world.step(Step::Drained);
        world.step(Step::Wait { millis: 16 });
    }
    // The socket is full: nothing can be told before it has room, and then the newest is.
    assert!(world.jobs.is_empty());
    world.step(Step::Write { which: 0, count: usize::MAX });
    assert!(!world.jobs.is_empty());
    world.settle();
    world.assert_equal();
    let frames = world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    assert_eq!(frames, 1);
    assert!(world.image_pixels < 640 * 480 * 5 / 4, "{} pixels were sent", world.image_pixels);
}

#[test]
fn a_guest_that_changes_all_the_time_does_not_keep_frames_from_ending() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    for seed in 0..60 {
        world.step(Step::Noise { rect: Rect::of_size(450, 280), seed });
        world.step(Step::Drained);
        world.step(Step::Wait { millis: 16 });
        world.step(Step::Encode { which: 0 });
        world.step(Step::Write { which: 0, count: 1 });
        world.step(Step::Receive { which: 0, count: 1 });
        world.step(Step::Acknowledge { which: 0 });
    }
    let frames = world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    assert!(frames >= 12, "{frames} frames in 60 intervals");
    world.settle();
    world.assert_equal();
}

#[test]
fn a_frame_that_is_given_up_does_not_hold_back_the_next() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    for _job in 0..2 {
        world.step(Step::Encode { which: 0 });
    }
    let frames =
        |world: &World| world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    assert!(world.clients[0].socket.iter().map(Bytes::len).sum::<usize>() > 64 * 1024);
    assert_eq!(frames(&world), 0, "the frame is open, and more than the credit is on its way");
    world.step(Step::Surface { width: 320, height: 200 });
    world.settle();
    world.assert_equal();
    assert_eq!(frames(&world), 1);
}

#[test]
fn a_socket_that_takes_nothing_is_given_few_messages() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    for number in 0..1000_u16 {
        let id = world.clients[0].id;
        world.session.viewer_message(id, &ViewerMessage::Ping([1; 8]), world.now);
        world.session.cursor_event(&CursorEvent::Moved(Point::new(number.into(), 5)));
        let rect = Rect::new(number.into(), 5, i32::from(number) + 3, 8);
        world.step(Step::Fill { rect, shade: 99 });
        world.step(Step::Acknowledge { which: 0 });
        world.step(Step::Wait { millis: 16 });
    }
    assert_eq!(world.clients[0].socket.len(), IN_SOCKET_MESSAGES_MAX);
    world.settle();
    world.assert_equal();
}

#[test]
fn a_picture_larger_than_the_credit_arrives_in_slices_and_at_once() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    // Nothing is acknowledged, and still the whole picture comes.
    for _round in 0..200 {
        world.encode_all();
        let waiting: usize = world.clients[0].socket.iter().map(Bytes::len).sum();
        assert!(waiting < 512 * 1024, "{waiting} bytes wait in the socket");
        world.step(Step::Write { which: 0, count: 1 });
        world.step(Step::Receive { which: 0, count: 1 });
    }
    world.assert_equal();
    assert_eq!(world.clients[0].unanswered.len(), 1);
    // Without the acknowledgement there is no second frame; with it there is.
    world.step(Step::Fill { rect: Rect::of_size(640, 480), shade: 9 });
    world.step(Step::Wait { millis: 100 });
    assert!(world.clients[0].socket.is_empty());
    world.step(Step::Acknowledge { which: 0 });
    assert!(!world.clients[0].socket.is_empty());
}

#[test]
fn the_first_change_is_shown_when_drained_and_the_next_after_16_ms() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.settle();
    world.step(Step::Wait { millis: 1000 });
    let dot = |shade| Step::Fill { rect: Rect::new(5, 5, 9, 9), shade };
    world.step(dot(1));
    assert!(world.clients[0].socket.is_empty(), "the guest may still be drawing");
    assert_eq!(world.session.next_deadline(), Some(world.now + Duration::from_millis(2)));
    world.step(Step::Drained);
    assert_eq!(world.clients[0].socket.len(), 1);
    world.step(dot(2));
    world.step(Step::Drained);
    assert_eq!(world.clients[0].socket.len(), 1);
    assert_eq!(world.session.next_deadline(), Some(world.now + Duration::from_millis(16)));
    world.step(Step::Wait { millis: 16 });
    assert_eq!(world.clients[0].socket.len(), 2);
    world.step(dot(3));
    world.step(Step::Wait { millis: 16 });
    assert_eq!(world.clients[0].socket.len(), 3, "a guest that never pauses is shown too");
}

/// What the kernel holds that is not on the wire yet.
const KERNEL_BYTES: usize = 8 << 10;

/// Frames and whole clipboards that a viewer gets in this time, over a wire with this many bytes
/// per millisecond, from a guest that changes all the time.
fn over_a_slow_wire(bytes_per_milli: usize, millis: u32, length: Option<usize>) -> (u64, usize) {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    if let Some(length) = length {
        world.step(Step::Copied { length });
    }
    let on_wire = |world: &World| world.clients[0].wire.iter().map(Bytes::len).sum::<usize>();
    let mut credit = 0;
    for milli in 0..millis {
        world.step(Step::Wait { millis: 1 });
        world.step(Step::Noise { rect: Rect::of_size(40, 40), seed: milli });
        world.step(Step::Drained);
        world.encode_all();
        credit += bytes_per_milli;
        loop {
            // The kernel takes a little more than the wire does.
            while on_wire(&world) < KERNEL_BYTES && !world.clients[0].socket.is_empty() {
                world.step(Step::Write { which: 0, count: 1 });
            }
            let Some(next) = world.clients[0].wire.front().map(Bytes::len) else { break };
            if credit < next {
                break;
            }
            credit -= next;
            world.receive(0, 1);
        }
        credit = credit.min(bytes_per_milli + (1 << 16));
    }
    let frames = world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    (frames, world.pasted)
}

#[test]
fn a_clipboard_comes_beside_a_picture_that_never_rests_and_hardly_slows_it() {
    for bytes_per_milli in [125, 1250, 12_500] {
        let (alone, _) = over_a_slow_wire(bytes_per_milli, 3000, None);
        let (beside, pasted) =
            over_a_slow_wire(bytes_per_milli, 3000, Some(20 * bytes_per_milli * 3));
        assert_eq!(pasted, 1, "at {bytes_per_milli} bytes/ms it does not come");
        let (frames, _) = over_a_slow_wire(bytes_per_milli, 3000, Some(1 << 20));
        assert!(alone * 6 / 10 <= frames, "{frames} frames beside a long one, {alone} alone");
        assert!(alone * 8 / 10 <= beside, "{beside} frames beside a short one, {alone} alone");
    }
}

#[test]
fn a_clipboard_comes_in_parts_to_a_viewer_that_rests_and_the_newest_wins() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.settle();
    for length in [1 << 20, 5, 1 << 20] {
        world.step(Step::Copied { length });
    }
    world.settle();
    world.assert_equal();
    // The first was begun and is finished, the second waited and was replaced.
    assert_eq!(world.clients[0].pasted, [0, 2]);
    world.join(true, false, 0);
    world.settle();
    assert_eq!(world.clients[1].pasted, [], "a new viewer is told nothing old");
}

#[test]
fn abilities_are_told_after_hello_and_when_they_change() {
    fn told(world: &mut World) -> Vec<(u8, Vec<u8>)> {
        let messages = std::mem::take(&mut world.clients[0].socket);
        let records = messages.iter().flat_map(|message| records(message));
        let kept = records.filter(|(kind, _)| [1, 15].contains(kind));
        kept.map(|(kind, body)| (kind, body.to_vec())).collect()
    }
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    assert_eq!(told(&mut world), [(1, vec![1, 0, 1, 0]), (15, vec![3])]);
    let abilities = AgentAbilities { clipboard: true, monitors: true, files: true };
    for _again in 0..2 {
        world.session.agent_event(&AgentEvent::Abilities(abilities));
    }
    world.poll();
    assert_eq!(told(&mut world), [(15, vec![15])]);
    world.session.display_closed();
    world.poll();
    assert_eq!(told(&mut world), [(15, vec![0])]);
}

#[test]
fn an_answer_to_a_key_does_not_wait_for_a_picture_that_fills_the_line() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Join { webp: true, h264: false, slots: 40 });
    world.settle();
    world.step(Step::Wait { millis: 1000 });
    let whole = Rect::new(0, 32, 640, 480);
    world.step(Step::Noise { rect: whole, seed: 5 });
    world.step(Step::Drained);
    world.step(Step::Encode { which: 0 });
    assert!(!world.clients[0].socket.is_empty(), "the picture is under way");
    world.step(Step::Key { which: 0 });
    let letter = Rect::new(10, 8, 18, 24);
    world.step(Step::Picture { rect: letter, seed: 3 });
    world.step(Step::Drained);
    // Only what waits in the socket is before it.
    for _message in 0..2 {
        world.step(Step::Write { which: 0, count: usize::MAX });
        world.step(Step::Receive { which: 0, count: usize::MAX });
    }
    assert_eq!(world.clients[0].unanswered.len(), 1, "no frame has ended");
    let at = 8 * 640 + 10;
    let newest = &world.pictures.last().unwrap().2;
    assert_eq!(world.clients[0].picture.2[at..at + 8], newest[at..at + 8]);
    world.settle();
    world.assert_equal();
}
