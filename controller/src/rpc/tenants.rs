//! Tenants: make, look at, delete.

use std::ops::Bound;

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::TenantId;
use vidi_proto::v1::tenant_service_server::TenantService;
use vidi_proto::v1::{
    CreateTenantRequest, DeleteTenantRequest, DeleteTenantResponse, GetTenantRequest,
    ListTenantsRequest, ListTenantsResponse, Tenant,
};

use super::Parts;
use super::authorization::Access;
use super::names::{self, id};
use super::page::Query;
use super::status::{invalid_field, not_found};
use super::users::timestamp;
use super::wire::{check_display_name, request_key};
use crate::model::{self, Change, Refusal, World};

/// The service.
#[derive(Debug)]
pub struct TenantsRpc {
    parts: Parts,
}

impl TenantsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }
}

#[tonic::async_trait]
impl TenantService for TenantsRpc {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<Tenant>, Status> {
        let access = Access::of(&request)?;
        let mut wanted = request.into_inner();
        let tenant: TenantId = id("tenant_id", &wanted.tenant_id)?;
        if !tenant.as_str().starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(invalid_field("tenant_id", "it starts with a letter"));
        }
        let request_id = std::mem::take(&mut wanted.request_id);
        let key = request_key(access.caller(), "CreateTenant", &request_id, &wanted)?;
        let asked = wanted.tenant.unwrap_or_default();
        check_display_name(&asked.display_name)?;
        let display_name =
            if asked.display_name.is_empty() { tenant.to_string() } else { asked.display_name };
        let record = model::Tenant { display_name, create_ms: self.parts.clock.now_ms() };
        if wanted.validate_only {
            if self.parts.handle.world().tenants.contains_key(&tenant) {
                let (kind, id) = ("tenant", tenant.to_string());
                return Err(Refusal::AlreadyExists { kind, id }.into());
            }
            return Ok(Response::new(on_wire(&tenant, &record)));
        }
        let change = Change::CreateTenant { tenant: tenant.clone(), record, request: key };
        self.parts.handle.change(change).await?;
        info!(%tenant, "Tenant created");
        read(&self.parts.handle.world(), &tenant).map(Response::new)
    }

    async fn get_tenant(
        &self,
        request: Request<GetTenantRequest>,
    ) -> Result<Response<Tenant>, Status> {
        let tenant = names::tenant("name", &request.get_ref().name)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_list(&world, &tenant)?;
        read(&world, &tenant).map(Response::new)
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let query = Query::new("tenants", "", asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| id::<TenantId>("page_token", after));
        let after = after.transpose()?;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let world = self.parts.handle.world();
        let found: Vec<_> = world
            .tenants
            .from(start)
            .filter(|(tenant, _)| access.check_list(&world, tenant).is_ok())
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |(tenant, _)| tenant.to_string());
        let tenants =
            found.into_iter().take(query.size).map(|(tenant, one)| on_wire(tenant, one)).collect();
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token }))
    }

    async fn delete_tenant(
        &self,
        request: Request<DeleteTenantRequest>,
    ) -> Result<Response<DeleteTenantResponse>, Status> {
        let DeleteTenantRequest { name, etag } = request.into_inner();
        let tenant = names::tenant("name", &name)?;
        self.parts.handle.change(Change::DeleteTenant { tenant: tenant.clone(), etag }).await?;
        info!(%tenant, "Tenant deleted");
        Ok(Response::new(DeleteTenantResponse {}))
    }
}

fn read(world: &World, tenant: &TenantId) -> Result<Tenant, Status> {
    let record = world.tenants.get(tenant);
    let record = record.ok_or_else(|| not_found("tenant", tenant.as_str()))?;
    Ok(on_wire(tenant, record))
}

fn on_wire(tenant: &TenantId, record: &model::Tenant) -> Tenant {
    Tenant {
        name: format!("tenants/{tenant}"),
        display_name: record.display_name.clone(),
        create_time: Some(timestamp(record.create_ms)),
        etag: World::tenant_etag(record),
    }
}
