//! All the randomness of a run: one seed, one stream for each actor, so that what one of them asks for
//! does not move the others.

use std::time::Duration;

use vidi_kit::Chance;

/// An actor's own.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    chance: Chance,
    /// Every time in between is the middle, and nothing happens by chance: what is written down beforehand
    /// must not move with how often somebody asks.
    steady: bool,
}

impl Dice {
    /// Of a run in which nothing is left to chance.
    pub(crate) fn steady(seed: u64, name: &str) -> Self {
        Self { steady: true, ..Self::of(seed, name) }
    }

    /// Of a run's seed and an actor's name.
    pub(crate) fn of(seed: u64, name: &str) -> Self {
        // FNV-1a, 64 bit (RFC 9923).
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in seed.to_be_bytes().into_iter().chain(name.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self { chance: Chance::seeded(hash), steady: false }
    }

    /// For whom ids and jitter are to be handed in.
    pub(crate) fn chance(&self) -> Chance {
        self.chance.clone()
    }

    /// From 0 on, below `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        let word = u128::from_be_bytes(self.chance.nonce());
        u64::try_from(word % u128::from(end.max(1))).unwrap()
    }

    /// True in so many of a thousand cases.
    pub(crate) fn permille(&self, cases: u64) -> bool {
        !self.steady && self.below(1_000) < cases
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(of.len()).unwrap();
        let index = if self.steady { 0 } else { self.below(count) };
        of.get(usize::try_from(index).unwrap())
    }

    /// Milliseconds in between, both ends included.
    pub(crate) fn ms(&self, least: u64, most: u64) -> i64 {
        i64::try_from(self.between(least, most)).unwrap()
    }

    /// The same as a duration.
    pub(crate) fn span(&self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(self.between(least_ms, most_ms))
    }

    fn between(&self, least: u64, most: u64) -> u64 {
        let more = if self.steady { (most - least) / 2 } else { self.below(most - least + 1) };
        least + more
    }

    /// Waits for a time in between.
    pub(crate) async fn wait(&self, least_ms: u64, most_ms: u64) {
        tokio::time::sleep(self.span(least_ms, most_ms)).await;
    }
}
