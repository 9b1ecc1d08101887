//! Decisions on tenants.

use vidi_kit::ids::TenantId;

use super::decide::{Decided, View, made_before, remember};
use super::users::unreachable_change;
use crate::model::{Answer, Change, Key, Refusal, RequestKey, Row, Step, Tenant, World};

/// Tenants of one installation: a provider's customers.
pub const TENANTS_MAX: usize = 10_000;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::CreateTenant { tenant, record, request } => create(view, tenant, record, request),
        Change::DeleteTenant { tenant, etag } => delete(view.world, tenant, &etag),
        other => unreachable_change(&other),
    }
}

fn create(
    view: View<'_>,
    tenant: TenantId,
    record: Tenant,
    request: Option<RequestKey>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    let is_there = world.tenants.contains_key(&tenant);
    if made_before(view, &tenant, request.as_ref(), ("tenant", tenant.as_str(), is_there))? {
        return Ok(Decided::nothing(Answer::Done));
    }
    if is_there {
        return Err(Refusal::AlreadyExists { kind: "tenant", id: tenant.to_string() });
    }
    // The new one must not see what another of its name has left.
    if world.has_traces(&tenant) {
        return Err(Refusal::WrongState {
            kind: "tenant",
            id: tenant.to_string(),
            state: "the name of an earlier tenant whose usage is still kept".to_owned(),
            remedy: "take another id",
        });
    }
    if TENANTS_MAX <= world.tenants.len() {
        return Err(Refusal::LimitExceeded { what: "tenants", limit: TENANTS_MAX });
    }
    let resource = format!("tenants/{tenant}");
    let remembered = remember(view, &tenant, request, (None, resource))?;
    let rows = [Row::Tenant(tenant, record)].into_iter().chain(remembered);
    Ok(Decided::rows(Answer::Done, rows))
}

fn delete(world: &World, tenant: TenantId, etag: &str) -> Result<Decided, Refusal> {
    let old = world.tenants.get(&tenant).ok_or_else(|| Refusal::not_found("tenant", &tenant))?;
    if !etag.is_empty() && etag != World::tenant_etag(old) {
        return Err(Refusal::EtagStale { kind: "tenant", id: tenant.to_string() });
    }
    let left = [
        ("users", world.users.iter().any(|((of, _), _)| *of == tenant)),
        ("templates", world.templates.iter().any(|((of, _), _)| *of == tenant)),
        ("desktops", world.tenant_desktops.contains_key(&tenant)),
        ("pools", world.pools_of(&tenant).next().is_some()),
        ("machines", world.machines_of(&tenant).next().is_some()),
    ];
    if let Some((what, _)) = left.into_iter().find(|(_, some)| *some) {
        return Err(Refusal::WrongState {
            kind: "tenant",
            id: tenant.to_string(),
            state: format!("in use by its {what}"),
            remedy: "delete those first",
        });
    }
    Ok(Decided { answer: Answer::Done, steps: vec![Step::Delete(Key::Tenant(tenant))] })
}
