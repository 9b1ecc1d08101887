//! How much one viewer's line and browser can take, told from how late acknowledgements come.

use std::time::Duration;

/// Later than this beyond the round trip, a picture is too much (guacd: the same 80 ms).
const LAG_MAX: Duration = Duration::from_millis(80);

/// Sooner than this, more may be tried after [`CALM_TIME`].
const LAG_GOOD: Duration = Duration::from_millis(40);

/// How long all must come soon before more is tried.
const CALM_TIME: Duration = Duration::from_secs(1);

/// Shortest time between two steps down, and how long acknowledgements are late before the first: about a
/// round trip, in which a step can be felt. What a lost packet held up comes all at once.
const STEP_TIME: Duration = Duration::from_millis(100);

/// Quality of JPEG on a good line.
pub(crate) const QUALITY_MAX: u8 = 80;

/// What a step down takes from it: on the lowest level 30 is left.
const QUALITY_STEP: u8 = 5;

/// The lowest level.
const LEVEL_MAX: u8 = 10;

/// Where a viewer is between all (level 0) and the least.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// INVARIANT: <= [`LEVEL_MAX`].
    level: u8,
    stepped_at: Duration,
    /// Since when every acknowledgement came late.
    late_since: Option<Duration>,
    /// Since when every acknowledgement came soon.
    calm_since: Option<Duration>,
}

impl Pace {
    /// A frame was presented so much later than the line alone would have taken.
    pub(crate) fn acknowledged(&mut self, lag: Duration, now: Duration) {
        if LAG_MAX < lag {
            self.calm_since = None;
            let since = *self.late_since.get_or_insert(now);
            if since.max(self.stepped_at) + STEP_TIME <= now {
                self.level = (self.level + 1).min(LEVEL_MAX);
                self.stepped_at = now;
            }
            return;
        }
        self.late_since = None;
        if lag < LAG_GOOD {
            let since = *self.calm_since.get_or_insert(now);
            if since + CALM_TIME <= now {
                self.level = self.level.saturating_sub(1);
                self.stepped_at = now;
                self.calm_since = Some(now);
            }
        } else {
            self.calm_since = None;
        }
    }

    /// Quality of what is not exact, 30 to 80.
    pub(crate) const fn quality(&self) -> u8 {
        QUALITY_MAX - QUALITY_STEP * self.level
    }

    /// Shortest time between two pictures of something that moves: 30 a second on a good line, then
    /// 15, then 8. What is small is not held to it.
    pub(crate) const fn interval(&self) -> Duration {
        match self.level {
            0..=2 => Duration::from_millis(33),
            3..=6 => Duration::from_millis(66),
            _ => Duration::from_millis(125),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn lag_costs_quality_and_frames_and_calm_brings_them_back() {
        let mut pace = Pace::default();
        let mut now = Duration::ZERO;
        let mut run = |pace: &mut Pace, lag: u32, millis: u32| {
            for _ack in 0..millis / 20 {
                now += MS * 20;
                pace.acknowledged(MS * lag, now);
            }
            (pace.quality(), pace.interval().as_millis())
        };
        assert_eq!(run(&mut pace, 10, 2000), (80, 33));
        for _lost_packet in 0..20 {
            assert_eq!(run(&mut pace, 200, 80), (80, 33), "what is over at once is no lag");
            assert_eq!(run(&mut pace, 10, 100), (80, 33));
        }
        assert_eq!(run(&mut pace, 100, 420), (60, 66));
        assert_eq!(run(&mut pace, 60, 5000), (60, 66), "between the two nothing changes");
        assert_eq!(run(&mut pace, 300, 5000), (30, 125), "there is a floor");
        assert_eq!(run(&mut pace, 10, 3100), (45, 125));
        assert_eq!(run(&mut pace, 10, 20_000), (80, 33));
    }
}
