//! Decisions on messages to the users of sessions: kept with the session, so that somebody who comes back
//! in time reads them, too.

use vidi_kit::ids::{SessionId, TenantId};

use super::decide::{Decided, View, remember, replay};
use super::users::unreachable_change;
use crate::model::session::NOTICES_MAX;
use crate::model::{Answer, Change, Notice, Refusal, Row, Session, World};

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    let Change::Message { tenant, session, notice, request } = change else {
        return unreachable_change(&change);
    };
    let answer = Answer::Session(tenant.clone(), session);
    if replay(view.world, &tenant, request.as_ref())?.is_some() {
        return Ok(Decided::nothing(answer));
    }
    let known = view.world.session(&tenant, session);
    let known = known.ok_or_else(|| Refusal::not_found("session", session))?;
    let Some(row) = told(view.world, &tenant, session, notice) else {
        return Err(Refusal::WrongState {
            kind: "session",
            id: session.to_string(),
            state: known.presence.word().to_owned(),
            remedy: "its user is not there any more",
        });
    };
    let resource = format!("tenants/{tenant}/sessions/{session}");
    let remembered = remember(view, &tenant, request, (None, resource))?;
    Ok(Decided::rows(answer, std::iter::once(row).chain(remembered)))
}

/// The session with one message more; none: it has ended.
pub(super) fn told(world: &World, tenant: &TenantId, id: SessionId, notice: Notice) -> Option<Row> {
    let known = world.session(tenant, id).filter(|known| known.is_live())?;
    let last = known.notices.last().map_or(0, |last| last.number);
    let mut session = Session::clone(known);
    session.notices.push(Notice { number: last.saturating_add(1), ..notice });
    let surplus = session.notices.len().saturating_sub(NOTICES_MAX);
    session.notices.drain(..surplus);
    Some(Row::Session(tenant.clone(), id, session))
}
