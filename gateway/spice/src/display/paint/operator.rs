//! The operators of compositing (`pixman_op_t`), on pixels whose colours are multiplied by alpha.
//!
//! Each mixes a source, seen through a mask, with a destination. The plain ones of Porter and Duff
//! and most blend modes are computed in 8 bits, with the rounding that pixman has; those that
//! divide are computed in floating point, as there.

use super::blend;

/// An operator by its number in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) struct Operator(u8);

/// Through what the source is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::display) enum Through {
    Nothing,
    /// The mask's alpha holds for all of the source.
    Alpha,
    /// The mask's colours each hold for one colour of the source.
    Components,
}

/// A share of the source or of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    None,
    All,
    /// Alpha of the other one.
    Other,
    /// What the alpha of the other one leaves.
    OtherInverse,
}

/// A source after its mask: its channels, and for each the alpha that holds for it.
#[derive(Clone, Copy, Debug)]
struct Masked {
    channels: [u8; 4],
    alphas: [u8; 4],
}

impl Operator {
    pub(in crate::display) const OVER: Self = Self(3);

    pub(in crate::display) const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0..=0x0d | 0x10..=0x1b | 0x20..=0x2b | 0x30..=0x3e => Some(Self(number)),
            _ => None,
        }
    }

    /// Mixes a row of sources into a row of destinations.
    pub(in crate::display) fn mix_row(
        self,
        source: &[u32],
        mask: &[u32],
        through: Through,
        row: &mut [u32],
    ) {
        for ((pixel, &source), &mask) in row.iter_mut().zip(source).zip(mask) {
            *pixel = self.mix(source, mask, through, *pixel);
        }
    }

    fn mix(self, source: u32, mask: u32, through: Through, destination: u32) -> u32 {
        let shares = |of_source, of_destination| {
            mix_shares(masked(source, mask, through), destination, [of_source, of_destination])
        };
        use Share::{All, None, Other, OtherInverse};
        match self.0 {
            0x00 | 0x10 | 0x20 => 0,
            0x01 | 0x11 | 0x21 => shares(All, None),
            0x02 | 0x12 | 0x22 => destination,
            0x03 => shares(All, OtherInverse),
            0x04 => shares(OtherInverse, All),
            0x05 => shares(Other, None),
            0x06 => shares(None, Other),
            0x07 => shares(OtherInverse, None),
            0x08 => shares(None, OtherInverse),
            0x09 => shares(Other, OtherInverse),
            0x0a => shares(OtherInverse, Other),
            0x0b => shares(OtherInverse, OtherInverse),
            0x0c => shares(All, All),
            0x30 => multiply(masked(source, mask, through), destination),
            0x31..=0x34 | 0x37 | 0x39 | 0x3a => {
                self.blend(masked(source, mask, through), destination)
            }
            divides => blend::mix(divides, source, mask, through, destination),
        }
    }

    /// A blend mode of PDF (ISO 32000, 11.3.5), of pixels multiplied by alpha.
    fn blend(self, source: Masked, destination: u32) -> u32 {
        let destination = destination.to_le_bytes();
        let [_, _, _, destination_alpha] = destination.map(i32::from);
        let result: [u8; 4] = std::array::from_fn(|channel| {
            let pick = |channels: [u8; 4]| channels.get(channel).copied().map_or(0, i32::from);
            let (s, sa) = (pick(source.channels), pick(source.alphas));
            let (d, da) = (pick(destination), destination_alpha);
            if channel == 3 {
                return divide_by_255(da * 255 + sa * 255 - sa * da);
            }
            let both = match self.0 {
                0x31 => s * da + d * sa - s * d,
                0x32 if 2 * d < da => 2 * s * d,
                0x37 if 2 * s < sa => 2 * s * d,
                0x32 | 0x37 => sa * da - 2 * (da - d) * (sa - s),
                0x33 => (s * da).min(d * sa),
                0x34 => (s * da).max(d * sa),
                0x39 => (s * da - d * sa).abs(),
                _ => s * da + d * sa - 2 * d * s,
            };
            divide_by_255((255 - sa) * d + (255 - da) * s + both)
        });
        u32::from_le_bytes(result)
    }
}

fn masked(source: u32, mask: u32, through: Through) -> Masked {
    let channels = source.to_le_bytes();
    let [_, _, _, alpha] = channels;
    let mask = mask.to_le_bytes();
    let [_, _, _, whole] = mask;
    match through {
        Through::Nothing => Masked { channels, alphas: [alpha; 4] },
        Through::Alpha => Masked {
            channels: channels.map(|c| product(c, whole)),
            alphas: [product(alpha, whole); 4],
        },
        Through::Components => {
            let [b, g, r, a] = channels;
            let [mask_b, mask_g, mask_r, mask_a] = mask;
            Masked {
                channels: [
                    product(b, mask_b),
                    product(g, mask_g),
                    product(r, mask_r),
                    product(a, mask_a),
                ],
                alphas: mask.map(|mask| product(mask, alpha)),
            }
        }
    }
}

/// source x share + destination x share, channel by channel.
fn mix_shares(source: Masked, destination: u32, [of_source, of_destination]: [Share; 2]) -> u32 {
    let destination = destination.to_le_bytes();
    let [_, _, _, destination_alpha] = destination;
    let share = |share, other: u8| match share {
        Share::None => 0,
        Share::All => 255,
        Share::Other => other,
        Share::OtherInverse => 255 - other,
    };
    let mut result = destination;
    let sources = source.channels.into_iter().zip(source.alphas);
    for (d, (s, sa)) in result.iter_mut().zip(sources) {
        let s = product(s, share(of_source, destination_alpha));
        *d = product(*d, share(of_destination, sa)).saturating_add(s);
    }
    u32::from_le_bytes(result)
}

fn multiply(source: Masked, destination: u32) -> u32 {
    let mixed = mix_shares(source, destination, [Share::OtherInverse; 2]).to_le_bytes();
    let products = destination.to_le_bytes().into_iter().zip(source.channels);
    let mut result = mixed;
    for (channel, (d, s)) in result.iter_mut().zip(products) {
        *channel = channel.saturating_add(product(d, s));
    }
    u32::from_le_bytes(result)
}

/// a x b / 255, rounded to the nearest.
fn product(a: u8, b: u8) -> u8 {
    divide_by_255(i32::from(a) * i32::from(b))
}

/// Rounded to the nearest, at least 0 and at most 255.
fn divide_by_255(value: i32) -> u8 {
    let value = value.clamp(0, 255 * 255) + 128;
    u8::try_from((value + (value >> 8)) >> 8).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mix(operator: u8, source: u32, destination: u32) -> u32 {
        Operator::from_wire(operator).unwrap().mix(source, 0, Through::Nothing, destination)
    }

    /// A pixel whose colours are not above its alpha.
    fn pixels() -> impl Strategy<Value = u32> {
        (any::<[u8; 3]>(), any::<u8>()).prop_map(|([b, g, r], a)| {
            u32::from_le_bytes([product(b, a), product(g, a), product(r, a), a])
        })
    }

    /// Operators 1 to 12 in real numbers, as the paper of Porter and Duff has them.
    fn porter_duff(operator: u8, [s, sa, d, da]: [f64; 4]) -> f64 {
        let (source, destination) = match operator {
            1 => (1.0, 0.0),
            2 => (0.0, 1.0),
            3 => (1.0, 1.0 - sa),
            4 => (1.0 - da, 1.0),
            5 => (da, 0.0),
            6 => (0.0, sa),
            7 => (1.0 - da, 0.0),
            8 => (0.0, 1.0 - sa),
            9 => (da, 1.0 - sa),
            10 => (1.0 - da, sa),
            11 => (1.0 - da, 1.0 - sa),
            _ => (1.0, 1.0),
        };
        (s * source + d * destination).min(1.0)
    }

    /// What pixman 0.42.2 makes of each operator: two pairs of pixels, and the first of them
    /// through a mask, by its alpha and by its components. Hue and its kin have no such masks.
    #[rustfmt::skip]
    const PIXMAN: [(u8, [u32; 4]); 53] = [
        (0x00, [0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000]),
        (0x01, [0x8040_2010, 0x6010_5030, 0x4d26_130a, 0x4d0d_0d03]),
        (0x02, [0xc0a0_3060, 0x7070_0020, 0xc0a0_3060, 0xc0a0_3060]),
        (0x03, [0xe090_3840, 0xa656_5044, 0xd396_354d, 0xd39d_3359]),
        (0x04, [0xe0b0_3864, 0xa679_2d3b, 0xd3a9_3562, 0xd3a3_3361]),
        (0x05, [0x6030_180c, 0x2a07_2315, 0x3a1d_0e08, 0x3a0a_0a02]),
        (0x06, [0x6050_1830, 0x2a2a_000c, 0x3a30_0e1d, 0x3a10_0a0a]),
        (0x07, [0x2010_0804, 0x3609_2d1b, 0x1309_0502, 0x1303_0301]),
        (0x08, [0x6050_1830, 0x4646_0014, 0x8670_2243, 0x8690_2656]),
        (0x09, [0xc080_303c, 0x704d_2329, 0xc08d_304b, 0xc09a_3058]),
        (0x0a, [0x8060_2034, 0x6033_2d27, 0x4d39_131f, 0x4d13_0d0b]),
        (0x0b, [0x8060_2034, 0x7c4f_2d2f, 0x9979_2745, 0x9993_2957]),
        (0x0c, [0xffe0_5070, 0xd080_5050, 0xffc6_436a, 0xffad_3d63]),
        (0x0d, [0xffc0_4068, 0xd080_5050, 0xffc0_4068, 0xffad_3d63]),
        (0x10, [0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000]),
        (0x11, [0x8040_2010, 0x6010_5030, 0x4d26_130a, 0x4d0d_0d03]),
        (0x12, [0xc0a0_3060, 0x7070_0020, 0xc0a0_3060, 0xc0a0_3060]),
        (0x13, [0xffaa_404f, 0xd080_5050, 0xffbb_4063, 0xffad_3d63]),
        (0x14, [0xffc0_4068, 0xd080_5050, 0xffc0_4068, 0xffad_3d63]),
        (0x15, [0x4120_1008, 0x0000_0000, 0x0d06_0301, 0x0d00_0000]),
        (0x16, [0x4136_1020, 0x0000_0000, 0x0d0b_0306, 0x0d00_0000]),
        (0x17, [0x3f1f_0f07, 0x6010_5030, 0x3f1f_0f07, 0x3f0c_0c03]),
        (0x18, [0x7f6a_1f3f, 0x7070_0020, 0xb295_2c59, 0xb2a0_3060]),
        (0x19, [0xc08a_3047, 0x7070_0020, 0xc09c_305b, 0xc0a0_3060]),
        (0x1a, [0x8056_2028, 0x6010_5030, 0x4d2b_130e, 0x4d0c_0c03]),
        (0x1b, [0xbe89_2f47, 0xd080_5050, 0xf2b4_3c61, 0xf2ad_3d63]),
        (0x20, [0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000]),
        (0x21, [0x8040_2010, 0x6010_5030, 0x4d26_130a, 0x4d0d_0d03]),
        (0x22, [0xc0a0_3060, 0x7070_0020, 0xc0a0_3060, 0xc0a0_3060]),
        (0x23, [0xc075_3030, 0x7020_5034, 0xc086_3043, 0xc098_3056]),
        (0x24, [0xc0a0_3060, 0x7070_0020, 0xc0a0_3060, 0xc0a0_3060]),
        (0x25, [0x8040_2010, 0x6010_5030, 0x4d26_1309, 0x4d0c_0c03]),
        (0x26, [0x806b_2040, 0x6060_001b, 0x4d40_1326, 0x4d15_0c0c]),
        (0x27, [0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000]),
        (0x28, [0x4035_1020, 0x1010_0004, 0x7360_1c39, 0x738b_2353]),
        (0x29, [0xc075_3030, 0x7020_5034, 0xc086_3043, 0xc098_3056]),
        (0x2a, [0x806b_2040, 0x6060_001b, 0x4d40_1326, 0x4d15_0c0c]),
        (0x2b, [0x4035_1020, 0x1010_0004, 0x7360_1c39, 0x738b_2353]),
        (0x30, [0xe088_263a, 0xa656_2d35, 0xd391_2b49, 0xd39b_2b58]),
        (0x31, [0xe0b8_4a6a, 0xa679_504a, 0xd3ae_3f66, 0xd3a5_3b62]),
        (0x32, [0xe0b0_2c40, 0xa679_2d3b, 0xd3a9_2d4d, 0xd3a3_2f59]),
        (0x33, [0xe090_3840, 0xa656_2d3b, 0xd396_354d, 0xd39d_3359]),
        (0x34, [0xe0b0_3864, 0xa679_5044, 0xd3a9_3562, 0xd3a3_3361]),
        (0x35, [0xe0c0_406b, 0xa679_2d47, 0xd3b3_3966, 0xd3a7_3662]),
        (0x36, [0xe0a0_1f33, 0xa679_2d2f, 0xd3a0_2645, 0xd3a0_2957]),
        (0x37, [0xe0b0_2c40, 0xa65d_493b, 0xd3a9_2d4d, 0xd3a3_2f59]),
        (0x38, [0xe0b0_2f52, 0xa679_2d3b, 0xd3aa_2f57, 0xd3a3_2f5d]),
        (0x39, [0xe080_2058, 0xa672_5038, 0xd38d_265b, 0xd399_2a5e]),
        (0x3a, [0xe090_4464, 0xa672_5044, 0xd396_3c62, 0xd39d_3861]),
        (0x3b, [0xe0a8_4243, 0xa64f_4239, 0, 0]),
        (0x3c, [0xe0a3_3f62, 0xa670_313b, 0, 0]),
        (0x3d, [0xe09d_454d, 0xa64f_4239, 0, 0]),
        (0x3e, [0xe0a2_2a56, 0xa679_3d47, 0, 0]),
    ];

    #[test]
    fn every_operator_gives_what_pixman_gives() {
        let (source, mask, destination) = (0x8040_2010, 0x9933_6633, 0xc0a0_3060);
        for (number, [first, second, by_alpha, by_components]) in PIXMAN {
            let mixed = |through| {
                Operator::from_wire(number).unwrap().mix(source, mask, through, destination)
            };
            assert_eq!(mixed(Through::Nothing), first, "{number:#x}");
            assert_eq!(mix(number, 0x6010_5030, 0x7070_0020), second, "{number:#x}");
            if number < 0x3b {
                assert_eq!(mixed(Through::Alpha), by_alpha, "{number:#x}");
                assert_eq!(mixed(Through::Components), by_components, "{number:#x}");
            }
        }
    }

    #[test]
    fn opaque_and_empty_pixels_are_exact() {
        let (source, destination) = (0xff10_2030, 0xff80_90a0);
        assert_eq!(mix(0, source, destination), 0);
        assert_eq!(mix(1, source, destination), source);
        assert_eq!(mix(3, source, destination), source);
        assert_eq!(mix(3, 0, destination), destination);
        assert_eq!(mix(4, source, destination), destination);
        assert_eq!(mix(4, source, 0), source);
        assert_eq!(mix(11, source, destination), 0);
        assert_eq!(mix(12, source, destination), 0xff90_b0d0);
        // Half of black over white: 255 x 127 / 255.
        assert_eq!(mix(3, 0x8000_0000, 0xffff_ffff), 0xff7f_7f7f);
        assert!(
            (14..16)
                .chain(28..32)
                .chain(44..48)
                .chain(63..=255)
                .all(|number| { Operator::from_wire(number).is_none() })
        );
    }

    #[test]
    fn blend_modes_of_opaque_pixels_are_their_formulas() {
        let (s, d) = (0x40, 0xa0);
        let grey = |value: u32| 0xff00_0000 | (value * 0x01_0101);
        for (operator, expected) in [
            (0x30, 0x28), // s x d
            (0x31, 0xb8), // s + d - s x d
            (0x32, 0x71), // 1 - 2 (1 - d) (1 - s)
            (0x33, 0x40), // the darker
            (0x34, 0xa0), // the lighter
            (0x37, 0x50), // 2 s x d
            (0x39, 0x60), // d - s
            (0x3a, 0x90), // s + d - 2 s x d
        ] {
            assert_eq!(mix(operator, grey(s), grey(d)), grey(expected), "{operator:#x}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_those_of_porter_and_duff(
            operator in 1..=12_u8, source in pixels(), mask: u32, destination in pixels(),
            components: bool,
        ) {
            let through = if components { Through::Components } else { Through::Alpha };
            let result = Operator(operator).mix(source, mask, through, destination).to_le_bytes();
            let real = |pixel: u32| pixel.to_le_bytes().map(|c| f64::from(c) / 255.0);
            let (s, m, d) = (real(source), real(mask), real(destination));
            for channel in 0..4 {
                let m = if components { m[channel] } else { m[3] };
                let values = [s[channel] * m, s[3] * m, d[channel], d[3]];
                let expected = 255.0 * porter_duff(operator, values);
                // Each of up to three products is rounded by itself.
                let error = (f64::from(result[channel]) - expected).abs();
                prop_assert!(error <= 2.0, "{} for {expected}", result[channel]);
            }
        }

        #[test]
        fn no_pixels_make_an_operator_fail(
            operator: u8, source: u32, mask: u32, destination: u32,
        ) {
            let Some(operator) = Operator::from_wire(operator) else { return Ok(()) };
            for through in [Through::Nothing, Through::Alpha, Through::Components] {
                operator.mix(source, mask, through, destination);
            }
        }
    }
}
