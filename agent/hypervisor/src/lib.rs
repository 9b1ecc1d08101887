//! What an agent needs of its host: desktops as domains, their disks, memory, acceleration.
//!
//! ```text
//!  agent ──▶ ports: Hypervisor ── libvirt (virt, threads, events) ──▶ libvirtd ──▶ QEMU
//!              │      Volumes  ── adapters::local_volumes ──▶ qemu-img, files
//!              │      HostMemory ─ adapters::linux_host ──▶ /proc
//!              └──▶ simulated: all three in memory, with faults, for tests
//! ```
//!
//! Constructors, none of which blocks:
//! - `libvirt::LibvirtHypervisor::open(LibvirtOptions { uri, installation, host })`
//! - `adapters::local_volumes::LocalVolumes::open(folder)`
//! - `adapters::linux_host::LinuxHost`
//! - `simulated::SimulatedHypervisor::new(tasks, host)`, `simulated::SimulatedVolumes::new()`
//! - `acceleration::decide(&hypervisor, &AccelerationOptions { forced, guest, cache_file })` gives
//!   an `AccelerationVerdict { acceleration, reason, problems }`; `acceleration::repair_kvm_device()`
//!   before it, where root may do what udev should have done

pub mod acceleration;
pub mod adapters;
pub mod error;
pub mod guest_port;
pub mod libvirt;
pub mod model;
pub mod picture;
pub mod ports;
pub mod simulated;
mod simulated_volumes;

pub use error::{HypervisorError, VolumesError};
pub use model::{
    Acceleration, DesktopMark, DirectBoot, DomainEnd, DomainPower, DomainSpec, HostFacts,
    HostVersions, ImageDigest, ObservedDomain, Ownership, PauseCause, ProbeGuest, ProbeOutcome,
    Video,
};
pub use ports::{
    ByteStream, GuestStream, HostMemory, Hypervisor, Screenshot, SpiceReader, Volumes,
};
