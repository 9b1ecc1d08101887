//! What QUIC learns: which Golomb-Rice code is the shortest for residues after such a residue.

use super::bits::Bits;

/// Bits of a codeword at most (`DEFmaxclen`).
const CODEWORD_BITS_MAX: u32 = 26;
/// Codes of a bucket, one for each bit of a channel.
const CODES_MAX: usize = 8;

/// Bits of a channel, and the codes for its residues.
#[derive(Debug)]
pub(super) struct Depth {
    pub(super) bits: usize,
    /// The highest value.
    pub(super) mask: u8,
    codes: [Code; CODES_MAX],
}

/// A Golomb-Rice code whose unary part is limited: values below `plain` have as many zeros as
/// they hold `1 << shift`, a one and `shift` bits; all others have `prefix` zeros and `suffix`
/// bits of what they are above `plain`.
#[derive(Clone, Copy, Debug)]
struct Code {
    shift: u32,
    prefix: u32,
    plain: u32,
    suffix: u32,
}

pub(super) static DEPTH_8: Depth = Depth::new(8);
pub(super) static DEPTH_5: Depth = Depth::new(5);

/// The buckets of one channel.
#[derive(Clone, Debug)]
pub(super) struct Model {
    buckets: [Bucket; CODES_MAX],
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The code that would have been shortest so far.
    best: usize,
    /// Bits that each code would have taken, older ones counting less.
    costs: [u32; CODES_MAX],
}

impl Depth {
    const fn new(bits: u32) -> Self {
        let all = 1_u32 << bits;
        let mut codes = [Code { shift: 0, prefix: 0, plain: 0, suffix: 0 }; CODES_MAX];
        let mut rest: &mut [Code] = &mut codes;
        let mut shift = 0;
        while let Some((code, later)) = rest.split_first_mut() {
            if shift < bits {
                let widest = (1 << (bits - shift)) - 1;
                let limit = CODEWORD_BITS_MAX - bits;
                let prefix = if limit < widest { limit } else { widest };
                let plain = prefix << shift;
                // Values that are not plain, at least one; the bits that number them.
                let suffix = u32::BITS - (all - plain - 1).leading_zeros();
                *code = Code { shift, prefix, plain, suffix };
            }
            shift += 1;
            rest = later;
        }
        // From constants that fit, where `try_from` cannot be used.
        let (bits, mask) = (bits as usize, (all - 1) as u8);
        Self { bits, mask, codes }
    }

    /// The residue that is next in the stream; not above `mask` unless the stream is damaged.
    pub(super) fn residue(&self, model: &Model, context: u8, bits: &mut Bits<'_>) -> Option<u8> {
        let bucket = model.buckets.get(self.bucket(context))?;
        let code = self.codes.get(bucket.best)?;
        let next = bits.peek();
        let zeros = next.leading_zeros();
        let (length, value) = if zeros < code.prefix {
            let length = zeros + 1 + code.shift;
            (length, (zeros << code.shift) | low_bits(next >> (32 - length), code.shift))
        } else {
            let length = code.prefix + code.suffix;
            (length, code.plain + low_bits(next >> (32 - length), code.suffix))
        };
        bits.skip(length);
        u8::try_from(value).ok().filter(|value| *value <= self.mask)
    }

    /// Buckets hold 1, 2, 4, 8.. residues; the last one, what is left.
    fn bucket(&self, context: u8) -> usize {
        let bucket = (u32::from(context) + 1).ilog2();
        usize::try_from(bucket).unwrap_or(0).min(self.bits - 1)
    }
}

impl Code {
    const fn length(&self, value: u32) -> u32 {
        if value < self.plain {
            (value >> self.shift) + 1 + self.shift
        } else {
            self.prefix + self.suffix
        }
    }
}

impl Model {
    pub(super) const fn new(depth: &Depth) -> Self {
        let bucket = Bucket { best: depth.bits - 1, costs: [0; CODES_MAX] };
        Self { buckets: [bucket; CODES_MAX] }
    }

    /// Counts in a residue after `context`; beyond `trigger` bits, the past is halved.
    pub(super) fn learn(&mut self, depth: &Depth, context: u8, residue: u8, trigger: u32) {
        let Some(bucket) = self.buckets.get_mut(depth.bucket(context)) else { return };
        let mut least = u32::MAX;
        // Of equally short codes the one with the most bits is taken.
        let codes = bucket.costs.iter_mut().zip(&depth.codes).take(depth.bits).enumerate().rev();
        for (index, (cost, code)) in codes {
            *cost = cost.saturating_add(code.length(u32::from(residue)));
            if *cost < least {
                least = *cost;
                bucket.best = index;
            }
        }
        if least > trigger {
            bucket.costs.iter_mut().for_each(|cost| *cost >>= 1);
        }
    }
}

const fn low_bits(word: u32, count: u32) -> u32 {
    word & ((1 << count) - 1)
}

#[cfg(test)]
impl Code {
    /// The codeword and its length, for the encoder of the tests.
    fn word(&self, residue: u8) -> (u32, u32) {
        let value = u32::from(residue);
        let word = if value < self.plain {
            (1 << self.shift) | low_bits(value, self.shift)
        } else {
            value - self.plain
        };
        (word, self.length(value))
    }
}

#[cfg(test)]
impl Depth {
    /// The codeword that stands for `residue` after `context` now, and its length.
    pub(super) fn word(&self, model: &Model, context: u8, residue: u8) -> (u32, u32) {
        self.codes[model.buckets[self.bucket(context)].best].word(residue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_names_every_residue() {
        for depth in [&DEPTH_5, &DEPTH_8] {
            for (best, code) in depth.codes.iter().enumerate().take(depth.bits) {
                let mut model = Model::new(depth);
                model.buckets.iter_mut().for_each(|bucket| bucket.best = best);
                for residue in 0..=depth.mask {
                    let (word, length) = code.word(residue);
                    assert_eq!(length, code.length(u32::from(residue)));
                    assert!(length <= CODEWORD_BITS_MAX, "{code:?} {residue}");
                    let packed = (word << (32 - length)).to_le_bytes();
                    let mut bits = Bits::new(&packed);
                    assert_eq!(depth.residue(&model, 0, &mut bits), Some(residue), "{code:?}");
                    assert_eq!(32 - bits.left(), usize::try_from(length).unwrap());
                }
            }
        }
    }

    #[test]
    fn buckets_double_in_size() {
        let starts = |depth: &Depth| {
            let all = 0..=depth.mask;
            let first =
                |context: &u8| *context == 0 || depth.bucket(*context) != depth.bucket(context - 1);
            all.filter(first).collect::<Vec<_>>()
        };
        assert_eq!(starts(&DEPTH_8), [0, 1, 3, 7, 15, 31, 63, 127]);
        assert_eq!(starts(&DEPTH_5), [0, 1, 3, 7, 15]);
    }
}
