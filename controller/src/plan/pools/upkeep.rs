//! What follows for a pool: its ready desktops go to those who wait, what is no use goes, more are made,
//! and none where one after the other fails. Looked at again and again until nothing follows.

use uuid::Uuid;
use vidi_kit::ids::{DesktopId, PoolId, TenantId};

use super::claims::{claim_rows, claimable, waits_no_more};
use super::forecast;
use crate::model::host_rule::RuleTarget;
use crate::model::rollout::ALL;
use crate::model::schedule::Size;
use crate::model::{
    Desktop, DesktopSpec, DesktopStatus, EndCause, Key, Place, Pool, Power, Presence, QuotaKind,
    Row, Session, Standing, Step, Suspension, TrialPhase, World,
};
use crate::mutants::{self, Mutant};
use crate::plan::desktops::{DESKTOPS_PER_TENANT_MAX, destroyed};
use crate::plan::sessions::ended;
use crate::plan::{groups, host_rules, hosts, quota, rollouts};

/// Desktops that one settlement gives away: each is three writes of the 120 that a commit holds.
const GIVEN_MAX: usize = 32;
/// Desktops that one settlement destroys: each is two writes.
const DESTROYED_MAX: usize = 48;
/// A desktop that has no user and has not come on for this long has failed.
pub const READY_MS_MAX: i64 = 15 * 60 * 1_000;
/// So many failures within [`FAILURES_MS`] suspend a pool: it is the template, not the desktop.
pub const FAILURES_MAX: usize = 3;
/// See [`FAILURES_MAX`].
pub const FAILURES_MS: i64 = 10 * 60 * 1_000;
/// Desktops on their way that one settlement looks at for being late; the oldest come first.
const LATE_LOOKED_AT_MAX: usize = 64;

/// The steps that follow for one pool, to be written in one piece; none when it is settled. It makes as
/// many desktops as there are `ids`.
pub fn settle(
    world: &World,
    tenant: &TenantId,
    id: PoolId,
    now_ms: i64,
    ids: &mut dyn Iterator<Item = Uuid>,
) -> Vec<Step> {
    let Some(pool) = world.pool(tenant, id) else { return Vec::new() };
    let upkeep = Upkeep { world, tenant, id, pool, now_ms };
    if pool.deleting {
        return upkeep.close();
    }
    let mut steps = upkeep.give();
    if steps.is_empty() {
        steps = upkeep.remove();
    }
    if steps.is_empty() {
        steps = upkeep.make(ids);
    }
    if steps.is_empty() {
        steps = rollouts::settle(world, tenant, pool, now_ms);
    }
    if steps.is_empty() {
        steps.extend(forecast::learned(world, tenant, id, now_ms).map(Step::Put));
    }
    steps
}

/// Whether something about a pool may be due though nothing changed: somebody waits, a desktop may be
/// late, or more are to be made.
pub fn is_restless(world: &World, tenant: &TenantId, id: PoolId, now_ms: i64) -> bool {
    let coming = world.pool_counts(tenant, id).get(Standing::Coming);
    let rolls = world.pool(tenant, id).is_some_and(|pool| rollouts::is_restless(pool));
    rolls
        || 0 < coming
        || 0 < world.pool_waiting_count(tenant, id)
        || 0 < shortage(world, tenant, id, now_ms)
}

/// Desktops that a pool should make now.
pub fn shortage(world: &World, tenant: &TenantId, id: PoolId, now_ms: i64) -> u32 {
    let Some(pool) = world.pool(tenant, id) else { return 0 };
    if mutants::on(Mutant::NoRefill) {
        return 0;
    }
    if mutants::on(Mutant::RefillOverMax) && pool.suspended.is_none() {
        return missing(world, tenant, id, now_ms);
    }
    let most = pool.size_at(now_ms).max_desktops;
    let room = most.saturating_sub(world.pool_counts(tenant, id).all());
    let missing = if pool.suspended.is_some() { 0 } else { missing(world, tenant, id, now_ms) };
    // What one version is suspended for another may mend.
    let missing = missing.max(rollouts::wanted(world, tenant, id, pool)).min(room);
    if missing == 0 {
        return 0;
    }
    let (room, _) = quota_room(world, tenant, pool);
    u32::try_from(room).map_or(missing, |room| missing.min(room))
}

/// Desktops that the tenant's quota leaves room for, and what of it leaves no more.
fn quota_room(world: &World, tenant: &TenantId, pool: &Pool) -> (u64, Option<QuotaKind>) {
    // No more are made of one that is over.
    let tried = pool.trial.as_ref().filter(|trial| trial.phase == TrialPhase::Open);
    let tried = tried.map(|trial| &trial.digest);
    let versions = world.pool_version(tenant, pool).into_iter().chain(tried);
    let rooms = versions.map(|digest| {
        let version = world.version(tenant, &pool.settings.template, digest);
        quota::room(world, tenant, version.map(|version| &version.manifest.guest))
    });
    rooms.min_by_key(|(room, _)| *room).unwrap_or((u64::MAX, None))
}

/// Desktops that a pool has too few, room or not.
fn missing(world: &World, tenant: &TenantId, id: PoolId, now_ms: i64) -> u32 {
    let counts = world.pool_counts(tenant, id);
    let spare = [Standing::Ready, Standing::Coming, Standing::Unplaced];
    let spare: u32 = spare.into_iter().map(|standing| counts.get(standing)).sum();
    world.spare_wanted(tenant, id, now_ms).saturating_sub(spare)
}

/// Why a pool has fewer free desktops than it should, for people; none: it has enough, or they are being
/// made.
pub fn problem(world: &World, tenant: &TenantId, id: PoolId, now_ms: i64) -> Option<String> {
    let pool = world.pool(tenant, id)?;
    if let Some(Suspension { reason, .. }) = &pool.suspended {
        return Some(format!("no more desktops are made, since they failed: {reason}"));
    }
    let unplaced = world.pool_standing(tenant, id, Standing::Unplaced).next();
    let waits = unplaced.and_then(|one| world.desktop(tenant, one));
    let waits = waits.map(|one| one.status.reason.clone()).filter(|reason| !reason.is_empty());
    if waits.is_some() {
        return waits;
    }
    let waiting = u32::try_from(world.pool_waiting_count(tenant, id)).unwrap_or(u32::MAX);
    let counts = world.pool_counts(tenant, id);
    let Size { min_spare, max_desktops: most } = pool.size_at(now_ms);
    let wanted = min_spare.saturating_add(waiting);
    let free = counts.all().saturating_sub(counts.get(Standing::Taken));
    let full = most <= counts.all() && free < wanted;
    if !full
        && 0 < missing(world, tenant, id, now_ms)
        && let (0, Some(kind)) = quota_room(world, tenant, pool)
    {
        return Some(quota::sentence(world, tenant, kind));
    }
    full.then(|| format!("all its desktops are in use or on their way: it may have {most}"))
}

struct Upkeep<'a> {
    world: &'a World,
    tenant: &'a TenantId,
    id: PoolId,
    pool: &'a Pool,
    now_ms: i64,
}

impl<'a> Upkeep<'a> {
    fn standing(&self, standing: Standing) -> impl Iterator<Item = DesktopId> + use<'a> {
        self.world.pool_standing(self.tenant, self.id, standing)
    }

    fn count(&self, standing: Standing) -> u32 {
        self.world.pool_counts(self.tenant, self.id).get(standing)
    }

    /// Ready desktops go to those who wait, the longest first.
    fn give(&self) -> Vec<Step> {
        let mut ready = claimable(self.world, self.tenant, self.id);
        let mut steps = Vec::new();
        for id in self.world.pool_waiting(self.tenant, self.id).take(GIVEN_MAX) {
            let Some(session) = self.world.session(self.tenant, id) else { continue };
            let place = (self.tenant, self.pool);
            let over = waits_no_more(self.world, place, session, self.now_ms);
            if let Some(cause) = over {
                steps.push(Step::Put(ended(self.tenant, id, session, cause, self.now_ms)));
                continue;
            }
            let Some((desktop, before)) = ready.next() else { break };
            let rows = claim_rows(self.tenant, (desktop, before), id, &session.user);
            let given = Session {
                place: Place::Desktop(desktop),
                since_ms: self.now_ms,
                presence: Presence::Opening,
                ..Session::clone(session)
            };
            steps.extend(rows.map(Step::Put));
            steps.push(Step::Put(Row::Session(self.tenant.clone(), id, given)));
        }
        steps
    }

    /// What is no spare goes, and what is too much; never one that somebody has.
    fn remove(&self) -> Vec<Step> {
        let late = self.late();
        let lost = self.standing(Standing::Lost).chain(late.iter().copied()).take(DESTROYED_MAX);
        let lost: Vec<DesktopId> = lost.collect();
        let failures = lost.iter().filter_map(|id| Some((*id, self.failure(*id)?)));
        let (tried, failures): (Vec<_>, Vec<_>) = failures.partition(|(id, _)| self.is_tried(*id));
        let mut steps = self.destroy(lost.iter().copied());
        if steps.is_empty() {
            return self.destroy(self.surplus().into_iter());
        }
        steps.extend(self.count_failures(&failures));
        steps.extend(rollouts::failed(self.world, self.tenant, self.pool, &tried, self.now_ms));
        steps
    }

    /// Those that have been on their way for too long, as their hosts say: a link that has just broken says
    /// nothing.
    fn late(&self) -> Vec<DesktopId> {
        let tried_ms = self.pool.trial.as_ref().map(|trial| trial.ready_ms);
        let least_ms = tried_ms.unwrap_or(READY_MS_MAX).min(READY_MS_MAX);
        let is_late = |most_ms, since_ms| most_ms <= self.now_ms.saturating_sub(since_ms);
        self.standing(Standing::Coming)
            .take(LATE_LOOKED_AT_MAX)
            .filter_map(|id| Some((id, self.world.desktop(self.tenant, id)?)))
            .take_while(|(_, desktop)| is_late(least_ms, desktop.spec.create_ms))
            .filter(|(id, desktop)| {
                let most_ms = self.ready_ms(*id);
                self.world.is_host_heard(desktop)
                    && is_late(most_ms, desktop.spec.create_ms)
                    && is_late(most_ms, desktop.status.power_since_ms)
            })
            .map(|(id, _)| id)
            .collect()
    }

    /// What a desktop that goes says about its template; none where it is not the template's fault.
    fn failure(&self, id: DesktopId) -> Option<String> {
        let desktop = self.world.desktop(self.tenant, id)?;
        if let Power::Failed(reason) = &desktop.status.power {
            return Some(reason.clone());
        }
        if self.is_left(desktop) {
            return None;
        }
        if !desktop.spec.power_on {
            return Some("it was switched off before it had a user".to_owned());
        }
        if Standing::of(self.world, self.tenant, id) != Some(Standing::Coming) {
            return None;
        }
        let minutes = (self.ready_ms(id) + 59_999) / 60_000;
        let doing = desktop.status.power.word();
        Some(match desktop.status.reason.as_str() {
            "" => format!("it was not ready after {minutes} minutes: {doing}"),
            reason => format!("it was not ready after {minutes} minutes: {doing}, {reason}"),
        })
    }

    /// Whether a desktop goes because of its host.
    fn is_left(&self, desktop: &Desktop) -> bool {
        self.world.is_host_silent(desktop) || hosts::draining(self.world, desktop).is_some()
    }

    /// The pool with so many more failures, if there are any; suspended when those are too many.
    fn count_failures(&self, failures: &[(DesktopId, String)]) -> Option<Step> {
        let (_, last) = failures.last().filter(|_| self.pool.suspended.is_none())?;
        let recent = |at_ms: &i64| self.now_ms.saturating_sub(*at_ms) < FAILURES_MS;
        let before = self.pool.failures_ms.iter().copied().filter(recent);
        let failures_ms: Vec<i64> = before.chain(failures.iter().map(|_| self.now_ms)).collect();
        let mut pool = self.pool.clone();
        if FAILURES_MAX <= failures_ms.len() {
            pool.suspended = Some(Suspension { since_ms: self.now_ms, reason: last.clone() });
            pool.failures_ms = Vec::new();
        } else {
            pool.failures_ms = failures_ms;
        }
        Some(Step::Put(Row::Pool(self.tenant.clone(), self.id, pool)))
    }

    /// Free desktops that nobody needs, newest first and ready ones last; of an older version as far as new
    /// ones are ready in their stead, or there is no room to make those.
    fn surplus(&self) -> Vec<DesktopId> {
        let wanted = self.world.spare_wanted(self.tenant, self.id, self.now_ms);
        let (ready, outdated) = (self.count(Standing::Ready), self.count(Standing::Outdated));
        let coming = self.count(Standing::Coming) + self.count(Standing::Unplaced);
        let replaced = (ready + outdated).saturating_sub(wanted).min(outdated);
        if 0 < replaced {
            return self.newest(Standing::Outdated, replaced);
        }
        if self.pool.trial.as_ref().is_some_and(|trial| trial.phase == TrialPhase::Open) {
            let old = self.replaced_by_trial(wanted);
            return if old.is_empty() { self.in_the_way(outdated) } else { old };
        }
        let mut more = (ready + coming).saturating_sub(wanted);
        let mut surplus = Vec::new();
        for standing in [Standing::Unplaced, Standing::Coming, Standing::Ready] {
            let found = self.newest(standing, more);
            more = more.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            surplus.extend(found);
        }
        if surplus.is_empty() {
            return self.in_the_way(outdated);
        }
        surplus
    }

    /// Desktops of an older version for which new ones have no room: neither in the pool nor on a host. A
    /// quarter at a time, so that the others are there for who comes meanwhile.
    fn in_the_way(&self, outdated: u32) -> Vec<DesktopId> {
        let under_way = self.count(Standing::Coming) + self.count(Standing::Leaving);
        let unplaced = self.count(Standing::Unplaced);
        let full = shortage(self.world, self.tenant, self.id, self.now_ms) == 0;
        let missing = if full { missing(self.world, self.tenant, self.id, self.now_ms) } else { 0 };
        if 0 < under_way || self.pool.suspended.is_some() {
            return Vec::new();
        }
        self.newest(Standing::Outdated, outdated.div_ceil(4).min(missing + unplaced))
    }

    /// While another version is tried: free desktops of the old one, as far as others are ready in their
    /// stead; where there is no room to make those, a quarter at a time.
    fn replaced_by_trial(&self, wanted: u32) -> Vec<DesktopId> {
        let counts = self.world.trial_counts(self.tenant, self.id);
        let more = (counts.ready + counts.coming + counts.old_free()).saturating_sub(wanted);
        let unneeded = more.min(counts.old_coming);
        let mut old = self.newest_old(Standing::Unplaced, unneeded);
        let left = unneeded.saturating_sub(u32::try_from(old.len()).unwrap_or(u32::MAX));
        old.extend(self.newest_old(Standing::Coming, left));
        if !old.is_empty() {
            return old;
        }
        let replaced = (counts.ready + counts.old_ready).saturating_sub(wanted);
        if 0 < replaced.min(counts.old_ready) {
            return self.newest_old(Standing::Ready, replaced.min(counts.old_ready));
        }
        let under_way = self.count(Standing::Coming) + self.count(Standing::Leaving);
        let due = rollouts::wanted(self.world, self.tenant, self.id, self.pool);
        let full = shortage(self.world, self.tenant, self.id, self.now_ms) == 0;
        let stuck = counts.unplaced + if full { due } else { 0 };
        if 0 < under_way {
            return Vec::new();
        }
        self.newest_old(Standing::Ready, counts.old_ready.div_ceil(4).min(stuck))
    }

    fn is_tried(&self, id: DesktopId) -> bool {
        let desktop = self.world.desktop(self.tenant, id);
        desktop.is_some_and(|desktop| self.world.is_tried(self.tenant, &desktop.spec))
    }

    /// How long a desktop may take to be ready.
    fn ready_ms(&self, id: DesktopId) -> i64 {
        let trial = self.pool.trial.as_ref().filter(|trial| trial.phase == TrialPhase::Open);
        let trial = trial.filter(|_| self.is_tried(id));
        trial.map_or(READY_MS_MAX, |trial| trial.ready_ms)
    }

    /// As [`Self::newest`], of those that have not the version that is tried.
    fn newest_old(&self, standing: Standing, count: u32) -> Vec<DesktopId> {
        self.newest_of(self.standing(standing).filter(|id| !self.is_tried(*id)), count)
    }

    fn newest(&self, standing: Standing, count: u32) -> Vec<DesktopId> {
        self.newest_of(self.standing(standing), count)
    }

    fn newest_of(&self, all: impl Iterator<Item = DesktopId>, count: u32) -> Vec<DesktopId> {
        if count == 0 {
            return Vec::new();
        }
        let all: Vec<DesktopId> = all.collect();
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(DESTROYED_MAX);
        all.into_iter().rev().take(count).collect()
    }

    fn destroy(&self, ids: impl Iterator<Item = DesktopId>) -> Vec<Step> {
        let mut steps = Vec::new();
        for id in ids.take(DESTROYED_MAX) {
            let Some(before) = self.world.desktop(self.tenant, id) else { continue };
            let mut after = Desktop::clone(before);
            destroyed(&mut after, self.now_ms);
            if after.spec != before.spec {
                steps.push(Step::Put(Row::Spec(self.tenant.clone(), id, after.spec)));
            }
            if after.status != before.status {
                steps.push(Step::Put(Row::Status(self.tenant.clone(), id, after.status)));
            }
        }
        steps
    }

    /// As many desktops as are missing and may be, on, of the version that is tried as far as that may be.
    fn make(&self, ids: &mut dyn Iterator<Item = Uuid>) -> Vec<Step> {
        let Pool { settings, app_id, .. } = self.pool;
        let version = self.world.pool_version(self.tenant, self.pool);
        let Some(version) = version else { return Vec::new() };
        let of_tenant = self.world.tenant_desktops.get(self.tenant).map_or(0, |count| **count);
        let room = DESKTOPS_PER_TENANT_MAX.saturating_sub(of_tenant);
        let count = shortage(self.world, self.tenant, self.id, self.now_ms);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(room);
        let trial = self.pool.trial.as_ref().filter(|trial| trial.phase == TrialPhase::Open);
        let tried = trial.map(|trial| {
            let counts = self.world.trial_counts(self.tenant, self.id);
            let most = if mutants::on(Mutant::RolloutAtOnce) { ALL } else { trial.desktops_max };
            let more = most.saturating_sub(counts.of_new());
            std::iter::repeat_n(&trial.digest, usize::try_from(more).unwrap_or(usize::MAX))
        });
        let mut versions = tried.into_iter().flatten().chain(std::iter::repeat(version));
        let mut steps = Vec::new();
        for id in ids.take(count).map(DesktopId::new) {
            let spec = DesktopSpec {
                display_name: settings.display_name.clone(),
                template: settings.template.clone(),
                template_digest: versions.next().unwrap_or(version).clone(),
                assigned_user: None,
                power_on: true,
                force_off: false,
                deleting: false,
                generation: 1,
                create_ms: self.now_ms,
                app_id: app_id.clone(),
                restarting: false,
                release_policy: settings.release_policy,
                display_policy: settings.display_policy,
                trace: None,
                pool: Some(self.id),
                restored: false,
            };
            let status = DesktopStatus { power_since_ms: self.now_ms, ..DesktopStatus::default() };
            steps.push(Step::Put(Row::Spec(self.tenant.clone(), id, spec)));
            steps.push(Step::Put(Row::Status(self.tenant.clone(), id, status)));
        }
        steps
    }

    /// All that is left of a pool that is deleted goes; it goes last.
    fn close(&self) -> Vec<Step> {
        let cause = EndCause::Destroyed;
        let waiting = self.world.pool_waiting(self.tenant, self.id).take(GIVEN_MAX);
        let over = waiting.filter_map(|id| {
            let session = self.world.session(self.tenant, id)?;
            Some(Step::Put(ended(self.tenant, id, session, cause.clone(), self.now_ms)))
        });
        let over: Vec<Step> = over.collect();
        if !over.is_empty() {
            return over;
        }
        let left = Standing::ALL.into_iter();
        let left = left.filter(|one| !matches!(one, Standing::Leaving | Standing::Stranded));
        let steps = self.destroy(left.flat_map(|standing| self.standing(standing)));
        if steps.is_empty() && self.world.pool_counts(self.tenant, self.id).any() == 0 {
            // The next pool of this name must not be opened by who was let into this one.
            let groups = groups::without_pool(self.world, self.tenant, self.id);
            if !groups.is_empty() {
                return groups;
            }
            let rule = host_rules::without(self.world, self.tenant, RuleTarget::Pool(self.id));
            let keys = [Key::Pool, Key::Forecast].map(|key| key(self.tenant.clone(), self.id));
            return rule.into_iter().chain(keys.map(Step::Delete)).collect();
        }
        steps
    }
}
