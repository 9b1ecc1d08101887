//! Which plan decides which change, and what all of them share.

use uuid::Uuid;
use vidi_kit::ids::{TenantId, TraceId};

use super::{
    assignments, batches, desktops, groups, host_rules, hosts, machines, messages, pools, quota,
    rollouts, sessions, templates, tenants, users,
};
use crate::model::{Answer, Change, Refusal, Request, RequestKey, Row, Step, World};

/// Requests of one caller that are remembered: a script that makes a school's desktops in a day, and
/// few enough that nobody fills the store.
pub const REQUESTS_PER_CALLER_MAX: usize = 10_000;

/// What a decision is made from. Time and new ids are values handed in.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Everything, with the decisions before this one.
    pub world: &'a World,
    /// Now, ms since the epoch.
    pub now_ms: i64,
    /// Of the request that asks.
    pub trace: Option<TraceId>,
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
    let mut decided = plan(view, change)?;
    quota::check(view.world, &decided.steps)?;
    for step in &mut decided.steps {
        mark(view, step);
    }
    Ok(decided)
}

/// Keeps the request's trace with what it changed: a desktop's spec with each change, a session with
/// the click that opened it.
fn mark(view: View<'_>, step: &mut Step) {
    match step {
        Step::Put(Row::Spec(_, _, spec)) => spec.trace = view.trace.or(spec.trace),
        Step::Put(Row::Session(tenant, id, session))
            if view.world.session(tenant, *id).is_none() =>
        {
            session.trace = view.trace;
        }
        Step::Put(_) | Step::Delete(_) => {}
    }
}

fn plan(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::CreateTenant { .. }
        | Change::SetBranding { .. }
        | Change::UpdateTenant { .. }
        | Change::DeleteTenant { .. } => tenants::decide(view, change),
        Change::SetHostRule { tenant, target, labels } => {
            host_rules::set(view.world, tenant, target, labels)
        }
        Change::Group(tenant, id, change) => groups::decide(view, (tenant, id), change),
        Change::CreateUser { .. }
        | Change::UpdateUser { .. }
        | Change::DeleteUser { .. }
        | Change::SetPasswordHash { .. }
        | Change::CreateSignIn { .. }
        | Change::DeleteSignIn { .. }
        | Change::CreateEnrollToken { .. }
        | Change::UseEnrollToken { .. }
        | Change::PutGrantKey { .. } => users::decide(view, change),
        Change::PutTemplate { .. } | Change::DeleteTemplate { .. } | Change::Template(_) => {
            templates::decide(view, change)
        }
        Change::Rollout(_) => rollouts::decide(view, change),
        Change::Batch(_) | Change::CancelBatch(_) => batches::decide(view, change),
        Change::Message { .. } => messages::decide(view, change),
        Change::CreateDesktop { .. }
        | Change::UpdateDesktop { .. }
        | Change::StartDesktop { .. }
        | Change::StopDesktop { .. }
        | Change::RestartDesktop { .. }
        | Change::DeleteDesktop { .. } => desktops::decide(view, change),
        Change::AssignDesktop { target, user } => assignments::assign(view, target, user),
        Change::CreateMachine { .. }
        | Change::UpdateMachine { .. }
        | Change::DeleteMachine { .. } => machines::decide(view, change),
        Change::CreatePool { .. }
        | Change::UpdatePool { .. }
        | Change::DeletePool { .. }
        | Change::ResumePool { .. } => pools::decide(view, change),
        Change::OpenApp { .. } | Change::ReleaseSession { .. } | Change::IssueGrant { .. } => {
            sessions::decide(view, change)
        }
        Change::UpdateHost { .. }
        | Change::CordonHost { .. }
        | Change::UncordonHost { .. }
        | Change::DrainHost { .. }
        | Change::DeleteHost { .. }
        | Change::RemoveUnknownDesktop { .. } => hosts::decide(view, change),
        Change::HostLinked { .. }
        | Change::HostReported { .. }
        | Change::HostUnlinked { .. }
        | Change::GatewayPresence { .. }
        | Change::GatewayUnlinked { .. }
        | Change::Refused(_) => Ok(Decided::nothing(Answer::Done)),
    }
}

/// What the same request was answered before, if it was.
pub fn replay(
    world: &World,
    tenant: &TenantId,
    request: Option<&RequestKey>,
) -> Result<Option<Request>, Refusal> {
    let Some(request) = request else { return Ok(None) };
    match world.request(tenant, request) {
        None => Ok(None),
        Some(before) if before.body_sha256 == request.body_sha256 => Ok(Some((**before).clone())),
        Some(_) => Err(Refusal::RequestIdReused(request.id.clone())),
    }
}

/// As [`replay`], of a request that has made something with this id: refused when that is gone.
pub fn made_before(
    view: View<'_>,
    tenant: &TenantId,
    request: Option<&RequestKey>,
    (kind, id, is_there): (&'static str, &str, bool),
) -> Result<bool, Refusal> {
    let made = replay(view.world, tenant, request)?.is_some();
    if made && !is_there {
        return Err(Refusal::WrongState {
            kind,
            id: id.to_owned(),
            state: "deleted since this request made it".to_owned(),
            remedy: "to make it again take a new request_id",
        });
    }
    Ok(made)
}

/// The row that remembers an answer; refused to a caller of whom too many are remembered.
pub fn remember(
    view: View<'_>,
    tenant: &TenantId,
    request: Option<RequestKey>,
    answer: (Option<vidi_kit::ids::OperationId>, String),
) -> Result<Option<Row>, Refusal> {
    let Some(request) = request else { return Ok(None) };
    let kept = request.kept_as();
    let RequestKey { body_sha256, by, .. } = request;
    let count = view.world.caller_requests.get(&(tenant.clone(), by.clone()));
    if REQUESTS_PER_CALLER_MAX <= count.map_or(0, |count| **count) {
        let what = "remembered requests of one caller (leave request_id out, or wait a day)";
        return Err(Refusal::LimitExceeded { what, limit: REQUESTS_PER_CALLER_MAX });
    }
    let (operation, resource) = answer;
    let row = Request { body_sha256, operation, resource, by, create_ms: view.now_ms };
    Ok(Some(Row::Request(tenant.clone(), kept, row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tenant;

    #[test]
    fn a_repeated_request_is_told_that_what_it_made_is_gone() {
        let mut world = World::default();
        let tenant: TenantId = "t".parse().unwrap();
        let mut ask = |change| {
            let (new_id, new_operation) = (Uuid::from_u128(1), Uuid::from_u128(2));
            let view = View { world: &world, now_ms: 7, trace: None, new_id, new_operation };
            let decided = decide(view, change)?;
            decided.steps.into_iter().for_each(|step| world.apply(step));
            Ok::<_, Refusal>(decided.answer)
        };
        let creation = || Change::CreateTenant {
            tenant: tenant.clone(),
            record: Tenant { display_name: "T".to_owned(), create_ms: 7, ..Tenant::default() },
            request: Some(RequestKey {
                id: "r".to_owned(),
                body_sha256: [1; 32],
                by: String::new(),
            }),
        };
        assert_eq!(ask(creation()), Ok(Answer::Done));
        assert_eq!(ask(creation()), Ok(Answer::Done));
        let deletion = Change::DeleteTenant { tenant: tenant.clone(), etag: String::new() };
        assert_eq!(ask(deletion), Ok(Answer::Done));
        let told = ask(creation()).unwrap_err().to_string();
        let expected = "tenant \"t\" is deleted since this request made it: \
                        to make it again take a new request_id";
        assert_eq!(told, expected);
    }

    #[test]
    fn what_one_caller_asked_is_nothing_to_another() {
        let mut world = World::default();
        let tenant: TenantId = "t".parse().unwrap();
        let (new_id, new_operation) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let key = |user: &str, body| {
            let by = format!("tenants/t/users/{user}");
            RequestKey { id: "r".to_owned(), body_sha256: [body; 32], by }
        };
        let view = View { world: &world, now_ms: 7, trace: None, new_id, new_operation };
        let row = remember(view, &tenant, Some(key("ana", 1)), (None, "made".to_owned()));
        world.put(row.unwrap().unwrap());
        let replayed = |key: RequestKey| replay(&world, &tenant, Some(&key));
        assert_eq!(replayed(key("ana", 1)).unwrap().unwrap().resource, "made");
        assert!(replayed(key("ana", 2)).is_err(), "the same id for something else");
        assert!(replayed(key("ben", 2)).unwrap().is_none());
    }
}
