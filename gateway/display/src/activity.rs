//! How often each tile of the picture changes.

use std::time::Duration;

use vidi_spice::Rect;

use crate::framebuffer::Plane;

/// Changes closer together than this are one: a guest draws a picture of a video in many pieces.
const ONE_CHANGE: Duration = Duration::from_millis(20);

/// After a pause longer than this, changes are counted anew.
const RUN_GAP: Duration = Duration::from_millis(250);

/// Changes in a run from which on a tile counts as changing: a window that opens changes once or
/// twice.
const CHANGING_COUNT: u32 = 4;

/// A run of this length with enough changes is a moving picture.
const MOVING_TIME: Duration = Duration::from_millis(500);

/// Changes per second of a moving picture, at least.
const MOVING_RATE: u32 = 10;

/// The changes of the picture that is shown.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Row by row.
    tiles: Vec<Run>,
}

/// Changes without a pause between them.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    first: Duration,
    last: Duration,
    count: u32,
}

impl Activity {
    /// The picture is another one.
    pub(crate) fn start_over(&mut self, plane: &Plane, now: Duration) {
        self.tiles = vec![Run { first: now, last: now, count: 0 }; plane.tiles_count()];
    }

    /// `area` has changed.
    pub(crate) fn changed(&mut self, plane: &Plane, area: &Rect, now: Duration) {
        for tile in plane.tiles_in(area) {
            let Some(run) = self.tiles.get_mut(tile) else { continue };
            if run.count == 0 || run.last + RUN_GAP < now {
                *run = Run { first: now, last: now, count: 1 };
            } else if run.last + ONE_CHANGE <= now {
                run.last = now;
                run.count = run.count.saturating_add(1);
            }
        }
    }

    /// When the tile changed last.
    pub(crate) fn last_change(&self, tile: usize) -> Duration {
        self.tiles.get(tile).map_or(Duration::ZERO, |run| run.last)
    }

    /// Whether the tile changes again and again.
    pub(crate) fn is_changing(&self, tile: usize, now: Duration) -> bool {
        self.tiles
            .get(tile)
            .is_some_and(|run| CHANGING_COUNT <= run.count && now <= run.last + RUN_GAP)
    }

    /// Whether the tile is part of a moving picture.
    pub(crate) fn is_moving(&self, tile: usize, now: Duration) -> bool {
        self.tiles.get(tile).is_some_and(|run| {
            let length = run.last.saturating_sub(run.first);
            now <= run.last + RUN_GAP
                && MOVING_TIME <= length
                && length * MOVING_RATE <= Duration::from_secs(1) * run.count
        })
    }
}

#[cfg(test)]
mod tests {
    use vidi_spice::SurfaceId;
    use vidi_spice::display::{Surface, SurfaceFormat};

    use super::*;
    use crate::framebuffer::Framebuffer;

    #[test]
    fn ten_changes_a_second_for_half_a_second_are_moving() {
        let mut framebuffer = Framebuffer::default();
        let (id, format) = (SurfaceId(0), SurfaceFormat::Xrgb32);
        framebuffer.create(&Surface { id, width: 128, height: 64, format, primary: true }).unwrap();
        let plane = framebuffer.primary().unwrap();
        // The interval of changes, for how long, and whether that is moving, changing.
        for (interval, millis, expected) in [
            (33, 600, (true, true)),
            (33, 400, (false, true)),
            (150, 2000, (false, true)),
            (300, 3000, (false, false)),
        ] {
            let mut activity = Activity::default();
            activity.start_over(plane, Duration::ZERO);
            let mut now = Duration::from_secs(1);
            let end = now + Duration::from_millis(millis);
            while now < end {
                // In two pieces.
                activity.changed(plane, &Rect::new(3, 3, 60, 30), now);
                activity.changed(plane, &Rect::new(3, 30, 60, 60), now + Duration::from_millis(2));
                now += Duration::from_millis(interval);
            }
            let seen = (activity.is_moving(0, now), activity.is_changing(0, now));
            assert_eq!(seen, expected, "every {interval} ms for {millis} ms");
            assert!(!activity.is_changing(1, now));
            assert!(!activity.is_changing(0, now + Duration::from_secs(1)));
        }
    }
}
