//! Encoding of parts of the picture: jobs that the caller runs where it likes, and their results.

use bytes::Bytes;
use image_webp::{ColorType, WebPEncoder};
use vidi_spice::Rect;

use crate::protocol::{Codec, Record};

/// Number of a job, never used twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(crate) u64);

/// Pixels to encode, by [`encode`], on any thread. Every job wants its result handed back.
#[derive(Clone, Debug)]
pub struct EncodeJob {
    /// What the result is handed back under.
    pub id: JobId,
    /// Where the pixels are shown.
    pub(crate) area: Rect,
    /// The form.
    pub(crate) codec: Codec,
    /// `0x00RRGGBB`, as many as `area` has.
    pub(crate) pixels: Vec<u32>,
}

/// The result of a job: a whole record of the protocol.
#[derive(Clone, Debug)]
pub struct Encoded(pub(crate) Bytes);

impl Encoded {
    /// Bytes of the record.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes, which never happens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Carries out a job. Pure, and exact: the browser gets the very pixels. What does not become
/// smaller by encoding, or does not encode, is sent plain.
pub fn encode(job: &EncodeJob) -> Encoded {
    let EncodeJob { area, codec, pixels, .. } = job;
    let encoded = match codec {
        Codec::WebP => webp(area, pixels),
        Codec::Png => png(area, pixels),
    };
    let mut record = Vec::new();
    match encoded.filter(|data| data.len() < pixels.len() * 4) {
        Some(data) => Record::Image { area: *area, codec: *codec, data: &data }.write(&mut record),
        None => Record::Raw { area: *area, pixels }.write(&mut record),
    }
    Encoded(record.into())
}

/// Lossless WebP; `None` for what the format cannot hold.
fn webp(area: &Rect, pixels: &[u32]) -> Option<Vec<u8>> {
    let colors = colors(area, pixels)?;
    let mut data = Vec::with_capacity(pixels.len() / 4);
    WebPEncoder::new(&mut data)
        .encode(&colors, area.width(), area.height(), ColorType::Rgb8)
        .ok()
        .map(|()| data)
}

/// PNG, quick; `None` for what the format cannot hold.
fn png(area: &Rect, pixels: &[u32]) -> Option<Vec<u8>> {
    let colors = colors(area, pixels)?;
    let mut data = Vec::with_capacity(pixels.len() / 4);
    let mut encoder = png::Encoder::new(&mut data, area.width(), area.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&colors).ok()?;
    writer.finish().ok().map(|()| data)
}

/// Red, green, blue bytes; `None` unless there are as many pixels as `area` has, since the WebP
/// encoder insists.
fn colors(area: &Rect, pixels: &[u32]) -> Option<Vec<u8>> {
    if u64::try_from(pixels.len()).ok()? != area.area() {
        return None;
    }
    let mut colors = vec![0; pixels.len() * 3];
    for (color, pixel) in colors.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
        let [blue, green, red, _] = pixel.to_le_bytes();
        *color = [red, green, blue];
    }
    Some(colors)
}
