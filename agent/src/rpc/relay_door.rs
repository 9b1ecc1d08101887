//! The agent's end of its relay's socket: certificates, policy, and SPICE sockets for channels.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, info, warn};
use vidi_hypervisor::{Hypervisor, SpiceReader};
use vidi_kit::Tasks;
use vidi_kit::ids::{DesktopId, TraceId};
use vidi_proto::v1::agent_to_relay::Message as ToRelay;
use vidi_proto::v1::relay_to_agent::Message as FromRelay;
use vidi_proto::v1::{AgentToRelay, OpenSpice, RelayCertificate, RelayToAgent, SpiceOpened};

use crate::model::attachment::Policy;
use crate::model::observed::{HostState, Power};
use crate::rpc::controller_link::ControllerLink;
use crate::rpc::frames::split;
use crate::rpc::wire::{policy_to_wire, reader_of};

/// The user that the relay runs as where packages are installed.
const RELAY_USER: &str = "vidi-relay";
/// Relays at one time: one, and the next while the last one's end is not yet noticed.
const RELAYS_MAX: usize = 4;
/// Sockets that are being opened at one time for one relay.
const OPENING_MAX: usize = 16;
/// How long a relay waits for an agent that cannot list its domains.
const OBSERVED_SECS_MAX: Duration = Duration::from_secs(10);
/// Answers that wait to be written.
const ANSWERS_MAX: usize = 64;
/// An end of the agent's accept loop that only waits for descriptors to become free.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// What a relay's wishes are answered from.
#[derive(Clone, Debug)]
pub struct RelayDoor {
    /// Certificates and policy.
    pub link: ControllerLink,
    /// SPICE sockets.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Which desktops may be reached: those that the controller told of and that run.
    pub state: watch::Receiver<HostState>,
    /// The trace of the last socket that was told in the log.
    told: Arc<Mutex<Option<TraceId>>>,
}

/// Listens where the relay comes; its group may use the socket.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = vidi_kit::transport::bind_unix(path, 0o660)?;
    if let Some(user) = relay_user()
        && let Err(error) = std::os::unix::fs::chown(path, None, Some(user.group))
    {
        warn!(%error, "The relay's group cannot be given its socket; the relay may not get in");
    }
    Ok(listener)
}

impl RelayDoor {
    /// With what its answers are made from.
    pub fn new(
        link: ControllerLink,
        hypervisor: Arc<dyn Hypervisor>,
        state: watch::Receiver<HostState>,
    ) -> Self {
        Self { link, hypervisor, state, told: Arc::default() }
    }

    /// Serves relays until the tasks stop.
    pub async fn serve(self, tasks: Tasks, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(RELAYS_MAX));
        loop {
            // Cancel-safe: `accept` takes a connection or does not.
            let accepted = tokio::select! {
                biased;
                () = tasks.stopping() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "Cannot accept the relay");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            if !is_relay(&stream) {
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                warn!("Too many relays are connected; one is turned away");
                continue;
            };
            let (door, group) = (self.clone(), tasks.clone());
            let _serving = tasks.spawn("relay-connection", async move {
                let _place = place;
                info!("The relay is connected");
                match door.talk(&group, stream).await {
                    Ok(()) => info!("The relay is gone"),
                    Err(error) => warn!(%error, "The relay's connection broke"),
                }
            });
        }
    }

    async fn talk(&self, tasks: &Tasks, stream: UnixStream) -> io::Result<()> {
        let (mut reader, mut writer) = split(stream);
        let (answers, mut answered) = mpsc::channel::<(ToRelay, Option<OwnedFd>)>(ANSWERS_MAX);
        let opening = Arc::new(Semaphore::new(OPENING_MAX));
        let mut policy = self.link.policy.clone();
        policy.mark_changed();
        loop {
            // Cancel-safe: a frame that has not come whole stays in the reader, an answer in its
            // queue, a change is seen by the next look, and a permit not taken is given back.
            let (message, descriptor) = tokio::select! {
                biased;
                () = tasks.stopping() => return Ok(()),
                changed = policy.changed() => {
                    changed.map_err(io::Error::other)?;
                    match &*policy.borrow_and_update() {
                        Some(policy) => (policy_message(policy), None),
                        None => continue,
                    }
                }
                Some(answer) = answered.recv() => answer,
                frame = async {
                    let permit = Arc::clone(&opening).acquire_owned().await;
                    (permit, reader.receive::<RelayToAgent>().await)
                } => {
                    let (permit, frame) = frame;
                    let Some(frame) = frame? else { return Ok(()) };
                    let (door, answers) = (self.clone(), answers.clone());
                    let _answering = tasks.spawn("relay-request", async move {
                        let _permit = permit;
                        if let Some(answer) = door.answer(frame).await {
                            // A relay that is gone needs no answer.
                            drop(answers.send(answer).await);
                        }
                    });
                    continue;
                }
            };
            let message = AgentToRelay { message: Some(message) };
            writer.send(&message, descriptor.as_ref().map(AsFd::as_fd)).await?;
        }
    }

    async fn answer(&self, frame: RelayToAgent) -> Option<(ToRelay, Option<OwnedFd>)> {
        match frame.message? {
            FromRelay::Csr(csr) => match self.link.certify_relay(csr).await {
                Ok(answer) => {
                    info!("The relay is certified");
                    let certificate =
                        RelayCertificate { certificate: answer.certificate, cas: answer.cas };
                    Some((ToRelay::Certificate(certificate), None))
                }
                Err(status) => {
                    warn!(reason = status.message(), "The relay is not certified; it asks again");
                    None
                }
            },
            FromRelay::OpenSpice(open) => {
                let opened = self.open_spice(&open.desktop, reader_of(open.onward)).await;
                self.say_opened(&open, opened.as_ref().err());
                let (error, descriptor) = match opened {
                    Ok(descriptor) => (String::new(), Some(descriptor)),
                    Err(error) => (error, None),
                };
                Some((ToRelay::SpiceOpened(SpiceOpened { id: open.id, error }), descriptor))
            }
        }
    }

    /// What was told before this one.
    fn last_told(&self, trace: Option<TraceId>) -> Option<TraceId> {
        // One value: it is whole at every moment.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *told, trace)
    }

    /// Each attachment opens a handful of sockets: the first one of a trace is told, the others are
    /// details.
    fn say_opened(&self, open: &OpenSpice, error: Option<&String>) {
        let result = if error.is_none() { "opened" } else { "refused" };
        metrics::counter!("vidi_agent_spice_sockets_total", "result" => result).increment(1);
        // What the relay says is only shown where it can be an id.
        let trace = open.trace.parse::<TraceId>().ok();
        let shown = trace.map(tracing::field::display);
        let desktop = open.desktop.parse::<DesktopId>().ok().map(tracing::field::display);
        if let Some(reason) = error {
            warn!(trace = shown, desktop, reason, "A desktop's display is not opened");
        } else if trace.is_some() && self.last_told(trace) != trace {
            info!(trace = shown, desktop, "A desktop's display is opened");
        } else {
            debug!(trace = shown, desktop, "A desktop's display is opened");
        }
    }

    async fn open_spice(&self, desktop: &str, reader: SpiceReader) -> Result<OwnedFd, String> {
        let desktop: DesktopId =
            desktop.parse().map_err(|error: vidi_kit::ids::IdError| error.to_string())?;
        let mut state = self.state.clone();
        // An agent that has just started knows what runs in a moment.
        let observed = state.wait_for(|state| state.observed);
        let runs = match tokio::time::timeout(OBSERVED_SECS_MAX, observed).await {
            Ok(Ok(state)) => runs(&state, desktop),
            Ok(Err(_)) | Err(_) => return Err("the host's hypervisor does not answer".to_owned()),
        };
        if !runs {
            return Err("the desktop does not run on this host".to_owned());
        }
        self.hypervisor.open_spice(desktop, reader).await.map_err(|error| error.to_string())
    }
}

fn runs(state: &HostState, desktop: DesktopId) -> bool {
    let alive = |power| matches!(power, Power::Running | Power::Starting);
    state.desktops.iter().any(|one| one.id == desktop && alive(one.power))
}

fn policy_message(policy: &Policy) -> ToRelay {
    ToRelay::Policy(policy_to_wire(policy))
}

/// Root, the agent's own user, or the relay's.
fn is_relay(stream: &UnixStream) -> bool {
    let uid = match stream.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => {
            warn!(%error, "A caller at the relay's socket cannot be told");
            return false;
        }
    };
    let own = rustix::process::geteuid().as_raw();
    let allowed = uid == 0 || uid == own || relay_user().is_some_and(|user| user.id == uid);
    if !allowed {
        warn!(uid, "A caller at the relay's socket is neither root nor {RELAY_USER}");
    }
    allowed
}

struct User {
    id: u32,
    group: u32,
}

/// From passwd(5); the relay's user is a local one.
fn relay_user() -> Option<User> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(RELAY_USER))?;
    let mut fields = line.split(':').skip(2);
    Some(User { id: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}
