//! The relay against a real gateway's TLS and an agent's socket: who gets in, and what bytes do.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use support::{Authority, FakeAgent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use vidi_agent::rpc::agent_line::AgentLine;
use vidi_agent::rpc::relay_service::RelayService;
use vidi_hypervisor::SpiceReader;
use vidi_kit::clock::boottime_ms;
use vidi_kit::grant::GrantSigner;
use vidi_kit::ids::{DesktopId, SessionId};
use vidi_kit::tls::{Identity, Role, dns_name};
use vidi_kit::transport::connect_tls;
use vidi_kit::{Clock, Tasks};
use vidi_proto::v1::relay_client::RelayClient;
use vidi_proto::v1::{
    AttachEvent, AttachRequest, ChannelRequest, ChannelResponse, GrantClaims, RelayPolicy,
    RelaySession,
};

const GATEWAY: &str = "edge-1";
const HOST: &str = "host-1";

struct Scene {
    tasks: Tasks,
    authority: Arc<Authority>,
    signer: GrantSigner,
    agent: FakeAgent,
    address: SocketAddr,
    session: SessionId,
    desktop: DesktopId,
    folder: tempfile::TempDir,
}

type Client = RelayClient<Channel>;

impl Scene {
    async fn new() -> Self {
        let tasks = Tasks::new();
        let authority = Arc::new(Authority::new());
        let signer = GrantSigner::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (session, desktop) = (SessionId::generate(), DesktopId::generate());
        let policy = RelayPolicy {
            grant_keys: vec![signer.public_key()],
            installation_id: authority.installation.to_string(),
            host: HOST.to_owned(),
            clock_offset_ms: Clock::system().now_ms() - boottime_ms(),
            sessions: vec![RelaySession {
                session: session.to_string(),
                desktop: desktop.to_string(),
                epoch: 1,
            }],
            sessions_known: true,
        };
        let socket = folder.path().join("relay.sock");
        let agent = FakeAgent::start(&tasks, Arc::clone(&authority), &socket, policy);
        let state = folder.path().to_owned();
        let (line, mut news) = AgentLine::start(&tasks, Clock::system(), socket, state);
        let identity = news.identity.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        news.policy.wait_for(Option::is_some).await.unwrap();
        let listener = vidi_kit::transport::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = RelayService::start(&tasks, line, news.policy, 0);
        let (_keep, identity) = watch::channel(identity);
        let _serving = tasks.spawn("relay", service.serve(listener, identity));
        Self { tasks, authority, signer, agent, address, session, desktop, folder }
    }

    async fn dial(&self, identity: &Identity) -> Result<Client, tonic::transport::Error> {
        let config = identity.client_config().unwrap();
        let name = dns_name(Role::Relay, HOST);
        let channel = connect_tls(&self.address.to_string(), &name, config).await?;
        Ok(RelayClient::new(channel))
    }

    async fn gateway(&self) -> Client {
        self.dial(&self.authority.identity(Role::Gateway, GATEWAY)).await.unwrap()
    }

    fn claims(&self, epoch: u64) -> GrantClaims {
        GrantClaims {
            installation_id: self.authority.installation.to_string(),
            gateway: GATEWAY.to_owned(),
            session: self.session.to_string(),
            desktop: self.desktop.to_string(),
            host: HOST.to_owned(),
            epoch,
            expire_ms: Clock::system().now_ms() + 30_000,
            user: "ana".to_owned(),
            trace: String::new(),
        }
    }

    async fn attach(&self, client: &mut Client, epoch: u64) -> Streaming<AttachEvent> {
        let grant = self.signer.sign(&self.claims(epoch));
        let mut events = client.attach(AttachRequest { grant }).await.unwrap().into_inner();
        assert_eq!(events.message().await.unwrap().unwrap().epoch, epoch);
        events
    }
}

async fn refusal(client: &mut Client, grant: Vec<u8>) -> Status {
    client.attach(AttachRequest { grant }).await.expect_err("it has to be refused")
}

async fn open_channel(
    client: &mut Client,
) -> Result<(mpsc::Sender<ChannelRequest>, Streaming<ChannelResponse>), Status> {
    let (sender, requests) = mpsc::channel(4);
    sender.send(ChannelRequest::default()).await.unwrap();
    let answers = client.channel(ReceiverStream::new(requests)).await?.into_inner();
    Ok((sender, answers))
}

type Bend = fn(&mut GrantClaims);

#[tokio::test]
async fn only_the_grant_that_was_given_is_accepted_and_only_once() {
    let scene = Scene::new().await;
    let mut client = scene.gateway().await;
    let table: [(Bend, Code, &str); 8] = [
        (|it| it.gateway = "edge-2".to_owned(), Code::PermissionDenied, "another gateway"),
        (|it| it.host = "host-2".to_owned(), Code::PermissionDenied, "another host"),
        (
            |it| it.installation_id = SessionId::generate().to_string(),
            Code::PermissionDenied,
            "another installation",
        ),
        (
            |it| it.session = SessionId::generate().to_string(),
            Code::PermissionDenied,
            "session has ended",
        ),
        (
            |it| it.desktop = DesktopId::generate().to_string(),
            Code::PermissionDenied,
            "another desktop",
        ),
        (|it| it.expire_ms -= 31_000, Code::Unauthenticated, "expired"),
        (|it| it.epoch = 0, Code::FailedPrecondition, "newer one"),
        (|it| it.session = "x".to_owned(), Code::Unauthenticated, "malformed"),
    ];
    for (bend, code, text) in table {
        let mut claims = scene.claims(5);
        bend(&mut claims);
        let status = refusal(&mut client, scene.signer.sign(&claims)).await;
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    let good = scene.signer.sign(&scene.claims(5));
    let mut bent = good.clone();
    // The last bytes are the key, before them stands the signature.
    let place = bent.len() - 50;
    bent[place] ^= 1;
    let status = refusal(&mut client, bent).await;
    assert_eq!(
        (status.code(), status.message().contains("signature")),
        (Code::Unauthenticated, true)
    );
    let stranger = GrantSigner::generate().unwrap().sign(&scene.claims(5));
    let status = refusal(&mut client, stranger).await;
    assert!(status.message().contains("unknown key"), "{status:?}");
    let status = refusal(&mut client, vec![7; 5_000]).await;
    assert!(status.message().contains("malformed"), "{status:?}");

    let events = client.attach(AttachRequest { grant: good.clone() }).await.unwrap();
    let mut other = scene.gateway().await;
    let status = refusal(&mut other, good.clone()).await;
    assert!(status.message().contains("used already"), "{status:?}");
    drop(events);
    let status = refusal(&mut other, good).await;
    assert_eq!(status.code(), Code::FailedPrecondition, "replayed after detaching: {status:?}");
    scene.tasks.stop_token().cancel();
}

#[tokio::test]
async fn only_gateways_of_this_installation_reach_the_service() {
    let scene = Scene::new().await;
    let grant = scene.signer.sign(&scene.claims(2));
    for role in [Role::Agent, Role::Relay, Role::Controller] {
        let mut client = scene.dial(&scene.authority.identity(role, GATEWAY)).await.unwrap();
        let status = refusal(&mut client, grant.clone()).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(status.message().contains("only gateways"), "{status:?}");
    }
    // No certificate, and one of another authority: TLS itself refuses, at the latest in the call.
    let stranger = Authority::new();
    let mut foreign = stranger.identity(Role::Gateway, GATEWAY);
    foreign.cas = scene.authority.identity(Role::Gateway, GATEWAY).cas;
    let anonymous =
        vidi_kit::tls::anonymous_client_config(std::slice::from_ref(&scene.authority.certificate))
            .unwrap();
    for config in [foreign.client_config().unwrap(), anonymous] {
        let name = dns_name(Role::Relay, HOST);
        if let Ok(channel) = connect_tls(&scene.address.to_string(), &name, config).await {
            let status = refusal(&mut RelayClient::new(channel), grant.clone()).await;
            assert_ne!(status.code(), Code::PermissionDenied, "it came through: {status:?}");
        }
    }
    // The grant was not used up by any of them.
    let mut client = scene.gateway().await;
    let _events = scene.attach(&mut client, 2).await;
    scene.tasks.stop_token().cancel();
}

#[tokio::test]
async fn a_channel_needs_an_attachment_and_keeps_to_its_limits() {
    let scene = Scene::new().await;
    let mut client = scene.gateway().await;
    let status = open_channel(&mut client).await.map(drop).expect_err("not attached");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("attach"), "{status:?}");
    let _events = scene.attach(&mut client, 1).await;
    let mut channels = Vec::new();
    for _ in 0..32 {
        channels.push(open_channel(&mut client).await.unwrap());
    }
    let status = open_channel(&mut client).await.map(drop).expect_err("one too many");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let (sender, mut answers) = channels.pop().unwrap();
    let data = vec![0; (256 << 10) + 1].into();
    sender.send(ChannelRequest { data, ..Default::default() }).await.unwrap();
    let status = answers.message().await.expect_err("too much at once");
    assert!(status.message().contains("more than 262144 bytes"), "{status:?}");
    let (sender, mut answers) = channels.pop().unwrap();
    let data = vec![0; 1 << 20].into();
    sender.send(ChannelRequest { data, ..Default::default() }).await.unwrap();
    let status = answers.message().await.expect_err("far too much at once");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    // The other channels and the attachment go on.
    let (sender, mut answers) = channels.pop().unwrap();
    let data = b"x".to_vec().into();
    sender.send(ChannelRequest { data, ..Default::default() }).await.unwrap();
    let peers = std::mem::take(&mut *scene.agent.peers.lock().unwrap());
    drop(peers);
    assert!(answers.message().await.unwrap_or(None).is_none());
    scene.tasks.stop_token().cancel();
}

#[tokio::test]
async fn a_higher_epoch_takes_over_and_a_session_that_ends_is_cut_within_a_second() {
    let scene = Scene::new().await;
    let mut first = scene.gateway().await;
    let mut first_events = scene.attach(&mut first, 1).await;
    let (_sender, mut first_answers) = open_channel(&mut first).await.unwrap();
    let mut second = scene.gateway().await;
    let mut second_events = scene.attach(&mut second, 2).await;
    for status in [
        first_events.message().await.expect_err("taken over"),
        first_answers.message().await.expect_err("taken over"),
    ] {
        assert_eq!(status.code(), Code::Aborted);
        assert!(status.message().contains("newer grant"), "{status:?}");
    }
    let (sender, mut answers) = open_channel(&mut second).await.unwrap();
    let began = tokio::time::Instant::now();
    scene.agent.policy.send_modify(|policy| policy.sessions.clear());
    for status in [
        second_events.message().await.expect_err("ended"),
        answers.message().await.expect_err("ended"),
    ] {
        assert!(status.message().contains("session has ended"), "{status:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(sender);
    let status = open_channel(&mut second).await.map(drop).expect_err("no longer attached");
    assert_eq!(status.code(), Code::FailedPrecondition);
    scene.tasks.stop_token().cancel();
}

#[tokio::test]
async fn a_grant_may_arrive_before_the_news_of_its_session() {
    let scene = Scene::new().await;
    let sessions = scene.agent.policy.borrow().sessions.clone();
    scene.agent.policy.send_modify(|policy| policy.sessions.clear());
    let mut client = scene.gateway().await;
    let news = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.agent.policy.send_modify(|policy| policy.sessions = sessions);
    };
    let (_events, ()) = tokio::join!(scene.attach(&mut client, 1), news);
    scene.tasks.stop_token().cancel();
}

/// Resident memory of this process, MiB.
fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4 / 1_024
}

fn pattern(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length).map(|at| ((at * 31) ^ (at >> 11)) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_carries_64_mib_unchanged_past_a_slow_reader_without_holding_them() {
    const TOTAL: usize = 64 << 20;
    const CHUNK: usize = 64 << 10;
    let scene = Scene::new().await;
    let mut client = scene.gateway().await;
    let _events = scene.attach(&mut client, 1).await;
    let (sender, mut answers) = open_channel(&mut client).await.unwrap();
    let (desktop, peer) = scene.agent.peer().await;
    assert_eq!(desktop, scene.desktop.to_string());
    // The desktop's end sends back what it gets.
    let (mut reading, mut writing) = peer.into_split();
    let _echo = scene.tasks.spawn("echo", async move {
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
        writing.shutdown().await.unwrap();
    });
    let before = resident_mib();
    let _sending = scene.tasks.spawn("send", async move {
        for offset in (0..TOTAL).step_by(CHUNK) {
            let data = pattern(offset, CHUNK).into();
            sender.send(ChannelRequest { data, ..Default::default() }).await.unwrap();
        }
    });
    let (mut received, mut most) = (0, 0);
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.data.len() <= 256 << 10);
        assert!(answer.data == pattern(received, answer.data.len()), "bytes differ at {received}");
        received += answer.data.len();
        if received < 8 << 20 {
            // Slow at first: everything behind has to wait, not to pile up.
            tokio::time::sleep(Duration::from_millis(5)).await;
            most = most.max(resident_mib());
        }
    }
    assert_eq!(received, TOTAL, "the half that was closed did not end the other one early");
    assert!(most < before + 40, "{before} MiB grew to {most} MiB");
    scene.tasks.stop_token().cancel();
}

#[tokio::test]
async fn a_relay_keeps_its_certificate_and_a_channel_waits_for_an_agent_that_is_back() {
    let scene = Scene::new().await;
    assert_eq!(*scene.agent.certificates.borrow(), 1);
    let tasks = Tasks::new();
    let folder = scene.folder.path();
    let socket = folder.join("later.sock");
    let (line, mut news) =
        AgentLine::start(&tasks, Clock::system(), socket.clone(), folder.to_owned());
    // A restarted relay: the same certificate, at once, with no agent there.
    assert!(news.identity.borrow().is_some());
    let opening = {
        let (line, desktop) = (line.clone(), scene.desktop);
        tasks.spawn("open", async move { line.open_spice(desktop, None, SpiceReader::Edge).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let policy = scene.agent.policy.borrow().clone();
    let agent = FakeAgent::start(&tasks, Arc::clone(&scene.authority), &socket, policy);
    news.policy.wait_for(Option::is_some).await.unwrap();
    let opened = opening.await.unwrap().unwrap();
    let mut ours = opened.unwrap();
    let (_, mut peer) = agent.peer().await;
    ours.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
    assert_eq!(*agent.certificates.borrow(), 0, "it has one and asks for none");
    tasks.stop_token().cancel();
    scene.tasks.stop_token().cancel();
}

#[tokio::test]
async fn a_gateway_that_goes_away_frees_its_place() {
    let scene = Scene::new().await;
    let mut client = scene.gateway().await;
    let events = scene.attach(&mut client, 1).await;
    let (sender, answers) = open_channel(&mut client).await.unwrap();
    let (_, mut peer) = scene.agent.peer().await;
    drop((events, sender, answers, client));
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), peer.read_to_end(&mut rest)).await;
    ended.expect("the desktop's socket stays open").unwrap();
    scene.tasks.stop_token().cancel();
}
