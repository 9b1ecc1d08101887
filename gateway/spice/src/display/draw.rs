//! Where a drawing message draws: destination, clip, source (`spice.proto`, `DisplayBase`,
//! `Clip`, `QMask`, `Brush`).

use crate::channel::too_large;
use crate::error::SpiceError;
use crate::geometry::{Point, Rect, SurfaceId};
use crate::wire::Reader;

/// Rectangles of one clip; a window system that needs more has lost its senses.
const CLIP_RECTS_MAX: u32 = 16_384;

/// `DisplayBase`: surface u32, box, clip.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) surface: SurfaceId,
    /// The destination before clipping.
    pub(super) target: Rect,
    clip: Option<Vec<Rect>>,
}

/// `Brush`: type u8, then colour u32 or pattern (pointer u32, point).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brush {
    None,
    /// 0x00rrggbb
    Solid(u32),
    Pattern,
}

impl Base {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, SpiceError> {
        let surface = SurfaceId(reader.u32()?);
        let target = reader.rect()?;
        // Clip: type u8, then for RECTS: count u32, rectangles
        let clip = match reader.u8()? {
            0 => None,
            1 => Some(clip_rects(reader)?),
            _ => return Err(reader.malformed("its clip has an unknown type")),
        };
        Ok(Self { surface, target, clip })
    }

    /// The destination inside `bounds`, clipped; no rectangle is empty.
    pub(super) fn rects(&self, bounds: &Rect) -> Vec<Rect> {
        let bounds = self.target.intersect(bounds);
        match &self.clip {
            None if bounds.is_empty() => Vec::new(),
            None => vec![bounds],
            Some(clip) => {
                let clipped = clip.iter().map(|rect| rect.intersect(&bounds));
                clipped.filter(|rect| !rect.is_empty()).collect()
            }
        }
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

fn difference(of: Point, and: Point) -> Option<Point> {
    Some(Point { x: of.x.checked_sub(and.x)?, y: of.y.checked_sub(and.y)? })
}

fn clip_rects(reader: &mut Reader<'_>) -> Result<Vec<Rect>, SpiceError> {
    let count = reader.u32()?;
    if count > CLIP_RECTS_MAX {
        let limit = usize::try_from(CLIP_RECTS_MAX).unwrap_or(usize::MAX);
        return Err(too_large("number of clip rectangles", count.into(), limit));
    }
    (0..count).map(|_| reader.rect()).collect()
}

pub(super) fn brush(reader: &mut Reader<'_>) -> Result<Brush, SpiceError> {
    match reader.u8()? {
        0 => Ok(Brush::None),
        1 => Ok(Brush::Solid(reader.u32()?)),
        2 => {
            let (_image, _position) = (reader.u32()?, reader.point()?);
            Ok(Brush::Pattern)
        }
        _ => Err(reader.malformed("its brush has an unknown type")),
    }
}

/// `QMask`: flags u8, position, pointer u32; whether there is one.
pub(super) fn has_mask(reader: &mut Reader<'_>) -> Result<bool, SpiceError> {
    let (_flags, _position) = (reader.u8()?, reader.point()?);
    Ok(reader.pointer()?.is_some())
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
