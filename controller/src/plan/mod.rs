//! Pure functions from the whole world to steps: what to write, whom to tell.

pub mod decide;
pub mod desktops;
pub mod expiry;
pub mod hosts;
pub mod machines;
pub mod operations;
pub mod placement;
pub mod pools;
pub mod presence;
pub mod scheduler;
pub mod sessions;
pub mod settle;
pub mod templates;
pub mod tenants;
pub mod usage;
pub mod users;
pub mod wanted;

pub use decide::{Decided, View, decide};
