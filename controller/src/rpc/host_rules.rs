//! Host rules on the wire.

use std::ops::Bound;

use tonic::Status;
use vidi_kit::ids::TenantId;
use vidi_proto::v1 as wire;

use super::names;
use super::page::Query;
use super::wire::child;
use crate::model::World;
use crate::model::host_rule::RuleTarget;

/// Whose desktops a rule is for, by the name of the resource.
pub(super) fn target(field: &str, name: &str) -> Result<(TenantId, RuleTarget), Status> {
    if name.contains("/templates/") {
        let (tenant, template) = child(field, name, "templates")?;
        return Ok((tenant, RuleTarget::Template(template)));
    }
    if name.contains("/pools/") {
        let (tenant, pool) = child(field, name, "pools")?;
        return Ok((tenant, RuleTarget::Pool(pool)));
    }
    Ok((names::tenant(field, name)?, RuleTarget::Tenant))
}

/// A page of all rules.
pub(super) fn list(
    world: &World,
    asked: &wire::ListHostRulesRequest,
) -> Result<wire::ListHostRulesResponse, Status> {
    let query = Query::new("host rules", "", asked.page_size, &asked.page_token)?;
    let after = query.after.as_deref().map(|after| target("page_token", after)).transpose()?;
    let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let found: Vec<_> = world.host_rules.from(start).take(query.size + 1).collect();
    let next_page_token = query.next(&found, |((tenant, target), _)| target.name(tenant));
    let rules =
        found.into_iter().take(query.size).map(|((tenant, target), labels)| wire::HostRule {
            target: target.name(tenant),
            labels: labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        });
    Ok(wire::ListHostRulesResponse { rules: rules.collect(), next_page_token })
}
