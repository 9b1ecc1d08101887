//! What a viewer is sent beside the picture and before it: sound, and how its files get on.

use std::time::Duration;

use bytes::Bytes;

use super::Viewer;
use crate::credit::Ended;

/// A browser that has acknowledged nothing for so long, beyond the round trip, plays no sound now.
const SILENT_TIME_MAX: Duration = Duration::from_millis(500);

impl Viewer {
    /// Whether a few bytes more may be handed over.
    pub(crate) fn has_spare_room(&self) -> bool {
        self.credit.socket_has_spare_room()
    }

    /// Whether its browser plays Opus.
    pub(crate) const fn plays_opus(&self) -> bool {
        self.plays_opus
    }

    /// Whether what is handed over now arrives too late to be heard.
    pub(crate) fn is_late(&self, now: Duration) -> bool {
        let round_trip = self.credit.round_trip().unwrap_or_default();
        let since = self.credit.unacknowledged_since();
        since.is_some_and(|since| round_trip + SILENT_TIME_MAX < now.saturating_sub(since))
    }

    /// Hands over whole records. With `end_is_due` a frame end follows in which nothing is drawn, where
    /// that can be; whether it does.
    pub(crate) fn hand_beside(
        &mut self,
        mut records: Vec<u8>,
        end_is_due: bool,
        now: Duration,
    ) -> (Bytes, bool) {
        self.credit.hand_over(records.len());
        let ends = end_is_due && self.picture.is_between_frames();
        if ends {
            self.credit.end_frame(&mut records, Ended::empty(now));
        }
        self.credit.end_message();
        (records.into(), ends)
    }
}
