//! Lists of desktops: all that a caller reaches, or those of one pool.

use std::ops::Bound;

use tonic::Status;
use vidi_kit::ids::{DesktopId, PoolId, TenantId};
use vidi_proto::v1::{ListDesktopsRequest, ListDesktopsResponse};

use super::authorization::Access;
use super::desktops::reaches;
use super::page::Query;
use super::status::not_found;
use super::watching::scope;
use super::wire::{self, child, desktop_name};
use crate::model::{Desktop, World};

/// One page.
pub(super) fn page(
    access: &Access,
    world: &World,
    asked: &ListDesktopsRequest,
) -> Result<ListDesktopsResponse, Status> {
    let only = scope(access, world, &asked.parent)?;
    // A token of one pool is none of another.
    let kind = format!("desktops in {}", asked.pool);
    let query = Query::new(&kind, &asked.parent, asked.page_size, &asked.page_token)?;
    let after = query.after.as_deref().map(|after| child("page_token", after, "desktops"));
    let after: Option<(TenantId, DesktopId)> = after.transpose()?;
    let found = if asked.pool.is_empty() {
        of_tenant(world, only.as_ref(), after.as_ref())
    } else {
        of_pool(world, only.as_ref(), &asked.pool, after.as_ref())?
    };
    let found: Vec<_> = found
        .filter(|(tenant, _, one)| reaches(access, tenant, one))
        .take(query.size + 1)
        .collect();
    let next_page_token = query.next(&found, |(tenant, id, _)| desktop_name(tenant, *id));
    let desktops = found
        .into_iter()
        .take(query.size)
        .map(|(tenant, id, one)| wire::desktop(world, &tenant, id, one))
        .collect();
    Ok(ListDesktopsResponse { desktops, next_page_token })
}

/// Desktops by tenant and id.
type Found<'a> = Box<dyn Iterator<Item = (TenantId, DesktopId, &'a Desktop)> + 'a>;

/// Those of a tenant, or all, behind one.
fn of_tenant<'a>(
    world: &'a World,
    only: Option<&'a TenantId>,
    after: Option<&(TenantId, DesktopId)>,
) -> Found<'a> {
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let all = world.desktops.from(start);
    let all = all.skip_while(move |((tenant, _), _)| only.is_some_and(|only| tenant < only));
    let all = all.take_while(move |((tenant, _), _)| only.is_none_or(|only| tenant == only));
    Box::new(all.map(|((tenant, id), one)| (tenant.clone(), *id, &**one)))
}

/// Those of a pool, behind one.
fn of_pool<'a>(
    world: &'a World,
    only: Option<&TenantId>,
    name: &str,
    after: Option<&(TenantId, DesktopId)>,
) -> Result<Found<'a>, Status> {
    let (tenant, pool) = child::<PoolId>("pool", name, "pools")?;
    let there = only.is_none_or(|only| *only == tenant) && world.pool(&tenant, pool).is_some();
    if !there {
        return Err(not_found("pool", name));
    }
    let behind = |id: &DesktopId| after.is_none_or(|(of, last)| (of, last) < (&tenant, id));
    let mut ids: Vec<DesktopId> = world.pool_desktops(&tenant, pool).filter(behind).collect();
    ids.sort();
    let found = ids.into_iter().filter_map(move |id| {
        let one = world.desktop(&tenant, id)?;
        Some((tenant.clone(), id, &**one))
    });
    Ok(Box::new(found))
}
