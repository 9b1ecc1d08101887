//! Counts what commits have done for the users of pools.

use std::time::Duration;

use tracing::warn;

use crate::model::{Place, Pool, Row, Session, Step, World};

/// Counts the claims, refills and suspensions of one commit, which made `after` of `before`.
pub(super) fn committed<'a>(before: &World, after: &World, steps: impl Iterator<Item = &'a Step>) {
    for step in steps {
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
