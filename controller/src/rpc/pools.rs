//! Pools: make, look at, change, delete, resume, watch.

use std::ops::Bound;
use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{PoolId, TenantId};
use vidi_proto::v1::pool_service_server::PoolService;
use vidi_proto::v1::{
    CreatePoolRequest, DeletePoolRequest, DeletePoolResponse, ForecastPoolRequest,
    ForecastPoolResponse, GetPoolRequest, ListPoolsRequest, ListPoolsResponse, Pool,
    ResumePoolRequest, UpdatePoolRequest, WatchPoolsRequest, WatchPoolsResponse,
};

use super::authorization::Access;
use super::page::Query;
use super::pool_fields::{
    check_paths, merged, on_wire, quarter_on_wire, settings, settings_on_wire,
};
use super::status::{invalid_field, not_found};
use super::watching::watch;
use super::wire::{child, pool_name, request_key, unexpected};
use super::{Parts, names, watched};
use crate::model::{Answer, Change, Refusal, World};
use crate::plan::pools::forecast;

/// The service.
#[derive(Debug)]
pub struct PoolsRpc {
    parts: Parts,
}

impl PoolsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    fn read(&self, tenant: &TenantId, id: PoolId) -> Result<Pool, Status> {
        let world = self.parts.handle.world();
        let one = world.pool(tenant, id).ok_or_else(|| not_found("pool", id.as_str()))?;
        Ok(on_wire(&world, (tenant, id), one, self.parts.clock.now_ms()))
    }
}

#[tonic::async_trait]
impl PoolService for PoolsRpc {
    async fn create_pool(
        &self,
        request: Request<CreatePoolRequest>,
    ) -> Result<Response<Pool>, Status> {
        let access = Access::of(&request)?;
        let mut wanted = request.into_inner();
        let tenant = names::tenant("parent", &wanted.parent)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let request_id = std::mem::take(&mut wanted.request_id);
        let key = request_key(access.caller(), "CreatePool", &request_id, &wanted)?;
        let id: PoolId = names::id("pool_id", &wanted.pool_id)?;
        let settings = settings((&tenant, id), &wanted.pool.unwrap_or_default())?;
        let change = Change::CreatePool {
            tenant: tenant.clone(),
            pool: id,
            settings: Box::new(settings.clone()),
            request: key,
            validate_only: wanted.validate_only,
        };
        done(self.parts.handle.change(change).await?)?;
        if wanted.validate_only {
            return Ok(Response::new(settings_on_wire(&tenant, id, &settings)));
        }
        info!(%tenant, pool = %id, "Pool created");
        self.read(&tenant, id).map(Response::new)
    }

    async fn get_pool(&self, request: Request<GetPoolRequest>) -> Result<Response<Pool>, Status> {
        let (tenant, id) = parse_name("name", &request.get_ref().name)?;
        Access::of(&request)?.check_tenant(&self.parts.handle.world(), &tenant)?;
        self.read(&tenant, id).map(Response::new)
    }

    async fn list_pools(
        &self,
        request: Request<ListPoolsRequest>,
    ) -> Result<Response<ListPoolsResponse>, Status> {
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_tenant(&world, &tenant)?;
        let query = Query::new("pools", &asked.parent, asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| parse_name("page_token", after));
        let after = after.transpose()?;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let found: Vec<_> = world
            .pools
            .from(start)
            .skip_while(|((of, _), _)| *of < tenant)
            .take_while(|((of, _), _)| *of == tenant)
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |((tenant, id), _)| pool_name(tenant, *id));
        let now_ms = self.parts.clock.now_ms();
        let pools = found
            .into_iter()
            .take(query.size)
            .map(|((tenant, id), one)| on_wire(&world, (tenant, *id), one, now_ms))
            .collect();
        Ok(Response::new(ListPoolsResponse { pools, next_page_token }))
    }

    async fn update_pool(
        &self,
        request: Request<UpdatePoolRequest>,
    ) -> Result<Response<Pool>, Status> {
        let access = Access::of(&request)?;
        let UpdatePoolRequest { pool, update_mask, validate_only } = request.into_inner();
        let asked = pool.ok_or_else(|| invalid_field("pool", "a pool is expected"))?;
        let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
        check_paths(&paths)?;
        let (tenant, id) = parse_name("pool.name", &asked.name)?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let before = world.pool(&tenant, id).ok_or_else(|| not_found("pool", id.as_str()))?;
        let merged = merged(settings_on_wire(&tenant, id, &before.settings), &asked, &paths);
        let settings = settings((&tenant, id), &merged)?;
        // What was merged with is what is changed.
        let etag = if asked.etag.is_empty() { World::pool_etag(before) } else { asked.etag };
        let change = Change::UpdatePool {
            tenant: tenant.clone(),
            pool: id,
            settings: Box::new(settings.clone()),
            etag,
            validate_only,
        };
        done(self.parts.handle.change(change).await?)?;
        if validate_only {
            return Ok(Response::new(settings_on_wire(&tenant, id, &settings)));
        }
        info!(%tenant, pool = %id, "Pool changed");
        self.read(&tenant, id).map(Response::new)
    }

    async fn delete_pool(
        &self,
        request: Request<DeletePoolRequest>,
    ) -> Result<Response<DeletePoolResponse>, Status> {
        let access = Access::of(&request)?;
        let DeletePoolRequest { name, etag, force } = request.into_inner();
        let (tenant, pool) = parse_name("name", &name)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let change = Change::DeletePool { tenant: tenant.clone(), pool, etag, force };
        done(self.parts.handle.change(change).await?)?;
        info!(%tenant, %pool, force, "Pool deleted");
        Ok(Response::new(DeletePoolResponse {}))
    }

    async fn resume_pool(
        &self,
        request: Request<ResumePoolRequest>,
    ) -> Result<Response<Pool>, Status> {
        let access = Access::of(&request)?;
        let ResumePoolRequest { name, etag } = request.into_inner();
        let (tenant, id) = parse_name("name", &name)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let change = Change::ResumePool { tenant: tenant.clone(), pool: id, etag };
        done(self.parts.handle.change(change).await?)?;
        info!(%tenant, pool = %id, "Pool resumed");
        self.read(&tenant, id).map(Response::new)
    }

    async fn forecast_pool(
        &self,
        request: Request<ForecastPoolRequest>,
    ) -> Result<Response<ForecastPoolResponse>, Status> {
        let (tenant, id) = parse_name("name", &request.get_ref().name)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_tenant(&world, &tenant)?;
        let pool = world.pool(&tenant, id).ok_or_else(|| not_found("pool", id.as_str()))?;
        let asked = &request.get_ref().day;
        let begin_ms = if asked.is_empty() {
            self.parts.clock.now_ms()
        } else {
            let day = pool.settings.schedule.zone.begin_of(asked);
            day.ok_or_else(|| invalid_field("day", "a day as 2026-11-30 is expected"))?
        };
        let quarters = forecast::day(&world, &tenant, id, begin_ms);
        let quarters = quarters.ok_or_else(|| no_forecast(id))?;
        let zone = &pool.settings.schedule.zone;
        let quarters = quarters.iter().map(|one| quarter_on_wire(zone, one)).collect();
        Ok(Response::new(ForecastPoolResponse { quarters }))
    }

    type WatchPoolsStream = Pin<Box<dyn Stream<Item = Result<WatchPoolsResponse, Status>> + Send>>;

    async fn watch_pools(
        &self,
        request: Request<WatchPoolsRequest>,
    ) -> Result<Response<Self::WatchPoolsStream>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let watched = watched::Pools { clock: self.parts.clock.clone() };
        let stream = watch(&self.parts, access, Some(tenant), (watched, &asked.resume_token))?;
        Ok(Response::new(Box::pin(stream)))
    }
}

fn no_forecast(id: PoolId) -> Status {
    let (id, state) = (id.to_string(), "dedicated".to_owned());
    let remedy = "only of floating pools it is known who comes";
    Refusal::WrongState { kind: "pool", id, state, remedy }.into()
}

fn done(answer: Answer) -> Result<(), Status> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn parse_name(field: &str, name: &str) -> Result<(TenantId, PoolId), Status> {
    child(field, name, "pools")
}
