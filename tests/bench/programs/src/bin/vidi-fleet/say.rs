//! Reports, and the numbers in them.

use std::io::Write as _;
use std::time::Duration;

use serde_json::Value;

/// Ticks of proc(5) in a second (`USER_HZ`), on every Linux there is.
const TICKS_PER_S: f64 = 100.0;

/// One line of JSON on standard output.
pub(crate) fn say(report: &Value) {
    // Who reads it may be gone; then the end of standard input ends this program.
    drop(writeln!(std::io::stdout().lock(), "{report}"));
}

/// In milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// The value in milliseconds that `part` of all do not exceed (nearest rank); none of nothing.
pub(crate) fn percentile(durations: &[Duration], part: f64) -> Option<f64> {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rank among some thousands"
    )]
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).map(|one| ms(*one))
}

/// Processor time of a process, in milliseconds; 0 of one that is gone (proc(5), `stat`).
pub(crate) fn cpu_ms(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|one| one.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_S * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let all: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&all, 0.5), Some(100.0));
        assert_eq!(percentile(&all, 0.99), Some(198.0));
        assert_eq!(percentile(&all, 1.0), Some(200.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
