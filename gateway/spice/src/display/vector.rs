//! Lines and text (`spice.proto`, `Stroke`, `Path`, `LineAttr`, `Text`, `String`).

use crate::channel::too_large;
use crate::error::SpiceError;
use crate::geometry::Point;
use crate::unsupported::{Feature, Operation};
use crate::wire::Reader;

use super::DisplayChannel;
use super::draw::{self, Base};
use super::operations::{Drawn, Fault, alpha_of, colored, painted};
use super::paint::{
    Alpha, Budget, Dashes, Glyph, GlyphDepth, Operator, Paint, Placement, Rule, Segment, Source,
    Spent, Texture, Through, glyph_area, levels, spans,
};
use super::raster::{Input, RasterOperation};
use super::work;

/// Points of all lines of one message, those of curves included: 8 MiB of them.
const STROKE_POINTS_MAX: usize = 1 << 20;
/// Runs of pixels that one message may draw: every line of a surface of the largest size, many
/// times over.
const STROKE_RUNS_MAX: usize = 1 << 20;
/// How often a curve may be halved: into more lines than a surface is wide.
const CURVE_HALVINGS_MAX: u32 = 15;
/// Halves of curves that wait to be drawn: one for each halving, and both of the last.
const CURVES_WAITING_MAX: usize = 17;

/// `SPICE_LINE_FLAGS_STYLED`
const STYLED: u8 = 1 << 3;
/// `SPICE_LINE_FLAGS_START_WITH_GAP`
const START_WITH_GAP: u8 = 1 << 2;
/// `SPICE_PATH_BEGIN`
const PATH_BEGIN: u8 = 1 << 0;
/// `SPICE_PATH_END`
const PATH_END: u8 = 1 << 1;
/// `SPICE_PATH_CLOSE`
const PATH_CLOSE: u8 = 1 << 3;
/// `SPICE_PATH_BEZIER`
const PATH_BEZIER: u8 = 1 << 4;
/// `SPICE_STRING_FLAGS_RASTER_A1` and its brothers.
const RASTER_A1: u8 = 1 << 0;
const RASTER_A4: u8 = 1 << 1;
const RASTER_A8: u8 = 1 << 2;
/// `SPICE_STRING_FLAGS_RASTER_TOP_DOWN`
const RASTER_TOP_DOWN: u8 = 1 << 3;

/// A point in 1/16 of a pixel.
type FinePoint = [i32; 2];

/// Lines from pixel to pixel, in pieces that begin with the first dash.
#[derive(Debug, Default)]
struct Lines {
    finished: Vec<Vec<Point>>,
    current: Vec<Point>,
    points: usize,
}

impl DisplayChannel {
    /// `Stroke`: path pointer, line attributes, brush, foreground mode u16, background mode u16.
    ///
    /// The background mode would be for the gaps between dashes; like the reference renderer and
    /// all others, this one leaves them alone.
    pub(super) fn draw_stroke(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let Some(path) = reader.pointer()? else {
            return Err(reader.malformed("it has no path").into());
        };
        let lines = read_path(&mut reader.at(path, "path")?)?;
        let mut dashes = line_style(reader)?;
        let brush = draw::brush(reader, &mut self.caches)?;
        let descriptor = reader.u16()?;
        let operation =
            RasterOperation::from_descriptor(descriptor, Input::Brush, Input::Destination);

        let surface = *self.surface(base.surface)?;
        let brush = self.brush_source(brush, surface.format)?;
        let clip = base.rects(&surface.bounds())?;
        let Some(bounds) = clip.iter().copied().reduce(|all, rect| all.union(&rect)) else {
            return Ok(None);
        };
        if operation.is_nothing() {
            return Ok(None);
        }
        let mut runs = Vec::new();
        let mut budget = Budget { runs: STROKE_RUNS_MAX, pixels: draw::DRAWN_PIXELS_MAX };
        for line in &lines {
            if let Some(dashes) = &mut dashes {
                dashes.restart();
            }
            for ends in line.array_windows() {
                let [from, to] = *ends;
                let out = (&mut runs, &mut budget);
                spans(&Segment { from, to }, &bounds, dashes.as_mut(), out).map_err(too_long)?;
            }
        }
        self.work.add(work::of_clipping(runs.len(), clip.len()))?;
        let rects = draw::clip_runs(runs, &clip, STROKE_RUNS_MAX)?;
        Ok(match &brush {
            Source::Color(color) => colored(&surface, rects, operation, *color),
            Source::Texture { .. } => {
                painted(Paint { brush, ..Paint::new(&surface, rects, Rule::Raster(operation)) })
            }
        })
    }

    /// `Text`: string pointer, background area, foreground brush, background brush, their modes
    /// u16 each. The reference renderer has one mode for each: put the background, then blend the
    /// foreground over it.
    pub(super) fn draw_text(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let Some(string) = reader.pointer()? else {
            return Err(reader.malformed("it has no string").into());
        };
        let back_area = reader.rect()?;
        let fore_brush = draw::brush(reader, &mut self.caches)?;
        let back_brush = draw::brush(reader, &mut self.caches)?;
        let (glyphs, depth, top_down) = read_string(&mut reader.at(string, "text")?)?;

        let surface = *self.surface(base.surface)?;
        let background = match self.brush_source(back_brush, surface.format)? {
            _ if back_area.is_empty() => None,
            Source::Color(color) => {
                let rects = base.rects(&surface.bounds().intersect(&back_area))?;
                colored(&surface, rects, RasterOperation::BRUSH, color)
            }
            brush @ Source::Texture { .. } => {
                let rects = base.rects(&surface.bounds().intersect(&back_area))?;
                let rule = Rule::Raster(RasterOperation::BRUSH);
                painted(Paint { brush, ..Paint::new(&surface, rects, rule) })
            }
        };
        let has_foreground = !matches!(fore_brush, draw::Brush::None);
        let source = opaque(self.brush_source(fore_brush, surface.format)?);
        let whole = glyphs.iter().map(|glyph| glyph.area).filter(|area| !area.is_empty());
        let whole = whole.reduce(|all, area| all.union(&area)).unwrap_or_default();
        let rects = base.rects(&surface.bounds().intersect(&whole))?;
        let bounds = rects.iter().copied().reduce(|all, rect| all.union(&rect));
        let foreground = match bounds {
            Some(bounds) if has_foreground => {
                let areas = glyphs.iter().map(|glyph| glyph.area);
                self.work.add(work::of_glyphs(areas, &bounds))?;
                let texture = Texture::Levels(levels(&glyphs, depth, top_down, &bounds));
                let placement = Placement::Shifted(Point::new(-bounds.left, -bounds.top));
                let mask = Source::Texture { texture, placement, alpha: Alpha::Own };
                let destination = alpha_of(surface.format);
                let (operator, through) = (Operator::OVER, Through::Alpha);
                let rule = Rule::Mix { operator, through, destination };
                painted(Paint { source, mask, ..Paint::new(&surface, rects, rule) })
            }
            _ => None,
        };
        let (first, second) = match background {
            None => (foreground, None),
            background => (background, foreground),
        };
        self.second = second;
        Ok(first)
    }
}

fn too_long(spent: Spent) -> SpiceError {
    let (what, limit) = match spent {
        Spent::Runs => ("stroke in runs of pixels", u64::try_from(STROKE_RUNS_MAX).unwrap_or(0)),
        Spent::Pixels => ("stroke in pixels", draw::DRAWN_PIXELS_MAX),
    };
    SpiceError::TooLarge { what, value: limit + 1, limit }
}

/// What is put through glyphs has no alpha of its own.
fn opaque(brush: Source) -> Source {
    match brush {
        Source::Color(color) => Source::Color(color | super::form::ALPHA),
        Source::Texture { texture, placement, .. } => {
            Source::Texture { texture, placement, alpha: Alpha::Opaque }
        }
    }
}

/// `LineAttr`: flags u8; when they say so, number of lengths u8 and pointer to them, i32 each in
/// 1/16 of a pixel.
fn line_style(reader: &mut Reader<'_>) -> Result<Option<Dashes>, SpiceError> {
    let flags = reader.u8()?;
    if flags & STYLED == 0 {
        return Ok(None);
    }
    let (count, style) = (reader.u8()?, reader.pointer()?);
    let Some(style) = style.filter(|_| count > 0) else { return Ok(None) };
    let mut fields = reader.at(style, "line style")?;
    let mut lengths = Vec::with_capacity(count.into());
    for _ in 0..count {
        lengths.push(u32::try_from(whole(fields.i32()?)).unwrap_or(0));
    }
    Ok(Dashes::new(&lengths, flags & START_WITH_GAP != 0))
}

/// `Path`: number of segments u32, then each: flags u8, number of points u32, points i32 x 2.
fn read_path(reader: &mut Reader<'_>) -> Result<Vec<Vec<Point>>, SpiceError> {
    let (mut lines, mut curve) = (Lines::default(), Vec::with_capacity(3));
    for _ in 0..reader.u32()? {
        let (flags, count) = (reader.u8()?, reader.u32()?);
        if flags & PATH_BEGIN != 0 {
            lines.finish();
        }
        curve.clear();
        for _ in 0..count {
            let point = [reader.i32()?, reader.i32()?];
            match lines.current.last() {
                Some(start) if flags & PATH_BEZIER != 0 => {
                    let start = [start.x, start.y].map(|at| at.saturating_mul(16));
                    curve.push(point);
                    if let [first, second, end] = *curve.as_slice() {
                        lines.curve([start, first, second, end])?;
                        curve.clear();
                    }
                }
                _ => lines.push(point)?,
            }
        }
        if flags & PATH_END != 0 {
            if flags & PATH_CLOSE != 0 {
                lines.close();
            }
            lines.finish();
        }
    }
    lines.finish();
    Ok(lines.finished)
}

impl Lines {
    fn push(&mut self, [x, y]: FinePoint) -> Result<(), SpiceError> {
        self.points += 1;
        if self.points > STROKE_POINTS_MAX {
            let value = u64::try_from(self.points).unwrap_or(u64::MAX);
            return Err(too_large("path in points", value, STROKE_POINTS_MAX));
        }
        self.current.push(Point::new(whole(x), whole(y)));
        Ok(())
    }

    fn close(&mut self) {
        if let Some(first) = self.current.first() {
            self.current.push(*first);
        }
    }

    fn finish(&mut self) {
        if !self.current.is_empty() {
            self.finished.push(std::mem::take(&mut self.current));
        }
    }

    /// A Bézier curve from the last point on, halved until its control points are near enough to
    /// the straight line.
    fn curve(&mut self, curve: [FinePoint; 4]) -> Result<(), SpiceError> {
        let mut waiting = Vec::with_capacity(CURVES_WAITING_MAX);
        waiting.push((curve, 0));
        while let Some((curve, halvings)) = waiting.pop() {
            if halvings >= CURVE_HALVINGS_MAX || is_straight(curve) {
                let [_, _, _, end] = curve;
                self.push(end)?;
            } else {
                let [first, second] = halves(curve);
                waiting.push((second, halvings + 1));
                waiting.push((first, halvings + 1));
            }
        }
        Ok(())
    }
}

/// 1/16 pixels to pixels: to the nearest, from the middle down.
const fn whole(fine: i32) -> i32 {
    (fine >> 4) + if fine & 15 > 8 { 1 } else { 0 }
}

/// Whether both control points deviate from the line between the ends by less than what shows, as
/// the reference renderer measures it: distance squared below 8/16 x 16/16 pixels.
fn is_straight([start, first, second, end]: [FinePoint; 4]) -> bool {
    let between = |[from_x, from_y]: FinePoint, [to_x, to_y]: FinePoint| {
        [i128::from(to_x) - i128::from(from_x), i128::from(to_y) - i128::from(from_y)]
    };
    let dot = |[a_x, a_y]: [i128; 2], [b_x, b_y]: [i128; 2]| (a_x * b_x + a_y * b_y) >> 4;
    let deviation = |control: [i128; 2], line: [i128; 2]| {
        let along = dot(control, line);
        (dot(control, control) * dot(line, line) - along * along) >> 3
    };
    let line = between(start, end);
    let length = dot(line, line);
    let from_start = deviation(between(start, first), line);
    let from_end = deviation(between(end, second), between(end, start));
    from_start < length && from_end < length
}

/// Both halves of a curve (de Casteljau).
fn halves([start, first, second, end]: [FinePoint; 4]) -> [[FinePoint; 4]; 2] {
    let middle = |[a_x, a_y]: FinePoint, [b_x, b_y]: FinePoint| {
        let half = |a: i32, b: i32| i32::try_from((i64::from(a) + i64::from(b)) / 2).unwrap_or(0);
        [half(a_x, b_x), half(a_y, b_y)]
    };
    let (a, b, c) = (middle(start, first), middle(first, second), middle(second, end));
    let (left, right) = (middle(a, b), middle(b, c));
    let center = middle(left, right);
    [[start, a, left, center], [center, right, c, end]]
}

/// `String`: number of glyphs u16, flags u8, then each glyph: position, origin, width u16, height
/// u16, rows.
fn read_string(reader: &mut Reader<'_>) -> Result<(Vec<Glyph>, GlyphDepth, bool), Fault> {
    let (count, flags) = (reader.u16()?, reader.u8()?);
    let depth = if flags & RASTER_A1 != 0 {
        GlyphDepth::One
    } else if flags & RASTER_A4 != 0 {
        GlyphDepth::Four
    } else if flags & RASTER_A8 != 0 {
        GlyphDepth::Eight
    } else {
        return Err(Feature::Operation(Operation::Text).into());
    };
    let mut glyphs = Vec::new();
    for _ in 0..count {
        let (position, origin) = (reader.point()?, reader.point()?);
        let (width, height) = (reader.u16()?, reader.u16()?);
        let bytes = depth.row_bytes(width.into()).saturating_mul(height.into());
        let data = reader.bytes(bytes)?;
        glyphs.push(Glyph { area: glyph_area(position, origin, [width, height]), data });
    }
    Ok((glyphs, depth, flags & RASTER_TOP_DOWN != 0))
}
