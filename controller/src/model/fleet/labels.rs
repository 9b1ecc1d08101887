//! Which hosts have which label: a bit for each of 64 hosts, so that a placement rules out whole pieces.

use super::super::map::Map;
use super::sparse::split;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct LabelIndex {
    hosts: Map<(String, String), Vec<u64>>,
}

impl LabelIndex {
    /// The host of a slot has a label, or has it no more.
    pub(super) fn set(&mut self, slot: u32, (key, value): (&String, &String), has: bool) {
        let (piece, at) = split(slot);
        let label = (key.clone(), value.clone());
        let mut bits = self.hosts.get(&label).map_or_else(Vec::new, |bits| Vec::clone(bits));
        if bits.len() <= piece {
            bits.resize(piece + 1, 0);
        }
        if let Some(bits) = bits.get_mut(piece) {
            *bits = if has { *bits | 1 << at } else { *bits & !(1 << at) };
        }
        // What no host has is not kept.
        if bits.iter().all(|bits| *bits == 0) {
            self.hosts.remove(&label);
        } else {
            self.hosts.insert(label, bits);
        }
    }

    /// The hosts that have all of these labels.
    pub fn having<'a>(&'a self, labels: &[(String, String)]) -> Allowed<'a> {
        let bits = labels.iter().map(|label| self.hosts.get(label).map(|bits| bits.as_slice()));
        Allowed { all: bits.map(Option::unwrap_or_default).collect() }
    }
}

/// Hosts that may be taken; without any labels all.
#[derive(Clone, Debug, Default)]
pub struct Allowed<'a> {
    all: Vec<&'a [u64]>,
}

impl Allowed<'_> {
    /// A bit for each host of a piece.
    #[inline]
    pub fn piece(&self, number: usize) -> u64 {
        let bits = self.all.iter().map(|bits| bits.get(number).copied().unwrap_or(0));
        bits.fold(u64::MAX, |all, bits| all & bits)
    }

    /// Whether a host may be taken.
    pub fn has(&self, slot: u32) -> bool {
        let (piece, at) = split(slot);
        self.piece(piece) >> at & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn only_hosts_that_have_all_labels_are_allowed() {
        let mut index = LabelIndex::default();
        let (gpu, fast) = (label("gpu", "yes"), label("disk", "fast"));
        for (slot, label) in [(3, &gpu), (130, &gpu), (130, &fast), (64, &fast)] {
            index.set(slot, (&label.0, &label.1), true);
        }
        let slots = |labels: &[(String, String)]| -> Vec<u32> {
            let allowed = index.having(labels);
            (0..200).filter(|slot| allowed.has(*slot)).collect()
        };
        assert_eq!(slots(&[]).len(), 200);
        assert_eq!(slots(std::slice::from_ref(&gpu)), [3, 130]);
        assert_eq!(slots(&[gpu.clone(), fast.clone()]), [130]);
        assert_eq!(slots(&[label("gpu", "no")]), [0_u32; 0]);
        index.set(130, (&gpu.0, &gpu.1), false);
        index.set(3, (&gpu.0, &gpu.1), false);
        assert!(index.hosts.get(&gpu).is_none() && index.hosts.get(&fast).is_some());
    }
}
