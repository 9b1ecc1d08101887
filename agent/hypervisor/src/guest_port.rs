//! The lines that a guest's helper and the host exchange on `dev.vidi.guest.0`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use crate::ports::GuestStream;

/// A line of a guest is cut here: the longest of the protocol is far shorter.
const LINE_BYTES_MAX: usize = 1024;
/// Bytes asked for at a time.
const READ_BYTES: usize = 4096;
/// A guest is asked this often who it is: what was said may have been lost with another host.
const WHO_PERIOD: Duration = Duration::from_secs(5);

/// What a guest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestLine {
    /// The guest is up, has drawn its first picture and has this identity.
    Ready(Uuid),
    /// Anything else, as it came: `key ..`, `line ..`, `click ..`, `memory ..`, `pong`.
    Other(String),
}

/// A guest's port, line by line. Bytes of the guest are never trusted: too long lines are skipped,
/// what is not UTF-8 is replaced.
pub struct GuestPort {
    stream: GuestStream,
    received: Vec<u8>,
    skipping: bool,
}

impl std::fmt::Debug for GuestPort {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GuestPort").finish_non_exhaustive()
    }
}

impl GuestPort {
    /// Speaks lines over `stream`.
    pub fn new(stream: GuestStream) -> Self {
        Self { stream, received: Vec::new(), skipping: false }
    }

    /// The next line; `None` when the port has ended. Cancel-safe.
    pub async fn next_line(&mut self) -> io::Result<Option<GuestLine>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(parse(&line)));
            }
            let mut bytes = [0; READ_BYTES];
            let count = self.stream.read(&mut bytes).await?;
            if count == 0 {
                return Ok(None);
            }
            self.received.extend_from_slice(bytes.get(..count).unwrap_or_default());
        }
    }

    /// Asks the guest who it is until it says that it is ready with an identity that `accept` takes;
    /// false when the port ends first.
    ///
    /// It may have said so before, to a host that died since, and may have missed that this port was
    /// closed and opened again: without being asked it would not say it anew.
    pub async fn hear_ready(
        &mut self,
        mut accept: impl FnMut(Uuid) -> bool + Send,
    ) -> io::Result<bool> {
        let mut ask = tokio::time::interval(WHO_PERIOD);
        loop {
            // Cancel-safe: the port keeps what it has read, a tick that is not taken comes again.
            let line = tokio::select! {
                biased;
                line = self.next_line() => line?,
                _due = ask.tick() => {
                    self.send_who().await?;
                    continue;
                }
            };
            match line {
                Some(GuestLine::Ready(said)) if accept(said) => return Ok(true),
                Some(GuestLine::Ready(_) | GuestLine::Other(_)) => {}
                None => return Ok(false),
            }
        }
    }

    /// Says `ok`: the guest need not repeat that it is ready.
    pub async fn send_ok(&mut self) -> io::Result<()> {
        self.send(b"ok\n").await
    }

    /// Says `who`: a guest that is ready says so again, whatever another host told it before.
    pub async fn send_who(&mut self) -> io::Result<()> {
        self.send(b"who\n").await
    }

    /// Asks for a `pong`.
    pub async fn send_ping(&mut self) -> io::Result<()> {
        self.send(b"ping\n").await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        loop {
            let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
                if LINE_BYTES_MAX < self.received.len() {
                    self.received.clear();
                    self.skipping = true;
                }
                return None;
            };
            let mut line: Vec<u8> = self.received.drain(..=end).collect();
            line.pop();
            if std::mem::take(&mut self.skipping) || LINE_BYTES_MAX < line.len() {
                continue;
            }
            return Some(line);
        }
    }
}

fn parse(line: &[u8]) -> GuestLine {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    text.strip_prefix("ready ")
        .and_then(|id| Uuid::try_parse(id).ok())
        .map_or_else(|| GuestLine::Other(text.to_owned()), GuestLine::Ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_ready_carries_the_identity() {
        let (host, mut guest) = tokio::io::duplex(64 * 1024);
        let mut port = GuestPort::new(Box::new(host));
        let id = Uuid::from_u128(7);
        let flood = "x".repeat(3 * LINE_BYTES_MAX);
        let said = format!("ready {id}\nkey 42 down\r\n{flood}\nready nobody\n");
        guest.write_all(said.as_bytes()).await.unwrap();
        drop(guest);
        let mut heard = Vec::new();
        while let Some(line) = port.next_line().await.unwrap() {
            heard.push(line);
        }
        let other = |text: &str| GuestLine::Other(text.to_owned());
        assert_eq!(heard, [GuestLine::Ready(id), other("key 42 down"), other("ready nobody")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_another_host_has_heard_is_asked_until_it_says_so_again() {
        use tokio::io::{AsyncBufReadExt, BufReader};
        const LOST: usize = 2;
        let (host, guest) = tokio::io::duplex(4096);
        let id = Uuid::from_u128(7);
        let mut port = GuestPort::new(Box::new(host));
        let answers = async {
            let (reading, mut writing) = tokio::io::split(guest);
            let mut lines = BufReader::new(reading).lines();
            let mut asked = 0;
            while let Some(line) = lines.next_line().await.unwrap() {
                assert_eq!(line, "who");
                asked += 1;
                // At first it says nothing, then it is still another.
                let said = if asked == LOST { Uuid::nil() } else { id };
                if LOST <= asked {
                    writing.write_all(format!("ready {said}\n").as_bytes()).await.unwrap();
                }
            }
            asked
        };
        let heard = async {
            let heard = port.hear_ready(|said| said == id).await.unwrap();
            drop(port);
            heard
        };
        assert_eq!(tokio::join!(heard, answers), (true, LOST + 1));
    }

    #[tokio::test]
    async fn a_port_that_ends_was_not_heard() {
        let (host, guest) = tokio::io::duplex(4096);
        drop(guest);
        let heard = GuestPort::new(Box::new(host)).hear_ready(|_whoever| true).await;
        assert!(!heard.unwrap());
    }
}
