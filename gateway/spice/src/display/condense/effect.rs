//! What a display message does with the pixels of the shown surface and with the image cache, as far
//! as one has to know it to send some pictures inexact and others later.

use bytes::{BufMut, Bytes, BytesMut};

use crate::channel::{self, FIRST_OF_KIND};
use crate::codec::Size;
use crate::error::SpiceError;
use crate::geometry::{Point, Rect};
use crate::wire::Reader;

use super::super::draw::Base;
use super::super::forgotten_pixmaps;
use super::super::image::{CACHED_FLAGS, TOP_DOWN, kind as image};
use super::super::numbers::server;
use super::super::raster::OP_PUT;

/// Where no surface reaches, but what a clip leaves of a destination has to be inside of.
const EVERYWHERE: Rect = Rect::new(-(1 << 24), -(1 << 24), 1 << 24, 1 << 24);
/// Rectangles of one clip that are told apart.
const RECTS_MAX: usize = 64;
/// `QMask` without a picture: flags u8, position, pointer u32.
const MASK_BYTES: usize = 13;
/// Place of the flags in `ImageDescriptor`.
const FLAGS: usize = 9;
/// `ImageDescriptor` and what follows it in a bitmap without a palette.
pub(super) const BITMAP_HEAD_BYTES: usize = 18 + 2 + 12 + 4;

/// What a message does.
#[derive(Debug)]
pub(super) enum Effect {
    /// Nothing of what is looked at here.
    Nothing,
    /// A picture that could travel in another form.
    Puts(Put),
    /// Writes just these pixels, reading none; an image of this number is new in the cache.
    Replaces { rects: Vec<Rect>, image: Option<u64> },
    /// Reads or changes pixels inside of these.
    Uses(Vec<Rect>),
    /// Writes just these pixels, with the image of this number from the cache.
    Recalls { rects: Vec<Rect>, image: u64 },
    /// The cache loses these images.
    Forgets(Vec<u64>),
    /// The cache loses all.
    ForgetsAll,
    /// It could do anything.
    Anything,
}

/// A copy of a whole bitmap of 32 bits a pixel to the shown surface.
#[derive(Clone, Debug)]
pub(super) struct Put {
    /// Where to, before clipping.
    pub(super) target: Rect,
    /// What of that is written.
    pub(super) rects: Vec<Rect>,
    scale_mode: u8,
    /// The image's number.
    pub(super) id: u64,
    flags: u8,
    /// `SpiceBitmapFmt`
    pub(super) format: u8,
    pub(super) size: Size,
    /// Image with its descriptor, as the server sent it.
    image: Bytes,
}

/// Whether a picture that is sent once more goes into the client's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cached {
    AsMeant,
    Not,
}

/// A picture in another form than the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Jpeg,
    Lz4,
}

impl Effect {
    /// Of the message of this kind.
    pub(super) fn of(kind: u16, body: &Bytes) -> Self {
        let effect = match kind {
            channel::server::LIST => of_list(body),
            any if any < FIRST_OF_KIND => Ok(Self::Nothing),
            server::MARK
            | server::MONITORS_CONFIG
            | server::INVAL_PALETTE
            | server::INVAL_ALL_PALETTES
            | server::STREAM_ACTIVATE_REPORT => Ok(Self::Nothing),
            server::INVAL_LIST => forgotten_pixmaps(body).map(Self::Forgets),
            server::INVAL_ALL_PIXMAPS => Ok(Self::ForgetsAll),
            server::SURFACE_CREATE | server::SURFACE_DESTROY => of_surface(body),
            server::DRAW_COPY => of_copy(body),
            server::DRAW_FILL => of_fill(body),
            server::COPY_BITS => of_copy_bits(body),
            _ => Ok(Self::Anything),
        };
        // What the client will find damaged is judged there.
        effect.unwrap_or(Self::Anything)
    }
}

impl Put {
    /// Blue, green, red and a fourth byte of each pixel, top row first.
    pub(super) fn pixels(&self) -> Bytes {
        self.image.slice(BITMAP_HEAD_BYTES.min(self.image.len())..)
    }

    /// Whether the client is to keep it.
    pub(super) const fn is_cached(&self) -> bool {
        self.flags & CACHED_FLAGS != 0
    }

    /// Its number, if the client is to keep it.
    pub(super) fn cached_id(&self) -> Option<u64> {
        self.is_cached().then_some(self.id)
    }

    /// Bytes of the image.
    pub(super) const fn bytes(&self) -> usize {
        self.image.len()
    }

    /// The body of a copy of it, in pieces, that writes only `rects` of it, and puts it into the
    /// client's cache if it was meant to be there and `cached`.
    pub(super) fn exact(&self, rects: &[Rect], cached: Cached) -> [Bytes; 2] {
        let mut head = self.head(rects);
        let descriptor = self.image.get(..BITMAP_HEAD_BYTES).unwrap_or_default();
        let flags = head.len() + FLAGS;
        head.put_slice(descriptor);
        if let (Cached::Not, Some(flags)) = (cached, head.get_mut(flags)) {
            *flags &= !CACHED_FLAGS;
        }
        [head.freeze(), self.pixels()]
    }

    /// The body of a copy of the same picture in this form.
    pub(super) fn packed(&self, form: Form, data: &[u8]) -> Bytes {
        let mut body = self.head(&self.rects);
        body.reserve(data.len() + 32);
        let length = |extra: usize| u32::try_from(data.len() + extra).unwrap_or(u32::MAX);
        body.put_u64_le(self.id);
        match form {
            Form::Jpeg => {
                body.put_u8(image::JPEG);
                // The client must not keep what is not exact.
                body.put_u8(self.flags & !CACHED_FLAGS);
            }
            Form::Lz4 => {
                body.put_u8(image::LZ4);
                body.put_u8(self.flags);
            }
        }
        body.put_u32_le(self.size.width);
        body.put_u32_le(self.size.height);
        match form {
            Form::Jpeg => body.put_u32_le(length(0)),
            Form::Lz4 => {
                body.put_u32_le(length(6));
                body.put_u8(1);
                body.put_u8(self.format);
                body.put_u32(length(0));
            }
        }
        body.put_slice(data);
        body.freeze()
    }

    /// `DisplayBase` and `Copy`, up to the image that follows.
    fn head(&self, rects: &[Rect]) -> BytesMut {
        let mut head = BytesMut::new();
        head.put_u32_le(0);
        put_rect(&mut head, &self.target);
        if rects == [self.target] {
            head.put_u8(0);
        } else {
            head.put_u8(1);
            head.put_u32_le(u32::try_from(rects.len()).unwrap_or(0));
            rects.iter().for_each(|rect| put_rect(&mut head, rect));
        }
        let image = head.len() + 4 + 16 + 2 + 1 + MASK_BYTES;
        head.put_u32_le(u32::try_from(image).unwrap_or(0));
        put_rect(&mut head, &Rect::of_size(self.size.width, self.size.height));
        head.put_u16_le(OP_PUT);
        head.put_u8(self.scale_mode);
        head.put_bytes(0, MASK_BYTES);
        head
    }
}

fn put_rect(out: &mut BytesMut, rect: &Rect) {
    [rect.top, rect.left, rect.bottom, rect.right].iter().for_each(|edge| out.put_i32_le(*edge));
}

/// Only what spice-server puts into lists is looked at: what the cache loses.
fn of_list(body: &Bytes) -> Result<Effect, SpiceError> {
    let mut lost = Vec::new();
    for message in channel::sub_messages(body)? {
        match Effect::of(message.kind, &message.body) {
            Effect::Nothing => {}
            Effect::Forgets(images) => lost.extend(images),
            _ => return Ok(Effect::Anything),
        }
    }
    Ok(if lost.is_empty() { Effect::Nothing } else { Effect::Forgets(lost) })
}

/// What becomes of other surfaces than the shown one is nothing to us.
fn of_surface(body: &Bytes) -> Result<Effect, SpiceError> {
    let shown = Reader::new(body, "surface").u32()? == 0;
    Ok(if shown { Effect::Anything } else { Effect::Nothing })
}

/// The pixels that a drawing touches.
fn touched(base: &Base) -> Result<Vec<Rect>, SpiceError> {
    base.rects(&EVERYWHERE)
}

/// `Copy`: pointer, area, operation u16, scale mode u8, mask.
fn of_copy(body: &Bytes) -> Result<Effect, SpiceError> {
    let mut reader = Reader::new(body, "copy");
    let base = Base::read(&mut reader)?;
    let (source, area) = (reader.pointer()?, reader.rect()?);
    let (operation, scale_mode) = (reader.u16()?, reader.u8()?);
    let (_mask_flags, _position) = (reader.u8()?, reader.point()?);
    let (Some(source), None) = (source, reader.pointer()?) else { return Ok(Effect::Anything) };
    let mut image = reader.at(source, "image")?;
    let whole = image.clone().rest();
    let (id, kind, flags) = (image.u64()?, image.u8()?, image.u8()?);
    let size = Size::new(image.u32()?, image.u32()?)?;
    let rects = touched(&base)?;
    let kept = Some(id).filter(|_| flags & CACHED_FLAGS != 0);
    if kind == image::SURFACE {
        return Ok(of_surface_copy(image.u32()?, &base, kept));
    }
    let recalled = matches!(kind, image::FROM_CACHE | image::FROM_CACHE_LOSSLESS);
    if base.surface.0 != 0 {
        return Ok(match recalled {
            true => Effect::Recalls { rects: Vec::new(), image: id },
            false => Effect::Replaces { rects: Vec::new(), image: kept },
        });
    }
    let bounds = Rect::of_size(size.width, size.height);
    // Of an area that is partly beside the image, a part is not drawn.
    let is_whole = !area.is_empty() && bounds.contains(&area);
    if operation != OP_PUT || rects.len() > RECTS_MAX || !is_whole {
        return Ok(Effect::Anything);
    }
    if recalled {
        return Ok(Effect::Recalls { rects, image: id });
    }
    if kind == image::BITMAP {
        let (format, bitmap_flags) = (image.u8()?, image.u8()?);
        let sides = [image.u32()?, image.u32()?, image.u32()?];
        let palette = image.u32()?;
        if sides.first_chunk() != Some(&[size.width, size.height]) {
            return Ok(Effect::Anything);
        }
        let tight = sides.last() == Some(&size.width.saturating_mul(4)) && area == bounds;
        let unscaled = [base.target.width(), base.target.height()] == [size.width, size.height];
        let plain = matches!(format, 8 | 9) && bitmap_flags == TOP_DOWN && palette == 0;
        let bytes = BITMAP_HEAD_BYTES + size.area() * 4;
        if tight && unscaled && plain && bytes <= whole.len() {
            let image = whole.slice(..bytes);
            let target = base.target;
            let put = Put { target, rects, scale_mode, id, flags, format, size, image };
            return Ok(Effect::Puts(put));
        }
    }
    Ok(Effect::Replaces { rects, image: kept })
}

/// A copy of another surface, whose size nobody knows here: perhaps not all is written.
fn of_surface_copy(from: u32, base: &Base, kept: Option<u64>) -> Effect {
    if from == 0 || kept.is_some() {
        return Effect::Anything;
    }
    if base.surface.0 == 0 { Effect::Uses(vec![base.target]) } else { Effect::Nothing }
}

/// `Fill`: brush (type u8, colour u32), operation u16, mask.
fn of_fill(body: &Bytes) -> Result<Effect, SpiceError> {
    let mut reader = Reader::new(body, "fill");
    let base = Base::read(&mut reader)?;
    let brush = reader.u8()?;
    if brush > 1 {
        return Ok(Effect::Anything);
    }
    if brush == 1 {
        let _color = reader.u32()?;
    }
    let operation = reader.u16()?;
    let (_mask_flags, _position) = (reader.u8()?, reader.point()?);
    if reader.pointer()?.is_some() {
        return Ok(Effect::Anything);
    }
    if base.surface.0 != 0 {
        return Ok(Effect::Nothing);
    }
    let rects = touched(&base)?;
    Ok(match brush == 1 && operation == OP_PUT && rects.len() <= RECTS_MAX {
        true => Effect::Replaces { rects, image: None },
        false => Effect::Uses(vec![base.target]),
    })
}

/// `copy_bits`: source position.
fn of_copy_bits(body: &Bytes) -> Result<Effect, SpiceError> {
    let mut reader = Reader::new(body, "move");
    let base = Base::read(&mut reader)?;
    let from = reader.point()?;
    if base.surface.0 != 0 {
        return Ok(Effect::Nothing);
    }
    let corner = Point::new(base.target.left, base.target.top);
    let offset = Point::new(from.x.saturating_sub(corner.x), from.y.saturating_sub(corner.y));
    Ok(Effect::Uses(vec![base.target, base.target.moved(offset)]))
}
