//! Which size the guest's screen is asked to have: that of the window of the viewer that said last.

use std::time::Duration;

use crate::session::ViewerId;

/// Shortest time between two wishes: a guest changes its mode in about this time, and a window is
/// dragged through hundreds of sizes.
const WISH_INTERVAL: Duration = Duration::from_millis(300);

/// Smallest screen; drivers and desktops cannot do less.
const SIDES_MIN: [u32; 2] = [320, 200];
/// Largest screen.
const SIDES_MAX: [u32; 2] = [4096, 2160];
/// Most pixels: the video memory that hosts give a desktop is 16 MiB (`vgamem`), at 4 bytes a pixel.
/// A larger window gets its own proportions with as many pixels as that; a larger mode would be
/// refused by the guest's driver, and the screen would not follow at all.
const PIXELS_MAX: u64 = (16 << 20) / 4;

/// Columns and rows.
pub(crate) type Size = [u32; 2];

/// What is wanted of the guest, and what it has been told.
#[derive(Debug)]
pub(crate) struct Window {
    is_allowed: bool,
    /// The guest's agent is there and can.
    is_possible: bool,
    wanted: Option<(ViewerId, Size)>,
    /// The guest is to be told what is wanted unless it shows that already.
    is_due: bool,
    /// What the guest was told last and has not shown since.
    under_way: Option<Size>,
    told_at: Option<Duration>,
}

impl Window {
    pub(crate) const fn new(is_allowed: bool) -> Self {
        Self {
            is_allowed,
            is_possible: false,
            wanted: None,
            is_due: false,
            under_way: None,
            told_at: None,
        }
    }

    /// From now on it may follow, or not.
    pub(crate) const fn allow(&mut self, is_allowed: bool) {
        self.is_allowed = is_allowed;
    }

    /// Whether the guest's screen follows.
    pub(crate) const fn follows(&self) -> bool {
        self.is_allowed && self.is_possible
    }

    /// The agent can change the size, or no longer. One that can anew is told.
    pub(crate) fn agent(&mut self, is_possible: bool) {
        if self.is_possible != is_possible {
            self.is_possible = is_possible;
            self.is_due = is_possible && self.wanted.is_some();
            self.under_way = None;
        }
    }

    /// The place for the picture in a viewer's window has become this; nothing where a side is 0.
    pub(crate) fn wish(&mut self, viewer: ViewerId, width: u16, height: u16) {
        if width != 0 && height != 0 {
            self.wanted = Some((viewer, fitted([width.into(), height.into()])));
            self.is_due = true;
        }
    }

    /// The viewer is gone, and its window with it.
    pub(crate) fn remove_viewer(&mut self, viewer: ViewerId) {
        if self.wanted.take_if(|(whose, _)| *whose == viewer).is_some() {
            self.is_due = false;
        }
    }

    /// The guest has made a screen of this size.
    pub(crate) fn shown(&mut self, size: Size) {
        self.under_way.take_if(|told| *told == size);
    }

    /// What the guest is to be told now, which shows this size.
    pub(crate) fn next(&mut self, shown: Option<Size>, now: Duration) -> Option<Size> {
        let shown = shown?;
        if self.due_at()? > now {
            return None;
        }
        self.is_due = false;
        let (_, wanted) = self.wanted?;
        // What was told before may still come, and would then have to be taken back.
        if shown == wanted && self.under_way.is_none_or(|told| told == wanted) {
            return None;
        }
        self.under_way = Some(wanted);
        self.told_at = Some(now);
        Some(wanted)
    }

    /// When [`Self::next`] may have something to tell.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        let told_at = self.told_at.map_or(Duration::ZERO, |told_at| told_at + WISH_INTERVAL);
        (self.follows() && self.is_due).then_some(told_at)
    }
}

/// The nearest size that guests can have. Drivers want an even width.
fn fitted(window: Size) -> Size {
    let [least_width, least_height] = SIDES_MIN;
    let [most_width, most_height] = SIDES_MAX;
    let [width, height] = window;
    let width = width.clamp(least_width, most_width);
    let height = height.clamp(least_height, most_height);
    let (columns, rows) = (u64::from(width), u64::from(height));
    if columns * rows <= PIXELS_MAX {
        return [width & !1, height];
    }
    let fewer = (PIXELS_MAX * columns / rows).isqrt() & !1;
    let in_range = |side| u32::try_from(side).unwrap_or(u32::MAX);
    [in_range(fewer), in_range(rows * fewer / columns)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANA: ViewerId = ViewerId(1);
    const MS: Duration = Duration::from_millis(1);
    const SHOWN: Option<Size> = Some([1024, 768]);

    fn window() -> Window {
        let mut window = Window::new(true);
        window.agent(true);
        window
    }

    #[test]
    fn a_window_that_is_dragged_is_told_at_once_and_then_every_300_ms_the_newest() {
        let mut window = window();
        let mut told = Vec::new();
        for millis in 0..1000 {
            let now = MS * u32::from(millis);
            if millis <= 700 {
                window.wish(ANA, 800 + millis, 600);
            }
            told.extend(window.next(SHOWN, now).map(|size| (millis, size)));
        }
        let expected =
            [(0, [800, 600]), (300, [1100, 600]), (600, [1400, 600]), (900, [1500, 600])];
        assert_eq!(told, expected);
        assert_eq!(window.due_at(), None);
    }

    #[test]
    fn what_the_guest_shows_is_not_asked_for_unless_something_else_is_under_way() {
        let mut window = window();
        window.wish(ANA, 1025, 768);
        assert_eq!(window.next(SHOWN, MS), None, "an odd width is rounded down");
        window.wish(ANA, 800, 600);
        assert_eq!(window.next(SHOWN, MS), Some([800, 600]));
        window.wish(ANA, 1024, 768);
        assert_eq!(window.next(SHOWN, MS * 100), None, "too early");
        assert_eq!(window.next(SHOWN, MS * 301), SHOWN, "the guest is about to leave it");
        window.shown([1024, 768]);
        window.wish(ANA, 1024, 768);
        assert_eq!(window.next(SHOWN, MS * 700), None);
    }

    #[test]
    fn nothing_is_asked_for_without_a_screen_an_agent_a_window_or_leave() {
        let mut window = window();
        window.wish(ANA, 0, 600);
        assert_eq!(window.next(SHOWN, MS), None);
        window.wish(ANA, 800, 600);
        assert_eq!(window.next(None, MS), None, "there is no screen yet");
        window.agent(false);
        assert_eq!((window.next(SHOWN, MS), window.follows()), (None, false));
        window.agent(true);
        assert_eq!(window.next(SHOWN, MS), Some([800, 600]), "a guest that starts anew is told");
        window.agent(false);
        window.remove_viewer(ANA);
        window.agent(true);
        assert_eq!(window.next(SHOWN, MS * 400), None, "nobody's window");
        let mut forbidden = Window::new(false);
        forbidden.agent(true);
        forbidden.wish(ANA, 800, 600);
        assert_eq!((forbidden.next(SHOWN, MS), forbidden.follows()), (None, false));
    }

    #[test]
    fn sizes_fit_the_guest() {
        for (window, fits) in [
            ([1, 1], [320, 200]),
            ([1281, 721], [1280, 721]),
            ([2560, 1600], [2560, 1600]),
            ([3840, 2160], [2730, 1535]),
            ([65535, 300], [4096, 300]),
            ([65535, 65535], [2820, 1487]),
        ] {
            assert_eq!(fitted(window), fits, "{window:?}");
        }
    }

    proptest! {
        #[test]
        fn every_window_fits(width in 1..=65535_u32, height in 1..=65535_u32) {
            let [columns, rows] = fitted([width, height]);
            prop_assert!((320..=4096).contains(&columns) && (200..=2160).contains(&rows));
            prop_assert!(u64::from(columns) * u64::from(rows) <= PIXELS_MAX && columns % 2 == 0);
        }
    }
}
