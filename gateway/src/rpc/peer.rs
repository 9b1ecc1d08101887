//! Both ends of the link between gateways: a browser that came to one looks at a session that another
//! has attached.
//!
//! ```text
//! browser ◀─ websocket ─▶ this gateway ◀─ View, mTLS ─▶ the one that has it attached ─▶ its session
//! ```

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};
use vidi_display::protocol::BrowserHello;
use vidi_kit::Tasks;
use vidi_kit::ids::SessionId;
use vidi_kit::tls::{ClientCertificate, IdentityReceiver, Role};
use vidi_kit::transport::{self, PeerInfo, connect_tls, describe, tls_incoming};
use vidi_proto::v1::gateway_peer_client::GatewayPeerClient;
use vidi_proto::v1::gateway_peer_server::{GatewayPeer, GatewayPeerServer};
use vidi_proto::v1::{
    PeerClose, PeerOpening, PeerRequest, PeerResponse, peer_request, peer_response,
};

use crate::error::GatewayError;
use crate::http::router::Edge;
use crate::model::{Admitted, CloseCode, Peer};
use crate::reconcile::registry::{FromViewer, ToViewer};
use crate::ws::pump::{Said, hello_of};
use crate::ws::seat::{Refusal, authorize, seat, watch_rights};

/// Largest message on the link: one of the display protocol, of which a large cursor is the longest.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Browsers of one gateway that look at sessions of another, at one time.
const VIEWS_MAX: u32 = 1_000;
/// A gateway that does not answer HTTP/2 pings is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The opening comes at once, and so does the answer to it.
const OPENING_SECS_MAX: Duration = Duration::from_secs(10);
/// Messages that wait for the link.
const MESSAGES_MAX: usize = 64;

/// The service.
#[derive(Clone, Debug)]
pub struct PeerService {
    edge: Edge,
}

impl PeerService {
    /// Over this gateway's sessions.
    pub const fn new(edge: Edge) -> Self {
        Self { edge }
    }

    /// Serves other gateways until the tasks stop.
    pub async fn serve(
        self,
        listener: TcpListener,
        identity: IdentityReceiver,
    ) -> Result<(), tonic::transport::Error> {
        let tasks = self.edge.registry.tasks().clone();
        let incoming = tls_incoming(&tasks, listener, identity, ClientCertificate::Required);
        let service = GatewayPeerServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(VIEWS_MAX)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async move { tasks.stopping().await })
            .await
    }
}

#[tonic::async_trait]
impl GatewayPeer for PeerService {
    type ViewStream = Pin<Box<dyn Stream<Item = Result<PeerResponse, Status>> + Send>>;

    async fn view(
        &self,
        request: Request<Streaming<PeerRequest>>,
    ) -> Result<Response<Self::ViewStream>, Status> {
        let peer = request.extensions().get::<PeerInfo>().map(|info| info.peer.clone());
        let Some(transport::Peer::Daemon { role: Role::Gateway, id }) = peer else {
            return Err(Status::permission_denied("this is for gateways"));
        };
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(OPENING_SECS_MAX, messages.message())
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("the opening did not come"))??;
        let Some(PeerRequest { part: Some(peer_request::Part::Opening(opening)) }) = first else {
            return Err(Status::invalid_argument("the first message is the opening"));
        };
        let hello = hello_of(&opening.hello).map_err(Status::invalid_argument)?;
        let session: SessionId = opening
            .session
            .parse()
            .map_err(|_malformed| Status::invalid_argument("the session is a uuid"))?;
        let (answers, stream) = mpsc::channel(MESSAGES_MAX);
        let edge = self.edge.clone();
        info!(%session, gateway = id, "A browser comes through another gateway");
        let serving = serve_view(edge, (session, opening.token, hello), messages, answers);
        let _serving = self.edge.registry.tasks().spawn("peer-view", serving);
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

type Answers = mpsc::Sender<Result<PeerResponse, Status>>;

/// One browser behind another gateway.
async fn serve_view(
    edge: Edge,
    (session, token, hello): (SessionId, String, BrowserHello),
    messages: Streaming<PeerRequest>,
    answers: Answers,
) {
    let found = match authorize(&edge.controller, &token, session).await {
        Ok(Admitted { elsewhere: Some(_), .. }) => {
            // It was attached elsewhere meanwhile: the browser's next try goes there.
            let text = "the session is at another gateway now";
            return drop(answers.send(Ok(closing(CloseCode::TryAgain, text))).await);
        }
        Ok(found) => found,
        Err(Refusal { code, text }) => {
            return drop(answers.send(Ok(closing(code, &text))).await);
        }
    };
    let (incoming, outgoing, closer) = seat(&edge, found, &token, hello).await;
    // Cancel-safe: when one direction ends, so does the view; nothing else is held.
    tokio::select! {
        biased;
        () = forward(outgoing, &answers) => {}
        problem = take(messages, &incoming) => {
            if let Some(problem) = problem {
                debug!(problem, "A browser broke the display protocol");
                drop(answers.send(Ok(closing(CloseCode::Protocol, &problem))).await);
            }
        }
        () = watch_rights(&edge, &token, session, closer) => {}
    }
    // The session may be gone first.
    drop(incoming.send(FromViewer::Gone).await);
}

/// The session's messages, to the other gateway.
async fn forward(mut outgoing: mpsc::Receiver<ToViewer>, answers: &Answers) {
    loop {
        let (answer, last) = match outgoing.recv().await {
            Some(ToViewer::Message(bytes)) => {
                (PeerResponse { part: Some(peer_response::Part::Data(bytes)) }, false)
            }
            Some(ToViewer::Close(code, text)) => (closing(code, &text), true),
            None => (closing(CloseCode::TryAgain, "the session was lost"), true),
        };
        if answers.send(Ok(answer)).await.is_err() || last {
            return;
        }
    }
}

/// The browser's messages; how it broke the protocol, if it did.
async fn take(
    mut messages: Streaming<PeerRequest>,
    incoming: &mpsc::Sender<FromViewer>,
) -> Option<String> {
    loop {
        // The other gateway is gone, or the browser.
        let Ok(Some(PeerRequest { part: Some(part) })) = messages.message().await else {
            return None;
        };
        let said = match part {
            peer_request::Part::Data(bytes) => match FromViewer::message(bytes) {
                Ok(said) => said,
                Err(problem) => return Some(problem),
            },
            peer_request::Part::Sent(bytes) => {
                FromViewer::sent(usize::try_from(bytes).unwrap_or(usize::MAX))
            }
            peer_request::Part::Opening(_) => return Some("a second opening".to_owned()),
        };
        if incoming.send(said).await.is_err() {
            // The session has let this viewer go: its last word is still on its way.
            return std::future::pending().await;
        }
    }
}

fn closing(code: CloseCode, text: &str) -> PeerResponse {
    let close = PeerClose { code: code.number().into(), text: text.to_owned() };
    PeerResponse { part: Some(peer_response::Part::Close(close)) }
}

/// What a browser's socket says, for the other gateway.
impl Said for PeerRequest {
    fn message(bytes: Bytes) -> Result<Self, String> {
        Ok(Self { part: Some(peer_request::Part::Data(bytes)) })
    }

    fn sent(bytes: usize) -> Self {
        Self { part: Some(peer_request::Part::Sent(bytes as u64)) }
    }

    fn gone() -> Self {
        // The end of the stream says it.
        Self { part: None }
    }
}

/// Opens a view at the gateway that has the session attached; what it sends comes from the receiver.
pub(crate) async fn open(
    tasks: &Tasks,
    identity: &IdentityReceiver,
    peer: &Peer,
    opening: PeerOpening,
) -> Result<(mpsc::Sender<PeerRequest>, mpsc::Receiver<ToViewer>), GatewayError> {
    let current = std::sync::Arc::clone(&identity.borrow());
    let channel = connect_tls(&peer.address, &peer.name, current.client_config()?)
        .await
        .map_err(|error| GatewayError::HostAway(describe(&error)))?;
    let (requests, receiver) = mpsc::channel(MESSAGES_MAX);
    // The queue is new and has room.
    let first = PeerRequest { part: Some(peer_request::Part::Opening(opening)) };
    drop(requests.try_send(first));
    let mut client = GatewayPeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let asking = client.view(ReceiverStream::new(receiver));
    let silent = |_elapsed| GatewayError::HostAway(format!("{} is silent", peer.name));
    let answers = tokio::time::timeout(OPENING_SECS_MAX, asking).await.map_err(silent)??;
    let answers = answers.into_inner();
    let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
    let stop = tasks.stop_token();
    let _answering = tasks.spawn("peer-answers", async move {
        // Cancel-safe: at the stop the browser comes back by itself.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = answer(answers, outgoing) => {}
        }
    });
    Ok((requests, messages))
}

async fn answer(mut answers: Streaming<PeerResponse>, outgoing: mpsc::Sender<ToViewer>) {
    loop {
        let part = match answers.message().await {
            Ok(Some(PeerResponse { part: Some(part) })) => part,
            Ok(_) => return,
            Err(status) => {
                return warn!(error = status.message(), "The other gateway is lost");
            }
        };
        let told = match part {
            peer_response::Part::Data(bytes) => ToViewer::Message(bytes),
            peer_response::Part::Close(PeerClose { code, text }) => {
                ToViewer::Close(CloseCode::of_number(code), text)
            }
        };
        if outgoing.send(told).await.is_err() {
            return;
        }
    }
}
