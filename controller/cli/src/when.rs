//! Times as people read them: how long ago, how many hours, which month.

use anyhow::Context;
use prost_types::Timestamp;

const MINUTE_SECS: i64 = 60;
const HOUR_SECS: i64 = 60 * MINUTE_SECS;
const DAY_SECS: i64 = 24 * HOUR_SECS;

/// How long ago, in the largest unit that fits; empty for no time.
pub(crate) fn since(time: Option<&Timestamp>) -> String {
    time.map(|time| age(vidi_kit::Clock::system().now_ms() / 1_000 - time.seconds))
        .unwrap_or_default()
}

/// A moment and how long ago it was; empty for no time.
pub(crate) fn moment(time: Option<&Timestamp>) -> String {
    time.map(|time| {
        let whole = Timestamp { seconds: time.seconds, nanos: 0 };
        format!("{whole} ({} ago)", since(Some(time)))
    })
    .unwrap_or_default()
}

fn age(secs: i64) -> String {
    let secs = secs.max(0);
    match secs {
        0..MINUTE_SECS => format!("{secs} s"),
        MINUTE_SECS..HOUR_SECS => format!("{} min", secs / MINUTE_SECS),
        HOUR_SECS..DAY_SECS => format!("{} h", secs / HOUR_SECS),
        _ => format!("{} d", secs / DAY_SECS),
    }
}

/// Seconds as hours and minutes: `12:05`.
pub(crate) fn hours(secs: u64) -> String {
    let minutes = secs / 60;
    format!("{}:{:02}", minutes / 60, minutes % 60)
}

/// First moment of a month and of the one after it, UTC.
pub(crate) fn month(text: &str) -> anyhow::Result<(Timestamp, Timestamp)> {
    const YEARS: std::ops::RangeInclusive<i64> = 1970..=9999;
    const MONTHS: std::ops::RangeInclusive<i64> = 1..=12;
    let parsed = text.split_once('-').and_then(|(year, month)| {
        let (year, month) = (year.parse::<i64>().ok()?, month.parse::<i64>().ok()?);
        (YEARS.contains(&year) && MONTHS.contains(&month)).then_some((year, month))
    });
    let (year, month) = parsed.with_context(|| {
        format!("\"{text}\" is not a month: give year and month, such as 2026-11")
    })?;
    let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let first =
        |(year, month)| Timestamp { seconds: days_before_month(year, month) * DAY_SECS, nanos: 0 };
    Ok((first((year, month)), first(next)))
}

/// Days from 1970-01-01 to the first of a month of the Gregorian calendar.
fn days_before_month(year: i64, month: i64) -> i64 {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in = |month: i64| match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let years: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    years + (1..month).map(days_in).sum::<i64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_from_its_first_moment_to_the_next_ones() {
        let said = |text: &str| {
            let (from, to) = month(text).unwrap();
            format!("{from} {to}")
        };
        assert_eq!(said("2026-11"), "2026-11-01T00:00:00Z 2026-12-01T00:00:00Z");
        assert_eq!(said("2024-02"), "2024-02-01T00:00:00Z 2024-03-01T00:00:00Z");
        assert_eq!(said("1999-12"), "1999-12-01T00:00:00Z 2000-01-01T00:00:00Z");
        for wrong in ["", "2026", "2026-13", "2026-0", "26-11-1", "november", "0-1"] {
            assert!(month(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(age(-3), "0 s");
        assert_eq!(age(59), "59 s");
        assert_eq!(age(61), "1 min");
        assert_eq!(age(7_300), "2 h");
        assert_eq!(age(200_000), "2 d");
        assert_eq!(hours(45_359), "12:35");
        assert_eq!(hours(0), "0:00");
    }
}
