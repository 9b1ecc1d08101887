//! A client's byte stream, whichever way it came.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Largest message from a client: SPICE's own for the agent are 2 KiB, and a client may put several
/// together.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// What is read at once; also of a WebSocket.
const READ_BYTES: usize = 8 << 10;
/// Largest message to a client: what a socket's buffer holds is no more than this.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// What the network does not take in this time is not wanted any more.
const SEND_SECS_MAX: Duration = Duration::from_secs(30);
/// A word of farewell that is not taken in this time is not sent.
const CLOSE_SECS_MAX: Duration = Duration::from_secs(2);
/// No word for this long on a WebSocket, not even an answer to a ping: gone. A tunnel has the
/// connection's own keep-alive.
const SILENCE_SECS_MAX: Duration = Duration::from_secs(45);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Both directions.
#[derive(Debug)]
pub(super) struct ClientStream {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

/// What the client says.
#[derive(Debug)]
pub(super) enum Reader {
    Socket(SplitStream<Socket>),
    Tunnel(ReadHalf<TokioIo<Upgraded>>, BytesMut),
}

/// What the client is told.
#[derive(Debug)]
pub(super) enum Writer {
    Socket(SplitSink<Socket, Message>),
    Tunnel(WriteHalf<TokioIo<Upgraded>>),
}

impl ClientStream {
    pub(super) async fn socket(upgraded: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * PIECE_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let (writer, reader) = socket.split();
        Self { reader: Reader::Socket(reader), writer: Writer::Socket(writer) }
    }

    pub(super) fn tunnel(upgraded: Upgraded) -> Self {
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        Self { reader: Reader::Tunnel(reader, BytesMut::new()), writer: Writer::Tunnel(writer) }
    }
}

impl Reader {
    /// The next bytes; none at the end, however it came. Cancel-safe: what was not returned is kept.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Socket(stream) => loop {
                match tokio::time::timeout(SILENCE_SECS_MAX, stream.next()).await.ok()?? {
                    Ok(Message::Binary(bytes)) if !bytes.is_empty() => return Some(bytes),
                    Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_)) => {}
                    Ok(Message::Text(_) | Message::Close(_) | Message::Frame(_)) | Err(_) => {
                        return None;
                    }
                }
            },
            Self::Tunnel(reader, buffer) => {
                buffer.reserve(READ_BYTES);
                match reader.read_buf(buffer).await {
                    Ok(1..) => Some(buffer.split().freeze()),
                    Ok(_) | Err(_) => None,
                }
            }
        }
    }
}

impl Writer {
    /// Sends all of it; `false` when the client is gone.
    pub(super) async fn send(&mut self, bytes: Bytes) -> bool {
        let sending = self.send_pieces(bytes);
        tokio::time::timeout(SEND_SECS_MAX, sending).await.unwrap_or(false)
    }

    async fn send_pieces(&mut self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES_MAX));
            let sent = match self {
                Self::Socket(sink) => sink.send(Message::Binary(piece)).await.is_ok(),
                Self::Tunnel(writer) => {
                    writer.write_all(&piece).await.is_ok() && writer.flush().await.is_ok()
                }
            };
            if !sent {
                return false;
            }
        }
        true
    }

    /// Asks for a word, so that a client that is gone is missed; `false` when it is.
    pub(super) async fn ping(&mut self) -> bool {
        match self {
            Self::Socket(sink) => {
                let sending = sink.send(Message::Ping(Bytes::new()));
                matches!(tokio::time::timeout(SEND_SECS_MAX, sending).await, Ok(Ok(())))
            }
            Self::Tunnel(_) => true,
        }
    }

    /// Says that nothing follows. A client that is gone needs no word.
    pub(super) async fn close(mut self) {
        let closing = async {
            match &mut self {
                Self::Socket(sink) => drop(sink.close().await),
                Self::Tunnel(writer) => drop(writer.shutdown().await),
            }
        };
        drop(tokio::time::timeout(CLOSE_SECS_MAX, closing).await);
    }
}
