//! First and further certificates for daemons.

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{GatewayId, HostId};
use vidi_kit::tls::Role;
use vidi_proto::v1::enroll_service_server::EnrollService;
use vidi_proto::v1::{EnrollRequest, EnrollResponse, RenewRequest};

use super::agent_link::certified_ms;
use super::caller::{daemon_roles_of, token_sha256};
use super::names::id;
use super::status::{invalid_field, not_allowed};
use super::users::timestamp;
use super::{Caller, Parts};
use crate::model::{Answer, Change, Refusal, World};

/// Longest secret of a token, in bytes; ours have 43.
const SECRET_BYTES_MAX: usize = 256;

/// The service.
#[derive(Debug)]
pub struct EnrollRpc {
    parts: Parts,
}

impl EnrollRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    fn certificate(&self, role: Role, id: &str, csr: &[u8]) -> Result<EnrollResponse, Status> {
        let authority = &self.parts.authority;
        let issued = authority.issue(role, id, csr)?;
        Ok(EnrollResponse {
            certificate: issued.certificate,
            cas: authority.cas(),
            id: id.to_owned(),
            installation_id: authority.installation().to_owned(),
            expire_time: Some(timestamp(issued.not_after_ms)),
        })
    }

    /// Uses the token up; its own id wins over the one asked for.
    async fn by_token(&self, role: Role, wanted: String, secret: &str) -> Result<String, Status> {
        if SECRET_BYTES_MAX < secret.len() {
            return Err(Refusal::BadEnrollToken.into());
        }
        let secret_sha256 = token_sha256(secret);
        let world = self.parts.handle.world();
        // An unknown one costs no place in the reconciler's queue.
        let token = world.enroll_tokens.get(&secret_sha256).ok_or(Refusal::BadEnrollToken)?;
        if token.id.is_empty() {
            check_id(role, &wanted)?;
            check_new(&world, role, &wanted)?;
        }
        let change =
            Change::UseEnrollToken { secret_sha256, role: role.as_str().to_owned(), id: wanted };
        match self.parts.handle.change(change).await? {
            Answer::EnrollId(id) => Ok(id),
            other => Err(Status::internal(format!("unexpected answer {other:?}"))),
        }
    }
}

#[tonic::async_trait]
impl EnrollService for EnrollRpc {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let caller = Caller::of(&request)?;
        let EnrollRequest { token_secret, role, id: wanted, csr } = request.into_inner();
        let role = wanted_role(&role)?;
        // A request that cannot be signed must not use a token up.
        self.parts.authority.issue(role, "check", &csr)?;
        let (id, how) = if token_secret.is_empty() {
            let uid = match caller {
                Caller::Root => 0,
                Caller::Local { uid } => uid,
                _ => return Err(Refusal::BadEnrollToken.into()),
            };
            if !daemon_roles_of(uid).contains(&role) {
                return Err(not_allowed());
            }
            check_id(role, &wanted)?;
            (wanted, "local")
        } else {
            (self.by_token(role, wanted, &token_secret).await?, "token")
        };
        info!(%role, id, how, "Daemon enrolled");
        self.certificate(role, &id, &csr).map(Response::new)
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let Caller::Daemon { role, id } = Caller::of(&request)? else { return Err(not_allowed()) };
        if matches!(role, Role::Agent | Role::Relay)
            && let Ok(host) = id.parse::<HostId>()
            && self.parts.handle.world().is_host_removed(&host, certified_ms(&request))
        {
            return Err(Refusal::HostRemoved(host).into());
        }
        self.certificate(role, &id, &request.get_ref().csr).map(Response::new)
    }
}

fn wanted_role(text: &str) -> Result<Role, Status> {
    [Role::Agent, Role::Relay, Role::Gateway]
        .into_iter()
        .find(|role| role.as_str() == text)
        .ok_or_else(|| invalid_field("role", "agent, relay or gateway is expected"))
}

fn check_id(role: Role, wanted: &str) -> Result<(), Status> {
    match role {
        Role::Gateway => id::<GatewayId>("id", wanted).map(drop),
        Role::Agent | Role::Relay | Role::Controller => id::<HostId>("id", wanted).map(drop),
    }
}

/// Who holds a token that names nobody must not take the place of a daemon that is there.
fn check_new(world: &World, role: Role, wanted: &str) -> Result<(), Status> {
    let taken = match role {
        Role::Agent | Role::Relay | Role::Controller => {
            wanted.parse().is_ok_and(|host: HostId| world.hosts.get(&host).is_some())
        }
        Role::Gateway => {
            wanted.parse().is_ok_and(|gateway: GatewayId| world.gateways.get(&gateway).is_some())
        }
    };
    if taken {
        return Err(Refusal::AlreadyExists { kind: role.as_str(), id: wanted.to_owned() }.into());
    }
    Ok(())
}
