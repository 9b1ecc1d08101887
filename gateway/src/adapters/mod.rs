//! The real things behind the ports.

pub mod controller;
pub mod relay;
