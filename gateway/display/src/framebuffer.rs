//! The surfaces of one session as the guest drew them.
//!
//! Pixels are `0xAARRGGBB`: SPICE's blue, green, red, alpha read as a little-endian number. Only
//! surfaces off the screen have an alpha, for drawings that read it; on the one that is shown it is
//! always 0. Areas are clipped here again, although `vidi-spice` has clipped them: a mistake there
//! must not be a panic here.

use std::collections::BTreeMap;

use vidi_spice::display::{
    Combine, Copy, CopyBits, CopySource, Fill, Paint, Painting, Pixels, SURFACE_PIXELS_MAX,
    SURFACE_SIDE_MAX, SURFACES_MAX, Surface, View,
};
use vidi_spice::{Point, Rect, SurfaceId};

use crate::changes::Changes;
use crate::error::DisplayError;
use crate::packed::PixelRows;

/// Most memory of all surfaces of one session: two monitors of 3840 x 2160 with the off-screen
/// surfaces of a busy desktop, and few enough that a hundred hostile guests do not fill a gateway.
pub const SURFACE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Side of the tiles in which damage and revisions are counted, in pixels.
pub(crate) const TILE: u32 = 64;

/// Blue, green and red of a pixel.
const COLORS: u32 = 0x00ff_ffff;

/// All surfaces, of which one at most is shown.
#[derive(Debug, Default)]
pub struct Framebuffer {
    surfaces: BTreeMap<SurfaceId, Plane>,
    primary: Option<SurfaceId>,
    /// The shown surface after the guest has destroyed it, until it makes another one: between two
    /// resolutions, or two connections, there is still the last picture to show.
    last: Option<Plane>,
    /// Grows with every change of any pixel.
    revision: u64,
    /// Bytes of all pixels.
    bytes: u64,
}

/// The pixels of one surface.
#[derive(Debug)]
pub struct Plane {
    width: u32,
    height: u32,
    /// The bits of each pixel that are kept: blue, green, red, and alpha off the screen.
    kept: u32,
    /// INVARIANT: `height` rows of `width`.
    pixels: PixelRows,
    /// Revision of the last change of each tile, row by row.
    revisions: Vec<u64>,
    /// The latest revision when pixels were packed last.
    rested: u64,
}

impl Framebuffer {
    /// Makes a surface, black. One of the same id is replaced; a primary one is shown from now on.
    pub fn create(&mut self, surface: &Surface) -> Result<(), DisplayError> {
        self.destroy(surface.id);
        let Surface { id, width, height, primary, .. } = *surface;
        if width == 0 || height == 0 || width > SURFACE_SIDE_MAX || height > SURFACE_SIDE_MAX {
            return Err(DisplayError::SurfaceSize { width, height });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > SURFACE_PIXELS_MAX {
            return Err(DisplayError::SurfaceSize { width, height });
        }
        let bytes = pixels * 4;
        let last_bytes = self.last.as_ref().filter(|_| primary).map_or(0, Plane::bytes);
        if self.surfaces.len() >= SURFACES_MAX
            || self.bytes - last_bytes + bytes > SURFACE_BYTES_MAX
        {
            return Err(DisplayError::TooManySurfaces { width, height });
        }
        self.revision += 1;
        let kept = if primary { COLORS } else { u32::MAX };
        self.surfaces.insert(id, Plane::new([width, height], kept, self.revision));
        self.bytes += bytes;
        if primary {
            self.primary = Some(id);
            self.bytes -= last_bytes;
            self.last = None;
        }
        Ok(())
    }

    /// Forgets a surface; one that does not exist is no error, it may have been refused. The one
    /// that is shown stays shown until there is another.
    pub fn destroy(&mut self, id: SurfaceId) {
        let Some(plane) = self.surfaces.remove(&id) else { return };
        let gone = if self.primary == Some(id) {
            self.primary = None;
            self.last.replace(plane)
        } else {
            Some(plane)
        };
        self.bytes -= gone.as_ref().map_or(0, Plane::bytes);
    }

    /// Forgets all surfaces, as if the guest had destroyed each.
    pub fn destroy_all(&mut self) {
        for id in self.surfaces.keys().copied().collect::<Vec<_>>() {
            self.destroy(id);
        }
    }

    /// Packs what nobody has drawn since the last call. Drawing and reading unpack what they need.
    pub fn rest(&mut self) {
        for plane in self.surfaces.values_mut().chain(&mut self.last) {
            let per_row = index(plane.width.div_ceil(TILE)).max(1);
            let (revisions, rested) = (&plane.revisions, plane.rested);
            plane.pixels.rest(|band| {
                let tiles = revisions.iter().skip(band * per_row).take(per_row);
                tiles.into_iter().any(|revision| *revision > rested)
            });
            plane.rested = self.revision;
        }
    }

    /// Makes all surfaces quick to draw on, and as [`Plane::pixels`] gives them.
    pub fn wake(&mut self) {
        for plane in self.surfaces.values_mut().chain(&mut self.last) {
            let _all = plane.pixels.flat_mut();
        }
    }

    /// Whether there is nothing left to pack.
    pub fn is_packed(&self) -> bool {
        self.surfaces.values().chain(&self.last).all(|plane| plane.pixels.is_packed())
    }

    /// Bytes that all pixels take now.
    pub fn bytes_held(&self) -> usize {
        self.surfaces.values().chain(&self.last).map(|plane| plane.pixels.bytes()).sum()
    }

    /// The surface that is shown.
    pub fn primary(&self) -> Option<&Plane> {
        self.primary.and_then(|id| self.surfaces.get(&id)).or(self.last.as_ref())
    }

    /// Whether `id` is the surface that is shown.
    pub fn is_primary(&self, id: SurfaceId) -> bool {
        self.primary == Some(id)
    }

    /// Paints one colour.
    pub fn fill(&mut self, fill: &Fill) -> Result<(), DisplayError> {
        let (plane, revision) = self.plane(fill.surface)?;
        let pixel = u32::from_le_bytes(fill.color) & plane.kept;
        for rect in &fill.rects {
            plane.change(rect, revision, |row| row.fill(pixel));
        }
        Ok(())
    }

    /// Changes each pixel by itself.
    pub fn combine(&mut self, combine: &Combine) -> Result<(), DisplayError> {
        let (plane, revision) = self.plane(combine.surface)?;
        let (and, xor) = (combine.and, combine.xor & plane.kept);
        for rect in &combine.rects {
            plane.change(rect, revision, |row| {
                for pixel in row {
                    *pixel = (*pixel & and) ^ xor;
                }
            });
        }
        Ok(())
    }

    /// Puts pixels of an image or of a surface; gives the areas in which others were there before.
    pub fn copy(&mut self, copy: &Copy) -> Result<Vec<Rect>, DisplayError> {
        match &copy.source {
            CopySource::Pixels(pixels) => {
                let (plane, revision) = self.plane(copy.surface)?;
                let draw = |rect| plane.draw(rect, pixels, copy.offset, revision);
                Ok(copy.rects.iter().flat_map(draw).collect())
            }
            CopySource::Surface(from) => {
                let source = self.surfaces.get(from).ok_or(DisplayError::UnknownSurface(*from))?;
                // All is read before anything is written: source and destination may be one.
                let parts: Vec<_> = (copy.rects.iter())
                    .map(|rect| {
                        let inside = source.bounds().intersect(&rect.moved(copy.offset));
                        (inside.moved(opposite(copy.offset)), source.read(&inside))
                    })
                    .collect();
                let (plane, revision) = self.plane(copy.surface)?;
                for (rect, pixels) in &parts {
                    plane.write(rect, pixels, revision);
                }
                Ok(copy.rects.clone())
            }
        }
    }

    /// Moves parts of a surface within it; each as if read whole first.
    pub fn copy_bits(&mut self, copy: &CopyBits) -> Result<(), DisplayError> {
        let (plane, revision) = self.plane(copy.surface)?;
        for rect in &copy.rects {
            plane.shift(rect, copy.offset, revision);
        }
        Ok(())
    }

    /// Draws with a rule.
    pub fn paint(&mut self, paint: &Paint) -> Result<(), DisplayError> {
        let id = paint.surface();
        self.wake();
        self.revision += 1;
        // Taken out, so that the others can be read meanwhile.
        let mut plane = self.surfaces.remove(&id).ok_or(DisplayError::UnknownSurface(id))?;
        let painted = if paint.reads_itself() {
            self.paint_from_itself(paint, &mut plane)
        } else {
            let view = |other| self.surfaces.get(&other).map(Plane::view);
            paint.begin(&view).map(|mut painting| {
                for rect in paint.rects() {
                    plane.paint(rect, &mut painting, self.revision);
                }
            })
        };
        self.surfaces.insert(id, plane);
        painted.map_err(DisplayError::UnknownSurface)
    }

    /// All is read before anything is written.
    fn paint_from_itself(&self, paint: &Paint, plane: &mut Plane) -> Result<(), SurfaceId> {
        let mut parts = Vec::with_capacity(paint.rects().len());
        {
            let view = |other| match self.surfaces.get(&other) {
                None if other == paint.surface() => Some(plane.view()),
                plane => plane.map(Plane::view),
            };
            let mut painting = paint.begin(&view)?;
            for rect in paint.rects() {
                let inside = rect.intersect(&plane.bounds());
                let mut pixels = plane.read(&inside);
                let rows = pixels.chunks_exact_mut(index(inside.width()).max(1));
                for (y, row) in (inside.top..inside.bottom).zip(rows) {
                    painting.row(inside.left, y, row);
                }
                parts.push((inside, pixels));
            }
        }
        for (rect, pixels) in &parts {
            plane.write(rect, pixels, self.revision);
        }
        Ok(())
    }

    fn plane(&mut self, id: SurfaceId) -> Result<(&mut Plane, u64), DisplayError> {
        self.revision += 1;
        let plane = self.surfaces.get_mut(&id).ok_or(DisplayError::UnknownSurface(id))?;
        Ok((plane, self.revision))
    }
}

impl Plane {
    fn new([width, height]: [u32; 2], kept: u32, revision: u64) -> Self {
        let tiles = index(width.div_ceil(TILE)) * index(height.div_ceil(TILE));
        let pixels = PixelRows::new(index(width), index(height));
        Self { width, height, kept, pixels, revisions: vec![revision; tiles], rested: 0 }
    }

    /// Bytes of the pixels.
    fn bytes(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * 4
    }

    /// Columns.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// All of it.
    pub fn bounds(&self) -> Rect {
        Rect::of_size(self.width, self.height)
    }

    /// A black one as large as this, for what is shown.
    pub(crate) fn shown(size: [u32; 2]) -> Self {
        Self::new(size, COLORS, 0)
    }

    fn view(&self) -> View<'_> {
        View { width: self.width, height: self.height, pixels: self.pixels.flat() }
    }

    /// All pixels, top row first, without gaps; none while some are packed.
    pub fn pixels(&self) -> &[u32] {
        self.pixels.flat()
    }

    /// A copy of the pixels of `area`, which is clipped, without gaps.
    pub fn read(&self, area: &Rect) -> Vec<u32> {
        let area = area.intersect(&self.bounds());
        let mut pixels = Vec::with_capacity(index(area.width()) * index(area.height()));
        for row in self.rows(&area) {
            pixels.extend_from_slice(row);
        }
        pixels
    }

    /// The one colour of `area`, if it has only one.
    pub(crate) fn solid(&self, area: &Rect) -> Option<u32> {
        let area = area.intersect(&self.bounds());
        let first = *self.rows(&area).next()?.first()?;
        self.rows(&area).all(|row| row.iter().all(|&pixel| pixel == first)).then_some(first)
    }

    /// The latest revision in which any tile that `area` touches has changed: two reads of one
    /// area under one revision give the same pixels.
    pub(crate) fn revision(&self, area: &Rect) -> u64 {
        tiles(&area.intersect(&self.bounds()), self.width)
            .filter_map(|tile| self.revisions.get(tile).copied())
            .max()
            .unwrap_or(0)
    }

    /// Number of tiles.
    pub(crate) fn tiles_count(&self) -> usize {
        self.revisions.len()
    }

    /// Numbers of the tiles that `area`, clipped, touches, row by row.
    pub(crate) fn tiles_in(&self, area: &Rect) -> impl Iterator<Item = usize> + use<> {
        tiles(&area.intersect(&self.bounds()), self.width)
    }

    /// Where the tile of this number is.
    pub(crate) fn tile_area(&self, tile: usize) -> Rect {
        let per_row = index(self.width.div_ceil(TILE)).max(1);
        let corner = |number: usize| i32::try_from(number * index(TILE)).unwrap_or(i32::MAX);
        let corner = Point::new(corner(tile % per_row), corner(tile / per_row));
        Rect::of_size(TILE, TILE).moved(corner).intersect(&self.bounds())
    }

    /// The revision in which the tile of this number changed last.
    pub(crate) fn tile_revision(&self, tile: usize) -> u64 {
        self.revisions.get(tile).copied().unwrap_or(0)
    }

    pub(crate) fn rows(&self, inside: &Rect) -> impl Iterator<Item = &[u32]> {
        let (left, right) = columns(inside);
        let (top, bottom) = lines(inside);
        let lines = if left < right { top..bottom } else { 0..0 };
        lines.filter_map(move |y| self.pixels.row(y).get(left..right))
    }

    /// Marks `rect`, clipped, as changed, and applies `paint` to each of its rows.
    pub(crate) fn change(&mut self, rect: &Rect, revision: u64, mut paint: impl FnMut(&mut [u32])) {
        let inside = rect.intersect(&self.bounds());
        self.touch(&inside, revision);
        let (left, right) = columns(&inside);
        let (top, bottom) = lines(&inside);
        if left >= right {
            return;
        }
        for y in top..bottom {
            paint(self.pixels.row_mut(y).get_mut(left..right).unwrap_or_default());
        }
    }

    fn paint(&mut self, rect: &Rect, painting: &mut Painting<'_>, revision: u64) {
        let inside = rect.intersect(&self.bounds());
        let (mut y, kept) = (inside.top, self.kept);
        self.change(&inside, revision, |row| {
            painting.row(inside.left, y, row);
            row.iter_mut().for_each(|pixel| *pixel &= kept);
            y += 1;
        });
    }

    /// Gives the areas, one for a tile at most, that are others than before.
    fn draw(&mut self, rect: &Rect, source: &Pixels, offset: Point, revision: u64) -> Vec<Rect> {
        let image = Rect::of_size(source.width, source.height);
        let readable = image.intersect(&rect.moved(offset)).moved(opposite(offset));
        let inside = readable.intersect(&self.bounds());
        let (from, to) = columns(&inside.moved(offset));
        let first = inside.moved(offset).top;
        let (mut line, kept) = (u32::try_from(first).unwrap_or(0), self.kept);
        let mut changes = Changes::default();
        let mut new = Vec::with_capacity(index(inside.width()));
        let (left, right) = columns(&inside);
        let (top, bottom) = if left < right { lines(&inside) } else { (0, 0) };
        for (y, number) in (inside.top..inside.bottom).zip(top..bottom) {
            let row = self.pixels.row_mut(number);
            let bytes = source.row(line).and_then(|all| all.get(from * 4..to * 4));
            let (pixels, _none) = bytes.unwrap_or_default().as_chunks::<4>();
            new.clear();
            new.extend(pixels.iter().map(|pixel| u32::from_le_bytes(*pixel) & kept));
            changes.put_row(inside.left, y, row.get_mut(left..right).unwrap_or_default(), &new);
            line += 1;
        }
        let areas = changes.areas();
        for area in &areas {
            self.touch(area, revision);
        }
        areas
    }

    fn write(&mut self, rect: &Rect, pixels: &[u32], revision: u64) {
        let inside = rect.intersect(&self.bounds());
        let stride = index(rect.width()).max(1);
        let skip_rows = inside.top.abs_diff(rect.top);
        let (skip, kept) = (index(inside.left.abs_diff(rect.left)), self.kept);
        let mut rows = pixels.chunks_exact(stride).skip(index(skip_rows));
        self.change(&inside, revision, |row| {
            let from = rows.next().and_then(|line| line.get(skip..skip + row.len()));
            for (to, from) in row.iter_mut().zip(from.unwrap_or_default()) {
                *to = from & kept;
            }
        });
    }

    /// Moves pixels inside the plane, in an order that respects overlap.
    fn shift(&mut self, rect: &Rect, offset: Point, revision: u64) {
        let bounds = self.bounds();
        let source = bounds.intersect(&rect.intersect(&bounds).moved(offset));
        let inside = source.moved(opposite(offset));
        self.touch(&inside, revision);
        let (left, right) = columns(&source);
        let to = columns(&inside).0;
        let (from_top, from_bottom) = lines(&source);
        let to_top = lines(&inside).0;
        if left >= right || from_top >= from_bottom {
            return;
        }
        let stride = index(self.width);
        let pixels = self.pixels.flat_mut();
        let mut move_row = |row: usize| {
            let from = (from_top + row) * stride;
            pixels.copy_within(from + left..from + right, (to_top + row) * stride + to);
        };
        let count = from_bottom - from_top;
        if to_top <= from_top {
            (0..count).for_each(&mut move_row);
        } else {
            (0..count).rev().for_each(&mut move_row);
        }
    }

    fn touch(&mut self, inside: &Rect, revision: u64) {
        for tile in tiles(inside, self.width) {
            if let Some(last) = self.revisions.get_mut(tile) {
                *last = revision;
            }
        }
    }
}

/// Numbers of the tiles that a clipped area touches.
fn tiles(inside: &Rect, width: u32) -> impl Iterator<Item = usize> + use<> {
    let per_row = index(width.div_ceil(TILE));
    let (left, right) = columns(inside);
    let (top, bottom) = lines(inside);
    let side = index(TILE);
    let rows = if left < right && top < bottom { top / side..bottom.div_ceil(side) } else { 0..0 };
    let across = left / side..right.div_ceil(side);
    rows.flat_map(move |row| across.clone().map(move |column| row * per_row + column))
}

/// First column and the one after the last, of a clipped area.
fn columns(inside: &Rect) -> (usize, usize) {
    (edge(inside.left), edge(inside.right))
}

/// First row and the one after the last, of a clipped area.
fn lines(inside: &Rect) -> (usize, usize) {
    (edge(inside.top), edge(inside.bottom))
}

fn edge(value: i32) -> usize {
    usize::try_from(value).unwrap_or(0)
}

fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The way back.
pub(crate) const fn opposite(offset: Point) -> Point {
    Point::new(0_i32.saturating_sub(offset.x), 0_i32.saturating_sub(offset.y))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use vidi_spice::display::SurfaceFormat;

    use super::*;

    const ID: SurfaceId = SurfaceId(0);

    fn surface(id: SurfaceId, width: u32, height: u32) -> Surface {
        Surface { id, width, height, format: SurfaceFormat::Xrgb32, primary: id == ID }
    }

    fn framebuffer(width: u32, height: u32) -> Framebuffer {
        let mut framebuffer = Framebuffer::default();
        framebuffer.create(&surface(ID, width, height)).unwrap();
        framebuffer
    }

    /// An image whose pixel number n is n.
    fn counting(width: u32, height: u32) -> Pixels {
        let data: Vec<u8> = (0..width * height).flat_map(u32::to_le_bytes).collect();
        Pixels { width, height, stride: index(width) * 4, data: Bytes::from(data) }
    }

    #[test]
    fn a_copy_reads_at_its_offset_and_only_inside_its_rectangles() {
        let mut framebuffer = framebuffer(4, 3);
        let copy = Copy {
            surface: ID,
            rects: vec![Rect::new(1, 1, 3, 2), Rect::new(3, 2, 4, 3)],
            source: CopySource::Pixels(counting(10, 10)),
            offset: Point::new(4, 5),
        };
        framebuffer.copy(&copy).unwrap();
        let expected = [0, 0, 0, 0, 0, 65, 66, 0, 0, 0, 0, 77];
        assert_eq!(framebuffer.primary().unwrap().pixels(), expected);
    }

    #[test]
    fn surfaces_beyond_the_limits_are_refused_and_leave_the_rest_alone() {
        let mut framebuffer = framebuffer(8, 8);
        let huge = surface(SurfaceId(1), SURFACE_SIDE_MAX + 1, 1);
        assert!(matches!(framebuffer.create(&huge), Err(DisplayError::SurfaceSize { .. })));
        let heavy = surface(SurfaceId(1), SURFACE_SIDE_MAX, SURFACE_SIDE_MAX);
        assert!(matches!(framebuffer.create(&heavy), Err(DisplayError::SurfaceSize { .. })));
        for number in [2, 3] {
            framebuffer.create(&surface(SurfaceId(number), 7680, 4352)).unwrap();
        }
        let fourth = surface(SurfaceId(4), 1024, 1024);
        assert!(matches!(framebuffer.create(&fourth), Err(DisplayError::TooManySurfaces { .. })));
        framebuffer.destroy(SurfaceId(3));
        framebuffer.destroy(SurfaceId(2));
        let fill = Fill { surface: SurfaceId(1), rects: Vec::new(), color: [0; 4] };
        assert_eq!(framebuffer.fill(&fill), Err(DisplayError::UnknownSurface(SurfaceId(1))));
        assert_eq!(framebuffer.primary().unwrap().width(), 8);
        let again = surface(SurfaceId(1), 4096, 4096);
        for _time in 0..8 {
            framebuffer.create(&again).unwrap();
        }
        // The picture counts once, whether it is shown or was.
        let large = surface(ID, 4096, 4096);
        for _time in 0..8 {
            framebuffer.create(&large).unwrap();
            framebuffer.destroy_all();
        }
        assert_eq!(framebuffer.bytes, 4096 * 4096 * 4);
        assert_eq!(framebuffer.primary().unwrap().width(), 4096);
        framebuffer.create(&surface(ID, 1, 1)).unwrap();
        assert_eq!(framebuffer.bytes, 4);
    }

    fn rects() -> impl Strategy<Value = Rect> {
        (-20..90_i32, -20..90_i32, 0..90_i32, 0..90_i32)
            .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
    }

    #[test]
    fn a_drawing_reads_other_surfaces_and_itself_as_they_were() {
        let mut framebuffer = framebuffer(3, 1);
        let other = surface(SurfaceId(1), 2, 1);
        framebuffer.create(&other).unwrap();
        let put = |surface, width| Copy {
            surface,
            rects: vec![Rect::of_size(width, 1)],
            source: CopySource::Pixels(counting(width, 1)),
            offset: Point::default(),
        };
        framebuffer.copy(&put(ID, 3)).unwrap();
        // Not one after the other: each from what was to the left of it.
        let (primary, xor) = (surface(ID, 3, 1), 0x66);
        let rects = vec![Rect::new(1, 0, 2, 1), Rect::new(2, 0, 3, 1)];
        let left = Point::new(-1, 0);
        let paint = Paint::blit(&primary, rects, 0xcc, CopySource::Surface(ID), left);
        framebuffer.paint(&paint).unwrap();
        assert_eq!(framebuffer.primary().unwrap().pixels(), [0, 0, 1]);
        // Off the screen alpha stays, and on the screen there is none.
        let white = Fill { surface: other.id, rects: vec![Rect::of_size(2, 1)], color: [255; 4] };
        framebuffer.fill(&white).unwrap();
        assert_eq!(framebuffer.surfaces[&other.id].pixels(), [u32::MAX; 2]);
        let all = vec![Rect::of_size(2, 1)];
        let source = CopySource::Surface(other.id);
        let paint = Paint::blit(&primary, all.clone(), xor, source, Point::default());
        framebuffer.paint(&paint).unwrap();
        assert_eq!(framebuffer.primary().unwrap().pixels(), [0xff_ffff, 0xff_ffff, 1]);
        framebuffer.destroy(other.id);
        let gone = DisplayError::UnknownSurface(other.id);
        assert_eq!(framebuffer.paint(&paint), Err(gone));
        let nowhere = CopySource::Surface(ID);
        let paint = Paint::blit(&other, all, xor, nowhere, Point::default());
        assert_eq!(framebuffer.paint(&paint), Err(DisplayError::UnknownSurface(other.id)));
        assert_eq!(framebuffer.primary().unwrap().width(), 3);
    }

    proptest! {
        #[test]
        fn moving_bits_equals_reading_all_first(
            rect in rects(), x in -90..90_i32, y in -90..90_i32,
        ) {
            let mut framebuffer = framebuffer(70, 66);
            let whole = Copy {
                surface: ID,
                rects: vec![Rect::of_size(70, 66)],
                source: CopySource::Pixels(counting(70, 66)),
                offset: Point::default(),
            };
            framebuffer.copy(&whole).unwrap();
            let offset = Point::new(x, y);
            let copied = Copy {
                source: CopySource::Surface(ID), rects: vec![rect], offset, surface: ID,
            };
            let before = framebuffer.primary().unwrap().pixels().to_vec();
            framebuffer.copy_bits(&CopyBits { surface: ID, rects: vec![rect], offset }).unwrap();
            let moved = framebuffer.primary().unwrap().pixels().to_vec();
            framebuffer.copy(&whole).unwrap();
            framebuffer.copy(&copied).unwrap();
            prop_assert_eq!(framebuffer.primary().unwrap().pixels(), &moved[..]);
            for row in 0..66_i32 {
                for column in 0..70_i32 {
                    let source = Point::new(column + x, row + y);
                    let inside = |point: Point, area: Rect| {
                        point.x >= area.left && point.x < area.right
                            && point.y >= area.top && point.y < area.bottom
                    };
                    let at = |point: Point| index(u32::try_from(point.y * 70 + point.x).unwrap());
                    let here = Point::new(column, row);
                    let hit = inside(here, rect) && inside(source, Rect::of_size(70, 66));
                    let expected = if hit { before[at(source)] } else { before[at(here)] };
                    prop_assert_eq!(moved[at(here)], expected);
                }
            }
        }

        #[test]
        fn an_unchanged_revision_means_unchanged_pixels(
            fills in proptest::collection::vec((rects(), any::<u8>()), 1..12), watched in rects(),
        ) {
            let mut framebuffer = framebuffer(150, 130);
            for (rect, shade) in fills {
                let plane = framebuffer.primary().unwrap();
                let before = (plane.revision(&watched), plane.read(&watched));
                let fill = Fill { surface: ID, rects: vec![rect], color: [shade; 4] };
                framebuffer.fill(&fill).unwrap();
                let plane = framebuffer.primary().unwrap();
                if plane.revision(&watched) == before.0 {
                    prop_assert_eq!(plane.read(&watched), before.1);
                }
            }
        }
    }
}
