//! What each tile of the picture shows: worked out once for every change, shared by the viewers.

use xxhash_rust::xxh3::xxh3_128;

use crate::framebuffer::{Plane, TILE};

/// A tile is a photo only if it has more colours than this: drawings, letters with smoothed edges
/// and gradients of user interfaces have fewer (`docs/display-protocol.md`, "Flow").
const FLAT_COLORS_MAX: u32 = 256;

/// Words of 64 bits of the set in which colours are counted: one bit for each pixel of a tile, so
/// that few different colours share one.
const COLOR_SET_WORDS: usize = 64;

/// What pixels look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// One colour.
    Even,
    /// Few colours, or runs of the same: letters, windows, drawings.
    Flat,
    /// Many colours, and hardly a pixel like its neighbour.
    Photo,
}

/// A tile as it is in some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Of size and pixels; two tiles with the same hash are taken as equal.
    pub(crate) hash: u128,
    pub(crate) look: Look,
}

/// The newest known content of each tile of the picture that is shown, row by row.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Revision 0 stands for none: that of a plane is higher.
    tiles: Vec<(u64, Content)>,
    /// Kept to be used again.
    bytes: Vec<u8>,
}

impl Contents {
    /// What the tile of this number shows now.
    pub(crate) fn of(&mut self, plane: &Plane, tile: usize) -> Content {
        const NONE: (u64, Content) = (0, Content { hash: 0, look: Look::Even });
        let revision = plane.tile_revision(tile);
        if self.tiles.len() != plane.tiles_count() {
            self.tiles = vec![NONE; plane.tiles_count()];
        }
        match self.tiles.get_mut(tile) {
            Some((known, content)) if *known == revision => *content,
            Some(entry) => {
                let content = look_at(plane, tile, &mut self.bytes);
                *entry = (revision, content);
                content
            }
            None => NONE.1,
        }
    }
}

fn look_at(plane: &Plane, tile: usize, bytes: &mut Vec<u8>) -> Content {
    let area = plane.tile_area(tile);
    bytes.clear();
    let mut colors = [0_u64; COLOR_SET_WORDS];
    let mut same = 0_u64;
    for row in plane.rows(&area) {
        let there = bytes.len();
        bytes.resize(there + row.len() * 4, 0);
        let (places, _none) = bytes.get_mut(there..).unwrap_or_default().as_chunks_mut::<4>();
        for (place, pixel) in places.iter_mut().zip(row) {
            *place = pixel.to_le_bytes();
        }
        let mut left = None;
        for &pixel in row {
            if left.replace(pixel) == Some(pixel) {
                same += 1;
            } else {
                // The highest 12 bits of a product depend on all of the pixel's.
                let bit = pixel.wrapping_mul(0x9e37_79b1) >> 20;
                let word = colors.get_mut(usize::try_from(bit / 64).unwrap_or(0));
                word.into_iter().for_each(|word| *word |= 1 << (bit % 64));
            }
        }
    }
    let count: u32 = colors.iter().map(|word| word.count_ones()).sum();
    let pixels = area.area();
    let rows = u64::from(area.height());
    let look = if count == 1 && same + rows == pixels && is_even(bytes) {
        Look::Even
    } else if same * 2 < pixels && count > FLAT_COLORS_MAX.min(area.width() * TILE / 4) {
        Look::Photo
    } else {
        Look::Flat
    };
    // Tiles at the edges of the picture are smaller.
    bytes.extend_from_slice(&area.width().to_le_bytes());
    Content { hash: xxh3_128(bytes), look }
}

/// Whether all pixels are the same.
fn is_even(bytes: &[u8]) -> bool {
    let (pixels, _none) = bytes.as_chunks::<4>();
    pixels.first().is_some_and(|first| pixels.iter().all(|pixel| pixel == first))
}

#[cfg(test)]
mod tests {
    use vidi_spice::display::{Copy, CopySource, Fill, Pixels, Surface, SurfaceFormat};
    use vidi_spice::{Point, Rect, SurfaceId};

    use super::*;
    use crate::framebuffer::Framebuffer;

    const ID: SurfaceId = SurfaceId(0);

    fn framebuffer(width: u32, height: u32) -> Framebuffer {
        let mut framebuffer = Framebuffer::default();
        let format = SurfaceFormat::Xrgb32;
        framebuffer.create(&Surface { id: ID, width, height, format, primary: true }).unwrap();
        framebuffer
    }

    fn draw(framebuffer: &mut Framebuffer, rect: Rect, pixel: impl Fn(u32, u32) -> u32) {
        let (width, height) = (rect.width(), rect.height());
        let data: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| pixel(x, y).to_le_bytes())
            .collect();
        let source = Pixels { width, height, stride: data.len() / 64, data: data.into() };
        let copy = Copy {
            surface: ID,
            rects: vec![rect],
            source: CopySource::Pixels(source),
            offset: Point::new(-rect.left, -rect.top),
        };
        framebuffer.copy(&copy).unwrap();
    }

    #[test]
    fn looks_are_told_apart() {
        let mut framebuffer = framebuffer(256, 64);
        let tile = |number: i32| Rect::new(number * 64, 0, number * 64 + 64, 64);
        // Letters: two colours, close together.
        draw(&mut framebuffer, tile(1), |x, y| if (x * 7 + y * 3) % 5 < 2 { 0 } else { 0xff_ffff });
        // A gradient of a title bar.
        draw(&mut framebuffer, tile(2), |_x, y| y * 0x01_0203);
        // Something with a texture.
        draw(&mut framebuffer, tile(3), |x, y| {
            (x * 0x9e37 + y * y * 0x79b1 + x * y * 0x0101) & 0xff_ffff
        });
        let plane = framebuffer.primary().unwrap();
        let mut contents = Contents::default();
        let looks = [0, 1, 2, 3].map(|tile| contents.of(plane, tile).look);
        assert_eq!(looks, [Look::Even, Look::Flat, Look::Flat, Look::Photo]);
    }

    #[test]
    fn equal_tiles_have_equal_hashes_and_others_do_not() {
        let mut framebuffer = framebuffer(160, 64);
        let mut contents = Contents::default();
        let hash = |contents: &mut Contents, framebuffer: &Framebuffer, tile| {
            contents.of(framebuffer.primary().unwrap(), tile).hash
        };
        assert_eq!(hash(&mut contents, &framebuffer, 0), hash(&mut contents, &framebuffer, 1));
        assert_ne!(hash(&mut contents, &framebuffer, 0), hash(&mut contents, &framebuffer, 2));
        let before = hash(&mut contents, &framebuffer, 0);
        let dot =
            |shade| Fill { surface: ID, rects: vec![Rect::new(5, 5, 6, 6)], color: [shade; 4] };
        framebuffer.fill(&dot(9)).unwrap();
        assert_ne!(hash(&mut contents, &framebuffer, 0), before);
        framebuffer.fill(&dot(0)).unwrap();
        assert_eq!(hash(&mut contents, &framebuffer, 0), before);
    }
}
