//! What the gateway needs from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use vidi_spice::{MoveTarget, Password};

use crate::error::GatewayError;
use crate::model::{RecordingAbout, Terms};

/// Chunks that wait between a channel's socket and its session: enough to keep the wire busy, little
/// enough that a slow session stops its guest instead of filling memory.
pub const CHUNKS_MAX: usize = 16;

/// The sessions that this gateway has attached and somebody looks at, by resource name: what the
/// controller is told.
pub type Presence = BTreeMap<String, Present>;

/// A session that is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Of the grant that it was attached with.
    pub epoch: u64,
    /// When somebody last touched keyboard or mouse; none: that cannot be seen here.
    pub touched: Option<Instant>,
}

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
    /// `host:port` of wherever it may be, in the order in which it is looked for there.
    pub addresses: Vec<String>,
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

impl DirectTicket {
    /// Has the machine looked for first where it says that it moved to; `false`, and nothing else, where
    /// that is none of its addresses. With TLS it is the port of TLS that counts, and nothing that a
    /// server says changes what its certificate must be.
    pub fn prefer(&mut self, target: &MoveTarget) -> bool {
        let port = if self.tls.is_some() { target.tls_port } else { target.port };
        let Some(port) = port else { return false };
        let is_there = |address: &String| {
            host_and_port(address).is_some_and(|(own, own_port)| {
                own.eq_ignore_ascii_case(bare(&target.host)) && own_port.parse() == Ok(port)
            })
        };
        let at = self.addresses.iter().position(is_there);
        let Some(there) = at.and_then(|at| self.addresses.get_mut(..=at)) else { return false };
        there.rotate_right(1);
        true
    }
}

/// The parts of `host:port`.
pub(crate) fn host_and_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((bare(host), port))
}

/// An IPv6 address without its brackets; other hosts have none.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
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
            .field("addresses", &self.addresses)
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
    /// Why it did.
    pub ended: oneshot::Receiver<RecordingEnd>,
}

/// Why a recording ended by itself, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingEnd {
    /// It is as long or as large as one may be: another may follow at once.
    Full(String),
    /// It cannot be kept.
    Fault(String),
}

/// One message of the gateway to a browser.
#[derive(Clone, Debug)]
pub struct RecordingEntry {
    /// Since the recording began.
    pub at: Duration,
    /// Whole records.
    pub message: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_looked_for_where_it_moved_to_only_if_that_is_one_of_its_addresses() {
        let named = |host: &str, port: u16, tls_port: u16| MoveTarget {
            host: host.to_owned(),
            port: Some(port),
            tls_port: Some(tls_port),
        };
        let check = |tls: Option<ServerTrust>, target: &MoveTarget| {
            let mut ticket = DirectTicket {
                addresses: ["lab-7:5900", "lab-8:5901", "[2001:db8::9]:5902"]
                    .map(str::to_owned)
                    .into(),
                tls,
                password: Password::default(),
            };
            let allowed = ticket.prefer(target);
            (allowed, ticket.addresses.join(" "))
        };
        let (as_it_was, eight) = (
            "lab-7:5900 lab-8:5901 [2001:db8::9]:5902",
            "lab-8:5901 lab-7:5900 [2001:db8::9]:5902",
        );
        assert_eq!(check(None, &named("LAB-8", 5901, 1)), (true, eight.to_owned()));
        assert_eq!(check(None, &named("lab-7", 5900, 1)), (true, as_it_was.to_owned()));
        let nine = "[2001:db8::9]:5902 lab-7:5900 lab-8:5901";
        assert_eq!(check(None, &named("2001:db8::9", 5902, 1)), (true, nine.to_owned()));
        let tls = ServerTrust { ca: String::new(), host_name: "lab".to_owned() };
        assert_eq!(check(Some(tls.clone()), &named("lab-8", 1, 5901)), (true, eight.to_owned()));
        for (tls, target) in [
            (None, named("lab-8", 5900, 5901)),
            (None, named("169.254.169.254", 80, 80)),
            (None, named("lab-8.evil.test", 5901, 5901)),
            (Some(tls.clone()), named("lab-8", 5901, 1)),
            (Some(tls), MoveTarget { host: "lab-8".to_owned(), port: Some(5901), tls_port: None }),
        ] {
            assert_eq!(check(tls, &target), (false, as_it_was.to_owned()), "{target:?}");
        }
    }
}
