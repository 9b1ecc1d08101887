//! The agents' end: what a host must have down, what it has up; images and the relay's certificate.
//!
//! ```text
//!  agent ── hello, report ──▶ Link ──Change──▶ reconciler
//!        ◀── wanted, sessions, keys ── Link ◀──snapshots──┘
//! ```
//! Whole sets each time, only when they differ from what was sent last.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message as _;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use vidi_kit::ids::{DesktopId, HostId};
use vidi_kit::tls::Role;
use vidi_kit::transport::PeerInfo;
use vidi_proto::v1::agent_link_server::AgentLink;
use vidi_proto::v1::{
    AgentHello, AgentMessage, CertifyRelayRequest, CertifyRelayResponse, ControllerHello,
    ControllerMessage, FetchImageRequest, FetchImageResponse, GrantKeys, HostReport, LiveSession,
    LiveSessions, ObservedDesktop, WantedDesktop, WantedPower, WantedSet, agent_message,
    controller_message,
};

use super::agent_news::HostNews;
use super::names::id;
use super::status::invalid_field;
use super::{Caller, Parts};
use crate::contract::{manifest_to_wire, power_from_wire};
use crate::model::{self, Change, HostHello, Observed, Refusal, World};
use crate::plan::wanted::{live_sessions, removals, wanted};

/// Desktops that one host may report.
const DESKTOPS_MAX: usize = 4_096;
/// Problems and strangers that one host may report; people read them.
const TEXTS_MAX: usize = 64;
/// Bytes of each text of a report that are kept.
const TEXT_BYTES_MAX: usize = 512;
/// Messages that wait for an agent.
const MESSAGES_QUEUED_MAX: usize = 16;
/// An agent greets at once.
const HELLO_SECS_MAX: Duration = Duration::from_secs(10);
/// An agent reports every 10 s; one that says nothing for this long is gone.
const SILENCE_SECS_MAX: Duration = Duration::from_secs(35);
/// The controller's time is told again this often, with the grant keys.
const KEYS_PERIOD: Duration = Duration::from_secs(60);
/// Bytes of an image in one message.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that wait for an agent.
const CHUNKS_QUEUED_MAX: usize = 4;
/// An agent that takes no chunk for this long is cut; it continues where it was.
const CHUNK_SECS_MAX: Duration = Duration::from_secs(60);

/// The service.
#[derive(Debug)]
pub struct AgentLinkRpc {
    parts: Parts,
    /// Later links have higher numbers.
    links: AtomicU64,
    news: Arc<HostNews>,
}

impl AgentLinkRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        let news = HostNews::start(&parts.tasks, parts.handle.watch());
        Self { parts: parts.clone(), links: AtomicU64::new(1), news }
    }
}

/// The caller's host, and since when its certificate is good; a host that was removed is none.
fn host_of<T>(parts: &Parts, request: &Request<T>) -> Result<(HostId, i64), Status> {
    let host = id("certificate", Caller::of(request)?.daemon(Role::Agent)?)?;
    let certified_ms = certified_ms(request);
    if parts.handle.world().is_host_removed(&host, certified_ms) {
        return Err(Refusal::HostRemoved(host).into());
    }
    Ok((host, certified_ms))
}

/// Since when the caller's certificate is good, ms since the epoch; 0 without one.
pub(super) fn certified_ms<T>(request: &Request<T>) -> i64 {
    request.extensions().get::<PeerInfo>().map_or(0, |peer| peer.certified_ms)
}

#[tonic::async_trait]
impl AgentLink for AgentLinkRpc {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<ControllerMessage, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (host, certified_ms) = host_of(&self.parts, &request)?;
        let address = request.extensions().get::<PeerInfo>().and_then(|peer| peer.address);
        let (messages, stream) = mpsc::channel(MESSAGES_QUEUED_MAX);
        let link = Link {
            parts: self.parts.clone(),
            news: Arc::clone(&self.news),
            host,
            certified_ms,
            address,
            number: self.links.fetch_add(1, Ordering::Relaxed),
            sent: Sent::default(),
            messages,
        };
        let incoming = request.into_inner();
        let _linked = self.parts.tasks.spawn("agent-link", link.run(incoming));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    type FetchImageStream = Pin<Box<dyn Stream<Item = Result<FetchImageResponse, Status>> + Send>>;

    async fn fetch_image(
        &self,
        request: Request<FetchImageRequest>,
    ) -> Result<Response<Self::FetchImageStream>, Status> {
        let (host, _) = host_of(&self.parts, &request)?;
        let FetchImageRequest { sha256, offset } = request.into_inner();
        let mut file = self.parts.images.read(&sha256, offset).await?;
        info!(%host, sha256, offset, "Image fetched");
        let (chunks, stream) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let sending = async move {
            loop {
                let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
                let next = match file.read_buf(&mut chunk).await {
                    Ok(0) => return,
                    Ok(_) => Ok(FetchImageResponse { chunk: chunk.freeze() }),
                    Err(error) => {
                        Err(Status::data_loss(format!("the image cannot be read: {error}")))
                    }
                };
                let last = next.is_err();
                let sent = tokio::time::timeout(CHUNK_SECS_MAX, chunks.send(next)).await;
                if last || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        };
        let stop = self.parts.tasks.stop_token();
        let _sending = self.parts.tasks.spawn("fetch-image", async move {
            // Cancel-safe: an agent whose image is cut continues at its offset.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = sending => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn certify_relay(
        &self,
        request: Request<CertifyRelayRequest>,
    ) -> Result<Response<CertifyRelayResponse>, Status> {
        let (host, _) = host_of(&self.parts, &request)?;
        let authority = &self.parts.authority;
        let issued = authority.issue(Role::Relay, host.as_str(), &request.get_ref().csr)?;
        info!(%host, "Relay certified");
        Ok(Response::new(CertifyRelayResponse {
            certificate: issued.certificate,
            cas: authority.cas(),
        }))
    }
}

/// What the agent was told last.
#[derive(Default)]
struct Sent {
    host_change: Option<u64>,
    /// SHA-256 of the set without its number: thousands of hosts, each with many desktops, are not kept here
    /// twice.
    wanted: Option<[u8; 32]>,
    sessions: Option<Vec<LiveSession>>,
    keys: Option<Vec<Vec<u8>>>,
}

struct Link {
    parts: Parts,
    news: Arc<HostNews>,
    host: HostId,
    certified_ms: i64,
    address: Option<SocketAddr>,
    number: u64,
    sent: Sent,
    messages: mpsc::Sender<Result<ControllerMessage, Status>>,
}

impl Link {
    async fn run(mut self, mut incoming: Streaming<AgentMessage>) {
        if let Err(why) = self.serve(&mut incoming).await {
            if !self.stops() {
                warn!(host = %self.host, reason = why.message(), "Agent's link ends");
            }
            drop(self.messages.try_send(Err(why)));
        } else {
            info!(host = %self.host, "Agent unlinked");
        }
        self.news.unsubscribe(&self.host, self.number);
        let change = Change::HostUnlinked { host: self.host.clone(), link: self.number };
        // Nobody would say it again: it waits for a place in the queue.
        if let Err(refusal) = self.parts.handle.change_when_free(change).await
            && !self.stops()
        {
            warn!(host = %self.host, %refusal, "The end of a link was not taken");
        }
    }

    /// The end of every link at the controller's own is no news.
    fn stops(&self) -> bool {
        self.parts.tasks.stop_token().is_cancelled()
    }

    /// Until the agent goes (Ok) or must go (Err).
    async fn serve(&mut self, incoming: &mut Streaming<AgentMessage>) -> Result<(), Status> {
        self.greet(incoming).await?;
        let mut news = self.news.subscribe(&self.host, self.number);
        let stop = self.parts.tasks.stop_token();
        let mut keys = tokio::time::interval(KEYS_PERIOD);
        let silence = tokio::time::sleep(SILENCE_SECS_MAX);
        tokio::pin!(silence);
        loop {
            self.tell(&self.parts.handle.world()).await?;
            // Cancel-safe: `message` keeps a part it has read; the others only wait.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Status::unavailable("the controller stops")),
                () = self.messages.closed() => return Ok(()),
                () = &mut silence => return Err(Status::deadline_exceeded("nothing was heard")),
                _ = keys.tick() => self.sent.keys = None,
                message = incoming.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    silence.as_mut().reset(tokio::time::Instant::now() + SILENCE_SECS_MAX);
                    self.take(message).await?;
                }
                changed = news.changed() => {
                    if changed.is_err() {
                        return Err(Refusal::NotLeader.into());
                    }
                }
            }
        }
    }

    async fn greet(&mut self, incoming: &mut Streaming<AgentMessage>) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO_SECS_MAX, incoming.message()).await;
        let first = first.map_err(|_elapsed| Status::deadline_exceeded("no hello was heard"))??;
        let Some(AgentMessage { message: Some(agent_message::Message::Hello(hello)) }) = first
        else {
            return Err(invalid_field("message", "the first message is the hello"));
        };
        let hello = self.hello(hello)?;
        info!(
            host = %self.host,
            version = hello.agent_version,
            relay = hello.relay_address,
            "Agent linked"
        );
        let (host, link, certified_ms) = (self.host.clone(), self.number, self.certified_ms);
        let linked = Change::HostLinked { host, link, hello, certified_ms };
        // All agents come at once when a controller starts: one that waits for its place in the queue costs
        // less than another handshake.
        self.parts.handle.change_when_free(linked).await?;
        self.send(controller_message::Message::Hello(ControllerHello {
            installation_id: self.parts.authority.installation().to_owned(),
            host_id: self.host.to_string(),
            now_ms: self.parts.clock.now_ms(),
        }))
        .await
    }

    fn hello(&self, hello: AgentHello) -> Result<HostHello, Status> {
        let port = u16::try_from(hello.relay_port)
            .map_err(|_| invalid_field("hello.relay_port", "a port is expected"))?;
        let relay_address = if !hello.relay_advertise.is_empty() {
            shorten(hello.relay_advertise)
        } else if port == 0 {
            String::new()
        } else {
            // Over the local socket there is no address: the agent is on this machine.
            let here = SocketAddr::from(([127, 0, 0, 1], 0));
            let mut address = self.address.unwrap_or(here);
            address.set_ip(address.ip().to_canonical());
            address.set_port(port);
            address.to_string()
        };
        Ok(HostHello {
            agent_version: shorten(hello.agent_version),
            hostname: shorten(hello.hostname),
            relay_address,
        })
    }

    async fn take(&self, message: AgentMessage) -> Result<(), Status> {
        let Some(agent_message::Message::Report(report)) = message.message else {
            return Err(invalid_field("message", "after the hello, reports are expected"));
        };
        let report = Box::new(report_from_wire(report)?);
        let (host, link) = (self.host.clone(), self.number);
        match self.parts.handle.change(Change::HostReported { host, link, report }).await {
            // The next report comes soon and says all of it again.
            Err(Refusal::Busy) | Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Sends what the agent does not know yet.
    async fn tell(&mut self, world: &World) -> Result<(), Status> {
        let keys: Vec<Vec<u8>> = world.grant_keys.values().map(|(key, _)| key.clone()).collect();
        if self.sent.keys.as_ref() != Some(&keys) {
            let now_ms = self.parts.clock.now_ms();
            let message = GrantKeys { keys: keys.clone(), now_ms };
            self.send(controller_message::Message::GrantKeys(message)).await?;
            self.sent.keys = Some(keys);
        }
        let change = world.host_changes.get(&self.host).map_or(0, |change| **change);
        if self.sent.host_change == Some(change) {
            return Ok(());
        }
        self.sent.host_change = Some(change);
        let known = wanted(world, &self.host);
        let unknown = removals(world, &self.host).into_iter().map(destroy_on_wire);
        let desktops: Vec<WantedDesktop> = known.iter().map(on_wire).chain(unknown).collect();
        let mut set = WantedSet { desktops, number: 0 };
        let digest: [u8; 32] = Sha256::digest(set.encode_to_vec()).into();
        if self.sent.wanted != Some(digest) {
            set.number = world.sequence;
            self.send(controller_message::Message::Wanted(set)).await?;
            self.sent.wanted = Some(digest);
        }
        let live = live_sessions(world, &self.host).into_iter().map(|one| LiveSession {
            session: one.session.to_string(),
            desktop: one.desktop.to_string(),
            epoch: one.epoch,
        });
        let sessions: Vec<LiveSession> = live.collect();
        if self.sent.sessions.as_ref() != Some(&sessions) {
            let message = LiveSessions { sessions: sessions.clone() };
            self.send(controller_message::Message::LiveSessions(message)).await?;
            self.sent.sessions = Some(sessions);
        }
        Ok(())
    }

    async fn send(&self, message: controller_message::Message) -> Result<(), Status> {
        let sent = self.messages.send(Ok(ControllerMessage { message: Some(message) }));
        tokio::time::timeout(SILENCE_SECS_MAX, sent)
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("the agent takes no messages"))?
            .map_err(|_closed| Status::cancelled("the agent is gone"))
    }
}

fn on_wire(one: &crate::plan::wanted::WantedDesktop) -> WantedDesktop {
    let spec = &one.desktop.spec;
    let power = if spec.host_power_on() { WantedPower::On } else { WantedPower::Off };
    WantedDesktop {
        id: one.id.to_string(),
        generation: spec.generation,
        power: power.into(),
        tenant: one.tenant.to_string(),
        display_name: spec.display_name.clone(),
        template_digest: spec.template_digest.clone(),
        manifest: one.version.as_ref().map(|version| manifest_to_wire(&version.manifest)),
        force_off: spec.force_off,
        destroy: spec.deleting,
        trace: spec.trace.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn destroy_on_wire(id: DesktopId) -> WantedDesktop {
    let (id, power) = (id.to_string(), WantedPower::Off.into());
    WantedDesktop { id, power, force_off: true, destroy: true, ..Default::default() }
}

fn report_from_wire(report: HostReport) -> Result<model::HostReport, Status> {
    if DESKTOPS_MAX < report.desktops.len() {
        return Err(invalid_field("report.desktops", "at most 4,096 are allowed"));
    }
    let unknown = report.unknown.iter().take(DESKTOPS_MAX);
    let unknown = unknown.map(|one| id("report.unknown", one));
    let desktops = report.desktops.into_iter().map(observed_from_wire).collect::<Result<_, _>>()?;
    Ok(model::HostReport {
        cpus: report.cpus,
        memory_total_mib: report.memory_total_mib,
        memory_available_mib: report.memory_available_mib,
        acceleration: shorten(report.acceleration),
        problems: shorten_all(report.problems),
        libvirt_version: shorten(report.libvirt_version),
        qemu_version: shorten(report.qemu_version),
        images_free_mib: report.images_free_mib,
        unknown: unknown.collect::<Result<_, _>>()?,
        foreign: shorten_all(report.foreign),
        wanted_received: report.wanted_received,
        wanted_number: report.wanted_number,
        desktops,
    })
}

fn observed_from_wire(one: ObservedDesktop) -> Result<(DesktopId, Observed), Status> {
    let desktop: DesktopId = id("report.desktops.id", &one.id)?;
    let reason = shorten(one.reason.clone());
    let failure = if reason.is_empty() { "the host does not say why" } else { &reason };
    let power = power_from_wire(one.power(), failure);
    let power =
        power.ok_or_else(|| invalid_field("report.desktops.power", "a power is expected"))?;
    let observed = Observed {
        generation: one.generation,
        power,
        ready: one.ready,
        reason,
        acceleration: shorten(one.acceleration),
        start_count: one.start_count,
        since_ms: one.since_ms,
    };
    Ok((desktop, observed))
}

fn shorten_all(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().take(TEXTS_MAX).map(shorten).collect()
}

fn shorten(mut text: String) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
