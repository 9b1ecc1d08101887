//! One round of the owner: take news, decide changes on a draft, settle what follows, commit, publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tracing::{error, warn};
use vidi_kit::Chance;
use vidi_kit::ids::{HostId, PoolId, SessionId, TenantId};

use super::auditing::{Auditing, Done};
use super::commit::{Committer, Failed, STEPS_MAX};
use super::handle::Asked;
use super::look::{Look, Parts, changed, unplaced, waiting};
use super::{counting, live};
use crate::model::{Answer, Change, Key, Place, Pool, PoolUsers, Refusal, Row, Step, World};
use crate::plan::audit;
use crate::plan::expiry::expired;
use crate::plan::settle::settle;
use crate::plan::{View, decide, usage};
use crate::plan::{batches, hosts, machines, pools};

/// Passes over changed desktops in one round. Each step of a desktop's life makes one more; more
/// than this is a plan that contradicts itself.
const SETTLE_PASSES_MAX: usize = 32;
/// Desktops without a host that are tried when a host may have room now. Who is behind them has a turn when
/// these have found a place, and in [`Look::Waiting`].
const TRIED_PER_ROUND_MAX: usize = 32;
/// Hosts that one round begins to keep, or to which it owes something; the next goes on.
const HOSTS_PER_ROUND_MAX: usize = 64;
/// Rows of a new desktop: what it shall be, how it is, and its place.
const ROWS_OF_DESKTOP: usize = 3;
/// Desktops that one round makes for one pool: as many as fill a commit. Claims must not wait until a large
/// pool is full; the next round goes on at once.
const MADE_PER_ROUND_MAX: usize = STEPS_MAX / ROWS_OF_DESKTOP;
/// So many are made though the commit has less room.
const MADE_PER_ROUND_MIN: usize = 8;
/// Settlements of one change of many desktops in one round: as many as may go on at a time.
const BATCH_SETTLEMENTS_MAX: usize = 10;
/// Commits of one round that only drop what is old in the audit log: 119 blocks each, every 30 s, so more
/// than a hundred each second go, and there is at most one for each commit that does something.
const AUDIT_DROPS_MAX: usize = 32;
/// Settlements of one pool in one pass: with 32 desktops given away in each, more than a round's changes
/// ask for.
const POOL_SETTLEMENTS_MAX: usize = 64;

type Answering = (oneshot::Sender<Result<Answer, Refusal>>, Answer);

/// The world and what makes it durable.
pub(super) struct Owner {
    world: World,
    committer: Committer,
    published: watch::Sender<Arc<World>>,
    chance: Chance,
    /// Changes up to this sequence of the published world are settled.
    settled: u64,
    due: Due,
    parts: Parts,
    auditing: Auditing,
}

/// What rounds go on with where one was not enough, or what news made possible.
#[derive(Default)]
struct Due {
    /// Of which there was news.
    hosts: BTreeSet<HostId>,
    /// That want more desktops than one round makes.
    pools: BTreeSet<(TenantId, PoolId)>,
    /// A host may have room now.
    unplaced: bool,
}

/// A round's work that is not yet durable.
struct Draft {
    world: World,
    steps: BTreeMap<Key, Step>,
    /// Of all steps.
    weight: usize,
    answers: Vec<Answering>,
    /// Calls of people that it does.
    audited: Done,
    /// What waits for the audit log is written now, though nothing else is.
    audits: bool,
    now_ms: i64,
    cursor: u64,
    /// Desktops that may still be made for each pool.
    to_make: BTreeMap<(TenantId, PoolId), usize>,
    /// A host may have more room than it had.
    frees_room: bool,
}

impl Owner {
    pub(super) fn new(
        world: World,
        committer: Committer,
        (published, chance): (watch::Sender<Arc<World>>, Chance),
    ) -> Self {
        Self {
            // What was left undone before is found by the first look at all, part by part.
            settled: world.sequence,
            world,
            committer,
            published,
            chance,
            due: Due::default(),
            parts: Parts::default(),
            auditing: Auditing::default(),
        }
    }

    /// Why the store did not take the last commit; none when it did.
    pub(super) fn store_problem(&self) -> Option<&str> {
        self.committer.problem()
    }

    /// Whether a round follows at once, with whoever asks meanwhile.
    pub(super) fn goes_on(&self) -> bool {
        let Due { hosts, pools, unplaced } = &self.due;
        *unplaced || !hosts.is_empty() || !pools.is_empty() || self.parts.hurries()
    }

    /// One round. An error means that everything must be read again.
    pub(super) async fn round(
        &mut self,
        now_ms: i64,
        asked: Vec<Asked>,
        look: Look,
    ) -> Result<(), Failed> {
        let mut changes = Vec::new();
        let mut news = Vec::new();
        for asked in asked {
            if let Change::Refused(entry) = asked.change {
                self.auditing.wait(*entry);
            } else if live::is_news(&asked.change) {
                let Asked { change, answer, .. } = asked;
                if let Some(host) = live::reporting_host(&change) {
                    self.due.hosts.insert(host.clone());
                    self.due.unplaced = true;
                }
                news.push((answer, live::take(&mut self.world, now_ms, change)));
            } else {
                changes.push(asked);
            }
        }
        if look != Look::Changes {
            live::judge_silence(&mut self.world, now_ms);
            live::judge_gateways(&mut self.world, now_ms);
        }
        let mut draft = Draft {
            world: self.world.clone(),
            steps: BTreeMap::new(),
            weight: 0,
            answers: Vec::new(),
            audited: Done::new(),
            audits: false,
            now_ms,
            cursor: self.settled,
            to_make: BTreeMap::new(),
            frees_room: false,
        };
        let mut done = self.decide_all(&mut draft, now_ms, changes).await;
        // Who has given up is found out in seconds anyway; not with every news of a host.
        if done.is_ok() && look != Look::Changes {
            let given_up = pools::given_up(&draft.world, now_ms);
            done = self.take_fitting(&mut draft, given_up).await;
        }
        if done.is_ok() {
            done = self.settle_all(&mut draft, now_ms, look).await;
        }
        if done.is_ok() {
            draft.audits = look != Look::Changes && self.auditing.waits();
            done = self.flush(&mut draft).await;
        }
        if done.is_ok() {
            self.settled = draft.cursor;
        } else {
            // Looked for anew with the next beat: a store that refuses is not asked without a pause.
            self.due = Due::default();
            self.parts.take_time();
        }
        self.publish();
        for (answer, result) in news {
            // A caller that no longer waits is no fault.
            drop(answer.send(result));
        }
        match done {
            Ok(()) | Err(Failed::Refused(_)) => Ok(()),
            Err(deposed @ Failed::Deposed(_)) => Err(deposed),
        }
    }

    async fn decide_all(
        &mut self,
        draft: &mut Draft,
        now_ms: i64,
        changes: Vec<Asked>,
    ) -> Result<(), Failed> {
        for Asked { change, trace, call, answer } in changes {
            let seeking = seeking(&change);
            let view = View {
                world: &draft.world,
                now_ms,
                trace,
                new_id: self.chance.id(now_ms),
                new_operation: self.chance.id(now_ms),
            };
            match decide(view, change) {
                Err(refusal) => {
                    if let (Refusal::WaitingForDesktop { .. }, Some((tenant, id))) =
                        (&refusal, seeking)
                    {
                        draft.world.seek(&tenant, id, now_ms);
                    }
                    drop(answer.send(Err(refusal)));
                }
                Ok(decided) => {
                    if !draft.fits(&decided.steps)
                        && let Err(failed) = self.flush(draft).await
                    {
                        drop(answer.send(Err(failed.refusal())));
                        match failed {
                            // The draft is the committed world again; the next change may fare better.
                            Failed::Refused(_) => continue,
                            Failed::Deposed(_) => return Err(failed),
                        }
                    }
                    if let Some(call) = call {
                        let done = (&decided.answer, decided.steps.as_slice());
                        let entry = call.done(now_ms, trace, done);
                        draft.audited.push((call, entry));
                    }
                    draft.take(decided.steps);
                    draft.answers.push((answer, decided.answer));
                }
            }
        }
        Ok(())
    }

    /// Lets everything follow that follows from what changed.
    async fn settle_all(
        &mut self,
        draft: &mut Draft,
        now_ms: i64,
        look: Look,
    ) -> Result<(), Failed> {
        let mut due = std::mem::take(&mut self.due);
        let mut more = waiting(&draft.world, look, now_ms);
        if look != Look::Changes || self.parts.hurries() {
            more.extend(self.parts.next(&draft.world));
        }
        more.extend(due.pools.into_iter().map(|(tenant, id)| (tenant, Place::Pool(id))));
        let tried = if due.unplaced && look == Look::Changes {
            unplaced(&draft.world, TRIED_PER_ROUND_MAX)
        } else {
            Vec::new()
        };
        more.extend(tried.iter().cloned());
        if look == Look::Everything {
            self.expire(draft, now_ms).await?;
        }
        if look != Look::Changes {
            due.hosts.extend(hosts::unsettled(&draft.world).cloned());
        }
        self.settle_hosts(draft, now_ms, due.hosts).await?;
        if look != Look::Changes {
            let alive = usage::alive(&draft.world, now_ms);
            self.take_fitting(draft, alive.into_iter().collect()).await?;
        }
        if look != Look::Changes {
            self.settle_batches(draft, now_ms).await?;
        }
        for _ in 0..SETTLE_PASSES_MAX {
            let mut dirty = changed(&draft.world, draft.cursor);
            dirty.append(&mut more);
            draft.cursor = draft.world.sequence;
            if dirty.is_empty() {
                self.due.unplaced = has_room_for_more(draft, &tried);
                return Ok(());
            }
            for (tenant, place) in dirty {
                live::judge_session(&mut draft.world, now_ms, &tenant, place);
                let steps = match place {
                    Place::Desktop(id) => settle(&draft.world, &tenant, id, now_ms),
                    Place::Machine(id) => machines::settle(&draft.world, &tenant, id, now_ms),
                    Place::Pool(id) => {
                        self.settle_pool(draft, now_ms, (tenant, id)).await?;
                        continue;
                    }
                };
                self.take_fitting(draft, steps).await?;
            }
        }
        error!("The plans do not come to rest; the next round goes on");
        Ok(())
    }

    async fn settle_hosts(
        &mut self,
        draft: &mut Draft,
        now_ms: i64,
        mut hosts: BTreeSet<HostId>,
    ) -> Result<(), Failed> {
        let mut steps = Vec::new();
        while let Some(host) = hosts.pop_first() {
            steps.extend(hosts::settle(&draft.world, &host, now_ms));
            if HOSTS_PER_ROUND_MAX <= steps.len() {
                break;
            }
        }
        self.due.hosts.append(&mut hosts);
        self.take_fitting(draft, steps).await
    }

    /// Changes of many desktops go on: each with some at a time, in commits of their own.
    async fn settle_batches(&mut self, draft: &mut Draft, now_ms: i64) -> Result<(), Failed> {
        for id in batches::open(&draft.world) {
            for _ in 0..BATCH_SETTLEMENTS_MAX {
                let chance = self.chance.clone();
                let mut ids = std::iter::repeat_with(|| chance.id(now_ms));
                let steps = batches::settle(&draft.world, id, now_ms, &mut ids);
                if steps.is_empty() {
                    break;
                }
                self.take_fitting(draft, steps).await?;
            }
        }
        Ok(())
    }

    async fn settle_pool(
        &mut self,
        draft: &mut Draft,
        now_ms: i64,
        (tenant, id): (TenantId, PoolId),
    ) -> Result<(), Failed> {
        let key = (tenant.clone(), id);
        for _ in 0..POOL_SETTLEMENTS_MAX {
            let to_make = draft.to_make.get(&key).copied();
            let to_make = to_make.unwrap_or_else(|| draft.room_for_desktops());
            let chance = self.chance.clone();
            let mut ids = (0..to_make).map(|_| chance.id(now_ms));
            let steps = pools::settle(&draft.world, &tenant, id, now_ms, &mut ids);
            let left = ids.len();
            draft.to_make.insert(key.clone(), left);
            if steps.is_empty() {
                if left == 0 && 0 < pools::shortage(&draft.world, &tenant, id, now_ms) {
                    self.due.pools.insert(key);
                }
                return Ok(());
            }
            self.take_fitting(draft, steps).await?;
        }
        Ok(())
    }

    /// Deletes what has expired, in a commit of its own: a full disk still takes deletions alone.
    async fn expire(&mut self, draft: &mut Draft, now_ms: i64) -> Result<(), Failed> {
        self.flush(draft).await?;
        draft.take(expired(&draft.world, now_ms, STEPS_MAX));
        let mut done = self.flush(draft).await;
        for _ in 0..AUDIT_DROPS_MAX {
            let dropped = audit::dropped(&draft.world, now_ms, STEPS_MAX);
            if done.is_err() || dropped.is_empty() {
                break;
            }
            draft.take(dropped);
            done = self.flush(draft).await;
        }
        match done {
            // Nothing else depends on it; a later round tries again.
            Ok(()) | Err(Failed::Refused(_)) => Ok(()),
            Err(deposed @ Failed::Deposed(_)) => Err(deposed),
        }
    }

    async fn take_fitting(&mut self, draft: &mut Draft, steps: Vec<Step>) -> Result<(), Failed> {
        if steps.is_empty() {
            return Ok(());
        }
        if !draft.fits(&steps) {
            self.flush(draft).await?;
        }
        draft.take(steps);
        Ok(())
    }

    /// Makes the draft durable, publishes it and answers. When that fails, the draft is the
    /// committed world again and every caller is told.
    async fn flush(&mut self, draft: &mut Draft) -> Result<(), Failed> {
        let mut steps = std::mem::take(&mut draft.steps);
        draft.weight = 0;
        let answers = std::mem::take(&mut draft.answers);
        let audited = std::mem::take(&mut draft.audited);
        let audits = std::mem::take(&mut draft.audits) || !audited.is_empty();
        if audits {
            for step in self.auditing.steps(&draft.world, draft.now_ms, &audited) {
                draft.world.apply(step.clone());
                steps.insert(step.key(), step);
            }
        }
        if !steps.is_empty()
            && let Err(failed) = self.committer.commit(steps.values()).await
        {
            warn!(?failed, changes = answers.len(), "Nothing was changed: the store refused");
            draft.world = self.world.clone();
            draft.cursor = self.settled;
            for (answer, _) in answers {
                drop(answer.send(Err(failed.refusal())));
            }
            return Err(failed);
        }
        counting::committed(&self.world, &draft.world, steps.values());
        draft.world.revision = self.committer.revision();
        self.world = draft.world.clone();
        self.publish();
        if audits {
            self.auditing.written(&self.world, &audited);
        }
        for (answer, result) in answers {
            drop(answer.send(Ok(result)));
        }
        Ok(())
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.world.clone()));
    }
}

impl Draft {
    /// Whether these steps go into the same commit; what they replace makes room.
    fn fits(&self, steps: &[Step]) -> bool {
        let replaced: usize = steps.iter().map(|step| self.weight_at(&step.key())).sum();
        let new: usize = steps.iter().map(weight).sum();
        (self.weight + new).saturating_sub(replaced) <= STEPS_MAX
    }

    fn weight_at(&self, key: &Key) -> usize {
        self.steps.get(key).map_or(0, weight)
    }

    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.frees_room |=
                matches!(step, Step::Delete(Key::Allocation(..)) | Step::Put(Row::Host(..)));
            self.world.apply(step.clone());
            self.weight += weight(&step);
            let old = self.steps.insert(step.key(), step);
            self.weight -= old.as_ref().map_or(0, weight);
        }
    }

    /// Desktops that may be made so that they fill the commit.
    fn room_for_desktops(&self) -> usize {
        let room = STEPS_MAX.saturating_sub(self.weight) / ROWS_OF_DESKTOP;
        room.clamp(MADE_PER_ROUND_MIN, MADE_PER_ROUND_MAX)
    }
}

/// How much of a commit a step takes: a pool's users may be as many bytes as 40 other rows.
fn weight(step: &Step) -> usize {
    const USERS_PER_STEP: usize = 125;
    match step {
        Step::Put(Row::Pool(_, _, Pool { settings, .. })) => match &settings.users {
            PoolUsers::Listed(users) => 1 + users.len() / USERS_PER_STEP,
            PoolUsers::Everyone => 1,
        },
        Step::Put(Row::Batch(_, batch)) => 1 + batch.filter.desktops.len() / USERS_PER_STEP,
        Step::Put(_) | Step::Delete(_) => 1,
    }
}

impl Failed {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Deposed(_) => Refusal::NotLeader,
            Self::Refused(why) => Refusal::StoreUnavailable(why.clone()),
        }
    }
}

/// The session for which a change seeks a desktop.
fn seeking(change: &Change) -> Option<(TenantId, SessionId)> {
    let Change::IssueGrant { tenant, session, .. } = change else { return None };
    Some((tenant.clone(), *session))
}

/// Whether to try more desktops that have no host: something made room, or all of these found a place.
fn has_room_for_more(draft: &Draft, tried: &[(TenantId, Place)]) -> bool {
    let unplaced = &draft.world.unplaced;
    let waits = |(tenant, place): &(TenantId, Place)| match place {
        Place::Desktop(id) => unplaced.contains_key(&(tenant.clone(), *id)),
        Place::Machine(_) | Place::Pool(_) => false,
    };
    let all_placed = !tried.is_empty() && !tried.iter().any(waits);
    !unplaced.is_empty() && (draft.frees_room || all_placed)
}
