//! A controller as an agent sees it: enrolment on a local socket, `AgentLink` over mTLS.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of this")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};
use vidi_kit::controllers::LEADER;
use vidi_kit::tls::{ClientCertificate, Role};
use vidi_kit::transport::{bind_unix, tls_incoming, unix_incoming};
use vidi_kit::{Clock, Tasks};
use vidi_proto::v1::agent_link_server::{AgentLink, AgentLinkServer};
use vidi_proto::v1::agent_message::Message as FromAgent;
use vidi_proto::v1::controller_message::Message as ToAgent;
use vidi_proto::v1::enroll_service_server::{EnrollService, EnrollServiceServer};
use vidi_proto::v1::{
    AgentHello, AgentMessage, CertifyRelayRequest, CertifyRelayResponse, ControllerHello,
    ControllerMessage, EnrollRequest, EnrollResponse, FetchImageRequest, FetchImageResponse,
    GrantKeys, HostReport, LiveSessions, RenewRequest, WantedSet,
};

use super::{Authority, Images};

/// The host that every agent here is.
pub const HOST: &str = "host-1";

/// What a test changes and looks at.
#[derive(Clone)]
pub struct Controller {
    pub authority: Arc<Authority>,
    pub wanted: watch::Sender<Option<WantedSet>>,
    pub keys: watch::Sender<Vec<Vec<u8>>>,
    pub live: watch::Sender<LiveSessions>,
    pub report: watch::Sender<Option<HostReport>>,
    pub hello: watch::Sender<Option<AgentHello>>,
    pub images: Arc<Mutex<Images>>,
    /// Each fetch: digest and offset.
    pub fetches: Arc<Mutex<Vec<(String, u64)>>>,
    /// Where another one leads: links are refused, and end, while there is one.
    pub leader: watch::Sender<Option<String>>,
    /// Bytes after which the next fetches break off.
    pub break_after: Arc<Mutex<Option<usize>>>,
}

impl Controller {
    pub fn new(authority: Arc<Authority>) -> Self {
        Self {
            authority,
            wanted: watch::Sender::new(None),
            keys: watch::Sender::new(Vec::new()),
            live: watch::Sender::new(LiveSessions::default()),
            report: watch::Sender::new(None),
            hello: watch::Sender::new(None),
            images: Arc::default(),
            fetches: Arc::default(),
            leader: watch::Sender::new(None),
            break_after: Arc::default(),
        }
    }

    /// Serves until the tasks stop.
    pub async fn serve(&self, tasks: &Tasks, address: SocketAddr, socket: &Path) -> SocketAddr {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let identity = Arc::new(self.authority.identity(Role::Controller, "c-1"));
        let (_keep, identity) = watch::channel(identity);
        let incoming = tls_incoming(tasks, listener, identity, ClientCertificate::Required);
        let local = unix_incoming(tasks, bind_unix(socket, 0o660).unwrap());
        let (link, stop) = (AgentLinkServer::new(self.clone()), tasks.stop_token());
        let _serving = tasks.spawn("links", async move {
            let server = Server::builder().add_service(link);
            server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
        });
        let (enroll, stop) = (EnrollServiceServer::new(self.clone()), tasks.stop_token());
        let _serving = tasks.spawn("enrol", async move {
            let server = Server::builder().add_service(enroll);
            server.serve_with_incoming_shutdown(local, stop.cancelled_owned()).await
        });
        address
    }

    fn now_ms() -> i64 {
        Clock::system().now_ms()
    }

    async fn talk(
        self,
        mut incoming: Streaming<AgentMessage>,
        answers: mpsc::Sender<Result<ControllerMessage, Status>>,
    ) {
        let send = |message| answers.send(Ok(ControllerMessage { message: Some(message) }));
        let hello = ControllerHello {
            installation_id: self.authority.installation.to_string(),
            host_id: HOST.to_owned(),
            now_ms: Self::now_ms(),
        };
        if send(ToAgent::Hello(hello)).await.is_err() {
            return;
        }
        let (mut wanted, mut keys, mut live) =
            (self.wanted.subscribe(), self.keys.subscribe(), self.live.subscribe());
        wanted.mark_changed();
        keys.mark_changed();
        live.mark_changed();
        let mut leader = self.leader.subscribe();
        loop {
            let message = tokio::select! {
                biased;
                Ok(()) = leader.changed() => {
                    let told = leader.borrow_and_update().clone();
                    let Some(told) = told else { continue };
                    drop(answers.send(Err(not_leader(told))).await);
                    return;
                }
                message = incoming.message() => match message {
                    Ok(Some(AgentMessage { message: Some(FromAgent::Report(report)) })) => {
                        self.report.send_replace(Some(report));
                        continue;
                    }
                    Ok(Some(AgentMessage { message: Some(FromAgent::Hello(hello)) })) => {
                        self.hello.send_replace(Some(hello));
                        continue;
                    }
                    _ => return,
                },
                Ok(()) = keys.changed() => {
                    let keys = keys.borrow_and_update().clone();
                    ToAgent::GrantKeys(GrantKeys { keys, now_ms: Self::now_ms() })
                }
                Ok(()) = live.changed() => {
                    ToAgent::LiveSessions(live.borrow_and_update().clone())
                }
                Ok(()) = wanted.changed() => match wanted.borrow_and_update().clone() {
                    Some(set) => ToAgent::Wanted(set),
                    None => continue,
                },
            };
            if send(message).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, certificate: Vec<u8>) -> EnrollResponse {
        EnrollResponse {
            certificate,
            cas: vec![self.authority.certificate.clone()],
            id: HOST.to_owned(),
            installation_id: self.authority.installation.to_string(),
            expire_time: None,
        }
    }
}

fn not_leader(leader: String) -> Status {
    let metadata = HashMap::from([(LEADER.to_owned(), leader)]);
    let details = ErrorDetails::with_error_info("NOT_LEADER", "vidi.io", metadata);
    Status::with_error_details(Code::Unavailable, "another one leads", details)
}

#[tonic::async_trait]
impl AgentLink for Controller {
    type LinkStream = ReceiverStream<Result<ControllerMessage, Status>>;
    type FetchImageStream = ReceiverStream<Result<FetchImageResponse, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        if let Some(leader) = self.leader.borrow().clone() {
            return Err(not_leader(leader));
        }
        let (answers, stream) = mpsc::channel(4);
        let _talking = Tasks::new().spawn("talk", self.clone().talk(request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fetch_image(
        &self,
        request: Request<FetchImageRequest>,
    ) -> Result<Response<Self::FetchImageStream>, Status> {
        let request = request.into_inner();
        self.fetches.lock().unwrap().push((request.sha256.clone(), request.offset));
        let image = self.images.lock().unwrap().get(&request.sha256).cloned();
        let mut image = image.ok_or_else(|| Status::not_found("there is no such image"))?;
        let mut rest = image.split_off(usize::try_from(request.offset).unwrap().min(image.len()));
        let mut budget = self.break_after.lock().unwrap().take().unwrap_or(usize::MAX);
        let (answers, stream) = mpsc::channel(2);
        let _sending = Tasks::new().spawn("send-image", async move {
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(1 << 20).min(budget));
                budget -= chunk.len();
                if answers.send(Ok(FetchImageResponse { chunk })).await.is_err() {
                    return;
                }
                if budget == 0 {
                    drop(answers.send(Err(Status::unavailable("going down"))).await);
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn certify_relay(
        &self,
        request: Request<CertifyRelayRequest>,
    ) -> Result<Response<CertifyRelayResponse>, Status> {
        let certificate = self.authority.sign(&request.into_inner().csr, Role::Relay, HOST);
        let cas = vec![self.authority.certificate.clone()];
        Ok(Response::new(CertifyRelayResponse { certificate, cas }))
    }
}

#[tonic::async_trait]
impl EnrollService for Controller {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let request = request.into_inner();
        let role: Role = request.role.parse().unwrap();
        Ok(Response::new(self.answer(self.authority.sign(&request.csr, role, HOST))))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let certificate = self.authority.sign(&request.into_inner().csr, Role::Agent, HOST);
        Ok(Response::new(self.answer(certificate)))
    }
}
