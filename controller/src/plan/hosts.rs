//! Decisions on hosts: label, cordon, drain, delete, remove what nobody here knows; and what a drain waits for.

use vidi_kit::ids::{DesktopId, HostId};

use super::decide::{Decided, View};
use super::users::unreachable_change;
use crate::model::{
    Answer, Change, Desktop, Host, HostLive, Key, Power, Refusal, Row, Step, World,
};

/// Lines that say what a drain waits for; a person reads them.
pub const BLOCKERS_MAX: usize = 100;
/// Unknown desktops that are being removed from one host at a time; they are in its one record.
pub const REMOVING_MAX: usize = 100;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    let world = view.world;
    let changed = |host: HostId, next: Host| {
        let same = world.hosts.get(&host).is_some_and(|before| **before == next);
        let rows = (!same).then_some(Row::Host(host, next));
        Ok(Decided::rows(Answer::Done, rows))
    };
    match change {
        Change::UpdateHost { host, etag, failure_domain, labels } => {
            let before = known(world, &host, &etag)?.clone();
            let failure_domain = failure_domain.unwrap_or_else(|| before.failure_domain.clone());
            let labels = labels.unwrap_or_else(|| before.labels.clone());
            changed(host, Host { failure_domain, labels, ..before })
        }
        Change::CordonHost { host, etag } => {
            let before = known(world, &host, &etag)?.clone();
            changed(host, Host { cordoned: true, ..before })
        }
        Change::UncordonHost { host, etag } => {
            let before = known(world, &host, &etag)?.clone();
            let (cordoned, draining, stop_in_use) = (false, false, false);
            changed(host, Host { cordoned, draining, stop_in_use, ..before })
        }
        Change::DrainHost { host, etag, stop_in_use } => {
            let before = known(world, &host, &etag)?.clone();
            changed(host, Host { cordoned: true, draining: true, stop_in_use, ..before })
        }
        Change::DeleteHost { host, etag } => delete(view, host, &etag),
        Change::RemoveUnknownDesktop { host, desktop } => remove_unknown(world, host, desktop),
        other => unreachable_change(&other),
    }
}

fn known<'a>(world: &'a World, host: &HostId, etag: &str) -> Result<&'a Host, Refusal> {
    let known = world.hosts.get(host).ok_or_else(|| Refusal::not_found("host", host))?;
    if !etag.is_empty() && etag != World::host_etag(known) {
        return Err(Refusal::EtagStale { kind: "host", id: host.to_string() });
    }
    Ok(known)
}

fn delete(view: View<'_>, host: HostId, etag: &str) -> Result<Decided, Refusal> {
    let world = view.world;
    known(world, &host, etag)?;
    let refused = |state: &str, remedy| {
        let (id, state) = (host.to_string(), state.to_owned());
        Err(Refusal::WrongState { kind: "host", id, state, remedy })
    };
    if world.hosts_live.get(&host).is_some_and(|live| live.is_linked()) {
        return refused("connected", "stop its agent first");
    }
    if world.allocations_of(&host).next().is_some() {
        return refused("not empty", "delete its desktops first, while its agent runs");
    }
    let steps =
        vec![Step::Put(Row::RemovedHost(host.clone(), view.now_ms)), Step::Delete(Key::Host(host))];
    Ok(Decided { answer: Answer::Done, steps })
}

fn remove_unknown(world: &World, host: HostId, desktop: DesktopId) -> Result<Decided, Refusal> {
    let before = known(world, &host, "")?;
    if before.removing.contains(&desktop) {
        return Ok(Decided::nothing(Answer::Done));
    }
    let live = world.hosts_live.get(&host).filter(|live| live.is_linked());
    let report = live.and_then(|live| live.report.as_ref());
    let report = report.ok_or_else(|| Refusal::HostUnreachable(host.clone()))?;
    let placed = world.allocations.contains_key(&(host.clone(), desktop));
    if placed || !report.unknown.contains(&desktop) {
        return Err(Refusal::not_found("unknown desktop", desktop));
    }
    if REMOVING_MAX <= before.removing.len() {
        let what = "desktops being removed from this host";
        return Err(Refusal::LimitExceeded { what, limit: REMOVING_MAX });
    }
    let mut next = before.clone();
    next.removing.insert(desktop);
    Ok(Decided::rows(Answer::Done, [Row::Host(host, next)]))
}

/// What follows for a host: a new one is kept from now on, and what was to be removed is forgotten when it
/// says that that is gone.
pub fn settle(world: &World, host: &HostId, now_ms: i64) -> Option<Step> {
    let live = world.hosts_live.get(host)?;
    let next = match world.hosts.get(host) {
        Some(one) => still_there(one, live)?,
        None if live.is_linked() => Host { create_ms: now_ms, ..Host::default() },
        None => return None,
    };
    Some(Step::Put(Row::Host(host.clone(), next)))
}

/// Hosts of which something may follow though nothing was heard of them just now: it was not committed then.
pub fn unsettled(world: &World) -> impl Iterator<Item = &HostId> {
    // Both in the order of their ids: there may be thousands.
    let mut kept = world.hosts.iter().map(|(host, _)| host).peekable();
    let mut is_new = move |host: &HostId| {
        while kept.next_if(|one| *one < host).is_some() {}
        kept.peek().is_none_or(|one| *one != host)
    };
    let new = world.hosts_live.iter().filter(move |(host, live)| is_new(host) && live.is_linked());
    let removing = world.hosts.iter().filter(|(_, one)| !one.removing.is_empty());
    new.map(|(host, _)| host).chain(removing.map(|(host, _)| host))
}

/// The host without what it does not have any more; none when nothing changes or is known.
fn still_there(one: &Host, live: &HostLive) -> Option<Host> {
    let report = live.report.as_ref().filter(|_| live.is_linked())?;
    if one.removing.is_empty() || !report.wanted_received {
        return None;
    }
    let mut next = one.clone();
    next.removing.retain(|id| report.unknown.contains(id) || report.desktops.contains_key(id));
    (next != *one).then_some(next)
}

/// The host that a desktop is on, while that is being drained.
pub fn draining<'a>(world: &'a World, desktop: &Desktop) -> Option<&'a Host> {
    let host = world.hosts.get(desktop.status.host.as_ref()?)?;
    host.draining.then_some(host)
}

/// Refuses to start a desktop whose host is being drained.
pub fn check_startable(world: &World, id: DesktopId, desktop: &Desktop) -> Result<(), Refusal> {
    if draining(world, desktop).is_none() {
        return Ok(());
    }
    Err(Refusal::WrongState {
        kind: "desktop",
        id: id.to_string(),
        state: "not to be started now, its host is being serviced".to_owned(),
        remedy: "try again later, or have the host uncordoned",
    })
}

/// What a drain of this host waits for, for people; empty when it is drained, or not draining.
pub fn drain_blockers(world: &World, host: &HostId) -> Vec<String> {
    if !world.hosts.get(host).is_some_and(|one| one.draining) {
        return Vec::new();
    }
    let mut blockers = Vec::new();
    let mut doubtful = 0_usize;
    let live = world.hosts_live.get(host).filter(|live| live.is_linked());
    let report = live.and_then(|live| live.report.as_ref());
    for (id, allocation) in world.allocations_of(host) {
        let Some(desktop) = world.desktop(&allocation.tenant, id) else { continue };
        let name = format!("desktop \"{}\" ({id})", desktop.spec.display_name);
        let session = desktop.status.session;
        let session = session.and_then(|session| world.session(&allocation.tenant, session));
        if let Some(session) = session.filter(|one| one.is_live()) {
            blockers.push(format!("{name} is in use by {}", session.user));
        } else if is_off(desktop) {
            continue;
        } else if report.is_none() {
            doubtful += 1;
        } else if desktop.spec.deleting {
            blockers.push(format!("{name} is being destroyed"));
        } else {
            blockers.push(format!("{name} is stopping"));
        }
    }
    if 0 < doubtful {
        let text = format!(
            "the host is not connected: whether {doubtful} of its desktops are off is not known"
        );
        blockers.insert(0, text);
    }
    for id in report.iter().flat_map(|report| &report.unknown) {
        blockers.push(format!("desktop {id} is unknown to the controller and may run there"));
    }
    if BLOCKERS_MAX < blockers.len() {
        let more = blockers.len() - (BLOCKERS_MAX - 1);
        blockers.truncate(BLOCKERS_MAX - 1);
        blockers.push(format!("and {more} more"));
    }
    blockers
}

/// Its host has said so, for the newest wish, and that is no other.
fn is_off(desktop: &Desktop) -> bool {
    let answered = desktop.spec.generation <= desktop.status.observed_generation;
    let rests = matches!(desktop.status.power, Power::Off | Power::Saved | Power::Failed(_));
    answered && rests && !desktop.spec.power_on && !desktop.spec.deleting
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use uuid::Uuid;

    use super::*;
    use crate::model::{HostReport, Observed};

    const NOW_MS: i64 = 1_000_000;

    fn host() -> HostId {
        "h".parse().unwrap()
    }

    fn world() -> World {
        let mut world = World::default();
        world.put(Row::Host(host(), Host { create_ms: 7, ..Host::default() }));
        world
    }

    fn report(world: &mut World, unknown: &[DesktopId], told: &[DesktopId]) {
        let desktops: BTreeMap<_, _> = told.iter().map(|id| (*id, Observed::default())).collect();
        let unknown: BTreeSet<_> = unknown.iter().copied().collect();
        let report =
            HostReport { unknown, desktops, wanted_received: true, ..HostReport::default() };
        let live = HostLive { link: 1, report: Some(report), ..HostLive::default() };
        world.set_host_live(host(), live);
    }

    fn ask(world: &mut World, change: Change) -> Result<usize, Refusal> {
        let (new_id, new_operation) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let view = View { world, now_ms: NOW_MS, trace: None, new_id, new_operation };
        let decided = decide(view, change)?;
        let count = decided.steps.len();
        decided.steps.into_iter().for_each(|step| world.apply(step));
        Ok(count)
    }

    fn wrong_state(result: Result<usize, Refusal>, wanted: &str) {
        let refusal = result.unwrap_err();
        assert!(
            matches!(&refusal, Refusal::WrongState { state, .. } if state == wanted),
            "{refusal}"
        );
    }

    #[test]
    fn a_drain_cordons_and_an_uncordon_takes_both_back() {
        let mut world = world();
        let (host, etag) = (host(), String::new());
        let before = World::host_etag(&world.hosts.get(&host).unwrap().clone());
        let drain =
            Change::DrainHost { host: host.clone(), etag: before.clone(), stop_in_use: true };
        assert_eq!(ask(&mut world, drain.clone()), Ok(1));
        let one = world.hosts.get(&host).unwrap().clone();
        assert!(one.cordoned && one.draining && one.stop_in_use && one.create_ms == 7);
        let stale = ask(&mut world, drain).unwrap_err();
        assert!(matches!(stale, Refusal::EtagStale { .. }), "{stale}");
        let cordon = Change::CordonHost { host: host.clone(), etag: etag.clone() };
        assert_eq!(ask(&mut world, cordon), Ok(0), "it is cordoned; the drain goes on");
        assert!(world.hosts.get(&host).unwrap().draining);
        let uncordon = Change::UncordonHost { host: host.clone(), etag };
        assert_eq!(ask(&mut world, uncordon), Ok(1));
        assert_eq!(World::host_etag(world.hosts.get(&host).unwrap()), before);
    }

    #[test]
    fn only_a_host_that_is_away_and_empty_is_deleted_and_does_not_come_back_by_itself() {
        let mut world = world();
        let delete = Change::DeleteHost { host: host(), etag: String::new() };
        report(&mut world, &[], &[]);
        wrong_state(ask(&mut world, delete.clone()), "connected");
        let mut live = HostLive::clone(world.hosts_live.get(&host()).unwrap());
        live.link = 0;
        world.set_host_live(host(), live);
        let allocation = crate::model::Allocation { tenant: "t".parse().unwrap(), memory_mib: 1 };
        let id = DesktopId::generate();
        world.put(Row::Allocation(host(), id, allocation));
        wrong_state(ask(&mut world, delete.clone()), "not empty");
        world.delete(&Key::Allocation(host(), id));
        assert_eq!(ask(&mut world, delete), Ok(2));
        assert!(world.hosts.is_empty() && world.hosts_live.is_empty());
        assert_eq!((settle(&world, &host(), NOW_MS), unsettled(&world).next()), (None, None));
        // A certificate begins 5 min before it is made, in whole seconds.
        assert!(world.is_host_removed(&host(), NOW_MS - 310_000));
        assert!(!world.is_host_removed(&host(), NOW_MS - 300_000));
        assert!(!world.is_host_removed(&"other".parse().unwrap(), 0));
    }

    #[test]
    fn an_unknown_desktop_is_removed_only_when_asked_for_and_until_its_host_has_none() {
        let mut world = world();
        let (one, other) = (DesktopId::generate(), DesktopId::generate());
        let remove = |desktop| Change::RemoveUnknownDesktop { host: host(), desktop };
        let away = ask(&mut world, remove(one)).unwrap_err();
        assert!(matches!(away, Refusal::HostUnreachable(_)), "{away}");
        report(&mut world, &[one], &[other]);
        let known = ask(&mut world, remove(other)).unwrap_err();
        assert!(matches!(known, Refusal::NotFound { .. }), "{known}");
        assert_eq!(ask(&mut world, remove(one)), Ok(1));
        assert_eq!(ask(&mut world, remove(one)), Ok(0), "once is enough");
        assert_eq!(settle(&world, &host(), NOW_MS), None);
        assert_eq!(unsettled(&world).collect::<Vec<_>>(), [&host()], "it is looked at again");
        report(&mut world, &[], &[one]);
        assert_eq!(settle(&world, &host(), NOW_MS), None, "it is being removed");
        report(&mut world, &[], &[]);
        let step = settle(&world, &host(), NOW_MS).unwrap();
        world.apply(step);
        assert!(world.hosts.get(&host()).unwrap().removing.is_empty());
        assert_eq!(unsettled(&world).next(), None);
    }

    #[test]
    fn a_host_that_links_is_kept_from_then_on() {
        let mut world = World::default();
        let host = host();
        world.set_host_live(host.clone(), HostLive { link: 1, ..HostLive::default() });
        assert_eq!(unsettled(&world).collect::<Vec<_>>(), [&host]);
        let step = settle(&world, &host, NOW_MS).unwrap();
        world.apply(step);
        assert_eq!(world.hosts.get(&host).unwrap().create_ms, NOW_MS);
        assert_eq!((settle(&world, &host, NOW_MS), unsettled(&world).next()), (None, None));
    }
}
