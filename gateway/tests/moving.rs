//! A machine that moves from one QEMU to another while somebody looks at it: the session follows where
//! the machine's record has the address, and nowhere else.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure is a failed test"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::sync::{mpsc, watch};
use vidi_display::Policy;
use vidi_display::protocol::{BrowserHello, ViewerMessage, records};
use vidi_gateway::adapters::direct::DirectDial;
use vidi_gateway::error::GatewayError;
use vidi_gateway::model::{Networks, Terms, Visitor};
use vidi_gateway::ports::{Attachment, Dial, DirectTicket, Ticket, Tickets, Way};
use vidi_gateway::reconcile::registry::{FromViewer, Reach, Registry, ToViewer, Viewer};
use vidi_kit::{Clock, Tasks};
use vidi_spice::Password;

const SESSION: &str = "tenants/default/sessions/0198c1a2-0000-7000-8000-000000000001";
const WAIT_SECS_MAX: Duration = Duration::from_secs(60);
/// States of a session, as record 12 tells them.
const CONNECTED: u8 = 1;
const CONNECTING: u8 = 2;

/// A machine without a disk, whose SPICE server listens on loopback.
struct Machine {
    process: Child,
    monitor: (ChildStdin, BufReader<ChildStdout>),
    address: SocketAddr,
}

/// A port that is free now; should another take it first, QEMU says so and the test fails by name.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Machine {
    fn start(more: &[&str]) -> Self {
        let address = free();
        let spice = format!("addr=127.0.0.1,port={},disable-ticketing=on", address.port());
        let mut process = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "64", "-display", "none", "-nodefaults", "-vga", "std"])
            .args(["-nic", "none", "-qmp", "stdio", "-spice", &spice])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut machine = Self { process, monitor: (input, output), address };
        machine.monitor.1.read_line(&mut String::new()).unwrap();
        machine.ask(r#"{"execute":"qmp_capabilities"}"#);
        machine
    }

    fn ask(&mut self, json: &str) -> String {
        writeln!(self.monitor.0, "{json}").unwrap();
        loop {
            let mut answer = String::new();
            assert_ne!(self.monitor.1.read_line(&mut answer).unwrap(), 0, "QEMU went away");
            assert!(!answer.contains("\"error\""), "{json}: {answer}");
            if answer.contains("\"return\"") {
                return answer;
            }
        }
    }

    /// Moves to who waits at `incoming`, and says that viewers find it at `told`.
    fn move_to(&mut self, incoming: SocketAddr, told: SocketAddr) {
        let (host, port) = (told.ip(), told.port());
        self.ask(&format!(
            r#"{{"execute":"client_migrate_info","arguments":{{"protocol":"spice","hostname":"{host}","port":{port}}}}}"#
        ));
        self.ask(&format!(r#"{{"execute":"migrate","arguments":{{"uri":"tcp:{incoming}"}}}}"#));
    }

    /// Whether a viewer has its channels open here.
    fn is_watched(&mut self) -> bool {
        self.ask(r#"{"execute":"query-spice"}"#).contains("\"channel-type\": 2")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// The addresses of a machine's record.
#[derive(Debug)]
struct Record(Vec<SocketAddr>);

#[async_trait]
impl Tickets for Record {
    async fn ticket(
        &self,
        _token: &str,
        _session: &str,
        _problem: &str,
    ) -> Result<Ticket, GatewayError> {
        let addresses = self.0.iter().map(SocketAddr::to_string).collect();
        let direct = DirectTicket { addresses, tls: None, password: Password::default() };
        Ok(Ticket { epoch: 1, way: Way::Direct(direct), terms: Terms::default() })
    }
}

#[derive(Debug)]
struct OnlyDirect(DirectDial);

#[async_trait]
impl Dial for OnlyDirect {
    async fn attach(&self, ticket: &Ticket) -> Result<Box<dyn Attachment>, GatewayError> {
        let Way::Direct(ticket) = &ticket.way else { unreachable!("there is no other way") };
        self.0.attach(ticket).await
    }
}

/// What a browser was told.
struct Browser {
    from: mpsc::Sender<FromViewer>,
    to: mpsc::Receiver<ToViewer>,
    frames: u32,
    status: Vec<u8>,
}

impl Browser {
    async fn open(record: Vec<SocketAddr>) -> Self {
        vidi_kit::tls::install_provider();
        let (presence, _) = watch::channel(Default::default());
        let (_endings, endings) = mpsc::channel(1);
        let everywhere = Networks::new(vec!["0.0.0.0/0".parse().unwrap()]);
        let reach = Reach {
            tickets: Arc::new(Record(record)),
            dial: Arc::new(OnlyDirect(DirectDial::new(Tasks::new(), everywhere))),
            policy: Policy::default(),
            clock: Clock::system(),
            sharing: true,
            recordings: None,
        };
        let registry = Registry::new(Tasks::new(), reach, presence, endings);
        let (from, incoming) = mpsc::channel(64);
        let (outgoing, to) = mpsc::channel(1_024);
        let viewer = Viewer {
            hello: BrowserHello { webp: true, width: 800, height: 600, ..BrowserHello::default() },
            token: "token".to_owned(),
            visitor: Visitor::default(),
            trace: None,
            incoming,
            outgoing,
        };
        registry.add(SESSION, viewer).await;
        Self { from, to, frames: 0, status: Vec::new() }
    }

    async fn until(&mut self, enough: impl Fn(&Self) -> bool) {
        let taking = async {
            while !enough(self) {
                match self.to.recv().await.unwrap() {
                    ToViewer::Message(message) => self.take(&message).await,
                    ToViewer::Close(code, text) => panic!("closed: {code:?} {text}"),
                }
            }
        };
        tokio::time::timeout(WAIT_SECS_MAX, taking).await.unwrap();
    }

    async fn take(&mut self, message: &[u8]) {
        drop(self.from.send(FromViewer::Sent(message.len())).await);
        for (kind, body) in records(message) {
            match kind {
                7 => {
                    self.frames += 1;
                    let sequence = u32::from_le_bytes(body[..4].try_into().unwrap());
                    let draw_time = Duration::from_millis(1);
                    let ack = ViewerMessage::Ack { sequence, draw_time };
                    drop(self.from.send(FromViewer::Records(vec![ack])).await);
                }
                12 => self.status.push(body[0]),
                _ => {}
            }
        }
    }
}

/// Waits until the channels are open at one and at the other no more.
async fn only_watched(one: &mut Machine, other: &mut Machine) {
    let waiting = async {
        while !one.is_watched() || other.is_watched() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT_SECS_MAX, waiting).await.expect("its viewer never came");
}

/// Whether one move was told, with this outcome.
fn assert_one_move(recorder: &PrometheusRecorder, outcome: &str) {
    let text = recorder.handle().render();
    let moves: Vec<&str> =
        text.lines().filter(|line| line.starts_with("vidi_gateway_moves_total{")).collect();
    assert_eq!(moves, [format!("vidi_gateway_moves_total{{outcome=\"{outcome}\"}} 1")]);
}

#[tokio::test]
async fn a_session_follows_its_machine_to_an_address_of_its_record() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let incoming = free();
    let waiting = format!("tcp:{incoming}");
    let (mut source, mut target) = (Machine::start(&[]), Machine::start(&["-incoming", &waiting]));
    let mut browser = Browser::open(vec![source.address, target.address]).await;
    browser.until(|browser| 0 < browser.frames).await;
    assert!(source.is_watched() && !target.is_watched());
    browser.status.clear();
    source.move_to(incoming, target.address);
    browser.until(|browser| browser.status.ends_with(&[CONNECTED])).await;
    assert!(browser.status.contains(&CONNECTING), "{:?}", browser.status);
    only_watched(&mut target, &mut source).await;
    // However often the session links anew after that, it is one move.
    drop(target);
    browser.status.clear();
    browser.until(|browser| browser.status.ends_with(&[CONNECTING, CONNECTED])).await;
    assert_one_move(&recorder, "followed");
}

#[tokio::test]
async fn a_machine_cannot_send_the_gateway_to_an_address_of_its_choice() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counting = metrics::set_default_local_recorder(&recorder);
    let incoming = free();
    let waiting = format!("tcp:{incoming}");
    let (mut source, mut target) = (Machine::start(&[]), Machine::start(&["-incoming", &waiting]));
    // Something of the inner network that has nothing to do with machines.
    let inner = TcpListener::bind("127.0.0.1:0").unwrap();
    inner.set_nonblocking(true).unwrap();
    let mut browser = Browser::open(vec![source.address, target.address]).await;
    browser.until(|browser| 0 < browser.frames).await;
    browser.status.clear();
    source.move_to(incoming, inner.local_addr().unwrap());
    browser.until(|browser| browser.status.ends_with(&[CONNECTED])).await;
    assert!(browser.status.contains(&CONNECTING), "{:?}", browser.status);
    // It is looked for at its own addresses, as before.
    only_watched(&mut source, &mut target).await;
    let heard = inner.accept().map(|(_, from)| from);
    assert!(heard.is_err(), "what the server named was dialled, from {heard:?}");
    assert_one_move(&recorder, "refused");
}
