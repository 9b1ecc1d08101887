//! What answers a key goes before everything else.
//!
//! A frame with nothing but the answer is begun where the line is full, and one that is open is
//! ended early for it. Such a frame shows more than one moment of the guest's picture, since the rest
//! is left for later, and says so.

use std::collections::VecDeque;
use std::time::Duration;

use vidi_spice::Rect;

use super::frame::{Frame, Waiting};
use super::{Picture, Source};
use crate::cache::Content;
use crate::credit::Credit;
use crate::damage::Damage;
use crate::encoding::encode;
use crate::protocol::Record;
use crate::tile_cache::Shown;

/// What changes so soon after a key is taken as its answer.
const ECHO_TIME: Duration = Duration::from_millis(100);

/// Most pixels of an answer: a line of letters over a whole window, which most terminals and editors draw
/// anew for one letter, and which takes a fraction of a millisecond to encode.
const ECHO_PIXELS_MAX: u64 = 32_768;

/// Most areas of an answer: as many tiles as such a line may lie in.
const ECHO_AREAS_MAX: usize = 64;

/// What has changed since the last key.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pressed_at: Option<Duration>,
    areas: Vec<Rect>,
}

impl Echo {
    pub(super) const fn key_pressed(&mut self, now: Duration) {
        self.pressed_at = Some(now);
    }

    /// Whether so much damage would hold it up longer than it takes by itself.
    pub(super) const fn holds_up(pixels: u64) -> bool {
        2 * ECHO_PIXELS_MAX < pixels
    }

    pub(super) fn changed(&mut self, area: &Rect, now: Duration) {
        let is_soon = self.pressed_at.is_some_and(|at| now <= at + ECHO_TIME);
        let pixels: u64 = self.areas.iter().map(Rect::area).sum();
        if is_soon
            && pixels + area.area() <= ECHO_PIXELS_MAX
            && self.areas.len() < ECHO_AREAS_MAX
            && !self.areas.iter().any(|known| known.contains(area))
        {
            self.areas.push(*area);
        }
    }

    pub(super) fn clear(&mut self) {
        self.areas.clear();
    }
}

impl Picture {
    /// Whether an answer to a key waits that can be drawn by itself.
    pub(super) fn may_echo(&self) -> bool {
        self.frames > 0
            && !self.size_is_due
            && !self.is_torn
            && self.copies.is_empty()
            && self.echo.areas.iter().any(|area| self.damage.touches(area))
    }

    /// Opens a frame with the answer alone.
    pub(super) fn begin_echo(
        &mut self,
        source: &mut Source<'_>,
        message: &mut Vec<u8>,
        now: Duration,
        credit: &mut Credit,
    ) {
        let plane = source.plane;
        let Some(answer) = self.answer(source) else { return };
        let before = message.len();
        Record::Partial.write(message);
        credit.hand_over(message.len() - before);
        let handed = Damage::none(plane.width(), plane.height());
        let parts = self.take_answer(answer, source, now, credit);
        self.frame = Some(Frame { begun_at: now, ready_at: None, parts, handed, superseded: 0 });
        self.last_begun = Some(now);
    }

    /// Ends the open frame with the answer: what it has not handed over is left for the next.
    pub(super) fn cut_for_echo(
        &mut self,
        source: &mut Source<'_>,
        message: &mut Vec<u8>,
        now: Duration,
        credit: &mut Credit,
    ) {
        let Some(answer) = self.answer(source) else { return };
        let before = message.len();
        Record::Partial.write(message);
        credit.hand_over(message.len() - before);
        for part in self.frame.iter_mut().flat_map(|frame| std::mem::take(&mut frame.parts)) {
            if part.is_video {
                self.carried.push_back(part);
                continue;
            }
            self.damage.add(&part.area);
            for tile in source.plane.tiles_in(&part.area) {
                self.tiles.show(tile, Shown::Nothing, now);
            }
        }
        let parts = self.take_answer(answer, source, now, credit);
        if let Some(frame) = &mut self.frame {
            frame.parts = parts;
        }
        self.fill_message(message, now, credit);
    }

    /// What the answer has damaged; none where all of it lies in moving pictures.
    fn answer(&mut self, source: &Source<'_>) -> Option<Damage> {
        let plane = source.plane;
        let mut answer = Damage::none(plane.width(), plane.height());
        for area in std::mem::take(&mut self.echo.areas) {
            let regions = source.videos.regions();
            if regions.iter().all(|region| region.area.intersect(&area).is_empty()) {
                self.damage.pieces_in(&area).for_each(|piece| answer.add(&piece));
            }
        }
        (!answer.is_empty()).then_some(answer)
    }

    /// Takes the damage of the answer, as parts that are ready.
    fn take_answer(
        &mut self,
        answer: Damage,
        source: &mut Source<'_>,
        now: Duration,
        credit: &Credit,
    ) -> VecDeque<Waiting> {
        let plane = source.plane;
        answer.pieces().for_each(|piece| self.damage.remove(&piece));
        let rest = std::mem::replace(&mut self.damage, answer);
        self.is_partial = !rest.is_empty() || !self.carried.is_empty();
        let mut parts = self.take_damage(source, now, credit);
        rest.pieces().for_each(|piece| self.damage.add(&piece));
        // A part may cover a little more than the answer.
        for tile in parts.iter().flat_map(|part| plane.tiles_in(&part.area)) {
            if rest.touches(&plane.tile_area(tile)) {
                self.tiles.show(tile, Shown::Nothing, now);
            }
        }
        for part in &mut parts {
            // Small: sooner encoded here than handed to a thread.
            if let Content::Awaited(id) = part.content
                && let Some(job) = source.jobs.iter().find(|job| job.id == id)
            {
                part.content = Content::Ready(encode(job).0);
            }
        }
        parts
    }
}
