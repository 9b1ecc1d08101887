//! A client behind a condenser shows what one without it shows, as soon as nothing moves.

use proptest::prelude::*;

use super::super::event::{Copy, CopySource, DisplayEvent};
use super::super::tests::display;
use super::super::{DisplayChannel, ImageTransfer};
use super::*;
use crate::channel::Channel;
use crate::geometry::Point;
use crate::link::Capabilities;
use crate::test_support::{Body, message, setup};

const SIDE: i32 = 256;
const FRAME: Duration = Duration::from_millis(33);

/// A client, with the colours of what it shows.
struct Client {
    display: DisplayChannel,
    pixels: Vec<[u8; 3]>,
    acknowledged: usize,
}

impl Client {
    fn new() -> Self {
        let mut client = Self {
            display: display(),
            pixels: vec![[0; 3]; usize::try_from(SIDE * SIDE).unwrap()],
            acknowledged: 0,
        };
        client.take(&message(3, &Body::default().u32(1).u32(5).0));
        client
    }

    fn place(x: i32, y: i32) -> usize {
        usize::try_from(y * SIDE + x).unwrap()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.display.receive(bytes).unwrap();
        while let Some(event) = self.display.next_event().unwrap() {
            match event {
                DisplayEvent::Copy(Copy { rects, source, offset, .. }) => {
                    let CopySource::Pixels(pixels) = source else { panic!("a surface") };
                    for (x, y) in rects.iter().flat_map(points) {
                        let row = pixels.row(u32::try_from(y + offset.y).unwrap()).unwrap();
                        let at = usize::try_from(4 * (x + offset.x)).unwrap();
                        self.pixels[Self::place(x, y)] = [row[at], row[at + 1], row[at + 2]];
                    }
                }
                DisplayEvent::Fill(fill) => {
                    for (x, y) in fill.rects.iter().flat_map(points) {
                        self.pixels[Self::place(x, y)] = *fill.color.first_chunk().unwrap();
                    }
                }
                DisplayEvent::CopyBits(copy) => {
                    for rect in &copy.rects {
                        let before = self.pixels.clone();
                        for (x, y) in points(rect) {
                            let from = Self::place(x + copy.offset.x, y + copy.offset.y);
                            self.pixels[Self::place(x, y)] = before[from];
                        }
                    }
                }
                DisplayEvent::Combine(combine) => {
                    for (x, y) in combine.rects.iter().flat_map(points) {
                        let [blue, green, red] = self.pixels[Self::place(x, y)];
                        let pixel = u32::from_le_bytes([blue, green, red, 0]);
                        let pixel = ((pixel & combine.and) ^ combine.xor).to_le_bytes();
                        self.pixels[Self::place(x, y)] = *pixel.first_chunk().unwrap();
                    }
                }
                DisplayEvent::SurfaceCreated(_) | DisplayEvent::Common(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let sent = self.display.poll_transmit().map(Vec::from).unwrap_or_default();
        // ACK_SYNC has a body, ACK has none.
        self.acknowledged +=
            sent.chunks(HEADER_BYTES).filter(|head| head.starts_with(&[2, 0])).count();
    }
}

fn points(rect: &Rect) -> impl Iterator<Item = (i32, i32)> + use<> {
    let rect = *rect;
    (rect.top..rect.bottom).flat_map(move |y| (rect.left..rect.right).map(move |x| (x, y)))
}

/// A server whose client is behind a condenser, and the same without.
struct Scene {
    condenser: Condenser,
    behind: Client,
    plain: Client,
    now: Duration,
    /// Bytes that came out.
    bytes: usize,
    messages: usize,
}

/// What a client of ours says first.
fn first() -> Bytes {
    let capabilities = ImageTransfer::capabilities();
    Channel::new(ChannelKind::Display, capabilities, setup()).poll_transmit().unwrap()
}

impl Scene {
    fn new() -> Self {
        let mut condenser = Condenser::for_client(&first(), 40).unwrap();
        // The server's answer and its verdict are of no interest here, but go through.
        let mut answer = BytesMut::new();
        link::put_header(178, &mut answer);
        answer.put_bytes(7, 178);
        answer.put_u32_le(0);
        let mut passed = Vec::new();
        for byte in &answer {
            condenser.receive(&[*byte]);
            while let Some(Step::Send(bytes)) = condenser.step(Duration::ZERO) {
                passed.extend(bytes);
            }
        }
        assert_eq!(passed, answer);
        let (behind, plain) = (Client::new(), Client::new());
        let now = Duration::from_secs(5);
        let mut scene = Self { condenser, behind, plain, now, bytes: 0, messages: 0 };
        let side = u32::try_from(SIDE).unwrap();
        let surface = [0, side, side, 32, 1].into_iter().fold(Body::default(), Body::u32);
        scene.say(server::SURFACE_CREATE, &surface);
        scene
    }

    fn say(&mut self, kind: u16, body: &Body) {
        let message = message(kind, &body.0);
        self.messages += 1;
        self.plain.take(&message);
        self.condenser.receive(&message);
        self.go_on();
    }

    fn go_on(&mut self) {
        while let Some(step) = self.condenser.step(self.now) {
            match step {
                Step::Send(bytes) => {
                    self.bytes += bytes.len();
                    self.behind.take(&bytes);
                }
                Step::Pack(packing) => self.condenser.packed(&packing.run(), self.now),
            }
        }
    }

    /// Time passes, and whatever wakes.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wakes) = self.condenser.wakes().filter(|wakes| *wakes <= end) {
            self.now = wakes;
            self.condenser.wake(self.now);
            self.go_on();
        }
        self.now = end;
    }

    fn put(&mut self, area: Rect, picture: Picture, id: u64) {
        self.say(server::DRAW_COPY, &put(area, picture, id));
    }

    /// Places that differ.
    fn wrong(&self) -> usize {
        self.behind
            .pixels
            .iter()
            .zip(&self.plain.pixels)
            .filter(|(one, other)| one != other)
            .count()
    }
}

/// What a picture is of, with a seed.
#[derive(Clone, Copy, Debug)]
enum Picture {
    Photo(u32),
    Text(u32),
}

impl Picture {
    fn pixel(self, x: i32, y: i32) -> [u8; 4] {
        let (x, y) = (x.cast_unsigned(), y.cast_unsigned());
        match self {
            Self::Photo(seed) => {
                let mixed = (x / 3 * 7 + y / 5 * 31 + seed).wrapping_mul(0x9e37_79b9) >> 27;
                let value = |slope: u32| (slope + mixed).to_le_bytes()[0];
                [value(x + seed), value(y), value(x / 2 + y / 2), 0]
            }
            Self::Text(seed) => match (x / 8 + y / 4 + seed) % 5 {
                0 => [0, 0, 60, 0],
                _ => [240, 240, 240, 0],
            },
        }
    }
}

/// Number of an image that is not for the cache.
const UNCACHED: u64 = 0;

fn put(area: Rect, picture: Picture, id: u64) -> Body {
    let (width, height) = (area.width(), area.height());
    let body = copy_head(area).u64(id).u8(0).u8(u8::from(id != UNCACHED));
    let body = body.u32(width).u32(height).u8(8).u8(4).u32(width).u32(height).u32(4 * width).u32(0);
    let pixels: Vec<u8> =
        points(&Rect::of_size(width, height)).flat_map(|(x, y)| picture.pixel(x, y)).collect();
    body.bytes(&pixels)
}

fn recalled(area: Rect, id: u64) -> Body {
    copy_head(area).u64(id).u8(103).u8(0).u32(area.width()).u32(area.height())
}

fn base(area: Rect) -> Body {
    Body::default().u32(0).i32s(&[area.top, area.left, area.bottom, area.right]).u8(0)
}

/// Up to the image.
fn copy_head(area: Rect) -> Body {
    let body = base(area).u32(21 + 4 + 16 + 2 + 1 + 13);
    let size = Rect::of_size(area.width(), area.height());
    body.i32s(&[size.top, size.left, size.bottom, size.right]).u16(8).u8(0).bytes(&[0; 13])
}

fn film(scene: &mut Scene, area: Rect, frames: u32) {
    for frame in 0..frames {
        scene.put(area, Picture::Photo(frame), UNCACHED);
        scene.pass(FRAME);
    }
}

#[test]
fn a_film_is_rough_while_it_plays_and_exact_when_it_rests() {
    let mut scene = Scene::new();
    film(&mut scene, Rect::of_size(256, 256), 40);
    let raw = 40 * 256 * 256 * 4;
    assert!(scene.bytes < raw / 4, "{} of {raw} bytes", scene.bytes);
    assert!(scene.wrong() > 1000, "{}", scene.wrong());
    let condensed = scene.condenser.take_condensed();
    assert_eq!(condensed, Condensed { rough: 37, lz4: 0, exact: 0 });
    scene.pass(REST);
    assert_eq!((scene.wrong(), scene.condenser.wakes()), (0, None));
    assert_eq!(scene.condenser.take_condensed(), Condensed { exact: 1, ..Condensed::default() });
    // The server's window is in its own messages.
    assert_eq!(scene.behind.acknowledged, scene.plain.acknowledged);
    assert!(scene.messages / 5 <= scene.plain.acknowledged);
}

#[test]
fn a_film_that_halts_for_a_moment_goes_on_as_a_film() {
    let mut scene = Scene::new();
    let area = Rect::of_size(256, 256);
    let mut rough = |halt: Duration| {
        scene.pass(halt);
        film(&mut scene, area, 10);
        scene.condenser.take_condensed().rough
    };
    let halts = [Duration::ZERO, REST * 3, REST * 5].map(&mut rough);
    assert_eq!(halts, [7, 10, 7]);
}

#[test]
fn text_is_never_rough() {
    let mut scene = Scene::new();
    for frame in 0..40 {
        scene.put(Rect::of_size(256, 256), Picture::Text(frame), UNCACHED);
        assert_eq!(scene.wrong(), 0);
        scene.pass(FRAME);
    }
    assert!(scene.bytes < 40 * 256 * 256 * 4 / 4, "{}", scene.bytes);
    assert_eq!(scene.condenser.take_condensed(), Condensed { lz4: 40, ..Condensed::default() });
}

#[test]
fn what_reads_a_rough_place_finds_it_exact() {
    let mut scene = Scene::new();
    film(&mut scene, Rect::of_size(128, 128), 8);
    assert!(scene.wrong() > 0);
    // Half of the film moves elsewhere, then the rest is hidden.
    scene.say(server::COPY_BITS, &base(Rect::new(128, 128, 256, 192)).i32s(&[0, 64]));
    let fill = base(Rect::of_size(128, 128)).u8(1).u32(0x0012_3456).u16(8).bytes(&[0; 13]);
    scene.say(server::DRAW_FILL, &fill);
    assert_eq!(scene.wrong(), 0);
}

#[test]
fn a_frame_of_the_cache_is_exact() {
    let mut scene = Scene::new();
    for frame in 1..12 {
        scene.put(Rect::of_size(128, 128), Picture::Photo(frame), u64::from(frame));
        scene.pass(FRAME);
    }
    assert!(scene.condenser.take_condensed().rough > 5);
    scene.say(server::DRAW_COPY, &recalled(Rect::of_size(128, 128), 9));
    scene.say(server::DRAW_COPY, &recalled(Rect::new(128, 128, 256, 256), 9));
    assert_eq!(scene.wrong(), 0);
    // One that the server has given up is not brought back.
    let forgotten = (1..12).fold(Body::default().u16(11), |body, id| body.u8(1).u64(id));
    scene.say(server::INVAL_LIST, &forgotten);
    scene.say(server::DRAW_COPY, &put(Rect::of_size(128, 128), Picture::Photo(70), 9));
    scene.say(server::DRAW_COPY, &recalled(Rect::new(0, 128, 128, 256), 9));
    scene.pass(REST);
    assert_eq!(scene.wrong(), 0);
}

#[test]
fn what_a_copy_leaves_as_it_was_is_exact() {
    // Of the image, its area that is drawn, and its own size.
    let beside = copy_of(Rect::of_size(128, 128), Rect::new(64, 64, 192, 192), [128, 128]);
    let smaller = copy_of(Rect::of_size(128, 128), Rect::of_size(128, 128), [20, 20]);
    for copy in [beside, smaller] {
        let mut scene = Scene::new();
        film(&mut scene, Rect::of_size(128, 128), 8);
        scene.say(server::DRAW_COPY, &copy);
        scene.pass(REST);
        assert_eq!(scene.wrong(), 0);
    }
}

/// A copy of an area of an image that says to be as large as its destination.
fn copy_of(target: Rect, area: Rect, [width, height]: [u32; 2]) -> Body {
    let body = base(target).u32(21 + 4 + 16 + 2 + 1 + 13);
    let body = body.i32s(&[area.top, area.left, area.bottom, area.right]).u16(8).u8(0);
    let body = body.bytes(&[0; 13]).u64(UNCACHED).u8(0).u8(0).u32(target.width());
    let body = body.u32(target.height()).u8(8).u8(4).u32(width).u32(height).u32(4 * width).u32(0);
    body.bytes(&vec![90; 4 * usize::try_from(width * height).unwrap()])
}

#[test]
fn an_image_that_replaces_one_of_the_cache_is_exact_there() {
    let mut scene = Scene::new();
    let area = Rect::of_size(128, 128);
    for frame in 1..9 {
        scene.put(area, Picture::Photo(frame), 7);
        scene.pass(FRAME);
    }
    // `CACHE_REPLACE_ME` of the image's flags: once of one that goes roughly, once of another.
    let flags = 21 + 4 + 16 + 2 + 1 + 13 + 9;
    for (size, picture) in [(area, Picture::Photo(9)), (Rect::of_size(60, 60), Picture::Text(3))] {
        let mut replacing = put(size, picture, 7);
        replacing.0[flags] = 4;
        scene.say(server::DRAW_COPY, &replacing);
        let there = Rect::new(128, 128, 128 + size.right, 128 + size.bottom);
        scene.say(server::DRAW_COPY, &recalled(there, 7));
        scene.pass(REST);
        assert_eq!(scene.wrong(), 0);
    }
}

#[test]
fn frames_keep_below_the_rate() {
    let mut rate = Rate::new(40);
    let mut now = Duration::ZERO;
    let bytes = |quality: u8| usize::from(quality) * 5_000;
    let mut sent = 0;
    for frame in 0..300 {
        now += FRAME;
        let size = bytes(rate.quality());
        rate.sent(size, now);
        sent += if frame < 60 { 0 } else { size };
    }
    let mbit_s = sent * 8 / 240 * 30 / 1_000_000;
    assert!((25..=42).contains(&mbit_s), "{mbit_s}");
}

#[test]
fn only_a_display_channel_of_a_client_that_knows_of_it_is_condensed() {
    assert!(Condenser::for_client(&first(), 40).is_some());
    let of = |kind, capabilities| {
        let bytes = Channel::new(kind, capabilities, setup()).poll_transmit().unwrap();
        Condenser::for_client(&bytes, 40)
    };
    assert!(of(ChannelKind::Main, ImageTransfer::capabilities()).is_none());
    assert!(of(ChannelKind::Display, Capabilities::of(&[1, 5, 6, 8])).is_none());
    for end in 0..first().len() {
        assert!(Condenser::for_client(&first()[..end], 40).is_none(), "{end}");
    }
}

#[derive(Clone, Debug)]
enum Act {
    Film(Rect, u32, bool),
    Put(Rect, Picture),
    Fill(Rect, u16),
    Move(Rect, Point),
    Recall(Rect, usize),
    Forget(usize),
    Pass(u64),
}

fn rect() -> impl Strategy<Value = Rect> {
    let edge = || prop_oneof![Just(0), Just(64), Just(128), 0..200_i32];
    let side = prop_oneof![Just(128), Just(100), 1..150_i32];
    (edge(), edge(), side).prop_map(|(left, top, side)| {
        Rect::new(left, top, left + side, top + side).intersect(&Rect::new(0, 0, SIDE, SIDE))
    })
}

fn act() -> impl Strategy<Value = Act> {
    let picture = prop_oneof![
        any::<u16>().prop_map(|seed| Picture::Photo(seed.into())),
        any::<u16>().prop_map(|seed| Picture::Text(seed.into())),
    ];
    prop_oneof![
        4 => (rect(), 1..7_u32, any::<bool>()).prop_map(|(area, frames, cached)| Act::Film(area, frames, cached)),
        2 => (rect(), picture).prop_map(|(area, picture)| Act::Put(area, picture)),
        1 => (rect(), prop_oneof![Just(8), Just(64)]).prop_map(|(area, rop)| Act::Fill(area, rop)),
        1 => (rect(), 0..100_i32, 0..100_i32).prop_map(|(area, x, y)| Act::Move(area, Point::new(x, y))),
        1 => (rect(), any::<usize>()).prop_map(|(area, which)| Act::Recall(area, which)),
        1 => any::<usize>().prop_map(Act::Forget),
        1 => (0..300_u64).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_drawn_is_exact_in_the_end(acts in proptest::collection::vec(act(), 1..24)) {
        let mut scene = Scene::new();
        // Numbers of images of 128 x 128 that the client is to have.
        let mut cached = Vec::new();
        let mut next = 1_u64;
        for (seed, act) in (0_u32..).zip(acts) {
            match act {
                Act::Film(area, frames, keep) => for frame in 0..frames {
                    let keep = keep && area.area() == 128 * 128 && cached.len() < 60;
                    let id = if keep { next } else { UNCACHED };
                    scene.put(area, Picture::Photo(seed * 50 + frame), id);
                    scene.pass(FRAME);
                    if keep {
                        cached.push(next);
                        next += 1;
                    }
                },
                Act::Put(area, picture) => scene.put(area, picture, UNCACHED),
                Act::Fill(area, rop) => {
                    // 8 puts the colour, 64 is its exclusive or with what is there.
                    let fill = base(area).u8(1).u32(seed * 777 + 5).u16(rop).bytes(&[0; 13]);
                    scene.say(server::DRAW_FILL, &fill);
                }
                Act::Move(area, from) => {
                    scene.say(server::COPY_BITS, &base(area).i32s(&[from.x, from.y]));
                }
                Act::Recall(area, which) => if let Some(id) = pick(&cached, which)
                    && area.area() == 128 * 128
                {
                    scene.say(server::DRAW_COPY, &recalled(area, id));
                },
                Act::Forget(which) => if let Some(id) = pick(&cached, which) {
                    cached.retain(|other| *other != id);
                    scene.say(server::INVAL_LIST, &Body::default().u16(1).u8(1).u64(id));
                },
                Act::Pass(milliseconds) => scene.pass(Duration::from_millis(milliseconds)),
            }
        }
        scene.pass(REST);
        prop_assert_eq!(scene.wrong(), 0);
        prop_assert_eq!(scene.behind.acknowledged, scene.plain.acknowledged);
        for id in cached {
            scene.say(server::DRAW_COPY, &recalled(Rect::of_size(128, 128), id));
            prop_assert_eq!(scene.wrong(), 0);
        }
    }

    #[test]
    fn damaged_bytes_go_through(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 100..330_u16) {
        let mut scene = Scene::new();
        let message = message(kind, &bytes);
        scene.condenser.receive(&message);
        let mut passed = Vec::new();
        while let Some(step) = scene.condenser.step(Duration::ZERO) {
            match step {
                Step::Send(bytes) => passed.extend(bytes),
                Step::Pack(packing) => scene.condenser.packed(&packing.run(), Duration::ZERO),
            }
        }
        prop_assert_eq!(passed, message);
    }
}

fn pick(cached: &[u64], which: usize) -> Option<u64> {
    cached.get(which.checked_rem(cached.len())?).copied()
}
