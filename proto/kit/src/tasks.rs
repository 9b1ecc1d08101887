//! Tasks that have names, are stopped together and joined.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, warn};

/// How long [`Tasks::stop`] waits for tasks that were told to stop.
const STOP_SECS_MAX: Duration = Duration::from_secs(10);

/// A group of tasks with one end.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that ends with this one, or earlier by itself.
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), stop: self.stop.child_token() }
    }

    /// Starts a task. It should end soon after [`Tasks::stopping`] resolves; its panic is logged and
    /// ends it alone.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let inner =
            tokio::spawn(future.instrument(tracing::info_span!(parent: None, "task", task = name)));
        let guard = AbortOnDrop(inner.abort_handle());
        self.tracker.spawn(async move {
            let _guard = guard;
            match inner.await {
                Ok(output) => Some(output),
                Err(failure) if failure.is_panic() => {
                    metrics::counter!("vidi_task_panics_total", "task" => name).increment(1);
                    error!(task = name, "A task panicked; only this task ends");
                    None
                }
                Err(_cancelled) => None,
            }
        })
    }

    /// Resolves when the group is told to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// The token behind [`Tasks::stopping`].
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every task to stop and waits for all, at most 10 s.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(STOP_SECS_MAX, self.tracker.wait()).await.is_err() {
            warn!(tasks = self.tracker.len(), "Tasks did not stop in time");
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Resolves on SIGTERM or SIGINT.
pub async fn terminated() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Both arms are cancel-safe: a signal not taken here ends the process's wait anyway.
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_reaches_every_task_and_a_panic_ends_only_its_own() {
        let tasks = Tasks::new();
        let waiting = {
            let inner = tasks.clone();
            tasks.spawn("waiting", async move {
                inner.stopping().await;
                7
            })
        };
        let broken = tasks.spawn("broken", async { assert_eq!(1, 2, "a bug") });
        assert_eq!(broken.await.unwrap(), None);
        tasks.stop().await;
        assert_eq!(waiting.await.unwrap(), Some(7));
    }
}
