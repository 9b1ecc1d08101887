//! Operators: they make desktops, start, stop and delete them, and service hosts.

use std::sync::Arc;

use vidi_controller::model::schedule::{DayTime, Days, Rule, Schedule, Zone};
use vidi_controller::model::{
    Answer, Change, DesktopTarget, DisplayPolicy, PoolKind, PoolSettings, PoolUsers, ReleasePolicy,
    RequestKey, World,
};
use vidi_kit::ids::{DesktopId, HostId, PoolId, UserId};

use crate::dice::Dice;
use crate::sim::{CallError, Sim, tenant};

/// Desktops that operators make, at a time.
const DESKTOPS_MAX: usize = 14;
/// Tries of one wish with one request id.
const TRIES_MAX: u64 = 4;

/// Somebody with every right.
pub(crate) struct Operator {
    sim: Arc<Sim>,
    dice: Dice,
    users: Vec<UserId>,
}

impl Operator {
    pub(crate) fn begin(sim: &Arc<Sim>, name: &str, users: &[UserId]) {
        let (dice, users) = (sim.dice(name), users.to_vec());
        let operator = Self { sim: Arc::clone(sim), dice, users };
        let _works = sim.tasks.spawn("operator", async move { operator.work().await });
    }

    async fn work(&self) {
        while !self.sim.is_calm() {
            self.sim.idle(&self.dice, 500, 12_000).await;
            let Some(serving) = self.sim.leader(&self.dice) else { continue };
            let world = serving.handle.world();
            let wish = match self.dice.below(25) {
                20.. => self.pool(&world),
                0..8 => self.new_desktop(&world),
                8..14 => self.power(&world),
                14..16 => self.deletion(&world),
                _ => self.service(&world),
            };
            let Some(wish) = wish else { continue };
            for _ in 0..TRIES_MAX {
                match self.sim.call(&self.dice, wish.clone()).await {
                    Ok(Answer::Operation(_) | Answer::Done) | Err(CallError::Refused(_)) => break,
                    Ok(other) => unreachable!("{other:?}"),
                    Err(CallError::Lost) => self.dice.wait(200, 2_000).await,
                }
            }
        }
        // Whoever serviced a host takes that back, and nobody needs a desktop any more that is off.
        self.uncordon_all().await;
    }

    fn suspended(&self) -> Vec<PoolId> {
        let Some(serving) = self.sim.leader(&self.dice) else { return Vec::new() };
        let world = serving.handle.world();
        let suspended = world.pools.iter().filter(|(_, pool)| pool.suspended.is_some());
        suspended.map(|((_, id), _)| *id).collect()
    }

    fn request(&self) -> Option<RequestKey> {
        let id = format!("{:x}", self.dice.below(u64::MAX));
        let key = RequestKey { id, body_sha256: [1; 32], by: String::new() };
        self.dice.permille(600).then_some(key)
    }

    fn new_desktop(&self, world: &World) -> Option<Change> {
        let own = world.desktops.values().filter(|desktop| desktop.spec.pool.is_none());
        if DESKTOPS_MAX <= own.count() {
            return None;
        }
        let release_policy = match self.dice.below(3) {
            0 => ReleasePolicy::Keep,
            1 => ReleasePolicy::Stop,
            _ => ReleasePolicy::Delete,
        };
        Some(Change::CreateDesktop {
            tenant: tenant(),
            template: "micro".parse().unwrap(),
            display_name: "Desk".to_owned(),
            // Some are for a group.
            assigned_user: self.dice.pick(&self.users).cloned().filter(|_| self.dice.permille(800)),
            start: self.dice.permille(600),
            release_policy,
            display_policy: DisplayPolicy::default(),
            request: self.request(),
            validate_only: false,
        })
    }

    fn target(&self, world: &World) -> Option<DesktopTarget> {
        // Desktops of pools are seldom touched by hand.
        let pooled = self.dice.permille(100);
        let own = world.desktops.iter().filter(|(_, one)| pooled || one.spec.pool.is_none());
        let ids: Vec<DesktopId> = own.map(|((_, id), _)| *id).collect();
        let desktop = *self.dice.pick(&ids)?;
        let seen = world.desktop(&tenant(), desktop)?;
        let etag = if self.dice.permille(500) { World::desktop_etag(seen) } else { String::new() };
        Some(DesktopTarget { tenant: tenant(), desktop, etag, request: self.request() })
    }

    fn power(&self, world: &World) -> Option<Change> {
        let target = self.target(world)?;
        let force = self.dice.permille(300);
        Some(match self.dice.below(4) {
            0 | 1 => Change::StartDesktop { target },
            2 => Change::StopDesktop { target, force },
            _ => Change::RestartDesktop { target, force },
        })
    }

    fn deletion(&self, world: &World) -> Option<Change> {
        Some(Change::DeleteDesktop { target: self.target(world)? })
    }

    fn service(&self, world: &World) -> Option<Change> {
        let hosts: Vec<HostId> = world.hosts.iter().map(|(host, _)| host.clone()).collect();
        let host = self.dice.pick(&hosts)?.clone();
        let etag = String::new();
        Some(match self.dice.below(8) {
            0 | 1 => Change::CordonHost { host, etag },
            2 => Change::DrainHost { host, etag, stop_in_use: self.dice.permille(500) },
            _ => Change::UncordonHost { host, etag },
        })
    }

    /// Makes a pool, or changes, resumes or deletes one.
    fn pool(&self, world: &World) -> Option<Change> {
        let (tenant, etag) = (tenant(), String::new());
        let id = *self.dice.pick(&["lab", "office", "school"])?;
        let pool = id.parse().unwrap();
        let Some(known) = world.pool(&tenant, pool) else {
            let (settings, validate_only) = (Box::new(self.settings(id)), false);
            let request = self.request();
            return Some(Change::CreatePool { tenant, pool, settings, request, validate_only });
        };
        Some(match self.dice.below(20) {
            0 => Change::DeletePool { tenant, pool, etag, force: self.dice.permille(700) },
            1..6 => Change::ResumePool { tenant, pool, etag },
            8..13 => return self.assignment(world),
            6..8 => {
                let kind = known.settings.kind;
                let settings = PoolSettings { kind, ..self.settings(id) };
                let release_policy = known.settings.release_policy;
                let settings = Box::new(PoolSettings { release_policy, ..settings });
                let etag = World::pool_etag(known);
                Change::UpdatePool { tenant, pool, settings, etag, validate_only: false }
            }
            _ => return None,
        })
    }

    /// Gives a desktop of the dedicated pool to somebody, or takes it from whoever had it.
    fn assignment(&self, world: &World) -> Option<Change> {
        let pool: PoolId = "office".parse().unwrap();
        let theirs = world.desktops.iter().filter(|(_, one)| one.spec.pool == Some(pool));
        let theirs: Vec<(DesktopId, bool)> =
            theirs.map(|((_, id), one)| (*id, one.spec.assigned_user.is_some())).collect();
        let (desktop, taken) = *self.dice.pick(&theirs)?;
        let (etag, request) = (String::new(), None);
        let target = DesktopTarget { tenant: tenant(), desktop, etag, request };
        let user = if taken { None } else { self.dice.pick(&self.users).cloned() };
        Some(Change::AssignDesktop { target, user })
    }

    /// Rules that change a pool within the minutes that a simulation lasts.
    fn schedule(&self, most: u32) -> Schedule {
        let zone = self.dice.pick(&["", "Europe/Rome", "America/Santiago"]);
        let zone = Zone::find(zone.copied().unwrap_or_default()).unwrap();
        let rules = (0..self.dice.below(4)).map(|_| {
            let from = u16::try_from(self.dice.below(1_440)).unwrap();
            let to = from + 1 + u16::try_from(self.dice.below(60)).unwrap();
            let to = if 1_440 < to { to - 1_440 } else { to };
            let (from, to) = (DayTime::of_minutes(from), DayTime::of_minutes(to));
            let max_desktops = u32::try_from(self.dice.below(9)).unwrap();
            let min_spare = u32::try_from(self.dice.below(4)).unwrap().min(max_desktops.min(most));
            let max_desktops = self.dice.permille(500).then_some(max_desktops);
            let days = Days::ALL;
            Rule {
                days,
                from: from.unwrap(),
                to: to.unwrap(),
                min_spare: Some(min_spare),
                max_desktops,
            }
        });
        Schedule { zone, rules: rules.collect() }
    }

    fn settings(&self, name: &str) -> PoolSettings {
        let floating = name != "office";
        let kind = if floating { PoolKind::Floating } else { PoolKind::Dedicated };
        let max_desktops = u32::try_from(2 + self.dice.below(7)).unwrap();
        let min_spare = u32::try_from(self.dice.below(4)).unwrap().min(max_desktops);
        let some = self.users.iter().filter(|_| self.dice.permille(600)).cloned().collect();
        let users =
            if self.dice.permille(500) { PoolUsers::Everyone } else { PoolUsers::Listed(some) };
        PoolSettings {
            display_name: name.to_owned(),
            template: "micro".parse().unwrap(),
            kind,
            min_spare,
            max_desktops,
            users,
            disconnect_secs: self.dice.permille(300).then_some(30),
            max_session_secs: self.dice.permille(300).then_some(240),
            idle_secs: self.dice.permille(200).then_some(90),
            user_sessions_max: self.dice.permille(200).then_some(1),
            schedule: self.schedule(max_desktops),
            forecast: floating && self.dice.permille(400),
            release_policy: match (floating, self.dice.permille(500)) {
                (true, _) => ReleasePolicy::Delete,
                (false, true) => ReleasePolicy::Keep,
                (false, false) => ReleasePolicy::Stop,
            },
            display_policy: DisplayPolicy::default(),
        }
    }

    /// Takes back what operators have done to hosts, and what failures have done to pools.
    async fn uncordon_all(&self) {
        loop {
            let cordoned: Vec<HostId> = match self.sim.leader(&self.dice) {
                Some(serving) => {
                    let world = serving.handle.world();
                    let cordoned = world.hosts.iter().filter(|(_, one)| one.cordoned);
                    cordoned.map(|(host, _)| host.clone()).collect()
                }
                None => Vec::new(),
            };
            for host in cordoned {
                let change = Change::UncordonHost { host, etag: String::new() };
                drop(self.sim.call(&self.dice, change).await);
            }
            for pool in self.suspended() {
                let (tenant, etag) = (tenant(), String::new());
                drop(self.sim.call(&self.dice, Change::ResumePool { tenant, pool, etag }).await);
            }
            self.dice.wait(2_000, 4_000).await;
        }
    }
}
