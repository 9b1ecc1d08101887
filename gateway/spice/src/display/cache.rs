//! Images and palettes that the server believes us to keep.

use std::collections::BTreeMap;

use crate::channel::too_large;
use crate::error::SpiceError;

use super::bitmap::{Picture, compact};

/// Pixels that the image cache is announced to hold: 8 MiB per desktop. On a local socket an
/// image costs little to send again, and hundreds of desktops share one gateway.
pub(super) const PIXMAP_CACHE_PIXELS: u64 = 2 << 20;
/// Pixels at which the server has overfilled the cache beyond any misunderstanding.
const PIXMAP_CACHE_PIXELS_MAX: u64 = 2 * PIXMAP_CACHE_PIXELS;
/// Images at which it has done so with tiny ones; each costs some hundred bytes.
const PIXMAP_CACHE_IMAGES_MAX: usize = 1 << 16;
/// Palettes; spice-server keeps 128 (`CLIENT_PALETTE_CACHE_SIZE`).
const PALETTES_MAX: usize = 256;

/// Whether the server asks to keep something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cached {
    Yes,
    No,
}

/// Whether an image is exactly what the guest drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fidelity {
    Lossless,
    /// It came as JPEG; the server may send it again and replace it.
    Lossy,
}

/// Images by id. The server evicts, by INVAL_LIST and INVAL_ALL_PIXMAPS; we never do.
#[derive(Debug, Default)]
pub(super) struct PixmapCache {
    images: BTreeMap<u64, (Picture, Fidelity)>,
    pixels: u64,
}

/// Palettes by id, each entry blue, green, red, 255. The server evicts.
#[derive(Debug, Default)]
pub(super) struct PaletteCache {
    palettes: BTreeMap<u64, Vec<[u8; 4]>>,
    /// The last palette that was not to be kept.
    passing: Vec<[u8; 4]>,
}

impl PixmapCache {
    pub(super) fn get(&self, id: u64) -> Option<&Picture> {
        self.images.get(&id).map(|(picture, _)| picture)
    }

    /// The image unless it is a lossy one.
    pub(super) fn get_lossless(&self, id: u64) -> Option<&Picture> {
        let (picture, fidelity) = self.images.get(&id)?;
        (*fidelity == Fidelity::Lossless).then_some(picture)
    }

    /// Keeps an image; its pixels are copied, so that they hold on to no message and no padding.
    pub(super) fn insert(
        &mut self,
        id: u64,
        picture: &Picture,
        fidelity: Fidelity,
    ) -> Result<(), SpiceError> {
        self.remove(id);
        let pixels = self.pixels.saturating_add(picture.area());
        if pixels > PIXMAP_CACHE_PIXELS_MAX {
            let limit = usize::try_from(PIXMAP_CACHE_PIXELS_MAX).unwrap_or(usize::MAX);
            return Err(too_large("image cache in pixels", pixels, limit));
        }
        if self.images.len() >= PIXMAP_CACHE_IMAGES_MAX {
            let count = u64::try_from(self.images.len()).unwrap_or(u64::MAX);
            return Err(too_large("image cache in images", count, PIXMAP_CACHE_IMAGES_MAX));
        }
        let kept = Picture { pixels: compact(&picture.pixels), alpha: picture.alpha };
        self.images.insert(id, (kept, fidelity));
        self.pixels = pixels;
        Ok(())
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some((picture, _)) = self.images.remove(&id) {
            self.pixels = self.pixels.saturating_sub(picture.area());
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl PaletteCache {
    pub(super) fn get(&self, id: u64) -> Option<&[[u8; 4]]> {
        self.palettes.get(&id).map(Vec::as_slice)
    }

    /// Gives back the palette, kept for later if `cached`.
    pub(super) fn keep(
        &mut self,
        id: u64,
        palette: Vec<[u8; 4]>,
        cached: Cached,
    ) -> Result<&[[u8; 4]], SpiceError> {
        if cached == Cached::No {
            self.passing = palette;
            return Ok(&self.passing);
        }
        if self.palettes.len() >= PALETTES_MAX && !self.palettes.contains_key(&id) {
            let count = u64::try_from(self.palettes.len()).unwrap_or(u64::MAX);
            return Err(too_large("palette cache", count.saturating_add(1), PALETTES_MAX));
        }
        let place = self.palettes.entry(id).or_default();
        *place = palette;
        Ok(place)
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.palettes.remove(&id);
    }

    pub(super) fn clear(&mut self) {
        self.palettes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Pixels;
    use crate::display::bitmap::PictureAlpha;

    fn picture(width: u32, stride: usize) -> Picture {
        let data = vec![7; stride].into();
        Picture { pixels: Pixels { width, height: 1, stride, data }, alpha: PictureAlpha::Own }
    }

    #[test]
    fn padding_is_not_kept() {
        let mut cache = PixmapCache::default();
        cache.insert(1, &picture(2, 1000), Fidelity::Lossless).unwrap();
        assert_eq!(cache.get(1).unwrap().pixels.data, [7; 8][..]);
    }

    #[test]
    fn a_server_that_overfills_the_caches_is_refused() {
        let mut cache = PixmapCache::default();
        let wide = picture(1 << 20, 4 << 20);
        let mut insert = |id| cache.insert(id, &wide, Fidelity::Lossy);
        (0..4).for_each(|id| insert(id).unwrap());
        insert(3).unwrap();
        assert!(matches!(insert(4), Err(SpiceError::TooLarge { .. })));
        cache.remove(0);
        cache.insert(4, &wide, Fidelity::Lossy).unwrap();

        let mut palettes = PaletteCache::default();
        let refused = (0..).find(|id| palettes.keep(*id, Vec::new(), Cached::Yes).is_err());
        assert_eq!(refused, u64::try_from(PALETTES_MAX).ok());
    }
}
