//! The channels of a QUIC image that are coded pixel by pixel together: its colours, or its alpha.

use super::bits::Bits;
use super::malformed;
use super::model::{Depth, Model};
use super::pace::Pace;
use crate::error::SpiceError;

/// First column that can be in a run.
const RUN_COLUMN_MIN: usize = 3;

/// The decoder of one plane; red, green, blue or alpha alone.
#[derive(Debug)]
pub(super) struct Plane<const CHANNELS: usize> {
    depth: &'static Depth,
    pace: Pace,
    models: [Model; CHANNELS],
    /// The residues of each column, of the last row in which it was not in a run.
    residues: Vec<[u8; CHANNELS]>,
    /// The row before, empty at first.
    above: Vec<[u8; CHANNELS]>,
    /// The row that is being made.
    row: Vec<[u8; CHANNELS]>,
}

impl<const CHANNELS: usize> Plane<CHANNELS> {
    pub(super) fn new(depth: &'static Depth) -> Self {
        let models = std::array::from_fn(|_| Model::new(depth));
        let (residues, above, row) = (Vec::new(), Vec::new(), Vec::new());
        Self { depth, pace: Pace::new(), models, residues, above, row }
    }

    /// The next row, of `width` pixels.
    pub(super) fn row(
        &mut self,
        bits: &mut Bits<'_>,
        width: usize,
    ) -> Result<&[[u8; CHANNELS]], SpiceError> {
        std::mem::swap(&mut self.row, &mut self.above);
        self.row.clear();
        self.residues.resize(width, [0; CHANNELS]);
        while self.row.len() < width {
            let span = self.pace.span(width - self.row.len());
            self.span(bits, self.row.len() + span)?;
            self.pace.pass(span);
        }
        Ok(&self.row)
    }

    /// Makes pixels up to column `end`.
    fn span(&mut self, bits: &mut Bits<'_>, end: usize) -> Result<(), SpiceError> {
        let mut last_run = None;
        while self.row.len() < end {
            let column = self.row.len();
            if last_run != Some(column) && self.in_run(column) {
                last_run = Some(column);
                let run = self.pace.run(bits, end - column);
                let run = run.ok_or_else(|| malformed("a run goes beyond its row"))?;
                let left = self.row.last().copied().unwrap_or([0; CHANNELS]);
                self.row.resize(column + run, left);
            } else {
                let pixel = self.pixel(bits, column);
                self.row.push(pixel.ok_or_else(|| malformed("a residue is too large"))?);
            }
            if bits.is_exhausted() {
                return Err(SpiceError::Truncated { what: super::WHAT });
            }
        }
        Ok(())
    }

    /// Whether a run may begin here: the row above repeats itself, and so did this one.
    fn in_run(&self, column: usize) -> bool {
        let pair = |row: &[[u8; CHANNELS]], end: usize| match row.get(end - 2..end) {
            Some([first, second]) => first == second,
            _ => false,
        };
        column >= RUN_COLUMN_MIN && pair(&self.above, column + 1) && pair(&self.row, column)
    }

    fn pixel(&mut self, bits: &mut Bits<'_>, column: usize) -> Option<[u8; CHANNELS]> {
        // Left of the first column is that of the row above; above the first row there is none.
        let context = match column.checked_sub(1) {
            Some(left) => *self.residues.get(left)?,
            None if self.above.is_empty() => [0; CHANNELS],
            None => *self.residues.first()?,
        };
        let mut residues = [0; CHANNELS];
        for ((residue, model), context) in residues.iter_mut().zip(&self.models).zip(context) {
            *residue = self.depth.residue(model, context, bits)?;
        }
        *self.residues.get_mut(column)? = residues;
        if let Some(trigger) = self.pace.learns() {
            for ((model, context), residue) in self.models.iter_mut().zip(context).zip(residues) {
                model.learn(self.depth, context, residue, trigger);
            }
        }
        let predicted = predict(self.row.last(), self.above.get(column));
        let mut pixel = [0; CHANNELS];
        for ((value, residue), predicted) in pixel.iter_mut().zip(residues).zip(predicted) {
            *value = unfold(residue, self.depth.mask).wrapping_add(predicted) & self.depth.mask;
        }
        Some(pixel)
    }
}

/// The mean of both neighbours, or the one that there is, or 0.
fn predict<const CHANNELS: usize>(
    left: Option<&[u8; CHANNELS]>,
    above: Option<&[u8; CHANNELS]>,
) -> [u8; CHANNELS] {
    match (left, above) {
        (Some(left), Some(above)) => {
            let mut means = [0; CHANNELS];
            for ((mean, left), above) in means.iter_mut().zip(left).zip(above) {
                *mean = left.midpoint(*above);
            }
            means
        }
        (Some(only), None) | (None, Some(only)) => *only,
        (None, None) => [0; CHANNELS],
    }
}

/// Residues 0, 1, 2, 3.. are differences 0, -1, 1, -2..
const fn unfold(residue: u8, mask: u8) -> u8 {
    if residue & 1 == 1 { mask - (residue >> 1) } else { residue >> 1 }
}

#[cfg(test)]
pub(super) mod encoder;
