//! A session against a real QEMU: the picture arrives, input goes through, a desktop that is lost
//! comes back, a second viewer takes over. The relay is left out: channels go over QEMU's own socket.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use vidi_display::Policy;
use vidi_display::protocol::{BrowserHello, ViewerMessage, records};
use vidi_gateway::error::GatewayError;
use vidi_gateway::model::{CloseCode, Ending, Recording, RecordingAbout, Said, Terms, Visitor};
use vidi_gateway::ports::{
    Attachment, ChannelPipe, Dial, RecordingEnd, RecordingEntry, RecordingPipe, Recordings,
    RelayTicket, Ticket, Tickets, Way,
};
use vidi_gateway::reconcile::registry::{FromViewer, Reach, Registry, ToViewer, Viewer};
use vidi_kit::{Clock, Tasks};

const SESSION: &str = "tenants/default/sessions/0198c1a2-0000-7000-8000-000000000001";
const WAIT_SECS_MAX: Duration = Duration::from_secs(60);

/// A machine without a disk: SeaBIOS draws its text screen within seconds.
struct Machine(Child);

impl Machine {
    fn start(socket: &Path) -> Self {
        let spice = format!("unix=on,addr={},disable-ticketing=on", socket.display());
        let child = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "64", "-display", "none", "-nodefaults", "-vga", "qxl"])
            .args(["-device", "qemu-xhci", "-device", "usb-tablet", "-spice", &spice])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[derive(Debug)]
struct Direct {
    socket: PathBuf,
}

#[async_trait]
impl Dial for Direct {
    async fn attach(&self, _ticket: &Ticket) -> Result<Box<dyn Attachment>, GatewayError> {
        Ok(Box::new(Self { socket: self.socket.clone() }))
    }
}

#[async_trait]
impl Attachment for Direct {
    async fn open(&self) -> Result<ChannelPipe, GatewayError> {
        let (mut from, mut to) = UnixStream::connect(&self.socket).await?.into_split();
        let (send, mut outgoing) = mpsc::channel::<Bytes>(16);
        let (incoming, receive) = mpsc::channel::<Bytes>(16);
        let tasks = Tasks::new();
        let _writing = tasks.spawn("write", async move {
            while let Some(bytes) = outgoing.recv().await {
                to.write_all(&bytes).await.unwrap_or_default();
            }
        });
        let _reading = tasks.spawn("read", async move {
            loop {
                let mut buffer = BytesMut::with_capacity(64 << 10);
                match from.read_buf(&mut buffer).await {
                    Ok(1..) if incoming.send(buffer.freeze()).await.is_ok() => {}
                    Ok(_) | Err(_) => return,
                }
            }
        });
        Ok(ChannelPipe { receive, send })
    }

    async fn ended(&self) -> String {
        std::future::pending().await
    }
}

#[derive(Debug, Default)]
struct Counted(AtomicU64);

#[async_trait]
impl Tickets for Counted {
    async fn ticket(
        &self,
        token: &str,
        session: &str,
        _problem: &str,
    ) -> Result<Ticket, GatewayError> {
        assert_eq!((token, session), ("token", SESSION));
        let epoch = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        let (address, name) = (String::new(), String::new());
        Ok(Ticket {
            epoch,
            way: Way::Relay(RelayTicket { grant: Vec::new(), address, name }),
            terms: Terms::default(),
        })
    }
}

/// A browser, as far as the session can tell.
struct Browser {
    from: mpsc::Sender<FromViewer>,
    to: mpsc::Receiver<ToViewer>,
    size: Option<(u32, u32)>,
    frames: u32,
    pixels_bytes: usize,
    status: Vec<u8>,
}

impl Browser {
    async fn open(registry: &Arc<Registry>) -> Self {
        let (from, incoming) = mpsc::channel(64);
        let (outgoing, to) = mpsc::channel(1_024);
        let hello =
            BrowserHello { webp: true, width: 1_280, height: 900, ..BrowserHello::default() };
        let viewer = Viewer {
            hello,
            token: "token".to_owned(),
            visitor: Visitor::default(),
            trace: None,
            incoming,
            outgoing,
        };
        registry.add(SESSION, viewer).await;
        Self { from, to, size: None, frames: 0, pixels_bytes: 0, status: Vec::new() }
    }

    /// Takes messages and acknowledges frames until `enough`.
    async fn until(&mut self, enough: impl Fn(&Self) -> bool) -> Option<CloseCode> {
        let taking = async {
            while !enough(self) {
                match self.to.recv().await.unwrap() {
                    ToViewer::Message(message) => self.take(&message).await,
                    ToViewer::Close(code, _text) => return Some(code),
                }
            }
            None
        };
        tokio::time::timeout(WAIT_SECS_MAX, taking).await.unwrap()
    }

    async fn take(&mut self, message: &[u8]) {
        // The session may have ended right after its last message: nobody listens then.
        drop(self.from.send(FromViewer::Sent(message.len())).await);
        for (kind, body) in records(message) {
            let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
            match kind {
                2 => self.size = Some((word(0), word(4))),
                5 | 6 => self.pixels_bytes += body.len(),
                7 => {
                    self.frames += 1;
                    let draw_time = Duration::from_millis(1);
                    let ack = ViewerMessage::Ack { sequence: word(0), draw_time };
                    drop(self.from.send(FromViewer::Records(vec![ack])).await);
                }
                12 => self.status.push(body[0]),
                _ => {}
            }
        }
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    registry: Arc<Registry>,
    tickets: Arc<Counted>,
    endings: mpsc::Sender<Said>,
    presence: watch::Receiver<vidi_gateway::ports::Presence>,
}

fn stage() -> Stage {
    stage_that_keeps(None)
}

fn stage_that_keeps(recordings: Option<Arc<dyn Recordings>>) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("spice");
    let tickets = Arc::new(Counted::default());
    let (presence_sender, presence) = watch::channel(Default::default());
    let (endings, endings_receiver) = mpsc::channel(4);
    let registry = Registry::new(
        Tasks::new(),
        Reach {
            tickets: Arc::clone(&tickets) as Arc<dyn Tickets>,
            dial: Arc::new(Direct { socket: socket.clone() }),
            policy: Policy::default(),
            clock: Clock::system(),
            sharing: true,
            recordings,
        },
        presence_sender,
        endings_receiver,
    );
    Stage { _folder: folder, socket, registry, tickets, endings, presence }
}

#[tokio::test]
async fn a_picture_arrives_and_is_back_after_the_desktop_was_lost() {
    let stage = stage();
    let machine = Machine::start(&stage.socket);
    let mut browser = Browser::open(&stage.registry).await;
    assert_eq!(browser.until(|browser| 0 < browser.pixels_bytes && 0 < browser.frames).await, None);
    assert_eq!(browser.size.unwrap().0 % 8, 0);
    assert!(stage.presence.borrow().contains_key(SESSION));

    drop(machine);
    browser.status.clear();
    assert_eq!(browser.until(|browser| browser.status.contains(&2)).await, None);
    let machine = Machine::start(&stage.socket);
    (browser.pixels_bytes, browser.frames) = (0, 0);
    browser.until(|browser| browser.status.contains(&1) && 0 < browser.pixels_bytes).await;
    assert!(2 <= stage.tickets.0.load(Ordering::SeqCst), "each attachment has its own grant");
    drop(machine);
}

#[tokio::test]
async fn the_newest_viewer_has_the_session_until_the_controller_ends_it() {
    let stage = stage();
    let machine = Machine::start(&stage.socket);
    let mut first = Browser::open(&stage.registry).await;
    assert_eq!(first.until(|browser| 0 < browser.frames).await, None);
    let before = stage.tickets.0.load(Ordering::SeqCst);
    let mut second = Browser::open(&stage.registry).await;
    assert_eq!(first.until(|_| false).await, Some(CloseCode::TakenOver));
    assert_eq!(second.until(|browser| 0 < browser.pixels_bytes).await, None);
    assert_eq!(stage.tickets.0.load(Ordering::SeqCst), before, "the picture was there already");

    let ending = |code, text: &str| {
        let (session, text) = (SESSION.to_owned(), text.to_owned());
        Ending { session, code, text, epoch: None }
    };
    // A word that was on its way while the session was attached here again.
    let late = Ending { epoch: Some(before), ..ending(CloseCode::Ended, "it was elsewhere") };
    stage.endings.send(Said::Ending(late)).await.unwrap();
    let elsewhere = ending(CloseCode::TakenOver, "another gateway has it attached");
    let elsewhere = Ending { epoch: Some(before + 1), ..elsewhere };
    stage.endings.send(Said::Ending(elsewhere)).await.unwrap();
    assert_eq!(second.until(|_| false).await, Some(CloseCode::TakenOver));
    assert!(!second.status.contains(&4), "the session goes on");

    let mut third = Browser::open(&stage.registry).await;
    assert_eq!(third.until(|browser| 0 < browser.pixels_bytes).await, None);
    stage
        .endings
        .send(Said::Ending(ending(CloseCode::Ended, "RELEASED: signed off")))
        .await
        .unwrap();
    assert_eq!(third.until(|_| false).await, Some(CloseCode::Ended));
    assert!(third.status.contains(&4), "the browser is told that the session ended");
    drop(machine);
}

type Begun = (RecordingAbout, mpsc::Receiver<RecordingEntry>, oneshot::Sender<RecordingEnd>);

/// Hands what a recording's file would get to the test.
#[derive(Debug)]
struct Handed(mpsc::Sender<Begun>);

impl Recordings for Handed {
    fn begin(&self, about: RecordingAbout) -> RecordingPipe {
        let (entries, receiver) = mpsc::channel(64);
        let (end, ended) = oneshot::channel();
        self.0.try_send((about, receiver, end)).unwrap();
        RecordingPipe { entries, ended }
    }
}

#[tokio::test]
async fn what_is_always_recorded_goes_on_in_another_file_and_is_tried_again_after_a_fault() {
    let (sender, mut begun) = mpsc::channel(4);
    let stage = stage_that_keeps(Some(Arc::new(Handed(sender))));
    let machine = Machine::start(&stage.socket);
    let mut browser = Browser::open(&stage.registry).await;
    assert_eq!(browser.until(|browser| 0 < browser.frames).await, None);
    // Its policy is changed while it is shown.
    assert!(begun.try_recv().is_err(), "it is not recorded yet");
    let always = Terms { recording: Recording::Always, ..Terms::default() };
    stage.registry.follow(SESSION, always);
    let (about, mut entries, end) = begun.recv().await.unwrap();
    assert_eq!(about.session, SESSION);
    assert!(entries.recv().await.is_some_and(|entry| !entry.message.is_empty()));
    // It is as long as one may be: not a moment is left out.
    end.send(RecordingEnd::Full("it is long".to_owned())).unwrap();
    drop(entries);
    let next = tokio::time::timeout(Duration::from_secs(10), begun.recv());
    let (_, mut entries, end) = next.await.unwrap().unwrap();
    assert!(entries.recv().await.is_some_and(|entry| !entry.message.is_empty()));
    // What cannot be kept is tried again after a while; from here on the clock is virtual.
    end.send(RecordingEnd::Fault("the disk is full".to_owned())).unwrap();
    drop(entries);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(begun.try_recv().is_err(), "a full disk is not asked again and again");
    tokio::time::pause();
    let next = tokio::time::timeout(Duration::from_secs(90), begun.recv());
    drop(next.await.unwrap().unwrap());
    drop(machine);
}
