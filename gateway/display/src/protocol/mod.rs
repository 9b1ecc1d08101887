//! The records of `docs/display-protocol.md`, in both directions.

mod incoming;
pub mod kind;
pub(crate) mod media;
mod messages;
mod monitors;
mod outgoing;
mod records;
mod sharing;

pub use incoming::{
    BrowserHello, Buttons, ClipboardPart, MESSAGE_BYTES_MAX, Malformed, VideoWish, ViewerMessage,
    decode,
};
pub use media::{FileMessage, Speech};
pub use messages::UserMessage;
pub use monitors::{Monitor, MonitorWindow};
pub use outgoing::{
    Codec, CursorPicture, PointerMode, Record, SessionState, TileSlot, VideoPicture,
};
pub use records::{HEADER_BYTES, ToldState, records};
pub use sharing::{AskedFor, Asking, Part, Person, RecordingState, SharingMessage};

/// The version both hellos carry.
pub const VERSION: u16 = 1;

/// The whole picture, which is one however many monitors there are, and every record about the whole
/// session.
const FIRST_VIEW: u8 = 0;
