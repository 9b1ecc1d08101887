//! Generates the Rust side of the contract.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for folder in ["vidi/v1", "vidi/store/v1"] {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("vidi.bin");
    tonic_prost_build::configure()
        .bytes("vidi.v1.UploadTemplateRequest.part.chunk")
        .bytes("vidi.v1.FetchImageResponse.chunk")
        .bytes("vidi.v1.ChannelRequest.data")
        .bytes("vidi.v1.ChannelResponse.data")
        .bytes("vidi.v1.PeerRequest.data")
        .bytes("vidi.v1.PeerResponse.data")
        .bytes("vidi.v1.BackUpResponse.chunk")
        .file_descriptor_set_path(descriptors)
        .compile_protos(&files, &[Path::new(".").to_path_buf()])?;
    println!("cargo:rerun-if-changed=vidi");
    Ok(())
}
