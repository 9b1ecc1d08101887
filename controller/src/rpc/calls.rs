//! What is said and counted of every call: a span with its method and the trace of the request it
//! belongs to, how it ended, how long that took.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Frame, SizeHint};
use metrics::Gauge;
use tokio::time::Instant;
use tonic::Code;
use tonic::body::Body;
use tower::Layer;
use tracing::{Instrument, debug, info, info_span, warn};
use vidi_kit::trace::{self, TraceId};

use super::around::{Answering, Around, Inner, Surrounded};
use super::authorization;

/// Stands outside of the authorization layer: a refusal is counted too.
#[derive(Clone, Copy, Debug)]
pub struct CallLayer;

impl<S> Layer<S> for CallLayer {
    type Service = Surrounded<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded { around: *self, inner }
    }
}

impl Around for CallLayer {
    fn answer<S: Inner>(&self, inner: &mut S, request: http::Request<Body>) -> Answering<S::Error> {
        // A path that is no method of ours is any text: it gets no series and no span of its own.
        let method = authorization::find(request.uri().path()).map_or("none", |rule| {
            rule.path.rsplit_once('.').map_or(rule.path, |(_, method)| method)
        });
        let trace = trace::of(request.headers()).unwrap_or_else(TraceId::generate);
        let span = info_span!(
            "rpc",
            method,
            %trace,
            user = tracing::field::Empty,
            tenant = tracing::field::Empty
        );
        let answering = span.in_scope(|| inner.call(request));
        let answering = async move {
            let began = Instant::now();
            let response = answering.await?;
            metrics::histogram!("vidi_controller_rpc_seconds", "method" => method)
                .record(began.elapsed());
            let code = code_of(&response);
            metrics::counter!(
                "vidi_controller_rpc_requests_total", "method" => method, "code" => code
            )
            .increment(1);
            tell(code, began.elapsed());
            Ok(response.map(|body| Body::new(Open::new(body, method))))
        };
        Box::pin(trace::scope(trace, answering.instrument(span)))
    }
}

/// Who is refused may ask why, and has the trace. What strangers can bring about without end is a
/// detail: a crowd of them must not fill the log.
fn tell(code: &'static str, took: Duration) {
    let ms = took.as_millis();
    match code {
        "ok" | "cancelled" | "unauthenticated" | "resource_exhausted" | "unimplemented" => {
            debug!(code, ms, "Call answered");
        }
        "internal" | "unknown" | "data_loss" | "deadline_exceeded" => {
            warn!(code, ms, "Call failed");
        }
        _ => info!(code, ms, "Call refused"),
    }
}

/// The code as far as it is known when the answer begins: a stream may still end in another way.
fn code_of(response: &http::Response<Body>) -> &'static str {
    let code = response.headers().get("grpc-status");
    match code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes())) {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// An answer's body, counted as long as it is being sent: links and watches are open for long.
struct Open {
    body: Body,
    open: Gauge,
}

impl Open {
    fn new(body: Body, method: &'static str) -> Self {
        let open = metrics::gauge!("vidi_controller_streams", "method" => method);
        open.increment(1.0);
        Self { body, open }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

impl hyper::body::Body for Open {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use http::HeaderMap;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt;

    const PATH: &str = "/vidi.v1.SignInService/WhoAmI";

    async fn call(path: &str, headers: HeaderMap) -> (Option<TraceId>, http::Response<Body>) {
        let (seen, mut traces) = tokio::sync::mpsc::channel(1);
        let service = tower::service_fn(move |_request: http::Request<Body>| {
            let seen = seen.clone();
            async move {
                seen.send(trace::current()).await.unwrap();
                Ok::<_, Infallible>(tonic::Status::not_found("none").into_http())
            }
        });
        let mut request = http::Request::builder().uri(path).body(Body::empty()).unwrap();
        *request.headers_mut() = headers;
        let response = CallLayer.layer(service).oneshot(request).await.unwrap();
        (traces.recv().await.unwrap(), response)
    }

    #[tokio::test]
    async fn a_call_runs_under_the_callers_trace_or_a_new_one() {
        let trace = TraceId::generate();
        let mut headers = HeaderMap::new();
        trace::carry(&mut headers, trace);
        assert_eq!(call(PATH, headers.clone()).await.0, Some(trace));
        headers.insert(trace::HEADER, "00-broken".parse().unwrap());
        let other = call(PATH, headers).await.0;
        assert!(other.is_some_and(|other| other != trace));
    }

    #[test]
    fn calls_are_counted_by_method_and_code_and_a_wrong_path_makes_no_series() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            for path in [PATH, "/any/thing"] {
                let (_, response) = runtime.block_on(call(path, HeaderMap::new()));
                let streams = format!(
                    "method=\"{}\"}} 1",
                    if path == PATH { "SignInService/WhoAmI" } else { "none" }
                );
                let text = recorder.handle().render();
                assert!(text.contains(&streams), "{text}");
                drop(response);
            }
        });
        let text = recorder.handle().render();
        for line in [
            "vidi_controller_rpc_requests_total{method=\"SignInService/WhoAmI\",code=\"not_found\"} 1",
            "vidi_controller_rpc_requests_total{method=\"none\",code=\"not_found\"} 1",
            "vidi_controller_streams{method=\"none\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("thing"), "{text}");
    }
}
