//! Who looks after templates: publishes versions and takes them back, rolls them out, does the same with many
//! desktops, and tells people something. And what must hold of it with every commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use vidi_controller::model::rollout::Course;
use vidi_controller::model::{
    BatchKind, Change, DesktopFilter, NewBatch, Notice, Pool, RequestKey, Rollout, RolloutChange,
    RolloutSettings, RolloutState, TemplateChange, TrialPhase, World,
};
use vidi_kit::ids::{OperationId, PoolId, RolloutId};

use crate::checker::Checker;
use crate::dice::Dice;
use crate::sim::{Sim, tenant};

/// Versions of the template; new desktops get the first one to begin with.
const VERSIONS: [char; 3] = ['0', '1', '2'];
/// When everything is calm roll-outs may go on for so long before they are rolled back, ms: they then come to
/// their end by themselves as a rule.
const LEFT_ALONE_MS: u64 = 200_000;

/// The name of a version.
pub(crate) fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

/// The versions that are not the first.
pub(crate) fn drafts() -> impl Iterator<Item = String> {
    VERSIONS.into_iter().skip(1).map(digest)
}

/// One who looks after templates.
pub(crate) fn begin(sim: &Arc<Sim>) {
    let (dice, sim) = (sim.dice("keeper"), Arc::clone(sim));
    let tasks = sim.tasks.clone();
    let _works = tasks.spawn("keeper", async move {
        while !sim.is_calm() {
            sim.idle(&dice, 4_000, 40_000).await;
            let Some(serving) = sim.leader(&dice) else { continue };
            let world = serving.handle.world();
            if let Some(change) = wish(&world, &dice) {
                drop(sim.call(&dice, change).await);
            }
        }
        dice.wait(LEFT_ALONE_MS, LEFT_ALONE_MS + 1).await;
        // A roll-out for which no host has room ends by hand.
        loop {
            let open = sim.leader(&dice).map(|serving| open(&serving.handle.world()));
            for rollout in open.unwrap_or_default() {
                let course = if dice.permille(500) { Course::RollBack } else { Course::Cancel };
                drop(sim.call(&dice, steer(rollout, course)).await);
            }
            dice.wait(2_000, 4_000).await;
        }
    });
}

fn open(world: &World) -> Vec<RolloutId> {
    let going = |one: &Rollout| matches!(one.state, RolloutState::Running | RolloutState::Paused);
    let open = world.rollouts.iter().filter(|(_, one)| going(one));
    open.map(|((_, id), _)| *id).collect()
}

fn wish(world: &World, dice: &Dice) -> Option<Change> {
    Some(match dice.below(20) {
        0..7 => create(world, dice)?,
        7..11 => {
            let all: Vec<RolloutId> = world.rollouts.iter().map(|((_, id), _)| *id).collect();
            let courses = [Course::Pause, Course::Resume, Course::Cancel, Course::RollBack];
            steer(*dice.pick(&all)?, *dice.pick(&courses)?)
        }
        11..13 => Change::Template(template_change(dice)?),
        13..16 => batch(world, dice)?,
        16 => {
            let open = world.batches.iter().filter(|(_, one)| one.end_ms.is_none());
            let open: Vec<OperationId> = open.map(|(id, _)| *id).collect();
            Change::CancelBatch(*dice.pick(&open)?)
        }
        _ => {
            let live: Vec<_> = world.live_sessions.iter().map(|(id, _)| *id).collect();
            let session = *dice.pick(&live)?;
            Change::Message { tenant: tenant(), session, notice: notice(), request: request(dice) }
        }
    })
}

fn notice() -> Notice {
    Notice { number: 0, text: "Lunch".to_owned(), from: "Keeper".to_owned(), at_ms: 1 }
}

fn request(dice: &Dice) -> Option<RequestKey> {
    let id = format!("k{:x}", dice.below(u64::MAX));
    dice.permille(500).then_some(RequestKey { id, body_sha256: [2; 32], by: String::new() })
}

fn create(world: &World, dice: &Dice) -> Option<Change> {
    let pools: Vec<PoolId> = world.pools.iter().map(|((_, id), _)| *id).collect();
    let pool = *dice.pick(&pools)?;
    let small = |below| u32::try_from(dice.below(below)).unwrap();
    let settings = RolloutSettings {
        canaries: 1 + small(3),
        wave_percent: 10 + small(90),
        ready_secs: 30 + small(200),
        soak_secs: small(40),
        failures_max: small(4),
    };
    Some(Change::Rollout(RolloutChange::Create {
        tenant: tenant(),
        pool,
        digest: digest(*dice.pick(&VERSIONS)?),
        settings,
        request: request(dice),
        validate_only: false,
    }))
}

fn steer(rollout: RolloutId, course: Course) -> Change {
    let (tenant, etag) = (tenant(), String::new());
    Change::Rollout(RolloutChange::Steer { tenant, rollout, course, etag })
}

fn template_change(dice: &Dice) -> Option<TemplateChange> {
    let (tenant, template, etag) = (tenant(), "micro".parse().unwrap(), String::new());
    Some(match dice.permille(600) {
        true => {
            let digest = digest(*dice.pick(&VERSIONS)?);
            TemplateChange::Publish { tenant, template, digest, etag }
        }
        false => TemplateChange::RollBack { tenant, template, etag },
    })
}

fn batch(world: &World, dice: &Dice) -> Option<Change> {
    let hosts: Vec<_> = world.hosts.iter().map(|(host, _)| host.clone()).collect();
    let force = dice.permille(300);
    let kind = match dice.below(8) {
        0 => BatchKind::Start,
        1 => BatchKind::Stop { force },
        2 | 3 => BatchKind::Restart { force },
        _ => BatchKind::Message(notice()),
    };
    let filter = DesktopFilter {
        host: dice.pick(&hosts).cloned().filter(|_| dice.permille(600)),
        in_use: dice.permille(300).then_some(false),
        ..DesktopFilter::default()
    };
    let at_a_time = u32::try_from(1 + dice.below(5)).unwrap();
    let (tenant, request, validate_only) = (tenant(), request(dice), false);
    let new = NewBatch { tenant, kind, filter, at_a_time, request, validate_only };
    Some(Change::Batch(Box::new(new)))
}

/// How many desktops of a pool's trial there are, and how many there may be.
pub(crate) type Tried = BTreeMap<PoolId, (usize, u32)>;

impl Checker {
    /// A step of a roll-out brings no more desktops than it may, and more failures than it stands end it.
    pub(crate) fn check_rollouts(&mut self) {
        let mut after = Tried::new();
        let mut found = Vec::new();
        for ((tenant, id), pool) in self.world.pools.iter() {
            let Pool { trial: Some(trial), .. } = &**pool else { continue };
            if trial.phase != TrialPhase::Open {
                continue;
            }
            let of_it = self.world.desktops_in(tenant).filter(|(_, one)| {
                let spec = &one.spec;
                spec.pool == Some(*id) && spec.template_digest == trial.digest && !spec.deleting
            });
            let count = of_it.count();
            let (before, most) = self.tried.get(id).copied().unwrap_or((count, 0));
            // What was decided before a step ended may be written in the same commit.
            let most = most.max(trial.desktops_max);
            if before < count && usize::try_from(most).unwrap() < count {
                found.push(format!("I9: roll-out to {id}: {count} of {most} desktops"));
            }
            after.insert(*id, (count, trial.desktops_max));
        }
        self.tried = after;
        for what in found {
            self.finds(what);
        }
    }

    /// An end is final, but that one may go back.
    pub(crate) fn judge_rollout(&mut self, id: RolloutId, now: &Rollout) {
        use RolloutState::{Cancelled, Done, RolledBack, RollingBack};
        let Some(before) = self.world.rollout(&tenant(), id).cloned() else { return };
        let legal = match before.state {
            RolledBack => now.state == RolledBack,
            // It may have gone back all the way within one commit.
            Done => matches!(now.state, Done | RollingBack | RolledBack),
            Cancelled => matches!(now.state, Cancelled | RollingBack | RolledBack),
            RollingBack => matches!(now.state, RollingBack | RolledBack | Cancelled),
            RolloutState::Running | RolloutState::Paused => true,
        };
        if !legal || now.failed < before.failed {
            let (from, to) = (before.state, now.state);
            self.finds(format!("I5: roll-out went from {from:?} to {to:?}"));
        }
    }
}

/// What of it is not at rest when everything else is.
pub(crate) fn restless(world: &World) -> Option<String> {
    if let Some((_, one)) = world.batches.iter().find(|(_, one)| one.end_ms.is_none()) {
        return Some(format!("I5: {} of {} desktops goes on", one.kind.as_str(), one.total));
    }
    let mut open = world.rollouts.iter().filter(|(_, one)| one.state.is_open());
    open.next().map(|(_, one)| format!("I5: roll-out is {:?}: {}", one.state, one.reason))
}
