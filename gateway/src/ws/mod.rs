//! Websockets.

pub mod display;
pub mod pump;
