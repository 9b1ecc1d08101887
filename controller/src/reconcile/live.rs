//! News of links, which only memory holds: taken at once, never refused by the store.

use std::collections::BTreeMap;
use std::time::Duration;

use vidi_kit::ids::{DesktopId, GatewayId, HostId, SessionId, TenantId};

use crate::model::{
    Answer, Change, GatewayLive, HostHello, HostLive, HostReport, Observed, Place, Refusal, Row,
    World,
};
use crate::plan::presence;

/// A host without a link for this long is shown as unreachable. Longer than an agent needs to find
/// the controller again after a restart of either.
pub(super) const HOST_GRACE: Duration = Duration::from_secs(15);

/// A controller that has just begun to lead hears of thousands of hosts one after the other. While hosts
/// come back, those that are missing are not judged; but not for longer than this.
const RETURN_SECS_MAX: Duration = Duration::from_secs(60);

/// A gateway whose link is lost is taken to have its sessions for this long; it dials again within
/// seconds, and the browsers know nothing of it.
pub(super) const GATEWAY_GRACE: Duration = Duration::from_secs(15);

/// Whether a change is news of a link.
pub(super) const fn is_news(change: &Change) -> bool {
    matches!(
        change,
        Change::HostLinked { .. }
            | Change::HostReported { .. }
            | Change::HostUnlinked { .. }
            | Change::GatewayPresence { .. }
            | Change::GatewayUnlinked { .. }
            | Change::Refused(_)
    )
}

/// Takes news into the world; other changes are left alone.
pub(super) fn take(world: &mut World, now_ms: i64, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::HostLinked { host, certified_ms, .. }
            if world.is_host_removed(&host, certified_ms) =>
        {
            return Err(Refusal::HostRemoved(host));
        }
        Change::HostLinked { host, link, hello, .. } => {
            linked(world, now_ms, host, (link, hello));
        }
        Change::HostReported { host, link, report } => {
            reported(world, now_ms, host, (link, *report))?;
        }
        Change::HostUnlinked { host, link } => unlinked(world, now_ms, &host, link),
        Change::GatewayPresence { gateway, link, sessions, idle_secs, peer_address } => {
            let known = world.gateways.get(&gateway).map_or(0, |live| live.link);
            if link < known {
                return Err(Refusal::LinkReplaced);
            }
            let touched_ms = |id: &SessionId| {
                let idle_secs = idle_secs.get(id).copied().unwrap_or(0);
                (*id, now_ms.saturating_sub(i64::from(idle_secs) * 1_000))
            };
            let touched_ms = sessions.keys().map(touched_ms).collect();
            let live = GatewayLive { link, heard_ms: now_ms, sessions, touched_ms, peer_address };
            present(world, now_ms, gateway, Some(live));
        }
        Change::GatewayUnlinked { gateway, link } => {
            let live = world.gateways.get(&gateway).filter(|live| live.link == link);
            if let Some(live) = live.map(|live| GatewayLive { link: 0, ..(**live).clone() }) {
                world.gateways.insert(gateway, live);
            }
        }
        _old_link_or_decided => {}
    }
    Ok(Answer::Done)
}

/// The host that news comes from and that is linked.
pub(super) const fn reporting_host(change: &Change) -> Option<&HostId> {
    match change {
        Change::HostLinked { host, .. } | Change::HostReported { host, .. } => Some(host),
        _decided_or_of_others => None,
    }
}

/// Hosts whose grace time is over are silent from now on. Of one that was never heard since this controller
/// leads it begins when the last one came back.
pub(super) fn judge_silence(world: &mut World, now_ms: i64) {
    let grace_ms = i64::try_from(HOST_GRACE.as_millis()).unwrap_or(i64::MAX);
    let return_ms = i64::try_from(RETURN_SECS_MAX.as_millis()).unwrap_or(i64::MAX);
    let started_ms = world.started_ms;
    let is_missing = grace_ms <= now_ms.saturating_sub(started_ms.max(world.returned_ms))
        || return_ms <= now_ms.saturating_sub(started_ms);
    let silent: Vec<HostId> = world
        .hosts
        .iter()
        .map(|(host, _)| host)
        .filter(|host| match world.hosts_live.get(*host) {
            Some(live) => {
                !live.is_linked()
                    && !live.silent
                    && grace_ms <= now_ms.saturating_sub(live.last_seen_ms)
            }
            None => is_missing,
        })
        .cloned()
        .collect();
    for host in silent {
        tracing::warn!(%host, "Host does not answer; its desktops are left as they are");
        let live = world.hosts_live.get(&host).map(|live| (**live).clone());
        let live = live.unwrap_or(HostLive { last_seen_ms: started_ms, ..HostLive::default() });
        world.set_host_live(host.clone(), HostLive { silent: true, ..live });
        touch_desktops(world, &host);
    }
}

/// Gateways whose grace time is over have nothing any more, since they were last heard.
pub(super) fn judge_gateways(world: &mut World, now_ms: i64) {
    let grace_ms = i64::try_from(GATEWAY_GRACE.as_millis()).unwrap_or(i64::MAX);
    let lost: Vec<(GatewayId, i64)> = world
        .gateways
        .iter()
        .filter(|(_, live)| live.link == 0 && grace_ms <= now_ms.saturating_sub(live.heard_ms))
        .map(|(gateway, live)| (gateway.clone(), live.heard_ms))
        .collect();
    for (gateway, heard_ms) in lost {
        tracing::warn!(%gateway, "Gateway does not answer; nobody is connected through it");
        present(world, heard_ms, gateway, None);
    }
}

/// Takes what presence makes of a session of this desktop or machine, if it has one.
pub(super) fn judge_session(world: &mut World, now_ms: i64, tenant: &TenantId, place: Place) {
    let session = match place {
        Place::Desktop(id) => world.desktop(tenant, id).and_then(|desktop| desktop.status.session),
        Place::Machine(id) => world.machine_holder(tenant, id).map(|(session, _)| session),
        // Who waits has nothing to attach.
        Place::Pool(_) => None,
    };
    if let Some(session) = session {
        judge(world, now_ms, session);
    }
}

fn linked(world: &mut World, now_ms: i64, host: HostId, (link, hello): (u64, HostHello)) {
    if world.hosts.contains_key(&host) && !world.hosts_live.contains_key(&host) {
        world.returned_ms = now_ms;
    }
    let live = HostLive { link, last_seen_ms: now_ms, silent: false, hello, report: None };
    world.set_host_live(host.clone(), live);
    touch_desktops(world, &host);
}

fn reported(
    world: &mut World,
    now_ms: i64,
    host: HostId,
    (link, report): (u64, HostReport),
) -> Result<(), Refusal> {
    let live = world.hosts_live.get(&host).filter(|live| live.link == link);
    let live = live.ok_or(Refusal::LinkReplaced)?;
    let mut live = HostLive::clone(live);
    live.last_seen_ms = now_ms;
    let old = live.report.replace(report);
    let changed = changed_desktops(old.as_ref(), live.report.as_ref());
    let ready_now = made_ready(old.as_ref(), live.report.as_ref(), &changed);
    let first = old.is_none_or(|old| !old.wanted_received);
    world.set_host_live(host.clone(), live);
    if first {
        touch_desktops(world, &host);
    } else {
        for id in changed {
            if let Some(tenant) = tenant_of(world, &host, id) {
                if ready_now.contains(&id) {
                    time_boot(world, now_ms, &tenant, id);
                }
                world.touch(tenant, id);
            }
        }
    }
    Ok(())
}

fn changed_desktops(old: Option<&HostReport>, new: Option<&HostReport>) -> Vec<DesktopId> {
    static NONE: BTreeMap<DesktopId, Observed> = BTreeMap::new();
    let old = old.map_or(&NONE, |report| &report.desktops);
    let new = new.map_or(&NONE, |report| &report.desktops);
    let gone = old.keys().filter(|id| !new.contains_key(id));
    // Only the change itself makes its time news: an agent may measure it anew each time.
    let same = |one: &Observed, other: &Observed| {
        Observed { since_ms: 0, ..one.clone() } == Observed { since_ms: 0, ..other.clone() }
    };
    let differs =
        |id: &DesktopId, seen: &Observed| old.get(id).is_none_or(|before| !same(before, seen));
    let other = new.iter().filter(|(id, seen)| differs(id, seen)).map(|(id, _)| id);
    gone.chain(other).copied().collect()
}

/// Of these those that are ready now and were not.
fn made_ready(
    old: Option<&HostReport>,
    new: Option<&HostReport>,
    changed: &[DesktopId],
) -> Vec<DesktopId> {
    let is_ready = |report: Option<&HostReport>, id: &DesktopId| {
        report.and_then(|report| report.desktops.get(id)).is_some_and(|seen| seen.ready)
    };
    let ready = changed.iter().filter(|id| is_ready(new, id) && !is_ready(old, id));
    ready.copied().collect()
}

/// Notes how long a new desktop of a pool took to be ready; of one that was started again it says nothing.
fn time_boot(world: &mut World, now_ms: i64, tenant: &TenantId, id: DesktopId) {
    let Some(desktop) = world.desktop(tenant, id) else { return };
    let spec = &desktop.spec;
    if let Some(pool) = spec.pool.filter(|_| spec.generation == 1 && spec.assigned_user.is_none()) {
        let took_ms = now_ms.saturating_sub(spec.create_ms);
        world.add_pool_boot(tenant.clone(), pool, took_ms);
    }
}

fn unlinked(world: &mut World, now_ms: i64, host: &HostId, link: u64) {
    let Some(live) = world.hosts_live.get(host).filter(|live| live.link == link) else { return };
    let live = HostLive { link: 0, last_seen_ms: now_ms, ..HostLive::clone(live) };
    world.set_host_live(host.clone(), live);
    touch_desktops(world, host);
}

fn present(world: &mut World, now_ms: i64, gateway: GatewayId, live: Option<GatewayLive>) {
    let new: Vec<SessionId> = live.iter().flat_map(|live| live.sessions.keys().copied()).collect();
    let old = match live {
        Some(live) => world.gateways.insert(gateway, live),
        None => world.gateways.remove(&gateway),
    };
    for id in old.iter().flat_map(|old| old.sessions.keys().copied()).chain(new) {
        judge(world, now_ms, id);
    }
}

fn judge(world: &mut World, now_ms: i64, id: SessionId) {
    let Some(tenant) = world.live_sessions.get(&id).map(|tenant| TenantId::clone(tenant)) else {
        return;
    };
    let session = world.session(&tenant, id);
    if let Some(next) = session.and_then(|one| presence::judged(world, id, one, now_ms)) {
        world.put(Row::Session(tenant, id, next));
    }
}

fn touch_desktops(world: &mut World, host: &HostId) {
    let desktops: Vec<_> =
        world.allocations_of(host).map(|(id, one)| (one.tenant.clone(), id)).collect();
    for (tenant, id) in desktops {
        world.touch(tenant, id);
    }
    world.touch_host(host);
}

fn tenant_of(world: &World, host: &HostId, id: DesktopId) -> Option<TenantId> {
    world.allocations.get(&(host.clone(), id)).map(|allocation| allocation.tenant.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Host;

    const STARTED_MS: i64 = 1_000_000;

    fn host(name: &str) -> HostId {
        name.parse().unwrap()
    }

    /// A controller that has just begun to lead, of hosts a, b and c.
    fn world() -> World {
        let mut world = World { started_ms: STARTED_MS, ..World::default() };
        for name in ["a", "b", "c"] {
            world.put(Row::Host(host(name), Host::default()));
        }
        world
    }

    fn silent_after(world: &mut World, secs: i64) -> Vec<String> {
        judge_silence(world, STARTED_MS + secs * 1_000);
        let silent = world.hosts_live.iter().filter(|(_, live)| live.silent);
        silent.map(|(host, _)| host.to_string()).collect()
    }

    fn links(world: &mut World, name: &str, secs: i64) {
        linked(world, STARTED_MS + secs * 1_000, host(name), (1, HostHello::default()));
    }

    #[test]
    fn while_hosts_come_back_the_missing_ones_are_not_yet_silent() {
        let mut world = world();
        links(&mut world, "a", 14);
        assert!(silent_after(&mut world, 15).is_empty());
        links(&mut world, "b", 28);
        assert!(silent_after(&mut world, 42).is_empty());
        // One that was here before, or that nobody knew, is no sign that others are on their way.
        links(&mut world, "a", 40);
        links(&mut world, "new", 40);
        assert_eq!(silent_after(&mut world, 43), ["c"]);
        links(&mut world, "c", 44);
        assert!(silent_after(&mut world, 45).is_empty());
    }

    #[test]
    fn without_anybody_the_missing_are_silent_after_the_grace_time_and_at_last_in_any_case() {
        assert!(silent_after(&mut world(), 14).is_empty());
        assert_eq!(silent_after(&mut world(), 15), ["a", "b", "c"]);
        let mut world = world();
        links(&mut world, "a", 50);
        assert!(silent_after(&mut world, 59).is_empty());
        assert_eq!(silent_after(&mut world, 60), ["b", "c"]);
    }

    #[test]
    fn a_host_that_was_heard_is_silent_a_grace_time_after_its_link_ended() {
        let mut world = world();
        for name in ["a", "b", "c"] {
            links(&mut world, name, 1);
        }
        unlinked(&mut world, STARTED_MS + 100_000, &host("b"), 1);
        assert!(silent_after(&mut world, 114).is_empty());
        assert_eq!(silent_after(&mut world, 115), ["b"]);
    }
}
