//! What a controller answers while another one leads: what is stored, what that one says, or who it is.
//!
//! ```text
//!  person ─▶ wholly stored, and known here? ─ yes ─▶ answered from the copy (`reconcile/copy.rs`)
//!                                            ─ no ──▶ passed on to the leader (`forward.rs`)
//!  daemon, sign-in ────────────────────────────────▶ told who leads
//! ```
//! A sign-in that is not known here may be a good one. So this stands before the authorization layer, and
//! ends what is still being sent when the leadership goes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer;
use vidi_kit::controllers::LEADER;
use vidi_kit::transport::{Peer, PeerInfo};
use vidi_kit::{Clock, Tasks};
use vidi_proto::v1::ErrorReason;

use super::around::{Answering, Around, Inner, Surrounded};
use super::caller::Caller;
use super::forward::{FORWARDED, Forward};
use super::status::with_metadata;
use crate::model::{Refusal, World};
use crate::reconcile::{Handle, Standing};

/// The one call that is answered by everybody: it says whether this controller serves.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// Calls that are answered from what is stored alone, so that a copy of it does; all others need what only
/// the leader's memory has, as who is connected.
const READ_HERE: [&str; 11] = [
    "/vidi.v1.SignInService/WhoAmI",
    "/vidi.v1.UserService/GetUser",
    "/vidi.v1.UserService/ListUsers",
    "/vidi.v1.GroupService/GetGroup",
    "/vidi.v1.GroupService/ListGroups",
    "/vidi.v1.TenantService/GetTenant",
    "/vidi.v1.TenantService/ListTenants",
    "/vidi.v1.TemplateService/GetTemplate",
    "/vidi.v1.TemplateService/ListTemplates",
    "/vidi.v1.OperationService/GetOperation",
    "/vidi.v1.OperationService/ListOperations",
];
/// With the leader's answer: the revision that it knew then. Who has it reads nothing older here.
const REVISION: HeaderName = HeaderName::from_static("vidi-revision");
/// An answer waits so long for the copy to be as new.
const REVISION_WAIT_MAX: Duration = Duration::from_secs(1);

/// Lets calls through while this controller leads.
#[derive(Clone, Debug)]
pub struct StandbyLayer {
    handle: Handle,
    clock: Clock,
    forward: Option<Arc<Forward>>,
}

impl StandbyLayer {
    /// By the standing of this reconciler; people's calls go this way to the leader, if there is one.
    pub const fn new(handle: Handle, clock: Clock, forward: Option<Arc<Forward>>) -> Self {
        Self { handle, clock, forward }
    }

    /// While another one leads.
    fn instead<S: Inner>(
        &self,
        standing: Standing,
        inner: &mut S,
        request: http::Request<Body>,
    ) -> Answering<S::Error> {
        if standing.copied && self.reads_here(&request) {
            count("here");
            return Box::pin(inner.call(request));
        }
        let way = self.forward.clone().filter(|_| !standing.leader.is_empty());
        let passed = way.and_then(|way| Some((way, Forward::prepared(request)?)));
        let Some((way, request)) = passed else {
            count("refused");
            return Box::pin(std::future::ready(Ok(not_leader(&standing).into_http())));
        };
        let (mut worlds, stands) = (self.handle.watch(), self.handle.watch_standing());
        Box::pin(async move {
            let gone = leads_no_more(stands.clone(), standing.leader.clone());
            // Cancel-safe: what the leader does with a call that is cut, a repetition with its id learns.
            let passed = tokio::select! {
                biased;
                passed = way.pass(standing.leader.clone(), request) => passed,
                refused = gone => Err(refused),
            };
            let Ok(answer) = passed else {
                count("failed");
                // The one that was thought to lead is away: whoever asks again may find another.
                let now = stands.borrow().clone();
                let now = if now.leader == standing.leader { Standing::default() } else { now };
                return Ok(not_leader(&now).into_http());
            };
            count("passed");
            let known = answer.headers().get(REVISION);
            let known = known.and_then(|known| known.to_str().ok()?.parse::<u64>().ok());
            if let Some(known) = known.filter(|_| standing.copied) {
                let as_new = worlds.wait_for(|world: &Arc<World>| known <= world.revision);
                // Otherwise the copy is late: what was done is done all the same.
                drop(tokio::time::timeout(REVISION_WAIT_MAX, as_new).await);
            }
            let gone = leads_no_more(stands, standing.leader);
            Ok(answer.map(|body| Body::new(Until::new(body, gone))))
        })
    }

    /// Whether a copy of what is stored answers this, and tells who asks.
    fn reads_here(&self, request: &http::Request<Body>) -> bool {
        let peer = request.extensions().get::<PeerInfo>();
        if peer.is_none_or(|info| matches!(info.peer, Peer::Daemon { .. }))
            || !READ_HERE.contains(&request.uri().path())
        {
            return false;
        }
        let (world, now_ms) = (self.handle.world(), self.clock.now_ms());
        let caller = Caller::find(peer, request.headers(), &world, now_ms);
        matches!(caller, Caller::Root | Caller::User(_))
    }
}

fn count(result: &'static str) {
    metrics::counter!("vidi_controller_standby_calls_total", "result" => result).increment(1);
}

impl<S> Layer<S> for StandbyLayer {
    type Service = Surrounded<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded { around: self.clone(), inner }
    }
}

impl Around for StandbyLayer {
    fn answer<S: Inner>(&self, inner: &mut S, request: http::Request<Body>) -> Answering<S::Error> {
        if request.uri().path() == HEALTH_CHECK {
            return Box::pin(inner.call(request));
        }
        let stands = self.handle.watch_standing();
        let standing = stands.borrow().clone();
        if !standing.leading {
            return self.instead(standing, inner, request);
        }
        let forwarded = request.headers().contains_key(FORWARDED);
        let worlds = self.handle.watch();
        let answering = inner.call(request);
        Box::pin(async move {
            let mut response = answering.await?;
            if forwarded {
                let revision = HeaderValue::from(worlds.borrow().revision);
                response.headers_mut().insert(REVISION, revision);
            }
            // What was refused because the leadership went meanwhile has not heard who leads.
            let code = response.headers().get("grpc-status");
            let code = code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
            if code == Code::Unavailable && !stands.borrow().leading {
                return Ok(not_leader(&stands.borrow()).into_http());
            }
            Ok(response.map(|body| Body::new(Until::new(body, deposed(stands)))))
        })
    }
}

/// The refusal, with the leader's address where it is known.
pub(super) fn not_leader(standing: &Standing) -> Status {
    let text = Refusal::NotLeader.to_string();
    let reason = ErrorReason::NotLeader;
    match standing.leader.as_str() {
        "" => with_metadata(Code::Unavailable, reason, text, []),
        leader => {
            let text = format!("this controller does not lead: {leader} does");
            with_metadata(Code::Unavailable, reason, text, [(LEADER, leader.to_owned())])
        }
    }
}

/// Makes the health service say what `/ready` says of the leadership.
pub(super) fn report_health(tasks: &Tasks, handle: &Handle, reporter: HealthReporter) {
    let (mut stands, stop) = (handle.watch_standing(), tasks.stop_token());
    let following = async move {
        loop {
            let leading = stands.borrow_and_update().leading;
            let status = if leading { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            if stands.changed().await.is_err() {
                return;
            }
        }
    };
    let _following = tasks.spawn("health", async move {
        // Cancel-safe: nobody asks any more.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = following => {}
        }
    });
}

/// Waits until another than this one leads; then a call that it does not answer is of no use.
async fn leads_no_more(mut stands: watch::Receiver<Standing>, leader: String) -> Status {
    let other = |standing: &Standing| standing.leading || standing.leader != leader;
    let refused = stands.wait_for(other).await.map(|standing| not_leader(&standing));
    match refused {
        Ok(refused) => refused,
        Err(_stops) => std::future::pending().await,
    }
}

/// An answer's body until who sends it does not lead any more; then it ends with the refusal.
struct Until {
    body: Body,
    over: Pin<Box<dyn Future<Output = Status> + Send>>,
    ended: bool,
}

impl Until {
    fn new(body: Body, over: impl Future<Output = Status> + Send + 'static) -> Self {
        Self { body, over: Box::pin(over), ended: false }
    }
}

/// What ends an answer that is under way, with this refusal.
pub(super) fn ending(refused: &Status) -> Result<Frame<bytes::Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    refused.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// Waits until this controller does not lead any more. One that stops ends its streams itself.
async fn deposed(mut stands: watch::Receiver<Standing>) -> Status {
    let refused = match stands.wait_for(|standing| !standing.leading).await {
        Ok(standing) => Some(not_leader(&standing)),
        Err(_stops) => None,
    };
    match refused {
        Some(refused) => refused,
        None => std::future::pending().await,
    }
}

impl hyper::body::Body for Until {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(refused) = self.over.as_mut().poll(context) {
            self.ended = true;
            return Poll::Ready(Some(ending(&refused)));
        }
        Pin::new(&mut self.body).poll_frame(context)
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
    use super::*;
    use std::convert::Infallible;

    use tokio::sync::mpsc;
    use tonic_types::StatusExt;
    use tower::ServiceExt;
    use vidi_kit::controllers::leader_of;
    use vidi_kit::telemetry::Pulse;

    const WATCH: &str = "/vidi.v1.DesktopService/WatchDesktops";

    fn standing(leading: bool, leader: &str) -> Standing {
        Standing { leading, leader: leader.to_owned(), ..Standing::default() }
    }

    fn layer(first: Standing) -> (watch::Sender<Standing>, StandbyLayer) {
        let (queue, _asked) = mpsc::channel(1);
        let (_published, world) = watch::channel(Arc::new(World::default()));
        let (stand, stands) = watch::channel(first);
        let handle = Handle::new(queue, world, (stands, Pulse::default()));
        (stand, StandbyLayer::new(handle, Clock::manual(0), None))
    }

    /// The answer of a service that sends for ever, behind the layer.
    async fn call(layer: &StandbyLayer, path: &str) -> http::Response<Body> {
        let service = tower::service_fn(|_request: http::Request<Body>| async {
            Ok::<_, Infallible>(http::Response::new(Body::new(Endless)))
        });
        let request = http::Request::builder().uri(path).body(Body::empty()).unwrap();
        layer.layer(service).oneshot(request).await.unwrap()
    }

    struct Endless;

    impl hyper::body::Body for Endless {
        type Data = bytes::Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn who_stands_by_refuses_all_but_health_and_says_who_leads() {
        let (stand, layer) = layer(standing(false, "c2.example:7443"));
        let refused = call(&layer, WATCH).await;
        let status = Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(leader_of(&status).as_deref(), Some("c2.example:7443"));
        assert!(call(&layer, HEALTH_CHECK).await.headers().is_empty());
        stand.send_replace(standing(false, ""));
        let refused = call(&layer, WATCH).await;
        let status = Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(leader_of(&status).as_deref(), Some(""));
        assert!(status.get_details_error_info().unwrap().metadata.is_empty());
    }

    #[tokio::test]
    async fn what_is_being_sent_ends_with_the_leadership() {
        let (stand, layer) = layer(standing(true, ""));
        let mut body = call(&layer, WATCH).await.into_body();
        let mut frame = Box::pin(std::future::poll_fn(|context| {
            hyper::body::Body::poll_frame(Pin::new(&mut body), context)
        }));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(frame.as_mut().poll(&mut context).is_pending());
        stand.send_replace(standing(false, "c2.example:7443"));
        let trailers = frame.await.unwrap().unwrap().into_trailers().unwrap();
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(leader_of(&status).as_deref(), Some("c2.example:7443"));
    }
}
