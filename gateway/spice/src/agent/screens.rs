//! The screens that the guest is asked for (`VDAgentMonitorsConfig`).

use bytes::BufMut;

use super::Agent;
use super::message::Outgoing;
use crate::geometry::Rect;

/// Most screens that are asked for at once: as many as QXL's drivers have outputs.
pub const SCREENS_MAX: usize = 4;

/// `VD_AGENT_CONFIG_MONITORS_FLAG_USE_POS`: the places count as well.
const USE_PLACES: u32 = 1;
/// Bits of a pixel.
const DEPTH: u32 = 32;

impl Agent {
    /// Asks the guest for screens of these sizes at these places, by their numbers; an empty one is
    /// off, and those beyond [`SCREENS_MAX`] are left out. The guest's own driver may round them. A
    /// newer wish replaces one that waits.
    pub fn arrange(&mut self, screens: &[Rect]) {
        if self.abilities().monitors {
            let screens = screens.iter().copied().take(SCREENS_MAX).collect();
            self.queue_newest(Outgoing::Monitors(screens));
        }
    }
}

/// Count, flags; of each height, width, depth, x, y. Drivers want an even width.
pub(super) fn put_screens(fields: &mut Vec<u8>, screens: &[Rect]) {
    fields.put_u32_le(u32::try_from(screens.len()).unwrap_or(u32::MAX));
    fields.put_u32_le(if screens.len() > 1 { USE_PLACES } else { 0 });
    for screen in screens {
        for field in [screen.height(), screen.width() & !1, DEPTH] {
            fields.put_u32_le(field);
        }
        fields.put_i32_le(screen.left);
        fields.put_i32_le(screen.top);
    }
}
