//! A line like users have, for TCP: delay, rate and stalls as lost packets make them, by seed; can be
//! cut and restored. netem is not in every kernel.
//!
//! ```text
//! browser ── TCP ──▶ --listen │ Pipe up   ──▶ │ --to ── TCP ──▶ gateway
//!                   ◀──       │ Pipe down ◀── │
//! ```
//!
//! Commands on standard input, one a line: `bad DELAY_MS MBIT_S LOST_OF_MILLION`, `clear`, `cut`,
//! `restore`, `count`. The end of standard input ends it.
#![expect(clippy::unwrap_used, reason = "a program for measurements: what does not hold ends it")]

mod pipe;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use vidi_kit::Tasks;

use crate::pipe::{PACKET_BYTES_MAX, Pipe, Quality};

/// What waits before the narrow place, as in a router: no more is taken from who sends.
const BACKLOG_MAX: Duration = Duration::from_millis(100);
/// What the kernel takes for us beyond that; by itself it would take megabytes.
const SOCKET_BUFFER_BYTES: u32 = 16 << 10;
/// A clear line reads as much at once.
const CLEAR_BYTES_MAX: usize = 64 << 10;
/// Packets on their way: 100 ms and the delay of any line that is tried here.
const PACKETS_MAX: usize = 4_096;

const CLEAR: Quality = Quality { delay: Duration::ZERO, rate: None, lost_of_million: 0 };

/// The line's two ends.
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    to: SocketAddr,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One direction of all connections: they share the line.
#[derive(Debug)]
struct Direction {
    pipe: Mutex<Pipe>,
    bytes: AtomicU64,
}

#[derive(Clone, Debug)]
struct Line {
    begun: Instant,
    up: Arc<Direction>,
    down: Arc<Direction>,
    /// Counts the cuts; while it is odd nothing goes through.
    cuts: watch::Sender<u64>,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let tasks = Tasks::new();
    let direction = |seed| {
        Arc::new(Direction { pipe: Mutex::new(Pipe::new(CLEAR, seed)), bytes: AtomicU64::new(0) })
    };
    let line = Line {
        begun: Instant::now(),
        up: direction(arguments.seed),
        down: direction(arguments.seed ^ 0xd0),
        cuts: watch::channel(0).0,
    };
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES).unwrap();
    socket.bind(arguments.listen).unwrap();
    let listener = socket.listen(64).unwrap();
    let _accepting =
        tasks.spawn("accept", accept(tasks.clone(), line.clone(), listener, arguments.to));
    say(r#"{"event":"ready"}"#);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(words)) = lines.next_line().await {
        command(&line, &words.split_whitespace().collect::<Vec<_>>());
    }
}

fn command(line: &Line, words: &[&str]) {
    let set = |quality| {
        for direction in [&line.up, &line.down] {
            direction.pipe.lock().unwrap().quality = quality;
        }
    };
    match words {
        ["clear"] => set(CLEAR),
        ["bad", delay_ms, mbit_s, lost] => set(Quality {
            delay: Duration::from_secs_f64(delay_ms.parse::<f64>().unwrap() / 1000.0),
            rate: Some(mbit_s.parse::<f64>().unwrap() * 125_000.0),
            lost_of_million: lost.parse().unwrap(),
        }),
        ["cut"] => line.cuts.send_modify(|cuts| *cuts |= 1),
        ["restore"] => line.cuts.send_modify(|cuts| *cuts += *cuts & 1),
        ["count"] => {
            let bytes = |direction: &Direction| direction.bytes.load(Ordering::SeqCst);
            let (up, down) = (bytes(&line.up), bytes(&line.down));
            say(&format!(r#"{{"event":"count","up":{up},"down":{down}}}"#));
        }
        _ => say(r#"{"event":"not understood"}"#),
    }
}

async fn accept(tasks: Tasks, line: Line, listener: TcpListener, to: SocketAddr) {
    loop {
        let (near, _address) = listener.accept().await.unwrap();
        let line = line.clone();
        let _carrying = tasks.spawn("connection", async move {
            // As a network that is gone: what is open breaks, what comes is refused.
            let mut cuts = line.cuts.subscribe();
            if *cuts.borrow_and_update() & 1 == 1 {
                drop(near.set_zero_linger());
                return;
            }
            let Ok(far) = dial(to).await else { return };
            let carried = carry(&line, near, far);
            // Neither is polled again.
            tokio::select! {
                biased;
                _cut = cuts.changed() => {}
                () = carried => {}
            }
        });
    }
}

async fn dial(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.connect(to).await
}

/// Both directions, until both have ended.
async fn carry(line: &Line, near: TcpStream, far: TcpStream) {
    for stream in [&near, &far] {
        // Only latency would suffer.
        drop(stream.set_nodelay(true));
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let up = one_way(line, &line.up, near_read, far_write);
    let down = one_way(line, &line.down, far_read, near_write);
    tokio::join!(up, down);
}

async fn one_way(line: &Line, direction: &Direction, from: OwnedReadHalf, to: OwnedWriteHalf) {
    let (sender, receiver) = mpsc::channel(PACKETS_MAX);
    tokio::join!(take(line, direction, from, sender), deliver(direction, to, receiver));
}

/// Takes packets as the line takes them.
async fn take(
    line: &Line,
    direction: &Direction,
    mut from: OwnedReadHalf,
    packets: mpsc::Sender<(Instant, Bytes)>,
) {
    loop {
        let now = line.begun.elapsed();
        let (backlog, clear) = {
            let pipe = direction.pipe.lock().unwrap();
            (pipe.backlog(now), pipe.quality.rate.is_none())
        };
        if BACKLOG_MAX < backlog {
            sleep(backlog - BACKLOG_MAX).await;
            continue;
        }
        let most = if clear { CLEAR_BYTES_MAX } else { PACKET_BYTES_MAX };
        let mut packet = BytesMut::zeroed(most);
        let read = match from.read(&mut packet).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        packet.truncate(read);
        let arrives = direction.pipe.lock().unwrap().carry(line.begun.elapsed(), read);
        if packets.send((line.begun + arrives, packet.freeze())).await.is_err() {
            return;
        }
    }
}

async fn deliver(
    direction: &Direction,
    mut to: OwnedWriteHalf,
    mut packets: mpsc::Receiver<(Instant, Bytes)>,
) {
    while let Some((arrives, packet)) = packets.recv().await {
        sleep_until(arrives).await;
        if to.write_all(&packet).await.is_err() {
            return;
        }
        direction.bytes.fetch_add(packet.len() as u64, Ordering::SeqCst);
    }
    // Who reads may be gone first.
    drop(to.shutdown().await);
}

fn say(line: &str) {
    // Who reads it may be gone; then the end of standard input ends this program.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}
