//! A client's set of channels: one attachment of a session, held until main, the session or its user's
//! rights end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use vidi_display::protocol::Part;
use vidi_kit::Tasks;
use vidi_kit::ids::DesktopId;
use vidi_kit::telemetry::Counted;
use vidi_spice::{
    ChannelKind, LinkRequest, PassedLink, Password, Refusal, SpiceError, TicketSeed, offered,
};

use crate::error::GatewayError;
use crate::http::router::Edge;
use crate::model::CloseCode;
use crate::model::raw::{Owner, TicketHash};
use crate::ports::{Attachment, ChannelPipe, Way};
use crate::raw::rights::{self, Denied};
use crate::raw::stream::{ClientStream, Reader, Writer};
use crate::reconcile::registry::{Request, Seized, ToViewer, Viewer};

/// A desktop that has not opened a channel within this time does not.
const OPEN_SECS_MAX: Duration = Duration::from_secs(20);
/// Channels of a set at once: six kinds, and a display and a cursor for each of some monitors.
const CHANNELS_MAX: usize = 16;
/// Whether a set may go on is asked this often.
const RIGHTS_PERIOD: Duration = Duration::from_secs(20);
/// A ping after this much silence finds dead clients and keeps middle boxes awake.
const PING_PERIOD: Duration = Duration::from_secs(15);

/// Why a channel is not opened.
#[derive(Debug)]
pub(super) struct Refused {
    /// What the client is told.
    pub(super) refusal: Refusal,
    /// As metrics name it.
    pub(super) reason: &'static str,
    /// For the log.
    pub(super) text: String,
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let text = denied.text().to_owned();
        Self { refusal: Refusal::PermissionDenied, reason: denied.reason(), text }
    }
}

impl From<GatewayError> for Refused {
    fn from(error: GatewayError) -> Self {
        Self { refusal: Refusal::Unspecific, reason: "desktop", text: error.to_string() }
    }
}

impl From<SpiceError> for Refused {
    fn from(error: SpiceError) -> Self {
        let refusal = match error {
            SpiceError::Refused(refusal) => refusal,
            _ => Refusal::Unspecific,
        };
        Self { refusal, reason: "desktop", text: error.to_string() }
    }
}

/// An attached session whose channels are a client's.
#[derive(Debug)]
pub(super) struct Set {
    attachment: Box<dyn Attachment>,
    epoch: u64,
    /// The desktop's own, where it has one: a physical machine.
    password: Password,
    /// Everything of this set ends with them.
    tasks: Tasks,
    /// Kind and number of those that are open.
    channels: Mutex<BTreeSet<(ChannelKind, u8)>>,
}

/// A channel's place in its set.
struct Place {
    set: Arc<Set>,
    channel: (ChannelKind, u8),
    _counted: Counted,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set.lock().remove(&self.channel);
        // The set goes with its main channel.
        if self.channel.0 == ChannelKind::Main {
            self.set.tasks.stop_token().cancel();
        }
    }
}

/// A channel that is open on the desktop's side.
pub(super) struct Opened {
    place: Place,
    pipe: ChannelPipe,
    /// What the desktop has said already.
    first: Bytes,
}

impl Set {
    /// Attaches the owner's session in place of whoever has it, and opens main.
    pub(super) async fn open_new(
        edge: &Edge,
        desktop: DesktopId,
        hash: TicketHash,
        owner: Owner,
        request: &LinkRequest,
    ) -> Result<Opened, Refused> {
        let reach = edge.registry.reach().clone();
        rights::judge_session(&edge.controller, &owner.token, &owner.session, reach.policy).await?;
        let ticket = reach.tickets.ticket(&owner.token, &owner.session, "").await?;
        let full = || GatewayError::Relay("this gateway is full, or busy; try again".to_owned());
        rights::judge(&ticket.terms, reach.policy)?;
        let seized = edge.registry.seize(&owner.session).await.ok_or_else(full)?;
        let attachment = reach.dial.attach(&ticket).await?;
        let password = match &ticket.way {
            Way::Relay(_) => Password::default(),
            Way::Direct(direct) => direct.password.clone(),
        };
        let tasks = edge.registry.tasks().child();
        let (epoch, channels) = (ticket.epoch, Mutex::default());
        let set = Arc::new(Self { attachment, epoch, password, tasks, channels });
        let opened = set.open(request).await?;
        edge.raw.tickets().opened(desktop, &hash, Arc::clone(&set));
        edge.registry.present(&owner.session, Some(ticket.epoch));
        info!(session = owner.session, epoch = ticket.epoch, "Another viewer's channels are open");
        let edge = edge.clone();
        let _holding = edge.registry.tasks().clone().spawn("raw-session", async move {
            let taken = set.hold(&edge, &owner, seized).await;
            edge.raw.tickets().ended(desktop, &hash);
            drop(set);
            if let Some(viewer) = taken {
                edge.registry.add(&owner.session, *viewer).await;
            }
        });
        Ok(opened)
    }

    /// Opens one more channel with the desktop, as the client asked for it.
    pub(super) async fn open(self: &Arc<Self>, request: &LinkRequest) -> Result<Opened, Refused> {
        let channel = (request.kind, request.channel_id);
        let place = self.place(channel)?;
        let opening = async {
            let mut pipe = self.attachment.open_onward().await?;
            let seed = TicketSeed::generate(&mut rand::rng());
            let mut link = PassedLink::start(request, self.password.clone(), seed);
            let gone = || GatewayError::Spice("it closed the channel".to_owned());
            loop {
                while let Some(bytes) = link.poll_transmit() {
                    pipe.send.send(bytes).await.map_err(|_closed| gone())?;
                }
                let bytes = pipe.receive.recv().await.ok_or_else(gone)?;
                let Some((linked, first)) = link.receive(&bytes)? else { continue };
                let promised = offered(request.kind);
                if linked.channel.both(promised) != promised {
                    let text = "its spice server is too old for other viewers".to_owned();
                    return Err(GatewayError::Spice(text).into());
                }
                if let Some(wish) = request.compression() {
                    pipe.send.send(wish).await.map_err(|_closed| gone())?;
                }
                return Ok(Opened { place, pipe, first });
            }
        };
        let silent = || GatewayError::Spice("it does not answer".to_owned());
        tokio::time::timeout(OPEN_SECS_MAX, opening).await.map_err(|_elapsed| silent())?
    }

    fn place(self: &Arc<Self>, channel: (ChannelKind, u8)) -> Result<Place, Refused> {
        let mut channels = self.lock();
        if self.tasks.stop_token().is_cancelled()
            || CHANNELS_MAX <= channels.len()
            || !channels.insert(channel)
        {
            let text = format!("the channel {channel:?} is open already, or too many are");
            return Err(Refused { refusal: Refusal::ChannelNotAvailable, reason: "channel", text });
        }
        let counted = Counted::by(metrics::gauge!("vidi_gateway_raw_channels"));
        Ok(Place { set: Arc::clone(self), channel, _counted: counted })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<(ChannelKind, u8)>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the set ends, and ends it; gives the viewer that takes the session over.
    async fn hold(&self, edge: &Edge, owner: &Owner, seized: Seized) -> Option<Box<Viewer>> {
        let Seized { held, mut requests } = seized;
        let mut taken = None;
        // Cancel-safe: whichever resolves first ends the set, and with it what the others wait for.
        let why = tokio::select! {
            biased;
            () = self.tasks.stopping() => "its main channel is closed".to_owned(),
            why = asked(&mut requests, self.epoch, &mut taken) => why,
            why = self.attachment.ended() => why,
            why = watch_rights(edge, owner) => why,
        };
        info!(session = owner.session, reason = why, "Another viewer's channels are closed");
        self.tasks.stop_token().cancel();
        drop((requests, held));
        taken
    }
}

/// Resolves when the session's own user wants it elsewhere, or the controller ends it, with the reason.
/// Whom that user has let in finds nothing to look at.
async fn asked(
    requests: &mut mpsc::Receiver<Request>,
    epoch: u64,
    taken: &mut Option<Box<Viewer>>,
) -> String {
    loop {
        match requests.recv().await {
            Some(Request::View(viewer)) if viewer.visitor.part == Part::Owner => {
                *taken = Some(viewer);
                return "a browser took the session over".to_owned();
            }
            Some(Request::View(viewer)) => {
                let text = "its user looks at the desktop with another viewer".to_owned();
                // A viewer that is gone needs no word; its queue is new and has room.
                drop(viewer.outgoing.try_send(ToViewer::Close(CloseCode::TryAgain, text)));
            }
            // A word of an attachment before this one.
            Some(Request::End(ending)) if ending.epoch.is_some_and(|of| of <= epoch) => {}
            Some(Request::End(ending)) => return ending.text,
            // Whether they let a set go on is asked by itself.
            Some(Request::Terms(_)) => {}
            // Another viewer has no place for them.
            Some(Request::Messages(_)) => {}
            None => return "the gateway stops".to_owned(),
        }
    }
}

/// Resolves when the set may not go on, with the reason. A controller that is away proves nothing.
async fn watch_rights(edge: &Edge, owner: &Owner) -> String {
    loop {
        tokio::time::sleep(RIGHTS_PERIOD).await;
        let policy = edge.registry.reach().policy;
        let judged =
            rights::judge_session(&edge.controller, &owner.token, &owner.session, policy).await;
        match judged {
            Ok(()) => {}
            Err(Denied::Away(text)) => debug!(reason = text, "A set's rights are not known now"),
            Err(denied) => {
                warn!(session = owner.session, reason = denied.text(), "Other viewer is let go");
                return denied.text().to_owned();
            }
        }
    }
}

impl Opened {
    /// Passes bytes both ways until either side or the set ends. `early` are bytes that the client has
    /// sent already.
    pub(super) async fn pass(self, client: ClientStream, early: Bytes) {
        let Self { place, pipe, first } = self;
        let ChannelPipe { receive, send } = pipe;
        let ClientStream { reader, mut writer } = client;
        let tasks = place.set.tasks.clone();
        // Cancel-safe: the channel ends with the first that resolves.
        tokio::select! {
            biased;
            () = tasks.stopping() => {}
            () = to_desktop(reader, early, send) => {}
            () = to_client(receive, first, &mut writer) => {}
        }
        drop(place);
        writer.close().await;
    }
}

async fn to_desktop(mut reader: Reader, early: Bytes, send: mpsc::Sender<Bytes>) {
    let counter = count_bytes("from_client");
    let mut next = (!early.is_empty()).then_some(early);
    loop {
        let Some(bytes) = next.take() else {
            next = reader.next().await;
            if next.is_none() {
                return;
            }
            continue;
        };
        counter.increment(bytes.len() as u64);
        // Waits while the desktop takes nothing.
        if send.send(bytes).await.is_err() {
            return;
        }
    }
}

async fn to_client(mut receive: mpsc::Receiver<Bytes>, first: Bytes, writer: &mut Writer) {
    let counter = count_bytes("to_client");
    let mut next = first;
    loop {
        counter.increment(next.len() as u64);
        if !writer.send(next).await {
            return;
        }
        next = loop {
            match tokio::time::timeout(PING_PERIOD, receive.recv()).await {
                Ok(Some(bytes)) => break bytes,
                Ok(None) => return,
                Err(_elapsed) if writer.ping().await => {}
                Err(_elapsed) => return,
            }
        };
    }
}

fn count_bytes(direction: &'static str) -> metrics::Counter {
    metrics::counter!("vidi_gateway_raw_bytes_total", "direction" => direction)
}
