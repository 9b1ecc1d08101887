//! The sessions of this gateway: finds or starts the task of each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tracing::{Instrument, info_span};
use vidi_display::Policy;
use vidi_display::protocol::{BrowserHello, UserMessage, ViewerMessage};
use vidi_kit::telemetry::Counted;
use vidi_kit::trace::{self, TraceId};
use vidi_kit::{Clock, Tasks};

use crate::model::{CloseCode, Ending, Said, Terms, Visitor};
use crate::ports::{Dial, Presence, Present, RecordingEnd, Recordings, Tickets};
use crate::reconcile::session::SessionTask;

/// Requests that wait for one session's task: viewers that arrive, endings.
const REQUESTS_MAX: usize = 16;
/// Clicks that are waited for: more than this many at once are not measured.
const CLICKS_MAX: usize = 1_024;
/// A click without a picture is forgotten after this: a desktop has booted long before.
const CLICK_SECS_MAX: Duration = Duration::from_secs(600);
/// A session's task that was told to end has said so to its viewers and let go within this time.
const LET_GO_SECS_MAX: Duration = Duration::from_secs(10);
/// Input comes a hundred times a second; when the last came is told in seconds.
const TOUCH_PERIOD: Duration = Duration::from_secs(1);
/// Sessions of one gateway; a session holds some 20 MiB while it is shown.
const SESSIONS_MAX: usize = 2_000;

/// A browser that wants to look at a session, after all checks.
pub struct Viewer {
    /// What its browser said of itself.
    pub hello: BrowserHello,
    /// Its user's sign-in token.
    pub token: String,
    /// Who that is.
    pub visitor: Visitor,
    /// Of the click that opened its session.
    pub trace: Option<TraceId>,
    /// What it does.
    pub incoming: mpsc::Receiver<FromViewer>,
    /// What it is to be sent.
    pub outgoing: mpsc::Sender<ToViewer>,
}

impl fmt::Debug for Viewer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its token is a secret.
        formatter.debug_struct("Viewer").field("visitor", &self.visitor).finish_non_exhaustive()
    }
}

/// What a viewer's socket tells its session.
#[derive(Debug)]
pub enum FromViewer {
    /// Records of one message.
    Records(Vec<ViewerMessage>),
    /// So many bytes went into the socket.
    Sent(usize),
    /// The socket is closed.
    Gone,
    /// A recorder ends by itself.
    Over(RecordingEnd),
}

/// What a session tells a viewer's socket.
#[derive(Debug)]
pub enum ToViewer {
    /// A binary message.
    Message(Bytes),
    /// The end, and why.
    Close(CloseCode, String),
}

/// What a session's task is asked.
#[derive(Debug)]
pub enum Request {
    /// Take this viewer in.
    View(Box<Viewer>),
    /// What holds from now on; it was asked for after the session was attached.
    Terms(Box<Terms>),
    /// Show its user these messages of people: all that are young, each time.
    Messages(Vec<UserMessage>),
    /// End: the controller says so, or somebody of this gateway takes the session over.
    End(Ending),
}

/// How desktops are reached, and what they share with browsers beside the picture.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Who lets the gateway in.
    pub tickets: Arc<dyn Tickets>,
    /// The way there.
    pub dial: Arc<dyn Dial>,
    /// What the configuration allows.
    pub policy: Policy,
    /// The time of day, for what is drawn into pictures.
    pub clock: Clock,
    /// Whether it lets users share sessions.
    pub sharing: bool,
    /// Where recordings are kept, where they are.
    pub recordings: Option<Arc<dyn Recordings>>,
}

/// Every session that has a task.
#[derive(Debug)]
pub struct Registry {
    tasks: Tasks,
    reach: Reach,
    presence: watch::Sender<Presence>,
    /// One permit for each core: encoding is the only heavy work.
    encoders: Arc<Semaphore>,
    sessions: Mutex<BTreeMap<String, mpsc::Sender<Request>>>,
    /// Clicks whose picture has not come yet.
    clicks: Mutex<BTreeMap<TraceId, Instant>>,
}

impl Registry {
    /// An empty registry that follows what the controller says of sessions.
    pub fn new(
        tasks: Tasks,
        reach: Reach,
        presence: watch::Sender<Presence>,
        mut said: mpsc::Receiver<Said>,
    ) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let registry = Arc::new(Self {
            tasks: tasks.clone(),
            reach,
            presence,
            encoders: Arc::new(Semaphore::new(cores)),
            sessions: Mutex::default(),
            clicks: Mutex::default(),
        });
        let of = Arc::clone(&registry);
        let _following = tasks.spawn("session-endings", async move {
            while let Some(said) = said.recv().await {
                let (session, request) = match said {
                    Said::Ending(ending) => (ending.session.clone(), Request::End(ending)),
                    Said::Messages { session, messages } => (session, Request::Messages(messages)),
                };
                let requests = of.lock().get(&session).cloned();
                if let Some(requests) = requests {
                    // One session's full queue must not hold up the others' endings. A task that is
                    // gone has ended already.
                    let _ending = of.tasks.spawn("session-ending", async move {
                        drop(requests.send(request).await);
                    });
                }
            }
        });
        registry
    }

    /// The group that sessions and their viewers run in.
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Hands a viewer to its session's task, which is started when there is none.
    pub async fn add(self: &Arc<Self>, session: &str, viewer: Viewer) {
        let trace = viewer.trace;
        let mut request = Request::View(Box::new(viewer));
        // The second try meets a task that was just started: the first one's was ending.
        for _ in 0..2 {
            let Some(requests) = self.find_or_start(session, trace) else { break };
            match requests.send(request).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(back)) => request = back,
            }
            self.forget(session, &requests);
        }
        if let Request::View(viewer) = request {
            let text = "this gateway is full; try again".to_owned();
            metrics::counter!("vidi_gateway_refused_total", "reason" => "full").increment(1);
            // A viewer that is gone needs no word.
            drop(viewer.outgoing.send(ToViewer::Close(CloseCode::TryAgain, text)).await);
        }
    }

    /// Tells a session what its desktop allows now, as the controller has just said it. A session that is
    /// busy is told the next time.
    pub fn follow(&self, session: &str, terms: Terms) {
        if let Some(requests) = self.lock().get(session) {
            drop(requests.try_send(Request::Terms(Box::new(terms))));
        }
    }

    /// Takes a session's place for a task that shows it in another way: who has it is told that it was
    /// taken over, and has let go when this returns. None when there is no room.
    pub(crate) async fn seize(self: &Arc<Self>, session: &str) -> Option<Seized> {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let seizing = async {
            loop {
                let before = {
                    let mut sessions = self.lock();
                    let before = sessions.get(session).filter(|before| !before.is_closed());
                    if let Some(before) = before {
                        before.clone()
                    } else {
                        let is_new = !sessions.contains_key(session);
                        let has_room = !is_new || sessions.len() < SESSIONS_MAX;
                        if has_room {
                            sessions.insert(session.to_owned(), sender.clone());
                        }
                        return has_room;
                    }
                };
                let ending = Ending {
                    session: session.to_owned(),
                    code: CloseCode::TakenOver,
                    text: "the session was opened in another viewer".to_owned(),
                    epoch: None,
                };
                // A task that is gone has let go.
                drop(before.send(Request::End(ending)).await);
                before.closed().await;
            }
        };
        if !tokio::time::timeout(LET_GO_SECS_MAX, seizing).await.unwrap_or(false) {
            return None;
        }
        let counted = Counted::by(metrics::gauge!("vidi_gateway_sessions"));
        let held = Held { registry: Arc::clone(self), name: session.to_owned(), requests: sender };
        Some(Seized { held: (held, counted), requests })
    }

    /// Somebody clicks on a desktop: from here on its picture is waited for.
    pub fn clicked(&self) {
        let Some(trace) = trace::current() else { return };
        let now = Instant::now();
        let mut clicks = self.clicks.lock().unwrap_or_else(PoisonError::into_inner);
        if CLICKS_MAX <= clicks.len() {
            clicks.retain(|_, clicked| now.duration_since(*clicked) < CLICK_SECS_MAX);
        }
        if clicks.len() < CLICKS_MAX {
            clicks.insert(trace, now);
        }
    }

    /// When this session's click was; it is told once.
    pub(crate) fn take_click(&self, trace: Option<TraceId>) -> Option<Instant> {
        self.clicks.lock().unwrap_or_else(PoisonError::into_inner).remove(&trace?)
    }

    fn find_or_start(
        self: &Arc<Self>,
        session: &str,
        trace: Option<TraceId>,
    ) -> Option<mpsc::Sender<Request>> {
        let mut sessions = self.lock();
        if let Some(requests) = sessions.get(session) {
            return Some(requests.clone());
        }
        if SESSIONS_MAX <= sessions.len() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        sessions.insert(session.to_owned(), sender.clone());
        drop(sessions);
        let counted = Counted::by(metrics::gauge!("vidi_gateway_sessions"));
        let task = SessionTask::new(Arc::clone(self), session.to_owned(), receiver);
        let held =
            Held { registry: Arc::clone(self), name: session.to_owned(), requests: sender.clone() };
        // A session from before there were traces has one of its own.
        let trace = trace.unwrap_or_else(TraceId::generate);
        let _session = self.tasks.spawn("session", async move {
            let id = held.name.rsplit('/').next().unwrap_or(&held.name);
            let span = info_span!("session", session = id, %trace);
            trace::scope(trace, task.run()).instrument(span).await;
            drop((held, counted));
        });
        Some(sender)
    }

    /// The task with these requests has ended; what was begun for its session since is left alone.
    fn forget(&self, session: &str, requests: &mpsc::Sender<Request>) {
        let mut sessions = self.lock();
        if sessions.get(session).is_some_and(|kept| kept.same_channel(requests)) {
            sessions.remove(session);
            self.present(session, None);
        }
    }

    /// Tells the controller by which epoch a session is attached that somebody looks at, or that there is
    /// none.
    pub(crate) fn present(&self, session: &str, epoch: Option<u64>) {
        self.presence.send_if_modified(|presence| {
            let before = presence.get(session).copied();
            match epoch {
                Some(epoch) => {
                    // Who comes again has not touched anything by that.
                    let touched = before.and_then(|before| before.touched);
                    presence.insert(session.to_owned(), Present { epoch, touched });
                }
                None => drop(presence.remove(session)),
            }
            before.map(|before| before.epoch) != epoch
        });
    }

    /// Somebody touches keyboard or mouse in a session. It is told with the next message, and is none by
    /// itself.
    pub(crate) fn touch(&self, session: &str) {
        let now = Instant::now();
        let is_new = |present: &Present| {
            present.touched.is_none_or(|touched| TOUCH_PERIOD <= now.duration_since(touched))
        };
        if !self.presence.borrow().get(session).is_some_and(is_new) {
            return;
        }
        self.presence.send_if_modified(|presence| {
            if let Some(present) = presence.get_mut(session) {
                present.touched = Some(now);
            }
            false
        });
    }

    pub(crate) const fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(crate) fn encoders(&self) -> Arc<Semaphore> {
        Arc::clone(&self.encoders)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, mpsc::Sender<Request>>> {
        // The map is whole at every moment: a panic elsewhere does not spoil it.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session whose place somebody else has taken ([`Registry::seize`]).
#[derive(Debug)]
pub(crate) struct Seized {
    /// The place, until this is dropped.
    pub(crate) held: (Held, Counted),
    /// What its task would be asked.
    pub(crate) requests: mpsc::Receiver<Request>,
}

/// A session's place in the registry, until its task has ended: also when it panics.
#[derive(Debug)]
pub(crate) struct Held {
    registry: Arc<Registry>,
    name: String,
    requests: mpsc::Sender<Request>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.registry.forget(&self.name, &self.requests);
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::error::GatewayError;
    use crate::ports::{Attachment, Ticket};

    #[derive(Debug)]
    struct Broken;

    #[async_trait]
    impl Tickets for Broken {
        async fn ticket(
            &self,
            _token: &str,
            _session: &str,
            _problem: &str,
        ) -> Result<Ticket, GatewayError> {
            panic!("a bug")
        }
    }

    #[async_trait]
    impl Dial for Broken {
        async fn attach(&self, _ticket: &Ticket) -> Result<Box<dyn Attachment>, GatewayError> {
            unreachable!("there is no ticket")
        }
    }

    #[tokio::test]
    async fn a_session_whose_task_panics_leaves_its_place_and_a_viewer_is_shown_without_its_token()
    {
        const YIELDS_MAX: usize = 1_000;
        let (presence, _told) = watch::channel(Presence::new());
        let (_endings, endings) = mpsc::channel(1);
        let (tickets, dial) = (Arc::new(Broken), Arc::new(Broken));
        let (policy, clock) = (Policy::default(), Clock::system());
        let reach = Reach { tickets, dial, policy, clock, sharing: true, recordings: None };
        let registry = Registry::new(Tasks::new(), reach, presence, endings);
        let (outgoing, mut told) = mpsc::channel(64);
        let (_browser, incoming) = mpsc::channel(1);
        let hello = BrowserHello { webp: true, width: 800, height: 600, ..BrowserHello::default() };
        let token = "open sesame".to_owned();
        let viewer =
            Viewer { hello, token, visitor: Visitor::default(), trace: None, incoming, outgoing };
        assert!(!format!("{viewer:?}").contains(&viewer.token), "{viewer:?}");
        registry.add("s", viewer).await;
        while told.recv().await.is_some() {}
        for _ in 0..YIELDS_MAX {
            tokio::task::yield_now().await;
        }
        assert!(registry.lock().is_empty(), "its place is taken for ever");
    }
}
