//! Lines one pixel thin, as runs of pixels in a row: Bresenham's, with the choices that the X
//! server's sample implementation makes and the reference renderer takes over from it.
//!
//! The last pixel of a line is left out: it is the first of the next one, or the open end that
//! Windows leaves out, too. Where the line passes exactly between two pixels, the choice does not
//! depend on which of its ends comes first.

use crate::geometry::{Point, Rect};

/// A straight line between two pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) struct Segment {
    pub(in crate::display) from: Point,
    pub(in crate::display) to: Point,
}

/// Alternating lengths of dashes and gaps, in steps along the longer side of a line. The
/// documentation of Windows counts cosmetic lines so, and so do X servers; the reference renderer
/// measures along the line instead, in what it calls a makeshift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::display) struct Dashes {
    /// Where each dash or gap ends, counted from the start of the first.
    ///
    /// INVARIANT: not empty, its last entry is above 0, and its length is even.
    ends: Vec<u64>,
    /// Whether the first is a gap.
    gap_first: bool,
    /// Steps that are drawn so far, below the last entry of `ends`.
    phase: u64,
}

/// What the lines of one message may still cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) struct Budget {
    /// Runs of pixels.
    pub(in crate::display) runs: usize,
    /// Pixels inside of the bounds, those of gaps included.
    pub(in crate::display) pixels: u64,
}

/// What of a [`Budget`] is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) enum Spent {
    Runs,
    Pixels,
}

impl Dashes {
    /// `None` if the lengths leave nothing to alternate between. An odd number of them is taken
    /// twice, as X does.
    pub(in crate::display) fn new(lengths: &[u32], gap_first: bool) -> Option<Self> {
        let turns = if lengths.len().is_multiple_of(2) { 1 } else { 2 };
        let mut end = 0;
        let lengths = lengths.iter().cycle().take(turns * lengths.len());
        let ends: Vec<u64> = lengths
            .map(|length| {
                end += u64::from(*length);
                end
            })
            .collect();
        (end > 0).then_some(Self { ends, gap_first, phase: 0 })
    }

    fn period(&self) -> u64 {
        self.ends.last().copied().unwrap_or(1).max(1)
    }

    /// Back to the start of the first dash, for another line.
    pub(in crate::display) const fn restart(&mut self) {
        self.phase = 0;
    }

    /// Whether the pixel so many steps from here is drawn.
    fn is_drawn(&self, steps: u64) -> bool {
        let place = (self.phase + steps) % self.period();
        let number = self.ends.partition_point(|end| *end <= place);
        (number % 2 == 1) == self.gap_first
    }

    fn advance(&mut self, steps: u64) {
        self.phase = (self.phase + steps) % self.period();
    }
}

/// Appends the runs of pixels of a line inside of `bounds`.
pub(in crate::display) fn spans(
    segment: &Segment,
    bounds: &Rect,
    dashes: Option<&mut Dashes>,
    (out, budget): (&mut Vec<Rect>, &mut Budget),
) -> Result<(), Spent> {
    let line = Line::new(segment);
    let (first, last) = line.inside(bounds);
    let pixels = u64::try_from(last - first).unwrap_or(0);
    budget.pixels = budget.pixels.checked_sub(pixels).ok_or(Spent::Pixels)?;
    for step in first..last {
        if dashes.as_ref().is_some_and(|dashes| !dashes.is_drawn(step.unsigned_abs())) {
            continue;
        }
        let (x, y) = line.pixel(step);
        match out.last_mut() {
            Some(run) if run.top == y && run.right == x => {
                run.right += 1;
            }
            Some(run) if run.top == y && run.left == x + 1 => {
                run.left -= 1;
            }
            _ => {
                budget.runs = budget.runs.checked_sub(1).ok_or(Spent::Runs)?;
                out.push(Rect::new(x, y, x + 1, y + 1));
            }
        }
    }
    if let Some(dashes) = dashes {
        dashes.advance(line.length.unsigned_abs());
    }
    Ok(())
}

/// A line by its steps along the longer axis.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Where it starts, on the longer and on the shorter axis.
    start: (i64, i64),
    /// Steps on the longer axis, and pixels on the shorter one.
    length: i64,
    width: i64,
    /// -1 or 1 on each.
    direction: (i64, i64),
    is_steep: bool,
}

impl Line {
    fn new(segment: &Segment) -> Self {
        let [from_x, from_y, to_x, to_y] =
            [segment.from.x, segment.from.y, segment.to.x, segment.to.y].map(i64::from);
        let (across, down) = (to_x - from_x, to_y - from_y);
        let sign = |value: i64| if value < 0 { -1 } else { 1 };
        let is_steep = across.abs() <= down.abs();
        let (start, along, aside) = if is_steep {
            ((from_y, from_x), down, across)
        } else {
            ((from_x, from_y), across, down)
        };
        let direction = (sign(along), sign(aside));
        Self { start, length: along.abs(), width: aside.abs(), direction, is_steep }
    }

    /// How far the pixel of a step is from the start on the shorter axis: rounded to the nearest,
    /// and from exactly between two to the one that is nearer to the end with the smaller number
    /// on the longer axis.
    fn aside(&self, step: i64) -> i64 {
        let backwards = i128::from(self.direction.0 < 0);
        let doubled = 2 * i128::from(step) * i128::from(self.width) + i128::from(self.length);
        let steps = (doubled - backwards).div_euclid(2 * i128::from(self.length.max(1)));
        i64::try_from(steps).unwrap_or(i64::MAX)
    }

    fn place(&self, step: i64) -> (i64, i64) {
        let (along, aside) = self.start;
        (along + self.direction.0 * step, aside + self.direction.1 * self.aside(step))
    }

    /// The pixel of a step that is inside of some rectangle.
    fn pixel(&self, step: i64) -> (i32, i32) {
        let (along, aside) = self.place(step);
        let [along, aside] = [along, aside].map(|at| i32::try_from(at).unwrap_or(i32::MIN));
        if self.is_steep { (aside, along) } else { (along, aside) }
    }

    /// The steps whose pixels are inside of `bounds`: the first, and the one after the last.
    fn inside(&self, bounds: &Rect) -> (i64, i64) {
        let rows = (i64::from(bounds.top), i64::from(bounds.bottom));
        let columns = (i64::from(bounds.left), i64::from(bounds.right));
        let (along, aside) = if self.is_steep { (rows, columns) } else { (columns, rows) };
        // Both axes run one way only, so that what is inside is one range of steps.
        let ahead = |value: i64, direction: i64, (low, high): (i64, i64)| {
            if direction > 0 { value >= low } else { value < high }
        };
        let beyond = |value: i64, direction: i64, (low, high): (i64, i64)| {
            if direction > 0 { value >= high } else { value < low }
        };
        let first = first_step(self.length, |step| {
            let (at, beside) = self.place(step);
            ahead(at, self.direction.0, along) && ahead(beside, self.direction.1, aside)
        });
        let last = first_step(self.length, |step| {
            let (at, beside) = self.place(step);
            beyond(at, self.direction.0, along) || beyond(beside, self.direction.1, aside)
        });
        (first, last)
    }
}

/// The first of `length` steps for which `holds`, which from then on always does.
fn first_step(length: i64, holds: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: Budget = Budget { runs: usize::MAX, pixels: u64::MAX };
    const EVERYWHERE: Rect = Rect::new(-2000, -2000, 2000, 2000);

    fn pixels(spans: &[Rect]) -> Vec<(i32, i32)> {
        let pixels = spans.iter().flat_map(|run| (run.left..run.right).map(|x| (x, run.top)));
        let mut pixels: Vec<_> = pixels.collect();
        pixels.sort_unstable();
        pixels
    }

    fn line([from_x, from_y, to_x, to_y]: [i32; 4], bounds: &Rect) -> Vec<(i32, i32)> {
        let segment = Segment { from: Point::new(from_x, from_y), to: Point::new(to_x, to_y) };
        let mut out = Vec::new();
        spans(&segment, bounds, None, (&mut out, &mut ANY.clone())).unwrap();
        pixels(&out)
    }

    /// Bresenham's algorithm step by step, with the bias of the X server's sample implementation
    /// (`miline.h`: octants 2 to 5 prefer the step along the axis).
    fn bresenham([x1, y1, x2, y2]: [i32; 4]) -> Vec<(i32, i32)> {
        let (adx, ady) = ((x2 - x1).abs(), (y2 - y1).abs());
        let (sx, sy) = (if x2 < x1 { -1 } else { 1 }, if y2 < y1 { -1 } else { 1 });
        let (long, short) = (adx.max(ady), adx.min(ady));
        let steep = adx <= ady;
        let bias = i32::from(if steep { sy < 0 } else { sx < 0 });
        let (mut x, mut y, mut error) = (x1, y1, 2 * short - long - bias);
        let mut out = Vec::new();
        for _ in 0..long {
            out.push((x, y));
            let aside = error >= 0;
            error += 2 * short;
            if aside {
                error -= 2 * long;
            }
            if steep {
                (x, y) = (if aside { x + sx } else { x }, y + sy);
            } else {
                (x, y) = (x + sx, if aside { y + sy } else { y });
            }
        }
        out
    }

    #[test]
    fn straight_and_diagonal_lines_leave_out_their_end() {
        assert_eq!(line([1, 1, 4, 1], &EVERYWHERE), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(line([1, 4, 1, 2], &EVERYWHERE), [(1, 3), (1, 4)]);
        assert_eq!(line([0, 0, 3, 3], &EVERYWHERE), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(line([0, 0, 4, 2], &EVERYWHERE), [(0, 0), (1, 1), (2, 1), (3, 2)]);
        assert_eq!(line([4, 2, 0, 0], &EVERYWHERE), [(1, 1), (2, 1), (3, 2), (4, 2)]);
        assert_eq!(line([5, 5, 5, 5], &EVERYWHERE), []);
    }

    #[test]
    fn dashes_go_on_from_line_to_line() {
        let mut dashes = Dashes::new(&[2, 1], false).unwrap();
        let mut out = Vec::new();
        for [from, to] in [[0, 4], [4, 9]] {
            let segment = Segment { from: Point::new(from, 0), to: Point::new(to, 0) };
            spans(&segment, &EVERYWHERE, Some(&mut dashes), (&mut out, &mut ANY.clone())).unwrap();
        }
        let drawn: Vec<i32> = pixels(&out).into_iter().map(|(x, _)| x).collect();
        assert_eq!(drawn, [0, 1, 3, 4, 6, 7]);
        dashes.restart();
        assert!(dashes.is_drawn(1) && !dashes.is_drawn(2));
        let odd = Dashes::new(&[1, 2, 3], true).unwrap();
        let drawn: Vec<u64> = (0..13).filter(|step| odd.is_drawn(*step)).collect();
        assert_eq!(drawn, [1, 2, 6, 9, 10, 11]);
        assert_eq!(Dashes::new(&[0, 0], false), None);
        assert_eq!(Dashes::new(&[], false), None);
    }

    #[test]
    fn a_line_of_any_length_costs_what_is_seen_of_it() {
        let bounds = Rect::of_size(16_384, 16_384);
        let whole = [i32::MIN, i32::MIN, i32::MAX, i32::MAX];
        assert_eq!(line(whole, &bounds).len(), 16_384);
        assert_eq!(line([i32::MIN, 5, i32::MAX, 6], &Rect::of_size(9, 9)).len(), 9);
        let segment = Segment { from: Point::new(0, 0), to: Point::new(100, 100) };
        let mut out = Vec::new();
        let mut few = Budget { runs: 7, pixels: 100 };
        assert_eq!(spans(&segment, &bounds, None, (&mut out, &mut few)), Err(Spent::Runs));
        assert_eq!((out.len(), few.pixels), (7, 0));
        assert_eq!(spans(&segment, &bounds, None, (&mut out, &mut few)), Err(Spent::Pixels));
    }

    proptest! {
        #[test]
        fn lines_are_those_of_bresenham(ends in [-40..40_i32, -40..40, -40..40, -40..40]) {
            let mut expected = bresenham(ends);
            expected.sort_unstable();
            prop_assert_eq!(line(ends, &EVERYWHERE), expected);
        }

        #[test]
        fn what_is_cut_off_does_not_move_the_rest(
            ends in [-90..90_i32, -90..90, -90..90, -90..90],
            bounds in [-50..50_i32, -50..50, 0..60, 0..60],
            lengths in proptest::collection::vec(0..9_u32, 0..5), gap_first: bool,
        ) {
            let [left, top, width, height] = bounds;
            let bounds = Rect::new(left, top, left + width, top + height);
            let segment = Segment {
                from: Point::new(ends[0], ends[1]), to: Point::new(ends[2], ends[3]),
            };
            let drawn = |bounds: &Rect| {
                let mut dashes = Dashes::new(&lengths, gap_first);
                let mut out = Vec::new();
                spans(&segment, bounds, dashes.as_mut(), (&mut out, &mut ANY.clone())).unwrap();
                pixels(&out)
            };
            let mut expected = drawn(&EVERYWHERE);
            expected.retain(|(x, y)| {
                *x >= bounds.left && *x < bounds.right && *y >= bounds.top && *y < bounds.bottom
            });
            prop_assert_eq!(drawn(&bounds), expected);
        }
    }
}
