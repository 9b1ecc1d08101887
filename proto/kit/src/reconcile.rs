//! The beat of every reconciler: on a timer and on a nudge, never two rounds at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::Tasks;

/// Asks for a round soon. Many nudges before the round make one round.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    /// Asks for a round.
    pub fn nudge(&self) {
        self.0.notify_one();
    }

    /// Resolves at the next nudge, or at once when there was one.
    pub async fn nudged(&self) {
        self.0.notified().await;
    }
}

/// Runs `round` at once, then at each nudge and at the latest every `period`, until `tasks` stop.
/// The next round is the retry of the one before.
pub async fn drive<F, R>(tasks: &Tasks, nudge: &Nudge, period: Duration, mut round: F)
where
    F: FnMut() -> R,
    R: Future<Output = ()>,
{
    loop {
        round().await;
        // Cancel-safe: a nudge that is not taken stays in `Notify`; the others hold nothing.
        tokio::select! {
            biased;
            () = tasks.stopping() => return,
            () = nudge.nudged() => {}
            () = tokio::time::sleep(period) => {}
        }
    }
}
