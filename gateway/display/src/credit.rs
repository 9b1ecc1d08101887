//! How much may be on its way to one viewer, measured from its acknowledgements.
//!
//! ```text
//!   handed over ──▶ in the socket ──sent()──▶ on the wire ──ack()──▶ presented
//!   └──────────────────── unacknowledged ────────────────┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::pace::{Pace, QUALITY_MAX};
use crate::protocol::Record;

/// Unacknowledged bytes that are always allowed (`docs/display-protocol.md`, "Flow").
const UNACKNOWLEDGED_BYTES: u64 = 8 * 1024;

/// What may wait on top of the round trip, so that the wire never runs dry between two pictures.
const QUEUE_TIME: Duration = Duration::from_millis(30);

/// Bytes that may wait in the socket: more would only be pictures that nothing newer can overtake.
const IN_SOCKET_BYTES_MAX: u64 = 64 * 1024;

/// Bytes that may wait there however slow the line is: two of the smallest messages.
const IN_SOCKET_BYTES_MIN: u64 = 8 * 1024;

/// A message with parts of the picture is closed when it is this long, in bytes; a single record may
/// be longer.
const SLICE_BYTES_MAX: u64 = 16 * 1024;

/// Messages that a viewer may have waiting for its socket; a queue of this length in front of it
/// never overflows.
pub const IN_SOCKET_MESSAGES_MAX: usize = 64;

/// Of these, those with parts of the picture.
const IN_SOCKET_SLICES_MAX: usize = 48;

/// Unacknowledged bytes that are allowed beyond all others to what answers a key.
const ECHO_BYTES: u64 = 4 * 1024;

/// Frames without an acknowledgement beyond which none is begun: two seconds of 16 ms.
const FRAMES_MAX: usize = 125;

/// The same where the browser draws slowly: one that it draws and one that is there when it has. Small
/// ones hardly count in bytes, and each takes it as long as a large one.
const SLOW_FRAMES_MAX: usize = 2;

/// The shortest round trip holds for so long, then it is measured anew: routes change.
const ROUND_TRIP_AGE_MAX: Duration = Duration::from_secs(10);

/// Intervals shorter than this are taken as this long: below, clocks tell nothing about rates.
const INTERVAL_MIN: Duration = Duration::from_micros(500);

/// Which part of the way down to what arrived the believed rate goes with each frame that came late.
const RATE_FALL: u64 = 8;

/// From when on frames that come late tell of a slower line: what a lost packet held up comes all at once.
const LATE_TIME: Duration = Duration::from_millis(100);

/// By which part the believed rate rises with each frame that came sooner than it would have: doubled in
/// two seconds of a film.
const RATE_RISE: u64 = 64;

/// Fastest believed rate in bytes per second, 10 Gbit/s, so that products fit.
const RATE_MAX: u64 = 1_250_000_000;

/// A browser that takes longer than this to draw a frame is slow: at this pace it shows ten in a second,
/// with as much time for all else that it does.
const DRAW_TIME_SLOW: Duration = Duration::from_millis(50);

/// One that takes less than this for [`LARGE_PIXELS`] is not slow any longer. Below the other, since what a
/// slow browser is sent is quickly drawn.
const DRAW_TIME_QUICK: Duration = Duration::from_millis(25);

/// Of a frame that tells that a browser is quick: a blinking caret is quickly drawn by everybody.
const LARGE_PIXELS: u64 = 256 * 256;

/// So many such frames a browser counts as slow at least.
const SLOW_FRAMES_MIN: u32 = 20;

/// The part of each frame in the draw time that is judged: one that was held up by something else on that
/// machine is no slow browser.
const DRAW_TIME_SHARE: u32 = 4;

/// The flow to one viewer.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    /// Bytes given to the socket's owner, from the beginning.
    handed: u64,
    /// Of these, written to the socket. INVARIANT: sent <= handed.
    sent: u64,
    /// Of these, up to the last acknowledged frame end. INVARIANT: acknowledged <= handed.
    acknowledged: u64,
    acknowledged_at: Duration,
    /// `handed` after each message of which not all is written to the socket.
    messages: VecDeque<u64>,
    frames: VecDeque<Frame>,
    /// Bytes per second, 0 until measured.
    rate: u64,
    round_trip: Option<RoundTrip>,
    /// Since when frames came later than the believed rate explains.
    late_since: Option<Duration>,
    pace: Pace,
    /// How long its browser takes to draw a frame, of late; while it is slow, a large one.
    draw_time: Duration,
    /// It takes long.
    is_slow: bool,
    /// Large frames that it drew since it took long last.
    large_frames: u32,
    /// Frames ended, modulo 2^32.
    sequence: u32,
}

/// A frame whose acknowledgement is awaited.
#[derive(Debug)]
struct Frame {
    sequence: u32,
    begun_at: Duration,
    /// When nothing of it was still to be made.
    ready_at: Duration,
    /// How many pixels it draws.
    pixels: u64,
    /// `handed` after its end.
    end: u64,
    /// Its bytes, with what went after the frame before it.
    bytes: u64,
    /// When its end was written to the socket.
    sent_at: Option<Duration>,
    /// What was acknowledged when it was ended.
    acknowledged: u64,
    /// When that was; of a line that was empty, when the frame was begun.
    acknowledged_at: Duration,
}

/// A frame at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) begun_at: Duration,
    /// When nothing of it was still to be made: from then on only the line holds it up.
    pub(crate) ready_at: Duration,
    /// How many pixels it draws.
    pub(crate) pixels: u64,
}

impl Ended {
    /// One that draws nothing.
    pub(crate) const fn empty(now: Duration) -> Self {
        Self { begun_at: now, ready_at: now, pixels: 0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    shortest: Duration,
    /// Of the frame that took so long: what the line took for them is in it.
    bytes: u64,
    measured_at: Duration,
}

impl Credit {
    /// Notes bytes given to the socket's owner.
    pub(crate) fn hand_over(&mut self, bytes: usize) {
        self.handed += u64::try_from(bytes).unwrap_or(0);
    }

    /// Notes the end of a message, after its bytes were handed over.
    pub(crate) fn end_message(&mut self) {
        self.messages.push_back(self.handed);
    }

    /// Writes the end of a frame, after its bytes were handed over.
    pub(crate) fn end_frame(&mut self, message: &mut Vec<u8>, ended: Ended) {
        let Ended { begun_at, ready_at, pixels } = ended;
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let before = message.len();
        Record::FrameEnd { sequence }.write(message);
        self.hand_over(message.len() - before);
        let acknowledged_at = if self.frames.is_empty() { begun_at } else { self.acknowledged_at };
        let before = self.frames.back().map_or(self.acknowledged, |frame| frame.end);
        self.frames.push_back(Frame {
            sequence,
            begun_at,
            ready_at,
            pixels,
            end: self.handed,
            bytes: self.handed.saturating_sub(before),
            sent_at: None,
            acknowledged: self.acknowledged,
            acknowledged_at,
        });
    }

    /// Notes bytes written to the socket.
    pub(crate) fn sent(&mut self, bytes: usize, now: Duration) {
        let sent = self.sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.sent = sent.min(self.handed);
        while self.messages.front().is_some_and(|end| *end <= self.sent) {
            self.messages.pop_front();
        }
        for frame in self.frames.iter_mut().filter(|frame| frame.end <= sent) {
            frame.sent_at.get_or_insert(now);
        }
    }

    /// Takes an acknowledgement; one of a frame that is not awaited changes nothing.
    pub(crate) fn acknowledge(&mut self, sequence: u32, draw_time: Duration, now: Duration) {
        let Some(position) = self.frames.iter().position(|frame| frame.sequence == sequence) else {
            return;
        };
        let Some(frame) = self.frames.drain(..=position).next_back() else { return };
        let sent_at = frame.sent_at.unwrap_or(frame.begun_at);
        let took = now.saturating_sub(sent_at).saturating_sub(draw_time);
        self.measure_round_trip(took, frame.bytes, now);
        self.judge(draw_time, frame.pixels);
        let round_trip = self.round_trip().unwrap_or_default();
        let lag = now.saturating_sub(frame.ready_at).saturating_sub(draw_time);
        self.pace.acknowledged(lag.saturating_sub(round_trip), now);
        // What arrived since the frame was sent, a round trip at least: acknowledgements that a stall
        // held back come all at once, and between two of those there is no time to divide by.
        let arrived = frame.end.saturating_sub(frame.acknowledged);
        let sample = rate_of(arrived, now.saturating_sub(frame.acknowledged_at));
        let took = took.saturating_sub(round_trip);
        self.measure_rate(sample, frame.bytes, took, now);
        self.acknowledged = frame.end;
        self.acknowledged_at = now;
    }

    /// Whether a frame may be begun. While no frame's end is awaited it always may: what is not
    /// acknowledged then belongs to no frame (a pointer's shape, a frame given up), and never will
    /// be before another frame ends. A frame is never begun while the socket is full, since what
    /// waits there cannot be superseded.
    pub(crate) fn allows_frame(&self) -> bool {
        let allowed = self.frames.is_empty()
            || (self.handed - self.acknowledged <= self.limit()
                && self.frames.len() < self.frames_max());
        allowed && self.socket_has_room()
    }

    /// Whether something may be sent beside the picture that is worth less than it: with half of
    /// what a frame may find on its way, so that a frame begun right after has the wire almost for
    /// itself.
    pub(crate) fn allows_aside(&self) -> bool {
        let unacknowledged = self.handed - self.acknowledged;
        let allowed = self.frames.is_empty()
            || !self.is_slow
                && (2 * unacknowledged <= self.limit() && self.frames.len() < self.frames_max());
        allowed && self.socket_has_room()
    }

    /// Whether more may be handed over.
    pub(crate) fn socket_has_room(&self) -> bool {
        self.handed - self.sent < self.in_socket() && self.messages.len() < IN_SOCKET_SLICES_MAX
    }

    /// Whether a few bytes more may be handed over, for records that do not wait for pictures.
    pub(crate) fn socket_has_spare_room(&self) -> bool {
        self.handed - self.sent < 2 * self.in_socket()
            && self.messages.len() < IN_SOCKET_MESSAGES_MAX
    }

    /// How long a message with parts of the picture gets before it is closed.
    pub(crate) fn slice_bytes(&self) -> usize {
        usize::try_from((self.in_socket() / 2).min(SLICE_BYTES_MAX)).unwrap_or(usize::MAX)
    }

    /// Bytes that may wait in the socket: what the line takes in [`QUEUE_TIME`].
    fn in_socket(&self) -> u64 {
        match self.rate {
            0 => IN_SOCKET_BYTES_MAX,
            _ => self.bytes_in(QUEUE_TIME).clamp(IN_SOCKET_BYTES_MIN, IN_SOCKET_BYTES_MAX),
        }
    }

    /// Bytes handed over from the beginning.
    pub(crate) const fn handed(&self) -> u64 {
        self.handed
    }

    /// When the oldest frame was begun whose acknowledgement is awaited.
    pub(crate) fn unacknowledged_since(&self) -> Option<Duration> {
        self.frames.front().map(|frame| frame.begun_at)
    }

    /// Bytes per second that reach the viewer, 0 until measured.
    pub(crate) const fn rate(&self) -> u64 {
        self.rate
    }

    /// The shortest recent way there and back.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(|round_trip| round_trip.shortest)
    }

    /// Bytes that reach the viewer in this time, 0 until its rate is known.
    pub(crate) fn bytes_in(&self, time: Duration) -> u64 {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.rate.saturating_mul(micros) / 1_000_000
    }

    /// Whether a few bytes may be sent that somebody waits for: although more is on its way than a
    /// frame may find.
    pub(crate) fn allows_echo(&self) -> bool {
        let unacknowledged = self.handed - self.acknowledged;
        unacknowledged <= self.limit() + ECHO_BYTES && self.socket_has_room()
    }

    /// Bytes per second by which the rate of video goes: fewer than reach the viewer where
    /// acknowledgements are late.
    pub(crate) fn video_rate(&self) -> u64 {
        self.rate.saturating_mul(u64::from(self.pace.quality())) / u64::from(QUALITY_MAX)
    }

    /// Shortest time between pictures of what moves.
    pub(crate) const fn interval(&self) -> Duration {
        self.pace.interval()
    }

    /// Quality of what is not exact, 1 to 100.
    pub(crate) const fn quality(&self) -> u8 {
        self.pace.quality()
    }

    /// Most unacknowledged bytes with which a frame is begun.
    fn limit(&self) -> u64 {
        let time = self.round_trip().unwrap_or_default() + QUEUE_TIME;
        self.bytes_in(time).max(UNACKNOWLEDGED_BYTES)
    }

    /// Whether the browser takes long to draw, so that few, large and cheap images are the quickest.
    pub(crate) const fn draws_slowly(&self) -> bool {
        self.is_slow
    }

    const fn frames_max(&self) -> usize {
        if self.is_slow { SLOW_FRAMES_MAX } else { FRAMES_MAX }
    }

    fn judge(&mut self, draw_time: Duration, pixels: u64) {
        let is_large = LARGE_PIXELS <= pixels;
        // Of a slow one, what is small and quick tells nothing.
        if !self.is_slow || is_large || self.draw_time < draw_time {
            let kept = self.draw_time / DRAW_TIME_SHARE * (DRAW_TIME_SHARE - 1);
            self.draw_time = kept + draw_time / DRAW_TIME_SHARE;
        }
        if is_large {
            self.large_frames = self.large_frames.saturating_add(1);
        }
        if DRAW_TIME_SLOW < self.draw_time {
            self.is_slow = true;
            self.large_frames = 0;
        } else if self.draw_time < DRAW_TIME_QUICK && SLOW_FRAMES_MIN <= self.large_frames {
            self.is_slow = false;
        }
    }

    /// The shortest counts: a longer one holds the time in queues, which more credit lengthens.
    fn measure_round_trip(&mut self, sample: Duration, bytes: u64, now: Duration) {
        let keep = self.round_trip.is_some_and(|held| {
            held.shortest < sample && now.saturating_sub(held.measured_at) < ROUND_TRIP_AGE_MAX
        });
        if !keep {
            self.round_trip = Some(RoundTrip { shortest: sample, bytes, measured_at: now });
        }
    }

    /// What really arrived counts at once where it is more than was believed. Where it is less, that
    /// tells of the line only if the frame was so long that the line was busy with it, or frames come
    /// later than they would on a line of the believed rate: else the guest had no more to send. A
    /// short frame that came sooner than that raises the rate little by little, since a clock's jitter
    /// does that too. `took` is the time beyond the round trip.
    fn measure_rate(&mut self, sample: u64, frame_bytes: u64, took: Duration, now: Duration) {
        // Beyond those of the shortest round trip, whose time on the line is not in `took` either.
        let more_bytes = frame_bytes.saturating_sub(self.round_trip.map_or(0, |trip| trip.bytes));
        let expected = self.time_of(more_bytes);
        let is_long = self.limit().max(SLICE_BYTES_MAX) <= frame_bytes;
        let late_since = (expected + QUEUE_TIME < took).then(|| self.late_since.unwrap_or(now));
        self.late_since = late_since;
        let is_late = late_since.is_some_and(|since| since + LATE_TIME <= now);
        if sample >= self.rate {
            self.rate = sample;
        } else if is_long || is_late {
            self.rate -= (self.rate - sample) / RATE_FALL;
        } else if took < expected && frame_bytes <= IN_SOCKET_BYTES_MIN {
            let shown = rate_of(more_bytes, took);
            self.rate += shown.saturating_sub(self.rate).min(self.rate / RATE_RISE);
        }
    }

    /// How long the line takes for so many bytes, as far as is known.
    fn time_of(&self, bytes: u64) -> Duration {
        let micros = bytes.saturating_mul(1_000_000).checked_div(self.rate);
        Duration::from_micros(micros.unwrap_or(0))
    }
}

/// Bytes per second.
fn rate_of(bytes: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.max(INTERVAL_MIN).as_micros()).unwrap_or(u64::MAX);
    (bytes.saturating_mul(1_000_000) / micros.max(1)).min(RATE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends frames of `bytes` whenever allowed over a wire with this rate and delay for 20 s and
    /// gives the most that was ever unacknowledged in the last 10 s, and what got through.
    fn simulate(bytes: usize, bytes_per_ms: u64, delay_ms: u32) -> (u64, u64) {
        let mut credit = Credit::default();
        let mut arrivals: VecDeque<(Duration, u32)> = VecDeque::new();
        let mut wire_free_at = Duration::ZERO;
        let (mut most, mut through) = (0, 0);
        for tick in 0..20_000 {
            let now = MS * tick;
            while arrivals.front().is_some_and(|(at, _)| *at <= now) {
                let (_, sequence) = arrivals.pop_front().unwrap();
                credit.acknowledge(sequence, Duration::ZERO, now);
                through += u64::try_from(bytes).unwrap();
            }
            if tick % 16 == 0 && credit.allows_frame() {
                credit.hand_over(bytes);
                credit.end_frame(&mut Vec::new(), Ended::empty(now));
                credit.sent(usize::MAX, now);
                let millis = u64::try_from(bytes).unwrap() / bytes_per_ms;
                wire_free_at = wire_free_at.max(now) + Duration::from_millis(millis);
                arrivals.push_back((wire_free_at + MS * delay_ms, credit.sequence));
            }
            if tick > 10_000 {
                most = most.max(credit.handed - credit.acknowledged);
            }
        }
        (most, through)
    }

    #[test]
    fn a_slow_wire_is_used_but_holds_no_long_queue() {
        // 1 Mbit/s, 40 ms away: 125 bytes per ms.
        let (most, through) = simulate(4000, 125, 40);
        assert!(through > 20_000 * 125 * 8 / 10, "{through} bytes got through");
        assert!(most < 125 * 400, "{most} bytes were on their way");
    }

    #[test]
    fn a_fast_wire_far_away_is_filled() {
        let (_most, through) = simulate(20_000, 10_000, 150);
        assert!(through > 20_000 * 20_000 / 16 * 8 / 10, "{through} bytes got through");
    }

    #[test]
    fn acknowledgements_that_come_at_once_do_not_tell_of_a_fast_wire() {
        // 1 Mbit/s, with a stall of 300 ms each second after which all that waited is acknowledged.
        let mut credit = Credit::default();
        let mut waiting: VecDeque<(Duration, u32)> = VecDeque::new();
        let (mut highest, mut wire_free_at) = (0, Duration::ZERO);
        for tick in 0..20_000_u32 {
            let now = MS * tick;
            if tick % 40 == 0 && credit.allows_frame() {
                credit.hand_over(4992);
                credit.end_frame(&mut Vec::new(), Ended::empty(now));
                credit.sent(usize::MAX, now);
                wire_free_at = wire_free_at.max(now) + MS * 40;
                waiting.push_back((wire_free_at + MS * 40, credit.sequence));
            }
            while tick % 1000 > 300 && waiting.front().is_some_and(|(at, _)| *at <= now) {
                let (_, sequence) = waiting.pop_front().unwrap();
                credit.acknowledge(sequence, Duration::ZERO, now);
            }
            highest = highest.max(credit.rate());
        }
        assert!((60_000..250_000).contains(&highest), "{highest} bytes a second are believed");
    }

    #[test]
    fn a_guest_with_little_to_send_does_not_make_the_line_slow_nor_do_lost_packets() {
        // 2 Mbit/s, 25 ms away; half of what it carries, and a stall of 100 ms in every second.
        let mut credit = Credit::default();
        let mut waiting: VecDeque<(Duration, u32)> = VecDeque::new();
        let mut wire_free_at = Duration::ZERO;
        for tick in 0..30_000_u32 {
            let now = MS * tick;
            // A whole picture first, from which the rate is known, then a film and a letter.
            let bytes = match tick {
                0..1000 => 50_000,
                _ if tick % 500 < 33 => 100,
                _ => 2500 + usize::try_from(tick % 7).unwrap() * 500,
            };
            if tick % 33 == 0 && credit.allows_frame() {
                credit.hand_over(bytes);
                credit.end_frame(&mut Vec::new(), Ended::empty(now));
                credit.sent(usize::MAX, now);
                let takes = u32::try_from(bytes).unwrap() / 250;
                wire_free_at = wire_free_at.max(now) + MS * takes;
                waiting.push_back((wire_free_at + MS * 50, credit.sequence));
            }
            while tick % 1000 > 100 && waiting.front().is_some_and(|(at, _)| *at <= now) {
                let (_, sequence) = waiting.pop_front().unwrap();
                credit.acknowledge(sequence, Duration::ZERO, now);
            }
        }
        let rate = credit.rate();
        assert!((180_000..320_000).contains(&rate), "{rate} bytes a second are believed");
    }

    /// A frame of so many pixels that takes so long to draw; whether the browser counts as slow then.
    fn draw(credit: &mut Credit, now: &mut Duration, pixels: u64, millis: u32) -> bool {
        *now += MS * 200;
        credit.hand_over(100);
        credit.end_frame(&mut Vec::new(), Ended { pixels, ..Ended::empty(*now) });
        credit.sent(usize::MAX, *now);
        credit.acknowledge(credit.sequence, MS * millis, *now + MS * millis);
        credit.draws_slowly()
    }

    #[test]
    fn a_browser_that_draws_slowly_has_two_frames_at_most_until_it_draws_much_quickly() {
        let (mut credit, mut now) = (Credit::default(), Duration::ZERO);
        assert!(!draw(&mut credit, &mut now, LARGE_PIXELS, 180));
        assert!(draw(&mut credit, &mut now, LARGE_PIXELS, 180));
        assert!((0..100).all(|_frame| draw(&mut credit, &mut now, 64, 1)), "a caret tells nothing");
        let mut begun = 0;
        while credit.allows_frame() {
            credit.hand_over(100);
            credit.end_frame(&mut Vec::new(), Ended::empty(now));
            credit.sent(usize::MAX, now);
            begun += 1;
        }
        assert_eq!((begun, credit.allows_aside()), (SLOW_FRAMES_MAX, false));
        let least = SLOW_FRAMES_MIN;
        assert!((1..least).all(|_frame| draw(&mut credit, &mut now, LARGE_PIXELS, 10)));
        assert!((0..least).any(|_frame| !draw(&mut credit, &mut now, LARGE_PIXELS, 10)));
    }

    #[test]
    fn one_frame_that_was_held_up_is_no_slow_browser() {
        let (mut credit, mut now) = (Credit::default(), Duration::ZERO);
        for pixels in [LARGE_PIXELS, 64] {
            for frame in 0..100 {
                let millis = if frame % 10 == 9 { 120 } else { 10 };
                assert!(!draw(&mut credit, &mut now, pixels, millis), "{pixels}: frame {frame}");
            }
        }
    }

    #[test]
    fn what_making_and_drawing_take_is_no_lag_of_the_line() {
        let (mut credit, mut now) = (Credit::default(), Duration::ZERO);
        for _frame in 0..100 {
            now += MS * 200;
            credit.hand_over(100);
            let begun_at = now - MS * 100;
            let ended = Ended { begun_at, ready_at: now, pixels: LARGE_PIXELS };
            credit.end_frame(&mut Vec::new(), ended);
            credit.sent(usize::MAX, now);
            credit.acknowledge(credit.sequence, MS * 40, now + MS * 50);
        }
        assert_eq!((credit.quality(), credit.interval()), (80, MS * 33));
    }

    #[test]
    fn an_unknown_acknowledgement_changes_nothing() {
        let mut credit = Credit::default();
        credit.hand_over(10_000);
        credit.sequence = 6;
        credit.end_frame(&mut Vec::new(), Ended::empty(Duration::ZERO));
        credit.acknowledge(8, Duration::ZERO, MS);
        assert!(!credit.allows_frame());
        credit.sent(10_000, MS);
        credit.acknowledge(7, Duration::ZERO, MS);
        assert!(credit.allows_frame());
        credit.sent(usize::MAX, MS);
        assert!(credit.socket_has_room());
        credit.hand_over(10_000);
        credit.sent(10_000, MS);
        assert!(credit.allows_frame(), "no acknowledgement can come that would allow it later");
    }
}
