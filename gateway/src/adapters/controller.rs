//! The control plane as the gateway sees it: a connection that is kept, tickets, presence.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};
use vidi_display::protocol::UserMessage;
use vidi_kit::config::ControllerAccess;
use vidi_kit::controllers::{self, Controllers};
use vidi_kit::tls::IdentityReceiver;
use vidi_kit::trace;
use vidi_kit::transport::{ConnectError, describe};
use vidi_kit::{Backoff, Tasks};
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::{
    ClosedSession, DirectServer, GatewayMessage, IssueGrantRequest, PresentSession,
    SessionEndCause, SessionMessages,
};
use vidi_spice::Password;
use zeroize::Zeroizing;

use super::admission::terms_of;
use crate::error::GatewayError;
use crate::model::{CloseCode, Ending, Said};
use crate::ports::{
    DirectTicket, Presence, Present, RelayTicket, ServerTrust, Ticket, Tickets, Way, host_and_port,
};

/// Presence is told this often, and at each change.
const PRESENCE_PERIOD: Duration = Duration::from_secs(10);
/// What was said of sessions and waits to be taken.
const SAID_MAX: usize = 256;
/// Messages to the user of one session that are taken: what a controller keeps.
const MESSAGES_OF_SESSION_MAX: usize = 8;
/// Presence messages that wait for the wire: a newer one replaces what it says.
const MESSAGES_MAX: usize = 4;
/// No answer in this time means that the controller is away.
const ANSWER_SECS_MAX: Duration = Duration::from_secs(10);
/// A sentence for operators; what is longer is some server's own words.
const PROBLEM_CHARS_MAX: usize = 300;

/// The kept connection; clones share it.
#[derive(Clone)]
pub struct Controller {
    channel: watch::Receiver<Option<Channel>>,
    /// Presence is told, and what is said of sessions is heard.
    linked: Arc<AtomicBool>,
    identity: IdentityReceiver,
}

impl fmt::Debug for Controller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Controller(connected: {})", self.channel.borrow().is_some())
    }
}

impl Controller {
    /// Keeps a link to the controller that leads, in the background, for ever: tells presence and takes
    /// what is said of sessions, over as many connections as it needs.
    pub fn link(
        tasks: &Tasks,
        access: &ControllerAccess,
        (identity, peer_address): (IdentityReceiver, String),
        presence: watch::Receiver<Presence>,
    ) -> (Self, mpsc::Receiver<Said>) {
        let (sender, channel) = watch::channel(None);
        let (said, receiver) = mpsc::channel(SAID_MAX);
        let controller = Self { channel, linked: Arc::default(), identity };
        let line = Line { controller: controller.clone(), sender, presence, said, peer_address };
        let (addresses, stop) = (access.addresses.clone(), tasks.stop_token());
        let _linking = tasks.spawn("controller-link", async move {
            // Cancel-safe: the whole set of sessions is told again on the next link.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = line.keep(&addresses) => {}
            }
        });
        (controller, receiver)
    }

    /// The gateway's own certificate.
    pub fn identity(&self) -> IdentityReceiver {
        self.identity.clone()
    }

    /// The gateway's own id.
    pub fn own_id(&self) -> String {
        self.identity.borrow().name.id.clone()
    }

    /// Whether the controller's link is up, or why new desktops cannot be opened here.
    pub fn judge_link(&self) -> Result<(), String> {
        if self.linked.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("there is no link; sessions that are shown go on".to_owned())
        }
    }

    /// The connection, or an error for people when there is none.
    pub fn channel(&self) -> Result<Channel, GatewayError> {
        self.channel.borrow().clone().ok_or(GatewayError::ControllerAway)
    }

    /// Waits for a connection.
    pub async fn connected(&self) -> Option<Channel> {
        let mut channel = self.channel.clone();
        let connected = channel.wait_for(Option::is_some).await.ok()?;
        connected.clone()
    }

    /// What it was before.
    fn set_linked(&self, linked: bool) -> bool {
        metrics::gauge!("vidi_gateway_controller_linked").set(f64::from(u8::from(linked)));
        self.linked.swap(linked, Ordering::Relaxed)
    }
}

/// Why a link is over.
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
}

/// Not as a source: its message says it all, and the rest is for machines.
impl From<Status> for LinkError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The task that keeps the link.
struct Line {
    controller: Controller,
    sender: watch::Sender<Option<Channel>>,
    presence: watch::Receiver<Presence>,
    said: mpsc::Sender<Said>,
    peer_address: String,
}

impl Line {
    async fn keep(&self, addresses: &[String]) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut controllers = Controllers::new(addresses);
        let mut told = String::new();
        loop {
            let Err(error) = self.link_once(controllers.current()).await else { return };
            // Said once for each link that was up, and for each new reason of the tries that follow.
            let was_up = self.controller.set_linked(false);
            if was_up {
                backoff.reset();
            }
            let at_once = if let LinkError::Status(status) = &error {
                controllers.refused(status)
            } else {
                controllers.left();
                false
            };
            let text = describe(&error);
            match (was_up, text == told) {
                (true, _) => warn!(error = text, "The link to the controller is down"),
                (false, false) if !at_once => warn!(error = text, "No link to a controller yet"),
                (false, _) => debug!(error = text, "No link to a controller yet"),
            }
            told = text;
            if !at_once {
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }

    /// Until the link is over, or the gateway stops (Ok).
    async fn link_once(&self, address: Option<&str>) -> Result<(), LinkError> {
        let mut identity = self.controller.identity.clone();
        identity.mark_unchanged();
        let mut presence = self.presence.clone();
        let address = address.ok_or(ConnectError::NoAddress)?;
        let channel = controllers::connect(address, &identity).await?;
        let (messages, receiver) = mpsc::channel(MESSAGES_MAX);
        let message = message_of(&presence.borrow_and_update(), &self.peer_address);
        // The queue is empty and has room.
        drop(messages.try_send(message));
        let mut client = GatewayLinkClient::new(channel.clone());
        let opening = client.link(ReceiverStream::new(receiver));
        let opened = tokio::time::timeout(ANSWER_SECS_MAX, opening).await;
        let mut commands = opened.map_err(|_elapsed| LinkError::Silent)??.into_inner();
        self.sender.send_replace(Some(channel));
        self.controller.set_linked(true);
        info!(address, "The link to the controller is up");
        let mut beat = tokio::time::interval(PRESENCE_PERIOD);
        loop {
            // Cancel-safe: `changed`, `message` and `tick` lose nothing when not taken.
            tokio::select! {
                biased;
                command = commands.message() => {
                    let command = command?.ok_or(LinkError::Closed)?;
                    for closed in command.closed {
                        // The registry is gone only when the gateway stops.
                        drop(self.said.send(Said::Ending(ending_of(closed))).await);
                    }
                    for messages in command.messages {
                        drop(self.said.send(messages_of(messages)).await);
                    }
                }
                changed = presence.changed() => {
                    if changed.is_err() { return Ok(()) }
                    let message = message_of(&presence.borrow_and_update(), &self.peer_address);
                    messages.send(message).await.map_err(|_closed| LinkError::Closed)?;
                }
                changed = identity.changed() => {
                    if changed.is_err() { return Ok(()) }
                    self.renew(address, &identity).await;
                }
                _ = beat.tick() => {
                    let message = message_of(&presence.borrow(), &self.peer_address);
                    messages.send(message).await.map_err(|_closed| LinkError::Closed)?;
                }
            }
        }
    }

    /// A renewed certificate needs a new connection. Where there is none, the old one serves until its
    /// link is over, too.
    async fn renew(&self, address: &str, identity: &IdentityReceiver) {
        match controllers::connect(address, identity).await {
            Ok(channel) => drop(self.sender.send_replace(Some(channel))),
            Err(error) => warn!(error = describe(&error), "The old certificate is still used"),
        }
    }
}

/// The controller's answer, or none in time.
pub(crate) async fn answered<T>(
    asking: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, GatewayError> {
    let answer = tokio::time::timeout(ANSWER_SECS_MAX, asking).await;
    Ok(answer.map_err(|_elapsed| GatewayError::ControllerAway)??.into_inner())
}

/// A call in the name of who has signed in with this token.
pub(crate) fn bearer<T>(token: &str, message: T) -> Request<T> {
    let mut request = trace::carried(message);
    // Without any token the call would go out in the gateway's own name.
    let value = format!("Bearer {token}").parse().unwrap_or(MetadataValue::from_static("Bearer"));
    request.metadata_mut().insert("authorization", value);
    request
}

/// A code goes before the sentence, by which the page says the same in the person's language.
fn ending_of(closed: ClosedSession) -> Ending {
    if closed.elsewhere {
        let (session, text) = (closed.session, closed.reason);
        return Ending { session, code: CloseCode::TakenOver, text, epoch: Some(closed.epoch) };
    }
    let text = match (closed.cause(), closed.away_secs) {
        (SessionEndCause::Unspecified, _) => closed.reason,
        (cause, secs) => {
            let name = cause.as_str_name().trim_start_matches("SESSION_END_CAUSE_");
            let secs = if secs == 0 { String::new() } else { format!(" {secs}") };
            format!("{name}{secs}: {}", closed.reason)
        }
    };
    Ending { session: closed.session, code: CloseCode::Ended, text, epoch: None }
}

/// A controller's clock is a time of day; before 1970 it is none.
fn messages_of(told: SessionMessages) -> Said {
    let at_ms = |time: Option<prost_types::Timestamp>| {
        let time = time.unwrap_or_default();
        let secs = u64::try_from(time.seconds).unwrap_or(0);
        secs.saturating_mul(1_000)
            .saturating_add(u64::try_from(time.nanos / 1_000_000).unwrap_or(0))
    };
    let messages = told.messages.into_iter().take(MESSAGES_OF_SESSION_MAX).map(|one| {
        let at_ms = at_ms(one.time);
        UserMessage { number: one.number, at_ms, from: one.from, text: one.text }
    });
    Said::Messages { session: told.session, messages: messages.collect() }
}

fn message_of(presence: &Presence, peer_address: &str) -> GatewayMessage {
    let now = Instant::now();
    let sessions = presence.iter().map(|(session, Present { epoch, touched })| {
        let idle = touched.map(|touched| now.duration_since(touched));
        let idle_secs = idle.map_or(0, |idle| u32::try_from(idle.as_secs()).unwrap_or(u32::MAX));
        PresentSession { session: session.clone(), viewers: 1, epoch: *epoch, idle_secs }
    });
    GatewayMessage { sessions: sessions.collect(), peer_address: peer_address.to_owned() }
}

#[async_trait]
impl Tickets for Controller {
    async fn ticket(
        &self,
        token: &str,
        session: &str,
        problem: &str,
    ) -> Result<Ticket, GatewayError> {
        let problem = problem.chars().take(PROBLEM_CHARS_MAX).collect();
        let (token, session) = (token.to_owned(), session.to_owned());
        let request = IssueGrantRequest { token, session, problem };
        let mut client = GatewayLinkClient::new(self.channel()?);
        let answer = answered(client.issue_grant(trace::carried(request))).await?;
        let place = if answer.desktop.is_empty() { &answer.machine } else { &answer.desktop };
        let terms = terms_of(answer.display_policy, &answer.user_display_name, place);
        let way = match answer.direct {
            Some(server) => Way::Direct(direct_ticket(server)?),
            None => Way::Relay(RelayTicket {
                grant: answer.grant,
                address: answer.relay_address,
                name: answer.relay_name,
            }),
        };
        Ok(Ticket { epoch: answer.epoch, way, terms })
    }
}

/// A physical machine as the controller names it.
fn direct_ticket(server: DirectServer) -> Result<DirectTicket, GatewayError> {
    let spoken = Zeroizing::new(server.password);
    let password =
        Password::new(&spoken).map_err(|error| GatewayError::Spice(error.to_string()))?;
    let addresses: Vec<String> = server.address.split(',').map(str::to_owned).collect();
    let first = addresses.first().and_then(|address| host_and_port(address));
    let host_name = match server.host_name.as_str() {
        "" => first.map_or("", |(host, _)| host).to_owned(),
        name => name.to_owned(),
    };
    let tls = server.tls.then_some(ServerTrust { ca: server.ca, host_name });
    Ok(DirectTicket { addresses, tls, password })
}

/// As a port.
pub fn tickets(controller: &Controller) -> Arc<dyn Tickets> {
    Arc::new(controller.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_in_somebodys_name_carries_the_trace_and_never_goes_out_without_a_token() {
        let calling = async { ["token", "no\ntoken"].map(|token| bearer(token, ())) };
        let calls = trace::scope(trace::TraceId::generate(), calling).await;
        for (call, value) in calls.iter().zip(["Bearer token", "Bearer"]) {
            assert_eq!(call.metadata().get("authorization").unwrap(), value);
            assert!(call.metadata().contains_key(trace::HEADER.as_str()));
        }
    }

    #[test]
    fn an_ending_begins_with_its_cause_and_a_session_that_goes_on_elsewhere_has_not_ended() {
        let closed = |cause: SessionEndCause, away_secs| ClosedSession {
            session: "s".to_owned(),
            reason: "so it is".to_owned(),
            cause: cause.into(),
            away_secs,
            elsewhere: false,
            epoch: 0,
        };
        let elsewhere =
            ClosedSession { elsewhere: true, epoch: 7, ..closed(SessionEndCause::Unspecified, 0) };
        let ended = (CloseCode::Ended, None);
        for (closed, (code, epoch), text) in [
            (closed(SessionEndCause::Away, 600), ended, "AWAY 600: so it is"),
            (closed(SessionEndCause::NoHost, 0), ended, "NO_HOST: so it is"),
            (closed(SessionEndCause::Unspecified, 0), ended, "so it is"),
            (elsewhere, (CloseCode::TakenOver, Some(7)), "so it is"),
        ] {
            let ending = Ending { session: "s".to_owned(), code, text: text.to_owned(), epoch };
            assert_eq!(ending_of(closed), ending);
        }
    }
}
