//! Slows down who guesses passwords, without letting a stranger hold a known user off.
//!
//! | counted by | most within a minute | so that |
//! | --- | --- | --- |
//! | user and address | 5 | one who guesses from one place has to wait |
//! | address | 100 | one place does not try many users' names |
//! | user, from addresses that are new for the user | 50 | many places do not guess one user's password |
//!
//! Tries count when they begin, so that many at once are no way around it; a right password clears
//! them, and makes the address known for the user.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vidi_kit::transport::network_of;

/// Tries of one user at one address within [`WINDOW_MS`]: a person mistypes a few times.
const TRIES_MAX: usize = 5;
/// Tries of one address: an office behind one address begins its day.
const ADDRESS_TRIES_MAX: usize = 100;
/// Tries of one user from addresses where the user has never signed in.
const USER_TRIES_MAX: usize = 50;
const WINDOW_MS: i64 = 60_000;
/// An address stays known for a user for this long after the last right password.
const KNOWN_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// Keys of one kind that are remembered; beyond it the longest quiet is forgotten.
const KEYS_MAX: usize = 10_000;
/// Letters of a name that are told apart: names may be of any length here.
const NAME_CHARS_MAX: usize = 64;

/// Who tries: tenant, user, and from where; no address for a process of this machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    user: (String, String),
    address: Option<IpAddr>,
}

impl Attempt {
    /// By names that may be anything.
    pub fn new(tenant: &str, user: &str, address: Option<IpAddr>) -> Self {
        let short = |text: &str| text.chars().take(NAME_CHARS_MAX).collect();
        Self { user: (short(tenant), short(user)), address: address.map(network_of) }
    }
}

/// Counts tries.
#[derive(Default)]
pub struct Throttle(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    attempts: Tries<Attempt>,
    addresses: Tries<IpAddr>,
    users: Tries<(String, String)>,
    known: BTreeMap<Attempt, i64>,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Throttle").finish_non_exhaustive()
    }
}

impl Throttle {
    /// Counts a try, or says how long to wait for the next. A refused try is not counted.
    pub fn begin(&self, attempt: &Attempt, now_ms: i64) -> Result<(), Duration> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.known.get(attempt).is_some_and(|until_ms| now_ms < *until_ms);
        let limited_address = attempt.address;
        let limited_user = (!known).then_some(&attempt.user);
        counts.attempts.room(attempt, TRIES_MAX, now_ms)?;
        if let Some(address) = &limited_address {
            counts.addresses.room(address, ADDRESS_TRIES_MAX, now_ms)?;
        }
        if let Some(user) = limited_user {
            counts.users.room(user, USER_TRIES_MAX, now_ms)?;
            counts.users.add(user, now_ms);
        }
        if let Some(address) = &limited_address {
            counts.addresses.add(address, now_ms);
        }
        counts.attempts.add(attempt, now_ms);
        Ok(())
    }

    /// The password was right.
    pub fn succeeded(&self, attempt: &Attempt, now_ms: i64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.attempts.0.remove(attempt);
        if let Some(address) = &attempt.address {
            counts.addresses.take_back(address);
        }
        // From an address that was known before, it was not counted.
        if !counts.known.contains_key(attempt) {
            counts.users.take_back(&attempt.user);
        }
        if KEYS_MAX <= counts.known.len() && !counts.known.contains_key(attempt) {
            let oldest = counts.known.iter().min_by_key(|(_, until)| **until);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                counts.known.remove(&oldest);
            }
        }
        counts.known.insert(attempt.clone(), now_ms.saturating_add(KNOWN_MS));
    }
}

/// When each key's tries were.
struct Tries<K>(BTreeMap<K, VecDeque<i64>>);

impl<K> Default for Tries<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Tries<K> {
    /// Whether one more try fits, or how long to wait until it does.
    fn room(&mut self, key: &K, most: usize, now_ms: i64) -> Result<(), Duration> {
        let horizon_ms = now_ms.saturating_sub(WINDOW_MS);
        let Some(tries) = self.0.get_mut(key) else { return Ok(()) };
        while tries.front().is_some_and(|first| *first <= horizon_ms) {
            tries.pop_front();
        }
        if tries.len() < most {
            return Ok(());
        }
        let wait_ms = tries.front().map_or(0, |first| first.saturating_sub(horizon_ms));
        Err(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
    }

    fn add(&mut self, key: &K, now_ms: i64) {
        if KEYS_MAX <= self.0.len() && !self.0.contains_key(key) {
            let horizon_ms = now_ms.saturating_sub(WINDOW_MS);
            self.0.retain(|_, tries| tries.back().is_some_and(|last| horizon_ms < *last));
            if KEYS_MAX <= self.0.len() {
                let quietest = self.0.iter().min_by_key(|(_, tries)| tries.back().copied());
                if let Some(quietest) = quietest.map(|(key, _)| key.clone()) {
                    self.0.remove(&quietest);
                }
            }
        }
        self.0.entry(key.clone()).or_default().push_back(now_ms);
    }

    fn take_back(&mut self, key: &K) {
        if let Some(tries) = self.0.get_mut(key) {
            tries.pop_back();
            if tries.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(user: &str, address: &str) -> Attempt {
        Attempt::new("t", user, Some(address.parse().unwrap()))
    }

    #[test]
    fn after_five_failures_within_a_minute_a_user_waits_at_that_address_only() {
        let throttle = Throttle::default();
        let here = attempt("ana", "192.0.2.1");
        for at in 0..5 {
            assert_eq!(throttle.begin(&here, at * 1_000), Ok(()));
        }
        assert_eq!(throttle.begin(&here, 10_000), Err(Duration::from_secs(50)));
        for other in [
            attempt("eva", "192.0.2.1"),
            attempt("ana", "192.0.2.2"),
            Attempt::new("u", "ana", here.address),
            Attempt::new("t", "ana", None),
        ] {
            assert_eq!(throttle.begin(&other, 10_000), Ok(()), "{other:?}");
        }
        assert_eq!(throttle.begin(&here, 60_000), Ok(()));
        assert!(throttle.begin(&here, 60_001).is_err());
        throttle.succeeded(&here, 60_001);
        assert_eq!(throttle.begin(&here, 60_002), Ok(()));
    }

    #[test]
    fn many_strangers_cannot_hold_a_user_off_where_the_user_was_before() {
        let throttle = Throttle::default();
        let home = attempt("ana", "192.0.2.1");
        throttle.begin(&home, 0).unwrap();
        throttle.succeeded(&home, 0);
        let guessed = (0..200).filter(|index| {
            throttle.begin(&attempt("ana", &format!("198.51.100.{index}")), 1_000).is_ok()
        });
        assert_eq!(guessed.count(), USER_TRIES_MAX, "many places together are slowed");
        assert!(throttle.begin(&attempt("ana", "203.0.113.1"), 1_001).is_err());
        assert_eq!(throttle.begin(&home, 1_001), Ok(()));
        assert!(throttle.begin(&attempt("ana", "203.0.113.1"), 61_001).is_ok());
    }

    #[test]
    fn one_address_does_not_try_everybodys_name_but_right_passwords_are_free() {
        let throttle = Throttle::default();
        let tried = |from: usize, to: usize, right: bool| {
            let began = |index: &usize| {
                let one = attempt(&format!("u{index}"), "2001:db8::1");
                let began = throttle.begin(&one, 1_000).is_ok();
                if right {
                    throttle.succeeded(&one, 1_000);
                }
                began
            };
            (from..to).filter(began).count()
        };
        assert_eq!(tried(0, 300, true), 300);
        assert_eq!(tried(300, 600, false), ADDRESS_TRIES_MAX);
        // Another machine of the same network is the same place; another network is not.
        assert!(throttle.begin(&attempt("x", "2001:db8::2"), 1_000).is_err());
        assert!(throttle.begin(&attempt("x", "2001:db8:0:1::2"), 1_000).is_ok());
    }

    #[test]
    fn guessing_at_many_users_does_not_fill_the_memory() {
        let throttle = Throttle::default();
        for index in 0..KEYS_MAX + 50 {
            let one = Attempt::new("t", &format!("u{index}"), None);
            assert_eq!(throttle.begin(&one, 1_000), Ok(()));
            throttle.succeeded(&one, 1_000);
            assert_eq!(throttle.begin(&one, 1_000), Ok(()));
        }
        let counts = throttle.0.lock().unwrap();
        assert!(counts.attempts.0.len() <= KEYS_MAX && counts.known.len() <= KEYS_MAX);
        assert!(counts.users.0.len() <= KEYS_MAX);
    }
}
