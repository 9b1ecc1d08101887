//! The caller's menu, and sessions.

use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{AppId, SessionId, TenantId};
use vidi_proto::v1::session_service_server::SessionService;
use vidi_proto::v1::{
    GetSessionRequest, ListAppsRequest, ListAppsResponse, ListSessionsRequest,
    ListSessionsResponse, OpenAppRequest, Queue, ReleaseSessionRequest, Session,
    WatchSessionsRequest, WatchSessionsResponse,
};

use super::authorization::Access;
use super::names;
use super::page::Query;
use super::status::not_found;
use super::watching::{scope, watch};
use super::wire::{child, request_key, session_name, unexpected};
use super::{Caller, Parts, SignedIn, menu, watched, wire};
use crate::model::{self, Answer, Change, EndCause, World};
use crate::plan::pools::{QueuePlace, queue_place};

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
                let now_ms = self.parts.clock.now_ms();
                Ok(Response::new(on_wire(&world, (&tenant, id), one, now_ms)))
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
        let apps = menu::apps(&world, tenant, user, self.parts.clock.now_ms());
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
        let now_ms = self.parts.clock.now_ms();
        Ok(Response::new(on_wire(&world, (&tenant, id), one, now_ms)))
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
        let now_ms = self.parts.clock.now_ms();
        let sessions = found
            .into_iter()
            .take(query.size)
            .map(|((tenant, id), one)| on_wire(&world, (tenant, *id), one, now_ms))
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

    type WatchSessionsStream =
        Pin<Box<dyn Stream<Item = Result<WatchSessionsResponse, Status>> + Send>>;

    async fn watch_sessions(
        &self,
        request: Request<WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let only = scope(&access, &self.parts.handle.world(), &asked.parent)?;
        let watched = watched::Sessions { clock: self.parts.clock.clone() };
        let stream = watch(&self.parts, access, only, (watched, &asked.resume_token))?;
        Ok(Response::new(Box::pin(stream)))
    }
}

/// A session, with its place in the queue while it waits for a desktop.
pub(super) fn on_wire(
    world: &World,
    (tenant, id): (&TenantId, SessionId),
    one: &model::Session,
    now_ms: i64,
) -> Session {
    let place = queue_place(world, tenant, id, now_ms);
    let queue = place.map(|QueuePlace { position, estimate_secs, reason }| Queue {
        position: u32::try_from(position).unwrap_or(u32::MAX),
        estimate_secs: estimate_secs.unwrap_or_default(),
        reason,
    });
    Session { queue, ..wire::session(world, tenant, id, one) }
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
