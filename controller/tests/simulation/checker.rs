//! Looks at what is stored after every commit, and at what really runs after every start.

use std::collections::{BTreeMap, BTreeSet};

use vidi_controller::model::quota::{Amounts, Quota};
use vidi_controller::model::{
    Desktop, DesktopSpec, DesktopStatus, Key, Operation, Place, Power, Row, Session, UsageInterval,
    UsageKey, UsageKind, World,
};
use vidi_controller::ports::Write;
use vidi_controller::records;
use vidi_kit::ids::{DesktopId, HostId, PoolId, SessionId, TenantId, UserId};

use crate::rollouts::Tried;
use crate::sim::{Sim, short};
use crate::tables;

/// Of a machine's memory, in hundredths: what may be charged.
const CHARGEABLE_PERCENT: u64 = 95;
/// What was decided so long ago is committed, refused or forgotten, ms.
const COMMIT_MS_MAX: i64 = 60_000;

/// What is stored, and what it was before.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) world: World,
    keys: BTreeMap<String, Key>,
    revision: u64,
    pub(crate) commits: u64,
    /// When the last one was made, ms since the epoch.
    now_ms: i64,
    memory_mib: BTreeMap<HostId, u64>,
    /// States of desktops that were stored, and the ways of the state tables that were gone.
    pub(crate) visited: BTreeSet<String>,
    /// Who waited for a pool and was given a desktop in this commit.
    given: Vec<(PoolId, SessionId)>,
    found: Vec<String>,
    /// What the tenant had with the last commit.
    pub(crate) amounts: Amounts,
    /// Its quota then.
    pub(crate) quota: Quota,
    /// How far roll-outs were then.
    pub(crate) tried: Tried,
}

impl Sim {
    /// A commit was made.
    pub(crate) fn committed(&self, who: &str, revision: u64, writes: &[Write]) {
        let now_ms = self.now_ms();
        let mut checker = self.checker();
        let words: Vec<String> = writes.iter().filter_map(|write| checker.word(write)).collect();
        checker.take(revision, writes, now_ms);
        let found = std::mem::take(&mut checker.found);
        drop(checker);
        self.say(who, &format!("r{revision} {}", words.join(" ")));
        for what in found {
            self.violate(what);
        }
    }

    /// A desktop began to run somewhere.
    pub(crate) fn check_hosts(&self) {
        let mut where_to = BTreeMap::<DesktopId, Vec<HostId>>::new();
        let truth = self.truth();
        for (host, machine) in &truth.machines {
            for (id, _) in machine.domains.iter().filter(|(_, domain)| domain.runs()) {
                where_to.entry(*id).or_default().push(host.clone());
            }
        }
        drop(truth);
        for (id, hosts) in where_to.iter().filter(|(_, hosts)| 1 < hosts.len()) {
            self.violate(format!("I1: {} runs on {hosts:?}", short(id)));
        }
    }
}

impl Checker {
    pub(crate) fn knows_host(&mut self, host: HostId, memory_mib: u64) {
        self.memory_mib.insert(host, memory_mib);
    }

    /// For the log.
    fn word(&self, write: &Write) -> Option<String> {
        let key = write.key();
        let mut parts = key.split('/');
        let kind = parts.next()?;
        if kind == "leader" {
            return None;
        }
        let (sign, id) = match write {
            Write::Put { .. } => ("", parts.nth(1).unwrap_or_default()),
            Write::Delete { .. } => ("-", parts.nth(1).unwrap_or_default()),
        };
        let last = key.rsplit('/').next().filter(|last| *last == "spec" || *last == "status");
        Some(format!("{sign}{}:{}", last.unwrap_or(kind), short(id)))
    }

    pub(crate) fn finds(&mut self, what: String) {
        self.found.push(what);
    }

    fn take(&mut self, revision: u64, writes: &[Write], now_ms: i64) {
        self.commits += 1;
        self.now_ms = now_ms;
        if revision <= self.revision {
            self.finds(format!("I11: revision {revision} after {}", self.revision));
        }
        self.revision = revision;
        let mut touched = BTreeSet::new();
        // A pool and its first desktops are made in one commit.
        let (pools, others): (Vec<&Write>, Vec<&Write>) =
            writes.iter().partition(|write| write.key().starts_with("pool/"));
        for write in pools.into_iter().chain(others) {
            match write {
                Write::Put { key, value } => match records::row(key, value, now_ms) {
                    Ok(Some(row)) => {
                        touched.extend(desktop_of(&row.key()));
                        self.judge(&row);
                        self.keys.insert(key.clone(), row.key());
                        self.world.put(row);
                    }
                    Ok(None) => {}
                    Err(error) => self.finds(format!("{key} cannot be read: {error}")),
                },
                Write::Delete { key } => {
                    if let Some(key) = self.keys.remove(key) {
                        touched.extend(desktop_of(&key));
                        self.world.delete(&key);
                    }
                }
            }
        }
        let sessions = writes.iter().filter_map(|write| match self.keys.get(write.key()) {
            Some(Key::Session(tenant, id)) => self.world.session(tenant, *id),
            _ => None,
        });
        let places = sessions.filter_map(|session| match session.place {
            Place::Desktop(id) => Some(id),
            Place::Machine(_) | Place::Pool(_) => None,
        });
        let places: Vec<DesktopId> = places.collect();
        touched.extend(places);
        for id in touched {
            self.check_desktop(id);
        }
        self.check_turns();
        self.check_quota();
        self.check_rollouts();
        self.check_audit();
    }

    fn judge(&mut self, row: &Row) {
        match row {
            Row::Spec(tenant, id, spec) => self.judge_spec(tenant, *id, spec),
            Row::Status(tenant, id, status) => self.judge_status(tenant, *id, status),
            Row::Allocation(host, id, one) => self.judge_allocation(host, *id, one.memory_mib),
            Row::Session(tenant, id, session) => self.judge_session(tenant, *id, session),
            Row::Operation(id, operation) => {
                let before = self.world.operations.get(id).map(|one| Operation::clone(one));
                if before.is_some_and(|one| one.end.is_some() && one != *operation) {
                    self.finds(format!("I5: the end of operation {} changed", short(id)));
                }
            }
            Row::Usage(key, interval) => self.judge_usage(key, interval),
            Row::Audit(number, block) => self.judge_audit(*number, block),
            Row::Rollout(_, id, rollout) => self.judge_rollout(*id, rollout),
            _ => {}
        }
    }

    fn judge_spec(&mut self, tenant: &TenantId, id: DesktopId, spec: &DesktopSpec) {
        let Some(before) = self.world.desktop(tenant, id).cloned() else {
            self.judge_newcomer(tenant, id, spec);
            return;
        };
        let old = &before.spec;
        // What is kept for nobody any more leaves, so that no click finds it.
        let left = spec.pool.is_none() && spec.assigned_user.is_none() && !old.is_single_use();
        if old.pool != spec.pool && !left {
            self.finds(format!("I4: {} changed its pool", short(id)));
        }
        if spec.pool.is_some()
            && old.assigned_user.is_some()
            && old.assigned_user != spec.assigned_user
        {
            self.finds(format!("I4: {} of a pool goes to another user", short(id)));
        }
        let told = |spec: &DesktopSpec| {
            let wish = (spec.host_power_on(), spec.force_off, spec.deleting);
            (wish, spec.template.clone(), spec.template_digest.clone())
        };
        let after = Desktop { spec: spec.clone(), status: before.status.clone() };
        if spec.generation < old.generation {
            self.finds(format!("I11: the generation of {} went down", short(id)));
        } else if told(spec) != told(old) && spec.generation == old.generation {
            self.finds(format!("I11: {} is told otherwise in one generation", short(id)));
        } else if (told(spec) != told(old)
            || spec.display_name != old.display_name
            || spec.assigned_user != old.assigned_user)
            && World::desktop_etag(&after) == World::desktop_etag(&before)
        {
            self.finds(format!("I11: {} changed under one etag", short(id)));
        }
        if old.deleting && !spec.deleting {
            self.finds(format!("I11: {} is not deleted any more", short(id)));
        }
    }

    /// A pool never makes more than it may have, nor a desktop that is somebody's.
    fn judge_newcomer(&mut self, tenant: &TenantId, id: DesktopId, spec: &DesktopSpec) {
        let Some(pool) = spec.pool else { return };
        let Some(known) = self.world.pool(tenant, pool).cloned() else {
            self.finds(format!("I9: {} is of a pool that is not there", short(id)));
            return;
        };
        let others = self.world.desktops.values();
        let others = others.filter(|one| one.spec.pool == Some(pool) && !one.spec.deleting);
        let count = others.count() + 1;
        // A store that is slow takes what was decided by the hour before.
        let sizes = [0, COMMIT_MS_MAX].map(|ago_ms| known.size_at(self.now_ms - ago_ms));
        let most = sizes.map(|size| size.max_desktops).into_iter().max().unwrap_or(0);
        let most = usize::try_from(most).unwrap();
        // What one version is suspended for a roll-out of another may mend.
        let tried = known.trial.as_ref().is_some_and(|trial| trial.digest == spec.template_digest);
        let suspended = known.suspended.is_some() && !tried;
        if most < count || known.deleting || suspended {
            self.finds(format!("I9: {pool} has {count} desktops, may have {most}: {known:?}"));
        }
    }

    fn judge_status(&mut self, tenant: &TenantId, id: DesktopId, status: &DesktopStatus) {
        let Some(before) = self.world.desktop(tenant, id).cloned() else { return };
        let old = &before.status;
        if old.host.is_some() && old.host != status.host {
            self.finds(format!("I1: {} moved to {:?}", short(id), status.host));
        }
        if status.observed_generation < old.observed_generation {
            self.finds(format!("I11: what was observed of {} went back", short(id)));
        }
        self.visited.extend(tables::way("power", old.power.word(), status.power.word()));
    }

    fn judge_allocation(&mut self, host: &HostId, id: DesktopId, memory_mib: u64) {
        let others = self.world.allocations.iter().filter(|((_, other), _)| *other == id);
        let others: Vec<HostId> =
            others.map(|((other, _), _)| other.clone()).filter(|other| other != host).collect();
        if let Some(other) = others.first() {
            self.finds(format!("I1: {} is given to {host} and to {other}", short(id)));
        }
        if self.world.hosts.get(host).is_none_or(|one| one.cordoned) {
            self.finds(format!("I2: {} is placed on {host}, which is cordoned", short(id)));
        }
        let before = self.world.allocations_of(host).filter(|(other, _)| *other != id);
        let charged_mib = before.map(|(_, one)| one.memory_mib).sum::<u64>() + memory_mib;
        let memory_mib = self.memory_mib.get(host).copied().unwrap_or(0);
        if memory_mib * CHARGEABLE_PERCENT / 100 < charged_mib {
            self.finds(format!("I2: {host} of {memory_mib} MiB is charged {charged_mib}"));
        }
    }

    fn judge_session(&mut self, tenant: &TenantId, id: SessionId, session: &Session) {
        let Some(old) = self.world.session(tenant, id).cloned() else { return };
        if session.epoch < old.epoch {
            self.finds(format!("I11: the epoch of session {} went down", short(id)));
        }
        if let (Place::Pool(pool), Place::Desktop(_)) = (old.place, session.place) {
            self.given.push((pool, id));
        }
        if session.user != old.user {
            self.finds(format!("I4: session {} has another user", short(id)));
        }
        if !old.is_live() && session.is_live() {
            self.finds(format!("I3: session {} lives again", short(id)));
        }
        self.visited.extend(tables::way("session", old.presence.word(), session.presence.word()));
    }

    fn judge_usage(&mut self, key: &UsageKey, interval: &UsageInterval) {
        if interval.end_ms.is_some_and(|end_ms| end_ms <= key.start_ms) {
            self.finds(format!("I7: an interval of {} has no length", short(key.desktop)));
        }
        let of = (key.tenant.clone(), key.desktop, key.kind);
        let newest = self.world.usage_newest.get(&of).map(|start_ms| **start_ms);
        let Some(newest_ms) = newest.filter(|newest_ms| *newest_ms != key.start_ms) else { return };
        let newest = UsageKey { start_ms: newest_ms, ..key.clone() };
        let end_ms = self.world.usage.get(&newest).and_then(|one| one.end_ms);
        if end_ms.is_none_or(|end_ms| key.start_ms < end_ms) {
            self.finds(format!("I7: intervals of {} overlap", short(key.desktop)));
        }
    }

    /// Nobody overtakes who waits for the same pool.
    fn check_turns(&mut self) {
        for (pool, id) in std::mem::take(&mut self.given) {
            let first = self.world.pool_waiting(&crate::sim::tenant(), pool).next();
            if let Some(first) = first.filter(|first| *first < id) {
                self.finds(format!("I3: {} waits and {} was served", short(first), short(id)));
            }
        }
    }

    /// A user has one desktop of a pool.
    fn check_one_each(&mut self, id: DesktopId, spec: &DesktopSpec) {
        let (Some(pool), Some(user)) = (spec.pool, &spec.assigned_user) else { return };
        let theirs = self.world.desktops.iter().filter(|(_, one)| {
            let Desktop { spec, .. } = &***one;
            spec.pool == Some(pool) && spec.assigned_user.as_ref() == Some(user) && !spec.deleting
        });
        if 1 < theirs.count() {
            self.finds(format!("I9: {user} has {} and another desktop of {pool}", short(id)));
        }
    }

    /// What must hold of one desktop between commits.
    fn check_desktop(&mut self, id: DesktopId) {
        let tenant = crate::sim::tenant();
        let desktop = self.world.desktop(&tenant, id).cloned();
        let sessions = self.world.sessions_of(&tenant, Place::Desktop(id));
        let sessions: Vec<(SessionId, UserId, bool)> = sessions
            .into_iter()
            .filter_map(|id| {
                let session = self.world.session(&tenant, id)?;
                Some((id, session.user.clone(), session.is_live()))
            })
            .collect();
        let live: Vec<SessionId> =
            sessions.iter().filter(|(.., live)| *live).map(|(id, ..)| *id).collect();
        if 1 < live.len() {
            self.finds(format!("I3: {} is claimed by {} sessions", short(id), live.len()));
        }
        let users: BTreeSet<&UserId> = sessions.iter().map(|(_, user, _)| user).collect();
        let pooled = desktop.as_ref().is_some_and(|desktop| desktop.spec.pool.is_some());
        if pooled && 1 < users.len() {
            self.finds(format!("I4: {} had {users:?}", short(id)));
        }
        let held = desktop.as_ref().and_then(|desktop| desktop.status.session);
        if held != live.first().copied() {
            self.finds(format!("I3: {} and its session do not know each other", short(id)));
        }
        let open = |kind| {
            let newest = self.world.newest_usage(&tenant, id, kind);
            newest.is_some_and(|(_, interval)| interval.end_ms.is_none())
        };
        let (counts, connected) = (open(UsageKind::Running), open(UsageKind::Connected));
        let runs = desktop.as_ref().is_some_and(|one| one.status.power == Power::Running);
        if counts != runs {
            self.finds(format!("I7: {} runs {runs} and is counted {counts}", short(id)));
        }
        if connected && live.is_empty() {
            self.finds(format!("I7: nobody is on {} and that is counted", short(id)));
        }
        let Some(desktop) = desktop else { return };
        if let Some(host) = &desktop.status.host
            && !self.world.allocations.contains_key(&(host.clone(), id))
        {
            self.finds(format!("I6: {} is on {host} without an allocation", short(id)));
        }
        let Desktop { spec, status } = &*desktop;
        self.check_one_each(id, spec);
        let assigned = match (live.is_empty(), &spec.assigned_user) {
            (false, _) => "claimed",
            (true, Some(_)) => "assigned",
            (true, None) => "free",
        };
        let pooled = if pooled { "pool" } else { "own" };
        self.visited.insert(format!(
            "{} on:{} restarts:{} deleted:{} {assigned} {pooled}",
            status.power.word(),
            spec.power_on,
            spec.restarting,
            spec.deleting
        ));
    }
}

/// The desktop that a row is of.
fn desktop_of(key: &Key) -> Option<DesktopId> {
    match key {
        Key::Spec(_, id) | Key::Status(_, id) | Key::Allocation(_, id) => Some(*id),
        Key::Usage(key) => Some(key.desktop),
        _ => None,
    }
}
