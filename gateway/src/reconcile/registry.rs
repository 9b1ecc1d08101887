//! The sessions of this gateway: finds or starts the task of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use vidi_display::protocol::{BrowserHello, ViewerMessage};
use vidi_kit::Tasks;

use crate::model::{CloseCode, Ending, Presence, Present};
use crate::ports::{Dial, Tickets};
use crate::reconcile::session::SessionTask;

/// Requests that wait for one session's task: viewers that arrive, endings.
const REQUESTS_MAX: usize = 16;
/// Sessions of one gateway; a session holds some 20 MiB while it is shown.
const SESSIONS_MAX: usize = 2_000;

/// A browser that wants to look at a session, after all checks.
#[derive(Debug)]
pub struct Viewer {
    /// What its browser said of itself.
    pub hello: BrowserHello,
    /// Its user's sign-in token.
    pub token: String,
    /// What it does.
    pub incoming: mpsc::Receiver<FromViewer>,
    /// What it is to be sent.
    pub outgoing: mpsc::Sender<ToViewer>,
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
    /// End: the controller says so.
    End(String),
}

/// Every session that has a task.
#[derive(Debug)]
pub struct Registry {
    tasks: Tasks,
    tickets: Arc<dyn Tickets>,
    dial: Arc<dyn Dial>,
    presence: watch::Sender<Presence>,
    /// One permit for each core: encoding is the only heavy work.
    encoders: Arc<Semaphore>,
    sessions: Mutex<BTreeMap<String, mpsc::Sender<Request>>>,
}

impl Registry {
    /// An empty registry that follows the controller's endings.
    pub fn new(
        tasks: Tasks,
        tickets: Arc<dyn Tickets>,
        dial: Arc<dyn Dial>,
        presence: watch::Sender<Presence>,
        mut endings: mpsc::Receiver<Ending>,
    ) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let registry = Arc::new(Self {
            tasks: tasks.clone(),
            tickets,
            dial,
            presence,
            encoders: Arc::new(Semaphore::new(cores)),
            sessions: Mutex::default(),
        });
        let ended = Arc::clone(&registry);
        let _ending = tasks.spawn("session-endings", async move {
            while let Some(Ending { session, reason }) = endings.recv().await {
                let requests = ended.lock().get(&session).cloned();
                if let Some(requests) = requests {
                    // One session's full queue must not hold up the others' endings. A task that is
                    // gone has ended already.
                    let _ending = ended.tasks.spawn("session-ending", async move {
                        drop(requests.send(Request::End(reason)).await);
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
        let mut request = Request::View(Box::new(viewer));
        // The second try meets a task that was just started: the first one's was ending.
        for _ in 0..2 {
            let Some(requests) = self.find_or_start(session) else { break };
            match requests.send(request).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(back)) => request = back,
            }
            self.forget(session, &requests);
        }
        if let Request::View(viewer) = request {
            let text = "this gateway is full; try again".to_owned();
            // A viewer that is gone needs no word.
            drop(viewer.outgoing.send(ToViewer::Close(CloseCode::TryAgain, text)).await);
        }
    }

    fn find_or_start(self: &Arc<Self>, session: &str) -> Option<mpsc::Sender<Request>> {
        let mut sessions = self.lock();
        if let Some(requests) = sessions.get(session) {
            return Some(requests.clone());
        }
        if SESSIONS_MAX <= sessions.len() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        sessions.insert(session.to_owned(), sender.clone());
        metrics::gauge!("vidi_gateway_sessions").increment(1.0);
        let task = SessionTask::new(Arc::clone(self), session.to_owned(), receiver);
        let (registry, name, own) = (Arc::clone(self), session.to_owned(), sender.clone());
        let _session = self.tasks.spawn("session", async move {
            task.run().await;
            metrics::gauge!("vidi_gateway_sessions").decrement(1.0);
            registry.present(&name, None);
            registry.forget(&name, &own);
        });
        Some(sender)
    }

    fn forget(&self, session: &str, requests: &mpsc::Sender<Request>) {
        let mut sessions = self.lock();
        if sessions.get(session).is_some_and(|kept| kept.same_channel(requests)) {
            sessions.remove(session);
        }
    }

    /// Tells the controller who is looking.
    pub(crate) fn present(&self, session: &str, present: Option<Present>) {
        self.presence.send_if_modified(|presence| {
            let before = match present {
                Some(present) => presence.insert(session.to_owned(), present),
                None => presence.remove(session),
            };
            before != present
        });
    }

    pub(crate) fn tickets(&self) -> Arc<dyn Tickets> {
        Arc::clone(&self.tickets)
    }

    pub(crate) fn dial(&self) -> Arc<dyn Dial> {
        Arc::clone(&self.dial)
    }

    pub(crate) fn encoders(&self) -> Arc<Semaphore> {
        Arc::clone(&self.encoders)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, mpsc::Sender<Request>>> {
        // The map is whole at every moment: a panic elsewhere does not spoil it.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
