//! What must hold of every stored world, whatever happened before.

use std::collections::{BTreeMap, BTreeSet};

use vidi_controller::model::{Place, Power, Standing, UsageKind, World};

/// What must hold of every stored world.
pub(crate) fn check(world: &World) {
    for ((host, id), allocation) in world.allocations.iter() {
        let desktop = world.desktop(&allocation.tenant, *id);
        let placed = desktop.and_then(|one| one.status.host.as_ref());
        assert_eq!(placed, Some(host), "an allocation is where its desktop says");
    }
    for ((tenant, id), desktop) in world.desktops.iter() {
        if let Some(host) = &desktop.status.host {
            let allocation = world.allocations.get(&(host.clone(), *id));
            assert!(allocation.is_some(), "a placed desktop is allocated");
        }
        let live = world.sessions.iter().filter(|((of, _), one)| {
            of == tenant && one.place == Place::Desktop(*id) && one.is_live()
        });
        let live: Vec<_> = live.map(|((_, session), _)| *session).collect();
        assert!(live.len() <= 1, "a desktop has at most one live session");
        assert_eq!(desktop.status.session, live.first().copied(), "and knows it");
    }
    for ((tenant, _), session) in world.sessions.iter() {
        let known = match session.place {
            Place::Desktop(id) => world.desktop(tenant, id).is_some(),
            Place::Machine(id) => world.machine(tenant, id).is_some(),
            Place::Pool(id) => world.pool(tenant, id).is_some(),
        };
        assert!(known || !session.is_live(), "a live session has its desktop");
    }
    check_usage(world);
    check_pools(world);
    for operation in world.operations.values().filter(|one| one.end.is_none()) {
        let known = world.desktop(&operation.tenant, operation.desktop).is_some();
        assert!(known, "an operation that goes on has its desktop");
    }
}

/// One user of a pool has one desktop or one place in its queue, a floating desktop that had a user goes,
/// and the indexes are those of the rows.
fn check_pools(world: &World) {
    let mut users = BTreeSet::new();
    for ((tenant, id), desktop) in world.desktops.iter() {
        let spec = &desktop.spec;
        let Some(pool) = spec.pool else { continue };
        assert!(world.pool(tenant, pool).is_some(), "{id} has its pool");
        if spec.deleting {
            continue;
        }
        if let Some(user) = &spec.assigned_user {
            assert!(users.insert((tenant, pool, user)), "{user} has two desktops of {pool}");
            let held = desktop.status.session.is_some();
            assert!(held || !spec.is_single_use(), "{id} goes with its user");
        } else {
            assert_eq!(desktop.status.session, None, "who has {id} is known");
        }
    }
    let mut waiting = BTreeMap::new();
    for ((tenant, id), session) in world.sessions.iter().filter(|(_, one)| one.is_live()) {
        if let Place::Pool(pool) = session.place {
            assert_eq!(session.pool, Some(pool));
            let user = &session.user;
            let first = users.insert((tenant, pool, user));
            assert!(first, "{user} waits for {pool} and has a desktop of it");
            assert_eq!(world.waiting_of(tenant, pool, user), Some(*id));
            waiting.entry((tenant, pool)).or_insert_with(Vec::new).push(*id);
        }
    }
    for ((tenant, pool), _) in world.pools.iter() {
        let waits = waiting.remove(&(tenant, *pool)).unwrap_or_default();
        assert!(world.pool_waiting(tenant, *pool).eq(waits.iter().copied()));
        assert_eq!(world.pool_waiting_count(tenant, *pool), waits.len());
        for (before, id) in waits.iter().enumerate() {
            assert_eq!(world.pool_position(tenant, *pool, *id), before + 1);
        }
        let mut counted = 0;
        for standing in Standing::ALL {
            let those = world.pool_standing(tenant, *pool, standing).count();
            counted += those;
            assert_eq!(
                world.pool_counts(tenant, *pool).get(standing),
                u32::try_from(those).unwrap()
            );
        }
        let all = world.desktops.iter();
        let all = all.filter(|((of, _), one)| of == tenant && one.spec.pool == Some(*pool));
        assert_eq!(all.count(), counted);
    }
    assert_eq!(waiting, BTreeMap::new());
}

/// Intervals of one desktop and kind follow each other, and what goes on is what the desktop's state
/// says.
fn check_usage(world: &World) {
    let mut ends = BTreeMap::new();
    for (key, interval) in world.usage.iter() {
        let end_ms = interval.end_ms.unwrap_or(i64::MAX);
        assert!(key.start_ms < end_ms, "an interval has a length: {key:?} {interval:?}");
        let before = ends.insert((&key.tenant, key.desktop, key.kind), end_ms);
        assert!(before.is_none_or(|before| before <= key.start_ms), "overlap: {key:?}");
        if interval.end_ms.is_none() && key.kind == UsageKind::Connected {
            let desktop = world.desktop(&key.tenant, key.desktop);
            let held = desktop.and_then(|desktop| desktop.status.session);
            assert!(held.is_some() && held == interval.session, "nobody is on it: {key:?}");
        }
    }
    for ((tenant, id), desktop) in world.desktops.iter() {
        let open = world.newest_usage(tenant, *id, UsageKind::Running);
        let open = open.is_some_and(|(_, interval)| interval.end_ms.is_none());
        assert_eq!(open, desktop.status.power == Power::Running, "{id} runs and is counted");
        let spec = &desktop.spec;
        assert!(!spec.restarting || (spec.power_on && !spec.deleting), "{spec:?}");
    }
    let running = world.desktops.values().filter(|one| one.status.power == Power::Running);
    let open = world
        .usage
        .iter()
        .filter(|(key, one)| key.kind == UsageKind::Running && one.end_ms.is_none());
    assert_eq!(running.count(), open.count(), "nothing is counted that is gone");
}
