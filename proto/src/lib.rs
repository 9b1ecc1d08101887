//! The contract between Vidi's parts, as Rust: generated from the `.proto` files beside it.

/// The public API and the links between the daemons: package `vidi.v1`.
pub mod v1 {
    tonic::include_proto!("vidi.v1");
}

/// Records as the controller stores them: package `vidi.store.v1`.
pub mod store {
    /// Version 1 of the stored form.
    pub mod v1 {
        tonic::include_proto!("vidi.store.v1");
    }
}

/// The descriptor set of everything above, for reflection and for JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vidi.bin"));
