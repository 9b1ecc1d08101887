//! How many desktops a pool should have at a time: as its schedule says, and as many people as are expected.

use vidi_kit::ids::{PoolId, TenantId};

use super::forecast::{self, Expected, Forecast};
use super::pool::{Pool, PoolKind, PoolStatus, Standing};
use super::schedule::Size;
use super::world::World;
use crate::mutants::{self, Mutant};

impl Pool {
    /// How large it is unless its schedule says otherwise.
    pub fn usual_size(&self) -> Size {
        let settings = &self.settings;
        Size { min_spare: settings.min_spare, max_desktops: settings.max_desktops }
    }

    /// How large it is now.
    pub fn size_at(&self, now_ms: i64) -> Size {
        self.settings.schedule.size_at(self.usual_size(), now_ms)
    }

    /// When that changes next, ms since the epoch, and what it is then; none: never.
    pub fn next_size(&self, now_ms: i64) -> Option<(i64, Size)> {
        self.settings.schedule.next_change(self.usual_size(), now_ms)
    }
}

impl World {
    /// What is learned of who comes to a pool.
    pub fn forecast(&self, tenant: &TenantId, id: PoolId) -> Option<&Forecast> {
        self.forecasts.get(&(tenant.clone(), id)).map(|one| &**one)
    }

    /// How many people are expected to take a desktop of a pool from then on, whether it is to prepare for
    /// them or not; none: the pool is not there, or is dedicated, and who comes has one.
    pub fn pool_expected(&self, tenant: &TenantId, id: PoolId, now_ms: i64) -> Option<Expected> {
        let pool = self.pool(tenant, id)?;
        (pool.settings.kind == PoolKind::Floating).then(|| {
            let known = (self.forecast(tenant, id), self.pool_arrivals(tenant, id));
            let ready_ms = self.pool_boot_ms(tenant, id);
            let zone = &pool.settings.schedule.zone;
            let slot_at = |at_ms| zone.quarter(at_ms).map(|(slot, _)| slot);
            forecast::expected(known, ready_ms, now_ms, slot_at)
        })
    }

    /// Free desktops that a pool should have now, ready or on their way: those kept ready for whoever
    /// comes next, or for as many as are expected where those are more, and one for each who waits; never
    /// more than there may be beside those in use.
    pub fn spare_wanted(&self, tenant: &TenantId, id: PoolId, now_ms: i64) -> u32 {
        let Some(pool) = self.pool(tenant, id).filter(|pool| !pool.deleting) else { return 0 };
        let waiting = u32::try_from(self.pool_waiting_count(tenant, id)).unwrap_or(u32::MAX);
        let taken = self.pool_counts(tenant, id).get(Standing::Taken);
        let Size { min_spare, max_desktops } = pool.size_at(now_ms);
        let room = max_desktops.saturating_sub(taken);
        let expected = pool.settings.forecast.then(|| self.pool_expected(tenant, id, now_ms));
        let expected = expected.flatten().map_or(0, |expected| expected.spare);
        let wanted = min_spare.max(expected).saturating_add(waiting);
        if mutants::on(Mutant::RefillOverMax) { wanted } else { wanted.min(room) }
    }

    /// What is observed of a pool.
    pub fn pool_status(&self, tenant: &TenantId, id: PoolId, now_ms: i64) -> PoolStatus {
        let counts = self.pool_counts(tenant, id);
        let leaving = counts.get(Standing::Leaving);
        let boot_ms = self.pool_boot_ms(tenant, id);
        PoolStatus {
            desktops: counts.all().saturating_sub(leaving),
            ready: counts.get(Standing::Ready) + counts.get(Standing::Outdated),
            preparing: counts.get(Standing::Coming) + counts.get(Standing::Unplaced),
            claimed: counts.get(Standing::Taken),
            waiting: u32::try_from(self.pool_waiting_count(tenant, id)).unwrap_or(u32::MAX),
            spare_wanted: self.spare_wanted(tenant, id, now_ms),
            ready_secs: boot_ms.and_then(|span_ms| u32::try_from((span_ms + 999) / 1_000).ok()),
        }
    }
}
