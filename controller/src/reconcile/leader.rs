//! The leader's task: wins the leadership, reads everything, owns it until the leadership is gone,
//! and begins again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};
use vidi_kit::telemetry::Pulse;
use vidi_kit::{Backoff, Chance, Clock, Tasks};

use super::commit::{Committer, Failed};
use super::copy::Copy;
use super::handle::{Asked, CHANGES_QUEUED_MAX, Handle, Standing};
use super::load::load;
use super::look::Look;
use super::round::Owner;
use crate::backup;
use crate::model::{Limits, Refusal, World};
use crate::ports::{LEADER_ADDRESS_KEY, Leadership, Store, StoreError, get};

/// Changes that one round decides; they share a commit where they fit.
const CHANGES_PER_ROUND_MAX: usize = 128;
/// Who leads is asked this often while another does.
const LEADER_LOOK_PERIOD: Duration = Duration::from_millis(500);
/// What waits is looked at this often.
const WAITING_PERIOD: Duration = Duration::from_secs(1);
/// Rounds of the period above after which every pool and machine is looked at, with no hint of what changed,
/// and what has expired goes.
const WAITING_ROUNDS_PER_FULL: u32 = 30;

/// Why the reconciler could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is stored could not be read.
    #[error("what is stored cannot be read")]
    Store(#[from] StoreError),
    /// The tasks were stopped meanwhile.
    #[error("the controller was stopped while it started")]
    Stopped,
}

/// What is this controller's own.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its id among its replicas.
    pub id: String,
    /// Where others reach it, `host:port`, to be told by those that do not lead; empty: there are none.
    pub address: String,
    /// What its configuration says.
    pub limits: Limits,
    /// Where its ids, nonces and jitter come from.
    pub chance: Chance,
}

/// Starts the owner's task and waits until it leads and has read everything once.
pub async fn start(
    tasks: &Tasks,
    store: Arc<dyn Store>,
    clock: Clock,
    own: Own,
) -> Result<Handle, StartError> {
    let (handle, first) = stand_by(tasks, store, clock, own);
    first.wait().await?;
    Ok(handle)
}

/// Starts the owner's task, which leads as soon as no other does.
pub fn stand_by(
    tasks: &Tasks,
    store: Arc<dyn Store>,
    clock: Clock,
    own: Own,
) -> (Handle, FirstLead) {
    let (queue, asked) = mpsc::channel(CHANGES_QUEUED_MAX);
    let (published, world) = watch::channel(Arc::new(World::default()));
    let (ready, started) = oneshot::channel();
    let (standing, stands) = watch::channel(Standing::default());
    let pulse = Pulse::default();
    let task = Leader {
        tasks: tasks.clone(),
        store,
        clock,
        own,
        published,
        standing,
        pulse: pulse.clone(),
    };
    let _leading = tasks.spawn("leader", task.run(asked, ready));
    (Handle::new(queue, world, (stands, pulse)), FirstLead(started))
}

/// How the first try to lead ends. Nothing is tried after it when it fails.
#[derive(Debug)]
pub struct FirstLead(oneshot::Receiver<Result<(), StoreError>>);

impl FirstLead {
    /// Waits until this controller has led once and has read everything, or why it cannot.
    pub async fn wait(self) -> Result<(), StartError> {
        Ok(self.0.await.map_err(|_gone| StartError::Stopped)??)
    }
}

struct Leader {
    tasks: Tasks,
    store: Arc<dyn Store>,
    clock: Clock,
    own: Own,
    published: watch::Sender<Arc<World>>,
    standing: watch::Sender<Standing>,
    pulse: Pulse,
}

impl Leader {
    async fn run(
        self,
        mut asked: mpsc::Receiver<Asked>,
        ready: oneshot::Sender<Result<(), StoreError>>,
    ) {
        let mut ready = Some(ready);
        let mut backoff = Backoff::by(
            self.own.chance.clone(),
            Duration::from_millis(100),
            Duration::from_secs(5),
        );
        let group = self.tasks.clone();
        loop {
            let (begin, follow, copy) = (self.begin(), self.follow(), self.copy());
            tokio::pin!(begin, follow, copy);
            let mut beat = tokio::time::interval(WAITING_PERIOD);
            let begun = loop {
                // Cancel-safe: an attempt that is cut holds nothing, `recv` takes nothing when it is,
                // a tick that is not taken comes again.
                tokio::select! {
                    biased;
                    () = group.stopping() => return,
                    begun = &mut begin => break begun,
                    // While another leads, who asks here must not wait for its end.
                    Some(one) = asked.recv() => refuse(one),
                    // To wait for the leadership, however long, is what this task is to do.
                    _ = beat.tick() => self.pulse.beat(),
                    () = &mut follow => {}
                    () = &mut copy => {}
                }
            };
            match begun {
                Ok((leadership, owner)) => {
                    backoff.reset();
                    if let Some(ready) = ready.take() {
                        drop(ready.send(Ok(())));
                    }
                    self.standing.send_replace(Standing { leading: true, ..Standing::default() });
                    if self.serve(&leadership, owner, &mut asked).await {
                        return;
                    }
                    self.standing.send_replace(Standing::default());
                }
                // Of several controllers one that could not read at once tries again: it may be the last.
                Err(failed) => match ready.take_if(|_| self.is_alone() || is_final(&failed)) {
                    Some(ready) => {
                        drop(ready.send(Err(failed)));
                        return;
                    }
                    None => error!(error = %failed, "Cannot lead now; trying again"),
                },
            }
            while let Ok(one) = asked.try_recv() {
                refuse(one);
            }
            // Cancel-safe: a sleep holds nothing.
            tokio::select! {
                biased;
                () = group.stopping() => return,
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }

    /// No other controller shares its store.
    const fn is_alone(&self) -> bool {
        self.own.address.is_empty()
    }

    async fn begin(&self) -> Result<(Leadership, Owner), StoreError> {
        let leadership = self.store.lead(&self.own.id).await?;
        // Nobody restores while somebody leads, so a part is what a restore has left that was cut off.
        if backup::unfinished(&*self.store).await? {
            let why = "a restore of the store was not finished: stop all controllers and restore it again";
            return Err(StoreError::Unavailable(why.to_owned()));
        }
        let world = load(&*self.store, self.clock.now_ms()).await?;
        let chance = self.own.chance.clone();
        let mut committer =
            Committer::new(Arc::clone(&self.store), leadership.fence(), chance.clone()).await?;
        if !self.is_alone() {
            match committer.tell_address(&self.own.address).await {
                Ok(()) => {}
                // A store that takes nothing can still be read from here.
                Err(Failed::Refused(why)) => warn!(reason = why, "Others are not told who leads"),
                Err(Failed::Deposed(why)) => return Err(StoreError::Unavailable(why)),
            }
        }
        info!(
            controller = self.own.id,
            desktops = world.desktops.len(),
            hosts = world.hosts.len(),
            "Leading"
        );
        let world_before = self.published.borrow().sequence;
        // Sequences go on, so that links and watches of before see that something changed.
        let sequence = world.sequence + world_before + 1;
        let revision = committer.revision();
        let world = World { sequence, revision, limits: self.own.limits, ..world };
        self.published.send_replace(Arc::new(world.clone()));
        Ok((leadership, Owner::new(world, committer, (self.published.clone(), chance))))
    }

    /// Keeps a copy of what is stored, as long as it is asked.
    async fn copy(&self) {
        if self.is_alone() {
            std::future::pending::<()>().await;
        }
        let parts = (Arc::clone(&self.store), self.clock.clone(), self.own.chance.clone());
        Copy::new(parts, self.published.clone(), self.standing.clone()).follow().await;
    }

    /// Learns who leads, as long as it is asked: by looking again and again, since a watch may be lost.
    async fn follow(&self) {
        if self.is_alone() {
            std::future::pending::<()>().await;
        }
        let mut looks = tokio::time::interval(LEADER_LOOK_PERIOD);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            // While the store does not answer, the last that was known is as good as any.
            let Ok(found) = get(&*self.store, LEADER_ADDRESS_KEY).await else { continue };
            let leader = found.and_then(|entry| String::from_utf8(entry.value.to_vec()).ok());
            // The own one is of an earlier leadership, and nobody has followed yet.
            let leader = leader.filter(|leader| *leader != self.own.address).unwrap_or_default();
            self.standing.send_if_modified(|standing| {
                let changed = standing.leader != leader;
                standing.leader = leader;
                changed
            });
        }
    }

    /// Until the leadership is gone (false) or the tasks stop (true).
    async fn serve(
        &self,
        leadership: &Leadership,
        mut owner: Owner,
        asked: &mut mpsc::Receiver<Asked>,
    ) -> bool {
        let mut beat = tokio::time::interval(WAITING_PERIOD);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beats: u32 = 0;
        let group = self.tasks.clone();
        let mut batch = Vec::new();
        loop {
            self.pulse.beat();
            // Cancel-safe: `recv_many` takes nothing when it is cut; a tick that is not taken comes
            // again; the others hold nothing.
            let look = tokio::select! {
                biased;
                () = group.stopping() => return true,
                () = leadership.lost() => {
                    error!("The leadership is gone");
                    return false;
                }
                _ = beat.tick() => {
                    beats = beats.wrapping_add(1);
                    if beats % WAITING_ROUNDS_PER_FULL == 1 { Look::Everything } else { Look::Waiting }
                }
                received = asked.recv_many(&mut batch, CHANGES_PER_ROUND_MAX) => {
                    if received == 0 {
                        // Nobody holds a handle any more: there is nobody to decide for.
                        return true;
                    }
                    Look::Changes
                }
                // Last: everybody else has a turn before, and who asks then is in the same round.
                () = tokio::task::yield_now(), if owner.goes_on() => Look::Changes,
            };
            // Not cut by the stop: a commit that has begun is awaited, its callers are answered.
            let changes = std::mem::take(&mut batch);
            let round = owner.round(self.clock.now_ms(), changes, look);
            // Cancel-safe: who lost the leadership reads everything again and does not ask this owner
            // any more. A commit that was under way is fenced; its callers hear that nobody leads here.
            let done = tokio::select! {
                biased;
                done = round => done,
                () = leadership.lost() => {
                    error!("The leadership is gone while the store does not answer");
                    return false;
                }
            };
            if look != Look::Changes {
                // From its end on: where such a look takes longer than the period, callers have their turn.
                beat.reset();
            }
            self.tell_store_problem(owner.store_problem());
            if let Err(Failed::Deposed(why) | Failed::Refused(why)) = done {
                error!(reason = why, "Another controller leads, or the store does not say");
                return false;
            }
        }
    }

    fn tell_store_problem(&self, problem: Option<&str>) {
        self.standing.send_if_modified(|standing| {
            let changed = standing.store_problem.as_deref() != problem;
            if changed {
                standing.store_problem = problem.map(ToOwned::to_owned);
            }
            changed
        });
    }
}

/// Another try would find the same.
const fn is_final(failed: &StoreError) -> bool {
    matches!(failed, StoreError::Damaged(_))
}

fn refuse(asked: Asked) {
    drop(asked.answer.send(Err(Refusal::NotLeader)));
}
