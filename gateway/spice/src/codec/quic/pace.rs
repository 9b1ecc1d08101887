//! How often QUIC learns, and how it codes runs: state that encoder and decoder keep in step.

use super::bits::Bits;

/// Pixels after which learning becomes rarer (`DEFwminext`).
const LEVEL_PIXELS: usize = 2048;
/// Level at which it stays (`DEFwmimax`).
const LEVEL_MAX: usize = 6;
/// Bits after which a bucket's past is halved, by level (`besttrigtab`, evolution 3).
const TRIGGERS: [u32; LEVEL_MAX + 1] = [110, 550, 900, 800, 550, 400, 350];
/// Number of bits that count the rest of a run, by state (`J`).
const RUN_BITS: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];
/// Pixels to wait between two that are learnt from: the low bits of `tabrand_chaos`, of which
/// level 6 uses all that are here.
const WAITS: [u8; 256] = [
    2, 23, 19, 21, 7, 18, 40, 14, 12, 32, 47, 44, 36, 6, 18, 11, 4, 19, 42, 29, 16, 63, 57, 51, 16,
    3, 5, 14, 15, 30, 20, 9, 36, 45, 3, 57, 61, 0, 8, 5, 41, 14, 43, 27, 43, 59, 31, 35, 39, 60,
    42, 38, 13, 54, 62, 1, 26, 3, 11, 61, 52, 34, 7, 48, 4, 59, 22, 12, 22, 8, 50, 4, 10, 6, 44, 8,
    11, 46, 31, 51, 53, 17, 1, 43, 46, 60, 36, 54, 10, 27, 39, 44, 22, 41, 23, 2, 44, 0, 40, 53,
    40, 48, 16, 43, 32, 28, 33, 12, 20, 2, 56, 62, 55, 58, 18, 20, 13, 55, 38, 29, 57, 19, 49, 33,
    47, 63, 59, 0, 35, 61, 19, 25, 46, 38, 60, 4, 35, 1, 26, 40, 28, 10, 5, 14, 25, 18, 48, 49, 20,
    59, 62, 34, 46, 7, 33, 52, 34, 58, 9, 29, 8, 55, 62, 60, 37, 36, 37, 50, 6, 3, 10, 28, 48, 24,
    26, 61, 57, 30, 11, 54, 2, 6, 50, 47, 7, 17, 35, 53, 32, 12, 23, 17, 5, 21, 49, 55, 51, 45, 52,
    27, 39, 25, 39, 63, 22, 24, 42, 52, 56, 38, 41, 41, 56, 32, 13, 24, 26, 51, 27, 56, 58, 37, 24,
    42, 15, 28, 17, 30, 31, 15, 16, 23, 25, 54, 33, 34, 1, 29, 31, 50, 53, 21, 49, 15, 47, 9, 0,
    58, 37, 45, 30, 13, 9, 45, 63, 21,
];

/// The state of one plane.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// 0 learns from every pixel, 6 from one in about 32.
    level: usize,
    /// Pixels until the next level.
    level_left: usize,
    /// Pixels to go before one is learnt from.
    wait: u8,
    /// The place in [`WAITS`] that was used last.
    place: u8,
    /// Index of [`RUN_BITS`].
    run_state: usize,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { level: 0, level_left: LEVEL_PIXELS, wait: 0, place: u8::MAX, run_state: 0 }
    }

    /// How many of the next `pixels` are at this level; a run goes no further.
    pub(super) fn span(&self, pixels: usize) -> usize {
        if self.level < LEVEL_MAX { pixels.min(self.level_left) } else { pixels }
    }

    /// Goes on by a span.
    pub(super) const fn pass(&mut self, span: usize) {
        if self.level < LEVEL_MAX {
            self.level_left = self.level_left.saturating_sub(span);
            if self.level_left == 0 {
                self.level += 1;
                self.level_left = LEVEL_PIXELS;
            }
        }
    }

    /// Counts a pixel that is not in a run; the trigger if it is to be learnt from.
    pub(super) fn learns(&mut self) -> Option<u32> {
        if let Some(wait) = self.wait.checked_sub(1) {
            self.wait = wait;
            return None;
        }
        self.place = self.place.wrapping_add(1);
        let wait = WAITS.get(usize::from(self.place)).copied().unwrap_or(0);
        self.wait = wait & ((1 << self.level) - 1);
        TRIGGERS.get(self.level).copied()
    }

    /// The length of a run: ones, each for as many pixels as the state says, a zero, and the rest
    /// in binary. `None` when it is above `most`.
    pub(super) fn run(&mut self, bits: &mut Bits<'_>, most: usize) -> Option<usize> {
        let mut length = 0_usize;
        while bits.peek().leading_ones() > 0 {
            bits.skip(1);
            length += 1 << self.run_bits();
            if length > most {
                return None;
            }
            self.run_state = (self.run_state + 1).min(RUN_BITS.len() - 1);
        }
        bits.skip(1);
        let count = self.run_bits();
        if count > 0 {
            length += usize::try_from(bits.peek() >> (32 - count)).unwrap_or(usize::MAX);
            bits.skip(count);
        }
        self.run_state = self.run_state.saturating_sub(1);
        (length <= most).then_some(length)
    }

    fn run_bits(&self) -> u32 {
        RUN_BITS.get(self.run_state).copied().unwrap_or(0)
    }

    /// A run's bits, each with the number of them, for the encoder of the tests.
    #[cfg(test)]
    pub(super) fn run_words(&mut self, mut length: usize) -> Vec<(u32, u32)> {
        let mut words = Vec::new();
        while length >= 1 << self.run_bits() {
            words.push((1, 1));
            length -= 1 << self.run_bits();
            self.run_state = (self.run_state + 1).min(RUN_BITS.len() - 1);
        }
        words.push((u32::try_from(length).unwrap(), self.run_bits() + 1));
        self.run_state = self.run_state.saturating_sub(1);
        words
    }
}
