//! Local users.

use std::collections::BTreeSet;
use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{TenantId, UserId};
use vidi_proto::v1::user_service_server::UserService;
use vidi_proto::v1::{
    CreateUserRequest, DeleteUserRequest, DeleteUserResponse, GetUserRequest, ListUsersRequest,
    ListUsersResponse, SetPasswordRequest, SetPasswordResponse, UpdateUserRequest, User,
};
use zeroize::Zeroizing;

use super::authorization::Access;
use super::caller::{INSTALLATION_ROLES, ROLES, USER};
use super::names::{self, split};
use super::page::Query;
use super::sign_in::PASSWORD_BYTES_MAX;
use super::status::{invalid_field, not_allowed, not_found};
use super::wire::{check_display_name, request_key};
use super::{Caller, Parts};
use crate::model::{self, Change, Refusal, World};

/// Shortest password, in characters, as the contract says.
const PASSWORD_CHARS_MIN: usize = 8;
/// Fields that an update can name.
const DISPLAY_NAME: &str = "display_name";
const ROLES_FIELD: &str = "roles";

/// The service.
#[derive(Debug)]
pub struct UsersRpc {
    parts: Parts,
}

impl UsersRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }
}

#[tonic::async_trait]
impl UserService for UsersRpc {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<User>, Status> {
        let access = Access::of(&request)?;
        let mut wanted = request.into_inner();
        let password = Zeroizing::new(std::mem::take(&mut wanted.password));
        let tenant = names::tenant("parent", &wanted.parent)?;
        let user: UserId = names::id("user_id", &wanted.user_id)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        check_password(&password)?;
        let request_id = std::mem::take(&mut wanted.request_id);
        // The password was taken out: a hash of it must not be kept.
        let request_key = request_key(access.caller(), "CreateUser", &request_id, &wanted)?;
        let asked = wanted.user.unwrap_or_default();
        check_display_name(&asked.display_name)?;
        let roles = check_roles(access.caller(), &asked.roles)?;
        let display_name =
            if asked.display_name.is_empty() { user.to_string() } else { asked.display_name };
        let mut record = model::User {
            display_name,
            roles,
            password_hash: String::new(),
            create_ms: self.parts.clock.now_ms(),
        };
        if wanted.validate_only {
            if self.parts.handle.world().user(&tenant, &user).is_some() {
                return Err(Refusal::AlreadyExists { kind: "user", id: user.to_string() }.into());
            }
            return Ok(Response::new(on_wire(&tenant, &user, &record)));
        }
        record.password_hash = self.parts.directory.seal(&password).await?;
        let change = Change::CreateUser {
            tenant: tenant.clone(),
            user: user.clone(),
            record,
            request: request_key,
        };
        self.parts.handle.change(change).await?;
        info!(%tenant, %user, "User created");
        read(&self.parts.handle.world(), &tenant, &user).map(Response::new)
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let (tenant, user) = parse_name("name", &request.get_ref().name)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_tenant(&world, &tenant)?;
        read(&world, &tenant, &user).map(Response::new)
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_tenant(&world, &tenant)?;
        let query = Query::new("users", &asked.parent, asked.page_size, &asked.page_token)?;
        let after: Option<UserId> =
            query.after.as_deref().map(|after| names::id("page_token", after)).transpose()?;
        let found: Vec<_> = world
            .users
            .iter()
            .filter(|((of, _), _)| *of == tenant)
            .skip_while(|((_, user), _)| after.as_ref().is_some_and(|after| user <= after))
            .take(query.size.saturating_add(1))
            .collect();
        let next_page_token = query.next(&found, |((_, user), _)| user.to_string());
        let users = found
            .into_iter()
            .take(query.size)
            .map(|((_, user), record)| on_wire(&tenant, user, record))
            .collect();
        Ok(Response::new(ListUsersResponse { users, next_page_token }))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<User>, Status> {
        let access = Access::of(&request)?;
        let UpdateUserRequest { user: asked, update_mask } = request.into_inner();
        let asked = asked.ok_or_else(|| invalid_field("user", "a user is expected"))?;
        let fields = mask(update_mask)?;
        let (tenant, user) = parse_name("user.name", &asked.name)?;
        let world = self.parts.handle.world();
        let before = may_change(&access, &world, &tenant, &user)?;
        check_display_name(&asked.display_name)?;
        let roles = check_roles(access.caller(), &asked.roles)?;
        // What was judged is what is changed.
        let etag = if asked.etag.is_empty() { World::user_etag(&before) } else { asked.etag };
        let named = |name: &str| fields.contains(name);
        let change = Change::UpdateUser {
            tenant: tenant.clone(),
            user: user.clone(),
            display_name: named(DISPLAY_NAME).then_some(asked.display_name),
            roles: named(ROLES_FIELD).then_some(roles),
            etag,
        };
        self.parts.handle.change(change).await?;
        info!(%tenant, %user, "User changed");
        read(&self.parts.handle.world(), &tenant, &user).map(Response::new)
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let access = Access::of(&request)?;
        let DeleteUserRequest { name, etag } = request.into_inner();
        let (tenant, user) = parse_name("name", &name)?;
        may_change(&access, &self.parts.handle.world(), &tenant, &user)?;
        let change = Change::DeleteUser { tenant: tenant.clone(), user: user.clone(), etag };
        self.parts.handle.change(change).await?;
        info!(%tenant, %user, "User deleted");
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn set_password(
        &self,
        request: Request<SetPasswordRequest>,
    ) -> Result<Response<SetPasswordResponse>, Status> {
        let access = Access::of(&request)?;
        let SetPasswordRequest { name, password } = request.into_inner();
        let password = Zeroizing::new(password);
        let (tenant, user) = parse_name("name", &name)?;
        may_change(&access, &self.parts.handle.world(), &tenant, &user)?;
        check_password(&password)?;
        let password_hash = self.parts.directory.seal(&password).await?;
        let change =
            Change::SetPasswordHash { tenant: tenant.clone(), user: user.clone(), password_hash };
        self.parts.handle.change(change).await?;
        info!(%tenant, %user, "Password set");
        Ok(Response::new(SetPasswordResponse {}))
    }
}

/// ms since the epoch, on the wire.
pub fn timestamp(ms: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1_000)).unwrap_or(0).saturating_mul(1_000_000);
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos }
}

fn parse_name(field: &str, name: &str) -> Result<(TenantId, UserId), Status> {
    let [tenant, user] = split(field, name, ["tenants", "users"])?;
    Ok((names::id(field, tenant)?, names::id(field, user)?))
}

/// The fields that an update names; none: all.
fn mask(mask: Option<prost_types::FieldMask>) -> Result<BTreeSet<String>, Status> {
    let paths: BTreeSet<String> = mask.unwrap_or_default().paths.into_iter().collect();
    let known = [DISPLAY_NAME, ROLES_FIELD];
    if paths.is_empty() {
        return Ok(known.map(str::to_owned).into());
    }
    if paths.iter().all(|path| known.contains(&path.as_str())) {
        return Ok(paths);
    }
    Err(invalid_field("update_mask", "display_name and roles can be changed"))
}

/// The user as it is. Who has a role of the installation is changed by operators only: a tenant's
/// admin must not become one by way of an operator's password.
fn may_change(
    access: &Access,
    world: &World,
    tenant: &TenantId,
    user: &UserId,
) -> Result<Arc<model::User>, Status> {
    access.check_tenant(world, tenant)?;
    let record = world.user(tenant, user).ok_or_else(|| not_found("user", user.as_str()))?;
    let roles = world.roles_of(tenant, user, record);
    let above = roles.iter().any(|role| INSTALLATION_ROLES.contains(&role.as_str()));
    if above && !access.caller().is_operator() {
        return Err(not_allowed());
    }
    Ok(Arc::clone(record))
}

/// As [`known_roles`]; who has none is a user.
fn check_roles(caller: &Caller, wanted: &[String]) -> Result<Vec<String>, Status> {
    let roles = known_roles(caller, "user.roles", wanted)?;
    Ok(if roles.is_empty() { vec![USER.to_owned()] } else { roles })
}

/// Sorted and without repetition; only an operator gives roles of the installation.
pub(super) fn known_roles(
    caller: &Caller,
    field: &str,
    wanted: &[String],
) -> Result<Vec<String>, Status> {
    let rule = "operator, installation-auditor, admin, helpdesk, auditor or user is expected";
    if let Some(unknown) = wanted.iter().find(|role| !ROLES.contains(&role.as_str())) {
        let shown: String = unknown.chars().take(40).collect();
        return Err(invalid_field(field, &format!("\"{shown}\" is no role: {rule}")));
    }
    let sorted: BTreeSet<&String> = wanted.iter().collect();
    let above = sorted.iter().any(|role| INSTALLATION_ROLES.contains(&role.as_str()));
    if above && !caller.is_operator() {
        return Err(not_allowed());
    }
    Ok(sorted.into_iter().cloned().collect())
}

fn check_password(password: &str) -> Result<(), Status> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(invalid_field("password", "at least 8 characters are expected"));
    }
    if PASSWORD_BYTES_MAX < password.len() {
        return Err(invalid_field("password", "at most 1,024 bytes are allowed"));
    }
    Ok(())
}

fn read(world: &World, tenant: &TenantId, user: &UserId) -> Result<User, Status> {
    let record = world.user(tenant, user).ok_or_else(|| not_found("user", user.as_str()))?;
    Ok(on_wire(tenant, user, record))
}

fn on_wire(tenant: &TenantId, user: &UserId, record: &model::User) -> User {
    User {
        name: format!("tenants/{tenant}/users/{user}"),
        display_name: record.display_name.clone(),
        roles: record.roles.clone(),
        create_time: Some(timestamp(record.create_ms)),
        etag: World::user_etag(record),
    }
}
