//! One-to-many changes: begun, and what follows as they go: some desktops at a time, one after the other by
//! id, each by the same decision as a change of one.

use uuid::Uuid;
use vidi_kit::ids::{DesktopId, OperationId, TenantId};

use super::decide::{Decided, View, remember, replay};
use super::users::unreachable_change;
use super::{desktops, messages, quota};
use crate::model::batch::BATCH_FAILURES_KEPT_MAX;
use crate::model::{
    Answer, Batch, BatchKind, Change, Desktop, DesktopTarget, NewBatch, OperationError, Reason,
    Refusal, Row, Step, World,
};

/// Batches of one tenant that go on at a time: some administrators at once.
pub const OPEN_PER_TENANT_MAX: usize = 16;
/// Batches that are kept of one tenant, ended ones too.
pub const KEPT_PER_TENANT_MAX: usize = 1_000;
/// Desktops that one settlement begins with: each is up to four writes of the 120 that a commit holds.
const BEGUN_MAX: usize = 24;
/// Desktops that one settlement looks through for those that the filter finds.
const LOOKED_AT_MAX: usize = 20_000;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::Batch(batch) => create(view, *batch),
        Change::CancelBatch(id) => cancel(view.world, id),
        other => unreachable_change(&other),
    }
}

fn create(view: View<'_>, new: NewBatch) -> Result<Decided, Refusal> {
    let NewBatch { tenant, kind, filter, at_a_time, request, validate_only } = new;
    let world = view.world;
    if let Some(before) = replay(world, &tenant, request.as_ref())? {
        let key = request.map(|request| request.id).unwrap_or_default();
        let id = before.operation.ok_or(Refusal::RequestIdReused(key))?;
        return Ok(Decided::nothing(Answer::Operation(id)));
    }
    if !world.tenants.contains_key(&tenant) {
        return Err(Refusal::not_found("tenant", tenant));
    }
    if let Some(pool) = filter.pool.filter(|pool| world.pool(&tenant, *pool).is_none()) {
        return Err(Refusal::not_found("pool", pool));
    }
    let own = world.batches.values().filter(|one| one.tenant == tenant);
    let (all, open) =
        own.fold((0, 0), |(all, open), one| (all + 1, open + usize::from(one.end_ms.is_none())));
    if OPEN_PER_TENANT_MAX <= open {
        let what = "changes of many desktops of this tenant that go on (wait, or cancel one)";
        return Err(Refusal::LimitExceeded { what, limit: OPEN_PER_TENANT_MAX });
    }
    if KEPT_PER_TENANT_MAX <= all {
        let what = "remembered changes of many desktops of this tenant (wait a day)";
        return Err(Refusal::LimitExceeded { what, limit: KEPT_PER_TENANT_MAX });
    }
    let total = world.desktops_in(&tenant).filter(|(id, one)| filter.finds(*id, one)).count();
    let id = OperationId::new(view.new_operation);
    let resource = format!("tenants/{tenant}");
    let batch = Batch {
        kind,
        tenant: tenant.clone(),
        filter,
        at_a_time,
        total: u32::try_from(total).unwrap_or(u32::MAX),
        done: 0,
        failed: 0,
        skipped: 0,
        failures: Vec::new(),
        after: None,
        all_begun: total == 0,
        open: Vec::new(),
        cancelled: false,
        create_ms: view.now_ms,
        end_ms: (total == 0).then_some(view.now_ms),
    };
    if validate_only {
        return Ok(Decided::nothing(Answer::Found(batch.total)));
    }
    let remembered = remember(view, &tenant, request, (Some(id), resource))?;
    let rows = std::iter::once(Row::Batch(id, Box::new(batch))).chain(remembered);
    Ok(Decided::rows(Answer::Operation(id), rows))
}

fn cancel(world: &World, id: OperationId) -> Result<Decided, Refusal> {
    let old = world.batches.get(&id).ok_or_else(|| Refusal::not_found("operation", id))?;
    let answer = Answer::Operation(id);
    if old.end_ms.is_some() || old.cancelled {
        return Ok(Decided::nothing(answer));
    }
    let mut next = Batch::clone(old);
    next.cancelled = true;
    next.all_begun = true;
    Ok(Decided::rows(answer, [Row::Batch(id, Box::new(next))]))
}

/// Batches that go on.
pub fn open(world: &World) -> Vec<OperationId> {
    let open = world.batches.iter().filter(|(_, one)| one.end_ms.is_none());
    open.map(|(id, _)| *id).collect()
}

/// The steps that follow for one batch, to be written in one piece; none when nothing does now. It begins
/// with as many desktops as there are `ids`.
pub fn settle(
    world: &World,
    id: OperationId,
    now_ms: i64,
    ids: &mut dyn Iterator<Item = Uuid>,
) -> Vec<Step> {
    let Some(old) = world.batches.get(&id).filter(|one| one.end_ms.is_none()) else {
        return Vec::new();
    };
    let mut going = Going { world, now_ms, batch: Batch::clone(old), steps: Vec::new() };
    going.take_ended();
    if !going.batch.all_begun {
        going.begin(ids);
    }
    if going.batch.all_begun && going.batch.open.is_empty() {
        let batch = &mut going.batch;
        // Who comes or goes meanwhile is found or not found: the sum is what it was.
        let judged = batch.done.saturating_add(batch.failed);
        batch.skipped = batch.total.saturating_sub(judged);
        batch.end_ms = Some(now_ms);
    }
    let Going { batch, mut steps, .. } = going;
    if batch != **old {
        steps.push(Step::Put(Row::Batch(id, Box::new(batch))));
    }
    steps
}

struct Going<'a> {
    world: &'a World,
    now_ms: i64,
    batch: Batch,
    steps: Vec<Step>,
}

impl Going<'_> {
    /// Counts the changes that have ended.
    fn take_ended(&mut self) {
        let open = std::mem::take(&mut self.batch.open);
        for (desktop, id) in open {
            match self.world.operations.get(&id).map(|one| &one.end) {
                Some(None) => self.batch.open.push((desktop, id)),
                // One that is kept no more has ended long ago.
                Some(Some((_, Ok(())))) | None => self.batch.done += 1,
                Some(Some((_, Err(error)))) => self.fail(desktop, error.clone()),
            }
        }
    }

    fn fail(&mut self, desktop: DesktopId, error: OperationError) {
        self.batch.failed += 1;
        if self.batch.failures.len() < BATCH_FAILURES_KEPT_MAX {
            self.batch.failures.push((desktop, error));
        }
    }

    /// Begins with the next desktops.
    fn begin(&mut self, ids: &mut dyn Iterator<Item = Uuid>) {
        let tenant = self.batch.tenant.clone();
        let room = usize::try_from(self.batch.at_a_time).unwrap_or(usize::MAX);
        let room = room.saturating_sub(self.batch.open.len()).min(BEGUN_MAX);
        let world = self.world;
        let first = self.batch.after.unwrap_or(DesktopId::new(Uuid::nil()));
        let behind = std::ops::Bound::Excluded((tenant.clone(), first));
        let mut left = world
            .desktops
            .from(behind.as_ref())
            .take_while(|((of, _), _)| *of == tenant)
            .map(|((_, id), one)| (*id, &**one));
        let (mut begun, mut looked_at) = (0, 0);
        while begun < room && looked_at < LOOKED_AT_MAX {
            let Some((id, desktop)) = left.next() else {
                self.batch.all_begun = true;
                return;
            };
            looked_at += 1;
            let is_later = self.batch.create_ms < desktop.spec.create_ms;
            if !is_later && self.batch.filter.finds(id, desktop) {
                let Some(new_operation) = ids.next() else { return };
                self.change(&tenant, (id, desktop), new_operation);
                begun += 1;
            }
            self.batch.after = Some(id);
        }
    }

    fn change(&mut self, tenant: &TenantId, (id, desktop): (DesktopId, &Desktop), new: Uuid) {
        let target = || DesktopTarget {
            tenant: tenant.clone(),
            desktop: id,
            etag: String::new(),
            request: None,
        };
        let is_spare = desktop.spec.pool.is_some()
            && desktop.spec.assigned_user.is_none()
            && desktop.status.session.is_none();
        let waits = desktop.spec.power_on && desktop.status.host.is_none();
        let change = match &self.batch.kind {
            // Its pool would make another one, and take it for a failure.
            BatchKind::Stop { .. } if is_spare => return,
            // It starts as soon as a host can take it; the others must not wait for that.
            BatchKind::Start | BatchKind::Restart { .. } if waits => return,
            BatchKind::Start => Change::StartDesktop { target: target() },
            BatchKind::Stop { force } => Change::StopDesktop { target: target(), force: *force },
            BatchKind::Restart { force } => {
                Change::RestartDesktop { target: target(), force: *force }
            }
            BatchKind::Message(notice) => {
                let told = desktop.status.session.and_then(|session| {
                    messages::told(self.world, tenant, session, notice.clone())
                });
                // Where nobody is, nobody is told: it is skipped.
                if let Some(row) = told {
                    self.steps.push(Step::Put(row));
                    self.batch.done += 1;
                }
                return;
            }
        };
        let (world, now_ms) = (self.world, self.now_ms);
        let view = View { world, now_ms, trace: None, new_id: new, new_operation: new };
        let decided = desktops::decide(view, change).and_then(|decided| {
            // With those before it: they are written in one piece.
            let together: Vec<Step> = self.steps.iter().chain(&decided.steps).cloned().collect();
            quota::check(world, &together).map(|()| decided)
        });
        match decided.map(|decided| (decided.answer, decided.steps)) {
            Ok((Answer::Operation(operation), steps)) => {
                self.steps.extend(steps);
                self.batch.open.push((id, operation));
            }
            Ok(_) => self.batch.done += 1,
            Err(refusal) => {
                let reason = match refusal {
                    Refusal::NotFound { .. } => Reason::NotFound,
                    _ => Reason::WrongState,
                };
                self.fail(id, OperationError { reason, message: refusal.to_string() });
            }
        }
    }
}
