//! What a tenant may have at most, and how much of it there is.

use std::collections::BTreeMap;

use vidi_kit::ids::TenantId;

use super::resources::{DesktopSpec, Guest};
use super::world::World;

/// Memory charged for a desktop until it is measured, in tenths of its maximum.
const CHARGED_TENTHS: u64 = 7;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKind {
    /// Desktops that are not being destroyed.
    Desktops,
    /// Those that are wanted on.
    RunningDesktops,
    /// Virtual processors of those.
    Vcpus,
    /// Memory that those are charged, MiB.
    MemoryMib,
    /// Sessions that go on.
    Sessions,
}

impl QuotaKind {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::Desktops, Self::RunningDesktops, Self::Vcpus, Self::MemoryMib, Self::Sessions];

    /// As in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desktops => "desktops",
            Self::RunningDesktops => "running_desktops",
            Self::Vcpus => "vcpus",
            Self::MemoryMib => "memory_mib",
            Self::Sessions => "sessions",
        }
    }

    /// For people, behind "quota of".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Desktops => "desktops",
            Self::RunningDesktops => "running desktops",
            Self::Vcpus => "virtual processors",
            Self::MemoryMib => "MiB of memory",
            Self::Sessions => "sessions",
        }
    }
}

/// The limits of a tenant; what is not in it has none.
///
/// INVARIANT: with every commit each amount is <= its limit, or <= what it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The most of each.
    pub limits: BTreeMap<QuotaKind, u64>,
}

/// So much of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// See [`QuotaKind::Desktops`].
    pub desktops: u64,
    /// See [`QuotaKind::RunningDesktops`].
    pub running_desktops: u64,
    /// See [`QuotaKind::Vcpus`].
    pub vcpus: u64,
    /// See [`QuotaKind::MemoryMib`].
    pub memory_mib: u64,
    /// See [`QuotaKind::Sessions`].
    pub sessions: u64,
}

impl Amounts {
    /// Of one kind.
    pub const fn get(&self, kind: QuotaKind) -> u64 {
        match kind {
            QuotaKind::Desktops => self.desktops,
            QuotaKind::RunningDesktops => self.running_desktops,
            QuotaKind::Vcpus => self.vcpus,
            QuotaKind::MemoryMib => self.memory_mib,
            QuotaKind::Sessions => self.sessions,
        }
    }

    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            desktops: self.desktops.saturating_add(other.desktops),
            running_desktops: self.running_desktops.saturating_add(other.running_desktops),
            vcpus: self.vcpus.saturating_add(other.vcpus),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            sessions: self.sessions.saturating_add(other.sessions),
        }
    }

    /// What a desktop counts for; `guest` is its version's machine, none where that is gone.
    pub fn of_desktop(spec: &DesktopSpec, guest: Option<&Guest>) -> Self {
        if spec.deleting {
            return Self::default();
        }
        let off = Self { desktops: 1, ..Self::default() };
        if spec.power_on { off.plus(Self::of_running(guest, 1)) } else { off }
    }

    /// What so many desktops that are on count for beside their being there.
    pub fn of_running(guest: Option<&Guest>, count: u64) -> Self {
        let vcpus = guest.map_or(0, |guest| u64::from(guest.vcpus));
        let memory_mib = guest.map_or(0, |guest| charged_mib(guest.memory_mib));
        Self {
            running_desktops: count,
            vcpus: vcpus.saturating_mul(count),
            memory_mib: memory_mib.saturating_mul(count),
            ..Self::default()
        }
    }
}

/// Memory charged for a desktop of this maximum, MiB.
pub fn charged_mib(memory_mib: u32) -> u64 {
    (u64::from(memory_mib) * CHARGED_TENTHS).div_ceil(10)
}

impl World {
    /// What a tenant has of all that a quota limits.
    pub fn quota_used(&self, tenant: &TenantId) -> Amounts {
        let index = &self.tenant_index;
        let kept = Amounts {
            desktops: index.desktops(tenant),
            sessions: index.sessions(tenant),
            ..Amounts::default()
        };
        index.running(tenant).fold(kept, |sum, (template, digest, count)| {
            let version = self.version(tenant, template, digest);
            sum.plus(Amounts::of_running(version.map(|one| &one.manifest.guest), count))
        })
    }

    /// The limits of a tenant, if it has any.
    pub fn quota(&self, tenant: &TenantId) -> Option<&Quota> {
        let quota = &self.tenants.get(tenant)?.quota;
        (!quota.limits.is_empty()).then_some(quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_tenths_are_charged_rounded_up() {
        assert_eq!(charged_mib(1_024), 717);
        assert_eq!(charged_mib(64), 45);
    }
}
