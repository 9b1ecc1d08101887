//! Opens and closes intervals of use, in the commit of the change that they tell of.

use std::sync::Arc;

use vidi_kit::ids::{DesktopId, MachineId, SessionId, TenantId, UserId};

use crate::model::{
    Desktop, Key, Place, Power, Presence, Row, Session, Step, UsageInterval, UsageKey, UsageKind,
    World,
};
use crate::mutants::{self, Mutant};

/// Somebody who is back within this was never gone: the interval goes on. A controller that starts leaves
/// open what it finds open for this long, until the gateways have told it what they have.
pub const GAP_MS: i64 = 15_000;
/// While somebody is connected the leader writes this often that it is there: an interval that
/// nobody can close is closed there, so that it is wrong by this at most.
pub const ALIVE_PERIOD_MS: i64 = 60_000;

/// What follows for the intervals of a desktop that becomes `after`; none: it is gone.
pub(super) fn follow(
    world: &World,
    tenant: &TenantId,
    id: DesktopId,
    after: Option<&Desktop>,
    now_ms: i64,
) -> Vec<Step> {
    let intervals = Intervals { world, tenant, place: Place::Desktop(id), now_ms };
    let holder = after.and_then(|desktop| {
        let id = desktop.status.session?;
        let session = world.session(tenant, id).filter(|one| one.is_live())?;
        Some((desktop.spec.display_name.as_str(), id, &**session))
    });
    intervals.running(after).into_iter().chain(intervals.connected(holder)).collect()
}

/// As [`follow`], of a physical machine of this name: nobody here knows whether it runs.
pub(super) fn follow_machine(
    world: &World,
    (tenant, id, name): (&TenantId, MachineId, &str),
    holder: Option<(SessionId, &Arc<Session>)>,
    now_ms: i64,
) -> Option<Step> {
    let place = Place::Machine(id);
    let intervals = Intervals { world, tenant, place, now_ms };
    intervals.connected(holder.map(|(id, session)| (name, id, &**session)))
}

/// What closes the connected interval of a session that ends now.
pub(super) fn session_ends(
    world: &World,
    tenant: &TenantId,
    id: SessionId,
    session: &Session,
    now_ms: i64,
) -> Option<Step> {
    let intervals = Intervals { world, tenant, place: session.place, now_ms };
    let (key, open) = intervals.open(UsageKind::Connected)?;
    if open.session != Some(id) {
        return None;
    }
    Some(intervals.closed(key, open, attached_until(world, session, now_ms)))
}

/// The step that says that the leader is there; none while it is not due.
pub fn alive(world: &World, now_ms: i64) -> Option<Step> {
    let due = ALIVE_PERIOD_MS <= now_ms.saturating_sub(world.alive_ms);
    let mut live = world.live_sessions.iter();
    let connected = |(id, tenant): (&SessionId, &Arc<TenantId>)| {
        let session = world.session(tenant, *id);
        session.is_some_and(|one| one.presence == Presence::Connected)
    };
    (due && live.any(connected)).then_some(Step::Put(Row::Alive(now_ms)))
}

/// Until when a session is known to have been attached, ms since the epoch.
pub fn attached_until(world: &World, session: &Session, now_ms: i64) -> i64 {
    match session.presence {
        Presence::Connected | Presence::Opening => now_ms,
        // Since this controller leads, nobody has said that it is attached.
        Presence::Disconnected(since_ms) if since_ms <= world.started_ms => {
            world.alive_before_ms.min(since_ms)
        }
        Presence::Disconnected(since_ms) => since_ms,
        Presence::Ended(_) => session.since_ms,
    }
}

struct Intervals<'a> {
    world: &'a World,
    tenant: &'a TenantId,
    place: Place,
    now_ms: i64,
}

impl<'a> Intervals<'a> {
    fn newest(&self, kind: UsageKind) -> Option<(UsageKey, &'a UsageInterval)> {
        let (key, interval) =
            self.world.newest_usage(self.tenant, self.place.counted_as(), kind)?;
        Some((key, interval))
    }

    fn open(&self, kind: UsageKind) -> Option<(UsageKey, &'a UsageInterval)> {
        self.newest(kind).filter(|(_, interval)| interval.end_ms.is_none())
    }

    fn running(&self, after: Option<&Desktop>) -> Vec<Step> {
        let runs = after.filter(|desktop| desktop.status.power == Power::Running);
        match (self.open(UsageKind::Running), runs) {
            (None, Some(desktop)) => {
                let user = desktop.spec.assigned_user.clone();
                let since_ms = desktop.status.power_since_ms;
                let name = &desktop.spec.display_name;
                vec![self.begun(UsageKind::Running, since_ms, name, (user, None))]
            }
            // What it ran before it was somebody's is nobody's.
            (Some((key, open)), Some(desktop)) if open.user != desktop.spec.assigned_user => {
                let user = desktop.spec.assigned_user.clone();
                let end_ms = Some(self.now_ms);
                if self.now_ms <= key.start_ms {
                    return vec![Step::Put(Row::Usage(
                        key,
                        UsageInterval { user, ..open.clone() },
                    ))];
                }
                let theirs = UsageKey { start_ms: self.now_ms, ..key.clone() };
                let begun = UsageInterval { user, ..open.clone() };
                let closed = UsageInterval { end_ms, ..open.clone() };
                vec![Step::Put(Row::Usage(key, closed)), Step::Put(Row::Usage(theirs, begun))]
            }
            (Some(_), None) if after.is_none() && mutants::on(Mutant::IntervalStaysOpen) => {
                Vec::new()
            }
            (Some((key, open)), None) => {
                let end_ms = after.map_or(self.now_ms, |desktop| desktop.status.power_since_ms);
                vec![self.closed(key, open, end_ms)]
            }
            (None, None) | (Some(_), Some(_)) => Vec::new(),
        }
    }

    /// `holder`: the place's name and the session that goes on there.
    fn connected(&self, holder: Option<(&str, SessionId, &Session)>) -> Option<Step> {
        let open = self.open(UsageKind::Connected);
        match (open, holder) {
            (Some((key, open)), Some((_, id, session))) if open.session == Some(id) => {
                let Presence::Disconnected(since_ms) = session.presence else { return None };
                // Written at once: a controller that dies next must not take the moment with it.
                let is_told = self.world.started_ms < since_ms;
                let over = is_told || GAP_MS <= self.now_ms.saturating_sub(since_ms);
                over.then(|| {
                    self.closed(key, open, attached_until(self.world, session, self.now_ms))
                })
            }
            (Some((key, open)), _) => {
                let session = open.session.and_then(|id| self.world.session(self.tenant, id));
                let end_ms = session.map_or(self.now_ms, |session| {
                    attached_until(self.world, session, self.now_ms)
                });
                Some(self.closed(key, open, end_ms))
            }
            (None, Some((name, id, session))) if session.presence == Presence::Connected => {
                Some(self.connection(name, id, session))
            }
            (None, _) => None,
        }
    }

    /// A new connected interval, or the one before when that has just ended.
    fn connection(&self, name: &str, id: SessionId, session: &Session) -> Step {
        if let Some((key, before)) = self.newest(UsageKind::Connected)
            && before.user.as_ref() == Some(&session.user)
            && before.end_ms.is_some_and(|end_ms| self.now_ms.saturating_sub(end_ms) < GAP_MS)
        {
            let again = UsageInterval { end_ms: None, session: Some(id), ..before.clone() };
            return Step::Put(Row::Usage(key, again));
        }
        let user = Some(session.user.clone());
        self.begun(UsageKind::Connected, session.since_ms, name, (user, Some(id)))
    }

    fn begun(
        &self,
        kind: UsageKind,
        since_ms: i64,
        display_name: &str,
        (user, session): (Option<UserId>, Option<SessionId>),
    ) -> Step {
        let before_ms = self.newest(kind).and_then(|(_, before)| before.end_ms).unwrap_or(0);
        // A time of another machine, or of a clock that was set back, must not make them overlap.
        let start_ms = since_ms.min(self.now_ms).max(before_ms);
        let (tenant, desktop) = (self.tenant.clone(), self.place.counted_as());
        let key = UsageKey { tenant, desktop, start_ms, kind };
        let display_name = display_name.to_owned();
        let machine = matches!(self.place, Place::Machine(_));
        let begun = UsageInterval { user, display_name, end_ms: None, session, machine };
        Step::Put(Row::Usage(key, begun))
    }

    /// An interval of no length is none.
    fn closed(&self, key: UsageKey, open: &UsageInterval, end_ms: i64) -> Step {
        let end_ms = end_ms.min(self.now_ms);
        if end_ms <= key.start_ms {
            return Step::Delete(Key::Usage(key));
        }
        Step::Put(Row::Usage(key, UsageInterval { end_ms: Some(end_ms), ..open.clone() }))
    }
}
