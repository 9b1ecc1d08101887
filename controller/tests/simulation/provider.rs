//! Who runs the installation for a customer: gives quotas and takes them away, and puts people into groups.

use std::sync::Arc;

use vidi_controller::model::group::{GroupChange, GroupSettings};
use vidi_controller::model::{Change, Place, Quota, QuotaKind, World};
use vidi_kit::ids::UserId;

use crate::dice::Dice;
use crate::sim::{Sim, tenant};

/// One of them.
pub(crate) fn begin(sim: &Arc<Sim>, users: &[UserId]) {
    let (administers, group_dice, users) = (Arc::clone(sim), sim.dice("groups"), users.to_vec());
    let _works = sim.tasks.spawn("administrator", async move {
        while !administers.is_calm() {
            administers.idle(&group_dice, 10_000, 90_000).await;
            let Some(change) = group_change(&administers, &group_dice, &users) else { continue };
            let change = Change::Group(tenant(), "class".parse().unwrap(), change);
            drop(administers.call(&group_dice, change).await);
        }
    });
    let (dice, sim) = (sim.dice("provider"), Arc::clone(sim));
    let tasks = sim.tasks.clone();
    let _works = tasks.spawn("provider", async move {
        // Half of all customers pay for what they use.
        let limits = dice.permille(500);
        while limits && !sim.is_calm() {
            sim.idle(&dice, 20_000, 240_000).await;
            let quota = if dice.permille(300) { Quota::default() } else { quota(&dice) };
            drop(sim.call(&dice, change(quota)).await);
        }
        // In the end there is room for everybody's spares.
        while sim.call(&dice, change(Quota::default())).await.is_err() {
            dice.wait(500, 2_000).await;
        }
    });
}

fn change(quota: Quota) -> Change {
    let quota = Some(quota);
    let etag = String::new();
    Change::UpdateTenant { tenant: tenant(), display_name: None, quota, etag, validate_only: false }
}

fn quota(dice: &Dice) -> Quota {
    let most = |kind| match kind {
        QuotaKind::Desktops => 4 + dice.below(14),
        QuotaKind::RunningDesktops | QuotaKind::Vcpus => 2 + dice.below(10),
        QuotaKind::MemoryMib => 700 + dice.below(4_000),
        QuotaKind::Sessions => 1 + dice.below(6),
    };
    let some = QuotaKind::ALL.into_iter().filter(|_| dice.permille(400));
    Quota { limits: some.map(|kind| (kind, most(kind))).collect() }
}

/// A group that opens pools and desktops comes, changes and goes.
fn group_change(sim: &Sim, dice: &Dice, users: &[UserId]) -> Option<GroupChange> {
    let world = sim.leader(dice)?.handle.world();
    let some = |permille| users.iter().filter(|_| dice.permille(permille)).cloned().collect();
    let Some(known) = world.group(&tenant(), &"class".parse().unwrap()) else {
        let settings = settings(&world, dice);
        return Some(GroupChange::Create { settings, request: None, validate_only: false });
    };
    let etag = World::group_etag(known);
    Some(match dice.below(10) {
        0 => GroupChange::Delete { etag },
        1..4 => GroupChange::Update { settings: settings(&world, dice), etag },
        4..8 => GroupChange::Add(some(500)),
        _ => GroupChange::Remove(some(300)),
    })
}

fn settings(world: &World, dice: &Dice) -> GroupSettings {
    let pools = world.pools.iter().filter(|(_, pool)| !pool.deleting);
    let pools = pools.map(|((_, id), _)| Place::Pool(*id)).filter(|_| dice.permille(500));
    let free = world
        .desktops
        .iter()
        .filter(|(_, desktop)| desktop.spec.pool.is_none() && desktop.spec.assigned_user.is_none());
    let free = free.map(|((_, id), _)| Place::Desktop(*id));
    GroupSettings { opens: pools.chain(free).collect(), ..GroupSettings::default() }
}
