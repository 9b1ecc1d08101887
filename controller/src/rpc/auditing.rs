//! Makes every call of a person that changes something known to what it asks for, so that it is written
//! down with it; and writes down those that are refused.

use std::sync::Arc;

use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::Layer;
use vidi_kit::Clock;
use vidi_kit::trace;
use vidi_kit::transport::{BROWSER_ADDRESS, Peer, PeerInfo};

use super::around::{Answering, Around, Inner, Surrounded};
use super::caller::Caller;
use crate::reconcile::{Call, Handle};
use vidi_kit::tls::Role;

/// Calls with which somebody unknown may do something: they tell who asks.
const TELLING: [&str; 2] = ["/vidi.v1.SignInService/SignIn", "/vidi.v1.EnrollService/Enroll"];
/// What the methods begin with that change nothing.
const READING: [&str; 9] =
    ["Get", "List", "Watch", "Wait", "WhoAmI", "Explain", "Simulate", "Forecast", "Check"];
/// Services of which every call changes something by itself, as often as every few seconds: what daemons say
/// is no person's wish.
const OF_DAEMONS: [&str; 4] = ["AgentLink", "GatewayLink", "GatewayPeer", "Relay"];

/// Stands around the authorization: what is refused there is written down, too.
#[derive(Clone, Debug)]
pub struct AuditLayer {
    handle: Handle,
    clock: Clock,
}

impl AuditLayer {
    /// Calls go to this reconciler.
    pub const fn new(handle: Handle, clock: Clock) -> Self {
        Self { handle, clock }
    }

    /// The call that a request is; none where it changes nothing, or nobody is to be named.
    fn call(&self, request: &http::Request<Body>) -> Option<Arc<Call>> {
        let path = request.uri().path();
        let method = changing(path)?;
        let peer = request.extensions().get::<PeerInfo>();
        let world = self.handle.world();
        let who = match Caller::find(peer, request.headers(), &world, self.clock.now_ms()) {
            Caller::Root => "root".to_owned(),
            Caller::User(who) => format!("tenants/{}/users/{}", who.tenant, who.user),
            Caller::Anonymous | Caller::Local { .. } | Caller::Daemon { .. }
                if TELLING.contains(&path) =>
            {
                String::new()
            }
            Caller::Anonymous
            | Caller::SignedOut
            | Caller::Local { .. }
            | Caller::Daemon { .. } => return None,
        };
        let address = peer.and_then(|peer| address(peer, request.headers()));
        Some(Call::new(who, address.unwrap_or_default(), method.to_owned()))
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Surrounded<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded { around: self.clone(), inner }
    }
}

impl Around for AuditLayer {
    fn answer<S: Inner>(&self, inner: &mut S, request: http::Request<Body>) -> Answering<S::Error> {
        let Some(call) = self.call(&request) else { return Box::pin(inner.call(request)) };
        let (handle, clock) = (self.handle.clone(), self.clock.clone());
        let answering = Arc::clone(&call).scope(inner.call(request));
        Box::pin(async move {
            let response = answering.await?;
            if let Some(reason) = refusal(response.headers())
                && let Some(entry) = call.refused(clock.now_ms(), trace::current(), reason)
            {
                handle.refused(entry);
            }
            Ok(response)
        })
    }
}

/// Service and method of a path by which a person changes something.
fn changing(path: &str) -> Option<&str> {
    let method = path.strip_prefix("/vidi.v1.")?;
    let (service, verb) = method.split_once('/')?;
    let reads = READING.iter().any(|beginning| verb.starts_with(beginning));
    (!reads && !OF_DAEMONS.contains(&service) && verb != "Renew").then_some(method)
}

/// Why a call was refused; none when it was not.
fn refusal(headers: &http::HeaderMap) -> Option<String> {
    let status = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)?;
    let info = status.get_details_error_info();
    Some(info.map_or_else(|| format!("{:?}", status.code()), |info| info.reason))
}

/// From where a call comes: only a gateway is believed when it speaks of somebody else.
fn address(peer: &PeerInfo, headers: &http::HeaderMap) -> Option<String> {
    let told = headers.get(BROWSER_ADDRESS).and_then(|told| told.to_str().ok());
    let told = told.filter(|_| {
        matches!(peer.peer, Peer::Daemon { role: Role::Gateway | Role::Controller, .. })
    });
    let told = told.and_then(|told| told.parse::<std::net::IpAddr>().ok());
    told.or(peer.address.map(|address| address.ip())).map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::authorization::TABLE;

    #[test]
    fn every_call_that_changes_something_is_written_down() {
        let reads: Vec<&str> = TABLE
            .iter()
            .map(|rule| rule.path)
            .filter(|path| path.starts_with("/vidi.") && changing(path).is_none())
            .map(|path| path.trim_start_matches("/vidi.v1."))
            .collect();
        for method in &reads {
            let (service, verb) = method.split_once('/').unwrap();
            let is_reading = READING.iter().any(|beginning| verb.starts_with(beginning));
            assert!(
                is_reading || OF_DAEMONS.contains(&service) || *method == "EnrollService/Renew"
            );
        }
        for path in ["SignInService/SignIn", "PoolService/UpdatePool", "SessionService/OpenApp"] {
            assert_eq!(changing(&format!("/vidi.v1.{path}")), Some(path));
        }
        assert!(
            reads.contains(&"PoolService/ListPools") && !reads.contains(&"UserService/SetPassword")
        );
        assert_eq!(changing("/grpc.health.v1.Health/Check"), None);
    }
}
