//! Long-running changes: where they are, and waiting for their end.

use std::ops::Bound;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::OperationId;
use vidi_proto::v1::operation_service_server::OperationService;
use vidi_proto::v1::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse,
    Operation, WaitOperationRequest,
};

use super::authorization::Access;
use super::desktops::operation_id;
use super::names::id;
use super::page::Query;
use super::status::{invalid_field, not_found, try_later};
use super::{Parts, batches, wire};
use crate::model::{self, Change, Refusal, World};

/// How long a wait takes when its caller does not say.
const WAIT_SECS_DEFAULT: u32 = 60;
/// How long a wait may take; a caller that wants more asks again.
const WAIT_SECS_MAX: u32 = 600;
/// Waits at once. A gateway brings all its users' requests by one connection, which serves 1,024
/// side by side: waits must leave most of them to requests that end soon.
const WAITS_MAX: usize = 256;
/// When to come again if that many wait; meanwhile the operation can be read.
const WAIT_RETRY: Duration = Duration::from_secs(2);

/// The service.
#[derive(Debug)]
pub struct OperationsRpc {
    parts: Parts,
    /// Waits that may begin now.
    waits: Semaphore,
}

impl OperationsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone(), waits: Semaphore::new(WAITS_MAX) }
    }
}

#[tonic::async_trait]
impl OperationService for OperationsRpc {
    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let id = operation_id(&request.get_ref().name)?;
        read(&access, &self.parts.handle.world(), id).map(Response::new)
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let query = Query::new("operations", "", asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| id::<OperationId>("page_token", after));
        let after = after.transpose()?;
        let world = self.parts.handle.world();
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let single = world.operations.from(start);
        let single = single.filter(|(_, one)| may_see(&access, &world, one));
        let single = single.map(|(id, one)| (*id, wire::operation(*id, one)));
        let batches = world.batches.from(start);
        let batches = batches.filter(|(_, one)| access.covers(&one.tenant));
        let batches = batches.map(|(id, one)| (*id, batches::on_wire(*id, one)));
        // Both are in the order of their ids: the page is among the first of each.
        let most = query.size + 1;
        let mut found: Vec<_> = single.take(most).chain(batches.take(most)).collect();
        found.sort_by_key(|(id, _)| *id);
        found.truncate(most);
        let next_page_token = query.next(&found, |(id, _)| id.to_string());
        let operations = found.into_iter().take(query.size).map(|(_, one)| one).collect();
        Ok(Response::new(ListOperationsResponse { operations, next_page_token }))
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let id = operation_id(&asked.name)?;
        let secs = match asked.timeout_secs {
            0 => WAIT_SECS_DEFAULT,
            secs if secs <= WAIT_SECS_MAX => secs,
            _ => return Err(invalid_field("timeout_secs", "at most 600 are allowed")),
        };
        let mut worlds = self.parts.handle.watch();
        // Whoever may see it now may see its end, though its desktop may be gone then.
        let mut last = read(&access, &worlds.borrow_and_update(), id)?;
        let _waiting = self.waits.try_acquire().map_err(|_none| {
            try_later(
                "too many wait for operations now: come again or get the operation",
                WAIT_RETRY,
            )
        })?;
        let ended = worlds.wait_for(|world| {
            world.operations.get(&id).is_none_or(|one| one.end.is_some())
                && world.batches.get(&id).is_none_or(|one| one.end_ms.is_some())
        });
        let stop = self.parts.tasks.stop_token();
        // Cancel-safe: all arms only wait.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            world = tokio::time::timeout(Duration::from_secs(secs.into()), ended) => {
                drop(world);
            }
        }
        last = known(&self.parts.handle.world(), id).unwrap_or(last);
        Ok(Response::new(last))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let access = Access::of(&request)?;
        let id = operation_id(&request.get_ref().name)?;
        let world = self.parts.handle.world();
        let before = read(&access, &world, id)?;
        if !world.batches.contains_key(&id) {
            return Err(Refusal::WrongState {
                kind: "operation",
                id: id.to_string(),
                state: format!("a change of one desktop ({})", before.kind),
                remedy: "ask for the opposite: stop what is started, or the other way round",
            }
            .into());
        }
        self.parts.handle.change(Change::CancelBatch(id)).await?;
        info!(operation = %id, "Operation cancelled");
        read(&access, &self.parts.handle.world(), id).map(Response::new)
    }
}

fn read(access: &Access, world: &World, id: OperationId) -> Result<Operation, Status> {
    let single = world.operations.get(&id).map(|one| may_see(access, world, one));
    let batch = world.batches.get(&id).map(|one| access.covers(&one.tenant));
    let one = single.or(batch).filter(|seen| *seen).and_then(|_| known(world, id));
    one.ok_or_else(|| not_found("operation", &id.to_string()))
}

fn known(world: &World, id: OperationId) -> Option<Operation> {
    let single = world.operations.get(&id).map(|one| wire::operation(id, one));
    single.or_else(|| world.batches.get(&id).map(|one| batches::on_wire(id, one)))
}

fn may_see(access: &Access, world: &World, one: &model::Operation) -> bool {
    // Operations from before their user was kept have that of their desktop.
    let desktop = world.desktop(&one.tenant, one.desktop);
    let user = one.user.as_ref().or(desktop.and_then(|it| it.spec.assigned_user.as_ref()));
    access.reaches(&one.tenant, user)
}
