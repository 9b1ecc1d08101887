//! Desktops: make, look at, start, stop, destroy, watch.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{DesktopId, OperationId, TemplateId, TenantId, UserId};
use vidi_proto::v1::desktop_service_server::DesktopService;
use vidi_proto::v1::{
    ChangeKind, CreateDesktopRequest, DeleteDesktopRequest, Desktop, ErrorReason,
    GetDesktopRequest, ListDesktopsRequest, ListDesktopsResponse, Operation, RestartDesktopRequest,
    StartDesktopRequest, StopDesktopRequest, UpdateDesktopRequest, WatchDesktopsRequest,
    WatchDesktopsResponse,
};

use super::authorization::Access;
use super::names::{self, id};
use super::status::{invalid_field, not_found, signed_out, status};
use super::wire::{check_display_name, child, desktop_name, request_key, unexpected};
use super::{Caller, Parts, desktop_fields, desktop_list, wire};
use crate::model::{self, Answer, Change, DesktopTarget, Place, RequestKey, World};

/// A bookmark at least this often, so that a watcher's token stays young.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(10);
/// Events that wait for a watcher; the stream then waits, and what it sends next is newer.
const EVENTS_QUEUED_MAX: usize = 64;
/// A watcher that takes nothing for this long is cut.
const WATCHER_SECS_MAX: Duration = Duration::from_secs(30);
/// Parent of all tenants.
const ALL_TENANTS: &str = "tenants/-";

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
        let (events, stream) = mpsc::channel(EVENTS_QUEUED_MAX);
        let mut watcher = Watcher {
            parts: self.parts.clone(),
            access,
            only,
            known: BTreeSet::new(),
            sequence: world.sequence,
            started_ms: world.started_ms,
            events,
        };
        let resumed = !asked.resume_token.is_empty();
        if resumed {
            watcher.resume(&world, &asked.resume_token)?;
        }
        let stop = self.parts.tasks.stop_token();
        let _watching = self.parts.tasks.spawn("watch-desktops", async move {
            // Cancel-safe: a watcher that is cut comes again with its token.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = watcher.run(world, resumed) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
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

/// The tenant of a parent that the caller may list; none for all.
pub(super) fn scope(
    access: &Access,
    world: &World,
    parent: &str,
) -> Result<Option<TenantId>, Status> {
    if parent == ALL_TENANTS {
        return if access.everywhere() { Ok(None) } else { Err(not_found("tenant", "-")) };
    }
    let tenant = names::tenant("parent", parent)?;
    access.check_list(world, &tenant)?;
    Ok(Some(tenant))
}

/// One stream of changes.
struct Watcher {
    parts: Parts,
    access: Access,
    only: Option<TenantId>,
    /// What the client has.
    known: BTreeSet<(TenantId, DesktopId)>,
    /// Up to which change of the world the client knows.
    sequence: u64,
    /// Which leader's sequence that is.
    started_ms: i64,
    events: mpsc::Sender<Result<WatchDesktopsResponse, Status>>,
}

/// The client went away or was told why the stream ends.
struct Over;

impl Watcher {
    /// Continues behind a token. Only for those who see all of the tenant: for others, what was
    /// theirs then is not known any more.
    fn resume(&mut self, world: &World, token: &str) -> Result<(), Status> {
        let rule = "a token of this stream is expected";
        let (started_ms, sequence): (i64, u64) = token
            .split_once('-')
            .and_then(|(started, sequence)| Some((started.parse().ok()?, sequence.parse().ok()?)))
            .ok_or_else(|| invalid_field("resume_token", rule))?;
        let sees_all = match &self.only {
            Some(tenant) => self.access.covers(tenant),
            None => self.access.everywhere(),
        };
        let fits = sees_all && self.started_ms == started_ms && sequence <= world.sequence;
        if !fits || world.changed_behind(sequence).is_none() {
            return Err(too_old());
        }
        self.sequence = sequence;
        self.known = world.desktops.iter().map(|(key, _)| key.clone()).collect();
        Ok(())
    }

    async fn run(mut self, world: Arc<World>, resumed: bool) {
        let mut worlds = self.parts.handle.watch();
        let mut beat = tokio::time::interval(BOOKMARK_PERIOD);
        let first = if resumed {
            self.tell_changes(&world, true).await
        } else {
            self.tell_all(&world).await
        };
        if first.is_err() {
            return;
        }
        loop {
            // Cancel-safe: all arms only wait.
            let told = tokio::select! {
                biased;
                () = self.events.closed() => return,
                _ = beat.tick() => self.beat().await,
                changed = worlds.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let world = Arc::clone(&worlds.borrow_and_update());
                    self.tell_changes(&world, false).await
                }
            };
            if told.is_err() {
                return;
            }
        }
    }

    async fn beat(&mut self) -> Result<(), Over> {
        if let Caller::User(who) = self.access.caller() {
            let world = self.parts.handle.world();
            match world.signed_in(&who.token_sha256, self.parts.clock.now_ms()) {
                None => return self.end(signed_out()).await,
                // Another role sees something else.
                Some((_, user)) if user.roles != who.roles => return self.end(too_old()).await,
                Some(_) => {}
            }
        }
        self.send(ChangeKind::Bookmark, Desktop::default()).await
    }

    async fn tell_all(&mut self, world: &World) -> Result<(), Over> {
        for ((tenant, id), one) in world.desktops.iter() {
            if self.concerns(tenant) && reaches(&self.access, tenant, one) {
                self.known.insert((tenant.clone(), *id));
                let desktop = wire::desktop(world, tenant, *id, one);
                self.send(ChangeKind::Added, desktop).await?;
            }
        }
        self.send(ChangeKind::Bookmark, Desktop::default()).await
    }

    async fn tell_changes(&mut self, world: &World, resumed: bool) -> Result<(), Over> {
        if world.started_ms != self.started_ms {
            return self.end(too_old()).await;
        }
        if world.sequence <= self.sequence {
            return Ok(());
        }
        let Some(changed) = world.changed_behind(self.sequence) else {
            return self.end(too_old()).await;
        };
        let changed = changed.filter_map(|(_, tenant, place)| match place {
            Place::Desktop(id) => Some((tenant, id)),
            Place::Machine(_) | Place::Pool(_) => None,
        });
        let changed: BTreeSet<_> = changed.collect();
        self.sequence = world.sequence;
        for (tenant, id) in changed {
            if !self.concerns(&tenant) {
                continue;
            }
            let one = world.desktop(&tenant, id).filter(|one| reaches(&self.access, &tenant, one));
            let key = (tenant.clone(), id);
            let (kind, desktop) = match one {
                Some(one) => {
                    let new = self.known.insert(key);
                    let kind = if new { ChangeKind::Added } else { ChangeKind::Modified };
                    (kind, wire::desktop(world, &tenant, id, one))
                }
                None if self.known.remove(&key) || resumed => {
                    let name = desktop_name(&tenant, id);
                    (ChangeKind::Deleted, Desktop { name, ..Desktop::default() })
                }
                None => continue,
            };
            self.send(kind, desktop).await?;
        }
        Ok(())
    }

    fn concerns(&self, tenant: &TenantId) -> bool {
        self.only.as_ref().is_none_or(|only| only == tenant)
    }

    async fn send(&self, kind: ChangeKind, desktop: Desktop) -> Result<(), Over> {
        let event = WatchDesktopsResponse {
            kind: kind.into(),
            desktop: (kind != ChangeKind::Bookmark).then_some(desktop),
            resume_token: format!("{}-{}", self.started_ms, self.sequence),
        };
        match tokio::time::timeout(WATCHER_SECS_MAX, self.events.send(Ok(event))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }

    async fn end(&self, why: Status) -> Result<(), Over> {
        drop(tokio::time::timeout(WATCHER_SECS_MAX, self.events.send(Err(why))).await);
        Err(Over)
    }
}

fn too_old() -> Status {
    let message = "the resume token is too old: list again, then watch without one";
    status(Code::OutOfRange, ErrorReason::PageTokenInvalid, message)
}

/// The id of an operation's name.
pub(super) fn operation_id(name: &str) -> Result<OperationId, Status> {
    let [operation] = names::split("name", name, ["operations"])?;
    id("name", operation)
}
