//! Whatever a guest draws, and however slowly bytes, jobs and acknowledgements move, each viewer
//! ends with the guest's picture, and shows at each frame end what the guest showed at one moment.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::indexing_slicing, reason = "a failed index is a failed test")]
#![expect(clippy::panic, reason = "a panic is a failed test")]

use std::collections::VecDeque;
use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use vidi_display::protocol::{BrowserHello, ViewerMessage};
use vidi_display::{
    Effect, EncodeJob, IN_SOCKET_MESSAGES_MAX, Session, ViewerId, ViewerRights, encode,
};
use vidi_spice::display::{
    Combine, Copy, CopyBits, CopySource, DisplayEvent, Fill, Paint, Pixels, Surface, SurfaceFormat,
};
use vidi_spice::{
    AgentAbilities, AgentEvent, ClipboardKind, ClipboardPiece, CursorEvent, Point, Rect, SurfaceId,
};

const ID: SurfaceId = SurfaceId(0);

#[derive(Clone, Copy, Debug)]
enum Step {
    Fill { rect: Rect, shade: u8 },
    Invert { rect: Rect },
    Mix { rect: Rect, offset: Point },
    Picture { rect: Rect, seed: u32 },
    Noise { rect: Rect, seed: u32 },
    CopyBits { rect: Rect, offset: Point },
    Surface { width: u32, height: u32 },
    DestroySurface,
    Drained,
    Wait { millis: u64 },
    Encode { which: usize },
    Write { which: usize, count: usize },
    Receive { which: usize, count: usize },
    Acknowledge { which: usize },
    Join { webp: bool },
    Leave { which: usize },
    Refresh { which: usize },
    Copied { length: usize },
}

type Picture = (u32, u32, Vec<u32>);

/// A browser that draws what it gets.
#[derive(Debug)]
struct Client {
    id: ViewerId,
    socket: VecDeque<Bytes>,
    wire: VecDeque<Bytes>,
    unanswered: VecDeque<u32>,
    picture: Picture,
    /// The number of the guest's picture that was last shown.
    shown: usize,
    /// Something was drawn, and no frame ended since.
    amid_frame: bool,
    /// The part of a clipboard that came, of which more follows.
    part: Vec<u8>,
    /// Numbers of the pieces that came whole.
    pasted: Vec<usize>,
    /// How many pieces were copied before it came, of which it is told nothing.
    copied_before: usize,
}

#[derive(Debug)]
struct World {
    session: Session,
    now: Duration,
    jobs: Vec<EncodeJob>,
    clients: Vec<Client>,
    /// Every picture that the guest has shown.
    pictures: Vec<Picture>,
    copies: usize,
    images: usize,
    image_pixels: u32,
    /// What was copied in the guest.
    copied: Vec<Bytes>,
    /// How many pieces viewers got whole.
    pasted: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            session: Session::default(),
            now: Duration::ZERO,
            jobs: Vec::new(),
            clients: Vec::new(),
            pictures: Vec::new(),
            copies: 0,
            images: 0,
            image_pixels: 0,
            copied: Vec::new(),
            pasted: 0,
        };
        let abilities = AgentAbilities { clipboard: true, monitors: false };
        world.session.agent_event(&AgentEvent::Abilities(abilities));
        world.surface(450, 280);
        world
    }

    fn surface(&mut self, width: u32, height: u32) {
        self.draw(&DisplayEvent::SurfaceCreated(surface(width, height)));
    }

    fn draw(&mut self, event: &DisplayEvent) {
        let _unknown_surface = self.session.display_event(event, self.now);
        if let Some((width, height, pixels)) = self.session.picture() {
            self.pictures.push((width, height, pixels.to_vec()));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Fill { .. }
            | Step::Invert { .. }
            | Step::Mix { .. }
            | Step::Picture { .. }
            | Step::Noise { .. }
            | Step::CopyBits { .. } => self.draw(&event(step)),
            Step::Surface { width, height } => self.surface(width, height),
            Step::DestroySurface => {
                self.session.display_event(&DisplayEvent::SurfaceDestroyed(ID), self.now).unwrap();
            }
            Step::Drained => self.session.drained(),
            Step::Copied { length } => {
                let text = format!("{} {}", self.copied.len(), "x".repeat(length));
                let piece = ClipboardPiece { kind: ClipboardKind::Text, data: text.into() };
                self.copied.push(piece.data.clone());
                self.session.agent_event(&AgentEvent::Given(piece));
            }
            Step::Wait { millis } => self.now += Duration::from_millis(millis),
            Step::Encode { which } => {
                if !self.jobs.is_empty() {
                    let job = self.jobs.remove(which % self.jobs.len());
                    self.session.encoded(job.id, encode(&job));
                }
            }
            Step::Join { webp } => {
                if self.clients.len() < 3 {
                    self.join(webp);
                }
            }
            Step::Write { which, .. }
            | Step::Receive { which, .. }
            | Step::Acknowledge { which }
            | Step::Leave { which }
            | Step::Refresh { which } => {
                if !self.clients.is_empty() {
                    self.client_step(which % self.clients.len(), step);
                }
            }
        }
        self.poll();
    }

    fn join(&mut self, webp: bool) {
        let browser = BrowserHello { webp, width: 800, height: 600 };
        let id = self.session.add_viewer(browser, ViewerRights::Control).unwrap();
        self.clients.push(Client {
            id,
            socket: VecDeque::new(),
            wire: VecDeque::new(),
            unanswered: VecDeque::new(),
            picture: (0, 0, Vec::new()),
            shown: self.pictures.len().saturating_sub(1),
            amid_frame: false,
            part: Vec::new(),
            pasted: Vec::new(),
            copied_before: self.copied.len(),
        });
    }

    fn client_step(&mut self, index: usize, step: Step) {
        let client = &mut self.clients[index];
        match step {
            Step::Write { count, .. } => {
                for message in client.socket.drain(..count.min(client.socket.len())) {
                    self.session.sent(client.id, message.len(), self.now);
                    client.wire.push_back(message);
                }
            }
            Step::Receive { count, .. } => {
                for message in client.wire.drain(..count.min(client.wire.len())) {
                    for (kind, body) in records(&message) {
                        self.copies += usize::from(kind == 4);
                        if kind == 6 {
                            self.images += 1;
                            self.image_pixels += short(body, 4) * short(body, 6);
                        }
                        draw(&mut client.picture, kind, body);
                        client.amid_frame =
                            (2..7).contains(&kind) || client.amid_frame && kind != 7;
                        if kind == 14 {
                            assert!(!client.amid_frame, "a clipboard stands before a frame's end");
                            assert!(body.len() <= 4 + 16 * 1024, "the part is too long");
                            client.part.extend_from_slice(&body[4..]);
                            if body[1] == 0 {
                                let whole = std::mem::take(&mut client.part);
                                let known = self.copied.iter().position(|piece| *piece == whole);
                                client.pasted.push(known.expect("nobody copied this"));
                                self.pasted += 1;
                            }
                        }
                        if kind == 7 {
                            let known = &self.pictures[client.shown..];
                            let at = known.iter().position(|picture| *picture == client.picture);
                            client.shown += at.expect("a frame end shows no picture of the guest");
                            client.unanswered.push_back(long(body, 0));
                        }
                    }
                }
            }
            Step::Acknowledge { .. } => {
                if let Some(sequence) = client.unanswered.pop_front() {
                    let draw_time = Duration::from_micros(300);
                    let message = ViewerMessage::Ack { sequence, draw_time };
                    self.session.viewer_message(client.id, &message, self.now);
                }
            }
            Step::Refresh { .. } => {
                self.session.viewer_message(client.id, &ViewerMessage::Refresh, self.now);
            }
            _ => {
                self.session.remove_viewer(client.id);
                self.clients.remove(index);
            }
        }
    }

    fn poll(&mut self) {
        while let Some(effect) = self.session.poll(self.now) {
            match effect {
                Effect::Encode(job) => self.jobs.push(job),
                Effect::Send { viewer, message } => {
                    let mut clients = self.clients.iter_mut();
                    let client = clients.find(|client| client.id == viewer).unwrap();
                    client.socket.push_back(message);
                    assert!(client.socket.len() <= IN_SOCKET_MESSAGES_MAX, "the queue overflows");
                }
                Effect::Input(_) | Effect::Agent(_) => {}
            }
        }
    }

    /// Lets everything move until nothing is left to do.
    fn settle(&mut self) {
        self.step(Step::Drained);
        for _round in 0..1000 {
            for _job in 0..self.jobs.len() {
                self.step(Step::Encode { which: 0 });
            }
            for which in 0..self.clients.len() {
                self.step(Step::Write { which, count: usize::MAX });
                self.step(Step::Receive { which, count: usize::MAX });
                while !self.clients[which].unanswered.is_empty() {
                    self.step(Step::Acknowledge { which });
                }
            }
            let idle =
                self.jobs.is_empty() && self.clients.iter().all(|client| client.socket.is_empty());
            match self.session.next_deadline() {
                Some(deadline) => self.now = self.now.max(deadline),
                None if idle => return,
                None => {}
            }
            self.poll();
        }
        panic!("the session never comes to rest");
    }

    fn assert_equal(&self) {
        let Some((width, height, pixels)) = self.session.picture() else { return };
        for client in &self.clients {
            let came = client.copied_before..self.copied.len();
            assert!(client.pasted.is_sorted(), "an older clipboard came after a newer");
            assert!(client.pasted.iter().all(|number| came.contains(number)), "it is told the old");
            assert_eq!(client.pasted.last().copied(), came.last(), "the newest did not come");
            assert_eq!((client.picture.0, client.picture.1), (width, height));
            assert!(client.picture.2 == pixels, "a viewer's picture differs from the guest's");
        }
    }
}

const fn surface(width: u32, height: u32) -> Surface {
    Surface { id: ID, width, height, format: SurfaceFormat::Xrgb32, primary: true }
}

fn event(step: Step) -> DisplayEvent {
    let all = Rect::of_size(450, 280);
    match step {
        Step::Fill { rect, shade } => DisplayEvent::Fill(Fill {
            surface: ID,
            rects: vec![rect],
            color: [shade, shade / 2, 0, 255],
        }),
        Step::Invert { rect } => DisplayEvent::Combine(Combine {
            surface: ID,
            rects: vec![rect],
            and: u32::MAX,
            xor: 0x00ff_ffff,
        }),
        Step::Mix { rect, offset } => {
            // Source xor destination, from the picture itself.
            let source = CopySource::Surface(ID);
            let paint = Paint::blit(&surface(450, 280), vec![rect], 0x66, source, offset);
            DisplayEvent::Paint(Box::new(paint))
        }
        Step::Picture { rect, seed } => {
            copy(rect, |x, y| ((x / 7) * 0x0011_0103).wrapping_add((y / 5).wrapping_mul(seed)))
        }
        Step::Noise { rect, seed } => copy(rect, |x, y| {
            (x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77) ^ seed)
                .wrapping_mul(0xc2b2_ae3d)
                .rotate_left(13)
        }),
        Step::CopyBits { rect, offset } => {
            DisplayEvent::CopyBits(CopyBits { surface: ID, rects: vec![rect], offset })
        }
        _ => DisplayEvent::Fill(Fill { surface: ID, rects: vec![all], color: [0; 4] }),
    }
}

fn copy(rect: Rect, pixel: impl Fn(u32, u32) -> u32) -> DisplayEvent {
    let (width, height) = (rect.width(), rect.height());
    let data: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .flat_map(|(x, y)| pixel(x, y).to_le_bytes())
        .collect();
    let stride = usize::try_from(width).unwrap() * 4;
    DisplayEvent::Copy(Copy {
        surface: ID,
        rects: vec![rect],
        source: CopySource::Pixels(Pixels { width, height, stride, data: data.into() }),
        offset: Point::new(-rect.left, -rect.top),
    })
}

fn records(message: &[u8]) -> Vec<(u8, &[u8])> {
    let mut records = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let length = usize::try_from(long(rest, 4)).unwrap();
        records.push((rest[0], &rest[8..8 + length]));
        rest = &rest[8 + length..];
    }
    records
}

fn short(bytes: &[u8], at: usize) -> u32 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn draw(picture: &mut Picture, kind: u8, body: &[u8]) {
    let color = |bytes: &[u8]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    match kind {
        2 => {
            let (width, height) = (long(body, 0), long(body, 4));
            // Not black: what is never drawn must be noticed.
            let pixels = vec![0xdead_beef; usize::try_from(width * height).unwrap()];
            *picture = (width, height, pixels);
        }
        3 => put(picture, body, |_, _, _| color(&body[8..])),
        4 => {
            let before = picture.clone();
            let (x0, y0) = (short(body, 8), short(body, 10));
            put(picture, body, |_, x, y| {
                before.2[usize::try_from((y0 + y) * before.0 + x0 + x).unwrap()]
            });
        }
        5 => put(picture, body, |width, x, y| {
            color(&body[8 + usize::try_from(y * width + x).unwrap() * 4..])
        }),
        6 => {
            let (width, height) = (short(body, 4), short(body, 6));
            let colors = match body[8] {
                1 => decode_png(&body[12..], width, height),
                2 => decode_webp(&body[12..], width, height),
                other => panic!("codec {other}"),
            };
            put(picture, body, |width, x, y| {
                color(&colors[usize::try_from(y * width + x).unwrap() * 3..])
            });
        }
        _ => {}
    }
}

fn put(picture: &mut Picture, body: &[u8], pixel: impl Fn(u32, u32, u32) -> u32) {
    let (left, top) = (short(body, 0), short(body, 2));
    let (width, height) = (short(body, 4), short(body, 6));
    assert!(left + width <= picture.0 && top + height <= picture.1, "drawn outside the view");
    for y in 0..height {
        for x in 0..width {
            let at = usize::try_from((top + y) * picture.0 + left + x).unwrap();
            picture.2[at] = pixel(width, x, y);
        }
    }
}

fn decode_webp(data: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(data)).unwrap();
    assert_eq!(decoder.dimensions(), (width, height));
    assert!(!decoder.has_alpha());
    let mut colors = vec![0; decoder.output_buffer_size().unwrap()];
    decoder.read_image(&mut colors).unwrap();
    colors
}

fn decode_png(data: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut reader = png::Decoder::new(Cursor::new(data)).read_info().unwrap();
    let mut colors = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut colors).unwrap();
    assert_eq!((info.width, info.height), (width, height));
    assert_eq!(info.color_type, png::ColorType::Rgb);
    colors
}

fn rects() -> impl Strategy<Value = Rect> {
    (0..450_i32, 0..280_i32, 1..450_i32, 1..280_i32)
        .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
}

fn small_rects() -> impl Strategy<Value = Rect> {
    (0..450_i32, 0..280_i32, 1..20_i32, 1..20_i32)
        .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
}

fn steps() -> impl Strategy<Value = Step> {
    let any_client = 0..3_usize;
    prop_oneof![
        3 => (rects(), any::<u8>()).prop_map(|(rect, shade)| Step::Fill { rect, shade }),
        1 => rects().prop_map(|rect| Step::Invert { rect }),
        1 => (rects(), -40..40_i32, -40..40_i32)
            .prop_map(|(rect, x, y)| Step::Mix { rect, offset: Point::new(x, y) }),
        3 => (rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Picture { rect, seed }),
        4 => (small_rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Picture { rect, seed }),
        2 => (rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Noise { rect, seed }),
        4 => (rects(), -40..40_i32, -40..40_i32).prop_map(|(rect, x, y)| Step::CopyBits {
            rect,
            offset: Point::new(x, y),
        }),
        1 => (100..500_u32, 100..300_u32)
            .prop_map(|(width, height)| Step::Surface { width, height }),
        1 => Just(Step::DestroySurface),
        6 => Just(Step::Drained),
        8 => (0..30_u64).prop_map(|millis| Step::Wait { millis }),
        12 => any::<usize>().prop_map(|which| Step::Encode { which }),
        8 => (any_client.clone(), 1..4_usize)
            .prop_map(|(which, count)| Step::Write { which, count }),
        8 => (any_client.clone(), 1..4_usize)
            .prop_map(|(which, count)| Step::Receive { which, count }),
        6 => any_client.clone().prop_map(|which| Step::Acknowledge { which }),
        2 => any::<bool>().prop_map(|webp| Step::Join { webp }),
        1 => any_client.clone().prop_map(|which| Step::Leave { which }),
        1 => any_client.prop_map(|which| Step::Refresh { which }),
        2 => prop_oneof![0..10_usize, 0..100_000_usize].prop_map(|length| Step::Copied { length }),
    ]
}

proptest! {
    #[test]
    fn every_viewer_ends_with_the_guests_picture(
        steps in proptest::collection::vec(steps(), 1..120),
    ) {
        let mut world = World::new();
        world.step(Step::Join { webp: true });
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.assert_equal();
        // One that comes to a quiet session gets the same.
        world.clients.truncate(2);
        world.join(false);
        world.settle();
        world.assert_equal();
    }
}

/// With a full socket, changes a part that waits: it is replaced, and what was there is never sent.
#[test]
fn what_waits_for_the_socket_is_superseded() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Join { webp: true });
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    while !world.jobs.is_empty() {
        world.step(Step::Encode { which: 0 });
    }
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
    world.step(Step::Join { webp: true });
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
    assert!(frames >= 15, "{frames} frames in 60 intervals");
    world.settle();
    world.assert_equal();
}

#[test]
fn a_frame_that_is_given_up_does_not_hold_back_the_next() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Join { webp: true });
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    world.step(Step::Encode { which: 0 });
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
    world.step(Step::Join { webp: true });
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
fn scrolling_is_sent_as_copies() {
    let mut world = World::new();
    world.step(Step::Join { webp: true });
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
fn a_picture_larger_than_the_credit_arrives_in_slices_and_at_once() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    world.step(Step::Join { webp: true });
    // Nothing is acknowledged, and still the whole picture comes.
    for _round in 0..200 {
        while !world.jobs.is_empty() {
            world.step(Step::Encode { which: 0 });
        }
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
    world.step(Step::Join { webp: true });
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

#[test]
fn viewers_of_one_session_share_what_is_encoded() {
    let mut world = World::new();
    for _viewer in 0..3 {
        world.step(Step::Join { webp: true });
    }
    world.step(Step::Picture { rect: Rect::of_size(200, 150), seed: 77 });
    world.step(Step::Drained);
    assert_eq!(world.jobs.len(), 1);
    world.settle();
    world.assert_equal();
    assert_eq!(world.images, 3);
}

/// Frames and whole clipboards that a viewer gets in this time, over a wire with this many bytes
/// per millisecond, from a guest that changes all the time.
fn over_a_slow_wire(bytes_per_milli: usize, millis: u32, length: Option<usize>) -> (u64, usize) {
    let mut world = World::new();
    world.step(Step::Join { webp: true });
    if let Some(length) = length {
        world.step(Step::Copied { length });
    }
    let mut credit = 0;
    for milli in 0..millis {
        world.step(Step::Wait { millis: 1 });
        world.step(Step::Noise { rect: Rect::of_size(40, 40), seed: milli });
        world.step(Step::Drained);
        while !world.jobs.is_empty() {
            world.step(Step::Encode { which: 0 });
        }
        credit += bytes_per_milli;
        while let Some(next) = world.clients[0].socket.front().map(Bytes::len) {
            if credit < next {
                break;
            }
            credit -= next;
            world.step(Step::Write { which: 0, count: 1 });
            world.step(Step::Receive { which: 0, count: 1 });
            while !world.clients[0].unanswered.is_empty() {
                world.step(Step::Acknowledge { which: 0 });
            }
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
    world.step(Step::Join { webp: true });
    world.settle();
    for length in [1 << 20, 5, 1 << 20] {
        world.step(Step::Copied { length });
    }
    world.settle();
    world.assert_equal();
    // The first was begun and is finished, the second waited and was replaced.
    assert_eq!(world.clients[0].pasted, [0, 2]);
    world.join(true);
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
    world.step(Step::Join { webp: true });
    assert_eq!(told(&mut world), [(1, vec![1, 0, 1, 0]), (15, vec![3])]);
    let abilities = AgentAbilities { clipboard: true, monitors: true };
    for _again in 0..2 {
        world.session.agent_event(&AgentEvent::Abilities(abilities));
    }
    world.poll();
    assert_eq!(told(&mut world), [(15, vec![7])]);
    world.session.display_closed();
    world.poll();
    assert_eq!(told(&mut world), [(15, vec![0])]);
}
