//! One SPICE channel: bytes between a gRPC stream and a socket, both ways, no more held than the limits
//! below. What a display channel brings is condensed, where that was asked for; all else is unchanged.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};
use vidi_proto::v1::{ChannelRequest, ChannelResponse};
use vidi_spice::display::{Condensed, Condenser, Step};

/// Most data in one message, both ways (`relay.proto`).
pub const DATA_BYTES_MAX: usize = 256 << 10;
/// Most data in one message to the gateway: one HTTP/2 frame holds it, and the allocator keeps memory of
/// this size, where it maps larger pieces anew each time.
const SENT_BYTES_MAX: usize = 60 << 10;
/// What is read from the socket at once, unless the rest of a picture is known to be more.
const READ_BYTES: usize = 32 << 10;
/// With less room than this the next read gets new memory.
const ROOM_BYTES_MIN: usize = 4 << 10;
/// Chunks on their way to the gateway's HTTP/2 window.
pub const CHUNKS_MAX: usize = 2;

/// To the gateway; its end is the stream's.
pub type Answers = mpsc::Sender<Result<ChannelResponse, Status>>;

/// Carries bytes until the socket ends, the gateway goes away, or something breaks. When the gateway
/// ends its direction only that half of the socket is shut down. Films of a display channel keep below
/// `video_mbit_s`; none leaves them as they are.
pub async fn pump(
    socket: UnixStream,
    requests: Streaming<ChannelRequest>,
    answers: &Answers,
    video_mbit_s: Option<u32>,
) {
    let (from_spice, to_spice) = socket.into_split();
    let (tell, condenser) = oneshot::channel();
    let up = upward(requests, to_spice, |first| {
        let condenser = video_mbit_s.and_then(|mbit_s| Condenser::for_client(first, mbit_s));
        // Nobody waits for it where the server spoke first.
        drop(tell.send(condenser));
    });
    let down = downward(from_spice, answers, condenser);
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
    on_first: impl FnOnce(&[u8]),
) -> Result<OwnedWriteHalf, Status> {
    let to_desktop = metrics::counter!("vidi_relay_bytes_total", "direction" => "to_desktop");
    let mut on_first = Some(on_first);
    while let Some(request) = requests.message().await? {
        if DATA_BYTES_MAX < request.data.len() {
            let text = format!("a message carries more than {DATA_BYTES_MAX} bytes");
            return Err(Status::invalid_argument(text));
        }
        if let Some(on_first) = on_first.take() {
            on_first(&request.data);
        }
        to_spice.write_all(&request.data).await.map_err(|error| broken(&error))?;
        to_desktop.increment(request.data.len() as u64);
    }
    to_spice.shutdown().await.map_err(|error| broken(&error))?;
    Ok(to_spice)
}

/// From the server to the gateway.
async fn downward(
    mut from_spice: OwnedReadHalf,
    answers: &Answers,
    condenser: oneshot::Receiver<Option<Condenser>>,
) -> Result<(), Status> {
    // Cancel-safe: both only look. A client of SPICE speaks first.
    let condenser = tokio::select! {
        biased;
        condenser = condenser => condenser.ok().flatten(),
        readable = from_spice.readable() => readable.map(|()| None).map_err(|error| broken(&error))?,
    };
    let to_gateway = metrics::counter!("vidi_relay_bytes_total", "direction" => "to_gateway");
    if let Some(condenser) = condenser {
        return condensed(from_spice, answers, &to_gateway, condenser).await;
    }
    let mut buffer = BytesMut::new();
    loop {
        make_room(&mut buffer);
        // Cancel-safe: the channel is over when the gateway is gone, whatever was read.
        let read = tokio::select! {
            biased;
            () = answers.closed() => return Ok(()),
            read = from_spice.read_buf(&mut buffer) => read.map_err(|error| broken(&error))?,
        };
        if read == 0 {
            return Ok(());
        }
        send(buffer.split().freeze(), answers, &to_gateway).await?;
    }
}

/// The same through a condenser: while one picture is packed, the next is read. What a server said before it
/// hung up is still passed on.
async fn condensed(
    mut from_spice: OwnedReadHalf,
    answers: &Answers,
    to_gateway: &metrics::Counter,
    mut condenser: Condenser,
) -> Result<(), Status> {
    let began = Instant::now();
    let mut packing: Option<JoinHandle<Vec<u8>>> = None;
    let mut ended = false;
    loop {
        while packing.is_none()
            && let Some(step) = condenser.step(began.elapsed())
        {
            match step {
                Step::Send(bytes) => send(bytes, answers, to_gateway).await?,
                Step::Pack(job) => packing = Some(tokio::task::spawn_blocking(move || job.run())),
            }
        }
        count(condenser.take_condensed());
        if ended && packing.is_none() {
            return Ok(());
        }
        let wakes = condenser.wakes().filter(|_| packing.is_none());
        let packed = async {
            match &mut packing {
                Some(packing) => packing.await,
                None => std::future::pending().await,
            }
        };
        make_room(condenser.inbox());
        // Cancel-safe: the channel is over when the gateway is gone, whatever was read; at the other
        // arms nothing was read, and what is packed goes on.
        tokio::select! {
            biased;
            () = answers.closed() => return Ok(()),
            packed = packed => {
                packing = None;
                // A panic there leaves the picture as it is.
                condenser.packed(&packed.unwrap_or_default(), began.elapsed());
            }
            read = from_spice.read_buf(condenser.inbox()), if !ended && condenser.has_room() => {
                ended = read.map_err(|error| broken(&error))? == 0;
            }
            () = sleep_until(began + wakes.unwrap_or_default()), if wakes.is_some() => {
                condenser.wake(began.elapsed());
            }
        }
    }
}

fn make_room(buffer: &mut BytesMut) {
    if buffer.capacity() - buffer.len() < ROOM_BYTES_MIN {
        buffer.reserve(READ_BYTES);
    }
}

fn count(Condensed { rough, lz4, exact }: Condensed) {
    for (form, count) in [("jpeg", rough), ("lz4", lz4), ("exact", exact)] {
        if count > 0 {
            metrics::counter!("vidi_relay_pictures_total", "form" => form).increment(count);
        }
    }
}

/// In as many messages as it takes.
async fn send(
    mut bytes: Bytes,
    answers: &Answers,
    to_gateway: &metrics::Counter,
) -> Result<(), Status> {
    while !bytes.is_empty() {
        let data = bytes.split_to(bytes.len().min(SENT_BYTES_MAX));
        to_gateway.increment(data.len() as u64);
        if answers.send(Ok(ChannelResponse { data })).await.is_err() {
            return Err(Status::cancelled("the gateway is gone"));
        }
    }
    Ok(())
}

fn broken(error: &io::Error) -> Status {
    Status::unavailable(format!("the desktop's SPICE socket broke: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &(body.len() as u32).to_le_bytes(), body].concat()
    }

    #[tokio::test]
    async fn what_a_server_said_before_it_hung_up_is_passed_on() {
        const SIDE: u32 = 1024;
        // A display channel's link with mini headers and what is beside them; its reply and verdict.
        let head = |size: u32| [&b"REDQ"[..], &words(&[2, 2, size])].concat();
        let own = words(&[1, 1, 18, 1 << 3, 1 << 31]);
        let first = [&head(26)[..], &words(&[0]), &[2, 0], &own].concat();
        let opened = [&head(178)[..], &[0; 178], &words(&[0])].concat();
        // `draw_copy` of a bitmap of one colour, then `mark`.
        let area = words(&[0, 0, SIDE, SIDE]);
        let copy = [&words(&[0])[..], &area, &[0], &words(&[57]), &area, &[8], &[0; 15]].concat();
        let image = [&[0; 10][..], &words(&[SIDE, SIDE]), &[8, 4]].concat();
        let layout = words(&[SIDE, SIDE, 4 * SIDE, 0]);
        let pixels = vec![7; 4 * (SIDE * SIDE) as usize];
        let picture = message(304, &[copy, image, layout, pixels].concat());
        let mark = message(102, &[]);

        let (mut server, socket) = UnixStream::pair().unwrap();
        let (from_spice, _to_spice) = socket.into_split();
        let (answers, mut heard) = mpsc::channel(CHUNKS_MAX);
        let condenser = Condenser::for_client(&first, 30).unwrap();
        let spoken = [opened, picture, mark.clone()].concat();
        let speak = async move { server.write_all(&spoken).await.unwrap() };
        let carry = async move {
            condensed(from_spice, &answers, &metrics::Counter::noop(), condenser).await.unwrap();
        };
        let hear = async {
            let mut bytes = Vec::new();
            while let Some(answer) = heard.recv().await {
                bytes.extend(answer.unwrap().data);
            }
            bytes
        };
        let ((), (), bytes) = tokio::join!(speak, carry, hear);
        assert!(bytes.ends_with(&mark) && 300 < bytes.len(), "{} bytes", bytes.len());
        assert!(bytes.len() < 64 << 10, "the picture was packed: {} bytes", bytes.len());
    }
}
