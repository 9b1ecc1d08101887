//! Encoding of parts of the picture: jobs that the caller runs where it likes, and their results.

mod video;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use image_webp::{ColorType, WebPEncoder};
use jpeg_encoder::SamplingFactor;
use vidi_spice::Rect;

use self::video::Coded;
pub(crate) use self::video::{CODED_PIXELS_MAX, VideoEncoder};
use crate::palette::Paletted;
use crate::protocol::{Codec, Record, VideoPicture, kind};

/// Number of a job, never used twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(crate) u64);

/// How pixels are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coding {
    /// Lossless, quick.
    Png,
    /// Lossless.
    WebP,
    /// For photos, not exact.
    Jpeg {
        /// 1 to 100.
        quality: u8,
    },
}

impl Coding {
    /// Whether the browser gets the very pixels.
    pub(crate) const fn is_exact(self) -> bool {
        !matches!(self, Self::Jpeg { .. })
    }
}

/// The next picture of a video region's stream.
#[derive(Clone, Debug)]
pub(crate) struct VideoWork {
    /// With what it remembers of the pictures before. Jobs of one encoder are never run side by
    /// side: the next is made when the result of the one before is there.
    pub(crate) encoder: Arc<Mutex<VideoEncoder>>,
    /// The number of the region.
    pub(crate) region: u8,
    /// When the picture was shown, since any origin.
    pub(crate) at: Duration,
    /// It is to be a key frame.
    pub(crate) is_key: bool,
}

/// Whether the record of a picture of a stream draws nothing, because its rate had no room for one.
pub(crate) fn is_skipped(record: &[u8]) -> bool {
    record.first() == Some(&kind::PARTIAL)
}

/// Quality of the picture that is sent where an encoder of video fails.
const SUBSTITUTE_QUALITY: u8 = 50;

#[derive(Clone, Debug)]
enum Work {
    Image(Coding),
    Video(VideoWork),
}

/// Pixels to encode, by [`encode`], on any thread. Every job wants its result handed back.
#[derive(Clone)]
pub struct EncodeJob {
    /// What the result is handed back under.
    pub id: JobId,
    /// Where the pixels are shown.
    pub(crate) area: Rect,
    work: Work,
    /// `0x00RRGGBB`, as many as `area` has.
    pub(crate) pixels: Vec<u32>,
}

impl EncodeJob {
    /// An image of `area`.
    pub(crate) const fn image(id: JobId, area: Rect, coding: Coding, pixels: Vec<u32>) -> Self {
        Self { id, area, work: Work::Image(coding), pixels }
    }

    /// The next picture of a stream.
    pub(crate) const fn video(id: JobId, area: Rect, work: VideoWork, pixels: Vec<u32>) -> Self {
        Self { id, area, work: Work::Video(work), pixels }
    }
}

impl fmt::Debug for EncodeJob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, area, work, pixels: _ } = self;
        write!(formatter, "{id:?} of {area:?}: {work:?}")
    }
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

/// Carries out a job. Pure. What does not become smaller by encoding, or does not encode, is sent
/// plain.
pub fn encode(job: &EncodeJob) -> Encoded {
    let EncodeJob { area, work, pixels, .. } = job;
    match work {
        Work::Image(coding) => encode_image(area, *coding, pixels),
        Work::Video(work) => encode_video(area, work, pixels),
    }
}

/// The next picture; a plain image where the encoder fails, which then begins anew.
fn encode_video(area: &Rect, work: &VideoWork, pixels: &[u32]) -> Encoded {
    // An encoder whose thread panicked has lost what it remembered, and knows that.
    let mut encoder = work.encoder.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(coded) = encoder.encode(area, pixels, work.at, work.is_key) else {
        return encode_image(area, Coding::Jpeg { quality: SUBSTITUTE_QUALITY }, pixels);
    };
    let picture = match &coded {
        Coded::Picture { data, is_key, width, height } => Record::Video(VideoPicture {
            area: *area,
            region: work.region,
            is_key: *is_key,
            width: *width,
            height: *height,
            data,
        }),
        // The region stays as it was, and the browser is told that it is no newer.
        Coded::Skipped => Record::Partial,
    };
    let mut record = Vec::new();
    picture.write(&mut record);
    Encoded(record.into())
}

fn encode_image(area: &Rect, coding: Coding, pixels: &[u32]) -> Encoded {
    let few_colors = if coding.is_exact() { paletted_png(area, pixels) } else { None };
    let encoded = match (few_colors, coding) {
        (Some(data), _) => Some((Codec::Png, data)),
        (None, Coding::WebP) => webp(area, pixels).map(|data| (Codec::WebP, data)),
        (None, Coding::Png) => png(area, pixels).map(|data| (Codec::Png, data)),
        (None, Coding::Jpeg { quality }) => {
            jpeg(area, pixels, quality).map(|data| (Codec::Jpeg, data))
        }
    };
    let mut record = Vec::new();
    match encoded.filter(|(_, data)| data.len() < pixels.len() * 4) {
        Some((codec, data)) => {
            let is_exact = coding.is_exact();
            Record::Image { area: *area, codec, is_exact, data: &data }.write(&mut record);
        }
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

/// Most colours of which the PNG of their numbers is taken: text and windows, of which it takes a third of
/// the bytes of WebP, since the encoder here finds no letters again.
const FEW_COLORS_MAX: usize = 256;

/// PNG of numbers of colours; `None` for what has more than [`FEW_COLORS_MAX`].
fn paletted_png(area: &Rect, pixels: &[u32]) -> Option<Vec<u8>> {
    if u64::try_from(pixels.len()).ok()? != area.area() {
        return None;
    }
    let width = usize::try_from(area.width()).ok()?;
    let Paletted { colors, bits, rows } = Paletted::new(pixels, width, FEW_COLORS_MAX)?;
    let mut data = Vec::with_capacity(rows.len() / 2);
    let mut encoder = png::Encoder::new(&mut data, area.width(), area.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(match bits {
        1 => png::BitDepth::One,
        2 => png::BitDepth::Two,
        4 => png::BitDepth::Four,
        _ => png::BitDepth::Eight,
    });
    encoder.set_palette(colors.concat());
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&rows).ok()?;
    writer.finish().ok().map(|()| data)
}

/// JPEG with halved colour, as photos are mostly; `None` for what the format cannot hold.
fn jpeg(area: &Rect, pixels: &[u32], quality: u8) -> Option<Vec<u8>> {
    let colors = colors(area, pixels)?;
    let (width, height) = (u16::try_from(area.width()).ok()?, u16::try_from(area.height()).ok()?);
    let mut data = Vec::with_capacity(pixels.len() / 4);
    let mut encoder = jpeg_encoder::Encoder::new(&mut data, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&colors, width, height, jpeg_encoder::ColorType::Rgb).ok().map(|()| data)
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
