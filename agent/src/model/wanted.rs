//! What the controller wants of this host.

use std::collections::BTreeMap;

use vidi_hypervisor::{ImageDigest, Video};
use vidi_kit::ids::{DesktopId, TraceId};

/// The whole wanted set, as last received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedSet {
    /// The connection on which it came; none when it is the journal's, or that connection has ended.
    pub connection: Option<u64>,
    /// Its number on that connection.
    pub number: u64,
    /// Desktops that this host is told to have; none before the first set of all.
    pub desktops: Option<BTreeMap<DesktopId, Wanted>>,
}

/// One wanted desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub id: DesktopId,
    /// Goes up with every change of it.
    pub generation: u64,
    /// On or off.
    pub wish: Wish,
    /// For people and libvirt's tools.
    pub title: String,
    /// Of the request that last changed it.
    pub trace: Option<TraceId>,
    /// What it is made of, or why what was sent cannot be used.
    pub template: Result<Template, String>,
}

/// The power that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Running.
    On,
    /// Off, by asking the guest first.
    Off,
    /// Off, by pulling the plug.
    OffNow,
    /// Gone, with its disk.
    Destroy,
}

/// A template's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Digest of the manifest.
    pub digest: String,
    /// Base of the overlay.
    pub disk: Image,
    /// Boot without a boot loader.
    pub boot: Option<TemplateBoot>,
    /// Memory, 64..=1048576 MiB.
    pub memory_mib: u32,
    /// Processors, 1..=256.
    pub vcpus: u32,
    /// Video device.
    pub video: Video,
    /// A sound card.
    pub sound: bool,
    /// How a start becomes ready.
    pub readiness: Readiness,
}

impl Template {
    /// Every image that has to be on the host.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        let boot = self.boot.iter().flat_map(|boot| [&boot.kernel, &boot.initrd]);
        std::iter::once(&self.disk).chain(boot)
    }
}

/// Kernel, initramfs and command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateBoot {
    /// The kernel.
    pub kernel: Image,
    /// The initramfs.
    pub initrd: Image,
    /// The kernel's command line.
    pub cmdline: String,
}

/// An image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its SHA-256.
    pub digest: ImageDigest,
    /// Its size, bytes.
    pub size_bytes: u64,
}

/// How a start becomes ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The guest's helper says `ready <uuid>`.
    Helper,
    /// The QEMU guest agent answers and the screen has more than one colour.
    Agent,
}
