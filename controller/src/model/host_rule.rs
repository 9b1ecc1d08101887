//! Host rules: which labels a host must have that takes the desktops of a tenant, a template or a pool.

use std::collections::BTreeMap;

use vidi_kit::ids::{PoolId, TemplateId, TenantId};

use super::world::World;

/// Rules of one installation: each is looked up with every placement, and all are listed to operators.
pub const HOST_RULES_MAX: usize = 10_000;

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// Whose desktops a rule is for, of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleTarget {
    /// All of the tenant's.
    Tenant,
    /// Those of a template.
    Template(TemplateId),
    /// Those of a pool.
    Pool(PoolId),
}

impl RuleTarget {
    /// The resource of a tenant that it is.
    pub fn name(&self, tenant: &TenantId) -> String {
        match self {
            Self::Tenant => format!("tenants/{tenant}"),
            Self::Template(id) => format!("tenants/{tenant}/templates/{id}"),
            Self::Pool(id) => format!("tenants/{tenant}/pools/{id}"),
        }
    }
}

impl World {
    /// The labels that a host must have for a desktop of this template and pool: what all of the rules say.
    /// Where two want different values of one key no host will do.
    pub fn required_labels(
        &self,
        tenant: &TenantId,
        template: &TemplateId,
        pool: Option<PoolId>,
    ) -> Vec<(String, String)> {
        // Nearly no installation has rules.
        if self.host_rules.is_empty() {
            return Vec::new();
        }
        let targets = [RuleTarget::Tenant, RuleTarget::Template(template.clone())];
        let targets = targets.into_iter().chain(pool.map(RuleTarget::Pool));
        let rules = targets.filter_map(|target| self.host_rules.get(&(tenant.clone(), target)));
        let mut required: Vec<(String, String)> = rules
            .flat_map(|rule| rule.iter().map(|(key, value)| (key.clone(), value.clone())))
            .collect();
        required.sort();
        required.dedup();
        required
    }

    /// The rules of a tenant.
    pub fn host_rules_of<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = &'a RuleTarget> {
        let first = (tenant.clone(), RuleTarget::Tenant);
        let rules = self.host_rules.from(std::ops::Bound::Included(&first));
        rules.take_while(move |((of, _), _)| of == tenant).map(|((_, target), _)| target)
    }
}
