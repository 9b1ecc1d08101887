//! The store as one controller reaches it: late, away, silent about what became of a commit, and with
//! a leadership that runs out like a lease.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use vidi_controller::adapters::memory::MemoryStore;
use vidi_controller::plan::usage::{ALIVE_PERIOD_MS, GAP_MS};
use vidi_controller::ports::{
    CommitError, Committed, Expect, Leadership, NONCE_KEY, Page, Store, StoreError, Watch, Write,
    get,
};

use crate::dice::Dice;
use crate::sim::{Life, Sim};

/// Its revision fences a leader's commits.
pub(crate) const LEADER_KEY: &str = "leader";
/// A controller that stands still or is gone leads this long at most, ms.
pub(crate) const LEASE_MS: u64 = 5_000;

/// What all of them reach.
#[derive(Debug, Default)]
pub(crate) struct Backing {
    pub(crate) memory: MemoryStore,
    seat: Mutex<Seat>,
    freed: Notify,
    /// Nobody reaches it before this, ms since the epoch.
    pub(crate) away_until_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct Seat {
    holder: Option<Holder>,
    /// Who wrote the leader's key last.
    writer: Option<Arc<Life>>,
    terms: u64,
}

#[derive(Debug)]
struct Holder {
    life: Arc<Life>,
    term: u64,
    lost: watch::Sender<bool>,
}

impl Backing {
    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the leadership away from this life, if it has it; gives what tells it so.
    pub(crate) fn expire(&self, life: &Arc<Life>) -> Option<watch::Sender<bool>> {
        let mut seat = self.seat();
        let holds = seat.holder.as_ref().is_some_and(|one| Arc::ptr_eq(&one.life, life));
        let holder = if holds { seat.holder.take() } else { None };
        drop(seat);
        self.freed.notify_waiters();
        holder.map(|holder| holder.lost)
    }

    /// Whether this life wrote the leader's key last.
    fn is_writer(&self, life: &Arc<Life>) -> bool {
        self.seat().writer.as_ref().is_some_and(|writer| Arc::ptr_eq(writer, life))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    pub(crate) sim: Arc<Sim>,
    pub(crate) life: Arc<Life>,
    pub(crate) dice: Dice,
}

/// Gives the seat back when its leader does.
struct Held {
    sim: Arc<Sim>,
    life: Arc<Life>,
    term: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Who is gone gives nothing back: its lease runs out.
        if self.life.is_dead() {
            return;
        }
        let store = &self.sim.store;
        let mut seat = store.seat();
        if seat.holder.as_ref().is_some_and(|holder| holder.term == self.term) {
            seat.holder = None;
        }
        drop(seat);
        store.freed.notify_waiters();
    }
}

impl FaultyStore {
    fn is_away(&self) -> bool {
        !self.sim.is_calm()
            && self.sim.now_ms() < self.sim.store.away_until_ms.load(Ordering::SeqCst)
    }

    /// What is made is made, and looked at.
    async fn make(&self, expect: &[Expect], writes: &[Write]) -> Result<Committed, CommitError> {
        make(&self.sim, &self.life, expect, writes).await
    }
}

async fn make(
    sim: &Arc<Sim>,
    life: &Arc<Life>,
    expect: &[Expect],
    writes: &[Write],
) -> Result<Committed, CommitError> {
    let done = sim.store.memory.commit(expect, writes).await?;
    let leads = writes.iter().any(|write| write.key() == NONCE_KEY);
    let current = sim.store.is_writer(life);
    sim.committed(&life.name, done.revision, writes);
    if leads && !current {
        sim.violate(format!("fence: {} wrote r{} and leads no more", life.name, done.revision));
    }
    Ok(done)
}

#[async_trait]
impl Store for FaultyStore {
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Page, StoreError> {
        self.life.moves().await;
        self.dice.wait(0, 3).await;
        if self.is_away() || self.sim.goes_wrong(&self.dice, 5) {
            self.sim.fault("list refused", &self.life.name);
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        // Small pages, so that a load takes several.
        let page = self.sim.store.memory.list(prefix, after, limit.min(64)).await;
        self.life.moves().await;
        page
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Committed, CommitError> {
        let (sim, life, dice) = (&self.sim, &self.life, &self.dice);
        life.moves().await;
        dice.wait(0, 8).await;
        if sim.goes_wrong(dice, 5) {
            sim.fault("commit late", &life.name);
            dice.wait(100, 4_000).await;
        }
        life.moves().await;
        if self.is_away() {
            dice.wait(0, 500).await;
            return Err(if dice.permille(500) {
                CommitError::Unavailable("away".to_owned())
            } else {
                CommitError::Unknown("away".to_owned())
            });
        }
        if sim.goes_wrong(dice, 8) {
            sim.fault("commit refused", &life.name);
            return Err(CommitError::Unavailable("refused".to_owned()));
        }
        let unknown = || Err(CommitError::Unknown("the answer was lost".to_owned()));
        if sim.goes_wrong(dice, 5) {
            sim.fault("commit lost", &life.name);
            return unknown();
        }
        if sim.goes_wrong(dice, 5) {
            sim.fault("commit made later", &life.name);
            let wait = dice.span(10, 3_000);
            let (sim, life) = (Arc::clone(sim), Arc::clone(life));
            let (expect, writes) = (expect.to_vec(), writes.to_vec());
            let _late = self.sim.tasks.spawn("late-commit", async move {
                tokio::time::sleep(wait).await;
                drop(make(&sim, &life, &expect, &writes).await);
            });
            return unknown();
        }
        let done = self.make(expect, writes).await;
        if sim.goes_wrong(dice, 5) {
            sim.fault("answer of a commit lost", &life.name);
            return unknown();
        }
        dice.wait(0, 4).await;
        life.moves().await;
        done
    }

    async fn watch(&self, prefix: &str, from: u64) -> Result<Box<dyn Watch>, StoreError> {
        self.life.moves().await;
        self.sim.store.memory.watch(prefix, from).await
    }

    async fn lead(&self, _controller: &str) -> Result<Leadership, StoreError> {
        let store = &self.sim.store;
        loop {
            self.life.moves().await;
            let freed = store.freed.notified();
            if !self.is_away() && store.seat().holder.is_none() {
                break;
            }
            // Cancel-safe: both only wait.
            tokio::select! {
                biased;
                () = freed => {}
                () = tokio::time::sleep(Duration::from_secs(2)) => {}
            }
            self.dice.wait(0, 20).await;
        }
        let (lost, receiver) = watch::channel(false);
        let term = {
            let mut seat = store.seat();
            seat.terms += 1;
            let term = seat.terms;
            seat.holder = Some(Holder { life: Arc::clone(&self.life), term, lost });
            term
        };
        let (sim, life) = (Arc::clone(&self.sim), Arc::clone(&self.life));
        let held = Held { sim, life, term };
        let before = get(&store.memory, LEADER_KEY).await?.map_or(0, |entry| entry.revision);
        let writes = [Write::put(LEADER_KEY, self.life.name.clone())];
        let written = store.memory.commit(&[Expect::revision(LEADER_KEY, before)], &writes).await;
        let written = written.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        store.seat().writer = Some(Arc::clone(&self.life));
        if 1 < term {
            // The leader before took what it had counted since its last word with it.
            self.sim.truth().doubt_all_ms += ALIVE_PERIOD_MS + GAP_MS;
        }
        self.sim.say(&self.life.name, &format!("leads, r{}", written.revision));
        Ok(Leadership::new(
            Expect::revision(LEADER_KEY, written.revision),
            receiver,
            Box::new(held),
        ))
    }
}
