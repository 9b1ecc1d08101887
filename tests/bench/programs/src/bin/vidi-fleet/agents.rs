//! The simulated agents: each with a certificate of its own, its own connection and one task, which
//! obeys the wanted set as an agent does.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use vidi_kit::tls::{CONTROLLER_NAME, Identity, Role, generate_key_and_csr};
use vidi_kit::transport::{connect_tls, connect_unix, describe};
use vidi_kit::{Backoff, Clock, Tasks};
use vidi_proto::v1::agent_link_client::AgentLinkClient;
use vidi_proto::v1::agent_message::Message as ToController;
use vidi_proto::v1::controller_message::Message as FromController;
use vidi_proto::v1::enroll_service_client::EnrollServiceClient;
use vidi_proto::v1::{AgentHello, AgentMessage, EnrollRequest, WantedSet};

use crate::Arguments;
use crate::guests::{Guests, Now};

/// As the agent's.
const REPORT_PERIOD: Duration = Duration::from_secs(10);
/// As the agent's.
const RECONNECT_FIRST: Duration = Duration::from_millis(200);
/// As the agent's.
const RECONNECT_SECS_MAX: Duration = Duration::from_secs(5);
/// As the agent's.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// As the agent's.
const OUTGOING_MAX: usize = 2;
/// Hosts that enrol side by side.
const ENROLLED_AT_ONCE: usize = 32;
const RELAY_PORT: u32 = 7444;

/// What the agents have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) arguments: Arguments,
    pub(crate) tasks: Tasks,
    clock: Clock,
    began: Instant,
    /// Goes up with each restart of the controller that is measured.
    era: AtomicU64,
    /// Agents that have reported what they have on a connection of this era.
    linked: AtomicUsize,
    /// Desktops that were new in a wanted set.
    desktops: AtomicUsize,
    /// Wanted sets and reports, since the beginning.
    pub(crate) sets: AtomicUsize,
    pub(crate) reports: AtomicUsize,
    /// When desktops were first seen, while that is wanted.
    seen: Mutex<Option<Vec<Instant>>>,
    /// Why the last connection ended.
    last_fault: Mutex<String>,
}

impl Common {
    pub(crate) fn new(arguments: Arguments, tasks: Tasks) -> Self {
        Self {
            arguments,
            tasks,
            clock: Clock::system(),
            began: Instant::now(),
            era: AtomicU64::new(0),
            linked: AtomicUsize::new(0),
            desktops: AtomicUsize::new(0),
            sets: AtomicUsize::new(0),
            reports: AtomicUsize::new(0),
            seen: Mutex::new(None),
            last_fault: Mutex::new(String::new()),
        }
    }

    /// Agents that are linked, and have said what they have.
    pub(crate) fn linked(&self) -> usize {
        self.linked.load(Ordering::SeqCst)
    }

    /// Desktops that agents were told of, ever.
    pub(crate) fn desktops(&self) -> usize {
        self.desktops.load(Ordering::SeqCst)
    }

    /// From here on only new connections count.
    pub(crate) fn begin_era(&self) {
        self.era.fetch_add(1, Ordering::SeqCst);
        self.linked.store(0, Ordering::SeqCst);
    }

    /// Begins to note when desktops are first seen.
    pub(crate) fn note_seen(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// How many were seen since then.
    pub(crate) fn seen(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, Vec::len)
    }

    /// When desktops were first seen, the first first.
    pub(crate) fn take_seen(&self) -> Vec<Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Why the last connection ended.
    pub(crate) fn last_fault(&self) -> String {
        self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now(&self) -> Now {
        let ms = u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX);
        Now { ms: ms.max(1), day_ms: self.clock.now_ms() }
    }

    fn instant_of(&self, ms: u32) -> Instant {
        self.began + Duration::from_millis(u64::from(ms))
    }

    /// A certificate, as root of the controller's machine gets it.
    pub(crate) async fn enroll(&self, local: &Channel, role: Role, id: &str) -> Identity {
        let (key, csr) = generate_key_and_csr().unwrap();
        let request = EnrollRequest {
            token_secret: String::new(),
            role: role.as_str().to_owned(),
            id: id.to_owned(),
            csr,
        };
        let mut client = EnrollServiceClient::new(local.clone());
        let given = client.enroll(request).await.unwrap().into_inner();
        Identity::new(given.certificate, key, given.cas).unwrap()
    }

    /// A connection under an identity.
    pub(crate) async fn connect(&self, identity: &Identity) -> Result<Channel, String> {
        let config = identity.client_config().map_err(|error| error.to_string())?;
        let address = &self.arguments.address;
        connect_tls(address, CONTROLLER_NAME, config).await.map_err(|error| describe(&error))
    }
}

/// Enrols hosts, from one number to another, and keeps their links from now on.
pub(crate) async fn add(common: &Arc<Common>, from: usize, to: usize) {
    let local = connect_unix(common.arguments.socket.clone()).await.unwrap();
    let room = Arc::new(Semaphore::new(ENROLLED_AT_ONCE));
    for number in from..to {
        let place = Arc::clone(&room).acquire_owned().await.unwrap();
        let (common, local) = (Arc::clone(common), local.clone());
        let tasks = common.tasks.clone();
        let _agent = tasks.spawn("agent", async move {
            let name = format!("host-{number:05}");
            let identity = common.enroll(&local, Role::Agent, &name).await;
            drop((place, local));
            let agent = Agent { common, name, identity, guests: Guests::default() };
            agent.keep().await;
        });
    }
}

struct Agent {
    common: Arc<Common>,
    name: String,
    identity: Identity,
    guests: Guests,
}

/// A link of this era that counts until it ends.
struct Counted<'a> {
    common: &'a Common,
    era: u64,
    counts: bool,
}

impl Counted<'_> {
    fn count(&mut self) {
        if !self.counts && self.era == self.common.era.load(Ordering::SeqCst) {
            self.counts = true;
            self.common.linked.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.counts && self.era == self.common.era.load(Ordering::SeqCst) {
            self.common.linked.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Agent {
    async fn keep(mut self) {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_SECS_MAX);
        let stop = self.common.tasks.stop_token();
        loop {
            let common = Arc::clone(&self.common);
            let era = common.era.load(Ordering::SeqCst);
            let counted = Counted { common: &common, era, counts: false };
            // Cancel-safe: the program ends.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                fault = self.link(counted, &mut backoff) => {
                    let text = fault.err().unwrap_or_else(|| "it was closed".to_owned());
                    *common.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = text;
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn link(
        &mut self,
        mut counted: Counted<'_>,
        backoff: &mut Backoff,
    ) -> Result<(), String> {
        let channel = self.common.connect(&self.identity).await?;
        let mut client = AgentLinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (outgoing, stream) = mpsc::channel(OUTGOING_MAX);
        let hello = AgentHello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.name.clone(),
            relay_port: RELAY_PORT,
            relay_advertise: String::new(),
        };
        send(&outgoing, ToController::Hello(hello)).await?;
        let in_words = |status: Status| status.message().to_owned();
        let opened = client.link(ReceiverStream::new(stream)).await.map_err(in_words)?;
        let mut incoming = opened.into_inner();
        self.guests.forget_set();
        let mut beat = Instant::now();
        let wake = tokio::time::sleep_until(beat);
        tokio::pin!(wake);
        loop {
            // Cancel-safe: a message that has not come whole stays in the stream; a sleep holds nothing.
            let set = tokio::select! {
                biased;
                message = incoming.message() => {
                    let Some(message) = message.map_err(in_words)? else { return Ok(()) };
                    match message.message {
                        Some(FromController::Wanted(set)) => Some(set),
                        _ => None,
                    }
                }
                () = &mut wake => None,
            };
            let now = self.common.now();
            let mut is_news = set.is_some();
            if let Some(set) = set {
                backoff.reset();
                self.take(&set, now);
            }
            is_news |= self.guests.advance(now, self.common.arguments.ready_ms);
            if is_news || beat <= Instant::now() {
                beat = Instant::now() + REPORT_PERIOD;
                self.common.reports.fetch_add(1, Ordering::Relaxed);
                send(&outgoing, ToController::Report(self.guests.report())).await?;
                if self.guests.has_set() {
                    counted.count();
                }
            }
            let due = self.guests.next_due_ms().map(|ms| self.common.instant_of(ms));
            wake.as_mut().reset(due.map_or(beat, |due| due.min(beat)));
        }
    }

    fn take(&mut self, set: &WantedSet, now: Now) {
        let common = &self.common;
        common.sets.fetch_add(1, Ordering::Relaxed);
        let new = self.guests.take(set, now, common.arguments.ready_ms);
        if new == 0 {
            return;
        }
        common.desktops.fetch_add(new, Ordering::SeqCst);
        if let Some(seen) = &mut *common.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            seen.extend(std::iter::repeat_n(Instant::now(), new));
        }
    }
}

async fn send(outgoing: &mpsc::Sender<AgentMessage>, message: ToController) -> Result<(), String> {
    let message = AgentMessage { message: Some(message) };
    outgoing.send(message).await.map_err(|_closed| "the controller takes no reports".to_owned())
}
