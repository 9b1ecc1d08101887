//! Rows that several indexes of the world hang on: how each is put and taken out.

use std::ops::Bound;

use vidi_kit::ids::{DesktopId, MachineId, OperationId, PoolId, SessionId, TenantId};

use super::machine::Machine;
use super::map::Map;
use super::pool::Pool;
use super::resources::{Desktop, Operation};
use super::session::{Place, Session};
use super::usage::{UsageKey, UsageKind};
use super::world::World;

impl World {
    pub(super) fn put_session(&mut self, tenant: TenantId, id: SessionId, one: Session) {
        let (place, live) = (one.place, one.is_live());
        let was_live = self.live_sessions.contains_key(&id);
        self.tenant_index.session(&tenant, was_live, live);
        if live {
            self.live_sessions.insert(id, tenant.clone());
            if let Place::Pool(pool) = place {
                self.pool_index.wait(&tenant, pool, id, &one.user);
            }
        } else {
            self.live_sessions.remove(&id);
        }
        let arrives = one.pool.map(|pool| (pool, one.create_ms));
        let old = self.sessions.insert((tenant.clone(), id), one);
        if let (None, Some((pool, at_ms))) = (&old, arrives) {
            self.pool_index.arrive(&tenant, pool, at_ms);
        }
        if let Some(old) = old.filter(|old| old.place != place || !live) {
            self.pool_index.wait_no_more(&tenant, id, &old);
            if old.place != place {
                self.touch_place(tenant.clone(), old.place);
            }
        }
        // Those that wait have an index of their own.
        if !(live && matches!(place, Place::Pool(_))) {
            self.place_sessions.insert((tenant.clone(), place, id), ());
        }
        self.touch_place(tenant, place);
    }

    pub(super) fn delete_session(&mut self, tenant: TenantId, id: SessionId) {
        let was_live = self.live_sessions.remove(&id).is_some();
        self.tenant_index.session(&tenant, was_live, false);
        if let Some(old) = self.sessions.remove(&(tenant.clone(), id)) {
            self.pool_index.wait_no_more(&tenant, id, &old);
            self.place_sessions.remove(&(tenant, old.place, id));
        }
    }

    pub(super) fn put_machine(&mut self, tenant: TenantId, id: MachineId, one: Machine) {
        self.apps.insert((tenant.clone(), one.app_id.clone()), Place::Machine(id));
        self.machines.insert((tenant.clone(), id), one);
        self.touch_place(tenant, Place::Machine(id));
    }

    pub(super) fn put_operation(&mut self, id: OperationId, one: Operation) {
        let key = (one.tenant.clone(), one.desktop, id);
        let before = self.open_operations.contains_key(&key);
        let open = one.end.is_none();
        if open && !before {
            self.open_operations.insert(key.clone(), ());
            count_one_more(&mut self.tenant_operations, one.tenant.clone());
        } else if before && !open {
            self.open_operations.remove(&key);
            count_one_less(&mut self.tenant_operations, one.tenant.clone());
        }
        self.desktop_operations.insert(key, ());
        self.operations.insert(id, one);
    }

    pub(super) fn delete_operation(&mut self, id: OperationId) {
        if let Some(old) = self.operations.remove(&id) {
            let key = (old.tenant.clone(), old.desktop, id);
            self.desktop_operations.remove(&key);
            if self.open_operations.remove(&key).is_some() {
                count_one_less(&mut self.tenant_operations, old.tenant.clone());
            }
        }
    }

    pub(super) fn put_pool(&mut self, tenant: TenantId, id: PoolId, one: Pool) {
        // Its desktops have their tenant from here.
        let tenant = self.tenants.shared(tenant);
        self.apps.insert((tenant.clone(), one.app_id.clone()), Place::Pool(id));
        let wants = one.wants_versions();
        let before = self.pools.insert((tenant.clone(), id), one);
        if before.map_or((None, None), |before| before.wants_versions()) != wants {
            self.stand_pool(&tenant, id);
        }
        self.touch_place(tenant, Place::Pool(id));
    }

    pub(super) fn delete_usage(&mut self, key: &UsageKey) {
        self.usage.remove(key);
        let of = (key.tenant.clone(), key.desktop, key.kind);
        if self.usage_newest.get(&of).is_none_or(|newest| **newest != key.start_ms) {
            return;
        }
        let first = UsageKey { start_ms: 0, kind: UsageKind::Running, ..key.clone() };
        let left = self.usage.from(Bound::Included(&first)).map(|(left, _)| left);
        let left = left
            .take_while(|left| left.tenant == key.tenant && left.desktop == key.desktop)
            .filter(|left| left.kind == key.kind);
        match left.last().map(|left| left.start_ms) {
            Some(start_ms) => drop(self.usage_newest.insert(of, start_ms)),
            None => drop(self.usage_newest.remove(&of)),
        }
    }

    pub(super) fn index_desktop(&mut self, tenant: &TenantId, id: DesktopId, one: &Desktop) {
        if let Some(user) = &one.spec.assigned_user {
            self.user_desktops.insert((tenant.clone(), user.clone(), id), ());
        }
        if one.status.host.is_none() {
            self.unplaced.insert((tenant.clone(), id), ());
        }
        // A desktop of a pool is on menus as that pool's app.
        if one.spec.pool.is_none() {
            self.apps.insert((tenant.clone(), one.spec.app_id.clone()), Place::Desktop(id));
        }
    }

    pub(super) fn unindex_desktop(&mut self, tenant: &TenantId, id: DesktopId, old: &Desktop) {
        if let Some(user) = &old.spec.assigned_user {
            self.user_desktops.remove(&(tenant.clone(), user.clone(), id));
        }
        self.unplaced.remove(&(tenant.clone(), id));
        let app = (tenant.clone(), old.spec.app_id.clone());
        if self.apps.get(&app).is_some_and(|place| **place == Place::Desktop(id)) {
            self.apps.remove(&app);
        }
    }
}

/// Most changes of a desktop leave its indexes as they are.
pub(super) fn is_indexed_alike(one: &Desktop, other: &Desktop) -> bool {
    let placed = one.status.host.is_some() == other.status.host.is_some();
    let (one, other) = (&one.spec, &other.spec);
    placed
        && one.assigned_user == other.assigned_user
        && one.pool == other.pool
        && one.app_id == other.app_id
}

pub(super) fn count_one_more<K: Ord + Clone>(counts: &mut Map<K, usize>, key: K) {
    let before = counts.get(&key).map_or(0, |count| **count);
    counts.insert(key, before + 1);
}

/// What is counted to none is not kept.
pub(super) fn count_one_less<K: Ord + Clone>(counts: &mut Map<K, usize>, key: K) {
    match counts.get(&key).map_or(0, |count| **count) {
        0 | 1 => drop(counts.remove(&key)),
        before => drop(counts.insert(key, before - 1)),
    }
}
