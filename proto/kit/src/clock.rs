//! The time of day, as a value that is handed in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Says what time it is. Durations and deadlines use `tokio::time::Instant` instead.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
    Runtime(Instant, Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it; for tests and simulations.
    pub fn manual(start_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start_ms))))
    }

    /// A clock that goes with tokio's time, from now on, and can be set by [`Clock::advance`]; for
    /// simulations, in which that time is virtual.
    pub fn of_runtime(start_ms: i64) -> Self {
        Self(Source::Runtime(Instant::now(), Arc::new(AtomicI64::new(start_ms))))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => {
                #[expect(clippy::disallowed_methods, reason = "the one place that asks")]
                let now = SystemTime::now();
                now.duration_since(UNIX_EPOCH)
                    .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Manual(now) => now.load(Ordering::SeqCst),
            Source::Runtime(since, start_ms) => {
                let gone = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
                start_ms.load(Ordering::SeqCst).saturating_add(gone)
            }
        }
    }

    /// Moves a clock of a test; the machine's clock is not moved.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) | Source::Runtime(_, now) = &self.0 {
            now.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Clock({})", self.now_ms())
    }
}

/// Milliseconds of a clock that starts with the machine and goes on while it sleeps
/// (`CLOCK_BOOTTIME`, clock_gettime(2)): the same for every process of this machine.
pub fn boottime_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000)
}
