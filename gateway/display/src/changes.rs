//! Where pixels that are drawn differ from those that were there: guests draw whole lines and windows
//! anew for a letter, and only the letter is worth sending.

use vidi_spice::Rect;

use crate::framebuffer::TILE;

/// The areas that differ, at most one for each tile of the picture. Rows come from top to bottom.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The row of tiles that the last row of pixels was in.
    band: i32,
    /// Of that row, by the number of the tile in it counted from the first that is drawn.
    open: Vec<Option<Rect>>,
    done: Vec<Rect>,
}

impl Changes {
    /// Puts a row of pixels, of which the first is at `left`, in place of another of the same length.
    pub(crate) fn put_row(&mut self, left: i32, y: i32, old: &mut [u32], new: &[u32]) {
        let side = i32::try_from(TILE).unwrap_or(1);
        if y / side != self.band {
            self.close();
            self.band = y / side;
        }
        let mut x = left;
        let (mut old, mut new, mut tile) = (old, new, 0);
        while !old.is_empty() && old.len() == new.len() {
            let room = usize::try_from(side - x % side).unwrap_or(1).min(old.len());
            let (here, rest) = std::mem::take(&mut old).split_at_mut(room);
            let (wanted, others) = new.split_at(room);
            if let Some((first, last)) = difference(here, wanted) {
                here.copy_from_slice(wanted);
                self.add(tile, &Rect::new(x + first, y, x + last + 1, y + 1));
            }
            (old, new) = (rest, others);
            x = x.saturating_add(i32::try_from(room).unwrap_or(i32::MAX));
            tile += 1;
        }
    }

    /// The areas.
    pub(crate) fn areas(mut self) -> Vec<Rect> {
        self.close();
        self.done
    }

    fn add(&mut self, tile: usize, area: &Rect) {
        if self.open.len() <= tile {
            self.open.resize(tile + 1, None);
        }
        if let Some(open) = self.open.get_mut(tile) {
            *open = Some(open.map_or(*area, |open| open.union(area)));
        }
    }

    fn close(&mut self) {
        self.done.extend(self.open.drain(..).flatten());
    }
}

/// The first and the last place in which the two differ.
fn difference(one: &[u32], other: &[u32]) -> Option<(i32, i32)> {
    // Whole runs are compared faster than pixel by pixel.
    if one == other {
        return None;
    }
    let differs = |(one, other): (&u32, &u32)| one != other;
    let first = one.iter().zip(other).position(differs)?;
    let last = one.iter().zip(other).rposition(differs)?;
    Some((i32::try_from(first).ok()?, i32::try_from(last).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_differs_is_told_by_tiles() {
        let mut picture = [[0_u32; 200]; 3];
        let mut drawn = picture;
        drawn[1][10] = 1;
        drawn[1][12] = 1;
        drawn[2][11] = 1;
        drawn[2][130] = 1;
        let mut changes = Changes::default();
        for ((y, old), new) in (62..).zip(&mut picture).zip(&drawn) {
            changes.put_row(60, y, old, new);
        }
        let expected =
            [Rect::new(70, 63, 73, 64), Rect::new(71, 64, 72, 65), Rect::new(190, 64, 191, 65)];
        assert_eq!(changes.areas(), expected);
        assert_eq!(picture, drawn);
    }

    proptest! {
        #[test]
        fn every_pixel_that_differs_is_inside_and_the_rest_is_as_it_was(
            left in 0..100_i32,
            top in 0..100_i32,
            width in 1..150_usize,
            dots in proptest::collection::vec((0..150_usize, 0..90_usize), 0..6),
        ) {
            let mut drawn = vec![vec![0_u32; width]; 90];
            for (column, row) in dots {
                drawn[row][column % width] = 7;
            }
            let mut picture = vec![vec![0_u32; width]; 90];
            let mut changes = Changes::default();
            for ((y, old), new) in (top..).zip(&mut picture).zip(&drawn) {
                changes.put_row(left, y, old, new);
            }
            prop_assert_eq!(&picture, &drawn);
            let areas = changes.areas();
            for (y, row) in (top..).zip(&drawn) {
                for (x, pixel) in (left..).zip(row) {
                    let dot = Rect::new(x, y, x + 1, y + 1);
                    let holds = areas.iter().filter(|area| area.contains(&dot)).count();
                    prop_assert!(*pixel == 0 || holds == 1);
                }
            }
            for area in areas {
                let tile = |edge: i32| edge / 64;
                prop_assert_eq!(tile(area.left), tile(area.right - 1));
                prop_assert_eq!(tile(area.top), tile(area.bottom - 1));
            }
        }
    }
}
