//! Listeners and channels for gRPC: mTLS over TCP, and Unix sockets whose peer's uid is known.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};
use tracing::{debug, warn};

use crate::logs::Seldom;
use crate::tls::{CertificateName, ClientCertificate, Identity, IdentityReceiver, Role, TlsError};
use crate::{Backoff, Tasks};

/// A handshake that takes longer is dropped: a caller that stalls must not hold a socket.
const HANDSHAKE_SECS_MAX: Duration = Duration::from_secs(10);
/// Accepted connections that wait for the server.
const ACCEPTED_MAX: usize = 64;
/// Handshakes that go on side by side. Each takes processor time and little else: when thousands of
/// agents come back at once, the first are done in time instead of all being late.
const HANDSHAKES_MAX: usize = 64;
/// A handshake that takes longer goes on, but lets the next one begin: a caller that stalls must not
/// hold up the others.
const TURN_SECS_MAX: Duration = Duration::from_secs(1);
/// Connections whose handshake is not done; more wait in the queue of the listening socket.
const UNKNOWN_MAX: usize = 1_024;
/// A peer that does not answer a connect in this time is taken as away.
const CONNECT_SECS_MAX: Duration = Duration::from_secs(5);
/// HTTP/2 pings find dead links this often.
const KEEPALIVE_PERIOD: Duration = Duration::from_secs(10);
/// And give up after this.
const KEEPALIVE_SECS_MAX: Duration = Duration::from_secs(10);
/// Largest HTTP/2 frame that is asked for: with its head of 9 bytes it fills four TLS records, so that a
/// picture comes in a quarter of the writes and wakeups that the default of 16 KiB takes.
const FRAME_BYTES_MAX: u32 = (64 << 10) - 9;

/// Key in a call's metadata: the address of the browser that a gateway makes the call for. From
/// anybody else it says nothing.
pub const BROWSER_ADDRESS: &str = "vidi-browser-address";

/// What counts as one address: an IPv4 address in either form, or an IPv6 network of 64 bits, which is
/// one household.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

/// Who is on the other side of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Nobody that TLS knows: a person with a token, or somebody who wants to enrol.
    Anonymous,
    /// A daemon, by its certificate.
    Daemon {
        /// Its role.
        role: Role,
        /// Its id within the role.
        id: String,
    },
    /// A process of this machine, by its user.
    Local {
        /// The user's number.
        uid: u32,
    },
}

/// What a server knows of a connection; in each request's extensions.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Who.
    pub peer: Peer,
    /// From where; none for a Unix socket.
    pub address: Option<SocketAddr>,
    /// Which connection: unique in this process.
    pub connection: u64,
    /// Start of validity of the peer's certificate, ms since the epoch; 0 without one.
    pub certified_ms: i64,
}

impl PeerInfo {
    fn new(peer: Peer, address: Option<SocketAddr>, certified_ms: i64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { peer, address, connection: NEXT.fetch_add(1, Ordering::Relaxed), certified_ms }
    }
}

/// A stream that carries what is known of its peer.
#[derive(Debug)]
pub struct PeerStream<S> {
    stream: S,
    info: PeerInfo,
}

impl<S> Connected for PeerStream<S> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    // A frame's head and body in one TLS record and one write.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connections for `tonic`'s `serve_with_incoming`.
pub type Incoming<S> = ReceiverStream<io::Result<PeerStream<S>>>;

/// Binds a TCP port; an error says which one.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Accepts mTLS connections. Handshakes run side by side, each with a time limit and only so many at once;
/// a failed one is logged and ends only itself. A renewed certificate is used from the next connection on.
pub fn tls_incoming(
    tasks: &Tasks,
    listener: TcpListener,
    identity: IdentityReceiver,
    clients: ClientCertificate,
) -> Incoming<server::TlsStream<TcpStream>> {
    let (sender, receiver) = mpsc::channel(ACCEPTED_MAX);
    let group = tasks.clone();
    let _accepting = tasks.spawn("accept", async move {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut own = Own { identity, clients, current: None };
        let places = Arc::new(Semaphore::new(UNKNOWN_MAX));
        let turns = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            // Cancel-safe: a place is given back, `accept` takes a connection or does not.
            let (place, accepted) = tokio::select! {
                biased;
                () = group.stopping() => return,
                next = next => next,
            };
            match accepted {
                Ok((stream, address)) => {
                    backoff.reset();
                    let config = match own.config() {
                        Ok(config) => config,
                        Err(error) => {
                            warn!(%error, "Own certificate is not usable");
                            continue;
                        }
                    };
                    let handshake = handshake((stream, address), config, Arc::clone(&turns));
                    let sender = sender.clone();
                    let _handshaking = group.spawn("handshake", async move {
                        if let Some(stream) = handshake.await {
                            // The server is gone: so is the connection.
                            drop(sender.send(Ok(stream)).await);
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: wait instead of spinning.
                    warn!(%error, "Cannot accept a connection");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// The newest identity, and what TLS makes of it: one for all connections.
struct Own {
    identity: IdentityReceiver,
    clients: ClientCertificate,
    current: Option<(Arc<Identity>, Arc<ServerConfig>)>,
}

impl Own {
    fn config(&mut self) -> Result<(Arc<Identity>, Arc<ServerConfig>), TlsError> {
        let newest = Arc::clone(&self.identity.borrow());
        match &self.current {
            Some(current) if Arc::ptr_eq(&current.0, &newest) => Ok(current.clone()),
            Some(_) | None => {
                let config = Arc::new(newest.server_config(self.clients)?);
                Ok(self.current.insert((newest, config)).clone())
            }
        }
    }
}

async fn handshake(
    (stream, address): (TcpStream, SocketAddr),
    (own, config): (Arc<Identity>, Arc<ServerConfig>),
    turns: Arc<Semaphore>,
) -> Option<PeerStream<server::TlsStream<TcpStream>>> {
    drop(stream.set_nodelay(true));
    let stream = match in_turn(stream, config, &turns).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            static TOLD: Seldom = Seldom::new();
            metrics::counter!("vidi_tls_handshakes_failed_total").increment(1);
            if TOLD.is_due() {
                warn!(%address, %error, "TLS handshakes fail; more are told after a minute");
            } else {
                debug!(%address, %error, "TLS handshake failed");
            }
            return None;
        }
        Err(_elapsed) => {
            metrics::counter!("vidi_tls_handshakes_failed_total").increment(1);
            debug!(%address, "TLS handshake took too long");
            return None;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let (peer, certified_ms) = match certificate.map(CertificateName::read) {
        None => (Peer::Anonymous, 0),
        Some(Ok(name)) if name.installation == own.name.installation => {
            (Peer::Daemon { role: name.role, id: name.id }, name.not_before_ms)
        }
        Some(Ok(_) | Err(_)) => {
            warn!(%address, "Caller's certificate is not one of this installation");
            return None;
        }
    };
    Some(PeerStream { stream, info: PeerInfo::new(peer, Some(address), certified_ms) })
}

/// The handshake of a connection when it is its turn. Who says nothing takes nobody's.
async fn in_turn(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    turns: &Semaphore,
) -> Result<io::Result<server::TlsStream<TcpStream>>, Elapsed> {
    if let Err(error) = timeout(HANDSHAKE_SECS_MAX, stream.readable()).await? {
        return Ok(Err(error));
    }
    let turn = turns.acquire().await;
    let accepting = TlsAcceptor::from(config).accept(stream);
    tokio::pin!(accepting);
    let done = timeout(TURN_SECS_MAX, accepting.as_mut()).await;
    drop(turn);
    match done {
        Ok(done) => Ok(done),
        Err(_elapsed) => timeout(HANDSHAKE_SECS_MAX, accepting).await,
    }
}

/// Listens on a Unix socket; a stale file is replaced, a live one is an error. `mode` as in chmod(2).
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let text = format!("another process listens on {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()))
    })?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    Ok(listener)
}

/// Accepts connections of processes of this machine.
pub fn unix_incoming(tasks: &Tasks, listener: UnixListener) -> Incoming<UnixStream> {
    let (sender, receiver) = mpsc::channel(ACCEPTED_MAX);
    let group = tasks.clone();
    let _accepting = tasks.spawn("accept-local", async move {
        loop {
            // Cancel-safe: `accept` takes a connection or does not.
            let accepted = tokio::select! {
                biased;
                () = group.stopping() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "Cannot accept a local connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(credentials) = stream.peer_cred() else { continue };
            let info = PeerInfo::new(Peer::Local { uid: credentials.uid() }, None, 0);
            if sender.send(Ok(PeerStream { stream, info })).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

fn endpoint(name: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::try_from(format!("http://{name}"))?
        .connect_timeout(CONNECT_SECS_MAX)
        .http2_keep_alive_interval(KEEPALIVE_PERIOD)
        .keep_alive_timeout(KEEPALIVE_SECS_MAX)
        .keep_alive_while_idle(true)
        .max_frame_size(FRAME_BYTES_MAX)
        .tcp_nodelay(true))
}

/// Connects to `address` (`host:port`) and expects a certificate with the DNS name `name`.
pub async fn connect_tls(
    address: &str,
    name: &str,
    config: ClientConfig,
) -> Result<Channel, tonic::transport::Error> {
    let server = rustls::pki_types::ServerName::try_from(name.to_owned())
        .map_err(|error| format!("{name}: {error}"));
    let connector = TlsConnector::from(Arc::new(config));
    let address = address.to_owned();
    endpoint(name)?
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let (server, connector, address) = (server.clone(), connector.clone(), address.clone());
            async move {
                let server = server.map_err(io::Error::other)?;
                let stream = dial(&address, server, &connector).await?;
                io::Result::Ok(TokioIo::new(stream))
            }
        }))
        .await
}

async fn dial(
    address: &str,
    server: rustls::pki_types::ServerName<'static>,
    connector: &TlsConnector,
) -> io::Result<client::TlsStream<TcpStream>> {
    let dialling = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connector.connect(server, stream).await
    };
    timeout(CONNECT_SECS_MAX, dialling)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")))?
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

/// Why no controller was reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// None is configured.
    #[error("no controller address is configured: set [controller] addresses")]
    NoAddress,
    /// It does not answer; why.
    #[error("no controller answers")]
    Transport(#[source] tonic::transport::Error),
    /// The own certificate is not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Connects to a Unix socket.
pub async fn connect_unix(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    endpoint("localhost")?
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
}

/// The error and its causes in one line, for logs and people.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::watch;
    use tokio::time::Instant;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::tls::{anonymous_client_config, dns_name, install_provider, uri_name};

    const NAME: &str = "door";

    fn identity() -> Identity {
        install_provider();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = authority.self_signed(&authority_key).unwrap().der().to_vec();
        let key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::default();
        own.subject_alt_names = vec![
            SanType::URI(uri_name("i", Role::Controller, NAME).try_into().unwrap()),
            SanType::DnsName(dns_name(Role::Controller, NAME).try_into().unwrap()),
        ];
        let issuer = Issuer::new(authority, authority_key);
        let certificate = own.signed_by(&key, &issuer).unwrap().der().to_vec();
        Identity::new(certificate, key.serialize_der(), vec![ca]).unwrap()
    }

    struct Door {
        address: SocketAddr,
        identities: watch::Sender<Arc<Identity>>,
        incoming: Incoming<server::TlsStream<TcpStream>>,
    }

    async fn door(tasks: &Tasks) -> Door {
        let (identities, identity) = watch::channel(Arc::new(identity()));
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tls_incoming(tasks, listener, identity, ClientCertificate::Optional);
        Door { address, identities, incoming }
    }

    async fn knock(address: SocketAddr, identity: &Identity) -> io::Result<()> {
        let cas: Vec<Vec<u8>> = identity.cas.iter().map(|ca| ca.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(anonymous_client_config(&cas).unwrap()));
        let name = dns_name(Role::Controller, NAME).try_into().unwrap();
        let mut stream = dial(&address.to_string(), name, &connector).await?;
        // Until the server has it.
        stream.write_all(b"x").await
    }

    #[tokio::test]
    async fn callers_who_stall_in_the_middle_do_not_keep_others_out() {
        let tasks = Tasks::new();
        let mut door = door(&tasks).await;
        let current = Arc::clone(&door.identities.borrow());
        let mut stalled = Vec::new();
        for _ in 0..HANDSHAKES_MAX + 8 {
            let mut stream = TcpStream::connect(door.address).await.unwrap();
            // The head of a record that never comes.
            stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
            stalled.push(stream);
        }
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES_MAX {
            silent.push(TcpStream::connect(door.address).await.unwrap());
        }
        let began = Instant::now();
        knock(door.address, &current).await.unwrap();
        let taken = door.incoming.next().await.unwrap().unwrap();
        assert_eq!(taken.connect_info().peer, Peer::Anonymous);
        assert!(began.elapsed() < TURN_SECS_MAX * 4, "{:?}", began.elapsed());
        let mut byte = [0];
        let read = timeout(Duration::from_millis(1), stalled[0].read(&mut byte)).await;
        assert!(read.is_err(), "who stalls still has time");
    }

    #[tokio::test]
    async fn a_renewed_certificate_counts_from_the_next_connection_on() {
        let tasks = Tasks::new();
        let mut door = door(&tasks).await;
        let first = Arc::clone(&door.identities.borrow());
        for _ in 0..2 {
            knock(door.address, &first).await.unwrap();
            door.incoming.next().await.unwrap().unwrap();
        }
        let second = Arc::new(identity());
        door.identities.send_replace(Arc::clone(&second));
        knock(door.address, &first).await.unwrap_err();
        knock(door.address, &second).await.unwrap();
        door.incoming.next().await.unwrap().unwrap();
    }
}
