//! `/display/{session}`: the upgrade and its checks. What follows is the session task's.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::SinkExt;
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tonic::Code;
use tracing::{debug, warn};
use vidi_kit::ids::SessionId;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::sign_in_service_client::SignInServiceClient;
use vidi_proto::v1::{GetSessionRequest, Session, SessionState, WhoAmIRequest};

use crate::adapters::controller::Controller;
use crate::error::GatewayError;
use crate::http::cookie;
use crate::http::router::Edge;
use crate::model::CloseCode;
use crate::reconcile::registry::{ToViewer, Viewer};
use crate::ws::pump;

/// The subprotocol of docs/display-protocol.md.
const SUBPROTOCOL: &str = "vidi.display.v1";
/// Largest message from a browser (docs/display-protocol.md).
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Read buffer of each socket: input is small.
const READ_BUFFER_BYTES: usize = 8 << 10;
/// What may wait unsent in the socket's own buffer before writing stops.
const WRITE_BUFFER_BYTES_MAX: usize = 8 << 20;
/// A browser that does not take its close frame in this time is dropped.
const CLOSE_SECS_MAX: Duration = Duration::from_secs(2);

/// Whether a viewer's sign-in and session are still good is asked this often.
const RIGHTS_PERIOD: Duration = Duration::from_secs(20);
/// Messages of a browser that wait for its session: input comes in small steps.
const INCOMING_MAX: usize = 64;
/// Messages that wait for the socket; the engine's credit keeps them few.
const OUTGOING_MAX: usize = 1_024;

/// A browser's socket.
pub type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Checks the request, upgrades it and hands the socket to its session's task.
pub fn upgrade(edge: &Edge, session: &str, mut request: Request) -> Response {
    let Ok(session) = session.parse::<SessionId>() else {
        return (StatusCode::NOT_FOUND, "there is no such session\n").into_response();
    };
    let accept = match check(request.headers()) {
        Ok(accept) => accept,
        Err((code, text)) => {
            let reason =
                if code == StatusCode::FORBIDDEN { "foreign_origin" } else { "not_a_websocket" };
            metrics::counter!("vidi_gateway_refused_total", "reason" => reason).increment(1);
            return (code, text).into_response();
        }
    };
    let token = cookie::token(request.headers());
    let Some(upgrading) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (StatusCode::UPGRADE_REQUIRED, "a websocket is expected\n").into_response();
    };
    let edge = edge.clone();
    let tasks = edge.registry.tasks().clone();
    let _viewing = tasks.spawn("viewer", async move {
        match upgrading.await {
            Ok(upgraded) => view(&edge, session, token, upgraded).await,
            Err(error) => debug!(%error, "A browser left during the upgrade"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The handshake of RFC 6455, section 4.2, with the exact origin and our subprotocol.
fn check(headers: &HeaderMap) -> Result<HeaderValue, (StatusCode, &'static str)> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if !cookie::same_origin(headers, None) {
        return Err((StatusCode::FORBIDDEN, "the display is open to this site's own page only\n"));
    }
    let lists = |name, word: &str| {
        text(name).is_some_and(|value| {
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
        })
    };
    if !lists(UPGRADE, "websocket") || !lists(CONNECTION, "upgrade") {
        return Err((StatusCode::UPGRADE_REQUIRED, "a websocket is expected\n"));
    }
    if text(SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "websocket version 13 is expected\n"));
    }
    if !lists(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err((StatusCode::BAD_REQUEST, "the subprotocol vidi.display.v1 is expected\n"));
    }
    let key = text(SEC_WEBSOCKET_KEY)
        .ok_or((StatusCode::BAD_REQUEST, "the websocket key is missing\n"))?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_invalid| (StatusCode::BAD_REQUEST, "the websocket key is damaged\n"))
}

async fn view(
    edge: &Edge,
    session: SessionId,
    token: Option<String>,
    upgraded: hyper::upgrade::Upgraded,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let stream = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let Some(token) = token else {
        close(socket, CloseCode::SignedOut, "sign in again").await;
        return;
    };
    match authorize(&edge.controller, &token, session).await {
        Ok(found) => {
            let Some((socket, hello)) = pump::hello(socket).await else { return };
            let (incoming_sender, incoming) = mpsc::channel(INCOMING_MAX);
            let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_MAX);
            let closer = outgoing.downgrade();
            // Only for logs: one that is malformed is as none.
            let trace = found.trace.parse().ok();
            let viewer = Viewer { hello, token: token.clone(), trace, incoming, outgoing };
            edge.registry.add(&found.name, viewer).await;
            // Cancel-safe: the end of the socket ends the checks, which hold nothing.
            tokio::select! {
                biased;
                () = pump::run(socket, incoming_sender, outgoing_receiver) => {}
                () = watch_rights(&edge.controller, &token, session, closer) => {}
            }
        }
        Err(Refusal { code, text }) => {
            warn!(%session, reason = text, "A viewer is refused");
            close(socket, code, &text).await;
        }
    }
}

/// Closes the viewer when its user signs out, the sign-in expires or the session is lost; never
/// resolves, since the socket's end is the pump's. A controller that is away proves nothing.
async fn watch_rights(
    controller: &Controller,
    token: &str,
    session: SessionId,
    closer: mpsc::WeakSender<ToViewer>,
) {
    loop {
        tokio::time::sleep(RIGHTS_PERIOD).await;
        let Err(Refusal { code, text }) = authorize(controller, token, session).await else {
            continue;
        };
        if code != CloseCode::TryAgain
            && let Some(closer) = closer.upgrade()
        {
            // The pump is there as long as this runs.
            drop(closer.send(ToViewer::Close(code, text)).await);
        }
    }
}

struct Refusal {
    code: CloseCode,
    text: String,
}

/// Asks the controller, with the caller's own token, whether this live session is theirs.
async fn authorize(
    controller: &Controller,
    token: &str,
    session: SessionId,
) -> Result<Session, Refusal> {
    let away = |error: GatewayError| Refusal { code: CloseCode::TryAgain, text: error.to_string() };
    let refused = |status: tonic::Status| Refusal {
        code: match status.code() {
            Code::Unauthenticated => CloseCode::SignedOut,
            Code::NotFound | Code::PermissionDenied => CloseCode::NotYours,
            _ => CloseCode::TryAgain,
        },
        text: status.message().to_owned(),
    };
    let channel = controller.channel().map_err(away)?;
    let who = SignInServiceClient::new(channel.clone())
        .who_am_i(bearer(token, WhoAmIRequest {}))
        .await
        .map_err(refused)?
        .into_inner();
    let tenant = who.user.split('/').nth(1).unwrap_or_default();
    let name = format!("tenants/{tenant}/sessions/{session}");
    let found = SessionServiceClient::new(channel)
        .get_session(bearer(token, GetSessionRequest { name }))
        .await
        .map_err(refused)?
        .into_inner();
    if found.user != who.user {
        let text = "this session is somebody else's".to_owned();
        return Err(Refusal { code: CloseCode::NotYours, text });
    }
    if found.state() == SessionState::Ended {
        return Err(Refusal { code: CloseCode::Ended, text: "this session has ended".to_owned() });
    }
    Ok(found)
}

fn bearer<T>(token: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Ok(value) = format!("Bearer {token}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
    request
}

fn count_refused(code: CloseCode) {
    let reason = match code {
        CloseCode::Protocol => "protocol",
        CloseCode::TryAgain => "controller_away",
        CloseCode::SignedOut => "signed_out",
        CloseCode::NotYours => "not_yours",
        // The session's own ways to go.
        CloseCode::Ended | CloseCode::TakenOver => return,
    };
    metrics::counter!("vidi_gateway_refused_total", "reason" => reason).increment(1);
}

/// A close frame; its text is cut to what RFC 6455 (5.5) allows.
pub fn close_message(code: CloseCode, text: &str) -> Message {
    const TEXT_BYTES_MAX: usize = 120;
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let reason = text.get(..end).unwrap_or_default().to_owned();
    Message::Close(Some(CloseFrame { code: code.number().into(), reason: reason.into() }))
}

pub(crate) async fn close(mut socket: Socket, code: CloseCode, text: &str) {
    count_refused(code);
    let closing = socket.send(close_message(code, text));
    // A browser that is gone already needs no word.
    drop(tokio::time::timeout(CLOSE_SECS_MAX, closing).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(change: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "vidi.example"),
            ("origin", "https://vidi.example"),
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "vidi.display.v1"),
        ]
        .iter()
        .chain(change)
        {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_the_own_page_with_the_right_protocol_is_let_in() {
        // The key and its answer are those of RFC 6455, section 1.3.
        assert_eq!(check(&headers(&[])).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("upgrade", "h2c"),
            ("connection", "close"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-protocol", "binary"),
        ] {
            assert!(check(&headers(&[(name, value)])).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let Message::Close(Some(frame)) = close_message(CloseCode::Ended, &"ä".repeat(100)) else {
            unreachable!("a close message is a close message")
        };
        assert_eq!(frame.reason.len(), 120);
    }
}
