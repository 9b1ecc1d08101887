//! The encoder of a plane, for the tests: it keeps the decoder's own state in step.

use super::*;

/// Bits that are written, from the highest of each word down.
#[derive(Debug, Default)]
pub(in crate::codec::quic) struct Writer {
    bits: Vec<bool>,
}

impl Writer {
    pub(in crate::codec::quic) fn put(&mut self, word: u32, count: u32) {
        self.bits.extend((0..count).rev().map(|bit| word >> bit & 1 == 1));
    }

    pub(in crate::codec::quic) fn finish(self) -> Vec<u8> {
        let word = |bits: &[bool]| {
            let bits = bits.iter().chain(std::iter::repeat(&false)).take(32);
            bits.fold(0_u32, |word, bit| word << 1 | u32::from(*bit)).to_le_bytes()
        };
        self.bits.chunks(32).flat_map(word).collect()
    }
}

impl<const CHANNELS: usize> Plane<CHANNELS> {
    pub(in crate::codec::quic) fn write(&mut self, pixels: &[[u8; CHANNELS]], out: &mut Writer) {
        std::mem::swap(&mut self.row, &mut self.above);
        self.row.clear();
        self.residues.resize(pixels.len(), [0; CHANNELS]);
        while self.row.len() < pixels.len() {
            let span = self.pace.span(pixels.len() - self.row.len());
            self.write_span(&pixels[..self.row.len() + span], out);
            self.pace.pass(span);
        }
    }

    fn write_span(&mut self, pixels: &[[u8; CHANNELS]], out: &mut Writer) {
        let mut last_run = None;
        while self.row.len() < pixels.len() {
            let column = self.row.len();
            if last_run != Some(column) && self.in_run(column) {
                last_run = Some(column);
                let left = pixels[column - 1];
                let run = pixels[column..].iter().take_while(|pixel| **pixel == left).count();
                for (word, count) in self.pace.run_words(run) {
                    out.put(word, count);
                }
                self.row.resize(column + run, left);
            } else {
                self.write_pixel(pixels[column], out);
            }
        }
    }

    fn write_pixel(&mut self, pixel: [u8; CHANNELS], out: &mut Writer) {
        let column = self.row.len();
        let context = match column {
            0 if self.above.is_empty() => [0; CHANNELS],
            0 => self.residues[0],
            _ => self.residues[column - 1],
        };
        let mask = self.depth.mask;
        let predicted = predict(self.row.last(), self.above.get(column));
        let residues = std::array::from_fn(|channel| {
            let difference = pixel[channel].wrapping_sub(predicted[channel]) & mask;
            if difference <= mask >> 1 { difference << 1 } else { (mask - difference) << 1 | 1 }
        });
        for channel in 0..CHANNELS {
            let model = &self.models[channel];
            let (word, count) = self.depth.word(model, context[channel], residues[channel]);
            out.put(word, count);
        }
        self.residues[column] = residues;
        if let Some(trigger) = self.pace.learns() {
            for channel in 0..CHANNELS {
                let model = &mut self.models[channel];
                model.learn(self.depth, context[channel], residues[channel], trigger);
            }
        }
        self.row.push(pixel);
    }
}
