//! Sign-in, sign-out, and who one is.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{TenantId, UserId};
use vidi_proto::v1::sign_in_service_server::SignInService;
use vidi_proto::v1::{
    SignInRequest, SignInResponse, SignOutRequest, SignOutResponse, WhoAmIRequest, WhoAmIResponse,
};
use zeroize::Zeroizing;

use super::caller::{OPERATOR, token_sha256};
use super::status::{bad_credentials, invalid_field, signed_out, try_later};
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
/// Failures of one user within [`FAILURES_WINDOW_MS`] before the next try has to wait.
const FAILURES_MAX: usize = 5;
const FAILURES_WINDOW_MS: i64 = 60_000;
/// Users whose failures are remembered; beyond it the longest quiet is forgotten.
const FAILING_USERS_MAX: usize = 10_000;
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
        let SignInRequest { tenant, user, password } = request.into_inner();
        let password = Zeroizing::new(password);
        if PASSWORD_BYTES_MAX < password.len() {
            return Err(invalid_field("password", "at most 1,024 bytes are allowed"));
        }
        if user.is_empty() || password.is_empty() {
            return Err(bad_credentials());
        }
        let tenant = if tenant.is_empty() { TENANT_DEFAULT.to_owned() } else { tenant };
        let attempt = self.throttle.begin(&tenant, &user, self.parts.clock.now_ms());
        if let Err(wait) = attempt {
            count("throttled");
            return Err(try_later("too many failed sign-ins: wait a minute", wait));
        }
        match self.check(&tenant, &user, &password).await {
            Ok((tenant_id, user_id)) => {
                self.throttle.forget(&tenant, &user);
                count("right");
                info!(tenant = %tenant_id, user = %user_id, "Signed in");
                self.begin(tenant_id, user_id).await.map(Response::new)
            }
            Err(refused) => {
                count("refused");
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
        roles: record.roles.clone(),
    })
}

fn count(result: &'static str) {
    metrics::counter!("vidi_sign_ins_total", "result" => result).increment(1);
}

/// Slows down who guesses passwords. Tries count when they begin, so that many at once are no way
/// around it; a right password clears them.
#[derive(Default)]
struct Throttle(Mutex<BTreeMap<(String, String), VecDeque<i64>>>);

impl fmt::Debug for Throttle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Throttle").finish_non_exhaustive()
    }
}

impl Throttle {
    /// Counts a try, or says how long to wait for the next.
    fn begin(&self, tenant: &str, user: &str, now_ms: i64) -> Result<(), Duration> {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let horizon_ms = now_ms.saturating_sub(FAILURES_WINDOW_MS);
        let key = key(tenant, user);
        if FAILING_USERS_MAX <= failing.len() && !failing.contains_key(&key) {
            failing.retain(|_, tries| tries.back().is_some_and(|last| horizon_ms < *last));
            if FAILING_USERS_MAX <= failing.len() {
                let quietest = failing
                    .iter()
                    .min_by_key(|(_, tries)| tries.back().copied())
                    .map(|(key, _)| key);
                if let Some(quietest) = quietest.cloned() {
                    failing.remove(&quietest);
                }
            }
        }
        let tries = failing.entry(key).or_default();
        while tries.front().is_some_and(|first| *first <= horizon_ms) {
            tries.pop_front();
        }
        if tries.len() < FAILURES_MAX {
            tries.push_back(now_ms);
            return Ok(());
        }
        let wait_ms = tries.front().map_or(0, |first| first.saturating_sub(horizon_ms));
        Err(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
    }

    fn forget(&self, tenant: &str, user: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(tenant, user));
    }
}

/// Of names that may be of any length.
fn key(tenant: &str, user: &str) -> (String, String) {
    let short = |text: &str| text.chars().take(64).collect();
    (short(tenant), short(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_five_failures_within_a_minute_a_user_waits_and_others_do_not() {
        let throttle = Throttle::default();
        for at in 0..5 {
            assert_eq!(throttle.begin("t", "ana", at * 1_000), Ok(()));
        }
        assert_eq!(throttle.begin("t", "ana", 10_000), Err(Duration::from_secs(50)));
        assert_eq!(throttle.begin("t", "eva", 10_000), Ok(()));
        assert_eq!(throttle.begin("u", "ana", 10_000), Ok(()));
        assert_eq!(throttle.begin("t", "ana", 60_000), Ok(()));
        assert!(throttle.begin("t", "ana", 60_001).is_err());
        throttle.forget("t", "ana");
        assert_eq!(throttle.begin("t", "ana", 60_002), Ok(()));
    }

    #[test]
    fn guessing_at_many_users_does_not_fill_the_memory() {
        let throttle = Throttle::default();
        for index in 0..FAILING_USERS_MAX + 50 {
            assert_eq!(throttle.begin("t", &format!("u{index}"), 1_000), Ok(()));
        }
        assert_eq!(throttle.0.lock().unwrap().len(), FAILING_USERS_MAX);
    }
}
