//! Roll-outs: a version of a template comes to the desktops of a pool step by step, and goes back by itself
//! when they fail.

use vidi_kit::ids::{DesktopId, PoolId, RolloutId, TemplateId, TenantId};

use super::change::RequestKey;
use super::pool::{Pool, Standing};
use super::resources::{DesktopSpec, Template};
use super::world::World;

/// Failures of which a roll-out keeps the reasons; it counts all.
pub const FAILURES_KEPT_MAX: usize = 10;
/// As many desktops as no step of a roll-out asks for: there is no limit any more.
pub const ALL: u32 = u32::MAX;

/// A roll-out as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// To the desktops of this pool.
    pub pool: PoolId,
    /// That pool's.
    pub template: TemplateId,
    /// The version that it brings, `sha256:<hex>`.
    pub to: String,
    /// The version that the pool had, to which it goes back.
    pub from: String,
    /// How it goes.
    pub settings: RolloutSettings,
    /// Where it is.
    pub state: RolloutState,
    /// Why it is there, for people; empty: nothing is to be said.
    pub reason: String,
    /// 0: the canaries; then the waves.
    pub step: u32,
    /// Since when all desktops of this step have been ready, ms since the epoch.
    pub healthy_ms: Option<i64>,
    /// Desktops of the new version that failed.
    pub failed: u32,
    /// The last of them, oldest first; at most [`FAILURES_KEPT_MAX`].
    pub failures: Vec<RolloutFailure>,
    /// When it began, ms since the epoch.
    pub create_ms: i64,
    /// When it ended, ms since the epoch.
    pub end_ms: Option<i64>,
    /// Goes up by one with every change.
    pub generation: u64,
}

/// How a roll-out goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutSettings {
    /// Desktops of the new version that are made first, and must be ready before there are more.
    pub canaries: u32,
    /// How many more each wave makes, percent of the pool's desktops; at least one.
    pub wave_percent: u32,
    /// A desktop of the new version that is not ready after this has failed, s.
    pub ready_secs: u32,
    /// So long a step's desktops must have been ready before the next step, s.
    pub soak_secs: u32,
    /// One more failure than this ends it.
    pub failures_max: u32,
}

impl RolloutSettings {
    /// Refuses what no roll-out may be: answers the field of the API and what is expected of it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !(1..=1_000).contains(&self.canaries) {
            return Err(("canaries", "1 to 1000 are expected"));
        }
        if !(1..=100).contains(&self.wave_percent) {
            return Err(("wave_percent", "1 to 100 are expected"));
        }
        if !(30..=7_200).contains(&self.ready_secs) {
            return Err(("ready_secs", "30 s to 2 hours are expected"));
        }
        if 86_400 < self.soak_secs {
            return Err(("soak_secs", "at most 24 hours are expected"));
        }
        if 10_000 < self.failures_max {
            return Err(("failures_max", "at most 10000 are expected"));
        }
        Ok(())
    }
}

/// A desktop of the new version that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutFailure {
    /// Which; it may be gone.
    pub desktop: DesktopId,
    /// What was wrong, for people.
    pub reason: String,
    /// When, ms since the epoch.
    pub at_ms: i64,
}

/// Where a roll-out is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutState {
    /// It goes on by itself.
    Running,
    /// It makes no more desktops of the new version until it is resumed.
    Paused,
    /// Free desktops of the new version are replaced by those of the old one.
    RollingBack,
    /// All desktops have the new version but those that their users keep.
    Done,
    /// New desktops have the old version, and no free one has the new one.
    RolledBack,
    /// New desktops have the old version; those of the new one are used up.
    Cancelled,
}

impl RolloutState {
    /// Every one.
    pub const EVERY: [Self; 6] = [
        Self::Running,
        Self::Paused,
        Self::RollingBack,
        Self::Done,
        Self::RolledBack,
        Self::Cancelled,
    ];

    /// Whether something is still to happen.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::RollingBack)
    }
}

/// The version that a pool's new desktops get because of a roll-out. A later publication of the template
/// counts more, unless a roll-out of the pool is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// `sha256:<hex>`
    pub digest: String,
    /// When it was so ordered, ms since the epoch.
    pub since_ms: i64,
}

/// Another version that some desktops of a pool may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The roll-out that brings it.
    pub rollout: RolloutId,
    /// `sha256:<hex>`
    pub digest: String,
    /// Desktops of it that there may be now.
    pub desktops_max: u32,
    /// They are made though nobody needs them: canaries.
    pub beyond_need: bool,
    /// A desktop of it that is not ready after this has failed, ms.
    pub ready_ms: i64,
    /// What becomes of desktops that have it.
    pub phase: TrialPhase,
}

/// What becomes of desktops that have the version of a [`Trial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialPhase {
    /// They are as good as the others.
    Open,
    /// They go as soon as nobody uses them.
    Withdrawn,
    /// They are as good as the others until the next publication; no more are made.
    Left,
}

/// How the trial of a pool stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrialCounts {
    /// Free desktops of the new version that are ready.
    pub ready: u32,
    /// Free desktops of it on their way to be ready.
    pub coming: u32,
    /// Those of them that have no host yet.
    pub unplaced: u32,
    /// Desktops of it that somebody has.
    pub taken: u32,
    /// Free desktops of the old version that are ready.
    pub old_ready: u32,
    /// Free desktops of the old version on their way.
    pub old_coming: u32,
    /// Desktops of the old version that somebody has.
    pub old_taken: u32,
    /// Free desktops of the new version that are no use any more.
    pub void: u32,
}

impl TrialCounts {
    /// Desktops of the new version.
    pub const fn of_new(&self) -> u32 {
        self.ready + self.coming + self.taken
    }

    /// Free desktops of the old version.
    pub const fn old_free(&self) -> u32 {
        self.old_ready + self.old_coming
    }
}

/// What may be done with roll-outs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutChange {
    /// Begins one.
    Create {
        /// In this tenant.
        tenant: TenantId,
        /// To the desktops of this pool.
        pool: PoolId,
        /// The version.
        digest: String,
        /// How; it has passed [`RolloutSettings::check`].
        settings: RolloutSettings,
        /// For repetition.
        request: Option<RequestKey>,
        /// Only say whether it would be possible.
        validate_only: bool,
    },
    /// Changes the course of one.
    Steer {
        /// In this tenant.
        tenant: TenantId,
        /// Which.
        rollout: RolloutId,
        /// To where.
        course: Course,
        /// As [`World::rollout_etag`] gave it; empty: whatever it is.
        etag: String,
    },
}

/// A course that somebody gives a roll-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It makes no more desktops of the new version for now.
    Pause,
    /// It goes on.
    Resume,
    /// It ends where it is.
    Cancel,
    /// It goes back.
    RollBack,
}

impl World {
    /// A roll-out of a tenant.
    pub fn rollout(&self, tenant: &TenantId, id: RolloutId) -> Option<&std::sync::Arc<Rollout>> {
        self.rollouts.get(&(tenant.clone(), id))
    }

    /// Roll-outs of a tenant, oldest first.
    pub fn rollouts_of<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = (RolloutId, &'a std::sync::Arc<Rollout>)> {
        let first = (tenant.clone(), RolloutId::new(uuid::Uuid::nil()));
        self.rollouts
            .from(std::ops::Bound::Included(&first))
            .take_while(move |((of, _), _)| of == tenant)
            .map(|((_, id), one)| (*id, one))
    }

    /// The version that new desktops of a pool get, but for its trial's; none: its template is gone.
    pub fn pool_version<'a>(&'a self, tenant: &TenantId, pool: &'a Pool) -> Option<&'a String> {
        let template = self.template(tenant, &pool.settings.template)?;
        Some(base_version(template, pool))
    }

    /// Whether a desktop of a pool has a version that its pool wants.
    pub(super) fn is_current(&self, tenant: &TenantId, spec: &DesktopSpec) -> bool {
        let Some(template) = self.template(tenant, &spec.template) else { return true };
        let Some(pool) = spec.pool.and_then(|id| self.pool(tenant, id)) else {
            return template.latest_digest == spec.template_digest;
        };
        if *base_version(template, pool) == spec.template_digest {
            return true;
        }
        pool.trial.as_ref().is_some_and(|trial| {
            trial.digest == spec.template_digest
                && match trial.phase {
                    TrialPhase::Open => true,
                    TrialPhase::Withdrawn => false,
                    TrialPhase::Left => is_pinned(template, pool),
                }
        })
    }

    /// Whether a desktop has the version of its pool's trial.
    pub fn is_tried(&self, tenant: &TenantId, spec: &DesktopSpec) -> bool {
        let pool = spec.pool.and_then(|id| self.pool(tenant, id));
        let trial = pool.and_then(|pool| pool.trial.as_ref());
        trial.is_some_and(|trial| trial.digest == spec.template_digest)
    }

    /// How the trial of a pool stands.
    pub fn trial_counts(&self, tenant: &TenantId, id: PoolId) -> TrialCounts {
        let (all, new) = (self.pool_counts(tenant, id), self.pool_trial_counts(tenant, id));
        let old = |standing| all.get(standing).saturating_sub(new.get(standing));
        TrialCounts {
            ready: new.get(Standing::Ready),
            coming: new.get(Standing::Coming) + new.get(Standing::Unplaced),
            unplaced: new.get(Standing::Unplaced),
            taken: new.get(Standing::Taken),
            old_ready: old(Standing::Ready),
            old_coming: old(Standing::Coming) + old(Standing::Unplaced),
            old_taken: old(Standing::Taken),
            void: new.get(Standing::Outdated) + new.get(Standing::Lost),
        }
    }

    /// Opaque; changes with every change of what is kept.
    pub fn rollout_etag(rollout: &Rollout) -> String {
        format!("g{}", rollout.generation)
    }
}

fn is_pinned(template: &Template, pool: &Pool) -> bool {
    let is_open = pool.trial.as_ref().is_some_and(|trial| trial.phase != TrialPhase::Left);
    is_open || pool.pin.as_ref().is_some_and(|pin| template.publish_ms <= pin.since_ms)
}

fn base_version<'a>(template: &'a Template, pool: &'a Pool) -> &'a String {
    let pin = pool.pin.as_ref().filter(|_| is_pinned(template, pool));
    pin.map_or(&template.latest_digest, |pin| &pin.digest)
}
