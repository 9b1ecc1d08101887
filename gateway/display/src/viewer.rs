//! One browser: what it has yet to be sent, and in which order.

mod beside;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vidi_spice::{ClipboardKind, ClipboardPiece};

use crate::activity::Activity;
use crate::credit::{Credit, Ended};
use crate::framebuffer::Plane;
use crate::picture::{Moment, Picture, Source};
use crate::protocol::{BrowserHello, Record, ToldState};
use crate::video::Videos;

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
const FRAMES_PER_COPIED: u64 = 4;

/// The state of one viewer.
#[derive(Debug)]
pub(crate) struct Viewer {
    picture: Picture,
    credit: Credit,
    due: Due,
    pongs: VecDeque<[u8; 8]>,
    /// States that are to be told, by type of record.
    told: BTreeMap<u8, ToldState>,
    /// What was copied in the guest. INVARIANT: at most 2, and only the first is sent in part.
    copied: VecDeque<Copied>,
    /// Frames ended when a part of it was sent last.
    copied_at_frame: u64,
    /// It plays Opus.
    plays_opus: bool,
}

/// A piece of the guest's clipboard that is not yet sent to its end.
#[derive(Debug)]
struct Copied {
    kind: ClipboardKind,
    rest: Bytes,
    is_begun: bool,
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
    /// The guest fetched what it was offered.
    pub(crate) fetched: bool,
    pub(crate) monitors: bool,
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
        fetched: false,
        monitors: true,
    };
}

impl Viewer {
    /// A viewer that has nothing yet and is to get all there is.
    pub(crate) fn new(browser: BrowserHello, plane: Option<&Plane>) -> Self {
        Self {
            picture: Picture::new(browser, plane),
            credit: Credit::default(),
            due: Due::ALL,
            pongs: VecDeque::new(),
            told: BTreeMap::new(),
            copied: VecDeque::new(),
            copied_at_frame: 0,
            plays_opus: browser.opus,
        }
    }

    /// What of the picture is wrong there.
    pub(crate) const fn picture(&mut self) -> &mut Picture {
        &mut self.picture
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

    pub(crate) fn tell(&mut self, state: ToldState) {
        self.told.insert(state.kind, state);
    }

    pub(crate) fn acknowledge(&mut self, sequence: u32, draw_time: Duration, now: Duration) {
        self.credit.acknowledge(sequence, draw_time, now);
    }

    pub(crate) fn sent(&mut self, bytes: usize, now: Duration) {
        self.credit.sent(bytes, now);
    }

    pub(crate) fn statistics(&self) -> ViewerStatistics {
        ViewerStatistics {
            round_trip: self.credit.round_trip(),
            rate: self.credit.rate(),
            frames: self.picture.frames(),
            bytes: self.credit.handed(),
            unacknowledged_since: self.credit.unacknowledged_since(),
        }
    }

    /// Records about the session, as one message, if any are due; `write` writes those asked for.
    pub(crate) fn next_notice(&mut self, write: impl FnOnce(Due, &mut Vec<u8>)) -> Option<Bytes> {
        let is_due = self.due != Due::default() || !self.pongs.is_empty() || !self.told.is_empty();
        if !is_due || !self.credit.socket_has_spare_room() {
            return None;
        }
        let mut message = Vec::new();
        write(std::mem::take(&mut self.due), &mut message);
        for state in std::mem::take(&mut self.told).into_values() {
            message.extend_from_slice(&state.record);
        }
        for body in self.pongs.drain(..) {
            Record::Pong(body).write(&mut message);
        }
        if message.is_empty() {
            return None;
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
        let length = usize::try_from(self.credit.bytes_in(COPIED_TIME)).unwrap_or(usize::MAX);
        let length = length.clamp(COPIED_BYTES_MIN, COPIED_BYTES_MAX).min(first.rest.len());
        let data = first.rest.split_to(length);
        let more = !first.rest.is_empty();
        let mut message = Vec::new();
        Record::Clipboard { kind: first.kind, more, data: &data }.write(&mut message);
        self.credit.hand_over(message.len());
        self.credit.end_frame(&mut message, Ended::empty(now));
        self.credit.end_message();
        self.copied_at_frame = self.picture.frames();
        if more {
            first.is_begun = true;
            self.copied.push_front(first);
        }
        Some(message.into())
    }

    fn has_room_for_copied(&self) -> bool {
        let frames = self.picture.frames() - self.copied_at_frame;
        let is_between =
            self.picture.is_between_frames() && !(self.picture.changes() && frames == 0);
        is_between
            && (self.credit.allows_aside()
                || (FRAMES_PER_COPIED <= frames && self.credit.allows_frame()))
    }

    /// When there may be something to do for the picture.
    pub(crate) fn due_at(&self, activity: &Activity, videos: &Videos) -> Option<Duration> {
        let begins = self.picture.begins_at(&self.credit);
        let tidies = self.picture.tidies_at(activity, videos, &self.credit);
        begins.into_iter().chain(tidies).min()
    }

    /// The next message with a part of the picture.
    pub(crate) fn next_slice(&mut self, source: &mut Source<'_>, moment: Moment) -> Option<Bytes> {
        self.picture.next_slice(source, moment, &mut self.credit)
    }
}
