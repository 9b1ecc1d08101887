//! What is learned of who comes to a pool, and what it says about a day.

use vidi_kit::ids::{PoolId, TenantId};

use crate::model::forecast::{Expected, Forecast, QUARTER_MS};
use crate::model::schedule::Size;
use crate::model::{PoolKind, Row, World};

/// Quarters of an hour that are learned at once: what is older than a day nobody remembers anyway.
const LEARNED_MAX: i64 = 96;
/// Quarters of an hour of one day: on the longest one the clock is set back by an hour.
pub const QUARTERS_MAX: usize = 100;

/// A quarter of an hour as a pool would go through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarter {
    /// Its begin, ms since the epoch.
    pub begin_ms: i64,
    /// As its schedule says.
    pub size: Size,
    /// Who is expected in its first minutes.
    pub expected: Expected,
    /// How many came in it in the weeks before, as a rule, in thousandths; none: it was never seen.
    pub mean_thousandths: Option<u64>,
    /// Free desktops that would be kept, within the size.
    pub spare: u32,
}

/// The row that holds what quarters of an hour have told that are over, none where they tell nothing new.
/// While nobody led nobody could come: such a time says nothing.
pub fn learned(world: &World, tenant: &TenantId, id: PoolId, now_ms: i64) -> Option<Row> {
    let pool = world.pool(tenant, id).filter(|pool| !pool.deleting)?;
    if pool.settings.kind == PoolKind::Dedicated {
        return None;
    }
    let zone = &pool.settings.schedule.zone;
    let arrivals = world.pool_arrivals(tenant, id);
    let known = world.forecast(tenant, id);
    let current = now_ms.div_euclid(QUARTER_MS);
    let first = match known {
        Some(known) => known.learned,
        // Of a pool that nobody uses nothing is kept.
        None => arrivals?.first_quarter()?,
    };
    let first = first.max(current - LEARNED_MAX);
    let mut after = known.cloned().unwrap_or_else(|| Forecast::new(first));
    for quarter in first..current {
        let count = arrivals.map_or(0, |arrivals| arrivals.in_quarter(quarter));
        let led = world.started_ms < (quarter + 1) * QUARTER_MS;
        if 0 < count || led {
            let (slot, _) = zone.quarter(quarter * QUARTER_MS)?;
            after.learn(slot, count);
        }
    }
    // What tells nothing new is looked at again with the next: it goes on telling nothing new.
    if known == Some(&after) || first == current {
        return None;
    }
    after.learned = current;
    Some(Row::Forecast(tenant.clone(), id, Box::new(after)))
}

/// How a day would go that begins at this time, as far as is known now, quarter by quarter; people who wait
/// or use desktops are left out. None: such a pool expects nobody.
pub fn day(world: &World, tenant: &TenantId, id: PoolId, begin_ms: i64) -> Option<Vec<Quarter>> {
    let pool = world.pool(tenant, id)?;
    let zone = &pool.settings.schedule.zone;
    let begin_ms = zone.day_begins_ms(begin_ms)?;
    // Noon of the next day is on the next day, however long this one is.
    let end_ms = zone.day_begins_ms(begin_ms.checked_add(36 * 4 * QUARTER_MS)?)?;
    let begins = std::iter::successors(Some(begin_ms), |at_ms| at_ms.checked_add(QUARTER_MS));
    let begins = begins.take_while(|at_ms| *at_ms < end_ms).take(QUARTERS_MAX);
    let forecast = world.forecast(tenant, id);
    begins
        .map(|begin_ms| {
            let size = pool.size_at(begin_ms);
            let expected = world.pool_expected(tenant, id, begin_ms)?;
            let slot = zone.quarter(begin_ms).map(|(slot, _)| slot);
            let mean = forecast.zip(slot).and_then(|(forecast, slot)| forecast.mean(slot));
            let spare = size.min_spare.max(expected.spare).min(size.max_desktops);
            let mean_thousandths = mean.map(|eighths| u64::from(eighths) * 1_000 / 8);
            Some(Quarter { begin_ms, size, expected, mean_thousandths, spare })
        })
        .collect()
}
