//! `vidi.v1.Relay`: what gateways may do on this host, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use vidi_kit::Tasks;
use vidi_kit::clock::boottime_ms;
use vidi_kit::grant::{self, GrantError};
use vidi_kit::ids::{DesktopId, GatewayId, SessionId, TraceId};
use vidi_kit::telemetry::Counted;
use vidi_kit::tls::{ClientCertificate, IdentityReceiver, Role};
use vidi_kit::transport::{Peer, PeerInfo, tls_incoming};
use vidi_proto::v1::relay_server::{Relay, RelayServer};
use vidi_proto::v1::{AttachEvent, AttachRequest, ChannelRequest, ChannelResponse, GrantClaims};

use crate::model::attachment::{Attachments, Claims, Policy, Refusal};
use crate::rpc::agent_line::{AgentLine, OpenError};
use crate::rpc::channel::{CHUNKS_MAX, DATA_BYTES_MAX, pump};
use crate::rpc::wire::{claims_from_wire, reader_of};

/// Channels of one attachment at one time; SPICE has below ten kinds.
pub const CHANNELS_MAX: usize = 32;
/// Largest message that is read: a full chunk and its framing.
pub const MESSAGE_BYTES_MAX: usize = DATA_BYTES_MAX + 1_024;
/// A grant can arrive this much before the news of its session.
const POLICY_WAIT: Duration = Duration::from_secs(2);
/// A gateway that does not answer HTTP/2 pings is gone: spice-server takes one client only.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What a gateway may send ahead on one channel, bytes: input and clipboard are small.
const CHANNEL_WINDOW_BYTES: u32 = 256 << 10;
/// A channel whose opening message does not come.
const OPEN_MESSAGE_WAIT: Duration = Duration::from_secs(10);

/// The service.
#[derive(Clone, Debug)]
pub struct RelayService {
    tasks: Tasks,
    agent: AgentLine,
    policy: watch::Receiver<Option<Policy>>,
    /// What films of one desktop may take; none: they go as they are.
    video_mbit_s: Option<u32>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    attachments: Attachments,
    running: BTreeMap<u64, Arc<Running>>,
}

/// One attachment while it lasts.
#[derive(Debug)]
struct Running {
    session: SessionId,
    desktop: DesktopId,
    /// Of the click that opened the session.
    trace: Option<TraceId>,
    /// Why it has ended; none while it lasts.
    end: watch::Sender<Option<Status>>,
    channels: Arc<Semaphore>,
}

impl RelayService {
    /// The service; starts the task that ends attachments whose session no longer lives. Films of one
    /// desktop may take `video_mbit_s` of the network to the gateway, in Mbit/s; 0 leaves them as they are.
    pub fn start(
        tasks: &Tasks,
        agent: AgentLine,
        policy: watch::Receiver<Option<Policy>>,
        video_mbit_s: u32,
    ) -> Self {
        let video_mbit_s = Some(video_mbit_s).filter(|mbit_s| *mbit_s > 0);
        let (tasks, state) = (tasks.clone(), Arc::default());
        let service = Self { tasks, agent, policy, video_mbit_s, state };
        let revoking = service.clone();
        let _running = service.tasks.spawn("revoke", async move { revoking.revoke().await });
        service
    }

    /// With its limits, for a server.
    pub fn into_server(self) -> RelayServer<Self> {
        RelayServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Serves gateways until the tasks stop.
    pub async fn serve(
        self,
        listener: TcpListener,
        identity: IdentityReceiver,
    ) -> Result<(), tonic::transport::Error> {
        let tasks = self.tasks.clone();
        let incoming = tls_incoming(&tasks, listener, identity, ClientCertificate::Required);
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .initial_stream_window_size(CHANNEL_WINDOW_BYTES)
            .initial_connection_window_size(CHANNEL_WINDOW_BYTES * CHANNELS_MAX as u32)
            .max_concurrent_streams(2 * CHANNELS_MAX as u32)
            .add_service(self.into_server())
            .serve_with_incoming_shutdown(incoming, async move { tasks.stopping().await })
            .await
    }

    async fn revoke(self) {
        let mut policy = self.policy.clone();
        loop {
            // Cancel-safe: a change that was not taken is seen by the next look.
            tokio::select! {
                biased;
                () = self.tasks.stopping() => break,
                changed = policy.changed() => if changed.is_err() { break },
            }
            let current = policy.borrow_and_update().clone();
            let Some(current) = current else { continue };
            let ended = self.lock().attachments.revoke(&current);
            for connection in ended {
                self.end(connection, Status::permission_denied("the session has ended"));
            }
        }
        let connections: Vec<u64> = self.lock().running.keys().copied().collect();
        for connection in connections {
            self.end(connection, Status::unavailable("the relay stops; attach again"));
        }
    }

    /// Ends an attachment: its stream and channels close, each with `why`.
    fn end(&self, connection: u64, why: Status) {
        let running = {
            let mut state = self.lock();
            state.attachments.detach(connection);
            let running = state.running.remove(&connection);
            metrics::gauge!("vidi_relay_attachments").set(state.running.len() as f64);
            running
        };
        if let Some(running) = running {
            let trace = running.trace.map(tracing::field::display);
            info!(trace, session = %running.session, connection, reason = why.message(), "Detached");
            running.end.send_replace(Some(why));
        }
    }

    /// Waits for the news of a session that is not yet known here, then attaches or refuses.
    async fn attach_in_time(
        &self,
        peer: &PeerInfo,
        gateway: &GatewayId,
        grant: &[u8],
    ) -> Result<(Arc<Running>, u64), Status> {
        let mut policy = self.policy.clone();
        let deadline = tokio::time::Instant::now() + POLICY_WAIT;
        loop {
            policy.mark_unchanged();
            let refusal = match self.try_attach(peer.connection, gateway, grant) {
                Ok(attached) => return Ok(attached),
                Err(refusal) => refusal,
            };
            let waited = match refusal.may_pass {
                true => tokio::time::timeout_at(deadline, policy.changed()).await,
                false => return Err(refusal.counted()),
            };
            if !matches!(waited, Ok(Ok(()))) {
                return Err(refusal.counted());
            }
        }
    }

    fn try_attach(
        &self,
        connection: u64,
        gateway: &GatewayId,
        grant: &[u8],
    ) -> Result<(Arc<Running>, u64), Refused> {
        // The policy is read under the lock: a newer one revokes after this, or is judged by here.
        let mut state = self.lock();
        let policy = self.policy.borrow();
        let policy = policy.as_ref().ok_or_else(Refused::no_policy)?;
        let now_ms = boottime_ms().saturating_add(policy.clock_offset_ms);
        let claims = grant::verify(grant, &policy.grant_keys, now_ms)?;
        let claims = parse(&claims)?;
        let replaced = state.attachments.attach(connection, gateway, &claims, policy)?;
        let old = replaced.and_then(|old| state.running.remove(&old));
        let running = Arc::new(Running {
            session: claims.session,
            desktop: claims.desktop,
            trace: claims.trace,
            end: watch::Sender::new(None),
            channels: Arc::new(Semaphore::new(CHANNELS_MAX)),
        });
        state.running.insert(connection, Arc::clone(&running));
        metrics::gauge!("vidi_relay_attachments").set(state.running.len() as f64);
        if let Some(old) = old {
            let trace = old.trace.map(tracing::field::display);
            info!(trace, session = %old.session, "Detached: a newer grant attaches");
            let why = Status::aborted("the session was attached by a newer grant");
            old.end.send_replace(Some(why));
        }
        Ok((running, claims.epoch))
    }

    fn attached(&self, connection: u64) -> Result<Arc<Running>, Status> {
        self.lock().running.get(&connection).cloned().ok_or_else(|| {
            count_refused("not_allowed");
            Status::failed_precondition(
                "this connection is not attached; attach with a grant first",
            )
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held ended one call; the maps are whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Relay for RelayService {
    type AttachStream = ReceiverStream<Result<AttachEvent, Status>>;
    type ChannelStream = ReceiverStream<Result<ChannelResponse, Status>>;

    async fn attach(
        &self,
        request: Request<AttachRequest>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (peer, gateway) = caller(&request)?;
        let grant = request.into_inner().grant;
        let attached = self.attach_in_time(&peer, &gateway, &grant).await;
        let (running, epoch) = attached.inspect_err(|status| {
            let reason = status.message();
            warn!(%gateway, connection = peer.connection, reason, "Not attached");
        })?;
        metrics::counter!("vidi_relay_attaches_total").increment(1);
        info!(
            trace = running.trace.map(tracing::field::display), %gateway,
            connection = peer.connection, session = %running.session, desktop = %running.desktop,
            epoch, "Attached"
        );
        let (events, stream) = mpsc::channel(2);
        let service = self.clone();
        let _watching = self.tasks.spawn("attachment", async move {
            let mut end = running.end.subscribe();
            let first = events.send(Ok(AttachEvent { epoch })).await;
            // Cancel-safe: both only look.
            let why = tokio::select! {
                biased;
                ended = end.wait_for(Option::is_some), if first.is_ok() => {
                    ended.ok().and_then(|status| status.clone())
                }
                () = events.closed() => None,
            };
            match why {
                Some(status) => drop(events.send(Err(status)).await),
                None => service.end(peer.connection, Status::cancelled("the gateway detached")),
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn channel(
        &self,
        request: Request<Streaming<ChannelRequest>>,
    ) -> Result<Response<Self::ChannelStream>, Status> {
        let (peer, _gateway) = caller(&request)?;
        let running = self.attached(peer.connection)?;
        let permit = Arc::clone(&running.channels).try_acquire_owned().map_err(|_| {
            count_refused("limit");
            Status::resource_exhausted(format!("a session has at most {CHANNELS_MAX} channels"))
        })?;
        let mut requests = request.into_inner();
        let opening = tokio::time::timeout(OPEN_MESSAGE_WAIT, requests.message())
            .await
            .map_err(|_| {
                Status::deadline_exceeded("the message that opens the channel is missing")
            })??
            .ok_or_else(|| Status::invalid_argument("the channel ended before it was opened"))?;
        if !opening.data.is_empty() {
            return Err(Status::invalid_argument("the message that opens a channel has no data"));
        }
        let (answers, stream) = mpsc::channel(CHUNKS_MAX);
        // Bytes for a reader of somebody else's are his.
        let video_mbit_s = self.video_mbit_s.filter(|_| !opening.onward);
        let mut end = running.end.subscribe();
        // Cancel-safe: a socket that comes too late is closed.
        let socket = tokio::select! {
            biased;
            ended = end.wait_for(Option::is_some) => return Err(reason(ended.ok().as_deref())),
            opened = self.agent.open_spice(running.desktop, running.trace, reader_of(opening.onward)) => {
                opened.map_err(open_status)?
            }
        };
        metrics::counter!("vidi_relay_channels_total").increment(1);
        let counted = Counted::by(metrics::gauge!("vidi_relay_channels"));
        let _pumping = self.tasks.spawn("channel", async move {
            let _open = (permit, counted);
            // Not polled again: bytes on their way are lost with the attachment, which is its end.
            let why = tokio::select! {
                biased;
                ended = end.wait_for(Option::is_some) => Some(reason(ended.ok().as_deref())),
                () = pump(socket, requests, &answers, video_mbit_s) => None,
            };
            if let Some(status) = why {
                // A gateway that no longer reads must not hold this task.
                drop(answers.try_send(Err(status)));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn reason(ended: Option<&Option<Status>>) -> Status {
    ended.and_then(Clone::clone).unwrap_or_else(|| Status::aborted("the attachment has ended"))
}

fn open_status(error: OpenError) -> Status {
    count_refused("agent");
    match error {
        OpenError::AgentAway => Status::unavailable(error.to_string()),
        OpenError::Busy => Status::resource_exhausted(error.to_string()),
        OpenError::Refused(text) => Status::failed_precondition(text),
    }
}

/// Gateways only.
fn caller<T>(request: &Request<T>) -> Result<(PeerInfo, GatewayId), Status> {
    identified(request).inspect_err(|_status| count_refused("certificate"))
}

fn identified<T>(request: &Request<T>) -> Result<(PeerInfo, GatewayId), Status> {
    let peer = request
        .extensions()
        .get::<PeerInfo>()
        .ok_or_else(|| Status::unauthenticated("the connection has no certificate"))?;
    let gateway = match &peer.peer {
        Peer::Daemon { role: Role::Gateway, id } => id.parse::<GatewayId>(),
        Peer::Daemon { role, .. } => {
            let text = format!("the certificate's role is {role}; only gateways may come here");
            return Err(Status::permission_denied(text));
        }
        Peer::Anonymous | Peer::Local { .. } => {
            return Err(Status::unauthenticated("the connection has no certificate"));
        }
    };
    let gateway = gateway.map_err(|error| Status::permission_denied(error.to_string()))?;
    Ok((peer.clone(), gateway))
}

fn parse(claims: &GrantClaims) -> Result<Claims, Refused> {
    claims_from_wire(claims).map_err(|error| Refused {
        status: Status::unauthenticated(format!("the grant is malformed: {error}")),
        may_pass: false,
        reason: "grant",
    })
}

fn count_refused(reason: &'static str) {
    metrics::counter!("vidi_relay_refusals_total", "reason" => reason).increment(1);
}

/// A refusal, and whether news from the controller could change it within moments.
struct Refused {
    status: Status,
    may_pass: bool,
    /// One of [`crate::telemetry::REFUSALS`].
    reason: &'static str,
}

impl Refused {
    fn counted(self) -> Status {
        count_refused(self.reason);
        self.status
    }

    fn no_policy() -> Self {
        let text = "this host has not heard from the controller yet; try again";
        Self { status: Status::unavailable(text), may_pass: true, reason: "no_policy" }
    }
}

impl From<GrantError> for Refused {
    fn from(error: GrantError) -> Self {
        // A controller that just took over publishes its key as it signs its first grant.
        let may_pass = error == GrantError::UnknownKey;
        let reason = if error == GrantError::Expired { "expired" } else { "grant" };
        Self { status: Status::unauthenticated(error.to_string()), may_pass, reason }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        let (reason, status) = match refusal {
            Refusal::OtherInstallation
            | Refusal::OtherHost
            | Refusal::OtherGateway
            | Refusal::OtherDesktop
            | Refusal::NotLive => ("not_allowed", Status::permission_denied(text)),
            Refusal::OldEpoch | Refusal::AttachedAlready => {
                ("replaced", Status::failed_precondition(text))
            }
            Refusal::TooMany => ("limit", Status::resource_exhausted(text)),
        };
        Self { status, may_pass: refusal.may_pass(), reason }
    }
}
