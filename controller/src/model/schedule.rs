//! Rules of the week in a time zone, by which the size of a pool changes.
//!
//! A rule holds from one time of the day to another, on the days on which it begins. What a rule says counts
//! while it holds; of several the first one that says it. When the clock is set forward a time that does not
//! exist is as much later; when it is set back a time that comes twice is the first one (RFC 5545, 3.3.5).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Rules of one pool: a week with a rule for each morning and evening, and some to spare.
pub const RULES_MAX: usize = 16;
/// Minutes of a day; the last one is its end.
const DAY_MINUTES: u16 = 24 * 60;
/// Changes are looked for so many days ahead: each rule comes again within a week, and the clock may be set
/// back meanwhile.
const DAYS_AHEAD: i64 = 10;

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Free desktops that are kept ready for whoever comes next.
    ///
    /// INVARIANT: `min_spare` <= `max_desktops`.
    pub min_spare: u32,
    /// Desktops that there may be, used and unused.
    pub max_desktops: u32,
}

/// When a pool has another size than usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// By whose clocks.
    pub zone: Zone,
    /// The first that holds and says something of it counts.
    ///
    /// INVARIANT: at most [`RULES_MAX`].
    pub rules: Vec<Rule>,
}

/// What counts at some times of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Those on which it begins.
    pub days: Days,
    /// When it begins.
    ///
    /// INVARIANT: `from` is another time than `to`, and before the day's end.
    pub from: DayTime,
    /// When it ends; where that is not after `from`, on the next day.
    pub to: DayTime,
    /// None: as it is otherwise.
    pub min_spare: Option<u32>,
    /// None: as it is otherwise.
    pub max_desktops: Option<u32>,
}

/// Days of the week, by their number from Monday as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u8);

/// A time of the day, in minutes since its beginning; 24:00 is its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DayTime(u16);

/// A time zone by its IANA name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    clock: TimeZone,
}

/// When a rule holds: which one, from when to when, ms since the epoch.
type Span = (usize, i64, i64);

impl Schedule {
    /// Refuses what no schedule may be: answers the field of the API and what is expected of it.
    pub fn check(&self, desktops_max: u32) -> Result<(), (&'static str, &'static str)> {
        if RULES_MAX < self.rules.len() {
            return Err(("schedule", "at most 16 rules are expected"));
        }
        for Rule { days, from, to, min_spare, max_desktops } in &self.rules {
            if days.is_empty() {
                return Err(("schedule.days", "at least one day is expected"));
            }
            if from == to || DAY_MINUTES <= from.0 {
                return Err((
                    "schedule.from",
                    "another time than \"to\" is expected, before 24:00",
                ));
            }
            if min_spare.is_none() && max_desktops.is_none() {
                return Err(("schedule", "a rule says min_spare, max_desktops or both"));
            }
            let most = max_desktops.unwrap_or(desktops_max);
            if desktops_max < most {
                return Err(("schedule.max_desktops", "at most 10000 are expected"));
            }
            if min_spare.is_some_and(|spare| most < spare) {
                return Err(("schedule.min_spare", "at most max_desktops are expected"));
            }
        }
        Ok(())
    }

    /// The size at a time, of a pool that is usually this large.
    pub fn size_at(&self, usual: Size, now_ms: i64) -> Size {
        if self.rules.is_empty() {
            return usual;
        }
        // What began yesterday may go on.
        sized(&self.rules, usual, &self.spans(now_ms, 2), now_ms)
    }

    /// When the size changes next, ms since the epoch, and what it is then; none: never.
    pub fn next_change(&self, usual: Size, now_ms: i64) -> Option<(i64, Size)> {
        if self.rules.is_empty() {
            return None;
        }
        let spans = self.spans(now_ms, DAYS_AHEAD);
        let now = sized(&self.rules, usual, &spans, now_ms);
        let mut edges: Vec<i64> = spans.iter().flat_map(|(_, from, to)| [*from, *to]).collect();
        // What begins on the day behind the last one is not known here.
        let horizon_ms = self.horizon_ms(now_ms)?;
        edges.retain(|edge_ms| now_ms < *edge_ms && *edge_ms < horizon_ms);
        edges.sort_unstable();
        edges.dedup();
        let sizes =
            edges.into_iter().map(|at_ms| (at_ms, sized(&self.rules, usual, &spans, at_ms)));
        sizes.into_iter().find(|(_, size)| *size != now)
    }

    /// When the rules hold that begin on so many days from yesterday on.
    fn spans(&self, now_ms: i64, days: i64) -> Vec<Span> {
        let today = self.zone.date(now_ms);
        let Some(yesterday) = today.and_then(|today| today.yesterday().ok()) else {
            return Vec::new();
        };
        let dates = std::iter::successors(Some(yesterday), |date| date.tomorrow().ok())
            .take(usize::try_from(days).unwrap_or(0));
        let mut spans = Vec::new();
        for date in dates {
            for (index, rule) in self.rules.iter().enumerate() {
                let begins = rule.days.contains(weekday(date));
                spans.extend(begins.then(|| self.span(index, rule, date)).flatten());
            }
        }
        spans
    }

    /// Until when [`Self::spans`] tells of [`DAYS_AHEAD`] all that holds.
    fn horizon_ms(&self, now_ms: i64) -> Option<i64> {
        let yesterday = self.zone.date(now_ms)?.yesterday().ok()?;
        let last = yesterday.checked_add(jiff::Span::new().days(DAYS_AHEAD)).ok()?;
        self.zone.at_ms(last, DayTime(0))
    }

    fn span(&self, index: usize, rule: &Rule, date: Date) -> Option<Span> {
        let last = if rule.from < rule.to { date } else { date.tomorrow().ok()? };
        Some((index, self.zone.at_ms(date, rule.from)?, self.zone.at_ms(last, rule.to)?))
    }
}

fn sized(rules: &[Rule], usual: Size, spans: &[Span], at_ms: i64) -> Size {
    let holds = |index: usize| {
        let mut own = spans.iter().filter(|(of, ..)| *of == index);
        own.any(|(_, from_ms, to_ms)| (*from_ms..*to_ms).contains(&at_ms))
    };
    let (mut min_spare, mut max_desktops) = (None, None);
    for (index, rule) in rules.iter().enumerate() {
        let says = (min_spare.is_none() && rule.min_spare.is_some())
            || (max_desktops.is_none() && rule.max_desktops.is_some());
        if says && holds(index) {
            min_spare = min_spare.or(rule.min_spare);
            max_desktops = max_desktops.or(rule.max_desktops);
        }
    }
    let max_desktops = max_desktops.unwrap_or(usual.max_desktops);
    Size { min_spare: min_spare.unwrap_or(usual.min_spare).min(max_desktops), max_desktops }
}

/// From Monday as 0.
fn weekday(date: Date) -> u8 {
    u8::try_from(date.weekday().to_monday_zero_offset()).unwrap_or(0)
}

impl Days {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// These, by their number from Monday as 0; other numbers are none.
    pub fn of(days: impl IntoIterator<Item = u8>) -> Self {
        let bits = days.into_iter().filter(|day| *day < 7).map(|day| 1 << day);
        Self(bits.fold(0, |all, bit: u8| all | bit))
    }

    /// Whether it is one of them.
    pub const fn contains(self, day: u8) -> bool {
        day < 7 && self.0 & (1 << day) != 0
    }

    /// Each, from Monday as 0.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..7).filter(move |day| self.contains(*day))
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As a number, for the store: Monday is 1, Tuesday 2, Wednesday 4.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Of such a number; none for one that names other days.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= Self::ALL.0 { Some(Self(bits)) } else { None }
    }
}

impl DayTime {
    /// So many minutes after the day's beginning; none behind its end.
    pub const fn of_minutes(minutes: u16) -> Option<Self> {
        if minutes <= DAY_MINUTES { Some(Self(minutes)) } else { None }
    }

    /// Minutes after the day's beginning.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// It is no time of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time of the day as 08:30 is expected, 24:00 at most")]
pub struct DayTimeError;

impl FromStr for DayTime {
    type Err = DayTimeError;

    fn from_str(text: &str) -> Result<Self, DayTimeError> {
        let digits = |part: &str| {
            let good = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            good.then(|| part.parse::<u16>().ok()).flatten()
        };
        let (hours, minutes) = text.split_once(':').ok_or(DayTimeError)?;
        let (hours, minutes) = digits(hours).zip(digits(minutes)).ok_or(DayTimeError)?;
        let time = (minutes < 60).then(|| Self::of_minutes(hours * 60 + minutes)).flatten();
        time.ok_or(DayTimeError)
    }
}

impl Zone {
    /// The longest name of a zone has 30 letters.
    const NAME_BYTES_MAX: usize = 64;

    /// By its IANA name; empty: UTC. None: it is not known here.
    pub fn find(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::default());
        }
        if Self::NAME_BYTES_MAX < name.len() {
            return None;
        }
        let clock = TimeZoneDatabase::bundled().get(name).ok()?;
        Some(Self { name: clock.iana_name().unwrap_or(name).to_owned(), clock })
    }

    /// As [`Self::find`], of a name that was found before: one that this program does not know any more has
    /// the clocks of UTC.
    pub fn kept(name: String) -> Self {
        Self::find(&name).unwrap_or(Self { name, clock: TimeZone::UTC })
    }

    /// Empty: UTC.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The quarter of an hour of the week that its clocks show, from Monday 00:00 as 0; and the day from
    /// Monday as 0.
    pub fn quarter(&self, at_ms: i64) -> Option<(usize, u8)> {
        let shown = self.clock.to_datetime(Timestamp::from_millisecond(at_ms).ok()?);
        let minutes = usize::try_from(shown.hour()).ok()? * 60;
        let minutes = minutes + usize::try_from(shown.minute()).ok()?;
        let day = weekday(shown.date());
        Some((usize::from(day) * 96 + minutes / 15, day))
    }

    /// When the day begins that its clocks show, ms since the epoch.
    pub fn day_begins_ms(&self, at_ms: i64) -> Option<i64> {
        self.at_ms(self.date(at_ms)?, DayTime(0))
    }

    /// When a day begins by its clocks, ms since the epoch; none where the text is no day as 2026-11-30.
    pub fn begin_of(&self, day: &str) -> Option<i64> {
        let whole = day.len() == 10;
        self.at_ms(whole.then(|| day.parse::<Date>().ok()).flatten()?, DayTime(0))
    }

    /// A time as its clocks show it: 2026-11-30 08:15.
    pub fn shown(&self, at_ms: i64) -> String {
        let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
        self.clock.to_datetime(at).strftime("%Y-%m-%d %H:%M").to_string()
    }

    fn date(&self, at_ms: i64) -> Option<Date> {
        Some(self.clock.to_datetime(Timestamp::from_millisecond(at_ms).ok()?).date())
    }

    fn at_ms(&self, date: Date, time: DayTime) -> Option<i64> {
        let (date, minutes) = match time.0 {
            DAY_MINUTES.. => (date.tomorrow().ok()?, 0),
            minutes => (date, minutes),
        };
        let hour = i8::try_from(minutes / 60).ok()?;
        let minute = i8::try_from(minutes % 60).ok()?;
        let at = self.clock.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
        Some(at.compatible().ok()?.as_millisecond())
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: String::new(), clock: TimeZone::UTC }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const USUAL: Size = Size { min_spare: 1, max_desktops: 9 };
    /// Whose clocks are set at other times, by half an hour, at midnight, and never.
    const ZONES: [&str; 6] = [
        "Europe/Rome",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Santiago",
        "Asia/Kolkata",
        "",
    ];

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn rule(days: Days, from: &str, to: &str, min_spare: u32) -> Rule {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        Rule { days, from, to, min_spare: Some(min_spare), max_desktops: None }
    }

    fn rome(rules: Vec<Rule>) -> Schedule {
        Schedule { zone: Zone::find("Europe/Rome").unwrap(), rules }
    }

    fn spare(schedule: &Schedule, at: &str) -> u32 {
        schedule.size_at(USUAL, ms(at)).min_spare
    }

    #[test]
    fn a_rule_holds_by_the_clocks_of_its_zone_in_summer_and_in_winter() {
        let schedule = rome(vec![rule(Days::of(0..5), "07:30", "18:00", 5)]);
        // Thursday; UTC+2, then UTC+1.
        for (at, expected) in [
            ("2026-10-22T05:29:59Z", 1),
            ("2026-10-22T05:30:00Z", 5),
            ("2026-10-22T15:59:59Z", 5),
            ("2026-10-22T16:00:00Z", 1),
            ("2026-10-29T06:29:59Z", 1),
            ("2026-10-29T06:30:00Z", 5),
            ("2026-10-29T17:00:00Z", 1),
            // Saturday.
            ("2026-10-24T09:00:00Z", 1),
        ] {
            assert_eq!(spare(&schedule, at), expected, "{at}");
        }
        let (at_ms, size) = schedule.next_change(USUAL, ms("2026-10-23T17:00:00Z")).unwrap();
        assert_eq!((at_ms, size.min_spare), (ms("2026-10-26T06:30:00Z"), 5), "Monday, in winter");
    }

    #[test]
    fn a_night_is_its_evenings_and_goes_on_on_the_next_day() {
        let schedule = rome(vec![rule(Days::of([4]), "22:00", "06:00", 0)]);
        for (at, expected) in [
            ("2026-11-27T20:59:59Z", 1),
            ("2026-11-27T21:00:00Z", 0),
            ("2026-11-28T04:59:59Z", 0),
            ("2026-11-28T05:00:00Z", 1),
            ("2026-11-28T21:30:00Z", 1),
        ] {
            assert_eq!(spare(&schedule, at), expected, "{at}");
        }
        let always = rome(vec![rule(Days::ALL, "00:00", "24:00", 3)]);
        assert_eq!(always.next_change(USUAL, ms("2026-11-27T12:00:00Z")), None);
        let whole = rome(vec![rule(Days::of([5]), "00:00", "24:00", 3)]);
        let (begins, size) = whole.next_change(USUAL, ms("2026-11-27T12:00:00Z")).unwrap();
        assert_eq!((begins, size.min_spare), (ms("2026-11-27T23:00:00Z"), 3));
        let (ends, size) = whole.next_change(USUAL, begins).unwrap();
        assert_eq!((ends - begins, size.min_spare), (24 * HOUR_MS, 1));
    }

    #[test]
    fn a_time_that_does_not_exist_is_as_much_later_and_one_that_comes_twice_is_the_first() {
        // 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
        let schedule = rome(vec![rule(Days::ALL, "02:30", "05:00", 4)]);
        let (spring, _) = schedule.next_change(USUAL, ms("2026-03-28T12:00:00Z")).unwrap();
        assert_eq!(spring, ms("2026-03-29T01:30:00Z"), "03:30 by the new clock");
        let (autumn, _) = schedule.next_change(USUAL, ms("2026-10-24T12:00:00Z")).unwrap();
        assert_eq!(autumn, ms("2026-10-25T00:30:00Z"), "the first 02:30");
        let (ends, _) = schedule.next_change(USUAL, autumn).unwrap();
        assert_eq!(ends - autumn, 3 * HOUR_MS + HOUR_MS / 2, "an hour more than the clock shows");
    }

    #[test]
    fn of_several_rules_the_first_one_that_says_it_counts() {
        let mut closed = rule(Days::of([5, 6]), "00:00", "24:00", 0);
        closed.max_desktops = Some(2);
        let mut busy = rule(Days::ALL, "08:00", "10:00", 6);
        busy.max_desktops = None;
        let more = Rule { min_spare: None, max_desktops: Some(4), ..busy.clone() };
        let schedule = rome(vec![closed, busy, more]);
        let at = |at| schedule.size_at(USUAL, ms(at));
        let saturday = at("2026-11-28T08:00:00Z");
        assert_eq!(saturday, Size { min_spare: 0, max_desktops: 2 });
        // More spares than there may be desktops are as many.
        assert_eq!(at("2026-11-27T08:00:00Z"), Size { min_spare: 4, max_desktops: 4 });
        assert_eq!(at("2026-11-27T09:00:00Z"), USUAL);
    }

    #[test]
    fn times_zones_and_rules_that_are_none_are_refused() {
        for wrong in ["", "8:00", "08:60", "24:01", "0800", "-1:00", "08:00:00", "٠٨:٠٠", "+8:00"]
        {
            assert!(wrong.parse::<DayTime>().is_err(), "{wrong}");
        }
        assert_eq!("24:00".parse::<DayTime>().unwrap().to_string(), "24:00");
        assert!(Zone::find("Mars/Olympus").is_none() && Zone::find(&"a/".repeat(99)).is_none());
        assert_eq!(Zone::find("europe/rome").unwrap().name(), "Europe/Rome");
        assert_eq!(Zone::kept("Mars/Olympus".to_owned()).name(), "Mars/Olympus");
        let good = rule(Days::ALL, "08:00", "10:00", 3);
        let checked = |rules| rome(rules).check(10_000).map_err(|(field, _)| field);
        assert_eq!(checked(vec![good.clone(); RULES_MAX]), Ok(()));
        assert_eq!(checked(vec![good.clone(); RULES_MAX + 1]), Err("schedule"));
        let same = Rule { to: good.from, ..good.clone() };
        assert_eq!(checked(vec![same]), Err("schedule.from"));
        let silent = Rule { min_spare: None, ..good.clone() };
        assert_eq!(checked(vec![silent]), Err("schedule"));
        let small = Rule { max_desktops: Some(2), ..good.clone() };
        assert_eq!(checked(vec![small]), Err("schedule.min_spare"));
        let large = Rule { max_desktops: Some(10_001), ..good.clone() };
        assert_eq!(checked(vec![large]), Err("schedule.max_desktops"));
        assert_eq!(checked(vec![Rule { days: Days::of([]), ..good }]), Err("schedule.days"));
    }

    prop_compose! {
        fn any_rule()(bits in 1u8..=0x7f, from in 0u16..1440, to in 0u16..=1440,
                      spare in proptest::option::of(0u32..5), most in 5u32..12) -> Rule {
            let days = Days::from_bits(bits).unwrap();
            let to = if to == from { to + 1 } else { to };
            let (from, to) = (DayTime::of_minutes(from).unwrap(), DayTime::of_minutes(to).unwrap());
            Rule { days, from, to, min_spare: spare, max_desktops: Some(most) }
        }
    }

    proptest! {
        /// Walked through minute by minute for some days around a change of the clocks, or any other: the size
        /// is the same until the change that was told, and another one then.
        #[test]
        fn the_next_change_is_the_next_one(
            rules in proptest::collection::vec(any_rule(), 1..5),
            zone in 0usize..ZONES.len(),
            year_quarter in 0i64..12,
            offset_minutes in 0i64..(14 * 24 * 60),
        ) {
            let schedule = Schedule { zone: Zone::find(ZONES[zone]).unwrap(), rules };
            let base_ms = ms("2026-03-20T00:00:00Z") + year_quarter * 91 * 24 * HOUR_MS;
            let now_ms = base_ms + offset_minutes * 60_000;
            let now = schedule.size_at(USUAL, now_ms);
            let told = schedule.next_change(USUAL, now_ms);
            let mut at_ms = now_ms;
            for _ in 0..(3 * 24 * 60) {
                at_ms += 60_000;
                let size = schedule.size_at(USUAL, at_ms);
                if size != now {
                    prop_assert_eq!(told, Some((at_ms, size)));
                    return Ok(());
                }
                prop_assert!(size.min_spare <= size.max_desktops);
            }
            prop_assert!(told.is_none_or(|(change_ms, _)| at_ms < change_ms));
        }

        /// Away from the hours in which clocks are set, a rule holds exactly when the clock on the wall says so.
        #[test]
        fn a_rule_holds_when_the_clock_on_the_wall_says_so(
            rule in any_rule(),
            zone in 0usize..ZONES.len(),
            minutes in 0i64..(60 * 24 * 365),
        ) {
            let zone = Zone::find(ZONES[zone]).unwrap();
            let at_ms = ms("2026-01-01T00:00:00Z") + minutes * 60_000;
            let shown = |at_ms| {
                zone.clock.to_datetime(Timestamp::from_millisecond(at_ms).unwrap())
            };
            let day_ms = 24 * HOUR_MS;
            // Two days without a change of the clocks around it.
            for days in [-2, -1, 1, 2] {
                prop_assume!(shown(at_ms + days * day_ms).time() == shown(at_ms).time());
            }
            let now = shown(at_ms);
            let minute = u16::try_from(now.hour()).unwrap() * 60 + u16::try_from(now.minute()).unwrap();
            let (today, from, to) = (weekday(now.date()), rule.from.0, rule.to.0);
            let yesterday = (today + 6) % 7;
            let expected = if from < to {
                rule.days.contains(today) && (from..to).contains(&minute)
            } else {
                (rule.days.contains(today) && from <= minute)
                    || (rule.days.contains(yesterday) && minute < to)
            };
            let schedule = Schedule { zone: zone.clone(), rules: vec![rule.clone()] };
            let size = schedule.size_at(Size { min_spare: 0, max_desktops: 99 }, at_ms);
            prop_assert_eq!(size.max_desktops != 99, expected, "{:?} at {}", rule, now);
        }
    }
}
