//! The task that owns one session: its guest, its display engine, its viewers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, StreamMap};
use tracing::{debug, info, warn};
use vidi_display::protocol::{SessionState, ToldState, UserMessage, ViewerMessage};
use vidi_display::{
    AgentCommand, Effect, EncodeJob, Encoded, JobId, Session, ViewerId, ViewerRights,
};
use vidi_kit::Backoff;
use vidi_spice::MoveTarget;

use crate::error::GatewayError;
use crate::model::{CloseCode, Outlook, Terms};
use crate::ports::Way;
use crate::reconcile::encoding;
use crate::reconcile::figures::{
    Figures, count_attach, count_clipboard, count_command, count_sound,
};
use crate::reconcile::guest::{Guest, Woken};
use crate::reconcile::heard::{
    handle_cursor, handle_display, handle_inputs, handle_main, prefer_moved, tell_agent_events,
    tell_file_events,
};
use crate::reconcile::mark::Mark;
use crate::reconcile::people::People;
use crate::reconcile::recorder::Recorder;
use crate::reconcile::registry::{FromViewer, Registry, Request, ToViewer, Viewer};
use crate::reconcile::sound;

/// A session that nobody looks at is kept attached this long: a reload or a short network loss then
/// finds its picture at once.
const LINGER_PERIOD: Duration = Duration::from_secs(30);
/// Results of encoders that wait to be taken.
const RESULTS_MAX: usize = 64;
/// The guest did not take input: it is offered again after this.
const RETRY_PERIOD: Duration = Duration::from_millis(5);
/// Where the session waits for a desktop of its pool it is asked for again after this: soon enough that
/// whose turn it is hardly waits longer, and seldom enough that a thousand who wait are no load.
const QUEUE_PERIOD: Duration = Duration::from_secs(2);
/// With nothing to do the task looks around this often.
const IDLE_PERIOD: Duration = Duration::from_secs(3_600);

type Connecting = BoxFuture<'static, Result<Guest, GatewayError>>;

/// How the desktop is reached now.
enum Link {
    Connecting(Connecting),
    Connected(Box<Guest>),
    Waiting(Instant),
}

/// What woke the task.
enum Wake {
    Stop,
    Request(Option<Request>),
    Viewer(ViewerId, FromViewer),
    /// A job's result; none when its encoder panicked.
    Encoded(JobId, Option<Encoded>),
    Connected(Box<Result<Guest, GatewayError>>),
    Guest(Woken),
    Deadline,
}

/// One session.
pub(crate) struct SessionTask {
    pub(super) registry: Arc<Registry>,
    pub(super) name: String,
    requests: mpsc::Receiver<Request>,
    origin: Instant,
    pub(super) display: Session,
    pub(super) viewers: BTreeMap<ViewerId, mpsc::Sender<ToViewer>>,
    pub(super) incoming: StreamMap<ViewerId, ReceiverStream<FromViewer>>,
    /// The session's user's: grants are asked for in its name.
    token: String,
    link: Link,
    backoff: Backoff,
    results: mpsc::Receiver<(JobId, Option<Encoded>)>,
    results_sender: mpsc::Sender<(JobId, Option<Encoded>)>,
    /// Its jobs that may ask for a thread at a time.
    encoding: Arc<Semaphore>,
    pub(super) lonely_since: Option<Instant>,
    /// The guest has not taken everything yet.
    behind: bool,
    pub(super) figures: Figures,
    /// Its user, guests, and who asks.
    pub(super) people: People,
    pub(super) recorder: Recorder,
    /// What holds now: it comes with each attachment, and anew while it is attached.
    pub(super) terms: Terms,
    /// The text over the picture.
    pub(super) mark: Mark,
    /// What people tell its user, as the controller last said it.
    messages: Vec<UserMessage>,
    /// Why the desktop was not reached, as it was last told.
    told: String,
    /// Where a machine last moved to: it is looked for there first.
    moved: Option<MoveTarget>,
}

impl SessionTask {
    pub(crate) fn new(
        registry: Arc<Registry>,
        name: String,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let (results_sender, results) = mpsc::channel(RESULTS_MAX);
        let display = Session::new(registry.reach().policy);
        let now = Instant::now();
        Self {
            registry,
            name,
            requests,
            origin: now,
            display,
            viewers: BTreeMap::new(),
            incoming: StreamMap::new(),
            token: String::new(),
            link: Link::Waiting(now),
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(5)),
            results,
            results_sender,
            encoding: Arc::new(Semaphore::new(encoding::ASKING_MAX)),
            lonely_since: Some(now),
            behind: false,
            figures: Figures::default(),
            people: People::default(),
            recorder: Recorder::default(),
            terms: Terms::default(),
            mark: Mark::default(),
            messages: Vec::new(),
            told: String::new(),
            moved: None,
        }
    }

    /// Runs until the session is over or nobody has looked for a while.
    pub(crate) async fn run(mut self) {
        loop {
            let wake = self.wake().await;
            match wake {
                Wake::Stop => {
                    self.close_all(CloseCode::TryAgain, "the gateway stops");
                    return;
                }
                Wake::Request(None) => return,
                Wake::Request(Some(Request::View(viewer))) => self.view(*viewer),
                Wake::Request(Some(Request::Terms(terms))) => self.follow(*terms),
                Wake::Request(Some(Request::Messages(messages))) => {
                    self.messages = messages;
                    self.tell_messages();
                }
                Wake::Request(Some(Request::End(ending))) => {
                    if self.ends(&ending) {
                        return;
                    }
                }
                Wake::Viewer(id, event) => self.viewer(id, event),
                Wake::Encoded(id, Some(encoded)) => self.display.encoded(id, encoded),
                Wake::Encoded(id, None) => self.lost(id),
                Wake::Connected(result) => {
                    if !self.connected(*result) {
                        return;
                    }
                }
                Wake::Guest(woken) => self.guest(woken),
                Wake::Deadline => {}
            }
            self.follow_time();
            self.carry_out();
            if self.lonely_since.is_some_and(|since| LINGER_PERIOD <= since.elapsed()) {
                debug!("Nobody looks; detached");
                return;
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let (deadline, origin) = (self.deadline(), self.origin);
        if let Link::Waiting(until) = &self.link
            && *until <= Instant::now()
            && self.people.owner().is_some()
        {
            self.link = Link::Connecting(self.connect());
        }
        let link = async {
            match &mut self.link {
                Link::Connecting(connecting) => Wake::Connected(Box::new(connecting.await)),
                Link::Connected(guest) => Wake::Guest(guest.wake(origin).await),
                Link::Waiting(_) => std::future::pending().await,
            }
        };
        let tasks = self.registry.tasks();
        // Cancel-safe: queues lose nothing that is not taken, `Guest::wake` says so of itself, and a
        // connecting future is kept and polled again.
        tokio::select! {
            biased;
            () = tasks.stopping() => Wake::Stop,
            // Rare, and never to be held up by a browser that floods.
            request = self.requests.recv() => Wake::Request(request),
            Some((id, event)) = self.incoming.next(), if !self.incoming.is_empty() => Wake::Viewer(id, event),
            Some((id, encoded)) = self.results.recv() => Wake::Encoded(id, encoded),
            wake = link => wake,
            () = tokio::time::sleep_until(deadline) => Wake::Deadline,
        }
    }

    fn deadline(&mut self) -> Instant {
        let now = Instant::now();
        let idle = Some(now + IDLE_PERIOD);
        let engine = self.display.next_deadline().map(|due| self.origin + due);
        let lonely = self.lonely_since.map(|since| since + LINGER_PERIOD);
        let behind = self.behind.then(|| now + RETRY_PERIOD);
        let retry = match &self.link {
            Link::Waiting(until) if self.people.owner().is_some() => Some(*until),
            Link::Waiting(_) | Link::Connecting(_) | Link::Connected(_) => None,
        };
        let guests = [self.people.due_at(), self.mark.at, self.recorder.retry_at];
        let guests = guests.into_iter().flatten().min();
        [idle, engine, lonely, behind, retry, guests].into_iter().flatten().min().unwrap_or(now)
    }

    fn connect(&self) -> Connecting {
        let reach = self.registry.reach().clone();
        let (token, name, told) = (self.token.clone(), self.name.clone(), self.told.clone());
        let moved = self.moved.clone();
        Box::pin(async move {
            let mut ticket = reach.tickets.ticket(&token, &name, &told).await?;
            if let (Way::Direct(direct), Some(target)) = (&mut ticket.way, &moved) {
                direct.prefer(target);
            }
            Guest::connect(reach.dial.as_ref(), ticket).await
        })
    }

    /// `false` when the session is over.
    fn connected(&mut self, result: Result<Guest, GatewayError>) -> bool {
        match result {
            Ok(mut guest) => {
                info!(epoch = guest.ticket.epoch, "Attached to the desktop");
                count_attach("attached");
                self.told = String::new();
                self.backoff.reset();
                self.display.mouse_mode(guest.mouse_mode);
                self.display.status(SessionState::Connected, "");
                let terms = guest.ticket.terms.clone();
                tell_agent_events(&mut guest, &mut self.display);
                self.link = Link::Connected(Box::new(guest));
                self.follow_terms(terms);
                self.tell_presence();
                true
            }
            Err(error) => self.not_reached(&error),
        }
    }

    fn not_reached(&mut self, error: &GatewayError) -> bool {
        let outlook = error.outlook();
        let mut pause = QUEUE_PERIOD;
        if outlook == Outlook::Waits {
            debug!(%error, "The session waits for a desktop");
            count_attach("waiting");
        } else {
            self.tell_not_reached(error);
            pause = self.backoff.next_wait();
        }
        match outlook {
            Outlook::Ended => {
                self.end(CloseCode::Ended, &error.for_people());
                return false;
            }
            Outlook::SignedOut => self.close_all(CloseCode::SignedOut, "sign in again"),
            Outlook::TryAgain | Outlook::Waits => {
                self.display.status(SessionState::Connecting, &error.for_people());
            }
        }
        self.link = Link::Waiting(Instant::now() + pause);
        true
    }

    /// Once for each reason: the tries go on for as long as somebody waits.
    fn tell_not_reached(&mut self, error: &GatewayError) {
        let text = error.to_string();
        if self.told == text {
            debug!(error = text, "The desktop is not reached");
        } else {
            warn!(error = text, "The desktop is not reached");
            self.told = text;
        }
        count_attach("failed");
    }

    fn view(&mut self, viewer: Viewer) {
        if Self::is_guest(&viewer) {
            return self.view_guest(viewer);
        }
        let before = self.people.owner();
        let Viewer { hello, token, visitor, trace, incoming, outgoing } = viewer;
        match self.display.add_viewer(hello, ViewerRights::Control) {
            Ok(id) => {
                self.token = token;
                self.figures.arrived(id, self.registry.take_click(trace));
                self.viewers.insert(id, outgoing);
                self.incoming.insert(id, ReceiverStream::new(incoming));
                self.people.add_owner(id, visitor);
                // The newest window of the session's user has the session; guests stay.
                if let Some(before) = before {
                    let text = "the session was opened somewhere else";
                    self.let_go(before, CloseCode::TakenOver, text);
                }
                self.lonely_since = None;
                // An attempt under way is made in the name of the viewer before.
                if !matches!(self.link, Link::Connected(_)) {
                    self.link = Link::Waiting(Instant::now());
                }
                self.keep_recording();
                self.tell_people();
                self.tell_messages();
                self.tell_presence();
            }
            Err(error) => {
                // The socket's queue is new and has room.
                let close = ToViewer::Close(CloseCode::TryAgain, error.to_string());
                drop(outgoing.try_send(close));
            }
        }
    }

    /// Messages are for the session's user, not for guests.
    fn tell_messages(&mut self) {
        if let Some(owner) = self.people.owner().filter(|_| !self.messages.is_empty()) {
            self.display.tell(owner, ToldState::messages(&self.messages));
        }
    }

    fn viewer(&mut self, id: ViewerId, event: FromViewer) {
        let now = self.origin.elapsed();
        match event {
            FromViewer::Records(records) => {
                for record in &records {
                    if let ViewerMessage::Sharing(message) = record {
                        self.sharing(id, *message);
                    }
                    self.display.viewer_message(id, record, now);
                }
            }
            FromViewer::Sent(bytes) => self.display.sent(id, bytes, now),
            FromViewer::Gone => self.remove(id),
            FromViewer::Over(end) => self.recording_over(id, end),
        }
    }

    fn guest(&mut self, woken: Woken) {
        let Link::Connected(guest) = &mut self.link else { return };
        let now = self.origin.elapsed();
        let handled = match woken {
            Woken::Main => handle_main(guest, &mut self.display),
            Woken::Display => handle_display(guest, &mut self.display, now),
            Woken::Inputs => handle_inputs(guest, &mut self.display),
            Woken::Cursor => handle_cursor(guest, &mut self.display),
            // Its events are taken when what the engine has decided is carried out.
            Woken::Sound => Ok(()),
            Woken::Lost(reason) => Err(GatewayError::Relay(reason)),
        };
        if let Err(error) = handled {
            if let GatewayError::Moved(target) = &error
                && prefer_moved(&mut guest.ticket, target)
            {
                self.moved = Some(target.clone());
            }
            warn!(%error, "The desktop is lost; connecting again");
            metrics::counter!("vidi_gateway_reconnects_total").increment(1);
            self.display.display_closed();
            self.display.status(SessionState::Connecting, &error.for_people());
            self.link = Link::Waiting(Instant::now() + self.backoff.next_wait());
            self.tell_presence();
            if self.people.owner().is_none() {
                // Only its user brings it back, perhaps at another gateway: guests ask there again.
                self.close_guests(CloseCode::TryAgain, "the session's user is not connected here");
            }
        }
    }

    /// Does what the engine has decided.
    pub(super) fn carry_out(&mut self) {
        self.attend_media();
        self.act();
        // What has gone of files makes room for more.
        if self.attend_media() {
            self.act();
        }
        count_sound(&mut self.display);
        self.figures.pictured(&mut self.display);
    }

    fn act(&mut self) {
        let now = self.origin.elapsed();
        let mut stuck = Vec::new();
        while let Some(effect) = self.display.poll(now) {
            match effect {
                Effect::Input(event) => {
                    self.registry.touch(&self.name);
                    if let Link::Connected(guest) = &mut self.link
                        && let Err(error) = event.apply(&mut guest.inputs.channel, 0)
                    {
                        debug!(%error, "Input is not taken");
                    }
                }
                Effect::Agent(command) => {
                    if let Link::Connected(guest) = &mut self.link {
                        if let AgentCommand::Give(Some(piece)) = &command {
                            count_clipboard("to_guest", piece.data.len());
                        }
                        count_command(&command);
                        command.apply(&mut guest.agent);
                    }
                }
                Effect::Send { viewer, message } => {
                    if let Some(outgoing) = self.viewers.get(&viewer)
                        && outgoing.try_send(ToViewer::Message(message)).is_err()
                    {
                        stuck.push(viewer);
                    }
                }
                Effect::Encode(job) => self.encode(job),
                Effect::Speak(speech) => {
                    if let Link::Connected(guest) = &mut self.link {
                        guest.sound.speak(&speech);
                    }
                }
            }
        }
        for id in self.viewers.keys() {
            if let Some(statistics) = self.display.viewer_statistics(*id) {
                self.figures.progressed(*id, statistics.frames);
            }
        }
        for id in stuck {
            debug!("A viewer does not take what it is sent");
            self.remove(id);
        }
        self.behind = match &mut self.link {
            Link::Connected(guest) => !guest.transmit(),
            Link::Connecting(_) | Link::Waiting(_) => false,
        };
    }

    /// Sound, and files: whether there was news of those.
    fn attend_media(&mut self) -> bool {
        let Link::Connected(guest) = &mut self.link else { return false };
        sound::attend(guest, &mut self.display);
        tell_file_events(guest, &mut self.display)
    }

    fn encode(&self, job: EncodeJob) {
        let (own, results) = (Arc::clone(&self.encoding), self.results_sender.clone());
        encoding::begin(&self.registry, own, results, job);
    }

    /// A frame that will never be whole is given up for a new one.
    fn lost(&mut self, id: JobId) {
        warn!("An encoder failed; the picture is sent again");
        self.display.lost(id);
    }

    /// What time alone brings about.
    fn follow_time(&mut self) {
        self.expire_guests();
        self.keep_marked();
        self.retry_recording();
    }

    /// By which the session is attached; none: it is not.
    pub(super) fn epoch(&self) -> Option<u64> {
        match &self.link {
            Link::Connected(guest) => Some(guest.ticket.epoch),
            Link::Connecting(_) | Link::Waiting(_) => None,
        }
    }

    pub(super) fn tell_presence(&self) {
        // Guests do not keep a session: without its user it is left.
        let epoch = self.epoch().filter(|epoch| 0 < *epoch && self.people.owner().is_some());
        self.registry.present(&self.name, epoch);
        // Who comes or goes is there: from now on it counts how long nothing is touched.
        self.registry.touch(&self.name);
    }
}
