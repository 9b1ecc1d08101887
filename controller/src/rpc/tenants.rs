//! Tenants: make, look at, delete.

use std::ops::Bound;

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::TenantId;
use vidi_proto::v1::tenant_service_server::TenantService;
use vidi_proto::v1::{
    Branding, CreateTenantRequest, DeleteTenantRequest, DeleteTenantResponse, GetBrandingRequest,
    GetTenantRequest, ListTenantsRequest, ListTenantsResponse, Quota, QuotaUsed, Tenant,
    UpdateBrandingRequest, UpdateTenantRequest,
};

use super::authorization::Access;
use super::names::{self, id};
use super::page::Query;
use super::status::{invalid_field, not_allowed, not_found};
use super::users::timestamp;
use super::wire::{check_display_name, request_key};
use super::{Parts, branding};
use crate::model::{self, Change, QuotaKind, Refusal, World};

/// Fields that an update can name.
const FIELDS: [&str; 2] = [DISPLAY_NAME, QUOTA];
const DISPLAY_NAME: &str = "display_name";
const QUOTA: &str = "quota";

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
        let record = model::Tenant {
            display_name,
            create_ms: self.parts.clock.now_ms(),
            quota: quota_of(asked.quota),
        };
        if wanted.validate_only {
            if self.parts.handle.world().tenants.contains_key(&tenant) {
                let (kind, id) = ("tenant", tenant.to_string());
                return Err(Refusal::AlreadyExists { kind, id }.into());
            }
            return Ok(Response::new(on_wire(&tenant, &record, Some(QuotaUsed::default()))));
        }
        let change = Change::CreateTenant { tenant: tenant.clone(), record, request: key };
        self.parts.handle.change(change).await?;
        info!(%tenant, "Tenant created");
        read(&access, &self.parts.handle.world(), &tenant).map(Response::new)
    }

    async fn get_tenant(
        &self,
        request: Request<GetTenantRequest>,
    ) -> Result<Response<Tenant>, Status> {
        let tenant = names::tenant("name", &request.get_ref().name)?;
        let world = self.parts.handle.world();
        let access = Access::of(&request)?;
        access.check_list(&world, &tenant)?;
        read(&access, &world, &tenant).map(Response::new)
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
        let tenants = found.into_iter().take(query.size);
        let tenants = tenants.map(|(tenant, one)| shown(&access, &world, tenant, one)).collect();
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token }))
    }

    async fn update_tenant(
        &self,
        request: Request<UpdateTenantRequest>,
    ) -> Result<Response<Tenant>, Status> {
        let access = Access::of(&request)?;
        let UpdateTenantRequest { tenant: asked, update_mask, validate_only } =
            request.into_inner();
        let asked = asked.ok_or_else(|| invalid_field("tenant", "a tenant is expected"))?;
        let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.iter().any(|path| !FIELDS.contains(&path.as_str())) {
            return Err(invalid_field("update_mask", "display_name and quota can be changed"));
        }
        let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
        let tenant = names::tenant("tenant.name", &asked.name)?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let before = world.tenants.get(&tenant);
        let before = before.ok_or_else(|| not_found("tenant", tenant.as_str()))?;
        let quota = named(QUOTA).then(|| quota_of(asked.quota));
        // Who pays for the machines says how much of them a customer gets.
        if quota.as_ref().is_some_and(|quota| *quota != before.quota)
            && !access.caller().is_operator()
        {
            return Err(not_allowed());
        }
        let display_name = if named(DISPLAY_NAME) {
            check_display_name(&asked.display_name)?;
            let named = !asked.display_name.is_empty();
            Some(if named { asked.display_name } else { tenant.to_string() })
        } else {
            None
        };
        // What was judged is what is changed.
        let etag = if asked.etag.is_empty() { World::tenant_etag(before) } else { asked.etag };
        let change = Change::UpdateTenant {
            tenant: tenant.clone(),
            display_name,
            quota,
            etag,
            validate_only,
        };
        self.parts.handle.change(change).await?;
        if !validate_only {
            info!(%tenant, "Tenant changed");
        }
        read(&access, &self.parts.handle.world(), &tenant).map(Response::new)
    }

    async fn get_branding(
        &self,
        request: Request<GetBrandingRequest>,
    ) -> Result<Response<Branding>, Status> {
        let tenant = names::tenant("name", &request.get_ref().name)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_list(&world, &tenant)?;
        Ok(Response::new(branding::on_wire(&world, &tenant)))
    }

    async fn update_branding(
        &self,
        request: Request<UpdateBrandingRequest>,
    ) -> Result<Response<Branding>, Status> {
        let access = Access::of(&request)?;
        let asked = request.into_inner();
        let tenant = branding::tenant_of(&asked)?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let branding = Box::new(branding::merged(&world, &tenant, asked)?);
        let change = Change::SetBranding { tenant: tenant.clone(), branding };
        self.parts.handle.change(change).await?;
        info!(%tenant, "Branding changed");
        Ok(Response::new(branding::on_wire(&self.parts.handle.world(), &tenant)))
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

fn read(access: &Access, world: &World, tenant: &TenantId) -> Result<Tenant, Status> {
    let record = world.tenants.get(tenant);
    let record = record.ok_or_else(|| not_found("tenant", tenant.as_str()))?;
    Ok(shown(access, world, tenant, record))
}

/// A tenant as this caller sees it.
fn shown(access: &Access, world: &World, tenant: &TenantId, record: &model::Tenant) -> Tenant {
    let used = access.covers(tenant).then(|| {
        let used = world.quota_used(tenant);
        let short = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        QuotaUsed {
            desktops: short(used.desktops),
            running_desktops: short(used.running_desktops),
            vcpus: short(used.vcpus),
            memory_mib: used.memory_mib,
            sessions: short(used.sessions),
        }
    });
    on_wire(tenant, record, used)
}

/// With its quota only where what it has is told, too.
fn on_wire(tenant: &TenantId, record: &model::Tenant, used: Option<QuotaUsed>) -> Tenant {
    let limit = |kind| {
        let limit = record.quota.limits.get(&kind).copied();
        limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX))
    };
    let quota = used.map(|_| Quota {
        desktops: limit(QuotaKind::Desktops),
        running_desktops: limit(QuotaKind::RunningDesktops),
        vcpus: limit(QuotaKind::Vcpus),
        memory_mib: limit(QuotaKind::MemoryMib),
        sessions: limit(QuotaKind::Sessions),
    });
    Tenant {
        name: format!("tenants/{tenant}"),
        display_name: record.display_name.clone(),
        create_time: Some(timestamp(record.create_ms)),
        etag: World::tenant_etag(record),
        quota,
        used,
    }
}

fn quota_of(asked: Option<Quota>) -> model::Quota {
    let asked = asked.unwrap_or_default();
    let limits = [
        (QuotaKind::Desktops, asked.desktops),
        (QuotaKind::RunningDesktops, asked.running_desktops),
        (QuotaKind::Vcpus, asked.vcpus),
        (QuotaKind::MemoryMib, asked.memory_mib),
        (QuotaKind::Sessions, asked.sessions),
    ];
    let limits = limits.into_iter().filter_map(|(kind, limit)| Some((kind, limit?.into())));
    model::Quota { limits: limits.collect() }
}
