//! Somebody who watches: a copy that follows what is told of as changed must be what a list shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use vidi_controller::model::{Desktop, Place, Session, World};
use vidi_kit::ids::{SessionId, TenantId};

use crate::sim::{Serving, Sim, short};
use crate::tables::way;

/// What is followed of a place: the desktop itself, and the sessions on it that go on.
type Seen = (Option<Arc<Desktop>>, Vec<(SessionId, Arc<Session>)>);

/// Follows whoever leads.
pub(crate) fn begin(sim: &Arc<Sim>) {
    let watcher = Arc::clone(sim);
    let _watches = sim.tasks.spawn("watcher", async move {
        let dice = watcher.dice("watcher");
        loop {
            dice.wait(100, 1_000).await;
            if let Some(serving) = watcher.leader(&dice) {
                follow(&watcher, &serving).await;
            }
        }
    });
}

async fn follow(sim: &Sim, serving: &Serving) {
    let mut heard = 0;
    let mut copy = BTreeMap::new();
    let mut cursor = None;
    loop {
        let world = serving.world(&mut heard);
        // A token of an earlier leadership is too old, as the API's stream says.
        let known = cursor.filter(|(started_ms, _)| *started_ms == world.started_ms);
        let changed = known.and_then(|(_, sequence)| world.changed_behind(sequence));
        match changed {
            Some(changed) => {
                for (_, tenant, place) in changed {
                    let seen = look(&world, &tenant, place);
                    let gone = copy.get(&place).map(|before| ways(before, &seen));
                    sim.checker().visited.extend(gone.into_iter().flatten());
                    if seen.0.is_none() && seen.1.is_empty() {
                        copy.remove(&place);
                    } else {
                        copy.insert(place, seen);
                    }
                }
            }
            None => copy = list(&world),
        }
        cursor = Some((world.started_ms, world.sequence));
        let listed = list(&world);
        if copy != listed {
            let differs = |place: &&Place| copy.get(place) != listed.get(place);
            let place = copy.keys().chain(listed.keys()).find(differs).map(short);
            sim.violate(format!("I12: who watches sees {place:?} otherwise than who lists"));
        }
        // Cancel-safe: both only wait.
        let goes_on = tokio::select! {
            biased;
            () = serving.life.gone() => false,
            () = serving.changed(heard) => true,
        };
        if !goes_on || !serving.handle.standing().leading {
            return;
        }
    }
}

/// The ways from what was seen before to what is seen now. Sessions that are over are seen no more.
fn ways((before, sessions_before): &Seen, (now, sessions): &Seen) -> Vec<String> {
    let mut ways = Vec::new();
    if let (Some(before), Some(now)) = (before, now) {
        ways.extend(way("power", before.status.power.word(), now.status.power.word()));
        ways.extend(way("assignment", before.assignment().word(), now.assignment().word()));
    }
    for (id, before) in sessions_before {
        let now = sessions.iter().find(|(other, _)| other == id);
        let now = now.map_or("ended", |(_, now)| now.presence.word());
        ways.extend(way("session", before.presence.word(), now));
    }
    ways
}

fn look(world: &World, tenant: &TenantId, place: Place) -> Seen {
    let desktop = match place {
        Place::Desktop(id) => world.desktop(tenant, id).cloned(),
        Place::Machine(_) | Place::Pool(_) => None,
    };
    let sessions = world.sessions_of(tenant, place).into_iter();
    let live = sessions.filter_map(|id| {
        let session = world.session(tenant, id).filter(|one| one.is_live())?;
        Some((id, Arc::clone(session)))
    });
    (desktop, live.collect())
}

fn list(world: &World) -> BTreeMap<Place, Seen> {
    let tenant = crate::sim::tenant();
    let places = world.desktops.iter().map(|((_, id), _)| Place::Desktop(*id));
    places.map(|place| (place, look(world, &tenant, place))).collect()
}
