//! Leadership by a lease: who writes the leader's key leads for as long as its lease is renewed.
//!
//! ```text
//! poll the key ─▶ absent ─▶ lease ─▶ write the key with it ─▶ renew, look at the key, renew ...
//!       ▲                                                            │ not in time, or another's key
//!       └──────────────── the next who leads ◀── etcd deletes it ◀───┴─ lost
//! ```
//! The key's revision is the fence: it is written once, and goes when the lease runs out. How long a
//! renewal is good is counted from the moment before it was sent, on a clock that goes on while the
//! machine sleeps: whoever was paused knows when it wakes.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};
use vidi_kit::Tasks;
use vidi_kit::clock::boottime_ms;

use super::failure::Failure;
use super::link::{Kind, Link, seen};
use crate::ports::{Expect, Leadership, StoreError};

/// Key whose revision fences a leader's commits.
pub(super) const LEADER_KEY: &str = "leader";
/// Seconds that a lease is good for without a renewal. An election in etcd takes up to 2 s; another
/// controller must lead within 5 s after a leader died.
const LEASE_SECS: i64 = 4;
/// Between two renewals.
const RENEW_WAIT: Duration = Duration::from_secs(1);
/// After a renewal that failed.
const RENEW_AGAIN_WAIT: Duration = Duration::from_millis(100);
/// One member's time for a renewal, so that another can be asked before the lease runs out.
const RENEW_ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
/// A leader stops so long before its lease runs out.
const MARGIN_MS: i64 = 250;
/// Between two looks at a key that another holds.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// After a failure to look.
const POLL_AGAIN_WAIT: Duration = Duration::from_secs(1);

/// What an election needs of the store.
#[derive(Clone, Debug)]
pub(super) struct Election {
    pub(super) link: Arc<Link>,
    /// The leader's key, with the store's prefix.
    pub(super) key: String,
    pub(super) tasks: Tasks,
}

/// The leader's key as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    revision: u64,
    lease: i64,
}

impl Election {
    /// Waits until this controller leads, also while etcd is away.
    pub(super) async fn lead(&self, controller: &str) -> Result<Leadership, StoreError> {
        let mut told = String::new();
        loop {
            let failure = match self.look().await {
                Ok(Some(_another)) => {
                    tokio::time::sleep(POLL_WAIT).await;
                    continue;
                }
                Ok(None) => match self.campaign(controller).await {
                    Ok(Some(leadership)) => return Ok(leadership),
                    Ok(None) => continue,
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            if let Failure::Backward(text) = failure {
                return Err(StoreError::Damaged(text));
            }
            let text = failure.text();
            if told != text {
                warn!(error = text, "Cannot find out who leads; asking etcd again and again");
                told = text;
            }
            tokio::time::sleep(POLL_AGAIN_WAIT).await;
        }
    }

    async fn look(&self) -> Result<Option<Held>, Failure> {
        let key = &self.key;
        let get = |client: etcd_client::Client| async move {
            let mut answer = client.kv_client().get(key.as_str(), None).await?;
            let seen = seen(answer.header());
            let held = answer.take_kvs().first().map(|pair| Held {
                revision: u64::try_from(pair.mod_revision()).unwrap_or(0),
                lease: pair.lease(),
            });
            Ok((seen, held))
        };
        self.link.call(Kind::Read, get).await
    }

    /// Tries to write the key; none when another was faster.
    async fn campaign(&self, controller: &str) -> Result<Option<Leadership>, Failure> {
        let sent_ms = boottime_ms();
        // A lease that nobody uses runs out by itself.
        let granted = self
            .link
            .call(Kind::Write, |client| async move {
                Ok((None, client.lease_client().grant(LEASE_SECS, None).await?))
            })
            .await?;
        let (lease, ttl_ms) = (granted.id(), granted.ttl().saturating_mul(1_000));
        let key = &self.key;
        let put = |client: etcd_client::Client| async move {
            let options = PutOptions::new().with_lease(lease);
            let txn = Txn::new()
                .when([Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
                .and_then([TxnOp::put(key.as_str(), controller, Some(options))]);
            let answer = client.kv_client().txn(txn).await?;
            Ok((seen(answer.header()), answer.succeeded()))
        };
        match self.link.call(Kind::Write, put).await {
            Ok(false) => return Ok(None),
            // Whether it was written is seen by its lease.
            Ok(true) | Err(Failure::Unsure(_) | Failure::NoSpace) => {}
            Err(failure) => return Err(failure),
        }
        let Some(held) = self.look().await?.filter(|held| held.lease == lease) else {
            return Ok(None);
        };
        let (lost, loses) = watch::channel(false);
        let (hold, dropped) = oneshot::channel();
        let good_until_ms = sent_ms.saturating_add(ttl_ms).saturating_sub(MARGIN_MS);
        let keeper =
            Keeper { election: self.clone(), held, ttl_ms, good_until_ms, lost, lease_gone: false };
        let _keeping = self.tasks.spawn("etcd-lease", keeper.run(dropped));
        let fence = Expect::revision(LEADER_KEY, held.revision);
        Ok(Some(Leadership::new(fence, loses, Box::new(hold))))
    }
}

/// Renews a lease until its leadership is dropped or lost.
struct Keeper {
    election: Election,
    held: Held,
    ttl_ms: i64,
    good_until_ms: i64,
    lost: watch::Sender<bool>,
    lease_gone: bool,
}

impl Keeper {
    async fn run(mut self, mut dropped: oneshot::Receiver<()>) {
        // Cancel-safe: whoever dropped it waits for nothing; what renews is not asked again.
        tokio::select! {
            biased;
            _gone = &mut dropped => {}
            () = self.renew_for_ever() => {
                self.lost.send_replace(true);
            }
        }
        if self.lease_gone {
            return;
        }
        // Another can lead at once. If this fails, it can when the lease has run out.
        let lease = self.held.lease;
        let revoked = self
            .election
            .link
            .members
            .ask(RENEW_ANSWER_WAIT_MAX, |client| async move {
                client.lease_client().revoke(lease).await.map(drop)
            })
            .await;
        if let Err(failure) = revoked {
            info!(error = failure.text(), "The leader's lease is left to run out");
        }
    }

    /// Ends when the leadership is gone.
    async fn renew_for_ever(&mut self) {
        let mut wait = RENEW_WAIT;
        loop {
            let Some(left) = self.left() else { return };
            tokio::time::sleep(wait.min(left)).await;
            let Some(left) = self.left() else { return };
            let sent_ms = boottime_ms();
            match self.renew(RENEW_ANSWER_WAIT_MAX.min(left)).await {
                Ok(true) => {
                    self.good_until_ms = sent_ms.saturating_add(self.ttl_ms - MARGIN_MS);
                    wait = RENEW_WAIT;
                }
                Ok(false) | Err(Failure::LeaseGone) => {
                    self.lease_gone = true;
                    return;
                }
                Err(failure) => {
                    warn!(error = failure.text(), "The leader's lease was not renewed yet");
                    wait = RENEW_AGAIN_WAIT;
                }
            }
        }
    }

    /// How long the lease is good; none when it is not any more.
    fn left(&self) -> Option<Duration> {
        let left_ms = self.good_until_ms.saturating_sub(boottime_ms());
        u64::try_from(left_ms).ok().filter(|left| 0 < *left).map(Duration::from_millis)
    }

    /// Renews the lease and looks whether the key is still ours: some versions of etcd say that they
    /// have renewed what was revoked.
    async fn renew(&self, allowed: Duration) -> Result<bool, Failure> {
        let (lease, key) = (self.held.lease, &self.election.key);
        let revision = self
            .election
            .link
            .members
            .ask(allowed, |client| async move {
                let (_keeper, _answers) = client.lease_client().keep_alive(lease).await?;
                let answer = client.kv_client().get(key.as_str(), None).await?;
                Ok(answer.kvs().first().map(etcd_client::KeyValue::mod_revision))
            })
            .await?;
        Ok(revision.and_then(|revision| u64::try_from(revision).ok()) == Some(self.held.revision))
    }
}
