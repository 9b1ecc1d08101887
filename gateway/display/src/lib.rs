//! The display engine: what a guest draws becomes what browsers show.
//!
//! ```text
//!   vidi-spice events ─▶ Session ── framebuffer, cursor, modes
//!                          │
//!                          ├─ Viewer ── damage, credit, open frame ─▶ Effect::Send
//!                          ├─ Viewer ...                          ─▶ Effect::Encode
//!   browser records ─▶ Input ── held keys and buttons             ─▶ Effect::Input
//!                   ─▶ Clipboard, Window ◀── agent's events       ─▶ Effect::Agent
//! ```
//!
//! Pure: no thread, no socket, no clock. The caller hands in events, results of jobs and the time
//! since an origin of its own, and carries out the effects that [`Session::poll`] gives.
//!
//! The property everything here serves: after quiet, what a viewer has drawn equals the guest's
//! picture in every pixel. At every frame end it equals that of some moment, but for what the
//! records themselves say is not exact or not of one moment.

mod activity;
mod cache;
mod changes;
mod clipboard;
mod content;
mod credit;
mod damage;
mod encoding;
mod error;
mod figures;
mod files;
pub mod framebuffer;
mod glyphs;
mod input;
mod monitors;
mod notices;
mod pace;
mod packed;
mod palette;
mod parts;
mod picture;
mod policy;
pub mod protocol;
mod rule;
mod session;
mod sound;
mod tile_cache;
mod video;
mod viewer;
mod watermark;
mod window;

pub use clipboard::AgentCommand;
pub use credit::IN_SOCKET_MESSAGES_MAX;
pub use encoding::{EncodeJob, Encoded, JobId, encode};
pub use error::DisplayError;
pub use figures::{PictureFigures, PictureForm, Sent};
pub use input::InputEvent;
pub use policy::Policy;
pub use session::{Cursor, Effect, Session, SoundWish, VIEWERS_MAX, ViewerId, ViewerRights};
pub use sound::SoundFigures;
pub use viewer::ViewerStatistics;
