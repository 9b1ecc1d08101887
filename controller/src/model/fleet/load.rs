//! What a desktop is to its host beside its charge, and how many of one kind are where.

use vidi_kit::ids::{HostId, PoolId, TemplateId, TenantId};

use super::sparse::{PIECE, Sparse};
use crate::model::power::Power;
use crate::model::resources::Desktop;

/// How many desktops of one kind are where.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    hosts: Sparse<u16>,
    all: u32,
}

impl Spread {
    /// Counts of 64 hosts; none where there never was one.
    #[inline]
    pub fn piece(&self, number: usize) -> Option<&[u16; PIECE]> {
        self.hosts.piece(number)
    }

    /// On one host.
    pub fn on(&self, slot: u32) -> u16 {
        self.hosts.get(slot)
    }

    /// On all hosts.
    pub const fn all(&self) -> u32 {
        self.all
    }

    pub(super) fn count(&mut self, slot: u32, more: bool) {
        self.hosts.change(slot, |count| counted(count, more));
        self.all = if more { self.all + 1 } else { self.all.saturating_sub(1) };
    }
}

pub(super) fn counted(count: &mut u16, more: bool) {
    *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
}

/// How many desktops of one pool are where.
#[derive(Clone, Debug, Default)]
pub struct PoolSpread {
    /// By host.
    pub hosts: Spread,
    /// By the number of the failure domain.
    pub domains: Sparse<u32>,
}

/// What a desktop is to its host beside its charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load<'a> {
    /// Where.
    pub host: &'a HostId,
    /// Whose.
    pub tenant: &'a TenantId,
    /// Of which template.
    pub template: &'a TemplateId,
    /// Of which pool, if of one.
    pub pool: Option<PoolId>,
    /// It is on its way up.
    pub starting: bool,
}

impl<'a> Load<'a> {
    /// Of a desktop that has a host.
    pub fn of(tenant: &'a TenantId, desktop: &'a Desktop) -> Option<Self> {
        let Desktop { spec, status } = desktop;
        let on_its_way = match status.power {
            Power::Preparing | Power::Off | Power::Starting | Power::Saved => true,
            Power::Running | Power::Failed(_) => false,
        };
        Some(Self {
            host: status.host.as_ref()?,
            tenant,
            template: &spec.template,
            pool: spec.pool,
            starting: on_its_way && spec.host_power_on() && !spec.deleting,
        })
    }
}
