//! Everything that crosses a boundary is tested from here; nothing depends on this crate.
