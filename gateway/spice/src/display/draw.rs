//! What drawing messages have in common: destination, clip, brush and mask (`spice.proto`,
//! `DisplayBase`, `Clip`, `Brush`, `QMask`).

use crate::channel::too_large;
use crate::error::SpiceError;
use crate::geometry::{Point, Rect, SurfaceId};
use crate::unsupported::Feature;
use crate::wire::Reader;

use super::bitmap::{Picture, PictureAlpha};
use super::cache::{Fidelity, PIXMAP_CACHE_PIXELS};
use super::event::Pixels;
use super::image::{Caches, Image};
use super::paint::{BitOrder, Bits};
use super::work;

/// Rectangles of one clip; a window system that needs more has lost its senses.
const CLIP_RECTS_MAX: u32 = 16_384;

/// Pixels that one message may draw on: those of the largest surface twice. Rectangles of a clip
/// do not overlap, so that a server that keeps to the protocol needs each pixel once.
pub(super) const DRAWN_PIXELS_MAX: u64 = 2 * super::SURFACE_PIXELS_MAX;

/// Pairs of a run of pixels and a rectangle of the clip that one message may make us compare:
/// some tenths of a second.
const CLIP_COMPARISONS_MAX: usize = 1 << 26;

/// `SPICE_MASK_FLAGS_INVERS`
const MASK_INVERTED: u8 = 1;
/// `SPICE_BITMAP_FLAGS_PAL_FROM_CACHE`
const PALETTE_FROM_CACHE: u8 = 2;
/// `SPICE_BITMAP_FLAGS_TOP_DOWN`
const TOP_DOWN: u8 = 4;
/// `SPICE_IMAGE_FLAGS_CACHE_ME`
const CACHE_ME: u8 = 1;

/// `DisplayBase`: surface u32, box, clip.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) surface: SurfaceId,
    /// The destination before clipping.
    pub(super) target: Rect,
    clip: Option<Vec<Rect>>,
}

/// `Brush`: type u8, then colour u32 or pattern (pointer u32, point).
#[derive(Debug)]
pub(super) enum Brush {
    None,
    /// In the form of the surface.
    Solid(u32),
    /// Repeated from this place of the surface on.
    Pattern(Image, Point),
}

/// `QMask`, if there is one.
#[derive(Debug)]
pub(super) struct Mask {
    pub(super) image: MaskImage,
    /// Whether it is the pixels that are not set that are drawn.
    pub(super) inverted: bool,
    /// The pixel that belongs to the left top corner of the destination.
    pub(super) position: Point,
}

/// What a mask's image field holds.
#[derive(Debug)]
pub(super) enum MaskImage {
    Bits(Bits),
    Image(Image),
}

impl Base {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, SpiceError> {
        let surface = SurfaceId(reader.u32()?);
        let target = reader.rect()?;
        let clip = clip(reader)?;
        Ok(Self { surface, target, clip })
    }

    /// Of a drawing that is not a message of its own.
    pub(super) const fn new(surface: SurfaceId, target: Rect, clip: Option<Vec<Rect>>) -> Self {
        Self { surface, target, clip }
    }

    /// The destination inside `bounds`, clipped; no rectangle is empty.
    pub(super) fn rects(&self, bounds: &Rect) -> Result<Vec<Rect>, SpiceError> {
        let bounds = self.target.intersect(bounds);
        let Some(clip) = &self.clip else {
            return Ok(if bounds.is_empty() { Vec::new() } else { vec![bounds] });
        };
        let clipped = clip.iter().map(|rect| rect.intersect(&bounds));
        let rects: Vec<Rect> = clipped.filter(|rect| !rect.is_empty()).collect();
        check_pixels("drawing in pixels", &rects)?;
        Ok(rects)
    }

    /// What to add to a destination pixel to get its source, when `source` is the position that
    /// belongs to the destination's left top corner, and the same the other way round.
    pub(super) fn offsets(&self, source: Point) -> Result<(Point, Point), SpiceError> {
        let corner = Point::new(self.target.left, self.target.top);
        match (difference(source, corner), difference(corner, source)) {
            (Some(there), Some(back)) => Ok((there, back)),
            _ => Err(SpiceError::Malformed {
                what: "drawing",
                problem: "its source and destination are too far apart",
            }),
        }
    }
}

fn check_pixels(what: &'static str, rects: &[Rect]) -> Result<(), SpiceError> {
    let value = rects.iter().fold(0_u64, |sum, rect| sum.saturating_add(rect.area()));
    let limit = DRAWN_PIXELS_MAX;
    if value > limit { Err(SpiceError::TooLarge { what, value, limit }) } else { Ok(()) }
}

fn difference(of: Point, and: Point) -> Option<Point> {
    Some(Point { x: of.x.checked_sub(and.x)?, y: of.y.checked_sub(and.y)? })
}

/// `Clip`: type u8, then for RECTS: count u32, rectangles.
pub(super) fn clip(reader: &mut Reader<'_>) -> Result<Option<Vec<Rect>>, SpiceError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(clip_rects(reader)?)),
        _ => Err(reader.malformed("its clip has an unknown type")),
    }
}

fn clip_rects(reader: &mut Reader<'_>) -> Result<Vec<Rect>, SpiceError> {
    let count = reader.u32()?;
    if count > CLIP_RECTS_MAX {
        let limit = usize::try_from(CLIP_RECTS_MAX).unwrap_or(usize::MAX);
        return Err(too_large("number of clip rectangles", count.into(), limit));
    }
    (0..count).map(|_| reader.rect()).collect()
}

/// The parts of `runs` inside of `rects`, at most `limit` of them.
pub(super) fn clip_runs(
    runs: Vec<Rect>,
    rects: &[Rect],
    limit: usize,
) -> Result<Vec<Rect>, SpiceError> {
    let comparisons = runs.len().saturating_mul(rects.len());
    if comparisons > CLIP_COMPARISONS_MAX {
        let value = u64::try_from(comparisons).unwrap_or(u64::MAX);
        return Err(too_large("stroke times its clip", value, CLIP_COMPARISONS_MAX));
    }
    if let [all] = rects
        && runs.iter().all(|run| all.contains(run))
    {
        return Ok(runs);
    }
    let parts = |run: Rect| {
        rects.iter().map(move |rect| rect.intersect(&run)).filter(|part| !part.is_empty())
    };
    let parts = runs.into_iter().flat_map(parts);
    let parts: Vec<Rect> = parts.take(limit.saturating_add(1)).collect();
    if parts.len() > limit {
        let value = u64::try_from(parts.len()).unwrap_or(u64::MAX);
        return Err(too_large("clipped stroke in runs of pixels", value, limit));
    }
    check_pixels("clipped stroke in pixels", &parts)?;
    Ok(parts)
}

pub(super) fn brush(reader: &mut Reader<'_>, caches: &mut Caches) -> Result<Brush, SpiceError> {
    match reader.u8()? {
        0 => Ok(Brush::None),
        1 => Ok(Brush::Solid(reader.u32()?)),
        2 => {
            let (image, position) = (reader.pointer()?, reader.point()?);
            let Some(image) = image else {
                return Err(reader.malformed("its brush has no pattern"));
            };
            // The image is read in any case: it may be for the cache.
            let image = caches.image(&mut reader.at(image, "pattern")?)?;
            Ok(Brush::Pattern(image, position))
        }
        _ => Err(reader.malformed("its brush has an unknown type")),
    }
}

/// `QMask`: flags u8, position, pointer u32.
pub(super) fn mask(
    reader: &mut Reader<'_>,
    caches: &mut Caches,
) -> Result<Option<Mask>, SpiceError> {
    let (flags, position) = (reader.u8()?, reader.point()?);
    let Some(offset) = reader.pointer()? else { return Ok(None) };
    let image = mask_image(&mut reader.at(offset, "mask")?, caches)?;
    Ok(Some(Mask { image, inverted: flags & MASK_INVERTED != 0, position }))
}

/// `ImageDescriptor`, of which only a bitmap differs from other images: it needs no palette.
fn mask_image(reader: &mut Reader<'_>, caches: &mut Caches) -> Result<MaskImage, SpiceError> {
    let mut fields = reader.clone();
    let (id, kind, flags) = (fields.u64()?, fields.u8()?, fields.u8()?);
    let (_width, _height) = (fields.u32()?, fields.u32()?);
    if kind != 0 {
        return Ok(MaskImage::Image(caches.image(reader)?));
    }
    let (format, bitmap_flags) = (fields.u8()?, fields.u8()?);
    let (width, height, stride) = (fields.u32()?, fields.u32()?, fields.u32()?);
    if bitmap_flags & PALETTE_FROM_CACHE != 0 {
        let _palette = fields.u64()?;
    } else {
        let _palette = fields.u32()?;
    }
    let order = match format {
        1 => BitOrder::LowFirst,
        2 => BitOrder::HighFirst,
        number => {
            let feature = Feature::BitmapFormat(number);
            return Ok(MaskImage::Image(Image::Unsupported(feature)));
        }
    };
    if width.div_ceil(8) > stride {
        return Err(fields.malformed("its stride is below its width"));
    }
    let bytes = u64::from(stride) * u64::from(height);
    let data = fields.bytes(usize::try_from(bytes).unwrap_or(usize::MAX))?;
    let stride = usize::try_from(stride).unwrap_or(usize::MAX);
    let top_down = bitmap_flags & TOP_DOWN != 0;
    let bits = Bits { width, height, stride, order, top_down, data };
    if flags & CACHE_ME != 0 {
        caches.count(width, height, work::COPIED);
        match mask_picture(&bits) {
            Some(picture) => caches.pixmaps.insert(id, &picture, Fidelity::Lossless)?,
            None => caches.pixmaps.remove(id),
        }
    }
    Ok(MaskImage::Bits(bits))
}

/// A mask as an image of its alpha, for the cache; `None` if it is larger than the cache is.
fn mask_picture(bits: &Bits) -> Option<Picture> {
    let (width, height) = (bits.width, bits.height);
    let area = u64::from(width) * u64::from(height);
    if area == 0 || area > PIXMAP_CACHE_PIXELS {
        return None;
    }
    let stride = usize::try_from(width).ok()?.checked_mul(4)?;
    let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let alpha = |(x, y)| if bits.is_set(x, y) { 255 } else { 0 };
    let data: Vec<u8> = rows.flat_map(|place| [0, 0, 0, alpha(place)]).collect();
    let pixels = Pixels { width, height, stride, data: data.into() };
    Some(Picture { pixels, alpha: PictureAlpha::Own })
}

/// Puts rectangles that are all moved by -`offset` in an order in which none overwrites what a
/// later one reads, as long as they are disjoint and in bands, as servers make them.
pub(super) fn order_for_move(rects: &mut [Rect], offset: Point) {
    rects.sort_by_key(|rect| {
        let row = if offset.y < 0 { i64::from(rect.top).wrapping_neg() } else { rect.top.into() };
        let column =
            if offset.x < 0 { i64::from(rect.left).wrapping_neg() } else { rect.left.into() };
        (row, column)
    });
}
