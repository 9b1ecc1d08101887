//! Sign-in, sign-out, and who one is.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::{Code, Request, Response, Status};
use tracing::{field, info};
use vidi_kit::ids::{TenantId, UserId};
use vidi_kit::tls::Role;
use vidi_kit::transport::{BROWSER_ADDRESS, Peer, PeerInfo};
use vidi_proto::v1::sign_in_service_server::SignInService;
use vidi_proto::v1::{
    SignInRequest, SignInResponse, SignOutRequest, SignOutResponse, WhoAmIRequest, WhoAmIResponse,
};
use zeroize::Zeroizing;

use super::caller::{OPERATOR, token_sha256};
use super::status::{bad_credentials, invalid_field, signed_out, try_later};
use super::throttle::{Attempt, Throttle};
use super::users::timestamp;
use super::{Caller, Parts};
use crate::model::{Change, SignIn, World};
use crate::ports::PasswordVerdict;

/// Longest password, in bytes, as the contract says.
pub(super) const PASSWORD_BYTES_MAX: usize = 1_024;
/// A sign-in ends after this, whatever is done with it.
const SIGN_IN_LIFE_MS: i64 = 12 * 3_600 * 1_000;
/// A token's random bytes.
const TOKEN_BYTES: usize = 32;
const TENANT_DEFAULT: &str = "default";

/// The service.
#[derive(Debug)]
pub struct SignInRpc {
    parts: Parts,
    throttle: Throttle,
}

impl SignInRpc {
    /// One for all listeners, so that failures are counted once.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone(), throttle: Throttle::default() }
    }

    /// The user, if the password is right. Names that no user can have are checked like any other,
    /// so that nothing can be learned from the time it takes.
    async fn check(
        &self,
        tenant: &str,
        user: &str,
        password: &str,
    ) -> Result<(TenantId, UserId), Status> {
        let ids = tenant.parse::<TenantId>().ok().zip(user.parse::<UserId>().ok());
        let (tenant, user) = ids.as_ref().map_or(("-", "-"), |(t, u)| (t.as_str(), u.as_str()));
        match self.parts.directory.check(tenant, user, password).await? {
            PasswordVerdict::Right => ids.ok_or_else(bad_credentials),
            PasswordVerdict::Wrong => Err(bad_credentials()),
        }
    }

    async fn begin(&self, tenant: TenantId, user: UserId) -> Result<SignInResponse, Status> {
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; TOKEN_BYTES]>());
        let create_ms = self.parts.clock.now_ms();
        let expire_ms = create_ms.saturating_add(SIGN_IN_LIFE_MS);
        let record = SignIn { tenant: tenant.clone(), user: user.clone(), create_ms, expire_ms };
        let change = Change::CreateSignIn { token_sha256: token_sha256(&token), record };
        self.parts.handle.change(change).await?;
        let who = who_is(&self.parts.handle.world(), &tenant, &user)?;
        Ok(SignInResponse { token, expire_time: Some(timestamp(expire_ms)), who: Some(who) })
    }
}

#[tonic::async_trait]
impl SignInService for SignInRpc {
    async fn sign_in(
        &self,
        request: Request<SignInRequest>,
    ) -> Result<Response<SignInResponse>, Status> {
        let address = browser_of(&request);
        let SignInRequest { tenant, user, password } = request.into_inner();
        let password = Zeroizing::new(password);
        if PASSWORD_BYTES_MAX < password.len() {
            return Err(invalid_field("password", "at most 1,024 bytes are allowed"));
        }
        if user.is_empty() || password.is_empty() {
            return Err(bad_credentials());
        }
        let tenant = if tenant.is_empty() { TENANT_DEFAULT.to_owned() } else { tenant };
        let attempt = Attempt::new(&tenant, &user, address);
        if let Err(wait) = self.throttle.begin(&attempt, self.parts.clock.now_ms()) {
            count("throttled");
            return Err(try_later("too many failed sign-ins: wait a minute", wait));
        }
        match self.check(&tenant, &user, &password).await {
            Ok((tenant_id, user_id)) => {
                self.throttle.succeeded(&attempt, self.parts.clock.now_ms());
                count("right");
                info!(
                    tenant = %tenant_id, user = %user_id, address = address.map(field::display),
                    "Signed in"
                );
                self.begin(tenant_id, user_id).await.map(Response::new)
            }
            Err(refused) => {
                let wrong = refused.code() == Code::Unauthenticated;
                count(if wrong { "wrong" } else { "failed" });
                // Not who: some type their password where their name belongs.
                info!(address = address.map(field::display), "A sign-in is refused");
                Err(refused)
            }
        }
    }

    async fn sign_out(
        &self,
        request: Request<SignOutRequest>,
    ) -> Result<Response<SignOutResponse>, Status> {
        // Somebody whose sign-in has ended already is no error.
        if let Caller::User(who) = Caller::of(&request)? {
            let change = Change::DeleteSignIn { token_sha256: who.token_sha256 };
            self.parts.handle.change(change).await?;
        }
        Ok(Response::new(SignOutResponse {}))
    }

    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        let caller = Caller::of(&request)?;
        if caller == Caller::Root {
            return Ok(Response::new(WhoAmIResponse {
                user: String::new(),
                display_name: "root on the controller's machine".to_owned(),
                roles: vec![OPERATOR.to_owned()],
            }));
        }
        let who = caller.person()?;
        who_is(&self.parts.handle.world(), &who.tenant, &who.user).map(Response::new)
    }
}

fn who_is(world: &World, tenant: &TenantId, user: &UserId) -> Result<WhoAmIResponse, Status> {
    let record = world.user(tenant, user).ok_or_else(signed_out)?;
    Ok(WhoAmIResponse {
        user: format!("tenants/{tenant}/users/{user}"),
        display_name: record.display_name.clone(),
        roles: world.roles_of(tenant, user, record),
    })
}

/// From where the person comes: only a gateway is believed when it speaks of somebody else.
fn browser_of<T>(request: &Request<T>) -> Option<IpAddr> {
    let peer = request.extensions().get::<PeerInfo>()?;
    let own = peer.address.map(|address| address.ip());
    if !matches!(peer.peer, Peer::Daemon { role: Role::Gateway, .. }) {
        return own;
    }
    let told = request.metadata().get(BROWSER_ADDRESS).and_then(|value| value.to_str().ok());
    told.and_then(|text| text.parse().ok()).or(own)
}

fn count(result: &'static str) {
    metrics::counter!("vidi_controller_sign_in_attempts_total", "result" => result).increment(1);
}
