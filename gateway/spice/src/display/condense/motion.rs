//! Which pictures are frames of something that moves, and how good they can be.

use std::time::Duration;

use crate::geometry::Rect;

/// Side of the cells in which movement is told, in pixels.
const CELL: i32 = 128;
/// Cells of a row: 8192 pixels. What is beyond never counts as moving.
const CELLS: usize = 64;
/// A cell that is not drawn again within this does not move (five frames in a second).
const GAP_MAX: Duration = Duration::from_millis(200);
/// The same for one that moves: what halts for a moment does not begin anew, as it is, when it goes on.
const HALT_MAX: Duration = Duration::from_secs(1);
/// What comes sooner after another picture is a part of the same frame: a guest without a driver of
/// its own draws a frame in columns.
const FRAME_MIN: Duration = Duration::from_millis(8);
/// Frames in a row until something counts as moving: what scrolls by one page does not.
const FRAMES_MIN: u8 = 4;
/// The same for what has more pixels than this: each frame of it that goes as it is takes as much as a
/// second of it that does not.
const LARGE_FRAMES_MIN: u8 = 2;
const LARGE_PIXELS: u64 = 640 * 360;
/// Pictures are looked at in so many rows.
const SAMPLED_ROWS: usize = 32;
/// JPEG's scale: below the first, blocks are seen; above the last, only bytes are more.
const QUALITY_MIN: u8 = 30;
const QUALITY_MAX: u8 = 80;
const QUALITY_FIRST: u8 = 60;
/// For so long the rate is measured.
const MEASURED: Duration = Duration::from_millis(250);

/// When each cell of the screen was drawn last, and how often in a row.
#[derive(Debug, Default)]
pub(super) struct Motion {
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    last: Duration,
    frames: u8,
}

impl Motion {
    /// Notes that a picture is drawn here; whether it is one of a row of frames.
    pub(super) fn drawn(&mut self, area: &Rect, now: Duration) -> bool {
        if self.cells.is_empty() {
            self.cells = vec![Cell::default(); CELLS * CELLS];
        }
        let span = |from: i32, to: i32| {
            let cell = |edge: i32| usize::try_from(edge / CELL).unwrap_or(0).min(CELLS);
            cell(from)..cell(to.saturating_add(CELL - 1))
        };
        let large = LARGE_PIXELS <= area.area();
        let frames_min = if large { LARGE_FRAMES_MIN } else { FRAMES_MIN };
        let (mut moving, mut all) = (0_usize, 0_usize);
        for row in span(area.top, area.bottom) {
            for column in span(area.left, area.right) {
                let Some(cell) = self.cells.get_mut(row * CELLS + column) else { continue };
                let gap = now.saturating_sub(cell.last);
                let gap_max = if cell.frames >= frames_min { HALT_MAX } else { GAP_MAX };
                if cell.frames == 0 || gap > gap_max {
                    *cell = Cell { last: now, frames: 1 };
                } else if gap >= FRAME_MIN {
                    *cell = Cell { last: now, frames: cell.frames.saturating_add(1) };
                }
                all += 1;
                moving += usize::from(cell.frames >= frames_min);
            }
        }
        // The edge of a window that has just been moved is new.
        moving > 0 && moving * 4 >= all * 3
    }
}

/// What a picture is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// Text and fields.
    Flat,
    /// A photograph among them.
    Mixed,
    /// A photograph.
    Photo,
}

/// What a picture is like: of the first, neighbours differ in less than every fifth place, of the second in
/// less than every other. Pixels of 4 bytes, of which the last does not count.
pub(super) fn nature(pixels: &[u8], width: usize) -> Nature {
    let (pixels, _rest) = pixels.as_chunks::<4>();
    let height = pixels.len() / width.max(1);
    let step = (height / SAMPLED_ROWS).max(1);
    let (mut differ, mut all) = (0_usize, 0_usize);
    for row in pixels.chunks_exact(width.max(1)).step_by(step) {
        for ([blue, green, red, _], other) in row.iter().zip(row.get(1..).unwrap_or_default()) {
            differ += usize::from(!other.starts_with(&[*blue, *green, *red]));
            all += 1;
        }
    }
    if differ * 5 <= all {
        Nature::Flat
    } else if differ * 2 <= all {
        Nature::Mixed
    } else {
        Nature::Photo
    }
}

/// The quality with which frames keep below a rate.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_second: f64,
    quality: u8,
    since: Duration,
    bytes: usize,
}

impl Rate {
    pub(super) fn new(mbit_s: u32) -> Self {
        let bytes_per_second = f64::from(mbit_s) * 1e6 / 8.0;
        Self { bytes_per_second, quality: QUALITY_FIRST, since: Duration::ZERO, bytes: 0 }
    }

    /// 1 to 100.
    pub(super) const fn quality(&self) -> u8 {
        self.quality
    }

    /// Notes a frame of so many bytes.
    pub(super) fn sent(&mut self, bytes: usize, now: Duration) {
        self.bytes += bytes;
        let elapsed = now.saturating_sub(self.since);
        if elapsed < MEASURED {
            return;
        }
        let sent = f64::from(u32::try_from(self.bytes).unwrap_or(u32::MAX));
        let ratio = sent / elapsed.as_secs_f64() / self.bytes_per_second;
        (self.since, self.bytes) = (now, 0);
        self.quality = match ratio {
            1.5.. => self.quality.saturating_sub(12),
            1.1.. => self.quality.saturating_sub(5),
            1.0.. => self.quality.saturating_sub(2),
            0.8.. => self.quality,
            _ => self.quality.saturating_add(2),
        }
        .clamp(QUALITY_MIN, QUALITY_MAX);
    }
}
