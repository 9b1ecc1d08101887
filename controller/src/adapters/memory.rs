//! A store in memory: etcd's limits, and on demand etcd's faults. For tests and simulations.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::history::{History, batch};
use super::rules::{Seat, check_commit};
use crate::ports::{
    CommitError, Committed, Entry, Expect, LIST_ENTRIES_MAX, Leadership, Page, Store, StoreError,
    Watch, Write,
};

/// Something that goes wrong with one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not made, and the caller knows.
    Unavailable,
    /// It is not made, and the caller does not know.
    AnswerLostBefore,
    /// It is made, and the caller does not know.
    AnswerLostAfter,
}

/// The store.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    history: Arc<History>,
    seat: Seat,
}

#[derive(Debug, Default)]
struct State {
    map: Map,
    faults: VecDeque<Fault>,
}

/// Keys with their values and revisions.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) entries: BTreeMap<String, (Bytes, u64)>,
    pub(super) revision: u64,
}

impl Map {
    pub(super) fn list(&self, prefix: &str, after: &str, limit: usize) -> Page {
        let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let mut matching = self
            .entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let entries = matching
            .by_ref()
            .take(limit.min(LIST_ENTRIES_MAX))
            .map(|(key, (value, revision))| Entry {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            })
            .collect();
        Page { entries, revision: self.revision, more: matching.next().is_some() }
    }

    pub(super) fn revision_of(&self, key: &str) -> u64 {
        self.entries.get(key).map_or(0, |(_, revision)| *revision)
    }

    pub(super) fn apply(&mut self, revision: u64, writes: &[Write]) {
        self.revision = revision;
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    self.entries.insert(key.clone(), (value.clone(), revision));
                }
                Write::Delete { key } => {
                    self.entries.remove(key);
                }
            }
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let (state, history) = (Mutex::new(State::default()), History::new(0));
        Self { state, history, seat: Seat::new() }
    }

    /// The next commits go wrong, one fault each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Ends all running watches, as a server that dies does.
    pub fn lose_watches(&self) {
        self.history.lose_watches();
    }

    /// Forgets how it came to `revision`: who is behind it must list again.
    pub fn compact(&self, revision: u64) {
        self.history.forget(revision);
    }

    /// Takes the leadership away from who has it; its fence holds until the next leader.
    pub fn depose(&self) {
        self.seat.depose();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds it can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Page, StoreError> {
        Ok(self.state().map.list(prefix, after, limit))
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Committed, CommitError> {
        check_commit(expect, writes)?;
        let mut state = self.state();
        let fault = state.faults.pop_front();
        match fault {
            Some(Fault::Unavailable) => {
                return Err(CommitError::Unavailable("a fault was asked for".to_owned()));
            }
            Some(Fault::AnswerLostBefore) => {
                return Err(CommitError::Unknown("the answer was lost".to_owned()));
            }
            Some(Fault::AnswerLostAfter) | None => {}
        }
        for one in expect {
            if state.map.revision_of(&one.key) != one.revision {
                return Err(CommitError::Conflict { key: one.key.clone() });
            }
        }
        let revision = state.map.revision.saturating_add(1);
        state.map.apply(revision, writes);
        // Published under the lock, so that revisions reach the watches in order.
        self.history.publish(batch(revision, writes));
        drop(state);
        if fault.is_some() {
            return Err(CommitError::Unknown("the answer was lost".to_owned()));
        }
        Ok(Committed { revision })
    }

    async fn watch(&self, prefix: &str, from: u64) -> Result<Box<dyn Watch>, StoreError> {
        self.history.watch(prefix, from)
    }

    async fn lead(&self, controller: &str) -> Result<Leadership, StoreError> {
        self.seat.take(self, controller).await
    }
}
