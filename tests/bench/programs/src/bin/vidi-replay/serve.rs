//! One client's channels, over any stream.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rsa::RsaPrivateKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::desk::{Client, Desk, now_ns, say};
use crate::link;
use crate::messages::{
    Body, CHANNEL_INIT, Images, MAIN_CHANNELS_LIST, MAIN_INIT, MOTION_ACK, SET_ACK, encode, message,
};

/// Messages that a client acknowledges at once, as spice-server asks of one that is near.
const WINDOW: u32 = 20;
/// Clients send little: input, acknowledgements.
const CLIENT_MESSAGE_BYTES_MAX: u32 = 1 << 20;
/// `SPICE_INPUT_MOTION_ACK_BUNCH`
const MOTIONS_PER_ACK: u32 = 4;

/// `SPICE_MSGC_ACK`
const ACK: u16 = 2;
/// `SPICE_MSGC_MAIN_ATTACH_CHANNELS`
const ATTACH_CHANNELS: u16 = 104;
/// `SPICE_MSGC_DISPLAY_INIT`
const DISPLAY_INIT: u16 = 101;
/// `SPICE_MSGC_INPUTS_*`
const KEY_DOWN: u16 = 101;
const KEY_SCANCODE: u16 = 104;
const MOUSE_MOTION: u16 = 111;
const MOUSE_POSITION: u16 = 112;

/// The bit of a scan code that tells the release.
const RELEASED: u8 = 0x80;

/// What all channels share.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) desk: Arc<Desk>,
    pub(crate) key: Arc<RsaPrivateKey>,
    /// Whether the door lets relays through to the guest.
    pub(crate) to_guest: Arc<AtomicBool>,
}

impl Server {
    /// Serves one channel until its client goes.
    pub(crate) async fn serve<S>(&self, mut stream: S, images: Images)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let served = match link::open(&mut stream, &self.key).await {
            Ok(1) => main(stream).await,
            Ok(2) => self.display(stream, images).await,
            Ok(3) => self.inputs(stream).await,
            Ok(_cursor) => cursor(stream).await,
            Err(error) => Err(error),
        };
        match served {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                say(&format!(r#"{{"event":"broken","problem":"{error}"}}"#));
            }
            Ok(()) | Err(_) => {}
        }
    }

    async fn inputs<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> io::Result<()> {
        stream.write_all(&message(CHANNEL_INIT, &[0, 0])).await?;
        let mut motions = 0;
        loop {
            match receive(&mut stream).await? {
                (KEY_DOWN, body) => {
                    let code = body.first_chunk::<4>().map_or(0, |code| u32::from_le_bytes(*code));
                    self.desk.key(code);
                }
                (KEY_SCANCODE, body) if body.last().is_some_and(|code| code & RELEASED == 0) => {
                    let code = body.iter().rev().fold(0, |code, byte| code << 8 | u32::from(*byte));
                    self.desk.key(code);
                }
                (MOUSE_MOTION | MOUSE_POSITION, _) => {
                    motions += 1;
                    if motions == MOTIONS_PER_ACK {
                        motions = 0;
                        stream.write_all(&message(MOTION_ACK, &[])).await?;
                    }
                }
                _ => {}
            }
        }
    }

    async fn display<S>(&self, stream: S, images: Images) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        while receive(&mut reader).await?.0 != DISPLAY_INIT {}
        let client = self.desk.join(images);
        say(&format!(r#"{{"event":"joined","client":{},"at":{}}}"#, client.number, now_ns()));
        let window = Window { left: AtomicU32::new(2 * WINDOW), opened: Notify::new() };
        // Neither is polled again: the channel ends with the first of them.
        let ended = tokio::select! {
            biased;
            ended = acknowledged(&mut reader, &window) => ended,
            ended = self.draw(&mut writer, &client, &window) => ended,
        };
        self.desk.leave(&client);
        say(&format!(r#"{{"event":"left_us","client":{},"at":{}}}"#, client.number, now_ns()));
        ended
    }

    async fn draw<W>(&self, writer: &mut W, client: &Client, window: &Window) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        writer.write_all(&message(SET_ACK, &Body::default().u32(1).u32(WINDOW).0)).await?;
        while !client.is_gone() {
            window.wait().await;
            let Some(waiting) = self.desk.next(client) else {
                client.filled.notified().await;
                continue;
            };
            let encoded = encode(&waiting.op, client.images);
            window.take(encoded.messages);
            for chunk in &encoded.chunks {
                writer.write_all(chunk).await?;
            }
            writer.flush().await?;
            if let Some(mark) = &waiting.mark {
                let (number, at) = (client.number, now_ns());
                say(&format!(r#"{{"event":"left","mark":"{mark}","client":{number},"at":{at}}}"#));
            }
        }
        Ok(())
    }
}

/// Messages that may be sent before the client acknowledges; spice-server stops after two windows.
struct Window {
    left: AtomicU32,
    opened: Notify,
}

impl Window {
    async fn wait(&self) {
        while self.left.load(Ordering::SeqCst) == 0 {
            self.opened.notified().await;
        }
    }

    fn take(&self, messages: u32) {
        let take = |left: u32| Some(left.saturating_sub(messages));
        let _before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
    }
}

async fn acknowledged<R: AsyncRead + Unpin>(reader: &mut R, window: &Window) -> io::Result<()> {
    loop {
        if receive(reader).await?.0 == ACK {
            let give = |left: u32| Some((left + WINDOW).min(2 * WINDOW));
            let _before = window.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, give);
            window.opened.notify_one();
        }
    }
}

/// `init`: session, displays, mouse modes possible and now (2: positions), agent, tokens, clock, hint.
async fn main<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let words = [1, 1, 3, 2, 0, 10, 0, 0];
    let init = words.iter().fold(Body::default(), |body, word| body.u32(*word));
    stream.write_all(&message(MAIN_INIT, &init.0)).await?;
    loop {
        if receive(&mut stream).await?.0 == ATTACH_CHANNELS {
            let list = Body::default().u32(3).bytes(&[2, 0, 3, 0, 4, 0]);
            stream.write_all(&message(MAIN_CHANNELS_LIST, &list.0)).await?;
        }
    }
}

/// `init`: position, trail, visible, no shape.
async fn cursor<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let init = Body::default().u32(0).u32(0).u8(1).u16(1);
    stream.write_all(&message(CHANNEL_INIT, &init.0)).await?;
    loop {
        receive(&mut stream).await?;
    }
}

/// One message of the client: its kind and body.
async fn receive<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<(u16, Vec<u8>)> {
    let kind = reader.read_u16_le().await?;
    let size = reader.read_u32_le().await?;
    if CLIENT_MESSAGE_BYTES_MAX < size {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too large"));
    }
    let mut body = vec![0; size as usize];
    reader.read_exact(&mut body).await?;
    Ok((kind, body))
}
