//! Numbers by a small index, in pieces of 64, eight of which copies share until one is written.

use std::sync::Arc;

/// Entries per piece, which are looked at together.
pub const PIECE: usize = 64;
/// Pieces that are copied together: one write copies a kilobyte of counts, a copy of all of 5,000 hosts ten
/// pointers.
const GROUP: usize = 8;

/// See the module. What was never written is the default and takes no room.
#[derive(Clone, Debug)]
pub struct Sparse<T> {
    groups: Vec<Option<Arc<[[T; PIECE]; GROUP]>>>,
}

impl<T: Copy + Default> Sparse<T> {
    /// The entry at an index.
    pub fn get(&self, at: u32) -> T {
        let (piece, within) = split(at);
        let found = self.piece(piece).and_then(|piece| piece.get(within));
        found.copied().unwrap_or_default()
    }

    /// A piece, if anything was ever written there.
    #[inline]
    pub fn piece(&self, number: usize) -> Option<&[T; PIECE]> {
        self.groups.get(number / GROUP)?.as_deref()?.get(number % GROUP)
    }

    /// Changes the entry at an index; answers what `change` does.
    pub fn change<R>(&mut self, at: u32, change: impl FnOnce(&mut T) -> R) -> R {
        let (piece, within) = split(at);
        let group = piece / GROUP;
        if self.groups.len() <= group {
            self.groups.resize(group + 1, None);
        }
        let entry = self.groups.get_mut(group).and_then(|group| {
            let group = group.get_or_insert_with(|| Arc::new([[T::default(); PIECE]; GROUP]));
            Arc::make_mut(group).get_mut(piece % GROUP)?.get_mut(within)
        });
        let mut nowhere = T::default();
        change(entry.unwrap_or(&mut nowhere))
    }
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self { groups: Vec::new() }
    }
}

/// The piece of an index, and where in it that is.
#[inline]
pub const fn split(at: u32) -> (usize, usize) {
    let at = at as usize;
    (at / PIECE, at % PIECE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_later_writes_and_what_was_not_written_is_nothing() {
        let mut one = Sparse::<u16>::default();
        one.change(130, |count| *count = 7);
        let before = one.clone();
        one.change(130, |count| *count += 1);
        one.change(0, |count| *count = 1);
        assert_eq!((before.get(130), before.get(0), before.get(9_999)), (7, 0, 0));
        assert_eq!((one.get(130), one.get(0)), (8, 1));
        assert!(one.piece(8).is_none() && one.piece(2).is_some());
    }
}
