//! Decisions on pools: make, change, remove, resume. `claims.rs` gives their desktops to users,
//! `upkeep.rs` keeps desktops ready.

pub mod claims;
pub mod forecast;
pub mod upkeep;

#[cfg(test)]
mod tests;

use vidi_kit::ids::{PoolId, TenantId};

pub(super) use claims::open;
pub use claims::{QueuePlace, given_up, newcomer_place, queue_place};
pub use upkeep::{is_restless, problem, settle, shortage};

use super::decide::{Decided, View, made_before, remember};
use super::desktops::app_id;
use super::rollouts;
use super::users::unreachable_change;
use crate::model::{
    Answer, Change, Key, Pool, PoolKind, PoolSettings, PoolUsers, Refusal, RequestKey, Row,
    Standing, Step, World,
};

/// Pools of one tenant: every menu looks through all of them.
pub const POOLS_PER_TENANT_MAX: usize = 500;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::CreatePool { tenant, pool, settings, request, validate_only } => {
            create(view, (tenant, pool), *settings, request, validate_only)
        }
        Change::UpdatePool { tenant, pool, settings, etag, validate_only } => {
            update(view.world, (tenant, pool), *settings, &etag, validate_only)
        }
        Change::DeletePool { tenant, pool, etag, force } => {
            delete(view, (tenant, pool), &etag, force)
        }
        Change::ResumePool { tenant, pool: id, etag } => {
            let old = checked(view.world, &tenant, id, &etag)?;
            let suspended = old.suspended.is_some() || !old.failures_ms.is_empty();
            let resumed = Pool { suspended: None, failures_ms: Vec::new(), ..old.clone() };
            let row = suspended.then_some(Row::Pool(tenant, id, resumed));
            Ok(Decided::rows(Answer::Done, row))
        }
        other => unreachable_change(&other),
    }
}

fn create(
    view: View<'_>,
    (tenant, id): (TenantId, PoolId),
    settings: PoolSettings,
    request: Option<RequestKey>,
    validate_only: bool,
) -> Result<Decided, Refusal> {
    let world = view.world;
    let is_there = world.pool(&tenant, id).is_some();
    if made_before(view, &tenant, request.as_ref(), ("pool", id.as_str(), is_there))? {
        return Ok(Decided::nothing(Answer::Done));
    }
    if !world.tenants.contains_key(&tenant) {
        return Err(Refusal::not_found("tenant", tenant));
    }
    if is_there {
        return Err(Refusal::AlreadyExists { kind: "pool", id: id.to_string() });
    }
    if world.template(&tenant, &settings.template).is_none() {
        return Err(Refusal::not_found("template", &settings.template));
    }
    check_users(world, &tenant, &settings)?;
    if POOLS_PER_TENANT_MAX <= world.pools_of(&tenant).count() {
        let what = "pools of this tenant";
        return Err(Refusal::LimitExceeded { what, limit: POOLS_PER_TENANT_MAX });
    }
    if validate_only {
        return Ok(Decided::nothing(Answer::Done));
    }
    let app_id = app_id(world, &tenant, &settings.display_name, id.as_str(), view.new_id);
    let pool = Pool {
        settings,
        app_id,
        create_ms: view.now_ms,
        generation: 1,
        deleting: false,
        suspended: None,
        failures_ms: Vec::new(),
        pin: None,
        trial: None,
    };
    let resource = format!("tenants/{tenant}/pools/{id}");
    let remembered = remember(view, &tenant, request, (None, resource))?;
    let rows = [Row::Pool(tenant, id, pool)].into_iter().chain(remembered);
    Ok(Decided::rows(Answer::Done, rows))
}

fn update(
    world: &World,
    (tenant, id): (TenantId, PoolId),
    settings: PoolSettings,
    etag: &str,
    validate_only: bool,
) -> Result<Decided, Refusal> {
    let old = checked(world, &tenant, id, etag)?;
    let refused = |state: &str, remedy| {
        let (id, state) = (id.to_string(), state.to_owned());
        Err(Refusal::WrongState { kind: "pool", id, state, remedy })
    };
    if old.deleting {
        return refused("deleting", "make another one");
    }
    if old.settings.kind != settings.kind || old.settings.template != settings.template {
        return refused("of another kind or template", "make another one and delete this one");
    }
    check_users(world, &tenant, &settings)?;
    if settings == old.settings || validate_only {
        return Ok(Decided::nothing(Answer::Done));
    }
    let generation = old.generation + 1;
    // What was learned was learned by other clocks.
    let moved = old.settings.schedule.zone != settings.schedule.zone;
    let new = Pool { settings, generation, ..old.clone() };
    let mut decided = Decided::rows(Answer::Done, [Row::Pool(tenant.clone(), id, new)]);
    decided.steps.extend(moved.then_some(Step::Delete(Key::Forecast(tenant, id))));
    Ok(decided)
}

fn delete(
    view: View<'_>,
    (tenant, id): (TenantId, PoolId),
    etag: &str,
    force: bool,
) -> Result<Decided, Refusal> {
    let world = view.world;
    let old = checked(world, &tenant, id, etag)?;
    if old.deleting {
        return Ok(Decided::nothing(Answer::Done));
    }
    if !force && 0 < world.pool_counts(&tenant, id).get(Standing::Taken) {
        let (id, state) = (
            id.to_string(),
            match old.settings.kind {
                PoolKind::Floating => "in use",
                PoolKind::Dedicated => "in use, or users have desktops of it",
            },
        );
        let state = state.to_owned();
        let remedy = "end its sessions and delete those desktops first, or delete it with force";
        return Err(Refusal::WrongState { kind: "pool", id, state, remedy });
    }
    let over = rollouts::pool_deleted(world, &tenant, old, view.now_ms);
    let generation = old.generation + 1;
    let gone = Pool { deleting: true, generation, trial: None, ..old.clone() };
    let steps = std::iter::once(Step::Put(Row::Pool(tenant, id, gone))).chain(over).collect();
    Ok(Decided { answer: Answer::Done, steps })
}

fn checked<'a>(
    world: &'a World,
    tenant: &TenantId,
    id: PoolId,
    etag: &str,
) -> Result<&'a Pool, Refusal> {
    let pool = world.pool(tenant, id).ok_or_else(|| Refusal::not_found("pool", id))?;
    if !etag.is_empty() && etag != World::pool_etag(pool) {
        return Err(Refusal::EtagStale { kind: "pool", id: id.to_string() });
    }
    Ok(pool)
}

fn check_users(world: &World, tenant: &TenantId, wish: &PoolSettings) -> Result<(), Refusal> {
    let PoolUsers::Listed(users) = &wish.users else { return Ok(()) };
    match users.iter().find(|user| world.user(tenant, user).is_none()) {
        Some(nobody) => Err(Refusal::not_found("user", nobody)),
        None => Ok(()),
    }
}
