//! Points, rectangles and surface numbers, in pixels, y growing downwards.

/// Number of a surface of one display channel; the primary one, which the user sees, is usually 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SurfaceId(pub u32);

/// A position in pixels (`spice.proto`, `Point`: i32 x, i32 y).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Point {
    /// Columns from the left edge.
    pub x: i32,
    /// Rows from the top edge.
    pub y: i32,
}

/// A half-open rectangle: `left` and `top` belong to it, `right` and `bottom` do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rect {
    /// First column.
    pub left: i32,
    /// First row.
    pub top: i32,
    /// Column after the last.
    pub right: i32,
    /// Row after the last.
    pub bottom: i32,
}

impl Point {
    /// The point in column `x` and row `y`.
    pub const fn new(x: i32, y: i32) -> Self {
        Self { x, y }
    }
}

impl Rect {
    /// The rectangle of these four edges; empty when an edge is not before its opposite.
    pub const fn new(left: i32, top: i32, right: i32, bottom: i32) -> Self {
        Self { left, top, right, bottom }
    }

    /// The rectangle at the origin with this size; a side beyond `i32::MAX` is cut there.
    pub fn of_size(width: u32, height: u32) -> Self {
        let side = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
        Self::new(0, 0, side(width), side(height))
    }

    /// Number of columns, 0 for an empty rectangle.
    pub const fn width(&self) -> u32 {
        if self.right > self.left { self.right.abs_diff(self.left) } else { 0 }
    }

    /// Number of rows, 0 for an empty rectangle.
    pub const fn height(&self) -> u32 {
        if self.bottom > self.top { self.bottom.abs_diff(self.top) } else { 0 }
    }

    /// Number of pixels.
    pub const fn area(&self) -> u64 {
        // Two u32 multiplied as u64 cannot overflow.
        (self.width() as u64) * (self.height() as u64)
    }

    /// Whether no pixel is inside.
    pub const fn is_empty(&self) -> bool {
        self.right <= self.left || self.bottom <= self.top
    }

    /// The pixels that both rectangles hold; possibly empty.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// The smallest rectangle around both, neither of which is empty.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// The rectangle moved by `by`; edges that would leave the range of `i32` stop at its end.
    #[must_use]
    pub const fn moved(&self, by: Point) -> Self {
        Self {
            left: self.left.saturating_add(by.x),
            top: self.top.saturating_add(by.y),
            right: self.right.saturating_add(by.x),
            bottom: self.bottom.saturating_add(by.y),
        }
    }

    /// Whether every pixel of `inner` is inside; an empty rectangle is inside every other.
    pub const fn contains(&self, inner: &Self) -> bool {
        inner.is_empty()
            || (self.left <= inner.left
                && self.top <= inner.top
                && self.right >= inner.right
                && self.bottom >= inner.bottom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_edges_never_overflow() {
        let all = Rect::new(i32::MIN, i32::MIN, i32::MAX, i32::MAX);
        assert_eq!(all.width(), u32::MAX);
        assert_eq!(all.area(), u64::from(u32::MAX) * u64::from(u32::MAX));
        assert_eq!(all.moved(Point::new(9, -9)).right, i32::MAX);
        assert!(Rect::new(5, 0, -5, 4).is_empty());
        assert_eq!(Rect::new(5, 0, -5, 4).area(), 0);
    }

    #[test]
    fn intersection_keeps_only_common_pixels() {
        let common = Rect::new(0, 0, 10, 10).intersect(&Rect::new(5, -5, 20, 3));
        assert_eq!(common, Rect::new(5, 0, 10, 3));
        assert!(Rect::of_size(4, 4).intersect(&Rect::new(4, 0, 8, 4)).is_empty());
    }
}
