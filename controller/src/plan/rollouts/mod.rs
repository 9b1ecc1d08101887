//! Roll-outs: begun, steered, and what follows as they go.
//!
//! ```text
//!  canaries ──all ready for soak_secs──▶ wave 1 ──▶ ... ──▶ no desktop of the old version is left: done
//!     └──── more than failures_max failed: back, by itself ◀────┘
//! ```
//! `pools/upkeep.rs` makes and removes the desktops, by the [`Trial`] that is written here.

mod going;

use going::Going;
use vidi_kit::ids::{DesktopId, PoolId, RolloutId, TenantId};

use super::decide::{Decided, View, remember, replay};
use super::users::unreachable_change;
use crate::model::rollout::{Course, FAILURES_KEPT_MAX};
use crate::model::{
    Answer, Change, Desktop, Pin, Pool, Refusal, RequestKey, Rollout, RolloutChange,
    RolloutFailure, RolloutSettings, RolloutState, Row, Step, Trial, TrialPhase, World,
};
use crate::mutants::{self, Mutant};

/// Roll-outs of one tenant that are kept, ended ones too: a month of daily ones to some pools.
pub const ROLLOUTS_PER_TENANT_MAX: usize = 1_000;
/// Bytes of a failure's reason that are kept; it comes from a host.
const REASON_BYTES_MAX: usize = 200;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::Rollout(RolloutChange::Create {
            tenant,
            pool,
            digest,
            settings,
            request,
            validate_only,
        }) => create(view, (tenant, pool), (digest, settings), request, validate_only),
        Change::Rollout(RolloutChange::Steer { tenant, rollout, course, etag }) => {
            steer(view, tenant, rollout, course, &etag)
        }
        other => unreachable_change(&other),
    }
}

fn refused<T>(id: impl ToString, state: impl ToString, remedy: &'static str) -> Result<T, Refusal> {
    let (id, state) = (id.to_string(), state.to_string());
    Err(Refusal::WrongState { kind: "roll-out", id, state, remedy })
}

fn create(
    view: View<'_>,
    (tenant, pool_id): (TenantId, PoolId),
    (digest, settings): (String, RolloutSettings),
    request: Option<RequestKey>,
    validate_only: bool,
) -> Result<Decided, Refusal> {
    let world = view.world;
    if let Some(before) = replay(world, &tenant, request.as_ref())?
        && let Some(id) = rollout_of(&before.resource)
        && world.rollout(&tenant, id).is_some()
    {
        return Ok(Decided::nothing(Answer::Rollout(id)));
    }
    let pool = world.pool(&tenant, pool_id).filter(|pool| !pool.deleting);
    let pool = pool.ok_or_else(|| Refusal::not_found("pool", pool_id))?;
    let template = &pool.settings.template;
    let from = world.pool_version(&tenant, pool);
    let from = from.ok_or_else(|| Refusal::not_found("template", template))?.clone();
    if world.version(&tenant, template, &digest).is_none() {
        return Err(Refusal::not_found("version", digest));
    }
    if let Some(trial) = pool.trial.as_ref().filter(|trial| trial.phase != TrialPhase::Left) {
        let remedy = "wait for its end, or cancel it or roll it back";
        return refused(trial.rollout, "already going on in this pool", remedy);
    }
    if from == digest {
        return refused(pool_id, "not needed: the pool has this version", "choose another one");
    }
    if ROLLOUTS_PER_TENANT_MAX <= world.rollouts_of(&tenant).count() {
        let what = "roll-outs of this tenant (they are kept for 30 days)";
        return Err(Refusal::LimitExceeded { what, limit: ROLLOUTS_PER_TENANT_MAX });
    }
    let id = RolloutId::new(view.new_id);
    if validate_only {
        return Ok(Decided::nothing(Answer::Rollout(id)));
    }
    let trial = Trial {
        rollout: id,
        digest: digest.clone(),
        desktops_max: settings.canaries.min(pool.settings.max_desktops),
        beyond_need: true,
        ready_ms: i64::from(settings.ready_secs) * 1_000,
        phase: TrialPhase::Open,
    };
    let pin = Some(Pin { digest: from.clone(), since_ms: view.now_ms });
    let tried = Pool { pin, trial: Some(trial), ..Pool::clone(pool) };
    let rollout = Rollout {
        pool: pool_id,
        template: template.clone(),
        to: digest,
        from,
        settings,
        state: RolloutState::Running,
        reason: String::new(),
        step: 0,
        healthy_ms: None,
        failed: 0,
        failures: Vec::new(),
        create_ms: view.now_ms,
        end_ms: None,
        generation: 1,
    };
    let remembered = remember(view, &tenant, request, (None, name(&tenant, id)))?;
    let rows =
        [Row::Rollout(tenant.clone(), id, Box::new(rollout)), Row::Pool(tenant, pool_id, tried)];
    Ok(Decided::rows(Answer::Rollout(id), rows.into_iter().chain(remembered)))
}

/// `tenants/{t}/rollouts/{r}`.
pub fn name(tenant: &TenantId, id: RolloutId) -> String {
    format!("tenants/{tenant}/rollouts/{id}")
}

fn rollout_of(resource: &str) -> Option<RolloutId> {
    resource.rsplit_once("/rollouts/")?.1.parse().ok()
}

fn steer(
    view: View<'_>,
    tenant: TenantId,
    id: RolloutId,
    course: Course,
    etag: &str,
) -> Result<Decided, Refusal> {
    use RolloutState::{Cancelled, Done, Paused, RolledBack, RollingBack, Running};
    let world = view.world;
    let old = world.rollout(&tenant, id).ok_or_else(|| Refusal::not_found("roll-out", id))?;
    if !etag.is_empty() && etag != World::rollout_etag(old) {
        return Err(Refusal::EtagStale { kind: "roll-out", id: id.to_string() });
    }
    let answer = Answer::Rollout(id);
    let mut going = Going { world, tenant: &tenant, id, now_ms: view.now_ms, old };
    let steps = match (course, old.state) {
        (Course::Pause, Paused)
        | (Course::Resume, Running)
        | (Course::Cancel, Cancelled)
        | (Course::RollBack, RollingBack | RolledBack) => Vec::new(),
        (Course::Pause, Running) => going.pause(),
        (Course::Resume, Paused) => going.resume(),
        (Course::Cancel, Running | Paused) => going.cancel("cancelled"),
        (Course::RollBack, Running | Paused | Done | Cancelled) => {
            if !going.is_last_order() {
                let remedy = "roll that version out, or publish it";
                return refused(id, "not the last that was ordered for its pool", remedy);
            }
            if !going.has_former_version() {
                let remedy = "upload that version again, or publish another one";
                return refused(id, "from a version that was deleted since", remedy);
            }
            going.go_back("rolled back by an operator".to_owned())
        }
        (Course::Pause | Course::Resume | Course::Cancel, _) => {
            return refused(id, word(old.state), "begin another one");
        }
    };
    Ok(Decided { answer, steps })
}

/// The word for a state, for people.
pub const fn word(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Running => "running",
        RolloutState::Paused => "paused",
        RolloutState::RollingBack => "rolling back",
        RolloutState::Done => "done",
        RolloutState::RolledBack => "rolled back",
        RolloutState::Cancelled => "cancelled",
    }
}

/// What follows for the roll-out of a pool whose desktops are as they should be; none when nothing does.
pub fn settle(world: &World, tenant: &TenantId, pool: &Pool, now_ms: i64) -> Vec<Step> {
    let Some(trial) = pool.trial.as_ref().filter(|trial| trial.phase != TrialPhase::Left) else {
        return Vec::new();
    };
    let Some(old) = world.rollout(tenant, trial.rollout) else { return Vec::new() };
    let mut going = Going { world, tenant, id: trial.rollout, now_ms, old };
    match old.state {
        RolloutState::Running => going.on(pool, trial),
        RolloutState::RollingBack => going.back(),
        RolloutState::Paused
        | RolloutState::Done
        | RolloutState::RolledBack
        | RolloutState::Cancelled => Vec::new(),
    }
}

/// Desktops of the new version that a pool should make now, room or not.
pub fn wanted(world: &World, tenant: &TenantId, id: PoolId, pool: &Pool) -> u32 {
    let Some(trial) = pool.trial.as_ref().filter(|trial| trial.phase == TrialPhase::Open) else {
        return 0;
    };
    let counts = world.trial_counts(tenant, id);
    if mutants::on(Mutant::RolloutAtOnce) {
        return counts.old_free();
    }
    let more = trial.desktops_max.saturating_sub(counts.of_new());
    if trial.beyond_need { more } else { more.min(counts.old_free()) }
}

/// Whether the roll-out of a pool may go on though nothing changed.
pub fn is_restless(pool: &Pool) -> bool {
    pool.trial.as_ref().is_some_and(|trial| trial.phase != TrialPhase::Left)
}

/// The roll-out of a pool that is deleted is over.
pub(super) fn pool_deleted(
    world: &World,
    tenant: &TenantId,
    pool: &Pool,
    now_ms: i64,
) -> Option<Step> {
    let trial = pool.trial.as_ref()?;
    let old = world.rollout(tenant, trial.rollout).filter(|old| old.state.is_open())?;
    let going = Going { world, tenant, id: trial.rollout, now_ms, old };
    let mut over = going.next(RolloutState::Cancelled);
    "its pool was deleted".clone_into(&mut over.reason);
    Some(going.put(over))
}

/// The roll-out with these failures more, of desktops that have its version; none where that is no
/// roll-out's that goes on.
pub(super) fn failed(
    world: &World,
    tenant: &TenantId,
    pool: &Pool,
    failures: &[(DesktopId, String)],
    now_ms: i64,
) -> Option<Step> {
    let trial = pool.trial.as_ref().filter(|trial| trial.phase == TrialPhase::Open)?;
    let old = world.rollout(tenant, trial.rollout)?;
    if failures.is_empty() {
        return None;
    }
    let going = Going { world, tenant, id: trial.rollout, now_ms, old };
    let mut next = going.next(old.state);
    next.failed = next.failed.saturating_add(u32::try_from(failures.len()).unwrap_or(u32::MAX));
    next.healthy_ms = None;
    next.failures.extend(failures.iter().map(|(desktop, reason)| {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason.get(..end).unwrap_or_default().to_owned();
        RolloutFailure { desktop: *desktop, reason, at_ms: now_ms }
    }));
    let surplus = next.failures.len().saturating_sub(FAILURES_KEPT_MAX);
    next.failures.drain(..surplus);
    Some(going.put(next))
}

/// As [`failed`], of a desktop that failed under its user.
pub(super) fn failed_in_use(
    world: &World,
    tenant: &TenantId,
    (id, desktop): (DesktopId, &Desktop),
    now_ms: i64,
) -> Option<Step> {
    let pool = world.pool(tenant, desktop.spec.pool?)?;
    let trial = pool.trial.as_ref()?;
    if trial.digest != desktop.spec.template_digest {
        return None;
    }
    let reason = match &desktop.status.power {
        crate::model::Power::Failed(reason) => format!("in use: {reason}"),
        other => format!("in use: {}", other.word()),
    };
    failed(world, tenant, pool, &[(id, reason)], now_ms)
}
