//! How the desktops of pools stand and who waits for one, kept up to date with every change: no claim
//! and no settlement looks through all desktops.

use std::ops::Bound;
use std::sync::Arc;

use vidi_kit::ids::{DesktopId, PoolId, SessionId, TemplateId, TenantId, UserId};

use super::forecast::Arrivals;
use super::map::Map;
use super::pool::{BootTimes, Pool, PoolCounts, Standing};
use super::resources::{Desktop, DesktopSpec, ReleasePolicy};
use super::session::{Place, Session};
use super::world::World;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct PoolIndex {
    /// Desktops of pools by how they stand, oldest first.
    desktops: Map<(TenantId, PoolId, Standing, DesktopId), ()>,
    /// How each of them stands.
    standings: Map<(TenantId, DesktopId), Stands>,
    /// How many of each pool stand how.
    counts: Map<(TenantId, PoolId), PoolCounts>,
    /// How many of those stand how that have the version of their pool's trial.
    trial_counts: Map<(TenantId, PoolId), PoolCounts>,
    /// Sessions that wait for a desktop, oldest first.
    waiting: Map<(TenantId, PoolId, SessionId), ()>,
    /// The one that each user has waiting for each pool.
    user_waiting: Map<(TenantId, UserId, PoolId), SessionId>,
    /// How long the last desktops took to be ready; memory only.
    boots: Map<(TenantId, PoolId), BootTimes>,
    /// When people came of late.
    arrivals: Map<(TenantId, PoolId), Arrivals>,
}

/// How a desktop stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stands {
    pool: PoolId,
    standing: Standing,
    /// It has the version of its pool's trial.
    tried: bool,
}

const NIL: uuid::Uuid = uuid::Uuid::nil();

impl PoolIndex {
    /// Notes how a desktop of a pool stands now; none: it is there no more. Answers its pool where that
    /// has changed.
    pub(super) fn stand(
        &mut self,
        (tenant, id): (&TenantId, DesktopId),
        now: Option<Stands>,
    ) -> Option<PoolId> {
        let key = (tenant.clone(), id);
        let before = self.standings.get(&key).map(|before| **before);
        if before == now {
            return None;
        }
        if let Some(Stands { pool, standing, tried }) = before {
            self.desktops.remove(&(tenant.clone(), pool, standing, id));
            self.count((tenant, pool), tried, |counts| counts.remove(standing));
        }
        match now {
            Some(Stands { pool, standing, tried }) => {
                self.desktops.insert((tenant.clone(), pool, standing, id), ());
                self.count((tenant, pool), tried, |counts| counts.add(standing));
                self.standings.insert(key, Stands { pool, standing, tried });
            }
            None => drop(self.standings.remove(&key)),
        }
        now.or(before).map(|stands| stands.pool)
    }

    fn count(
        &mut self,
        (tenant, pool): (&TenantId, PoolId),
        tried: bool,
        change: impl Fn(&mut PoolCounts),
    ) {
        let trial = tried.then_some(&mut self.trial_counts);
        for all in std::iter::once(&mut self.counts).chain(trial) {
            let key = (tenant.clone(), pool);
            let mut counts = all.get(&key).map_or_else(PoolCounts::default, |counts| **counts);
            change(&mut counts);
            // What is counted to none is not kept.
            if counts == PoolCounts::default() {
                all.remove(&key);
            } else {
                all.insert(key, counts);
            }
        }
    }

    /// Notes that a session waits.
    pub(super) fn wait(&mut self, tenant: &TenantId, pool: PoolId, id: SessionId, user: &UserId) {
        self.waiting.insert((tenant.clone(), pool, id), ());
        self.user_waiting.insert((tenant.clone(), user.clone(), pool), id);
    }

    /// Notes that a session waits no more.
    pub(super) fn wait_no_more(&mut self, tenant: &TenantId, id: SessionId, was: &Session) {
        let Place::Pool(pool) = was.place else { return };
        self.waiting.remove(&(tenant.clone(), pool, id));
        let key = (tenant.clone(), was.user.clone(), pool);
        if self.user_waiting.get(&key).is_some_and(|waits| **waits == id) {
            self.user_waiting.remove(&key);
        }
    }

    /// Notes that a new session wants a desktop.
    pub(super) fn arrive(&mut self, tenant: &TenantId, pool: PoolId, at_ms: i64) {
        let key = (tenant.clone(), pool);
        let known = self.arrivals.get(&key);
        let mut arrivals = known.map_or_else(Arrivals::default, |known| Arrivals::clone(known));
        arrivals.add(at_ms);
        self.arrivals.insert(key, arrivals);
    }

    /// Forgets what only memory knew of a pool that is gone.
    pub(super) fn forget(&mut self, tenant: &TenantId, pool: PoolId) {
        self.boots.remove(&(tenant.clone(), pool));
        self.arrivals.remove(&(tenant.clone(), pool));
    }
}

impl World {
    /// A pool of a tenant.
    pub fn pool(&self, tenant: &TenantId, id: PoolId) -> Option<&Arc<Pool>> {
        self.pools.get(&(tenant.clone(), id))
    }

    /// Pools of a tenant, by id.
    pub fn pools_of<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = (PoolId, &'a Arc<Pool>)> {
        self.pools
            .from(Bound::Included(&(tenant.clone(), PoolId::LEAST)))
            .take_while(move |((of, _), _)| of == tenant)
            .map(|((_, id), one)| (*id, one))
    }

    /// How many desktops of a pool stand how.
    pub fn pool_counts(&self, tenant: &TenantId, pool: PoolId) -> PoolCounts {
        let counts = self.pool_index.counts.get(&(tenant.clone(), pool));
        counts.map_or_else(PoolCounts::default, |counts| **counts)
    }

    /// As [`Self::pool_counts`], of those that have the version of its trial.
    pub(super) fn pool_trial_counts(&self, tenant: &TenantId, pool: PoolId) -> PoolCounts {
        let counts = self.pool_index.trial_counts.get(&(tenant.clone(), pool));
        counts.map_or_else(PoolCounts::default, |counts| **counts)
    }

    /// Desktops of a pool that stand so, oldest first.
    pub fn pool_standing<'a>(
        &'a self,
        tenant: &'a TenantId,
        pool: PoolId,
        standing: Standing,
    ) -> impl Iterator<Item = DesktopId> + use<'a> {
        let first = (tenant.clone(), pool, standing, DesktopId::new(NIL));
        self.pool_index
            .desktops
            .from(Bound::Included(&first))
            .take_while(move |((of, other, how, _), _)| {
                of == tenant && *other == pool && *how == standing
            })
            .map(|((_, _, _, id), _)| *id)
    }

    /// All desktops of a pool, those that are being destroyed too.
    pub fn pool_desktops<'a>(
        &'a self,
        tenant: &'a TenantId,
        pool: PoolId,
    ) -> impl Iterator<Item = DesktopId> {
        let standings = Standing::ALL.into_iter();
        standings.flat_map(move |standing| self.pool_standing(tenant, pool, standing))
    }

    /// Sessions that wait for a desktop of a pool, oldest first.
    pub fn pool_waiting<'a>(
        &'a self,
        tenant: &'a TenantId,
        pool: PoolId,
    ) -> impl Iterator<Item = SessionId> + use<'a> {
        let first = (tenant.clone(), pool, SessionId::new(NIL));
        self.pool_index
            .waiting
            .from(Bound::Included(&first))
            .take_while(move |((of, other, _), _)| of == tenant && *other == pool)
            .map(|((_, _, id), _)| *id)
    }

    /// Sessions of all pools that wait for a desktop.
    pub fn all_waiting(&self) -> impl Iterator<Item = (&TenantId, PoolId, SessionId)> {
        self.pool_index.waiting.iter().map(|((tenant, pool, id), _)| (tenant, *pool, *id))
    }

    /// How many sessions wait for a desktop of a pool.
    pub fn pool_waiting_count(&self, tenant: &TenantId, pool: PoolId) -> usize {
        let last = SessionId::new(uuid::Uuid::max());
        self.pool_position(tenant, pool, last).saturating_sub(1)
    }

    /// The rank of a session among those that wait for a desktop of a pool; 1: the next.
    pub fn pool_position(&self, tenant: &TenantId, pool: PoolId, session: SessionId) -> usize {
        let waiting = &self.pool_index.waiting;
        let rank = |session| waiting.rank(&(tenant.clone(), pool, session));
        rank(session).saturating_sub(rank(SessionId::new(NIL))) + 1
    }

    /// The session by which a user waits for a desktop of a pool.
    pub fn waiting_of(&self, tenant: &TenantId, pool: PoolId, user: &UserId) -> Option<SessionId> {
        let key = (tenant.clone(), user.clone(), pool);
        self.pool_index.user_waiting.get(&key).map(|id| **id)
    }

    /// For how many pools a user waits.
    pub fn waits_of(&self, tenant: &TenantId, user: &UserId) -> usize {
        let first = (tenant.clone(), user.clone(), PoolId::LEAST);
        let waits = self.pool_index.user_waiting.from(Bound::Included(&first));
        waits.take_while(|((of, who, _), _)| of == tenant && who == user).count()
    }

    /// The desktop that a user has of a pool, that one not being destroyed.
    pub fn pool_desktop_of(
        &self,
        tenant: &TenantId,
        pool: PoolId,
        user: &UserId,
    ) -> Option<(DesktopId, Arc<Desktop>)> {
        let own = self.desktops_of(tenant, user).into_iter();
        own.filter(|(_, one)| one.spec.pool == Some(pool)).find(|(_, one)| !one.spec.deleting)
    }

    /// When people came to a pool of late.
    pub fn pool_arrivals(&self, tenant: &TenantId, pool: PoolId) -> Option<&Arrivals> {
        self.pool_index.arrivals.get(&(tenant.clone(), pool)).map(|one| &**one)
    }

    /// How long the last desktops of a pool took to be ready, on average, ms.
    pub fn pool_boot_ms(&self, tenant: &TenantId, pool: PoolId) -> Option<i64> {
        self.pool_index.boots.get(&(tenant.clone(), pool))?.mean_ms()
    }

    /// Notes how long a desktop of a pool took to be ready, ms.
    pub fn add_pool_boot(&mut self, tenant: TenantId, pool: PoolId, took_ms: i64) {
        let key = (tenant, pool);
        let mut boots = self
            .pool_index
            .boots
            .get(&key)
            .map_or_else(BootTimes::default, |known| BootTimes::clone(known));
        boots.add(took_ms);
        self.pool_index.boots.insert(key, boots);
    }

    /// What becomes of a desktop when its session ends: of one of a dedicated pool what that says now.
    pub fn release_policy(&self, tenant: &TenantId, spec: &DesktopSpec) -> ReleasePolicy {
        match spec.pool.filter(|_| !spec.is_single_use()) {
            Some(pool) => self
                .pool(tenant, pool)
                .map_or(spec.release_policy, |pool| pool.settings.release_policy),
            None => spec.release_policy,
        }
    }

    /// What passes between a desktop and browsers: of one of a pool what that says now.
    pub fn display_policy(
        &self,
        tenant: &TenantId,
        spec: &DesktopSpec,
    ) -> super::display_policy::DisplayPolicy {
        let pool = spec.pool.and_then(|pool| self.pool(tenant, pool));
        pool.map_or(spec.display_policy, |pool| pool.settings.display_policy)
    }

    /// Opaque; changes with every change of what is chosen.
    pub fn pool_etag(pool: &Pool) -> String {
        format!("g{}", pool.generation)
    }

    /// Somebody still waits with this session, at this time; memory only, and no news to anybody.
    pub fn seek(&mut self, tenant: &TenantId, id: SessionId, now_ms: i64) {
        if let Some(known) = self.session(tenant, id) {
            let sought = Session { sought_ms: now_ms, ..Session::clone(known) };
            self.sessions.insert((tenant.clone(), id), sought);
        }
    }

    /// Notes how a desktop stands now, and that its pool has to look at it where that has changed.
    pub(super) fn stand(&mut self, tenant: &TenantId, id: DesktopId) {
        let now = match self.desktop(tenant, id) {
            // One that has left its pool stands there no more.
            Some(desktop) => desktop.spec.pool.and_then(|pool| {
                let tried = self.is_tried(tenant, &desktop.spec);
                Standing::of(self, tenant, id).map(|standing| Stands { pool, standing, tried })
            }),
            None => None,
        };
        if let Some(pool) = self.pool_index.stand((tenant, id), now) {
            self.touch_place(tenant.clone(), Place::Pool(pool));
        }
    }

    /// As [`Self::stand`], of all desktops of a pool: it wants other versions.
    pub(super) fn stand_pool(&mut self, tenant: &TenantId, pool: PoolId) {
        let desktops: Vec<DesktopId> = self.pool_desktops(tenant, pool).collect();
        for id in desktops {
            self.stand(tenant, id);
        }
    }

    /// As [`Self::stand`], of all free desktops of pools of a template: it has a new version.
    pub(super) fn stand_all(&mut self, tenant: &TenantId, template: &TemplateId) {
        let free = [Standing::Ready, Standing::Outdated, Standing::Coming, Standing::Unplaced];
        let of_it = self.pools_of(tenant).filter(|(_, pool)| pool.settings.template == *template);
        let pools: Vec<PoolId> = of_it.map(|(id, _)| id).collect();
        for pool in pools {
            let desktops = free.map(|standing| self.pool_standing(tenant, pool, standing));
            let desktops: Vec<DesktopId> = desktops.into_iter().flatten().collect();
            for id in desktops {
                self.stand(tenant, id);
            }
        }
    }
}
