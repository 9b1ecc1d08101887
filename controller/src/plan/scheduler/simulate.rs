//! What if: how many desktops of a template would fit, where, and what would become of them when a failure
//! domain is lost.

use std::collections::BTreeMap;

use vidi_kit::ids::HostId;

use super::explain::why_not;
use super::{Wanted, choose_of, required};
use crate::model::World;
use crate::model::fleet::{FailureDomain, Fleet, Load};

/// Desktops that one simulation places; each takes some microseconds.
pub const DESKTOPS_MAX: u32 = 10_000;
/// Failure domains whose loss is told of when none is named: those that weigh most.
const LOSSES_MAX: usize = 3;

/// What would come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// How many of them fit.
    pub placed: u32,
    /// Where, by host.
    pub hosts: BTreeMap<HostId, u32>,
    /// Why no more; empty: all of them fit.
    pub why_not: String,
    /// Failure domains that could be lost together afterwards, and all desktops would still fit.
    pub can_lose: usize,
    /// What would be lost with a failure domain.
    pub losses: Vec<Loss>,
}

/// What would be lost with a failure domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Which.
    pub domain: FailureDomain,
    /// The new desktops that would be in it.
    pub placed: u32,
    /// All desktops that would be in it, the new ones too.
    pub desktops: u32,
    /// Those of them for which there would be no room elsewhere.
    pub homeless: u32,
}

/// Places `count` desktops on a copy of the fleet, all of them up and running, and looks at the loss of
/// `domain`, or of the domains that weigh most.
pub fn simulate(
    world: &World,
    wanted: &Wanted<'_>,
    count: u32,
    domain: Option<&FailureDomain>,
) -> Simulation {
    // By the time that the last ones are made the first ones are up.
    let wanted = Wanted { starts: false, ..*wanted };
    let mut after = world.clone();
    let mut simulation = Simulation::default();
    let required = required(world, &wanted);
    for _ in 0..count.min(DESKTOPS_MAX) {
        let domains = world.limits.headroom_domains;
        let slot = choose_of(&after.fleet, domains, &wanted, &required);
        let Some(host) = slot.and_then(|slot| after.fleet.host(slot)).cloned() else {
            simulation.why_not = why_not(&after, &wanted);
            break;
        };
        let Wanted { tenant, template, pool, charge_mib, .. } = wanted;
        let load = Load { host: &host, tenant, template, pool, starting: false };
        after.suppose(load, charge_mib);
        simulation.placed += 1;
        *simulation.hosts.entry(host).or_default() += 1;
    }
    simulation.can_lose = after.fleet.can_lose();
    let fleet = &after.fleet;
    let domains: Vec<u32> = match domain {
        Some(domain) => fleet.domain_number(domain).into_iter().collect(),
        None => fleet.heaviest_domains().take(LOSSES_MAX).collect(),
    };
    let losses = domains.into_iter().filter_map(|number| {
        let domain = fleet.domain(number)?.clone();
        Some(loss(world, fleet, (&simulation, wanted.charge_mib), (number, domain)))
    });
    simulation.losses = losses.collect();
    simulation
}

/// The largest first, each into the first host that has room: as good as it can be done without moving others.
fn loss(
    world: &World,
    fleet: &Fleet,
    (simulation, charge_mib): (&Simulation, u64),
    (number, domain): (u32, FailureDomain),
) -> Loss {
    let mut lost_mib: Vec<u64> = Vec::new();
    let mut rooms_mib: Vec<u64> = Vec::new();
    let mut placed = 0;
    for (host, slot) in fleet.slots() {
        if fleet.of(slot, |piece| &piece.domain) != number {
            rooms_mib.push(fleet.of(slot, |piece| &piece.spare_mib).into());
            continue;
        }
        lost_mib.extend(world.allocations_of(host).map(|(_, one)| one.memory_mib));
        let new = simulation.hosts.get(host).copied().unwrap_or(0);
        lost_mib.extend((0..new).map(|_| charge_mib));
        placed += new;
    }
    lost_mib.sort_unstable_by(|one, other| other.cmp(one));
    let desktops = u32::try_from(lost_mib.len()).unwrap_or(u32::MAX);
    let mut homeless = 0;
    for charge_mib in lost_mib {
        match rooms_mib.iter_mut().find(|room_mib| charge_mib <= **room_mib) {
            Some(room_mib) => *room_mib -= charge_mib,
            None => homeless += 1,
        }
    }
    Loss { domain, placed, desktops, homeless }
}
