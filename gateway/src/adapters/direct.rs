//! Reaches a physical machine: its SPICE server itself, one TCP or TLS connection per channel.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsFault, RootCertStore,
    SignatureScheme,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tracing::debug;
use vidi_kit::Tasks;

use crate::error::GatewayError;
use crate::model::Networks;
use crate::ports::{Attachment, CHUNKS_MAX, ChannelPipe, DirectTicket, ServerTrust};

/// A machine that does not answer within this is away: a name is looked up, a connection made and TLS
/// spoken in far less on any line that can be worked over.
const CONNECT_SECS_MAX: Duration = Duration::from_secs(8);
/// A silent connection is probed after this, and so often...
const PROBE_PERIOD: Duration = Duration::from_secs(10);
/// ...and given up when what was sent is not acknowledged for this long: a pulled cable says nothing.
const UNACKNOWLEDGED_SECS_MAX: Duration = Duration::from_secs(20);
/// Largest piece that is read at once, in bytes; with [`CHUNKS_MAX`] it bounds what waits in a channel.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// What a silent connection holds for the first bytes: a keystroke's echo. More follows in larger pieces.
const FIRST_BYTES: usize = 2 << 10;
/// Addresses at which a machine is looked for; the controller takes no more.
const ADDRESSES_MAX: usize = 4;
/// Certificates that are looked at: a chain of authorities, or a few pinned ones.
const CERTIFICATES_MAX: usize = 16;

/// Dials SPICE servers.
#[derive(Debug)]
pub struct DirectDial {
    tasks: Tasks,
    networks: Arc<Networks>,
}

impl DirectDial {
    /// What it starts ends with `tasks`; machines elsewhere than in these networks are not dialled.
    pub fn new(tasks: Tasks, networks: Networks) -> Self {
        Self { tasks, networks: Arc::new(networks) }
    }

    /// Makes sure that the machine can be dialled; each channel then is a connection of its own.
    pub async fn attach(&self, ticket: &DirectTicket) -> Result<Box<dyn Attachment>, GatewayError> {
        let tls = ticket.tls.as_ref().map(secured).transpose()?;
        Ok(Box::new(DirectAttachment {
            addresses: ticket.addresses.iter().take(ADDRESSES_MAX).cloned().collect(),
            reached: OnceLock::new(),
            networks: Arc::clone(&self.networks),
            tls,
            tasks: self.tasks.child(),
        }))
    }
}

#[derive(Debug)]
struct DirectAttachment {
    addresses: Vec<String>,
    /// The one at which its first channel was opened: all of a machine is in one place.
    reached: OnceLock<String>,
    networks: Arc<Networks>,
    tls: Option<Secured>,
    tasks: Tasks,
}

impl Drop for DirectAttachment {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
    }
}

#[async_trait]
impl Attachment for DirectAttachment {
    async fn open(&self) -> Result<ChannelPipe, GatewayError> {
        if let Some(address) = self.reached.get() {
            return self.open_at(address).await;
        }
        let mut told = GatewayError::MachineAway("it has no address".to_owned());
        for address in &self.addresses {
            match self.open_at(address).await {
                Ok(pipe) => {
                    drop(self.reached.set(address.clone()));
                    return Ok(pipe);
                }
                // The first one is where it should be.
                Err(error) if Some(address) == self.addresses.first() => told = error,
                Err(error) => debug!(%error, "Not there either"),
            }
        }
        Err(told)
    }

    /// Each channel says its end itself.
    async fn ended(&self) -> String {
        std::future::pending().await
    }
}

impl DirectAttachment {
    async fn open_at(&self, address: &str) -> Result<ChannelPipe, GatewayError> {
        let silent = |_elapsed| GatewayError::MachineAway(format!("{address} is silent"));
        let connecting = connect(address, &self.networks);
        let stream = tokio::time::timeout(CONNECT_SECS_MAX, connecting).await.map_err(silent)?;
        let stream =
            stream.map_err(|error| GatewayError::MachineAway(format!("{address}: {error}")))?;
        let Some(Secured { config, name }) = &self.tls else {
            return Ok(pumped(&self.tasks, stream));
        };
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
        let stream = tokio::time::timeout(CONNECT_SECS_MAX, handshake).await.map_err(silent)?;
        let stream = stream.map_err(|error| untrusted(address, name, &error))?;
        Ok(pumped(&self.tasks, stream))
    }
}

/// What a name leads to is judged, and that is what is dialled: it may lead elsewhere the next time.
async fn connect(address: &str, networks: &Networks) -> io::Result<TcpStream> {
    let found = tokio::net::lookup_host(address).await?;
    let found: Vec<SocketAddr> = found.filter(|one| networks.allow(one.ip())).collect();
    if found.is_empty() {
        let text = "it is in no network in which this gateway dials machines: see [machines] networks \
                    in gateway.toml";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let stream = TcpStream::connect(found.as_slice()).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let probes = TcpKeepalive::new().with_time(PROBE_PERIOD).with_interval(PROBE_PERIOD);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_SECS_MAX))?;
    Ok(stream)
}

/// Carries bytes both ways until either end is dropped.
fn pumped<S: AsyncRead + AsyncWrite + Send + 'static>(tasks: &Tasks, stream: S) -> ChannelPipe {
    let (mut read, mut write) = tokio::io::split(stream);
    let (send, mut outgoing) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    let (incoming, receive) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    let stop = tasks.stop_token();
    let _reading = tasks.spawn("direct-reading", async move {
        let mut buffer = BytesMut::new();
        let mut room = FIRST_BYTES;
        loop {
            if buffer.capacity() < room {
                buffer = BytesMut::with_capacity(room);
            }
            // Cancel-safe: what is not read stays in the socket, which ends here.
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // A machine that says nothing would hold the connection for nobody.
                () = incoming.closed() => return,
                read = read.read_buf(&mut buffer) => read,
            };
            // The end and an error are the same to who reads: the channel is over.
            if read.is_err() || buffer.is_empty() {
                return;
            }
            // What fills its room is followed by more; else nothing is held while nothing comes.
            let is_full = buffer.len() == buffer.capacity();
            room = if is_full { CHUNK_BYTES_MAX } else { FIRST_BYTES };
            let read = match is_full {
                true => std::mem::take(&mut buffer).freeze(),
                false => Bytes::copy_from_slice(&buffer),
            };
            buffer.clear();
            if buffer.capacity() > room {
                buffer = BytesMut::new();
            }
            if incoming.send(read).await.is_err() {
                return;
            }
        }
    });
    let stop = tasks.stop_token();
    let _writing = tasks.spawn("direct-writing", async move {
        let writing = async {
            while let Some(bytes) = outgoing.recv().await {
                if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                    return;
                }
            }
        };
        // Cancel-safe: at the stop the connection is dropped.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = writing => {}
        }
    });
    ChannelPipe { receive, send }
}

/// TLS with one machine.
#[derive(Debug)]
struct Secured {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

fn secured(trust: &ServerTrust) -> Result<Secured, GatewayError> {
    let wrong = |what: &str| GatewayError::MachineUntrusted(what.to_owned());
    let blocks = pem::parse_many(&trust.ca)
        .map_err(|_not_pem| wrong("the CA that is kept for it is not PEM; set it anew"))?;
    let given: Vec<CertificateDer<'static>> = blocks
        .into_iter()
        .take(CERTIFICATES_MAX)
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect();
    let name = ServerName::try_from(trust.host_name.clone())
        .map_err(|_not_a_name| wrong("its host name is neither a DNS name nor an IP address"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(given.iter().cloned());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let authorities =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let authorities =
        authorities.build().map_err(|_none| wrong("no CA is kept for it; set one"))?;
    let verifier = Arc::new(Expected { given, authorities, algorithms });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(vidi_kit::tls::TlsError::from)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Secured { config: Arc::new(config), name })
}

/// Takes one of the given certificates itself, whatever it says of names and dates, and what descends
/// from one of them and is issued to the machine's host name.
#[derive(Debug)]
struct Expected {
    given: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsFault> {
        if self.given.iter().any(|given| given == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let authorities = &self.authorities;
        authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsFault> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsFault> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why TLS with a machine failed, in words for who administers it.
fn untrusted(address: &str, name: &ServerName<'_>, error: &io::Error) -> GatewayError {
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsFault>());
    let what = match fault {
        Some(TlsFault::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => format!(
            "its certificate is not issued to {}: set the host name that it is issued to, or give \
             the certificate itself as the CA",
            name.to_str()
        ),
        Some(TlsFault::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired: renew it".to_owned(),
        Some(TlsFault::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "its certificate does not descend from the CA that is kept for it: set the right CA"
            .to_owned(),
        Some(fault) => format!("TLS fails: {fault}"),
        None => return GatewayError::MachineAway(format!("{address}: {error}")),
    };
    GatewayError::MachineUntrusted(format!("{address}: {what}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use vidi_spice::Password;

    use super::*;

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A server that sends back what it gets; its address and its certificate.
    async fn echo(authority: Option<&Authority>, name: &str) -> (String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let Some(authority) = authority else {
            let _serving = Tasks::new().spawn("echo", async move {
                while let Ok((stream, _)) = listener.accept().await {
                    answer(stream).await;
                }
            });
            return (address, String::new());
        };
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let _serving = Tasks::new().spawn("echo", async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            }
        });
        (address, certificate.pem())
    }

    /// One message back, then the end.
    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut buffer = [0; 64];
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        drop(stream.write_all(&buffer[..count]).await);
        drop(stream.shutdown().await);
    }

    fn everywhere() -> Networks {
        Networks::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()])
    }

    fn ticket(addresses: &[String]) -> DirectTicket {
        DirectTicket { addresses: addresses.to_vec(), tls: None, password: Password::default() }
    }

    async fn say(address: &str, tls: Option<(&str, &str)>) -> Result<Vec<u8>, String> {
        let tls = tls.map(|(ca, host_name)| ServerTrust {
            ca: ca.to_owned(),
            host_name: host_name.to_owned(),
        });
        let ticket = DirectTicket { tls, ..ticket(&[address.to_owned()]) };
        let dial = DirectDial::new(Tasks::new(), everywhere());
        let attachment = dial.attach(&ticket).await.map_err(|error| error.to_string())?;
        let mut pipe = attachment.open().await.map_err(|error| error.to_string())?;
        pipe.send.send(Bytes::from_static(b"REDQ")).await.unwrap();
        let mut heard = Vec::new();
        while let Some(bytes) = pipe.receive.recv().await {
            heard.extend(bytes);
        }
        Ok(heard)
    }

    #[tokio::test]
    async fn the_right_authority_and_name_or_the_very_certificate_open_the_way_and_nothing_else() {
        vidi_kit::tls::install_provider();
        let (right, wrong) = (authority(), authority());
        let (address, own) = echo(Some(&right), "lab-7.test").await;
        let heard = Ok(b"REDQ".to_vec());
        assert_eq!(say(&address, Some((&right.pem, "lab-7.test"))).await, heard);
        assert_eq!(say(&address, Some((&own, "any.name"))).await, heard, "pinned");
        let both = format!("{}{own}", wrong.pem);
        assert_eq!(say(&address, Some((&both, "any.name"))).await, heard, "one of several");
        for (ca, name, told) in [
            (wrong.pem.as_str(), "lab-7.test", "set the right CA"),
            (&right.pem, "lab-8.test", "not issued to lab-8.test"),
            (&right.pem, "not a name", "neither a DNS name"),
            ("", "lab-7.test", "no CA is kept"),
        ] {
            let error = say(&address, Some((ca, name))).await.unwrap_err();
            assert!(error.contains("cannot be trusted") && error.contains(told), "{error}");
        }
    }

    #[tokio::test]
    async fn without_tls_bytes_pass_as_they_are_and_a_dead_address_is_named() {
        vidi_kit::tls::install_provider();
        let (address, _) = echo(None, "").await;
        assert_eq!(say(&address, None).await, Ok(b"REDQ".to_vec()));
        // A server that speaks no TLS is not one that can be trusted, nor one that is away for good.
        let authority = authority();
        let error = say(&address, Some((&authority.pem, "lab"))).await.unwrap_err();
        assert!(error.contains(&address), "{error}");
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = say(&free.to_string(), None).await.unwrap_err();
        assert!(
            error.starts_with("the machine does not answer") && error.contains(&free.to_string())
        );
    }

    #[tokio::test]
    async fn a_channel_that_is_dropped_ends_its_connection_though_the_machine_says_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dial = DirectDial::new(Tasks::new(), everywhere());
        let attachment = dial.attach(&ticket(&[address])).await.unwrap();
        let pipe = attachment.open().await.unwrap();
        let (mut machine, _) = listener.accept().await.unwrap();
        drop(pipe);
        let ended = tokio::time::timeout(CONNECT_SECS_MAX, machine.read(&mut [0; 1])).await;
        assert_eq!(ended.expect("the connection is held for nobody").unwrap(), 0);
        drop(attachment);
    }

    #[tokio::test]
    async fn a_dead_machine_is_noticed_within_half_a_minute() {
        let (address, _) = echo(None, "").await;
        let stream = connect(&address, &everywhere()).await.unwrap();
        let socket = SockRef::from(&stream);
        let probed =
            socket.tcp_keepalive_time().unwrap() + socket.tcp_keepalive_interval().unwrap();
        assert!(socket.keepalive().unwrap() && probed <= Duration::from_secs(20), "{probed:?}");
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_SECS_MAX));
    }

    #[tokio::test]
    async fn a_machine_on_the_gateways_own_loopback_is_not_dialled_unless_that_is_allowed() {
        let (address, _) = echo(None, "").await;
        let dial = DirectDial::new(Tasks::new(), Networks::default());
        let error =
            dial.attach(&ticket(&[address])).await.unwrap().open().await.unwrap_err().to_string();
        assert!(error.contains("[machines] networks"), "{error}");
    }

    #[tokio::test]
    async fn a_machine_is_found_where_else_it_may_be_and_all_of_its_channels_there() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (there, _) = echo(None, "").await;
        let dial = DirectDial::new(Tasks::new(), everywhere());
        let attachment = dial.attach(&ticket(&[free.to_string(), there])).await.unwrap();
        let first = attachment.open().await.unwrap();
        // Somebody else listens now where the machine was looked for first.
        let other = TcpListener::bind(free).await.unwrap();
        drop(first);
        let mut second = attachment.open().await.unwrap();
        second.send.send(Bytes::from_static(b"REDQ")).await.unwrap();
        assert_eq!(second.receive.recv().await.as_deref(), Some(&b"REDQ"[..]));
        let nowhere = ticket(&[free.to_string()]);
        drop(other);
        let error = dial.attach(&nowhere).await.unwrap().open().await.unwrap_err().to_string();
        assert!(error.contains(&free.to_string()), "{error}");
    }
}
