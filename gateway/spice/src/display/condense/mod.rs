//! A display channel on its way from a server's host to its client, with fewer bytes.
//!
//! ```text
//! server ──▶ Condenser ──┬── as it is ─────────────────────────────────▶ client
//!   DRAW_COPY of         ├── no photograph ── LZ4 ─────────────────────▶  exact
//!   large bitmaps        └── frame of what moves ── JPEG ──────────────▶  rough
//!                              └── the same, as it is, once nothing
//!                                  has replaced it for a while ────────▶  exact
//! ```
//!
//! A server on a UNIX socket sends a film as bitmaps: 250 MB/s at 1920 x 1080. Its own streams would
//! hold a film at 8 Mbit/s and 25 frames/s in coarse JPEG, and be exact a second after the last frame
//! only (`RED_STREAM_TIMEOUT`).
//!
//! Of every bitmap only the picture's own pixels go on.
//!
//! INVARIANT: whatever reads or changes pixels, or takes an image from the cache, comes behind the exact
//! form of what it needs. Pictures that the server did not send are [`BESIDE`] the others: not counted
//! by the client, whose acknowledgements the server would not understand otherwise.

mod effect;
mod inexact;
mod motion;
#[cfg(test)]
mod tests;
mod tight;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use jpeg_encoder::{ColorType, SamplingFactor};
use lz4_flex::block;

use crate::channel::{BESIDE, HEADER_BYTES, put_mini_header};
use crate::geometry::Rect;
use crate::link::{self, CAPABILITY_MINI_HEADER, ChannelKind};
use crate::serving::LinkRequest;

use self::effect::{Cached, Effect, Form, Put};
use self::inexact::{Inexact, Place};
use self::motion::{Motion, Nature, Rate, nature};
use super::numbers::server;
use super::transfer::CAPABILITY_BESIDE;

/// Largest message that is looked into: a picture of 3840 x 2160 with its description. Larger ones
/// are passed on as they come.
const LOOKED_AT_BYTES_MAX: usize = (32 << 20) + (64 << 10);
/// An emptied inbox gives its memory back after a message larger than this: one picture does not cost each
/// idle desktop its size for ever.
const INBOX_KEPT_BYTES: usize = 32 << 10;
/// Bytes from which a picture that is no photograph is packed: below, another thread takes longer than the line.
const LZ4_BYTES_MIN: usize = 64 << 10;
/// Pixels from which a picture is worth a look: 96 x 96.
const PIXELS_MIN: usize = 96 * 96;
/// So long after its last frame what moved is made exact. More than the time between the frames of
/// what still counts as moving.
const REST: Duration = Duration::from_millis(250);

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Send these bytes to the client.
    Send(Bytes),
    /// Have this done, on any thread, and hand the result to [`Condenser::packed`]; nothing follows
    /// before.
    Pack(Packing),
}

/// A picture to pack.
#[derive(Clone, Debug)]
pub struct Packing {
    pixels: Bytes,
    width: u32,
    height: u32,
    /// JPEG's quality; none for LZ4.
    quality: Option<u8>,
}

/// How many pictures took which way, since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condensed {
    /// Frames sent as JPEG.
    pub rough: u64,
    /// Pictures sent as LZ4.
    pub lz4: u64,
    /// Pictures sent once more, exactly.
    pub exact: u64,
}

/// The bytes of one channel, towards its client.
#[derive(Debug)]
pub struct Condenser {
    phase: Phase,
    inbox: BytesMut,
    outbox: VecDeque<Bytes>,
    packing: Option<Pending>,
    motion: Motion,
    rate: Rate,
    inexact: Inexact,
    condensed: Condensed,
}

/// How far the channel is, from the server's side.
#[derive(Debug)]
enum Phase {
    /// The answer to the client's link message comes.
    Reply,
    /// Whether the client's ticket is good.
    Verdict,
    Messages,
    /// So many bytes of a message that is too large to be looked into.
    Passing(usize),
    /// It is no SPICE, or not ours to look into.
    Strange,
}

/// A message that waits for its picture.
#[derive(Debug)]
struct Pending {
    message: Bytes,
    put: Put,
    form: Form,
}

impl Condenser {
    /// For the channel that a client opens with these bytes, if it is a display channel and the client
    /// understands what is [`BESIDE`]; what moves is to keep below `mbit_s`.
    pub fn for_client(first: &[u8], mbit_s: u32) -> Option<Self> {
        let asked = LinkRequest::read(&mut BytesMut::from(first)).ok()??;
        let is_ours = asked.kind == ChannelKind::Display
            && asked.common.has(CAPABILITY_MINI_HEADER)
            && asked.channel.has(CAPABILITY_BESIDE);
        is_ours.then(|| Self {
            phase: Phase::Reply,
            inbox: BytesMut::new(),
            outbox: VecDeque::new(),
            packing: None,
            motion: Motion::default(),
            rate: Rate::new(mbit_s),
            inexact: Inexact::default(),
            condensed: Condensed::default(),
        })
    }

    /// Whether more bytes are welcome: all but what is being packed, and one message behind it.
    pub fn has_room(&self) -> bool {
        self.packing.is_none() || self.inbox.len() < LOOKED_AT_BYTES_MAX
    }

    /// Where bytes from the server are put, behind those that are there, in any portions, while it [has
    /// room](Self::has_room) and all steps were taken.
    pub const fn inbox(&mut self) -> &mut BytesMut {
        &mut self.inbox
    }

    /// Takes bytes from the server, as [`Self::inbox`] does.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    /// What to do next; none until more bytes come, or [`Self::wakes`].
    pub fn step(&mut self, now: Duration) -> Option<Step> {
        loop {
            if let Some(bytes) = self.outbox.pop_front() {
                return Some(Step::Send(bytes));
            }
            if self.packing.is_some() {
                return None;
            }
            if !matches!(self.phase, Phase::Messages) {
                return self.pass_on().map(Step::Send);
            }
            let [_, _, size @ ..] = self.inbox.first_chunk::<HEADER_BYTES>()?;
            let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
            let whole = size.saturating_add(HEADER_BYTES);
            if whole > LOOKED_AT_BYTES_MAX {
                self.make_all_exact();
                self.phase = Phase::Passing(whole);
                continue;
            }
            if self.inbox.len() < whole {
                self.inbox.reserve(whole - self.inbox.len());
                return None;
            }
            let message = self.inbox.split_to(whole).freeze();
            if self.inbox.is_empty() && whole > INBOX_KEPT_BYTES {
                self.inbox = BytesMut::new();
            }
            if let Some(packing) = self.message(message, now) {
                return Some(Step::Pack(packing));
            }
        }
    }

    /// Takes what [`Packing::run`] made.
    pub fn packed(&mut self, data: &[u8], now: Duration) {
        let Some(Pending { message, put, form }) = self.packing.take() else { return };
        self.replace(&put.rects, put.cached_id());
        if data.is_empty() || data.len() > put.bytes() - put.bytes() / 4 {
            self.outbox.push_back(message);
            return;
        }
        let body = put.packed(form, data);
        self.outbox.push_back(header(server::DRAW_COPY, body.len()).freeze());
        self.outbox.push_back(body);
        match form {
            Form::Lz4 => self.condensed.lz4 += 1,
            Form::Jpeg => {
                self.condensed.rough += 1;
                self.rate.sent(data.len(), now);
                let over = self.inexact.add(&put, now);
                self.make_exact(&over);
            }
        }
    }

    /// When [`Self::wake`] is to be called, if ever.
    pub fn wakes(&self) -> Option<Duration> {
        self.inexact.since().map(|since| since.saturating_add(REST))
    }

    /// What has rested becomes exact.
    pub fn wake(&mut self, now: Duration) {
        if let Some(moment) = now.checked_sub(REST) {
            let rested = self.inexact.before(moment);
            self.make_exact(&rested);
        }
    }

    /// What was done since the last call.
    pub fn take_condensed(&mut self) -> Condensed {
        std::mem::take(&mut self.condensed)
    }

    /// The next bytes of what is not looked into.
    fn pass_on(&mut self) -> Option<Bytes> {
        let there = self.inbox.len();
        let (count, next) = match self.phase {
            Phase::Reply => match link::reply_size(&self.inbox) {
                Ok(Some(size)) => (link::HEADER_BYTES + size, Phase::Verdict),
                Ok(None) => return None,
                Err(_) => (there, Phase::Strange),
            },
            Phase::Verdict => (4, Phase::Messages),
            Phase::Passing(left) if left <= there => (left, Phase::Messages),
            Phase::Passing(left) => (there, Phase::Passing(left - there)),
            Phase::Messages | Phase::Strange => (there, Phase::Strange),
        };
        if there == 0 || there < count {
            return None;
        }
        self.phase = next;
        Some(self.inbox.split_to(count).freeze())
    }

    /// Sends a message, or begins to pack its picture.
    fn message(&mut self, message: Bytes, now: Duration) -> Option<Packing> {
        let message = tight::tightened(&message).unwrap_or(message);
        let (kind, body) = (kind_of(&message), message.slice(HEADER_BYTES..));
        match Effect::of(kind, &body) {
            Effect::Nothing => {}
            Effect::Anything => self.make_all_exact(),
            Effect::Uses(rects) => {
                let touched = self.inexact.touching(&rects);
                self.make_exact(&touched);
            }
            Effect::Replaces { rects, image } => self.replace(&rects, image),
            Effect::Recalls { rects, image } => {
                if let Some(put) = self.inexact.forget(image) {
                    self.beside(put.exact(&[], Cached::AsMeant));
                }
                self.replace(&rects, None);
            }
            Effect::Forgets(images) => images.into_iter().for_each(|image| {
                let _lost = self.inexact.forget(image);
            }),
            Effect::ForgetsAll => drop(self.inexact.forget_all()),
            Effect::Puts(put) => match self.form(&put, now) {
                Some(form) => {
                    let quality = (form == Form::Jpeg).then(|| self.rate.quality());
                    let (pixels, width, height) = (put.pixels(), put.size.width, put.size.height);
                    self.packing = Some(Pending { message, put, form });
                    return Some(Packing { pixels, width, height, quality });
                }
                None => self.replace(&put.rects, put.cached_id()),
            },
        }
        self.outbox.push_back(message);
        None
    }

    /// In which form a picture is to travel, if not in its own.
    fn form(&mut self, put: &Put, now: Duration) -> Option<Form> {
        if put.size.area() < PIXELS_MIN || put.rects.is_empty() {
            return None;
        }
        let nature = nature(&put.pixels(), put.size.columns());
        let moves = nature != Nature::Flat && self.motion.drawn(&put.target, now);
        if moves && self.inexact.can_keep(put) {
            return Some(Form::Jpeg);
        }
        (nature != Nature::Photo && put.bytes() >= LZ4_BYTES_MIN).then_some(Form::Lz4)
    }

    /// Other pixels come to these rectangles, maybe with an image for the cache.
    fn replace(&mut self, rects: &[Rect], image: Option<u64>) {
        if let Some(image) = image {
            let _older = self.inexact.forget(image);
        }
        let ragged = self.inexact.replaced(rects);
        self.make_exact(&ragged);
    }

    fn make_exact(&mut self, places: &[Place]) {
        for place in places {
            self.condensed.exact += 1;
            self.beside(place.put.exact(&place.rects, Cached::Not));
        }
    }

    fn make_all_exact(&mut self) {
        let places = self.inexact.all();
        self.make_exact(&places);
        for put in self.inexact.forget_all() {
            self.beside(put.exact(&[], Cached::AsMeant));
        }
    }

    /// Sends a copy that the server did not send, nor counts.
    fn beside(&mut self, body: [Bytes; 2]) {
        let size = body.iter().map(Bytes::len).sum::<usize>() + 2;
        let mut head = header(BESIDE, size);
        head.put_u16_le(server::DRAW_COPY);
        self.outbox.push_back(head.freeze());
        self.outbox.extend(body);
    }
}

impl Packing {
    /// The picture, packed; empty where that fails. Takes some 10 ms for a million pixels.
    pub fn run(&self) -> Vec<u8> {
        let Some(quality) = self.quality else { return block::compress(&self.pixels) };
        let (Ok(width), Ok(height)) = (u16::try_from(self.width), u16::try_from(self.height))
        else {
            return Vec::new();
        };
        let mut data = Vec::with_capacity(self.pixels.len() / 16);
        let mut encoder = jpeg_encoder::Encoder::new(&mut data, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        let encoded = encoder.encode(&self.pixels, width, height, ColorType::Bgra);
        if encoded.is_err() {
            data.clear();
        }
        data
    }
}

/// The mini header of a message.
fn header(kind: u16, size: usize) -> BytesMut {
    let mut head = BytesMut::with_capacity(HEADER_BYTES + 2);
    put_mini_header(kind, size, &mut head);
    head
}

fn kind_of(message: &[u8]) -> u16 {
    message.first_chunk::<2>().map_or(0, |kind| u16::from_le_bytes(*kind))
}
