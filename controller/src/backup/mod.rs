//! Backups: everything that is stored in one file, and back into a store.
//!
//! ```text
//!  Store::snapshot ─▶ file.rs ─▶ FILE ─▶ file.rs ─▶ rows.rs ─▶ restore.rs ─▶ another store, or the same
//!                     (digest)          (checked)   (in doubt)  (all of it, or none that a controller takes)
//! ```
//! A backup is older than what runs. What a host has and the backup does not is unknown, as after any loss,
//! and is left as it is; what both have is in doubt (`plan/doubt.rs`).

pub mod command;
pub mod file;
mod restore;
mod rows;

pub use file::{Backup, Chunks, FileError};
pub use restore::{Existing, RESTORED_KEY, RestoreError, Restored, restore, unfinished};
