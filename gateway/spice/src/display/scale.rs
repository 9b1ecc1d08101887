//! Scaling of images for copies whose source and destination differ in size
//! (`enums.h`, `SpiceImageScaleMode`).

use crate::geometry::Rect;

use super::event::Pixels;

/// How pixels between pixels are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScaleMode {
    /// 0: weighted mean of the four nearest.
    Interpolate,
    /// 1: the nearest.
    Nearest,
}

/// Fractions of a source pixel that weights are counted in.
const ONE: i64 = 256;

/// One axis of the mapping: `target` pixels from `target_start` show `source` pixels from
/// `source_start`.
#[derive(Clone, Copy, Debug)]
struct Axis {
    target_start: i64,
    target: i64,
    source_start: i64,
    source: i64,
}

/// The part `bounds` of `source` (inside the image) stretched over `target`.
///
/// INVARIANT: `bounds` is inside `target`, `source` inside `image`, and none is empty.
pub(super) fn scale(
    image: &Pixels,
    source: Rect,
    target: Rect,
    bounds: Rect,
    mode: ScaleMode,
) -> Pixels {
    let columns = Axis {
        target_start: target.left.into(),
        target: target.width().into(),
        source_start: source.left.into(),
        source: source.width().into(),
    };
    let rows = Axis {
        target_start: target.top.into(),
        target: target.height().into(),
        source_start: source.top.into(),
        source: source.height().into(),
    };
    let row_bytes = usize::try_from(bounds.width()).unwrap_or(0).saturating_mul(4);
    let height = usize::try_from(bounds.height()).unwrap_or(0);
    let mut out = Vec::with_capacity(row_bytes.saturating_mul(height));
    for y in bounds.top..bounds.bottom {
        for x in bounds.left..bounds.right {
            let pixel = match mode {
                ScaleMode::Nearest => pixel(image, columns.nearest(x), rows.nearest(y)),
                ScaleMode::Interpolate => mean(image, columns.between(x), rows.between(y)),
            };
            out.extend_from_slice(&pixel);
        }
    }
    let (width, height) = (bounds.width(), bounds.height());
    Pixels { width, height, stride: row_bytes, data: out.into() }
}

impl Axis {
    /// The source pixel under the middle of target pixel `at`.
    fn nearest(self, at: i32) -> i64 {
        let twice_middle = 2 * (i64::from(at) - self.target_start) + 1;
        self.clamp(self.source_start + twice_middle * self.source / (2 * self.target))
    }

    /// The two source pixels around the middle of target pixel `at`, and the weight of the second.
    fn between(self, at: i32) -> (i64, i64, i64) {
        let twice_middle = 2 * (i64::from(at) - self.target_start) + 1;
        let middle = twice_middle * self.source * ONE / (2 * self.target) - ONE / 2;
        let first = self.source_start + middle.div_euclid(ONE);
        (self.clamp(first), self.clamp(first + 1), middle.rem_euclid(ONE))
    }

    fn clamp(self, at: i64) -> i64 {
        at.clamp(self.source_start, self.source_start + self.source - 1)
    }
}

/// The pixel at a place inside the image, black elsewhere.
fn pixel(image: &Pixels, x: i64, y: i64) -> [u8; 4] {
    let row = u32::try_from(y).ok().and_then(|y| image.row(y)).unwrap_or_default();
    let (pixels, _rest) = row.as_chunks::<4>();
    usize::try_from(x).ok().and_then(|x| pixels.get(x)).copied().unwrap_or([0, 0, 0, 255])
}

fn mean(image: &Pixels, columns: (i64, i64, i64), rows: (i64, i64, i64)) -> [u8; 4] {
    let ((left, right, across), (top, bottom, down)) = (columns, rows);
    let corners = [
        (pixel(image, left, top), (ONE - across) * (ONE - down)),
        (pixel(image, right, top), across * (ONE - down)),
        (pixel(image, left, bottom), (ONE - across) * down),
        (pixel(image, right, bottom), across * down),
    ];
    let mut sums = [ONE * ONE / 2; 4];
    for (corner, weight) in corners {
        for (sum, value) in sums.iter_mut().zip(corner) {
            *sum += i64::from(value) * weight;
        }
    }
    sums.map(|sum| u8::try_from(sum / (ONE * ONE)).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn grey(values: &[u8]) -> Pixels {
        let data: Vec<u8> = values.iter().flat_map(|grey| [*grey, *grey, *grey, 255]).collect();
        let width = u32::try_from(values.len()).unwrap();
        Pixels { width, height: 1, stride: data.len(), data: Bytes::from(data) }
    }

    fn first_channel(pixels: &Pixels) -> Vec<u8> {
        pixels.data.chunks(4).map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn nearest_repeats_pixels_and_interpolation_slides_between_them() {
        let image = grey(&[0, 200]);
        let target = Rect::new(10, 0, 14, 1);
        let nearest = scale(&image, Rect::of_size(2, 1), target, target, ScaleMode::Nearest);
        assert_eq!(first_channel(&nearest), [0, 0, 200, 200]);
        let smooth = scale(&image, Rect::of_size(2, 1), target, target, ScaleMode::Interpolate);
        assert_eq!(first_channel(&smooth), [0, 50, 150, 200]);
    }

    #[test]
    fn a_clipped_part_equals_that_part_of_the_whole() {
        let image = grey(&[10, 90, 30, 70, 50]);
        let target = Rect::new(0, 0, 13, 1);
        let whole = scale(&image, Rect::of_size(5, 1), target, target, ScaleMode::Interpolate);
        let bounds = Rect::new(4, 0, 9, 1);
        let part = scale(&image, Rect::of_size(5, 1), target, bounds, ScaleMode::Interpolate);
        assert_eq!(first_channel(&part), first_channel(&whole)[4..9]);
    }
}
