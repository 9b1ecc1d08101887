//! Decisions on physical machines: make, change, remove, claim; and what follows for one of them: the end
//! of its session, its intervals of use.

use std::sync::Arc;

use vidi_kit::ids::{AppId, MachineId, SessionId, TenantId, UserId};

use super::decide::{Decided, View, remember, replay};
use super::desktops::app_id;
use super::presence::{absent_since, away};
use super::sessions::{ended, opened};
use super::usage;
use super::users::unreachable_change;
use crate::model::{
    Answer, Change, EndCause, Key, Machine, MachineSettings, Place, Refusal, RequestKey, Row,
    Session, Step, World,
};

/// Physical machines of one tenant: each is somebody's to set up by hand, and every menu looks through
/// all of them.
pub const MACHINES_PER_TENANT_MAX: usize = 1_000;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::CreateMachine { tenant, settings, request, validate_only } => {
            create(view, tenant, *settings, request, validate_only)
        }
        Change::UpdateMachine { tenant, machine: id, settings, etag, validate_only } => {
            let old = checked(view.world, &tenant, id, &etag)?;
            check_user(view.world, &tenant, &settings)?;
            let generation = old.generation + 1;
            let new = Machine { settings: *settings, generation, ..old.clone() };
            if new.settings == old.settings || validate_only {
                return Ok(Decided::nothing(Answer::Done));
            }
            // Whose it is not any more does not keep it.
            let holder = view.world.machine_holder(&tenant, id);
            let holder = holder.filter(|(_, session)| !new.is_for(&session.user));
            let ended = holder.into_iter().flat_map(|(session, known)| {
                end(view, &tenant, (session, known), EndCause::ByAdministrator)
            });
            let mut steps: Vec<Step> = ended.collect();
            steps.push(Step::Put(Row::Machine(tenant, id, new)));
            Ok(Decided { answer: Answer::Done, steps })
        }
        Change::DeleteMachine { tenant, machine: id, etag } => {
            checked(view.world, &tenant, id, &etag)?;
            let mut steps = Vec::new();
            if let Some(holder) = view.world.machine_holder(&tenant, id) {
                steps.extend(end(view, &tenant, holder, EndCause::Destroyed));
            }
            steps.push(Step::Delete(Key::Machine(tenant, id)));
            Ok(Decided { answer: Answer::Done, steps })
        }
        other => unreachable_change(&other),
    }
}

/// The steps that end the session on a machine.
fn end(
    view: View<'_>,
    tenant: &TenantId,
    (session, known): (SessionId, &Arc<Session>),
    cause: EndCause,
) -> Vec<Step> {
    let ended = Step::Put(ended(tenant, session, known, cause, view.now_ms));
    let counted = usage::session_ends(view.world, tenant, session, known, view.now_ms);
    std::iter::once(ended).chain(counted).collect()
}

fn create(
    view: View<'_>,
    tenant: TenantId,
    settings: MachineSettings,
    request: Option<RequestKey>,
    validate_only: bool,
) -> Result<Decided, Refusal> {
    let world = view.world;
    if let Some(before) = replay(world, &tenant, request.as_ref())? {
        let made = before.resource.rsplit('/').next().unwrap_or_default();
        return match made.parse::<MachineId>() {
            Ok(id) if world.machine(&tenant, id).is_some() => {
                Ok(Decided::nothing(Answer::Machine(id)))
            }
            _ => Err(Refusal::WrongState {
                kind: "machine",
                id: made.to_owned(),
                state: "deleted since this request made it".to_owned(),
                remedy: "to make it again take a new request_id",
            }),
        };
    }
    if !world.tenants.contains_key(&tenant) {
        return Err(Refusal::not_found("tenant", tenant));
    }
    check_user(world, &tenant, &settings)?;
    if MACHINES_PER_TENANT_MAX <= world.machines_of(&tenant).count() {
        let what = "machines of this tenant";
        return Err(Refusal::LimitExceeded { what, limit: MACHINES_PER_TENANT_MAX });
    }
    if validate_only {
        return Ok(Decided::nothing(Answer::Done));
    }
    let id = MachineId::new(view.new_id);
    let app_id = app_id(world, &tenant, &settings.display_name, "machine", view.new_id);
    let machine = Machine { settings, app_id, create_ms: view.now_ms, generation: 1 };
    let resource = format!("tenants/{tenant}/machines/{id}");
    let remembered = remember(view, &tenant, request, (None, resource))?;
    let rows = [Row::Machine(tenant, id, machine)].into_iter().chain(remembered);
    Ok(Decided::rows(Answer::Machine(id), rows))
}

fn checked<'a>(
    world: &'a World,
    tenant: &TenantId,
    id: MachineId,
    etag: &str,
) -> Result<&'a Machine, Refusal> {
    let machine = world.machine(tenant, id).ok_or_else(|| Refusal::not_found("machine", id))?;
    if !etag.is_empty() && etag != World::machine_etag(machine) {
        return Err(Refusal::EtagStale { kind: "machine", id: id.to_string() });
    }
    Ok(machine)
}

fn check_user(world: &World, tenant: &TenantId, wish: &MachineSettings) -> Result<(), Refusal> {
    match &wish.assigned_user {
        Some(user) if world.user(tenant, user).is_none() => Err(Refusal::not_found("user", user)),
        Some(_) | None => Ok(()),
    }
}

/// Claims a machine: it is free, or has this user already.
pub(super) fn open(
    view: View<'_>,
    (tenant, id, app): (TenantId, MachineId, &AppId),
    user: UserId,
    request: Option<RequestKey>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    // What is not on the caller's menu does not exist for the caller.
    let machine = world.machine(&tenant, id).filter(|machine| machine.is_for(&user));
    machine.ok_or_else(|| Refusal::not_found("app", app))?;
    let held = world.machine_holder(&tenant, id);
    if held.is_some_and(|(_, session)| session.user != user) {
        return Err(Refusal::MachineInUse(id));
    }
    let session = held.map_or(SessionId::new(view.new_id), |(session, _)| session);
    opened(view, (tenant, Place::Machine(id), session), (user, None), request, Vec::new())
}

/// The steps that follow for one machine, to be written in one piece; none when it is settled.
pub fn settle(world: &World, tenant: &TenantId, id: MachineId, now_ms: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    let machine = world.machine(tenant, id);
    let holder = world.machine_holder(tenant, id);
    if let Some((session, known)) = holder {
        let cause = match machine {
            // A machine goes in the commit that ends its session: only a store that was changed by hand
            // has this.
            None => Some(EndCause::Destroyed),
            Some(_) => absent_since(world, known)
                .and_then(|since_ms| away(world.limits.disconnect_ms, since_ms, now_ms)),
        };
        steps.extend(cause.map(|cause| Step::Put(ended(tenant, session, known, cause, now_ms))));
    }
    let name = machine.map_or("", |machine| machine.settings.display_name.as_str());
    steps.extend(usage::follow_machine(world, (tenant, id, name), holder, now_ms));
    steps
}
