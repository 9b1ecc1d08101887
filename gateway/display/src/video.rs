//! Which areas of the picture are moving pictures, and the H.264 streams in which they go to
//! viewers (`docs/display-protocol.md`, "Video regions").
//!
//! A stream belongs to a region and has one encoder, so its pictures are made one after the other.
//! Viewers that see the same share it; one that falls behind gets another.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use vidi_spice::Rect;

use crate::activity::Activity;
use crate::cache::{Cache, Content};
use crate::content::{Contents, Look};
use crate::damage::Damage;
use crate::encoding::{CODED_PIXELS_MAX, EncodeJob, JobId, VideoEncoder, VideoWork, is_skipped};
use crate::framebuffer::{Plane, TILE};

/// Most regions at a time; the document has numbers for so many.
const REGIONS_MAX: usize = 8;

/// How often moving pictures are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A region that has not moved for this long is over.
const STILL_TIME: Duration = Duration::from_secs(2);

/// Shortest side of a region: for less, images are as good.
const SIDE_MIN: u32 = 96;

/// Pictures of a stream that are kept for viewers that are behind: 0.4 s.
const PICTURES_MAX: usize = 12;

/// Most streams of a session: each has an encoder of about 10 MiB.
const STREAMS_MAX: usize = 4;

/// Bits for a pixel of a coded picture: good quality for a film.
const BITS_PER_PIXEL: f64 = 0.065;

/// Pictures a second that bit rates reckon with: those of a good line.
pub(crate) const PICTURES_PER_SECOND: f32 = 30.0;

/// Slowest and fastest stream, in bits per second.
const BIT_RATES: [u32; 2] = [150_000, 6_000_000];

/// Bits per second where nothing is known of the line yet: what most carry.
const BIT_RATE_UNKNOWN: u32 = 1_000_000;

/// Tenths of a line that a stream may take, so that letters find room beside.
const LINE_TENTHS: u64 = 6;

/// Streams whose rates differ less than this factor are as good as one.
const RATE_STEP: f64 = 1.6;

/// How long a viewer stays with a stream whose rate no longer suits its line: another begins with a
/// key frame, which costs as much as a second of pictures.
const SEAT_TIME: Duration = Duration::from_secs(3);

/// An area that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// Never used twice in a session.
    pub(crate) id: u64,
    /// Its number in records.
    pub(crate) number: u8,
    pub(crate) area: Rect,
    moved_at: Duration,
    /// When anything in it changed last.
    pub(crate) changed_at: Duration,
}

/// The moving pictures of a session.
#[derive(Debug, Default)]
pub(crate) struct Videos {
    regions: Vec<Region>,
    next_id: u64,
    looked_at: Duration,
    /// What has changed since the last but one time that the two were swapped, and since the last.
    recent: [Damage; 2],
    swapped_at: Duration,
    streams: Vec<Stream>,
    /// Jobs under way, also of streams that are over: somebody may wait for the result.
    running: BTreeSet<JobId>,
}

/// One encoder's pictures.
#[derive(Debug)]
struct Stream {
    id: u64,
    region: u64,
    bit_rate: u32,
    encoder: Arc<Mutex<VideoEncoder>>,
    /// Of the last picture begun.
    revision: u64,
    /// The newest pictures begun, oldest first. INVARIANT: at most [`PICTURES_MAX`]; only the last
    /// may still be awaited.
    pictures: VecDeque<Content>,
    /// The number of the picture after the last.
    next: u64,
    /// The next picture has to be a key frame: somebody joins.
    key_is_due: bool,
    /// When a viewer was served from it last.
    used_at: Duration,
}

/// Where a viewer is in a region's stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) region: Region,
    stream: u64,
    /// The first picture that it does not have.
    next: u64,
    /// Since when it is there.
    since: Duration,
}

/// The viewer that a region is served to.
#[derive(Debug)]
pub(crate) struct Watching<'a> {
    /// Where it was.
    pub(crate) seat: Option<Seat>,
    /// Bytes per second that its line carries, 0 for unknown.
    pub(crate) rate: u64,
    /// Who counts jobs.
    pub(crate) cache: &'a mut Cache,
    pub(crate) now: Duration,
}

/// What a viewer gets of a region.
#[derive(Debug)]
pub(crate) struct Served {
    /// Where it is then.
    pub(crate) seat: Seat,
    /// Pictures, in order.
    pub(crate) pictures: Vec<Content>,
    /// Whether they show the region as it is now.
    pub(crate) is_newest: bool,
    /// A job to be run.
    pub(crate) job: Option<EncodeJob>,
}

impl Videos {
    /// The picture is another one.
    pub(crate) fn start_over(&mut self, plane: &Plane) {
        self.regions.clear();
        self.streams.clear();
        let none = Damage::none(plane.width(), plane.height());
        self.recent = [none.clone(), none];
    }

    /// `area` has changed.
    pub(crate) fn changed(&mut self, area: &Rect, now: Duration) {
        let [_, newest] = &mut self.recent;
        newest.add(area);
        for region in &mut self.regions {
            if !region.area.intersect(area).is_empty() {
                region.changed_at = now;
            }
        }
    }

    /// When anything last changed in the regions that `area` touches.
    pub(crate) fn moved_at(&self, area: &Rect) -> Duration {
        let touched = self.regions.iter().filter(|region| !region.area.intersect(area).is_empty());
        touched.map(|region| region.changed_at).max().unwrap_or_default()
    }

    /// The regions.
    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// When the next region may be over.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        let over = self.regions.iter().map(|region| region.moved_at + STILL_TIME).min();
        over.map(|over| over.max(self.looked_at + LOOK_INTERVAL))
    }

    /// Finds regions that have begun and those that are over.
    pub(crate) fn look(
        &mut self,
        plane: &Plane,
        activity: &Activity,
        contents: &mut Contents,
        now: Duration,
    ) {
        if now < self.looked_at + LOOK_INTERVAL {
            return;
        }
        self.looked_at = now;
        let moving: BTreeSet<usize> = (self.recent.iter().flat_map(Damage::tiles))
            .filter(|tile| activity.is_moving(*tile, now))
            .collect();
        for area in self.groups(plane, moving, contents) {
            self.moves(area, now);
        }
        self.regions.retain(|region| now < region.moved_at + STILL_TIME);
        let regions = &self.regions;
        self.streams.retain(|stream| {
            let is_used = now < stream.used_at + STILL_TIME;
            is_used && regions.iter().any(|region| region.id == stream.region)
        });
        if self.swapped_at + STILL_TIME / 4 <= now {
            self.swapped_at = now;
            self.recent.swap(0, 1);
            let [_, newest] = &mut self.recent;
            newest.clear();
        }
    }

    /// Areas of neighbouring tiles that move, as large as what changed in them, where that is
    /// large enough, full enough and like a photo.
    fn groups(
        &self,
        plane: &Plane,
        mut moving: BTreeSet<usize>,
        contents: &mut Contents,
    ) -> Vec<Rect> {
        let per_row = usize::try_from(plane.width().div_ceil(TILE)).unwrap_or(1).max(1);
        let mut areas = Vec::new();
        while let Some(first) = moving.pop_first() {
            let mut group = vec![first];
            let mut position = 0;
            while let Some(&tile) = group.get(position) {
                position += 1;
                let column = tile % per_row;
                let left = (0 < column).then(|| tile - 1);
                let right = (column + 1 < per_row).then_some(tile + 1);
                let neighbours = [left, right, tile.checked_sub(per_row), Some(tile + per_row)];
                group.extend(neighbours.into_iter().flatten().filter(|tile| moving.remove(tile)));
            }
            areas.extend(self.video_area(plane, &group, contents));
        }
        areas
    }

    fn video_area(&self, plane: &Plane, group: &[usize], contents: &mut Contents) -> Option<Rect> {
        let areas: Vec<Rect> = group.iter().map(|tile| plane.tile_area(*tile)).collect();
        let changed = |recent: &Damage| -> Vec<Rect> {
            areas.iter().flat_map(|area| recent.pieces_in(area)).collect()
        };
        let bounds = self.recent.iter().flat_map(changed).reduce(|a, b| a.union(&b))?;
        let photos =
            (group.iter()).filter(|tile| contents.of(plane, **tile).look == Look::Photo).count();
        let tiles = plane.tiles_in(&bounds).count();
        let is_large = SIDE_MIN <= bounds.width() && SIDE_MIN <= bounds.height();
        let is_full = tiles * 6 <= group.len() * 10;
        (is_large && is_full && group.len() <= photos * 2).then_some(bounds)
    }

    /// `area` moves: a region's, or that of a new one.
    fn moves(&mut self, area: Rect, now: Duration) {
        if let Some(region) = self.regions.iter_mut().find(|region| region.area.contains(&area)) {
            region.moved_at = now;
            return;
        }
        // One that has grown is another.
        self.regions.retain(|region| region.area.intersect(&area).is_empty());
        let is_free = |number: &u8| self.regions.iter().all(|region| region.number != *number);
        let last = u8::try_from(REGIONS_MAX).unwrap_or(1);
        // Numbers in turn, so that a new region is not taken for the one before.
        let turn = u8::try_from(self.next_id % u64::from(last)).unwrap_or(0);
        let free = (turn..last).chain(0..turn).find(is_free);
        if let Some(number) = free {
            self.regions.push(Region {
                id: self.next_id,
                number,
                area,
                moved_at: now,
                changed_at: now,
            });
            self.next_id += 1;
        }
    }

    /// The pictures of a region for a viewer whose line carries so many bytes per second; `seat` is
    /// where it was. None where there can be no stream for it.
    pub(crate) fn serve(
        &mut self,
        plane: &Plane,
        region: Region,
        viewer: Watching<'_>,
    ) -> Option<Served> {
        let now = viewer.now;
        let wanted = bit_rate(&region.area, viewer.rate);
        let seat = viewer.seat.filter(|seat| self.has(seat, &region, wanted, now));
        let seat = seat.or_else(|| {
            let stream = self.join(region.id, wanted)?;
            Some(Seat { region, stream: stream.id, next: stream.next, since: now })
        })?;
        let stream = self.streams.iter_mut().find(|stream| stream.id == seat.stream)?;
        let revision = plane.revision(&region.area);
        let is_busy = matches!(stream.pictures.back(), Some(Content::Awaited(_)));
        let is_old = stream.revision != revision || stream.key_is_due;
        let mut job = None;
        stream.used_at = now;
        if is_old && !is_busy {
            let id = viewer.cache.next_job();
            self.running.insert(id);
            let work = VideoWork {
                encoder: Arc::clone(&stream.encoder),
                region: region.number,
                at: now,
                is_key: std::mem::take(&mut stream.key_is_due),
            };
            job = Some(EncodeJob::video(id, region.area, work, plane.read(&region.area)));
            stream.revision = revision;
            stream.pictures.push_back(Content::Awaited(id));
            stream.next += 1;
            if PICTURES_MAX < stream.pictures.len() {
                stream.pictures.pop_front();
            }
        }
        let missing = usize::try_from(stream.next - seat.next).unwrap_or(usize::MAX);
        let has = stream.pictures.len().saturating_sub(missing);
        let pictures: Vec<Content> = stream.pictures.iter().skip(has).cloned().collect();
        let is_newest = stream.revision == revision && !stream.key_is_due;
        Some(Served { seat: Seat { next: stream.next, ..seat }, pictures, is_newest, job })
    }

    /// Whether the seat's stream is one of the region's, still has what it misses, and has about the
    /// rate that is wanted, or had not long ago.
    fn has(&self, seat: &Seat, region: &Region, wanted: u32, now: Duration) -> bool {
        let stream = self.streams.iter().find(|stream| stream.id == seat.stream);
        stream.is_some_and(|stream| {
            let kept = u64::try_from(stream.pictures.len()).unwrap_or(0);
            let is_fit = is_near(stream.bit_rate, wanted) || now < seat.since + SEAT_TIME;
            seat.region.id == region.id && stream.next - seat.next <= kept && is_fit
        })
    }

    /// A stream of about this rate, whose next picture is then a key frame.
    fn join(&mut self, region: u64, bit_rate: u32) -> Option<&Stream> {
        let is_full = STREAMS_MAX <= self.streams.len();
        let position = self.streams.iter().position(|stream| {
            stream.region == region && (is_full || is_near(stream.bit_rate, bit_rate))
        });
        let position = match position {
            Some(position) => position,
            None if is_full => return None,
            None => {
                self.streams.push(Stream {
                    id: self.next_id,
                    region,
                    bit_rate,
                    encoder: Arc::new(Mutex::new(VideoEncoder::new(bit_rate))),
                    revision: 0,
                    pictures: VecDeque::new(),
                    next: 0,
                    key_is_due: true,
                    used_at: Duration::ZERO,
                });
                self.next_id += 1;
                self.streams.len() - 1
            }
        };
        let stream = self.streams.get_mut(position)?;
        stream.key_is_due = true;
        Some(stream)
    }

    /// The result of a job; whether it was one of a stream.
    pub(crate) fn encoded(&mut self, id: JobId, record: &Bytes) -> bool {
        for stream in &mut self.streams {
            let picture = stream.pictures.iter_mut().find(|picture| is_of(picture, id));
            let Some(picture) = picture else { continue };
            *picture = Content::Ready(record.clone());
            if is_skipped(record) {
                // What it was to show is not shown yet.
                stream.revision = 0;
            }
        }
        self.running.remove(&id)
    }

    /// There will be no result of a job: its stream is over.
    pub(crate) fn lost(&mut self, id: JobId) {
        self.running.remove(&id);
        self.streams.retain(|stream| !stream.pictures.iter().any(|picture| is_of(picture, id)));
    }
}

fn is_of(content: &Content, id: JobId) -> bool {
    matches!(content, Content::Awaited(job) if *job == id)
}

/// Whether streams of these rates are as good as each other.
fn is_near(one: u32, other: u32) -> bool {
    let (one, other) = (f64::from(one), f64::from(other));
    one < other * RATE_STEP && other < one * RATE_STEP
}

/// Bits per second for an area on a line of so many bytes per second, 0 for unknown.
fn bit_rate(area: &Rect, rate: u64) -> u32 {
    let pixels = area.area().min(CODED_PIXELS_MAX);
    let pixels = f64::from(u32::try_from(pixels).unwrap_or(u32::MAX));
    let good = pixels * BITS_PER_PIXEL * f64::from(PICTURES_PER_SECOND);
    let [least, most] = BIT_RATES;
    let good = if good < f64::from(most) { good as u32 } else { most };
    let carried = match rate {
        0 => BIT_RATE_UNKNOWN,
        _ => u32::try_from(rate.saturating_mul(8 * LINE_TENTHS) / 10).unwrap_or(u32::MAX),
    };
    good.min(carried).clamp(least, most)
}
