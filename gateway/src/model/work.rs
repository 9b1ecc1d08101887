//! How much a desktop may make this gateway draw: what it asks for beyond that waits, and with it the desktop.

use std::time::Duration;

/// Units of work that one session may cost in a second, of `vidi_spice`'s count: about a processor.
/// A film of 2560 x 1440 pixels in Motion JPEG, at 30 frames per second, is 0.72 of it.
const WORK_PER_SECOND: u64 = 1 << 30;
/// Units that it may cost at once: a second of that.
const WORK_AT_ONCE: u64 = WORK_PER_SECOND;
/// Units after which it is the turn of everything else of the session, and of other sessions: some
/// hundredths of a second.
const SLICE: u64 = 1 << 24;

/// What one session has cost, and when it may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkBudget {
    /// Units that were not yet paid for by time.
    owed: u64,
    /// When that was true.
    at: Duration,
    /// Units since the last turn.
    in_slice: u64,
}

/// Whether a session may go on drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Yes.
    GoOn,
    /// Others come first, then yes.
    GiveWay,
    /// Not before this.
    Wait(Duration),
}

impl WorkBudget {
    /// Counts what has just been done, at `now`; whether there may be more.
    pub fn spend(&mut self, units: u64, now: Duration) -> Turn {
        self.owed = self.owed_at(now).saturating_add(units);
        self.at = now;
        self.in_slice = self.in_slice.saturating_add(units);
        if let Some(until) = self.waits(now) {
            self.in_slice = 0;
            return Turn::Wait(until);
        }
        if SLICE <= self.in_slice {
            self.in_slice = 0;
            return Turn::GiveWay;
        }
        Turn::GoOn
    }

    /// When it may go on, where that is not now.
    pub fn waits(&self, now: Duration) -> Option<Duration> {
        let above = self.owed_at(now).checked_sub(WORK_AT_ONCE)?;
        let nanos = u128::from(above) * 1_000_000_000 / u128::from(WORK_PER_SECOND);
        // A moment later rather than a unit too early.
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1_000);
        Some(now.saturating_add(Duration::from_nanos(nanos)))
    }

    fn owed_at(&self, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.at).as_nanos();
        let paid = passed.saturating_mul(WORK_PER_SECOND.into()) / 1_000_000_000;
        self.owed.saturating_sub(u64::try_from(paid).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_asked_for_in_a_second_is_at_most_what_may_be_whatever_its_pieces() {
        for piece in [1 << 14, 1 << 20, 1 << 24, (1 << 27) + 1, 1 << 30] {
            let (mut budget, mut now, mut done) = (WorkBudget::default(), Duration::ZERO, 0_u64);
            while now < 4 * SECOND {
                done += piece;
                if let Turn::Wait(until) = budget.spend(piece, now) {
                    assert!(now < until, "a wait ends later than it begins");
                    assert_eq!(budget.waits(until), None, "and then it may go on");
                    now = until;
                }
            }
            let most = WORK_AT_ONCE + 4 * WORK_PER_SECOND + 2 * piece;
            assert!((4 * WORK_PER_SECOND..=most).contains(&done), "{done} in pieces of {piece}");
        }
    }

    #[test]
    fn after_a_slice_others_have_their_turn() {
        let mut budget = WorkBudget::default();
        let turns: Vec<Turn> = (0..8).map(|_| budget.spend(SLICE / 4, SECOND)).collect();
        use Turn::{GiveWay, GoOn};
        assert_eq!(turns, [GoOn, GoOn, GoOn, GiveWay, GoOn, GoOn, GoOn, GiveWay]);
    }

    #[test]
    fn who_waited_has_all_of_it_again_and_not_more() {
        let mut budget = WorkBudget::default();
        assert!(matches!(budget.spend(3 * WORK_AT_ONCE, Duration::ZERO), Turn::Wait(_)));
        let later = 100 * SECOND;
        assert_eq!(budget.spend(WORK_AT_ONCE - 1, later), Turn::GiveWay);
        assert!(matches!(budget.spend(1, later), Turn::Wait(until) if later < until));
    }
}
