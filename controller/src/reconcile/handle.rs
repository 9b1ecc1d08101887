//! What everybody else holds of the reconciler: a bounded queue in, snapshots out.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::debug;
use vidi_kit::telemetry::Pulse;
use vidi_kit::trace::{self, TraceId};

use super::calling::Call;
use crate::model::about::only_asks;
use crate::model::audit::AuditEntry;
use crate::model::{Answer, Change, Refusal, World};

/// Changes that wait for their decision; more callers are told to come again rather than wait.
pub const CHANGES_QUEUED_MAX: usize = 1_024;

/// A change and where its answer goes.
pub(crate) struct Asked {
    pub(super) change: Change,
    /// Of the request that asks for it.
    pub(super) trace: Option<TraceId>,
    /// The call of a person that asks for it.
    pub(super) call: Option<Arc<Call>>,
    pub(super) answer: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Asks the reconciler and reads what it has published. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    queue: mpsc::Sender<Asked>,
    world: watch::Receiver<Arc<World>>,
    standing: watch::Receiver<Standing>,
    pulse: Pulse,
}

/// Whether this controller can change anything now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It leads.
    pub leading: bool,
    /// Where the one that leads instead is reached, `host:port`; empty: it is not known.
    pub leader: String,
    /// While another leads: there is a copy of what is stored, as it is now.
    pub copied: bool,
    /// Why the store did not take the last commit; none when it did.
    pub store_problem: Option<String>,
}

impl Asked {
    /// By whoever this runs for.
    fn now(change: Change, answer: oneshot::Sender<Result<Answer, Refusal>>) -> Self {
        let call = Call::current().filter(|_| !only_asks(&change));
        if let Some(call) = &call {
            call.asks(&change);
        }
        Self { change, trace: trace::current(), call, answer }
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Asked").finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(
        queue: mpsc::Sender<Asked>,
        world: watch::Receiver<Arc<World>>,
        (standing, pulse): (watch::Receiver<Standing>, Pulse),
    ) -> Self {
        Self { queue, world, standing, pulse }
    }

    /// Asks for a change and waits for its decision, which is durable when this answers. A caller
    /// that stops waiting does not undo it.
    pub async fn change(&self, change: Change) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(Asked::now(change, answer)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                count("busy");
                return Err(Refusal::Busy);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Refusal::NotLeader),
        }
        Self::decision(answered).await
    }

    /// As [`Handle::change`], but waits while the queue is full: for what nobody would ask again.
    pub async fn change_when_free(&self, change: Change) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked::now(change, answer);
        self.queue.send(asked).await.map_err(|_closed| Refusal::NotLeader)?;
        Self::decision(answered).await
    }

    /// Writes down a call that was refused, if there is room: nobody waits for that.
    pub fn refused(&self, entry: AuditEntry) {
        let (answer, _nobody_waits) = oneshot::channel();
        if self.queue.try_send(Asked::now(Change::Refused(Box::new(entry)), answer)).is_err() {
            metrics::counter!("vidi_controller_audit_entries_total", "result" => "omitted")
                .increment(1);
        }
    }

    async fn decision(
        answered: oneshot::Receiver<Result<Answer, Refusal>>,
    ) -> Result<Answer, Refusal> {
        let began = Instant::now();
        let decided = answered.await.unwrap_or_else(|_gone| {
            debug!("The reconciler ended before it answered");
            Err(Refusal::NotLeader)
        });
        metrics::histogram!("vidi_controller_decision_seconds").record(began.elapsed());
        count(if decided.is_ok() { "done" } else { "refused" });
        decided
    }

    /// The standing as it changes. It changes no more when the tasks stop.
    pub fn watch_standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Whether anything can be changed now.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// The owner's turns.
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Changes that wait for their decision.
    pub fn queued(&self) -> usize {
        self.queue.max_capacity().saturating_sub(self.queue.capacity())
    }

    /// The newest snapshot.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world.borrow())
    }

    /// Snapshots as they come; some may be skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<World>> {
        self.world.clone()
    }
}

fn count(result: &'static str) {
    metrics::counter!("vidi_controller_decisions_total", "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_link_waits_for_a_full_queue_and_others_come_again() {
        let (queue, mut asked) = mpsc::channel(1);
        let (_published, world) = watch::channel(Arc::new(World::default()));
        let (_told, standing) = watch::channel(Standing::default());
        let handle = Handle::new(queue, world, (standing, Pulse::default()));
        let end = |link| Change::HostUnlinked { host: "h".parse().unwrap(), link };
        let first = handle.change_when_free(end(1));
        let last = handle.change_when_free(end(2));
        let owner = async {
            tokio::task::yield_now().await;
            assert_eq!(handle.change(end(3)).await, Err(Refusal::Busy));
            let mut links = Vec::new();
            for _ in 0..2 {
                let Asked { change, answer, .. } = asked.recv().await.unwrap();
                if let Change::HostUnlinked { link, .. } = change {
                    links.push(link);
                }
                answer.send(Ok(Answer::Done)).unwrap();
            }
            links
        };
        let (first, last, links) = tokio::join!(first, last, owner);
        assert_eq!((first, last), (Ok(Answer::Done), Ok(Answer::Done)));
        assert_eq!(links, [1, 2]);
        drop(asked);
        assert_eq!(handle.change_when_free(end(4)).await, Err(Refusal::NotLeader));
    }
}
