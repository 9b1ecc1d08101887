//! Pools: desktops of one template for a set of users, some of them kept ready. What is kept of one, and
//! how its desktops stand.

use std::collections::BTreeSet;

use vidi_kit::ids::{AppId, DesktopId, TemplateId, UserId};

use super::display_policy::DisplayPolicy;
use super::power::Power;
use super::resources::{Desktop, ReleasePolicy};
use super::rollout::{Pin, Trial, TrialPhase};
use super::schedule::Schedule;
use super::world::World;

/// Desktops of one pool: the largest customer we know of has half of it in all.
pub const POOL_DESKTOPS_MAX: u32 = 10_000;
/// Users that one pool names; more are `everyone`, or several pools. With ids of 64 bytes the record keeps
/// below a third of what the store takes.
pub const POOL_USERS_MAX: usize = 5_000;
/// A pool may wait this long for somebody who is gone, s: a week away.
pub const DISCONNECT_SECS_MAX: u32 = 7 * 24 * 60 * 60;
/// Nobody finds the way back to a lost session in less, s.
pub const DISCONNECT_SECS_MIN: u32 = 10;
/// The longest time that a pool may give one session, s: what should last longer has no limit.
pub const MAX_SESSION_SECS_MAX: u32 = 30 * 24 * 60 * 60;
/// The shortest, s: below it nobody gets to work.
pub const MAX_SESSION_SECS_MIN: u32 = 60;
/// Who reads a long page does not touch anything for some minutes, s.
pub const IDLE_SECS_MIN: u32 = 60;
/// A day, s: who leaves a desktop for longer is gone.
pub const IDLE_SECS_MAX: u32 = 24 * 60 * 60;
/// Pools that one user may have open at a time, where that is limited.
pub const USER_SESSIONS_MAX: u32 = 100;

/// A pool as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What is chosen of it.
    pub settings: PoolSettings,
    /// Its id on the users' menus.
    pub app_id: AppId,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
    /// Goes up by one with every change of what is chosen.
    pub generation: u64,
    /// On its way out: it is on no menu, its desktops go, and then it goes.
    pub deleting: bool,
    /// No more desktops are made, since one after the other failed.
    pub suspended: Option<Suspension>,
    /// When desktops of it failed of late before they had a user, ms since the epoch, oldest first; fewer
    /// than suspend it.
    pub failures_ms: Vec<i64>,
    /// The version that a roll-out has brought, or is to leave.
    pub pin: Option<Pin>,
    /// Another version that some of its desktops may have.
    pub trial: Option<Trial>,
}

/// What is chosen of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// For people.
    pub display_name: String,
    /// New desktops get its latest version. Never changes.
    pub template: TemplateId,
    /// Never changes.
    pub kind: PoolKind,
    /// Free desktops that are kept ready for whoever comes next.
    ///
    /// INVARIANT: `min_spare` <= `max_desktops`.
    pub min_spare: u32,
    /// Desktops that there may be, used and unused.
    ///
    /// INVARIANT: 1 <= `max_desktops` <= [`POOL_DESKTOPS_MAX`].
    pub max_desktops: u32,
    /// Whose menus it is on.
    pub users: PoolUsers,
    /// How long a session lasts while nobody is connected to it, s; none: as the configuration says.
    pub disconnect_secs: Option<u32>,
    /// How long a session lasts at most, s.
    pub max_session_secs: Option<u32>,
    /// How long a session lasts while somebody is connected to it and touches nothing, s; none: for ever.
    pub idle_secs: Option<u32>,
    /// So many sessions on desktops of pools may a user have when a click on this one is let in, this one
    /// counted; none: any number.
    pub user_sessions_max: Option<u32>,
    /// When it is of another size.
    pub schedule: Schedule,
    /// As many desktops are kept free as people are expected, where those are more than `min_spare`.
    ///
    /// INVARIANT: not of a dedicated pool.
    pub forecast: bool,
    /// What becomes of a dedicated desktop when its session ends.
    ///
    /// INVARIANT: Delete of a floating pool, Keep or Stop of a dedicated one.
    pub release_policy: ReleasePolicy,
    /// What passes between its desktops and browsers.
    pub display_policy: DisplayPolicy,
}

/// What becomes of a pool's desktops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Destroyed after their user, whatever ended the session; nobody else ever gets them.
    Floating,
    /// Kept for the user whose first click took it.
    Dedicated,
}

/// Whose menus a pool is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolUsers {
    /// Those of all users of its tenant.
    Everyone,
    /// Those of these users.
    Listed(BTreeSet<UserId>),
}

/// Why no more desktops are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Since when, ms since the epoch.
    pub since_ms: i64,
    /// What the last one that failed said, for people.
    pub reason: String,
}

impl Pool {
    /// Whether it is on this user's menu.
    pub fn is_for(&self, user: &UserId) -> bool {
        !self.deleting
            && match &self.settings.users {
                PoolUsers::Everyone => true,
                PoolUsers::Listed(users) => users.contains(user),
            }
    }
}

impl Pool {
    /// What its desktops' standing hangs on.
    pub(super) fn wants_versions(&self) -> (Option<Pin>, Option<(String, TrialPhase)>) {
        let trial = self.trial.as_ref().map(|trial| (trial.digest.clone(), trial.phase));
        (self.pin.clone(), trial)
    }
}

impl PoolSettings {
    /// Refuses what no pool may be: answers the field of the API and what is expected of it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.max_desktops < 1 || POOL_DESKTOPS_MAX < self.max_desktops {
            return Err(("max_desktops", "1 to 10000 are expected"));
        }
        if self.max_desktops < self.min_spare {
            return Err(("min_spare", "at most max_desktops are expected"));
        }
        if let PoolUsers::Listed(users) = &self.users
            && POOL_USERS_MAX < users.len()
        {
            return Err(("users", "at most 5000 are expected: more are everyone"));
        }
        let disconnect = DISCONNECT_SECS_MIN..=DISCONNECT_SECS_MAX;
        if self.disconnect_secs.is_some_and(|secs| !disconnect.contains(&secs)) {
            return Err(("disconnect_secs", "0, or 10 s to 7 days are expected"));
        }
        let longest = MAX_SESSION_SECS_MIN..=MAX_SESSION_SECS_MAX;
        if self.max_session_secs.is_some_and(|secs| !longest.contains(&secs)) {
            return Err(("max_session_secs", "0, or 60 s to 30 days are expected"));
        }
        let idle = IDLE_SECS_MIN..=IDLE_SECS_MAX;
        if self.idle_secs.is_some_and(|secs| !idle.contains(&secs)) {
            return Err(("idle_secs", "0, or 60 s to 24 hours are expected"));
        }
        let sessions = 1..=USER_SESSIONS_MAX;
        if self.user_sessions_max.is_some_and(|count| !sessions.contains(&count)) {
            return Err(("user_sessions_max", "0 to 100 are expected"));
        }
        self.schedule.check(POOL_DESKTOPS_MAX)?;
        if self.forecast && self.kind == PoolKind::Dedicated {
            let rule = "only a floating pool has one: who has a dedicated desktop takes no other";
            return Err(("forecast", rule));
        }
        match (self.kind, self.release_policy) {
            (PoolKind::Floating, ReleasePolicy::Delete)
            | (PoolKind::Dedicated, ReleasePolicy::Keep | ReleasePolicy::Stop) => Ok(()),
            (PoolKind::Floating, ReleasePolicy::Keep | ReleasePolicy::Stop) => {
                Err(("release_policy", "a floating desktop is always destroyed: leave it out"))
            }
            (PoolKind::Dedicated, ReleasePolicy::Delete) => {
                Err(("release_policy", "a dedicated desktop is kept: KEEP or STOP is expected"))
            }
        }
    }
}

/// How a desktop of a pool stands to its next user. The order is that in which they are given away and
/// looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Free, and a click on it shows a picture at once.
    Ready,
    /// As ready, of an older version of the template.
    Outdated,
    /// Free, and its host makes it ready.
    Coming,
    /// Free, without a host.
    Unplaced,
    /// Free, and it will not be ready: failed, off, older than its template and not even ready, on a host
    /// that is silent or drained. It goes. Of one whose host has just lost its link nothing is known yet.
    Lost,
    /// Somebody has it: by a session, or for good; or nobody knows, since a backup was restored.
    Taken,
    /// It is being destroyed.
    Leaving,
    /// To be destroyed when its host answers again: nobody knows whether it is there.
    Stranded,
}

impl Standing {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Outdated,
        Self::Coming,
        Self::Unplaced,
        Self::Lost,
        Self::Taken,
        Self::Leaving,
        Self::Stranded,
    ];

    /// How a desktop stands now, if it is of a pool.
    pub fn of(world: &World, tenant: &vidi_kit::ids::TenantId, id: DesktopId) -> Option<Self> {
        let desktop = world.desktop(tenant, id)?;
        let Desktop { spec, status } = &**desktop;
        spec.pool?;
        let silent = world.is_host_silent(desktop);
        if spec.deleting {
            return Some(if silent { Self::Stranded } else { Self::Leaving });
        }
        if spec.assigned_user.is_some() || status.session.is_some() || spec.restored {
            return Some(Self::Taken);
        }
        let answered = spec.generation <= status.observed_generation;
        let ended = matches!(status.power, Power::Off | Power::Saved | Power::Failed(_));
        let host = status.host.as_ref().and_then(|host| world.hosts.get(host));
        let drained = host.is_some_and(|host| host.draining);
        if silent || drained || !spec.power_on || (answered && ended && !spec.restarting) {
            return Some(Self::Lost);
        }
        let outdated = !world.is_current(tenant, spec);
        Some(match (world.is_ready(desktop, id), outdated) {
            (true, false) => Self::Ready,
            (true, true) => Self::Outdated,
            // It was ready, perhaps, and is again when the host has said so.
            (false, true) if status.host.is_some() && !world.is_host_heard(desktop) => Self::Coming,
            (false, true) => Self::Lost,
            (false, false) if status.host.is_none() => Self::Unplaced,
            (false, false) => Self::Coming,
        })
    }
}

/// How many desktops of a pool stand how; kept up to date with every change of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    counts: [u32; Standing::ALL.len()],
}

impl PoolCounts {
    /// How many stand so.
    pub fn get(&self, standing: Standing) -> u32 {
        let found = Standing::ALL.iter().zip(self.counts).find(|(other, _)| **other == standing);
        found.map_or(0, |(_, count)| count)
    }

    /// Another stands so.
    pub fn add(&mut self, standing: Standing) {
        if let Some(count) = self.place(standing) {
            *count = count.saturating_add(1);
        }
    }

    /// One does not stand so any more.
    pub fn remove(&mut self, standing: Standing) {
        if let Some(count) = self.place(standing) {
            *count = count.saturating_sub(1);
        }
    }

    /// All that count against `max_desktops`: what nobody knows to be there, and what is to be destroyed
    /// as soon as anybody does, does not.
    pub fn all(&self) -> u32 {
        let all = Standing::ALL.iter().filter(|one| **one != Standing::Stranded);
        all.map(|standing| self.get(*standing)).sum()
    }

    /// All, those too.
    pub fn any(&self) -> u32 {
        self.counts.iter().sum()
    }

    fn place(&mut self, standing: Standing) -> Option<&mut u32> {
        let mut places = Standing::ALL.iter().zip(&mut self.counts);
        places.find(|(other, _)| **other == standing).map(|(_, count)| count)
    }
}

/// What is observed of a pool; counted anew with every question, never stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Those there are, without the ones that are being destroyed.
    pub desktops: u32,
    /// Free, and a click on them shows a picture at once.
    pub ready: u32,
    /// Free, on their way to be ready.
    pub preparing: u32,
    /// Somebody has them: by a session, or for good.
    pub claimed: u32,
    /// Users who wait for a desktop.
    pub waiting: u32,
    /// Desktops that there should be free now, ready or on their way.
    pub spare_wanted: u32,
    /// How long its last desktops took to be ready, on average, s; none: not known yet.
    pub ready_secs: Option<u32>,
}

/// How long the last desktops of a pool took from their making to be ready; memory only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootTimes {
    last_ms: Vec<i64>,
}

impl BootTimes {
    /// As many as tell the usual time, and few enough that a new version's counts soon.
    const KEPT_MAX: usize = 16;

    /// Another took this long, ms.
    pub fn add(&mut self, took_ms: i64) {
        if Self::KEPT_MAX <= self.last_ms.len() {
            self.last_ms.remove(0);
        }
        self.last_ms.push(took_ms.max(0));
    }

    /// What they took on average, ms; none: none is known.
    pub fn mean_ms(&self) -> Option<i64> {
        let count = i64::try_from(self.last_ms.len()).ok()?;
        self.last_ms.iter().sum::<i64>().checked_div(count)
    }
}
