//! Which screens the guest is asked to have: of the sizes of the windows of the viewer that said last.

use std::time::Duration;

use vidi_spice::{Point, Rect};

use crate::protocol::MonitorWindow;
use crate::session::ViewerId;

/// Shortest time between two wishes: a guest changes its mode in about this time, and a window is
/// dragged through hundreds of sizes.
const WISH_INTERVAL: Duration = Duration::from_millis(300);

/// Smallest screen; drivers and desktops cannot do less.
const SIDES_MIN: [u32; 2] = [320, 200];
/// Largest screen.
const SIDES_MAX: [u32; 2] = [4096, 2160];
/// Most pixels of all screens together, as the rectangle around them: the video memory that hosts
/// give a desktop is 16 MiB (`vgamem`), at 4 bytes a pixel.
/// A larger window gets its own proportions with as many pixels as that; a larger mode would be
/// refused by the guest's driver, and the screen would not follow at all.
const PIXELS_MAX: u64 = (16 << 20) / 4;

/// Widest row of screens: drivers of QXL make no wider surface.
const ROW_MAX: u64 = 8192;

/// Windows that do not fit are made smaller in steps of this part of their size.
const STEPS: u32 = 64;

/// Columns and rows.
type Size = [u32; 2];

/// What is wanted of the guest, and what it has been told: screens by their numbers, empty where one
/// is off.
#[derive(Debug)]
pub(crate) struct Window {
    is_allowed: bool,
    /// The guest's agent is there and can.
    is_possible: bool,
    wanted: Option<(ViewerId, Vec<Rect>)>,
    /// The guest is to be told what is wanted unless it shows that already.
    is_due: bool,
    /// What the guest was told last and has not shown since.
    under_way: Option<Vec<Rect>>,
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

    /// A viewer comes, with this place for the picture; nothing where a side is 0.
    pub(crate) fn wish(&mut self, viewer: ViewerId, width: u16, height: u16) {
        if width != 0 && height != 0 {
            let [width, height] = fitted([width.into(), height.into()]);
            self.want(viewer, vec![Rect::of_size(width, height)]);
        }
    }

    /// The place for the picture in a viewer's window has become this. It takes no monitors from
    /// another viewer that has several windows.
    pub(crate) fn wish_later(&mut self, viewer: ViewerId, width: u16, height: u16) {
        let has_several =
            |(whose, screens): &(ViewerId, Vec<Rect>)| *whose != viewer && screens.len() > 1;
        if !self.wanted.as_ref().is_some_and(has_several) {
            self.wish(viewer, width, height);
        }
    }

    /// A viewer has these windows, from left to right, one of them for the first monitor.
    pub(crate) fn wish_several(&mut self, viewer: ViewerId, windows: &[MonitorWindow]) {
        if let Some(screens) = row(windows) {
            self.want(viewer, screens);
        }
    }

    fn want(&mut self, viewer: ViewerId, screens: Vec<Rect>) {
        self.wanted = Some((viewer, screens));
        self.is_due = true;
    }

    /// The viewer is gone, and its window with it.
    pub(crate) fn remove_viewer(&mut self, viewer: ViewerId) {
        if self.wanted.take_if(|(whose, _)| *whose == viewer).is_some() {
            self.is_due = false;
        }
    }

    /// The guest has these screens now.
    pub(crate) fn shown(&mut self, screens: &[Rect]) {
        self.under_way.take_if(|told| told == screens);
    }

    /// What the guest is to be told now, which shows this.
    pub(crate) fn next(&mut self, shown: Option<Vec<Rect>>, now: Duration) -> Option<Vec<Rect>> {
        let shown = shown?;
        if self.due_at()? > now {
            return None;
        }
        self.is_due = false;
        let (_, wanted) = self.wanted.as_ref()?;
        // What was told before may still come, and would then have to be taken back.
        if shown == *wanted && self.under_way.as_ref().is_none_or(|told| told == wanted) {
            return None;
        }
        self.under_way = Some(wanted.clone());
        self.told_at = Some(now);
        Some(wanted.clone())
    }

    /// When [`Self::next`] may have something to tell.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        let told_at = self.told_at.map_or(Duration::ZERO, |told_at| told_at + WISH_INTERVAL);
        (self.follows() && self.is_due).then_some(told_at)
    }
}

/// Screens for these windows, side by side in their order; as large as they are, or smaller in the same
/// measure where all together are more than a guest can have. None without the first monitor.
fn row(windows: &[MonitorWindow]) -> Option<Vec<Rect>> {
    let is_seen = |window: &&MonitorWindow| window.width != 0 && window.height != 0;
    let mut sizes: Vec<(usize, Size)> = Vec::new();
    for window in windows.iter().filter(is_seen) {
        let number = usize::from(window.monitor);
        if sizes.iter().all(|(other, _)| *other != number) {
            sizes.push((number, [window.width.into(), window.height.into()]));
        }
    }
    sizes.iter().find(|(number, _)| *number == 0)?;
    // The least of all sizes fits always.
    let fit = (1..=STEPS).rev().map(|part| scaled(&sizes, part)).find(|sizes| fits(sizes))?;
    let last = fit.iter().map(|(number, _)| *number).max()?;
    let mut screens = vec![Rect::default(); last + 1];
    let mut left = 0;
    for (number, [width, height]) in fit {
        let screen = Rect::of_size(width, height).moved(Point::new(left, 0));
        left = screen.right;
        if let Some(place) = screens.get_mut(number) {
            *place = screen;
        }
    }
    Some(screens)
}

/// So many parts of [`STEPS`] of each size.
fn scaled(sizes: &[(usize, Size)], part: u32) -> Vec<(usize, Size)> {
    let [least_width, least_height] = SIDES_MIN;
    let [most_width, most_height] = SIDES_MAX;
    let scaled = |[width, height]: Size| {
        let width = (width * part / STEPS).clamp(least_width, most_width);
        [width & !1, (height * part / STEPS).clamp(least_height, most_height)]
    };
    sizes.iter().map(|(number, size)| (*number, scaled(*size))).collect()
}

fn fits(sizes: &[(usize, Size)]) -> bool {
    let columns: u64 = sizes.iter().map(|(_, [width, _])| u64::from(*width)).sum();
    let rows = sizes.iter().map(|(_, [_, height])| u64::from(*height)).max().unwrap_or_default();
    columns <= ROW_MAX && columns * rows <= PIXELS_MAX
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
    const SHOWN: Size = [1024, 768];

    fn screen([width, height]: Size) -> Vec<Rect> {
        vec![Rect::of_size(width, height)]
    }

    /// As if the guest showed this: the size that it is told.
    fn next(window: &mut Window, shown: Size, now: Duration) -> Option<Size> {
        let told = window.next(Some(screen(shown)), now)?;
        assert_eq!(told.len(), 1);
        Some([told[0].width(), told[0].height()])
    }

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
            told.extend(next(&mut window, SHOWN, now).map(|size| (millis, size)));
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
        assert_eq!(next(&mut window, SHOWN, MS), None, "an odd width is rounded down");
        window.wish(ANA, 800, 600);
        assert_eq!(next(&mut window, SHOWN, MS), Some([800, 600]));
        window.wish(ANA, 1024, 768);
        assert_eq!(next(&mut window, SHOWN, MS * 100), None, "too early");
        assert_eq!(
            next(&mut window, SHOWN, MS * 301),
            Some(SHOWN),
            "the guest is about to leave it"
        );
        window.shown(&screen(SHOWN));
        window.wish(ANA, 1024, 768);
        assert_eq!(next(&mut window, SHOWN, MS * 700), None);
    }

    #[test]
    fn nothing_is_asked_for_without_a_screen_an_agent_a_window_or_leave() {
        let mut window = window();
        window.wish(ANA, 0, 600);
        assert_eq!(next(&mut window, SHOWN, MS), None);
        window.wish(ANA, 800, 600);
        assert_eq!(window.next(None, MS), None, "there is no screen yet");
        window.agent(false);
        assert_eq!((next(&mut window, SHOWN, MS), window.follows()), (None, false));
        window.agent(true);
        assert_eq!(
            next(&mut window, SHOWN, MS),
            Some([800, 600]),
            "a guest that starts anew is told"
        );
        window.agent(false);
        window.remove_viewer(ANA);
        window.agent(true);
        assert_eq!(next(&mut window, SHOWN, MS * 400), None, "nobody's window");
        let mut forbidden = Window::new(false);
        forbidden.agent(true);
        forbidden.wish(ANA, 800, 600);
        assert_eq!((next(&mut forbidden, SHOWN, MS), forbidden.follows()), (None, false));
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

    fn windows(sizes: &[(u8, u16, u16)]) -> Vec<MonitorWindow> {
        let window = |&(monitor, width, height)| MonitorWindow { monitor, width, height };
        sizes.iter().map(window).collect()
    }

    #[test]
    fn windows_become_screens_side_by_side_in_their_order() {
        let of = |sizes: &[(u8, u16, u16)]| row(&windows(sizes));
        let two = [Rect::new(0, 0, 1280, 801), Rect::new(1280, 0, 1920, 480)];
        assert_eq!(of(&[(0, 1281, 801), (1, 640, 480)]), Some(two.to_vec()));
        let off = [Rect::new(640, 0, 1920, 800), Rect::default(), Rect::new(0, 0, 640, 480)];
        let doubled = [(2, 640, 480), (0, 1280, 800), (0, 9, 9), (1, 0, 5)];
        assert_eq!(of(&doubled), Some(off.to_vec()));
        assert_eq!(of(&[(1, 640, 480)]), None);
        let large = of(&[(0, 1920, 1080), (1, 1920, 1080), (2, 1920, 1080)]).unwrap();
        assert_eq!(large[2], Rect::new(3120, 0, 4680, 877), "52 parts of 64");
    }

    #[test]
    fn one_window_takes_no_monitors_from_another_viewer_with_several() {
        let mut window = window();
        window.wish_several(ANA, &windows(&[(0, 800, 600), (1, 640, 480)]));
        let two = vec![Rect::new(0, 0, 800, 600), Rect::new(800, 0, 1440, 480)];
        assert_eq!(window.next(Some(screen(SHOWN)), MS), Some(two.clone()));
        window.shown(&two);
        window.wish_later(ViewerId(2), 300, 300);
        assert_eq!(window.next(Some(two.clone()), MS * 400), None);
        window.wish_later(ANA, 800, 600);
        assert_eq!(window.next(Some(two), MS * 800), Some(screen([800, 600])));
        window.remove_viewer(ANA);
        window.wish_later(ViewerId(2), 400, 300);
        assert_eq!(window.next(Some(screen([800, 600])), MS * 1200), Some(screen([400, 300])));
    }

    proptest! {
        #[test]
        fn every_row_of_windows_fits(
            sizes in proptest::collection::vec((0..4_u8, 1..=65535_u16, 1..=65535_u16), 0..4),
            first in (1..=65535_u16, 1..=65535_u16),
        ) {
            let sizes = [&[(0, first.0, first.1)], &sizes[..]].concat();
            let screens = row(&windows(&sizes)).unwrap();
            prop_assert!(screens.len() <= 4 && !screens[0].is_empty());
            let around = screens.iter().fold(Rect::default(), |around, screen| around.union(screen));
            prop_assert!(around.area() <= PIXELS_MAX && u64::from(around.width()) <= ROW_MAX);
            let sum: u64 = screens.iter().map(|screen| u64::from(screen.width())).sum();
            prop_assert_eq!(sum, u64::from(around.width()), "they neither overlap nor leave a gap");
        }

        #[test]
        fn every_window_fits(width in 1..=65535_u32, height in 1..=65535_u32) {
            let [columns, rows] = fitted([width, height]);
            prop_assert!((320..=4096).contains(&columns) && (200..=2160).contains(&rows));
            prop_assert!(u64::from(columns) * u64::from(rows) <= PIXELS_MAX && columns % 2 == 0);
        }
    }
}
