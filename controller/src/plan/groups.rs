//! Decisions on groups and their members.

use std::collections::BTreeSet;

use vidi_kit::ids::{GroupId, PoolId, TenantId, UserId};

use super::decide::{Decided, View, made_before, remember};
use crate::model::group::{
    GROUPS_PER_TENANT_MAX, GROUPS_PER_USER_MAX, Group, GroupChange, GroupSettings,
    MEMBERS_PER_CALL_MAX,
};
use crate::model::{Answer, Key, Place, Refusal, RequestKey, Row, Step, World};

/// Groups that are changed at once when something that they open goes.
const CHANGED_MAX: usize = 32;

/// Decides the changes of its kind.
pub(super) fn decide(
    view: View<'_>,
    (tenant, id): (TenantId, GroupId),
    change: GroupChange,
) -> Result<Decided, Refusal> {
    let world = view.world;
    match change {
        GroupChange::Create { settings, request, validate_only } => {
            create(view, (tenant, id), settings, request, validate_only)
        }
        GroupChange::Update { settings, etag } => {
            let old = checked(world, &tenant, &id, &etag)?;
            check_opens(world, &tenant, &settings, Some(old))?;
            let generation = old.generation + 1;
            let changed = settings != old.settings;
            let row = Row::Group(tenant, id, Group { settings, generation, ..old.clone() });
            Ok(Decided::rows(Answer::Done, changed.then_some(row)))
        }
        GroupChange::Delete { etag } => {
            checked(world, &tenant, &id, &etag)?;
            if MEMBERS_PER_CALL_MAX < world.member_count(&tenant, &id) {
                return Err(Refusal::WrongState {
                    kind: "group",
                    id: id.to_string(),
                    state: "of more than 100 members".to_owned(),
                    remedy: "remove members first",
                });
            }
            let gone =
                |user: &UserId| Step::Delete(Key::Member(tenant.clone(), id.clone(), user.clone()));
            let mut steps: Vec<Step> = world.members_of(&tenant, &id, "").map(gone).collect();
            steps.push(Step::Delete(Key::Group(tenant.clone(), id.clone())));
            Ok(Decided { answer: Answer::Done, steps })
        }
        GroupChange::Add(users) => add(view, (tenant, id), users),
        GroupChange::Remove(users) => {
            checked(world, &tenant, &id, "")?;
            let is_in = |user: &UserId| world.groups_of_user(&tenant, user).any(|of| *of == id);
            let steps = users
                .iter()
                .filter(|user| is_in(user))
                .map(|user| Step::Delete(Key::Member(tenant.clone(), id.clone(), user.clone())))
                .collect();
            Ok(Decided { answer: Answer::Done, steps })
        }
    }
}

fn create(
    view: View<'_>,
    (tenant, id): (TenantId, GroupId),
    settings: GroupSettings,
    request: Option<RequestKey>,
    validate_only: bool,
) -> Result<Decided, Refusal> {
    let world = view.world;
    let is_there = world.group(&tenant, &id).is_some();
    if made_before(view, &tenant, request.as_ref(), ("group", id.as_str(), is_there))? {
        return Ok(Decided::nothing(Answer::Done));
    }
    if !world.tenants.contains_key(&tenant) {
        return Err(Refusal::not_found("tenant", tenant));
    }
    if is_there {
        return Err(Refusal::AlreadyExists { kind: "group", id: id.to_string() });
    }
    check_opens(world, &tenant, &settings, None)?;
    if GROUPS_PER_TENANT_MAX <= world.groups_of(&tenant).count() {
        let what = "groups of this tenant";
        return Err(Refusal::LimitExceeded { what, limit: GROUPS_PER_TENANT_MAX });
    }
    if validate_only {
        return Ok(Decided::nothing(Answer::Done));
    }
    let group = Group { settings, create_ms: view.now_ms, generation: 1 };
    let resource = format!("tenants/{tenant}/groups/{id}");
    let remembered = remember(view, &tenant, request, (None, resource))?;
    let rows = [Row::Group(tenant, id, group)].into_iter().chain(remembered);
    Ok(Decided::rows(Answer::Done, rows))
}

fn add(
    view: View<'_>,
    (tenant, id): (TenantId, GroupId),
    users: BTreeSet<UserId>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    checked(world, &tenant, &id, "")?;
    let mut rows = Vec::new();
    for user in users {
        if world.user(&tenant, &user).is_none() {
            return Err(Refusal::not_found("user", user));
        }
        let groups: Vec<&GroupId> = world.groups_of_user(&tenant, &user).collect();
        if groups.contains(&&id) {
            continue;
        }
        if GROUPS_PER_USER_MAX <= groups.len() {
            let what = "groups of one user";
            return Err(Refusal::LimitExceeded { what, limit: GROUPS_PER_USER_MAX });
        }
        rows.push(Row::Member(tenant.clone(), id.clone(), user, view.now_ms));
    }
    Ok(Decided::rows(Answer::Done, rows))
}

/// A group that is as the caller saw it.
fn checked<'a>(
    world: &'a World,
    tenant: &TenantId,
    id: &GroupId,
    etag: &str,
) -> Result<&'a Group, Refusal> {
    let group = world.group(tenant, id).ok_or_else(|| Refusal::not_found("group", id))?;
    if !etag.is_empty() && etag != World::group_etag(group) {
        return Err(Refusal::EtagStale { kind: "group", id: id.to_string() });
    }
    Ok(group)
}

/// What a group begins to open is there. A desktop that it opened may have gone.
fn check_opens(
    world: &World,
    tenant: &TenantId,
    wish: &GroupSettings,
    old: Option<&Group>,
) -> Result<(), Refusal> {
    let known = |place: &&Place| old.is_some_and(|old| old.settings.opens.contains(place));
    for place in wish.opens.iter().filter(|place| !known(place)) {
        match place {
            Place::Pool(pool) if world.pool(tenant, *pool).is_none_or(|one| one.deleting) => {
                return Err(Refusal::not_found("pool", pool));
            }
            Place::Desktop(id) => {
                let desktop = world.desktop(tenant, *id);
                let desktop = desktop.ok_or_else(|| Refusal::not_found("desktop", id))?;
                if desktop.spec.pool.is_some() || desktop.spec.assigned_user.is_some() {
                    return Err(Refusal::WrongState {
                        kind: "desktop",
                        id: id.to_string(),
                        state: "of a pool, or assigned to a user".to_owned(),
                        remedy: "open its pool to the group, or take another desktop",
                    });
                }
            }
            Place::Pool(_) | Place::Machine(_) => {}
        }
    }
    Ok(())
}

/// The steps by which a user leaves all groups: who gets the name next must not be in them.
pub(super) fn without_user(world: &World, tenant: &TenantId, user: &UserId) -> Vec<Step> {
    let groups = world.groups_of_user(tenant, user);
    let left = |group: &GroupId| Key::Member(tenant.clone(), group.clone(), user.clone());
    groups.map(|group| Step::Delete(left(group))).collect()
}

/// The steps by which groups no longer open a pool, some of them where they are many: the next of its name
/// must not be opened by them.
pub(super) fn without_pool(world: &World, tenant: &TenantId, pool: PoolId) -> Vec<Step> {
    let place = Place::Pool(pool);
    let groups = world.groups_of(tenant).filter(|(_, one)| one.settings.opens.contains(&place));
    let changed = groups.take(CHANGED_MAX).map(|(id, one)| {
        let mut group = Group { generation: one.generation + 1, ..Group::clone(one) };
        group.settings.opens.remove(&place);
        Step::Put(Row::Group(tenant.clone(), id.clone(), group))
    });
    changed.collect()
}
