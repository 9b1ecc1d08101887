//! One browser: what it has yet to be sent, and in which order and measure.
//!
//! ```text
//!   damage, copies ──begin──▶ open frame: parts ──hand over──▶ socket ──▶ frame end
//!         ▲                        │ newer pixels came: supersede
//!         └────────────────────────┘
//! ```
//!
//! INVARIANT: the picture that the viewer has once it has drawn the open frame and then the waiting
//! copies equals the framebuffer everywhere outside `damage`.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use vidi_spice::{ClipboardKind, ClipboardPiece, Point, Rect};

use crate::cache::{Cache, Content};
use crate::credit::Credit;
use crate::damage::Damage;
use crate::encoding::{EncodeJob, JobId};
use crate::framebuffer::Plane;
use crate::parts::parts;
use crate::protocol::{BrowserHello, Record};
use crate::rule::{Form, form};

/// Shortest time from the beginning of one frame to that of the next: 60 pictures a second.
const FRAME_INTERVAL: Duration = Duration::from_millis(16);

/// Most copies that wait for a frame; what is copied beyond is sent as pixels.
const COPIES_MAX: usize = 64;

/// How often parts of one frame are replaced by newer ones before it is finished as it is, so that
/// every frame ends.
const SUPERSEDED_MAX: u8 = 8;

/// A message to the socket is closed when it is this long, in bytes; a single record may be longer.
const SLICE_BYTES: usize = 16 * 1024;

/// Most answers to pings that wait; a browser with more in flight loses the oldest.
const PONGS_MAX: usize = 8;

/// Most bytes of a clipboard in one record, and so most that a frame begun right after finds before
/// it.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Fewest, however slow the wire is.
const COPIED_BYTES_MIN: usize = 2 * 1024;

/// What such a record may take of a slow wire.
const COPIED_TIME: Duration = Duration::from_millis(30);

/// On a wire that the picture fills, such a record goes before every so many frames.
const FRAMES_PER_COPIED: u32 = 4;

/// The state of one viewer.
#[derive(Debug)]
pub(crate) struct Viewer {
    browser: BrowserHello,
    /// Parts of the picture to be sent; see the invariant above.
    damage: Damage,
    /// Copies to be sent before the parts, in order.
    copies: Vec<(Rect, Point)>,
    /// The size is to be sent first: the picture is new to this viewer.
    size_is_due: bool,
    frame: Option<Frame>,
    credit: Credit,
    next_sequence: u32,
    last_begun: Option<Duration>,
    due: Due,
    pongs: VecDeque<[u8; 8]>,
    frames: u64,
    /// What was drawn by a frame that was given up: nothing consistent until a size is sent.
    is_torn: bool,
    /// What was copied in the guest. INVARIANT: at most 2, and only the first is sent in part.
    copied: VecDeque<Copied>,
    /// Frames since a part of it was sent.
    frames_since_copied: u32,
}

/// A piece of the guest's clipboard that is not yet sent to its end.
#[derive(Debug)]
struct Copied {
    kind: ClipboardKind,
    rest: Bytes,
    is_begun: bool,
}

/// A picture of which something may have been handed over already, but not its end.
#[derive(Debug)]
struct Frame {
    begun_at: Duration,
    /// Parts not yet handed over.
    parts: VecDeque<Waiting>,
    /// What was drawn by what was handed over.
    handed: Damage,
    superseded: u8,
}

#[derive(Debug)]
struct Waiting {
    area: Rect,
    content: Content,
}

/// Which records about the session are to be sent anew; each is written from the newest state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) hello: bool,
    pub(crate) status: bool,
    pub(crate) pointer_mode: bool,
    pub(crate) lock_keys: bool,
    pub(crate) cursor: bool,
    pub(crate) cursor_position: bool,
    pub(crate) abilities: bool,
    /// The guest took the clipboard no longer, even if it does again.
    pub(crate) forgotten: bool,
}

/// Measurements of one viewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewerStatistics {
    /// The shortest recent way to the browser and back, once measured.
    pub round_trip: Option<Duration>,
    /// Bytes per second that reach it, 0 until measured.
    pub rate: u64,
    /// Frames ended.
    pub frames: u64,
    /// Bytes handed over.
    pub bytes: u64,
    /// When the oldest frame was begun that the browser has not acknowledged; far in the past, the
    /// browser is asleep or gone.
    pub unacknowledged_since: Option<Duration>,
}

impl Due {
    pub(crate) const ALL: Self = Self {
        hello: true,
        status: true,
        pointer_mode: true,
        lock_keys: true,
        cursor: true,
        cursor_position: true,
        abilities: true,
        forgotten: false,
    };
    const NONE: Self = Self {
        hello: false,
        status: false,
        pointer_mode: false,
        lock_keys: false,
        cursor: false,
        cursor_position: false,
        abilities: false,
        forgotten: false,
    };
}

impl Viewer {
    /// A viewer that has nothing yet and is to get all there is.
    pub(crate) fn new(browser: BrowserHello, plane: Option<&Plane>) -> Self {
        let mut viewer = Self {
            browser,
            damage: Damage::default(),
            copies: Vec::new(),
            size_is_due: false,
            frame: None,
            credit: Credit::default(),
            next_sequence: 1,
            last_begun: None,
            due: Due::ALL,
            pongs: VecDeque::new(),
            frames: 0,
            is_torn: false,
            copied: VecDeque::new(),
            frames_since_copied: 0,
        };
        viewer.start_over(plane);
        viewer
    }

    /// The picture is another one, or is to be sent again; without a plane the viewer keeps the
    /// last one. An open frame is given up: the size that follows makes void what was drawn.
    pub(crate) fn start_over(&mut self, plane: Option<&Plane>) {
        self.is_torn |= self.frame.take().is_some();
        self.copies.clear();
        self.size_is_due = plane.is_some();
        self.damage =
            plane.map_or_else(Damage::default, |plane| Damage::all(plane.width(), plane.height()));
    }

    /// `area` of the framebuffer has changed.
    pub(crate) fn changed(&mut self, area: &Rect) {
        self.damage.add(area);
    }

    /// `destination`, inside the surface, was overwritten by what was at `offset` from it, also
    /// inside. The viewer can do the same if most of what it has there is right.
    pub(crate) fn copied(&mut self, destination: &Rect, offset: Point) {
        let source = destination.moved(offset);
        let wrong = self.damage.pixels_in(&source);
        if self.copies.len() >= COPIES_MAX || wrong * 2 > source.area() {
            self.damage.add(destination);
        } else {
            self.copies.push((*destination, offset));
            self.damage.follow_copy(destination, offset);
        }
    }

    /// Something is to be sent anew, beside the picture.
    pub(crate) fn due(&mut self) -> &mut Due {
        &mut self.due
    }

    pub(crate) fn pong(&mut self, body: [u8; 8]) {
        if self.pongs.len() >= PONGS_MAX {
            self.pongs.pop_front();
        }
        self.pongs.push_back(body);
    }

    pub(crate) fn acknowledge(&mut self, sequence: u32, draw_time: Duration, now: Duration) {
        self.credit.acknowledge(sequence, draw_time, now);
    }

    pub(crate) fn sent(&mut self, bytes: usize, now: Duration) {
        self.credit.sent(bytes, now);
    }

    /// The result of a job is there.
    pub(crate) fn encoded(&mut self, id: JobId, record: &Bytes) {
        for part in self.frame.iter_mut().flat_map(|frame| &mut frame.parts) {
            if matches!(part.content, Content::Awaited(awaited) if awaited == id) {
                part.content = Content::Ready(record.clone());
            }
        }
    }

    pub(crate) fn statistics(&self) -> ViewerStatistics {
        ViewerStatistics {
            round_trip: self.credit.round_trip(),
            rate: self.credit.rate(),
            frames: self.frames,
            bytes: self.credit.handed(),
            unacknowledged_since: self.credit.unacknowledged_since(),
        }
    }

    /// Records about the session, as one message, if any are due; `write` writes those asked for.
    pub(crate) fn next_notice(&mut self, write: impl FnOnce(Due, &mut Vec<u8>)) -> Option<Bytes> {
        let is_due = self.due != Due::NONE || !self.pongs.is_empty();
        if !is_due || !self.credit.socket_has_spare_room() {
            return None;
        }
        let mut message = Vec::new();
        write(std::mem::take(&mut self.due), &mut message);
        for body in self.pongs.drain(..) {
            Record::Pong(body).write(&mut message);
        }
        self.credit.hand_over(message.len());
        self.credit.end_message();
        Some(message.into())
    }

    /// Somebody copied something in the guest. What was begun before is finished, since its parts
    /// cannot be taken back.
    pub(crate) fn copied_in_guest(&mut self, piece: ClipboardPiece) {
        self.copied.truncate(self.copied.front().map_or(0, |first| usize::from(first.is_begun)));
        let ClipboardPiece { kind, data } = piece;
        self.copied.push_back(Copied { kind, rest: data, is_begun: false });
    }

    /// The next message with a part of what was copied in the guest: never within a frame, and
    /// where the picture changes at most one between two frames. It ends a frame of its own that
    /// draws nothing, since only frames are acknowledged.
    pub(crate) fn next_copied(&mut self, now: Duration) -> Option<Bytes> {
        let mut first = self.copied.pop_front()?;
        if !self.has_room_for_copied() {
            self.copied.push_front(first);
            return None;
        }
        let millis = u64::try_from(COPIED_TIME.as_millis()).unwrap_or(u64::MAX);
        let share = self.credit.rate().saturating_mul(millis) / 1000;
        let length = usize::try_from(share).unwrap_or(usize::MAX);
        let length = length.clamp(COPIED_BYTES_MIN, COPIED_BYTES_MAX).min(first.rest.len());
        let data = first.rest.split_to(length);
        let more = !first.rest.is_empty();
        let mut message = Vec::new();
        Record::Clipboard { kind: first.kind, more, data: &data }.write(&mut message);
        self.credit.hand_over(message.len());
        self.end_frame(&mut message, now);
        self.credit.end_message();
        self.frames_since_copied = 0;
        if more {
            first.is_begun = true;
            self.copied.push_front(first);
        }
        Some(message.into())
    }

    fn has_room_for_copied(&mut self) -> bool {
        let has_picture = 0 < self.frames && !self.size_is_due && !self.is_torn;
        let changes = !self.damage.is_empty() || !self.copies.is_empty();
        let is_between = self.frame.is_none() && !(changes && self.frames_since_copied == 0);
        has_picture
            && is_between
            && (self.credit.allows_aside()
                || (FRAMES_PER_COPIED <= self.frames_since_copied && self.credit.allows_frame()))
    }

    /// When the next frame may begin as far as the pace goes; `None` while there is nothing to
    /// send, or while something else has to happen first.
    pub(crate) fn begins_at(&mut self) -> Option<Duration> {
        let nothing = self.damage.is_empty() && self.copies.is_empty() && !self.size_is_due;
        if nothing || self.frame.is_some() || !self.credit.allows_frame() {
            return None;
        }
        Some(self.last_begun.map_or(Duration::ZERO, |begun| begun + FRAME_INTERVAL))
    }

    /// The next message with a part of the picture. `may_begin` says whether the framebuffer is at
    /// a moment worth showing.
    pub(crate) fn next_slice(&mut self, source: &mut Source<'_>, moment: Moment) -> Option<Bytes> {
        let mut message = Vec::new();
        let on_time = self.begins_at().is_some_and(|at| at <= moment.now);
        if on_time && moment.is_worth_showing && source.cache.has_room() {
            self.begin(source, &mut message, moment.now);
        } else if moment.is_worth_showing && self.can_supersede(moment.now) {
            self.supersede(source, moment.now);
        }
        self.fill_message(&mut message);
        if message.is_empty() {
            return None;
        }
        self.credit.end_message();
        Some(message.into())
    }

    fn begin(&mut self, source: &mut Source<'_>, message: &mut Vec<u8>, now: Duration) {
        let plane = source.plane;
        let mut handed = Damage::none(plane.width(), plane.height());
        if std::mem::take(&mut self.size_is_due) {
            Record::Size { width: plane.width(), height: plane.height() }.write(message);
            self.is_torn = false;
        }
        for (destination, offset) in self.copies.drain(..) {
            let source = destination.moved(offset);
            let source = Point::new(source.left, source.top);
            Record::Copy { destination, source }.write(message);
            handed.add(&destination);
        }
        self.credit.hand_over(message.len());
        let parts = self.take_damage(source);
        self.frame = Some(Frame { begun_at: now, parts, handed, superseded: 0 });
        self.last_begun = Some(now);
    }

    /// Turns all damage into parts as the framebuffer is now.
    fn take_damage(&mut self, source: &mut Source<'_>) -> VecDeque<Waiting> {
        let mut waiting = VecDeque::new();
        let plane = source.plane;
        for part in parts(&self.damage, plane) {
            let area = part.area;
            let content = match form(&area, part.solid, &self.browser) {
                Form::Fill(pixel) => ready(&Record::Fill { area, pixel }),
                Form::Raw => ready(&Record::Raw { area, pixels: &plane.read(&area) }),
                Form::Image(codec) => {
                    let (content, job) = source.cache.request(plane, area, codec);
                    source.jobs.extend(job);
                    content
                }
            };
            waiting.push_back(Waiting { area, content });
        }
        self.damage.clear();
        waiting
    }

    /// Whether newer pixels are to replace parts that wait for the socket. Not while those parts
    /// are still being encoded, or nothing would ever be sent; and not where what was handed over
    /// would have to be sent again, or frames would grow without end: then the next frame has it.
    fn can_supersede(&self, now: Duration) -> bool {
        let Some(frame) = &self.frame else { return false };
        let on_time = self.last_begun.is_none_or(|begun| begun + FRAME_INTERVAL <= now);
        let mut outdated =
            frame.parts.iter().filter(|part| self.damage.touches(&part.area)).peekable();
        on_time
            && self.copies.is_empty()
            && frame.superseded < SUPERSEDED_MAX
            && self.credit.socket_has_room()
            && outdated.peek().is_some()
            && outdated.all(|part| matches!(part.content, Content::Ready(_)))
            && !self.damage.touches_any(&frame.handed)
    }

    /// Extends the open frame to the framebuffer as it is now: parts that no damage touches are
    /// as they are now too, and what was handed over has not changed.
    fn supersede(&mut self, source: &mut Source<'_>, now: Duration) {
        let Some(mut frame) = self.frame.take() else { return };
        let damage = &mut self.damage;
        let mut outdated = Vec::new();
        frame.parts.retain(|part| {
            let keep = !damage.touches(&part.area);
            if !keep {
                outdated.push(part.area);
            }
            keep
        });
        for area in &outdated {
            damage.add(area);
        }
        frame.parts.append(&mut self.take_damage(source));
        frame.superseded += 1;
        self.frame = Some(frame);
        self.last_begun = Some(now);
    }

    /// Hands over parts that are ready while the socket has room and the message is short, and the
    /// frame's end after the last.
    fn fill_message(&mut self, message: &mut Vec<u8>) {
        let Some(frame) = &mut self.frame else { return };
        let mut position = 0;
        while message.len() < SLICE_BYTES && self.credit.socket_has_room() {
            let Some(part) = frame.parts.get(position) else { break };
            if matches!(part.content, Content::Awaited(_)) {
                position += 1;
                continue;
            }
            let part = frame.parts.remove(position);
            if let Some(Waiting { area, content: Content::Ready(record) }) = part {
                frame.handed.add(&area);
                self.credit.hand_over(record.len());
                message.extend_from_slice(&record);
            }
        }
        if frame.parts.is_empty() && self.credit.socket_has_spare_room() {
            let begun_at = frame.begun_at;
            self.frame = None;
            self.end_frame(message, begun_at);
            self.frames += 1;
            self.frames_since_copied = self.frames_since_copied.saturating_add(1);
        }
    }

    fn end_frame(&mut self, message: &mut Vec<u8>, begun_at: Duration) {
        let before = message.len();
        let sequence = self.next_sequence;
        Record::FrameEnd { sequence }.write(message);
        self.credit.hand_over(message.len() - before);
        self.credit.end_frame(sequence, begun_at);
        self.next_sequence = sequence.wrapping_add(1);
    }
}

/// Where pixels come from.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// The surface that is shown.
    pub(crate) plane: &'a Plane,
    /// Encoded parts of it.
    pub(crate) cache: &'a mut Cache,
    /// Jobs to be started.
    pub(crate) jobs: Vec<EncodeJob>,
}

/// The time, and whether the framebuffer is at the end of what the guest draws together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Duration,
    pub(crate) is_worth_showing: bool,
}

fn ready(record: &Record<'_>) -> Content {
    let mut bytes = Vec::new();
    record.write(&mut bytes);
    Content::Ready(bytes.into())
}
