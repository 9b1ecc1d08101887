//! One connection to libvirt that heals by itself: opened, listened to, and opened again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};
use vidi_kit::Backoff;
use virt::connect::Connect;

use crate::error::HypervisorError;
use crate::libvirt::ends::Ends;
use crate::libvirt::events::{self, GuestPump, Listener, Signal, Subscription};

/// A daemon that does not answer is given up after interval × count.
const KEEPALIVE_INTERVAL_SECS: i32 = 5;
const KEEPALIVE_COUNT: u32 = 3;
/// A daemon that was killed is back within a second or two.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// A first call waits this long for the first attempt; a fresh libvirtd answers after some seconds.
const FIRST_ATTEMPT_SECS_MAX: Duration = Duration::from_secs(15);

/// A live connection.
#[derive(Debug)]
pub(super) struct Live {
    connect: Connect,
    /// The connection has ended. Changes under the lock of [`Shared::state`].
    dead: Arc<AtomicBool>,
    pumps: Mutex<Vec<Weak<GuestPump>>>,
}

impl Live {
    /// The connection.
    pub(super) const fn connect(&self) -> &Connect {
        &self.connect
    }

    /// Ends `pump` with this connection.
    pub(super) fn keep(&self, pump: Weak<GuestPump>) {
        let mut pumps = self.pumps.lock().unwrap_or_else(PoisonError::into_inner);
        pumps.retain(|pump| pump.strong_count() != 0);
        pumps.push(pump);
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn end_pumps(&self) {
        let pumps = std::mem::take(&mut *self.pumps.lock().unwrap_or_else(PoisonError::into_inner));
        pumps.iter().filter_map(Weak::upgrade).for_each(|pump| pump.end());
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // `Connect` has no `Drop` of its own.
        drop(self.connect.close());
    }
}

/// The connection, now or later; a thread keeps it up while this lives.
#[derive(Debug)]
pub(super) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    uri: String,
    state: Mutex<State>,
    changed: Condvar,
    changes: watch::Sender<u64>,
    ends: Ends,
}

#[derive(Debug)]
enum State {
    /// The first attempt has not ended.
    First,
    Up(Arc<Live>),
    Down(String),
    Stopped,
}

impl Link {
    /// Starts the thread; returns at once.
    pub(super) fn start(uri: String) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            uri,
            state: Mutex::new(State::First),
            changed: Condvar::new(),
            changes: watch::Sender::new(0),
            ends: Ends::default(),
        });
        let link = Self(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("libvirt-link".to_owned())
            .spawn(move || keep_up(&shared))?;
        Ok(link)
    }

    /// Changes at every hint.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// How domains ended.
    pub(super) fn ends(&self) -> &Ends {
        &self.0.ends
    }

    /// A handle for another thread.
    pub(super) fn handle(&self) -> LinkHandle {
        LinkHandle(Arc::clone(&self.0))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.0.set(State::Stopped);
    }
}

/// Gives the live connection to the pool's threads.
#[derive(Clone, Debug)]
pub(super) struct LinkHandle(Arc<Shared>);

impl LinkHandle {
    /// The connection, or why there is none. Blocks only while the first attempt lasts.
    pub(super) fn live(&self) -> Result<Arc<Live>, HypervisorError> {
        let (state, _timed_out) = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), FIRST_ATTEMPT_SECS_MAX, |state| {
                matches!(state, State::First)
            })
            .unwrap_or_else(PoisonError::into_inner);
        let text = match &*state {
            State::Up(live) if live.is_dead() => "the connection was lost".to_owned(),
            State::Up(live) => return Ok(Arc::clone(live)),
            State::First => "it does not answer".to_owned(),
            State::Down(text) => text.clone(),
            State::Stopped => "this agent stops".to_owned(),
        };
        Err(HypervisorError::Unavailable { uri: self.0.uri.clone(), text })
    }

    /// A call failed on `live`: was it the connection? Then it is given up now, and the error says so.
    pub(super) fn lost(&self, live: &Arc<Live>) -> Option<HypervisorError> {
        if live.connect.is_alive().unwrap_or(false) {
            return None;
        }
        self.0.give_up(&live.dead);
        let text = "the connection was lost".to_owned();
        Some(HypervisorError::Unavailable { uri: self.0.uri.clone(), text })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stopped stays stopped.
    fn set(&self, new: State) {
        let old = {
            let mut state = self.lock();
            if matches!(*state, State::Stopped) {
                return;
            }
            std::mem::replace(&mut *state, new)
        };
        self.changed.notify_all();
        self.hint();
        if let State::Up(live) = old {
            live.end_pumps();
        }
    }

    /// The connection with this flag is dead; the thread that keeps the link up does the rest.
    fn give_up(&self, dead: &AtomicBool) {
        let state = self.lock();
        dead.store(true, Ordering::SeqCst);
        drop(state);
        self.changed.notify_all();
    }

    fn hint(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Blocks while the connection is up.
    fn wait_while_up(&self) {
        let state = self
            .changed
            .wait_while(self.lock(), |state| matches!(state, State::Up(live) if !live.is_dead()));
        drop(state.unwrap_or_else(PoisonError::into_inner));
    }

    /// Blocks for a retry's wait; true when the link was stopped.
    fn stopped_within(&self, wait: Duration) -> bool {
        let (state, _timed_out) = self
            .changed
            .wait_timeout_while(self.lock(), wait, |state| !matches!(state, State::Stopped))
            .unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Stopped)
    }
}

fn keep_up(shared: &Arc<Shared>) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    let mut said = String::new();
    loop {
        match open(shared) {
            Ok((live, subscription)) => {
                info!(uri = shared.uri, "Connected to libvirt");
                said.clear();
                backoff.reset();
                shared.set(State::Up(live));
                shared.wait_while_up();
                shared.set(State::Down("the connection was lost".to_owned()));
                drop(subscription);
            }
            Err(text) => {
                // Once for each reason: the attempts go on for as long as it takes.
                if said != text {
                    warn!(
                        uri = shared.uri,
                        error = text,
                        "libvirt cannot be reached; trying again"
                    );
                    said.clone_from(&text);
                }
                shared.set(State::Down(text));
            }
        }
        if shared.stopped_within(backoff.next_wait()) {
            return;
        }
    }
}

fn open(shared: &Arc<Shared>) -> Result<(Arc<Live>, Subscription), String> {
    let text = |error: virt::error::Error| error.message().to_owned();
    events::start_event_loop()?;
    let connect = Connect::open(Some(&shared.uri)).map_err(text)?;
    // From here on `Live` closes the connection.
    let dead = Arc::new(AtomicBool::new(false));
    let live = Arc::new(Live { connect, dead: Arc::clone(&dead), pumps: Mutex::new(Vec::new()) });
    live.connect.set_keep_alive(KEEPALIVE_INTERVAL_SECS, KEEPALIVE_COUNT).map_err(text)?;
    // The callbacks hold nothing whose end would call libvirt: it keeps a lock while it calls them.
    let of_link = Arc::downgrade(shared);
    let listener: Listener = Arc::new(move |signal| {
        let Some(shared) = of_link.upgrade() else { return };
        match signal {
            Signal::Closed => shared.give_up(&dead),
            Signal::Lifecycle(id, life) => {
                shared.ends.hear(id, life);
                shared.hint();
            }
        }
    });
    let subscription = Subscription::new(&live.connect, &listener).map_err(text)?;
    // It may have died before anybody listened.
    if live.connect.is_alive().map_err(text)? {
        Ok((live, subscription))
    } else {
        Err("the connection was lost".to_owned())
    }
}
