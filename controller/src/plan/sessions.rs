//! Decisions on sessions: claim, release, grant.

use vidi_kit::ids::{AppId, DesktopId, GatewayId, PoolId, SessionId, TenantId, UserId};

use super::decide::{Decided, View, remember, replay};
use super::desktops::{follow_policy, wanted_on};
use super::users::unreachable_change;
use super::{doubt, hosts, machines, pools, usage};
use crate::model::{
    Answer, AssignmentEvent, Change, Desktop, DesktopStatus, DisplayPolicy, EndCause, Granted, Key,
    Place, Presence, Refusal, Request, RequestKey, Row, Session, SessionEvent, Step, Way, World,
};
use crate::mutants::{self, Mutant};

/// Sessions of one desktop that are kept; the oldest ended ones make room.
pub const KEPT_PER_DESKTOP_MAX: usize = 64;
/// Of these at most so many go with each new one: many that waited for one pool may end at once.
const FORGOTTEN_MAX: usize = 4;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::OpenApp { tenant, app, user, request } => open(view, tenant, &app, user, request),
        Change::ReleaseSession { tenant, session, cause } => {
            let world = view.world;
            let known = world.session(&tenant, session);
            let known = known.ok_or_else(|| Refusal::not_found("session", session))?;
            let steps = end(view, &tenant, session, known, cause);
            Ok(Decided { answer: Answer::Session(tenant, session), steps })
        }
        Change::IssueGrant { gateway, token_sha256, tenant, session, problem } => {
            grant(view, (gateway, problem), &token_sha256, &tenant, session)
        }
        other => unreachable_change(&other),
    }
}

/// The steps that end a session, give its desktop back and follow that one's policy; none for one that
/// has ended.
fn end(
    view: View<'_>,
    tenant: &TenantId,
    id: SessionId,
    session: &Session,
    cause: EndCause,
) -> Vec<Step> {
    if !session.is_live() {
        return Vec::new();
    }
    let world = view.world;
    let mut steps = vec![Step::Put(ended(tenant, id, session, cause, view.now_ms))];
    steps.extend(usage::session_ends(world, tenant, id, session, view.now_ms));
    if let Place::Desktop(desktop) = session.place
        && let Some(before) = world.desktop(tenant, desktop)
        && let Some(status) = released(before, id)
    {
        let mut after = Desktop { spec: before.spec.clone(), status };
        let policy = world.release_policy(tenant, &before.spec);
        follow_policy(&mut after, policy, view.now_ms);
        if after.spec != before.spec {
            steps.push(Step::Put(Row::Spec(tenant.clone(), desktop, after.spec)));
        }
        steps.push(Step::Put(Row::Status(tenant.clone(), desktop, after.status)));
    }
    steps
}

/// The row of a session that ends now.
pub(super) fn ended(
    tenant: &TenantId,
    id: SessionId,
    session: &Session,
    cause: EndCause,
    now_ms: i64,
) -> Row {
    let presence = session.presence.next(&SessionEvent::End(cause));
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
    if let Some(before) = replay(world, &tenant, request.as_ref())?
        && let Some(session) = session_of(&before)
        && world.session(&tenant, session).is_some()
    {
        return Ok(Decided::nothing(Answer::Session(tenant, session)));
    }
    // What is not on the caller's menu does not exist for the caller.
    let missing = || Refusal::not_found("app", app);
    let place = **world.apps.get(&(tenant.clone(), app.clone())).ok_or_else(missing)?;
    let id = match place {
        Place::Desktop(id) => id,
        Place::Machine(id) => return machines::open(view, (tenant, id, app), user, request),
        Place::Pool(id) => return pools::open(view, (tenant, id, app), user, request),
    };
    let desktop = world.desktop(&tenant, id).ok_or_else(missing)?;
    if !world.desktop_is_for(&tenant, id, desktop, &user) {
        return Err(missing());
    }
    open_desktop(view, (tenant, id), user, request)
}

/// Claims a desktop that is assigned to this user.
pub(super) fn open_desktop(
    view: View<'_>,
    (tenant, id): (TenantId, DesktopId),
    user: UserId,
    request: Option<RequestKey>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    let desktop = world.desktop(&tenant, id).ok_or_else(|| Refusal::not_found("desktop", id))?;
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
    let held = held.filter(|_| !mutants::on(Mutant::ClaimsTwice));
    let session = held.unwrap_or(SessionId::new(view.new_id));
    let claimed = desktop.assignment().next(&AssignmentEvent::Claim(session, user.clone()));
    if claimed.is_err() && !mutants::on(Mutant::ClaimsTwice) {
        return Err(Refusal::DesktopInUse(id));
    }
    // A desktop in use stays usable while its host waits for that to end.
    let is_kept = held.is_some() && desktop.spec.power_on;
    let is_serviced = hosts::draining(world, desktop).is_some();
    if !is_kept {
        hosts::check_startable(world, id, desktop)?;
    }
    let anew = doubt::decided_anew(desktop);
    let next = anew.as_ref().unwrap_or(desktop);
    let wish = wanted_on(next, world.observed(desktop, id), view.now_ms);
    let (spec, mut status) = match wish.filter(|_| !is_serviced) {
        Some((spec, status)) => (Some(spec), status),
        None => (anew.as_ref().map(|one| one.spec.clone()), desktop.status.clone()),
    };
    status.session = Some(session);
    let mut rows = Vec::new();
    rows.extend(spec.map(|spec| Row::Spec(tenant.clone(), id, spec)));
    if status != desktop.status {
        rows.push(Row::Status(tenant.clone(), id, status));
    }
    let whose = (user, desktop.spec.pool);
    opened(view, (tenant, Place::Desktop(id), session), whose, request, rows)
}

/// Begins a session of a user, and of a pool if it is of one, with these rows beside it, or goes on with it.
pub(super) fn opened(
    view: View<'_>,
    (tenant, place, session): (TenantId, Place, SessionId),
    (user, pool): (UserId, Option<PoolId>),
    request: Option<RequestKey>,
    mut rows: Vec<Row>,
) -> Result<Decided, Refusal> {
    let world = view.world;
    let known = world.session(&tenant, session);
    // Who clicks again is there: the session is not judged absent before the picture comes.
    let record = known.map_or_else(
        || Session {
            user,
            place,
            pool,
            epoch: 0,
            gateway: None,
            create_ms: view.now_ms,
            since_ms: view.now_ms,
            sought_ms: view.now_ms,
            notices: Vec::new(),
            presence: Presence::Opening,
            trace: None,
            problem: String::new(),
        },
        |known| Session { sought_ms: view.now_ms, ..(**known).clone() },
    );
    rows.push(Row::Session(tenant.clone(), session, record));
    let resource = format!("tenants/{tenant}/sessions/{session}");
    rows.extend(remember(view, &tenant, request, (None, resource))?);
    let forgotten = too_many_kept(world, &tenant, place);
    let steps = rows.into_iter().map(Step::Put).chain(forgotten).collect();
    Ok(Decided { answer: Answer::Session(tenant, session), steps })
}

/// The session that a request was answered with.
fn session_of(before: &Request) -> Option<SessionId> {
    before.resource.rsplit('/').next()?.parse().ok()
}

/// The oldest ended sessions of a desktop or machine make room.
fn too_many_kept(world: &World, tenant: &TenantId, place: Place) -> Vec<Step> {
    let kept = world.sessions_of(tenant, place);
    let surplus = (kept.len() + 1).saturating_sub(KEPT_PER_DESKTOP_MAX);
    let ended = |id: &SessionId| world.session(tenant, *id).is_some_and(|one| !one.is_live());
    let oldest = kept.into_iter().filter(ended).take(surplus.min(FORGOTTEN_MAX));
    oldest.map(|id| Step::Delete(Key::Session(tenant.clone(), id))).collect()
}

fn grant(
    view: View<'_>,
    (gateway, problem): (GatewayId, String),
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
    let (way, display_policy) = match session.place {
        Place::Desktop(desktop) => relay_way(world, tenant, desktop)?,
        Place::Machine(machine) => {
            let known = world.machine(tenant, machine);
            let known = known.ok_or_else(|| Refusal::not_found("machine", machine))?;
            let settings = known.settings.clone();
            let display_policy = settings.display_policy;
            (Way::Direct(machine, Box::new(settings)), display_policy)
        }
        Place::Pool(_) => return Err(waiting(view, tenant, id)),
    };
    let epoch = session.epoch + 1;
    let granted = Granted {
        user: session.user.clone(),
        epoch,
        way,
        trace: session.trace,
        user_display_name: world.user_display_name(tenant, &session.user),
        display_policy,
    };
    let sought_ms = view.now_ms;
    let record = Session { epoch, gateway: Some(gateway), sought_ms, problem, ..session.clone() };
    Ok(Decided::rows(Answer::Granted(granted), [Row::Session(tenant.clone(), id, record)]))
}

/// Why a session that waits for a desktop has no grant yet.
fn waiting(view: View<'_>, tenant: &TenantId, id: SessionId) -> Refusal {
    match pools::queue_place(view.world, tenant, id, view.now_ms) {
        Some(pools::QueuePlace { position, estimate_secs, reason }) => {
            Refusal::WaitingForDesktop { position, estimate_secs, reason }
        }
        None => Refusal::not_found("session", id),
    }
}

/// The way to a desktop, and what it allows.
fn relay_way(
    world: &World,
    tenant: &TenantId,
    id: DesktopId,
) -> Result<(Way, DisplayPolicy), Refusal> {
    let desktop = world.desktop(tenant, id).ok_or_else(|| Refusal::not_found("desktop", id))?;
    let Some(host) = &desktop.status.host else {
        return Err(Refusal::WrongState {
            kind: "desktop",
            id: id.to_string(),
            state: "without a host".to_owned(),
            remedy: "wait until it has one",
        });
    };
    // A host whose link is cut may well serve its relay: only an unknown address stops a grant.
    let relay = world.hosts_live.get(host).map(|live| live.hello.relay_address.clone());
    let relay = relay.filter(|address| !address.is_empty());
    let relay_address = relay.ok_or_else(|| Refusal::HostUnreachable(host.clone()))?;
    let way = Way::Relay { desktop: id, host: host.clone(), relay_address };
    Ok((way, world.display_policy(tenant, &desktop.spec)))
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
