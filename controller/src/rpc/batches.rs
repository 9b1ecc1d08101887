//! One-to-many changes: begun here; how far they are `operations.rs` shows.

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{DesktopId, HostId, OperationId, PoolId, TemplateId, TenantId, UserId};
use vidi_proto::v1::batch_service_server::BatchService;
use vidi_proto::v1::{
    BatchMessageDesktopsRequest, BatchRestartDesktopsRequest, BatchStartDesktopsRequest,
    BatchStopDesktopsRequest, DesktopFilter, Operation, OperationError, OperationFailure,
    OperationProgress, operation,
};

use super::Parts;
use super::authorization::Access;
use super::messages::notice;
use super::names::{self, id, split};
use super::rollouts::digest;
use super::status::{invalid_field, not_found};
use super::users::timestamp;
use super::wire::{child, desktop_name, request_key, unexpected};
use crate::model::batch::{AT_A_TIME_MAX, FILTER_DESKTOPS_MAX};
use crate::model::{self, Answer, Batch, BatchKind, Change, NewBatch, RequestKey};

/// Desktops at a time where nothing is said: few enough that a host's users notice little.
const AT_A_TIME_DEFAULT: u32 = 20;

/// The service.
#[derive(Debug)]
pub struct BatchesRpc {
    parts: Parts,
}

/// What the requests have in common.
struct Asked {
    tenant: TenantId,
    filter: Option<DesktopFilter>,
    at_a_time: u32,
    request: Option<RequestKey>,
    validate_only: bool,
}

impl BatchesRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    fn tenant(&self, access: &Access, parent: &str) -> Result<TenantId, Status> {
        let tenant = names::tenant("parent", parent)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        Ok(tenant)
    }

    async fn begin(
        &self,
        access: &Access,
        asked: Asked,
        kind: BatchKind,
    ) -> Result<Response<Operation>, Status> {
        let Asked { tenant, filter, at_a_time, request, validate_only } = asked;
        let filter = filter_of(access, &tenant, filter.unwrap_or_default())?;
        let at_a_time = match at_a_time {
            0 => AT_A_TIME_DEFAULT,
            asked if asked <= AT_A_TIME_MAX => asked,
            _ => return Err(invalid_field("at_a_time", "at most 200 are allowed")),
        };
        let word = kind.as_str();
        let batch =
            NewBatch { tenant: tenant.clone(), kind, filter, at_a_time, request, validate_only };
        match self.parts.handle.change(Change::Batch(Box::new(batch))).await? {
            Answer::Found(total) => Ok(Response::new(Operation {
                kind: word.to_owned(),
                target: format!("tenants/{tenant}"),
                stage: "valid; nothing was begun".to_owned(),
                done: true,
                progress: Some(OperationProgress { total, ..OperationProgress::default() }),
                ..Operation::default()
            })),
            Answer::Operation(id) => {
                let world = self.parts.handle.world();
                let one = world.batches.get(&id);
                let one = one.ok_or_else(|| not_found("operation", &id.to_string()))?;
                info!(%tenant, operation = %id, kind = word, desktops = one.total, "Batch begun");
                Ok(Response::new(on_wire(id, one)))
            }
            other => Err(unexpected(&other)),
        }
    }
}

#[tonic::async_trait]
impl BatchService for BatchesRpc {
    async fn batch_start_desktops(
        &self,
        request: Request<BatchStartDesktopsRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let tenant = self.tenant(&access, &asked.parent)?;
        let request_id = std::mem::take(&mut asked.request_id);
        let request = request_key(access.caller(), "BatchStartDesktops", &request_id, &asked)?;
        let BatchStartDesktopsRequest { filter, at_a_time, validate_only, .. } = asked;
        let asked = Asked { tenant, filter, at_a_time, request, validate_only };
        self.begin(&access, asked, BatchKind::Start).await
    }

    async fn batch_stop_desktops(
        &self,
        request: Request<BatchStopDesktopsRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let tenant = self.tenant(&access, &asked.parent)?;
        let request_id = std::mem::take(&mut asked.request_id);
        let request = request_key(access.caller(), "BatchStopDesktops", &request_id, &asked)?;
        let BatchStopDesktopsRequest { filter, at_a_time, validate_only, force, .. } = asked;
        let asked = Asked { tenant, filter, at_a_time, request, validate_only };
        self.begin(&access, asked, BatchKind::Stop { force }).await
    }

    async fn batch_restart_desktops(
        &self,
        request: Request<BatchRestartDesktopsRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let tenant = self.tenant(&access, &asked.parent)?;
        let request_id = std::mem::take(&mut asked.request_id);
        let request = request_key(access.caller(), "BatchRestartDesktops", &request_id, &asked)?;
        let BatchRestartDesktopsRequest { filter, at_a_time, validate_only, force, .. } = asked;
        let asked = Asked { tenant, filter, at_a_time, request, validate_only };
        self.begin(&access, asked, BatchKind::Restart { force }).await
    }

    async fn batch_message_desktops(
        &self,
        request: Request<BatchMessageDesktopsRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let tenant = self.tenant(&access, &asked.parent)?;
        let request_id = std::mem::take(&mut asked.request_id);
        let request = request_key(access.caller(), "BatchMessageDesktops", &request_id, &asked)?;
        let BatchMessageDesktopsRequest { filter, validate_only, text, .. } = asked;
        let world = self.parts.handle.world();
        let notice = notice(&world, &access, text, self.parts.clock.now_ms())?;
        // Nothing goes on when a message is kept.
        let at_a_time = AT_A_TIME_MAX;
        let asked = Asked { tenant, filter, at_a_time, request, validate_only };
        self.begin(&access, asked, BatchKind::Message(notice)).await
    }
}

fn filter_of(
    access: &Access,
    tenant: &TenantId,
    asked: DesktopFilter,
) -> Result<model::DesktopFilter, Status> {
    let own = |of: &TenantId, kind, name: &str| {
        if of == tenant { Ok(()) } else { Err(not_found(kind, name)) }
    };
    let mut filter = model::DesktopFilter {
        running: asked.running,
        in_use: asked.in_use,
        ..model::DesktopFilter::default()
    };
    if !asked.pool.is_empty() {
        let (of, pool) = child::<PoolId>("filter.pool", &asked.pool, "pools")?;
        own(&of, "pool", &asked.pool)?;
        filter.pool = Some(pool);
    }
    if !asked.template.is_empty() {
        let (of, one) = child::<TemplateId>("filter.template", &asked.template, "templates")?;
        own(&of, "template", &asked.template)?;
        filter.template = Some(one);
    }
    if !asked.template_digest.is_empty() {
        filter.template_digest = digest("filter.template_digest", &asked.template_digest)?;
    }
    if !asked.user.is_empty() {
        let (of, user) = child::<UserId>("filter.user", &asked.user, "users")?;
        own(&of, "user", &asked.user)?;
        filter.user = Some(user);
    }
    if !asked.host.is_empty() {
        let [host] = split("filter.host", &asked.host, ["hosts"])?;
        // Hosts belong to no tenant: to who sees none, none is there.
        if !access.everywhere() {
            return Err(not_found("host", host));
        }
        filter.host = Some(id::<HostId>("filter.host", host)?);
    }
    if FILTER_DESKTOPS_MAX < asked.desktops.len() {
        let rule = "at most 1,000 are allowed: more are a pool's or a template's";
        return Err(invalid_field("filter.desktops", rule));
    }
    for name in &asked.desktops {
        let (of, desktop) = child::<DesktopId>("filter.desktops", name, "desktops")?;
        own(&of, "desktop", name)?;
        filter.desktops.push(desktop);
    }
    filter.desktops.sort();
    filter.desktops.dedup();
    Ok(filter)
}

/// A batch as an operation.
pub(super) fn on_wire(id: OperationId, one: &Batch) -> Operation {
    let failures = one.failures.iter().map(|(desktop, error)| OperationFailure {
        target: desktop_name(&one.tenant, *desktop),
        error: Some(OperationError {
            reason: error.reason.as_str().to_owned(),
            message: error.message.clone(),
        }),
    });
    let going_on = u32::try_from(one.open.len()).unwrap_or(u32::MAX);
    let progress = OperationProgress {
        total: one.total,
        done: one.done,
        failed: one.failed,
        skipped: one.skipped,
        going_on,
        failures: failures.collect(),
        cancelled: one.cancelled,
    };
    let stage = match (one.end_ms, one.cancelled) {
        (Some(_), true) => "cancelled".to_owned(),
        (Some(_), false) => "done".to_owned(),
        (None, true) => format!("cancelled: waits for {going_on} that have begun"),
        (None, false) => format!("{} of {} at their end", one.done + one.failed, one.total),
    };
    let result = one.end_ms.map(|_| match one.failures.first() {
        Some((_, error)) => operation::Result::Error(OperationError {
            reason: error.reason.as_str().to_owned(),
            message: format!("{} of {} desktops failed: {}", one.failed, one.total, error.message),
        }),
        None => operation::Result::Resource(format!("tenants/{}", one.tenant)),
    });
    Operation {
        name: format!("operations/{id}"),
        kind: one.kind.as_str().to_owned(),
        target: format!("tenants/{}", one.tenant),
        stage,
        create_time: Some(timestamp(one.create_ms)),
        end_time: one.end_ms.map(timestamp),
        done: one.end_ms.is_some(),
        result,
        progress: Some(progress),
    }
}
