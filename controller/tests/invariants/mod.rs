//! What must hold of every stored world, whatever happened before.

use vidi_controller::model::World;

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
        let live = world
            .sessions
            .iter()
            .filter(|((of, _), one)| of == tenant && one.desktop == *id && one.is_live());
        let live: Vec<_> = live.map(|((_, session), _)| *session).collect();
        assert!(live.len() <= 1, "a desktop has at most one live session");
        assert_eq!(desktop.status.session, live.first().copied(), "and knows it");
    }
    for ((tenant, _), session) in world.sessions.iter() {
        let known = world.desktop(tenant, session.desktop).is_some();
        assert!(known || !session.is_live(), "a live session has its desktop");
    }
    for operation in world.operations.values().filter(|one| one.end.is_none()) {
        let known = world.desktop(&operation.tenant, operation.desktop).is_some();
        assert!(known, "an operation that goes on has its desktop");
    }
}
