//! What a desktop is charged on its host.

pub use crate::model::quota::charged_mib;
