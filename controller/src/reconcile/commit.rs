//! Group commits: fenced by the leadership, told apart by a nonce, certain in every case.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::warn;
use vidi_kit::{Backoff, Chance};

use crate::model::Step;
use crate::mutants::{self, Mutant};
use crate::ports::{
    COMMIT_OPERATIONS_MAX, CommitError, Expect, LEADER_ADDRESS_KEY, NONCE_KEY, Store, StoreError,
    Write, get,
};
use crate::records;

/// Steps of one commit; the nonce and the leader's address take operations, too.
pub(super) const STEPS_MAX: usize = COMMIT_OPERATIONS_MAX - 8;
/// Repetitions of a commit of which nobody knows whether it happened. After these the leader gives
/// up its leadership and reads again what is stored.
const UNKNOWN_TRIES_MAX: u32 = 12;

/// Why a commit did not happen.
#[derive(Debug)]
pub(super) enum Failed {
    /// The leadership is gone, or it is unknown what is stored: everything must be read again.
    Deposed(String),
    /// Nothing was written.
    Refused(String),
}

/// Writes what the leader decides.
#[derive(Debug)]
pub(super) struct Committer {
    store: Arc<dyn Store>,
    fence: Expect,
    nonce_revision: u64,
    chance: Chance,
    /// What is written with the next commit besides.
    also: Option<Write>,
    /// Why the store did not take the last commit.
    problem: Option<String>,
}

impl Committer {
    /// For a leadership that was just won.
    pub(super) async fn new(
        store: Arc<dyn Store>,
        fence: Expect,
        chance: Chance,
    ) -> Result<Self, StoreError> {
        let nonce = get(&*store, NONCE_KEY).await?;
        Ok(Self {
            store,
            fence,
            nonce_revision: nonce.map_or(0, |entry| entry.revision),
            chance,
            also: None,
            problem: None,
        })
    }

    /// Tells others where this leader is. If the store refuses, it goes with the next commit that is
    /// taken.
    pub(super) async fn tell_address(&mut self, address: &str) -> Result<(), Failed> {
        self.also = Some(Write::put(LEADER_ADDRESS_KEY, address.to_owned()));
        self.commit(std::iter::empty()).await
    }

    /// Writes the steps in one piece; each key once.
    pub(super) async fn commit(
        &mut self,
        steps: impl Iterator<Item = &Step>,
    ) -> Result<(), Failed> {
        let began = Instant::now();
        let done = self.write(steps).await;
        metrics::histogram!("vidi_controller_commit_seconds").record(began.elapsed());
        let (result, problem) = match &done {
            Ok(()) => ("done", None),
            Err(Failed::Refused(why)) => ("refused", Some(why.clone())),
            Err(Failed::Deposed(why)) => ("deposed", Some(why.clone())),
        };
        metrics::counter!("vidi_controller_commits_total", "result" => result).increment(1);
        self.problem = problem;
        done
    }

    /// Revision of the last commit.
    pub(super) const fn revision(&self) -> u64 {
        self.nonce_revision
    }

    /// Why the store did not take the last commit; none when it did.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    async fn write(&mut self, steps: impl Iterator<Item = &Step>) -> Result<(), Failed> {
        let nonce = Bytes::from(self.chance.nonce().to_vec());
        let mut writes: Vec<Write> = steps.map(records::write).collect();
        writes.push(Write::put(NONCE_KEY, nonce.clone()));
        writes.extend(self.also.clone());
        let fence = self.fence.clone();
        let mut expect = vec![fence, Expect::revision(NONCE_KEY, self.nonce_revision)];
        if mutants::on(Mutant::Unfenced) {
            let nonce = get(&*self.store, NONCE_KEY).await.ok().flatten();
            expect = vec![Expect::revision(NONCE_KEY, nonce.map_or(0, |entry| entry.revision))];
        }
        let mut backoff =
            Backoff::by(self.chance.clone(), Duration::from_millis(20), Duration::from_secs(2));
        let mut uncertain = false;
        for _ in 0..UNKNOWN_TRIES_MAX {
            match self.store.commit(&expect, &writes).await {
                Ok(committed) => {
                    self.taken(committed.revision);
                    return Ok(());
                }
                Err(CommitError::Conflict { key }) if uncertain => match self.written(&nonce).await
                {
                    Ok(Some(revision)) => {
                        self.taken(revision);
                        return Ok(());
                    }
                    Ok(None) => return Err(Failed::Deposed(format!("{key} changed"))),
                    // Whether it happened is still not known: ask again.
                    Err(error) => warn!(%error, "Cannot read back a commit"),
                },
                Err(CommitError::Conflict { key }) => {
                    return Err(Failed::Deposed(format!("{key} changed")));
                }
                Err(CommitError::TooLarge(what)) => {
                    return Err(Failed::Refused(format!("over a limit of the store: {what}")));
                }
                Err(CommitError::Unavailable(what)) if !uncertain => {
                    return Err(Failed::Refused(what));
                }
                Err(error @ (CommitError::Unavailable(_) | CommitError::Unknown(_))) => {
                    uncertain = true;
                    warn!(%error, "Repeating a commit of which nobody knows whether it happened");
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        Err(Failed::Deposed("it stayed unknown whether a commit happened".to_owned()))
    }

    fn taken(&mut self, revision: u64) {
        self.nonce_revision = revision;
        self.also = None;
    }

    /// The revision of our nonce, if it is what is stored.
    async fn written(&self, nonce: &Bytes) -> Result<Option<u64>, StoreError> {
        let entry = get(&*self.store, NONCE_KEY).await?;
        Ok(entry.filter(|entry| entry.value == *nonce).map(|entry| entry.revision))
    }
}
