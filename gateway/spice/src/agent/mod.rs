//! The agent in the guest: clipboard, screen size and files, in chunks inside the main channel
//! (`spice/vd_agent.h`; `spice.proto`, `MainChannel`, `agent_*`).
//!
//! ```text
//!   MainEvent ──handle──▶ tokens, chunks ─▶ messages ─▶ AgentEvent
//!   offer, give, arrange ─▶ queue ─▶ chunks ──transmit──▶ MainChannel, one token each
//! ```
//!
//! Each side opens with its capabilities; what an agent says before it has answered ours is meant
//! for the client before and is passed over. Nothing that an agent sends is an error: what is not
//! understood is skipped, and an agent that breaks the framing is left alone until it starts anew.

mod files;
mod message;
mod screens;

use std::collections::VecDeque;
use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use self::files::Files;
pub use self::files::{
    FILE_NAME_BYTES_MAX, FILE_WINDOW_BYTES, FILES_MAX, FileFailure, FileOffer, FileStatus,
};
use self::message::{
    Capabilities, HEADER_BYTES, Header, Incoming, Outgoing, with_header, with_line_ends,
};
pub use self::screens::SCREENS_MAX;
use crate::error::SpiceError;
use crate::main_channel::{MainChannel, MainEvent};

/// Longest text that is carried over, in bytes of UTF-8: a long book.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Longest picture that is carried over, in bytes of PNG: a full screen with a photograph.
pub const PNG_BYTES_MAX: usize = 8 << 20;
/// The longer of the two; the agent is told not to send more.
const CLIPBOARD_BYTES_MAX: usize = PNG_BYTES_MAX;

/// `VD_AGENT_MAX_DATA_SIZE`: bytes of one chunk.
const CHUNK_BYTES_MAX: usize = 2048;
/// Chunks that the server may send before any is paid back; 64 KiB.
const TOKENS_GRANTED: u32 = 32;
/// Chunks are paid back in bundles of this many.
const TOKENS_PER_RETURN: u32 = TOKENS_GRANTED / 2;
/// Bytes that may wait in the main channel: a server that grants many tokens is not trusted to read.
const UNSENT_BYTES_MAX: usize = 64 << 10;
/// Answers that wait for tokens; a guest that asks for more at once gets no answer to those.
const ANSWERS_MAX: usize = 4;

/// The client's side of the agent.
#[derive(Debug, Default)]
pub struct Agent {
    state: State,
    /// AGENT_START is to be sent.
    start_is_due: bool,
    /// Chunks that may be sent.
    tokens: u32,
    /// Chunks that were taken and not yet paid back.
    taken: u32,
    reading: Reading,
    /// What the guest is to give of what it has copied last.
    asked: Option<ClipboardKind>,
    owner: Owner,
    /// Number of the next grab, whosever it is.
    serial: u32,
    /// INVARIANT: at most one of each kind, and `ANSWERS_MAX` answers.
    queue: VecDeque<Outgoing>,
    /// What is left of the message that is being sent, and the clipboard's bytes behind it.
    sending: (Bytes, Bytes),
    files: Files,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is no agent.
    #[default]
    Away,
    /// It has not answered our capabilities yet.
    Greeted,
    Ready(Capabilities),
    /// What it sends makes no sense.
    Broken,
}

/// Whose clipboard both sides show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    Nobody,
    Guest,
    Client,
}

/// Where in the agent's bytes the next one is.
#[derive(Debug)]
enum Reading {
    Header(BytesMut),
    Body { header: Header, bytes: BytesMut, size: usize },
    Skipped { left: usize },
}

/// What the agent tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// What it can has become this; nothing when it is gone.
    Abilities(AgentAbilities),
    /// Somebody copied something in the guest; [`Agent::request`] asks for it.
    Offered {
        /// There is a text.
        text: bool,
        /// There is a picture.
        png: bool,
    },
    /// What was asked for; empty where the agent has nothing to give, as when it is too large.
    Given(ClipboardPiece),
    /// What was offered last by the guest is no longer there.
    Released,
    /// The guest wants what was offered to it, to be answered by [`Agent::give`].
    Asked(Option<ClipboardKind>),
    /// How a file of [`Agent::send_file`] gets on, by its number.
    File(u32, FileStatus),
}

/// What an agent can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentAbilities {
    /// Take a clipboard and give its own.
    pub clipboard: bool,
    /// Change the size of the screen.
    pub monitors: bool,
    /// Take files.
    pub files: bool,
}

/// What can be on a clipboard; other kinds are not carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipboardKind {
    /// UTF-8, lines end with LF.
    Text,
    /// A PNG image.
    Png,
}

/// What somebody copied. It is shown in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct ClipboardPiece {
    /// What it is.
    pub kind: ClipboardKind,
    /// Its bytes.
    pub data: Bytes,
}

impl fmt::Debug for ClipboardPiece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} of {} bytes", self.kind, self.data.len())
    }
}

impl ClipboardKind {
    /// Most bytes of a piece.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Text => TEXT_BYTES_MAX,
            Self::Png => PNG_BYTES_MAX,
        }
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::Header(BytesMut::new())
    }
}

impl Agent {
    /// Takes an event of the main channel, and tells what the agent has to say.
    pub fn handle(&mut self, event: &MainEvent) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        match event {
            MainEvent::Init(init) => {
                self.tokens = init.agent_tokens;
                if init.agent_connected {
                    self.start(&mut events);
                }
            }
            MainEvent::AgentConnected(tokens) => {
                self.tokens = tokens.unwrap_or(self.tokens);
                self.start(&mut events);
            }
            MainEvent::AgentDisconnected(_) => self.forget(&mut events),
            MainEvent::AgentTokens(more) => self.tokens = self.tokens.saturating_add(*more),
            MainEvent::AgentData(chunk) => {
                self.taken = self.taken.saturating_add(1);
                self.take(chunk.clone(), &mut events);
            }
            _ => {}
        }
        events
    }

    /// Sends what may be sent now; whether there was anything.
    pub fn transmit(&mut self, main: &mut MainChannel) -> Result<bool, SpiceError> {
        let before = main.unsent();
        if std::mem::take(&mut self.start_is_due) {
            main.agent_start(TOKENS_GRANTED)?;
        }
        if TOKENS_PER_RETURN <= self.taken {
            main.agent_tokens(std::mem::take(&mut self.taken))?;
        }
        while 0 < self.tokens && main.unsent() < UNSENT_BYTES_MAX {
            let Some(chunk) = self.next_chunk() else { break };
            main.agent_data(&chunk)?;
            self.tokens -= 1;
        }
        Ok(before < main.unsent())
    }

    /// What it can now.
    pub fn abilities(&self) -> AgentAbilities {
        let capabilities = self.capabilities();
        AgentAbilities {
            clipboard: capabilities.has_clipboard(),
            monitors: capabilities.has_monitors(),
            files: capabilities.has_files(),
        }
    }

    /// Tells the guest that there is something to paste. `VDAgentClipboardGrab`
    pub fn offer(&mut self, kind: ClipboardKind) {
        if !self.abilities().clipboard {
            return;
        }
        if self.owner == Owner::Client && !self.capabilities().has_regrab() {
            self.queue_newest(Outgoing::Release);
        }
        // What waits is of an older offer.
        self.queue.retain(|waiting| !matches!(waiting, Outgoing::Clipboard(_)));
        self.owner = Owner::Client;
        self.asked = None;
        self.queue_newest(Outgoing::Grab(kind));
    }

    /// Tells the guest that what was offered is no longer there. `VDAgentClipboardRelease`
    pub fn release(&mut self) {
        if self.owner == Owner::Client {
            self.owner = Owner::Nobody;
            self.queue.retain(|waiting| !matches!(waiting, Outgoing::Grab(_)));
            self.queue_newest(Outgoing::Release);
        }
    }

    /// Answers [`AgentEvent::Asked`]; with nothing, the guest's program learns that there is
    /// nothing to paste. `VDAgentClipboard`
    pub fn give(&mut self, piece: Option<ClipboardPiece>) {
        let is_answer = |waiting: &&Outgoing| matches!(waiting, Outgoing::Clipboard(_));
        if self.abilities().clipboard && self.queue.iter().filter(is_answer).count() < ANSWERS_MAX {
            let long = self.capabilities().has_long_line_ends();
            let piece = piece.map(|piece| match piece.kind {
                ClipboardKind::Text => {
                    let data = with_line_ends(&piece.data, long).into();
                    ClipboardPiece { data, ..piece }
                }
                ClipboardKind::Png => piece,
            });
            self.queue.push_back(Outgoing::Clipboard(piece));
        }
    }

    /// Asks for what was copied in the guest; [`AgentEvent::Given`] follows unless it is too large
    /// or no longer there. `VDAgentClipboardRequest`
    pub fn request(&mut self, kind: ClipboardKind) {
        if self.owner == Owner::Guest {
            self.asked = Some(kind);
            self.queue_newest(Outgoing::Request(kind));
        }
    }

    const fn capabilities(&self) -> Capabilities {
        match self.state {
            State::Ready(capabilities) => capabilities,
            State::Away | State::Greeted | State::Broken => Capabilities::NONE,
        }
    }

    fn start(&mut self, events: &mut Vec<AgentEvent>) {
        self.forget(events);
        self.state = State::Greeted;
        self.start_is_due = true;
        self.queue.push_back(Outgoing::Announce { request: true });
    }

    /// There is no agent, or another one: nothing that was said holds. A message that was sent in
    /// part has no end: the server knows, and tells a new agent nothing of it.
    fn forget(&mut self, events: &mut Vec<AgentEvent>) {
        let able = self.abilities() != AgentAbilities::default();
        events.extend(self.files.take_events());
        events.extend(self.files.forget());
        *self = Self { tokens: self.tokens, ..Self::default() };
        if able {
            events.push(AgentEvent::Abilities(AgentAbilities::default()));
        }
    }

    fn take(&mut self, mut chunk: Bytes, events: &mut Vec<AgentEvent>) {
        if matches!(self.state, State::Away | State::Broken) {
            return;
        }
        if CHUNK_BYTES_MAX < chunk.len() {
            self.break_off(events);
            return;
        }
        while !chunk.is_empty() {
            match std::mem::take(&mut self.reading) {
                Reading::Header(mut bytes) => {
                    let missing = (HEADER_BYTES - bytes.len()).min(chunk.len());
                    bytes.extend_from_slice(&chunk.split_to(missing));
                    match bytes.first_chunk().map(Header::read) {
                        None => self.reading = Reading::Header(bytes),
                        Some(header) if header.is_known_protocol() => self.begin(header, events),
                        Some(_) => return self.break_off(events),
                    }
                }
                Reading::Body { header, mut bytes, size } => {
                    let missing = (size - bytes.len()).min(chunk.len());
                    bytes.extend_from_slice(&chunk.split_to(missing));
                    if bytes.len() < size {
                        self.reading = Reading::Body { header, bytes, size };
                    } else {
                        self.finish(header, &bytes.freeze(), events);
                    }
                }
                Reading::Skipped { left } => {
                    let skipped = left.min(chunk.len());
                    chunk.advance(skipped);
                    if skipped < left {
                        self.reading = Reading::Skipped { left: left - skipped };
                    }
                }
            }
        }
    }

    /// A header is there: its body is kept, or only counted.
    fn begin(&mut self, header: Header, events: &mut Vec<AgentEvent>) {
        match header.kept_size(self.asked) {
            Some(0) => self.finish(header, &Bytes::new(), events),
            Some(size) => {
                self.reading = Reading::Body { header, bytes: BytesMut::new(), size };
            }
            None => {
                let left = usize::try_from(header.size).unwrap_or(usize::MAX);
                self.reading = Reading::Skipped { left };
            }
        }
    }

    fn finish(&mut self, header: Header, body: &Bytes, events: &mut Vec<AgentEvent>) {
        let Some(message) = header.decode(body, self.capabilities()) else { return };
        if let Incoming::Announced { request, capabilities } = message {
            self.announced(request, capabilities, events);
        } else if let Incoming::FileStatus { id, result, free } = message {
            self.file_status(id, result, free);
            events.extend(self.take_file_events());
        } else if matches!(self.state, State::Ready(_)) {
            events.extend(self.clipboard(message));
        }
    }

    fn announced(&mut self, request: bool, theirs: Capabilities, events: &mut Vec<AgentEvent>) {
        let before = self.abilities();
        if request {
            self.queue_newest(Outgoing::Announce { request: false });
        }
        let is_answer = self.state == State::Greeted;
        if is_answer && request {
            // It asks because it has just started; its answer to ours follows.
            return;
        }
        self.state = State::Ready(theirs);
        if is_answer || request {
            // Both sides count from here on.
            (self.serial, self.owner, self.asked) = (0, Owner::Nobody, None);
        }
        if is_answer && theirs.has_limit() {
            self.queue_newest(Outgoing::MaxClipboard);
        }
        let abilities = self.abilities();
        if abilities != before {
            events.push(AgentEvent::Abilities(abilities));
        }
    }

    fn clipboard(&mut self, message: Incoming) -> Option<AgentEvent> {
        match message {
            Incoming::Announced { .. } | Incoming::FileStatus { .. } => None,
            Incoming::Grab { serial, text, png } => {
                // Both copied at once: the side that is watched by its user wins, ours.
                if serial.is_some_and(|serial| serial != self.serial) {
                    return None;
                }
                self.serial = self.serial.wrapping_add(1);
                self.owner = Owner::Guest;
                self.asked = None;
                self.queue.retain(|waiting| {
                    matches!(
                        waiting,
                        Outgoing::Announce { .. } | Outgoing::MaxClipboard | Outgoing::Monitors(_)
                    )
                });
                Some(AgentEvent::Offered { text, png })
            }
            Incoming::Request(kind) => {
                (self.owner == Owner::Client).then_some(AgentEvent::Asked(kind))
            }
            Incoming::Clipboard(kind, data) => {
                let kind = kind.filter(|kind| self.asked == Some(*kind))?;
                let data = match kind {
                    ClipboardKind::Text => self.text(&data)?,
                    ClipboardKind::Png => data,
                };
                Some(AgentEvent::Given(ClipboardPiece { kind, data }))
            }
            Incoming::Release if self.owner == Owner::Guest => {
                self.owner = Owner::Nobody;
                self.asked = None;
                Some(AgentEvent::Released)
            }
            Incoming::Release => None,
        }
    }

    /// A text of the guest as it is passed on, unless that makes it too long.
    fn text(&self, data: &[u8]) -> Option<Bytes> {
        let text = String::from_utf8_lossy(data);
        // Some agents count the end of a C string.
        let text = text.trim_end_matches('\0').as_bytes();
        let text = if self.capabilities().has_long_line_ends() {
            with_line_ends(text, false)
        } else {
            text.to_vec()
        };
        (text.len() <= TEXT_BYTES_MAX).then(|| text.into())
    }

    fn break_off(&mut self, events: &mut Vec<AgentEvent>) {
        let taken = self.taken;
        self.forget(events);
        self.taken = taken;
        self.state = State::Broken;
    }

    /// Replaces an older one of its kind.
    fn queue_newest(&mut self, newest: Outgoing) {
        let kind = std::mem::discriminant(&newest);
        self.queue.retain(|waiting| std::mem::discriminant(waiting) != kind);
        self.queue.push_back(newest);
    }

    /// The next bytes for the agent. A message begins a chunk of its own.
    fn next_chunk(&mut self) -> Option<Bytes> {
        if self.sending.0.is_empty() && self.sending.1.is_empty() {
            if let Some(next) = self.queue.pop_front() {
                let is_grab = matches!(next, Outgoing::Grab(_));
                self.sending = next.encode(self.capabilities(), self.serial);
                if is_grab {
                    self.serial = self.serial.wrapping_add(1);
                }
            } else {
                let (kind, fields, data) = self.files.next_message()?;
                self.sending = (with_header(kind, &fields, data.len()), data);
            }
        }
        let (head, data) = &mut self.sending;
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES_MAX);
        for bytes in [head, data] {
            let count = bytes.len().min(CHUNK_BYTES_MAX - chunk.len());
            chunk.extend_from_slice(&bytes.split_to(count));
        }
        Some(chunk.freeze())
    }
}

#[cfg(test)]
mod tests;
