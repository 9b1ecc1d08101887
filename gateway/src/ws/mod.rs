//! Websockets.

pub mod display;
pub mod pump;
pub(crate) mod seat;
