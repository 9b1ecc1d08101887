//! Damage cut into the parts that are sent: few, neither too large nor with much that is clean.

use std::collections::BTreeMap;

use vidi_spice::Rect;

use crate::damage::Damage;
use crate::framebuffer::Plane;

/// Most pixels of one part that is not one colour: a slice of sending and one job of a few
/// milliseconds, so that a whole picture is encoded on several threads and can be superseded.
/// One row of tiles of a 1024 pixels wide picture.
const PART_PIXELS_MAX: u64 = 65_536;

/// Most pixels of one that goes to a browser that draws slowly: such a browser takes longer for each
/// image than for its pixels, 60 ms each of twelve in place of 110 ms for all as one.
const LARGE_PART_PIXELS_MAX: u64 = 2_097_152;

/// Clean pixels that may be sent again to save a part: about what an image costs in headers.
const SPARE_PIXELS: u64 = 256;

/// A rectangle to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where; inside the surface, not empty.
    pub(crate) area: Rect,
    /// Its colour if it has only one.
    pub(crate) solid: Option<u32>,
    /// It need not be exact.
    pub(crate) is_lossy: bool,
}

/// How finely damage is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// So that parts are soon there and can be superseded.
    Fine,
    /// Few and large; of what is not exact, with what is one colour between them.
    Coarse,
}

impl Grain {
    const fn pixels_max(self) -> u64 {
        match self {
            Self::Coarse => LARGE_PART_PIXELS_MAX,
            Self::Fine => PART_PIXELS_MAX,
        }
    }
}

/// Covers all damage; `is_lossy` says of a piece of a tile whether it need not be exact. Parts may
/// overlap, but all show the same moment of the surface, so their order does not matter.
pub(crate) fn parts(
    damage: &Damage,
    plane: &Plane,
    grain: Grain,
    is_lossy: impl Fn(&Rect) -> bool,
) -> Vec<Part> {
    let pieces = damage.pieces().map(|area| {
        let is_lossy = is_lossy(&area);
        let solid = plane.solid(&area).filter(|_| !(is_lossy && grain == Grain::Coarse));
        Part { area, solid, is_lossy: solid.is_none() && is_lossy }
    });
    let mut rows: Vec<Part> = Vec::new();
    for piece in pieces {
        match rows.last_mut().and_then(|last| Some((merged_across(last, &piece, grain)?, last))) {
            Some((merged, last)) => *last = merged,
            None => rows.push(piece),
        }
    }
    let mut parts: Vec<Part> = Vec::new();
    // The lowest part with these left and right edges and of this kind.
    let mut lowest: BTreeMap<(i32, i32, Option<u32>, bool), usize> = BTreeMap::new();
    for row in rows {
        let key = (row.area.left, row.area.right, row.solid, row.is_lossy);
        let above = lowest.get(&key).and_then(|&index| parts.get_mut(index));
        match above.and_then(|above| Some((merged_down(above, &row, grain)?, above))) {
            Some((merged, above)) => *above = merged,
            None => {
                lowest.insert(key, parts.len());
                parts.push(row);
            }
        }
    }
    parts
}

/// The two as one, if they are neighbours in a row of tiles.
fn merged_across(left: &Part, right: &Part, grain: Grain) -> Option<Part> {
    let (a, b) = (&left.area, &right.area);
    let level = a.top == b.top && a.bottom == b.bottom && a.right == b.left;
    let area = union(a, b);
    let worth = match (left.solid, right.solid) {
        (None, None) => {
            let is_alike = left.is_lossy == right.is_lossy && a.right <= b.left;
            is_alike && area.area() <= grain.pixels_max() && is_worth_it(&area, a, b)
        }
        (one, other) => level && one == other,
    };
    worth.then_some(Part { area, solid: left.solid, is_lossy: left.is_lossy })
}

/// The two as one, if the lower continues the upper; they have the same columns and colour.
fn merged_down(upper: &Part, lower: &Part, grain: Grain) -> Option<Part> {
    let (a, b) = (&upper.area, &lower.area);
    let area = union(a, b);
    let worth = match upper.solid {
        None => area.area() <= grain.pixels_max() && is_worth_it(&area, a, b),
        Some(_) => a.bottom == b.top,
    };
    worth.then_some(Part { area, solid: upper.solid, is_lossy: upper.is_lossy })
}

fn is_worth_it(union: &Rect, a: &Rect, b: &Rect) -> bool {
    let needed = a.area() + b.area();
    union.area() <= needed + needed / 4 + SPARE_PIXELS
}

fn union(a: &Rect, b: &Rect) -> Rect {
    Rect::new(a.left.min(b.left), a.top.min(b.top), a.right.max(b.right), a.bottom.max(b.bottom))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use vidi_spice::SurfaceId;
    use vidi_spice::display::{Fill, Surface, SurfaceFormat};

    use super::*;
    use crate::framebuffer::Framebuffer;

    const ID: SurfaceId = SurfaceId(0);

    fn found(damage: &Damage, plane: &Plane) -> Vec<Part> {
        parts(damage, plane, Grain::Fine, |_| false)
    }

    fn check(damaged: &[Rect], painted: &[(Rect, u8)], expected: Expect) {
        let mut framebuffer = Framebuffer::default();
        let (width, height, format) = (1024, 768, SurfaceFormat::Xrgb32);
        framebuffer.create(&Surface { id: ID, width, height, format, primary: true }).unwrap();
        for &(rect, shade) in painted {
            let fill = Fill { surface: ID, rects: vec![rect], color: [shade; 4] };
            framebuffer.fill(&fill).unwrap();
        }
        let mut damage = Damage::none(width, height);
        for rect in damaged {
            damage.add(rect);
        }
        let mut lines = String::new();
        for Part { area, solid, .. } in found(&damage, framebuffer.primary().unwrap()) {
            let Rect { left, top, right, bottom } = area;
            lines += &format!("{left},{top}..{right},{bottom} {solid:x?}\n");
        }
        expected.assert_eq(&lines);
    }

    #[test]
    fn an_even_picture_is_one_fill() {
        check(
            &[Rect::of_size(1024, 768)],
            &[],
            expect![[r#"
            0,0..1024,768 Some(0)
        "#]],
        );
    }

    #[test]
    fn what_moves_is_one_image_for_a_slow_browser_even_where_it_is_even() {
        let mut framebuffer = Framebuffer::default();
        let (width, height, format) = (1920, 1080, SurfaceFormat::Xrgb32);
        framebuffer.create(&Surface { id: ID, width, height, format, primary: true }).unwrap();
        let thing = Fill { surface: ID, rects: vec![Rect::new(70, 200, 900, 230)], color: [9; 4] };
        framebuffer.fill(&thing).unwrap();
        let plane = framebuffer.primary().unwrap();
        let damage = Damage::all(width, height);
        let count = |grain, is_lossy| parts(&damage, plane, grain, |_| is_lossy).len();
        let part = Part { area: Rect::of_size(width, height), solid: None, is_lossy: true };
        assert_eq!(parts(&damage, plane, Grain::Coarse, |_| true), [part]);
        assert_eq!(count(Grain::Coarse, false), count(Grain::Fine, false), "the ground is filled");
        assert!(count(Grain::Fine, true) > 2);
    }

    #[test]
    fn something_on_an_even_background_is_cut_out() {
        let something = Rect::new(100, 100, 150, 110);
        check(
            &[Rect::of_size(1024, 768)],
            &[(something, 200)],
            expect![[r#"
            0,0..1024,64 Some(0)
            0,64..64,128 Some(0)
            64,64..192,128 None
            192,64..1024,128 Some(0)
            0,128..1024,768 Some(0)
        "#]],
        );
    }

    #[test]
    fn far_letters_stay_apart_and_near_slivers_become_one() {
        let letters = [Rect::new(10, 10, 18, 26), Rect::new(600, 300, 608, 316)];
        let slivers = [
            Rect::new(200, 500, 233, 520),
            Rect::new(233, 500, 266, 520),
            Rect::new(266, 500, 299, 521),
        ];
        let damaged = [&letters[..], &slivers[..]].concat();
        let painted = [
            (Rect::new(10, 10, 14, 12), 1),
            (Rect::new(600, 300, 604, 312), 1),
            (Rect::new(200, 510, 298, 512), 9),
        ];
        check(
            &damaged,
            &painted,
            expect![[r#"
            10,10..18,26 None
            600,300..608,316 None
            200,500..299,512 None
            200,512..256,520 Some(0)
            256,512..299,521 Some(0)
        "#]],
        );
    }
}
