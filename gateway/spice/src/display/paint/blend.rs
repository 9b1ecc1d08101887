//! The operators of compositing that divide, in floating point: saturate, the disjoint and
//! conjoint ones (X Rendering Extension, section 8), and four blend modes and the four of hue,
//! saturation, colour and luminosity of PDF (ISO 32000, 11.3.5), on pixels multiplied by alpha.

use super::operator::Through;

/// A pixel after its mask, 0 to 1.
#[derive(Clone, Copy)]
struct Pixel {
    /// Blue, green, red, alpha.
    channels: [f32; 4],
    /// The alpha that holds for each channel.
    alphas: [f32; 4],
}

/// Mixes a source into a destination by the operator of this number.
pub(super) fn mix(number: u8, source: u32, mask: u32, through: Through, destination: u32) -> u32 {
    let destination = channels(destination);
    let source = masked(channels(source), channels(mask), through);
    let [.., alpha] = destination;
    let result = match number {
        0x3b..=0x3e if through == Through::Components => destination,
        0x3b..=0x3e => by_luminosity(number, source, destination),
        _ => std::array::from_fn(|channel| {
            let pick = |values: [f32; 4]| values.get(channel).copied().unwrap_or(0.0);
            let values = [pick(source.channels), pick(source.alphas), pick(destination), alpha];
            match number {
                0x30..=0x3a if channel == 3 => union(pick(source.alphas), alpha),
                0x30..=0x3a => separately(number, values),
                _ => by_share(number, values),
            }
        }),
    };
    u32::from_le_bytes(result.map(rounded))
}

fn channels(pixel: u32) -> [f32; 4] {
    pixel.to_le_bytes().map(|channel| f32::from(channel) * (1.0 / 255.0))
}

/// As pixman does it: the upper end of each of 256 equal parts belongs to the next.
fn rounded(value: f32) -> u8 {
    // The cast cuts off, and the value is between 0 and 256.
    let part = (value.clamp(0.0, 1.0) * 256.0) as u16;
    u8::try_from(part - (part >> 8)).unwrap_or(u8::MAX)
}

fn masked(source: [f32; 4], mask: [f32; 4], through: Through) -> Pixel {
    let [b, g, r, alpha] = source;
    let [mask_b, mask_g, mask_r, whole] = mask;
    match through {
        Through::Nothing => Pixel { channels: source, alphas: [alpha; 4] },
        Through::Alpha => Pixel { channels: source.map(|c| c * whole), alphas: [alpha * whole; 4] },
        Through::Components => Pixel {
            channels: [b * mask_b, g * mask_g, r * mask_r, alpha * whole],
            alphas: mask.map(|mask| mask * alpha),
        },
    }
}

const fn union(a: f32, b: f32) -> f32 {
    a + b - a * b
}

/// `above / below` between 0 and 1, or `otherwise` when there is nothing to divide by.
fn ratio(above: f32, below: f32, otherwise: f32) -> f32 {
    if is_zero(below) { otherwise } else { (above / below).clamp(0.0, 1.0) }
}

/// `1 - above / below` between 0 and 1, or 0 when there is nothing to divide by.
fn rest(above: f32, below: f32) -> f32 {
    if is_zero(below) { 0.0 } else { (1.0 - above / below).clamp(0.0, 1.0) }
}

const fn is_zero(value: f32) -> bool {
    -f32::MIN_POSITIVE < value && value < f32::MIN_POSITIVE
}

/// Saturate, disjoint and conjoint operators: a share of each.
fn by_share(number: u8, [s, sa, d, da]: [f32; 4]) -> f32 {
    // What each covers apart from the other if they overlap as little as they can (disjoint) or
    // as much (conjoint), and what both cover.
    let ((source_only, destination_only), (source_both, destination_both)) = if number < 0x20 {
        (
            (ratio(1.0 - da, sa, 1.0), ratio(1.0 - sa, da, 1.0)),
            (rest(1.0 - da, sa), rest(1.0 - sa, da)),
        )
    } else {
        ((rest(da, sa), rest(sa, da)), (ratio(da, sa, 1.0), ratio(sa, da, 1.0)))
    };
    let (source, destination) = match number & 0x0f {
        0x3 => (1.0, destination_only),
        // 0xd is saturate.
        0x4 | 0xd => (source_only, 1.0),
        0x5 => (source_both, 0.0),
        0x6 => (0.0, destination_both),
        0x7 => (source_only, 0.0),
        0x8 => (0.0, destination_only),
        0x9 => (source_both, destination_only),
        0xa => (source_only, destination_both),
        _ => (source_only, destination_only),
    };
    (s * source + d * destination).min(1.0)
}

/// Colour dodge, colour burn and soft light.
fn separately(number: u8, [s, sa, d, da]: [f32; 4]) -> f32 {
    let both = match number {
        0x35 if is_zero(d) => 0.0,
        0x35 if d * sa >= sa * da - s * da || is_zero(sa - s) => sa * da,
        0x35 => sa * sa * d / (sa - s),
        0x36 if d >= da => sa * da,
        0x36 if sa * (da - d) >= s * da || is_zero(s) => 0.0,
        0x36 => sa * (da - sa * (da - d) / s),
        _ if is_zero(da) => d * sa,
        _ if 2.0 * s <= sa => d * sa - d * (da - d) * (sa - 2.0 * s) / da,
        _ if 4.0 * d <= da => d * sa + (2.0 * s - sa) * d * ((16.0 * d / da - 12.0) * d / da + 3.0),
        _ => d * sa + ((d * da).sqrt() - d) * (2.0 * s - sa),
    };
    (1.0 - sa) * d + (1.0 - da) * s + both
}

/// Hue, saturation, colour, luminosity.
fn by_luminosity(number: u8, source: Pixel, destination: [f32; 4]) -> [f32; 4] {
    let [source_b, source_g, source_r, sa] = source.channels;
    let [destination_b, destination_g, destination_r, da] = destination;
    let (s, d) = ([source_b, source_g, source_r], [destination_b, destination_g, destination_r]);
    let scaled = |color: [f32; 3], by: f32| color.map(|channel| channel * by);
    let (colored, light) = match number {
        0x3b => (with_saturation(scaled(s, da), saturation(d) * sa), luminosity(d) * sa),
        0x3c => (with_saturation(scaled(d, sa), saturation(s) * da), luminosity(d) * sa),
        0x3d => (scaled(s, da), luminosity(d) * sa),
        _ => (scaled(d, sa), luminosity(s) * da),
    };
    let [both_b, both_g, both_r] = with_luminosity(colored, light, sa * da);
    let outside = |d: f32, s: f32| (1.0 - sa) * d + (1.0 - da) * s;
    [
        outside(destination_b, source_b) + both_b,
        outside(destination_g, source_g) + both_g,
        outside(destination_r, source_r) + both_r,
        union(sa, da),
    ]
}

fn luminosity([b, g, r]: [f32; 3]) -> f32 {
    r * 0.3 + g * 0.59 + b * 0.11
}

fn lowest([b, g, r]: [f32; 3]) -> f32 {
    b.min(g).min(r)
}

fn highest([b, g, r]: [f32; 3]) -> f32 {
    b.max(g).max(r)
}

fn saturation(color: [f32; 3]) -> f32 {
    highest(color) - lowest(color)
}

/// The colour with its channels spread from 0 to `wanted`.
fn with_saturation(color: [f32; 3], wanted: f32) -> [f32; 3] {
    let (low, spread) = (lowest(color), saturation(color));
    if is_zero(spread) { [0.0; 3] } else { color.map(|channel| (channel - low) * wanted / spread) }
}

/// The colour made lighter or darker, and greyer where it would leave 0 to `most`.
fn with_luminosity(color: [f32; 3], wanted: f32, most: f32) -> [f32; 3] {
    let change = wanted - luminosity(color);
    let mut color = color.map(|channel| channel + change);
    let light = luminosity(color);
    let (low, high) = (lowest(color), highest(color));
    if low < 0.0 {
        let below = light - low;
        color = if is_zero(below) {
            [0.0; 3]
        } else {
            color.map(|channel| light + (channel - light) * light / below)
        };
    }
    if high > most {
        let above = high - light;
        color = if is_zero(above) {
            [most; 3]
        } else {
            color.map(|channel| light + (channel - light) * (most - light) / above)
        };
    }
    color
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(number: u8, source: u32, destination: u32) -> u32 {
        mix(number, source, 0, Through::Nothing, destination)
    }

    #[test]
    fn disjoint_parts_add_up_and_conjoint_parts_cover_each_other() {
        // A quarter of white on a half of black.
        let (source, destination) = (0x4040_4040, 0x8000_0000);
        // Both have room beside each other: all of each remains.
        assert_eq!(mixed(0x13, source, destination), 0xc040_4040);
        assert_eq!(mixed(0x15, source, destination), 0);
        assert_eq!(mixed(0x17, source, destination), source);
        // The source lies wholly inside of the destination.
        assert_eq!(mixed(0x23, source, destination), 0x8040_4040);
        assert_eq!(mixed(0x25, source, destination), source);
        assert_eq!(mixed(0x27, source, destination), 0);
        assert_eq!(mixed(0x28, source, destination), 0x4000_0000);
        // Saturate adds what there is room for: none on an opaque destination.
        assert_eq!(mixed(0x0d, 0xffff_ffff, 0xff10_2030), 0xff10_2030);
        assert_eq!(mixed(0x0d, 0xff40_4040, 0x8010_2030), 0xff30_4050);
    }

    #[test]
    fn blend_modes_of_opaque_pixels_are_their_formulas() {
        let grey = |value: u32| 0xff00_0000 | (value * 0x01_0101);
        for (number, source, destination, expected) in [
            (0x35, 0x80, 0x40, 0x81), // d / (1 - s)
            (0x35, 0xff, 0x40, 0xff),
            (0x36, 0x80, 0xc0, 0x82), // 1 - (1 - d) / s
            (0x36, 0x00, 0x40, 0x00),
            (0x38, 0x80, 0x40, 0x40), // a half changes next to nothing
            (0x38, 0xff, 0x90, 0xc0), // the root of d
        ] {
            assert_eq!(
                mixed(number, grey(source), grey(destination)),
                grey(expected),
                "{number:#x} {source:#x}"
            );
        }
        // A grey has no hue and no saturation to give, and takes colour but not light.
        assert_eq!(mixed(0x3b, grey(0x80), 0xffff_0000), grey(0x4c));
        assert_eq!(mixed(0x3c, grey(0x80), 0xffff_0000), grey(0x4c));
        assert_eq!(mixed(0x3d, grey(0x80), 0xffff_0000), grey(0x4c));
        assert_eq!(mixed(0x3e, grey(0x4c), 0xffff_0000), 0xfffe_0000);
    }
}
