//! Which part of the picture each of the guest's monitors shows, by the guest's own word.

use vidi_spice::{Rect, SCREENS_MAX, SurfaceId, display};

use crate::protocol::Monitor;

/// The surface that monitors show; a server has no second one that is shown.
const SHOWN: SurfaceId = SurfaceId(0);

/// Nothing of a surface lies beyond this: places are 16 bits on the wire.
const EVERYWHERE: Rect = Rect::new(0, 0, 0xffff, 0xffff);

/// The guest's monitors.
#[derive(Debug)]
pub(crate) struct Monitors {
    /// INVARIANT: 1 to [`SCREENS_MAX`].
    most: u8,
    /// INVARIANT: at most [`SCREENS_MAX`], each with another number below that, none empty.
    on: Vec<Monitor>,
}

impl Default for Monitors {
    fn default() -> Self {
        Self { most: 1, on: Vec::new() }
    }
}

impl Monitors {
    /// The server has told anew; whether anything is different.
    pub(crate) fn told(&mut self, told: &display::Monitors) -> bool {
        let most = usize::from(told.allowed_max).clamp(1, SCREENS_MAX);
        let mut on: Vec<Monitor> = Vec::new();
        for head in told.heads.iter().filter(|head| head.surface == SHOWN) {
            let area = head.area.intersect(&EVERYWHERE);
            let number = u8::try_from(head.id).ok().filter(|id| usize::from(*id) < SCREENS_MAX);
            let Some(id) = number.filter(|_| !area.is_empty()) else { continue };
            if on.iter().all(|other| other.id != id) {
                on.push(Monitor { id, area });
            }
        }
        // At most SCREENS_MAX, which is a few.
        let most = u8::try_from(most).unwrap_or(u8::MAX);
        let is_new = most != self.most || on != self.on;
        *self = Self { most, on };
        is_new
    }

    /// How many there can be.
    pub(crate) const fn most(&self) -> u8 {
        self.most
    }

    /// Those that are on.
    pub(crate) fn on(&self) -> &[Monitor] {
        &self.on
    }

    /// Their areas by their numbers, empty where one is off; none where nothing was told.
    pub(crate) fn screens(&self) -> Option<Vec<Rect>> {
        let last = self.on.iter().map(|monitor| usize::from(monitor.id)).max()?;
        let mut screens = vec![Rect::default(); last + 1];
        for monitor in &self.on {
            if let Some(screen) = screens.get_mut(usize::from(monitor.id)) {
                *screen = monitor.area;
            }
        }
        Some(screens)
    }
}

#[cfg(test)]
mod tests {
    use vidi_spice::display::Head;

    use super::*;

    fn head(id: u32, surface: u32, area: Rect) -> Head {
        Head { id, surface: SurfaceId(surface), area }
    }

    #[test]
    fn what_a_server_says_of_its_monitors_is_bounded() {
        let area = Rect::new(0, 0, 640, 480);
        let right = Rect::new(640, 0, i32::MAX, 480);
        let heads = vec![
            head(0, 0, area),
            head(2, 0, right),
            head(2, 0, area),
            head(1, 7, area),
            head(4, 0, area),
            head(u32::MAX, 0, area),
            head(3, 0, Rect::new(-5, 0, 0, 9)),
        ];
        let mut monitors = Monitors::default();
        assert_eq!(monitors.screens(), None);
        let told = display::Monitors { allowed_max: 900, heads };
        assert!(monitors.told(&told));
        assert!(!monitors.told(&told));
        assert_eq!(monitors.most(), 4);
        let cut = Rect::new(640, 0, 0xffff, 480);
        assert_eq!(monitors.screens(), Some(vec![area, Rect::default(), cut]));
        assert!(monitors.told(&display::Monitors { allowed_max: 0, heads: Vec::new() }));
        assert_eq!((monitors.most(), monitors.on()), (1, &[][..]));
    }
}
