//! What every store does alike: the limits of a commit, and the one seat of the leader.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::ports::{
    COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX, CommitError, Expect, KEY_BYTES_MAX, Leadership, Store,
    StoreError, Write, get,
};

/// Key whose revision fences a leader's commits.
const LEADER_KEY: &str = "leader";
/// Tries to write the leader's key while something else does; in one process nobody does.
const LEAD_TRIES_MAX: u32 = 10;

/// Refuses what etcd would refuse.
pub(super) fn check_commit(expect: &[Expect], writes: &[Write]) -> Result<(), CommitError> {
    let refuse = |text: String| Err(CommitError::TooLarge(text));
    let operations = expect.len().max(writes.len());
    if COMMIT_OPERATIONS_MAX < operations {
        return refuse(format!("{operations} operations, at most {COMMIT_OPERATIONS_MAX}"));
    }
    if expect.is_empty() {
        return refuse("a commit without an expectation".to_owned());
    }
    let mut bytes = 0_usize;
    let mut written = BTreeSet::new();
    for write in writes {
        if !written.insert(write.key()) {
            return refuse(format!("the key {} is written twice", write.key()));
        }
        if let Write::Put { value, .. } = write {
            bytes = bytes.saturating_add(value.len());
        }
    }
    for key in expect.iter().map(|one| one.key.as_str()).chain(written) {
        if key.is_empty() || KEY_BYTES_MAX < key.len() {
            return refuse(format!("a key of {} bytes, at most {KEY_BYTES_MAX}", key.len()));
        }
        bytes = bytes.saturating_add(key.len());
    }
    if COMMIT_BYTES_MAX < bytes {
        return refuse(format!("{bytes} bytes, at most {COMMIT_BYTES_MAX}"));
    }
    Ok(())
}

/// Leadership within one process: one seat, taken in turn.
#[derive(Debug)]
pub(super) struct Seat {
    free: Arc<Semaphore>,
    /// Tells who has the seat that it is lost.
    lost: Mutex<watch::Sender<bool>>,
}

impl Seat {
    pub(super) fn new() -> Self {
        let (free, lost) = (Arc::new(Semaphore::new(1)), Mutex::new(watch::Sender::new(false)));
        Self { free, lost }
    }

    /// Waits for the seat, then writes the leader's key, which fences every leader before.
    pub(super) async fn take(
        &self,
        store: &dyn Store,
        controller: &str,
    ) -> Result<Leadership, StoreError> {
        let gone = |text: &str| StoreError::Unavailable(text.to_owned());
        let permit = Arc::clone(&self.free)
            .acquire_owned()
            .await
            .map_err(|_| gone("the store was closed"))?;
        for _ in 0..LEAD_TRIES_MAX {
            let before = get(store, LEADER_KEY).await?.map_or(0, |entry| entry.revision);
            let writes = [Write::put(LEADER_KEY, controller.to_owned())];
            match store.commit(&[Expect::revision(LEADER_KEY, before)], &writes).await {
                Ok(done) => {
                    let (sender, lost) = watch::channel(false);
                    *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = sender;
                    let fence = Expect::revision(LEADER_KEY, done.revision);
                    return Ok(Leadership::new(fence, lost, Box::new(permit)));
                }
                Err(CommitError::Conflict { .. } | CommitError::Unknown(_)) => {}
                Err(error) => return Err(StoreError::Unavailable(error.to_string())),
            }
        }
        Err(gone("the leader's key could not be written"))
    }

    /// Takes the seat away, as a lease that ran out would.
    pub(super) fn depose(&self) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_over_a_limit_is_refused_and_one_at_the_limit_is_not() {
        let put = |index: usize, size: usize| Write::put(format!("k{index:04}"), vec![0; size]);
        let expect = [Expect::absent("k0000")];
        let check = |writes: Vec<Write>| check_commit(&expect, &writes).is_ok();
        assert!(check((0..COMMIT_OPERATIONS_MAX).map(|index| put(index, 1)).collect()));
        assert!(!check((0..=COMMIT_OPERATIONS_MAX).map(|index| put(index, 1)).collect()));
        assert!(check(vec![put(0, COMMIT_BYTES_MAX - 10)]));
        assert!(!check(vec![put(0, COMMIT_BYTES_MAX)]));
        assert!(!check(vec![put(0, 1), put(0, 1)]));
        assert!(check_commit(&[], &[put(0, 1)]).is_err());
        assert!(check_commit(&[Expect::absent("")], &[]).is_err());
    }
}
