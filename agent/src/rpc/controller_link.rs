//! The agent's end of `AgentLink`: wanted set and policy come in, the host's state goes out.
//!
//! Dials for ever, one controller after the other until one leads; what was received last stays valid
//! while none does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::{info, warn};
use vidi_kit::clock::boottime_ms;
use vidi_kit::controllers::{self, Controllers};
use vidi_kit::ids::{HostId, InstallationId, SessionId};
use vidi_kit::tls::IdentityReceiver;
use vidi_kit::transport::{ConnectError, describe};
use vidi_kit::{Backoff, Tasks};
use vidi_proto::v1::agent_link_client::AgentLinkClient;
use vidi_proto::v1::agent_message::Message as ToController;
use vidi_proto::v1::controller_message::Message as FromController;
use vidi_proto::v1::{
    AgentHello, AgentMessage, CertifyRelayRequest, CertifyRelayResponse, ControllerHello,
    ControllerMessage,
};

use crate::model::attachment::{LiveSession, Policy};
use crate::model::observed::HostState;
use crate::model::wanted::WantedSet;
use crate::rpc::wire::{live_from_wire, report_to_wire, wanted_from_wire};

/// The state is reported this often when nothing changes.
const REPORT_PERIOD: Duration = Duration::from_secs(10);
/// A controller that takes no report for this long is left, to dial again.
const SEND_SECS_MAX: Duration = Duration::from_secs(20);
/// One that does not answer the first call.
const OPEN_SECS_MAX: Duration = Duration::from_secs(10);
/// The relay's certificate is made in milliseconds; a new leader may take a while to be one.
const CERTIFY_SECS_MAX: Duration = Duration::from_secs(10);
/// Differences of clocks below this are the network's.
const OFFSET_MS_IGNORED: u64 = 1_000;
const RECONNECT_FIRST: Duration = Duration::from_millis(200);
const RECONNECT_SECS_MAX: Duration = Duration::from_secs(5);
/// A wanted set of 10,000 desktops is below this.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Messages on their way out: a report replaces the one before, so few are useful.
const OUTGOING_MAX: usize = 2;

/// What is told to the controller at the beginning.
#[derive(Clone, Debug)]
pub struct Hello {
    /// `uname`'s node name.
    pub hostname: String,
    /// Where the relay listens.
    pub relay_port: u16,
    /// For gateways; empty: the address that the controller sees.
    pub relay_advertise: String,
}

/// Who this host is, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The installation.
    pub installation: InstallationId,
    /// The host.
    pub host: HostId,
}

/// How others use the link.
#[derive(Clone, Debug)]
pub struct ControllerLink {
    channel: watch::Receiver<Option<Channel>>,
    /// The wanted set, as last received.
    pub wanted: watch::Receiver<WantedSet>,
    /// What the relay judges grants by; none before the controller has told its keys.
    pub policy: watch::Receiver<Option<Policy>>,
}

/// All that the link needs.
#[derive(Debug)]
pub struct LinkParts {
    /// `host:port` of every controller.
    pub addresses: Vec<String>,
    /// The agent's certificate.
    pub identity: IdentityReceiver,
    /// Who this is.
    pub own: Own,
    /// The first message.
    pub hello: Hello,
    /// What is reported.
    pub state: watch::Receiver<HostState>,
    /// The journal's wanted set, until the controller sends one.
    pub first_wanted: WantedSet,
}

impl ControllerLink {
    /// Starts the task that keeps the link.
    pub fn start(tasks: &Tasks, parts: LinkParts) -> Self {
        let (channel, channel_news) = watch::channel(None);
        let (wanted, wanted_news) = watch::channel(parts.first_wanted.clone());
        let (policy, policy_news) = watch::channel(None);
        let link = Link {
            parts,
            channel,
            wanted,
            policy,
            offset_ms: 0,
            report_offset_ms: 0,
            keys: None,
            live: None,
        };
        let group = tasks.clone();
        let _running = tasks.spawn("controller-link", async move {
            // Cancel-safe: the process ends; the next one dials again.
            tokio::select! {
                biased;
                () = group.stopping() => {}
                () = link.keep() => {}
            }
        });
        Self { channel: channel_news, wanted: wanted_news, policy: policy_news }
    }

    /// The connection to the controller, while there is one.
    pub fn channel(&self) -> Option<Channel> {
        self.channel.borrow().clone()
    }

    /// Has the relay's key certified; waits for a controller, at most 10 s.
    pub async fn certify_relay(&self, csr: Vec<u8>) -> Result<CertifyRelayResponse, Status> {
        let away = || Status::unavailable("no controller is connected");
        let certifying = async {
            let mut connected = self.channel.clone();
            let channel = connected.wait_for(Option::is_some).await.map_err(|_| away())?.clone();
            let mut client = AgentLinkClient::new(channel.ok_or_else(away)?);
            Ok(client.certify_relay(CertifyRelayRequest { csr }).await?.into_inner())
        };
        tokio::time::timeout(CERTIFY_SECS_MAX, certifying).await.map_err(|_| away())?
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the controller ended the link: {}", .0.message())]
    Status(Status),
    #[error("the controller does not answer")]
    Silent,
    #[error("the controller closed the link")]
    Closed,
    #[error("the controller is of installation {installation} and calls this host {host}")]
    NotOurs { installation: String, host: String },
    #[error("the controller's message cannot be used: {0}")]
    Malformed(String),
}

/// Not as a source: its message says it all, and the rest is for machines.
impl From<Status> for LinkError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

struct Link {
    parts: LinkParts,
    channel: watch::Sender<Option<Channel>>,
    wanted: watch::Sender<WantedSet>,
    policy: watch::Sender<Option<Policy>>,
    /// Controller time minus `CLOCK_BOOTTIME`.
    offset_ms: i64,
    /// The same, for reports: it changes only with a real difference, so that what began keeps its time.
    report_offset_ms: i64,
    /// The last grant keys; none before the controller has told them.
    keys: Option<Vec<Vec<u8>>>,
    /// The last live sessions; none before the controller has told them.
    live: Option<BTreeMap<SessionId, LiveSession>>,
}

impl Link {
    async fn keep(mut self) {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_SECS_MAX);
        let mut last_said = String::new();
        let mut controllers = Controllers::new(&self.parts.addresses);
        for connection in 1.. {
            let ended = self.connect_once(connection, controllers.current(), &mut backoff).await;
            self.channel.send_replace(None);
            self.wanted.send_modify(|wanted| wanted.connection = None);
            if let Err(LinkError::Status(status)) = &ended {
                if controllers.refused(status) {
                    continue;
                }
            } else {
                controllers.left();
            }
            if let Err(error) = ended {
                let text = describe(&error);
                if text != last_said {
                    warn!(error = text, "No link to the controller; desktops go on, dialling");
                    last_said = text;
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn connect_once(
        &mut self,
        connection: u64,
        address: Option<&str>,
        backoff: &mut Backoff,
    ) -> Result<(), LinkError> {
        let address = address.ok_or(ConnectError::NoAddress)?;
        let channel = controllers::connect(address, &self.parts.identity).await?;
        let mut client = AgentLinkClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (outgoing, stream) = mpsc::channel(OUTGOING_MAX);
        send(&outgoing, ToController::Hello(self.hello())).await?;
        let opening = client.link(ReceiverStream::new(stream));
        let opened = tokio::time::timeout(OPEN_SECS_MAX, opening).await;
        let mut incoming = opened.map_err(|_| LinkError::Silent)??.into_inner();
        self.greet(&mut incoming).await?;
        info!(connection, address, "Linked to the controller");
        backoff.reset();
        self.channel.send_replace(Some(channel));
        self.talk(connection, incoming, outgoing).await
    }

    fn hello(&self) -> AgentHello {
        let hello = &self.parts.hello;
        AgentHello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: hello.hostname.clone(),
            relay_port: u32::from(hello.relay_port),
            relay_advertise: hello.relay_advertise.clone(),
        }
    }

    /// The controller's first message has to say who it is.
    async fn greet(
        &mut self,
        incoming: &mut Streaming<ControllerMessage>,
    ) -> Result<(), LinkError> {
        let first = tokio::time::timeout(OPEN_SECS_MAX, incoming.message()).await;
        match first.map_err(|_| LinkError::Silent)??.and_then(|first| first.message) {
            Some(FromController::Hello(hello)) => self.take_hello(&hello),
            Some(_) => Err(LinkError::Malformed("the first one is not its hello".to_owned())),
            None => Err(LinkError::Closed),
        }
    }

    fn take_hello(&mut self, hello: &ControllerHello) -> Result<(), LinkError> {
        let own = &self.parts.own;
        let ours = hello.installation_id == own.installation.to_string()
            && hello.host_id == own.host.as_str();
        if !ours {
            return Err(LinkError::NotOurs {
                installation: hello.installation_id.clone(),
                host: hello.host_id.clone(),
            });
        }
        self.take_time(hello.now_ms);
        Ok(())
    }

    fn take_time(&mut self, now_ms: i64) {
        self.offset_ms = now_ms.saturating_sub(boottime_ms());
        if OFFSET_MS_IGNORED < self.offset_ms.abs_diff(self.report_offset_ms) {
            self.report_offset_ms = self.offset_ms;
        }
    }

    async fn talk(
        &mut self,
        connection: u64,
        mut incoming: Streaming<ControllerMessage>,
        outgoing: mpsc::Sender<AgentMessage>,
    ) -> Result<(), LinkError> {
        let mut state = self.parts.state.clone();
        let mut beat = tokio::time::interval(REPORT_PERIOD);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: a message that has not come whole stays in the stream, a tick in the
            // timer, and a change is seen by the next look.
            tokio::select! {
                biased;
                message = incoming.message() => {
                    let message = message?.ok_or(LinkError::Closed)?;
                    self.take(connection, message)?;
                    continue;
                }
                changed = state.changed() => changed.map_err(|_| LinkError::Closed)?,
                _ = beat.tick() => {}
            }
            let report =
                report_to_wire(&state.borrow_and_update(), connection, self.report_offset_ms);
            send(&outgoing, ToController::Report(report)).await?;
        }
    }

    fn take(&mut self, connection: u64, message: ControllerMessage) -> Result<(), LinkError> {
        let malformed = |error: vidi_kit::ids::IdError| LinkError::Malformed(error.to_string());
        match message.message {
            Some(FromController::Hello(hello)) => {
                self.take_hello(&hello)?;
                self.publish_policy();
            }
            Some(FromController::Wanted(set)) => {
                let desktops = wanted_from_wire(&set).map_err(malformed)?;
                let (connection, desktops) = (Some(connection), Some(desktops));
                let set = WantedSet { connection, number: set.number, desktops };
                self.wanted.send_replace(set);
            }
            Some(FromController::GrantKeys(keys)) => {
                self.take_time(keys.now_ms);
                self.keys = Some(keys.keys);
                self.publish_policy();
            }
            Some(FromController::LiveSessions(sessions)) => {
                self.live = Some(live_from_wire(&sessions).map_err(malformed)?);
                self.publish_policy();
            }
            // A newer controller may say more.
            None => {}
        }
        Ok(())
    }

    /// Without keys no grant can be judged: there is no policy then.
    fn publish_policy(&self) {
        let own = &self.parts.own;
        let policy = self.keys.clone().map(|grant_keys| Policy {
            grant_keys,
            installation: own.installation,
            host: own.host.clone(),
            clock_offset_ms: self.offset_ms,
            live: self.live.clone(),
        });
        self.policy.send_replace(policy);
    }
}

async fn send(
    outgoing: &mpsc::Sender<AgentMessage>,
    message: ToController,
) -> Result<(), LinkError> {
    let message = AgentMessage { message: Some(message) };
    let sent = tokio::time::timeout(SEND_SECS_MAX, outgoing.send(message)).await;
    sent.map_err(|_| LinkError::Silent)?.map_err(|_| LinkError::Closed)
}

/// The identity's names, parsed.
pub fn own_names(identity: &IdentityReceiver) -> Result<Own, vidi_kit::ids::IdError> {
    let name = Arc::clone(&identity.borrow()).name.clone();
    Ok(Own { installation: name.installation.parse()?, host: name.id.parse()? })
}
