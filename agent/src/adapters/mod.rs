//! One real thing behind each port.

pub mod journal;
pub mod memory_journal;
