//! Local users.

use std::collections::BTreeSet;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{TenantId, UserId};
use vidi_proto::v1::user_service_server::UserService;
use vidi_proto::v1::{
    CreateUserRequest, DeleteUserRequest, DeleteUserResponse, GetUserRequest, ListUsersRequest,
    ListUsersResponse, SetPasswordRequest, SetPasswordResponse, User,
};
use zeroize::Zeroizing;

use super::caller::{ADMIN, AUDITOR, HELPDESK, OPERATOR, ROLES, USER};
use super::names::{self, split};
use super::page::Query;
use super::sign_in::PASSWORD_BYTES_MAX;
use super::status::{invalid_field, not_allowed, not_found};
use super::{Caller, Parts};
use crate::model::{self, Change, Refusal, RequestKey, World};

/// Shortest password, in characters, as the contract says.
const PASSWORD_CHARS_MIN: usize = 8;
/// Longest display name, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 200;
/// Longest request id, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

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
        let caller = Caller::of(&request)?;
        let mut wanted = request.into_inner();
        let password = Zeroizing::new(std::mem::take(&mut wanted.password));
        let tenant = names::tenant("parent", &wanted.parent)?;
        let user: UserId = names::id("user_id", &wanted.user_id)?;
        in_tenant(&caller, &tenant, &[ADMIN])?;
        if self.parts.handle.world().tenants.get(&tenant).is_none() {
            return Err(not_found("tenant", tenant.as_str()));
        }
        check_password(&password)?;
        let request_key = request_key(&wanted)?;
        let asked = wanted.user.unwrap_or_default();
        if DISPLAY_NAME_BYTES_MAX < asked.display_name.len() {
            return Err(invalid_field("user.display_name", "at most 200 bytes are allowed"));
        }
        let roles = check_roles(&caller, &asked.roles)?;
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
        let (tenant, user) = parse_name(&request.get_ref().name)?;
        in_tenant(&Caller::of(&request)?, &tenant, &[ADMIN, HELPDESK, AUDITOR])?;
        read(&self.parts.handle.world(), &tenant, &user).map(Response::new)
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        in_tenant(&Caller::of(&request)?, &tenant, &[ADMIN, HELPDESK, AUDITOR])?;
        let query = Query::new("users", &asked.parent, asked.page_size, &asked.page_token)?;
        let after: Option<UserId> =
            query.after.as_deref().map(|after| names::id("page_token", after)).transpose()?;
        let world = self.parts.handle.world();
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
        _request: Request<vidi_proto::v1::UpdateUserRequest>,
    ) -> Result<Response<vidi_proto::v1::User>, Status> {
        Err(Status::unimplemented("not there yet"))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let caller = Caller::of(&request)?;
        let DeleteUserRequest { name, etag } = request.into_inner();
        let (tenant, user) = parse_name(&name)?;
        may_change(&caller, &self.parts.handle.world(), &tenant, &user)?;
        let change = Change::DeleteUser { tenant: tenant.clone(), user: user.clone(), etag };
        self.parts.handle.change(change).await?;
        info!(%tenant, %user, "User deleted");
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn set_password(
        &self,
        request: Request<SetPasswordRequest>,
    ) -> Result<Response<SetPasswordResponse>, Status> {
        let caller = Caller::of(&request)?;
        let SetPasswordRequest { name, password } = request.into_inner();
        let password = Zeroizing::new(password);
        let (tenant, user) = parse_name(&name)?;
        may_change(&caller, &self.parts.handle.world(), &tenant, &user)?;
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

fn parse_name(name: &str) -> Result<(TenantId, UserId), Status> {
    let [tenant, user] = split("name", name, ["tenants", "users"])?;
    Ok((names::id("name", tenant)?, names::id("name", user)?))
}

/// Another tenant looks as if it were not there.
fn in_tenant(caller: &Caller, tenant: &TenantId, roles: &[&str]) -> Result<(), Status> {
    if caller.has_any(tenant, roles) {
        return Ok(());
    }
    match caller {
        Caller::User(who) if who.tenant != *tenant => Err(not_found("tenant", tenant.as_str())),
        _ => Err(not_allowed()),
    }
}

/// A tenant's admin must not become operator by way of an operator's password.
fn may_change(
    caller: &Caller,
    world: &World,
    tenant: &TenantId,
    user: &UserId,
) -> Result<(), Status> {
    in_tenant(caller, tenant, &[ADMIN])?;
    let record = world.user(tenant, user).ok_or_else(|| not_found("user", user.as_str()))?;
    let is_operator = record.roles.iter().any(|role| role == OPERATOR);
    if is_operator && !caller.is_operator() { Err(not_allowed()) } else { Ok(()) }
}

/// Sorted and without repetition; only an operator makes operators.
fn check_roles(caller: &Caller, wanted: &[String]) -> Result<Vec<String>, Status> {
    let rule = "operator, admin, helpdesk, auditor or user is expected";
    if let Some(unknown) = wanted.iter().find(|role| !ROLES.contains(&role.as_str())) {
        let shown: String = unknown.chars().take(40).collect();
        return Err(invalid_field("user.roles", &format!("\"{shown}\" is no role: {rule}")));
    }
    let sorted: BTreeSet<&String> = wanted.iter().collect();
    if sorted.iter().any(|role| *role == OPERATOR) && !caller.is_operator() {
        return Err(not_allowed());
    }
    if sorted.is_empty() {
        return Ok(vec![USER.to_owned()]);
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

/// Of a request whose password was taken out: a hash of it must not be kept.
fn request_key(request: &CreateUserRequest) -> Result<Option<RequestKey>, Status> {
    let id = &request.request_id;
    if id.is_empty() {
        return Ok(None);
    }
    let plain = |letter: char| letter.is_ascii_graphic() && letter != '/';
    if REQUEST_ID_BYTES_MAX < id.len() || !id.chars().all(plain) {
        let rule = "1 to 128 printable ASCII letters without / are expected";
        return Err(invalid_field("request_id", rule));
    }
    let body = CreateUserRequest { request_id: String::new(), ..request.clone() };
    let body_sha256 = Sha256::digest(body.encode_to_vec()).into();
    Ok(Some(RequestKey { id: id.clone(), body_sha256 }))
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
