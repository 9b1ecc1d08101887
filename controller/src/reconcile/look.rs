//! What a round looks at: what changed, what waits, and all desktops part by part.

use std::collections::BTreeSet;
use std::ops::Bound;

use vidi_kit::ids::{DesktopId, TenantId};

use crate::model::{Place, Presence, World};
use crate::plan::pools;

/// Desktops without a host that one round tries to place.
const PLACED_PER_ROUND_MAX: usize = 1_024;
/// Looks at a part of all desktops in which each has its turn: claims must not wait for a look at a hundred
/// thousand.
const PARTS_OF_DESKTOPS: usize = 30;

/// Desktops of one part of a leader's first look: some milliseconds, in which claims wait.
const DESKTOPS_AT_FIRST: usize = 1_024;

/// What makes a round look at more than what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Only at what changed.
    Changes,
    /// At what waits, too: for a host, for the end of an operation, for silence; and at the next part of all
    /// desktops.
    Waiting,
    /// At every pool and machine besides, and at what has expired.
    Everything,
}

/// Where the look at all desktops, part by part, has come to.
#[derive(Default)]
pub(super) struct Parts {
    /// The first look of a leader is at all, one round after the other: what was left undone before is unknown.
    looked: bool,
    last: Option<(TenantId, DesktopId)>,
}

impl Parts {
    /// The next part.
    pub(super) fn next(&mut self, world: &World) -> Vec<(TenantId, Place)> {
        let all = world.desktops.len();
        let most = all.div_ceil(PARTS_OF_DESKTOPS);
        let most = if self.looked { most } else { most.max(DESKTOPS_AT_FIRST) };
        let last = self.last.take();
        let behind = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let part: Vec<_> = world.desktops.from(behind).take(most).map(|(key, _)| key).collect();
        // Behind the last one it begins again.
        let next = part.last().filter(|_| part.len() == most).map(|key| (*key).clone());
        let places = part.into_iter().map(|(tenant, id)| (tenant.clone(), Place::Desktop(*id)));
        let places = places.collect();
        self.looked |= next.is_none();
        self.last = next;
        places
    }

    /// A leader's first look is not at its end: the next part follows at once, with whoever asks meanwhile.
    pub(super) const fn hurries(&self) -> bool {
        !self.looked
    }

    /// The store does not take what follows from a look: parts come one a beat from now on.
    pub(super) const fn take_time(&mut self) {
        self.looked = true;
    }
}

/// Places that changed behind a sequence; all when more changed than is remembered.
pub(super) fn changed(world: &World, cursor: u64) -> BTreeSet<(TenantId, Place)> {
    match world.changed_behind(cursor) {
        Some(changed) => changed.map(|(_, tenant, place)| (tenant, place)).collect(),
        None => everything(world).collect(),
    }
}

fn everything(world: &World) -> impl Iterator<Item = (TenantId, Place)> {
    let desktops = world.desktops.iter();
    let desktops = desktops.map(|((tenant, id), _)| (tenant.clone(), Place::Desktop(*id)));
    let machines = world.machines.iter();
    let machines = machines.map(|((tenant, id), _)| (tenant.clone(), Place::Machine(*id)));
    let pools = world.pools.iter();
    let pools = pools.map(|((tenant, id), _)| (tenant.clone(), Place::Pool(*id)));
    desktops.chain(machines).chain(pools)
}

/// Places to look at though nothing about them changed.
pub(super) fn waiting(world: &World, look: Look, now_ms: i64) -> BTreeSet<(TenantId, Place)> {
    let operated = world.open_operations.iter();
    let operated = operated.map(|((tenant, id, _), _)| (tenant.clone(), Place::Desktop(*id)));
    let all = look == Look::Everything;
    let pools = world.pools.iter().map(|((tenant, id), _)| (tenant, *id));
    let pools = pools.filter(|(tenant, id)| all || pools::is_restless(world, tenant, *id, now_ms));
    let pools = pools.map(|(tenant, id)| (tenant.clone(), Place::Pool(id)));
    let machines = world.machines.iter().filter(|_| all);
    let machines = machines.map(|((tenant, id), _)| (tenant.clone(), Place::Machine(*id)));
    match look {
        Look::Changes => BTreeSet::new(),
        Look::Waiting | Look::Everything => {
            let unplaced = unplaced(world, PLACED_PER_ROUND_MAX).into_iter();
            let waiting = unplaced.chain(operated).chain(deserted(world));
            waiting.chain(pools).chain(machines).collect()
        }
    }
}

/// The first desktops that have no host.
pub(super) fn unplaced(world: &World, most: usize) -> Vec<(TenantId, Place)> {
    let first = world.unplaced.iter().take(most);
    first.map(|((tenant, id), _)| (tenant.clone(), Place::Desktop(*id))).collect()
}

/// Places whose session nobody has attached: it ends some time, its interval before.
fn deserted(world: &World) -> impl Iterator<Item = (TenantId, Place)> {
    world.live_sessions.iter().filter_map(|(id, tenant)| {
        let session = world.session(tenant, *id)?;
        // Who waits for a pool's desktop is that pool's matter.
        let waits = matches!(session.place, Place::Pool(_));
        let attached = session.presence == Presence::Connected;
        (!attached && !waits).then(|| (TenantId::clone(tenant), session.place))
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{DesktopSpec, DisplayPolicy, Key, ReleasePolicy, Row};

    fn world(desktops: u128) -> World {
        let mut world = World::default();
        for number in 0..desktops {
            let spec = DesktopSpec {
                display_name: String::new(),
                template: "t".parse().unwrap(),
                template_digest: String::new(),
                assigned_user: None,
                power_on: false,
                force_off: false,
                deleting: false,
                generation: 1,
                create_ms: 0,
                app_id: "a".parse().unwrap(),
                restarting: false,
                release_policy: ReleasePolicy::Keep,
                display_policy: DisplayPolicy::default(),
                trace: None,
                pool: None,
                restored: false,
            };
            let id = DesktopId::new(Uuid::from_u128(number));
            world.put(Row::Spec("t".parse().unwrap(), id, spec));
        }
        world
    }

    #[test]
    fn a_leader_looks_at_all_desktops_at_first_and_then_at_each_in_its_turn() {
        for count in [0, 1, 29, 30, 31, 100, 1_024, 1_025, 3_000] {
            let mut world = world(count);
            let all: BTreeSet<_> = everything(&world).collect();
            let mut parts = Parts::default();
            let mut first = BTreeSet::new();
            while parts.hurries() {
                first.extend(parts.next(&world));
            }
            assert_eq!(first, all, "of {count}");
            for _ in 0..2 {
                let mut seen = Vec::new();
                for _ in 0..=PARTS_OF_DESKTOPS {
                    let part = parts.next(&world);
                    assert!(part.len() <= world.desktops.len().div_ceil(PARTS_OF_DESKTOPS));
                    seen.extend(part);
                }
                assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all, "of {count}");
            }
            // Where the look has come to may be gone.
            if let Some((_, last)) = parts.last.clone() {
                world.delete(&Key::Spec("t".parse().unwrap(), last));
                parts.next(&world);
            }
        }
    }
}
