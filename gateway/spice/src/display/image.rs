//! Images inside drawing messages (`spice.proto`, `Image`), from message or cache.

use bytes::Bytes;

use crate::codec::dictionary::GlzDictionary;
use crate::codec::glz::{Glz, Progress};
use crate::codec::{Size, Unpacked, jpeg, lz, lz4, quic, zlib};
use crate::error::SpiceError;
use crate::geometry::SurfaceId;
use crate::unsupported::Feature;
use crate::wire::Reader;

use super::bitmap::{Bitmap, Format, Picture};
use super::cache::{Cached, Fidelity, PaletteCache, PixmapCache};
use super::work;

/// `SPICE_IMAGE_FLAGS_CACHE_ME`
const CACHE_ME: u8 = 1;
/// `SPICE_IMAGE_FLAGS_HIGH_BITS_SET`
const HIGH_BITS_SET: u8 = 2;
/// `SPICE_IMAGE_FLAGS_CACHE_REPLACE_ME`: for a lossy one that was cached.
const CACHE_REPLACE_ME: u8 = 4;
/// Either of them: the image goes into the cache.
pub(super) const CACHED_FLAGS: u8 = CACHE_ME | CACHE_REPLACE_ME;
/// `SPICE_BITMAP_FLAGS_PAL_CACHE_ME`
const PALETTE_CACHE_ME: u8 = 1;
/// `SPICE_BITMAP_FLAGS_PAL_FROM_CACHE`
const PALETTE_FROM_CACHE: u8 = 2;
/// `SPICE_BITMAP_FLAGS_TOP_DOWN`
pub(super) const TOP_DOWN: u8 = 4;
/// Colours of a palette: as many as 8 bits can name.
const PALETTE_COLORS_MAX: u16 = 256;

/// `SpiceImageType`
pub(super) mod kind {
    pub(in crate::display) const BITMAP: u8 = 0;
    pub(in crate::display) const QUIC: u8 = 1;
    pub(in crate::display) const LZ_PALETTE: u8 = 100;
    pub(in crate::display) const LZ_RGB: u8 = 101;
    pub(in crate::display) const GLZ_RGB: u8 = 102;
    pub(in crate::display) const FROM_CACHE: u8 = 103;
    pub(in crate::display) const SURFACE: u8 = 104;
    pub(in crate::display) const JPEG: u8 = 105;
    pub(in crate::display) const FROM_CACHE_LOSSLESS: u8 = 106;
    pub(in crate::display) const ZLIB_GLZ_RGB: u8 = 107;
    pub(in crate::display) const JPEG_ALPHA: u8 = 108;
    pub(in crate::display) const LZ4: u8 = 109;
}

/// What an image field holds.
#[derive(Debug)]
pub(super) enum Image {
    Picture(Picture),
    Surface(SurfaceId),
    Unsupported(Feature),
}

/// What the server believes us to keep.
#[derive(Debug)]
pub(super) struct Caches {
    pub(super) pixmaps: PixmapCache,
    pub(super) palettes: PaletteCache,
    dictionary: GlzDictionary,
    waiting: Waiting,
    /// Units of [`super::work`] that unpacking has cost.
    work: u64,
}

/// The GLZ images of the message that is being handled: it is handled again when one of them had
/// to wait.
#[derive(Debug, Default)]
struct Waiting {
    /// The number of the image that is awaited.
    awaited: Option<u64>,
    begun: Option<Glz>,
    /// Those that are whole, by their numbers; as many as a message has images.
    whole: Vec<(u64, Unpacked)>,
}

impl Caches {
    pub(super) fn new(dictionary: GlzDictionary) -> Self {
        let (pixmaps, palettes) = (PixmapCache::default(), PaletteCache::default());
        Self { pixmaps, palettes, dictionary, waiting: Waiting::default(), work: 0 }
    }

    /// What unpacking has cost since the last time.
    pub(super) fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// Counts an image of so many pixels.
    pub(super) fn count(&mut self, width: u32, height: u32, pixel: u64) {
        let units = u64::from(width).saturating_mul(height.into()).saturating_mul(pixel);
        self.work = self.work.saturating_add(units);
    }

    /// Tells after a message whether it is to be handled again, and when: not before this image
    /// of another channel is there.
    pub(super) fn settle(&mut self) -> Option<u64> {
        let awaited = self.waiting.awaited.take();
        if awaited.is_none() {
            self.waiting = Waiting::default();
        }
        awaited
    }

    /// `ImageDescriptor`: id u64, type u8, flags u8, width u32, height u32; then by type.
    pub(super) fn image(&mut self, reader: &mut Reader<'_>) -> Result<Image, SpiceError> {
        let (id, kind, flags) = (reader.u64()?, reader.u8()?, reader.u8()?);
        let (width, height) = (reader.u32()?, reader.u32()?);
        let size = || Size::new(width, height);
        let cached = |picture: Option<&Picture>| match picture {
            Some(picture) => Image::Picture(picture.clone()),
            None => Image::Unsupported(Feature::UncachedImage(id)),
        };
        self.count(width, height, pixel_work(kind));
        let image = match kind {
            kind::FROM_CACHE => return Ok(cached(self.pixmaps.get(id))),
            kind::FROM_CACHE_LOSSLESS => return Ok(cached(self.pixmaps.get_lossless(id))),
            kind::SURFACE => Image::Surface(SurfaceId(reader.u32()?)),
            kind::BITMAP => self.bitmap(reader)?,
            kind::QUIC => plain(quic::unpack(&binary(reader)?, size()?)?)?,
            kind::LZ_RGB => plain(lz::unpack(&binary(reader)?, size()?)?)?,
            kind::LZ_PALETTE => self.lz_palette(reader, size()?)?,
            kind::LZ4 => plain(lz4::unpack(&binary(reader)?, size()?)?)?,
            kind::JPEG => plain(jpeg::unpack(&binary(reader)?, size()?)?)?,
            kind::JPEG_ALPHA => {
                // JPEGAlphaData: flags u8, which the plane repeats, size of the JPEG u32, data
                let (_flags, jpeg_size) = (reader.u8()?, reader.u32()?);
                plain(jpeg::unpack_with_alpha(&binary(reader)?, jpeg_size, size()?)?)?
            }
            kind::GLZ_RGB => {
                let packed = binary(reader)?;
                self.glz(packed, size()?)?
            }
            kind::ZLIB_GLZ_RGB => {
                // ZlibGlzRGBData: size u32, data
                let unpacked_size = reader.u32()?;
                let packed = zlib::unpack(&binary(reader)?, unpacked_size)?;
                self.glz(packed, size()?)?
            }
            other => Image::Unsupported(Feature::ImageType(other)),
        };
        let image = match image {
            Image::Picture(picture) if flags & HIGH_BITS_SET != 0 => {
                Image::Picture(picture.with_high_bits())
            }
            other => other,
        };
        self.cache(id, kind, flags, &image)?;
        Ok(image)
    }

    fn cache(&mut self, id: u64, kind: u8, flags: u8, image: &Image) -> Result<(), SpiceError> {
        if flags & CACHED_FLAGS == 0 {
            return Ok(());
        }
        let fidelity = match kind {
            kind::JPEG | kind::JPEG_ALPHA => Fidelity::Lossy,
            _ => Fidelity::Lossless,
        };
        match image {
            Image::Picture(picture) => self.pixmaps.insert(id, picture, fidelity)?,
            // The message will be handled again.
            Image::Unsupported(Feature::AwaitedImage(_)) => {}
            // What was there is out of date, and what should be there cannot be.
            Image::Surface(_) | Image::Unsupported(_) => self.pixmaps.remove(id),
        }
        Ok(())
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
        let picture = bitmap.decode()?;
        self.count(width, height, work::BITMAP);
        Ok(Image::Picture(picture))
    }

    /// `LZPLTData`: flags u8, size u32, palette id u64 or pointer u32, data.
    fn lz_palette(&mut self, reader: &mut Reader<'_>, size: Size) -> Result<Image, SpiceError> {
        let (flags, length) = (reader.u8()?, reader.u32()?);
        let palette = match self.palette(flags, reader)? {
            Palette::Colors(colors) => colors,
            Palette::Uncached(id) => {
                return Ok(Image::Unsupported(Feature::UncachedPalette(id)));
            }
            Palette::None => return Err(reader.malformed("it needs a palette and has none")),
        };
        let packed = reader.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
        picture(lz::unpack(&packed, size)?, palette)
    }

    fn glz(&mut self, packed: Bytes, size: Size) -> Result<Image, SpiceError> {
        let opened = Glz::open(packed, size, &self.dictionary)?;
        let id = opened.id();
        if let Some((_, whole)) = self.waiting.whole.iter().find(|(whole, _)| *whole == id) {
            return plain(whole.clone());
        }
        let begun = self.waiting.begun.take().filter(|begun| begun.id() == id);
        let mut glz = begun.unwrap_or(opened);
        match glz.resume(&self.dictionary)? {
            Progress::Done(unpacked) => {
                self.waiting.whole.push((id, unpacked.clone()));
                plain(unpacked)
            }
            Progress::Awaits(awaited) => {
                self.waiting.begun = Some(glz);
                self.waiting.awaited = Some(awaited);
                Ok(Image::Unsupported(Feature::AwaitedImage(awaited)))
            }
        }
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

/// What a pixel of an image of this type costs until it can be drawn.
const fn pixel_work(kind: u8) -> u64 {
    match kind {
        kind::QUIC | kind::JPEG => work::COMPUTED,
        kind::JPEG_ALPHA => work::COMPUTED + work::COPIED,
        kind::LZ_RGB | kind::LZ_PALETTE | kind::LZ4 | kind::GLZ_RGB | kind::ZLIB_GLZ_RGB => {
            work::COPIED
        }
        _ => 0,
    }
}

/// `BinaryData`: size u32, data.
fn binary(reader: &mut Reader<'_>) -> Result<Bytes, SpiceError> {
    let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    reader.bytes(length)
}

/// An unpacked image without a palette.
fn plain(unpacked: Unpacked) -> Result<Image, SpiceError> {
    picture(unpacked, &[])
}

fn picture(unpacked: Unpacked, palette: &[[u8; 4]]) -> Result<Image, SpiceError> {
    let Unpacked { format, size, stride, top_down, data } = unpacked;
    if format.has_palette() && palette.is_empty() {
        let problem = "it needs a palette and has none";
        return Err(SpiceError::Malformed { what: "image", problem });
    }
    let Size { width, height } = size;
    let bitmap = Bitmap { format, width, height, stride, top_down, palette, data };
    Ok(Image::Picture(bitmap.decode()?))
}

#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;
