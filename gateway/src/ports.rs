//! What the gateway needs from outside.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::GatewayError;

/// Chunks that wait between a channel's socket and its session: enough to keep the wire busy, little
/// enough that a slow session stops its guest instead of filling memory.
pub const CHUNKS_MAX: usize = 16;

/// What a session needs to reach its desktop once.
#[derive(Clone)]
pub struct Ticket {
    /// The signed grant.
    pub grant: Vec<u8>,
    /// Its attach epoch.
    pub epoch: u64,
    /// `host:port` of the relay.
    pub relay_address: String,
    /// The DNS name that the relay's certificate must carry.
    pub relay_name: String,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ticket")
            .field("epoch", &self.epoch)
            .field("relay", &self.relay_address)
            .finish_non_exhaustive()
    }
}

/// Gives tickets: the controller.
#[async_trait]
pub trait Tickets: Send + Sync + fmt::Debug {
    /// A ticket for `session` (its resource name), for the user behind `token`.
    async fn ticket(&self, token: &str, session: &str) -> Result<Ticket, GatewayError>;
}

/// Reaches a desktop: by its relay; later also a SPICE server over TCP or TLS.
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
