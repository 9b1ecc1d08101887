//! How much of what a tenant has, kept up to date with every row, so that no decision counts it anew.

use std::ops::Bound;

use vidi_kit::ids::{TemplateId, TenantId};

use super::map::Map;
use super::resources::{Desktop, DesktopSpec};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct TenantIndex {
    /// Desktops that are not being destroyed.
    desktops: Map<TenantId, u64>,
    /// Those that are wanted on, by digest and template of their version: what they count for hangs on that,
    /// which may be read later than they are.
    running: Map<(TenantId, String, String), Running>,
    /// Sessions that go on.
    sessions: Map<TenantId, u64>,
}

#[derive(Clone, Debug)]
struct Running {
    template: TemplateId,
    count: u64,
}

impl TenantIndex {
    /// Desktops of a tenant that are not being destroyed.
    pub fn desktops(&self, tenant: &TenantId) -> u64 {
        self.desktops.get(tenant).map_or(0, |count| **count)
    }

    /// Sessions of a tenant that go on.
    pub fn sessions(&self, tenant: &TenantId) -> u64 {
        self.sessions.get(tenant).map_or(0, |count| **count)
    }

    /// How many desktops of each version of a tenant's templates are wanted on.
    pub fn running<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = (&'a TemplateId, &'a str, u64)> {
        let first = (tenant.clone(), String::new(), String::new());
        let entries = self.running.from(Bound::Included(&first));
        entries
            .take_while(move |((of, _, _), _)| of == tenant)
            .map(|((_, digest, _), one)| (&one.template, digest.as_str(), one.count))
    }

    /// A desktop comes, changes or goes.
    pub(super) fn desktop(
        &mut self,
        tenant: &TenantId,
        old: Option<&Desktop>,
        new: Option<&Desktop>,
    ) {
        let (old, new) = (old.map(|one| &one.spec), new.map(|one| &one.spec));
        let is_alike = |one: &DesktopSpec, other: &DesktopSpec| {
            (one.deleting, one.power_on) == (other.deleting, other.power_on)
                && one.template_digest == other.template_digest
                && one.template == other.template
        };
        if let (Some(old), Some(new)) = (old, new)
            && is_alike(old, new)
        {
            return;
        }
        for (spec, more) in [(old, false), (new, true)] {
            let Some(spec) = spec.filter(|spec| !spec.deleting) else { continue };
            count(&mut self.desktops, tenant, more);
            if spec.power_on {
                self.count_running(tenant, spec, more);
            }
        }
    }

    /// A session begins or ends.
    pub(super) fn session(&mut self, tenant: &TenantId, was_live: bool, is_live: bool) {
        if was_live != is_live {
            count(&mut self.sessions, tenant, is_live);
        }
    }

    fn count_running(&mut self, tenant: &TenantId, spec: &DesktopSpec, more: bool) {
        let key = (tenant.clone(), spec.template_digest.clone(), spec.template.to_string());
        let before = self.running.get(&key).map_or(0, |one| one.count);
        match changed(before, more) {
            0 => drop(self.running.remove(&key)),
            count => {
                let template = spec.template.clone();
                self.running.insert(key, Running { template, count });
            }
        }
    }
}

fn count(counts: &mut Map<TenantId, u64>, tenant: &TenantId, more: bool) {
    match changed(counts.get(tenant).map_or(0, |count| **count), more) {
        // What is counted to none is not kept.
        0 => drop(counts.remove(tenant)),
        count => drop(counts.insert(tenant.clone(), count)),
    }
}

const fn changed(count: u64, more: bool) -> u64 {
    if more { count + 1 } else { count.saturating_sub(1) }
}
