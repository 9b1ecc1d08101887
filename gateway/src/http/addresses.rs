//! How many connections each address holds: one stranger must not take the places of everybody.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vidi_kit::transport::network_of;

/// Counts connections by address; an IPv6 network of 64 bits, which is one household, counts as one.
#[derive(Clone, Debug)]
pub struct Addresses {
    most: usize,
    held: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    /// With at most this many for each; 0: no limit.
    pub fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// A place for a connection from there; none when it has all that it may have.
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let address = network_of(address);
        let mut held = self.lock();
        let count = held.entry(address).or_default();
        if self.most != 0 && self.most <= *count {
            return None;
        }
        *count += 1;
        Some(Place { addresses: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        // Whole at every moment.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.addresses.lock();
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_places_and_no_more_and_others_have_theirs() {
        let addresses = Addresses::new(2);
        let first = addresses.take(address("192.0.2.1"));
        let mapped = addresses.take(address("::ffff:192.0.2.1"));
        assert!(first.is_some() && mapped.is_some());
        assert!(addresses.take(address("192.0.2.1")).is_none());
        assert!(addresses.take(address("192.0.2.2")).is_some());
        drop(first);
        assert!(addresses.take(address("192.0.2.1")).is_some());
        drop(mapped);
        assert!(addresses.lock().is_empty(), "who left is forgotten");
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let addresses = Addresses::new(1);
        let _held = addresses.take(address("2001:db8::1"));
        assert!(addresses.take(address("2001:db8::ffff:1")).is_none());
        assert!(addresses.take(address("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn without_a_limit_everybody_gets_in() {
        let addresses = Addresses::new(0);
        let places: Vec<_> = (0..5_000).filter_map(|_| addresses.take(address("::1"))).collect();
        assert_eq!(places.len(), 5_000);
    }
}
