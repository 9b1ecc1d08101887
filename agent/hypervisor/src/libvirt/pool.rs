//! A few threads for calls that block: calls with one key in their order, each with a time limit.
//!
//! A call that hangs holds one thread and its own key; the others go on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;
use uuid::Uuid;

use crate::error::HypervisorError;

/// Enough for a host that starts several desktops while one hangs; libvirtd itself has 20 workers.
const THREADS: usize = 8;
/// Calls that wait in all; beyond it the caller hears `Busy`.
const WAITING_MAX: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is dropped and their calls are done.
#[derive(Debug)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lanes: Mutex<Lanes>,
    work: Condvar,
}

/// INVARIANT: a key is in `ready` exactly when its lane has jobs and no thread runs one of them.
#[derive(Default)]
struct Lanes {
    waiting: usize,
    /// Keys with jobs, and those whose job runs.
    jobs: BTreeMap<Uuid, VecDeque<Job>>,
    ready: VecDeque<Uuid>,
    stopped: bool,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lanes").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts the threads.
    pub(super) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared { lanes: Mutex::new(Lanes::default()), work: Condvar::new() });
        let pool = Self(Arc::clone(&shared));
        for number in 0..THREADS {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("libvirt-{number}"))
                .spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Runs `call` on a thread, after every earlier call with the same `key`. A call whose limit
    /// has passed before its turn is not run.
    pub(super) async fn run<T, F>(
        &self,
        key: Uuid,
        what: &'static str,
        limit: Duration,
        call: F,
    ) -> Result<T, HypervisorError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, HypervisorError> + Send + 'static,
    {
        let began = Instant::now();
        let (answer, answered) = oneshot::channel();
        let accepted = self.0.push(
            key,
            Box::new(move || {
                if !answer.is_closed() {
                    // Nobody waits any more: the outcome shows in the next list.
                    drop(answer.send(call()));
                }
            }),
        );
        if !accepted {
            return Err(HypervisorError::Busy);
        }
        let result = match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped)) => {
                Err(HypervisorError::Refused { what, text: "the call panicked".to_owned() })
            }
            Err(_elapsed) => Err(HypervisorError::TimedOut { what, limit }),
        };
        metrics::histogram!("vidi_agent_libvirt_call_seconds", "call" => what)
            .record(began.elapsed());
        if result.is_err() {
            metrics::counter!("vidi_agent_libvirt_errors_total", "call" => what).increment(1);
        }
        result
    }

    /// Runs `call` some time, when nobody can wait for it.
    pub(super) fn run_detached(&self, key: Uuid, call: impl FnOnce() + Send + 'static) {
        if !self.0.push(key, Box::new(call)) {
            error!("Too many calls wait for libvirt; one is dropped");
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, key: Uuid, job: Job) -> bool {
        let mut lanes = self.lock();
        if WAITING_MAX <= lanes.waiting || lanes.stopped {
            return false;
        }
        lanes.waiting += 1;
        let busy = lanes.jobs.contains_key(&key);
        lanes.jobs.entry(key).or_default().push_back(job);
        if !busy {
            lanes.ready.push_back(key);
            self.work.notify_one();
        }
        true
    }

    fn work(&self) {
        let mut lanes = self.lock();
        loop {
            if let Some(key) = lanes.ready.pop_front() {
                if let Some(job) = lanes.jobs.get_mut(&key).and_then(VecDeque::pop_front) {
                    lanes.waiting = lanes.waiting.saturating_sub(1);
                    drop(lanes);
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                        error!("A call to libvirt panicked");
                    }
                    lanes = self.lock();
                }
                if lanes.jobs.get(&key).is_some_and(|jobs| !jobs.is_empty()) {
                    lanes.ready.push_back(key);
                } else {
                    lanes.jobs.remove(&key);
                }
            } else if lanes.stopped {
                return;
            } else {
                lanes = self.work.wait(lanes).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn calls_with_one_key_keep_their_order_and_a_hanging_one_holds_only_its_own() {
        let pool = Pool::start().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let hanging = pool.run(first, "hang", Duration::from_millis(50), move || {
            assert!(held.recv().is_err(), "released by the sender's end");
            Ok(())
        });
        let timed_out = hanging.await;
        assert!(matches!(timed_out, Err(HypervisorError::TimedOut { what: "hang", .. })));
        let behind = pool.run(first, "behind", Duration::from_millis(50), || Ok(1)).await;
        assert!(matches!(behind, Err(HypervisorError::TimedOut { .. })));
        assert_eq!(pool.run(second, "other", LIMIT, || Ok(2)).await, Ok(2));
        drop(release);
        let panicked = pool.run(first, "panic", LIMIT, || -> Result<(), _> {
            std::panic::resume_unwind(Box::new("a bug"))
        });
        assert!(matches!(panicked.await, Err(HypervisorError::Refused { .. })));
        assert_eq!(pool.run(first, "after", LIMIT, || Ok(3)).await, Ok(3));
    }
}
