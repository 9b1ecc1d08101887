//! Where a desktop goes: a look at every host, hard filters first, then points; the same world gives the
//! same answer. What the points are is told in [`merit`](crate::model::fleet::merit).

mod explain;
mod scan;
mod simulate;
#[cfg(test)]
mod tests;

use vidi_kit::ids::{PoolId, TemplateId, TenantId};

pub use explain::{Considered, Obstacle, Points, considered, why_not};
pub use simulate::{DESKTOPS_MAX, Loss, Simulation, simulate};

use self::scan::Scan;
use crate::model::fleet::{Fleet, Headroom};
use crate::model::{Placed, World};

/// Desktops that are on their way up on one host: a boot reads as much as dozens of people who work.
pub const STARTING_MAX: u16 = 20;

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// Of which template.
    pub template: &'a TemplateId,
    /// Of which pool, if of one.
    pub pool: Option<PoolId>,
    /// Memory charged for it, MiB.
    pub charge_mib: u64,
    /// It is started at once.
    pub starts: bool,
}

/// The host for a desktop. The sentence that says why there is none holds nothing that changes by the
/// minute.
pub fn place(world: &World, wanted: &Wanted<'_>) -> Placed {
    let domains = world.limits.headroom_domains;
    let required = required(world, wanted);
    let chosen = choose_of(&world.fleet, domains, wanted, &required);
    let host = chosen.and_then(|slot| world.fleet.host(slot));
    host.cloned().ok_or_else(|| why_not(world, wanted))
}

/// The slot of the best host that can take it, such that this many failure domains may fail afterwards.
pub fn choose(fleet: &Fleet, domains: usize, wanted: &Wanted<'_>) -> Option<u32> {
    choose_of(fleet, domains, wanted, &[])
}

/// As [`choose`], of the hosts that have these labels.
pub fn choose_of(
    fleet: &Fleet,
    domains: usize,
    wanted: &Wanted<'_>,
    required: &[(String, String)],
) -> Option<u32> {
    if 0 < domains && !fleet.cut().covers(wanted.charge_mib) {
        // The largest or the smallest so far: what is sure of all hosts changes with it.
        let fleet = fleet.with_charge(wanted.charge_mib);
        return Scan::new(&fleet, fleet.headroom(domains), wanted, required).best();
    }
    Scan::new(fleet, fleet.headroom(domains), wanted, required).best()
}

/// The labels that a host must have.
fn required(world: &World, wanted: &Wanted<'_>) -> Vec<(String, String)> {
    world.required_labels(wanted.tenant, wanted.template, wanted.pool)
}

/// A fleet in which a charge is judged, and what it must keep free.
fn judging(fleet: &Fleet, domains: usize, charge_mib: u64) -> (Fleet, Headroom) {
    let covered = fleet.cut().covers(charge_mib);
    let fleet = if covered { fleet.clone() } else { fleet.with_charge(charge_mib) };
    let headroom = fleet.headroom(domains);
    (fleet, headroom)
}
