//! Desktops: make, look at, start, stop, destroy, watch.

use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{DesktopId, OperationId, TemplateId, TenantId, UserId};
use vidi_proto::v1::desktop_service_server::DesktopService;
use vidi_proto::v1::{
    AssignDesktopRequest, CreateDesktopRequest, DeleteDesktopRequest, Desktop, GetDesktopRequest,
    ListDesktopsRequest, ListDesktopsResponse, Operation, RestartDesktopRequest,
    StartDesktopRequest, StopDesktopRequest, UnassignDesktopRequest, UpdateDesktopRequest,
    WatchDesktopsRequest, WatchDesktopsResponse,
};

use super::authorization::Access;
use super::names::{self, id};
use super::status::not_found;
use super::watching::{scope, watch};
use super::wire::{check_display_name, child, request_key, unexpected};
use super::{Parts, desktop_fields, desktop_list, watched, wire};
use crate::model::{self, Answer, Change, DesktopTarget, RequestKey, World};

/// The service.
#[derive(Debug)]
pub struct DesktopsRpc {
    parts: Parts,
}

impl DesktopsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    /// Begins a change of a desktop that the caller may change. The same request has the answer that it
    /// had, also when the desktop is gone.
    async fn change(
        &self,
        access: &Access,
        (name, etag, request): (&str, String, Option<RequestKey>),
        change: impl FnOnce(DesktopTarget) -> Change,
    ) -> Result<Response<Operation>, Status> {
        let (tenant, desktop) = child::<DesktopId>("name", name, "desktops")?;
        let world = self.parts.handle.world();
        let answered = request.as_ref().and_then(|request| answered(&world, &tenant, request));
        if let Some(operation) = answered {
            return Ok(Response::new(operation));
        }
        visible(access, &world, &tenant, desktop)?;
        self.begin(change(DesktopTarget { tenant, desktop, etag, request })).await
    }

    /// Keeps a desktop for this user, or for nobody.
    async fn assign(
        &self,
        access: &Access,
        (name, etag): (&str, String),
        user: Option<&str>,
    ) -> Result<Response<Desktop>, Status> {
        let (tenant, id) = child::<DesktopId>("name", name, "desktops")?;
        visible(access, &self.parts.handle.world(), &tenant, id)?;
        let user = user.map(|name| {
            let (of, user) = child::<UserId>("user", name, "users")?;
            if of == tenant { Ok(user) } else { Err(not_found("user", name)) }
        });
        let user = user.transpose()?;
        let target = DesktopTarget { tenant: tenant.clone(), desktop: id, etag, request: None };
        let change = Change::AssignDesktop { target, user: user.clone() };
        match self.parts.handle.change(change).await? {
            Answer::Done => {
                let user = user.as_ref().map(tracing::field::display);
                info!(desktop = %id, user, "Desktop assigned");
                let world = self.parts.handle.world();
                let one = visible(access, &world, &tenant, id)?;
                Ok(Response::new(wire::desktop(&world, &tenant, id, one)))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn begin(&self, change: Change) -> Result<Response<Operation>, Status> {
        match self.parts.handle.change(change).await? {
            Answer::Operation(id) => {
                let world = self.parts.handle.world();
                let one = world.operations.get(&id);
                let one = one.ok_or_else(|| not_found("operation", &id.to_string()))?;
                info!(operation = %id, kind = one.kind.as_str(), desktop = %one.desktop, "Operation begun");
                Ok(Response::new(wire::operation(id, one)))
            }
            other => Err(unexpected(&other)),
        }
    }
}

#[tonic::async_trait]
impl DesktopService for DesktopsRpc {
    async fn create_desktop(
        &self,
        request: Request<CreateDesktopRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let tenant = names::tenant("parent", &asked.parent)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(access.caller(), "CreateDesktop", &request_id, &asked)?;
        check_display_name(&asked.display_name)?;
        let (of, template) = child::<TemplateId>("template", &asked.template, "templates")?;
        if of != tenant {
            return Err(not_found("template", &asked.template));
        }
        let assigned_user = if asked.assigned_user.is_empty() {
            None
        } else {
            let (of, user) = child::<UserId>("assigned_user", &asked.assigned_user, "users")?;
            if of != tenant {
                return Err(not_found("user", &asked.assigned_user));
            }
            Some(user)
        };
        let change = Change::CreateDesktop {
            tenant: tenant.clone(),
            template,
            display_name: asked.display_name,
            assigned_user,
            start: asked.start,
            release_policy: desktop_fields::release_policy(asked.release_policy)?,
            display_policy: desktop_fields::display_policy(asked.display_policy.as_ref())?,
            request: key,
            validate_only: asked.validate_only,
        };
        if asked.validate_only {
            self.parts.handle.change(change).await?;
            let operation = Operation {
                kind: model::OperationKind::Create.as_str().to_owned(),
                target: asked.parent,
                stage: "valid; nothing was made".to_owned(),
                done: true,
                ..Operation::default()
            };
            return Ok(Response::new(operation));
        }
        self.begin(change).await
    }

    async fn get_desktop(
        &self,
        request: Request<GetDesktopRequest>,
    ) -> Result<Response<Desktop>, Status> {
        let access = Access::of(&request)?;
        let (tenant, id) = child::<DesktopId>("name", &request.get_ref().name, "desktops")?;
        let world = self.parts.handle.world();
        let one = visible(&access, &world, &tenant, id)?;
        Ok(Response::new(wire::desktop(&world, &tenant, id, one)))
    }

    async fn list_desktops(
        &self,
        request: Request<ListDesktopsRequest>,
    ) -> Result<Response<ListDesktopsResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let world = self.parts.handle.world();
        desktop_list::page(&access, &world, asked).map(Response::new)
    }

    async fn update_desktop(
        &self,
        request: Request<UpdateDesktopRequest>,
    ) -> Result<Response<Desktop>, Status> {
        let access = Access::of(&request)?;
        let fields = desktop_fields::named(request.into_inner())?;
        let (tenant, id) = child::<DesktopId>("desktop.name", &fields.name, "desktops")?;
        visible(&access, &self.parts.handle.world(), &tenant, id)?;
        let change = Change::UpdateDesktop {
            target: DesktopTarget {
                tenant: tenant.clone(),
                desktop: id,
                etag: fields.etag,
                request: None,
            },
            display_name: fields.display_name,
            release_policy: fields.release_policy,
            display_policy: fields.display_policy,
        };
        self.parts.handle.change(change).await?;
        info!(desktop = %id, "Desktop changed");
        let world = self.parts.handle.world();
        let one = visible(&access, &world, &tenant, id)?;
        Ok(Response::new(wire::desktop(&world, &tenant, id, one)))
    }

    async fn start_desktop(
        &self,
        request: Request<StartDesktopRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(access.caller(), "StartDesktop", &request_id, &asked)?;
        let change = |target| Change::StartDesktop { target };
        self.change(&access, (&asked.name, asked.etag, key), change).await
    }

    async fn stop_desktop(
        &self,
        request: Request<StopDesktopRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(access.caller(), "StopDesktop", &request_id, &asked)?;
        let force = asked.force;
        let change = |target| Change::StopDesktop { target, force };
        self.change(&access, (&asked.name, asked.etag, key), change).await
    }

    async fn restart_desktop(
        &self,
        request: Request<RestartDesktopRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(access.caller(), "RestartDesktop", &request_id, &asked)?;
        let force = asked.force;
        let change = |target| Change::RestartDesktop { target, force };
        self.change(&access, (&asked.name, asked.etag, key), change).await
    }

    async fn delete_desktop(
        &self,
        request: Request<DeleteDesktopRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(access.caller(), "DeleteDesktop", &request_id, &asked)?;
        let change = |target| Change::DeleteDesktop { target };
        self.change(&access, (&asked.name, asked.etag, key), change).await
    }

    async fn assign_desktop(
        &self,
        request: Request<AssignDesktopRequest>,
    ) -> Result<Response<Desktop>, Status> {
        let access = Access::of(&request)?;
        let AssignDesktopRequest { name, user, etag } = request.into_inner();
        self.assign(&access, (&name, etag), Some(&user)).await
    }

    async fn unassign_desktop(
        &self,
        request: Request<UnassignDesktopRequest>,
    ) -> Result<Response<Desktop>, Status> {
        let access = Access::of(&request)?;
        let UnassignDesktopRequest { name, etag } = request.into_inner();
        self.assign(&access, (&name, etag), None).await
    }

    type WatchDesktopsStream =
        Pin<Box<dyn Stream<Item = Result<WatchDesktopsResponse, Status>> + Send>>;

    async fn watch_desktops(
        &self,
        request: Request<WatchDesktopsRequest>,
    ) -> Result<Response<Self::WatchDesktopsStream>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let world = self.parts.handle.world();
        let only = scope(&access, &world, &asked.parent)?;
        let watched = (watched::Desktops, asked.resume_token.as_str());
        let stream = watch(&self.parts, access, only, watched)?;
        Ok(Response::new(Box::pin(stream)))
    }
}

/// What the same caller was answered before for the same, under the same id.
fn answered(world: &World, tenant: &TenantId, request: &RequestKey) -> Option<Operation> {
    let before = world.request(tenant, request)?;
    let id = before.operation.filter(|_| before.body_sha256 == request.body_sha256)?;
    Some(wire::operation(id, world.operations.get(&id)?))
}

fn visible<'a>(
    access: &Access,
    world: &'a World,
    tenant: &TenantId,
    id: DesktopId,
) -> Result<&'a Arc<model::Desktop>, Status> {
    let one = world.desktop(tenant, id);
    let owner = one.and_then(|one| one.spec.assigned_user.as_ref());
    let text = id.to_string();
    access.check(("desktop", &text), tenant, owner)?;
    one.ok_or_else(|| not_found("desktop", &text))
}

pub(super) fn reaches(access: &Access, tenant: &TenantId, one: &model::Desktop) -> bool {
    access.reaches(tenant, one.spec.assigned_user.as_ref())
}

/// The id of an operation's name.
pub(super) fn operation_id(name: &str) -> Result<OperationId, Status> {
    let [operation] = names::split("name", name, ["operations"])?;
    id("name", operation)
}
