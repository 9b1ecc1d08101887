//! Which sessions are attached, by what the gateways say, and which a gateway must close.

use std::collections::BTreeMap;

use vidi_kit::ids::{GatewayId, SessionId, TenantId};

use crate::model::{Desktop, EndCause, Power, Presence, Session, SessionEvent, World};

/// Whether the gateway of a session's newest grant has it attached by that grant.
pub fn is_attached(world: &World, id: SessionId, session: &Session) -> bool {
    let gateway = session.gateway.as_ref().and_then(|gateway| world.gateways.get(gateway));
    gateway.is_some_and(|gateway| gateway.sessions.get(&id) == Some(&session.epoch))
}

/// The session as presence makes it now; none when nothing changes.
pub fn judged(world: &World, id: SessionId, session: &Session, now_ms: i64) -> Option<Session> {
    let event = if is_attached(world, id, session) {
        SessionEvent::Attached
    } else {
        SessionEvent::Detached(now_ms)
    };
    let presence = session.presence.next(&event);
    if presence == session.presence {
        return None;
    }
    let since_ms = match presence {
        Presence::Disconnected(since_ms) => since_ms,
        Presence::Opening | Presence::Connected | Presence::Ended(_) => now_ms,
    };
    // Who has it attached sees it: what was wrong is over.
    let problem = match presence {
        Presence::Connected => String::new(),
        Presence::Opening | Presence::Disconnected(_) | Presence::Ended(_) => {
            session.problem.clone()
        }
    };
    Some(Session { presence, since_ms, problem, ..session.clone() })
}

/// Since when nobody wants to see the desktop of a session; none while somebody has it attached, or
/// waits for it: it is on its way, or a gateway asks for grants.
pub fn gone_since(world: &World, desktop: &Desktop, session: &Session) -> Option<i64> {
    if desktop.spec.power_on && (desktop.status.power != Power::Running || desktop.spec.restarting)
    {
        return None;
    }
    Some(absent_since(world, session)?.max(desktop.status.power_since_ms))
}

/// Since when nobody has a session attached or asks for grants; none while somebody has it.
pub fn absent_since(world: &World, session: &Session) -> Option<i64> {
    let since_ms = match session.presence {
        Presence::Opening => session.since_ms,
        Presence::Disconnected(since_ms) => since_ms,
        Presence::Connected | Presence::Ended(_) => return None,
    };
    // What was before this controller began to lead, it cannot know.
    Some(since_ms.max(world.started_ms).max(session.sought_ms))
}

/// How long a session lasts that nobody has attached, ms: as its pool says, else as the configuration does.
pub(super) fn disconnect_ms(world: &World, tenant: &TenantId, session: &Session) -> i64 {
    let pool = session.pool.and_then(|pool| world.pool(tenant, pool));
    let secs = pool.and_then(|pool| pool.settings.disconnect_secs);
    secs.map_or(world.limits.disconnect_ms, |secs| i64::from(secs) * 1_000)
}

/// The end of a session that has lasted as long as its pool lets it.
pub(super) fn outlived(
    world: &World,
    tenant: &TenantId,
    session: &Session,
    now_ms: i64,
) -> Option<EndCause> {
    let secs = world.pool(tenant, session.pool?)?.settings.max_session_secs?;
    let over = i64::from(secs) * 1_000 <= now_ms.saturating_sub(session.create_ms);
    over.then_some(EndCause::MaxTime)
}

/// The end of a session to which somebody is connected who has touched nothing for longer than its pool lets
/// that be.
pub(super) fn idled(
    world: &World,
    tenant: &TenantId,
    (id, session): (SessionId, &Session),
) -> Option<EndCause> {
    let secs = world.pool(tenant, session.pool?)?.settings.idle_secs?;
    if session.presence != Presence::Connected || !is_attached(world, id, session) {
        return None;
    }
    let gateway = world.gateways.get(session.gateway.as_ref()?)?;
    // Who has just come has looked at least. What was touched since the gateway said so is not known.
    let since_ms = gateway.touched_ms.get(&id)?.max(&session.since_ms);
    let idle_ms = gateway.heard_ms.saturating_sub(*since_ms);
    (i64::from(secs) * 1_000 <= idle_ms).then_some(EndCause::Idle(secs))
}

/// The end of a session that nobody has had since then, where that is too long.
pub(super) fn away(disconnect_ms: i64, since_ms: i64, now_ms: i64) -> Option<EndCause> {
    let is_over = disconnect_ms <= now_ms.saturating_sub(since_ms);
    is_over.then(|| EndCause::Away(u32::try_from(disconnect_ms / 1_000).unwrap_or(u32::MAX)))
}

/// Of the sessions that a gateway says it has, those that it must close.
pub fn to_close<'a>(
    world: &World,
    gateway: &GatewayId,
    present: &'a BTreeMap<SessionId, Present>,
) -> Vec<(SessionId, &'a Present, Closing)> {
    present
        .iter()
        .filter_map(|(id, present)| {
            let closing = match world.session(&present.tenant, *id) {
                None => Closing::Ended(EndCause::Told("the session has ended".to_owned())),
                Some(session) => match &session.presence {
                    Presence::Ended(cause) => Closing::Ended(cause.clone()),
                    Presence::Opening | Presence::Connected | Presence::Disconnected(_) => {
                        let is_here = session.gateway.as_ref() == Some(gateway);
                        let closing = Closing::Elsewhere(session.epoch);
                        return (!is_here).then_some((*id, present, closing));
                    }
                },
            };
            Some((*id, present, closing))
        })
        .collect()
}

/// Why a gateway must close a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It is over.
    Ended(EndCause),
    /// Another gateway has it attached, by this epoch.
    Elsewhere(u64),
}

/// A session that a gateway has attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name as the gateway gave it.
    pub name: String,
    /// Of the grant that it was attached with.
    pub epoch: u64,
    /// For so long nobody has touched keyboard or mouse in it, s.
    pub idle_secs: u32,
}
