//! How long to wait before trying again.

use std::time::Duration;

use crate::chance::Chance;

/// Doubling waits between two limits, with jitter, so that a thousand clients do not return at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    chance: Chance,
}

impl Backoff {
    /// Waits `first`, then twice as long each time, at most `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self::by(Chance::system(), first, longest)
    }

    /// As [`Backoff::new`], with the jitter of this chance.
    pub const fn by(chance: Chance, first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first, chance }
    }

    /// The next wait: between half and the whole of the current step.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = self.longest.min(step.saturating_mul(2));
        step.mul_f64(0.5 + self.chance.fraction() / 2.0)
    }

    /// It worked: start again from the first step.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for longest in [100, 200, 350, 350] {
            let wait = backoff.next_wait();
            assert!(Duration::from_millis(longest / 2) <= wait);
            assert!(wait <= Duration::from_millis(longest));
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
