//! The picture of one viewer: what of it is wrong there, and in which order and measure that is
//! made right.
//!
//! ```text
//!   damage, copies ──begin──▶ open frame: parts ──hand over──▶ socket ──▶ frame end
//!      ▲      ▲                    │ newer pixels came: supersede
//!      │      └────────────────────┘
//!   inexact, once it is quiet
//! ```
//!
//! INVARIANT: the picture that the viewer has once it has drawn the open frame and then the waiting
//! copies equals the framebuffer everywhere outside `damage` and `inexact`. What is `carried` is drawn
//! after the copies, so none of them touches it.

mod echo;
mod frame;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vidi_spice::{Point, Rect};

use crate::activity::Activity;
use crate::cache::{Cache, Content};
use crate::content::{Contents, Look};
use crate::credit::Credit;
use crate::damage::Damage;
use crate::encoding::{EncodeJob, JobId};
use crate::framebuffer::{Plane, TILE};
use crate::picture::echo::Echo;
use crate::picture::frame::{Frame, Waiting};
use crate::protocol::{BrowserHello, VideoWish};
use crate::tile_cache::{Shown, TileCache};
use crate::video::{Seat, Videos};

/// Shortest time from the beginning of one frame to that of the next: 60 pictures a second.
const FRAME_INTERVAL: Duration = Duration::from_millis(16);

/// Most copies that wait for a frame; what is copied beyond is sent as pixels.
const COPIES_MAX: usize = 64;

/// What was sent inexactly is sent exactly once it has not changed for this long. Half of the
/// second in which a quiet picture is to be exact.
const QUIET_TIME: Duration = Duration::from_millis(500);

/// How much of the wire's time one frame may take to make exact what was not.
const REFINE_TIME: Duration = Duration::from_millis(100);

/// Most tiles that one frame makes exact: a few hundred milliseconds of encoding.
const REFINED_TILES_MAX: usize = 256;

/// Fewest where the browser draws slowly, to which each image is dear, whatever the line takes: two rows
/// of a 1024 pixels wide picture.
const REFINED_TILES_SLOW: usize = 32;

/// The state of one viewer's picture.
#[derive(Debug)]
pub(crate) struct Picture {
    browser: BrowserHello,
    /// Parts of the picture to be sent; see the invariant above.
    damage: Damage,
    /// Parts that the viewer has, but not in every pixel.
    inexact: Damage,
    /// Copies to be sent before the parts, in order.
    copies: Vec<(Rect, Point)>,
    /// The size is to be sent first: the picture is new to this viewer.
    size_is_due: bool,
    frame: Option<Frame>,
    last_begun: Option<Duration>,
    frames: u64,
    /// What was drawn by a frame that was given up: nothing consistent until a size is sent.
    is_torn: bool,
    tiles: TileCache,
    /// Where it is in the streams of video regions, by their numbers.
    seats: BTreeMap<u8, Seat>,
    /// Pictures of video that a frame had no room for: they go first in the next.
    carried: VecDeque<Waiting>,
    /// Something large moves: frames are held to the pace of the line.
    is_moving: bool,
    echo: Echo,
    /// The last frame shows more than one moment: it left out what had changed beside the answer to a
    /// key, or in a moving picture.
    is_partial: bool,
}

impl Picture {
    /// A picture of which the viewer has nothing.
    pub(crate) fn new(browser: BrowserHello, plane: Option<&Plane>) -> Self {
        let mut picture = Self {
            browser,
            damage: Damage::default(),
            inexact: Damage::default(),
            copies: Vec::new(),
            size_is_due: false,
            frame: None,
            last_begun: None,
            frames: 0,
            is_torn: false,
            tiles: TileCache::new(browser.tile_cache_bytes),
            seats: BTreeMap::new(),
            carried: VecDeque::new(),
            is_moving: false,
            echo: Echo::default(),
            is_partial: false,
        };
        picture.start_over(plane);
        picture
    }

    /// The picture is another one, or is to be sent again; without a plane the viewer keeps the
    /// last one. An open frame is given up: the size that follows makes void what was drawn.
    pub(crate) fn start_over(&mut self, plane: Option<&Plane>) {
        self.is_torn |= self.frame.take().is_some();
        self.copies.clear();
        self.seats.clear();
        self.carried.clear();
        self.echo.clear();
        self.size_is_due = plane.is_some();
        let size = plane.map_or([0, 0], |plane| [plane.width(), plane.height()]);
        self.damage = Damage::all(size[0], size[1]);
        self.inexact = Damage::none(size[0], size[1]);
        self.tiles.start_over(plane.map_or(0, Plane::tiles_count));
    }

    /// `area` of the framebuffer has changed.
    pub(crate) fn changed(&mut self, area: &Rect) {
        self.damage.add(area);
    }

    /// The guest drew `area`.
    pub(crate) fn drawn(&mut self, area: &Rect, now: Duration) {
        self.damage.add(area);
        self.echo.changed(area, now);
    }

    /// The viewer pressed a key.
    pub(crate) const fn key_pressed(&mut self, now: Duration) {
        self.echo.key_pressed(now);
    }

    /// The viewer's browser cannot decode what it was sent of a region.
    pub(crate) fn cannot_decode(&mut self, region: u8, wants: VideoWish) {
        self.browser.h264 &= wants == VideoWish::KeyFrame;
        let cannot = |number: &u8| wants == VideoWish::Never || *number == region;
        let lost: Vec<Rect> = (self.seats.iter())
            .filter_map(|(number, seat)| cannot(number).then_some(seat.region.area))
            .collect();
        self.seats.retain(|number, _seat| !cannot(number));
        for area in &lost {
            self.damage.add_before(&self.copies, area);
        }
    }

    /// `destination`, inside the surface, was overwritten by what was at `offset` from it, also
    /// inside. The viewer can do the same if most of what it has there is right.
    pub(crate) fn copied(&mut self, destination: &Rect, offset: Point) {
        let source = destination.moved(offset);
        let wrong = self.damage.pixels_in(&source);
        // A picture that is carried is drawn after the copies.
        let touched = [source, *destination];
        let is_owed = (self.carried.iter())
            .any(|part| touched.iter().any(|area| !part.area.intersect(area).is_empty()));
        if self.copies.len() >= COPIES_MAX || wrong * 2 > source.area() || is_owed {
            self.damage.add(destination);
        } else {
            self.copies.push((*destination, offset));
            self.damage.follow_copy(destination, offset);
            self.inexact.follow_copy(destination, offset);
        }
    }

    /// The result of a job is there.
    pub(crate) fn encoded(&mut self, id: JobId, record: &Bytes) {
        let open = self.frame.iter_mut().flat_map(|frame| &mut frame.parts);
        for part in open.chain(&mut self.carried) {
            if matches!(part.content, Content::Awaited(awaited) if awaited == id) {
                part.content = Content::Ready(record.clone());
            }
        }
    }

    /// Frames ended.
    pub(crate) const fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether the viewer has a whole picture of one moment, however old, and no frame is open.
    pub(crate) const fn is_between_frames(&self) -> bool {
        let is_whole = 0 < self.frames && !self.size_is_due && !self.is_torn;
        is_whole && !self.is_partial && self.frame.is_none()
    }

    /// Whether pixels may have to be read for it.
    pub(crate) fn needs_pixels(&self) -> bool {
        self.changes()
            || self.frame.is_some()
            || !self.inexact.is_empty()
            || self.tiles.learns_at().is_some()
    }

    /// Whether there is something to begin a frame for.
    pub(crate) fn changes(&self) -> bool {
        let is_new = !self.damage.is_empty() || !self.copies.is_empty() || self.size_is_due;
        is_new || !self.carried.is_empty()
    }

    /// When the next frame may begin as far as the pace goes; `None` while there is nothing to
    /// send, or while something else has to happen first.
    pub(crate) fn begins_at(&self, credit: &Credit) -> Option<Duration> {
        if !self.changes() || self.frame.is_some() {
            return None;
        }
        let allowed = credit.allows_frame() || self.may_echo() && credit.allows_echo();
        allowed.then(|| self.may_begin_at(credit))
    }

    /// When a frame may begin after the one before.
    fn may_begin_at(&self, credit: &Credit) -> Duration {
        let interval = match () {
            () if self.may_echo() => Duration::ZERO,
            () if self.is_moving => credit.interval(),
            () => FRAME_INTERVAL,
        };
        self.last_begun.map_or(Duration::ZERO, |begun| begun + interval)
    }

    /// When there is something to do that no change of the picture asks for.
    pub(crate) fn tidies_at(
        &self,
        activity: &Activity,
        videos: &Videos,
        credit: &Credit,
    ) -> Option<Duration> {
        if self.frame.is_some() || self.size_is_due {
            return None;
        }
        let learns = self.tiles.learns_at().filter(|_| self.copies.is_empty());
        if !credit.allows_aside() {
            return learns;
        }
        let refines = (self.inexact.tiles().zip(self.inexact.pieces()))
            .map(|(tile, piece)| self.quiet_at((tile, &piece), activity, videos))
            .min()
            .map(|at| at.max(self.may_begin_at(credit)));
        learns.into_iter().chain(refines).min()
    }

    /// The next message with a part of the picture.
    pub(crate) fn next_slice(
        &mut self,
        source: &mut Source<'_>,
        moment: Moment,
        credit: &mut Credit,
    ) -> Option<Bytes> {
        let mut message = Vec::new();
        let may_begin = moment.is_worth_showing && source.cache.has_room();
        if may_begin && self.frame.is_none() && !self.size_is_due {
            self.learn(source, moment.now);
            self.refine(source, moment.now, credit);
        }
        if may_begin && self.begins_at(credit).is_some_and(|at| at <= moment.now) {
            self.drop_unchanged(source);
            let pixels = self.damage.pieces().map(|piece| piece.area()).sum();
            if self.may_echo() && (Echo::holds_up(pixels) || !credit.allows_frame()) {
                self.begin_echo(source, &mut message, moment.now, credit);
            } else if self.changes() && credit.allows_frame() {
                self.begin(source, &mut message, moment.now, credit);
            }
        } else if moment.is_worth_showing && self.can_supersede(moment.now, credit) {
            self.supersede(source, moment.now, credit);
        }
        self.fill_message(&mut message, moment.now, credit);
        if may_begin && self.frame.is_some() && self.may_echo() && self.frames > 0 {
            self.cut_for_echo(source, &mut message, moment.now, credit);
        }
        if message.is_empty() {
            return None;
        }
        credit.end_message();
        Some(message.into())
    }

    /// Works out what tiles show that were copied there and have stood since.
    fn learn(&mut self, source: &mut Source<'_>, now: Duration) {
        let is_time = self.tiles.learns_at().is_some_and(|at| at <= now);
        if !is_time || !self.copies.is_empty() {
            return;
        }
        for tile in self.tiles.take_unknown() {
            let area = source.plane.tile_area(tile);
            let is_wrong = self.damage.touches(&area) || self.inexact.touches(&area);
            let shown = if is_wrong { Shown::Nothing } else { source.shown(tile) };
            self.tiles.learn(tile, shown);
        }
    }

    /// Has sent exactly what was not, once it is quiet there, as far as that holds up nothing.
    fn refine(&mut self, source: &Source<'_>, now: Duration, credit: &Credit) {
        if self.inexact.is_empty() || !credit.allows_aside() || now < self.may_begin_at(credit) {
            return;
        }
        let pixels = credit.bytes_in(REFINE_TIME) / PHOTO_BYTES;
        let tiles = usize::try_from(pixels).unwrap_or(usize::MAX) / TILE_PIXELS;
        let least = if credit.draws_slowly() { REFINED_TILES_SLOW } else { 1 };
        let quiet: Vec<Rect> = (self.inexact.tiles().zip(self.inexact.pieces()))
            .filter(|(tile, piece)| {
                self.quiet_at((*tile, piece), source.activity, source.videos) <= now
            })
            .take(tiles.clamp(least, REFINED_TILES_MAX))
            .map(|(_tile, piece)| piece)
            .collect();
        for piece in &quiet {
            self.damage.add(piece);
        }
    }

    /// When what is not exact in a tile is quiet if it does not change: of a moving picture with
    /// all of that.
    fn quiet_at(
        &self,
        (tile, piece): (usize, &Rect),
        activity: &Activity,
        videos: &Videos,
    ) -> Duration {
        let moved_at = if self.browser.h264 { videos.moved_at(piece) } else { Duration::ZERO };
        activity.last_change(tile).max(moved_at) + QUIET_TIME
    }

    /// Takes out tiles that were drawn anew as they were.
    fn drop_unchanged(&mut self, source: &mut Source<'_>) {
        if self.size_is_due || !self.copies.is_empty() {
            return;
        }
        let unchanged: Vec<usize> = (self.damage.tiles())
            .filter(|tile| {
                let shown = self.tiles.shown(*tile);
                matches!(shown, Shown::Exact { .. }) && shown == source.shown(*tile)
            })
            .collect();
        for tile in unchanged {
            self.damage.remove(&source.plane.tile_area(tile));
        }
        // What the last frame left for later was drawn anew as it was: that frame showed all there is.
        self.is_partial &= self.changes();
    }
}

/// Pixels of a whole tile.
const TILE_PIXELS: usize = (TILE * TILE) as usize;

/// Bytes of a pixel of a photo in lossless WebP, for what has to be known before it is encoded: 1.55
/// were measured.
const PHOTO_BYTES: u64 = 2;

/// Where pixels come from.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// The surface that is shown.
    pub(crate) plane: &'a Plane,
    /// Encoded parts of it.
    pub(crate) cache: &'a mut Cache,
    /// What its tiles show.
    pub(crate) contents: &'a mut Contents,
    /// How they change.
    pub(crate) activity: &'a Activity,
    /// What moves, and as what it is sent.
    pub(crate) videos: &'a mut Videos,
    /// Jobs to be started.
    pub(crate) jobs: Vec<EncodeJob>,
}

impl Source<'_> {
    /// What a viewer sees of the tile when it has it exactly.
    fn shown(&mut self, tile: usize) -> Shown {
        let content = self.contents.of(self.plane, tile);
        Shown::Exact { hash: content.hash, is_even: content.look == Look::Even }
    }
}

/// The time, and whether the framebuffer is at the end of what the guest draws together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Duration,
    pub(crate) is_worth_showing: bool,
}
