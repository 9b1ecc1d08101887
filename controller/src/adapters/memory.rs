//! A store in memory: etcd's limits, and on demand etcd's faults. For tests and simulations.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::history::{History, batch};
use super::rules::{Seat, check_commit};
use crate::ports::{
    CommitError, Committed, Entry, Expect, LIST_ENTRIES_MAX, Leadership, Page, Snapshot, Store,
    StoreError, Watch, Write,
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
    /// Watches are not told of commits.
    muted: bool,
}

/// Keys with their values and revisions.
#[derive(Debug, Default)]
pub(super) struct Map {
    entries: BTreeMap<Box<str>, Kept>,
    pub(super) revision: u64,
}

/// Of a large fleet there are half a million: nothing is kept beside its bytes.
#[derive(Debug)]
struct Kept {
    value: Box<[u8]>,
    revision: u64,
}

fn entry(key: &str, Kept { value, revision }: &Kept) -> Entry {
    Entry { key: key.to_owned(), value: Bytes::copy_from_slice(value), revision: *revision }
}

impl Map {
    pub(super) fn snapshot(&self) -> Snapshot {
        let entries = self.entries.iter().map(|(key, kept)| entry(key, kept));
        let (revision, cluster) = (self.revision, String::new());
        Snapshot { entries: entries.collect(), revision, cluster }
    }

    pub(super) fn list(&self, prefix: &str, after: &str, limit: usize) -> Page {
        let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let mut matching = self
            .entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let entries = matching
            .by_ref()
            .take(limit.min(LIST_ENTRIES_MAX))
            .map(|(key, kept)| entry(key, kept))
            .collect();
        Page { entries, revision: self.revision, more: matching.next().is_some() }
    }

    pub(super) fn revision_of(&self, key: &str) -> u64 {
        self.entries.get(key).map_or(0, |kept| kept.revision)
    }

    pub(super) fn put(&mut self, key: &str, value: &[u8], revision: u64) {
        let kept = Kept { value: value.into(), revision };
        match self.entries.get_mut(key) {
            Some(known) => *known = kept,
            None => drop(self.entries.insert(key.into(), kept)),
        }
    }

    pub(super) fn apply(&mut self, revision: u64, writes: &[Write]) {
        self.revision = revision;
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    self.put(key, value, revision);
                }
                Write::Delete { key } => {
                    self.entries.remove(key.as_str());
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

    /// From now on watches are not told of commits, or are again; they never hear of those meanwhile.
    pub fn mute_watches(&self, muted: bool) {
        self.state().muted = muted;
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
        let told = if state.muted { &[] } else { writes };
        self.history.publish(batch(revision, told));
        drop(state);
        if fault.is_some() {
            return Err(CommitError::Unknown("the answer was lost".to_owned()));
        }
        Ok(Committed { revision })
    }

    async fn watch(&self, prefix: &str, from: u64) -> Result<Box<dyn Watch>, StoreError> {
        self.history.watch(prefix, from)
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(self.state().map.snapshot())
    }

    async fn lead(&self, controller: &str) -> Result<Leadership, StoreError> {
        self.seat.take(self, controller).await
    }
}
