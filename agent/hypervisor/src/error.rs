//! What can go wrong at the ports, a variant for each thing that a caller can do about it.

use std::path::PathBuf;
use std::time::Duration;

use vidi_kit::ids::DesktopId;

/// Why the hypervisor did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HypervisorError {
    /// libvirt cannot be reached now; the adapter goes on trying by itself.
    #[error(
        "libvirt at {uri} cannot be reached: {text}; check that libvirtd (or virtqemud) runs and \
         that this user may use it"
    )]
    Unavailable {
        /// The URI that was tried.
        uri: String,
        /// libvirt's words.
        text: String,
    },
    /// There is no such domain now.
    #[error("the domain of desktop {0} is not there; it has ended or was never started")]
    NoDomain(DesktopId),
    /// A domain of that name or UUID exists and is not this one: other generation or other owner.
    #[error("desktop {id} cannot start: {text}")]
    Exists {
        /// The desktop.
        id: DesktopId,
        /// Whose domain it is.
        text: String,
    },
    /// The domain exists, but it is not of this installation and host: it is never touched.
    #[error("the domain of {0} belongs to another installation or host and is left alone")]
    Foreign(DesktopId),
    /// The domain was paused from outside: it is never touched.
    #[error("desktop {0} was paused from outside and is left alone; resume it with virsh")]
    PausedExternal(DesktopId),
    /// The host has not enough memory (or another resource) for it.
    #[error("the host has not enough memory for desktop {id}: {text}")]
    NoMemory {
        /// The desktop.
        id: DesktopId,
        /// The hypervisor's words.
        text: String,
    },
    /// The state of the domain does not allow it (not running, no guest agent, no such device).
    #[error("not possible now: {0}")]
    NotNow(String),
    /// The call did not end within its limit; it may still take effect.
    #[error("{what} did not end within {limit:?}; the outcome is unknown, list the domains again")]
    TimedOut {
        /// The call.
        what: &'static str,
        /// Its limit.
        limit: Duration,
    },
    /// Too many calls wait for their turn.
    #[error("too many calls wait for the hypervisor; try again later")]
    Busy,
    /// The specification cannot be a domain.
    #[error("the specification is not possible: {0}")]
    BadSpec(String),
    /// Whatever else the hypervisor refuses.
    #[error("{what} failed: {text}")]
    Refused {
        /// The call.
        what: &'static str,
        /// The hypervisor's words.
        text: String,
    },
}

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumesError {
    /// The file system is full.
    #[error("no space is left in {0}; free some or move the images folder to a larger disk")]
    NoSpace(PathBuf),
    /// The image is not here; fetch it first.
    #[error("image {0} is not on this host")]
    NoImage(String),
    /// The bytes are not what their digest says.
    #[error("image {expected} is damaged: its bytes have the digest {found}; it is fetched again")]
    WrongDigest {
        /// What was wanted, lower-case hex.
        expected: String,
        /// What is there, lower-case hex.
        found: String,
    },
    /// The image is not a disk that may be the base of a desktop.
    #[error("image {digest} cannot be a desktop's base: {text}; upload the template again")]
    BadImage {
        /// The image.
        digest: String,
        /// What is wrong.
        text: String,
    },
    /// A chunk does not continue the partial file.
    #[error("a chunk at {given} does not continue the partial image, which has {have} bytes")]
    WrongOffset {
        /// Bytes that are there.
        have: u64,
        /// Where the chunk belongs.
        given: u64,
    },
    /// `qemu-img` failed or is not installed.
    #[error("qemu-img {what} failed: {text}")]
    Tool {
        /// Its subcommand.
        what: &'static str,
        /// Its words.
        text: String,
    },
    /// A file or folder cannot be used.
    #[error("cannot {what} {path}")]
    File {
        /// The act.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
