//! Rules of a pool's schedule, as they are typed and shown: `mon-fri 07:30-18:00 spare=10 max=60`.

use vidi_proto::v1::{ForecastPoolResponse, PoolForecast, PoolSizeChange, ScheduleRule, Weekday};

use crate::output::Table;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EVERY_DAY: &str = "daily";

/// A rule of a line; otherwise what is expected.
pub(crate) fn rule(line: &str) -> Result<ScheduleRule, String> {
    let mut words = line.split_whitespace();
    let days = words.next().ok_or("days are expected first, as mon-fri, sat,sun or daily")?;
    let times = words.next().and_then(|times| times.split_once('-'));
    let (from, to) = times.ok_or("times are expected behind the days, as 07:30-18:00")?;
    let mut rule = ScheduleRule {
        days: days_of(days)?,
        from: from.to_owned(),
        to: to.to_owned(),
        min_spare: None,
        max_desktops: None,
    };
    for word in words {
        let said = word.split_once('=');
        let count = said.and_then(|(_, count)| count.parse::<u32>().ok());
        match (said.map(|(name, _)| name), count) {
            (Some("spare"), Some(count)) => rule.min_spare = Some(count),
            (Some("max"), Some(count)) => rule.max_desktops = Some(count),
            _ => return Err(format!("\"{word}\" is neither spare=COUNT nor max=COUNT")),
        }
    }
    if rule.min_spare.is_none() && rule.max_desktops.is_none() {
        return Err("spare=COUNT, max=COUNT or both are expected behind the times".to_owned());
    }
    Ok(rule)
}

fn days_of(text: &str) -> Result<Vec<i32>, String> {
    if text == EVERY_DAY {
        return Ok(Vec::new());
    }
    let index = |day: &str| {
        let found = DAYS.iter().position(|one| *one == day);
        found.ok_or_else(|| format!("\"{day}\" is no day: {} or {EVERY_DAY}", DAYS.join(", ")))
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (index(first)?, index(last)?);
        // Over the weekend: fri-mon.
        let count = (last + DAYS.len() - first) % DAYS.len() + 1;
        days.extend((0..count).map(|offset| (first + offset) % DAYS.len()));
    }
    days.sort_unstable();
    days.dedup();
    let numbered = days.into_iter().map(|day| i32::try_from(day + 1).unwrap_or_default());
    Ok(numbered.collect())
}

/// The line of a rule.
pub(crate) fn line(rule: &ScheduleRule) -> String {
    let days = rule.days.iter().filter_map(|number| Weekday::try_from(*number).ok());
    let days: Vec<&str> = days.filter_map(short).collect();
    let days = if days.is_empty() { EVERY_DAY.to_owned() } else { days.join(",") };
    let spare = rule.min_spare.map(|count| format!(" spare={count}")).unwrap_or_default();
    let most = rule.max_desktops.map(|count| format!(" max={count}")).unwrap_or_default();
    format!("{days} {}-{}{spare}{most}", rule.from, rule.to)
}

fn short(day: Weekday) -> Option<&'static str> {
    let index = match day {
        Weekday::Unspecified => return None,
        Weekday::Monday => 0,
        Weekday::Tuesday => 1,
        Weekday::Wednesday => 2,
        Weekday::Thursday => 3,
        Weekday::Friday => 4,
        Weekday::Saturday => 5,
        Weekday::Sunday => 6,
    };
    DAYS.get(index).copied()
}

/// When the schedule changes the size next, and to what.
pub(crate) fn next(change: Option<&PoolSizeChange>) -> String {
    change.map_or_else(String::new, |next| {
        format!("{}: spare {}, max {}", next.clock, next.min_spare, next.max_desktops)
    })
}

/// Who is expected, and what comes of it.
pub(crate) fn expected(forecast: Option<&PoolForecast>, kept: bool) -> String {
    let Some(forecast) = forecast else { return String::new() };
    let what = if kept { "kept free for them" } else { "would be kept free for them" };
    format!("{}: {} {what}", forecast.reason, forecast.spare)
}

/// A day, quarter by quarter.
pub(crate) fn day(day: &ForecastPoolResponse) -> Table {
    let mut table = Table::new(["FROM", "PEOPLE", "KEPT FREE", "SPARE", "MAX"]);
    for quarter in &day.quarters {
        table.row([
            quarter.clock.clone(),
            quarter.people.map(|people| format!("{people:.1}")).unwrap_or_default(),
            quarter.spare.to_string(),
            quarter.min_spare.to_string(),
            quarter.max_desktops.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_as_it_is_typed() {
        for typed in [
            "mon,tue,wed,thu,fri 07:30-18:00 spare=10 max=60",
            "daily 22:00-06:00 max=0",
            "sat,sun 00:00-24:00 spare=0",
        ] {
            assert_eq!(line(&rule(typed).unwrap()), typed);
        }
        assert_eq!(rule("mon-fri 08:00-09:00 max=1").unwrap().days, [1, 2, 3, 4, 5]);
        assert_eq!(rule("fri-mon,sun 08:00-09:00 max=1").unwrap().days, [1, 5, 6, 7]);
        for wrong in [
            "",
            "mon",
            "mon 08:00",
            "mon 08:00-09:00",
            "someday 08:00-09:00 max=1",
            "mon-",
            "mon 08:00-09:00 most=1",
            "mon 08:00-09:00 max=many",
            "mon 08:00-09:00 max",
        ] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }
}
