//! What goes wrong: controllers, the store, links, machines, gateways.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::agents::Agent;
use crate::controllers::Controller;
use crate::dice::Dice;
use crate::gateways::Gateway;
use crate::sim::Sim;

/// All that things can happen to.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) controllers: Vec<Arc<Controller>>,
    pub(crate) agents: Vec<Arc<Agent>>,
    pub(crate) gateways: Vec<Arc<Gateway>>,
}

/// Makes faults until they have to stop.
pub(crate) fn begin(sim: &Arc<Sim>, fleet: &Fleet) {
    let kinds: [(&str, u64); 3] = [("control", 90_000), ("hosts", 25_000), ("gateways", 60_000)];
    for (kind, most_ms) in kinds {
        let (sim, fleet, dice) = (Arc::clone(sim), fleet.clone(), sim.dice(kind));
        let tasks = sim.tasks.clone();
        let _faults = tasks.spawn("faults", async move {
            while !sim.is_calm() {
                sim.idle(&dice, 2_000, most_ms).await;
                if sim.is_calm() {
                    return;
                }
                match kind {
                    "control" if !sim.shape.gentle => control(&sim, &fleet, &dice).await,
                    "hosts" => hosts(&sim, &fleet, &dice).await,
                    "gateways" if !sim.shape.gentle => gateways(&fleet, &dice).await,
                    _ => return,
                }
            }
        });
    }
}

async fn control(sim: &Arc<Sim>, fleet: &Fleet, dice: &Dice) {
    let Some(controller) = dice.pick(&fleet.controllers) else { return };
    match dice.below(10) {
        0..3 => controller.die().await,
        3..5 => controller.pause(200, 4_000).await,
        5..7 => controller.pause(20_000, 70_000).await,
        7..9 => controller.depose().await,
        _ => {
            sim.fault("store away", "store");
            let until_ms = sim.now_ms() + dice.ms(500, 40_000);
            sim.store.away_until_ms.store(until_ms, Ordering::SeqCst);
        }
    }
}

async fn hosts(sim: &Arc<Sim>, fleet: &Fleet, dice: &Dice) {
    let Some(agent) = dice.pick(&fleet.agents) else { return };
    let rough = !sim.shape.gentle;
    match dice.below(12) {
        0..2 => agent.end_domain(true),
        2..5 => agent.end_domain(false),
        5..8 if rough => {
            sim.fault("link cut", agent.host.as_str());
            agent.cut.notify_one();
        }
        8..10 if rough => agent.restart_agent(500, 30_000).await,
        10 if rough => agent.lose_power(5_000, 20_000).await,
        11 if rough => agent.lose_power(30_000, 240_000).await,
        _ => {}
    }
}

async fn gateways(fleet: &Fleet, dice: &Dice) {
    let Some(gateway) = dice.pick(&fleet.gateways) else { return };
    if dice.permille(500) {
        gateway.sim.fault("gateway's link cut", gateway.id.as_str());
        gateway.cut.notify_one();
    } else {
        gateway.die(3_000, 60_000).await;
    }
}
