//! The display as SPICE itself, for clients of others: spice-html5 and its like over a WebSocket,
//! remote-viewer through `CONNECT`.
//!
//! ```text
//!  page ── POST /spice/{desktop} ──▶ offer: policy, session ──▶ a ticket, 30 s, once
//!  client ── GET /spice/{desktop}, upgrade ─┐
//!         ── CONNECT {desktop}:5900 ────────┴▶ link: ticket? ──▶ set ──▶ ports::Dial ──▶ QEMU
//!                                              (ends here)       bytes, unchanged, both ways
//! ```
//!
//! Only the link ends here. What follows is passed on as it is, so nothing of it can be looked at: a
//! desktop whose policy restricts what passes is refused.

mod link;
mod offer;
mod rights;
mod set;
mod stream;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::ORIGIN;
use http::{Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;
use vidi_kit::ids::DesktopId;

use crate::http::cookie;
use crate::http::router::Edge;
use crate::model::raw::{TicketHash, Tickets};
use crate::raw::set::Set;
use crate::raw::stream::ClientStream;
use crate::ws::display::{handshake, switching};

/// The subprotocol that SPICE web clients ask for, as websockify's do.
const SUBPROTOCOL: &str = "binary";
/// The port of every desktop in a `CONNECT`: SPICE's own. Nothing listens there.
const PORT: u16 = 5_900;
/// Links at once that have shown no ticket yet. Each costs a key and a connection for 10 s at most.
const LINKS_MAX: usize = 64;

/// What raw mode keeps.
pub struct Raw {
    tickets: Mutex<Tickets<Arc<Set>>>,
    /// Origins of pages, beside this gateway's own, from which its WebSocket may be opened.
    origins: Vec<String>,
    /// Monotonic time begins here.
    origin: Instant,
    links: Arc<Semaphore>,
    /// Keys are made on so many threads at once.
    keys: Arc<Semaphore>,
}

impl fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Raw").field("origins", &self.origins).finish_non_exhaustive()
    }
}

impl Raw {
    /// Without any ticket; pages of these origins may connect beside the gateway's own.
    pub fn new(origins: Vec<String>) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Arc::new(Self {
            tickets: Mutex::default(),
            origins,
            origin: Instant::now(),
            links: Arc::new(Semaphore::new(LINKS_MAX)),
            keys: Arc::new(Semaphore::new(cores)),
        })
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets<Arc<Set>>> {
        // Whole at every moment: a panic elsewhere does not spoil it.
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Whether anybody is expected at this desktop.
    fn awaits(&self, desktop: DesktopId) -> bool {
        let now = self.now();
        self.tickets().awaits(desktop, now)
    }
}

/// Answers `/spice/{desktop}`.
pub async fn answer(edge: Edge, desktop: &str, request: Request) -> Response {
    let Ok(desktop) = desktop.parse::<DesktopId>() else {
        return (StatusCode::NOT_FOUND, "there is no such desktop\n").into_response();
    };
    match *request.method() {
        Method::POST => offer::offer(&edge, desktop, request.headers(), request.uri()).await,
        Method::GET => open_socket(edge, desktop, request),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "POST gives a ticket, GET opens a websocket\n")
            .into_response(),
    }
}

/// Answers `CONNECT {desktop}:5900`, with which a client uses the gateway as its proxy.
pub fn connect(edge: Edge, mut request: Request) -> Response {
    let authority = request.uri().authority();
    let desktop = authority
        .filter(|authority| authority.port_u16() == Some(PORT))
        .and_then(|authority| authority.host().parse::<DesktopId>().ok());
    let upgrading = request.extensions_mut().remove::<OnUpgrade>();
    let (Some(desktop), Some(upgrading)) = (desktop, upgrading) else {
        count_refused("link");
        return (StatusCode::FORBIDDEN, "this proxy leads to desktops only\n").into_response();
    };
    if !edge.raw.awaits(desktop) {
        return not_awaited();
    }
    let tasks = edge.registry.tasks().clone();
    let _tunnel = tasks.spawn("raw-tunnel", async move {
        match upgrading.await {
            Ok(upgraded) => link::serve(&edge, desktop, ClientStream::tunnel(upgraded)).await,
            Err(error) => debug!(%error, "A SPICE client left before its tunnel was there"),
        }
    });
    StatusCode::OK.into_response()
}

fn open_socket(edge: Edge, desktop: DesktopId, mut request: Request) -> Response {
    let headers = request.headers();
    // The ticket lets in, not a cookie. A page of another site could do nothing without one, and is
    // refused nevertheless; a program that is no browser names no origin.
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let is_listed = origin.is_some_and(|origin| edge.raw.origins.iter().any(|one| one == origin));
    if headers.contains_key(ORIGIN) && !is_listed && !cookie::same_origin(headers, None) {
        count_refused("origin");
        let text = "pages of this origin may not open desktops; see [raw] origins\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let accept = match handshake(headers, SUBPROTOCOL) {
        Ok(accept) => accept,
        Err((code, text)) => {
            count_refused("link");
            return (code, text).into_response();
        }
    };
    let Some(upgrading) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (StatusCode::UPGRADE_REQUIRED, "a websocket is expected\n").into_response();
    };
    if !edge.raw.awaits(desktop) {
        return not_awaited();
    }
    let tasks = edge.registry.tasks().clone();
    let _socket = tasks.spawn("raw-socket", async move {
        match upgrading.await {
            Ok(upgraded) => {
                link::serve(&edge, desktop, ClientStream::socket(upgraded).await).await;
            }
            Err(error) => debug!(%error, "A SPICE client left during the upgrade"),
        }
    });
    switching(SUBPROTOCOL, accept).map(Body::new)
}

fn not_awaited() -> Response {
    count_refused("ticket");
    let text = "nobody is expected at this desktop: ask for a new ticket, it is good for 30 s\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

fn hash(ticket: &[u8]) -> TicketHash {
    Sha256::digest(ticket).into()
}

fn count_refused(reason: &'static str) {
    metrics::counter!("vidi_gateway_raw_refused_total", "reason" => reason).increment(1);
}
