//! Passes a page's gRPC-Web call on to the controller. The sign-in cookie becomes the caller's token;
//! the gateway adds no right of its own.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, COOKIE, HeaderValue};
use http::{Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Layer, Service, ServiceExt};
use vidi_kit::trace;
use vidi_kit::transport::BROWSER_ADDRESS;

use crate::adapters::controller::Controller;
use crate::http::cookie;

/// Services that a page may call; everything else of the controller is not reachable from a browser.
pub const PUBLIC_SERVICES: &[&str] = &[
    "vidi.v1.DesktopService",
    "vidi.v1.HostService",
    "vidi.v1.MachineService",
    "vidi.v1.OperationService",
    "vidi.v1.PoolService",
    "vidi.v1.SessionService",
    "vidi.v1.SignInService",
    "vidi.v1.TemplateService",
    "vidi.v1.TenantService",
    "vidi.v1.UsageService",
    "vidi.v1.UserService",
];

/// Methods of these services that a page may not call: a sign-in happens at `/session`, so that the
/// token never reaches a script.
const PRIVATE_METHODS: &[&str] = &["/vidi.v1.SignInService/SignIn"];

/// Whether a path is a public method.
pub fn is_public(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    service.is_some_and(|(service, _)| PUBLIC_SERVICES.contains(&service))
        && !PRIVATE_METHODS.contains(&path)
}

/// Answers one gRPC-Web request.
pub async fn call<B>(controller: Controller, request: Request<B>) -> Response<Body>
where
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError> + std::fmt::Display,
{
    let service = tonic_web::GrpcWebLayer::new().layer(Forward { controller });
    match service.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[derive(Clone, Debug)]
struct Forward {
    controller: Controller,
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let controller = self.controller.clone();
        Box::pin(async move {
            let answer = forward(&controller, request).await;
            Ok(answer.unwrap_or_else(|status| status.into_http()))
        })
    }
}

fn signed_out() -> Status {
    let details = ErrorDetails::with_error_info("SIGNED_OUT", "vidi.io", []);
    Status::with_error_details(Code::Unauthenticated, "not signed in: sign in first", details)
}

async fn forward(
    controller: &Controller,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let token = cookie::token(request.headers());
    let headers = request.headers_mut();
    headers.remove(COOKIE);
    headers.remove(AUTHORIZATION);
    // Only the gateway says who a browser is, and on whose behalf a call is made.
    headers.remove(BROWSER_ADDRESS);
    if let Some(trace) = trace::current() {
        trace::carry(headers, trace);
    }
    // Without a token the call would go out in the gateway's own name.
    let value = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    headers.insert(AUTHORIZATION, value.ok_or_else(signed_out)?);
    let away = |text: String| Status::new(Code::Unavailable, text);
    let channel = controller.channel().map_err(|error| away(error.to_string()))?;
    let began = Instant::now();
    let answer = channel.oneshot(request).await;
    metrics::histogram!("vidi_gateway_call_seconds").record(began.elapsed());
    answer.map_err(|_error| away("the control plane does not answer; try again".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_methods_are_reachable_from_a_page() {
        assert!(is_public("/vidi.v1.SessionService/ListApps"));
        for path in [
            "/vidi.v1.SignInService/SignIn",
            "/vidi.v1.GatewayLink/IssueGrant",
            "/vidi.v1.AgentLink/Link",
            "/vidi.v1.EnrollService/Enroll",
            "/vidi.v1.SessionServiceX/ListApps",
            "/session",
            "/",
        ] {
            assert!(!is_public(path), "{path}");
        }
    }
}
