//! Long-running changes: where they are, and waiting for their end.

use std::ops::Bound;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use vidi_kit::ids::OperationId;
use vidi_proto::v1::operation_service_server::OperationService;
use vidi_proto::v1::{
    GetOperationRequest, ListOperationsRequest, ListOperationsResponse, Operation,
    WaitOperationRequest,
};

use super::authorization::Access;
use super::desktops::operation_id;
use super::names::id;
use super::page::Query;
use super::status::{invalid_field, not_found, try_later};
use super::{Parts, wire};
use crate::model::{self, World};

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
        let found: Vec<_> = world
            .operations
            .from(start)
            .filter(|(_, one)| may_see(&access, &world, one))
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |(id, _)| id.to_string());
        let operations =
            found.into_iter().take(query.size).map(|(id, one)| wire::operation(*id, one)).collect();
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
        let ended =
            worlds.wait_for(|world| world.operations.get(&id).is_none_or(|one| one.end.is_some()));
        let stop = self.parts.tasks.stop_token();
        // Cancel-safe: all arms only wait.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            world = tokio::time::timeout(Duration::from_secs(secs.into()), ended) => {
                drop(world);
            }
        }
        if let Some(one) = self.parts.handle.world().operations.get(&id) {
            last = wire::operation(id, one);
        }
        Ok(Response::new(last))
    }
}

fn read(access: &Access, world: &World, id: OperationId) -> Result<Operation, Status> {
    let one = world.operations.get(&id).filter(|one| may_see(access, world, one));
    let one = one.ok_or_else(|| not_found("operation", &id.to_string()))?;
    Ok(wire::operation(id, one))
}

fn may_see(access: &Access, world: &World, one: &model::Operation) -> bool {
    // Operations from before their user was kept have that of their desktop.
    let desktop = world.desktop(&one.tenant, one.desktop);
    let user = one.user.as_ref().or(desktop.and_then(|it| it.spec.assigned_user.as_ref()));
    access.reaches(&one.tenant, user)
}
