//! Whose a desktop is, by the word of somebody who may say so.

use vidi_kit::ids::{DesktopId, TenantId, UserId};

use super::decide::{Decided, View};
use super::desktops::{app_id, checked, switch_off};
use crate::model::{Answer, Desktop, DesktopSpec, DesktopTarget, Refusal, Row, World};
use crate::mutants::{self, Mutant};

/// Keeps a desktop for a user, or for nobody.
pub(super) fn assign(
    view: View<'_>,
    target: DesktopTarget,
    user: Option<UserId>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    let DesktopTarget { tenant, desktop: id, etag, .. } = target;
    let desktop = checked(world, &tenant, id, &etag)?;
    if desktop.spec.assigned_user == user {
        return Ok(Decided::nothing(Answer::Done));
    }
    if desktop.spec.deleting {
        return refused(id, "deleting", "choose another one");
    }
    let held = desktop.status.session.and_then(|held| world.session(&tenant, held));
    if held.is_some_and(|held| held.is_live()) {
        return Err(Refusal::DesktopInUse(id));
    }
    if desktop.spec.is_single_use() {
        let state = "of a floating pool, where a click takes whichever is ready";
        return refused(id, state, "use a dedicated pool");
    }
    let spec = match user {
        Some(user) => {
            if world.user(&tenant, &user).is_none() {
                return Err(Refusal::not_found("user", &user));
            }
            check_pool(world, (&tenant, id, desktop), &user)?;
            DesktopSpec { assigned_user: Some(user), ..desktop.spec.clone() }
        }
        None => left(view, &tenant, id, desktop),
    };
    let leaves = spec.pool != desktop.spec.pool;
    let mut after = Desktop { spec, status: desktop.status.clone() };
    if leaves {
        // Nobody is on it, and nobody keeps it ready for anybody.
        switch_off(&mut after, view.now_ms);
    }
    let Desktop { spec, status } = after;
    let status = (status != desktop.status).then_some(Row::Status(tenant.clone(), id, status));
    Ok(Decided::rows(Answer::Done, [Row::Spec(tenant, id, spec)].into_iter().chain(status)))
}

/// A desktop of a pool is for users of that pool, and each has one of it.
fn check_pool(
    world: &World,
    (tenant, id, desktop): (&TenantId, DesktopId, &Desktop),
    user: &UserId,
) -> Result<(), Refusal> {
    let Some(pool_id) = desktop.spec.pool else { return Ok(()) };
    let pool = world.pool(tenant, pool_id).ok_or_else(|| Refusal::not_found("pool", pool_id))?;
    if desktop.status.host.is_none() {
        return refused(id, "without a host", "wait until it has one, or choose another one");
    }
    if !world.pool_is_for(tenant, pool_id, pool, user) {
        return refused(
            id,
            "of a pool that is not for this user",
            "add the user to the pool first",
        );
    }
    if world.pool_desktop_of(tenant, pool_id, user).is_some() {
        let state = "of a pool of which this user has a desktop already";
        return refused(id, state, "unassign or delete that one first");
    }
    if world.waiting_of(tenant, pool_id, user).is_some() {
        let state = "of a pool for a desktop of which this user waits";
        return refused(id, state, "wait until there is one, or end that session first");
    }
    Ok(())
}

/// A desktop that is nobody's from now on. One of a pool leaves it: what is on it is somebody's, and a click
/// of somebody else must not find it.
fn left(view: View<'_>, tenant: &TenantId, id: DesktopId, desktop: &Desktop) -> DesktopSpec {
    let world = view.world;
    let free = DesktopSpec { assigned_user: None, ..desktop.spec.clone() };
    if free.pool.is_none() || mutants::on(Mutant::StaysInPool) {
        return free;
    }
    let name = &free.display_name;
    DesktopSpec {
        pool: None,
        app_id: app_id(world, tenant, name, free.template.as_str(), id.uuid()),
        // As the pool said until now.
        release_policy: world.release_policy(tenant, &free),
        display_policy: world.display_policy(tenant, &free),
        ..free
    }
}

fn refused<T>(id: DesktopId, state: &str, remedy: &'static str) -> Result<T, Refusal> {
    let (id, state) = (id.to_string(), state.to_owned());
    Err(Refusal::WrongState { kind: "desktop", id, state, remedy })
}
