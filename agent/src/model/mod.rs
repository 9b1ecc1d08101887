//! What the agent and the relay know, and what may follow what; pure.

pub mod attachment;
pub mod observed;
pub mod record;
pub mod wanted;
