//! The https listener: TLS, HTTP/1.1 and HTTP/2, with limits on everything a stranger can hold.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use vidi_kit::logs::Seldom;
use vidi_kit::telemetry::Counted;
use vidi_kit::{Backoff, Tasks};

use crate::http::addresses::Addresses;
use crate::http::router::{Edge, answer};

/// Connections at once; each holds a descriptor, of which a process has about 20,000.
const CONNECTIONS_MAX: usize = 10_000;
/// A handshake or a request's head that takes longer is dropped.
const HEAD_SECS_MAX: Duration = Duration::from_secs(10);
/// A browser that is silent on HTTP/2 is pinged this often, and let go when it does not answer.
const PING_PERIOD: Duration = Duration::from_secs(30);
/// A connection that says nothing is asked after this, then this often, and is dropped after as many
/// questions without an answer: a tunnel of another viewer has no pings of its own.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// Bytes that the kernel takes for a connection beyond what is on the wire: by itself it would take
/// megabytes, and on a slow line a keystroke's echo would wait behind them (tcp(7),
/// `TCP_NOTSENT_LOWAT`). It takes one write more than this.
const UNSENT_BYTES_MAX: u32 = 8 << 10;
/// Calls of one browser at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

/// Serves until `tasks` stop.
pub async fn serve(
    tasks: Tasks,
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    edge: Edge,
    addresses: Addresses,
) {
    let told = Seldom::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        // Cancel-safe: a permit that is not taken stays with the others.
        let permit = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        // Cancel-safe: `accept` takes a connection or does not.
        let accepted = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "Cannot accept a browser's connection");
                tokio::time::sleep(backoff.next_wait()).await;
                continue;
            }
        };
        backoff.reset();
        let Some(place) = addresses.take(address.ip()) else {
            metrics::counter!("vidi_gateway_refused_total", "reason" => "address_connections")
                .increment(1);
            if told.is_due() {
                warn!(address = %address.ip(), "An address holds too many connections; more are dropped");
            }
            continue;
        };
        let connection = connection(stream, address.ip(), Arc::clone(&tls.borrow()), edge.clone());
        let counted = Counted::by(metrics::gauge!("vidi_gateway_https_connections"));
        let stop = tasks.stop_token();
        let _serving = tasks.spawn("https-connection", async move {
            // Cancel-safe: at the stop the connection is dropped and the browser comes back.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = connection => {}
            }
            drop((permit, place, counted));
        });
    }
}

async fn connection(stream: TcpStream, browser: IpAddr, tls: Arc<ServerConfig>, edge: Edge) {
    drop(stream.set_nodelay(true));
    let socket = SockRef::from(&stream);
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
        debug!(%error, "A slow line of this connection will hold more than it should");
    }
    let (idle, period, count) = KEEP_ALIVE;
    let probes = TcpKeepalive::new().with_time(idle).with_interval(period).with_retries(count);
    if let Err(error) = socket.set_tcp_keepalive(&probes) {
        debug!(%error, "A connection that dies is noticed later");
    }
    let accepting = TlsAcceptor::from(tls).accept(stream);
    let stream = match tokio::time::timeout(HEAD_SECS_MAX, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            metrics::counter!("vidi_tls_handshakes_failed_total").increment(1);
            debug!(%error, "A browser's TLS handshake failed");
            return;
        }
        Err(_elapsed) => {
            metrics::counter!("vidi_tls_handshakes_failed_total").increment(1);
            return;
        }
    };
    let service = tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let edge = edge.clone();
        async move {
            let response = answer(edge, browser, request.map(axum::body::Body::new)).await;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_SECS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Some(PING_PERIOD))
        .keep_alive_timeout(HEAD_SECS_MAX);
    // Told by TLS, not guessed from the first bytes: a caller that sends none is not waited for.
    let builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    let serving = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = serving.await {
        debug!(%error, "A browser's connection ended");
    }
}
