//! The real things behind the ports.

pub mod admission;
pub mod controller;
pub mod dial;
pub mod direct;
pub mod recordings;
pub mod relay;
