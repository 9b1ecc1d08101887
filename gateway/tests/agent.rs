//! Clipboard and screen size between a guest's agent and a browser, through the session's task. The
//! test plays the guest: the server's side of SPICE on four channels, and the agent behind it. The
//! clock is virtual.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use vidi_display::Policy;
use vidi_display::protocol::{BrowserHello, ClipboardPart, ViewerMessage, records};
use vidi_gateway::error::GatewayError;
use vidi_gateway::model::{Terms, Visitor};
use vidi_gateway::ports::{
    Attachment, CHUNKS_MAX, ChannelPipe, Dial, RelayTicket, Ticket, Tickets, Way,
};
use vidi_gateway::reconcile::registry::{FromViewer, Reach, Registry, ToViewer, Viewer};
use vidi_kit::{Clock, Tasks};
use vidi_spice::ClipboardKind;

const SESSION: &str = "tenants/default/sessions/0198c1a2-0000-7000-8000-000000000001";
/// Longer than anything here takes; the clock jumps there when nothing happens.
const QUIET: Duration = Duration::from_secs(10);
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A public key of 1024 bits, made for this test: that of no server.
const PUBLIC_KEY: &str = "30819f300d06092a864886f70d010101050003818d0030818902818100e03498d7d8a84f\
    78fc71ed7aa38aee9b7069681c68569fd78b5baedcd67d8db5f9cb387b771331283594659794ea8a4663db46f06803\
    979bd0ccab5f77be0fee4cd06999cc3bcae4e44e5b818824c1cc1720d107b36f7ea578302fac6c72eaabf8c8585638\
    0c1ef34b0a59ebda4756920137a950de506b874a6f222971d287710203010001";

/// Monitors, clipboard by demand, selections, limit, no release on regrab, serials.
const CAPABILITIES: u32 = 1 << 1 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 16 | 1 << 17;

/// The guest's end of a channel.
#[derive(Debug)]
struct End {
    to: mpsc::Sender<Bytes>,
    from: mpsc::Receiver<Bytes>,
    read: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Opens(mpsc::Sender<End>);

#[async_trait]
impl Dial for Opens {
    async fn attach(&self, _ticket: &Ticket) -> Result<Box<dyn Attachment>, GatewayError> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Attachment for Opens {
    async fn open(&self) -> Result<ChannelPipe, GatewayError> {
        let (send, from) = mpsc::channel(CHUNKS_MAX);
        let (to, receive) = mpsc::channel(CHUNKS_MAX);
        self.0.send(End { to, from, read: Vec::new() }).await.unwrap();
        Ok(ChannelPipe { receive, send })
    }

    async fn ended(&self) -> String {
        std::future::pending().await
    }
}

#[derive(Debug)]
struct Granted;

#[async_trait]
impl Tickets for Granted {
    async fn ticket(
        &self,
        _token: &str,
        _session: &str,
        _problem: &str,
    ) -> Result<Ticket, GatewayError> {
        let (address, name) = (String::new(), String::new());
        Ok(Ticket {
            epoch: 1,
            way: Way::Relay(RelayTicket { grant: Vec::new(), address, name }),
            terms: Terms::default(),
        })
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap()
}

impl End {
    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            self.read.extend(self.from.recv().await.expect("the channel is closed"));
        }
        self.read.drain(..count).collect()
    }

    /// `spice/protocol.h`: the server's side of the handshake; any password will do.
    async fn link(mut self) -> Self {
        const COMMON: u32 = 0b1011;
        let head = self.bytes(16).await;
        self.bytes(index(word(&head, 12))).await;
        let key: Vec<u8> = (0..PUBLIC_KEY.len() / 2)
            .map(|at| u8::from_str_radix(&PUBLIC_KEY[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let reply = [words(&[0]), key, words(&[1, 1, 178, COMMON, 0x1052])].concat();
        let size = u32::try_from(reply.len()).unwrap();
        let head = [b"REDQ".to_vec(), words(&[2, 2, size])].concat();
        self.to.send([head, reply].concat().into()).await.unwrap();
        self.bytes(4 + 128).await;
        self.to.send(words(&[0]).into()).await.unwrap();
        self
    }

    async fn say(&self, kind: u16, body: &[u8]) {
        let size = u32::try_from(body.len()).unwrap();
        let message = [&kind.to_le_bytes(), &size.to_le_bytes()[..], body].concat();
        self.to.send(message.into()).await.unwrap();
    }

    async fn message(&mut self) -> (u16, Vec<u8>) {
        let head = self.bytes(6).await;
        let kind = u16::from_le_bytes([head[0], head[1]]);
        (kind, self.bytes(index(word(&head, 2))).await)
    }
}

/// A guest with a screen of 1024 x 768.
struct Guest {
    main: End,
    display: End,
    _others: [End; 2],
    /// The agent's bytes that came.
    agent: Vec<u8>,
}

impl Guest {
    async fn boot(opened: &mut mpsc::Receiver<End>) -> Self {
        let main = Self::main(opened).await;
        main.say(104, &[3, 0, 0, 0, 2, 0, 3, 0, 4, 0]).await;
        let display = opened.recv().await.unwrap().link().await;
        let inputs = opened.recv().await.unwrap().link().await;
        let cursor = opened.recv().await.unwrap().link().await;
        let guest = Self { main, display, _others: [inputs, cursor], agent: Vec::new() };
        guest.screen(1024, 768).await;
        guest
    }

    /// A main channel whose session is told, and its channels not yet.
    async fn main(opened: &mut mpsc::Receiver<End>) -> End {
        let mut main = opened.recv().await.unwrap().link().await;
        main.say(103, &words(&[7, 1, 3, 2, 1, 10, 0, 0])).await;
        assert_eq!(main.message().await.0, 104, "ATTACH_CHANNELS");
        main
    }

    async fn screen(&self, width: u32, height: u32) {
        self.display.say(314, &words(&[0, width, height, 32, 1])).await;
    }

    /// Answers the client's capabilities.
    async fn greet(&mut self) {
        let (kind, announced) = self.told().await.unwrap();
        assert_eq!(
            (kind, word(&announced, 0)),
            (6, 1),
            "capabilities come first, and ask for ours"
        );
        self.says(6, &words(&[0, CAPABILITIES])).await;
        assert_eq!(self.told().await.unwrap(), (14, words(&[8 << 20])), "MAX_CLIPBOARD");
    }

    /// The agent says something.
    async fn says(&self, kind: u32, body: &[u8]) {
        let size = u32::try_from(body.len()).unwrap();
        let message = [&words(&[1, kind, 0, 0, size]), body].concat();
        for chunk in message.chunks(2048) {
            self.main.say(109, chunk).await;
        }
    }

    /// What the agent is told next, if anything; each chunk is paid back.
    async fn told(&mut self) -> Option<(u32, Vec<u8>)> {
        timeout(QUIET, async {
            loop {
                let size = if self.agent.len() < 20 { 0 } else { index(word(&self.agent, 16)) };
                if (20 + size..).contains(&self.agent.len()) {
                    let message: Vec<u8> = self.agent.drain(..20 + size).collect();
                    return (word(&message, 4), message[20..].to_vec());
                }
                let (kind, chunk) = self.main.message().await;
                if kind == 107 {
                    assert!(chunk.len() <= 2048);
                    self.agent.extend(chunk);
                    self.main.say(110, &words(&[1])).await;
                }
            }
        })
        .await
        .ok()
    }
}

/// A browser, as far as the session can tell.
struct Browser {
    from: mpsc::Sender<FromViewer>,
    to: mpsc::Receiver<ToViewer>,
    frames: u32,
    abilities: Vec<u8>,
    /// Kind, whether more follows, bytes.
    copied: Vec<(u8, bool, Vec<u8>)>,
}

impl Browser {
    async fn open(registry: &Arc<Registry>, width: u16, height: u16) -> Self {
        let (from, incoming) = mpsc::channel(64);
        let (outgoing, to) = mpsc::channel(1_024);
        let hello = BrowserHello { webp: true, width, height, ..BrowserHello::default() };
        let viewer = Viewer {
            hello,
            token: "token".to_owned(),
            visitor: Visitor::default(),
            trace: None,
            incoming,
            outgoing,
        };
        registry.add(SESSION, viewer).await;
        Self { from, to, frames: 0, abilities: Vec::new(), copied: Vec::new() }
    }

    async fn says(&self, record: ViewerMessage) {
        self.from.send(FromViewer::Records(vec![record])).await.unwrap();
    }

    async fn copies(&self, kind: ClipboardKind, data: &[u8], more: bool) {
        let data = Bytes::copy_from_slice(data);
        self.says(ViewerMessage::Clipboard(ClipboardPart { kind, more, data })).await;
    }

    /// Takes messages and acknowledges frames until `enough`; whether that came.
    async fn until(&mut self, enough: impl Fn(&Self) -> bool) -> bool {
        let taking = async {
            while !enough(self) {
                if let ToViewer::Message(message) = self.to.recv().await.unwrap() {
                    self.take(&message).await;
                }
            }
        };
        timeout(QUIET, taking).await.is_ok()
    }

    async fn take(&mut self, message: &[u8]) {
        self.from.send(FromViewer::Sent(message.len())).await.unwrap();
        for (kind, body) in records(message) {
            match kind {
                7 => {
                    self.frames += 1;
                    let draw_time = Duration::from_millis(1);
                    self.says(ViewerMessage::Ack { sequence: word(body, 0), draw_time }).await;
                }
                14 => self.copied.push((body[0], body[1] & 1 != 0, body[4..].to_vec())),
                // Those of the clipboard and the window; files and sound are other tests' affair.
                15 if self.abilities.last() != Some(&(body[0] & 7)) => {
                    self.abilities.push(body[0] & 7);
                }
                _ => {}
            }
        }
    }

    /// The next whole piece of the guest's clipboard.
    async fn pasted(&mut self) -> Option<(u8, Vec<u8>)> {
        let came = self.until(|browser| browser.copied.last().is_some_and(|part| !part.1)).await;
        let parts = std::mem::take(&mut self.copied);
        came.then(|| {
            assert!(parts.iter().all(|(_, _, data)| data.len() <= 16 << 10));
            (parts[0].0, parts.into_iter().flat_map(|(_, _, data)| data).collect())
        })
    }
}

async fn stage(policy: Policy, size: [u16; 2]) -> (Guest, Browser, Arc<Registry>) {
    let (mut opened, browser, registry) = connecting(policy, size).await;
    let guest = Guest::boot(&mut opened).await;
    (guest, browser, registry)
}

/// A browser whose guest does not answer yet.
async fn connecting(
    policy: Policy,
    [width, height]: [u16; 2],
) -> (mpsc::Receiver<End>, Browser, Arc<Registry>) {
    let (opens, opened) = mpsc::channel(4);
    let (tickets, dial) = (Arc::new(Granted), Arc::new(Opens(opens)));
    let clock = Clock::system();
    let reach = Reach { tickets, dial, policy, clock, sharing: true, recordings: None };
    let (presence, _) = watch::channel(Default::default());
    let (_, endings) = mpsc::channel(1);
    let registry = Registry::new(Tasks::new(), reach, presence, endings);
    let browser = Browser::open(&registry, width, height).await;
    (opened, browser, registry)
}

/// One whose agent has answered and whose browser shows a picture.
async fn ready(policy: Policy) -> (Guest, Browser, Arc<Registry>) {
    let (mut guest, mut browser, registry) = stage(policy, [0, 0]).await;
    guest.greet().await;
    assert!(browser.until(|browser| 0 < browser.frames && browser.abilities.len() == 2).await);
    assert_eq!(browser.abilities[0], 0, "nothing is promised before there is an agent");
    (guest, browser, registry)
}

const TEXT: u32 = 1;
const IMAGE: u32 = 2;

#[tokio::test(start_paused = true)]
async fn what_is_copied_in_the_guest_reaches_the_browser_in_parts() {
    let (mut guest, mut browser, registry) = ready(Policy::default()).await;
    assert_eq!(browser.abilities[1], 7);
    guest.says(7, &words(&[0, 0, IMAGE, TEXT])).await;
    assert_eq!(guest.told().await.unwrap(), (8, words(&[0, TEXT])), "text before pictures");
    let text = "Grüße, ".repeat(10_000);
    guest.says(4, &[words(&[0, TEXT]), text.clone().into_bytes()].concat()).await;
    assert_eq!(browser.pasted().await.unwrap(), (1, text.into_bytes()));

    guest.says(7, &words(&[0, 1, IMAGE])).await;
    assert_eq!(guest.told().await.unwrap(), (8, words(&[0, IMAGE])));
    let image = [PNG, &[7; 100_000]].concat();
    guest.says(4, &[words(&[0, IMAGE]), image.clone()].concat()).await;
    assert_eq!(browser.pasted().await.unwrap(), (2, image));
    guest.says(9, &words(&[0])).await;
    assert_eq!(browser.pasted().await.unwrap(), (1, Vec::new()), "the guest's was emptied");

    let mut second = Browser::open(&registry, 0, 0).await;
    assert!(second.until(|browser| !browser.abilities.is_empty()).await);
    assert_eq!(second.abilities, [7]);
    assert_eq!(second.pasted().await, None, "a new viewer is told nothing old");
}

#[tokio::test(start_paused = true)]
async fn what_the_browser_copies_is_offered_and_given_when_the_guest_asks() {
    let (mut guest, browser, _registry) = ready(Policy::default()).await;
    let text = "Grüße, ".repeat(10_000);
    let (first, second) = text.as_bytes().split_at(60_000);
    browser.copies(ClipboardKind::Text, first, true).await;
    browser.copies(ClipboardKind::Text, second, false).await;
    assert_eq!(guest.told().await.unwrap(), (7, words(&[0, 0, TEXT])), "GRAB");
    for _pasted in 0..2 {
        guest.says(8, &words(&[0, TEXT])).await;
        let given = [words(&[0, TEXT]), text.clone().into_bytes()].concat();
        assert_eq!(guest.told().await.unwrap(), (4, given));
    }
    guest.says(8, &words(&[0, IMAGE])).await;
    assert_eq!(guest.told().await.unwrap(), (4, words(&[0, 0])), "there is no picture");
    assert_eq!(guest.told().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_goes_neither_way() {
    let (mut guest, mut browser, _registry) = ready(Policy::default()).await;
    for _part in 0..18 {
        browser.copies(ClipboardKind::Text, &[b'x'; 60 << 10], true).await;
    }
    browser.copies(ClipboardKind::Text, b"x", false).await;
    assert_eq!(guest.told().await, None);
    browser.copies(ClipboardKind::Text, b"small", false).await;
    assert_eq!(guest.told().await.unwrap(), (7, words(&[0, 0, TEXT])));
    guest.says(7, &words(&[0, 1, TEXT])).await;
    assert_eq!(guest.told().await.unwrap(), (8, words(&[0, TEXT])));
    guest.says(4, &[words(&[0, TEXT]), vec![b'x'; (1 << 20) + 1]].concat()).await;
    assert_eq!(browser.pasted().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_goes_neither_way() {
    let policy =
        Policy { clipboard_to_guest: false, clipboard_from_guest: false, ..Policy::default() };
    let (mut guest, mut browser, _registry) = ready(policy).await;
    assert_eq!(browser.abilities[1], 4);
    browser.copies(ClipboardKind::Text, b"secret", false).await;
    guest.says(7, &words(&[0, 0, TEXT])).await;
    assert_eq!(guest.told().await, None, "it is neither offered nor asked");
    guest.says(4, &[words(&[0, TEXT]), b"secret".to_vec()].concat()).await;
    assert_eq!(browser.pasted().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_goes_in_the_middle_ends_it_and_one_that_comes_begins_anew() {
    let (mut guest, mut browser, _registry) = ready(Policy::default()).await;
    browser.copies(ClipboardKind::Text, b"half", true).await;
    guest.says(7, &words(&[0, 0, TEXT])).await;
    assert_eq!(guest.told().await.unwrap(), (8, words(&[0, TEXT])));
    guest.main.say(109, &[words(&[1, 4, 0, 0, 5000, 0, TEXT]), b"half".to_vec()].concat()).await;
    guest.main.say(108, &words(&[0])).await;
    assert!(browser.until(|browser| browser.abilities.last() == Some(&0)).await);
    guest.main.say(115, &words(&[10])).await;
    guest.greet().await;
    assert!(browser.until(|browser| browser.abilities.last() == Some(&7)).await);
    browser.copies(ClipboardKind::Text, b"half", false).await;
    assert_eq!(guest.told().await, None, "half a piece is none");
    browser.copies(ClipboardKind::Text, b"whole", false).await;
    assert_eq!(guest.told().await.unwrap(), (7, words(&[0, 0, TEXT])));
    assert_eq!(browser.pasted().await, None);
}

/// Width and height of a monitors config.
fn monitor((kind, body): &(u32, Vec<u8>)) -> (u32, u32) {
    assert_eq!((*kind, word(body, 0)), (2, 1), "one monitor");
    (word(body, 12), word(body, 8))
}

#[tokio::test(start_paused = true)]
async fn the_screen_follows_the_window_at_most_every_300_ms() {
    let (mut guest, mut browser, _registry) = stage(Policy::default(), [1281, 900]).await;
    guest.greet().await;
    assert_eq!(monitor(&guest.told().await.unwrap()), (1280, 900), "hello counts");
    guest.screen(1280, 900).await;
    assert!(browser.until(|browser| 0 < browser.frames).await);
    sleep(QUIET).await;

    let began = Instant::now();
    let mut told = Vec::new();
    for step in 1..=50 {
        browser.says(ViewerMessage::Window { width: 1280 + 2 * step, height: 900 }).await;
        // What comes in these 20 ms.
        let due = began + Duration::from_millis(20) * u32::from(step);
        while let Ok(Some(message)) = tokio::time::timeout_at(due, guest.told()).await {
            told.push((began.elapsed().as_millis(), monitor(&message)));
        }
    }
    while let Some(message) = guest.told().await {
        told.push((began.elapsed().as_millis(), monitor(&message)));
    }
    assert!((3..=5).contains(&told.len()), "{told:?}");
    assert!(told.windows(2).all(|pair| 300 <= pair[1].0 - pair[0].0), "{told:?}");
    assert_eq!(told.last().unwrap().1, (1380, 900), "the newest");

    guest.screen(1380, 900).await;
    sleep(QUIET).await;
    browser.says(ViewerMessage::Window { width: 1381, height: 900 }).await;
    assert_eq!(guest.told().await, None, "the guest shows that already");
    browser.says(ViewerMessage::Window { width: 5000, height: 100 }).await;
    assert_eq!(monitor(&guest.told().await.unwrap()), (4096, 200));
}

#[tokio::test(start_paused = true)]
async fn a_screen_that_may_not_follow_stays_as_it_is() {
    let policy = Policy { resize: false, ..Policy::default() };
    let (mut guest, mut browser, _registry) = stage(policy, [1280, 900]).await;
    guest.greet().await;
    assert_eq!(guest.told().await, None);
    assert!(browser.until(|browser| browser.abilities.last() == Some(&3)).await);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_speaks_without_end_before_the_channels_are_known_is_refused() {
    const GRABS: u32 = 10_000;
    let (mut opened, _browser, _registry) = connecting(Policy::default(), [0, 0]).await;
    let main = Guest::main(&mut opened).await;
    main.say(109, &words(&[1, 6, 0, 0, 8, 0, CAPABILITIES])).await;
    for serial in 0..GRABS {
        let grab = words(&[1, 7, 0, 0, 12, 0, serial, TEXT]);
        let message = [&109_u16.to_le_bytes(), &32_u32.to_le_bytes()[..], &grab].concat();
        if main.to.send(message.into()).await.is_err() {
            let again = timeout(QUIET, opened.recv()).await;
            assert!(again.unwrap().is_some(), "the desktop is not tried again");
            return;
        }
    }
    panic!("all of it is kept");
}
