//! QUIC's bits: u32 words, little endian, each read from its highest bit down.

/// What is left of a stream; beyond its end there are zeros.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    words: std::slice::Iter<'a, [u8; 4]>,
    /// The next bits, from the highest down.
    ///
    /// INVARIANT: at least 32 of them are there, and those beyond `held` are 0.
    window: u64,
    held: u32,
    /// Bits of the stream that have not been skipped.
    left: usize,
    exhausted: bool,
}

impl<'a> Bits<'a> {
    /// Bytes that do not fill a word are not part of the stream.
    pub(super) fn new(packed: &'a [u8]) -> Self {
        let (words, _rest) = packed.as_chunks::<4>();
        let left = words.len().saturating_mul(32);
        let mut bits = Self { words: words.iter(), window: 0, held: 0, left, exhausted: false };
        bits.refill();
        bits
    }

    /// The next 32 bits.
    pub(super) fn peek(&self) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.window.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Goes on by `count` bits, at most 32.
    pub(super) fn skip(&mut self, count: u32) {
        let count = count.min(32);
        self.window <<= count;
        self.held -= count;
        let bits = usize::try_from(count).unwrap_or(0);
        self.exhausted |= bits > self.left;
        self.left = self.left.saturating_sub(bits);
        if self.held < 32 {
            self.refill();
        }
    }

    pub(super) fn word(&mut self) -> u32 {
        let word = self.peek();
        self.skip(32);
        word
    }

    /// Bits that have not been skipped.
    pub(super) const fn left(&self) -> usize {
        self.left
    }

    /// Whether more was read than there is.
    pub(super) const fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    fn refill(&mut self) {
        let word = self.words.next().copied().unwrap_or_default();
        self.window |= u64::from(u32::from_le_bytes(word)) << (32 - self.held);
        self.held += 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_from_their_highest_bit_down() {
        let mut bits = Bits::new(&[0x78, 0x56, 0x34, 0x12, 0xf0, 0xde, 0xbc, 0x9a, 0xff]);
        assert_eq!(bits.peek(), 0x1234_5678);
        bits.skip(4);
        assert_eq!(bits.peek(), 0x2345_6789);
        bits.skip(31);
        assert_eq!(bits.peek() >> 28, 0b1101);
        bits.skip(29);
        assert_eq!((bits.left(), bits.is_exhausted(), bits.peek()), (0, false, 0));
        bits.skip(1);
        assert!(bits.is_exhausted());
    }
}
