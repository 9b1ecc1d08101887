//! One real thing behind each port.

pub mod authority;
pub mod etcd;
mod history;
pub mod images;
pub mod local_directory;
pub mod memory;
mod rules;
pub mod sled;
