//! What the scheduler knows of 64 hosts, an array of each thing; and what follows from a host's facts.
#![expect(clippy::indexing_slicing, reason = "`split` gives indexes below the arrays' length")]

use super::headroom::{Cut, Part};
use super::merit;
use super::sparse::PIECE;
use crate::model::host::HostLive;
use crate::model::resources::Host;

/// Of a host's memory, in hundredths: what may be charged; the rest is the host's own.
const CHARGEABLE_PERCENT: u64 = 95;
/// The half of [`HostPiece::points`] that decides between equals.
pub(super) const RANK: u64 = u32::MAX as u64;

/// What is known of 64 hosts, an array of each thing.
#[derive(Clone, Debug)]
pub struct HostPiece {
    /// Memory that a host can still be charged with, MiB; nothing where nothing may be placed.
    pub room_mib: [u32; PIECE],
    /// Points ([`merit`]) in the upper half; in the lower one what decides between equals: the host whose
    /// name comes first has the most.
    pub points: [u64; PIECE],
    /// Desktops that are on their way up.
    pub starting: [u16; PIECE],
    /// The number of the failure domain.
    pub domain: [u32; PIECE],
    /// Memory not charged yet where desktops may be placed, however much is really available, MiB.
    pub spare_mib: [u32; PIECE],
    /// The rest, which only explanations read.
    pub facts: [Facts; PIECE],
}

/// What a host is to the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where it stands.
    pub state: HostState,
    /// Its grace time is over and nobody took it out of service: it is lost.
    pub lost: bool,
    /// What may be charged, MiB.
    pub chargeable_mib: u32,
    /// Charged, MiB.
    pub charged_mib: u32,
    /// What it has, MiB.
    pub total_mib: u32,
    /// What is really available, MiB.
    pub available_mib: u32,
    /// Desktops placed there.
    pub desktops: u32,
}

/// Whether anything may be placed on a host, and if not, why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostState {
    /// It is not kept, or not any more.
    #[default]
    Unknown,
    /// Something may be placed there.
    Open,
    /// It is cordoned.
    Cordoned,
    /// It is being drained.
    Draining,
    /// No agent is linked.
    Away,
    /// Its agent has not reported yet.
    Unreported,
    /// It is not known how it runs guests.
    Unable,
}

impl Default for HostPiece {
    fn default() -> Self {
        Self {
            room_mib: [0; PIECE],
            points: [0; PIECE],
            starting: [0; PIECE],
            domain: [0; PIECE],
            spare_mib: [0; PIECE],
            facts: [Facts::default(); PIECE],
        }
    }
}

impl HostPiece {
    /// What follows from the facts.
    pub(super) fn conclude(&mut self, at: usize) {
        let facts = self.facts[at];
        let open = facts.state == HostState::Open;
        let spare_mib = facts.chargeable_mib.saturating_sub(facts.charged_mib);
        self.spare_mib[at] = if open { spare_mib } else { 0 };
        self.room_mib[at] = self.spare_mib[at].min(facts.available_mib);
        let points = merit::BASE + merit::packing(facts.charged_mib, facts.chargeable_mib);
        let against = merit::starting(self.starting[at])
            + merit::pressure(facts.available_mib, facts.total_mib);
        let points = u64::from(points.saturating_sub(against));
        self.points[at] = points << 32 | self.points[at] & RANK;
    }

    pub(super) fn part(&self, at: usize, cut: Cut) -> Part {
        let facts = self.facts[at];
        Part {
            domain: self.domain[at],
            charged_mib: if facts.lost { 0 } else { facts.charged_mib.into() },
            sure_mib: cut.sure_mib(self.spare_mib[at].into()),
            lost: facts.lost,
            open: facts.state == HostState::Open,
        }
    }
}

/// What a host is by its record and its news.
pub(super) fn facts_of(kept: Option<&Host>, live: Option<&HostLive>) -> Facts {
    let Some(kept) = kept else { return Facts::default() };
    let linked = live.filter(|live| live.is_linked());
    let report = linked.and_then(|live| live.report.as_ref());
    let state = match report {
        _ if kept.draining => HostState::Draining,
        _ if kept.cordoned => HostState::Cordoned,
        None if linked.is_none() => HostState::Away,
        None => HostState::Unreported,
        Some(report) if report.acceleration.is_empty() => HostState::Unable,
        Some(_) => HostState::Open,
    };
    let total_mib = report.map_or(0, |report| report.memory_total_mib);
    Facts {
        state,
        lost: !kept.cordoned && live.is_some_and(|live| live.silent),
        chargeable_mib: short(total_mib.saturating_mul(CHARGEABLE_PERCENT) / 100),
        total_mib: short(total_mib),
        available_mib: short(report.map_or(0, |report| report.memory_available_mib)),
        ..Facts::default()
    }
}

/// More than 4 PiB counts as that.
pub(super) fn short(mib: u64) -> u32 {
    u32::try_from(mib).unwrap_or(u32::MAX)
}
