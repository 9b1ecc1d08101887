//! What is known of hosts and gateways only while they are linked; it never reaches the store.

use std::collections::{BTreeMap, BTreeSet};

use vidi_kit::ids::{DesktopId, SessionId};

use super::power::Power;

/// What an agent says when it links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostHello {
    /// Version of the agent.
    pub agent_version: String,
    /// The machine's own name.
    pub hostname: String,
    /// `host:port` where gateways reach the relay.
    pub relay_address: String,
}

/// What an agent says of its host, each time all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostReport {
    /// Processors.
    pub cpus: u32,
    /// Memory of the machine, MiB.
    pub memory_total_mib: u64,
    /// Memory that could be given away, MiB.
    pub memory_available_mib: u64,
    /// "kvm" or "tcg"; empty while it is not known.
    pub acceleration: String,
    /// What is wrong, for people.
    pub problems: Vec<String>,
    /// Version of libvirt.
    pub libvirt_version: String,
    /// Version of QEMU.
    pub qemu_version: String,
    /// Free space for images and volumes, MiB.
    pub images_free_mib: u64,
    /// Desktops that its newest wanted set does not name.
    pub unknown: BTreeSet<DesktopId>,
    /// Domains of other installations or hosts.
    pub foreign: Vec<String>,
    /// It has a wanted set of its link: what that names and this does not have is not there.
    pub wanted_received: bool,
    /// Number of that set.
    pub wanted_number: u64,
    /// What runs or lies there.
    pub desktops: BTreeMap<DesktopId, Observed>,
}

/// A desktop as its host sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Generation of the wish that this reflects.
    pub generation: u64,
    /// Where its VM is.
    pub power: Power,
    /// This start's guest has answered and its first picture is drawn.
    pub ready: bool,
    /// What it waits for, for people.
    pub reason: String,
    /// "kvm" or "tcg".
    pub acceleration: String,
    /// How often it was started there.
    pub start_count: u64,
    /// When `power` began, ms since the epoch by the agent's measure of controller time; 0: not seen.
    pub since_ms: i64,
}

/// A host while this controller leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostLive {
    /// The link that speaks for it now; 0: none.
    pub link: u64,
    /// When it was last heard, ms since the epoch; when this controller began to lead before that.
    pub last_seen_ms: i64,
    /// No link for more than the grace time.
    pub silent: bool,
    /// Its greeting.
    pub hello: HostHello,
    /// Its newest report on the current link; none before the first.
    pub report: Option<HostReport>,
}

impl HostLive {
    /// Whether an agent is linked.
    pub const fn is_linked(&self) -> bool {
        self.link != 0
    }
}

/// A gateway while it is linked, and for a grace time after that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayLive {
    /// The link that speaks for it now; 0: none.
    pub link: u64,
    /// When it last said what it has, ms since the epoch.
    pub heard_ms: i64,
    /// The sessions that it has attached, each with its epoch.
    pub sessions: BTreeMap<SessionId, u64>,
    /// When somebody last touched keyboard or mouse in each of them, ms since the epoch.
    pub touched_ms: BTreeMap<SessionId, i64>,
    /// Where other gateways reach it, `host:port`; empty: not known.
    pub peer_address: String,
}
