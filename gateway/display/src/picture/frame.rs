//! One frame: begun from damage, extended with newer pixels, handed over in slices.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use vidi_spice::{Point, Rect};

use super::{FRAME_INTERVAL, PHOTO_BYTES, Picture, QUIET_TIME, Source};
use crate::cache::Content;
use crate::content::Look;
use crate::credit::{Credit, Ended};
use crate::damage::Damage;
use crate::encoding::is_skipped;
use crate::framebuffer::Plane;
use crate::palette;
use crate::parts::{Grain, Part, parts};
use crate::protocol::{Codec, Record, TileSlot};
use crate::rule::{Form, Line, form};
use crate::tile_cache::Shown;
use crate::video::Watching;

/// How often parts of one frame are replaced by newer ones before it is finished as it is, so that
/// every frame ends.
const SUPERSEDED_MAX: u8 = 8;

/// A photo goes exactly at once where it takes the line no longer than this.
const EXACT_TIME_MAX: Duration = Duration::from_millis(50);

/// A picture of which something may have been handed over already, but not its end.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) begun_at: Duration,
    /// Since when none of its parts is still to be made.
    pub(super) ready_at: Option<Duration>,
    /// Parts not yet handed over.
    pub(super) parts: VecDeque<Waiting>,
    /// What was drawn by what was handed over.
    pub(super) handed: Damage,
    pub(super) superseded: u8,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) area: Rect,
    is_exact: bool,
    /// It is a picture of a stream, of which none may be left out.
    pub(super) is_video: bool,
    pub(super) content: Content,
}

impl Picture {
    /// Opens a frame with all there is. What the browser can do with what it has goes at once.
    pub(super) fn begin(
        &mut self,
        source: &mut Source<'_>,
        message: &mut Vec<u8>,
        now: Duration,
        credit: &mut Credit,
    ) {
        let plane = source.plane;
        let mut handed = Damage::none(plane.width(), plane.height());
        if std::mem::take(&mut self.size_is_due) {
            Record::Size { width: plane.width(), height: plane.height() }.write(message);
            self.is_torn = false;
        }
        self.echo.clear();
        self.is_partial = false;
        self.end_videos(source, message);
        self.tiles.begin_frame();
        let recalled = self.recall(source, now);
        let kept = self.keep(plane, now);
        if !kept.is_empty() {
            Record::Keep(&kept).write(message);
        }
        for (destination, offset) in self.copies.drain(..) {
            let from = destination.moved(offset);
            let from = Point::new(from.left, from.top);
            Record::Copy { destination, source: from }.write(message);
            handed.add(&destination);
            for tile in plane.tiles_in(&destination) {
                self.tiles.show(tile, Shown::Unknown, now);
            }
        }
        if !recalled.is_empty() {
            let slots: Vec<TileSlot> = recalled.iter().map(|(_tile, slot)| *slot).collect();
            Record::Recall(&slots).write(message);
        }
        for (tile, _slot) in recalled {
            let area = plane.tile_area(tile);
            handed.add(&area);
            self.damage.remove(&area);
            self.inexact.remove(&area);
            self.tiles.show(tile, source.shown(tile), now);
        }
        credit.hand_over(message.len());
        let mut newer = self.take_damage(source, now, credit);
        let mut parts = std::mem::take(&mut self.carried);
        parts.append(&mut newer);
        self.last_begun = Some(now);
        self.is_moving = parts.iter().any(|part| !part.is_exact);
        if !parts.is_empty() || !message.is_empty() {
            self.frame =
                Some(Frame { begun_at: now, ready_at: None, parts, handed, superseded: 0 });
        }
    }

    /// Tells of regions that are over.
    fn end_videos(&mut self, source: &Source<'_>, message: &mut Vec<u8>) {
        let regions = source.videos.regions();
        self.seats.retain(|number, seat| {
            let goes_on = regions.iter().any(|region| region.id == seat.region.id);
            if !goes_on {
                Record::VideoEnd { region: *number }.write(message);
                // A picture of it that is carried would come too late.
                let area = seat.region.area;
                let carried = self.carried.len();
                self.carried.retain(|part| part.area != area);
                if self.carried.len() < carried {
                    self.damage.add(&area);
                }
            }
            goes_on
        });
    }

    /// Takes the damage of video regions out and gives the pictures that make it good, and the
    /// damage that no picture does yet. A region that is quiet is made exact as everything else is.
    fn take_videos(
        &mut self,
        source: &mut Source<'_>,
        now: Duration,
        credit: &Credit,
    ) -> (VecDeque<Waiting>, Vec<Rect>) {
        let (mut parts, mut left) = (VecDeque::new(), Vec::new());
        if !self.browser.h264 {
            return (parts, left);
        }
        let plane = source.plane;
        for region in source.videos.regions().to_vec() {
            let area = region.area;
            let is_quiet = region.changed_at + QUIET_TIME <= now;
            if is_quiet || !self.damage.touches(&area) {
                continue;
            }
            let seat = self.seats.get(&region.number).copied();
            let cache = &mut *source.cache;
            let watching = Watching { seat, rate: credit.video_rate(), cache, now };
            let Some(served) = source.videos.serve(plane, region, watching) else { continue };
            if !served.is_newest {
                left.extend(self.damage.pieces_in(&area));
            }
            self.damage.remove(&area);
            self.seats.insert(region.number, served.seat);
            source.jobs.extend(served.job);
            parts.extend(served.pictures.into_iter().map(|content| Waiting {
                area,
                is_exact: false,
                is_video: true,
                content,
            }));
        }
        (parts, left)
    }

    /// Damaged tiles that the browser remembers as they are now.
    fn recall(&mut self, source: &mut Source<'_>, now: Duration) -> Vec<(usize, TileSlot)> {
        let plane = source.plane;
        let mut recalled = Vec::new();
        for tile in self.damage.tiles() {
            if source.activity.is_changing(tile, now) {
                continue;
            }
            if let Shown::Exact { hash, is_even: false } = source.shown(tile)
                && let Some(slot) = self.tiles.recall(hash)
            {
                recalled.push((tile, tile_slot(plane, tile, slot)));
            }
        }
        recalled
    }

    /// Tiles that are about to be drawn over and may come back.
    fn keep(&mut self, plane: &Plane, now: Duration) -> Vec<TileSlot> {
        let mut touched: BTreeSet<usize> = self.damage.tiles().collect();
        for (destination, _offset) in &self.copies {
            touched.extend(plane.tiles_in(destination));
        }
        let mut kept = Vec::new();
        for tile in touched {
            if let Some(hash) = self.tiles.worth_keeping(tile, now)
                && let Some(slot) = self.tiles.keep(hash)
            {
                kept.push(tile_slot(plane, tile, slot));
            }
        }
        kept
    }

    /// Turns all damage into parts as the framebuffer is now.
    pub(super) fn take_damage(
        &mut self,
        source: &mut Source<'_>,
        now: Duration,
        credit: &Credit,
    ) -> VecDeque<Waiting> {
        let plane = source.plane;
        let (mut waiting, left) = self.take_videos(source, now, credit);
        let damaged: Vec<usize> = self.damage.tiles().collect();
        let lossy = self.lossy_tiles(source, &damaged, now, credit);
        let line = Line { browser: &self.browser, quality: credit.quality() };
        let is_lossy =
            |area: &Rect| plane.tiles_in(area).next().is_some_and(|tile| lossy.contains(&tile));
        let grain = if credit.draws_slowly() { Grain::Coarse } else { Grain::Fine };
        for part in parts(&self.damage, plane, grain, is_lossy) {
            waiting.push_back(part_content(&part, &line, source));
        }
        self.damage.clear();
        if !left.is_empty() {
            self.is_partial = true;
            let content = ready(&Record::Partial);
            let area = Rect::default();
            waiting.push_back(Waiting { area, is_exact: true, is_video: false, content });
        }
        for piece in &left {
            self.damage.add(piece);
        }
        for part in waiting.iter().filter(|part| part.is_exact) {
            self.inexact.remove(&part.area);
        }
        let open = self.frame.iter().flat_map(|frame| &frame.parts).chain(&self.carried);
        // Also those that still wait may come after an exact one that overlaps them.
        let inexact: Vec<Rect> = (waiting.iter().chain(open))
            .filter(|part| !part.is_exact)
            .map(|part| part.area)
            .collect();
        for area in &inexact {
            self.inexact.add(area);
        }
        for tile in damaged.into_iter().chain(inexact.iter().flat_map(|area| plane.tiles_in(area)))
        {
            let area = plane.tile_area(tile);
            // What was left of it is damage still.
            let shown = if self.inexact.touches(&area) || self.damage.touches(&area) {
                Shown::Nothing
            } else if source.activity.is_changing(tile, now) {
                Shown::Unknown
            } else {
                source.shown(tile)
            };
            self.tiles.show(tile, shown, now);
        }
        waiting
    }

    /// Those of the damaged tiles that are sent in a form that is not exact: photos that change, or
    /// that would fill the line, and all that is new where the browser draws slowly, unless it is
    /// time to make them exact.
    fn lossy_tiles(
        &self,
        source: &mut Source<'_>,
        damaged: &[usize],
        now: Duration,
        credit: &Credit,
    ) -> BTreeSet<usize> {
        let plane = source.plane;
        let mut photos = BTreeSet::new();
        let mut pixels = 0;
        for &tile in damaged {
            if source.contents.of(plane, tile).look == Look::Photo {
                let area = plane.tile_area(tile);
                let is_quiet = source.activity.last_change(tile) + QUIET_TIME <= now;
                if !(is_quiet && self.inexact.touches(&area)) {
                    photos.insert(tile);
                }
                pixels += self.damage.pixels_in(&area);
            }
        }
        let is_dear = credit.bytes_in(EXACT_TIME_MAX) < pixels * PHOTO_BYTES;
        photos.retain(|tile| is_dear || source.activity.is_changing(*tile, now));
        if credit.draws_slowly() {
            let is_new = |tile: &&usize| now < source.activity.last_change(**tile) + QUIET_TIME;
            photos.extend(damaged.iter().filter(is_new));
        }
        photos
    }

    /// Whether newer pixels are to replace parts that wait for the socket. Not while those parts
    /// are still being encoded, or nothing would ever be sent; and not where what was handed over
    /// would have to be sent again, or frames would grow without end: then the next frame has it.
    pub(super) fn can_supersede(&self, now: Duration, credit: &Credit) -> bool {
        let Some(frame) = &self.frame else { return false };
        let on_time = self.last_begun.is_none_or(|begun| begun + FRAME_INTERVAL <= now);
        let outdated =
            (frame.parts.iter()).filter(|part| !part.is_video && self.damage.touches(&part.area));
        let mut outdated = outdated.peekable();
        on_time
            && self.copies.is_empty()
            && frame.superseded < SUPERSEDED_MAX
            && credit.socket_has_room()
            && outdated.peek().is_some()
            && outdated.all(|part| matches!(part.content, Content::Ready(_)))
            && !self.damage.touches_any(&frame.handed)
    }

    /// Extends the open frame to the framebuffer as it is now: parts that no damage touches are
    /// as they are now too, and what was handed over has not changed.
    pub(super) fn supersede(&mut self, source: &mut Source<'_>, now: Duration, credit: &Credit) {
        let Some(frame) = &mut self.frame else { return };
        let damage = &mut self.damage;
        let mut outdated = Vec::new();
        frame.parts.retain(|part| {
            let keep = part.is_video || !damage.touches(&part.area);
            if !keep {
                outdated.push(part.area);
            }
            keep
        });
        for area in &outdated {
            damage.add(area);
        }
        // Also one that was to show the answer to a key alone shows all there is then.
        self.is_partial = !self.carried.is_empty();
        let mut newer = self.take_damage(source, now, credit);
        if let Some(frame) = &mut self.frame {
            frame.parts.append(&mut newer);
            frame.superseded += 1;
        }
        self.last_begun = Some(now);
    }

    /// Hands over parts that are ready while the socket has room and the message is short, and the
    /// frame's end after the last.
    pub(super) fn fill_message(
        &mut self,
        message: &mut Vec<u8>,
        now: Duration,
        credit: &mut Credit,
    ) {
        let Some(frame) = &mut self.frame else { return };
        let is_awaited = |part: &Waiting| matches!(part.content, Content::Awaited(_));
        frame.ready_at = match frame.ready_at {
            _ if frame.parts.iter().any(is_awaited) => None,
            since => since.or(Some(now)),
        };
        let mut position = 0;
        while message.len() < credit.slice_bytes() && credit.socket_has_room() {
            let Some(part) = frame.parts.get(position) else { break };
            // Pictures of one region go in order, also where it has just changed to another stream.
            let is_early = part.is_video
                && (frame.parts.iter().take(position))
                    .any(|before| before.is_video && before.area == part.area);
            if is_awaited(part) || is_early {
                position += 1;
                continue;
            }
            let part = frame.parts.remove(position);
            if let Some(Waiting { area, is_video, content: Content::Ready(record), .. }) = part {
                if is_video && is_skipped(&record) {
                    self.is_partial = true;
                    self.damage.add_before(&self.copies, &area);
                } else {
                    frame.handed.add(&area);
                }
                credit.hand_over(record.len());
                message.extend_from_slice(&record);
            }
        }
        if frame.parts.is_empty() && credit.socket_has_spare_room() {
            let pixels = frame.handed.pieces().map(|piece| piece.area()).sum();
            let begun_at = frame.begun_at;
            let ready_at = frame.ready_at.unwrap_or(begun_at);
            self.frame = None;
            credit.end_frame(message, Ended { begun_at, ready_at, pixels });
            self.frames += 1;
        }
    }
}

fn tile_slot(plane: &Plane, tile: usize, slot: u32) -> TileSlot {
    let area = plane.tile_area(tile);
    let edge = |value: i32| u16::try_from(value).unwrap_or(0);
    TileSlot { x: edge(area.left), y: edge(area.top), slot }
}

/// A part in the form in which it goes, or the job that makes it.
fn part_content(part: &Part, line: &Line<'_>, source: &mut Source<'_>) -> Waiting {
    let area = part.area;
    let plane = source.plane;
    let (is_exact, content) = match form(part, line) {
        Form::Fill(pixel) => (true, ready(&Record::Fill { area, pixel })),
        Form::Pixels { tries_palette, coding } => {
            let palette = if tries_palette { palette_record(plane, &area) } else { None };
            match (palette, coding) {
                (Some(content), _) => (true, content),
                (None, Some(coding)) => {
                    let (content, job) = source.cache.request(plane, area, coding);
                    source.jobs.extend(job);
                    (coding.is_exact(), content)
                }
                (None, None) => (true, ready(&Record::Raw { area, pixels: &plane.read(&area) })),
            }
        }
    };
    Waiting { area, is_exact, is_video: false, content }
}

/// The area as a palette image, if it has few colours.
fn palette_record(plane: &Plane, area: &Rect) -> Option<Content> {
    let width = usize::try_from(area.width()).ok()?;
    let data = palette::encode(&plane.read(area), width)?;
    let codec = Codec::Palette;
    Some(ready(&Record::Image { area: *area, codec, is_exact: true, data: &data }))
}

fn ready(record: &Record<'_>) -> Content {
    let mut bytes = Vec::new();
    record.write(&mut bytes);
    Content::Ready(bytes.into())
}

#[cfg(test)]
mod tests {
    use vidi_spice::Rect;

    use super::*;
    use crate::encoding::JobId;
    use crate::protocol::BrowserHello;

    #[test]
    fn a_stream_that_follows_another_waits_for_the_last_picture_of_the_one_before() {
        let area = Rect::new(0, 0, 64, 64);
        let video = |content| Waiting { area, is_exact: false, is_video: true, content };
        let ready = |byte: u8| Content::Ready(vec![byte; 8].into());
        let mut picture = Picture::new(BrowserHello::default(), None);
        picture.frame = Some(Frame {
            begun_at: Duration::ZERO,
            ready_at: None,
            parts: [video(Content::Awaited(JobId(7))), video(ready(2))].into(),
            handed: Damage::none(64, 64),
            superseded: 0,
        });
        let fill = |picture: &mut Picture| {
            let mut message = Vec::new();
            picture.fill_message(&mut message, Duration::ZERO, &mut Credit::default());
            message
        };
        assert_eq!(fill(&mut picture), [0; 0]);
        picture.encoded(JobId(7), &vec![1; 8].into());
        assert_eq!(fill(&mut picture).get(..16), Some(&[[1; 8], [2; 8]].concat()[..]));
    }
}
