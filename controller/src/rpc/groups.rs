//! Groups: make, look at, change, delete; who is in them.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{DesktopId, GroupId, PoolId, TenantId, UserId};
use vidi_proto::v1::group_service_server::GroupService;
use vidi_proto::v1::{
    AddGroupMembersRequest, CreateGroupRequest, DeleteGroupRequest, DeleteGroupResponse,
    GetGroupRequest, Group, ListGroupMembersRequest, ListGroupMembersResponse, ListGroupsRequest,
    ListGroupsResponse, RemoveGroupMembersRequest, UpdateGroupRequest,
};

use super::authorization::Access;
use super::caller::INSTALLATION_ROLES;
use super::names;
use super::page::Query;
use super::status::{invalid_field, not_allowed, not_found};
use super::users::{known_roles, timestamp};
use super::wire::{check_display_name, child, desktop_name, pool_name, request_key};
use super::{Caller, Parts};
use crate::model::group::{GroupChange, GroupSettings, MEMBERS_PER_CALL_MAX, OPENS_MAX};
use crate::model::{self, Change, Place, World};

/// Fields that an update can name.
const FIELDS: [&str; 3] = [DISPLAY_NAME, ROLES, OPENS];
const DISPLAY_NAME: &str = "display_name";
const ROLES: &str = "roles";
const OPENS: &str = "opens";

/// The service.
#[derive(Debug)]
pub struct GroupsRpc {
    parts: Parts,
}

impl GroupsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    fn read(&self, tenant: &TenantId, id: &GroupId) -> Result<Response<Group>, Status> {
        let world = self.parts.handle.world();
        let one = world.group(tenant, id).ok_or_else(|| not_found("group", id.as_str()))?;
        Ok(Response::new(on_wire(&world, tenant, id, one)))
    }

    async fn change(
        &self,
        tenant: &TenantId,
        id: &GroupId,
        change: GroupChange,
    ) -> Result<(), Status> {
        let change = Change::Group(tenant.clone(), id.clone(), change);
        self.parts.handle.change(change).await?;
        info!(%tenant, group = %id, "Group changed");
        Ok(())
    }

    /// Adds or removes members.
    async fn members(
        &self,
        access: &Access,
        (name, members): (&str, &[String]),
        change: fn(BTreeSet<UserId>) -> GroupChange,
    ) -> Result<Response<Group>, Status> {
        let (tenant, id) = parse_name("name", name)?;
        may_change(access, &self.parts.handle.world(), &tenant, &id)?;
        if MEMBERS_PER_CALL_MAX < members.len() {
            return Err(invalid_field("members", "at most 100 are allowed at a time"));
        }
        let users = members.iter().map(|name| {
            let (of, user) = child::<UserId>("members", name, "users")?;
            if of == tenant { Ok(user) } else { Err(not_found("user", name)) }
        });
        let users = users.collect::<Result<BTreeSet<_>, Status>>()?;
        self.change(&tenant, &id, change(users)).await?;
        self.read(&tenant, &id)
    }
}

#[tonic::async_trait]
impl GroupService for GroupsRpc {
    async fn create_group(
        &self,
        request: Request<CreateGroupRequest>,
    ) -> Result<Response<Group>, Status> {
        let access = Access::of(&request)?;
        let mut wanted = request.into_inner();
        let tenant = names::tenant("parent", &wanted.parent)?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let id: GroupId = names::id("group_id", &wanted.group_id)?;
        let request_id = std::mem::take(&mut wanted.request_id);
        let key = request_key(access.caller(), "CreateGroup", &request_id, &wanted)?;
        let settings = settings(access.caller(), (&tenant, &id), wanted.group.unwrap_or_default())?;
        let group = model::group::Group {
            settings: settings.clone(),
            create_ms: self.parts.clock.now_ms(),
            generation: 1,
        };
        let validate_only = wanted.validate_only;
        let change = GroupChange::Create { settings, request: key, validate_only };
        self.change(&tenant, &id, change).await?;
        if validate_only {
            return Ok(Response::new(on_wire(&world, &tenant, &id, &group)));
        }
        self.read(&tenant, &id)
    }

    async fn get_group(
        &self,
        request: Request<GetGroupRequest>,
    ) -> Result<Response<Group>, Status> {
        let (tenant, id) = parse_name("name", &request.get_ref().name)?;
        Access::of(&request)?.check_tenant(&self.parts.handle.world(), &tenant)?;
        self.read(&tenant, &id)
    }

    async fn list_groups(
        &self,
        request: Request<ListGroupsRequest>,
    ) -> Result<Response<ListGroupsResponse>, Status> {
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_tenant(&world, &tenant)?;
        let query = Query::new("groups", &asked.parent, asked.page_size, &asked.page_token)?;
        let found: Vec<_> = world
            .groups_of(&tenant)
            .skip_while(|(id, _)| {
                query.after.as_ref().is_some_and(|after| id.as_str() <= after.as_str())
            })
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |(id, _)| id.to_string());
        let groups = found.into_iter().take(query.size);
        let groups = groups.map(|(id, one)| on_wire(&world, &tenant, id, one)).collect();
        Ok(Response::new(ListGroupsResponse { groups, next_page_token }))
    }

    async fn update_group(
        &self,
        request: Request<UpdateGroupRequest>,
    ) -> Result<Response<Group>, Status> {
        let access = Access::of(&request)?;
        let UpdateGroupRequest { group, update_mask } = request.into_inner();
        let asked = group.ok_or_else(|| invalid_field("group", "a group is expected"))?;
        let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.iter().any(|path| !FIELDS.contains(&path.as_str())) {
            let rule = "display_name, roles and opens can be changed";
            return Err(invalid_field("update_mask", rule));
        }
        let (tenant, id) = parse_name("group.name", &asked.name)?;
        let world = self.parts.handle.world();
        let before = may_change(&access, &world, &tenant, &id)?;
        let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
        let etag =
            if asked.etag.is_empty() { World::group_etag(before) } else { asked.etag.clone() };
        let mut merged = on_wire(&world, &tenant, &id, before);
        if named(DISPLAY_NAME) {
            merged.display_name = asked.display_name;
        }
        if named(ROLES) {
            merged.roles = asked.roles;
        }
        if named(OPENS) {
            merged.opens = asked.opens;
        }
        let settings = settings(access.caller(), (&tenant, &id), merged)?;
        self.change(&tenant, &id, GroupChange::Update { settings, etag }).await?;
        self.read(&tenant, &id)
    }

    async fn delete_group(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        let access = Access::of(&request)?;
        let DeleteGroupRequest { name, etag } = request.into_inner();
        let (tenant, id) = parse_name("name", &name)?;
        may_change(&access, &self.parts.handle.world(), &tenant, &id)?;
        self.change(&tenant, &id, GroupChange::Delete { etag }).await?;
        Ok(Response::new(DeleteGroupResponse {}))
    }

    async fn add_group_members(
        &self,
        request: Request<AddGroupMembersRequest>,
    ) -> Result<Response<Group>, Status> {
        let access = Access::of(&request)?;
        let AddGroupMembersRequest { name, members } = request.into_inner();
        self.members(&access, (&name, &members), GroupChange::Add).await
    }

    async fn remove_group_members(
        &self,
        request: Request<RemoveGroupMembersRequest>,
    ) -> Result<Response<Group>, Status> {
        let access = Access::of(&request)?;
        let RemoveGroupMembersRequest { name, members } = request.into_inner();
        self.members(&access, (&name, &members), GroupChange::Remove).await
    }

    async fn list_group_members(
        &self,
        request: Request<ListGroupMembersRequest>,
    ) -> Result<Response<ListGroupMembersResponse>, Status> {
        let asked = request.get_ref();
        let (tenant, id) = parse_name("name", &asked.name)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_tenant(&world, &tenant)?;
        world.group(&tenant, &id).ok_or_else(|| not_found("group", id.as_str()))?;
        let query = Query::new("members", &asked.name, asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().unwrap_or_default();
        let found: Vec<_> = world.members_of(&tenant, &id, after).take(query.size + 1).collect();
        let next_page_token = query.next(&found, |user| user.to_string());
        let members = found.into_iter().take(query.size);
        let members = members.map(|user| format!("tenants/{tenant}/users/{user}")).collect();
        Ok(Response::new(ListGroupMembersResponse { members, next_page_token }))
    }
}

fn parse_name(field: &str, name: &str) -> Result<(TenantId, GroupId), Status> {
    child(field, name, "groups")
}

/// The group as it is. Who is in one that has a role of the installation is the operators' to say: a
/// tenant's admin must not become one by way of a group.
fn may_change<'a>(
    access: &Access,
    world: &'a World,
    tenant: &TenantId,
    id: &GroupId,
) -> Result<&'a model::group::Group, Status> {
    access.check_tenant(world, tenant)?;
    let group = world.group(tenant, id).ok_or_else(|| not_found("group", id.as_str()))?;
    let above = group.settings.roles.iter().any(|role| INSTALLATION_ROLES.contains(&role.as_str()));
    if above && !access.caller().is_operator() {
        return Err(not_allowed());
    }
    Ok(group)
}

/// What is chosen of a group, judged.
fn settings(
    caller: &Caller,
    (tenant, id): (&TenantId, &GroupId),
    asked: Group,
) -> Result<GroupSettings, Status> {
    check_display_name(&asked.display_name)?;
    let roles = known_roles(caller, "group.roles", &asked.roles)?;
    if OPENS_MAX < asked.opens.len() {
        return Err(invalid_field("group.opens", "at most 200 are allowed"));
    }
    let opens = asked.opens.iter().map(|name| place(tenant, name)).collect::<Result<_, _>>()?;
    let named = !asked.display_name.is_empty();
    let display_name = if named { asked.display_name } else { id.to_string() };
    Ok(GroupSettings { display_name, roles, opens })
}

fn place(tenant: &TenantId, name: &str) -> Result<Place, Status> {
    const FIELD: &str = "group.opens";
    let (of, place) = if name.contains("/pools/") {
        let (of, pool) = child::<PoolId>(FIELD, name, "pools")?;
        (of, Place::Pool(pool))
    } else {
        let (of, desktop) = child::<DesktopId>(FIELD, name, "desktops")?;
        (of, Place::Desktop(desktop))
    };
    if of == *tenant { Ok(place) } else { Err(not_found("resource", name)) }
}

fn on_wire(world: &World, tenant: &TenantId, id: &GroupId, one: &model::group::Group) -> Group {
    let opens = one.settings.opens.iter().filter_map(|place| match place {
        Place::Pool(pool) => Some(pool_name(tenant, *pool)),
        // Desktops go without asking groups.
        Place::Desktop(id) => world.desktop(tenant, *id).map(|_| desktop_name(tenant, *id)),
        Place::Machine(_) => None,
    });
    Group {
        name: format!("tenants/{tenant}/groups/{id}"),
        display_name: one.settings.display_name.clone(),
        roles: one.settings.roles.clone(),
        opens: opens.collect(),
        member_count: u32::try_from(world.member_count(tenant, id)).unwrap_or(u32::MAX),
        create_time: Some(timestamp(one.create_ms)),
        etag: World::group_etag(one),
    }
}
