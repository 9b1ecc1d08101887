//! Groups of users: roles and entries on menus that all members have.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use vidi_kit::ids::{DesktopId, GroupId, PoolId, TenantId, UserId};

use super::change::RequestKey;
use super::map::Map;
use super::pool::Pool;
use super::resources::{Desktop, User};
use super::session::Place;
use super::world::World;

/// Groups of one tenant: classes and departments.
pub const GROUPS_PER_TENANT_MAX: usize = 1_000;
/// Groups that one user is in: each is looked at with every call, and all of them are left in one commit.
pub const GROUPS_PER_USER_MAX: usize = 20;
/// Members that one call adds or removes, or that go with their group: they fit one commit.
pub const MEMBERS_PER_CALL_MAX: usize = 100;
/// Pools and desktops that one group opens.
pub const OPENS_MAX: usize = 200;

/// A group as it is kept; its members are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What is chosen of it.
    pub settings: GroupSettings,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
    /// Goes up by one with every change.
    pub generation: u64,
}

/// What is chosen of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {
    /// For people.
    pub display_name: String,
    /// Role names, sorted.
    pub roles: Vec<String>,
    /// What is on every member's menu: pools, and desktops that are assigned to nobody.
    pub opens: BTreeSet<Place>,
}

/// What may be done with groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// Makes one.
    Create {
        /// What is chosen of it.
        settings: GroupSettings,
        /// For repetition.
        request: Option<RequestKey>,
        /// Only say whether it would be possible.
        validate_only: bool,
    },
    /// Changes one.
    Update {
        /// All of what is chosen of it.
        settings: GroupSettings,
        /// As [`World::group_etag`] gave it.
        etag: String,
    },
    /// Removes one, with few members.
    Delete {
        /// As [`World::group_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Makes users its members.
    Add(BTreeSet<UserId>),
    /// Makes users its members no more.
    Remove(BTreeSet<UserId>),
}

/// Who is in which group, both ways.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// The last part is the group's id.
    by_user: Map<(TenantId, UserId, String), GroupId>,
    /// The last part is the user's id.
    by_group: Map<(TenantId, GroupId, String), UserId>,
    counts: Map<(TenantId, GroupId), usize>,
}

impl Members {
    pub(super) fn add(&mut self, tenant: &TenantId, group: &GroupId, user: &UserId) {
        let of_user = (tenant.clone(), user.clone(), group.to_string());
        self.by_user.insert(of_user, group.clone());
        let of_group = (tenant.clone(), group.clone(), user.to_string());
        if self.by_group.insert(of_group, user.clone()).is_none() {
            super::indexes::count_one_more(&mut self.counts, (tenant.clone(), group.clone()));
        }
    }

    pub(super) fn remove(&mut self, tenant: &TenantId, group: &GroupId, user: &UserId) {
        self.by_user.remove(&(tenant.clone(), user.clone(), group.to_string()));
        if self.by_group.remove(&(tenant.clone(), group.clone(), user.to_string())).is_some() {
            super::indexes::count_one_less(&mut self.counts, (tenant.clone(), group.clone()));
        }
    }
}

impl World {
    /// A group of a tenant.
    pub fn group(&self, tenant: &TenantId, id: &GroupId) -> Option<&Arc<Group>> {
        self.groups.get(&(tenant.clone(), id.clone()))
    }

    /// Groups of a tenant, by id.
    pub fn groups_of<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = (&'a GroupId, &'a Arc<Group>)> {
        self.groups
            .iter()
            .filter(move |((of, _), _)| of == tenant)
            .map(|((_, group), one)| (group, one))
    }

    /// The groups that a user is in.
    pub fn groups_of_user<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a UserId,
    ) -> impl Iterator<Item = &'a GroupId> + use<'a> {
        let first = (tenant.clone(), user.clone(), String::new());
        self.members
            .by_user
            .from(Bound::Included(&first))
            .take_while(move |((of, who, _), _)| of == tenant && who == user)
            .map(|(_, group)| &**group)
    }

    /// The members of a group behind one, by id.
    pub fn members_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        group: &'a GroupId,
        after: &str,
    ) -> impl Iterator<Item = &'a UserId> + use<'a> {
        let start = (tenant.clone(), group.clone(), after.to_owned());
        self.members
            .by_group
            .from(Bound::Excluded(&start))
            .take_while(move |((of, which, _), _)| of == tenant && which == group)
            .map(|(_, user)| &**user)
    }

    /// How many users are in a group.
    pub fn member_count(&self, tenant: &TenantId, group: &GroupId) -> usize {
        self.members.counts.get(&(tenant.clone(), group.clone())).map_or(0, |count| **count)
    }

    /// The roles that a user has, the own ones and those of groups; sorted.
    pub fn roles_of(&self, tenant: &TenantId, user: &UserId, record: &User) -> Vec<String> {
        let mut roles = record.roles.clone();
        let groups = self.groups_of_user(tenant, user);
        let groups = groups.filter_map(|group| self.group(tenant, group));
        let before = roles.len();
        roles.extend(groups.flat_map(|group| group.settings.roles.iter().cloned()));
        if before < roles.len() {
            roles.sort();
            roles.dedup();
        }
        roles
    }

    /// Whether a group of a user opens a pool or a desktop.
    pub fn is_opened(&self, tenant: &TenantId, user: &UserId, place: Place) -> bool {
        let groups = self.groups_of_user(tenant, user);
        let mut groups = groups.filter_map(|group| self.group(tenant, group));
        groups.any(|group| group.settings.opens.contains(&place))
    }

    /// Whether a pool is on a user's menu.
    pub fn pool_is_for(&self, tenant: &TenantId, id: PoolId, pool: &Pool, user: &UserId) -> bool {
        pool.is_for(user) || (!pool.deleting && self.is_opened(tenant, user, Place::Pool(id)))
    }

    /// Whether a desktop of no pool is on a user's menu.
    pub fn desktop_is_for(
        &self,
        tenant: &TenantId,
        id: DesktopId,
        desktop: &Desktop,
        user: &UserId,
    ) -> bool {
        match &desktop.spec.assigned_user {
            Some(owner) => owner == user,
            None => desktop.spec.pool.is_none() && self.is_opened(tenant, user, Place::Desktop(id)),
        }
    }

    /// Desktops that a user's groups open, each once.
    pub fn desktops_opened(
        &self,
        tenant: &TenantId,
        user: &UserId,
    ) -> Vec<(DesktopId, Arc<Desktop>)> {
        let groups = self.groups_of_user(tenant, user);
        let groups = groups.filter_map(|group| self.group(tenant, group));
        let opens: BTreeSet<Place> =
            groups.flat_map(|group| group.settings.opens.iter().copied()).collect();
        let desktops = opens.into_iter().filter_map(|place| {
            let Place::Desktop(id) = place else { return None };
            let desktop = self.desktop(tenant, id)?;
            let free = desktop.spec.assigned_user.is_none() && desktop.spec.pool.is_none();
            free.then(|| (id, Arc::clone(desktop)))
        });
        desktops.collect()
    }

    /// Opaque; changes with every change of the record.
    pub fn group_etag(group: &Group) -> String {
        format!("g{}", group.generation)
    }
}
