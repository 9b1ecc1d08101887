//! A line like users have, 25 ms each way, 2 Mbit/s and lost packets, over which a film plays: what
//! answers a key is there soon, and the film plays on.
//!
//! ```text
//! keys ──▶ line up ──▶ session ──▶ guest: the answer, and a film
//!   ▲                     │ encoders' time
//!   └── frame end ◀── line down ◀── kernel ◀── socket
//! ```
//!
//! Time is the test's own, in steps of [`STEP`]; pictures are really encoded.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::indexing_slicing, reason = "a failed index is a failed test")]

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use vidi_display::protocol::{BrowserHello, ViewerMessage, records};
use vidi_display::{Effect, EncodeJob, JobId, Session, ViewerId, ViewerRights, encode};
use vidi_spice::display::{Copy, CopySource, DisplayEvent, Pixels, Surface, SurfaceFormat};
use vidi_spice::{Point, Rect, Scancode, SurfaceId};

const ID: SurfaceId = SurfaceId(0);
const MS: Duration = Duration::from_millis(1);
const STEP: Duration = Duration::from_micros(250);
const DELAY: Duration = Duration::from_millis(25);
/// Bytes in a millisecond.
const RATE: f64 = 250.0;
const PACKET_BYTES_MAX: usize = 1460;
const LOST_ONE_IN: u64 = 200;
const TIMER_ONE_IN: u64 = 8;
const TIMER: Duration = Duration::from_millis(200);
/// What a router holds before it takes no more.
const BACKLOG_MAX: Duration = Duration::from_millis(100);
/// What the kernel takes although it has not sent it (`TCP_NOTSENT_LOWAT` of the gateway's sockets).
const UNSENT_BYTES_MAX: usize = 8 << 10;
/// Of one picture of the film on a computer with other things to do, and of an image.
const ENCODE_TIME: [Duration; 2] = [Duration::from_millis(9), Duration::from_millis(3)];
/// Bytes of a record's TLS and WebSocket.
const WRAPPING_BYTES: usize = 26;
const DRAW_TIME: Duration = Duration::from_millis(3);
const FRAME_TIME: Duration = Duration::from_micros(33_333);
const KEY_TIME: Duration = Duration::from_millis(451);
const FILM: Rect = Rect::new(350, 250, 990, 610);
const ANSWER: Rect = Rect::new(16, 48, 272, 112);

/// One direction: when what is handed in arrives.
struct Pipe {
    random: u64,
    free_at: Duration,
    last_at: Duration,
}

impl Pipe {
    const fn new(seed: u64) -> Self {
        Self { random: seed, free_at: Duration::ZERO, last_at: Duration::ZERO }
    }

    fn carry(&mut self, now: Duration, bytes: usize) -> Duration {
        let takes = Duration::from_secs_f64(bytes as f64 / RATE / 1000.0);
        self.free_at = self.free_at.max(now) + takes;
        let mut arrives = self.free_at + DELAY;
        if self.draw().is_multiple_of(LOST_ONE_IN) {
            let timer =
                if self.draw().is_multiple_of(TIMER_ONE_IN) { TIMER } else { Duration::ZERO };
            arrives += timer + 2 * DELAY;
        }
        self.last_at = self.last_at.max(arrives);
        self.last_at
    }

    /// `splitmix64`
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What the browser says, on its way.
enum Said {
    Key,
    Ack(u32),
}

struct World {
    session: Session,
    viewer: ViewerId,
    now: Duration,
    /// Jobs under way, with their end.
    jobs: Vec<(Duration, EncodeJob)>,
    encoders: [Duration; 2],
    /// Messages that the socket has not taken.
    waiting: VecDeque<Bytes>,
    /// Messages in the kernel, with what of them has not left it.
    kernel: VecDeque<(Bytes, usize)>,
    down: Pipe,
    up: Pipe,
    /// What has left, with its arrival.
    arriving: VecDeque<(Duration, Bytes)>,
    said: VecDeque<(Duration, Said)>,
    /// Acknowledgements that are being drawn.
    drawing: VecDeque<(Duration, u32)>,
    keys: u32,
    pressed: Vec<Duration>,
    /// When the answer to each key was drawn by the guest, and shown.
    drawn: Vec<Duration>,
    shown: Vec<Duration>,
    answer_came: bool,
    videos: usize,
    is_playing: bool,
    film: Vec<Bytes>,
    frames: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut session = Session::default();
        let surface = Surface {
            id: ID,
            width: 1024,
            height: 768,
            format: SurfaceFormat::Xrgb32,
            primary: true,
        };
        session.display_event(&DisplayEvent::SurfaceCreated(surface), Duration::ZERO).unwrap();
        let browser = BrowserHello {
            webp: true,
            h264: true,
            palette: true,
            tile_cache_bytes: 64 << 20,
            width: 1024,
            height: 768,
            ..BrowserHello::default()
        };
        let viewer = session.add_viewer(browser, ViewerRights::Control).unwrap();
        Self {
            session,
            viewer,
            now: Duration::ZERO,
            jobs: Vec::new(),
            encoders: [Duration::ZERO; 2],
            waiting: VecDeque::new(),
            kernel: VecDeque::new(),
            down: Pipe::new(seed),
            up: Pipe::new(seed ^ 0xd0),
            arriving: VecDeque::new(),
            said: VecDeque::new(),
            drawing: VecDeque::new(),
            keys: 0,
            pressed: Vec::new(),
            drawn: Vec::new(),
            shown: Vec::new(),
            answer_came: false,
            videos: 0,
            is_playing: false,
            film: film(),
            frames: 0,
        }
    }

    /// Lets time pass; with keys, one in every [`KEY_TIME`].
    fn run(&mut self, time: Duration, types: bool) {
        let end = self.now + time;
        let mut key_at = self.now + KEY_TIME;
        let mut frame_at = self.now;
        while self.now < end {
            self.now += STEP;
            if self.is_playing && frame_at <= self.now {
                frame_at += FRAME_TIME;
                self.frames += 1;
                let data = self.film[self.frames % self.film.len()].clone();
                self.draw(FILM, data);
            }
            if types && key_at <= self.now && self.now + KEY_TIME < end {
                key_at += KEY_TIME;
                self.pressed.push(self.now);
                let arrives = self.up.carry(self.now, 50);
                self.said.push_back((arrives, Said::Key));
            }
            self.listen();
            self.encode();
            self.write();
            self.arrive();
            self.poll();
        }
    }

    fn draw(&mut self, rect: Rect, data: Bytes) {
        let copy = Copy {
            surface: ID,
            rects: vec![rect],
            source: CopySource::Pixels(Pixels {
                width: rect.width(),
                height: rect.height(),
                stride: usize::try_from(rect.width()).unwrap() * 4,
                data,
            }),
            offset: Point::new(-rect.left, -rect.top),
        };
        self.session.display_event(&DisplayEvent::Copy(copy), self.now).unwrap();
        self.session.drained();
        self.poll();
    }

    /// What the browser said arrives.
    fn listen(&mut self) {
        while self.said.front().is_some_and(|(at, _)| *at <= self.now) {
            let message = match self.said.pop_front().unwrap().1 {
                Said::Ack(sequence) => ViewerMessage::Ack { sequence, draw_time: DRAW_TIME },
                Said::Key => {
                    let key = Scancode::plain(0x1e).unwrap();
                    ViewerMessage::Key { down: true, key }
                }
            };
            self.session.viewer_message(self.viewer, &message, self.now);
            self.poll();
        }
    }

    fn poll(&mut self) {
        while let Some(effect) = self.session.poll(self.now) {
            match effect {
                Effect::Encode(job) => {
                    // The first of two threads that is free.
                    let thread = usize::from(self.encoders[1] < self.encoders[0]);
                    let time = ENCODE_TIME[usize::from(!format!("{job:?}").contains("Video"))];
                    self.encoders[thread] = self.encoders[thread].max(self.now) + time;
                    self.jobs.push((self.encoders[thread], job));
                }
                Effect::Send { message, .. } => self.waiting.push_back(message),
                Effect::Input(_) => {
                    self.keys += 1;
                    self.drawn.push(self.now);
                    let data = answer(self.keys);
                    self.draw(ANSWER, data);
                }
                Effect::Agent(_) | Effect::Speak(_) => {}
            }
        }
    }

    fn encode(&mut self) {
        let done: Vec<(JobId, _)> = (self.jobs.iter().filter(|(end, _)| *end <= self.now))
            .map(|(_, job)| (job.id, encode(job)))
            .collect();
        let now = self.now;
        self.jobs.retain(|(end, _)| now < *end);
        for (id, encoded) in done {
            self.session.encoded(id, encoded);
            self.poll();
        }
    }

    /// Socket, kernel, line.
    fn write(&mut self) {
        loop {
            let unsent: usize = self.kernel.iter().map(|(_, left)| left).sum();
            if unsent <= UNSENT_BYTES_MAX
                && let Some(message) = self.waiting.pop_front()
            {
                self.session.sent(self.viewer, message.len(), self.now);
                self.kernel.push_back((message.clone(), message.len() + WRAPPING_BYTES));
                self.poll();
                continue;
            }
            let Some((message, left)) = self.kernel.front_mut() else { return };
            if BACKLOG_MAX < self.down.free_at.saturating_sub(self.now) {
                return;
            }
            let packet = (*left).min(PACKET_BYTES_MAX);
            let arrives = self.down.carry(self.now, packet);
            *left -= packet;
            if *left == 0 {
                let message = message.clone();
                self.kernel.pop_front();
                self.arriving.push_back((arrives, message));
            }
        }
    }

    /// What came is drawn and acknowledged.
    fn arrive(&mut self) {
        while self.arriving.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, message) = self.arriving.pop_front().unwrap();
            records(&message).for_each(|(kind, body)| self.take(kind, body));
        }
        while self.drawing.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, sequence) = self.drawing.pop_front().unwrap();
            let arrives = self.up.carry(self.now, 60);
            self.said.push_back((arrives, Said::Ack(sequence)));
        }
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        let place = |at: usize| i32::from(u16::from_le_bytes([body[at], body[at + 1]]));
        match kind {
            3 | 5 | 6 | 17 if place(0) < ANSWER.right && place(2) < ANSWER.bottom => {
                self.answer_came = true;
            }
            18 => self.videos += 1,
            7 => {
                let sequence = u32::from_le_bytes(body[..4].try_into().unwrap());
                self.drawing.push_back((self.now + DRAW_TIME, sequence));
                if std::mem::take(&mut self.answer_came) && self.shown.len() < self.drawn.len() {
                    self.shown.resize(self.drawn.len(), self.now);
                }
            }
            _ => {}
        }
    }
}

/// A camera over something with a texture.
fn film() -> Vec<Bytes> {
    let picture = |step: u32| {
        let mut data = Vec::with_capacity(640 * 360 * 4);
        for y in 0..360_u32 {
            for x in 0..640_u32 {
                let (x, y) = (x + step * 4, y + step * 2);
                let wave = |scale: f64, by: f64| {
                    ((f64::from(x) / scale).sin() + (f64::from(y) * by / scale).cos()) * 40.0
                        + 110.0
                };
                let mut noise = Pipe::new(u64::from(x / 2) << 32 | u64::from(y / 2));
                let grain = (noise.draw() % 24) as f64;
                data.extend(
                    [wave(37.0, 1.3) + grain, wave(61.0, 0.7) + grain, wave(90.0, 1.1)]
                        .map(|c| c as u8),
                );
                data.push(0);
            }
        }
        Bytes::from(data)
    };
    (0..30).map(|index: u32| picture(index.min(30 - index))).collect()
}

/// A number and a line of letters, as large as [`ANSWER`].
fn answer(number: u32) -> Bytes {
    let mut data = Vec::new();
    for y in 0..64_u32 {
        for x in 0..256_u32 {
            let is_square = y < 16 && (number >> (x / 16)) & 1 == 1;
            let is_letter = (24..40).contains(&y) && x < 128 && {
                let mut cell = Pipe::new(u64::from(x / 8 * 31 + number / 10));
                (cell.draw() >> (x % 8 + (y - 24) / 2 * 8)) & 1 == 1
            };
            data.extend(if is_square || is_letter { [0; 4] } else { [255, 255, 255, 0] });
        }
    }
    data.into()
}

fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (sorted.len() as f64 * part) as usize;
    sorted[at.min(sorted.len() - 1)].as_secs_f64() * 1000.0
}

#[test]
fn an_answer_to_a_key_comes_soon_while_a_film_plays_on_a_bad_line() {
    let (mut added, mut pictures) = (Vec::new(), 0);
    let (seeds, keys) = (2_u32, 12);
    for seed in 0..seeds {
        let mut world = World::new(seed.into());
        world.run(MS * 1000, false);
        world.is_playing = true;
        world.run(MS * 3000, false);
        world.videos = 0;
        world.run(KEY_TIME * keys, true);
        pictures += world.videos;
        let pairs = world.pressed.iter().zip(&world.shown);
        added.extend(pairs.map(|(pressed, shown)| *shown - *pressed - 2 * DELAY));
        let rate = world.session.viewer_statistics(world.viewer).unwrap().rate;
        assert!((150_000..400_000).contains(&rate), "{rate} bytes a second are believed");
    }
    assert!(18 <= added.len(), "only {} keys were answered", added.len());
    // Of twenty keys a few meet a lost packet, which nothing can hasten.
    let (p50, p80) = (quantile(&added, 0.5), quantile(&added, 0.8));
    assert!(p50 <= 15.0 && p80 <= 40.0, "p50 {p50} ms, p80 {p80} ms beyond the round trip");
    let seconds = KEY_TIME.as_secs_f64() * f64::from(keys * seeds);
    assert!(15.0 * seconds < pictures as f64, "{pictures} pictures of the film in {seconds} s");
}
