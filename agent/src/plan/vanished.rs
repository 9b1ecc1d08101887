//! A wanted desktop whose start is over: did its guest shut down, and if not, when is it started again?
//!
//! ```text
//!  shut down by its guest ─▶ off, until it is wanted anew
//!  the machine went down  ─▶ started again
//!  anything else          ─▶ started again, more slowly each time; in the end it has failed
//! ```

use uuid::Uuid;
use vidi_hypervisor::DesktopMark;

use super::desktop::View;
use crate::model::wanted::{Wanted, Wish};

/// Word of how a domain ended may come this long after it has left the list.
pub const ENDING_MS_MAX: i64 = 3_000;
/// Wait before the second start after ends that nobody wanted; twice as long before each further one.
pub const AGAIN_MS_FIRST: i64 = 5_000;
/// Ends in a row that nobody wanted; with one more the desktop has failed.
pub const UNWANTED_ENDS_MAX: u32 = 5;
/// A start that became ready and lasted this long is not part of a row.
pub const STEADY_MS: i64 = 600_000;

/// What to make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vanished {
    /// There was no start for this wish.
    NotStarted,
    /// Its guest shut down.
    ByGuest,
    /// It is not known yet how it ended, or the next start has to wait.
    Waits,
    /// Too often.
    GivesUp,
    /// Start it again; ends in a row that nobody wanted are these now.
    Again(u32),
}

/// The newest wish that a domain that is there fulfils: one that it was started for, or one that came
/// later and found it running; not one that came after it was asked to go off.
pub fn fulfilled_by(mark: &DesktopMark, wanted: Option<&Wanted>, told_off: Option<u64>) -> u64 {
    let wanted = wanted.filter(|one| one.wish == Wish::On && told_off != Some(mark.start_count));
    wanted.map_or(mark.generation, |wanted| wanted.generation.max(mark.generation))
}

/// Judges a desktop that is wanted on in `generation` and has no domain.
pub fn judge(view: &View<'_>, generation: u64, boot: Uuid, now_ms: i64) -> Vanished {
    let Some(record) = view.record.filter(|it| it.started_generation == generation) else {
        return Vanished::NotStarted;
    };
    if record.is_off_by_guest() {
        return Vanished::ByGuest;
    }
    let another_boot = |started: Uuid| !started.is_nil() && !boot.is_nil() && started != boot;
    if another_boot(record.started_boot) {
        return Vanished::Again(record.unwanted_ends);
    }
    let ends = record.ends_with_last();
    if UNWANTED_ENDS_MAX < ends {
        return Vanished::GivesUp;
    }
    let doublings = ends.saturating_sub(2).min(UNWANTED_ENDS_MAX);
    let pause_ms = if ends < 2 { 0 } else { AGAIN_MS_FIRST << doublings };
    match view.fleeting.absent_since_ms {
        Some(since) if ENDING_MS_MAX + pause_ms <= now_ms.saturating_sub(since) => {
            Vanished::Again(ends)
        }
        Some(_) | None => Vanished::Waits,
    }
}
