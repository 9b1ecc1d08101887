//! Which plan decides which change, and what all of them share.

use uuid::Uuid;
use vidi_kit::ids::TenantId;

use super::{desktops, sessions, templates, users};
use crate::model::{Answer, Change, Refusal, Request, RequestKey, Row, Step, World};

/// What a decision is made from. Time and new ids are values handed in.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Everything, with the decisions before this one.
    pub world: &'a World,
    /// Now, ms since the epoch.
    pub now_ms: i64,
    /// For the resource that is made, if one is.
    pub new_id: Uuid,
    /// For the operation that is begun, if one is.
    pub new_operation: Uuid,
}

/// A decision: what to write in one piece, and what to answer once that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// To answer.
    pub answer: Answer,
    /// To write.
    pub steps: Vec<Step>,
}

impl Decided {
    /// Nothing to write.
    pub const fn nothing(answer: Answer) -> Self {
        Self { answer, steps: Vec::new() }
    }

    /// Rows to write.
    pub fn rows(answer: Answer, rows: impl IntoIterator<Item = Row>) -> Self {
        Self { answer, steps: rows.into_iter().map(Step::Put).collect() }
    }
}

/// Decides a change that the store must know; news of links are not decided but taken.
pub fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::CreateUser { .. }
        | Change::DeleteUser { .. }
        | Change::SetPasswordHash { .. }
        | Change::CreateSignIn { .. }
        | Change::DeleteSignIn { .. }
        | Change::CreateEnrollToken { .. }
        | Change::UseEnrollToken { .. }
        | Change::PutGrantKey { .. } => users::decide(view, change),
        Change::PutTemplate { .. } | Change::DeleteTemplate { .. } => {
            templates::decide(view, change)
        }
        Change::CreateDesktop { .. }
        | Change::StartDesktop { .. }
        | Change::StopDesktop { .. }
        | Change::DeleteDesktop { .. } => desktops::decide(view, change),
        Change::OpenApp { .. } | Change::ReleaseSession { .. } | Change::IssueGrant { .. } => {
            sessions::decide(view, change)
        }
        Change::HostLinked { .. }
        | Change::HostReported { .. }
        | Change::HostUnlinked { .. }
        | Change::GatewayPresence { .. }
        | Change::GatewayUnlinked { .. } => Ok(Decided::nothing(Answer::Done)),
    }
}

/// What the same request was answered before, if it was.
pub fn replay(
    world: &World,
    tenant: &TenantId,
    request: Option<&RequestKey>,
) -> Result<Option<Request>, Refusal> {
    let Some(request) = request else { return Ok(None) };
    match world.requests.get(&(tenant.clone(), request.id.clone())) {
        None => Ok(None),
        Some(before) if before.body_sha256 == request.body_sha256 => Ok(Some((**before).clone())),
        Some(_) => Err(Refusal::RequestIdReused(request.id.clone())),
    }
}

/// The row that remembers an answer.
pub fn remember(
    view: View<'_>,
    tenant: &TenantId,
    request: Option<RequestKey>,
    answer: (Option<vidi_kit::ids::OperationId>, String),
) -> Option<Row> {
    let request = request?;
    let (operation, resource) = answer;
    let row =
        Request { body_sha256: request.body_sha256, operation, resource, create_ms: view.now_ms };
    Some(Row::Request(tenant.clone(), request.id, row))
}
