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
//! picture in every pixel, and so it does, for some moment, at every frame end.

mod cache;
mod clipboard;
mod credit;
mod damage;
mod encoding;
mod error;
pub mod framebuffer;
mod input;
mod notices;
mod parts;
pub mod protocol;
mod rule;
mod session;
mod viewer;
mod window;

pub use clipboard::{AgentCommand, Policy};
pub use credit::IN_SOCKET_MESSAGES_MAX;
pub use encoding::{EncodeJob, Encoded, JobId, encode};
pub use error::DisplayError;
pub use input::InputEvent;
pub use session::{Cursor, Effect, Session, VIEWERS_MAX, ViewerId, ViewerRights};
pub use viewer::ViewerStatistics;
