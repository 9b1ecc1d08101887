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
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::{debug, warn};
use vidi_display::protocol::Part;
use vidi_kit::ids::SessionId;
use vidi_proto::v1::PeerOpening;

use crate::http::cookie;
use crate::http::router::Edge;
use crate::model::{CloseCode, Peer};
use crate::rpc::peer;
use crate::ws::pump;
use crate::ws::seat::{Refusal, authorize, seat, watch_rights};

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

/// A browser's socket.
pub type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Checks the request, upgrades it and hands the socket to its session's task.
pub fn upgrade(edge: &Edge, session: &str, mut request: Request) -> Response {
    let Ok(session) = session.parse::<SessionId>() else {
        return (StatusCode::NOT_FOUND, "there is no such session\n").into_response();
    };
    let checked = if cookie::same_origin(request.headers(), None) {
        handshake(request.headers(), SUBPROTOCOL)
    } else {
        Err((StatusCode::FORBIDDEN, "the display is open to this site's own page only\n"))
    };
    let accept = match checked {
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
    switching(SUBPROTOCOL, accept)
}

/// The answer that makes the connection a WebSocket.
pub(crate) fn switching(subprotocol: &'static str, accept: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The handshake of RFC 6455, section 4.2, with this subprotocol; whose page asks is the caller's care.
pub(crate) fn handshake(
    headers: &HeaderMap,
    subprotocol: &str,
) -> Result<HeaderValue, (StatusCode, &'static str)> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
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
    if !lists(SEC_WEBSOCKET_PROTOCOL, subprotocol) {
        return Err((StatusCode::BAD_REQUEST, "another websocket subprotocol is expected\n"));
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
            let Some((socket, hello, first)) = pump::hello(socket).await else { return };
            if let (Some(peer), true) = (&found.elsewhere, found.visitor.part != Part::Owner) {
                let opening =
                    PeerOpening { token, session: session.to_string(), hello: first.to_vec() };
                return view_through(edge, peer, opening, socket).await;
            }
            let (incoming, outgoing, closer) = seat(edge, found, &token, hello).await;
            // Cancel-safe: the end of the socket ends the checks, which hold nothing.
            tokio::select! {
                biased;
                () = pump::run(socket, incoming, outgoing) => {}
                () = watch_rights(edge, &token, session, closer) => {}
            }
        }
        Err(Refusal { code, text }) => {
            warn!(%session, reason = text, "A viewer is refused");
            close(socket, code, &text).await;
        }
    }
}

/// Shows a session that another gateway has attached. Its user would attach it here instead.
async fn view_through(edge: &Edge, peer: &Peer, opening: PeerOpening, socket: Socket) {
    let tasks = edge.registry.tasks();
    match peer::open(tasks, &edge.controller.identity(), peer, opening).await {
        Ok((incoming, outgoing)) => pump::run(socket, incoming, outgoing).await,
        Err(error) => {
            warn!(gateway = peer.name, %error, "Another gateway is not reached");
            close(socket, CloseCode::TryAgain, "the session's gateway does not answer").await;
        }
    }
}

fn count_refused(code: CloseCode) {
    let reason = match code {
        CloseCode::Protocol => "protocol",
        CloseCode::TryAgain => "controller_away",
        CloseCode::SignedOut => "signed_out",
        CloseCode::NotYours => "not_yours",
        // The session's own ways to go.
        CloseCode::Ended | CloseCode::TakenOver | CloseCode::LetGo => return,
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
    fn only_a_websocket_with_the_right_protocol_is_let_in() {
        // The key and its answer are those of RFC 6455, section 1.3.
        assert_eq!(handshake(&headers(&[]), SUBPROTOCOL).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (name, value) in [
            ("upgrade", "h2c"),
            ("connection", "close"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-protocol", "binary"),
        ] {
            let headers = headers(&[(name, value)]);
            assert!(handshake(&headers, SUBPROTOCOL).is_err(), "{name}: {value}");
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
