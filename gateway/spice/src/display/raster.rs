//! Raster operations: what becomes of each bit of a pixel (`enums.h`, `SpiceRopd`; ROP3 codes).

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
const OP_BLACKNESS: u16 = 1 << 7;
/// `SPICE_ROPD_OP_WHITENESS`
const OP_WHITENESS: u16 = 1 << 8;
/// `SPICE_ROPD_OP_INVERS`
const OP_INVERS: u16 = 1 << 9;
/// `SPICE_ROPD_INVERS_RES`
const INVERS_RES: u16 = 1 << 10;

/// A boolean function of three bits, as a truth table: bit 4 x brush + 2 x source + destination of
/// the number is the result. These are the 256 ternary operations of Windows, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RasterOperation(pub(super) u8);

/// One of the three pixels that an operation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Brush,
    Source,
    Destination,
}

impl Input {
    /// The operation that gives this input.
    const fn table(self) -> u8 {
        match self {
            Self::Brush => 0xf0,
            Self::Source => 0xcc,
            Self::Destination => 0xaa,
        }
    }

    const fn inversion(self) -> u16 {
        match self {
            Self::Brush => INVERS_BRUSH,
            Self::Source => INVERS_SRC,
            Self::Destination => INVERS_DEST,
        }
    }
}

impl RasterOperation {
    pub(super) const BLACKNESS: Self = Self(0x00);
    pub(super) const WHITENESS: Self = Self(0xff);
    pub(super) const INVERSION: Self = Self(!Input::Destination.table());
    pub(super) const BRUSH: Self = Self(Input::Brush.table());
    pub(super) const SOURCE: Self = Self(Input::Source.table());
    const NOTHING: Self = Self(Input::Destination.table());

    /// What a descriptor says of the pixel that is `drawn` and of what is `below` it.
    ///
    /// As in the reference renderer, the first operation that is named counts and none means put;
    /// the result of blackness, whiteness and inversion is not inverted once more.
    pub(super) const fn from_descriptor(descriptor: u16, drawn: Input, below: Input) -> Self {
        const fn table(descriptor: u16, input: Input) -> u8 {
            let inverted = descriptor & input.inversion() != 0;
            if inverted { !input.table() } else { input.table() }
        }
        let (over, under) = (table(descriptor, drawn), table(descriptor, below));
        let result = if descriptor & OP_PUT != 0 {
            over
        } else if descriptor & OP_OR != 0 {
            over | under
        } else if descriptor & OP_AND != 0 {
            over & under
        } else if descriptor & OP_XOR != 0 {
            over ^ under
        } else if descriptor & OP_BLACKNESS != 0 {
            return Self::BLACKNESS;
        } else if descriptor & OP_WHITENESS != 0 {
            return Self::WHITENESS;
        } else if descriptor & OP_INVERS != 0 {
            return Self(!below.table());
        } else {
            return Self(drawn.table());
        };
        Self(if descriptor & INVERS_RES != 0 { !result } else { result })
    }

    /// Whether the result depends on `input`.
    pub(super) const fn reads(self, input: Input) -> bool {
        // Two results belong together when they differ in this input only.
        let (distance, without) = match input {
            Input::Brush => (4, !Input::Brush.table()),
            Input::Source => (2, !Input::Source.table()),
            Input::Destination => (1, !Input::Destination.table()),
        };
        (self.0 ^ (self.0 >> distance)) & without != 0
    }

    /// Whether it leaves every pixel as it is.
    pub(super) fn is_nothing(self) -> bool {
        self == Self::NOTHING
    }

    /// The result, bit by bit.
    pub(super) fn apply(self, brush: u32, source: u32, destination: u32) -> u32 {
        self.tables()
            .iter()
            .zip(minterms(brush, source, destination))
            .fold(0, |result, (table, minterm)| result | (table & minterm))
    }

    /// Applies it to a row.
    pub(super) fn apply_row(self, brush: &[u32], source: &[u32], row: &mut [u32]) {
        let tables = self.tables();
        for ((pixel, &brush), &source) in row.iter_mut().zip(brush).zip(source) {
            let terms = minterms(brush, source, *pixel);
            let mut result = 0;
            for (table, minterm) in tables.iter().zip(terms) {
                result |= table & minterm;
            }
            *pixel = result;
        }
    }

    /// All ones for each combination of inputs whose result is one.
    fn tables(self) -> [u32; 8] {
        std::array::from_fn(|index| if self.0 & (1_u8 << index) != 0 { u32::MAX } else { 0 })
    }

    /// What it does to a destination when the brush is one colour and there is no source:
    /// `pixel = (pixel & and) ^ xor`.
    pub(super) fn with_color(self, color: u32) -> Combination {
        let (zeros, ones) = (self.apply(color, 0, 0), self.apply(color, 0, u32::MAX));
        Combination { and: zeros ^ ones, xor: zeros }
    }
}

/// `pixel = (pixel & and) ^ xor`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Combination {
    /// Bits of the destination that matter.
    pub(super) and: u32,
    /// Bits that are then inverted.
    pub(super) xor: u32,
}

/// All ones where the inputs are in each of their combinations, by number.
const fn minterms(brush: u32, source: u32, destination: u32) -> [u32; 8] {
    let (b, s, d) = (brush, source, destination);
    [
        !b & !s & !d,
        !b & !s & d,
        !b & s & !d,
        !b & s & d,
        b & !s & !d,
        b & !s & d,
        b & s & !d,
        b & s & d,
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPERATIONS: u16 =
        OP_PUT | OP_OR | OP_AND | OP_XOR | OP_BLACKNESS | OP_WHITENESS | OP_INVERS;

    /// What a descriptor with one operation means, pixel by pixel and without truth tables.
    fn described(descriptor: u16, [drawn, below]: [Input; 2], pixels: [u32; 3]) -> u32 {
        let pick = |input| match input {
            Input::Brush => pixels[0],
            Input::Source => pixels[1],
            Input::Destination => pixels[2],
        };
        let flip = |bit: u16, value: u32| if descriptor & bit != 0 { !value } else { value };
        let bit = |input| match input {
            Input::Brush => 1 << 1,
            Input::Source => 1 << 0,
            Input::Destination => 1 << 2,
        };
        let (over, under) = (flip(bit(drawn), pick(drawn)), flip(bit(below), pick(below)));
        match descriptor & OPERATIONS {
            OP_PUT => flip(INVERS_RES, over),
            OP_OR => flip(INVERS_RES, over | under),
            OP_AND => flip(INVERS_RES, over & under),
            OP_XOR => flip(INVERS_RES, over ^ under),
            OP_BLACKNESS => 0,
            OP_WHITENESS => !0,
            _ => !pick(below),
        }
    }

    #[test]
    fn every_descriptor_with_one_operation_equals_its_definition() {
        const PIXELS: [u32; 3] = [0xff12_3456, 0x0077_c0de, 0x33fe_dcba];
        for descriptor in (0..=0x7ff).filter(|bits| (bits & OPERATIONS).count_ones() == 1) {
            for inputs in [
                [Input::Brush, Input::Destination],
                [Input::Source, Input::Destination],
                [Input::Brush, Input::Source],
            ] {
                let operation = RasterOperation::from_descriptor(descriptor, inputs[0], inputs[1]);
                let [brush, source, destination] = PIXELS;
                let result = operation.apply(brush, source, destination);
                let expected = described(descriptor, inputs, PIXELS);
                assert_eq!(result, expected, "descriptor {descriptor:#x}, {inputs:?}");
            }
        }
    }

    #[test]
    fn names_of_windows_operations_mean_what_they_say() {
        // From the table of ternary raster operations in the documentation of Windows GDI:
        // D destination, S source, P pattern; o or, a and, x xor, n not, in reverse Polish order.
        type Formula = fn(u32, u32, u32) -> u32;
        let named: [(u8, Formula); 10] = [
            (0x01, |p, s, d| !(p | s | d)),           // DPSoon
            (0x16, |p, s, d| (!(p & s) & d) ^ s ^ p), // PSDPSanaxx
            (0x1b, |p, s, d| !(((p ^ s) & d) ^ s)),   // SDPSxaxn
            (0x5a, |p, _, d| p ^ d),                  // DPx, PATINVERT
            (0x66, |_, s, d| s ^ d),                  // DSx, SRCINVERT
            (0x88, |_, s, d| s & d),                  // DSa, SRCAND
            (0xb8, |p, s, d| ((d ^ p) & s) ^ p),      // PSDPxax
            (0xbb, |_, s, d| !s | d),                 // DSno, MERGEPAINT
            (0xca, |p, s, d| ((s ^ d) & p) ^ d),      // DPSDxax
            (0xfb, |p, s, d| d | p | !s),             // DPSnoo, PATPAINT
        ];
        for (code, formula) in named {
            let (p, s, d) = (0x1234_5678, 0xf0e1_d2c3, 0x55aa_33cc);
            assert_eq!(RasterOperation(code).apply(p, s, d), formula(p, s, d), "{code:#x}");
        }
    }

    proptest! {
        /// Each bit looks its result up in the operation's number.
        #[test]
        fn every_operation_is_its_truth_table(
            code: u8, brush: u32, source: u32, destination: u32,
        ) {
            let operation = RasterOperation(code);
            let bit = |pixel: u32, place: u32| (pixel >> place) & 1;
            let expected = (0..32).fold(0, |result, place| {
                let row = 4 * bit(brush, place) + 2 * bit(source, place) + bit(destination, place);
                result | (u32::from((code >> row) & 1) << place)
            });
            prop_assert_eq!(operation.apply(brush, source, destination), expected);
            let mut row = [destination; 3];
            operation.apply_row(&[brush; 3], &[source; 3], &mut row);
            prop_assert_eq!(row, [expected; 3]);
            let unread = |input, result: u32| operation.reads(input) || result == expected;
            prop_assert!(unread(Input::Brush, operation.apply(!brush, source, destination)));
            prop_assert!(unread(Input::Source, operation.apply(brush, !source, destination)));
            prop_assert!(unread(Input::Destination, operation.apply(brush, source, !destination)));
            let Combination { and, xor } = operation.with_color(brush);
            prop_assert_eq!((destination & and) ^ xor, operation.apply(brush, 0, destination));
        }
    }

    #[test]
    fn an_operation_reads_exactly_what_can_change_its_result() {
        for code in 0..=u8::MAX {
            let operation = RasterOperation(code);
            for (input, weight) in
                [(Input::Brush, 4), (Input::Source, 2), (Input::Destination, 1_usize)]
            {
                let bit = |row: usize| (code >> row) & 1;
                let matters = (0..8).any(|row| bit(row) != bit(row ^ weight));
                assert_eq!(operation.reads(input), matters, "{code:#x} {input:?}");
            }
        }
    }
}
