//! Pure functions from the whole world to steps: what to write, whom to tell.

mod assignments;
pub mod audit;
pub mod batches;
pub mod decide;
pub mod desktops;
mod doubt;
pub mod expiry;
pub mod groups;
mod host_rules;
pub mod hosts;
pub mod machines;
pub mod messages;
pub mod operations;
pub mod placement;
pub mod pools;
pub mod presence;
pub mod quota;
pub mod rollouts;
pub mod scheduler;
pub mod sessions;
pub mod settle;
pub mod templates;
pub mod tenants;
pub mod usage;
pub mod users;
pub mod wanted;

pub use decide::{Decided, View, decide};
