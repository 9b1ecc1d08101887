//! The relay's end of the agent's socket: certificate and policy come in, SPICE sockets are asked for.
//!
//! The agent may go away and come back at any time: requests wait for it, and what it said last
//! stays valid.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};
use vidi_hypervisor::SpiceReader;
use vidi_kit::ids::{DesktopId, TraceId};
use vidi_kit::tls::{Identity, generate_key_and_csr};
use vidi_kit::{Backoff, Clock, Tasks};
use vidi_proto::v1::agent_to_relay::Message as FromAgent;
use vidi_proto::v1::relay_to_agent::Message as ToAgent;
use vidi_proto::v1::{AgentToRelay, OpenSpice, RelayCertificate, RelayToAgent, SpiceOpened};

use crate::model::attachment::Policy;
use crate::rpc::frames::{FrameReader, FrameWriter, split};
use crate::rpc::wire::policy_from_wire;

/// Requests that wait to be taken; each attachment has few channels and they open once.
const REQUESTS_MAX: usize = 64;
/// Requests that were sent and are not answered.
const PENDING_MAX: usize = 1_024;
/// How long a caller waits for a socket: an agent that restarts is back earlier.
const OPEN_SECS_MAX: Duration = Duration::from_secs(15);
/// The agent is looked for this often at least.
const RECONNECT_SECS_MAX: Duration = Duration::from_secs(1);
/// A certificate that was asked for and did not come is asked for again after this.
const CERTIFICATE_RETRY: Duration = Duration::from_secs(5);

/// Why there is no socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody answered in time.
    #[error("the agent of this host does not answer; try again")]
    AgentAway,
    /// Too many ask.
    #[error("too many channels are being opened on this host; try again")]
    Busy,
    /// The agent's words.
    #[error("{0}")]
    Refused(String),
}

/// Asks the agent for sockets.
#[derive(Clone, Debug)]
pub struct AgentLine {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    desktop: DesktopId,
    trace: Option<TraceId>,
    reader: SpiceReader,
    answer: oneshot::Sender<Result<UnixStream, OpenError>>,
}

/// What the agent tells.
#[derive(Clone, Debug)]
pub struct AgentNews {
    /// The relay's own certificate; none before the first was made.
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    /// What grants are judged by; none before the agent has heard it from the controller.
    pub policy: watch::Receiver<Option<Policy>>,
    /// Whether the agent is there.
    pub connected: watch::Receiver<bool>,
}

impl AgentLine {
    /// Starts the task that keeps the connection. `state` is the folder of key and certificate, which
    /// exists.
    pub fn start(
        tasks: &Tasks,
        clock: Clock,
        socket: PathBuf,
        state: PathBuf,
    ) -> (Self, AgentNews) {
        let kept = match Identity::load(&state) {
            Ok(kept) => kept.filter(|kept| clock.now_ms() < kept.name.not_after_ms).map(Arc::new),
            Err(error) => {
                warn!(%error, "The kept certificate is not usable; asking for a new one");
                None
            }
        };
        let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
        let (identity, identity_news) = watch::channel(kept);
        let (policy, policy_news) = watch::channel(None);
        let (connected, connected_news) = watch::channel(false);
        let line = Line {
            clock,
            socket,
            state,
            identity,
            policy,
            connected,
            waiting,
            pending: BTreeMap::new(),
            next_id: 1,
            asked_key: None,
        };
        let group = tasks.clone();
        let _running = tasks.spawn("agent-line", async move {
            // Cancel-safe: the process ends, and nothing is half written that is kept.
            tokio::select! {
                biased;
                () = group.stopping() => {}
                () = line.keep() => {}
            }
        });
        let news =
            AgentNews { identity: identity_news, policy: policy_news, connected: connected_news };
        (Self { requests }, news)
    }

    /// A socket to the desktop's SPICE server, of any family; waits for an agent that restarts, at most
    /// 15 s.
    pub async fn open_spice(
        &self,
        desktop: DesktopId,
        trace: Option<TraceId>,
        reader: SpiceReader,
    ) -> Result<UnixStream, OpenError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { desktop, trace, reader, answer };
        self.requests.try_send(request).map_err(|_| OpenError::Busy)?;
        match tokio::time::timeout(OPEN_SECS_MAX, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(OpenError::AgentAway),
        }
    }
}

struct Line {
    clock: Clock,
    socket: PathBuf,
    state: PathBuf,
    identity: watch::Sender<Option<Arc<Identity>>>,
    policy: watch::Sender<Option<Policy>>,
    connected: watch::Sender<bool>,
    waiting: mpsc::Receiver<Request>,
    pending: BTreeMap<u64, Request>,
    next_id: u64,
    /// The key whose certificate was asked for (PKCS#8).
    asked_key: Option<Vec<u8>>,
}

impl Line {
    async fn keep(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(20), RECONNECT_SECS_MAX);
        let mut told = false;
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => {
                    info!("Connected to the agent");
                    self.tell_connected(true);
                    told = false;
                    backoff.reset();
                    self.asked_key = None;
                    if let Err(error) = self.talk(stream).await {
                        warn!(%error, "The agent's connection ended");
                    }
                    self.tell_connected(false);
                }
                Err(error) if !told => {
                    told = true;
                    warn!(%error, socket = %self.socket.display(), "The agent cannot be reached");
                }
                Err(_told_already) => {}
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    fn tell_connected(&self, connected: bool) {
        metrics::gauge!("vidi_relay_agent_connected").set(f64::from(u8::from(connected)));
        self.connected.send_replace(connected);
    }

    async fn talk(&mut self, stream: UnixStream) -> io::Result<()> {
        let (mut reader, mut writer) = split(stream);
        self.ask_for_certificate(&mut writer).await?;
        // Asked of an agent that went away: the callers still wait.
        self.pending.retain(|_, request| !request.answer.is_closed());
        for (id, request) in &self.pending {
            send_open(&mut writer, *id, request).await?;
        }
        let mut retry = tokio::time::interval(CERTIFICATE_RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        retry.reset();
        loop {
            // Cancel-safe: a frame that has not come whole stays in the reader, a request in its
            // queue, and a tick in the timer.
            tokio::select! {
                biased;
                message = reader.receive::<AgentToRelay>() => match message? {
                    Some(AgentToRelay { message: Some(message) }) => {
                        self.take(message, &mut reader, &mut writer).await?;
                    }
                    Some(AgentToRelay { message: None }) => {}
                    None => return Err(io::ErrorKind::ConnectionReset.into()),
                },
                Some(request) = self.waiting.recv() => self.ask(request, &mut writer).await?,
                _ = retry.tick() => {
                    self.asked_key = None;
                    self.ask_for_certificate(&mut writer).await?;
                }
            }
        }
    }

    async fn ask(&mut self, request: Request, writer: &mut FrameWriter) -> io::Result<()> {
        self.pending.retain(|_, waiting| !waiting.answer.is_closed());
        if PENDING_MAX <= self.pending.len() {
            // The caller may have gone; then nobody needs the answer.
            drop(request.answer.send(Err(OpenError::Busy)));
            return Ok(());
        }
        let id = self.next_id;
        self.next_id += 1;
        let request = self.pending.entry(id).or_insert(request);
        send_open(writer, id, request).await
    }

    async fn take(
        &mut self,
        message: FromAgent,
        reader: &mut FrameReader,
        writer: &mut FrameWriter,
    ) -> io::Result<()> {
        match message {
            FromAgent::Certificate(certificate) => self.keep_certificate(certificate),
            FromAgent::SpiceOpened(opened) => self.give(opened, reader)?,
            FromAgent::Policy(policy) => match policy_from_wire(&policy) {
                Ok(policy) => {
                    self.policy.send_replace(Some(policy));
                    self.ask_for_certificate(writer).await?;
                }
                Err(error) => warn!(%error, "The agent's policy is not usable; the last one stays"),
            },
        }
        Ok(())
    }

    fn give(&mut self, opened: SpiceOpened, reader: &mut FrameReader) -> io::Result<()> {
        let answer = if opened.error.is_empty() {
            let descriptor = reader
                .take_descriptor()
                .ok_or_else(|| io::Error::other("the agent's answer carries no descriptor"))?;
            let stream = std::os::unix::net::UnixStream::from(descriptor);
            stream.set_nonblocking(true)?;
            Ok(UnixStream::from_std(stream)?)
        } else {
            Err(OpenError::Refused(opened.error))
        };
        if let Some(request) = self.pending.remove(&opened.id) {
            // A caller that went away: the socket is closed with the answer.
            drop(request.answer.send(answer));
        }
        Ok(())
    }

    /// Asks when there is none, when two thirds of its life are over, or when it names another host
    /// than the policy.
    async fn ask_for_certificate(&mut self, writer: &mut FrameWriter) -> io::Result<()> {
        if self.asked_key.is_some() || !self.certificate_due() {
            return Ok(());
        }
        let (key, csr) = generate_key_and_csr().map_err(io::Error::other)?;
        self.asked_key = Some(key);
        writer.send(&RelayToAgent { message: Some(ToAgent::Csr(csr)) }, None).await
    }

    fn certificate_due(&self) -> bool {
        let identity = self.identity.borrow();
        let Some(name) = identity.as_ref().map(|identity| &identity.name) else { return true };
        let life_ms = name.not_after_ms.saturating_sub(name.not_before_ms);
        let old = name.not_before_ms.saturating_add(life_ms / 3 * 2) <= self.clock.now_ms();
        let other = self.policy.borrow().as_ref().is_some_and(|policy| {
            policy.host.as_str() != name.id || policy.installation.to_string() != name.installation
        });
        old || other
    }

    fn keep_certificate(&mut self, certificate: RelayCertificate) {
        let Some(key) = self.asked_key.take() else { return };
        match Identity::new(certificate.certificate, key, certificate.cas) {
            Ok(identity) => {
                if let Err(error) = identity.save(&self.state) {
                    warn!(%error, "The certificate cannot be kept; a restart will ask again");
                }
                info!(id = identity.name.id, "Relay certified");
                self.identity.send_replace(Some(Arc::new(identity)));
            }
            Err(error) => warn!(%error, "The certificate from the agent is not usable"),
        }
    }
}

async fn send_open(writer: &mut FrameWriter, id: u64, request: &Request) -> io::Result<()> {
    let trace = request.trace.map(|id| id.to_string()).unwrap_or_default();
    let (desktop, onward) = (request.desktop.to_string(), request.reader == SpiceReader::Onward);
    let open = OpenSpice { id, desktop, trace, onward };
    writer.send(&RelayToAgent { message: Some(ToAgent::OpenSpice(open)) }, None).await
}
