//! What is on a person's menu: desktops, pools, physical machines, each with a sentence on its state.

use vidi_kit::ids::{DesktopId, PoolId, TenantId, UserId};
use vidi_proto::v1::App;

use super::wire::{desktop_name, machine_name, pool_name, session_name};
use crate::contract::policy_to_wire;
use crate::model::{Desktop, Permission, Pool, Power, World};
use crate::plan::pools::{newcomer_place, queue_place};

/// Everything that a user may open, by name.
pub(super) fn apps(world: &World, tenant: &TenantId, user: &UserId, now_ms: i64) -> Vec<App> {
    let opened = world.desktops_opened(tenant, user);
    let mut apps: Vec<App> = world
        .desktops_of(tenant, user)
        .into_iter()
        .chain(opened)
        // Those of pools are behind their pool's app.
        .filter(|(_, desktop)| !desktop.spec.deleting && desktop.spec.pool.is_none())
        .map(|(id, desktop)| App {
            name: format!("tenants/{tenant}/apps/{}", desktop.spec.app_id),
            display_name: desktop.spec.display_name.clone(),
            ..desktop_app(world, tenant, id, &desktop)
        })
        .collect();
    let pools = world.pools_of(tenant);
    let pools = pools.filter(|(id, pool)| world.pool_is_for(tenant, *id, pool, user));
    apps.extend(pools.map(|(id, pool)| App {
        name: format!("tenants/{tenant}/apps/{}", pool.app_id),
        display_name: pool.settings.display_name.clone(),
        pool: pool_name(tenant, id),
        raw: pool.settings.display_policy.raw == Permission::Allowed,
        release_policy: policy_to_wire(pool.settings.release_policy).into(),
        suspended: pool.suspended.is_some(),
        ..pool_app(world, (tenant, id, pool), user, now_ms)
    }));
    apps.extend(machine_apps(world, tenant, user));
    apps.sort_by(|one, other| one.name.cmp(&other.name));
    apps
}

/// What an app says of the desktop behind it.
fn desktop_app(world: &World, tenant: &TenantId, id: DesktopId, desktop: &Desktop) -> App {
    let session = desktop.status.session;
    App {
        desktop: desktop_name(tenant, id),
        state: state(world, desktop, id),
        ready: world.is_ready(desktop, id),
        power: desktop.status.power.word().to_owned(),
        reason: reason(desktop),
        raw: world.display_policy(tenant, &desktop.spec).raw == Permission::Allowed,
        release_policy: policy_to_wire(world.release_policy(tenant, &desktop.spec)).into(),
        session: session.map(|session| session_name(tenant, session)).unwrap_or_default(),
        ..App::default()
    }
}

/// What an app of a pool says: of the desktop that the user has of it, of the place in its queue, or of
/// what a click would find.
fn pool_app(
    world: &World,
    (tenant, id, pool): (&TenantId, PoolId, &Pool),
    user: &UserId,
    now_ms: i64,
) -> App {
    if let Some((desktop, own)) = world.pool_desktop_of(tenant, id, user) {
        // In place of one on a host that is silent a click gives another.
        if !own.spec.is_single_use() || !world.is_host_silent(&own) {
            return desktop_app(world, tenant, desktop, &own);
        }
    }
    let waits = world.waiting_of(tenant, id, user);
    let place = match waits.and_then(|session| queue_place(world, tenant, session, now_ms)) {
        Some(place) => place,
        None => newcomer_place(world, tenant, id, now_ms),
    };
    let ready =
        waits.is_none() && place.position == 1 && 0 < world.pool_status(tenant, id, now_ms).ready;
    let suspended = pool.suspended.as_ref().map(|one| one.reason.as_str());
    let about = place.estimate_secs.map(|secs| format!(", about {secs} s")).unwrap_or_default();
    let state = match (ready, waits, suspended) {
        (true, _, _) => "Ready".to_owned(),
        (false, Some(_), _) => format!("Waiting, number {}{about}", place.position),
        (false, None, Some(reason)) => format!("Suspended: {reason}"),
        (false, None, None) if !place.reason.is_empty() => "Not ready".to_owned(),
        (false, None, None) => format!("Preparing{about}"),
    };
    App {
        state,
        ready,
        reason: if ready { String::new() } else { place.reason },
        estimate_secs: if ready { 0 } else { place.estimate_secs.unwrap_or_default() },
        session: waits.map(|session| session_name(tenant, session)).unwrap_or_default(),
        ..App::default()
    }
}

/// The physical machines on a user's menu: nobody here knows whether they run, so all that is said is
/// whether they are free and were reached the last time.
fn machine_apps<'a>(
    world: &'a World,
    tenant: &'a TenantId,
    user: &'a UserId,
) -> impl Iterator<Item = App> + 'a {
    let mine = world.machines_of(tenant).filter(|(_, machine)| machine.is_for(user));
    mine.map(move |(id, machine)| {
        let newest = world.machine_session(tenant, id);
        let away = newest.is_some_and(|(_, one)| !one.problem.is_empty());
        let in_use = newest.is_some_and(|(_, one)| one.is_live() && one.user != *user);
        let own = newest.filter(|(_, one)| one.is_live() && one.user == *user);
        let state = match (in_use, away) {
            (true, _) => "In use by somebody else",
            (false, true) => "It was not reached the last time",
            (false, false) => "Ready",
        };
        App {
            name: format!("tenants/{tenant}/apps/{}", machine.app_id),
            display_name: machine.settings.display_name.clone(),
            machine: machine_name(tenant, id),
            state: state.to_owned(),
            ready: !in_use && !away,
            raw: machine.settings.display_policy.raw == Permission::Allowed,
            session: own.map(|(session, _)| session_name(tenant, session)).unwrap_or_default(),
            ..App::default()
        }
    })
}

/// What a desktop waits for, or why it failed.
fn reason(desktop: &Desktop) -> String {
    match &desktop.status.power {
        Power::Failed(reason) => reason.clone(),
        _ => desktop.status.reason.clone(),
    }
}

/// A sentence on a desktop's state, for the user's menu.
fn state(world: &World, desktop: &Desktop, id: DesktopId) -> String {
    if world.is_host_silent(desktop) {
        return "Its host does not answer".to_owned();
    }
    match &desktop.status.power {
        Power::Running if world.is_ready(desktop, id) => "Ready".to_owned(),
        Power::Running | Power::Starting if desktop.spec.restarting => "Restarting".to_owned(),
        Power::Running | Power::Starting if desktop.spec.power_on => "Starting".to_owned(),
        Power::Running | Power::Starting => "Shutting down".to_owned(),
        Power::Preparing => "Being prepared".to_owned(),
        Power::Off => "Off".to_owned(),
        Power::Saved => "Asleep".to_owned(),
        Power::Failed(reason) => format!("Failed: {reason}"),
    }
}
