//! How many people come to a pool at which time of the week, learned from those who came; and how many free
//! desktops that takes.

/// Quarters of an hour of a week.
pub const SLOTS: usize = 7 * SLOTS_PER_DAY;
const SLOTS_PER_DAY: usize = 96;
/// One of them, ms.
pub const QUARTER_MS: i64 = 15 * MINUTE_MS;
const MINUTE_MS: i64 = 60_000;
/// Parts of an arrival in which means are kept.
const PARTS: u32 = 8;
/// How long a desktop takes to be ready where no pool has told it yet, ms.
const READY_MS_USUAL: i64 = 120_000;
/// People are expected for at least this long ahead, ms: who comes a minute early is no surprise.
const AHEAD_MS_MIN: i64 = 2 * MINUTE_MS;
/// And at most, ms: what is learned is as coarse as that.
const AHEAD_MS_MAX: i64 = QUARTER_MS;
/// Minutes in which somebody came that are remembered: four quarters of an hour and some to spare.
const MINUTES_MAX: usize = 64;
/// What came counts half after so many minutes.
const HALF_MINUTES: i64 = 4;
/// After so many halves nothing of it is left.
const HALVES_MAX: i64 = 4;
/// The weight of what comes now, and that of one arrival in each minute for ever.
const WEIGHT: u64 = 1_024;
const WEIGHT_SUM: u64 = 4 * (1_024 + 512 + 256 + 128);

/// What is learned of a pool's week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Quarters of an hour since the epoch: those before this one are in it.
    pub learned: i64,
    /// For each quarter of an hour of the week the mean of the arrivals in eighths, and one; 0: none was seen
    /// yet. What is older counts less: a week ago a quarter, two weeks ago three quarters of that.
    ///
    /// INVARIANT: there are [`SLOTS`].
    means: Vec<u16>,
}

/// When people came of late; memory only, and read again from their sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Minutes since the epoch, oldest first, and how many came.
    minutes: Vec<(i64, u32)>,
}

/// How many people are expected, and how many free desktops that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Free desktops that nobody of them waits with, as a rule.
    pub spare: u32,
    /// How many come, in thousandths.
    pub thousandths: u64,
    /// In the time from now on, ms: as long as it takes to make a desktop, twice.
    pub ahead_ms: i64,
    /// From what it is known.
    pub basis: Basis,
}

/// From what it is known how many come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Nobody has come yet.
    Nothing,
    /// Who came at this time of the week in the weeks before.
    Weeks,
    /// Who came in the last minutes: more than at this time of the week as a rule.
    Minutes,
}

impl Forecast {
    /// Nothing is learned before this quarter of an hour.
    pub fn new(learned: i64) -> Self {
        Self { learned, means: vec![0; SLOTS] }
    }

    /// As it is kept; none where that is none.
    pub fn of_parts(learned: i64, means: &[u32]) -> Option<Self> {
        let means: Option<Vec<u16>> = means.iter().map(|one| u16::try_from(*one).ok()).collect();
        let means = means.filter(|means| means.len() == SLOTS)?;
        Some(Self { learned, means })
    }

    /// Its means, for the store.
    pub fn parts(&self) -> impl Iterator<Item = u32> {
        self.means.iter().map(|one| u32::from(*one))
    }

    /// So many came in this quarter of an hour of the week.
    pub fn learn(&mut self, slot: usize, count: u32) {
        let Some(mean) = self.means.get_mut(slot) else { return };
        let most = u32::from(u16::MAX) - 1;
        let seen = count.saturating_mul(PARTS).min(most);
        let after = match u32::from(*mean).checked_sub(1) {
            Some(before) => (3 * before + seen) / 4,
            None => seen,
        };
        *mean = u16::try_from(after + 1).unwrap_or(u16::MAX);
    }

    /// How many come in this quarter of an hour of the week, in eighths: as in the weeks before, and in the
    /// first week as on other days of its kind. None: no such day was seen.
    pub fn mean(&self, slot: usize) -> Option<u32> {
        let seen = |slot: usize| u32::from(*self.means.get(slot)?).checked_sub(1);
        let (day, quarter) = (slot / SLOTS_PER_DAY, slot % SLOTS_PER_DAY);
        seen(slot).or_else(|| {
            let alike = if day < 5 { 0..5 } else { 5..7 };
            let means: Vec<u32> =
                alike.filter_map(|other| seen(other * SLOTS_PER_DAY + quarter)).collect();
            means.iter().sum::<u32>().checked_div(u32::try_from(means.len()).ok()?)
        })
    }
}

impl Arrivals {
    /// Somebody came at this time, ms since the epoch.
    pub fn add(&mut self, at_ms: i64) {
        let minute = at_ms.div_euclid(MINUTE_MS);
        match self.minutes.binary_search_by_key(&minute, |(minute, _)| *minute) {
            Ok(index) => {
                if let Some((_, count)) = self.minutes.get_mut(index) {
                    *count = count.saturating_add(1);
                }
            }
            Err(index) => self.minutes.insert(index, (minute, 1)),
        }
        if MINUTES_MAX < self.minutes.len() {
            self.minutes.remove(0);
        }
    }

    /// How many came in a quarter of an hour since the epoch.
    pub fn in_quarter(&self, quarter: i64) -> u32 {
        let minutes = quarter * 15..(quarter + 1) * 15;
        self.minutes.iter().filter(|(one, _)| minutes.contains(one)).map(|(_, count)| count).sum()
    }

    /// The first quarter of an hour since the epoch that is remembered.
    pub fn first_quarter(&self) -> Option<i64> {
        self.minutes.first().map(|(minute, _)| minute.div_euclid(15))
    }

    /// How many come in a minute as in the last ones, in thousandths.
    fn per_minute(&self, now_ms: i64) -> u64 {
        let now = now_ms.div_euclid(MINUTE_MS);
        let weighed = self.minutes.iter().filter_map(|(minute, count)| {
            let halves = now.saturating_sub(*minute).max(0) / HALF_MINUTES;
            let left = (halves < HALVES_MAX).then_some(WEIGHT)?;
            Some(u64::from(*count) * (left >> halves))
        });
        weighed.sum::<u64>() * 1_000 / WEIGHT_SUM
    }
}

/// How many are expected from now on. `ready_ms`: how long a desktop takes to be ready, if that is known;
/// `slot_at`: the quarter of an hour of the week at a time.
pub fn expected(
    (forecast, arrivals): (Option<&Forecast>, Option<&Arrivals>),
    ready_ms: Option<i64>,
    now_ms: i64,
    slot_at: impl Fn(i64) -> Option<usize>,
) -> Expected {
    let ready_ms = ready_ms.unwrap_or(READY_MS_USUAL);
    let ahead_ms = ready_ms.saturating_mul(2).clamp(AHEAD_MS_MIN, AHEAD_MS_MAX);
    let weeks = forecast.map_or(0, |forecast| in_weeks(forecast, now_ms, ahead_ms, slot_at));
    let ahead = u64::try_from(ahead_ms).unwrap_or(0);
    let minutes = arrivals.map_or(0, |arrivals| arrivals.per_minute(now_ms) * ahead / 60_000);
    let thousandths = weeks.max(minutes);
    let basis = match (weeks, minutes) {
        (0, 0) => Basis::Nothing,
        (weeks, minutes) if weeks < minutes => Basis::Minutes,
        _ => Basis::Weeks,
    };
    Expected { spare: spare(thousandths), thousandths, ahead_ms, basis }
}

/// Of the mean of these quarters of an hour what falls into the time ahead, in thousandths.
fn in_weeks(
    forecast: &Forecast,
    now_ms: i64,
    ahead_ms: i64,
    slot_at: impl Fn(i64) -> Option<usize>,
) -> u64 {
    let (mut at_ms, until_ms) = (now_ms, now_ms.saturating_add(ahead_ms));
    let mut sum = 0;
    // INVARIANT: a time ahead is at most a quarter of an hour, and so in two of them.
    while at_ms < until_ms {
        let ends_ms = (at_ms.div_euclid(QUARTER_MS) + 1) * QUARTER_MS;
        let part_ms = ends_ms.min(until_ms) - at_ms;
        let mean = slot_at(at_ms).and_then(|slot| forecast.mean(slot)).unwrap_or(0);
        sum += u64::from(mean) * u64::try_from(part_ms).unwrap_or(0);
        at_ms = ends_ms;
    }
    sum * 1_000 / u64::from(PARTS) / u64::try_from(QUARTER_MS).unwrap_or(u64::MAX)
}

/// As many as come, and twice the deviation of such a number (it is its root where people come
/// independently): more come in one of forty such times.
fn spare(thousandths: u64) -> u32 {
    let deviation = (thousandths * 1_000).isqrt();
    u32::try_from((thousandths + 2 * deviation) / 1_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(at_ms: i64) -> Option<usize> {
        usize::try_from(at_ms.div_euclid(QUARTER_MS)).ok().map(|quarter| quarter % SLOTS)
    }

    fn wanted(forecast: Option<&Forecast>, arrivals: &Arrivals, now_ms: i64) -> (u32, Basis) {
        let one = expected((forecast, Some(arrivals)), Some(60_000), now_ms, slot);
        assert_eq!(one.ahead_ms, 120_000);
        (one.spare, one.basis)
    }

    #[test]
    fn what_came_in_the_weeks_before_is_expected_again_before_it_comes() {
        let mut forecast = Forecast::new(0);
        forecast.learn(32, 90);
        let nobody = Arrivals::default();
        let at = |minutes: i64| wanted(Some(&forecast), &nobody, minutes * MINUTE_MS);
        assert_eq!(at(8 * 60 - 2), (0, Basis::Nothing));
        // One minute of the quarter is ahead: six people, and twice their deviation.
        assert_eq!(at(8 * 60 - 1), (10, Basis::Weeks));
        assert_eq!(at(8 * 60), (18, Basis::Weeks), "twelve, and twice their deviation");
        assert_eq!(at(8 * 60 + 13), (18, Basis::Weeks));
        assert_eq!(at(8 * 60 + 14), (10, Basis::Weeks));
        assert_eq!(at(8 * 60 + 15), (0, Basis::Nothing));
    }

    #[test]
    fn older_weeks_count_less_and_a_new_day_is_like_those_of_its_kind() {
        let mut forecast = Forecast::new(0);
        let (monday, tuesday, saturday) = (32, 96 + 32, 5 * 96 + 32);
        forecast.learn(monday, 40);
        assert_eq!(forecast.mean(monday), Some(40 * PARTS));
        assert_eq!(forecast.mean(tuesday), Some(40 * PARTS));
        assert_eq!(forecast.mean(saturday), None);
        forecast.learn(monday, 0);
        assert_eq!(forecast.mean(monday), Some(30 * PARTS));
        for _ in 0..40 {
            forecast.learn(monday, 0);
        }
        assert_eq!(forecast.mean(monday), Some(0), "in the end it is forgotten");
        forecast.learn(saturday, u32::MAX);
        assert!(8_000 * PARTS < forecast.mean(saturday).unwrap());
        let parts: Vec<u32> = forecast.parts().collect();
        assert_eq!(Forecast::of_parts(0, &parts), Some(forecast));
        assert_eq!(Forecast::of_parts(0, &parts[1..]), None);
        assert_eq!(Forecast::of_parts(0, &vec![65_536; SLOTS]), None);
    }

    #[test]
    fn a_rush_that_nobody_knew_of_is_followed_and_forgotten_within_minutes() {
        let mut arrivals = Arrivals::default();
        let begin = 1_000 * MINUTE_MS;
        for minute in 0..5 {
            for _ in 0..20 {
                arrivals.add(begin + minute * MINUTE_MS);
            }
        }
        let at = |minute: i64| wanted(None, &arrivals, begin + minute * MINUTE_MS);
        let (rush, basis) = at(4);
        assert!((20..=40).contains(&rush), "{rush}");
        assert_eq!(basis, Basis::Minutes);
        assert!(at(9).0 < rush && at(13).0 < at(9).0);
        assert_eq!(at(4 + HALVES_MAX * HALF_MINUTES), (0, Basis::Nothing));
        let mut one = Arrivals::default();
        one.add(begin);
        assert!(wanted(None, &one, begin).0 <= 1, "one swallow does not make a summer");
    }

    #[test]
    fn arrivals_are_counted_by_quarters_in_any_order_and_only_some_are_kept() {
        let mut arrivals = Arrivals::default();
        for minute in [15, 14, 16, 15, 30] {
            arrivals.add(minute * MINUTE_MS);
        }
        let counts = [0, 1, 2].map(|quarter| arrivals.in_quarter(quarter));
        assert_eq!((counts, arrivals.first_quarter()), ([1, 3, 1], Some(0)));
        for minute in 0..1_000 {
            arrivals.add(minute * MINUTE_MS);
        }
        assert_eq!(arrivals.minutes.len(), MINUTES_MAX);
        assert_eq!(arrivals.in_quarter(65), 15);
    }
}
