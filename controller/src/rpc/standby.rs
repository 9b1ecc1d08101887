//! What a controller answers while another one leads: who that is, and nothing else.
//!
//! It has no world of its own to judge a caller or a resource by: a sign-in that it does not know may
//! be a good one. So this stands before the authorization layer, and ends what is still being sent
//! when the leadership goes.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer;
use vidi_kit::Tasks;
use vidi_kit::controllers::LEADER;
use vidi_proto::v1::ErrorReason;

use super::around::{Answering, Around, Inner, Surrounded};
use super::status::with_metadata;
use crate::model::Refusal;
use crate::reconcile::{Handle, Standing};

/// The one call that is answered by everybody: it says whether this controller serves.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// Lets calls through while this controller leads.
#[derive(Clone, Debug)]
pub struct StandbyLayer {
    handle: Handle,
}

impl StandbyLayer {
    /// By the standing of this reconciler.
    pub const fn new(handle: Handle) -> Self {
        Self { handle }
    }
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
        if !stands.borrow().leading {
            let refused = not_leader(&stands.borrow()).into_http();
            return Box::pin(std::future::ready(Ok(refused)));
        }
        let answering = inner.call(request);
        Box::pin(async move {
            let response = answering.await?;
            // What was refused because the leadership went meanwhile has not heard who leads.
            let code = response.headers().get("grpc-status");
            let code = code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
            if code == Code::Unavailable && !stands.borrow().leading {
                return Ok(not_leader(&stands.borrow()).into_http());
            }
            Ok(response.map(|body| Body::new(WhileLeading::new(body, stands))))
        })
    }
}

/// The refusal, with the leader's address where it is known.
fn not_leader(standing: &Standing) -> Status {
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

/// An answer's body, as long as this controller leads; then it ends with the refusal.
struct WhileLeading {
    body: Body,
    deposed: Pin<Box<dyn Future<Output = Status> + Send>>,
    ended: bool,
}

impl WhileLeading {
    fn new(body: Body, stands: watch::Receiver<Standing>) -> Self {
        Self { body, deposed: Box::pin(deposed(stands)), ended: false }
    }
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

impl hyper::body::Body for WhileLeading {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(refused) = self.deposed.as_mut().poll(context) {
            self.ended = true;
            let mut trailers = HeaderMap::new();
            let told = refused.add_header(&mut trailers);
            return Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))));
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
    use std::sync::Arc;

    use tokio::sync::mpsc;
    use tonic_types::StatusExt;
    use tower::ServiceExt;
    use vidi_kit::controllers::leader_of;
    use vidi_kit::telemetry::Pulse;

    use crate::model::World;

    const WATCH: &str = "/vidi.v1.DesktopService/WatchDesktops";

    fn standing(leading: bool, leader: &str) -> Standing {
        Standing { leading, leader: leader.to_owned(), store_problem: None }
    }

    fn layer(first: Standing) -> (watch::Sender<Standing>, StandbyLayer) {
        let (queue, _asked) = mpsc::channel(1);
        let (_published, world) = watch::channel(Arc::new(World::default()));
        let (stand, stands) = watch::channel(first);
        (stand, StandbyLayer::new(Handle::new(queue, world, (stands, Pulse::default()))))
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
