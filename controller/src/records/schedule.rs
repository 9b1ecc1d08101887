//! Rules of schedules as they are stored.

use vidi_proto::store::v1 as stored;

use crate::model::schedule::{DayTime, Days, Rule};

/// As the store takes it.
pub(super) fn rule_to_stored(rule: &Rule) -> stored::ScheduleRule {
    stored::ScheduleRule {
        days: rule.days.bits().into(),
        from_minutes: rule.from.minutes().into(),
        to_minutes: rule.to.minutes().into(),
        min_spare: rule.min_spare,
        max_desktops: rule.max_desktops,
    }
}

/// As they were; none where one is none.
pub(super) fn rules_from_stored(rules: &[stored::ScheduleRule]) -> Option<Vec<Rule>> {
    let time = |minutes: u32| DayTime::of_minutes(u16::try_from(minutes).ok()?);
    let rules = rules.iter().map(|one| {
        Some(Rule {
            days: Days::from_bits(u8::try_from(one.days).ok()?)?,
            from: time(one.from_minutes)?,
            to: time(one.to_minutes)?,
            min_spare: one.min_spare,
            max_desktops: one.max_desktops,
        })
    });
    rules.collect()
}
