//! Which pixel of a texture belongs to which place of the destination: shifted, repeated, scaled
//! or transformed (`enums.h`, `SpiceImageScaleMode`; pixman's transforms, repeats and filters).

use crate::geometry::{Point, Rect, SurfaceId};

use super::super::form::ALPHA;
use super::texture::{Grid, GridPixels, Texture, View};

/// What a drawing reads for each pixel of its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::display) enum Source {
    /// One colour, 0xaarrggbb.
    Color(u32),
    Texture {
        texture: Texture,
        placement: Placement,
        alpha: Alpha,
    },
}

/// Whether the alpha bytes of a texture mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) enum Alpha {
    Own,
    /// All 255 inside of the texture; outside there is still nothing.
    Opaque,
}

/// Where a texture lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) enum Placement {
    /// Destination pixel (x, y) is texture pixel (x + offset.x, y + offset.y).
    Shifted(Point),
    /// The texture's corner is at this place, and it is repeated in all directions.
    Tiled(Point),
    Affine(Affine),
}

/// A transform from destination to texture, in 16.16 fixed point as pixman computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) struct Affine {
    /// Two rows of three: the factors of x, of y, and the translation.
    pub(in crate::display) matrix: [i32; 6],
    /// The destination pixel that the transform calls (0, 0).
    pub(in crate::display) origin: Point,
    pub(in crate::display) repeat: Repeat,
    pub(in crate::display) filter: Filter,
}

/// What lies outside of a texture (`pixman_repeat_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) enum Repeat {
    None,
    Normal,
    Pad,
    Reflect,
}

/// How pixels between pixels are made (`pixman_filter_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) enum Filter {
    Nearest,
    Bilinear,
}

/// 1 in 16.16 fixed point.
const ONE: i64 = 1 << 16;
/// Bits of the weight of a pixel between two, in pixman.
const WEIGHT_BITS: u32 = 7;

impl Affine {
    /// The part `area` of a texture stretched over `target`, which is not empty.
    pub(in crate::display) fn scaling(area: &Rect, target: &Rect, filter: Filter) -> Self {
        let factor = |from: u32, to: u32| {
            let factor = i64::from(from) * ONE / i64::from(to.max(1));
            i32::try_from(factor).unwrap_or(i32::MAX)
        };
        // A corner further out than 16.16 can say is outside of any texture in any case.
        let edge = |edge: i32| {
            let fixed = (i64::from(edge) * ONE).clamp(i32::MIN.into(), i32::MAX.into());
            i32::try_from(fixed).unwrap_or(i32::MAX)
        };
        let across = factor(area.width(), target.width());
        let down = factor(area.height(), target.height());
        Self {
            matrix: [across, 0, edge(area.left), 0, down, edge(area.top)],
            origin: Point::new(target.left, target.top),
            repeat: Repeat::None,
            filter,
        }
    }

    /// Place in the texture, in 16.16, of the middle of a destination pixel.
    fn locate(&self, x: i32, y: i32) -> (i64, i64) {
        let middle = |at: i32, origin: i32| {
            (i128::from(at) - i128::from(origin)) * i128::from(ONE) + i128::from(ONE / 2)
        };
        let (x, y) = (middle(x, self.origin.x), middle(y, self.origin.y));
        let [across_x, across_y, across, down_x, down_y, down] = self.matrix.map(i128::from);
        let place = |by_x: i128, by_y: i128, shift: i128| {
            let scaled = by_x * x + by_y * y + shift * i128::from(ONE) + i128::from(ONE / 2);
            // Three products of 32 and 49 bits, less 16 bits.
            i64::try_from(scaled >> 16).unwrap_or(i64::MAX / 2)
        };
        (place(across_x, across_y, across), place(down_x, down_y, down))
    }

    fn row(&self, grid: &Grid<'_>, left: i32, y: i32, out: &mut [u32]) {
        let (mut across, mut down) = self.locate(left, y);
        let [step_across, _, _, step_down, ..] = self.matrix.map(i64::from);
        for pixel in out {
            *pixel = match self.filter {
                // The pixel to the left of an exact border, as in pixman.
                Filter::Nearest => self.pixel(grid, (across - 1) >> 16, (down - 1) >> 16),
                Filter::Bilinear => self.mean(grid, across - ONE / 2, down - ONE / 2),
            };
            across += step_across;
            down += step_down;
        }
    }

    fn pixel(&self, grid: &Grid<'_>, x: i64, y: i64) -> u32 {
        let (width, height) = grid.size();
        grid.pixel(self.repeat.wrap(x, width), self.repeat.wrap(y, height))
    }

    /// The weighted mean of the four pixels around a place, rounded down.
    fn mean(&self, grid: &Grid<'_>, across: i64, down: i64) -> u32 {
        let weight = |at: i64| {
            let fraction = (at >> (16 - WEIGHT_BITS)) & ((1 << WEIGHT_BITS) - 1);
            u32::try_from(fraction << (8 - WEIGHT_BITS)).unwrap_or(0)
        };
        let (right, below) = (weight(across), weight(down));
        let (x, y) = (across >> 16, down >> 16);
        let corners = [
            (self.pixel(grid, x, y), (256 - right) * (256 - below)),
            (self.pixel(grid, x + 1, y), right * (256 - below)),
            (self.pixel(grid, x, y + 1), (256 - right) * below),
            (self.pixel(grid, x + 1, y + 1), right * below),
        ];
        let mut sums = [0_u32; 4];
        for (corner, weight) in corners {
            for (sum, value) in sums.iter_mut().zip(corner.to_le_bytes()) {
                *sum += u32::from(value) * weight;
            }
        }
        // The weights add up to 65536.
        u32::from_le_bytes(sums.map(|sum| u8::try_from(sum >> 16).unwrap_or(u8::MAX)))
    }
}

impl Repeat {
    /// The pixel that stands for `at` on a side of so many pixels; the same outside if none does.
    fn wrap(self, at: i64, side: u32) -> i64 {
        let side = i64::from(side.max(1));
        match self {
            Self::None => at,
            Self::Normal => at.rem_euclid(side),
            Self::Pad => at.clamp(0, side - 1),
            Self::Reflect => {
                let at = at.rem_euclid(2 * side);
                at.min(2 * side - 1 - at)
            }
        }
    }
}

impl Source {
    /// The surface that is read.
    pub(super) const fn surface(&self) -> Option<SurfaceId> {
        match self {
            Self::Texture { texture: Texture::Surface(id), .. } => Some(*id),
            _ => None,
        }
    }

    /// The pixels at hand; `None` if its surface is not among `surfaces`.
    pub(super) fn grid<'a>(
        &'a self,
        surfaces: &dyn Fn(SurfaceId) -> Option<View<'a>>,
    ) -> Option<Grid<'a>> {
        let Self::Texture { texture, alpha, .. } = self else {
            let nothing = View { width: 0, height: 0, pixels: &[] };
            return Some(Grid { pixels: GridPixels::Surface(nothing), always: 0 });
        };
        let pixels = match texture {
            Texture::Pixels(pixels) => GridPixels::Pixels(pixels),
            Texture::Bits(bits) => GridPixels::Bits(bits),
            Texture::Levels(levels) => GridPixels::Levels(levels),
            Texture::Surface(id) => GridPixels::Surface(surfaces(*id)?),
        };
        Some(Grid { pixels, always: if *alpha == Alpha::Opaque { ALPHA } else { 0 } })
    }

    /// The pixels for a row of the destination that begins at (`left`, `y`).
    pub(super) fn row(&self, grid: &Grid<'_>, left: i32, y: i32, out: &mut [u32]) {
        let placement = match self {
            Self::Color(color) => return out.fill(*color),
            Self::Texture { placement, .. } => placement,
        };
        match placement {
            Placement::Shifted(by) => {
                let place = |at: i32, by: i32| i64::from(at) + i64::from(by);
                grid.row(place(left, by.x), place(y, by.y), out);
            }
            Placement::Tiled(corner) => {
                let (width, height) = grid.size();
                let place = |at: i32, corner: i32| i64::from(at) - i64::from(corner);
                let y = Repeat::Normal.wrap(place(y, corner.y), height);
                let mut x = Repeat::Normal.wrap(place(left, corner.x), width);
                for pixel in out {
                    *pixel = grid.pixel(x, y);
                    x = if x + 1 < i64::from(width) { x + 1 } else { 0 };
                }
            }
            Placement::Affine(affine) => affine.row(grid, left, y, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row at `y` from column `left` on, of grey pixels in one row.
    fn greys(values: &[u8], placement: Placement, left: i32, count: usize) -> Vec<u8> {
        let pixels: Vec<u32> =
            values.iter().map(|grey| u32::from_le_bytes([*grey, *grey, *grey, 255])).collect();
        let width = u32::try_from(values.len()).unwrap();
        let source = Source::Texture {
            texture: Texture::Surface(SurfaceId(0)),
            placement,
            alpha: Alpha::Own,
        };
        let view = View { width, height: 1, pixels: &pixels };
        let grid = source.grid(&|_| Some(view)).unwrap();
        let mut row = vec![7; count];
        source.row(&grid, left, 0, &mut row);
        row.iter().map(|pixel| pixel.to_le_bytes()[0]).collect()
    }

    fn scaled(width: i32, target: Rect, filter: Filter) -> Placement {
        Placement::Affine(Affine::scaling(&Rect::new(0, 0, width, 1), &target, filter))
    }

    #[test]
    fn nearest_repeats_pixels_and_interpolation_slides_between_them() {
        let target = Rect::new(10, 0, 14, 1);
        let nearest = greys(&[0, 200], scaled(2, target, Filter::Nearest), 10, 4);
        assert_eq!(nearest, [0, 0, 200, 200]);
        // Beyond the last pixel there is nothing, which weighs a quarter.
        let smooth = greys(&[100, 200], scaled(2, target, Filter::Bilinear), 10, 4);
        assert_eq!(smooth, [75, 125, 175, 150]);
        let half =
            greys(&[10, 20, 30, 40], scaled(4, Rect::new(0, 0, 2, 1), Filter::Nearest), 0, 2);
        assert_eq!(half, [10, 30]);
    }

    #[test]
    fn a_clipped_part_equals_that_part_of_the_whole() {
        let target = Rect::new(-3, 0, 10, 1);
        for filter in [Filter::Nearest, Filter::Bilinear] {
            let placement = scaled(5, target, filter);
            let whole = greys(&[10, 90, 30, 70, 50], placement, -3, 13);
            let part = greys(&[10, 90, 30, 70, 50], placement, 1, 5);
            assert_eq!(part, whole[4..9]);
        }
    }

    #[test]
    fn repeats_fill_what_is_outside() {
        let affine = |repeat| {
            let identity = [1 << 16, 0, 0, 0, 1 << 16, 0];
            let origin = Point::default();
            Placement::Affine(Affine { matrix: identity, origin, repeat, filter: Filter::Nearest })
        };
        let row = |repeat| greys(&[1, 2, 3], affine(repeat), -4, 11);
        assert_eq!(row(Repeat::None), [0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0]);
        assert_eq!(row(Repeat::Normal), [3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(row(Repeat::Pad), [1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3]);
        assert_eq!(row(Repeat::Reflect), [3, 3, 2, 1, 1, 2, 3, 3, 2, 1, 1]);
        let tiled = greys(&[1, 2, 3], Placement::Tiled(Point::new(1, 9)), -4, 8);
        assert_eq!(tiled, [2, 3, 1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn hostile_transforms_stay_outside() {
        let matrix = [i32::MIN, i32::MIN, i32::MIN, i32::MAX, i32::MAX, i32::MIN];
        let origin = Point::new(i32::MIN, i32::MAX);
        for repeat in [Repeat::None, Repeat::Normal, Repeat::Pad, Repeat::Reflect] {
            for filter in [Filter::Nearest, Filter::Bilinear] {
                let affine = Affine { matrix, origin, repeat, filter };
                let row = greys(&[9, 9], Placement::Affine(affine), i32::MAX, 100);
                assert_eq!(row.len(), 100);
            }
        }
    }
}
