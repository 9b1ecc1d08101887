//! The contract of the hypervisor port, kept by the simulated host and by libvirt for real.
//!
//! The tests in `libvirt` need root, libvirt, QEMU and the micro template, as CI has them.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::panic, reason = "a panic is a failed test")]

mod contract;
mod libvirt;
mod private_libvirt;
mod simulated;

use std::path::{Path, PathBuf};
use std::process::Command;

use vidi_hypervisor::{DirectBoot, ProbeGuest};

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The micro template's folder; built when it is not in the cache.
pub(crate) struct Micro {
    /// The disk, qcow2.
    pub(crate) disk: PathBuf,
    /// Kernel and initramfs.
    pub(crate) guest: ProbeGuest,
}

impl Micro {
    /// Builds it, or takes it from the cache.
    pub(crate) fn built() -> Self {
        let output = Command::new(repository().join("packaging/images/build"))
            .arg("micro")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the micro template cannot be built: {errors}");
        let folder = PathBuf::from(text.lines().last().unwrap());
        let boot = DirectBoot {
            kernel: folder.join("vmlinuz"),
            initrd: Some(folder.join("initrd")),
            cmdline: "console=ttyS0 quiet".to_owned(),
        };
        Self { disk: folder.join("disk.qcow2"), guest: ProbeGuest { boot, memory_mib: 256 } }
    }
}
