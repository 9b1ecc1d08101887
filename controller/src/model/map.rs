//! An ordered map whose clone costs a few hundred pointers, so that every decision can publish a
//! snapshot of everything.
//!
//! ```text
//!  Map ─▶ [ Arc<chunk>, Arc<chunk>, ... ]   chunks sorted, keys sorted within; shared until written
//! ```

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Entries per chunk: a write copies at most one chunk of pointers, a clone copies one pointer per
/// chunk. 100,000 entries: 400 to 800 pointers.
const CHUNK_ENTRIES_MAX: usize = 256;
/// Room that a chunk gets when it is full: most of a hundred thousand entries are never written again, and
/// what a vector doubles by itself would be theirs for good.
const CHUNK_ENTRIES_MORE: usize = 16;

type Chunk<K, V> = Arc<Vec<(K, Arc<V>)>>;

/// See the module.
///
/// INVARIANT: no chunk is empty, and keys grow strictly through all chunks.
pub struct Map<K, V> {
    chunks: Vec<Chunk<K, V>>,
    len: usize,
}

impl<K: Ord + Clone, V> Map<K, V> {
    /// An empty one.
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let index = chunk.binary_search_by(|(other, _)| other.borrow().cmp(key)).ok()?;
        chunk.get(index).map(|(_, value)| value)
    }

    /// The key as it is kept here, if it is: copies of it share its memory.
    pub fn shared(&self, key: K) -> K {
        let chunk = self.chunks.get(self.chunk_of(&key));
        let known = chunk.and_then(|chunk| {
            let index = chunk.binary_search_by(|(other, _)| other.cmp(&key)).ok()?;
            chunk.get(index).map(|(known, _)| known.clone())
        });
        known.unwrap_or(key)
    }

    /// Whether the key is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets a key; answers what was there.
    pub fn insert(&mut self, key: K, value: impl Into<Arc<V>>) -> Option<Arc<V>> {
        let value = value.into();
        let at = self.chunk_of(&key).min(self.chunks.len().saturating_sub(1));
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        match chunk.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(index) => {
                let entry = Arc::make_mut(chunk).get_mut(index);
                entry.map(|entry| std::mem::replace(&mut entry.1, value))
            }
            // Behind everything: ids are in the order of time, and full chunks stay full.
            Err(CHUNK_ENTRIES_MAX) => {
                self.chunks.insert(at + 1, Arc::new(vec![(key, value)]));
                self.len += 1;
                None
            }
            Err(index) => {
                let value = alike(chunk, value);
                let chunk = Arc::make_mut(chunk);
                if chunk.len() == chunk.capacity() {
                    chunk.reserve_exact(CHUNK_ENTRIES_MORE);
                }
                chunk.insert(index, (key, value));
                self.len += 1;
                if CHUNK_ENTRIES_MAX < chunk.len() {
                    let rest = chunk.split_off(CHUNK_ENTRIES_MAX / 2);
                    chunk.shrink_to_fit();
                    self.chunks.insert(at + 1, Arc::new(rest));
                }
                None
            }
        }
    }

    /// Changes the value of a key in place, the default one where there is none; answers what `change` does.
    pub fn change<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> R
    where
        V: Clone + Default,
    {
        if !self.contains_key(key) {
            self.insert(key.clone(), V::default());
        }
        let at = self.chunk_of(key);
        let chunk = self.chunks.get_mut(at).map(Arc::make_mut);
        let entry = chunk.and_then(|chunk| {
            let index = chunk.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
            chunk.get_mut(index)
        });
        let mut nowhere = V::default();
        change(entry.map_or(&mut nowhere, |(_, value)| Arc::make_mut(value)))
    }

    /// The last entry.
    pub fn last(&self) -> Option<(&K, &Arc<V>)> {
        self.chunks.last()?.last().map(|(key, value)| (key, value))
    }

    /// Removes a key; answers what was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let at = self.chunk_of(key);
        let chunk = self.chunks.get_mut(at)?;
        let index = chunk.binary_search_by(|(other, _)| other.borrow().cmp(key)).ok()?;
        let chunk = Arc::make_mut(chunk);
        let (_, value) = chunk.remove(index);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        self.len -= 1;
        Some(value)
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.iter().map(|(_, value)| value)
    }

    /// Keys whose values are others than in a state of this map before, found without a look at what the two
    /// share; none when keys came or went.
    pub fn changed_from(&self, before: &Self) -> Option<Vec<&K>> {
        if self.chunks.len() != before.chunks.len() {
            return None;
        }
        let mut changed = Vec::new();
        for (now, before) in self.chunks.iter().zip(&before.chunks) {
            if Arc::ptr_eq(now, before) {
                continue;
            }
            if now.len() != before.len() {
                return None;
            }
            for ((key, value), (key_before, value_before)) in now.iter().zip(before.iter()) {
                if key != key_before {
                    return None;
                }
                if !Arc::ptr_eq(value, value_before) {
                    changed.push(key);
                }
            }
        }
        Some(changed)
    }

    /// Entries from a bound on, in order; found in logarithmic time.
    pub fn from<'a>(
        &'a self,
        start: Bound<&K>,
    ) -> impl Iterator<Item = (&'a K, &'a Arc<V>)> + use<'a, K, V> {
        let first = match start {
            Bound::Included(key) | Bound::Excluded(key) => self.chunk_of(key),
            Bound::Unbounded => 0,
        };
        let before = move |key: &K| match start {
            Bound::Included(start) => key < start,
            Bound::Excluded(start) => key <= start,
            Bound::Unbounded => false,
        };
        let skipped =
            self.chunks.get(first).map_or(0, |chunk| chunk.partition_point(|(key, _)| before(key)));
        self.chunks
            .iter()
            .skip(first)
            .flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
            .skip(skipped)
    }

    /// How many entries lie before a key.
    pub fn rank(&self, key: &K) -> usize {
        let at = self.chunk_of(key);
        let before: usize = self.chunks.iter().take(at).map(|chunk| chunk.len()).sum();
        let within = self.chunks.get(at);
        before + within.map_or(0, |chunk| chunk.partition_point(|(other, _)| other < key))
    }

    /// Index of the only chunk that may hold the key: the first whose last key is not below it.
    fn chunk_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.chunks
            .partition_point(|chunk| chunk.last().is_some_and(|(last, _)| last.borrow() < key))
    }
}

/// Values without bytes are all the same: a chunk of them shares one.
fn alike<K, V>(chunk: &[(K, Arc<V>)], value: Arc<V>) -> Arc<V> {
    let other = chunk.first().filter(|_| size_of::<V>() == 0);
    other.map_or(value, |(_, other)| Arc::clone(other))
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<K: Ord + Clone, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone + fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_the_standard_map(
            steps in prop::collection::vec((0u16..3_000, any::<bool>()), 0..4_000),
            start in 0u16..3_000,
        ) {
            let mut map = Map::<u16, usize>::new();
            let mut model = BTreeMap::new();
            for (index, (key, insert)) in steps.into_iter().enumerate() {
                if insert {
                    let old = map.insert(key, index).map(|old| *old);
                    prop_assert_eq!(old, model.insert(key, index));
                } else {
                    prop_assert_eq!(map.remove(&key).map(|old| *old), model.remove(&key));
                }
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert!(map.iter().map(|(key, value)| (*key, **value)).eq(model.clone()));
            let behind = map.from(Bound::Excluded(&start)).map(|(key, _)| *key);
            prop_assert!(behind.eq(model.range(start + 1..).map(|(key, _)| *key)));
            let from = map.from(Bound::Included(&start)).map(|(key, _)| *key);
            prop_assert!(from.eq(model.range(start..).map(|(key, _)| *key)));
            prop_assert_eq!(map.rank(&start), model.range(..start).count());
        }
    }

    #[test]
    fn entries_without_a_value_share_their_allocation_and_no_chunk_has_much_room_left() {
        let mut map = Map::<u32, ()>::new();
        for key in (0..4_000).rev() {
            map.insert(key, ());
        }
        for chunk in &map.chunks {
            assert!(chunk.capacity() <= chunk.len() + CHUNK_ENTRIES_MORE, "{}", chunk.capacity());
        }
        let mut values: Vec<_> = map.values().map(Arc::as_ptr).collect();
        values.sort_unstable();
        values.dedup();
        assert!(values.len() <= map.chunks.len(), "{} of {}", values.len(), map.chunks.len());
        assert_eq!(map.len(), 4_000);
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut map = Map::<u32, u32>::new();
        for key in 0..2_000 {
            map.insert(key, key);
        }
        let before = map.clone();
        map.change(&7, |value| *value = 70);
        map.change(&2_000, |value| *value += 1);
        map.remove(&8);
        assert_eq!(map.get(&7).map(|value| **value), Some(70));
        assert_eq!(map.last().map(|(key, value)| (*key, **value)), Some((2_000, 1)));
        assert_eq!(before.get(&7).map(|value| **value), Some(7));
        assert!(before.contains_key(&8));
        assert_eq!(
            before.chunks.len(),
            8,
            "a clone is cheap: what comes in order fills its chunks"
        );
        let mut later = before.clone();
        later.insert(1_500, 1);
        later.insert(9, 90);
        assert_eq!(later.changed_from(&before), Some(vec![&9, &1_500]));
        assert_eq!(later.changed_from(&later.clone()), Some(Vec::new()));
        assert_eq!(map.changed_from(&before), None, "keys came and went");
    }
}
