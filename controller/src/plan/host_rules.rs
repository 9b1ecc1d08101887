//! Decisions on host rules.

use vidi_kit::ids::TenantId;

use super::decide::Decided;
use crate::model::host_rule::{HOST_RULES_MAX, Labels, RuleTarget};
use crate::model::{Answer, Key, Refusal, Row, Step, World};

/// Makes a rule, or takes it away when no labels are left. Desktops that have a host stay there.
pub(super) fn set(
    world: &World,
    tenant: TenantId,
    target: RuleTarget,
    labels: Labels,
) -> Result<Decided, Refusal> {
    if !world.tenants.contains_key(&tenant) {
        return Err(Refusal::not_found("tenant", tenant));
    }
    match &target {
        RuleTarget::Template(id) if world.template(&tenant, id).is_none() => {
            return Err(Refusal::not_found("template", id));
        }
        RuleTarget::Pool(id) if world.pool(&tenant, *id).is_none() => {
            return Err(Refusal::not_found("pool", id));
        }
        RuleTarget::Tenant | RuleTarget::Template(_) | RuleTarget::Pool(_) => {}
    }
    let known = world.host_rules.contains_key(&(tenant.clone(), target.clone()));
    if labels.is_empty() {
        let steps = known.then_some(Step::Delete(Key::HostRule(tenant, target)));
        return Ok(Decided { answer: Answer::Done, steps: steps.into_iter().collect() });
    }
    if !known && HOST_RULES_MAX <= world.host_rules.len() {
        return Err(Refusal::LimitExceeded { what: "host rules", limit: HOST_RULES_MAX });
    }
    Ok(Decided::rows(Answer::Done, [Row::HostRule(tenant, target, labels)]))
}

/// The step by which the rule of something goes with it.
pub(super) fn without(world: &World, tenant: &TenantId, target: RuleTarget) -> Option<Step> {
    let key = (tenant.clone(), target);
    world.host_rules.contains_key(&key).then(|| Step::Delete(Key::HostRule(key.0, key.1)))
}
