//! Who and when, drawn over the picture of a session whose desktop asks for it.
//!
//! All viewers are sent the same encoded picture, so one text is over it for all of them: it names everybody
//! who looks. A text for each viewer would have each tile encoded once for each.

use std::time::Duration;

use prost_types::Timestamp;
use tokio::time::Instant;

use crate::reconcile::session::SessionTask;

const MINUTE_MS: i64 = 60_000;

/// The text that is shown.
#[derive(Debug, Default)]
pub(super) struct Mark {
    lines: Vec<String>,
    /// When it changes by itself.
    pub(super) at: Option<Instant>,
}

impl SessionTask {
    /// Draws the text of this minute and of those who are here, or takes it away.
    pub(super) fn mark(&mut self) {
        let mut mark = Mark::default();
        if self.terms.watermark {
            let now_ms = self.registry.reach().clock.now_ms();
            mark.lines = lines(&self.terms.user_display_name, self.people.guest_names(), now_ms);
            let rest_ms = u64::try_from(MINUTE_MS - now_ms.rem_euclid(MINUTE_MS)).unwrap_or(0);
            mark.at = Some(Instant::now() + Duration::from_millis(rest_ms));
        }
        if mark.lines != self.mark.lines {
            self.display.set_watermark(&mark.lines);
        }
        self.mark = mark;
    }

    /// Draws the next minute's text when it begins.
    pub(super) fn keep_marked(&mut self) {
        if self.mark.at.is_some_and(|at| at <= Instant::now()) {
            self.mark();
        }
    }
}

/// The session's user, its guests, and the minute.
fn lines<'a>(user: &'a str, guests: impl Iterator<Item = &'a str>, now_ms: i64) -> Vec<String> {
    let names = std::iter::once(user).chain(guests).map(str::to_owned);
    names.chain([minute(now_ms)]).collect()
}

/// `2026-11-22 16:05 UTC`.
fn minute(ms: i64) -> String {
    const CHARS: usize = "2026-11-22T16:05".len();
    let time = Timestamp { seconds: ms.div_euclid(1_000), nanos: 0 }.to_string();
    format!("{} UTC", time.get(..CHARS).unwrap_or_default().replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_looks_is_named() {
        let named = |guests: &[&'static str]| lines("Ana", guests.iter().copied(), 0);
        assert_eq!(named(&[]), ["Ana", "1970-01-01 00:00 UTC"]);
        assert_eq!(named(&["Ben", "Help"]), ["Ana", "Ben", "Help", "1970-01-01 00:00 UTC"]);
    }

    #[test]
    fn a_minute_is_told_with_its_date() {
        for (ms, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399_999, "2000-02-28 23:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (1_709_251_199_000, "2024-02-29 23:59 UTC"),
            (1_735_689_599_000, "2024-12-31 23:59 UTC"),
            (1_795_363_526_000, "2026-11-22 16:05 UTC"),
        ] {
            assert_eq!(minute(ms), text);
        }
    }
}
