//! Text drawn over the picture before it is sent: who looks, and when. What the guest drew stays as it is
//! beside it, so that the text can change.
//!
//! ```text
//!   framebuffer ──tiles that changed──▶ blended with the text ──▶ what is read for encoding
//! ```

use vidi_spice::Rect;

use crate::framebuffer::Plane;
use crate::glyphs::{GLYPH_COLUMNS, GLYPH_ROWS, glyph};

/// Pixels of a dot of a letter: readable on a photo of a screen.
const DOT: usize = 2;
/// Columns and rows of a letter with its gap.
const LETTER: [usize; 2] = [(GLYPH_COLUMNS + 1) * DOT, (GLYPH_ROWS + 1) * DOT];
/// Between one text and the next.
const GAP: [usize; 2] = [96, 112];
/// Most letters of a line: longer names are cut.
const LETTERS_MAX: usize = 48;
/// How much the text differs from what is below it, of 255: visible, and in nobody's way.
const STRENGTH: u8 = 22;
/// Revisions of marked tiles, which are never those of the framebuffer's own.
const REVISIONS: u64 = 1 << 63;

/// The text over one session's picture, if there is any.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    cell: Option<Cell>,
    /// What is shown; as large as the framebuffer's.
    plane: Option<Plane>,
    /// Of each tile: the framebuffer's revision that it was made of.
    made_of: Vec<u64>,
    /// Of tiles marked last, less [`REVISIONS`]. It goes on when there is a text again: what was encoded
    /// of the one before is known by its revision.
    revision: u64,
}

/// One repetition of the text.
#[derive(Debug, PartialEq, Eq)]
struct Cell {
    size: [usize; 2],
    /// Row by row.
    ink: Vec<bool>,
}

impl Watermark {
    /// The text over a picture is another one, or none where there are no lines; gives the areas where
    /// that is to be seen.
    pub(crate) fn change(&mut self, lines: &[String], picture: Option<&Plane>) -> Vec<Rect> {
        let after = (!lines.is_empty()).then(|| Cell::new(lines));
        let (before, after) = match (std::mem::replace(&mut self.cell, after), &self.cell) {
            (Some(before), Some(after)) => (before, after),
            (None, None) => return Vec::new(),
            (None, Some(_)) | (Some(_), None) => {
                self.plane = None;
                return picture.map(Plane::bounds).into_iter().collect();
            }
        };
        let Some(plane) = &self.plane else { return Vec::new() };
        let mut areas = Vec::new();
        for (tile, made_of) in self.made_of.iter_mut().enumerate() {
            let area = plane.tile_area(tile);
            if before.differs(after, &area) {
                // No revision of a tile: it is made anew.
                *made_of = 0;
                areas.push(area);
            }
        }
        areas
    }

    /// Whether there is a text.
    pub(crate) const fn is_shown(&self) -> bool {
        self.cell.is_some()
    }

    /// The picture with the text over it.
    pub(crate) fn over<'a>(&'a mut self, picture: &'a Plane) -> &'a Plane {
        let Some(cell) = &self.cell else { return picture };
        let size = [picture.width(), picture.height()];
        let fits = |plane: &Plane| [plane.width(), plane.height()] == size;
        let mut plane = self.plane.take().filter(fits).unwrap_or_else(|| {
            self.made_of.clear();
            Plane::shown(size)
        });
        self.made_of.resize(picture.tiles_count(), 0);
        self.revision += 1;
        for (tile, made_of) in self.made_of.iter_mut().enumerate() {
            let revision = picture.tile_revision(tile);
            if *made_of != revision {
                *made_of = revision;
                let marked = (&picture.tile_area(tile), REVISIONS + self.revision);
                mark(cell, picture, &mut plane, marked);
            }
        }
        self.plane.insert(plane)
    }
}

fn mark(cell: &Cell, picture: &Plane, plane: &mut Plane, (area, revision): (&Rect, u64)) {
    let (left, mut y) = (position(area.left), position(area.top));
    let mut rows = picture.rows(area);
    plane.change(area, revision, |row| {
        let from = rows.next().unwrap_or_default();
        for (x, (to, from)) in row.iter_mut().zip(from).enumerate() {
            *to = if cell.is_ink(left + x, y) { tinted(*from) } else { *from };
        }
        y += 1;
    });
}

impl Cell {
    fn new(lines: &[String]) -> Self {
        let letters = |line: &String| line.chars().count().min(LETTERS_MAX);
        let columns = lines.iter().map(letters).max().unwrap_or(0) * LETTER[0] + GAP[0];
        let rows = lines.len() * LETTER[1] + GAP[1];
        let mut cell = Self { size: [columns, rows], ink: vec![false; columns * rows] };
        for (number, line) in lines.iter().enumerate() {
            for (place, letter) in line.chars().take(LETTERS_MAX).enumerate() {
                cell.draw(letter, [place * LETTER[0], number * LETTER[1]]);
            }
        }
        cell
    }

    fn draw(&mut self, letter: char, [left, top]: [usize; 2]) {
        for (row, bits) in glyph(letter).into_iter().enumerate() {
            for column in
                (0..GLYPH_COLUMNS).filter(|column| bits >> (GLYPH_COLUMNS - 1 - column) & 1 == 1)
            {
                for dot in 0..DOT * DOT {
                    let x = left + column * DOT + dot % DOT;
                    let y = top + row * DOT + dot / DOT;
                    if let Some(ink) = self.ink.get_mut(y * self.size[0] + x) {
                        *ink = true;
                    }
                }
            }
        }
    }

    /// Every other row of texts is moved by half of one, so that no part of the picture is without.
    fn is_ink(&self, x: usize, y: usize) -> bool {
        let [columns, rows] = self.size;
        let moved = if y / rows % 2 == 1 { columns / 2 } else { 0 };
        self.ink.get(y % rows * columns + (x + moved) % columns).copied().unwrap_or(false)
    }

    fn differs(&self, other: &Self, area: &Rect) -> bool {
        let (columns, mut rows) =
            (position(area.left)..position(area.right), position(area.top)..position(area.bottom));
        self.size != other.size
            || rows.any(|y| columns.clone().any(|x| self.is_ink(x, y) != other.is_ink(x, y)))
    }
}

/// Darker where it is light, lighter where it is dark.
fn tinted(pixel: u32) -> u32 {
    let [alpha, red, green, blue] = pixel.to_be_bytes();
    let bright = u16::from(red) + 2 * u16::from(green) + u16::from(blue) > 4 * 127;
    let shade = |channel: u8| {
        if bright { channel.saturating_sub(STRENGTH) } else { channel.saturating_add(STRENGTH) }
    };
    u32::from_be_bytes([alpha, shade(red), shade(green), shade(blue)])
}

fn position(edge: i32) -> usize {
    usize::try_from(edge).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use vidi_spice::SurfaceId;
    use vidi_spice::display::{Fill, Surface, SurfaceFormat};

    use super::*;
    use crate::framebuffer::Framebuffer;

    const ID: SurfaceId = SurfaceId(0);

    fn grey() -> Framebuffer {
        let mut framebuffer = Framebuffer::default();
        let surface = Surface {
            id: ID,
            width: 640,
            height: 480,
            format: SurfaceFormat::Xrgb32,
            primary: true,
        };
        framebuffer.create(&surface).unwrap();
        fill(&mut framebuffer, Rect::new(0, 0, 640, 480), 200);
        framebuffer
    }

    fn fill(framebuffer: &mut Framebuffer, rect: Rect, grey: u8) {
        let fill = Fill { surface: ID, rects: vec![rect], color: [grey, grey, grey, 0] };
        framebuffer.fill(&fill).unwrap();
    }

    fn lines(minute: &str) -> [String; 2] {
        ["Ana".to_owned(), minute.to_owned()]
    }

    fn marked(minute: &str) -> Watermark {
        let mut mark = Watermark::default();
        mark.change(&lines(minute), None);
        mark
    }

    #[test]
    fn the_text_is_over_every_part_of_the_picture_and_the_picture_itself_is_as_it_was() {
        let framebuffer = grey();
        let picture = framebuffer.primary().unwrap();
        let mut mark = marked("12:01");
        let shown = mark.over(picture);
        let marked =
            |area: &Rect| shown.read(area).iter().filter(|pixel| **pixel != 0xc8_c8c8).count();
        for (x, y) in [(0, 0), (320, 0), (0, 240), (320, 240)] {
            assert!(0 < marked(&Rect::new(x, y, x + 320, y + 240)), "{x} {y}");
        }
        let inked = marked(&Rect::new(0, 0, 640, 480));
        assert!(inked < 640 * 480 / 20, "{inked} pixels are too many to work with");
        assert!(picture.pixels().iter().all(|pixel| *pixel == 0xc8_c8c8));
        assert!(shown.pixels().iter().all(|pixel| [0xc8_c8c8, 0xb2_b2b2].contains(pixel)));
    }

    #[test]
    fn a_new_minute_changes_the_tiles_with_its_last_digit_only() {
        let framebuffer = grey();
        let picture = framebuffer.primary().unwrap();
        let mut mark = marked("12:01");
        let before = mark.over(picture).pixels().to_vec();
        assert!(mark.change(&lines("12:01"), Some(picture)).is_empty());
        let areas = mark.change(&lines("12:02"), Some(picture));
        assert!(!areas.is_empty() && areas.len() < picture.tiles_count() / 2, "{}", areas.len());
        let after = mark.over(picture);
        for (place, (before, after)) in before.iter().zip(after.pixels()).enumerate() {
            let (x, y) = (place % 640, place / 640);
            let told = areas.iter().any(|area| {
                (position(area.left)..position(area.right)).contains(&x)
                    && (position(area.top)..position(area.bottom)).contains(&y)
            });
            assert!(before == after || told, "{x} {y} changed and nobody was told");
        }
    }

    #[test]
    fn what_the_guest_draws_shows_below_the_text_under_a_revision_of_its_own() {
        let mut framebuffer = grey();
        let mut mark = marked("12:01");
        let first = mark.over(framebuffer.primary().unwrap()).tile_revision(0);
        fill(&mut framebuffer, Rect::new(0, 0, 64, 64), 20);
        let shown = mark.over(framebuffer.primary().unwrap());
        assert!(first < shown.tile_revision(0) && REVISIONS < first);
        assert_eq!(shown.tile_revision(5), first, "the others stay");
        let tile = shown.read(&Rect::new(0, 0, 64, 64));
        assert!(tile.iter().all(|pixel| [0x14_1414, 0x2a_2a2a].contains(pixel)));
        assert!(tile.contains(&0x2a_2a2a));
    }

    #[test]
    fn a_text_after_none_is_not_taken_for_the_one_before() {
        let framebuffer = grey();
        let picture = framebuffer.primary().unwrap();
        let mut mark = marked("12:01");
        let shown = mark.over(picture);
        let (before, pixels) = (shown.tile_revision(0), shown.pixels().to_vec());
        assert_eq!(mark.change(&[], Some(picture)), [picture.bounds()]);
        assert_eq!(mark.over(picture).pixels(), picture.pixels());
        assert!(mark.change(&[], Some(picture)).is_empty());
        assert_eq!(mark.change(&lines("12:02"), Some(picture)), [picture.bounds()]);
        let shown = mark.over(picture);
        assert!(before < shown.tile_revision(0) && shown.pixels() != pixels);
    }
}
