//! Tenants' quotas: judged with the steps of a decision before they are taken, so that nothing that adds
//! to what a tenant has can be forgotten.

use vidi_kit::ids::TenantId;

use crate::model::quota::{Amounts, QuotaKind};
use crate::model::{DesktopSpec, Guest, Key, Refusal, Row, Step, World};
use crate::mutants::{self, Mutant};

/// Refuses steps that would take a tenant over its quota. What is over it already may stay and shrink.
pub fn check(world: &World, steps: &[Step]) -> Result<(), Refusal> {
    let mut judged: Option<&TenantId> = None;
    for tenant in steps.iter().filter_map(tenant_of) {
        // Nearly always all steps are of one tenant.
        if judged == Some(tenant) {
            continue;
        }
        judged = Some(tenant);
        check_tenant(world, tenant, steps)?;
    }
    Ok(())
}

fn check_tenant(world: &World, tenant: &TenantId, steps: &[Step]) -> Result<(), Refusal> {
    let Some(quota) = world.quota(tenant) else { return Ok(()) };
    let (mut more, mut less) = (Amounts::default(), Amounts::default());
    for step in steps.iter().filter(|step| tenant_of(step) == Some(tenant)) {
        let (before, after) = change_of(world, step);
        more = more.plus(after);
        less = less.plus(before);
    }
    let used = world.quota_used(tenant);
    for (kind, limit) in &quota.limits {
        let (used, more, less) = (used.get(*kind), more.get(*kind), less.get(*kind));
        let after = used.saturating_add(more).saturating_sub(less);
        if used < after && *limit < after && !mutants::on(Mutant::IgnoresQuota) {
            return Err(Refusal::QuotaExceeded { kind: *kind, limit: *limit, used });
        }
    }
    Ok(())
}

/// How many more desktops of such a machine a tenant may have that are on at once, and what limits it.
pub fn room(world: &World, tenant: &TenantId, guest: Option<&Guest>) -> (u64, Option<QuotaKind>) {
    let Some(quota) = world.quota(tenant) else { return (u64::MAX, None) };
    if mutants::on(Mutant::IgnoresQuota) {
        return (u64::MAX, None);
    }
    let used = world.quota_used(tenant);
    let each = Amounts { desktops: 1, ..Amounts::of_running(guest, 1) };
    let rooms = quota.limits.iter().filter_map(|(kind, limit)| {
        let room = limit.saturating_sub(used.get(*kind)).checked_div(each.get(*kind))?;
        Some((room, Some(*kind)))
    });
    rooms.min_by_key(|(room, _)| *room).unwrap_or((u64::MAX, None))
}

/// That a quota is used up, for people.
pub fn sentence(world: &World, tenant: &TenantId, kind: QuotaKind) -> String {
    let limit = world.quota(tenant).and_then(|quota| quota.limits.get(&kind)).copied();
    let limit = limit.unwrap_or_default();
    format!("the quota of {limit} {} is used up", kind.words())
}

/// Whose amounts a step may change.
fn tenant_of(step: &Step) -> Option<&TenantId> {
    match step {
        Step::Put(Row::Spec(tenant, ..) | Row::Session(tenant, ..))
        | Step::Delete(Key::Spec(tenant, _) | Key::Session(tenant, _)) => Some(tenant),
        Step::Put(_) | Step::Delete(_) => None,
    }
}

/// What a step takes away and what it adds.
fn change_of(world: &World, step: &Step) -> (Amounts, Amounts) {
    let one = |live: bool| Amounts { sessions: u64::from(live), ..Amounts::default() };
    let known_desktop = |tenant: &TenantId, id| {
        let before = world.desktop(tenant, id);
        before.map_or_else(Amounts::default, |known| amounts(world, tenant, &known.spec))
    };
    let known_session =
        |tenant: &TenantId, id| one(world.session(tenant, id).is_some_and(|known| known.is_live()));
    match step {
        Step::Put(Row::Spec(tenant, id, spec)) => {
            (known_desktop(tenant, *id), amounts(world, tenant, spec))
        }
        Step::Delete(Key::Spec(tenant, id)) => (known_desktop(tenant, *id), Amounts::default()),
        Step::Put(Row::Session(tenant, id, session)) => {
            (known_session(tenant, *id), one(session.is_live()))
        }
        Step::Delete(Key::Session(tenant, id)) => (known_session(tenant, *id), Amounts::default()),
        Step::Put(_) | Step::Delete(_) => (Amounts::default(), Amounts::default()),
    }
}

fn amounts(world: &World, tenant: &TenantId, spec: &DesktopSpec) -> Amounts {
    let version = world.version(tenant, &spec.template, &spec.template_digest);
    Amounts::of_desktop(spec, version.map(|version| &version.manifest.guest))
}
