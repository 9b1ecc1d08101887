//! Drawing messages to events (`spice.proto`, `DisplayChannel`): which surface, which pixels,
//! which rule.
//!
//! What the reference renderer (`canvas_base.c` and `sw_canvas.c` of spice-common) does is what
//! counts where the protocol leaves it open.

use bytes::Bytes;

use crate::error::SpiceError;
use crate::geometry::{Point, Rect, SurfaceId};
use crate::unsupported::{Feature, Unsupported};
use crate::wire::Reader;

use super::DisplayChannel;
use super::bitmap::{Picture, PictureAlpha};
use super::draw::{self, Base, Brush, Mask, MaskImage};
use super::event::{
    Combine, Copy, CopyBits, CopySource, DisplayEvent, Fill, Pixels, Surface, SurfaceFormat,
};
use super::form::ALPHA;
use super::image::Image;
use super::numbers::server;
use super::paint::{
    Affine, Alpha, Cover, Filter, Operator, Paint, Placement, Rule, Source, Texture, Through,
};
use super::raster::{Combination, Input, RasterOperation};

/// `SPICE_ALPHA_FLAGS_DEST_HAS_ALPHA`
const DESTINATION_HAS_ALPHA: u8 = 1;
/// `SPICE_ALPHA_FLAGS_SRC_SURFACE_HAS_ALPHA`
const SOURCE_HAS_ALPHA: u8 = 2;

/// Why a message draws nothing.
#[derive(Debug)]
pub(super) enum Fault {
    Message(SpiceError),
    Feature(Feature),
}

/// What a drawing makes.
pub(super) type Drawn = Result<Option<DisplayEvent>, Fault>;

/// An image in a message, of which `area` is drawn over the destination.
#[derive(Debug)]
struct Sourced {
    image: Image,
    area: Rect,
}

/// What a raster operation reads besides its destination.
#[derive(Debug)]
struct Inputs {
    source: Option<(Sourced, Filter)>,
    brush: Brush,
    mask: Option<Mask>,
}

/// A texture with what is known of it.
#[derive(Debug)]
pub(super) struct SizedTexture {
    pub(super) texture: Texture,
    bounds: Rect,
    /// Whether its alpha counts where nothing says otherwise.
    pub(super) alpha: Alpha,
    /// The surface's format, if it is one.
    format: Option<SurfaceFormat>,
}

impl From<SpiceError> for Fault {
    fn from(error: SpiceError) -> Self {
        Self::Message(error)
    }
}

impl From<Feature> for Fault {
    fn from(feature: Feature) -> Self {
        Self::Feature(feature)
    }
}

impl DisplayChannel {
    /// Any `draw_*` message or `copy_bits`.
    pub(super) fn draw(
        &mut self,
        kind: u16,
        body: &Bytes,
    ) -> Result<Option<DisplayEvent>, SpiceError> {
        let mut reader = Reader::new(body, "drawing");
        let base = Base::read(&mut reader)?;
        let reader = &mut reader;
        let drawn = match kind {
            server::COPY_BITS => self.copy_bits(&base, reader),
            server::DRAW_FILL => self.draw_fill(&base, reader),
            server::DRAW_OPAQUE => self.draw_opaque(&base, reader),
            server::DRAW_COPY | server::DRAW_BLEND => self.draw_copy(&base, reader),
            server::DRAW_BLACKNESS => self.draw_constant(&base, RasterOperation::BLACKNESS, reader),
            server::DRAW_WHITENESS => self.draw_constant(&base, RasterOperation::WHITENESS, reader),
            server::DRAW_INVERS => self.draw_constant(&base, RasterOperation::INVERSION, reader),
            server::DRAW_ROP3 => self.draw_rop3(&base, reader),
            server::DRAW_STROKE => self.draw_stroke(&base, reader),
            server::DRAW_TEXT => self.draw_text(&base, reader),
            server::DRAW_TRANSPARENT => self.draw_transparent(&base, reader),
            server::DRAW_ALPHA_BLEND => self.draw_alpha_blend(&base, reader),
            _ => self.draw_composite(&base, reader),
        };
        told(&base, drawn)
    }

    /// A frame of a video, over all of the destination.
    pub(super) fn draw_frame(
        &self,
        base: &Base,
        frame: Picture,
    ) -> Result<Option<DisplayEvent>, SpiceError> {
        let area = bounds_of(&frame.pixels);
        let source = Some((Sourced { image: Image::Picture(frame), area }, Filter::Nearest));
        let inputs = Inputs { source, brush: Brush::None, mask: None };
        told(base, self.draw_raster(base, RasterOperation::SOURCE, inputs))
    }

    /// `copy_bits`: source position.
    fn copy_bits(&self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let (offset, back) = base.offsets(reader.point()?)?;
        let bounds = self.surface(base.surface)?.bounds();
        let mut rects = base.rects(&bounds.intersect(&bounds.moved(back)))?;
        if rects.is_empty() || offset == Point::default() {
            return Ok(None);
        }
        draw::order_for_move(&mut rects, offset);
        Ok(Some(DisplayEvent::CopyBits(CopyBits { surface: base.surface, rects, offset })))
    }

    /// `Fill`: brush, operation u16, mask.
    fn draw_fill(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let brush = draw::brush(reader, &mut self.caches)?;
        let descriptor = reader.u16()?;
        let mask = draw::mask(reader, &mut self.caches)?;
        let operation =
            RasterOperation::from_descriptor(descriptor, Input::Brush, Input::Destination);
        self.draw_raster(base, operation, Inputs { source: None, brush, mask })
    }

    /// `Blackness`, `Whiteness`, `Invers`: mask.
    fn draw_constant(
        &mut self,
        base: &Base,
        operation: RasterOperation,
        reader: &mut Reader<'_>,
    ) -> Drawn {
        let mask = draw::mask(reader, &mut self.caches)?;
        self.draw_raster(base, operation, Inputs { source: None, brush: Brush::None, mask })
    }

    /// `Copy`, `Blend`: image, source area, operation u16, scale mode u8, mask.
    fn draw_copy(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let source = self.sourced(reader)?;
        let (descriptor, filter) = (reader.u16()?, scale_filter(reader)?);
        let mask = draw::mask(reader, &mut self.caches)?;
        let operation =
            RasterOperation::from_descriptor(descriptor, Input::Source, Input::Destination);
        let source = Some((source, filter));
        self.draw_raster(base, operation, Inputs { source, brush: Brush::None, mask })
    }

    /// `Opaque`: image, source area, brush, operation u16, scale mode u8, mask. The source comes
    /// first and the brush over it.
    fn draw_opaque(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let source = self.sourced(reader)?;
        let brush = draw::brush(reader, &mut self.caches)?;
        let (descriptor, filter) = (reader.u16()?, scale_filter(reader)?);
        let mask = draw::mask(reader, &mut self.caches)?;
        let operation = RasterOperation::from_descriptor(descriptor, Input::Brush, Input::Source);
        self.draw_raster(base, operation, Inputs { source: Some((source, filter)), brush, mask })
    }

    /// `Rop3`: image, source area, brush, code u8, scale mode u8, mask.
    fn draw_rop3(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let source = self.sourced(reader)?;
        let brush = draw::brush(reader, &mut self.caches)?;
        let (code, filter) = (reader.u8()?, scale_filter(reader)?);
        let mask = draw::mask(reader, &mut self.caches)?;
        let inputs = Inputs { source: Some((source, filter)), brush, mask };
        self.draw_raster(base, RasterOperation(code), inputs)
    }

    /// `Transparent`: image, source area, colour u32 in the form of the source, colour 0x00rrggbb.
    fn draw_transparent(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let source = self.sourced(reader)?;
        let (_source_color, color) = (reader.u32()?, reader.u32()?);
        let surface = self.surface(base.surface)?;
        let key = match surface.format {
            SurfaceFormat::Alpha8 | SurfaceFormat::Alpha1 => 0,
            format => format.narrow(color),
        };
        let texture = self.texture(source.image)?;
        let (placement, seen) = placed(base, &source.area, &texture, Filter::Nearest)?;
        let rects = base.rects(&surface.bounds().intersect(&seen))?;
        let source = Source::Texture { texture: texture.texture, placement, alpha: Alpha::Own };
        Ok(painted(Paint { source, ..Paint::new(surface, rects, Rule::ColorKey(key)) }))
    }

    /// `AlphaBlend`: flags u8, alpha u8, image, source area.
    fn draw_alpha_blend(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let (flags, strength) = (reader.u8()?, reader.u8()?);
        let source = self.sourced(reader)?;
        let surface = self.surface(base.surface)?;
        let texture = self.texture(source.image)?;
        let declared =
            texture.format == Some(SurfaceFormat::Xrgb32) && flags & SOURCE_HAS_ALPHA != 0;
        let alpha = if declared { Alpha::Own } else { texture.alpha };
        let declared =
            surface.format == SurfaceFormat::Xrgb32 && flags & DESTINATION_HAS_ALPHA != 0;
        let destination = if declared { Alpha::Own } else { alpha_of(surface.format) };
        let (placement, seen) = placed(base, &source.area, &texture, Filter::Nearest)?;
        let rects = base.rects(&surface.bounds().intersect(&seen))?;
        if strength == 0 {
            return Ok(None);
        }
        let through = if strength == u8::MAX { Through::Nothing } else { Through::Alpha };
        let rule = Rule::Mix { operator: Operator::OVER, through, destination };
        let source = Source::Texture { texture: texture.texture, placement, alpha };
        let mask = Source::Color(u32::from_le_bytes([0, 0, 0, strength]));
        Ok(painted(Paint { source, mask, ..Paint::new(surface, rects, rule) }))
    }

    /// Draws with a raster operation, as the plainest event that does it.
    fn draw_raster(&self, base: &Base, operation: RasterOperation, inputs: Inputs) -> Drawn {
        let surface = self.surface(base.surface)?;
        let Inputs { source, brush, mask } = inputs;
        let mut bounds = surface.bounds();
        let brush = self.brush_source(brush, surface.format)?;
        let cover = match mask {
            None => None,
            Some(mask) => Some(self.cover(base, mask, &mut bounds)?),
        };
        let source = match source {
            Some((source, _))
                if operation == RasterOperation::SOURCE
                    && cover.is_none()
                    && self.is_plain(surface, base, &source) =>
            {
                return self.copy(surface, base, source);
            }
            other => other,
        };
        let source = match source {
            None => Source::Color(0),
            Some((source, filter)) => {
                let texture = self.texture(source.image)?;
                let (placement, seen) = placed(base, &source.area, &texture, filter)?;
                bounds = bounds.intersect(&seen);
                Source::Texture { texture: texture.texture, placement, alpha: Alpha::Own }
            }
        };
        let rects = base.rects(&bounds)?;
        if operation.is_nothing() {
            return Ok(None);
        }
        Ok(match &brush {
            Source::Color(color) if cover.is_none() && !operation.reads(Input::Source) => {
                colored(surface, rects, operation, *color)
            }
            _ => {
                let rule = Rule::Raster(operation);
                painted(Paint { source, brush, cover, ..Paint::new(surface, rects, rule) })
            }
        })
    }

    /// Whether a copy of the source needs nothing but to be copied.
    fn is_plain(&self, surface: &Surface, base: &Base, source: &Sourced) -> bool {
        let same_form = match &source.image {
            Image::Surface(id) => {
                let keeps =
                    |other: &Surface| other.format.keeps_all() && surface.format.keeps_all();
                let same = |other: &Surface| other.format == surface.format || keeps(other);
                self.surfaces.get(id).is_some_and(same)
            }
            _ => surface.format.keeps_all(),
        };
        same_form && !is_scaled(base, &source.area)
    }

    /// An unscaled copy.
    fn copy(&self, surface: &Surface, base: &Base, source: Sourced) -> Drawn {
        let (source, area) = (source.image, source.area);
        let (source, bounds) = match source {
            Image::Unsupported(feature) => return Err(feature.into()),
            Image::Surface(id) => (CopySource::Surface(id), self.surface(id)?.bounds()),
            Image::Picture(picture) => {
                let bounds = bounds_of(&picture.pixels);
                let pixels =
                    if surface.keeps_alpha() { picture.pixels } else { picture.into_opaque() };
                (CopySource::Pixels(pixels), bounds)
            }
        };
        let (offset, back) = base.offsets(Point::new(area.left, area.top))?;
        let mut rects = base.rects(&surface.bounds().intersect(&bounds.moved(back)))?;
        if rects.is_empty() {
            return Ok(None);
        }
        draw::order_for_move(&mut rects, offset);
        Ok(Some(DisplayEvent::Copy(Copy { surface: surface.id, rects, source, offset })))
    }

    pub(super) fn surface(&self, id: SurfaceId) -> Result<&Surface, Feature> {
        self.surfaces.get(&id).ok_or(Feature::UnknownSurface(id))
    }

    /// An image field and the area of it that is drawn.
    fn sourced(&mut self, reader: &mut Reader<'_>) -> Result<Sourced, SpiceError> {
        let image = self.pointed_image(reader)?;
        Ok(Sourced { image, area: reader.rect()? })
    }

    /// The image is read whether it is drawn or not: it may be for the cache.
    pub(super) fn pointed_image(&mut self, reader: &mut Reader<'_>) -> Result<Image, SpiceError> {
        let Some(image) = reader.pointer()? else {
            return Err(reader.malformed("it has no source"));
        };
        self.caches.image(&mut reader.at(image, "image")?)
    }

    pub(super) fn texture(&self, image: Image) -> Result<SizedTexture, Feature> {
        Ok(match image {
            Image::Unsupported(feature) => return Err(feature),
            Image::Picture(picture) => {
                let bounds = bounds_of(&picture.pixels);
                let alpha = match picture.alpha {
                    PictureAlpha::Undefined => Alpha::Opaque,
                    PictureAlpha::Opaque | PictureAlpha::Own => Alpha::Own,
                };
                let texture = Texture::Pixels(picture.pixels);
                SizedTexture { texture, bounds, alpha, format: None }
            }
            Image::Surface(id) => {
                let surface = self.surface(id)?;
                let (texture, bounds) = (Texture::Surface(id), surface.bounds());
                let (alpha, format) = (alpha_of(surface.format), Some(surface.format));
                SizedTexture { texture, bounds, alpha, format }
            }
        })
    }

    /// A brush as a source of pixels; none is black.
    pub(super) fn brush_source(
        &self,
        brush: Brush,
        format: SurfaceFormat,
    ) -> Result<Source, Feature> {
        Ok(match brush {
            Brush::None => Source::Color(0),
            Brush::Solid(color) => Source::Color(format.widen(color)),
            Brush::Pattern(image, position) => {
                let texture = self.texture(image)?.texture;
                Source::Texture {
                    texture,
                    placement: Placement::Tiled(position),
                    alpha: Alpha::Own,
                }
            }
        })
    }

    /// A mask, and `bounds` reduced to what it says anything about.
    fn cover(&self, base: &Base, mask: Mask, bounds: &mut Rect) -> Result<Cover, Fault> {
        let (offset, back) = base.offsets(mask.position)?;
        let (texture, size) = match mask.image {
            MaskImage::Image(image) => {
                let sized = self.texture(image)?;
                (sized.texture, sized.bounds)
            }
            MaskImage::Bits(bits) => {
                let size = Rect::of_size(bits.width, bits.height);
                (Texture::Bits(bits), size)
            }
        };
        *bounds = bounds.intersect(&size.moved(back));
        let placement = Placement::Shifted(offset);
        let source = Source::Texture { texture, placement, alpha: Alpha::Own };
        Ok(Cover { source, inverted: mask.inverted })
    }
}

/// What is not carried out is told, with its place.
fn told(base: &Base, drawn: Drawn) -> Result<Option<DisplayEvent>, SpiceError> {
    match drawn {
        Ok(event) => Ok(event),
        Err(Fault::Message(error)) => Err(error),
        Err(Fault::Feature(feature)) => {
            let place = Some((base.surface, base.target));
            Ok(Some(DisplayEvent::Unsupported(Unsupported { feature, place })))
        }
    }
}

impl Surface {
    pub(super) fn bounds(&self) -> Rect {
        Rect::of_size(self.width, self.height)
    }
}

/// Where the area of a texture lies when it is drawn over the destination, and the part of the
/// destination that shows any of it.
fn placed(
    base: &Base,
    area: &Rect,
    texture: &SizedTexture,
    filter: Filter,
) -> Result<(Placement, Rect), SpiceError> {
    if is_scaled(base, area) {
        return Ok((Placement::Affine(Affine::scaling(area, &base.target, filter)), base.target));
    }
    let (offset, back) = base.offsets(Point::new(area.left, area.top))?;
    Ok((Placement::Shifted(offset), texture.bounds.moved(back)))
}

fn is_scaled(base: &Base, area: &Rect) -> bool {
    base.target.width() != area.width() || base.target.height() != area.height()
}

/// `image_scale_mode`: interpolate, nearest.
fn scale_filter(reader: &mut Reader<'_>) -> Result<Filter, SpiceError> {
    Ok(if reader.u8()? == 1 { Filter::Nearest } else { Filter::Bilinear })
}

pub(super) const fn alpha_of(format: SurfaceFormat) -> Alpha {
    if format.has_alpha() { Alpha::Own } else { Alpha::Opaque }
}

fn bounds_of(pixels: &Pixels) -> Rect {
    Rect::of_size(pixels.width, pixels.height)
}

pub(super) fn painted(paint: Paint) -> Option<DisplayEvent> {
    if paint.rects.is_empty() { None } else { Some(DisplayEvent::Paint(Box::new(paint))) }
}

/// An operation of one colour and the destination: a fill if it does not read the destination.
pub(super) fn colored(
    surface: &Surface,
    rects: Vec<Rect>,
    operation: RasterOperation,
    color: u32,
) -> Option<DisplayEvent> {
    if rects.is_empty() {
        return None;
    }
    let Combination { and, xor } = operation.with_color(color);
    let (and, xor) = (and & surface.kept(), xor & surface.kept());
    let (id, fixed) = (surface.id, if surface.keeps_alpha() { 0 } else { ALPHA });
    Some(if and == 0 {
        let color = (xor | fixed).to_le_bytes();
        DisplayEvent::Fill(Fill { surface: id, rects, color })
    } else {
        DisplayEvent::Combine(Combine { surface: id, rects, and: and | fixed, xor })
    })
}

#[cfg(test)]
mod tests;
