//! Decisions on sessions: claim, release, grant.

use vidi_kit::ids::{AppId, GatewayId, SessionId, TenantId, UserId};

use super::decide::{Decided, View, remember, replay};
use super::desktops::wanted_on;
use super::users::unreachable_change;
use crate::model::{
    Answer, AssignmentEvent, Change, Desktop, DesktopStatus, Granted, Presence, Refusal,
    RequestKey, Row, Session, SessionEvent, Step, World,
};

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::OpenApp { tenant, app, user, request } => open(view, tenant, &app, user, request),
        Change::ReleaseSession { tenant, session, reason } => {
            let world = view.world;
            let known = world.session(&tenant, session);
            let known = known.ok_or_else(|| Refusal::not_found("session", session))?;
            let steps = end(view, &tenant, session, known, &reason);
            Ok(Decided { answer: Answer::Session(tenant, session), steps })
        }
        Change::IssueGrant { gateway, token_sha256, tenant, session } => {
            grant(view, gateway, &token_sha256, &tenant, session)
        }
        other => unreachable_change(&other),
    }
}

/// The steps that end a session and give its desktop back; none for one that has ended.
fn end(
    view: View<'_>,
    tenant: &TenantId,
    id: SessionId,
    session: &Session,
    reason: &str,
) -> Vec<Step> {
    if !session.is_live() {
        return Vec::new();
    }
    let mut steps = vec![Step::Put(ended(tenant, id, session, reason, view.now_ms))];
    if let Some(desktop) = view.world.desktop(tenant, session.desktop)
        && let Some(status) = released(desktop, id)
    {
        steps.push(Step::Put(Row::Status(tenant.clone(), session.desktop, status)));
    }
    steps
}

/// The row of a session that ends now.
pub(super) fn ended(
    tenant: &TenantId,
    id: SessionId,
    session: &Session,
    reason: &str,
    now_ms: i64,
) -> Row {
    let presence = session.presence.next(&SessionEvent::End(reason.to_owned()));
    Row::Session(tenant.clone(), id, Session { presence, since_ms: now_ms, ..session.clone() })
}

/// The status of a desktop that this session gives back; none when it did not have it.
pub(super) fn released(desktop: &Desktop, session: SessionId) -> Option<DesktopStatus> {
    let before = desktop.assignment();
    let release = AssignmentEvent::Release(session, desktop.spec.assigned_user.clone());
    let after = before.next(&release).ok()?;
    (after != before).then(|| DesktopStatus { session: None, ..desktop.status.clone() })
}

fn open(
    view: View<'_>,
    tenant: TenantId,
    app: &AppId,
    user: UserId,
    request: Option<RequestKey>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    // The answer to a repetition is the live session itself; the record only guards the body.
    replay(world, &tenant, request.as_ref())?;
    // What is not on the caller's menu does not exist for the caller.
    let missing = || Refusal::not_found("app", app);
    let id = **world.apps.get(&(tenant.clone(), app.clone())).ok_or_else(missing)?;
    let desktop = world.desktop(&tenant, id).ok_or_else(missing)?;
    if desktop.spec.assigned_user.as_ref() != Some(&user) {
        return Err(missing());
    }
    if desktop.spec.deleting {
        let (id, state) = (id.to_string(), "deleting".to_owned());
        return Err(Refusal::WrongState { kind: "desktop", id, state, remedy: "open another" });
    }
    let held = desktop.status.session;
    if let Some(held) = held
        && world.session(&tenant, held).is_some_and(|one| one.user != user)
    {
        return Err(Refusal::DesktopInUse(id));
    }
    let session = held.unwrap_or(SessionId::new(view.new_id));
    desktop
        .assignment()
        .next(&AssignmentEvent::Claim(session, user.clone()))
        .map_err(|_refusal| Refusal::DesktopInUse(id))?;
    let (spec, mut status) = match wanted_on(desktop, view.world.observed(desktop, id), view.now_ms)
    {
        Some((spec, status)) => (Some(spec), status),
        None => (None, desktop.status.clone()),
    };
    status.session = Some(session);
    let mut rows = Vec::new();
    rows.extend(spec.map(|spec| Row::Spec(tenant.clone(), id, spec)));
    if status != desktop.status {
        rows.push(Row::Status(tenant.clone(), id, status));
    }
    if held.is_none() {
        let record = Session {
            user,
            desktop: id,
            epoch: 0,
            gateway: None,
            create_ms: view.now_ms,
            since_ms: view.now_ms,
            presence: Presence::Opening,
        };
        rows.push(Row::Session(tenant.clone(), session, record));
    }
    let resource = format!("tenants/{tenant}/sessions/{session}");
    rows.extend(remember(view, &tenant, request, (None, resource)));
    Ok(Decided::rows(Answer::Session(tenant, session), rows))
}

fn grant(
    view: View<'_>,
    gateway: GatewayId,
    token_sha256: &str,
    tenant: &TenantId,
    id: SessionId,
) -> Result<Decided, Refusal> {
    let world = view.world;
    let (sign_in, _) = world.signed_in(token_sha256, view.now_ms).ok_or(Refusal::SignedOut)?;
    let session = own_session(world, tenant, id, (&sign_in.tenant, &sign_in.user))?;
    // A session that is over is none to a gateway: it ends its viewer instead of asking again.
    if !session.is_live() {
        return Err(Refusal::not_found("session", id));
    }
    let desktop = world.desktop(tenant, session.desktop);
    let desktop = desktop.ok_or_else(|| Refusal::not_found("desktop", session.desktop))?;
    let Some(host) = &desktop.status.host else {
        return Err(Refusal::WrongState {
            kind: "desktop",
            id: session.desktop.to_string(),
            state: "without a host".to_owned(),
            remedy: "wait until it has one",
        });
    };
    // A host whose link is cut may well serve its relay: only an unknown address stops a grant.
    let relay = world.hosts_live.get(host).map(|live| live.hello.relay_address.clone());
    let relay = relay.filter(|address| !address.is_empty());
    let relay_address = relay.ok_or_else(|| Refusal::HostUnreachable(host.clone()))?;
    let epoch = session.epoch + 1;
    let granted = Granted {
        user: session.user.clone(),
        desktop: session.desktop,
        host: host.clone(),
        epoch,
        relay_address,
    };
    let record = Session { epoch, gateway: Some(gateway), ..session.clone() };
    Ok(Decided::rows(Answer::Granted(granted), [Row::Session(tenant.clone(), id, record)]))
}

/// A session of this user; anybody else's looks like none.
fn own_session<'a>(
    world: &'a World,
    tenant: &TenantId,
    id: SessionId,
    (of, user): (&TenantId, &UserId),
) -> Result<&'a Session, Refusal> {
    world
        .session(tenant, id)
        .map(|session| &**session)
        .filter(|session| of == tenant && session.user == *user)
        .ok_or_else(|| Refusal::not_found("session", id))
}
