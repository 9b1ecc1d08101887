//! Guests of a session: they ask, its user answers, rights change, and nobody looks unseen. The desktop
//! is never reached here: people are told of each other all the same. The clock is virtual.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is a failed test"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use vidi_display::protocol::{
    BrowserHello, Part, SharingMessage, UserMessage, ViewerMessage, records,
};
use vidi_display::{Policy, ViewerRights};
use vidi_gateway::error::GatewayError;
use vidi_gateway::model::{CloseCode, Said, Visitor};
use vidi_gateway::ports::{Attachment, Dial, Presence, Ticket, Tickets};
use vidi_gateway::reconcile::registry::{FromViewer, Reach, Registry, ToViewer, Viewer};
use vidi_kit::{Clock, Tasks};

const SESSION: &str = "tenants/default/sessions/0198c1a2-0000-7000-8000-000000000001";
/// Longer than anything here takes but for what is waited for; the clock jumps there.
const QUIET: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Away;

#[async_trait]
impl Tickets for Away {
    async fn ticket(&self, _: &str, _: &str, _: &str) -> Result<Ticket, GatewayError> {
        std::future::pending().await
    }
}

#[async_trait]
impl Dial for Away {
    async fn attach(&self, _ticket: &Ticket) -> Result<Box<dyn Attachment>, GatewayError> {
        unreachable!("there is no ticket")
    }
}

/// The session, until its registry is dropped.
struct Stage {
    registry: Arc<Registry>,
    said: mpsc::Sender<Said>,
    _presence: watch::Receiver<Presence>,
}

fn stage(sharing: bool) -> Stage {
    let (presence, told) = watch::channel(Presence::new());
    let (said, heard) = mpsc::channel(1);
    let reach = Reach {
        tickets: Arc::new(Away),
        dial: Arc::new(Away),
        policy: Policy::default(),
        clock: Clock::system(),
        sharing,
        recordings: None,
    };
    let registry = Registry::new(Tasks::new(), reach, presence, heard);
    Stage { registry, said, _presence: told }
}

/// What a browser was told last.
#[derive(Debug, Default)]
struct Told {
    /// Of each hello: whether it may type.
    hellos: Vec<bool>,
    /// Name, rights, bits and part.
    people: Vec<(String, u8, u8, u8)>,
    /// Number, for what, and name.
    requests: Vec<(u32, u8, String)>,
    viewers: Vec<u32>,
    /// The bodies of the records with messages of people.
    messages: Vec<Vec<u8>>,
    status: String,
    closed: Option<(CloseCode, String)>,
}

struct Browser {
    from: mpsc::Sender<FromViewer>,
    to: mpsc::Receiver<ToViewer>,
    told: Told,
}

impl Browser {
    async fn open(stage: &Stage, name: &str, part: Part) -> Self {
        let (from, incoming) = mpsc::channel(64);
        let (outgoing, to) = mpsc::channel(1_024);
        let hello = BrowserHello {
            webp: true,
            h264: false,
            palette: true,
            opus: false,
            tile_cache_bytes: 0,
            width: 1_280,
            height: 900,
        };
        let visitor =
            Visitor { user: format!("tenants/default/users/{name}"), name: name.to_owned(), part };
        let token = "token".to_owned();
        let viewer = Viewer { hello, token, visitor, trace: None, incoming, outgoing };
        stage.registry.add(SESSION, viewer).await;
        let mut browser = Self { from, to, told: Told::default() };
        browser.listen().await;
        browser
    }

    async fn say(&self, message: SharingMessage) {
        let message = ViewerMessage::Sharing(message);
        self.from.send(FromViewer::Records(vec![message])).await.unwrap();
    }

    /// Takes all that is told until it is quiet.
    async fn listen(&mut self) -> &Told {
        while let Ok(Some(told)) = timeout(QUIET, self.to.recv()).await {
            match told {
                ToViewer::Message(message) => {
                    drop(self.from.send(FromViewer::Sent(message.len())).await);
                    self.take(&message);
                }
                ToViewer::Close(code, text) => self.told.closed = Some((code, text)),
            }
        }
        &self.told
    }

    fn take(&mut self, message: &[u8]) {
        for (kind, body) in records(message) {
            match kind {
                1 => self.told.hellos.push(body[2] & 1 == 1),
                2..=7 => panic!("a picture came that there is none of"),
                12 => self.told.status = String::from_utf8_lossy(&body[1..]).into_owned(),
                24 => {
                    self.told.viewers = entries(body).map(|entry| entry.0).collect();
                    let people = entries(body).map(|(_, [a, b, c], name)| (name, a, b, c));
                    self.told.people = people.collect();
                }
                25 => {
                    let requests =
                        entries(body).map(|(number, [what, ..], name)| (number, what, name));
                    self.told.requests = requests.collect();
                }
                31 => self.told.messages.push(body.to_vec()),
                _ => {}
            }
        }
    }
}

fn entries(mut body: &[u8]) -> impl Iterator<Item = (u32, [u8; 3], String)> {
    std::iter::from_fn(move || {
        let (head, rest) = body.split_at_checked(8)?;
        let (name, next) = rest.split_at(head[7].into());
        body = next;
        let number = u32::from_le_bytes(head[..4].try_into().unwrap());
        Some((number, head[4..7].try_into().unwrap(), String::from_utf8(name.to_vec()).unwrap()))
    })
}

fn named(name: &str, rights: u8, bits: u8, part: u8) -> (String, u8, u8, u8) {
    (name.to_owned(), rights, bits, part)
}

#[tokio::test(start_paused = true)]
async fn a_colleague_waits_until_the_user_lets_in_and_has_what_rights_the_user_gives() {
    let stage = stage(true);
    let mut ana = Browser::open(&stage, "ana", Part::Owner).await;
    assert_eq!(ana.told.people, [named("ana", 1, 3, 0)]);
    let mut ben = Browser::open(&stage, "ben", Part::Colleague).await;
    assert_eq!((ben.told.hellos.as_slice(), ben.told.people.len()), (&[false][..], 0));
    assert!(ben.told.status.starts_with("ASKING: "), "{}", ben.told.status);
    ana.listen().await;
    assert_eq!(ana.told.requests, [(1, 1, "ben".to_owned())]);
    assert_eq!(ana.told.people.len(), 1, "who asks is not here");
    // Who is asked for cannot answer for the user.
    ben.say(SharingMessage::Answer { request: 1, rights: Some(ViewerRights::Control) }).await;
    assert_eq!(ben.listen().await.hellos, [false]);

    ana.say(SharingMessage::Answer { request: 1, rights: Some(ViewerRights::Look) }).await;
    assert_eq!(ben.listen().await.people, [named("ana", 1, 2, 0), named("ben", 0, 1, 1)]);
    assert_eq!(ben.told.hellos, [false, false]);
    ana.listen().await;
    assert!(ana.told.requests.is_empty());
    let viewer = ana.told.viewers[1];

    ben.say(SharingMessage::Control { wanted: true }).await;
    let (request, what, _) = ana.listen().await.requests[0].clone();
    assert_eq!(what, 2);
    ana.say(SharingMessage::Answer { request, rights: Some(ViewerRights::Control) }).await;
    assert_eq!(ben.listen().await.hellos.last(), Some(&true));
    ben.say(SharingMessage::Control { wanted: false }).await;
    assert_eq!(ben.listen().await.hellos.last(), Some(&false));

    ana.say(SharingMessage::Rights { viewer, rights: None }).await;
    let closed = ben.listen().await.closed.clone().unwrap();
    assert_eq!(closed.0, CloseCode::LetGo);
    assert!(ben.told.status.starts_with("REMOVED: "), "a page knows no text of a close frame");
    assert_eq!(ana.listen().await.people.len(), 1);
    let again = Browser::open(&stage, "ben", Part::Colleague).await;
    assert!(again.told.status.starts_with("TOO_MANY: "), "who was sent away waits a minute");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_or_not_answered_is_let_go_and_asks_only_so_often() {
    let stage = stage(true);
    let mut ana = Browser::open(&stage, "ana", Part::Owner).await;
    let mut hal = Browser::open(&stage, "hal", Part::HelpDesk).await;
    let request = ana.listen().await.requests[0].0;
    ana.say(SharingMessage::Answer { request, rights: None }).await;
    assert!(hal.listen().await.status.starts_with("REFUSED_BY_USER: "));
    let mut ben = Browser::open(&stage, "ben", Part::Colleague).await;
    assert!(ben.told.status.starts_with("ASKING: "), "{}", ben.told.status);
    sleep(Duration::from_secs(61)).await;
    assert!(ben.listen().await.status.starts_with("NOT_ANSWERED: "));
    assert_eq!(ben.told.closed.as_ref().unwrap().0, CloseCode::LetGo);
    let _second = Browser::open(&stage, "ben", Part::Colleague).await;
    let third = Browser::open(&stage, "ben", Part::Colleague).await;
    assert!(third.told.status.starts_with("ASKING: "), "{}", third.told.status);
    let fourth = Browser::open(&stage, "ben", Part::Colleague).await;
    assert!(fourth.told.status.starts_with("TOO_MANY: "), "{}", fourth.told.status);
    let names = ["a", "b", "c"];
    let mut asking = Vec::new();
    for name in names {
        asking.push(Browser::open(&stage, name, Part::Colleague).await);
    }
    let fifth = Browser::open(&stage, "e", Part::Colleague).await;
    assert!(fifth.told.status.starts_with("TOO_MANY: "));
    assert_eq!(ana.listen().await.requests.len(), names.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn without_its_user_a_session_lets_nobody_in_and_guests_lose_control_and_go() {
    let stage = stage(true);
    let early = Browser::open(&stage, "ben", Part::Colleague).await;
    assert!(early.told.status.starts_with("USER_AWAY: "));
    let mut ana = Browser::open(&stage, "ana", Part::Owner).await;
    let mut ben = Browser::open(&stage, "ben", Part::Colleague).await;
    let request = ana.listen().await.requests[0].0;
    ana.say(SharingMessage::Answer { request, rights: Some(ViewerRights::Control) }).await;
    assert_eq!(ben.listen().await.hellos.last(), Some(&true));

    // The user's other window takes over; guests notice nothing.
    let mut other = Browser::open(&stage, "ana", Part::Owner).await;
    assert_eq!(ana.listen().await.closed.as_ref().unwrap().0, CloseCode::TakenOver);
    assert_eq!(ben.listen().await.hellos.last(), Some(&true));
    assert_eq!(other.listen().await.people.len(), 2);

    other.from.send(FromViewer::Gone).await.unwrap();
    assert_eq!(ben.listen().await.hellos.last(), Some(&false));
    assert_eq!(ben.told.people, [named("ben", 0, 1, 1)]);
    sleep(Duration::from_secs(30)).await;
    let back = Browser::open(&stage, "ana", Part::Owner).await;
    assert_eq!(ben.listen().await.people.len(), 2);
    back.from.send(FromViewer::Gone).await.unwrap();
    sleep(Duration::from_secs(61)).await;
    assert!(ben.listen().await.status.starts_with("USER_AWAY: "), "{}", ben.told.status);
}

#[tokio::test(start_paused = true)]
async fn who_was_let_in_comes_back_without_a_question() {
    let stage = stage(true);
    let mut ana = Browser::open(&stage, "ana", Part::Owner).await;
    let ben = Browser::open(&stage, "ben", Part::Colleague).await;
    let request = ana.listen().await.requests[0].0;
    ana.say(SharingMessage::Answer { request, rights: Some(ViewerRights::Look) }).await;
    ana.listen().await;
    // Another window of the same person takes the place of the first, with its rights.
    let mut first = ben;
    let ben = Browser::open(&stage, "ben", Part::Colleague).await;
    assert_eq!(first.listen().await.closed.as_ref().unwrap().0, CloseCode::TakenOver);
    assert_eq!(ben.told.people, [named("ana", 1, 2, 0), named("ben", 0, 1, 1)]);
    assert!(ana.listen().await.requests.is_empty());
    ben.from.send(FromViewer::Gone).await.unwrap();
    assert_eq!(ana.listen().await.people.len(), 1);
    let back = Browser::open(&stage, "ben", Part::Colleague).await;
    assert_eq!(back.told.people.len(), 2);
    back.from.send(FromViewer::Gone).await.unwrap();
    sleep(Duration::from_secs(61)).await;
    let late = Browser::open(&stage, "ben", Part::Colleague).await;
    assert!(late.told.status.starts_with("ASKING: "));
    let request = ana.listen().await.requests[0].0;
    ana.say(SharingMessage::Answer { request, rights: Some(ViewerRights::Control) }).await;
    ana.listen().await;
    let back = Browser::open(&stage, "ben", Part::Colleague).await;
    assert_eq!(back.told.people, [named("ana", 1, 2, 0), named("ben", 1, 1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn where_the_gateway_shares_nothing_there_is_nothing_to_ask_for() {
    let stage = stage(false);
    let _ana = Browser::open(&stage, "ana", Part::Owner).await;
    let ben = Browser::open(&stage, "ben", Part::Colleague).await;
    assert_eq!(ben.told.closed.unwrap().0, CloseCode::NotYours);
}

#[tokio::test(start_paused = true)]
async fn messages_of_people_reach_the_user_in_each_window_and_no_guest() {
    let stage = stage(true);
    let mut ana = Browser::open(&stage, "ana", Part::Owner).await;
    let mut ben = Browser::open(&stage, "ben", Part::Colleague).await;
    ana.listen().await;
    ana.say(SharingMessage::Answer { request: 1, rights: Some(ViewerRights::Look) }).await;
    ben.listen().await;
    assert!(ana.told.messages.is_empty());
    let lunch =
        UserMessage { number: 1, at_ms: 9, from: "Eva".to_owned(), text: "Lunch".to_owned() };
    let (session, messages) = (SESSION.to_owned(), vec![lunch]);
    stage.said.send(Said::Messages { session, messages }).await.unwrap();
    let body = b"\x01\0\0\0\x09\0\0\0\0\0\0\0\x03\0Eva\x05\0Lunch".to_vec();
    assert_eq!(ana.listen().await.messages, std::slice::from_ref(&body));
    assert!(ben.listen().await.messages.is_empty());
    let again = Browser::open(&stage, "ana", Part::Owner).await;
    assert_eq!(again.told.messages, [body], "a new window is told, too");
    let session = "tenants/default/sessions/another".to_owned();
    stage.said.send(Said::Messages { session, messages: Vec::new() }).await.unwrap();
}
