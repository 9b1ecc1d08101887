//! The display channel: from drawing messages to pixels (`spice.proto`, `DisplayChannel`).

mod bitmap;
mod cache;
mod draw;
mod event;
mod image;
mod numbers;
mod raster;
mod scale;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};

pub use event::{
    Combine, Copy, CopyBits, CopySource, DisplayEvent, Fill, Head, Monitors, Pixels, Surface,
    SurfaceFormat,
};

pub(crate) use bitmap::rgb555;

use crate::channel::{Channel, ChannelEvent, CommonEvent, Message, channel_waits, too_large};
use crate::error::SpiceError;
use crate::geometry::{Point, Rect, SurfaceId};
use crate::link::{Capabilities, ChannelKind, LinkSetup, Linked};
use crate::unsupported::{Feature, Operation, Unsupported};
use crate::wire::Reader;

use bitmap::Picture;
use draw::{Base, Brush};
use image::{Caches, Image};
use numbers::{client, server};
use raster::Combination;
use scale::ScaleMode;

/// Longest side of a surface, in pixels: twice an 8K monitor.
pub const SURFACE_SIDE_MAX: u32 = 16_384;
/// Pixels of one surface: an 8K monitor or four of 4K.
pub const SURFACE_PIXELS_MAX: u64 = 7680 * 4352;
/// Surfaces at once; QXL's default.
pub const SURFACES_MAX: usize = 1024;
/// Monitors of one channel; SPICE's own limit is 256, QXL's is 16.
pub const HEADS_MAX: u16 = 64;

/// `SPICE_DISPLAY_CAP_MONITORS_CONFIG`
const CAPABILITY_MONITORS_CONFIG: u32 = 1;
/// `SPICE_DISPLAY_CAP_PREF_COMPRESSION`
const CAPABILITY_PREFERRED_COMPRESSION: u32 = 6;
/// `SPICE_DISPLAY_CAP_MULTI_CODEC`; together with no codec: no video streams.
const CAPABILITY_MULTI_CODEC: u32 = 8;
/// `SPICE_IMAGE_COMPRESSION_OFF`
const COMPRESSION_OFF: u8 = 1;
/// Window of the GLZ dictionary, in pixels: too small for any image, so that none uses it.
const GLZ_WINDOW_PIXELS: i32 = 1;

/// A display channel connection.
#[derive(Debug)]
pub struct DisplayChannel {
    channel: Channel,
    /// Our number for the caches at the server; one of our own, so that no other display channel
    /// puts images into, or evicts them from, this channel's caches.
    cache_id: u8,
    caches: Caches,
    surfaces: BTreeMap<SurfaceId, Surface>,
}

impl DisplayChannel {
    /// A display channel that begins to link.
    pub fn new(setup: LinkSetup) -> Self {
        let capabilities = Capabilities::of(&[
            CAPABILITY_MONITORS_CONFIG,
            CAPABILITY_PREFERRED_COMPRESSION,
            CAPABILITY_MULTI_CODEC,
        ]);
        let cache_id = setup.channel_id;
        Self::over(Channel::new(ChannelKind::Display, capabilities, setup), cache_id)
    }

    fn over(channel: Channel, cache_id: u8) -> Self {
        Self { channel, cache_id, caches: Caches::default(), surfaces: BTreeMap::new() }
    }

    /// Takes bytes from the server, in any portions.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), SpiceError> {
        self.channel.receive(bytes)
    }

    /// The next effect; `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<DisplayEvent>, SpiceError> {
        while let Some(event) = self.channel.next_event()? {
            match event {
                ChannelEvent::Common(CommonEvent::Linked(linked)) => {
                    self.initialise(linked)?;
                    return Ok(Some(DisplayEvent::Common(CommonEvent::Linked(linked))));
                }
                ChannelEvent::Common(CommonEvent::Unsupported(unsupported)) => {
                    return Ok(Some(DisplayEvent::Unsupported(unsupported)));
                }
                ChannelEvent::Common(common) => return Ok(Some(DisplayEvent::Common(common))),
                ChannelEvent::Message(message) => {
                    if let Some(event) = self.handle(&message)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
        Ok(None)
    }

    /// All bytes that are to be sent to the server now, if any.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.channel.poll_transmit()
    }

    /// Serial of the last message, for [`CommonEvent::WaitForChannels`].
    pub const fn serial(&self) -> u64 {
        self.channel.serial()
    }

    /// `init`: cache id u8, cache size i64, dictionary id u8, window i32. Before it, since the
    /// server sends the first picture as soon as it has it: no compression.
    fn initialise(&mut self, linked: Linked) -> Result<(), SpiceError> {
        if linked.channel.has(CAPABILITY_PREFERRED_COMPRESSION) {
            self.channel.send(client::PREFERRED_COMPRESSION, &[COMPRESSION_OFF])?;
        }
        let mut init = Vec::with_capacity(14);
        init.put_u8(self.cache_id);
        init.put_u64_le(cache::PIXMAP_CACHE_PIXELS);
        init.put_u8(self.cache_id);
        init.put_i32_le(GLZ_WINDOW_PIXELS);
        self.channel.send(client::INIT, &init)
    }

    fn handle(&mut self, message: &Message) -> Result<Option<DisplayEvent>, SpiceError> {
        let body = &message.body;
        match message.kind {
            server::DRAW_COPY => self.draw_copy(body),
            server::DRAW_FILL => self.draw_fill(body),
            server::COPY_BITS => self.copy_bits(body),
            server::DRAW_BLACKNESS => self.draw_constant(body, raster::OP_BLACKNESS),
            server::DRAW_WHITENESS => self.draw_constant(body, raster::OP_WHITENESS),
            server::DRAW_INVERS => self.draw_constant(body, raster::OP_INVERS),
            server::DRAW_OPAQUE => Self::draw_unsupported(body, Operation::Opaque),
            server::DRAW_BLEND => Self::draw_unsupported(body, Operation::Blend),
            server::DRAW_ROP3 => Self::draw_unsupported(body, Operation::Rop3),
            server::DRAW_STROKE => Self::draw_unsupported(body, Operation::Stroke),
            server::DRAW_TEXT => Self::draw_unsupported(body, Operation::Text),
            server::DRAW_TRANSPARENT => Self::draw_unsupported(body, Operation::Transparent),
            server::DRAW_ALPHA_BLEND => Self::draw_unsupported(body, Operation::AlphaBlend),
            server::DRAW_COMPOSITE => Self::draw_unsupported(body, Operation::Composite),
            server::SURFACE_CREATE => self.surface_create(body).map(Some),
            server::SURFACE_DESTROY => self.surface_destroy(body),
            server::MODE => self.mode(body).map(Some),
            server::MONITORS_CONFIG => monitors(body).map(Some),
            server::MARK => Ok(Some(DisplayEvent::Mark)),
            server::RESET => {
                self.caches.palettes.clear();
                Ok(Some(DisplayEvent::Reset))
            }
            server::INVAL_LIST
            | server::INVAL_ALL_PIXMAPS
            | server::INVAL_PALETTE
            | server::INVAL_ALL_PALETTES => self.invalidate(message),
            // The data of a stream was announced as unsupported by its creation.
            server::STREAM_DATA..=server::STREAM_DESTROY_ALL
            | server::STREAM_DATA_SIZED
            | server::STREAM_ACTIVATE_REPORT => Ok(None),
            server::STREAM_CREATE => stream_create(body).map(Some),
            server::GL_SCANOUT_UNIX | server::GL_DRAW => {
                let feature = Feature::Operation(Operation::Gl);
                Ok(Some(DisplayEvent::Unsupported(Unsupported::nowhere(feature))))
            }
            other => {
                let feature = Feature::Message(other);
                Ok(Some(DisplayEvent::Unsupported(Unsupported::nowhere(feature))))
            }
        }
    }

    /// `surface_create`: id u32, width u32, height u32, format u32, flags u32.
    fn surface_create(&mut self, body: &Bytes) -> Result<DisplayEvent, SpiceError> {
        let mut reader = Reader::new(body, "surface");
        let id = SurfaceId(reader.u32()?);
        let (width, height) = (reader.u32()?, reader.u32()?);
        let format = match reader.u32()? {
            1 => SurfaceFormat::Alpha1,
            8 => SurfaceFormat::Alpha8,
            16 => SurfaceFormat::Rgb555,
            80 => SurfaceFormat::Rgb565,
            32 => SurfaceFormat::Xrgb32,
            96 => SurfaceFormat::Argb32,
            _ => return Err(reader.malformed("its format is unknown")),
        };
        let primary = reader.u32()? & 1 != 0;
        self.add_surface(Surface { id, width, height, format, primary })
    }

    /// `mode`, of servers without surfaces: width u32, height u32, bits u32.
    fn mode(&mut self, body: &Bytes) -> Result<DisplayEvent, SpiceError> {
        let mut reader = Reader::new(body, "mode");
        let (width, height, bits) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let format = if bits == 16 { SurfaceFormat::Rgb555 } else { SurfaceFormat::Xrgb32 };
        self.add_surface(Surface { id: SurfaceId(0), width, height, format, primary: true })
    }

    fn add_surface(&mut self, surface: Surface) -> Result<DisplayEvent, SpiceError> {
        let Surface { id, width, height, .. } = surface;
        let side = width.max(height);
        if width == 0 || height == 0 {
            return Err(SpiceError::Malformed { what: "surface", problem: "it has no pixels" });
        }
        if side > SURFACE_SIDE_MAX {
            let (what, limit) = ("surface's longest side", SURFACE_SIDE_MAX.into());
            return Err(SpiceError::TooLarge { what, value: side.into(), limit });
        }
        let area = u64::from(width) * u64::from(height);
        if area > SURFACE_PIXELS_MAX {
            let (what, limit) = ("surface's number of pixels", SURFACE_PIXELS_MAX);
            return Err(SpiceError::TooLarge { what, value: area, limit });
        }
        if self.surfaces.len() >= SURFACES_MAX && !self.surfaces.contains_key(&id) {
            let count = u64::try_from(self.surfaces.len()).unwrap_or(u64::MAX);
            return Err(too_large("number of surfaces", count.saturating_add(1), SURFACES_MAX));
        }
        self.surfaces.insert(id, surface);
        Ok(DisplayEvent::SurfaceCreated(surface))
    }

    fn surface_destroy(&mut self, body: &Bytes) -> Result<Option<DisplayEvent>, SpiceError> {
        let id = SurfaceId(Reader::new(body, "surface destruction").u32()?);
        Ok(Some(match self.surfaces.remove(&id) {
            Some(_surface) => DisplayEvent::SurfaceDestroyed(id),
            None => DisplayEvent::Unsupported(Unsupported::nowhere(Feature::UnknownSurface(id))),
        }))
    }

    /// `Copy`: image pointer u32, source area, operation u16, scale mode u8, mask.
    fn draw_copy(&mut self, body: &Bytes) -> Result<Option<DisplayEvent>, SpiceError> {
        let mut reader = Reader::new(body, "copy");
        let base = Base::read(&mut reader)?;
        let image = reader.pointer()?;
        let area = reader.rect()?;
        let operation = reader.u16()?;
        let mode = if reader.u8()? == 1 { ScaleMode::Nearest } else { ScaleMode::Interpolate };
        let masked = draw::has_mask(&mut reader)?;
        let Some(image) = image else { return Err(reader.malformed("it has no source")) };
        // The image is read in any case: it may be for the cache.
        let image = self.caches.image(&mut reader.at(image, "image")?)?;
        if masked {
            return Ok(Some(unsupported(&base, Feature::Mask)));
        }
        if !raster::is_plain_copy(operation) {
            return Ok(Some(unsupported(&base, Feature::RasterOperation(operation))));
        }
        let Some(surface) = self.surfaces.get(&base.surface) else {
            return Ok(Some(unsupported(&base, Feature::UnknownSurface(base.surface))));
        };
        match image {
            Image::Unsupported(feature) => Ok(Some(unsupported(&base, feature))),
            Image::Surface(id) => match self.surfaces.get(&id) {
                None => Ok(Some(unsupported(&base, Feature::UnknownSurface(id)))),
                Some(_) if is_scaled(&base, &area) => {
                    Ok(Some(unsupported(&base, Feature::ScaledSurface)))
                }
                Some(source) => {
                    let bounds = Rect::of_size(source.width, source.height);
                    let source = CopySource::Surface(id);
                    copy(surface, &base, area, (source, bounds))
                }
            },
            Image::Picture(picture) if is_scaled(&base, &area) => {
                Ok(copy_scaled(surface, &base, area, picture, mode))
            }
            Image::Picture(picture) => {
                let bounds = Rect::of_size(picture.pixels.width, picture.pixels.height);
                let source = CopySource::Pixels(pixels_for(surface, picture));
                copy(surface, &base, area, (source, bounds))
            }
        }
    }

    /// `Fill`: brush, operation u16, mask.
    fn draw_fill(&mut self, body: &Bytes) -> Result<Option<DisplayEvent>, SpiceError> {
        let mut reader = Reader::new(body, "fill");
        let base = Base::read(&mut reader)?;
        let brush = draw::brush(&mut reader)?;
        let operation = reader.u16()?;
        if draw::has_mask(&mut reader)? {
            return Ok(Some(unsupported(&base, Feature::Mask)));
        }
        match brush {
            Brush::None => Ok(None),
            Brush::Pattern => Ok(Some(unsupported(&base, Feature::PatternBrush))),
            Brush::Solid(color) => self.combine(&base, operation, color),
        }
    }

    /// `Blackness`, `Whiteness`, `Invers`: mask.
    fn draw_constant(
        &mut self,
        body: &Bytes,
        operation: u16,
    ) -> Result<Option<DisplayEvent>, SpiceError> {
        let mut reader = Reader::new(body, "fill");
        let base = Base::read(&mut reader)?;
        if draw::has_mask(&mut reader)? {
            return Ok(Some(unsupported(&base, Feature::Mask)));
        }
        self.combine(&base, operation, 0)
    }

    fn combine(
        &self,
        base: &Base,
        operation: u16,
        color: u32,
    ) -> Result<Option<DisplayEvent>, SpiceError> {
        let Some(surface) = self.surfaces.get(&base.surface) else {
            return Ok(Some(unsupported(base, Feature::UnknownSurface(base.surface))));
        };
        // The colour has the surface's form. Widening repeats bits, so it may come before.
        let color = match surface.format {
            SurfaceFormat::Rgb555 => rgb555(low_half(color)),
            SurfaceFormat::Rgb565 => bitmap::rgb565(low_half(color)),
            SurfaceFormat::Xrgb32
            | SurfaceFormat::Argb32
            | SurfaceFormat::Alpha8
            | SurfaceFormat::Alpha1 => color.to_le_bytes(),
        };
        let color = u32::from_le_bytes(color);
        let Some(Combination { and, xor }) = raster::combination(operation, color) else {
            return Ok(Some(unsupported(base, Feature::RasterOperation(operation))));
        };
        let rects = base.rects(&Rect::of_size(surface.width, surface.height));
        let surface = base.surface;
        Ok(match (rects.is_empty(), and) {
            (true, _) => None,
            (false, 0) => {
                let [blue, green, red, _] = xor.to_le_bytes();
                Some(DisplayEvent::Fill(Fill { surface, rects, color: [blue, green, red, 255] }))
            }
            (false, and) => {
                let and = and | 0xff00_0000;
                Some(DisplayEvent::Combine(Combine { surface, rects, and, xor }))
            }
        })
    }

    /// `copy_bits`: base, source position.
    fn copy_bits(&mut self, body: &Bytes) -> Result<Option<DisplayEvent>, SpiceError> {
        let mut reader = Reader::new(body, "copy bits");
        let base = Base::read(&mut reader)?;
        let (offset, back) = base.offsets(reader.point()?)?;
        let Some(surface) = self.surfaces.get(&base.surface) else {
            return Ok(Some(unsupported(&base, Feature::UnknownSurface(base.surface))));
        };
        let bounds = Rect::of_size(surface.width, surface.height);
        let mut rects = base.rects(&bounds.intersect(&bounds.moved(back)));
        if rects.is_empty() || offset == Point::default() {
            return Ok(None);
        }
        draw::order_for_move(&mut rects, offset);
        Ok(Some(DisplayEvent::CopyBits(CopyBits { surface: base.surface, rects, offset })))
    }

    fn draw_unsupported(
        body: &Bytes,
        operation: Operation,
    ) -> Result<Option<DisplayEvent>, SpiceError> {
        let base = Base::read(&mut Reader::new(body, "drawing"))?;
        Ok(Some(unsupported(&base, Feature::Operation(operation))))
    }

    /// `inval_list`: count u16, then type u8, id u64 each; `inval_all_pixmaps`: channels to wait
    /// for; `inval_palette`: id u64.
    fn invalidate(&mut self, message: &Message) -> Result<Option<DisplayEvent>, SpiceError> {
        let mut reader = Reader::new(&message.body, "invalidation");
        match message.kind {
            server::INVAL_LIST => {
                const PIXMAP: u8 = 1;
                for _ in 0..reader.u16()? {
                    let (kind, id) = (reader.u8()?, reader.u64()?);
                    if kind == PIXMAP {
                        self.caches.pixmaps.remove(id);
                    }
                }
            }
            server::INVAL_ALL_PIXMAPS => {
                let waits = channel_waits(&mut reader)?;
                self.caches.pixmaps.clear();
                if !waits.is_empty() {
                    let event = CommonEvent::WaitForChannels(waits);
                    return Ok(Some(DisplayEvent::Common(event)));
                }
            }
            server::INVAL_PALETTE => self.caches.palettes.remove(reader.u64()?),
            _ => self.caches.palettes.clear(),
        }
        Ok(None)
    }
}

const fn low_half(color: u32) -> u16 {
    let [low, high, ..] = color.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn unsupported(base: &Base, feature: Feature) -> DisplayEvent {
    DisplayEvent::Unsupported(Unsupported { feature, place: Some((base.surface, base.target)) })
}

fn is_scaled(base: &Base, area: &Rect) -> bool {
    base.target.width() != area.width() || base.target.height() != area.height()
}

fn pixels_for(surface: &Surface, picture: Picture) -> Pixels {
    match surface.format {
        SurfaceFormat::Argb32 => picture.pixels,
        _ => picture.into_opaque(),
    }
}

/// An unscaled copy out of `source`, of which `bounds` exist.
fn copy(
    surface: &Surface,
    base: &Base,
    area: Rect,
    (source, bounds): (CopySource, Rect),
) -> Result<Option<DisplayEvent>, SpiceError> {
    let (offset, back) = base.offsets(Point::new(area.left, area.top))?;
    let target = Rect::of_size(surface.width, surface.height);
    let mut rects = base.rects(&target.intersect(&bounds.moved(back)));
    if rects.is_empty() {
        return Ok(None);
    }
    draw::order_for_move(&mut rects, offset);
    Ok(Some(DisplayEvent::Copy(Copy { surface: surface.id, rects, source, offset })))
}

/// A copy of a stretched or shrunken image, of which only the visible part is made.
fn copy_scaled(
    surface: &Surface,
    base: &Base,
    area: Rect,
    picture: Picture,
    mode: ScaleMode,
) -> Option<DisplayEvent> {
    let image = Rect::of_size(picture.pixels.width, picture.pixels.height);
    if area.is_empty() || !image.contains(&area) {
        return Some(unsupported(base, Feature::ScaledOutside));
    }
    let rects = base.rects(&Rect::of_size(surface.width, surface.height));
    let bounds = rects.iter().copied().reduce(|all, rect| all.union(&rect))?;
    let pixels = pixels_for(surface, picture);
    let pixels = scale::scale(&pixels, area, base.target, bounds, mode);
    let source = CopySource::Pixels(pixels);
    let offset = Point::new(-bounds.left, -bounds.top);
    Some(DisplayEvent::Copy(Copy { surface: surface.id, rects, source, offset }))
}

/// `monitors_config`: count u16, most allowed u16, then per head: id, surface, width, height, x,
/// y, flags, u32 each.
fn monitors(body: &Bytes) -> Result<DisplayEvent, SpiceError> {
    let mut reader = Reader::new(body, "monitors");
    let (count, allowed_max) = (reader.u16()?, reader.u16()?);
    if count > HEADS_MAX {
        return Err(too_large("number of monitors", count.into(), HEADS_MAX.into()));
    }
    let mut heads = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (id, surface) = (reader.u32()?, SurfaceId(reader.u32()?));
        let size = Rect::of_size(reader.u32()?, reader.u32()?);
        let corner = [reader.u32()?, reader.u32()?];
        let [x, y] = corner.map(|edge| i32::try_from(edge).unwrap_or(i32::MAX));
        let _flags = reader.u32()?;
        heads.push(Head { id, surface, area: size.moved(Point::new(x, y)) });
    }
    Ok(DisplayEvent::Monitors(Monitors { allowed_max, heads }))
}

/// `stream_create`: surface u32, id u32, flags u8, codec u8, stamp u64, four sizes u32, place.
fn stream_create(body: &Bytes) -> Result<DisplayEvent, SpiceError> {
    let mut reader = Reader::new(body, "stream");
    let (surface, _id) = (SurfaceId(reader.u32()?), reader.u32()?);
    let (_flags, codec, _stamp) = (reader.u8()?, reader.u8()?, reader.u64()?);
    let _sizes = reader.array::<16>()?;
    let feature = Feature::Stream(codec);
    let place = Some((surface, reader.rect()?));
    Ok(DisplayEvent::Unsupported(Unsupported { feature, place }))
}

#[cfg(test)]
pub(crate) mod tests;
