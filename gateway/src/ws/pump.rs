//! Carries a viewer's messages between its socket and its session.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;
use vidi_display::protocol::{BrowserHello, ViewerMessage, decode, kind};

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

/// What a browser's socket says, in the words of whoever hears it.
pub(crate) trait Said: Send + Sized {
    /// A message of the browser, or how it breaks the protocol.
    fn message(bytes: Bytes) -> Result<Self, String>;
    /// So many bytes went into the socket.
    fn sent(bytes: usize) -> Self;
    /// The socket is closed.
    fn gone() -> Self;
}

impl Said for FromViewer {
    fn message(bytes: Bytes) -> Result<Self, String> {
        decode(&bytes).map(Self::Records).map_err(|malformed| malformed.to_string())
    }

    fn sent(bytes: usize) -> Self {
        Self::Sent(bytes)
    }

    fn gone() -> Self {
        Self::Gone
    }
}

/// Waits for the first record; gives the message that it came in, too.
pub(crate) async fn hello(mut socket: Socket) -> Option<(Socket, BrowserHello, Bytes)> {
    let first = tokio::time::timeout(HELLO_SECS_MAX, socket.next()).await;
    let problem = match first {
        Ok(Some(Ok(Message::Binary(bytes)))) => match hello_of(&bytes) {
            Ok(hello) => return Some((socket, hello, bytes)),
            Err(problem) => problem,
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

/// The hello that a browser's first message is.
pub(crate) fn hello_of(message: &[u8]) -> Result<BrowserHello, String> {
    match decode(message).map_err(|malformed| malformed.to_string())?.first() {
        Some(ViewerMessage::Hello(hello)) => Ok(*hello),
        Some(_) | None => Err("the first record is hello".to_owned()),
    }
}

/// Runs until either side closes; the session is told.
pub(crate) async fn run<S: Said>(
    socket: Socket,
    incoming: mpsc::Sender<S>,
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
    drop(incoming.send(S::gone()).await);
}

fn count_bytes(direction: &'static str) -> metrics::Counter {
    metrics::counter!("vidi_gateway_websocket_bytes_total", "direction" => direction)
}

/// Takes messages until the browser is gone, or has broken the protocol: how is told.
async fn read<S: Said>(
    mut stream: SplitStream<Socket>,
    incoming: &mpsc::Sender<S>,
) -> Option<String> {
    let from_browser = count_bytes("from_browser");
    loop {
        let message = tokio::time::timeout(SILENCE_SECS_MAX, stream.next()).await.ok()?;
        let said = match message {
            Some(Ok(Message::Binary(bytes))) => {
                from_browser.increment(bytes.len() as u64);
                match S::message(bytes) {
                    Ok(said) => said,
                    Err(problem) => return Some(problem),
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_))) => return Some("messages are binary".to_owned()),
            Some(Err(Error::Capacity(too_long))) => return Some(too_long.to_string()),
            Some(Ok(Message::Close(_) | Message::Frame(_)) | Err(_)) | None => return None,
        };
        if incoming.send(said).await.is_err() {
            // The session has let this viewer go: the writer still has its last word to say.
            return std::future::pending().await;
        }
    }
}

async fn write<S: Said>(
    sink: &mut SplitSink<Socket, Message>,
    mut outgoing: mpsc::Receiver<ToViewer>,
    incoming: &mpsc::Sender<S>,
) {
    // The session has let this viewer go: only the status and the close that say why are still sent.
    let mut let_go = false;
    let to_browser = count_bytes("to_browser");
    loop {
        let next = tokio::time::timeout(PING_PERIOD, outgoing.recv()).await;
        if let_go
            && let Ok(Some(ToViewer::Message(bytes))) = &next
            && bytes.first() != Some(&kind::STATUS)
        {
            continue;
        }
        let (message, bytes, last) = match next {
            Err(_elapsed) => (Message::Ping(Bytes::new()), 0, false),
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
        let_go = let_go || (0 < bytes && incoming.send(S::sent(bytes)).await.is_err());
    }
}
