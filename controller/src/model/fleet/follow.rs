//! How the world keeps its fleet: with each row and all news that a placement hangs on.

use std::sync::Arc;

use vidi_kit::ids::{DesktopId, HostId, TenantId};

use super::Load;
use crate::model::host::HostLive;
use crate::model::host_rule::Labels;
use crate::model::map::Map;
use crate::model::resources::Host;
use crate::model::world::World;

/// Hosts as they are linked: read by everybody, changed by the world alone, because the fleet follows them.
#[derive(Clone, Debug, Default)]
pub struct HostsLive {
    hosts: Map<HostId, HostLive>,
}

impl std::ops::Deref for HostsLive {
    type Target = Map<HostId, HostLive>;

    fn deref(&self) -> &Self::Target {
        &self.hosts
    }
}

impl World {
    /// News of a host's link.
    pub fn set_host_live(&mut self, host: HostId, live: HostLive) {
        self.hosts_live.hosts.insert(host.clone(), live);
        self.follow_host(&host);
    }

    /// A host's link as if it never had been.
    pub fn remove_host_live(&mut self, host: &HostId) {
        self.hosts_live.hosts.remove(host);
        self.follow_host(host);
    }

    /// A host's record changes.
    pub(in crate::model) fn keep_host(&mut self, host: HostId, one: Host) {
        let labels = one.labels.clone();
        let before = self.hosts.insert(host.clone(), one);
        self.follow_host(&host);
        let before = before.map(|before| before.labels.clone()).unwrap_or_default();
        self.fleet.label(&host, &before, &labels);
    }

    /// A host's record goes, with what is known of its link.
    pub(in crate::model) fn forget_host(&mut self, host: &HostId) {
        if let Some(before) = self.hosts.remove(host) {
            self.fleet.label(host, &before.labels, &Labels::new());
        }
        self.remove_host_live(host);
    }

    /// A desktop that there is not, for questions about what would be: its charge and its load only, MiB.
    pub fn suppose(&mut self, load: Load<'_>, charge_mib: u64) {
        self.fleet.charge(load.host, 0, charge_mib);
        self.fleet.load(None, Some(load));
    }

    /// As if a desktop had no host, for the same questions.
    pub fn suppose_without(&mut self, tenant: &TenantId, id: DesktopId) {
        let Some(desktop) = self.desktop(tenant, id).map(Arc::clone) else { return };
        let Some(host) = &desktop.status.host else { return };
        let charge_mib = self.allocations.get(&(host.clone(), id)).map_or(0, |one| one.memory_mib);
        self.fleet.load(Load::of(tenant, &desktop), None);
        self.fleet.charge(host, charge_mib, 0);
    }

    fn follow_host(&mut self, host: &HostId) {
        let kept = self.hosts.get(host).map(Arc::clone);
        let live = self.hosts_live.get(host).map(Arc::clone);
        self.fleet.follow(host, kept.as_deref(), live.as_deref());
    }
}
