//! The tiles that one browser remembers, mirrored (`docs/display-protocol.md`, "The tile cache"),
//! and what each tile of its picture shows.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::framebuffer::TILE;

/// Memory of one slot in a browser.
pub(crate) const SLOT_BYTES: u32 = TILE * TILE * 4;

/// Most slots, from the document: 128 MiB in a browser, and about 1 MiB for the mirror.
const SLOTS_MAX: u32 = 8192;

/// What a tile showed for a shorter time is not worth a slot: it hardly comes back.
const WORTH_TIME: Duration = Duration::from_millis(250);

/// What a tile of the viewer's picture shows, once everything handed over is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Not exactly what the guest showed, or never anything.
    Nothing,
    /// Something exact whose hash nobody knows yet.
    Unknown,
    /// Exactly the content of this hash.
    Exact {
        /// The hash.
        hash: u128,
        /// It has one colour only, so that a fill is as short as its recall.
        is_even: bool,
    },
}

/// The mirror.
#[derive(Debug)]
pub(crate) struct TileCache {
    slots_max: u32,
    /// INVARIANT: at most `slots_max`; what each holds, and when it was used last.
    slots: Vec<Slot>,
    by_hash: BTreeMap<u128, u32>,
    /// Oldest use first.
    by_use: BTreeMap<u64, u32>,
    next_use: u64,
    /// The first use in the frame that is being begun: what it recalls must not be replaced by what
    /// it keeps.
    frame_use: u64,
    tiles: Vec<(Shown, Duration)>,
    /// When the first of the unknown tiles became so; none while all are known.
    unknown_since: Option<Duration>,
}

#[derive(Debug)]
struct Slot {
    hash: u128,
    used: u64,
}

impl TileCache {
    /// For a browser that can spare so many bytes.
    pub(crate) fn new(bytes: u32) -> Self {
        Self {
            slots_max: (bytes / SLOT_BYTES).min(SLOTS_MAX),
            slots: Vec::new(),
            by_hash: BTreeMap::new(),
            by_use: BTreeMap::new(),
            next_use: 0,
            frame_use: 0,
            tiles: Vec::new(),
            unknown_since: None,
        }
    }

    /// A size is sent: all is void.
    pub(crate) fn start_over(&mut self, tiles: usize) {
        self.slots.clear();
        self.by_hash.clear();
        self.by_use.clear();
        self.tiles = vec![(Shown::Nothing, Duration::ZERO); tiles];
        self.unknown_since = None;
    }

    /// A frame is begun: slots used from now on are not replaced by it.
    pub(crate) fn begin_frame(&mut self) {
        self.frame_use = self.next_use;
    }

    /// The slot that holds this content.
    pub(crate) fn recall(&mut self, hash: u128) -> Option<u32> {
        let number = *self.by_hash.get(&hash)?;
        self.touch(number);
        Some(number)
    }

    /// The slot in which a tile of this content is to be kept; none where one has it already, or
    /// where there is none to spare.
    pub(crate) fn keep(&mut self, hash: u128) -> Option<u32> {
        if self.recall(hash).is_some() {
            return None;
        }
        let number = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let number = if number < self.slots_max {
            self.slots.push(Slot { hash, used: self.next_use });
            number
        } else {
            let oldest = self.by_use.first_entry()?;
            if self.frame_use <= *oldest.key() {
                return None;
            }
            let number = oldest.remove();
            let slot = self.slots.get_mut(usize::try_from(number).unwrap_or(usize::MAX))?;
            self.by_hash.remove(&slot.hash);
            *slot = Slot { hash, used: self.next_use };
            number
        };
        self.by_hash.insert(hash, number);
        self.by_use.insert(self.next_use, number);
        self.next_use += 1;
        Some(number)
    }

    fn touch(&mut self, number: u32) {
        let slot = self.slots.get_mut(usize::try_from(number).unwrap_or(usize::MAX));
        if let Some(slot) = slot {
            self.by_use.remove(&slot.used);
            slot.used = self.next_use;
            self.by_use.insert(self.next_use, number);
            self.next_use += 1;
        }
    }

    /// The tile shows this from now on.
    pub(crate) fn show(&mut self, tile: usize, shown: Shown, now: Duration) {
        if let Some(entry) = self.tiles.get_mut(tile) {
            *entry = (shown, now);
        }
        if shown == Shown::Unknown {
            self.unknown_since.get_or_insert(now);
        }
    }

    /// What the tile shows.
    pub(crate) fn shown(&self, tile: usize) -> Shown {
        self.tiles.get(tile).map_or(Shown::Nothing, |(shown, _since)| *shown)
    }

    /// What the tile has shown for long enough that it may be worth keeping.
    pub(crate) fn worth_keeping(&self, tile: usize, now: Duration) -> Option<u128> {
        match self.tiles.get(tile) {
            Some((Shown::Exact { hash, is_even: false }, since)) if *since + WORTH_TIME <= now => {
                Some(*hash)
            }
            Some(_) | None => None,
        }
    }

    /// When the unknown tiles have stood for long enough to be looked at.
    pub(crate) const fn learns_at(&self) -> Option<Duration> {
        match self.unknown_since {
            Some(since) => Some(since.saturating_add(WORTH_TIME)),
            None => None,
        }
    }

    /// Takes the numbers of the unknown tiles; they count as known from then on.
    pub(crate) fn take_unknown(&mut self) -> Vec<usize> {
        self.unknown_since = None;
        let unknown = |(tile, (shown, _)): (usize, &(Shown, _))| {
            matches!(shown, Shown::Unknown).then_some(tile)
        };
        self.tiles.iter().enumerate().filter_map(unknown).collect()
    }

    /// The tile shows exactly this, and has since it was drawn.
    pub(crate) fn learn(&mut self, tile: usize, shown: Shown) {
        if let Some((known, _since)) = self.tiles.get_mut(tile) {
            *known = shown;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A browser that only does what it is told holds what the mirror says.
        #[test]
        fn the_mirror_is_what_the_browser_holds(
            slots in 0..6_u32,
            steps in proptest::collection::vec((0..10_u128, any::<bool>(), any::<bool>()), 1..200),
        ) {
            let mut mirror = TileCache::new(slots * SLOT_BYTES + 5);
            let mut browser = BTreeMap::new();
            let mut recalled = Vec::new();
            for (hash, is_keep, begins) in steps {
                if begins {
                    mirror.begin_frame();
                    recalled.clear();
                }
                if is_keep {
                    let had = browser.values().any(|held| *held == hash);
                    if let Some(slot) = mirror.keep(hash) {
                        prop_assert!(!had && slot < slots);
                        prop_assert!(!recalled.contains(&slot), "it is yet to be drawn");
                        browser.insert(slot, hash);
                    }
                } else {
                    let slot = mirror.recall(hash);
                    let held = browser.iter().find(|(_, held)| **held == hash);
                    prop_assert_eq!(slot, held.map(|(slot, _)| *slot));
                    recalled.extend(slot);
                }
            }
        }
    }

    #[test]
    fn the_one_used_longest_ago_is_replaced() {
        let mut mirror = TileCache::new(2 * SLOT_BYTES);
        assert_eq!((mirror.keep(1), mirror.keep(2)), (Some(0), Some(1)));
        assert_eq!(mirror.recall(1), Some(0));
        mirror.begin_frame();
        assert_eq!(mirror.keep(3), Some(1));
        assert_eq!((mirror.recall(2), mirror.recall(1)), (None, Some(0)));
        mirror.start_over(4);
        assert_eq!(mirror.recall(1), None);
    }
}
