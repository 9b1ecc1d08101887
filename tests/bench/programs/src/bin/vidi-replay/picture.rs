//! Pictures in memory, and what is drawn into them: text, photos, numbers that a program can read.

use vidi_bench::mix;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) x: u16,
    pub(crate) y: u16,
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// Rows of 4 bytes a pixel: blue, green, red, 255.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) pixels: Vec<u8>,
}

/// Red, green, blue.
pub(crate) type Color = [u8; 3];

pub(crate) const WHITE: Color = [255, 255, 255];
pub(crate) const BLACK: Color = [0, 0, 0];
/// Size of a letter.
pub(crate) const LETTER: (u16, u16) = (8, 16);
/// Side of one bit of a number that a program reads, and the bits.
pub(crate) const BIT: u16 = 16;
pub(crate) const BITS: u16 = 16;

impl Area {
    /// Whether all of `inner` lies inside.
    pub(crate) fn covers(&self, inner: &Self) -> bool {
        let end = |at: u16, length: u16| u32::from(at) + u32::from(length);
        self.x <= inner.x
            && self.y <= inner.y
            && end(inner.x, inner.width) <= end(self.x, self.width)
            && end(inner.y, inner.height) <= end(self.y, self.height)
    }
}

impl Picture {
    /// A white one.
    pub(crate) fn new(width: u16, height: u16) -> Self {
        Self { width, height, pixels: vec![255; usize::from(width) * usize::from(height) * 4] }
    }

    /// Smooth noise of several sizes with fine grain, as light and a sensor make it.
    pub(crate) fn photo(width: u16, height: u16, seed: u64) -> Self {
        let mut picture = Self::new(width, height);
        let octaves = [(256, 96), (96, 64), (32, 40), (12, 24), (4, 12)];
        for y in 0..u32::from(height) {
            for x in 0..u32::from(width) {
                let at = ((y * u32::from(width) + x) * 4) as usize;
                for channel in 0..3_u64 {
                    let smooth: u32 = octaves
                        .iter()
                        .map(|(size, weight)| noise(x, y, *size, seed + channel / 2) * weight / 255)
                        .sum();
                    let grain = (mix(seed ^ u64::from(x) << 20 ^ u64::from(y)) & 7) as u32;
                    picture.pixels[at + channel as usize] = (smooth + grain).min(255) as u8;
                }
            }
        }
        picture
    }

    /// The whole of it.
    pub(crate) fn area(&self) -> Area {
        Area { x: 0, y: 0, width: self.width, height: self.height }
    }

    fn at(&self, x: u16, y: u16) -> usize {
        (usize::from(y) * usize::from(self.width) + usize::from(x)) * 4
    }

    pub(crate) fn fill(&mut self, area: Area, [red, green, blue]: Color) {
        for y in area.y..area.y + area.height {
            let (from, to) = (self.at(area.x, y), self.at(area.x + area.width - 1, y) + 4);
            for pixel in self.pixels[from..to].as_chunks_mut::<4>().0 {
                *pixel = [blue, green, red, 255];
            }
        }
    }

    /// The pixels of an area.
    pub(crate) fn cut(&self, area: Area) -> Vec<u8> {
        let row = usize::from(area.width) * 4;
        let mut out = Vec::with_capacity(row * usize::from(area.height));
        for y in area.y..area.y + area.height {
            let from = self.at(area.x, y);
            out.extend_from_slice(&self.pixels[from..from + row]);
        }
        out
    }

    /// Puts pixels of that area's size there.
    pub(crate) fn paste(&mut self, area: Area, pixels: &[u8]) {
        let row = usize::from(area.width) * 4;
        for (y, line) in (area.y..area.y + area.height).zip(pixels.chunks_exact(row)) {
            let to = self.at(area.x, y);
            self.pixels[to..to + row].copy_from_slice(line);
        }
    }

    /// One line of text, cut at the right edge.
    pub(crate) fn text(&mut self, x: u16, y: u16, text: &str, color: Color) {
        for (index, letter) in text.chars().enumerate() {
            let left = u32::from(x) + index as u32 * u32::from(LETTER.0);
            if u32::from(self.width) < left + u32::from(LETTER.0) {
                return;
            }
            self.letter(left as u16, y, letter, color);
        }
    }

    fn letter(&mut self, left: u16, top: u16, letter: char, [red, green, blue]: Color) {
        if letter == ' ' {
            return;
        }
        for y in 1..13 {
            for x in 1..7 {
                let ink = match (stroke(letter, x, y), stroke(letter, x - 1, y)) {
                    (true, _) => 255,
                    (false, true) => 90,
                    (false, false) => 0,
                };
                let at = self.at(left + x, top + y);
                for (channel, color) in [blue, green, red].into_iter().enumerate() {
                    let under = u32::from(self.pixels[at + channel]);
                    let mixed = (under * (255 - ink) + u32::from(color) * ink) / 255;
                    self.pixels[at + channel] = mixed as u8;
                }
            }
        }
    }

    /// A number as squares of black and white: what is sent lossily can be read as well.
    pub(crate) fn number(&mut self, x: u16, y: u16, number: u16) {
        for bit in 0..BITS {
            let color = if number >> bit & 1 == 1 { BLACK } else { WHITE };
            self.fill(Area { x: x + bit * BIT, y, width: BIT, height: BIT }, color);
        }
    }
}

/// A letter of no alphabet: three strokes by its number, so that each is as hard to pack as a real one.
fn stroke(letter: char, x: u16, y: u16) -> bool {
    let shape = mix(u64::from(u32::from(letter)));
    let row = (shape % 3) as u16 * 5 + 2;
    let column = (shape >> 8) as u16 % 5 + 1;
    let slope = (shape >> 16 & 1) as u16;
    let half = if shape >> 24 & 1 == 1 { 1..=6 } else { 6..=12 };
    y == row
        || (x == column && half.contains(&y))
        || (if slope == 1 { x * 2 } else { 13 - x * 2 }) == y
}

/// Bilinear between random values on a grid of this size, 0 to 255.
fn noise(x: u32, y: u32, size: u32, seed: u64) -> u32 {
    let value = |column: u32, row: u32| {
        (mix(seed << 40 ^ u64::from(size) << 32 ^ u64::from(column) << 16 ^ u64::from(row)) & 255)
            as u32
    };
    let (column, row, right, down) = (x / size, y / size, x % size, y % size);
    let upper = value(column, row) * (size - right) + value(column + 1, row) * right;
    let lower = value(column, row + 1) * (size - right) + value(column + 1, row + 1) * right;
    (upper * (size - down) + lower * down) / (size * size)
}
