//! What an agent's link tells its host: the desktops it must have, the sessions that may be attached.

use std::sync::Arc;

use vidi_kit::ids::{DesktopId, HostId, SessionId, TenantId};

use super::doubt;
use crate::model::{Desktop, TemplateVersion, World};

/// A desktop that a host must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedDesktop {
    /// Which.
    pub id: DesktopId,
    /// Its tenant.
    pub tenant: TenantId,
    /// As it is kept.
    pub desktop: Arc<Desktop>,
    /// Its template's version; none when that is gone.
    pub version: Option<Arc<TemplateVersion>>,
}

/// A session whose grants are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// Which.
    pub session: SessionId,
    /// On which desktop.
    pub desktop: DesktopId,
    /// Grants below this are not good.
    pub epoch: u64,
}

/// All desktops that a host is told of, in the order of their ids; those that are being deleted too:
/// absence is no order.
pub fn wanted(world: &World, host: &HostId) -> Vec<WantedDesktop> {
    world
        .allocations_of(host)
        .filter_map(|(id, allocation)| {
            let tenant = allocation.tenant.clone();
            let desktop = Arc::clone(world.desktop(&tenant, id)?);
            let spec = &desktop.spec;
            if doubt::is_left_alone(spec) {
                return None;
            }
            let version = world.version(&tenant, &spec.template, &spec.template_digest).cloned();
            Some(WantedDesktop { id, tenant, version, desktop })
        })
        .collect()
}

/// Desktops that nobody here knows and that a host is told to destroy.
pub fn removals(world: &World, host: &HostId) -> Vec<DesktopId> {
    let removing = world.hosts.get(host).into_iter().flat_map(|one| &one.removing);
    let placed = |id: &DesktopId| world.allocations.contains_key(&(host.clone(), *id));
    removing.filter(|id| !placed(id)).copied().collect()
}

/// All sessions that may be attached on a host.
pub fn live_sessions(world: &World, host: &HostId) -> Vec<LiveSession> {
    world
        .allocations_of(host)
        .filter_map(|(desktop, allocation)| {
            let session = world.desktop(&allocation.tenant, desktop)?.status.session?;
            let record = world.session(&allocation.tenant, session)?;
            record.is_live().then_some(LiveSession { session, desktop, epoch: record.epoch })
        })
        .collect()
}
