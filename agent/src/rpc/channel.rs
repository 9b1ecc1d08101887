//! One SPICE channel: bytes between a gRPC stream and a socket, unchanged, both ways, no more held
//! than the limits below.

use std::io;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use vidi_proto::v1::{ChannelRequest, ChannelResponse};

/// Most data in one message, both ways (`relay.proto`).
pub const DATA_BYTES_MAX: usize = 256 << 10;
/// What is read from the socket at once.
const READ_BYTES: usize = 128 << 10;
/// Chunks on their way to the gateway's HTTP/2 window.
pub const CHUNKS_MAX: usize = 2;

/// To the gateway; its end is the stream's.
pub type Answers = mpsc::Sender<Result<ChannelResponse, Status>>;

/// Carries bytes until the socket ends, the gateway goes away, or something breaks. When the gateway
/// ends its direction only that half of the socket is shut down.
pub async fn pump(socket: UnixStream, requests: Streaming<ChannelRequest>, answers: &Answers) {
    let (from_spice, to_spice) = socket.into_split();
    let up = upward(requests, to_spice);
    let down = downward(from_spice, answers);
    tokio::pin!(up, down);
    // Neither arm is polled again after the one that ends the channel; `up` may end alone.
    let ended = tokio::select! {
        biased;
        ended = &mut down => ended,
        ended = &mut up => match ended {
            Ok(half) => {
                let ended = down.await;
                drop(half);
                ended
            }
            Err(status) => Err(status),
        },
    };
    if let Err(status) = ended {
        // A gateway that went away needs no reason.
        drop(answers.send(Err(status)).await);
    }
}

async fn upward(
    mut requests: Streaming<ChannelRequest>,
    mut to_spice: OwnedWriteHalf,
) -> Result<OwnedWriteHalf, Status> {
    let to_desktop = metrics::counter!("vidi_relay_bytes_total", "direction" => "to_desktop");
    while let Some(request) = requests.message().await? {
        if DATA_BYTES_MAX < request.data.len() {
            let text = format!("a message carries more than {DATA_BYTES_MAX} bytes");
            return Err(Status::invalid_argument(text));
        }
        to_spice.write_all(&request.data).await.map_err(|error| broken(&error))?;
        to_desktop.increment(request.data.len() as u64);
    }
    to_spice.shutdown().await.map_err(|error| broken(&error))?;
    Ok(to_spice)
}

async fn downward(mut from_spice: OwnedReadHalf, answers: &Answers) -> Result<(), Status> {
    let to_gateway = metrics::counter!("vidi_relay_bytes_total", "direction" => "to_gateway");
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        let mut chunk = (&mut buffer).limit(READ_BYTES);
        // Cancel-safe: the channel is over when the gateway is gone, whatever was read.
        let read = tokio::select! {
            biased;
            () = answers.closed() => return Ok(()),
            read = from_spice.read_buf(&mut chunk) => read.map_err(|error| broken(&error))?,
        };
        if read == 0 {
            return Ok(());
        }
        let data = buffer.split().freeze();
        to_gateway.increment(data.len() as u64);
        if answers.send(Ok(ChannelResponse { data })).await.is_err() {
            return Ok(());
        }
    }
}

fn broken(error: &io::Error) -> Status {
    Status::unavailable(format!("the desktop's SPICE socket broke: {error}"))
}
