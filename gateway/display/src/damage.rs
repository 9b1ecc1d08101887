//! The part of a picture that is not yet as it should be.
//!
//! A grid of tiles of 64 x 64 pixels, each with the bounding rectangle of its damage. Slivers as
//! virtio and VGA guests send them (thirty pixels wide) fall together in their tiles, memory is
//! fixed (4 bytes per tile: 768 bytes for 1024 x 768) whatever a guest draws, and a changed letter
//! still costs a letter and not a tile. Damage may be larger than what was added, never smaller.

use vidi_spice::{Point, Rect};

use crate::framebuffer::{TILE, opposite};

/// A set of pixels, rounded up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage {
    bounds: Rect,
    /// Tiles in a row.
    per_row: u32,
    /// Row by row.
    tiles: Vec<Tile>,
    /// Number of tiles with damage.
    dirty: usize,
}

/// The damaged rectangle of a tile, relative to its corner; `right` and `bottom` are exclusive,
/// and 0 when nothing is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tile {
    left: u8,
    top: u8,
    right: u8,
    bottom: u8,
}

impl Damage {
    /// No damage on a picture of this size.
    pub(crate) fn none(width: u32, height: u32) -> Self {
        let per_row = width.div_ceil(TILE);
        let count = u64::from(per_row) * u64::from(height.div_ceil(TILE));
        let tiles = vec![Tile::default(); usize::try_from(count).unwrap_or(0)];
        Self { bounds: Rect::of_size(width, height), per_row, tiles, dirty: 0 }
    }

    /// Damage everywhere.
    pub(crate) fn all(width: u32, height: u32) -> Self {
        let mut damage = Self::none(width, height);
        damage.add(&Rect::of_size(width, height));
        damage
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.dirty == 0
    }

    /// Adds an area, clipped.
    pub(crate) fn add(&mut self, area: &Rect) {
        self.for_each_tile(area, |tile, part| tile.add(part));
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        if self.dirty > 0 {
            self.tiles.fill(Tile::default());
            self.dirty = 0;
        }
    }

    /// Takes an area out where whole tiles' damage lies inside it; what is cut in two stays.
    pub(crate) fn remove(&mut self, area: &Rect) {
        self.for_each_tile(area, |tile, part| tile.remove(part));
    }

    /// The damage as it is when `destination` has been overwritten by what was at `offset` from
    /// it, on both sides: what was damaged there is damaged here.
    pub(crate) fn follow_copy(&mut self, destination: &Rect, offset: Point) {
        if self.is_empty() {
            return;
        }
        let source = destination.moved(offset);
        let back = opposite(offset);
        let carried: Vec<Rect> = self.pieces_in(&source).map(|piece| piece.moved(back)).collect();
        self.remove(destination);
        for piece in &carried {
            self.add(piece);
        }
    }

    /// Adds an area that was damaged before these copies, each a destination with its offset.
    pub(crate) fn add_before(&mut self, copies: &[(Rect, Point)], area: &Rect) {
        let mut before = Self { tiles: vec![Tile::default(); self.tiles.len()], dirty: 0, ..*self };
        before.add(area);
        for (destination, offset) in copies {
            before.follow_copy(destination, *offset);
        }
        before.pieces().for_each(|piece| self.add(&piece));
    }

    /// Number of damaged pixels inside `area`.
    pub(crate) fn pixels_in(&self, area: &Rect) -> u64 {
        self.pieces_in(area).map(|piece| piece.area()).sum()
    }

    /// Whether any pixel of `area` is damaged.
    pub(crate) fn touches(&self, area: &Rect) -> bool {
        self.pieces_in(area).next().is_some()
    }

    /// Whether any pixel is in both.
    pub(crate) fn touches_any(&self, other: &Self) -> bool {
        self.dirty > 0 && other.dirty > 0 && self.pieces().any(|piece| other.touches(&piece))
    }

    /// The damaged rectangles inside `area`, cut at its edges.
    pub(crate) fn pieces_in(&self, area: &Rect) -> impl Iterator<Item = Rect> {
        let inside = area.intersect(&self.bounds);
        let side = i32::try_from(TILE).unwrap_or(1);
        let (rows, columns) = if inside.is_empty() || self.is_empty() {
            (0..0, 0..0)
        } else {
            (
                inside.top / side..(inside.bottom - 1) / side + 1,
                inside.left / side..(inside.right - 1) / side + 1,
            )
        };
        rows.flat_map(move |row| columns.clone().map(move |column| (row, column)))
            .filter_map(move |(row, column)| {
                let number = i64::from(row) * i64::from(self.per_row) + i64::from(column);
                let tile = self.tiles.get(usize::try_from(number).ok()?)?;
                Some(tile.rect().moved(Point::new(column * side, row * side)).intersect(&inside))
            })
            .filter(|piece| !piece.is_empty())
    }

    /// Numbers of the tiles with damage, row by row, as a plane of this size counts them.
    pub(crate) fn tiles(&self) -> impl Iterator<Item = usize> {
        (self.tiles.iter().enumerate())
            .filter_map(|(number, tile)| (!tile.is_clean()).then_some(number))
    }

    /// The damaged rectangles, one per tile, row by row; they do not overlap.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Rect> {
        let per_row = self.per_row.max(1);
        (0_u32..).zip(&self.tiles).filter(|(_number, tile)| !tile.is_clean()).map(
            move |(number, tile)| {
                let side = i32::try_from(TILE).unwrap_or(0);
                let corner = |position: u32| i32::try_from(position).unwrap_or(0) * side;
                let corner = Point::new(corner(number % per_row), corner(number / per_row));
                tile.rect().moved(corner)
            },
        )
    }

    /// Calls `apply` on each tile that `area` touches, with the part of the area inside it.
    fn for_each_tile(&mut self, area: &Rect, mut apply: impl FnMut(&mut Tile, &Rect)) {
        let inside = area.intersect(&self.bounds);
        if inside.is_empty() {
            return;
        }
        let side = i32::try_from(TILE).unwrap_or(1);
        for row in inside.top / side..=(inside.bottom - 1) / side {
            for column in inside.left / side..=(inside.right - 1) / side {
                let corner = Point::new(column * side, row * side);
                let part = inside.moved(opposite(corner)).intersect(&Rect::of_size(TILE, TILE));
                let per_row = i64::from(self.per_row);
                let number = usize::try_from(i64::from(row) * per_row + i64::from(column));
                if let Some(tile) = number.ok().and_then(|number| self.tiles.get_mut(number)) {
                    self.dirty -= usize::from(!tile.is_clean());
                    apply(tile, &part);
                    self.dirty += usize::from(!tile.is_clean());
                }
            }
        }
    }
}

impl Tile {
    const fn is_clean(self) -> bool {
        self.right == 0
    }

    fn rect(self) -> Rect {
        let Self { left, top, right, bottom } = self;
        Rect::new(left.into(), top.into(), right.into(), bottom.into())
    }

    fn add(&mut self, part: &Rect) {
        if self.is_clean() {
            self.set(part);
        } else {
            let old = self.rect();
            self.set(&Rect::new(
                old.left.min(part.left),
                old.top.min(part.top),
                old.right.max(part.right),
                old.bottom.max(part.bottom),
            ));
        }
    }

    fn remove(&mut self, part: &Rect) {
        let old = self.rect();
        if part.contains(&old) {
            *self = Self::default();
            return;
        }
        let mut left = old;
        if part.left <= old.left && part.right >= old.right {
            // A band over the whole width: what is left is one rectangle if it is at an edge.
            if part.top <= old.top {
                left.top = left.top.max(part.bottom);
            } else if part.bottom >= old.bottom {
                left.bottom = left.bottom.min(part.top);
            }
        } else if part.top <= old.top && part.bottom >= old.bottom {
            if part.left <= old.left {
                left.left = left.left.max(part.right);
            } else if part.right >= old.right {
                left.right = left.right.min(part.left);
            }
        }
        self.set(&left);
    }

    fn set(&mut self, rect: &Rect) {
        // Tiles are 64 pixels wide.
        let byte = |value: i32| u8::try_from(value).unwrap_or(0);
        *self = if rect.is_empty() {
            Self::default()
        } else {
            Self {
                left: byte(rect.left),
                top: byte(rect.top),
                right: byte(rect.right),
                bottom: byte(rect.bottom),
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn rects() -> impl Strategy<Value = Rect> {
        (-20..220_i32, -20..150_i32, 0..130_i32, 0..90_i32)
            .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
    }

    fn pixels(rects: impl IntoIterator<Item = Rect>) -> BTreeSet<(i32, i32)> {
        let clipped = rects.into_iter().map(|rect| rect.intersect(&Rect::of_size(200, 130)));
        clipped
            .flat_map(|rect| {
                (rect.top..rect.bottom)
                    .flat_map(move |y| (rect.left..rect.right).map(move |x| (x, y)))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn damage_holds_at_least_what_is_dirty(
            steps in proptest::collection::vec((0..3_u8, rects(), -60..60_i32, -60..60_i32), 1..20),
        ) {
            let mut damage = Damage::none(200, 130);
            let mut model = BTreeSet::new();
            for (kind, rect, x, y) in steps {
                match kind {
                    0 => {
                        damage.add(&rect);
                        model.append(&mut pixels([rect]));
                    }
                    1 => {
                        damage.remove(&rect);
                        model = &model - &pixels([rect]);
                    }
                    _ => {
                        damage.follow_copy(&rect, Point::new(x, y));
                        let copied: BTreeSet<_> = pixels([rect])
                            .into_iter()
                            .filter(|(column, row)| model.contains(&(column + x, row + y)))
                            .collect();
                        model = &(&model - &pixels([rect])) | &copied;
                    }
                }
                let held = pixels(damage.pieces());
                prop_assert!(held.is_superset(&model));
                prop_assert_eq!(damage.is_empty(), held.is_empty());
                let counted = u64::try_from(held.len()).unwrap();
                prop_assert_eq!(damage.pixels_in(&Rect::of_size(200, 130)), counted);
            }
        }
    }

    #[test]
    fn what_was_damaged_before_copies_goes_with_them() {
        let mut damage = Damage::none(200, 130);
        let [first, then] = [Rect::new(64, 0, 80, 16), Rect::new(64, 64, 80, 80)];
        let copies = [(first, Point::new(-64, 0)), (then, Point::new(0, -64))];
        damage.add_before(&copies, &Rect::new(0, 0, 10, 10));
        let pieces: Vec<_> = damage.pieces().collect();
        let moved = [Rect::new(64, 0, 74, 10), Rect::new(64, 64, 74, 74)];
        assert_eq!(pieces, [Rect::new(0, 0, 10, 10), moved[0], moved[1]]);
    }

    #[test]
    fn slivers_fall_together() {
        let mut damage = Damage::none(1024, 768);
        for column in 0..10 {
            damage.add(&Rect::new(column * 33, 10, column * 33 + 33, 20));
        }
        let pieces: Vec<_> = damage.pieces().collect();
        assert_eq!(pieces.len(), 6);
        assert_eq!(pieces.iter().map(Rect::area).sum::<u64>(), 3300);
    }
}
