//! What everybody else holds of the reconciler: a bounded queue in, snapshots out.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use crate::model::{Answer, Change, Refusal, World};

/// Changes that wait for their decision; more callers are told to come again rather than wait.
pub const CHANGES_QUEUED_MAX: usize = 1_024;

/// A change and where its answer goes.
pub(super) struct Asked {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Asks the reconciler and reads what it has published. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    queue: mpsc::Sender<Asked>,
    world: watch::Receiver<Arc<World>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Asked").finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn new(queue: mpsc::Sender<Asked>, world: watch::Receiver<Arc<World>>) -> Self {
        Self { queue, world }
    }

    /// Asks for a change and waits for its decision, which is durable when this answers. A caller
    /// that stops waiting does not undo it.
    pub async fn change(&self, change: Change) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(Asked { change, answer }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Refusal::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Refusal::NotLeader),
        }
        answered.await.unwrap_or_else(|_gone| {
            debug!("the reconciler ended before it answered");
            Err(Refusal::NotLeader)
        })
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
