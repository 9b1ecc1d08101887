//! Small images of few colours, for which a browser needs no decoder (`docs/display-protocol.md`,
//! "Palette images").

/// Most colours of one: four bits a pixel. With more, other forms are as short.
const COLORS_MAX: usize = 16;

/// The image of these rows of `width` pixels; none for what has too many colours.
pub(crate) fn encode(pixels: &[u32], width: usize) -> Option<Vec<u8>> {
    let mut colors: Vec<u32> = Vec::with_capacity(COLORS_MAX);
    let mut numbers: Vec<u8> = Vec::with_capacity(pixels.len());
    for pixel in pixels {
        let known = colors.iter().position(|color| color == pixel);
        let number = known.unwrap_or(colors.len());
        if known.is_none() {
            if colors.len() == COLORS_MAX {
                return None;
            }
            colors.push(*pixel);
        }
        numbers.push(u8::try_from(number).ok()?);
    }
    let mut data = vec![u8::try_from(colors.len().checked_sub(1)?).ok()?];
    for color in &colors {
        let [_, red, green, blue] = color.to_be_bytes();
        data.extend_from_slice(&[red, green, blue]);
    }
    let bits = match colors.len() {
        0..=2 => 1,
        3..=4 => 2,
        _ => 4,
    };
    for row in numbers.chunks(width.max(1)) {
        for packed in row.chunks(8 / bits) {
            let mut byte = 0_u8;
            for position in 0..8 / bits {
                byte = (byte << bits) | packed.get(position).copied().unwrap_or(0);
            }
            data.push(byte);
        }
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_the_documented_bytes() {
        let (black, white, red) = (0, 0x00ff_ffff, 0x00ff_0000);
        let rows = [white, black, black, white, white, white, white, black, white];
        let expected = [1, 255, 255, 255, 0, 0, 0, 0b0110_0001, 0];
        assert_eq!(encode(&rows, 9).unwrap(), expected);
        let rows = [black, white, red, red, black, black];
        let expected = [2, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0b0001_1000, 0b1000_0000];
        assert_eq!(encode(&rows, 3).unwrap(), expected[..].to_vec());
        let many: Vec<u32> = (0..17).collect();
        assert_eq!(encode(&many, 17), None);
        assert_eq!(encode(&many[..16], 16).unwrap().len(), 1 + 48 + 8);
        assert_eq!(encode(&[], 3), None);
    }
}
