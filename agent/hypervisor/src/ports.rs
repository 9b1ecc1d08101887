//! The ports toward the host: domains, volumes, memory.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use vidi_kit::ids::DesktopId;

use crate::error::{HypervisorError, VolumesError};
use crate::model::{
    DomainEnd, DomainSpec, HostFacts, HostVersions, ImageDigest, ObservedDomain, ProbeGuest,
    ProbeOutcome,
};

/// Bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The host's end of a guest's port. It ends when the guest or the hypervisor's daemon does: open it
/// again. Dropping it closes the port; QEMU lets one at a time be open.
pub type GuestStream = Box<dyn ByteStream>;

/// Who reads what a SPICE server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpiceReader {
    /// The edge, which decodes it: images as they are.
    Edge,
    /// Somebody behind it, over a network: the server may compress. QEMU's decides by the socket's
    /// family and compresses on none but TCP (spice-server, `fill_bits` in dcc-send.cpp).
    Onward,
}

/// What a domain shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screenshot {
    /// `image/x-portable-pixmap` or `image/png`.
    pub mime_type: String,
    /// The picture's file.
    pub bytes: Bytes,
}

/// Runs desktops as domains. Truth is [`Hypervisor::list`]; every other call may be repeated.
#[async_trait]
pub trait Hypervisor: Send + Sync + fmt::Debug {
    /// Every domain that is Vidi's or looks so, ours and foreign ones, by id.
    async fn list(&self) -> Result<Vec<ObservedDomain>, HypervisorError>;

    /// Starts a desktop's domain. Success when the same start (id, generation, start count) already
    /// runs; [`HypervisorError::Exists`] when another one does.
    async fn start(&self, spec: &DomainSpec) -> Result<(), HypervisorError>;

    /// Presses the power button (ACPI). The guest may take its time or not listen at all.
    async fn shutdown(&self, id: DesktopId) -> Result<(), HypervisorError>;

    /// Pulls the plug. Success when the domain is already gone.
    async fn destroy(&self, id: DesktopId) -> Result<(), HypervisorError>;

    /// A nonblocking stream socket to the domain's SPICE server, past its authentication: the link
    /// messages (REDQ) of one channel come next on it. Reading and writing is all that it is good for:
    /// it is a UNIX socket, or for [`SpiceReader::Onward`] one of TCP over loopback.
    async fn open_spice(
        &self,
        id: DesktopId,
        reader: SpiceReader,
    ) -> Result<OwnedFd, HypervisorError>;

    /// What the domain shows now.
    async fn screenshot(&self, id: DesktopId) -> Result<Screenshot, HypervisorError>;

    /// Opens the guest helper's port `dev.vidi.guest.0`; takes it over from who had it open.
    async fn open_guest_port(&self, id: DesktopId) -> Result<GuestStream, HypervisorError>;

    /// Asks the QEMU guest agent for a sign of life.
    async fn guest_agent_ping(&self, id: DesktopId) -> Result<(), HypervisorError>;

    /// Versions of libvirt's daemon and of QEMU.
    async fn versions(&self) -> Result<HostVersions, HypervisorError>;

    /// Changes at every hint that [`Hypervisor::list`] has something new: a domain's life cycle,
    /// the daemon gone or back. Hints may be lost and merged: list periodically as well.
    fn changes(&self) -> watch::Receiver<u64>;

    /// How a domain that is not there any more ended; none when that was not seen, or not yet: word of
    /// it may come some moments after the domain has left the list. A new start forgets it.
    fn end_of(&self, id: DesktopId) -> Option<DomainEnd>;

    /// Boots a guest with KVM, without disk and network and not named as a desktop, and says
    /// whether it became ready in time. The guest is gone when this returns.
    async fn boot_with_kvm(
        &self,
        guest: &ProbeGuest,
        within: Duration,
    ) -> Result<ProbeOutcome, HypervisorError>;
}

/// Keeps images and desktops' disks on one storage.
#[async_trait]
pub trait Volumes: Send + Sync + fmt::Debug {
    /// Whether the image is here, whole and verified.
    async fn image_present(&self, digest: &ImageDigest) -> Result<bool, VolumesError>;

    /// Where the image is or will be.
    fn image_path(&self, digest: &ImageDigest) -> PathBuf;

    /// Where the desktop's overlay is or will be.
    fn overlay_path(&self, desktop: DesktopId) -> PathBuf;

    /// How many bytes of an image were fetched so far; go on from there.
    async fn partial_bytes(&self, digest: &ImageDigest) -> Result<u64, VolumesError>;

    /// Adds a chunk at `offset`, which is where the partial image ends. Returns the new end.
    async fn append_partial(
        &self,
        digest: &ImageDigest,
        offset: u64,
        chunk: Bytes,
    ) -> Result<u64, VolumesError>;

    /// Verifies the partial image, makes it read-only and renames it into place. A wrong one is
    /// removed, so that it is fetched again from the start.
    async fn finish_image(&self, digest: &ImageDigest) -> Result<PathBuf, VolumesError>;

    /// The desktop's overlay on the image; made when it is not there.
    async fn ensure_overlay(
        &self,
        desktop: DesktopId,
        base: &ImageDigest,
    ) -> Result<PathBuf, VolumesError>;

    /// Removes the desktop's overlay; success when there is none.
    async fn remove_overlay(&self, desktop: DesktopId) -> Result<(), VolumesError>;

    /// Every desktop that has an overlay here.
    async fn list_overlays(&self) -> Result<Vec<DesktopId>, VolumesError>;

    /// Space left, MiB.
    async fn free_mib(&self) -> Result<u64, VolumesError>;
}

/// Reads what the host has.
pub trait HostMemory: Send + Sync + fmt::Debug {
    /// The facts now.
    fn facts(&self) -> std::io::Result<HostFacts>;
}
