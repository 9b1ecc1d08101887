//! H.264 of one video region: one encoder, whose pictures follow each other.

use std::fmt;
use std::time::Duration;

use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, Profile, RateControlMode,
    UsageType, VuiConfig,
};
use openh264::formats::YUVSlices;
use openh264::{OpenH264API, Timestamp};
use vidi_spice::Rect;

use crate::video::PICTURES_PER_SECOND;

/// Most pixels of a coded picture, 1280 x 720: with 24 of them a second about 0.4 of a core were
/// measured, so 30, the most that there are, take 0.5. Larger areas are scaled down to it.
pub(crate) const CODED_PIXELS_MAX: u64 = 1280 * 720;

/// An encoder with what it remembers.
pub(crate) struct VideoEncoder {
    /// None before the first picture, and after a failure.
    encoder: Option<Encoder>,
    /// Bits per second.
    bit_rate: u32,
    /// Luma, then the two chroma planes: kept to be used again.
    planes: Vec<u8>,
}

impl fmt::Debug for VideoEncoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VideoEncoder of {} bit/s", self.bit_rate)
    }
}

/// What becomes of a picture.
#[derive(Debug)]
pub(super) enum Coded {
    /// An access unit.
    Picture { data: Vec<u8>, is_key: bool, width: u16, height: u16 },
    /// Nothing: the rate has no room for it.
    Skipped,
}

impl VideoEncoder {
    /// An encoder that has seen nothing; its first picture is a key frame.
    pub(crate) const fn new(bit_rate: u32) -> Self {
        Self { encoder: None, bit_rate, planes: Vec::new() }
    }

    /// The next picture, `at` since any origin; none where the encoder fails, which then begins
    /// anew. `is_key` asks for one at which decoding can begin.
    pub(super) fn encode(
        &mut self,
        area: &Rect,
        pixels: &[u32],
        at: Duration,
        is_key: bool,
    ) -> Option<Coded> {
        let [width, height] = coded_size(area.width(), area.height());
        let source = Scaled::new(pixels, [area.width(), area.height()], [width, height]);
        source.convert(&mut self.planes);
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => begin(self.bit_rate)?,
        };
        if is_key {
            encoder.force_intra_frame();
        }
        let (columns, rows) = (usize::try_from(width).ok()?, usize::try_from(height).ok()?);
        let (luma, chroma) = self.planes.split_at_checked(columns * rows)?;
        let (blue, red) = chroma.split_at_checked(columns * rows / 4)?;
        let strides = (columns, columns / 2, columns / 2);
        let picture = YUVSlices::new((luma, blue, red), (columns, rows), strides);
        let millis = u64::try_from(at.as_millis()).ok()?;
        let stream = encoder.encode_at(&picture, Timestamp::from_millis(millis)).ok()?;
        let is_key = match stream.frame_type() {
            FrameType::IDR => true,
            FrameType::P if !is_key => false,
            FrameType::Skip if !is_key => {
                self.encoder = Some(encoder);
                return Some(Coded::Skipped);
            }
            // Nothing that a decoder could begin with.
            _ => return None,
        };
        let data = stream.to_vec();
        self.encoder = Some(encoder);
        let (width, height) = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
        Some(Coded::Picture { data, is_key, width, height })
    }
}

fn begin(bit_rate: u32) -> Option<Encoder> {
    // For video and not for screens: the same rate then gives four times the pictures.
    let config = EncoderConfig::new()
        .usage_type(UsageType::CameraVideoRealTime)
        .complexity(Complexity::Low)
        .profile(Profile::Baseline)
        .rate_control_mode(RateControlMode::Bitrate)
        .bitrate(BitRate::from_bps(bit_rate))
        .max_frame_rate(FrameRate::from_hz(PICTURES_PER_SECOND))
        .skip_frames(true)
        .scene_change_detect(false)
        .num_threads(1)
        .vui(VuiConfig::bt709());
    Encoder::with_api_config(OpenH264API::from_source(), config).ok()
}

/// Even, and not more than [`CODED_PIXELS_MAX`].
fn coded_size(width: u32, height: u32) -> [u32; 2] {
    let pixels = u64::from(width) * u64::from(height);
    let even = |side: u32| side.div_ceil(2).max(8) * 2;
    if pixels <= CODED_PIXELS_MAX {
        return [even(width), even(height)];
    }
    // width * height / pixels * most, with the same proportions.
    let scaled = (u64::from(width) * u64::from(width) * CODED_PIXELS_MAX / pixels).isqrt();
    let rows = scaled * u64::from(height) / u64::from(width).max(1);
    [scaled, rows].map(|side| even(u32::try_from(side).unwrap_or(u32::MAX).saturating_sub(1)))
}

/// Pixels seen in another size.
struct Scaled<'a> {
    pixels: &'a [u32],
    stride: usize,
    /// For each column, that of two source columns which are its mean.
    columns: Vec<[usize; 2]>,
    rows: Vec<[usize; 2]>,
}

impl<'a> Scaled<'a> {
    fn new(pixels: &'a [u32], from: [u32; 2], to: [u32; 2]) -> Self {
        let side = |side: u32| usize::try_from(side).unwrap_or(0);
        let [width, height] = from.map(side);
        let [columns, rows] = to.map(side);
        Self {
            pixels,
            stride: width,
            columns: sources(width, columns),
            rows: sources(height, rows),
        }
    }

    /// The colour at these source columns and rows, the mean of up to four pixels.
    fn at(&self, columns: [usize; 2], rows: [usize; 2]) -> u32 {
        let pixel = |column, row| self.pixels.get(row * self.stride + column).copied().unwrap_or(0);
        let [left, right] = columns;
        let [top, bottom] = rows;
        if left == right && top == bottom {
            return pixel(left, top);
        }
        mean(
            mean(pixel(left, top), pixel(right, top)),
            mean(pixel(left, bottom), pixel(right, bottom)),
        )
    }

    /// BT.709, limited range, 4:2:0.
    fn convert(&self, planes: &mut Vec<u8>) {
        let (width, height) = (self.columns.len(), self.rows.len());
        planes.clear();
        planes.resize(width * height * 3 / 2, 0);
        let (luma, chroma) = planes.split_at_mut(width * height);
        let (blues, reds) = chroma.split_at_mut(width * height / 4);
        let lines = luma.chunks_exact_mut((width * 2).max(1));
        let halves = (width / 2).max(1);
        let chroma = blues.chunks_exact_mut(halves).zip(reds.chunks_exact_mut(halves));
        for ((lines, (blues, reds)), rows) in lines.zip(chroma).zip(self.rows.as_chunks::<2>().0) {
            let (upper, lower) = lines.split_at_mut(width);
            let pairs = upper.as_chunks_mut::<2>().0.iter_mut().zip(lower.as_chunks_mut::<2>().0);
            let chroma = blues.iter_mut().zip(reds.iter_mut());
            for ((([a, b], [c, d]), (blue, red)), columns) in
                pairs.zip(chroma).zip(self.columns.as_chunks::<2>().0)
            {
                let &[left, right] = columns;
                let &[top, bottom] = rows;
                let upper = [self.at(left, top), self.at(right, top)];
                let lower = [self.at(left, bottom), self.at(right, bottom)];
                [*a, *b] = upper.map(brightness);
                [*c, *d] = lower.map(brightness);
                [*blue, *red] = tint(mean(mean(upper[0], upper[1]), mean(lower[0], lower[1])));
            }
        }
    }
}

/// For each of `to` positions the two of `from` positions that it lies on.
fn sources(from: usize, to: usize) -> Vec<[usize; 2]> {
    let last = from.saturating_sub(1);
    // Only rounded up to an even number: the last is repeated.
    let is_same = to <= from + 16 && from <= to;
    (0..to)
        .map(|position| {
            if is_same {
                return [position.min(last); 2];
            }
            let first = position * from / to.max(1);
            [first.min(last), (first + 1).min(last)]
        })
        .collect()
}

/// Of each colour by itself.
const fn mean(a: u32, b: u32) -> u32 {
    (a & b) + (((a ^ b) & 0x00fe_fefe) >> 1)
}

/// 16 to 235.
fn brightness(pixel: u32) -> u8 {
    let [_, red, green, blue] = pixel.to_be_bytes().map(u32::from);
    let sum = (47 * red + 157 * green + 16 * blue + 128) >> 8;
    u8::try_from(16 + sum).unwrap_or(235)
}

/// Blue and red difference, 16 to 240.
fn tint(pixel: u32) -> [u8; 2] {
    let [_, red, green, blue] = pixel.to_be_bytes().map(i32::from);
    let byte = |sum: i32| u8::try_from(128 + ((sum + 128) >> 8)).unwrap_or(128);
    [byte(112 * blue - 26 * red - 86 * green), byte(112 * red - 102 * green - 10 * blue)]
}

#[cfg(test)]
mod tests {
    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;

    use super::*;

    /// A soft picture that moves.
    fn picture(width: u32, height: u32, step: u32) -> Vec<u32> {
        let pixel = |x: u32, y: u32| {
            let (red, green) = ((x + step * 3) % 256, (y * 2 + step) % 256);
            (red << 16) | (green << 8) | ((x + y) / 4 % 256)
        };
        (0..height).flat_map(|y| (0..width).map(move |x| pixel(x, y))).collect()
    }

    #[test]
    fn pictures_follow_each_other_and_a_key_frame_comes_when_asked_for() {
        let mut encoder = VideoEncoder::new(1_000_000);
        let mut decoder = Decoder::new().unwrap();
        let area = Rect::of_size(161, 97);
        for number in 0..12_u32 {
            let at = Duration::from_millis(u64::from(number) * 40);
            let pixels = picture(161, 97, number);
            let coded = encoder.encode(&area, &pixels, at, number % 5 == 0).unwrap();
            let Coded::Picture { data, is_key, width, height } = coded else {
                panic!("picture {number} is skipped")
            };
            assert_eq!(is_key, number % 5 == 0);
            assert_eq!((width, height), (162, 98));
            let shown = decoder.decode(&data).unwrap().unwrap();
            assert_eq!(shown.dimensions(), (162, 98));
            // Brightness in the middle is near what went in.
            let (x, y) = (80, 48);
            let wanted = brightness(pixels[y * 161 + x]);
            let seen = shown.y()[y * shown.strides().0 + x];
            assert!(wanted.abs_diff(seen) < 24, "{wanted} became {seen}");
        }
    }

    #[test]
    fn large_areas_are_scaled_down_and_none_is_odd() {
        for (size, expected) in [
            ([96, 96], [96, 96]),
            ([1279, 719], [1280, 720]),
            ([1920, 1080], [1280, 720]),
            ([3840, 2160], [1280, 720]),
            ([4096, 800], [2172, 424]),
        ] {
            assert_eq!(coded_size(size[0], size[1]), expected, "{size:?}");
        }
    }

    #[test]
    fn colours_are_those_of_bt_709() {
        for (pixel, expected) in [
            (0x0000_0000, [16, 128, 128]),
            (0x00ff_ffff, [235, 128, 128]),
            (0x00ff_0000, [63, 102, 240]),
            (0x0000_ff00, [172, 42, 26]),
            (0x0000_00ff, [32, 240, 118]),
        ] {
            let [blue, red] = tint(pixel);
            let seen = [brightness(pixel), blue, red];
            let is_near = seen
                .iter()
                .zip(expected)
                .all(|(seen, wanted): (&u8, u8)| seen.abs_diff(wanted) <= 1);
            assert!(is_near, "{pixel:x}: {seen:?}, not {expected:?}");
        }
    }
}
