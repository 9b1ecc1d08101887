//! One task for each session: wakes on its guest, its viewers and its deadlines, and carries out what
//! the display engine decides.

mod encoding;
mod figures;
pub mod guest;
mod heard;
mod leaving;
mod mark;
mod people;
mod recorder;
pub mod registry;
pub mod session;
mod sharing;
mod sound;
