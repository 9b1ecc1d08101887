//! Strings of glyphs as one picture of their coverage (`spice.proto`, `String`, `RasterGlyphA1`
//! and its brothers).

use bytes::Bytes;

use crate::geometry::{Point, Rect};

use super::texture::Levels;

/// Bits per pixel of a glyph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) enum GlyphDepth {
    One,
    Four,
    Eight,
}

/// The picture of a character, in rows of whole bytes, the first pixel in the highest bits.
#[derive(Debug)]
pub(in crate::display) struct Glyph {
    /// Where it is drawn.
    pub(in crate::display) area: Rect,
    pub(in crate::display) data: Bytes,
}

impl GlyphDepth {
    /// Bytes of a row of so many pixels.
    pub(in crate::display) const fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::One => width.div_ceil(8),
            Self::Four => width.div_ceil(2),
            Self::Eight => width,
        }
    }

    /// The coverage of pixel `x` of a row, 0 to 255. The highest of 4 bits is 240: the reference
    /// renderer puts them into the high half of a byte and leaves the low half 0.
    fn level(self, row: &[u8], x: usize) -> u8 {
        let byte = |at: usize| row.get(at).copied().unwrap_or(0);
        match self {
            Self::One if byte(x / 8) & (0x80 >> (x % 8)) != 0 => 255,
            Self::One => 0,
            Self::Four if x.is_multiple_of(2) => byte(x / 2) & 0xf0,
            Self::Four => byte(x / 2) << 4,
            Self::Eight => byte(x),
        }
    }
}

/// The coverage of all glyphs together inside of `bounds`; where they overlap, the higher one.
///
/// INVARIANT: `bounds` is no larger than a surface, which bounds what is allocated.
pub(in crate::display) fn levels(
    glyphs: &[Glyph],
    depth: GlyphDepth,
    top_down: bool,
    bounds: &Rect,
) -> Levels {
    let (width, height) = (bounds.width(), bounds.height());
    let stride = index(width.into());
    let mut levels = vec![0; stride.saturating_mul(index(height.into()))];
    for Glyph { area, data } in glyphs {
        let seen = area.intersect(bounds);
        if seen.is_empty() {
            continue;
        }
        let row_bytes = depth.row_bytes(index(area.width().into()));
        for y in seen.top..seen.bottom {
            let row = if top_down { distance(area.top, y) } else { distance(y, area.bottom) - 1 };
            let start = row.saturating_mul(row_bytes);
            let row = data.get(start..start.saturating_add(row_bytes)).unwrap_or_default();
            let to = distance(bounds.top, y) * stride + distance(bounds.left, seen.left);
            let from = distance(area.left, seen.left);
            let length = index(seen.width().into());
            let out = levels.get_mut(to..to.saturating_add(length)).unwrap_or_default();
            for (x, level) in out.iter_mut().enumerate() {
                *level = (*level).max(depth.level(row, from + x));
            }
        }
    }
    Levels { width, height, data: levels.into() }
}

/// `to` - `from`, which is not negative.
fn distance(from: i32, to: i32) -> usize {
    index(i64::from(to) - i64::from(from))
}

fn index(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// Where a glyph is drawn: at the sum of its position and the origin in its own picture.
pub(in crate::display) fn glyph_area(
    position: Point,
    origin: Point,
    [width, height]: [u16; 2],
) -> Rect {
    Rect::of_size(width.into(), height.into()).moved(position).moved(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glyph(area: Rect, data: &'static [u8]) -> Glyph {
        Glyph { area, data: Bytes::from_static(data) }
    }

    fn check(depth: GlyphDepth, top_down: bool, glyphs: &[Glyph], bounds: Rect, expected: &[u8]) {
        assert_eq!(levels(glyphs, depth, top_down, &bounds).data, expected);
    }

    #[test]
    fn glyphs_have_their_first_pixel_high_and_their_last_row_first() {
        let area = Rect::new(5, 7, 8, 9);
        let one = || [glyph(area, &[0b1010_0000, 0b0110_0000])];
        check(GlyphDepth::One, false, &one(), area, &[0, 255, 255, 255, 0, 255]);
        check(GlyphDepth::One, true, &one(), area, &[255, 0, 255, 0, 255, 255]);
        let four = [glyph(area, &[0x12, 0x30, 0xf5, 0x60])];
        check(GlyphDepth::Four, false, &four, area, &[0xf0, 0x50, 0x60, 0x10, 0x20, 0x30]);
        let eight = [glyph(area, &[1, 2, 3, 4, 5, 6])];
        check(GlyphDepth::Eight, false, &eight, area, &[4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn glyphs_are_cut_at_the_bounds_and_the_higher_coverage_wins() {
        let first = glyph(Rect::new(0, 0, 4, 1), &[10, 20, 30, 40]);
        let second = glyph(Rect::new(2, 0, 5, 1), &[35, 35, 35]);
        let far = glyph(Rect::new(100, 0, 104, 1), &[1, 1, 1, 1]);
        let glyphs = [first, second, far];
        check(GlyphDepth::Eight, true, &glyphs, Rect::new(1, 0, 6, 1), &[20, 35, 40, 35, 0]);
    }

    #[test]
    fn a_glyph_at_the_edge_of_the_numbers_is_nowhere() {
        let edge = Point::new(i32::MAX, i32::MIN);
        let area = glyph_area(edge, edge, [9, 9]);
        let glyphs = [Glyph { area, data: Bytes::from_static(&[255; 18]) }];
        check(GlyphDepth::One, false, &glyphs, Rect::of_size(2, 1), &[0, 0]);
    }
}
