//! When nothing goes wrong any more everything comes to rest: what that is, and what is still missing.

use std::collections::{BTreeMap, BTreeSet};

use vidi_controller::model::{Desktop, Power, UsageKind, World};
use vidi_kit::ids::DesktopId;

use crate::rollouts;
use crate::sim::{Sim, short, shorts};

/// Who begins or ends to use a desktop is counted right to this, ms.
const EDGE_MS: i64 = 5_000;
/// The same where nothing goes wrong but what guests do: the time from one look of an agent to the next,
/// and a report's way.
const GENTLE_EDGE_MS: i64 = 1_500;

/// What is not at rest; none when all is.
pub(crate) fn missing(sim: &Sim) -> Option<String> {
    let serving = sim.leader(&sim.dice("quiet"));
    let Some(serving) = serving else { return Some("I5: nobody leads".to_owned()) };
    let world = serving.handle.world();
    for host in sim.truth().machines.keys() {
        let live = world.hosts_live.get(host);
        let report = live.filter(|live| live.is_linked()).and_then(|live| live.report.as_ref());
        if !report.is_some_and(|report| report.wanted_received && report.unknown.is_empty()) {
            return Some(format!("I6: {host} has not told all that is on it"));
        }
    }
    if let Some((_, operation)) = world.operations.iter().find(|(_, one)| one.end.is_none()) {
        let (kind, desktop) = (operation.kind.as_str(), short(operation.desktop));
        return Some(format!("I5: {kind} of {desktop} goes on: {}", operation.stage));
    }
    if let Some(what) = rollouts::restless(&world) {
        return Some(what);
    }
    if let Some((session, _)) = world.live_sessions.iter().next() {
        return Some(format!("I5: session {} goes on", short(session)));
    }
    world
        .desktops
        .iter()
        .find_map(|((_, id), desktop)| restless(*id, desktop))
        .or_else(|| unready(&world, sim.now_ms()))
        .or_else(|| astray(sim, &world))
        .or_else(|| unlike_stored(sim, &world))
}

fn restless(id: DesktopId, desktop: &Desktop) -> Option<String> {
    let Desktop { spec, status } = desktop;
    let name = short(id);
    // A spare for which no host has room waits for one.
    if spec.pool.is_some() && status.host.is_none() && !status.reason.is_empty() {
        return None;
    }
    if spec.deleting || spec.restarting {
        return Some(format!("I5: {name} is on its way"));
    }
    if status.observed_generation != spec.generation {
        return Some(format!("I6: {name} is not yet as wanted: {}", status.reason));
    }
    let rests = match status.power {
        Power::Running => spec.power_on,
        Power::Off | Power::Saved => !spec.power_on,
        Power::Failed(_) => true,
        Power::Preparing | Power::Starting => false,
    };
    (!rests).then(|| format!("I6: {name} is {}, wanted on: {}", status.power.word(), spec.power_on))
}

/// Pools have the spares that they should have, where there is room.
fn unready(world: &World, now_ms: i64) -> Option<String> {
    let tenant = crate::sim::tenant();
    world.pools.iter().find_map(|((_, id), pool)| {
        let of_pool = || world.desktops.iter().filter(|(_, one)| one.spec.pool == Some(*id));
        let taken = of_pool().filter(|(_, one)| one.spec.assigned_user.is_some()).count();
        let ready = of_pool().filter(|((_, desktop), one)| {
            one.spec.assigned_user.is_none() && world.is_ready(one, *desktop)
        });
        let ready = ready.count();
        // One that was assigned may wait for a host, too.
        let waits = |one: &Desktop| one.status.host.is_none() && one.spec.assigned_user.is_none();
        let unplaced = of_pool().filter(|(_, one)| waits(one)).count();
        let size = pool.size_at(now_ms);
        let most = usize::try_from(size.max_desktops).unwrap();
        let expected = world.pool_expected(&tenant, *id, now_ms).filter(|_| pool.settings.forecast);
        let spare = expected.map_or(0, |expected| expected.spare).max(size.min_spare);
        let spare = usize::try_from(spare).unwrap();
        let wanted = spare.min(most.saturating_sub(taken));
        let waiting = world.pool_waiting_count(&tenant, *id);
        if pool.deleting || pool.suspended.is_some() || 0 < waiting {
            return Some(format!("I8: {id} is not at rest, {waiting} wait"));
        }
        (ready + unplaced != wanted)
            .then(|| format!("I8: {id} has {ready} of {wanted} spares, {unplaced} without a host"))
    })
}

/// Hosts have what is allocated, and nothing else.
fn astray(sim: &Sim, world: &World) -> Option<String> {
    let truth = sim.truth();
    for (host, machine) in &truth.machines {
        let is_made = |id: &DesktopId| {
            let desktop = world.desktop(&crate::sim::tenant(), *id);
            desktop.is_some_and(|one| one.status.power != Power::Off)
        };
        let allocated: BTreeSet<DesktopId> = world.allocations_of(host).map(|(id, _)| id).collect();
        let there: BTreeSet<DesktopId> = machine.domains.keys().copied().collect();
        let orphans: BTreeSet<_> = there.difference(&allocated).copied().collect();
        // What was never started has no volume.
        let ghosts = allocated.difference(&there).filter(|id| is_made(id)).copied();
        let ghosts: BTreeSet<_> = ghosts.collect();
        if !orphans.is_empty() || !ghosts.is_empty() {
            let (orphans, ghosts) = (shorts(&orphans), shorts(&ghosts));
            return Some(format!("I6: {host} has orphans {orphans} and ghosts {ghosts}"));
        }
        for (id, domain) in &machine.domains {
            let desktop = world.desktop(&crate::sim::tenant(), *id);
            let runs = desktop.is_some_and(|one| one.status.power == Power::Running);
            if runs != domain.runs() {
                return Some(format!(
                    "I6: {} runs {} and is said {runs}",
                    short(id),
                    domain.runs()
                ));
            }
        }
    }
    None
}

/// The leader's copy is what is stored.
fn unlike_stored(sim: &Sim, world: &World) -> Option<String> {
    let checker = sim.checker();
    let stored = &checker.world;
    let same = stored.desktops.iter().eq(world.desktops.iter())
        && stored.allocations.iter().eq(world.allocations.iter())
        && stored.usage.iter().eq(world.usage.iter())
        && stored.operations.iter().eq(world.operations.iter());
    (!same).then(|| "I12: the leader's copy is not what is stored".to_owned())
}

/// What was counted against what was so.
pub(crate) fn miscounted(sim: &Sim) -> Vec<String> {
    let (checker, truth, now_ms) = (sim.checker(), sim.truth(), sim.now_ms());
    let mut counted = BTreeMap::<(DesktopId, UsageKind), i64>::new();
    for (key, interval) in checker.world.usage.iter() {
        let end_ms = interval.end_ms.unwrap_or(now_ms);
        *counted.entry((key.desktop, key.kind)).or_default() += end_ms - key.start_ms;
    }
    let edge_ms = if sim.shape.gentle { GENTLE_EDGE_MS } else { EDGE_MS };
    let keys: BTreeSet<_> = counted.keys().chain(truth.went_on.keys()).copied().collect();
    let wrong = |(id, kind): (DesktopId, UsageKind)| {
        let (edges, true_ms) = truth.total(id, kind, now_ms);
        let counted_ms = counted.get(&(id, kind)).copied().unwrap_or(0);
        let own_ms = truth.doubt_ms.get(&(id, kind)).copied().unwrap_or(0);
        let doubt_ms = own_ms + truth.doubt_all_ms + (edges + 2) * edge_ms;
        (doubt_ms < (true_ms - counted_ms).abs()).then(|| {
            let name = short(id);
            format!("I7: {name} {kind:?} {true_ms} ms, counted {counted_ms}, doubt {doubt_ms}")
        })
    };
    keys.into_iter().filter_map(wrong).collect()
}
