//! Controllers: the production code on the faulty store; they die, come back and stand still.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use vidi_controller::model::Limits;
use vidi_controller::ports::Store;
use vidi_controller::reconcile::{self, Own};
use vidi_kit::{Clock, Tasks};

use crate::dice::Dice;
use crate::sim::{Life, START_MS, Serving, Sim};
use crate::store::{FaultyStore, LEASE_MS};

/// A session that nobody has attached for this long ends, ms.
pub(crate) const DISCONNECT_MS: i64 = 120_000;

/// How far a controller's clock may be off, ms.
const SKEW_MS: u64 = 1_000;

/// One of the replicas, through all its lives.
#[derive(Debug)]
pub(crate) struct Controller {
    sim: Arc<Sim>,
    name: String,
    /// Its machine's, which is not quite right.
    clock: Clock,
    dice: Dice,
    /// Its present life.
    life: std::sync::Mutex<Arc<Life>>,
}

impl Controller {
    pub(crate) fn begin(sim: &Arc<Sim>, name: &str) -> Arc<Self> {
        let dice = sim.dice(name);
        let skew_ms = if sim.shape.gentle { 0 } else { dice.ms(0, 2 * SKEW_MS) - 1_000 };
        let controller = Arc::new(Self {
            sim: Arc::clone(sim),
            name: name.to_owned(),
            clock: Clock::of_runtime(START_MS + skew_ms),
            dice,
            life: std::sync::Mutex::new(Arc::new(Life::new(name.to_owned()))),
        });
        let lives = Arc::clone(&controller);
        let _lives = sim.tasks.spawn("controller", async move { lives.live().await });
        controller
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn life(&self) -> Arc<Life> {
        Arc::clone(&self.life.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn live(&self) {
        loop {
            let life = self.life();
            let tasks = Tasks::new();
            let store: Arc<dyn Store> = Arc::new(FaultyStore {
                sim: Arc::clone(&self.sim),
                life: Arc::clone(&life),
                dice: self.dice.clone(),
            });
            let own = Own {
                id: self.name.clone(),
                address: String::new(),
                limits: Limits { disconnect_ms: DISCONNECT_MS, ..Limits::default() },
                chance: self.dice.chance(),
            };
            self.sim.say(&self.name, "starts");
            // Cancel-safe: who is gone does nothing any more.
            let started = tokio::select! {
                biased;
                () = life.gone() => None,
                started = reconcile::start(&tasks, store, self.clock.clone(), own) => Some(started),
            };
            match started {
                Some(Ok(handle)) => {
                    let serving = Serving::new(Arc::clone(&life), handle, &self.sim.tasks);
                    self.serving(Some(serving));
                    life.gone().await;
                    self.serving(None);
                }
                Some(Err(error)) => {
                    self.sim.say(&self.name, &format!("does not start: {error:?}"));
                    life.dead.store(true, Ordering::SeqCst);
                }
                None => {}
            }
            let _ending = self.sim.tasks.spawn("controller-end", async move { tasks.stop().await });
            self.sim.idle(&self.dice, 500, 20_000).await;
            let next = Arc::new(Life::new(self.name.clone()));
            *self.life.lock().unwrap_or_else(PoisonError::into_inner) = next;
        }
    }

    fn serving(&self, serving: Option<Serving>) {
        let mut all = self.sim.serving.lock().unwrap_or_else(PoisonError::into_inner);
        match serving {
            Some(serving) => drop(all.insert(self.name.clone(), serving)),
            None => drop(all.remove(&self.name)),
        }
    }

    /// It is gone, and comes back after a while.
    pub(crate) async fn die(&self) {
        let life = self.life();
        self.sim.fault("controller dies", &self.name);
        life.dead.store(true, Ordering::SeqCst);
        life.killed.notify_waiters();
        life.killed.notify_one();
        self.dice.wait(0, LEASE_MS).await;
        drop(self.sim.store.expire(&life));
    }

    /// It stands still; when that is long, another leads meanwhile and it learns of it late.
    pub(crate) async fn pause(&self, least_ms: u64, most_ms: u64) {
        let life = self.life();
        self.sim.fault("controller stands still", &self.name);
        life.pause(true);
        let span = self.dice.span(least_ms, most_ms);
        let lease = Duration::from_millis(LEASE_MS);
        let lost = if lease < span {
            tokio::time::sleep(lease).await;
            let lost = self.sim.store.expire(&life);
            tokio::time::sleep(span - lease).await;
            lost
        } else {
            tokio::time::sleep(span).await;
            None
        };
        self.sim.say(&self.name, "goes on");
        life.pause(false);
        if let Some(lost) = lost {
            self.dice.wait(0, 3_000).await;
            lost.send_replace(true);
        }
    }

    /// Its leadership is gone, which it learns late.
    pub(crate) async fn depose(&self) {
        if let Some(lost) = self.sim.store.expire(&self.life()) {
            self.sim.fault("leadership lost", &self.name);
            self.dice.wait(0, 4_000).await;
            lost.send_replace(true);
        }
    }
}
