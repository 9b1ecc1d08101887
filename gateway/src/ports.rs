//! What the gateway needs from outside.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use vidi_spice::Password;

use crate::error::GatewayError;
use crate::model::{RecordingAbout, Terms};

/// Chunks that wait between a channel's socket and its session: enough to keep the wire busy, little
/// enough that a slow session stops its guest instead of filling memory.
pub const CHUNKS_MAX: usize = 16;

/// What a session needs to reach its desktop once.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Its attach epoch.
    pub epoch: u64,
    /// Where the desktop is.
    pub way: Way,
    /// What holds while it is attached.
    pub terms: Terms,
}

/// The way to a desktop.
#[derive(Clone, Debug)]
pub enum Way {
    /// By the relay of its host.
    Relay(RelayTicket),
    /// It is a physical machine: its SPICE server is dialled by the gateway itself.
    Direct(DirectTicket),
}

/// A desktop behind a relay.
#[derive(Clone)]
pub struct RelayTicket {
    /// The signed grant.
    pub grant: Vec<u8>,
    /// `host:port` of the relay.
    pub address: String,
    /// The DNS name that the relay's certificate must carry.
    pub name: String,
}

/// A SPICE server that no relay stands before.
#[derive(Clone)]
pub struct DirectTicket {
    /// `host:port`.
    pub address: String,
    /// How it is known to be the right one; none: plain TCP.
    pub tls: Option<ServerTrust>,
    /// What it asks for before it opens a channel; empty where it asks for nothing.
    pub password: Password,
}

/// What a SPICE server's certificate must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTrust {
    /// PEM: what it must descend from, or be itself.
    pub ca: String,
    /// What it must be issued to.
    pub host_name: String,
}

impl fmt::Debug for RelayTicket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RelayTicket").field("relay", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for DirectTicket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DirectTicket")
            .field("address", &self.address)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// Gives tickets: the controller.
#[async_trait]
pub trait Tickets: Send + Sync + fmt::Debug {
    /// A ticket for `session` (its resource name), for the user behind `token`. `problem` is why the
    /// ticket before did not lead to a picture, in words for operators; empty: it did, or there was none.
    async fn ticket(
        &self,
        token: &str,
        session: &str,
        problem: &str,
    ) -> Result<Ticket, GatewayError>;
}

/// Reaches a desktop: by its relay, or a SPICE server over TCP or TLS.
#[async_trait]
pub trait Dial: Send + Sync + fmt::Debug {
    /// Attaches the session.
    async fn attach(&self, ticket: &Ticket) -> Result<Box<dyn Attachment>, GatewayError>;
}

/// An attached session: its desktop's channels can be opened until it ends.
#[async_trait]
pub trait Attachment: Send + Sync + fmt::Debug {
    /// Opens one more channel.
    async fn open(&self) -> Result<ChannelPipe, GatewayError>;
    /// The same for somebody over a network to whom its bytes go on as they are: images may be
    /// compressed.
    async fn open_onward(&self) -> Result<ChannelPipe, GatewayError> {
        self.open().await
    }
    /// Resolves when the attachment has ended, with the reason in the relay's words.
    async fn ended(&self) -> String;
}

/// The two directions of one channel. Each ends when its other end is dropped.
#[derive(Debug)]
pub struct ChannelPipe {
    /// Bytes from the desktop.
    pub receive: mpsc::Receiver<Bytes>,
    /// Bytes to the desktop.
    pub send: mpsc::Sender<Bytes>,
}

/// Keeps recordings: a folder.
pub trait Recordings: Send + Sync + fmt::Debug {
    /// Begins one; it ends when its sender is dropped, or by itself.
    fn begin(&self, about: RecordingAbout) -> RecordingPipe;
}

/// The way into a recording.
#[derive(Debug)]
pub struct RecordingPipe {
    /// What is to be kept, in order. It closes when the recording has ended by itself.
    pub entries: mpsc::Sender<RecordingEntry>,
    /// Why it did, for people.
    pub ended: oneshot::Receiver<String>,
}

/// One message of the gateway to a browser.
#[derive(Clone, Debug)]
pub struct RecordingEntry {
    /// Since the recording began.
    pub at: Duration,
    /// Whole records.
    pub message: Bytes,
}
