//! A user's claim of a desktop of a pool: the one that the user has, else one that is ready, else a
//! place in the queue.

use vidi_kit::ids::{AppId, DesktopId, PoolId, SessionId, TenantId, UserId};

use crate::model::{
    Desktop, DesktopSpec, DesktopStatus, EndCause, Place, Pool, Refusal, RequestKey, Row, Session,
    Standing, Step, World,
};
use crate::plan::decide::{Decided, View};
use crate::plan::desktops::destroyed;
use crate::plan::presence::absent_since;
use crate::plan::sessions::{ended, open_desktop, opened};
use crate::plan::usage;

/// Somebody who waits asks every few seconds; who has not asked for this long has gone.
pub const GIVEN_UP_MS: i64 = 60_000;
/// Sessions that wait for desktops of one pool: as many as a school has pupils who start at eight.
pub const WAITING_PER_POOL_MAX: usize = 10_000;
/// Sessions that one round ends because nobody waits any more; the next takes the rest.
const GIVEN_UP_PER_ROUND_MAX: usize = 64;

/// Where somebody stands who waits for a desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePlace {
    /// 1: the next desktop that is ready.
    pub position: usize,
    /// In so many seconds it has a desktop, as far as is known.
    pub estimate_secs: Option<u32>,
    /// Why it takes longer than it should, for people; empty: desktops are being made.
    pub reason: String,
}

/// Claims a desktop of a pool for a user.
pub(in crate::plan) fn open(
    view: View<'_>,
    (tenant, id, app): (TenantId, PoolId, &AppId),
    user: UserId,
    request: Option<RequestKey>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    // What is not on the caller's menu does not exist for the caller.
    let pool = world.pool(&tenant, id);
    let pool = pool.filter(|pool| world.pool_is_for(&tenant, id, pool, &user));
    let pool = pool.ok_or_else(|| Refusal::not_found("app", app))?;
    let (mut lost, mut left) = (Vec::new(), None);
    if let Some((desktop_id, desktop)) = world.pool_desktop_of(&tenant, id, &user) {
        if !desktop.spec.is_single_use() || !world.is_host_silent(&desktop) {
            if desktop.status.session.is_none() {
                check_open(world, (&tenant, pool), &user, None)?;
            }
            return open_desktop(view, (tenant, desktop_id), user, request);
        }
        lost = left_behind(view, &tenant, desktop_id, &desktop);
        left = Some(desktop_id);
    }
    if let Some(session) = world.waiting_of(&tenant, id, &user) {
        let place = (tenant, Place::Pool(id), session);
        return opened(view, place, (user, Some(id)), request, Vec::new());
    }
    check_open(world, (&tenant, pool), &user, left)?;
    let session = SessionId::new(view.new_id);
    // Who waits comes first.
    let waiting = world.pool_waiting_count(&tenant, id);
    let found = if waiting == 0 { claimable(world, &tenant, id).next() } else { None };
    let mut decided = match found {
        Some((desktop, before)) => {
            let rows = claim_rows(&tenant, (desktop, before), session, &user).to_vec();
            let place = (tenant, Place::Desktop(desktop), session);
            opened(view, place, (user, Some(id)), request, rows)?
        }
        None if WAITING_PER_POOL_MAX <= waiting => {
            let what = "users who wait for this pool";
            return Err(Refusal::LimitExceeded { what, limit: WAITING_PER_POOL_MAX });
        }
        None => {
            let place = (tenant, Place::Pool(id), session);
            opened(view, place, (user, Some(id)), request, Vec::new())?
        }
    };
    decided.steps.extend(lost);
    Ok(decided)
}

/// Refuses a new session to a user who has as many on desktops of pools as this one lets in; that on a
/// desktop that is left behind does not count.
fn check_open(
    world: &World,
    (tenant, pool): (&TenantId, &Pool),
    user: &UserId,
    left: Option<DesktopId>,
) -> Result<(), Refusal> {
    let most = pool.settings.user_sessions_max.and_then(|most| usize::try_from(most).ok());
    let Some(limit) = most else { return Ok(()) };
    let used = world.desktops_of(tenant, user).into_iter().filter(|(id, one)| {
        let session = one.status.session.and_then(|id| world.session(tenant, id));
        let goes_on = session.is_some_and(|session| session.is_live());
        one.spec.pool.is_some() && goes_on && left != Some(*id)
    });
    if used.count() + world.waits_of(tenant, user) < limit {
        return Ok(());
    }
    Err(Refusal::LimitExceeded { what: "desktops of pools that you have open", limit })
}

/// The steps that end a session on a host that is silent, so that its user gets another desktop; this one
/// is destroyed when the host is back.
fn left_behind(view: View<'_>, tenant: &TenantId, id: DesktopId, desktop: &Desktop) -> Vec<Step> {
    let world = view.world;
    let mut steps = Vec::new();
    if let Some(session) = desktop.status.session
        && let Some(known) = world.session(tenant, session).filter(|known| known.is_live())
    {
        let cause = EndCause::HostLost;
        steps.push(Step::Put(ended(tenant, session, known, cause, view.now_ms)));
        steps.extend(usage::session_ends(world, tenant, session, known, view.now_ms));
    }
    let free = DesktopStatus { session: None, ..desktop.status.clone() };
    let mut after = Desktop { spec: desktop.spec.clone(), status: free };
    destroyed(&mut after, view.now_ms);
    steps.push(Step::Put(Row::Spec(tenant.clone(), id, after.spec)));
    steps.push(Step::Put(Row::Status(tenant.clone(), id, after.status)));
    steps
}

/// Free desktops of a pool that show a picture at once, those of the newest version first, then the oldest.
pub(super) fn claimable<'a>(
    world: &'a World,
    tenant: &'a TenantId,
    pool: PoolId,
) -> impl Iterator<Item = (DesktopId, &'a Desktop)> {
    let ready = world.pool_standing(tenant, pool, Standing::Ready);
    let outdated = world.pool_standing(tenant, pool, Standing::Outdated);
    // The index tells of the last change; what it names is looked at once more.
    let is_still = move |id: &DesktopId| {
        let standing = Standing::of(world, tenant, *id);
        matches!(standing, Some(Standing::Ready | Standing::Outdated))
    };
    let found = ready.chain(outdated).filter(is_still);
    found.filter_map(|id| Some((id, &**world.desktop(tenant, id)?)))
}

/// The rows that tie a desktop to its user, beside the session's. They are written in one commit with it.
pub(super) fn claim_rows(
    tenant: &TenantId,
    (id, desktop): (DesktopId, &Desktop),
    session: SessionId,
    user: &UserId,
) -> [Row; 2] {
    let spec = DesktopSpec { assigned_user: Some(user.clone()), ..desktop.spec.clone() };
    let status = DesktopStatus { session: Some(session), ..desktop.status.clone() };
    [Row::Spec(tenant.clone(), id, spec), Row::Status(tenant.clone(), id, status)]
}

/// Why a session that waits is over; none where somebody waits still and may.
pub(super) fn waits_no_more(
    world: &World,
    (tenant, pool): (&TenantId, &Pool),
    session: &Session,
    now_ms: i64,
) -> Option<EndCause> {
    if pool.deleting {
        return Some(EndCause::Destroyed);
    }
    if world.user(tenant, &session.user).is_none() || !is_for(world, tenant, pool, session) {
        return Some(EndCause::ByAdministrator);
    }
    let since_ms = absent_since(world, session)?;
    let gone = GIVEN_UP_MS <= now_ms.saturating_sub(since_ms);
    gone.then(|| EndCause::Away(u32::try_from(GIVEN_UP_MS / 1_000).unwrap_or(u32::MAX)))
}

/// Whether its user may have a desktop of the pool that a session waits for.
fn is_for(world: &World, tenant: &TenantId, pool: &Pool, session: &Session) -> bool {
    let Place::Pool(id) = session.place else { return false };
    world.pool_is_for(tenant, id, pool, &session.user)
}

/// The steps that end sessions which nobody waits for any more, or who waits may not: some of them, where
/// there are many.
pub fn given_up(world: &World, now_ms: i64) -> Vec<Step> {
    let over = world.all_waiting().filter_map(|(tenant, pool, id)| {
        let session = world.session(tenant, id)?;
        let cause = match world.pool(tenant, pool) {
            Some(pool) => waits_no_more(world, (tenant, pool), session, now_ms)?,
            // A pool goes after those who wait for it: only a store that was changed by hand has this.
            None => EndCause::Destroyed,
        };
        Some(Step::Put(ended(tenant, id, session, cause, now_ms)))
    });
    over.take(GIVEN_UP_PER_ROUND_MAX).collect()
}

/// Where somebody stands who waits with this session; none when it does not wait.
pub fn queue_place(
    world: &World,
    tenant: &TenantId,
    id: SessionId,
    now_ms: i64,
) -> Option<QueuePlace> {
    let session = world.session(tenant, id).filter(|session| session.is_live())?;
    let Place::Pool(pool) = session.place else { return None };
    let position = world.pool_position(tenant, pool, id);
    Some(place_at(world, (tenant, pool), position, now_ms))
}

/// Where somebody would stand who came now.
pub fn newcomer_place(world: &World, tenant: &TenantId, pool: PoolId, now_ms: i64) -> QueuePlace {
    let position = world.pool_waiting_count(tenant, pool) + 1;
    place_at(world, (tenant, pool), position, now_ms)
}

fn place_at(
    world: &World,
    (tenant, pool): (&TenantId, PoolId),
    position: usize,
    now_ms: i64,
) -> QueuePlace {
    let estimate_secs = estimate_secs(world, (tenant, pool), position, now_ms);
    // Where one is on its way for this place there is nothing to explain.
    let coming = world.pool_counts(tenant, pool).get(Standing::Coming);
    let reason = if usize::try_from(coming).is_ok_and(|coming| position <= coming) {
        String::new()
    } else {
        super::upkeep::problem(world, tenant, pool, now_ms).unwrap_or_default()
    };
    QueuePlace { position, estimate_secs, reason }
}

/// In so many seconds who stands there has a desktop, if those on their way take as long as the last did.
fn estimate_secs(
    world: &World,
    (tenant, pool): (&TenantId, PoolId),
    position: usize,
    now_ms: i64,
) -> Option<u32> {
    let mean_ms = world.pool_boot_ms(tenant, pool)?;
    let mut coming = world.pool_standing(tenant, pool, Standing::Coming);
    let own = coming.nth(position.checked_sub(1)?)?;
    let begun_ms = world.desktop(tenant, own)?.spec.create_ms;
    let left_ms = begun_ms.saturating_add(mean_ms).saturating_sub(now_ms);
    // One that takes longer than the others did is ready any moment.
    u32::try_from(left_ms.max(1_000).div_euclid(1_000)).ok()
}
