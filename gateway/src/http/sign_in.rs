//! `POST /session` and `DELETE /session`: passwords go to the controller and nowhere else; the token
//! that comes back goes into the cookie and nowhere else.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use vidi_kit::Clock;
use vidi_kit::trace;
use vidi_kit::transport::BROWSER_ADDRESS;
use vidi_proto::v1::sign_in_service_client::SignInServiceClient;
use vidi_proto::v1::{SignInRequest, SignOutRequest};

use crate::adapters::controller::{Controller, bearer};
use crate::http::cookie;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    #[serde(default)]
    tenant: String,
    user: String,
    password: String,
}

#[derive(Serialize)]
struct Failure {
    reason: String,
    message: String,
}

/// Signs in.
pub async fn sign_in(
    controller: &Controller,
    clock: &Clock,
    browser: IpAddr,
    body: Bytes,
) -> Response {
    let Ok(credentials) = serde_json::from_slice::<Credentials>(&body) else {
        let text = "a JSON object with tenant, user and password is expected";
        return failure(StatusCode::BAD_REQUEST, "INVALID_FIELD", &text);
    };
    let channel = match controller.channel() {
        Ok(channel) => channel,
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &error),
    };
    let request = SignInRequest {
        tenant: credentials.tenant,
        user: credentials.user,
        password: credentials.password,
    };
    let mut request = trace::carried(request);
    // The controller counts failures by it.
    if let Ok(address) = browser.to_canonical().to_string().parse() {
        request.metadata_mut().insert(BROWSER_ADDRESS, address);
    }
    match SignInServiceClient::new(channel).sign_in(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let expire_secs = answer.expire_time.map_or(0, |time| time.seconds);
            let cookie = cookie::set(&answer.token, expire_secs - clock.now_ms() / 1_000);
            with_cookie(StatusCode::NO_CONTENT.into_response(), &cookie)
        }
        Err(status) => refused(&status),
    }
}

/// Signs out; without a sign-in there is nothing to do.
pub async fn sign_out(controller: &Controller, headers: &HeaderMap) -> Response {
    if let (Some(token), Ok(channel)) = (cookie::token(headers), controller.channel()) {
        let request = bearer(&token, SignOutRequest {});
        match SignInServiceClient::new(channel).sign_out(request).await {
            Err(status) if status.code() != Code::Unauthenticated => return refused(&status),
            Ok(_) | Err(_) => {}
        }
    }
    with_cookie(StatusCode::NO_CONTENT.into_response(), &cookie::clear())
}

fn refused(status: &Status) -> Response {
    let code = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => StatusCode::UNAUTHORIZED,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let reason = error_reason(status).unwrap_or_else(|| "UNAVAILABLE".to_owned());
    failure(code, &reason, &status.message())
}

/// The `reason` of the ErrorInfo that a status carries.
pub fn error_reason(status: &Status) -> Option<String> {
    use tonic_types::StatusExt;
    status.get_details_error_info().map(|info| info.reason)
}

/// A refusal as the page reads it.
pub(crate) fn failure(code: StatusCode, reason: &str, message: &dyn std::fmt::Display) -> Response {
    let body = Failure { reason: reason.to_owned(), message: message.to_string() };
    (code, axum::Json(body)).into_response()
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}
