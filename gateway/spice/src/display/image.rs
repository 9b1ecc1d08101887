//! Images inside drawing messages (`spice.proto`, `Image`), from message or cache.

use crate::error::SpiceError;
use crate::geometry::SurfaceId;
use crate::unsupported::{Feature, ImageCodec};
use crate::wire::Reader;

use super::bitmap::{Bitmap, Format, Picture};
use super::cache::{Cached, PaletteCache, PixmapCache};

/// `SPICE_IMAGE_FLAGS_CACHE_ME` and `SPICE_IMAGE_FLAGS_CACHE_REPLACE_ME`.
const CACHE_ME: u8 = 1 | 4;
/// `SPICE_BITMAP_FLAGS_PAL_CACHE_ME`
const PALETTE_CACHE_ME: u8 = 1;
/// `SPICE_BITMAP_FLAGS_PAL_FROM_CACHE`
const PALETTE_FROM_CACHE: u8 = 2;
/// `SPICE_BITMAP_FLAGS_TOP_DOWN`
const TOP_DOWN: u8 = 4;
/// Colours of a palette: as many as 8 bits can name.
const PALETTE_COLORS_MAX: u16 = 256;

/// What an image field holds.
#[derive(Debug)]
pub(super) enum Image {
    Picture(Picture),
    Surface(SurfaceId),
    Unsupported(Feature),
}

/// What the server believes us to keep.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) pixmaps: PixmapCache,
    pub(super) palettes: PaletteCache,
}

impl Caches {
    /// `ImageDescriptor`: id u64, type u8, flags u8, width u32, height u32; then by type.
    pub(super) fn image(&mut self, reader: &mut Reader<'_>) -> Result<Image, SpiceError> {
        let (id, kind, flags) = (reader.u64()?, reader.u8()?, reader.u8()?);
        let (_width, _height) = (reader.u32()?, reader.u32()?);
        let image = match kind {
            0 => self.bitmap(reader)?,
            103 | 106 => match self.pixmaps.get(id) {
                Some(picture) => return Ok(Image::Picture(picture.clone())),
                None => Image::Unsupported(Feature::UncachedImage(id)),
            },
            104 => Image::Surface(SurfaceId(reader.u32()?)),
            other => Image::Unsupported(Feature::Image(codec(other))),
        };
        if flags & CACHE_ME != 0 {
            match &image {
                Image::Picture(picture) => self.pixmaps.insert(id, picture)?,
                // What was there is out of date, and what should be there cannot be.
                Image::Surface(_) | Image::Unsupported(_) => self.pixmaps.remove(id),
            }
        }
        Ok(image)
    }

    /// `BitmapData`: format u8, flags u8, x u32, y u32, stride u32, palette id u64 or pointer
    /// u32, rows.
    fn bitmap(&mut self, reader: &mut Reader<'_>) -> Result<Image, SpiceError> {
        let (number, flags) = (reader.u8()?, reader.u8()?);
        let (width, height, stride) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let palette = self.palette(flags, reader)?;
        let Some(format) = Format::from_wire(number) else {
            return Ok(Image::Unsupported(Feature::BitmapFormat(number)));
        };
        let palette = match palette {
            Palette::Colors(colors) => colors,
            _ if !format.has_palette() => &[],
            Palette::Uncached(id) => {
                return Ok(Image::Unsupported(Feature::UncachedPalette(id)));
            }
            Palette::None => return Err(reader.malformed("it needs a palette and has none")),
        };
        let data = u64::from(stride) * u64::from(height);
        let data = reader.bytes(usize::try_from(data).unwrap_or(usize::MAX))?;
        let top_down = flags & TOP_DOWN != 0;
        let bitmap = Bitmap { format, width, height, stride, top_down, palette, data };
        Ok(Image::Picture(bitmap.decode()?))
    }

    /// `Palette`: id u64, count u16, 0x00rrggbb u32 each.
    fn palette(&mut self, flags: u8, reader: &mut Reader<'_>) -> Result<Palette<'_>, SpiceError> {
        if flags & PALETTE_FROM_CACHE != 0 {
            let id = reader.u64()?;
            return Ok(self.palettes.get(id).map_or(Palette::Uncached(id), Palette::Colors));
        }
        let Some(offset) = reader.pointer()? else { return Ok(Palette::None) };
        let mut fields = reader.at(offset, "palette")?;
        let (id, count) = (fields.u64()?, fields.u16()?);
        if count > PALETTE_COLORS_MAX {
            let (value, limit) = (count.into(), PALETTE_COLORS_MAX.into());
            return Err(SpiceError::TooLarge { what: "palette", value, limit });
        }
        let mut colors = Vec::with_capacity(count.into());
        for _ in 0..count {
            let [blue, green, red, _unused] = fields.array()?;
            colors.push([blue, green, red, 255]);
        }
        let cached = if flags & PALETTE_CACHE_ME != 0 { Cached::Yes } else { Cached::No };
        Ok(Palette::Colors(self.palettes.keep(id, colors, cached)?))
    }
}

/// Colours of a bitmap.
enum Palette<'a> {
    None,
    Colors(&'a [[u8; 4]]),
    Uncached(u64),
}

/// `enums.h`, `SpiceImageType`.
const fn codec(kind: u8) -> ImageCodec {
    match kind {
        1 => ImageCodec::Quic,
        100 => ImageCodec::LzPalette,
        101 => ImageCodec::LzRgb,
        102 => ImageCodec::GlzRgb,
        105 => ImageCodec::Jpeg,
        107 => ImageCodec::ZlibGlzRgb,
        108 => ImageCodec::JpegAlpha,
        109 => ImageCodec::Lz4,
        other => ImageCodec::Other(other),
    }
}
