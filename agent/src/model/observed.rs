//! What the agent tells the controller of this host.

use std::collections::BTreeSet;

use vidi_hypervisor::{Acceleration, HostFacts, HostVersions};
use vidi_kit::ids::DesktopId;

/// Everything, each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// The host's domains were listed since the agent's start.
    pub observed: bool,
    /// The hypervisor answered when it was last asked.
    pub hypervisor_answers: bool,
    /// Processors and memory.
    pub facts: HostFacts,
    /// How guests run; none while it is being found out.
    pub acceleration: Option<Acceleration>,
    /// What is wrong, for people.
    pub problems: BTreeSet<String>,
    /// libvirt and QEMU.
    pub versions: HostVersions,
    /// Space for images and overlays, MiB.
    pub images_free_mib: u64,
    /// Every desktop that the controller tells of and that is not wholly gone, by id.
    pub desktops: Vec<DesktopReport>,
    /// Own domains, overlays and records that the controller does not tell of: left as they are.
    pub unknown: BTreeSet<DesktopId>,
    /// Domains of other installations or hosts.
    pub foreign: BTreeSet<DesktopId>,
    /// The connection whose wanted set this reflects.
    pub wanted_connection: Option<u64>,
    /// Its number on that connection.
    pub wanted_number: u64,
}

/// One desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesktopReport {
    /// Which.
    pub id: DesktopId,
    /// Generation of the wanted desktop that this reflects.
    pub generation: u64,
    /// Its power.
    pub power: Power,
    /// Why, or what it waits for; may be empty.
    pub reason: String,
    /// This start's guest has answered and drawn.
    pub ready: bool,
    /// How it runs; none while it does not.
    pub acceleration: Option<Acceleration>,
    /// Starts so far on this host.
    pub start_count: u64,
    /// When `power` began, ms of `CLOCK_BOOTTIME`; none when this process did not see it begin.
    pub since_ms: Option<i64>,
}

/// The power machine of `docs/desktop-life.md`, without `saved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Images and overlay are being made.
    Preparing,
    /// No domain.
    Off,
    /// The domain is being started.
    Starting,
    /// The domain runs.
    Running,
    /// The start failed; `reason` says why.
    Failed,
}
