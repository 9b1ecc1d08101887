//! Counts what commits have done for the users of pools, and with many desktops.

use std::time::Duration;

use tracing::warn;

use crate::model::{Place, Pool, RolloutState, Row, Session, Step, World};

/// Counts the claims, refills and suspensions of one commit, which made `after` of `before`.
pub(super) fn committed<'a>(before: &World, after: &World, steps: impl Iterator<Item = &'a Step>) {
    for step in steps {
        count_many(before, step);
        match step {
            Step::Put(Row::Session(tenant, id, one)) if one.pool.is_some() && one.is_live() => {
                let known = before.session(tenant, *id).map(|known| &**known);
                count_claim(after, (tenant, one), known);
            }
            Step::Put(Row::Spec(tenant, id, spec))
                if spec.pool.is_some() && before.desktop(tenant, *id).is_none() =>
            {
                metrics::counter!("vidi_controller_pool_refills_total").increment(1);
            }
            Step::Put(Row::Pool(tenant, id, pool)) => {
                let known = before.pool(tenant, *id);
                if known.is_some_and(|known| known.suspended.is_none())
                    && let Pool { suspended: Some(why), .. } = pool
                {
                    metrics::counter!("vidi_controller_pool_suspensions_total").increment(1);
                    warn!(%tenant, pool = %id, reason = why.reason, "Pool makes no more desktops");
                }
            }
            Step::Put(_) | Step::Delete(_) => {}
        }
    }
}

/// Counts the ends and failures of roll-outs, the desktops of changes of many, and messages.
fn count_many(before: &World, step: &Step) {
    match step {
        Step::Put(Row::Rollout(tenant, id, one)) => {
            let known = before.rollout(tenant, *id).map(|known| (known.state, known.failed));
            let (state, failed) = known.unwrap_or((RolloutState::Running, 0));
            let failures = u64::from(one.failed.saturating_sub(failed));
            metrics::counter!("vidi_controller_rollout_failures_total").increment(failures);
            if one.state == RolloutState::RollingBack && state != RolloutState::RollingBack {
                warn!(%tenant, rollout = %id, pool = %one.pool, reason = one.reason, "Roll-out goes back");
            }
            if one.state != state && !one.state.is_open() {
                let result = match one.state {
                    RolloutState::Done => "done",
                    RolloutState::RolledBack => "rolled_back",
                    RolloutState::Cancelled => "cancelled",
                    RolloutState::Running | RolloutState::Paused | RolloutState::RollingBack => {
                        return;
                    }
                };
                metrics::counter!("vidi_controller_rollouts_total", "result" => result)
                    .increment(1);
            }
        }
        Step::Put(Row::Batch(id, one)) => {
            let known = before.batches.get(id).map_or((0, 0), |known| (known.done, known.failed));
            let count = |result: &'static str, more: u32| {
                metrics::counter!("vidi_controller_batch_desktops_total", "result" => result)
                    .increment(more.into());
            };
            count("done", one.done.saturating_sub(known.0));
            count("failed", one.failed.saturating_sub(known.1));
        }
        Step::Put(Row::Session(tenant, id, one)) => {
            let last = |session: &Session| session.notices.last().map_or(0, |last| last.number);
            let known = before.session(tenant, *id).map_or(0, |known| last(known));
            let more = u64::from(last(one).saturating_sub(known));
            metrics::counter!("vidi_controller_messages_total").increment(more);
        }
        Step::Put(_) | Step::Delete(_) => {}
    }
}

fn count_claim(
    after: &World,
    (tenant, session): (&vidi_kit::ids::TenantId, &Session),
    known: Option<&Session>,
) {
    match (known.map(|known| known.place), session.place) {
        (None, Place::Desktop(id)) => {
            let ready = after.desktop(tenant, id).is_some_and(|one| after.is_ready(one, id));
            count(if ready { "hit" } else { "preparing" });
            if ready {
                metrics::histogram!("vidi_controller_claim_wait_seconds").record(0.0);
            }
        }
        (None, Place::Pool(_)) => count("waited"),
        (Some(Place::Pool(_)), Place::Desktop(_)) => {
            let waited_ms = session.since_ms.saturating_sub(session.create_ms);
            let waited = Duration::from_millis(u64::try_from(waited_ms).unwrap_or(0));
            metrics::histogram!("vidi_controller_claim_wait_seconds").record(waited);
        }
        (Some(_) | None, _) => {}
    }
}

fn count(result: &'static str) {
    metrics::counter!("vidi_controller_claims_total", "result" => result).increment(1);
}
