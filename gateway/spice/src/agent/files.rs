//! Files on their way into the guest (`spice/vd_agent.h`, `VD_AGENT_FILE_XFER_*`).
//!
//! ```text
//!   send ─START─▶ agent ─STATUS CAN_SEND_DATA─▶ Ready ─ data ─DATA─▶ agent ─STATUS SUCCESS─▶ Done
//! ```
//!
//! A file is here only as far as the guest's tokens let it go on: its owner hands in no more than
//! [`FILE_WINDOW_BYTES`] beyond what [`FileStatus::Taken`] has told.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Agent, AgentEvent};

/// Files that are on their way at once.
pub const FILES_MAX: usize = 4;
/// Bytes of one file that wait for the guest: with them a line of 50 ms carries 5 MB/s.
pub const FILE_WINDOW_BYTES: u64 = 256 << 10;
/// Bytes of a name: what file systems have.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Bytes of one DATA message; half of what other clients send, so that what is copied meanwhile need
/// not wait long.
const DATA_BYTES_MAX: usize = 32 << 10;
/// Events that nobody took; one for each file and message is far less.
const EVENTS_MAX: usize = 256;

/// `VD_AGENT_FILE_XFER_STATUS_*`
mod result {
    pub(super) const CAN_SEND_DATA: u32 = 0;
    pub(super) const CANCELLED: u32 = 1;
    pub(super) const SUCCESS: u32 = 3;
    pub(super) const NOT_ENOUGH_SPACE: u32 = 4;
    pub(super) const SESSION_LOCKED: u32 = 5;
    pub(super) const AGENT_NOT_CONNECTED: u32 = 6;
    pub(super) const DISABLED: u32 = 7;
}

/// A file to the guest. Its name is shown in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct FileOffer {
    /// The owner's number for it.
    pub id: u32,
    /// What to call it; made harmless before it is sent.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

impl std::fmt::Debug for FileOffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "file {} of {} bytes", self.id, self.size)
    }
}

/// How a file gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStatus {
    /// The guest waits for its bytes.
    Ready,
    /// So many of its bytes in all have gone to the guest.
    Taken(u64),
    /// It is in the guest, whole.
    Done,
    /// It is not, and nothing more is taken of it.
    Failed(FileFailure),
}

/// Why a file does not come into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFailure {
    /// Somebody or something in the guest does not want it.
    Cancelled,
    /// The guest's disk has only so many bytes of room.
    NoRoom(u64),
    /// Its screen is locked.
    Locked,
    /// Nobody is signed in there.
    NobodyThere,
    /// It takes no files.
    Disabled,
    /// Too many are on their way.
    TooMany,
    /// The agent went away meanwhile.
    AgentGone,
    /// Anything else, also an owner that does not keep to the window or the size.
    Broken,
}

/// All of one agent's files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// INVARIANT: at most [`FILES_MAX`].
    open: BTreeMap<u32, File>,
    /// The file whose turn it was last.
    last: u32,
    /// Starts and cancels. INVARIANT: at most two for each file, and those of cancelled ones go out
    /// with the next tokens.
    messages: VecDeque<(u32, Vec<u8>)>,
    events: VecDeque<AgentEvent>,
}

#[derive(Debug)]
struct File {
    size: u64,
    is_ready: bool,
    /// Handed in so far. INVARIANT: taken <= handed <= size.
    handed: u64,
    /// Gone to the guest so far.
    taken: u64,
    waiting: VecDeque<Bytes>,
    /// An empty file's only message was sent, or a full one's last.
    is_sent: bool,
}

/// Types of the messages.
pub(super) mod kind {
    pub(in crate::agent) const START: u32 = 10;
    pub(in crate::agent) const STATUS: u32 = 11;
    pub(in crate::agent) const DATA: u32 = 12;
}

impl Agent {
    /// Offers a file; [`AgentEvent::File`] tells how it gets on. `VDAgentFileXferStartMessage`
    pub fn send_file(&mut self, offer: &FileOffer) {
        let id = offer.id;
        let abilities = self.abilities();
        let failure = if !abilities.files {
            Some(FileFailure::Disabled)
        } else if FILES_MAX <= self.files.open.len() || self.files.open.contains_key(&id) {
            Some(FileFailure::TooMany)
        } else {
            None
        };
        if let Some(failure) = failure {
            self.files.tell(id, FileStatus::Failed(failure));
            return;
        }
        let name = harmless_name(&offer.name, self.capabilities().has_long_line_ends());
        let mut body = Vec::new();
        body.put_u32_le(id);
        // A key file as GLib reads it, with the end of a C string.
        let text = format!("[vdagent-file-xfer]\nname={name}\nsize={}\n\0", offer.size);
        body.put_slice(text.as_bytes());
        self.files.messages.push_back((kind::START, body));
        let file = File {
            size: offer.size,
            is_ready: false,
            handed: 0,
            taken: 0,
            waiting: VecDeque::new(),
            is_sent: false,
        };
        self.files.open.insert(id, file);
    }

    /// Hands in the next bytes of a file that is [`FileStatus::Ready`].
    /// `VDAgentFileXferDataMessage`
    pub fn file_data(&mut self, id: u32, data: Bytes) {
        let Some(file) = self.files.open.get_mut(&id) else { return };
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let handed = file.handed.saturating_add(length);
        let fits = handed <= file.size && handed - file.taken <= FILE_WINDOW_BYTES;
        if !file.is_ready || !fits {
            self.files.tell(id, FileStatus::Failed(FileFailure::Broken));
            self.cancel_file(id);
            return;
        }
        file.handed = handed;
        if !data.is_empty() {
            file.waiting.push_back(data);
        }
    }

    /// Gives a file up. `VDAgentFileXferStatusMessage`
    pub fn cancel_file(&mut self, id: u32) {
        if self.files.open.remove(&id).is_some() {
            // One that was not told of yet never will be.
            let before = self.files.messages.len();
            self.files.messages.retain(|message| !is_start(message, id));
            if before == self.files.messages.len() && self.abilities().files {
                let mut body = Vec::new();
                body.put_u32_le(id);
                body.put_u32_le(result::CANCELLED);
                self.files.messages.push_back((kind::STATUS, body));
            }
        }
    }

    /// What happened when something was sent, or refused; to be taken after [`Agent::transmit`].
    pub fn take_file_events(&mut self) -> Vec<AgentEvent> {
        self.files.take_events()
    }

    /// A status of the agent: id, result, details.
    pub(super) fn file_status(&mut self, id: u32, result: u32, free: Option<u64>) {
        // Whoever was told of no file yet knows nothing of it.
        if self.files.messages.iter().any(|message| is_start(message, id)) {
            return;
        }
        let Some(file) = self.files.open.get_mut(&id) else { return };
        let failure = match result {
            result::CAN_SEND_DATA => {
                if !std::mem::replace(&mut file.is_ready, true) {
                    self.files.tell(id, FileStatus::Ready);
                }
                return;
            }
            result::SUCCESS if file.is_sent => {
                self.files.open.remove(&id);
                self.files.tell(id, FileStatus::Done);
                return;
            }
            result::CANCELLED => FileFailure::Cancelled,
            result::NOT_ENOUGH_SPACE => FileFailure::NoRoom(free.unwrap_or(0)),
            result::SESSION_LOCKED => FileFailure::Locked,
            result::AGENT_NOT_CONNECTED => FileFailure::NobodyThere,
            result::DISABLED => FileFailure::Disabled,
            _ => FileFailure::Broken,
        };
        self.files.open.remove(&id);
        self.files.tell(id, FileStatus::Failed(failure));
    }
}

impl Files {
    /// What was told and not yet taken.
    pub(super) fn take_events(&mut self) -> Vec<AgentEvent> {
        self.events.drain(..).collect()
    }

    /// The agent is gone, and with it what it had of files.
    pub(super) fn forget(&mut self) -> Vec<AgentEvent> {
        let open = std::mem::take(&mut self.open);
        self.messages.clear();
        let gone = FileStatus::Failed(FileFailure::AgentGone);
        open.into_keys().map(|id| AgentEvent::File(id, gone)).collect()
    }

    /// The next message: its type, its fields, and the file's bytes behind them. Files take turns.
    pub(super) fn next_message(&mut self) -> Option<(u32, Vec<u8>, Bytes)> {
        if let Some((kind, body)) = self.messages.pop_front() {
            return Some((kind, body, Bytes::new()));
        }
        let is_due = |file: &File| {
            let is_empty = file.size == 0 && !file.is_sent;
            file.is_ready && (is_empty || !file.waiting.is_empty())
        };
        let later = self.open.range(self.last.saturating_add(1)..);
        let earlier = self.open.range(..=self.last);
        let id = later.chain(earlier).find(|(_, file)| is_due(file)).map(|(id, _)| *id)?;
        self.last = id;
        let file = self.open.get_mut(&id)?;
        let data = file.take(DATA_BYTES_MAX);
        let length = u64::try_from(data.len()).unwrap_or(0);
        file.taken += length;
        file.is_sent = file.taken == file.size;
        let taken = file.taken;
        let mut body = Vec::new();
        body.put_u32_le(id);
        body.put_u64_le(length);
        self.tell(id, FileStatus::Taken(taken));
        Some((kind::DATA, body, data))
    }

    fn tell(&mut self, id: u32, status: FileStatus) {
        // Nobody listens: what was told first is of no use any more.
        if EVENTS_MAX <= self.events.len() {
            self.events.pop_front();
        }
        self.events.push_back(AgentEvent::File(id, status));
    }
}

impl File {
    /// Takes up to so many bytes of what waits.
    fn take(&mut self, most: usize) -> Bytes {
        let mut taken = BytesMut::new();
        while taken.len() < most {
            let Some(first) = self.waiting.front_mut() else { break };
            let count = first.len().min(most - taken.len());
            taken.extend_from_slice(&first.split_to(count));
            if !first.has_remaining() {
                self.waiting.pop_front();
            }
        }
        taken.freeze()
    }
}

/// Whether a message is the one that offers this file.
fn is_start((kind, body): &(u32, Vec<u8>), id: u32) -> bool {
    *kind == kind::START && body.starts_with(&id.to_le_bytes())
}

/// A file name without folders, control characters and what the guest's system does not allow.
fn harmless_name(name: &str, is_windows: bool) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let allowed = last.chars().filter(|letter| !letter.is_control());
    let name: String = allowed
        .map(|letter| match letter {
            ':' | '*' | '?' | '"' | '<' | '>' | '|' if is_windows => '_',
            other => other,
        })
        .collect();
    let end = name.floor_char_boundary(FILE_NAME_BYTES_MAX);
    // Systems differ in what they make of blanks and full stops at the end.
    let name = name.get(..end).unwrap_or_default().trim().trim_end_matches('.').trim_end();
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests;
