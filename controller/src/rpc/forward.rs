//! Passes people's calls on to the controller that leads, so that it does not matter to them which one
//! they ask.
//!
//! ```text
//!  a person's token, or root here ─▶ this one ══ its certificate ══▶ the leader judges, decides, answers
//!  a daemon, a sign-in            ─▶ told who leads: they dial it themselves (`standby.rs`)
//! ```
//! Nothing is judged here: the token goes with the call. Only that it is root who calls must be told, and
//! the leader believes that of a controller alone. A call is passed on once: who leads no more refuses it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};
use tracing::debug;
use vidi_kit::controllers::connect;
use vidi_kit::tls::{Identity, IdentityReceiver};
use vidi_kit::transport::{BROWSER_ADDRESS, Peer, PeerInfo, describe};

use super::standby;
use crate::reconcile::Standing;

/// Says that a controller passes a call on, and of whom.
pub const FORWARDED: HeaderName = HeaderName::from_static("vidi-forwarded");
/// Of root on the other controller's machine.
pub const OF_ROOT: &str = "root";
/// Of whoever the token tells.
const OF_PERSON: &str = "person";
/// Calls that are passed on side by side, streams too: what the leader serves on one connection.
const FORWARDS_MAX: usize = 1_000;

/// The way to the leader.
pub struct Forward {
    identity: IdentityReceiver,
    dialled: Mutex<Option<Dialled>>,
    slots: Arc<Semaphore>,
}

/// A connection that is there or is being made.
struct Dialled {
    leader: String,
    identity: Arc<Identity>,
    channel: Arc<OnceCell<Channel>>,
}

/// Calls that need no token: one that goes with them is no reason to pass them on.
fn is_open_to_strangers(path: &str) -> bool {
    path == "/vidi.v1.SignInService/SignIn" || path.starts_with("/vidi.v1.EnrollService/")
}

impl fmt::Debug for Forward {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Forward").finish_non_exhaustive()
    }
}

impl Forward {
    /// With this controller's certificate.
    pub fn new(identity: IdentityReceiver) -> Self {
        Self { identity, dialled: Mutex::new(None), slots: Arc::new(Semaphore::new(FORWARDS_MAX)) }
    }

    /// The request as the leader is to get it; none where the caller dials the leader itself.
    pub(super) fn prepared(mut request: http::Request<Body>) -> Option<http::Request<Body>> {
        let peer = request.extensions().get::<PeerInfo>();
        let has_token = request.headers().contains_key(AUTHORIZATION);
        let of = match peer.map(|info| &info.peer) {
            _ if request.headers().contains_key(FORWARDED) => None,
            Some(Peer::Daemon { .. }) => None,
            _ if has_token && is_open_to_strangers(request.uri().path()) => None,
            _ if has_token => Some(OF_PERSON),
            Some(Peer::Local { uid: 0 }) => Some(OF_ROOT),
            Some(Peer::Local { .. } | Peer::Anonymous) | None => None,
        };
        let of = of?;
        let address = peer.and_then(|info| info.address).map(|address| address.ip().to_string());
        let headers = request.headers_mut();
        headers.insert(FORWARDED, HeaderValue::from_static(of));
        // What a stranger says of where it is counts nothing.
        headers.remove(BROWSER_ADDRESS);
        let address = address.and_then(|address| HeaderValue::from_str(&address).ok());
        if let Some(address) = address {
            headers.insert(BROWSER_ADDRESS, address);
        }
        Some(request)
    }

    /// Passes a prepared request on; an error says that the leader was not reached.
    pub(super) async fn pass(
        self: Arc<Self>,
        leader: String,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Status> {
        let passed = self.try_pass(&leader, request).await;
        if let Err(error) = &passed {
            debug!(leader, error = error.message(), "A call was not passed on");
        }
        passed
    }

    async fn try_pass(
        &self,
        leader: &str,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Status> {
        let busy = || Status::unavailable("too many calls are being passed on");
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_full| busy())?;
        let away = |error: &dyn std::error::Error| Status::unavailable(describe(error));
        let identity = Arc::clone(&self.identity.borrow());
        let cell = self.cell(leader, identity);
        let dialling = cell.get_or_try_init(|| connect(leader, &self.identity)).await;
        let mut channel = dialling.map_err(|error| away(&error))?.clone();
        let ready = channel.ready().await.map_err(|error| away(&error))?;
        let answer = ready.call(request).await.map_err(|error| away(&error))?;
        Ok(answer.map(|body| Body::new(Passed { body, ended: false, _slot: slot })))
    }

    /// Where the connection is, or is being made; one per leader and certificate.
    fn cell(&self, leader: &str, identity: Arc<Identity>) -> Arc<OnceCell<Channel>> {
        // Only whole values are put there.
        let mut dialled = self.dialled.lock().unwrap_or_else(PoisonError::into_inner);
        match &*dialled {
            Some(one) if one.leader == leader && Arc::ptr_eq(&one.identity, &identity) => {
                Arc::clone(&one.channel)
            }
            Some(_) | None => {
                let channel = Arc::new(OnceCell::new());
                let (leader, kept) = (leader.to_owned(), Arc::clone(&channel));
                *dialled = Some(Dialled { leader, identity, channel: kept });
                channel
            }
        }
    }
}

/// The leader's answer. Where the connection to it breaks, the caller is told to ask again.
struct Passed {
    body: Body,
    ended: bool,
    _slot: OwnedSemaphorePermit,
}

impl hyper::body::Body for Passed {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Err(_broken))) => {
                self.ended = true;
                let refused = standby::not_leader(&Standing::default());
                Poll::Ready(Some(standby::ending(&refused)))
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use vidi_kit::tls::Role;

    use super::*;

    fn prepared(peer: Option<Peer>, headers: &[(&str, &str)]) -> Option<HeaderMap> {
        prepared_for("/vidi.v1.TenantService/ListTenants", peer, headers)
    }

    fn prepared_for(path: &str, peer: Option<Peer>, headers: &[(&str, &str)]) -> Option<HeaderMap> {
        let mut request = http::Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            let address = Some(([192, 0, 2, 7], 40_000).into());
            let info = PeerInfo { peer, address, connection: 1, certified_ms: 0 };
            request.extensions_mut().insert(info);
        }
        Forward::prepared(request).map(|request| request.headers().clone())
    }

    #[test]
    fn only_persons_calls_are_passed_on_and_nobody_says_who_it_is() {
        let daemon = |role| Some(Peer::Daemon { role, id: "d".to_owned() });
        let token = ("authorization", "Bearer x");
        for (peer, headers) in [
            (daemon(Role::Agent), vec![]),
            (daemon(Role::Gateway), vec![token]),
            (daemon(Role::Controller), vec![token]),
            (Some(Peer::Anonymous), vec![]),
            (Some(Peer::Local { uid: 7 }), vec![]),
            (Some(Peer::Local { uid: 0 }), vec![("vidi-forwarded", "person")]),
            (Some(Peer::Anonymous), vec![("vidi-forwarded", "root")]),
            (Some(Peer::Anonymous), vec![("vidi-forwarded", "root"), token]),
        ] {
            assert_eq!(prepared(peer.clone(), &headers), None, "{peer:?} {headers:?}");
        }
        let told = [token, ("vidi-browser-address", "203.0.113.9")];
        let person = prepared(Some(Peer::Anonymous), &told).unwrap();
        assert_eq!(person.get(FORWARDED).unwrap(), OF_PERSON);
        assert_eq!(person.get(BROWSER_ADDRESS).unwrap(), "192.0.2.7");
        let root = prepared(Some(Peer::Local { uid: 0 }), &[]).unwrap();
        assert_eq!(root.get(FORWARDED).unwrap(), OF_ROOT);
    }
    #[test]
    fn what_strangers_may_ask_is_not_passed_on_for_a_token_that_nobody_has_judged() {
        let token = ("authorization", "Bearer x");
        for path in ["SignInService/SignIn", "EnrollService/Enroll", "EnrollService/Renew"] {
            let path = format!("/vidi.v1.{path}");
            assert_eq!(prepared_for(&path, Some(Peer::Anonymous), &[token]), None, "{path}");
        }
        let out = "/vidi.v1.SignInService/SignOut";
        assert!(prepared_for(out, Some(Peer::Anonymous), &[token]).is_some());
    }
}
