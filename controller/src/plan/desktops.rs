//! Decisions on desktops: make, start, stop, destroy. What follows from them is `settle.rs`'s matter.

use std::sync::Arc;

use vidi_kit::ids::{AppId, DesktopId, OperationId, TemplateId, TenantId, UserId};

use super::decide::{Decided, View, remember, replay};
use super::users::unreachable_change;
use crate::model::{
    Answer, Change, Desktop, DesktopSpec, DesktopStatus, DesktopTarget, Observed, Operation,
    OperationKind, Power, PowerEvent, Refusal, RequestKey, Row, World,
};

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
            request,
            validate_only,
        } => {
            if let Some(answer) = replayed(view.world, &tenant, request.as_ref())? {
                return Ok(answer);
            }
            let wish = Wish { template, display_name, assigned_user, start };
            let (spec, status) = new_desktop(view, &tenant, wish)?;
            if validate_only {
                return Ok(Decided::nothing(Answer::Done));
            }
            let id = DesktopId::new(view.new_id);
            let rows =
                vec![Row::Spec(tenant.clone(), id, spec), Row::Status(tenant.clone(), id, status)];
            Ok(begin(view, (tenant, id), (OperationKind::Create, 1), request, rows))
        }
        Change::StartDesktop { target } => change_power(view, target, Wanted::On),
        Change::StopDesktop { target, force: false } => change_power(view, target, Wanted::Off),
        Change::StopDesktop { target, force: true } => {
            change_power(view, target, Wanted::Unplugged)
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
        app_id: app_id(world, tenant, name, &wish.template, view.new_id),
        template: wish.template,
    };
    Ok((spec, DesktopStatus { power_since_ms: view.now_ms, ..DesktopStatus::default() }))
}

/// The name in letters that an app id may have, else the template's id; with a number behind it
/// when others have it.
fn app_id(
    world: &World,
    tenant: &TenantId,
    name: &str,
    template: &TemplateId,
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
    let base = if base.is_empty() { template.as_str() } else { base };
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
    Gone,
}

fn change_power(view: View<'_>, target: DesktopTarget, wanted: Wanted) -> Result<Decided, Refusal> {
    let DesktopTarget { tenant, desktop: id, etag, request } = target;
    if let Some(answer) = replayed(view.world, &tenant, request.as_ref())? {
        return Ok(answer);
    }
    let desktop = view.world.desktop(&tenant, id);
    let desktop = desktop.ok_or_else(|| Refusal::not_found("desktop", id))?;
    if !etag.is_empty() && etag != World::desktop_etag(desktop) {
        return Err(Refusal::EtagStale { kind: "desktop", id: id.to_string() });
    }
    if desktop.spec.deleting && wanted != Wanted::Gone {
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
        Wanted::Gone => OperationKind::Delete,
    };
    let changed = match wanted {
        Wanted::On => wanted_on(desktop, view.world.observed(desktop, id), view.now_ms),
        Wanted::Off | Wanted::Unplugged | Wanted::Gone => wanted_off(desktop, wanted, view.now_ms),
    };
    let generation = changed.as_ref().map_or(desktop.spec.generation, |(spec, _)| spec.generation);
    let mut rows = Vec::new();
    if let Some((spec, status)) = changed {
        rows.push(Row::Spec(tenant.clone(), id, spec));
        if status != desktop.status {
            rows.push(Row::Status(tenant.clone(), id, status));
        }
    }
    Ok(begin(view, (tenant, id), (kind, generation), request, rows))
}

fn wanted_off(
    desktop: &Arc<Desktop>,
    wanted: Wanted,
    now_ms: i64,
) -> Option<(DesktopSpec, DesktopStatus)> {
    let mut spec = desktop.spec.clone();
    spec.power_on = false;
    spec.force_off |= wanted != Wanted::Off;
    spec.deleting |= wanted == Wanted::Gone;
    if spec == desktop.spec {
        return None;
    }
    spec.generation += 1;
    Some((spec, next_status(desktop, &PowerEvent::Stop, now_ms)))
}

fn begin(
    view: View<'_>,
    (tenant, desktop): (TenantId, DesktopId),
    (kind, generation): (OperationKind, u64),
    request: Option<RequestKey>,
    mut rows: Vec<Row>,
) -> Decided {
    let id = OperationId::new(view.new_operation);
    let resource = format!("tenants/{tenant}/desktops/{desktop}");
    rows.extend(remember(view, &tenant, request, (Some(id), resource)));
    let operation = Operation {
        kind,
        tenant,
        desktop,
        generation,
        stage: "accepted".to_owned(),
        create_ms: view.now_ms,
        end: None,
    };
    rows.push(Row::Operation(id, operation));
    Decided::rows(Answer::Operation(id), rows)
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
