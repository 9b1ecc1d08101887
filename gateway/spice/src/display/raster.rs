//! Raster operations with a constant (`enums.h`, `SpiceRopd`), as one "and" and one "xor".

/// `SPICE_ROPD_INVERS_SRC`
const INVERS_SRC: u16 = 1 << 0;
/// `SPICE_ROPD_INVERS_BRUSH`
const INVERS_BRUSH: u16 = 1 << 1;
/// `SPICE_ROPD_INVERS_DEST`
const INVERS_DEST: u16 = 1 << 2;
/// `SPICE_ROPD_OP_PUT`
pub(super) const OP_PUT: u16 = 1 << 3;
/// `SPICE_ROPD_OP_OR`
const OP_OR: u16 = 1 << 4;
/// `SPICE_ROPD_OP_AND`
const OP_AND: u16 = 1 << 5;
/// `SPICE_ROPD_OP_XOR`
const OP_XOR: u16 = 1 << 6;
/// `SPICE_ROPD_OP_BLACKNESS`
pub(super) const OP_BLACKNESS: u16 = 1 << 7;
/// `SPICE_ROPD_OP_WHITENESS`
pub(super) const OP_WHITENESS: u16 = 1 << 8;
/// `SPICE_ROPD_OP_INVERS`
pub(super) const OP_INVERS: u16 = 1 << 9;
/// `SPICE_ROPD_INVERS_RES`
const INVERS_RES: u16 = 1 << 10;
/// The bits that say what is done; exactly one is to be set.
const OPERATIONS: u16 = OP_PUT | OP_OR | OP_AND | OP_XOR | OP_BLACKNESS | OP_WHITENESS | OP_INVERS;
/// Blue, green and red of a little-endian BGRX pixel.
const COLORS: u32 = 0x00ff_ffff;

/// `pixel = (pixel & and) ^ xor`, over blue, green and red.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Combination {
    /// Bits of the destination that matter.
    pub(super) and: u32,
    /// Bits that are then inverted.
    pub(super) xor: u32,
}

/// What a fill with `brush` (0x00rrggbb) does; `None` unless exactly one operation is named.
pub(super) fn combination(descriptor: u16, brush: u32) -> Option<Combination> {
    let brush = if descriptor & INVERS_BRUSH != 0 { !brush } else { brush };
    let (and, mut xor) = match descriptor & OPERATIONS {
        OP_PUT => (0, brush),
        OP_OR => (!brush, brush),
        OP_AND => (brush, 0),
        OP_XOR => (!0, brush),
        OP_BLACKNESS => (0, 0),
        OP_WHITENESS => (0, !0),
        OP_INVERS => (!0, !0),
        _ => return None,
    };
    if descriptor & INVERS_DEST != 0 {
        // (!d & and) ^ xor = (d & and) ^ and ^ xor
        xor ^= and;
    }
    if descriptor & INVERS_RES != 0 {
        xor = !xor;
    }
    Some(Combination { and: and & COLORS, xor: xor & COLORS })
}

/// Whether a copy simply puts the source's pixels.
pub(super) const fn is_plain_copy(descriptor: u16) -> bool {
    descriptor & (OPERATIONS | INVERS_SRC | INVERS_RES) == OP_PUT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the descriptor means, bit by bit and without the algebra.
    fn reference(descriptor: u16, brush: u32, pixel: u32) -> u32 {
        let brush = if descriptor & INVERS_BRUSH != 0 { !brush } else { brush };
        let pixel = if descriptor & INVERS_DEST != 0 { !pixel } else { pixel };
        let result = match descriptor & OPERATIONS {
            OP_PUT => brush,
            OP_OR => pixel | brush,
            OP_AND => pixel & brush,
            OP_XOR => pixel ^ brush,
            OP_BLACKNESS => 0,
            OP_WHITENESS => !0,
            _ => !pixel,
        };
        (if descriptor & INVERS_RES != 0 { !result } else { result }) & COLORS
    }

    #[test]
    fn every_descriptor_with_one_operation_equals_its_definition() {
        for descriptor in 0..=0x7ff {
            let known = (descriptor & OPERATIONS).count_ones() == 1;
            for (brush, pixel) in [(0x0012_3456, 0x00fe_dcba), (0, 0x00ff_00ff), (0x00ff_ffff, 7)] {
                let Some(Combination { and, xor }) = combination(descriptor, brush) else {
                    assert!(!known, "descriptor {descriptor:#x}");
                    continue;
                };
                assert!(known, "descriptor {descriptor:#x}");
                let expected = reference(descriptor, brush, pixel);
                assert_eq!((pixel & and) ^ xor, expected, "descriptor {descriptor:#x}");
            }
        }
    }
}
