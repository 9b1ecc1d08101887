//! What to do next: pure, from everything that is known.

pub mod desktop;
pub mod vanished;
