//! A SPICE server that replays: no guest, but a screen on which scripts happen at exact times. For
//! measurements of what lies behind a SPICE socket.
//!
//! ```text
//! gateway ── relay ──(agent's socket: --door)──▶ desk ◀──(--tcp)── websockify ── spice-html5
//!                                    commands on standard input, reports on standard output
//! ```
//!
//! Commands, one a line: `play NAME SECONDS [X Y WIDTH HEIGHT RATE]`, `stop`, `size WIDTH HEIGHT`,
//! `to all|plain|lz`, `door guest|here`. Reports are lines of JSON with times of `CLOCK_MONOTONIC` in
//! nanoseconds. The end of standard input ends it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a program for measurements: what does not hold ends it"
)]

mod desk;
mod door;
mod link;
mod lz;
mod messages;
mod picture;
mod scripts;
mod serve;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Parser;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use vidi_kit::Tasks;

use crate::desk::{Audience, Desk, now_ns, say};
use crate::messages::Images;
use crate::picture::Area;
use crate::scripts::{FILM_MIN, Play, play};
use crate::serve::Server;

/// Where it is reached.
#[derive(Debug, Parser)]
struct Arguments {
    /// An address on which each connection is a SPICE channel, with images packed by LZ.
    #[arg(long)]
    tcp: Option<String>,
    /// A socket for a relay, in place of its agent's.
    #[arg(long, requires = "agent")]
    door: Option<PathBuf>,
    /// The agent's socket.
    #[arg(long)]
    agent: Option<PathBuf>,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let tasks = Tasks::new();
    let desk = Arc::new(Desk::new(1024, 768));
    let server =
        Server { desk: Arc::clone(&desk), key: Arc::new(link::key()), to_guest: Arc::default() };
    let to_guest = Arc::clone(&server.to_guest);
    if let Some(address) = arguments.tcp {
        let _accepting = tasks.spawn("tcp", tcp(tasks.clone(), server.clone(), address));
    }
    if let (Some(door), Some(agent)) = (arguments.door, arguments.agent) {
        let _keeping = tasks.spawn("door", door::keep(tasks.clone(), server, door, agent));
    }
    say(&format!(r#"{{"event":"ready","at":{}}}"#, now_ns()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut playing: Option<JoinHandle<Option<()>>> = None;
    let mut plays = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        if matches!(words.first(), Some(&("play" | "stop")))
            && let Some(before) = playing.take()
        {
            before.abort();
        }
        if let ["door", way @ ("guest" | "here")] = *words {
            to_guest.store(way == "guest", Ordering::SeqCst);
            continue;
        }
        match command(&desk, &words) {
            Ok(Some(wanted)) => {
                let desk = Arc::clone(&desk);
                let number = plays;
                plays += 1;
                let script = async move { play(&desk, wanted, number).await };
                playing = Some(tasks.spawn("script", script));
            }
            Ok(None) => {}
            Err(()) => say(r#"{"event":"not understood"}"#),
        }
    }
}

/// Carries out what takes no time; gives what is to be played.
fn command(desk: &Desk, words: &[&str]) -> Result<Option<Play>, ()> {
    let number = |word: &str| word.parse::<u16>().map_err(drop);
    match words {
        ["stop"] => {}
        ["to", "all"] => desk.show_to(Audience::All),
        ["to", "plain"] => desk.show_to(Audience::Only(Images::Plain)),
        ["to", "lz"] => desk.show_to(Audience::Only(Images::Lz)),
        ["size", width, height] => desk.resize(number(width)?, number(height)?),
        ["play", name, seconds, rest @ ..] => {
            let (width, height) = desk.size();
            let (mut area, mut rate) = (Area { x: 0, y: 0, width, height }, 30.0);
            if let [x, y, wide, high, times @ ..] = rest {
                let corner = [number(x)?.min(width - FILM_MIN), number(y)?.min(height - 64)];
                area = Area {
                    x: corner[0],
                    y: corner[1],
                    width: number(wide)?.clamp(FILM_MIN, width - corner[0]),
                    height: number(high)?.clamp(64, height - corner[1]),
                };
                rate = times.first().map_or(Ok(rate), |times| times.parse().map_err(drop))?;
            }
            let seconds = seconds.parse().map_err(drop)?;
            return Ok(Some(Play { name: (*name).to_owned(), seconds, area, rate }));
        }
        _ => return Err(()),
    }
    Ok(None)
}

async fn tcp(tasks: Tasks, server: Server, address: String) {
    let listener = TcpListener::bind(&address).await.unwrap();
    loop {
        let (stream, _address) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let server = server.clone();
        let _serving =
            tasks.spawn("channel", async move { server.serve(stream, Images::Lz).await });
    }
}
