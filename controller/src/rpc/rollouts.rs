//! Roll-outs: begin, look at, steer.

use std::ops::Bound;

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{PoolId, RolloutId, TenantId};
use vidi_proto::v1::rollout_service_server::RolloutService;
use vidi_proto::v1::{
    CancelRolloutRequest, CreateRolloutRequest, GetRolloutRequest, ListRolloutsRequest,
    ListRolloutsResponse, PauseRolloutRequest, ResumeRolloutRequest, RollBackRolloutRequest,
    Rollout, RolloutFailure, RolloutPlan, RolloutState, RolloutStatus,
};

use super::Parts;
use super::authorization::Access;
use super::names::{self, id};
use super::page::Query;
use super::status::{invalid_field, not_found};
use super::users::timestamp;
use super::wire::{child, desktop_name, pool_name, request_key, unexpected};
use crate::model::rollout::{Course, TrialCounts};
use crate::model::{self, Answer, Change, RolloutChange, RolloutSettings, World};
use crate::plan::rollouts::name as rollout_name;

/// Canaries where nothing is said.
const CANARIES_DEFAULT: u32 = 1;
/// Percent of a pool that a wave adds where nothing is said.
const WAVE_PERCENT_DEFAULT: u32 = 25;
/// How long a desktop may take to be ready where nothing is said, s: as long as any of a pool may.
const READY_SECS_DEFAULT: u32 = 900;

/// The service.
#[derive(Debug)]
pub struct RolloutsRpc {
    parts: Parts,
}

impl RolloutsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    fn read(&self, tenant: &TenantId, id: RolloutId) -> Result<Response<Rollout>, Status> {
        let world = self.parts.handle.world();
        let one = world.rollout(tenant, id).ok_or_else(|| unknown(id))?;
        Ok(Response::new(on_wire(&world, tenant, id, one)))
    }

    async fn steer(
        &self,
        access: Result<Access, Status>,
        (name, etag): (&str, &str),
        course: Course,
    ) -> Result<Response<Rollout>, Status> {
        let (tenant, rollout) = child::<RolloutId>("name", name, "rollouts")?;
        access?.check_tenant(&self.parts.handle.world(), &tenant)?;
        let etag = etag.to_owned();
        let change = RolloutChange::Steer { tenant: tenant.clone(), rollout, course, etag };
        self.parts.handle.change(Change::Rollout(change)).await?;
        info!(%tenant, %rollout, ?course, "Roll-out steered");
        self.read(&tenant, rollout)
    }
}

#[tonic::async_trait]
impl RolloutService for RolloutsRpc {
    async fn create_rollout(
        &self,
        request: Request<CreateRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let tenant = names::tenant("parent", &asked.parent)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(access.caller(), "CreateRollout", &request_id, &asked)?;
        let wanted = asked.rollout.unwrap_or_default();
        let (of, pool) = child::<PoolId>("rollout.pool", &wanted.pool, "pools")?;
        if of != tenant {
            return Err(not_found("pool", &wanted.pool));
        }
        let digest = digest("rollout.digest", &wanted.digest)?;
        let settings = settings(wanted.plan.unwrap_or_default())?;
        let change = RolloutChange::Create {
            tenant: tenant.clone(),
            pool,
            digest: digest.clone(),
            settings,
            request: key,
            validate_only: asked.validate_only,
        };
        let answer = self.parts.handle.change(Change::Rollout(change)).await?;
        let Answer::Rollout(id) = answer else { return Err(unexpected(&answer)) };
        if asked.validate_only {
            let (pool, plan) = (pool_name(&tenant, pool), Some(plan_of(&settings)));
            return Ok(Response::new(Rollout { pool, digest, plan, ..Rollout::default() }));
        }
        info!(%tenant, %pool, rollout = %id, digest, "Roll-out begun");
        self.read(&tenant, id)
    }

    async fn get_rollout(
        &self,
        request: Request<GetRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        let access = Access::of(&request)?;
        let (tenant, id) = child("name", &request.get_ref().name, "rollouts")?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        self.read(&tenant, id)
    }

    async fn list_rollouts(
        &self,
        request: Request<ListRolloutsRequest>,
    ) -> Result<Response<ListRolloutsResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let pool = match asked.pool.as_str() {
            "" => None,
            name => Some(child::<PoolId>("pool", name, "pools")?),
        };
        if let Some((_, id)) = pool.as_ref().filter(|(of, _)| *of != tenant) {
            return Err(not_found("pool", id.as_str()));
        }
        let pool = pool.map(|(_, id)| id);
        // A token of one pool is none of another.
        let kind = format!("roll-outs of {}", asked.pool);
        let query = Query::new(&kind, &asked.parent, asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| id::<RolloutId>("page_token", after));
        let first = after.transpose()?.unwrap_or(RolloutId::new(uuid::Uuid::nil()));
        let found: Vec<_> = world
            .rollouts
            .from(Bound::Excluded(&(tenant.clone(), first)))
            .take_while(|((of, _), _)| *of == tenant)
            .filter(|(_, one)| pool.is_none_or(|pool| one.pool == pool))
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |((_, id), _)| id.to_string());
        let rollouts = found.into_iter().take(query.size);
        let rollouts =
            rollouts.map(|((tenant, id), one)| on_wire(&world, tenant, *id, one)).collect();
        Ok(Response::new(ListRolloutsResponse { rollouts, next_page_token }))
    }

    async fn pause_rollout(
        &self,
        request: Request<PauseRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        let PauseRolloutRequest { name, etag } = request.get_ref();
        self.steer(Access::of(&request), (name, etag), Course::Pause).await
    }

    async fn resume_rollout(
        &self,
        request: Request<ResumeRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        let ResumeRolloutRequest { name, etag } = request.get_ref();
        self.steer(Access::of(&request), (name, etag), Course::Resume).await
    }

    async fn cancel_rollout(
        &self,
        request: Request<CancelRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        let CancelRolloutRequest { name, etag } = request.get_ref();
        self.steer(Access::of(&request), (name, etag), Course::Cancel).await
    }

    async fn roll_back_rollout(
        &self,
        request: Request<RollBackRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        let RollBackRolloutRequest { name, etag } = request.get_ref();
        self.steer(Access::of(&request), (name, etag), Course::RollBack).await
    }
}

fn unknown(id: RolloutId) -> Status {
    not_found("roll-out", &id.to_string())
}

/// A version's name.
pub(super) fn digest(field: &str, text: &str) -> Result<String, Status> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
    match hex.filter(|hex| hex.bytes().all(is_hex)) {
        Some(_) => Ok(text.to_owned()),
        None => Err(invalid_field(field, "\"sha256:\" and 64 lower-case hex digits are expected")),
    }
}

fn settings(plan: RolloutPlan) -> Result<RolloutSettings, Status> {
    let RolloutPlan { canaries, wave_percent, ready_secs, soak_secs, failures_max } = plan;
    let or = |said: u32, default: u32| if said == 0 { default } else { said };
    let settings = RolloutSettings {
        canaries: or(canaries, CANARIES_DEFAULT),
        wave_percent: or(wave_percent, WAVE_PERCENT_DEFAULT),
        ready_secs: or(ready_secs, READY_SECS_DEFAULT),
        soak_secs,
        failures_max,
    };
    let refused = |(field, rule)| invalid_field(&format!("rollout.plan.{field}"), rule);
    settings.check().map_err(refused)?;
    Ok(settings)
}

const fn plan_of(settings: &RolloutSettings) -> RolloutPlan {
    let RolloutSettings { canaries, wave_percent, ready_secs, soak_secs, failures_max } = *settings;
    RolloutPlan { canaries, wave_percent, ready_secs, soak_secs, failures_max }
}

fn on_wire(world: &World, tenant: &TenantId, id: RolloutId, one: &model::Rollout) -> Rollout {
    let pool = world.pool(tenant, one.pool);
    let trial = pool.and_then(|pool| pool.trial.as_ref()).filter(|trial| trial.rollout == id);
    // What is counted is of the trial that goes on: another's desktops are not this one's.
    let counts = match trial {
        Some(_) => world.trial_counts(tenant, one.pool),
        None => TrialCounts::default(),
    };
    let state = match one.state {
        model::RolloutState::Running => RolloutState::Running,
        model::RolloutState::Paused => RolloutState::Paused,
        model::RolloutState::RollingBack => RolloutState::RollingBack,
        model::RolloutState::Done => RolloutState::Done,
        model::RolloutState::RolledBack => RolloutState::RolledBack,
        model::RolloutState::Cancelled => RolloutState::Cancelled,
    };
    let failures = one.failures.iter().map(|failure| RolloutFailure {
        desktop: desktop_name(tenant, failure.desktop),
        reason: failure.reason.clone(),
        time: Some(timestamp(failure.at_ms)),
    });
    let status = RolloutStatus {
        state: state.into(),
        reason: one.reason.clone(),
        step: one.step,
        desktops_max: trial.map_or(0, |trial| trial.desktops_max),
        ready: counts.ready,
        preparing: counts.coming,
        claimed: counts.taken,
        old_free: counts.old_free(),
        old_claimed: counts.old_taken,
        failed: one.failed,
        failures: failures.collect(),
        from_digest: one.from.clone(),
        healthy_since: one.healthy_ms.map(timestamp),
    };
    Rollout {
        name: rollout_name(tenant, id),
        pool: pool_name(tenant, one.pool),
        digest: one.to.clone(),
        plan: Some(plan_of(&one.settings)),
        create_time: Some(timestamp(one.create_ms)),
        end_time: one.end_ms.map(timestamp),
        etag: World::rollout_etag(one),
        status: Some(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_of_a_plan_is_what_is_documented_and_what_cannot_be_is_named() {
        let plain = settings(RolloutPlan::default()).unwrap();
        let expected = RolloutSettings {
            canaries: 1,
            wave_percent: 25,
            ready_secs: 900,
            soak_secs: 0,
            failures_max: 0,
        };
        assert_eq!(plain, expected);
        for (field, wrong) in [
            ("canaries", RolloutPlan { canaries: 1_001, ..RolloutPlan::default() }),
            ("wave_percent", RolloutPlan { wave_percent: 101, ..RolloutPlan::default() }),
            ("ready_secs", RolloutPlan { ready_secs: 29, ..RolloutPlan::default() }),
            ("soak_secs", RolloutPlan { soak_secs: 86_401, ..RolloutPlan::default() }),
            ("failures_max", RolloutPlan { failures_max: 10_001, ..RolloutPlan::default() }),
        ] {
            let refused = settings(wrong).unwrap_err();
            assert!(refused.message().contains(field), "{}", refused.message());
        }
        for wrong in ["", "sha256:", "sha256:zz", &format!("sha256:{}", "A".repeat(64))] {
            assert!(digest("digest", wrong).is_err(), "{wrong}");
        }
        assert!(digest("digest", &format!("sha256:{}", "a".repeat(64))).is_ok());
    }
}
