//! Which path does what.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use tracing::{Instrument, info_span};
use vidi_kit::Clock;
use vidi_kit::trace::{self, TraceId};

use crate::adapters::controller::Controller;
use crate::adapters::recordings::KeptRecordings;
use crate::http::branding::{self, Brandings};
use crate::http::{cookie, pages, recordings, sign_in};
use crate::raw::{self, Raw};
use crate::reconcile::registry::Registry;
use crate::rpc::grpc_web;
use crate::ws;

/// A sign-in's JSON: two names and a password of at most 1,024 bytes.
const SIGN_IN_BYTES_MAX: usize = 8 << 10;
/// A page's call: the largest is a list's page token or a short text.
const CALL_BYTES_MAX: usize = 256 << 10;

/// What is shown of a request's path; ours are shorter.
const PATH_CHARS_MAX: usize = 128;
/// The call that a click on a desktop is.
const OPEN_APP: &str = "/vidi.v1.SessionService/OpenApp";

/// What requests need.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The control plane.
    pub controller: Controller,
    /// The sessions of this gateway.
    pub registry: Arc<Registry>,
    /// Other viewers' tickets and channels.
    pub raw: Arc<Raw>,
    /// Recordings of sessions.
    pub recordings: KeptRecordings,
    /// How the pages look to tenants' people.
    pub brandings: Arc<Brandings>,
    /// The time.
    pub clock: Clock,
}

/// Answers one request of a browser at this address. Everything that follows from it has its trace.
pub async fn answer(edge: Edge, browser: IpAddr, request: Request) -> Response {
    let trace = trace::of(request.headers()).unwrap_or_else(TraceId::generate);
    let path: String = request.uri().path().chars().take(PATH_CHARS_MAX).collect();
    let span = info_span!("request", method = %request.method(), path, %trace);
    let routing = route(edge, browser, request).instrument(span);
    let mut response = trace::scope(trace, routing).await;
    pages::secure(response.headers_mut());
    response
}

async fn route(edge: Edge, browser: IpAddr, request: Request) -> Response {
    if *request.method() == Method::CONNECT {
        return raw::connect(edge, request);
    }
    let path = request.uri().path().to_owned();
    if path == "/session" {
        return session(edge, browser, request).await;
    }
    if let Some(session) = path.strip_prefix("/display/") {
        return ws::display::upgrade(&edge, session, request);
    }
    if let Some(desktop) = path.strip_prefix("/spice/") {
        return raw::answer(edge, desktop, request).await;
    }
    if let Some(name) = recordings::name_of(&path) {
        return recordings::answer(&edge, name, request).await;
    }
    if let Some(rest) = branding::rest_of(&path) {
        let asked = (request.method(), rest);
        return edge.brandings.answer(&edge.controller, &edge.clock, asked).await;
    }
    if grpc_web::is_public(&path) {
        if let Some(refused) = refuse_foreign(&request) {
            return refused;
        }
        if path == OPEN_APP {
            edge.registry.clicked();
        }
        let request = request.map(|body| Limited::new(body, CALL_BYTES_MAX));
        return grpc_web::call(edge.controller, request).await.map(Body::new);
    }
    match *request.method() {
        Method::GET | Method::HEAD => pages::page(&path),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "this path takes GET only\n").into_response(),
    }
}

async fn session(edge: Edge, browser: IpAddr, request: Request) -> Response {
    if let Some(refused) = refuse_foreign(&request) {
        return refused;
    }
    let (parts, body) = request.into_parts();
    match parts.method {
        Method::POST => match body_of(body).await {
            Some(body) => sign_in::sign_in(&edge.controller, &edge.clock, browser, body).await,
            None => {
                (StatusCode::PAYLOAD_TOO_LARGE, "a sign-in is smaller than that\n").into_response()
            }
        },
        Method::DELETE => sign_in::sign_out(&edge.controller, &parts.headers).await,
        _ => (StatusCode::METHOD_NOT_ALLOWED, "POST signs in, DELETE signs out\n").into_response(),
    }
}

async fn body_of(body: Body) -> Option<Bytes> {
    Limited::new(body, SIGN_IN_BYTES_MAX)
        .collect()
        .await
        .ok()
        .map(http_body_util::Collected::to_bytes)
}

/// Refuses what another site's page makes a browser send.
fn refuse_foreign(request: &Request) -> Option<Response> {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    if cookie::same_origin(request.headers(), authority) {
        return None;
    }
    metrics::counter!("vidi_gateway_refused_total", "reason" => "foreign_origin").increment(1);
    Some(
        (StatusCode::FORBIDDEN, "this request does not come from this site's own page\n")
            .into_response(),
    )
}
