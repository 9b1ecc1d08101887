//! How domains ended, as libvirt's events tell: a transient domain that is gone cannot be asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::events::Life;
use crate::model::DomainEnd;

/// Ends that are remembered, the newest: a host has fewer domains, and each is asked for soon.
const ENDS_MAX: usize = 4096;

/// The last ends, by domain.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// With the place in the order in which they were told.
    by_domain: BTreeMap<Uuid, (u64, DomainEnd)>,
    told: u64,
}

impl Ends {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears where a domain's life went.
    pub(super) fn hear(&self, id: Uuid, life: Life) {
        let mut inner = self.lock();
        match life {
            Life::Began => drop(inner.by_domain.remove(&id)),
            Life::Ends(end) => inner.keep(id, end),
            // A QEMU that does not tell who wanted it (before 2.12) is taken to mean its guest.
            Life::ShutDown if !inner.by_domain.contains_key(&id) => {
                inner.keep(id, DomainEnd::ByGuest);
            }
            Life::ShutDown | Life::Other => {}
        }
    }

    /// Forgets a domain that is started anew.
    pub(super) fn forget(&self, id: Uuid) {
        self.lock().by_domain.remove(&id);
    }

    /// How a domain ended, when that was told.
    pub(super) fn of(&self, id: Uuid) -> Option<DomainEnd> {
        self.lock().by_domain.get(&id).map(|(_, end)| *end)
    }
}

impl Inner {
    fn keep(&mut self, id: Uuid, end: DomainEnd) {
        self.told = self.told.wrapping_add(1);
        self.by_domain.insert(id, (self.told, end));
        if ENDS_MAX < self.by_domain.len() {
            let oldest = self.by_domain.iter().min_by_key(|(_, (told, _))| *told);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.by_domain.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ended_a_domain_is_what_was_told_last_before_it_stopped() {
        let (ends, id) = (Ends::default(), Uuid::from_u128(1));
        for (told, expected) in [
            (vec![Life::Began], None),
            (vec![Life::Ends(DomainEnd::ByGuest), Life::ShutDown], Some(DomainEnd::ByGuest)),
            (vec![Life::Ends(DomainEnd::Otherwise), Life::ShutDown], Some(DomainEnd::Otherwise)),
            (vec![Life::Other, Life::ShutDown], Some(DomainEnd::ByGuest)),
            // Shut down by its guest in order to be reset, then killed.
            (
                vec![Life::Ends(DomainEnd::ByGuest), Life::Began, Life::Ends(DomainEnd::Otherwise)],
                Some(DomainEnd::Otherwise),
            ),
        ] {
            ends.forget(id);
            told.iter().for_each(|life| ends.hear(id, *life));
            assert_eq!(ends.of(id), expected, "{told:?}");
        }
    }

    #[test]
    fn only_the_newest_are_kept() {
        let ends = Ends::default();
        for number in 0..=ENDS_MAX as u128 {
            ends.hear(Uuid::from_u128(number), Life::Ends(DomainEnd::Otherwise));
        }
        assert_eq!(ends.of(Uuid::from_u128(0)), None);
        assert!(ends.of(Uuid::from_u128(1)).is_some());
    }
}
