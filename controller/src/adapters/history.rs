//! The last revisions of a store and the watches that follow them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::ports::{Batch, Lost, RING_REVISIONS_MAX, StoreError, Watch, Write};

/// Bytes of keys and values that the ring keeps; beyond it the oldest revisions go. Only what a watch may be
/// behind has to be there, and a large fleet's store holds all of it in memory beside.
const RING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A ring of revisions.
#[derive(Debug)]
pub(super) struct History {
    ring: Mutex<Ring>,
    /// The newest revision; changes wake the watches.
    newest: watch::Sender<u64>,
}

/// INVARIANT: `batches` holds every revision behind `forgotten`, in order, without gaps.
#[derive(Debug)]
struct Ring {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    forgotten: u64,
    /// Goes up when all watches are to be lost.
    losses: u64,
}

impl History {
    /// Knows nothing from before `revision`.
    pub(super) fn new(revision: u64) -> Arc<Self> {
        let ring = Ring { batches: VecDeque::new(), bytes: 0, forgotten: revision, losses: 0 };
        Arc::new(Self { ring: Mutex::new(ring), newest: watch::Sender::new(revision) })
    }

    /// Adds the next revision and wakes the watches.
    pub(super) fn publish(&self, batch: Batch) {
        let revision = batch.revision;
        let mut ring = self.ring();
        ring.bytes = ring.bytes.saturating_add(size(&batch));
        ring.batches.push_back(Arc::new(batch));
        while RING_REVISIONS_MAX < ring.batches.len() || RING_BYTES_MAX < ring.bytes {
            ring.forget_oldest();
        }
        drop(ring);
        self.newest.send_replace(revision);
    }

    /// Forgets everything up to `revision`, as a compaction does.
    pub(super) fn forget(&self, revision: u64) {
        let mut ring = self.ring();
        while ring.batches.front().is_some_and(|oldest| oldest.revision <= revision) {
            ring.forget_oldest();
        }
        drop(ring);
    }

    /// Ends every running watch with `Lost`.
    pub(super) fn lose_watches(&self) {
        let mut ring = self.ring();
        ring.losses = ring.losses.saturating_add(1);
        drop(ring);
        self.newest.send_modify(|_| {});
    }

    /// A watch behind `from`.
    pub(super) fn watch(
        self: &Arc<Self>,
        prefix: &str,
        from: u64,
    ) -> Result<Box<dyn Watch>, StoreError> {
        let newest = self.newest.subscribe();
        let ring = self.ring();
        // A revision from the future is of another life of this store.
        if from < ring.forgotten || *newest.borrow() < from {
            return Err(StoreError::TooOld);
        }
        Ok(Box::new(Following {
            history: Arc::clone(self),
            prefix: prefix.to_owned(),
            position: from,
            losses: ring.losses,
            newest,
        }))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // No code that holds it can panic half way through a change.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.batches.pop_front() {
            self.bytes = self.bytes.saturating_sub(size(&oldest));
            self.forgotten = oldest.revision;
        }
    }
}

fn size(batch: &Batch) -> usize {
    batch.changes.iter().map(|one| one.key.len() + one.value.as_ref().map_or(0, |v| v.len())).sum()
}

/// What a commit's writes look like to a watch.
pub(super) fn batch(revision: u64, writes: &[Write]) -> Batch {
    let change = |write: &Write| match write {
        Write::Put { key, value } => {
            crate::ports::Change { key: key.clone(), value: Some(value.clone()) }
        }
        Write::Delete { key } => crate::ports::Change { key: key.clone(), value: None },
    };
    Batch { revision, changes: writes.iter().map(change).collect() }
}

struct Following {
    history: Arc<History>,
    prefix: String,
    position: u64,
    losses: u64,
    newest: watch::Receiver<u64>,
}

impl Following {
    /// The next batch that touches the prefix among those that are known.
    fn step(&mut self) -> Result<Option<Batch>, Lost> {
        let ring = self.history.ring();
        if ring.losses != self.losses || self.position < ring.forgotten {
            return Err(Lost);
        }
        let skipped = usize::try_from(self.position - ring.forgotten).unwrap_or(usize::MAX);
        for found in ring.batches.iter().skip(skipped) {
            self.position = found.revision;
            let changes: Vec<_> =
                found.changes.iter().filter(|one| one.key.starts_with(&self.prefix)).collect();
            if !changes.is_empty() {
                let changes = changes.into_iter().cloned().collect();
                return Ok(Some(Batch { revision: found.revision, changes }));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Watch for Following {
    async fn next(&mut self) -> Result<Batch, Lost> {
        loop {
            self.newest.borrow_and_update();
            if let Some(found) = self.step()? {
                return Ok(found);
            }
            // The sender lives in `history`, which this holds.
            self.newest.changed().await.map_err(|_| Lost)?;
        }
    }
}
