//! What happens on the screen, timed: the same in every run.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use vidi_bench::mix;

use crate::desk::{Desk, Op, now_ns, say};
use crate::picture::{Area, BIT, BITS, BLACK, LETTER, Picture, WHITE};

/// Whole pictures that an animation is made of; they come round again.
const LOOP_FRAMES: u64 = 30;
/// How far a film's camera goes each frame, and over how much of a larger photo.
const PAN: (u16, u16) = (4, 2);
const FILM_MARGIN: (u16, u16) = (256, 144);
/// Ticks that one play is away from the next: a multiple of each script's round, so that all have the
/// same events at the same times, and other letters. What is drawn again as it was is not sent.
const PLAY_TICKS: u64 = 300 * 113;
/// Where a frame says its number, from its own corner.
pub(crate) const NUMBER_AT: u16 = 16;

/// What is asked for: a name, how long, and for films size and frames in a second.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) area: Area,
    pub(crate) rate: f64,
}

/// Plays it, after `number` others; says when it begins and ends.
pub(crate) async fn play(desk: &Desk, play: Play, number: u64) {
    let Play { name, seconds, area, rate } = play;
    let frames = match name.as_str() {
        "animate" => animation(desk.size()),
        "video" => film(area),
        _ => Vec::new(),
    };
    say(&format!(r#"{{"event":"began","script":"{name}","at":{}}}"#, now_ns()));
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let pace = |period_ms| Pace::new(end, period_ms, number * PLAY_TICKS);
    match name.as_str() {
        "text" => text(desk, pace(100.0)).await,
        "idle" => idle(desk, pace(530.0)).await,
        "office" => office(desk, pace(200.0)).await,
        "animate" => moving(desk, pace(1000.0 / rate), Area { x: 0, y: 0, ..area }, &frames).await,
        "video" => moving(desk, pace(1000.0 / rate), area, &frames).await,
        _ => say(&format!(r#"{{"event":"unknown","script":"{name}"}}"#)),
    }
    say(&format!(r#"{{"event":"ended","script":"{name}","at":{}}}"#, now_ns()));
}

/// Ticks until the end; a tick that was missed is not made up for.
struct Pace {
    next: Instant,
    period: Duration,
    end: Instant,
    tick: u64,
}

impl Pace {
    fn new(end: Instant, period_ms: f64, tick: u64) -> Self {
        let period = Duration::from_secs_f64(period_ms / 1000.0);
        Self { next: Instant::now() + period, period, end, tick }
    }

    /// The number of the next tick, when it is time; none after the end.
    async fn next(&mut self) -> Option<u64> {
        if self.end <= self.next {
            sleep_until(self.end).await;
            return None;
        }
        sleep_until(self.next).await;
        self.tick += 1;
        self.next = (self.next + self.period).max(Instant::now());
        Some(self.tick)
    }
}

/// A square of text changes somewhere, ten times in a second.
async fn text(desk: &Desk, mut pace: Pace) {
    let (width, height) = desk.size();
    while let Some(tick) = pace.next().await {
        let mut picture = Picture::new(64, 64);
        for line in 0..4 {
            let word = format!("{:08x}", mix(tick * 4 + u64::from(line)) as u32);
            picture.text(0, line * LETTER.1, &word, BLACK);
        }
        let column = mix(tick) as u16 % (width / 64);
        let row = 2 + mix(tick ^ 77) as u16 % (height / 64 - 2);
        desk.image((column * 64, row * 64), picture, Some(&format!("text {tick}")));
    }
}

/// Nobody is there: a caret blinks, a clock shows hours and minutes.
async fn idle(desk: &Desk, mut pace: Pace) {
    let (width, height) = desk.size();
    let caret = Area { x: 300, y: 200, width: 2, height: LETTER.1 };
    while let Some(tick) = pace.next().await {
        desk.put(Op::Fill { area: caret, color: if tick % 2 == 0 { BLACK } else { WHITE } }, None);
        // The first minute ends after 5 s.
        if tick % 113 == 10 {
            let mut clock = Picture::new(5 * LETTER.0, LETTER.1);
            clock.text(0, 0, &format!("10:{:02}", tick / 113 % 60), BLACK);
            desk.image((width - 60, height - 24), clock, None);
        }
    }
}

/// Somebody writes: five letters in a second, and each minute scrolls, a menu, windows, a picture.
async fn office(desk: &Desk, mut pace: Pace) {
    let (width, height) = desk.size();
    let page = Area { x: 16, y: 128, width: width * 3 / 4 / 8 * 8, height: height / 2 / 16 * 16 };
    let columns = u64::from(page.width / LETTER.0);
    let line = page.y + page.height - LETTER.1;
    let mut column = 0;
    while let Some(tick) = pace.next().await {
        let second = tick / 5 % 60;
        let mut letter = Picture::new(LETTER.0 + 2, LETTER.1);
        letter.text(0, 0, &word_letter(tick).to_string(), BLACK);
        letter.fill(Area { x: LETTER.0, y: 0, width: 2, height: LETTER.1 }, BLACK);
        desk.image((page.x + column as u16 * LETTER.0, line), letter, None);
        column = (column + 1) % (columns - 1);
        let new_line = column == 0 || (tick % 5 == 0 && second % 10 == 9);
        if new_line {
            column = 0;
            up(desk, page, LETTER.1);
        }
        match (tick % 5, second) {
            (0, 15) => window(desk, (400, 150), (220, 280), tick),
            (0, 18) => window(desk, (400, 150), (220, 280), tick + 1),
            (0, 25 | 50) => window(desk, (60, 140), (width / 2, height / 2), tick),
            (0, 35) => desk.image((500, 200), Picture::photo(300, 200, tick), None),
            _ => {}
        }
    }
}

/// Frames at a rate; one that the guest could not draw in time is left out.
async fn moving(desk: &Desk, mut pace: Pace, area: Area, frames: &[Picture]) {
    while let Some(tick) = pace.next().await {
        let Some(frame) = frames.get((tick % LOOP_FRAMES) as usize) else { return };
        let mut picture = frame.clone();
        picture.number(NUMBER_AT, NUMBER_AT, tick as u16);
        let area = Area { x: area.x, y: area.y, ..picture.area() };
        let pixels = Bytes::from(picture.pixels);
        desk.put(Op::Image { area, pixels }, Some(&format!("frame {tick}")));
        desk.room().await;
    }
}

/// Moves what is shown up by one line, and clears the last one.
fn up(desk: &Desk, page: Area, by: u16) {
    let moved = Area { height: page.height - by, ..page };
    desk.put(Op::Copy { area: moved, from: (page.x, page.y + by) }, None);
    let last = Area { y: page.y + page.height - by, height: by, ..page };
    desk.put(Op::Fill { area: last, color: WHITE }, None);
}

fn window(desk: &Desk, at: (u16, u16), (width, height): (u16, u16), seed: u64) {
    let mut window = Picture::new(width, height);
    window.fill(Area { x: 0, y: 0, width, height: 20 }, [60, 90, 160]);
    for line in 0..(height - 24) / 18 {
        let letters = (0..width / LETTER.0).map(u64::from);
        let words: String =
            letters.map(|index| word_letter(seed * 977 + u64::from(line) * 131 + index)).collect();
        window.text(4, 24 + line * 18, &words, BLACK);
    }
    desk.image(at, window, None);
}

/// Letters and spaces as a text has them.
fn word_letter(index: u64) -> char {
    match mix(index) % 31 {
        letter @ 0..26 => char::from(b'a' + letter as u8),
        _ => ' ',
    }
}

/// A window full of things that move over a plain ground: nothing of it stays where it was.
fn animation((width, height): (u16, u16)) -> Vec<Picture> {
    let frame = |index: u64| {
        let mut picture = Picture::new(width, height);
        let shade = |at: u16| (u64::from(at) / 4 + index * 8) as u8;
        for y in (0..height).step_by(8) {
            let band = Area { x: 0, y, width, height: 8.min(height - y) };
            picture.fill(band, [shade(y), 128, 255 - shade(y)]);
        }
        for thing in 0..24 {
            let path = |seed: u64, room: u16| {
                let begin = mix(thing * 2 + seed) % u64::from(room);
                ((begin + index * u64::from(room) / LOOP_FRAMES) % u64::from(room)) as u16
            };
            let (x, y) = (path(0, width - 120), path(1, height - 60));
            picture.fill(Area { x, y, width: 120, height: 60 }, [mix(thing) as u8, 200, 90]);
            picture.text(x + 4, y + 20, "moving about", BLACK);
        }
        picture
    };
    (0..LOOP_FRAMES).map(frame).collect()
}

/// A camera over a landscape: every pixel of every frame is another.
fn film(area: Area) -> Vec<Picture> {
    let (width, height) = (area.width + FILM_MARGIN.0, area.height + FILM_MARGIN.1);
    let landscape = Picture::photo(width, height, 3);
    let frame = |index: u64| {
        // There and back again.
        let step = index.min(LOOP_FRAMES - index) as u16;
        let seen = Area { x: step * PAN.0, y: step * PAN.1, ..area };
        Picture { width: area.width, height: area.height, pixels: landscape.cut(seen) }
    };
    (0..LOOP_FRAMES).map(frame).collect()
}

/// The smallest film that still has room for its number.
pub(crate) const FILM_MIN: u16 = NUMBER_AT + BIT * BITS;
