//! The client side of SPICE without any input or output: bytes in, effects out.
//!
//! ```text
//!              receive(bytes)                       next_event()
//!   socket ───────────────────▶  MainChannel     ───────────────▶  MainEvent
//!          ◀───────────────────  DisplayChannel  ───────────────▶  DisplayEvent
//!              poll_transmit()   InputsChannel   ───────────────▶  InputsEvent
//!                                CursorChannel   ───────────────▶  CursorEvent
//!                                PlaybackChannel ───────────────▶  PlaybackEvent
//!                                RecordChannel   ───────────────▶  RecordEvent
//!                     Agent, in MainChannel  ────── handle() ─────▶  AgentEvent
//!                                      │
//!                                   Channel: link, framing, acknowledgements, pings
//! ```
//!
//! One value per SPICE channel, each over its own byte stream. The owner of the socket hands in
//! whatever it read, takes the events until there are none, then writes what
//! `poll_transmit` gives. Messages are decoded, and acknowledged to the server, when
//! their events are taken and not when their bytes arrive: not taking is back pressure.
//!
//! Order of a session: link main; its [`MainEvent::Init`] names the session, its
//! [`MainEvent::Channels`] the channels; then link the others with that `connection_id`, side by
//! side, since each link costs the server a new RSA key. `tests/live.rs` shows all of it.
//!
//! Clients of others are passed on: [`LinkRequest`] and [`ServerKey`] are the server's side of the link,
//! [`PassedLink`] the client's in their name; what follows the link is theirs.
//!
//! A server on the same host is asked for images as they are. One that is reached over a network
//! may compress them in any way of SPICE: then every [`DisplayChannel`] of the session is made with
//! a clone of one [`ImageTransfer`], since images of one refer to those of another, and a channel
//! may have to stand still until another one was read ([`DisplayChannel::awaited_image`]).
//!
//! The protocol is described by `spice.proto` of spice-common (the layout of each message),
//! `spice/protocol.h` (link and headers) and `spice/enums.h` (numbers) of spice-protocol; each
//! item here names its part of them. All numbers on the wire are little endian.
//!
//! Every decoder is total and bounded: no input can make it panic or hold more than the limits
//! that are named beside it.

mod agent;
mod channel;
mod codec;
pub mod cursor;
mod delegate;
pub mod display;
mod error;
mod geometry;
mod inputs;
mod link;
mod main_channel;
mod playback;
mod record;
mod serving;
mod unsupported;
mod wire;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod totality;

pub use agent::{
    Agent, AgentAbilities, AgentEvent, ClipboardKind, ClipboardPiece, FILE_NAME_BYTES_MAX,
    FILE_WINDOW_BYTES, FILES_MAX, FileFailure, FileOffer, FileStatus, PNG_BYTES_MAX, SCREENS_MAX,
    TEXT_BYTES_MAX,
};
pub use channel::{
    Channel, ChannelEvent, ChannelWait, CommonEvent, MESSAGE_BYTES_MAX, Message, Notice,
    NoticeSeverity, OUTBOX_BYTES_MAX,
};
pub use codec::dictionary::GlzDictionary;
pub use cursor::{CursorChannel, CursorEvent, CursorShape};
pub use display::{Compression, DisplayChannel, DisplayEvent, ImageTransfer};
pub use error::{Refusal, SpiceError};
pub use geometry::{Point, Rect, SurfaceId};
pub use inputs::{InputsChannel, InputsEvent, Locks, MouseButton, Scancode, WheelStep};
pub use link::{Capabilities, ChannelKind, LinkSetup, Linked, Password, TicketSeed};
pub use main_channel::{
    ChannelName, MainChannel, MainEvent, MouseMode, MouseModes, MoveTarget, SessionInit,
};
pub use playback::{
    PlaybackChannel, PlaybackEvent, SOUND_CHANNELS_MAX, SOUND_PACKET_BYTES_MAX, SOUND_RATE_MAX,
    SoundCodec, SoundForm, Volume,
};
pub use record::{RecordChannel, RecordEvent};
pub use serving::{LinkRequest, PassedLink, ServerKey, TICKET_BYTES, link_refusal, offered};
pub use unsupported::{Feature, Operation, Unsupported};
