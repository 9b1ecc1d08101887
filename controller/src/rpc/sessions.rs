//! The caller's menu, and sessions.

use std::ops::Bound;
use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{AppId, SessionId, TenantId, UserId};
use vidi_proto::v1::session_service_server::SessionService;
use vidi_proto::v1::{
    App, GetSessionRequest, ListAppsRequest, ListAppsResponse, ListSessionsRequest,
    ListSessionsResponse, OpenAppRequest, ReleaseSessionRequest, Session,
};

use super::authorization::Access;
use super::names;
use super::page::Query;
use super::status::not_found;
use super::wire::{child, desktop_name, machine_name, request_key, session_name, unexpected};
use super::{Caller, Parts, SignedIn, wire};
use crate::model::{self, Answer, Change, Desktop, EndCause, Permission, Power, World};

/// The service.
#[derive(Debug)]
pub struct SessionsRpc {
    parts: Parts,
}

impl SessionsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    async fn answered(&self, change: Change) -> Result<Response<Session>, Status> {
        match self.parts.handle.change(change).await? {
            Answer::Session(tenant, id) => {
                let world = self.parts.handle.world();
                let one = world.session(&tenant, id);
                let one = one.ok_or_else(|| not_found("session", &id.to_string()))?;
                info!(session = %id, desktop = %one.place, state = one.presence.word(), "Session changed");
                Ok(Response::new(wire::session(&tenant, id, one)))
            }
            other => Err(unexpected(&other)),
        }
    }
}

#[tonic::async_trait]
impl SessionService for SessionsRpc {
    async fn list_apps(
        &self,
        request: Request<ListAppsRequest>,
    ) -> Result<Response<ListAppsResponse>, Status> {
        let caller = Caller::of(&request)?;
        // Nobody else has a menu.
        let Caller::User(SignedIn { tenant, user, .. }) = &caller else {
            return Ok(Response::new(ListAppsResponse::default()));
        };
        let world = self.parts.handle.world();
        let mut apps: Vec<App> = world
            .desktops_of(tenant, user)
            .into_iter()
            .filter(|(_, desktop)| !desktop.spec.deleting)
            .map(|(id, desktop)| App {
                name: format!("tenants/{tenant}/apps/{}", desktop.spec.app_id),
                display_name: desktop.spec.display_name.clone(),
                desktop: desktop_name(tenant, id),
                state: state(&world, &desktop, id),
                ready: world.is_ready(&desktop, id),
                power: desktop.status.power.word().to_owned(),
                reason: reason(&desktop),
                machine: String::new(),
                raw: desktop.spec.display_policy.raw == Permission::Allowed,
            })
            .collect();
        apps.extend(machine_apps(&world, tenant, user));
        apps.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Response::new(ListAppsResponse { apps }))
    }

    async fn open_app(
        &self,
        request: Request<OpenAppRequest>,
    ) -> Result<Response<Session>, Status> {
        let caller = Caller::of(&request)?;
        let who = caller.person()?;
        let mut asked = request.into_inner();
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(&caller, "OpenApp", &request_id, &asked)?;
        let (tenant, app) = child::<AppId>("name", &asked.name, "apps")?;
        if tenant != who.tenant {
            return Err(not_found("app", &asked.name));
        }
        let change = Change::OpenApp { tenant, app, user: who.user.clone(), request: key };
        self.answered(change).await
    }

    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        let access = Access::of(&request)?;
        let (tenant, id) = child::<SessionId>("name", &request.get_ref().name, "sessions")?;
        let world = self.parts.handle.world();
        let one = visible(&access, &world, &tenant, id)?;
        Ok(Response::new(wire::session(&tenant, id, one)))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        access.check_list(&world, &tenant)?;
        let query = Query::new("sessions", &asked.parent, asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| child("page_token", after, "sessions"));
        let after = after.transpose()?;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let found: Vec<_> = world
            .sessions
            .from(start)
            .skip_while(|((of, _), _)| *of < tenant)
            .take_while(|((of, _), _)| *of == tenant)
            .filter(|(_, one)| access.reaches(&tenant, Some(&one.user)))
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |((tenant, id), _)| session_name(tenant, *id));
        let sessions = found
            .into_iter()
            .take(query.size)
            .map(|((tenant, id), one)| wire::session(tenant, *id, one))
            .collect();
        Ok(Response::new(ListSessionsResponse { sessions, next_page_token }))
    }

    async fn release_session(
        &self,
        request: Request<ReleaseSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        let access = Access::of(&request)?;
        let (tenant, session) = child::<SessionId>("name", &request.get_ref().name, "sessions")?;
        let world = self.parts.handle.world();
        let one = visible(&access, &world, &tenant, session)?;
        let own = access.caller().is_user(&tenant, &one.user);
        let cause = if own { EndCause::Released } else { EndCause::ByAdministrator };
        let change = Change::ReleaseSession { tenant, session, cause };
        self.answered(change).await
    }
}

fn visible<'a>(
    access: &Access,
    world: &'a World,
    tenant: &TenantId,
    id: SessionId,
) -> Result<&'a Arc<model::Session>, Status> {
    let one = world.session(tenant, id);
    let text = id.to_string();
    access.check(("session", &text), tenant, one.map(|one| &one.user))?;
    one.ok_or_else(|| not_found("session", &text))
}

/// The physical machines on a user's menu: nobody here knows whether they run, so all that is said is
/// whether they are free and were reached the last time.
fn machine_apps<'a>(
    world: &'a World,
    tenant: &'a TenantId,
    user: &'a UserId,
) -> impl Iterator<Item = App> + 'a {
    let mine = world.machines_of(tenant).filter(|(_, machine)| machine.is_for(user));
    mine.map(move |(id, machine)| {
        let newest = world.machine_session(tenant, id);
        let away = newest.is_some_and(|(_, one)| !one.problem.is_empty());
        let in_use = newest.is_some_and(|(_, one)| one.is_live() && one.user != *user);
        let state = match (in_use, away) {
            (true, _) => "In use by somebody else",
            (false, true) => "It was not reached the last time",
            (false, false) => "Ready",
        };
        App {
            name: format!("tenants/{tenant}/apps/{}", machine.app_id),
            display_name: machine.settings.display_name.clone(),
            machine: machine_name(tenant, id),
            state: state.to_owned(),
            ready: !in_use && !away,
            raw: machine.settings.display_policy.raw == Permission::Allowed,
            ..App::default()
        }
    })
}

/// What a desktop waits for, or why it failed.
fn reason(desktop: &Desktop) -> String {
    match &desktop.status.power {
        Power::Failed(reason) => reason.clone(),
        _ => desktop.status.reason.clone(),
    }
}

/// A sentence on a desktop's state, for the user's menu.
fn state(world: &World, desktop: &Desktop, id: vidi_kit::ids::DesktopId) -> String {
    if world.is_host_silent(desktop) {
        return "Its host does not answer".to_owned();
    }
    match &desktop.status.power {
        Power::Running if world.is_ready(desktop, id) => "Ready".to_owned(),
        Power::Running | Power::Starting if desktop.spec.restarting => "Restarting".to_owned(),
        Power::Running | Power::Starting if desktop.spec.power_on => "Starting".to_owned(),
        Power::Running | Power::Starting => "Shutting down".to_owned(),
        Power::Preparing => "Being prepared".to_owned(),
        Power::Off => "Off".to_owned(),
        Power::Saved => "Asleep".to_owned(),
        Power::Failed(reason) => format!("Failed: {reason}"),
    }
}
