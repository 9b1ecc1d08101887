//! Why a controller cannot start or go on.

use vidi_kit::telemetry::TelemetryError;
use vidi_kit::tls::TlsError;

use crate::adapters::{etcd, sled};
use crate::bootstrap::BootstrapError;
use crate::ports::DirectoryError;

/// Why a controller cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The embedded store cannot be opened.
    #[error(transparent)]
    Store(#[from] sled::OpenError),
    /// The store in etcd cannot be opened.
    #[error(transparent)]
    Etcd(#[from] etcd::OpenError),
    /// The store was open and cannot be written any more.
    #[error(
        "the store failed and must be opened again ({0}): look at the disk of the `state` folder \
         and start the controller again"
    )]
    StoreBroken(String),
    /// What etcd says contradicts what it said before.
    #[error("etcd cannot be relied on any more: {0}")]
    EtcdBroken(String),
    /// The installation cannot be made or opened.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Passwords cannot be hashed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The own certificate or key cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Logs, metrics or health cannot be had.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The reconciler cannot begin.
    #[error("the controller cannot begin to lead")]
    Reconcile(#[from] crate::reconcile::StartError),
    /// A port or socket cannot be had, or a folder not be made.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The reflection service cannot read our own descriptors.
    #[error("the API's description cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
}
