//! One task for each session: wakes on its guest, its viewers and its deadlines, and carries out what
//! the display engine decides.

pub mod guest;
pub mod registry;
pub mod session;
