//! What a desktop is to a hypervisor: its specification, what is observed, what the host has.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use uuid::Uuid;
use vidi_kit::ids::{DesktopId, HostId, InstallationId};

/// Domains of Vidi are named by this and the desktop's id.
pub const DOMAIN_NAME_PREFIX: &str = "vidi-";
/// Name of the virtio-serial port on which the guest's helper speaks.
pub const GUEST_PORT_NAME: &str = "dev.vidi.guest.0";

/// How the guest's processor is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Acceleration {
    /// By the processor.
    Kvm,
    /// Emulated: right, and slow.
    Tcg,
}

impl Acceleration {
    /// `kvm` or `tcg`, as in configuration and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Acceleration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Acceleration {
    type Err = BadAcceleration;

    fn from_str(text: &str) -> Result<Self, BadAcceleration> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(BadAcceleration),
        }
    }
}

/// The text is neither `kvm` nor `tcg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("acceleration is \"kvm\" or \"tcg\"")]
pub struct BadAcceleration;

/// The guest's video device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Video {
    /// Sends drawing commands where the guest has its driver.
    #[default]
    Qxl,
    /// Bitmaps; every guest can drive it.
    Vga,
    /// Bitmaps; for Wayland guests.
    Virtio,
}

/// Boot without a boot loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectBoot {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initramfs, where there is one.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
}

/// All that is needed to start a desktop's domain. Installation and host are the adapter's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSpec {
    /// The desktop; also the domain's UUID.
    pub id: DesktopId,
    /// Generation of the wanted desktop that this start follows.
    pub generation: u64,
    /// Which start of this desktop on this host it is, from 1.
    pub start_count: u64,
    /// For people; shown by libvirt's tools.
    pub title: String,
    /// Memory at most, 64..=1048576 MiB.
    pub memory_mib: u32,
    /// Processors, 1..=256.
    pub vcpus: u32,
    /// Video device.
    pub video: Video,
    /// A sound card.
    pub sound: bool,
    /// The overlay, qcow2.
    pub disk: PathBuf,
    /// Boot without a boot loader; else from the disk.
    pub boot: Option<DirectBoot>,
    /// How to run it.
    pub acceleration: Acceleration,
}

/// How a domain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainEnd {
    /// Its guest shut down.
    ByGuest,
    /// QEMU crashed, was killed or was told to end by somebody else than its guest.
    Otherwise,
}

/// What a domain of Vidi carries in its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesktopMark {
    /// The desktop.
    pub id: DesktopId,
    /// The installation that started it.
    pub installation: InstallationId,
    /// The host whose agent started it.
    pub host: HostId,
    /// Generation of the wanted desktop at its start.
    pub generation: u64,
    /// Counts the starts of this desktop on this host.
    pub start_count: u64,
    /// How it runs.
    pub acceleration: Acceleration,
}

impl DesktopMark {
    /// What is written into the domain of a start.
    pub fn of(spec: &DomainSpec, installation: InstallationId, host: HostId) -> Self {
        Self {
            id: spec.id,
            installation,
            host,
            generation: spec.generation,
            start_count: spec.start_count,
            acceleration: spec.acceleration,
        }
    }
}

/// Whether a domain may be touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Started by this installation on this host.
    Ours(DesktopMark),
    /// Looks like one of Vidi's, and is not ours: reported and left alone.
    Foreign,
}

/// Who paused a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseCause {
    /// An administrator or another program: left alone.
    External,
    /// QEMU itself, because of an I/O error (a full disk).
    IoError,
    /// The guest sleeps.
    Guest,
}

/// What a domain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainPower {
    /// QEMU is up, the guest does not run yet.
    Starting,
    /// The guest runs (which is not yet "ready").
    Running,
    /// The guest stands still.
    Paused(PauseCause),
    /// The guest is going down.
    ShuttingDown,
    /// There is a definition and no process.
    Off,
    /// The guest crashed.
    Crashed,
}

impl fmt::Display for DomainPower {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused(PauseCause::External) => "paused(external)",
            Self::Paused(PauseCause::IoError) => "paused(i/o error)",
            Self::Paused(PauseCause::Guest) => "paused(guest)",
            Self::ShuttingDown => "shutting down",
            Self::Off => "off",
            Self::Crashed => "crashed",
        })
    }
}

/// One domain that is Vidi's or looks so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedDomain {
    /// The domain's UUID; the desktop's id when it is ours.
    pub id: DesktopId,
    /// The domain's name.
    pub name: String,
    /// What it does.
    pub power: DomainPower,
    /// Whether it may be touched.
    pub ownership: Ownership,
}

impl ObservedDomain {
    /// The metadata, when the domain is ours.
    pub const fn mark(&self) -> Option<&DesktopMark> {
        match &self.ownership {
            Ownership::Ours(mark) => Some(mark),
            Ownership::Foreign => None,
        }
    }
}

/// Versions of what runs below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostVersions {
    /// libvirt's daemon, as `9.0.0`.
    pub libvirt: String,
    /// QEMU, as `7.2.22`.
    pub qemu: String,
}

/// What the host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Processors online.
    pub cpus: u32,
    /// MemTotal, MiB.
    pub memory_total_mib: u64,
    /// MemAvailable, MiB.
    pub memory_available_mib: u64,
    /// This boot of the machine (`boot_id`, random(4)).
    pub boot: Uuid,
}

/// The guest with which acceleration is probed: the micro template's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeGuest {
    /// Kernel and initramfs.
    pub boot: DirectBoot,
    /// Memory, MiB.
    pub memory_mib: u32,
}

/// What became of a probe's guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It said `ready`.
    Ready,
    /// It did not, and why.
    NotReady(String),
}

/// SHA-256 of an image file, as 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageDigest(String);

impl ImageDigest {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From the digest's bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for ImageDigest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let plain = text.len() == 64
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if plain { Ok(Self(text.to_owned())) } else { Err(BadDigest) }
    }
}

/// The text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image's digest is 64 lower-case hex digits")]
pub struct BadDigest;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_spelling_and_is_never_a_path() {
        let digest = ImageDigest::from_bytes(&[0xa5; 32]);
        assert_eq!(digest.as_str().parse(), Ok(digest.clone()));
        for wrong in ["", "../../etc/passwd", &"A5".repeat(32), &"a5".repeat(31)] {
            assert_eq!(wrong.parse::<ImageDigest>(), Err(BadDigest));
        }
    }
}
