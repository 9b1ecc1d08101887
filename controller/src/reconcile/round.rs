//! One round of the owner: take news, decide changes on a draft, settle what follows, commit, publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tracing::{error, warn};
use vidi_kit::Chance;
use vidi_kit::ids::{PoolId, SessionId, TenantId};

use super::commit::{Committer, Failed, STEPS_MAX};
use super::handle::Asked;
use super::{counting, live};
use crate::model::{
    Answer, Change, Key, Place, Pool, PoolUsers, Presence, Refusal, Row, Step, World,
};
use crate::plan::expiry::expired;
use crate::plan::settle::settle;
use crate::plan::{View, decide, usage};
use crate::plan::{hosts, machines, pools};

/// Passes over changed desktops in one round. Each step of a desktop's life makes one more; more
/// than this is a plan that contradicts itself.
const SETTLE_PASSES_MAX: usize = 32;
/// Desktops without a host that one round tries to place.
const PLACED_PER_ROUND_MAX: usize = 1_024;
/// Desktops that one round makes for one pool: claims must not wait until a large pool is full. The next
/// round goes on.
const MADE_PER_ROUND_MAX: usize = 32;
/// Settlements of one pool in one pass: with 32 desktops given away in each, more than a round's changes
/// ask for.
const POOL_SETTLEMENTS_MAX: usize = 64;

type Answering = (oneshot::Sender<Result<Answer, Refusal>>, Answer);

/// What makes a round look at more than what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Only at what changed.
    Changes,
    /// At what waits, too: for a host, for the end of an operation, for silence.
    Waiting,
    /// At everything, and at what has expired.
    Everything,
}

/// The world and what makes it durable.
pub(super) struct Owner {
    world: World,
    committer: Committer,
    published: watch::Sender<Arc<World>>,
    chance: Chance,
    /// Changes up to this sequence of the published world are settled.
    settled: u64,
}

/// A round's work that is not yet durable.
struct Draft {
    world: World,
    steps: BTreeMap<Key, Step>,
    answers: Vec<Answering>,
    cursor: u64,
    /// Desktops made for each pool.
    made: BTreeMap<(TenantId, PoolId), usize>,
}

impl Owner {
    pub(super) fn new(
        world: World,
        committer: Committer,
        (published, chance): (watch::Sender<Arc<World>>, Chance),
    ) -> Self {
        Self { world, committer, published, chance, settled: 0 }
    }

    /// Why the store did not take the last commit; none when it did.
    pub(super) fn store_problem(&self) -> Option<&str> {
        self.committer.problem()
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
            if live::is_news(&asked.change) {
                let Asked { change, answer, .. } = asked;
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
            answers: Vec::new(),
            cursor: self.settled,
            made: BTreeMap::new(),
        };
        let mut done = self.decide_all(&mut draft, now_ms, changes).await;
        // Who has given up is found out in seconds anyway; not with every news of a host.
        if done.is_ok() && look != Look::Changes {
            let given_up = pools::given_up(&draft.world, now_ms);
            done = self.take_fitting(&mut draft, given_up).await;
        }
        if done.is_ok() {
            let look = if news.is_empty() { look } else { look.at_least_waiting() };
            done = self.settle_all(&mut draft, now_ms, look).await;
        }
        if done.is_ok() {
            done = self.flush(&mut draft).await;
        }
        if done.is_ok() {
            self.settled = draft.cursor;
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
        for Asked { change, trace, answer } in changes {
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
        let mut more = waiting(&draft.world, look);
        if look == Look::Everything {
            self.expire(draft, now_ms).await?;
        }
        self.take_fitting(draft, hosts::settle(&draft.world, now_ms)).await?;
        if look != Look::Changes {
            let alive = usage::alive(&draft.world, now_ms);
            self.take_fitting(draft, alive.into_iter().collect()).await?;
        }
        for _ in 0..SETTLE_PASSES_MAX {
            let mut dirty = changed(&draft.world, draft.cursor);
            dirty.append(&mut more);
            draft.cursor = draft.world.sequence;
            if dirty.is_empty() {
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

    async fn settle_pool(
        &mut self,
        draft: &mut Draft,
        now_ms: i64,
        (tenant, id): (TenantId, PoolId),
    ) -> Result<(), Failed> {
        for _ in 0..POOL_SETTLEMENTS_MAX {
            let key = (tenant.clone(), id);
            let made = draft.made.get(&key).copied().unwrap_or(0);
            let chance = self.chance.clone();
            let mut ids = (made..MADE_PER_ROUND_MAX).map(|_| chance.id(now_ms));
            let steps = pools::settle(&draft.world, &tenant, id, now_ms, &mut ids);
            draft.made.insert(key, MADE_PER_ROUND_MAX - ids.len());
            if steps.is_empty() {
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
        match self.flush(draft).await {
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
        let steps = std::mem::take(&mut draft.steps);
        let answers = std::mem::take(&mut draft.answers);
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
        self.world = draft.world.clone();
        self.publish();
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
    /// Whether these steps go into the same commit.
    fn fits(&self, steps: &[Step]) -> bool {
        let weight: usize = self.steps.values().chain(steps).map(weight).sum();
        weight <= STEPS_MAX
    }

    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.world.apply(step.clone());
            self.steps.insert(step.key(), step);
        }
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
        Step::Put(_) | Step::Delete(_) => 1,
    }
}

impl Look {
    fn at_least_waiting(self) -> Self {
        if self == Self::Changes { Self::Waiting } else { self }
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

/// Places that changed behind a sequence; all when more changed than is remembered.
fn changed(world: &World, cursor: u64) -> BTreeSet<(TenantId, Place)> {
    match world.changed_behind(cursor) {
        Some(changed) => changed.map(|(_, tenant, place)| (tenant, place)).collect(),
        None => everything(world).collect(),
    }
}

fn everything(world: &World) -> impl Iterator<Item = (TenantId, Place)> {
    let desktops = world.desktops.iter();
    let desktops = desktops.map(|((tenant, id), _)| (tenant.clone(), Place::Desktop(*id)));
    let machines = world.machines.iter();
    let machines = machines.map(|((tenant, id), _)| (tenant.clone(), Place::Machine(*id)));
    let pools = world.pools.iter();
    let pools = pools.map(|((tenant, id), _)| (tenant.clone(), Place::Pool(*id)));
    desktops.chain(machines).chain(pools)
}

/// The session for which a change seeks a desktop.
fn seeking(change: &Change) -> Option<(TenantId, SessionId)> {
    let Change::IssueGrant { tenant, session, .. } = change else { return None };
    Some((tenant.clone(), *session))
}

/// Places to look at though nothing about them changed.
fn waiting(world: &World, look: Look) -> BTreeSet<(TenantId, Place)> {
    let operated = world.open_operations.iter();
    let operated = operated.map(|((tenant, id, _), _)| (tenant.clone(), Place::Desktop(*id)));
    match look {
        Look::Changes => BTreeSet::new(),
        Look::Waiting => {
            let unplaced = world.unplaced.iter().take(PLACED_PER_ROUND_MAX);
            let unplaced = unplaced.map(|((tenant, id), _)| (tenant.clone(), Place::Desktop(*id)));
            let pools = world.pools.iter();
            let pools = pools.filter(|((tenant, id), _)| pools::is_restless(world, tenant, *id));
            let pools = pools.map(|((tenant, id), _)| (tenant.clone(), Place::Pool(*id)));
            unplaced.chain(operated).chain(deserted(world)).chain(pools).collect()
        }
        Look::Everything => everything(world).chain(operated).collect(),
    }
}

/// Places whose session nobody has attached: it ends some time, its interval before.
fn deserted(world: &World) -> impl Iterator<Item = (TenantId, Place)> {
    world.live_sessions.iter().filter_map(|(id, tenant)| {
        let session = world.session(tenant, *id)?;
        // Who waits for a pool's desktop is that pool's matter.
        let waits = matches!(session.place, Place::Pool(_));
        let attached = session.presence == Presence::Connected;
        (!attached && !waits).then(|| (TenantId::clone(tenant), session.place))
    })
}
