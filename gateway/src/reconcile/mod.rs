//! One task for each session: wakes on its guest, its viewers and its deadlines, and carries out what
//! the display engine decides.

mod figures;
pub mod guest;
pub mod registry;
pub mod session;
