//! `/recordings`: the list, and each recording, for those who may see what a tenant's people did.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tracing::info;
use vidi_kit::ids::TenantId;
use vidi_proto::v1::WhoAmIRequest;
use vidi_proto::v1::sign_in_service_client::SignInServiceClient;

use crate::adapters::controller::{answered, bearer};
use crate::http::cookie;
use crate::http::router::Edge;
use crate::model::Outlook;

/// Roles of the tenant that may see its recordings.
const ROLES: [&str; 2] = ["admin", "auditor"];
/// Read from the disk at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// The name in a path below `/recordings`, empty for the list; none for other paths.
pub(crate) fn name_of(path: &str) -> Option<&str> {
    match path.strip_prefix("/recordings")? {
        "" => Some(""),
        rest => rest.strip_prefix('/'),
    }
}

/// Answers `/recordings` (an empty `name`) and `/recordings/{name}`.
pub(crate) async fn answer(edge: &Edge, name: &str, request: Request) -> Response {
    // A request's body is not looked at, and not to be held while others are asked.
    let (request, _) = request.into_parts();
    if request.method != Method::GET {
        return (StatusCode::METHOD_NOT_ALLOWED, "this path takes GET only\n").into_response();
    }
    let (tenant, user) = match who(edge, &request.headers).await {
        Ok(who) => who,
        Err((code, text)) => return (code, text).into_response(),
    };
    let mut response = if name.is_empty() {
        list(edge, tenant).await
    } else {
        one(edge, (tenant, &user), name, &request.headers).await
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The tenant whose recordings the caller may see, and the caller's resource name.
async fn who(
    edge: &Edge,
    headers: &HeaderMap,
) -> Result<(TenantId, String), (StatusCode, &'static str)> {
    const AWAY: (StatusCode, &str) =
        (StatusCode::SERVICE_UNAVAILABLE, "the control plane does not answer\n");
    let signed_out = (StatusCode::UNAUTHORIZED, "not signed in: sign in first\n");
    let token = cookie::token(headers).ok_or(signed_out)?;
    let channel = edge.controller.channel().map_err(|_away| AWAY)?;
    let mut client = SignInServiceClient::new(channel);
    let who = answered(client.who_am_i(bearer(&token, WhoAmIRequest {}))).await;
    let who = who.map_err(|error| match error.outlook() {
        Outlook::SignedOut => signed_out,
        Outlook::Ended | Outlook::TryAgain | Outlook::Waits => AWAY,
    })?;
    if !who.roles.iter().any(|role| ROLES.contains(&role.as_str())) {
        return Err((StatusCode::FORBIDDEN, "your roles do not allow this\n"));
    }
    let tenant = who.user.split('/').nth(1).unwrap_or_default();
    let foreign = (StatusCode::FORBIDDEN, "this is for a tenant's people\n");
    Ok((tenant.parse().map_err(|_other| foreign)?, who.user))
}

async fn list(edge: &Edge, tenant: TenantId) -> Response {
    let recordings = edge.recordings.clone();
    let listed = tokio::task::spawn_blocking(move || recordings.list(&tenant)).await;
    let body = serde_json::json!({ "recordings": listed.unwrap_or_default() }).to_string();
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn one(
    edge: &Edge,
    (tenant, user): (TenantId, &str),
    name: &str,
    headers: &HeaderMap,
) -> Response {
    let (recordings, wanted) = (edge.recordings.clone(), name.to_owned());
    let found = {
        let tenant = tenant.clone();
        tokio::task::spawn_blocking(move || recordings.read(&tenant, &wanted)).await
    };
    let Ok(Some((file, length))) = found else {
        return (StatusCode::NOT_FOUND, "there is no such recording\n").into_response();
    };
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let (from, to) = match range.map(|text| range_of(text, length)) {
        None | Some(Range::Ignored) => (0, length),
        Some(Range::Part(from, to)) => (from, to),
        Some(Range::Outside) => {
            let range = format!("bytes */{length}");
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, range)]).into_response();
        }
    };
    info!(%tenant, user, recording = name, "A recording is fetched");
    let mut file = tokio::fs::File::from_std(file);
    if file.seek(std::io::SeekFrom::Start(from)).await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let body = Body::from_stream(stream::try_unfold((file, to - from), next_chunk));
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_LENGTH, (to - from).to_string()),
    ];
    let mut response = (headers, body).into_response();
    let last = to.saturating_sub(1);
    if let (true, Ok(range)) =
        (to - from < length, HeaderValue::try_from(format!("bytes {from}-{last}/{length}")))
    {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

type Reading = (tokio::fs::File, u64);

/// The next part of a file of which so many bytes are still to be sent; it may be growing behind them.
async fn next_chunk((mut file, rest): Reading) -> std::io::Result<Option<(Bytes, Reading)>> {
    let most = usize::try_from(rest).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    if most == 0 {
        return Ok(None);
    }
    let mut chunk = vec![0; most];
    let read = file.read(&mut chunk).await?;
    if read == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    chunk.truncate(read);
    let rest = rest.saturating_sub(read as u64);
    Ok(Some((chunk.into(), (file, rest))))
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// No range of ours: everything.
    Ignored,
    /// From, and up to but without.
    Part(u64, u64),
    /// Behind the end.
    Outside,
}

/// One range of bytes (RFC 9110, section 14.1.2); several, or other units, are passed over.
fn range_of(text: &str, length: u64) -> Range {
    let part = text.strip_prefix("bytes=").and_then(|rest| rest.split_once('-'));
    let Some((from, to)) = part else { return Range::Ignored };
    let (from, to) = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1).min(length)),
        (Ok(from), Err(_)) if to.is_empty() => (from, length),
        (Err(_), Ok(last)) if from.is_empty() => (length.saturating_sub(last), length),
        _ => return Range::Ignored,
    };
    if from < to { Range::Part(from, to) } else { Range::Outside }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_inside_the_file_or_refused() {
        for (text, expected) in [
            ("bytes=0-9", Range::Part(0, 10)),
            ("bytes=90-", Range::Part(90, 100)),
            ("bytes=90-1000", Range::Part(90, 100)),
            ("bytes=-30", Range::Part(70, 100)),
            ("bytes=-300", Range::Part(0, 100)),
            ("bytes=100-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=9-3", Range::Ignored),
            ("bytes=1-2,5-6", Range::Ignored),
            ("lines=1-2", Range::Ignored),
        ] {
            assert_eq!(range_of(text, 100), expected, "{text}");
        }
    }
}
