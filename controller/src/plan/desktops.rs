//! Decisions on desktops: make, start, stop, restart, destroy. What follows from them is `settle.rs`'s matter.

use vidi_kit::ids::{AppId, DesktopId, OperationId, TemplateId, TenantId, UserId};

use super::decide::{Decided, View, remember, replay};
use super::users::unreachable_change;
use super::{doubt, hosts, quota};
use crate::model::{
    Answer, Change, Desktop, DesktopSpec, DesktopStatus, DesktopTarget, DisplayPolicy, Key,
    Observed, Operation, OperationKind, Power, PowerEvent, Refusal, ReleasePolicy, RequestKey, Row,
    Step, World,
};
use crate::mutants::{self, Mutant};

/// Desktops of one tenant; the largest customer we know of has a twentieth of it.
pub const DESKTOPS_PER_TENANT_MAX: usize = 100_000;
/// Operations of one desktop that go on at a time: somebody presses the same button again and again.
pub const OPEN_PER_DESKTOP_MAX: usize = 32;
/// Operations of one tenant that go on at a time: all desktops of a school are started at once.
pub const OPEN_PER_TENANT_MAX: usize = 10_000;
/// Operations of one desktop that are kept; the oldest ended ones make room.
///
/// INVARIANT: `OPEN_PER_DESKTOP_MAX` < it, so that there is always one to forget.
pub const KEPT_PER_DESKTOP_MAX: usize = 64;
/// Names that are tried with a number behind them before a part of the desktop's id is used.
const APP_NUMBERS_MAX: usize = 64;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::CreateDesktop {
            tenant,
            template,
            display_name,
            assigned_user,
            start,
            release_policy,
            display_policy,
            request,
            validate_only,
        } => {
            if let Some(answer) = replayed(view.world, &tenant, request.as_ref())? {
                return Ok(answer);
            }
            let policies = (release_policy, display_policy);
            let wish = Wish { template, display_name, assigned_user, start, policies };
            let (spec, status) = new_desktop(view, &tenant, wish)?;
            let id = DesktopId::new(view.new_id);
            let rows =
                vec![Row::Spec(tenant.clone(), id, spec), Row::Status(tenant.clone(), id, status)];
            if validate_only {
                let steps: Vec<Step> = rows.into_iter().map(Step::Put).collect();
                quota::check(view.world, &steps)?;
                return Ok(Decided::nothing(Answer::Done));
            }
            begin(view, (tenant, id), (OperationKind::Create, 1), request, rows)
        }
        Change::UpdateDesktop { target, display_name, release_policy, display_policy } => {
            let DesktopTarget { tenant, desktop: id, etag, .. } = target;
            let before = &checked(view.world, &tenant, id, &etag)?.spec;
            if before.pool.is_some() && (release_policy.is_some() || display_policy.is_some()) {
                return Err(Refusal::WrongState {
                    kind: "desktop",
                    id: id.to_string(),
                    state: "of a pool, which says what becomes of it and what passes".to_owned(),
                    remedy: "update the pool",
                });
            }
            let spec = DesktopSpec {
                display_name: display_name.unwrap_or_else(|| before.display_name.clone()),
                release_policy: release_policy.unwrap_or(before.release_policy),
                display_policy: display_policy.unwrap_or(before.display_policy),
                ..before.clone()
            };
            let changed = (spec != *before).then_some(Row::Spec(tenant, id, spec));
            Ok(Decided::rows(Answer::Done, changed))
        }
        Change::StartDesktop { target } => change_power(view, target, Wanted::On),
        Change::StopDesktop { target, force: false } => change_power(view, target, Wanted::Off),
        Change::StopDesktop { target, force: true } => {
            change_power(view, target, Wanted::Unplugged)
        }
        Change::RestartDesktop { target, force: false } => {
            change_power(view, target, Wanted::Again)
        }
        Change::RestartDesktop { target, force: true } => {
            change_power(view, target, Wanted::AgainUnplugged)
        }
        Change::DeleteDesktop { target } => change_power(view, target, Wanted::Gone),
        other => unreachable_change(&other),
    }
}

/// The spec and status of a desktop that is wanted on; a failed one is tried again. None when it is
/// wanted on already and its host says so now.
///
/// What was last known is not enough: the desktop may have ended since, and its host's next report
/// would then be taken as the guest's own wish to be off.
pub(super) fn wanted_on(
    desktop: &Desktop,
    seen: Option<&Observed>,
    now_ms: i64,
) -> Option<(DesktopSpec, DesktopStatus)> {
    // It starts again by itself.
    if desktop.spec.restarting {
        return None;
    }
    let failed = matches!(desktop.status.power, Power::Failed(_));
    let settled_off = matches!(desktop.status.power, Power::Off | Power::Saved)
        && desktop.status.observed_generation == desktop.spec.generation;
    if desktop.spec.power_on && seen.is_some() && !failed && !settled_off {
        return None;
    }
    let spec = DesktopSpec {
        power_on: true,
        force_off: false,
        generation: desktop.spec.generation + 1,
        ..desktop.spec.clone()
    };
    Some((spec, next_status(desktop, &PowerEvent::Start, now_ms)))
}

fn next_status(desktop: &Desktop, event: &PowerEvent, now_ms: i64) -> DesktopStatus {
    let mut status = desktop.status.clone();
    let power = status.power.next(event);
    if power != status.power {
        status.power = power;
        status.power_since_ms = now_ms;
        status.reason = String::new();
    }
    status
}

struct Wish {
    template: TemplateId,
    display_name: String,
    assigned_user: Option<UserId>,
    start: bool,
    policies: (ReleasePolicy, DisplayPolicy),
}

fn new_desktop(
    view: View<'_>,
    tenant: &TenantId,
    wish: Wish,
) -> Result<(DesktopSpec, DesktopStatus), Refusal> {
    let world = view.world;
    if !world.tenants.contains_key(tenant) {
        return Err(Refusal::not_found("tenant", tenant));
    }
    if DESKTOPS_PER_TENANT_MAX <= world.tenant_desktops.get(tenant).map_or(0, |count| **count) {
        let what = "desktops of this tenant";
        return Err(Refusal::LimitExceeded { what, limit: DESKTOPS_PER_TENANT_MAX });
    }
    let template = world.template(tenant, &wish.template);
    let template = template.ok_or_else(|| Refusal::not_found("template", &wish.template))?;
    if let Some(user) = &wish.assigned_user
        && world.user(tenant, user).is_none()
    {
        return Err(Refusal::not_found("user", user));
    }
    let name =
        if wish.display_name.is_empty() { &template.display_name } else { &wish.display_name };
    let spec = DesktopSpec {
        display_name: name.clone(),
        template_digest: template.latest_digest.clone(),
        assigned_user: wish.assigned_user,
        power_on: wish.start,
        force_off: false,
        deleting: false,
        generation: 1,
        create_ms: view.now_ms,
        app_id: app_id(world, tenant, name, wish.template.as_str(), view.new_id),
        template: wish.template,
        restarting: false,
        release_policy: wish.policies.0,
        display_policy: wish.policies.1,
        trace: None,
        pool: None,
        restored: false,
    };
    Ok((spec, DesktopStatus { power_since_ms: view.now_ms, ..DesktopStatus::default() }))
}

/// The name in letters that an app id may have, else another text of such letters; with a number behind it
/// when others have it.
pub(super) fn app_id(
    world: &World,
    tenant: &TenantId,
    name: &str,
    otherwise: &str,
    id: uuid::Uuid,
) -> AppId {
    const BASE_BYTES_MAX: usize = 40;
    let mut base = String::new();
    for letter in name.chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_alphanumeric() {
            base.push(letter);
        } else if !base.is_empty() && !base.ends_with('-') {
            base.push('-');
        }
        if BASE_BYTES_MAX <= base.len() {
            break;
        }
    }
    let base = base.trim_end_matches('-');
    let base = if base.is_empty() { otherwise } else { base };
    let short = id.simple().to_string().split_off(20);
    let numbered = (2..=APP_NUMBERS_MAX).map(|number| format!("{base}-{number}"));
    std::iter::once(base.to_owned())
        .chain(numbered)
        .filter_map(|text| text.parse::<AppId>().ok())
        .find(|app| !world.apps.contains_key(&(tenant.clone(), app.clone())))
        .or_else(|| format!("{base}-{short}").parse().ok())
        .expect("at most 40 letters, a dash and 12 digits are an app id")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    On,
    Off,
    Unplugged,
    Again,
    AgainUnplugged,
    Gone,
}

/// A desktop that is as the caller saw it.
pub(super) fn checked<'a>(
    world: &'a World,
    tenant: &TenantId,
    id: DesktopId,
    etag: &str,
) -> Result<&'a Desktop, Refusal> {
    let desktop = world.desktop(tenant, id).ok_or_else(|| Refusal::not_found("desktop", id))?;
    if !etag.is_empty() && etag != World::desktop_etag(desktop) {
        return Err(Refusal::EtagStale { kind: "desktop", id: id.to_string() });
    }
    Ok(desktop)
}

fn change_power(view: View<'_>, target: DesktopTarget, wanted: Wanted) -> Result<Decided, Refusal> {
    let DesktopTarget { tenant, desktop: id, etag, request } = target;
    if let Some(answer) = replayed(view.world, &tenant, request.as_ref())? {
        return Ok(answer);
    }
    let desktop = checked(view.world, &tenant, id, &etag)?;
    if doubt::may_be_anybodys(&desktop.spec) && !matches!(wanted, Wanted::Gone) {
        return Err(Refusal::WrongState {
            kind: "desktop",
            id: id.to_string(),
            state: "of a backup, and perhaps of somebody who has got it since".to_owned(),
            remedy: "look whose it is; its pool has others, and this one can be deleted",
        });
    }
    let anew = doubt::decided_anew(desktop);
    let desktop = anew.as_ref().unwrap_or(desktop);
    // What is being destroyed goes off as well.
    if desktop.spec.deleting
        && matches!(wanted, Wanted::On | Wanted::Again | Wanted::AgainUnplugged)
    {
        return Err(Refusal::WrongState {
            kind: "desktop",
            id: id.to_string(),
            state: "deleting".to_owned(),
            remedy: "make another one",
        });
    }
    let kind = match wanted {
        Wanted::On => OperationKind::Start,
        Wanted::Off | Wanted::Unplugged => OperationKind::Stop,
        Wanted::Again | Wanted::AgainUnplugged => OperationKind::Restart,
        Wanted::Gone => OperationKind::Delete,
    };
    let seen = view.world.observed(desktop, id);
    if matches!(wanted, Wanted::Again | Wanted::AgainUnplugged) {
        hosts::check_startable(view.world, id, desktop)?;
    }
    let changed = match wanted {
        Wanted::On => {
            let changed = wanted_on(desktop, seen, view.now_ms);
            changed
                .is_some()
                .then(|| hosts::check_startable(view.world, id, desktop))
                .transpose()?;
            changed
        }
        Wanted::Again | Wanted::AgainUnplugged => wanted_again(desktop, seen, wanted, view.now_ms),
        Wanted::Off | Wanted::Unplugged | Wanted::Gone => wanted_off(desktop, wanted, view.now_ms),
    };
    let changed = changed.or_else(|| anew.clone().map(|one| (one.spec, one.status)));
    let generation = changed.as_ref().map_or(desktop.spec.generation, |(spec, _)| spec.generation);
    let mut rows = Vec::new();
    if let Some((spec, status)) = changed {
        rows.push(Row::Spec(tenant.clone(), id, spec));
        if status != desktop.status {
            rows.push(Row::Status(tenant.clone(), id, status));
        }
    }
    begin(view, (tenant, id), (kind, generation), request, rows)
}

/// The spec and status of a desktop that goes off and on again. What does not run is only started.
fn wanted_again(
    desktop: &Desktop,
    seen: Option<&Observed>,
    wanted: Wanted,
    now_ms: i64,
) -> Option<(DesktopSpec, DesktopStatus)> {
    if !matches!(desktop.status.power, Power::Starting | Power::Running) {
        return wanted_on(desktop, seen, now_ms);
    }
    let mut spec = desktop.spec.clone();
    spec.power_on = true;
    spec.restarting = true;
    spec.force_off |= wanted == Wanted::AgainUnplugged;
    if spec == desktop.spec {
        return None;
    }
    spec.generation += 1;
    Some((spec, desktop.status.clone()))
}

/// The desktop after the host said that what restarts is off: from now on it starts.
pub(super) fn started_again(desktop: &mut Desktop) {
    desktop.spec.restarting = false;
    desktop.spec.force_off = false;
    desktop.spec.generation += 1;
    desktop.status.power = desktop.status.power.next(&PowerEvent::Start);
    desktop.status.reason = String::new();
}

/// The desktop as it is when nobody wants it on any more.
pub(super) fn switch_off(desktop: &mut Desktop, now_ms: i64) {
    if let Some((spec, status)) = wanted_off(desktop, Wanted::Off, now_ms) {
        *desktop = Desktop { spec, status };
    }
}

/// The desktop as it is when it is to be destroyed.
pub(super) fn destroyed(desktop: &mut Desktop, now_ms: i64) {
    if let Some((spec, status)) = wanted_off(desktop, Wanted::Gone, now_ms) {
        *desktop = Desktop { spec, status };
    }
}

/// What this policy makes of a desktop when its session ends by release or absence.
pub(super) fn follow_policy(desktop: &mut Desktop, policy: ReleasePolicy, now_ms: i64) {
    let wanted = match policy {
        ReleasePolicy::Keep => return,
        ReleasePolicy::Stop => Wanted::Off,
        ReleasePolicy::Delete => Wanted::Gone,
    };
    if let Some((spec, status)) = wanted_off(desktop, wanted, now_ms) {
        *desktop = Desktop { spec, status };
    }
}

fn wanted_off(
    desktop: &Desktop,
    wanted: Wanted,
    now_ms: i64,
) -> Option<(DesktopSpec, DesktopStatus)> {
    let mut spec = desktop.spec.clone();
    spec.power_on = false;
    spec.restarting = false;
    // Of what is off, as its host has said of this very wish, no plug is pulled.
    let rests = spec == desktop.spec
        && matches!(desktop.status.power, Power::Off | Power::Saved)
        && desktop.status.observed_generation == spec.generation;
    spec.force_off |= wanted == Wanted::Gone || (wanted == Wanted::Unplugged && !rests);
    spec.deleting |= wanted == Wanted::Gone;
    if spec == desktop.spec {
        return None;
    }
    spec.generation += u64::from(!mutants::on(Mutant::GenerationKept));
    Some((spec, next_status(desktop, &PowerEvent::Stop, now_ms)))
}

fn begin(
    view: View<'_>,
    (tenant, desktop): (TenantId, DesktopId),
    (kind, generation): (OperationKind, u64),
    request: Option<RequestKey>,
    mut rows: Vec<Row>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    if OPEN_PER_DESKTOP_MAX <= world.operations_open(&tenant, desktop).len() {
        let what = "open operations of this desktop";
        return Err(Refusal::LimitExceeded { what, limit: OPEN_PER_DESKTOP_MAX });
    }
    if OPEN_PER_TENANT_MAX <= world.tenant_operations.get(&tenant).map_or(0, |count| **count) {
        let what = "open operations of this tenant";
        return Err(Refusal::LimitExceeded { what, limit: OPEN_PER_TENANT_MAX });
    }
    let forgotten = too_many_kept(world, &tenant, desktop);
    let id = OperationId::new(view.new_operation);
    let resource = format!("tenants/{tenant}/desktops/{desktop}");
    let new = rows.iter().find_map(|row| {
        let Row::Spec(_, _, spec) = row else { return None };
        Some(spec)
    });
    let spec = new.or(world.desktop(&tenant, desktop).map(|one| &one.spec));
    let user = spec.and_then(|spec| spec.assigned_user.clone());
    rows.extend(remember(view, &tenant, request, (Some(id), resource))?);
    let operation = Operation {
        kind,
        tenant,
        desktop,
        user,
        generation,
        stage: "accepted".to_owned(),
        create_ms: view.now_ms,
        end: None,
    };
    rows.push(Row::Operation(id, operation));
    let steps = rows.into_iter().map(Step::Put).chain(forgotten).collect();
    Ok(Decided { answer: Answer::Operation(id), steps })
}

/// The oldest ended operations of a desktop make room.
fn too_many_kept(world: &World, tenant: &TenantId, desktop: DesktopId) -> Vec<Step> {
    let kept = world.operations_of(tenant, desktop);
    let surplus = (kept.len() + 1).saturating_sub(KEPT_PER_DESKTOP_MAX);
    let ended = |id: &OperationId| world.operations.get(id).is_some_and(|one| one.end.is_some());
    let oldest = kept.into_iter().filter(ended).take(surplus);
    oldest.map(|id| Step::Delete(Key::Operation(id))).collect()
}

fn replayed(
    world: &World,
    tenant: &TenantId,
    request: Option<&RequestKey>,
) -> Result<Option<Decided>, Refusal> {
    let Some(before) = replay(world, tenant, request)? else { return Ok(None) };
    let id = request.map(|request| request.id.clone()).unwrap_or_default();
    let operation = before.operation.ok_or(Refusal::RequestIdReused(id))?;
    Ok(Some(Decided::nothing(Answer::Operation(operation))))
}
