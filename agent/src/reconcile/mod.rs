//! Makes the host what the controller wants: observe, plan, act, publish; on a timer and on a nudge.
//!
//! One task owns everything that changes. Steps run beside it, one at a time for each desktop, so a
//! slow one holds up nobody; what they did comes back over a bounded queue.

pub mod acceleration;
pub mod guest;
pub mod images;
pub mod jobs;
mod round;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;
use tracing::field::DisplayValue;
use tracing::{info, warn};
use uuid::Uuid;
use vidi_hypervisor::{
    HostFacts, HostMemory, HostVersions, Hypervisor, ImageDigest, ObservedDomain, Volumes,
};
use vidi_kit::ids::{DesktopId, TraceId};
use vidi_kit::telemetry::Pulse;
use vidi_kit::{Backoff, Tasks};

use crate::model::observed::{HostState, Power};
use crate::model::record::{Failure, Record};
use crate::model::wanted::{Wanted, WantedSet};
use crate::plan::desktop::Fleeting;
use crate::ports::{ImageSource, Journal, JournalError, Journaled};
use crate::reconcile::acceleration::Verdict;
use crate::reconcile::jobs::Outcome;

/// A round at least this often.
const PERIOD: Duration = Duration::from_secs(5);
/// While something waits for its time.
const PERIOD_WAITING: Duration = Duration::from_secs(1);
/// Nudges within this make one round: domains' life-cycle events come in bursts.
const SETTLE: Duration = Duration::from_millis(20);
/// Results of steps that wait to be taken; a step that has ended waits when it is full.
const EVENTS_MAX: usize = 256;
/// Images on their way at one time: more would only share the same wire.
const FETCHES_MAX: usize = 2;
/// A step that did not work is tried again after this,
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// and at the latest after this.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the reconciler works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Images and overlays.
    pub volumes: Arc<dyn Volumes>,
    /// What the host has.
    pub memory: Arc<dyn HostMemory>,
    /// Where images come from.
    pub source: Arc<dyn ImageSource>,
    /// What a restart must not forget.
    pub journal: Arc<dyn Journal>,
    /// What is wanted.
    pub wanted: watch::Receiver<WantedSet>,
    /// How guests run; none while it is being found out.
    pub acceleration: watch::Receiver<Option<Verdict>>,
    /// A guest that runs for longer than this without becoming ready hangs.
    pub ready_max: Duration,
}

/// What came of something that ran beside the reconciler.
#[derive(Debug)]
enum Event {
    /// A desktop's step.
    Stepped(DesktopId, Outcome),
    /// An image; an error is for people.
    Fetched(ImageDigest, Result<(), String>),
    /// The guest of this start answered.
    Ready(DesktopId, u64),
}

/// An image that could not be had.
#[derive(Debug)]
struct Failing {
    again_ms: i64,
    reason: String,
}

/// The owner of everything that changes.
#[derive(Debug)]
pub struct Reconciler {
    tasks: Tasks,
    parts: Parts,
    published: watch::Sender<HostState>,
    events: mpsc::Sender<Event>,
    happened: mpsc::Receiver<Event>,
    began: Instant,
    /// The boot of the machine; nil while it could not be read.
    boot: Uuid,
    /// What was reported last of each desktop's power, and since when that is so.
    powers: BTreeMap<DesktopId, (Power, Option<i64>)>,
    /// When the domains were last listed.
    listed_ms: Option<i64>,
    /// The wanted set that the journal holds.
    saved: Option<BTreeMap<DesktopId, Wanted>>,
    records: BTreeMap<DesktopId, Record>,
    fleeting: BTreeMap<DesktopId, Fleeting>,
    backoffs: BTreeMap<DesktopId, Backoff>,
    watches: BTreeMap<DesktopId, DropGuard>,
    fetching: BTreeSet<ImageDigest>,
    failing: BTreeMap<ImageDigest, Failing>,
    fetch_backoffs: BTreeMap<ImageDigest, Backoff>,
    fetch_places: Arc<Semaphore>,
    versions: HostVersions,
    damage: Vec<String>,
    journal_problem: Option<String>,
    /// Records that the journal did not take.
    unsaved: BTreeSet<DesktopId>,
    pulse: Pulse,
}

impl Reconciler {
    /// Goes on where the journal ends.
    pub fn new(
        tasks: &Tasks,
        parts: Parts,
        journaled: Journaled,
        published: watch::Sender<HostState>,
    ) -> Self {
        let (events, happened) = mpsc::channel(EVENTS_MAX);
        Self {
            tasks: tasks.clone(),
            parts,
            published,
            events,
            happened,
            began: Instant::now(),
            boot: Uuid::nil(),
            powers: BTreeMap::new(),
            listed_ms: None,
            saved: journaled.wanted,
            records: journaled.records,
            fleeting: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            watches: BTreeMap::new(),
            fetching: BTreeSet::new(),
            failing: BTreeMap::new(),
            fetch_backoffs: BTreeMap::new(),
            fetch_places: Arc::new(Semaphore::new(FETCHES_MAX)),
            versions: HostVersions::default(),
            damage: journaled.damage,
            journal_problem: None,
            unsaved: BTreeSet::new(),
            pulse: Pulse::default(),
        }
    }

    /// Its turns.
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Runs until the tasks stop. What runs on the host is left as it is.
    pub async fn run(mut self) {
        let mut hints = self.parts.hypervisor.changes();
        let mut wanted = self.parts.wanted.clone();
        let mut acceleration = self.parts.acceleration.clone();
        loop {
            self.pulse.beat();
            let began = Instant::now();
            self.round().await;
            metrics::histogram!("vidi_agent_round_seconds").record(began.elapsed());
            let period = if self.something_waits() { PERIOD_WAITING } else { PERIOD };
            // Cancel-safe: an event not taken stays in its queue, a change is seen by the next look.
            tokio::select! {
                biased;
                () = self.tasks.stopping() => return,
                Some(event) = self.happened.recv() => self.take(event).await,
                Ok(()) = wanted.changed() => {}
                Ok(()) = acceleration.changed() => {}
                Ok(()) = hints.changed() => {}
                () = tokio::time::sleep(period) => {}
            }
            tokio::time::sleep(SETTLE).await;
            // Before the domains are listed: a step that has ended is in the list that follows.
            while let Ok(event) = self.happened.try_recv() {
                self.take(event).await;
            }
            wanted.mark_unchanged();
            acceleration.mark_unchanged();
            hints.mark_unchanged();
        }
    }

    fn something_waits(&self) -> bool {
        !self.failing.is_empty()
            || self.fleeting.values().any(|one| {
                one.retry.is_some()
                    || one.shutdown_asked_ms.is_some()
                    || one.absent_since_ms.is_some()
                    || one.busy.is_some()
            })
    }

    fn now_ms(&self) -> i64 {
        whole_ms(self.began.elapsed())
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Stepped(id, outcome) => self.take_outcome(id, outcome).await,
            Event::Fetched(digest, result) => self.take_image(digest, result),
            Event::Ready(id, start_count) => {
                info!(trace = self.trace_of(id), desktop = %id, start_count, "Desktop is ready");
                self.change_record(id, |record| record.ready_start = start_count).await;
            }
        }
    }

    async fn take_outcome(&mut self, id: DesktopId, outcome: Outcome) {
        self.fleeting.entry(id).or_default().busy = None;
        let trace = self.trace_of(id);
        match outcome {
            Outcome::Done => self.calm(id),
            Outcome::Started { generation, start_count } => {
                info!(trace, desktop = %id, generation, start_count, "Desktop started");
                self.calm(id);
                let boot = self.boot;
                self.change_record(id, |record| {
                    record.adopt(generation, start_count, boot);
                    record.failure = None;
                })
                .await;
            }
            Outcome::Failed { generation, reason } => {
                warn!(trace, desktop = %id, generation, reason, "Desktop failed");
                self.calm(id);
                let failure = Failure { generation, reason };
                self.change_record(id, |record| record.failure = Some(failure)).await;
            }
            Outcome::Retry(reason) => {
                warn!(trace, desktop = %id, reason, "A desktop's step is tried again");
                let again_ms = self.now_ms().saturating_add(next_wait_ms(&mut self.backoffs, id));
                self.fleeting.entry(id).or_default().retry = Some((again_ms, reason));
            }
        }
    }

    /// For the log: of the request that wants this desktop so.
    fn trace_of(&self, id: DesktopId) -> Option<DisplayValue<TraceId>> {
        let wanted = self.parts.wanted.borrow();
        let trace = wanted.desktops.as_ref()?.get(&id)?.trace?;
        Some(tracing::field::display(trace))
    }

    fn calm(&mut self, id: DesktopId) {
        self.backoffs.remove(&id);
        self.fleeting.entry(id).or_default().retry = None;
    }

    fn take_image(&mut self, digest: ImageDigest, result: Result<(), String>) {
        self.fetching.remove(&digest);
        let end = if result.is_ok() { "fetched" } else { "failed" };
        metrics::counter!("vidi_agent_image_fetches_total", "result" => end).increment(1);
        match result {
            Ok(()) => {
                info!(image = %digest, "Image is here");
                self.failing.remove(&digest);
                self.fetch_backoffs.remove(&digest);
            }
            Err(reason) => {
                warn!(image = %digest, reason, "Image is not here; fetched again");
                let wait_ms = next_wait_ms(&mut self.fetch_backoffs, digest.clone());
                let again_ms = self.now_ms().saturating_add(wait_ms);
                self.failing.insert(digest, Failing { again_ms, reason });
            }
        }
    }

    /// Changes the record of a desktop that was told of, and the journal when that changes anything.
    async fn change_record(&mut self, id: DesktopId, change: impl FnOnce(&mut Record)) {
        let Some(record) = self.records.get_mut(&id) else { return };
        let before = record.clone();
        change(record);
        if *record != before {
            self.save_record(id).await;
        }
    }

    /// Writes a record; one that could not be written is written again in the next round.
    async fn save_record(&mut self, id: DesktopId) {
        self.unsaved.remove(&id);
        let Some(record) = self.records.get(&id).cloned() else { return };
        let saved = self.parts.journal.save_record(id, &record).await;
        if saved.is_err() {
            self.unsaved.insert(id);
        }
        self.judge_journal(saved);
    }

    async fn save_unsaved(&mut self) {
        for id in self.unsaved.clone() {
            self.save_record(id).await;
        }
    }

    /// A journal that cannot be written is a problem of the host, not of one desktop: work goes on.
    fn judge_journal(&mut self, saved: Result<(), JournalError>) {
        let problem = saved.err().map(|error| error.to_string());
        if problem.is_some() && problem != self.journal_problem {
            warn!(problem, "The journal is not written");
        }
        self.journal_problem = problem;
    }
}

/// How long to wait before what did not work for `key` is tried again.
fn next_wait_ms<K: Ord>(backoffs: &mut BTreeMap<K, Backoff>, key: K) -> i64 {
    let backoff = backoffs.entry(key).or_insert_with(|| Backoff::new(RETRY_FIRST, RETRY_MAX));
    whole_ms(backoff.next_wait())
}

fn whole_ms(period: Duration) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}

/// What was observed in a round.
struct Observed {
    wanted: WantedSet,
    domains: BTreeMap<DesktopId, ObservedDomain>,
    overlays: BTreeSet<DesktopId>,
    free_mib: u64,
    facts: std::io::Result<HostFacts>,
}
