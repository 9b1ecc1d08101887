//! Decisions on tenants.

use vidi_kit::ids::TenantId;

use super::decide::{Decided, View, made_before, remember};
use super::host_rules;
use super::users::unreachable_change;
use crate::model::branding::Branding;
use crate::model::host_rule::RuleTarget;
use crate::model::{Answer, Change, Key, Refusal, RequestKey, Row, Step, Tenant, World};

/// Tenants of one installation: a provider's customers.
pub const TENANTS_MAX: usize = 10_000;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::CreateTenant { tenant, record, request } => create(view, tenant, record, request),
        Change::UpdateTenant { tenant, display_name, quota, etag, validate_only } => {
            let old = checked(view.world, &tenant, &etag)?;
            let display_name = display_name.unwrap_or_else(|| old.display_name.clone());
            let quota = quota.unwrap_or_else(|| old.quota.clone());
            let record = Tenant { display_name, quota, ..old.clone() };
            let changed = (record != *old && !validate_only).then_some(Row::Tenant(tenant, record));
            Ok(Decided::rows(Answer::Done, changed))
        }
        Change::SetBranding { tenant, branding } => {
            checked(view.world, &tenant, "")?;
            let known = view.world.brandings.get(&tenant);
            let steps = if *branding != Branding::default() {
                vec![Step::Put(Row::Branding(tenant, *branding))]
            } else if known.is_some() {
                vec![Step::Delete(Key::Branding(tenant))]
            } else {
                Vec::new()
            };
            Ok(Decided { answer: Answer::Done, steps })
        }
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
    checked(world, &tenant, etag)?;
    let left = [
        ("users", world.users.iter().any(|((of, _), _)| *of == tenant)),
        ("templates", world.templates.iter().any(|((of, _), _)| *of == tenant)),
        ("desktops", world.tenant_desktops.contains_key(&tenant)),
        ("pools", world.pools_of(&tenant).next().is_some()),
        ("groups", world.groups_of(&tenant).next().is_some()),
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
    let branded = world.brandings.contains_key(&tenant);
    let branding = branded.then(|| Step::Delete(Key::Branding(tenant.clone())));
    let rule = host_rules::without(world, &tenant, RuleTarget::Tenant);
    let mut steps: Vec<Step> = rule.into_iter().chain(branding).collect();
    steps.push(Step::Delete(Key::Tenant(tenant)));
    Ok(Decided { answer: Answer::Done, steps })
}

/// A tenant that is as the caller saw it.
fn checked<'a>(world: &'a World, tenant: &TenantId, etag: &str) -> Result<&'a Tenant, Refusal> {
    let old = world.tenants.get(tenant).ok_or_else(|| Refusal::not_found("tenant", tenant))?;
    if !etag.is_empty() && etag != World::tenant_etag(old) {
        return Err(Refusal::EtagStale { kind: "tenant", id: tenant.to_string() });
    }
    Ok(old)
}
