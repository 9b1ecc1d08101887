//! The gateways' end: presence up, endings down, grants for their users.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};
use vidi_kit::grant::GRANT_MS_MAX;
use vidi_kit::ids::{GatewayId, SessionId, TenantId};
use vidi_kit::tls::{Role, dns_name};
use vidi_kit::transport::PeerInfo;
use vidi_proto::v1::gateway_link_server::GatewayLink;
use vidi_proto::v1::{
    AdmitRequest, AdmitResponse, Branding, CertifyPageRequest, CertifyPageResponse, ClosedSession,
    DirectServer, GatewayCommand, GatewayMessage, GetBrandingRequest, GrantClaims,
    IssueGrantRequest, IssueGrantResponse, PresentSession, SessionMessages,
};

use super::admit::admit;
use super::caller::sign_in_hash;
use super::machines::password;
use super::messages::SHOWN_MS_MAX;
use super::names::id;
use super::page_certificate::certify_page;
use super::status::invalid_field;
use super::users::timestamp;
use super::wire::{child, desktop_name, machine_name, unexpected};
use super::{Caller, Parts, branding, messages};
use crate::contract::{cause_to_wire, display_policy_to_wire};
use crate::model::{Answer, Change, Granted, MachineSettings, Refusal, Way, World};
use crate::plan::presence::{Closing, Present, to_close};

/// Sessions that one gateway may have attached.
const SESSIONS_MAX: usize = 20_000;
/// Commands that wait for a gateway.
const COMMANDS_QUEUED_MAX: usize = 16;
/// A gateway tells its presence every 10 s; one that says nothing for this long is gone.
const SILENCE_SECS_MAX: Duration = Duration::from_secs(35);
/// Longest address of a gateway, in bytes: a DNS name and a port.
const ADDRESS_BYTES_MAX: usize = 260;
/// Letters of a gateway's problem that are kept.
const PROBLEM_CHARS_MAX: usize = 512;

/// The service.
#[derive(Debug)]
pub struct GatewayLinkRpc {
    parts: Parts,
    /// Later links have higher numbers.
    links: AtomicU64,
}

impl GatewayLinkRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone(), links: AtomicU64::new(1) }
    }

    /// The way that was granted, with what its gateway needs to go it: for a desktop a signed grant for the
    /// relay of its host.
    fn answer(
        &self,
        (tenant, session, gateway): (&TenantId, SessionId, &GatewayId),
        granted: Granted,
    ) -> Result<IssueGrantResponse, Status> {
        let Granted { user, epoch, way, trace, user_display_name, display_policy } = granted;
        let answer = IssueGrantResponse {
            epoch,
            display_policy: Some(display_policy_to_wire(display_policy)),
            user_display_name,
            ..IssueGrantResponse::default()
        };
        match way {
            Way::Relay { desktop, host, relay_address } => {
                let expire_ms = self.parts.clock.now_ms() + GRANT_MS_MAX;
                let claims = GrantClaims {
                    installation_id: self.parts.authority.installation().to_owned(),
                    gateway: gateway.to_string(),
                    session: session.to_string(),
                    desktop: desktop.to_string(),
                    host: host.to_string(),
                    epoch,
                    expire_ms,
                    user: user.to_string(),
                    trace: trace.map(|id| id.to_string()).unwrap_or_default(),
                };
                Ok(IssueGrantResponse {
                    grant: self.parts.signer.sign(&claims),
                    relay_address,
                    relay_name: dns_name(Role::Relay, host.as_str()),
                    expire_time: Some(timestamp(expire_ms)),
                    desktop: desktop_name(tenant, desktop),
                    ..answer
                })
            }
            Way::Direct(id, machine) => {
                let password = password(&*self.parts.authority, tenant, &machine)?;
                let MachineSettings { address, tls, ca, host_name, .. } = *machine;
                let password = password.as_str().to_owned();
                let direct = Some(DirectServer { address, tls, ca, host_name, password });
                Ok(IssueGrantResponse { direct, machine: machine_name(tenant, id), ..answer })
            }
        }
    }
}

/// A gateway's words as they are kept: of bounded length, without letters that move a cursor.
fn plain(text: &str) -> String {
    let kept = text.chars().filter(|letter| !letter.is_control());
    kept.take(PROBLEM_CHARS_MAX).collect()
}

fn gateway_of<T>(request: &Request<T>) -> Result<GatewayId, Status> {
    id("certificate", Caller::of(request)?.daemon(Role::Gateway)?)
}

#[tonic::async_trait]
impl GatewayLink for GatewayLinkRpc {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<GatewayCommand, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let gateway = gateway_of(&request)?;
        let address = request.extensions().get::<PeerInfo>().and_then(|info| info.address);
        let (commands, stream) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let link = Link {
            parts: self.parts.clone(),
            gateway,
            address: address.map(|address| address.ip()),
            number: self.links.fetch_add(1, Ordering::Relaxed),
            present: BTreeMap::new(),
            told: BTreeSet::new(),
            told_messages: BTreeMap::new(),
            commands,
        };
        let messages = request.into_inner();
        let _linked = self.parts.tasks.spawn("gateway-link", link.run(messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn issue_grant(
        &self,
        request: Request<IssueGrantRequest>,
    ) -> Result<Response<IssueGrantResponse>, Status> {
        let gateway = gateway_of(&request)?;
        let IssueGrantRequest { token, session, problem } = request.into_inner();
        let token_sha256 = sign_in_hash(&token)?;
        let (tenant, session) = child::<SessionId>("session", &session, "sessions")?;
        let change = Change::IssueGrant {
            gateway: gateway.clone(),
            token_sha256,
            tenant: tenant.clone(),
            session,
            problem: plain(&problem),
        };
        let granted = match self.parts.handle.change(change).await? {
            Answer::Granted(granted) => granted,
            other => return Err(unexpected(&other)),
        };
        tell(session, &gateway, &granted);
        self.answer((&tenant, session, &gateway), granted).map(Response::new)
    }

    async fn admit(
        &self,
        request: Request<AdmitRequest>,
    ) -> Result<Response<AdmitResponse>, Status> {
        gateway_of(&request)?;
        let world = self.parts.handle.world();
        admit(&world, self.parts.clock.now_ms(), request.get_ref()).map(Response::new)
    }

    async fn certify_page(
        &self,
        request: Request<CertifyPageRequest>,
    ) -> Result<Response<CertifyPageResponse>, Status> {
        gateway_of(&request)?;
        certify_page(&*self.parts.authority, request.get_ref()).map(Response::new)
    }

    async fn show_branding(
        &self,
        request: Request<GetBrandingRequest>,
    ) -> Result<Response<Branding>, Status> {
        gateway_of(&request)?;
        let name = &request.get_ref().name;
        branding::shown(&self.parts.handle.world(), name).map(Response::new)
    }
}

/// A gateway asks again and again while a desktop starts or its host is away: the first grant of a
/// session is told, the others are details.
fn tell(session: SessionId, gateway: &GatewayId, granted: &Granted) {
    let trace = granted.trace.map(tracing::field::display);
    let (desktop, epoch) = (granted.way.place(), granted.epoch);
    if epoch == 1 {
        info!(trace, %session, %desktop, %gateway, epoch, "Grant issued");
    } else {
        debug!(trace, %session, %desktop, %gateway, epoch, "Grant issued");
    }
}

struct Link {
    parts: Parts,
    gateway: GatewayId,
    /// From where it is linked.
    address: Option<IpAddr>,
    number: u64,
    present: BTreeMap<SessionId, Present>,
    /// Closings that were told and not yet followed.
    told: BTreeSet<(SessionId, u64)>,
    /// The newest message of each session that was told, and to which of its attachments.
    told_messages: BTreeMap<SessionId, (u64, u32)>,
    commands: mpsc::Sender<Result<GatewayCommand, Status>>,
}

impl Link {
    async fn run(mut self, mut messages: Streaming<GatewayMessage>) {
        info!(gateway = %self.gateway, "Gateway linked");
        if let Err(why) = self.serve(&mut messages).await {
            if !self.stops() {
                warn!(gateway = %self.gateway, reason = why.message(), "Gateway's link ends");
            }
            drop(self.commands.try_send(Err(why)));
        } else {
            info!(gateway = %self.gateway, "Gateway unlinked");
        }
        let change = Change::GatewayUnlinked { gateway: self.gateway.clone(), link: self.number };
        // Nobody would say it again: it waits for a place in the queue.
        if let Err(refusal) = self.parts.handle.change_when_free(change).await
            && !self.stops()
        {
            warn!(gateway = %self.gateway, %refusal, "The end of a link was not taken");
        }
    }

    /// The end of every link at the controller's own is no news.
    fn stops(&self) -> bool {
        self.parts.tasks.stop_token().is_cancelled()
    }

    /// Until the gateway goes (Ok) or must go (Err).
    async fn serve(&mut self, messages: &mut Streaming<GatewayMessage>) -> Result<(), Status> {
        let mut worlds = self.parts.handle.watch();
        let stop = self.parts.tasks.stop_token();
        let silence = tokio::time::sleep(SILENCE_SECS_MAX);
        tokio::pin!(silence);
        loop {
            // Cancel-safe: `message` keeps a part it has read; the others only wait.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Status::unavailable("the controller stops")),
                () = self.commands.closed() => return Ok(()),
                () = &mut silence => return Err(Status::deadline_exceeded("nothing was heard")),
                message = messages.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    silence.as_mut().reset(tokio::time::Instant::now() + SILENCE_SECS_MAX);
                    self.take(message).await?;
                }
                changed = worlds.changed() => {
                    if changed.is_err() {
                        return Err(Refusal::NotLeader.into());
                    }
                }
            }
            let world = Arc::clone(&worlds.borrow_and_update());
            self.tell(&world).await?;
        }
    }

    async fn take(&mut self, message: GatewayMessage) -> Result<(), Status> {
        let GatewayMessage { sessions, peer_address } = message;
        if SESSIONS_MAX < sessions.len() {
            return Err(invalid_field("sessions", "at most 20,000 are allowed"));
        }
        self.present.clear();
        for one in sessions {
            let (tenant, session) = child::<SessionId>("session", &one.session, "sessions")?;
            let PresentSession { session: name, epoch, idle_secs, .. } = one;
            self.present.insert(session, Present { tenant, name, epoch, idle_secs });
        }
        let present = &self.present;
        self.told.retain(|(id, epoch)| present.get(id).is_some_and(|one| one.epoch == *epoch));
        self.told_messages
            .retain(|id, (epoch, _)| present.get(id).is_some_and(|one| one.epoch == *epoch));
        let sessions = self.present.iter().map(|(id, one)| (*id, one.epoch)).collect();
        let idle_secs = self.present.iter().map(|(id, one)| (*id, one.idle_secs)).collect();
        let gateway = self.gateway.clone();
        let peer_address = self.peer_address(&peer_address);
        let link = self.number;
        let change = Change::GatewayPresence { gateway, link, sessions, idle_secs, peer_address };
        match self.parts.handle.change(change).await {
            // The next message comes soon.
            Err(Refusal::Busy) | Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Where other gateways reach this one: as it says, with the host from which it is linked where it
    /// names none.
    fn peer_address(&self, said: &str) -> String {
        if ADDRESS_BYTES_MAX < said.len() {
            return String::new();
        }
        match (said.strip_prefix(':'), self.address) {
            (Some(port), Some(IpAddr::V6(host))) => format!("[{host}]:{port}"),
            (Some(port), Some(host)) => format!("{host}:{port}"),
            (Some(_), None) => String::new(),
            (None, _) => said.to_owned(),
        }
    }

    /// What is to be shown to the users of attached sessions and was not told yet.
    fn new_messages(&mut self, world: &World) -> Vec<SessionMessages> {
        let since_ms = self.parts.clock.now_ms() - SHOWN_MS_MAX;
        let mut all = Vec::new();
        for (id, present) in &self.present {
            let Some(session) = world.session(&present.tenant, *id) else { continue };
            let Some(last) = session.notices.last() else { continue };
            let told = (present.epoch, last.number);
            if self.told_messages.get(id) == Some(&told) {
                continue;
            }
            self.told_messages.insert(*id, told);
            let young = session.notices.iter().filter(|notice| since_ms <= notice.at_ms);
            let messages: Vec<_> = young.map(messages::on_wire).collect();
            if !messages.is_empty() {
                all.push(SessionMessages { session: present.name.clone(), messages });
            }
        }
        all
    }

    async fn tell(&mut self, world: &World) -> Result<(), Status> {
        let mut closed = Vec::new();
        for (id, present, closing) in to_close(world, &self.gateway, &self.present) {
            if self.told.insert((id, present.epoch)) {
                closed.push(closed_session(present.name.clone(), closing));
            }
        }
        let messages = self.new_messages(world);
        if closed.is_empty() && messages.is_empty() {
            return Ok(());
        }
        let sent = self.commands.send(Ok(GatewayCommand { closed, messages }));
        tokio::time::timeout(SILENCE_SECS_MAX, sent)
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("the gateway takes no commands"))?
            .map_err(|_closed| Status::cancelled("the gateway is gone"))
    }
}

fn closed_session(session: String, closing: Closing) -> ClosedSession {
    match closing {
        Closing::Ended(cause) => {
            let (code, away_secs) = cause_to_wire(&cause);
            let (reason, cause) = (cause.to_string(), code.into());
            ClosedSession { session, reason, cause, away_secs, ..ClosedSession::default() }
        }
        Closing::Elsewhere(epoch) => {
            let reason = "another gateway has it attached".to_owned();
            ClosedSession { session, reason, elsewhere: true, epoch, ..ClosedSession::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_must_let_go_is_told_of_the_epoch_that_has_it() {
        let closed = closed_session("s".to_owned(), Closing::Elsewhere(7));
        assert_eq!((closed.elsewhere, closed.epoch), (true, 7));
    }
}
