//! Drawing with a rule: for each pixel of some rectangles, a new one is made of the old one, a
//! source, a brush and a mask.
//!
//! ```text
//!   source ──┐
//!   brush  ──┤   rule                cover (1 bit)
//!   mask   ──┼─────────▶ new pixel ───────┬──────▶ pixel
//!   pixel  ──┘                            │
//!   pixel  ───────────────────────────────┘
//! ```
//!
//! Every drawing operation of SPICE that is not a plain copy, fill or move is one of these; they
//! differ in the rule and in what they read. The owner of the surfaces carries them out, since
//! they read what is drawn already.

mod blend;
mod operator;
mod source;
mod stroke;
mod text;
mod texture;

use crate::geometry::{Point, Rect, SurfaceId};

use super::event::{CopySource, Surface, SurfaceFormat};
use super::form::{ALPHA, COLORS};
use super::raster::{Input, RasterOperation};

pub(super) use operator::{Operator, Through};
pub(super) use source::{Affine, Alpha, Filter, Placement, Repeat, Source};
pub(super) use stroke::{Budget, Dashes, Segment, Spent, spans};
pub(super) use text::{Glyph, GlyphDepth, glyph_area, levels};
pub use texture::View;
pub(super) use texture::{BitOrder, Bits, Texture};

use texture::Grid;

/// One drawing with a rule; [`Paint::begin`] carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paint {
    pub(super) surface: SurfaceId,
    pub(super) format: SurfaceFormat,
    pub(super) rects: Vec<Rect>,
    pub(super) rule: Rule,
    pub(super) source: Source,
    pub(super) brush: Source,
    /// Through what the source is seen, where the rule has a mask.
    pub(super) mask: Source,
    /// Which pixels are drawn at all.
    pub(super) cover: Option<Cover>,
}

/// What becomes of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Bit by bit of destination, source and brush.
    Raster(RasterOperation),
    /// The source, where its colour is not this one.
    ColorKey(u32),
    Mix {
        operator: Operator,
        through: Through,
        destination: Alpha,
    },
}

/// The pixels whose alpha is at least a half in a texture, or less than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cover {
    pub(super) source: Source,
    pub(super) inverted: bool,
}

/// A drawing under way: all that it reads is at hand.
#[derive(Debug)]
pub struct Painting<'a> {
    paint: &'a Paint,
    source: Row<'a>,
    brush: Row<'a>,
    mask: Row<'a>,
    cover: Option<(Row<'a>, bool)>,
    result: Vec<u32>,
}

/// Room for what one input gives for one row.
#[derive(Debug)]
struct Row<'a> {
    source: &'a Source,
    grid: Grid<'a>,
    pixels: Vec<u32>,
}

impl Paint {
    /// A drawing that puts on `surface` what the operation makes of destination and source, and
    /// reads no brush: the ROP3 codes of Windows in which both halves are the same. Destination
    /// pixel (x, y) belongs to source pixel (x + offset.x, y + offset.y).
    ///
    /// `rects` must lie inside of the surface.
    pub fn blit(
        surface: &Surface,
        rects: Vec<Rect>,
        code: u8,
        source: CopySource,
        offset: Point,
    ) -> Self {
        let texture = match source {
            CopySource::Pixels(pixels) => Texture::Pixels(pixels),
            CopySource::Surface(id) => Texture::Surface(id),
        };
        let placement = Placement::Shifted(offset);
        let source = Source::Texture { texture, placement, alpha: Alpha::Own };
        let rule = Rule::Raster(RasterOperation(code));
        Self { source, ..Self::new(surface, rects, rule) }
    }

    /// A drawing without source, brush, mask or cover yet.
    pub(super) const fn new(surface: &Surface, rects: Vec<Rect>, rule: Rule) -> Self {
        Self {
            surface: surface.id,
            format: surface.format,
            rects,
            rule,
            source: Source::Color(0),
            brush: Source::Color(0),
            mask: Source::Color(0),
            cover: None,
        }
    }

    /// The surface that is drawn on.
    pub const fn surface(&self) -> SurfaceId {
        self.surface
    }

    /// The pixels that are drawn on, inside of the surface and in this order.
    pub fn rects(&self) -> &[Rect] {
        &self.rects
    }

    /// Whether it reads other pixels of the surface that it draws on than those that it replaces:
    /// then all of them as before the drawing.
    pub fn reads_itself(&self) -> bool {
        let cover = self.cover.as_ref().map(|cover| &cover.source);
        let read = [Some(&self.source), Some(&self.brush), Some(&self.mask), cover];
        read.into_iter().flatten().any(|source| source.surface() == Some(self.surface))
    }

    /// Begins to draw, with the pixels of any surface that is asked for; an error names one that
    /// is not there.
    pub fn begin<'a>(
        &'a self,
        surfaces: &dyn Fn(SurfaceId) -> Option<View<'a>>,
    ) -> Result<Painting<'a>, SurfaceId> {
        let row = |source: &'a Source| match source.grid(surfaces) {
            Some(grid) => Ok(Row { source, grid, pixels: Vec::new() }),
            None => Err(source.surface().unwrap_or(self.surface)),
        };
        let cover = match &self.cover {
            Some(cover) => Some((row(&cover.source)?, cover.inverted)),
            None => None,
        };
        Ok(Painting {
            paint: self,
            source: row(&self.source)?,
            brush: row(&self.brush)?,
            mask: row(&self.mask)?,
            cover,
            result: Vec::new(),
        })
    }
}

impl Painting<'_> {
    /// Draws on a part of one row of the surface, which begins at (`left`, `y`) and lies inside
    /// of one of the rectangles.
    pub fn row(&mut self, left: i32, y: i32, row: &mut [u32]) {
        let Some((cover, inverted)) = &mut self.cover else { return self.apply(left, y, row) };
        let inverted = *inverted;
        cover.read(left, y, row.len());
        let mut result = std::mem::take(&mut self.result);
        result.clear();
        result.extend_from_slice(row);
        self.apply(left, y, &mut result);
        let covers = self.cover.as_ref().map_or(&[][..], |(cover, _)| &cover.pixels);
        for ((pixel, new), cover) in row.iter_mut().zip(&result).zip(covers) {
            if (cover & 0x8000_0000 != 0) != inverted {
                *pixel = *new;
            }
        }
        self.result = result;
    }

    fn apply(&mut self, left: i32, y: i32, row: &mut [u32]) {
        let format = self.paint.format;
        match self.paint.rule {
            Rule::Raster(operation) => {
                let inputs = [(&mut self.source, Input::Source), (&mut self.brush, Input::Brush)];
                for (input, which) in inputs {
                    if operation.reads(which) {
                        input.read_narrowed(left, y, row.len(), format);
                    } else {
                        input.pixels.resize(row.len(), 0);
                    }
                }
                operation.apply_row(&self.brush.pixels, &self.source.pixels, row);
                row.iter_mut().for_each(|pixel| *pixel &= format.kept());
            }
            Rule::ColorKey(key) => {
                self.source.read_narrowed(left, y, row.len(), format);
                let counts = if format.kept() == ALPHA { ALPHA } else { COLORS };
                for (pixel, source) in row.iter_mut().zip(&self.source.pixels) {
                    if (source ^ key) & counts != 0 {
                        *pixel = *source;
                    }
                }
            }
            Rule::Mix { operator, through, destination } => {
                self.source.read(left, y, row.len());
                self.mask.read(left, y, row.len());
                if destination == Alpha::Opaque {
                    row.iter_mut().for_each(|pixel| *pixel |= ALPHA);
                }
                operator.mix_row(&self.source.pixels, &self.mask.pixels, through, row);
                for pixel in row {
                    *pixel = format.narrow(*pixel);
                    // Nothing that is undefined is to look like alpha later.
                    if destination == Alpha::Opaque {
                        *pixel &= COLORS;
                    }
                }
            }
        }
    }
}

impl Row<'_> {
    fn read(&mut self, left: i32, y: i32, length: usize) {
        self.pixels.resize(length, 0);
        self.source.row(&self.grid, left, y, &mut self.pixels);
    }

    /// The same as a surface of this format would hold it.
    fn read_narrowed(&mut self, left: i32, y: i32, length: usize, format: SurfaceFormat) {
        self.read(left, y, length);
        if !format.keeps_all() {
            self.pixels.iter_mut().for_each(|pixel| *pixel = format.narrow(*pixel));
        }
    }
}
