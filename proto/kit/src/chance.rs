//! Where new ids, nonces and jitter come from, as a value that is handed in.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// What nobody can foretell: the system's randomness, or one seed's in a simulation.
#[derive(Clone)]
pub struct Chance(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<Seeded>>),
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
struct Seeded {
    state: u64,
    /// Of the last id: its time, and how many came in that millisecond before it.
    last: (u64, u16),
}

impl Chance {
    /// The system's.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Of a seed: the same each time. For tests and simulations.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(Seeded { state: seed, last: (0, 0) }))))
    }

    /// A new id, never used before, behind those of before in order (UUID version 7, RFC 9562). The
    /// seeded ones are of the time `now_ms` (since the epoch).
    pub fn id(&self, now_ms: i64) -> Uuid {
        let Some(mut seeded) = self.source() else { return Uuid::now_v7() };
        let now = u64::try_from(now_ms).unwrap_or(0);
        let (before, count) = seeded.last;
        // More in one millisecond than 12 bits count are of the next one.
        let (time, count) = match count + 1 {
            _ if before < now => (now, 0),
            0x1000.. => (before + 1, 0),
            next => (before, next),
        };
        seeded.last = (time, count);
        let mut rest = [0; 10];
        rest[..2].copy_from_slice(&count.to_be_bytes());
        rest[2..].copy_from_slice(&seeded.next().to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(time, &rest).into_uuid()
    }

    /// 16 bytes that nobody else has.
    pub fn nonce(&self) -> [u8; 16] {
        let Some(mut seeded) = self.source() else { return *Uuid::new_v4().as_bytes() };
        let (one, other) = (u128::from(seeded.next()), u128::from(seeded.next()));
        (one << 64 | other).to_be_bytes()
    }

    /// From 0 on, below 1.
    pub fn fraction(&self) -> f64 {
        let Some(mut seeded) = self.source() else { return rand::random_range(0.0..1.0) };
        let bits = u32::try_from(seeded.next() >> 32).unwrap_or(0);
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    fn source(&self) -> Option<MutexGuard<'_, Seeded>> {
        match &self.0 {
            Source::System => None,
            // Nothing that holds it can panic half way through a change.
            Source::Seeded(seeded) => Some(seeded.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

impl Seeded {
    const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Source::System => "Chance(system)",
            Source::Seeded(_) => "Chance(seeded)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_same_each_time_and_ids_are_in_order() {
        let take = |seed| {
            let chance = Chance::seeded(seed);
            let ids: Vec<Uuid> =
                (0..10_000).map(|count| chance.id(1_000 + count / 9_000)).collect();
            (ids, chance.nonce(), chance.fraction())
        };
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
        let (ids, _, fraction) = take(7);
        assert!(ids.is_sorted_by(|one, next| one < next));
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!((0.0..1.0).contains(&fraction));
        let system = Chance::system();
        assert!(system.id(0) < system.id(0));
        assert_ne!(system.nonce(), system.nonce());
        assert!((0.0..1.0).contains(&system.fraction()));
    }
}
