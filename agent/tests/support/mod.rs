//! Peers of the agent and the relay for tests: a certificate authority, a controller, an agent's
//! socket. They speak the real protocols over real TLS.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of this")]

pub mod controller;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};
use rustls::pki_types::CertificateSigningRequestDer;
use tokio::net::UnixListener;
use tokio::sync::watch;
use vidi_agent::rpc::frames::split;
use vidi_kit::Tasks;
use vidi_kit::ids::InstallationId;
use vidi_kit::tls::{CONTROLLER_NAME, Identity, Role, dns_name, generate_key_and_csr, uri_name};
use vidi_proto::v1::agent_to_relay::Message as ToRelay;
use vidi_proto::v1::relay_to_agent::Message as FromRelay;
use vidi_proto::v1::{AgentToRelay, RelayCertificate, RelayPolicy, RelayToAgent, SpiceOpened};

/// A certificate authority of one installation.
pub struct Authority {
    pub installation: InstallationId,
    pub certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        vidi_kit::tls::install_provider();
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap().der().to_vec();
        let issuer = Issuer::new(parameters, key);
        Self { installation: InstallationId::generate(), certificate, issuer }
    }

    pub fn sign(&self, csr: &[u8], role: Role, id: &str) -> Vec<u8> {
        let csr = CertificateSigningRequestDer::from(csr.to_vec());
        let mut request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        let uri = uri_name(&self.installation.to_string(), role, id);
        let mut names = vec![
            SanType::URI(uri.try_into().unwrap()),
            SanType::DnsName(dns_name(role, id).try_into().unwrap()),
        ];
        if role == Role::Controller {
            names.push(SanType::DnsName(CONTROLLER_NAME.try_into().unwrap()));
        }
        request.params.subject_alt_names = names;
        request.params.not_before = date_time_ymd(2020, 1, 1);
        request.params.not_after = date_time_ymd(2060, 1, 1);
        request.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub fn identity(&self, role: Role, id: &str) -> Identity {
        let (key, csr) = generate_key_and_csr().unwrap();
        Identity::new(self.sign(&csr, role, id), key, vec![self.certificate.clone()]).unwrap()
    }
}

/// The agent's end of a relay's socket.
pub struct FakeAgent {
    pub policy: watch::Sender<RelayPolicy>,
    /// The desktops' ends of the SPICE sockets that were opened.
    pub peers: Arc<Mutex<Vec<(String, StdUnixStream)>>>,
    pub certificates: watch::Sender<u32>,
}

impl FakeAgent {
    pub fn start(
        tasks: &Tasks,
        authority: Arc<Authority>,
        socket: &Path,
        policy: RelayPolicy,
    ) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let policy = watch::Sender::new(policy);
        let peers = Arc::new(Mutex::new(Vec::new()));
        let certificates = watch::Sender::new(0);
        let fake = Self {
            policy: policy.clone(),
            peers: Arc::clone(&peers),
            certificates: certificates.clone(),
        };
        let stop = tasks.stop_token();
        let serving = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut reader, mut writer) = split(stream);
                let mut news = policy.subscribe();
                news.mark_changed();
                loop {
                    let (message, descriptor) = tokio::select! {
                        biased;
                        Ok(()) = news.changed() => {
                            (ToRelay::Policy(news.borrow_and_update().clone()), None)
                        }
                        frame = reader.receive::<RelayToAgent>() => match frame {
                            Ok(Some(RelayToAgent { message: Some(FromRelay::Csr(csr)) })) => {
                                certificates.send_modify(|count| *count += 1);
                                let certificate = authority.sign(&csr, Role::Relay, "host-1");
                                let cas = vec![authority.certificate.clone()];
                                (ToRelay::Certificate(RelayCertificate { certificate, cas }), None)
                            }
                            Ok(Some(RelayToAgent { message: Some(FromRelay::OpenSpice(open)) })) => {
                                let (given, kept) = StdUnixStream::pair().unwrap();
                                peers.lock().unwrap().push((open.desktop, kept));
                                let opened = SpiceOpened { id: open.id, error: String::new() };
                                (ToRelay::SpiceOpened(opened), Some(given))
                            }
                            _ => break,
                        },
                    };
                    let message = AgentToRelay { message: Some(message) };
                    let descriptor = descriptor.as_ref().map(AsFd::as_fd);
                    if writer.send(&message, descriptor).await.is_err() {
                        break;
                    }
                }
            }
        };
        let _serving = tasks.spawn("fake-agent", async move {
            stop.run_until_cancelled(serving).await;
        });
        fake
    }

    /// The desktop's end of the newest SPICE socket.
    pub async fn peer(&self) -> (String, tokio::net::UnixStream) {
        let (desktop, stream) = until(|| self.peers.lock().unwrap().pop()).await;
        stream.set_nonblocking(true).unwrap();
        (desktop, tokio::net::UnixStream::from_std(stream).unwrap())
    }
}

/// Waits for a level, at most 20 s.
pub async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it never came to be")
}

/// Files by their SHA-256, as a controller keeps them.
pub type Images = BTreeMap<String, bytes::Bytes>;
