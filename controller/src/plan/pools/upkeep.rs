//! What follows for a pool: its ready desktops go to those who wait, what is no use goes, more are made,
//! and none where one after the other fails. Looked at again and again until nothing follows.

use uuid::Uuid;
use vidi_kit::ids::{DesktopId, PoolId, TenantId};

use super::claims::{claim_rows, claimable, waits_no_more};
use crate::model::{
    Desktop, DesktopSpec, DesktopStatus, EndCause, Key, Place, Pool, Power, Presence, Row, Session,
    Standing, Step, Suspension, World,
};
use crate::mutants::{self, Mutant};
use crate::plan::desktops::{DESKTOPS_PER_TENANT_MAX, destroyed};
use crate::plan::hosts;
use crate::plan::sessions::ended;

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
    steps
}

/// Whether something about a pool may be due though nothing changed: somebody waits, a desktop may be
/// late, or more are to be made.
pub fn is_restless(world: &World, tenant: &TenantId, id: PoolId) -> bool {
    let coming = world.pool_counts(tenant, id).get(Standing::Coming);
    0 < coming || 0 < world.pool_waiting_count(tenant, id) || 0 < shortage(world, tenant, id)
}

/// Desktops that a pool should make now.
pub fn shortage(world: &World, tenant: &TenantId, id: PoolId) -> u32 {
    let Some(pool) = world.pool(tenant, id) else { return 0 };
    if pool.suspended.is_some() || mutants::on(Mutant::NoRefill) {
        return 0;
    }
    if mutants::on(Mutant::RefillOverMax) {
        return missing(world, tenant, id);
    }
    let room = pool.settings.max_desktops.saturating_sub(world.pool_counts(tenant, id).all());
    missing(world, tenant, id).min(room)
}

/// Desktops that a pool has too few, room or not.
fn missing(world: &World, tenant: &TenantId, id: PoolId) -> u32 {
    let counts = world.pool_counts(tenant, id);
    let spare = [Standing::Ready, Standing::Coming, Standing::Unplaced];
    let spare: u32 = spare.into_iter().map(|standing| counts.get(standing)).sum();
    world.spare_wanted(tenant, id).saturating_sub(spare)
}

/// Why a pool has fewer free desktops than it should, for people; none: it has enough, or they are being
/// made.
pub fn problem(world: &World, tenant: &TenantId, id: PoolId) -> Option<String> {
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
    let wanted = pool.settings.min_spare.saturating_add(waiting);
    let free = counts.all().saturating_sub(counts.get(Standing::Taken));
    let full = pool.settings.max_desktops <= counts.all() && free < wanted;
    let most = pool.settings.max_desktops;
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
        let failures: Vec<String> = lost.iter().filter_map(|id| self.failure(*id)).collect();
        let mut steps = self.destroy(lost.iter().copied());
        if steps.is_empty() {
            return self.destroy(self.surplus().into_iter());
        }
        steps.extend(self.count_failures(&failures));
        steps
    }

    /// Those that have been on their way for too long.
    fn late(&self) -> Vec<DesktopId> {
        let is_late = |since_ms: i64| READY_MS_MAX <= self.now_ms.saturating_sub(since_ms);
        self.standing(Standing::Coming)
            .take(LATE_LOOKED_AT_MAX)
            .filter_map(|id| Some((id, self.world.desktop(self.tenant, id)?)))
            .take_while(|(_, desktop)| is_late(desktop.spec.create_ms))
            .filter(|(_, desktop)| is_late(desktop.status.power_since_ms))
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
        let minutes = READY_MS_MAX / 60_000;
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
    fn count_failures(&self, reasons: &[String]) -> Option<Step> {
        let last = reasons.last().filter(|_| self.pool.suspended.is_none())?;
        let recent = |at_ms: &i64| self.now_ms.saturating_sub(*at_ms) < FAILURES_MS;
        let before = self.pool.failures_ms.iter().copied().filter(recent);
        let failures_ms: Vec<i64> = before.chain(reasons.iter().map(|_| self.now_ms)).collect();
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
        let wanted = self.world.spare_wanted(self.tenant, self.id);
        let (ready, outdated) = (self.count(Standing::Ready), self.count(Standing::Outdated));
        let coming = self.count(Standing::Coming) + self.count(Standing::Unplaced);
        let replaced = (ready + outdated).saturating_sub(wanted).min(outdated);
        if 0 < replaced {
            return self.newest(Standing::Outdated, replaced);
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
        let full = shortage(self.world, self.tenant, self.id) == 0;
        let missing = if full { missing(self.world, self.tenant, self.id) } else { 0 };
        if 0 < under_way || self.pool.suspended.is_some() {
            return Vec::new();
        }
        self.newest(Standing::Outdated, outdated.div_ceil(4).min(missing + unplaced))
    }

    fn newest(&self, standing: Standing, count: u32) -> Vec<DesktopId> {
        if count == 0 {
            return Vec::new();
        }
        let all: Vec<DesktopId> = self.standing(standing).collect();
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

    /// As many desktops as are missing and may be, of the latest version and on.
    fn make(&self, ids: &mut dyn Iterator<Item = Uuid>) -> Vec<Step> {
        let Pool { settings, app_id, .. } = self.pool;
        let template = self.world.template(self.tenant, &settings.template);
        let Some(template) = template else { return Vec::new() };
        let of_tenant = self.world.tenant_desktops.get(self.tenant).map_or(0, |count| **count);
        let room = DESKTOPS_PER_TENANT_MAX.saturating_sub(of_tenant);
        let count = shortage(self.world, self.tenant, self.id);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(room);
        let mut steps = Vec::new();
        for id in ids.take(count).map(DesktopId::new) {
            let spec = DesktopSpec {
                display_name: settings.display_name.clone(),
                template: settings.template.clone(),
                template_digest: template.latest_digest.clone(),
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
            return vec![Step::Delete(Key::Pool(self.tenant.clone(), self.id))];
        }
        steps
    }
}
