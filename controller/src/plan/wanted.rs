//! What an agent's link tells its host: the desktops it must have, the sessions that may be attached.

use std::sync::Arc;

use vidi_kit::ids::{DesktopId, HostId, SessionId, TenantId};

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
    /// Its template's version.
    pub version: Arc<TemplateVersion>,
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

/// All desktops that a host must have, in the order of their ids; what is being deleted is not among
/// them.
pub fn wanted(world: &World, host: &HostId) -> Vec<WantedDesktop> {
    world
        .allocations_of(host)
        .filter_map(|(id, allocation)| {
            let tenant = allocation.tenant.clone();
            let desktop = Arc::clone(world.desktop(&tenant, id)?);
            if desktop.spec.deleting {
                return None;
            }
            let spec = &desktop.spec;
            let version = world.version(&tenant, &spec.template, &spec.template_digest)?;
            Some(WantedDesktop { id, tenant, version: Arc::clone(version), desktop })
        })
        .collect()
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
