//! One roll-out as it goes: its steps, its ways back, its end.

use vidi_kit::ids::{RolloutId, TenantId};

use crate::model::rollout::{ALL, TrialCounts};
use crate::model::{
    Pin, Pool, PoolKind, Rollout, RolloutState, Row, Step, Trial, TrialPhase, World,
};

/// A roll-out of a pool, as it goes.
pub(super) struct Going<'a> {
    pub(super) world: &'a World,
    pub(super) tenant: &'a TenantId,
    pub(super) id: RolloutId,
    pub(super) now_ms: i64,
    pub(super) old: &'a Rollout,
}

impl Going<'_> {
    pub(super) fn next(&self, state: RolloutState) -> Rollout {
        let end_ms = if state.is_open() { None } else { Some(self.now_ms) };
        Rollout { state, end_ms, generation: self.old.generation + 1, ..self.old.clone() }
    }

    pub(super) fn put(&self, next: Rollout) -> Step {
        Step::Put(Row::Rollout(self.tenant.clone(), self.id, Box::new(next)))
    }

    fn pool(&self) -> Option<&Pool> {
        self.world.pool(self.tenant, self.old.pool).map(|pool| &**pool)
    }

    fn put_pool(&self, change: impl FnOnce(&mut Pool)) -> Option<Step> {
        let mut pool = self.pool()?.clone();
        change(&mut pool);
        Some(Step::Put(Row::Pool(self.tenant.clone(), self.old.pool, pool)))
    }

    fn put_trial(&self, change: impl FnOnce(&mut Trial)) -> Option<Step> {
        self.put_pool(|pool| {
            if let Some(trial) = pool.trial.as_mut().filter(|trial| trial.rollout == self.id) {
                change(trial);
            }
        })
    }

    fn both(&self, next: Rollout, pool: Option<Step>) -> Vec<Step> {
        std::iter::once(self.put(next)).chain(pool).collect()
    }

    /// Nothing that was ordered later says which version the pool has.
    pub(super) fn is_last_order(&self) -> bool {
        let Some(pool) = self.pool() else { return false };
        match (&pool.trial, self.old.state) {
            (Some(trial), _) => trial.rollout == self.id,
            (None, RolloutState::Done) => {
                self.world.pool_version(self.tenant, pool) == Some(&self.old.to)
                    && pool.pin.as_ref().is_some_and(|pin| Some(pin.since_ms) == self.old.end_ms)
            }
            (None, _) => false,
        }
    }

    /// Whether there is still the version that its pool had before.
    pub(super) fn has_former_version(&self) -> bool {
        self.pool().is_some_and(|pool| {
            self.world.version(self.tenant, &pool.settings.template, &self.old.from).is_some()
        })
    }

    pub(super) fn pause(&mut self) -> Vec<Step> {
        let new = self.world.trial_counts(self.tenant, self.old.pool).of_new();
        let pool = self.put_trial(|trial| trial.desktops_max = trial.desktops_max.min(new));
        self.both(Rollout { healthy_ms: None, ..self.next(RolloutState::Paused) }, pool)
    }

    /// The step is made anew, with as many desktops as it has.
    pub(super) fn resume(&mut self) -> Vec<Step> {
        let Some(pool) = self.pool() else { return Vec::new() };
        let new = self.world.trial_counts(self.tenant, self.old.pool).of_new();
        let most = match self.old.step {
            0 => self.old.settings.canaries.min(pool.settings.max_desktops),
            _ => self.after_wave(pool, new),
        };
        let pool = self.put_trial(|trial| trial.desktops_max = most);
        self.both(self.next(RolloutState::Running), pool)
    }

    pub(super) fn cancel(&mut self, reason: &str) -> Vec<Step> {
        let mut next = self.next(RolloutState::Cancelled);
        reason.clone_into(&mut next.reason);
        let pool = self.put_trial(|trial| {
            trial.phase = TrialPhase::Left;
            trial.desktops_max = 0;
        });
        self.both(next, pool)
    }

    /// New desktops have the old version from now on, and free ones of the new version go.
    pub(super) fn go_back(&mut self, reason: String) -> Vec<Step> {
        let next = Rollout { reason, end_ms: None, ..self.next(RolloutState::RollingBack) };
        let trial = Trial {
            rollout: self.id,
            digest: self.old.to.clone(),
            desktops_max: 0,
            beyond_need: false,
            ready_ms: 0,
            phase: TrialPhase::Withdrawn,
        };
        let (from, now_ms) = (self.old.from.clone(), self.now_ms);
        let pool = self.put_pool(|pool| {
            // One that was published since the roll-out began counts more than what was before it.
            let begun_ms = pool.pin.as_ref().filter(|_| pool.trial.is_some());
            let since_ms = begun_ms.map_or(now_ms, |pin| pin.since_ms);
            pool.pin = Some(Pin { digest: from, since_ms });
            pool.trial = Some(trial);
        });
        self.both(next, pool)
    }

    /// How many there may be after one more wave.
    fn after_wave(&self, pool: &Pool, now: u32) -> u32 {
        let all = self.world.pool_counts(self.tenant, self.old.pool).all();
        let percent = u64::from(self.old.settings.wave_percent);
        let wave = (u64::from(all) * percent).div_ceil(100).max(1);
        let most = u64::from(now) + wave;
        let limit = u64::from(pool.settings.max_desktops.max(all));
        if limit <= most { ALL } else { u32::try_from(most).unwrap_or(ALL) }
    }

    pub(super) fn on(&mut self, pool: &Pool, trial: &Trial) -> Vec<Step> {
        let settings = self.old.settings;
        if settings.failures_max < self.old.failed {
            let last = self.old.failures.last().map_or("", |last| &last.reason);
            let (failed, most) = (self.old.failed, settings.failures_max);
            let reason = format!(
                "{failed} desktops of the new version failed, {most} may; the last one: {last}"
            );
            return self.go_back(reason);
        }
        let counts = self.world.trial_counts(self.tenant, self.old.pool);
        let healthy = counts.ready + counts.taken;
        let reached = counts.coming == 0
            && (trial.desktops_max <= healthy || (!trial.beyond_need && counts.old_free() == 0));
        match self.old.healthy_ms {
            None if reached => {
                let mut next = self.next(RolloutState::Running);
                next.healthy_ms = Some(self.now_ms);
                next.reason = String::new();
                vec![self.put(next)]
            }
            None => self.say(waits_for(pool, trial, counts)),
            Some(since_ms) => {
                let soaked = i64::from(settings.soak_secs) * 1_000;
                if self.now_ms.saturating_sub(since_ms) < soaked {
                    return self.say(format!("ready, and watched for {} s", settings.soak_secs));
                }
                self.further(pool, trial, counts)
            }
        }
    }

    /// The step is done: the next one, or the end.
    fn further(&mut self, pool: &Pool, trial: &Trial, counts: TrialCounts) -> Vec<Step> {
        let waits_for_users = pool.settings.kind == PoolKind::Floating && 0 < counts.old_taken;
        if trial.desktops_max == ALL {
            if 0 < counts.old_free() || 0 < counts.coming {
                let text = waits_for(pool, trial, counts);
                return self.say(text);
            }
            if waits_for_users {
                let text = format!("waits for the end of {} sessions", counts.old_taken);
                return self.say(text);
            }
            return self.done(pool, counts);
        }
        let most = self.after_wave(pool, trial.desktops_max.max(counts.of_new()));
        let pool = self.put_trial(|trial| {
            trial.desktops_max = most;
            trial.beyond_need = false;
        });
        let mut next = self.next(RolloutState::Running);
        next.step = next.step.saturating_add(1);
        next.healthy_ms = None;
        next.reason = String::new();
        self.both(next, pool)
    }

    fn done(&mut self, pool: &Pool, counts: TrialCounts) -> Vec<Step> {
        let mut next = self.next(RolloutState::Done);
        next.reason = match (pool.settings.kind, counts.old_taken) {
            (PoolKind::Floating, _) | (PoolKind::Dedicated, 0) => String::new(),
            (PoolKind::Dedicated, kept) => {
                format!("{kept} desktops that belong to users keep the version that they have")
            }
        };
        let pin = Pin { digest: self.old.to.clone(), since_ms: self.now_ms };
        let pool = self.put_pool(|pool| {
            pool.pin = Some(pin);
            pool.trial = None;
            // What failed before was another version.
            pool.suspended = None;
            pool.failures_ms = Vec::new();
        });
        self.both(next, pool)
    }

    pub(super) fn back(&mut self) -> Vec<Step> {
        let counts = self.world.trial_counts(self.tenant, self.old.pool);
        let free = counts.void + counts.ready + counts.coming;
        if 0 < free {
            return Vec::new();
        }
        let next = self.next(RolloutState::RolledBack);
        let pool = self.put_pool(|pool| pool.trial = None);
        self.both(next, pool)
    }

    /// Says where it is, if that is news.
    fn say(&self, reason: String) -> Vec<Step> {
        if self.old.reason == reason {
            return Vec::new();
        }
        let mut next = self.next(self.old.state);
        next.reason = reason;
        vec![self.put(next)]
    }
}

/// For what a step waits, for people. No numbers that change with every desktop: each is a write.
fn waits_for(pool: &Pool, trial: &Trial, counts: TrialCounts) -> String {
    let missing = trial.desktops_max.saturating_sub(counts.of_new());
    if 0 < counts.unplaced {
        return "waits for hosts that can take desktops of the new version".to_owned();
    }
    if 0 < counts.coming {
        return "desktops of the new version are being made".to_owned();
    }
    if 0 < missing && counts.old_free() == 0 && trial.beyond_need {
        let most = pool.settings.max_desktops;
        return format!(
            "waits for room: the pool may have {most} desktops, and somebody uses each of them"
        );
    }
    "desktops of the old version are being replaced".to_owned()
}
