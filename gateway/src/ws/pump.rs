//! Carries a viewer's messages between its socket and its session.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;
use vidi_display::protocol::{BrowserHello, ViewerMessage, decode};

use crate::model::CloseCode;
use crate::reconcile::registry::{FromViewer, ToViewer};
use crate::ws::display::{Socket, close, close_message};

/// The browser says hello in this time (docs/display-protocol.md).
const HELLO_SECS_MAX: Duration = Duration::from_secs(10);
/// A message that the network does not take in this time: the browser is gone.
const SEND_SECS_MAX: Duration = Duration::from_secs(30);
/// A ping after this much silence finds dead browsers and keeps middle boxes awake.
const PING_PERIOD: Duration = Duration::from_secs(15);
/// No word at all for this long: gone.
const SILENCE_SECS_MAX: Duration = Duration::from_secs(45);

/// Waits for the first record.
pub(crate) async fn hello(mut socket: Socket) -> Option<(Socket, BrowserHello)> {
    let first = tokio::time::timeout(HELLO_SECS_MAX, socket.next()).await;
    let problem = match first {
        Ok(Some(Ok(Message::Binary(bytes)))) => match decode(&bytes) {
            Ok(records) => match records.first() {
                Some(ViewerMessage::Hello(hello)) => return Some((socket, *hello)),
                Some(_) | None => "the first record is hello".to_owned(),
            },
            Err(malformed) => malformed.to_string(),
        },
        Ok(Some(Ok(_))) => "the first message is binary".to_owned(),
        Ok(Some(Err(error))) => error.to_string(),
        Ok(None) => return None,
        Err(_elapsed) => "hello did not come".to_owned(),
    };
    debug!(problem, "A browser does not speak the display protocol");
    close(socket, CloseCode::Protocol, &problem).await;
    None
}

/// Runs until either side closes; the session is told.
pub(crate) async fn run(
    socket: Socket,
    incoming: mpsc::Sender<FromViewer>,
    outgoing: mpsc::Receiver<ToViewer>,
) {
    let (mut sink, stream) = socket.split();
    // Cancel-safe: when one direction ends, the socket is dropped with the other.
    let problem = tokio::select! {
        biased;
        () = write(&mut sink, outgoing, &incoming) => None,
        problem = read(stream, &incoming) => problem,
    };
    if let Some(problem) = problem {
        debug!(problem, "A browser broke the display protocol");
        let closing = sink.send(close_message(CloseCode::Protocol, &problem));
        // A browser that is gone already needs no word.
        drop(tokio::time::timeout(SEND_SECS_MAX, closing).await);
    }
    // The session may be gone first.
    drop(incoming.send(FromViewer::Gone).await);
}

fn count_bytes(direction: &'static str) -> metrics::Counter {
    metrics::counter!("vidi_gateway_websocket_bytes_total", "direction" => direction)
}

/// Takes messages until the browser is gone, or has broken the protocol: how is told.
async fn read(
    mut stream: SplitStream<Socket>,
    incoming: &mpsc::Sender<FromViewer>,
) -> Option<String> {
    let from_browser = count_bytes("from_browser");
    loop {
        let message = tokio::time::timeout(SILENCE_SECS_MAX, stream.next()).await.ok()?;
        let records = match message {
            Some(Ok(Message::Binary(bytes))) => {
                from_browser.increment(bytes.len() as u64);
                match decode(&bytes) {
                    Ok(records) => records,
                    Err(malformed) => return Some(malformed.to_string()),
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_))) => return Some("messages are binary".to_owned()),
            Some(Err(Error::Capacity(too_long))) => return Some(too_long.to_string()),
            Some(Ok(Message::Close(_) | Message::Frame(_)) | Err(_)) | None => return None,
        };
        if incoming.send(FromViewer::Records(records)).await.is_err() {
            // The session has let this viewer go: the writer still has its last word to say.
            return std::future::pending().await;
        }
    }
}

async fn write(
    sink: &mut SplitSink<Socket, Message>,
    mut outgoing: mpsc::Receiver<ToViewer>,
    incoming: &mpsc::Sender<FromViewer>,
) {
    // The session has let this viewer go: only the close that says why is still sent.
    let mut let_go = false;
    let to_browser = count_bytes("to_browser");
    loop {
        let next = tokio::time::timeout(PING_PERIOD, outgoing.recv()).await;
        if let_go && matches!(next, Ok(Some(ToViewer::Message(_)))) {
            continue;
        }
        let (message, bytes, last) = match next {
            Err(_elapsed) => (Message::Ping(bytes::Bytes::new()), 0, false),
            Ok(Some(ToViewer::Message(bytes))) => {
                let length = bytes.len();
                (Message::Binary(bytes), length, false)
            }
            Ok(Some(ToViewer::Close(code, text))) => (close_message(code, &text), 0, true),
            Ok(None) => (close_message(CloseCode::TryAgain, "the session was lost"), 0, true),
        };
        match tokio::time::timeout(SEND_SECS_MAX, sink.send(message)).await {
            Ok(Ok(())) => to_browser.increment(bytes as u64),
            Ok(Err(_)) | Err(_) => return,
        }
        if last {
            return;
        }
        let_go = let_go || (0 < bytes && incoming.send(FromViewer::Sent(bytes)).await.is_err());
    }
}
