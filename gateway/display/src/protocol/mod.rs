//! The records of `docs/display-protocol.md`, in both directions.

mod incoming;
pub(crate) mod media;
mod monitors;
mod outgoing;
mod sharing;

pub use incoming::{
    BrowserHello, Buttons, CLIPBOARD_PART_BYTES_MAX, ClipboardPart, MESSAGE_BYTES_MAX, Malformed,
    RECORD_BYTES_MAX, VideoWish, ViewerMessage, decode,
};
pub use media::{FILE_PART_BYTES_MAX, FileMessage, Speech};
pub use monitors::{Monitor, MonitorWindow};
pub use outgoing::{
    Codec, CursorPicture, PointerMode, Record, STATUS_TEXT_BYTES_MAX, SessionState, TileSlot,
    VideoPicture,
};
pub use sharing::{AskedFor, Asking, Part, Person, RecordingState, SharingMessage, SharingState};

/// The version both hellos carry.
pub const VERSION: u16 = 1;

/// Bytes before the body of a record: type, view, reserved, length.
pub const HEADER_BYTES: usize = 8;

/// The first monitor, and every record about the whole session.
pub const FIRST_VIEW: u8 = 0;
