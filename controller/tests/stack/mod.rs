//! A controller on a memory store that can die, a scripted agent, and callers of every kind; all in
//! one process and in virtual time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use bytes::{Buf, BufMut};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use vidi_controller::adapters::images::ImageFolder;
use vidi_controller::adapters::local_directory::LocalDirectory;
use vidi_controller::adapters::memory::{Fault, MemoryStore};
use vidi_controller::backup::{Existing, Restored};
use vidi_controller::model::{
    Change, Guest, ImageFile, Limits, Manifest, Readiness, SignIn, Tenant, User, Video, World,
};
use vidi_controller::ports::{
    CommitError, Committed, Expect, Leadership, Page, Store, StoreError, Watch, Write,
};
use vidi_controller::rpc::auditing::AuditLayer;
use vidi_controller::rpc::authorization::AuthorizationLayer;
use vidi_controller::rpc::caller::token_sha256;
use vidi_controller::rpc::{Parts, server};
use vidi_controller::{backup, bootstrap, reconcile, records};
use vidi_kit::grant::{GrantSigner, verify};
use vidi_kit::tls::Role;
use vidi_kit::transport::{Peer, PeerInfo};
use vidi_kit::{Clock, Tasks};
use vidi_proto::v1::agent_link_client::AgentLinkClient;
use vidi_proto::v1::store_service_client::StoreServiceClient;
use vidi_proto::v1::{
    AgentHello, AgentMessage, BackUpRequest, ControllerMessage, GrantClaims, HostReport,
    ObservedDesktop, Power, WantedPower, WantedSet, agent_message, controller_message,
};

pub(crate) const GATEWAY: &str = "edge-1";
const HOST: &str = "host-1";
const START_MS: i64 = 1_700_000_000_000;
/// Certificates are good since this long before they are made.
const BACKDATED_MS: i64 = 300_000;
/// A session that nobody has attached for this long ends.
pub(crate) const DISCONNECT_MS: i64 = 120_000;

/// A client's end of the controller, without a wire.
pub(crate) type Service =
    BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// What happens to the first controller or its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Never,
    /// It dies at this commit of its life, before or after the store took it.
    At {
        commit: u32,
        after: bool,
    },
    /// The answer to this commit is lost; the store took it.
    AnswerLostAfter(u32),
    /// The answer to this commit is lost; the store did not take it.
    AnswerLostBefore(u32),
}

/// The store as one controller sees it.
#[derive(Debug)]
struct Mortal {
    inner: Arc<MemoryStore>,
    crash: Crash,
    armed: AtomicBool,
    commits: AtomicU32,
    dead: AtomicBool,
}

#[async_trait]
impl Store for Mortal {
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Page, StoreError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("this controller is dead".to_owned()));
        }
        self.inner.list(prefix, after, limit).await
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Committed, CommitError> {
        let gone = || Err(CommitError::Unknown("this controller is dead".to_owned()));
        if self.dead.load(Ordering::SeqCst) {
            return gone();
        }
        if !self.armed.load(Ordering::SeqCst) {
            return self.inner.commit(expect, writes).await;
        }
        let number = self.commits.fetch_add(1, Ordering::SeqCst);
        match self.crash {
            Crash::At { commit, after } if commit == number => {
                if after {
                    self.inner.commit(expect, writes).await?;
                }
                self.dead.store(true, Ordering::SeqCst);
                return gone();
            }
            Crash::AnswerLostAfter(commit) if commit == number => {
                self.inner.fail_next([Fault::AnswerLostAfter]);
            }
            Crash::AnswerLostBefore(commit) if commit == number => {
                self.inner.fail_next([Fault::AnswerLostBefore]);
            }
            _ => {}
        }
        self.inner.commit(expect, writes).await
    }

    async fn watch(&self, prefix: &str, from: u64) -> Result<Box<dyn Watch>, StoreError> {
        self.inner.watch(prefix, from).await
    }

    async fn lead(&self, controller: &str) -> Result<Leadership, StoreError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("this controller is dead".to_owned()));
        }
        self.inner.lead(controller).await
    }
}

/// Messages as they are encoded, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// What the scripted host has, whatever happens to controllers.
#[derive(Debug, Default)]
struct HostState {
    desktops: BTreeMap<String, ObservedDesktop>,
    wanted: Option<WantedSet>,
    sessions: Vec<(String, u64)>,
}

/// One controller's life.
struct Controller {
    tasks: Tasks,
    store: Arc<Mortal>,
    parts: Parts,
}

/// See the module.
pub(crate) struct Stack {
    folder: tempfile::TempDir,
    clock: Clock,
    inner: Arc<MemoryStore>,
    controller: Controller,
    crashed: bool,
    /// Since when the agent's certificate is good.
    certified_ms: i64,
    host: Arc<Mutex<HostState>>,
    /// The controller that the agent dials; none while it is cut off.
    dial: watch::Sender<Option<Service>>,
    _world: Tasks,
}

impl Stack {
    /// A controller with users ana, ben and admin, a template and a host.
    pub(crate) async fn new(crash: Crash) -> Self {
        vidi_kit::tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START_MS);
        let inner = Arc::new(MemoryStore::new());
        let controller = begin(&inner, crash, &clock, folder.path()).await;
        prepare(&controller).await;
        let (dial, dialled) = watch::channel(None);
        let (host, world) = (Arc::new(Mutex::new(HostState::default())), Tasks::new());
        let _agent = world.spawn("agent", agent(Arc::clone(&host), dialled));
        let ticking = clock.clone();
        let _ticking = world.spawn("clock", async move {
            const STEP: Duration = Duration::from_millis(50);
            loop {
                tokio::time::sleep(STEP).await;
                ticking.advance(STEP);
            }
        });
        let stack = Self {
            folder,
            clock,
            inner,
            controller,
            crashed: false,
            certified_ms: START_MS - BACKDATED_MS,
            host,
            dial,
            _world: world,
        };
        stack.cut_agent(false);
        let linked =
            |stack: &Self| stack.world().hosts_live.values().any(|live| live.report.is_some());
        stack.until(linked, "the agent links").await.unwrap();
        stack.controller.store.armed.store(true, Ordering::SeqCst);
        stack
    }

    /// A new controller on the same store, after the old one's process is gone.
    pub(crate) async fn restart(&mut self) {
        self.crashed = true;
        self.controller.tasks.stop().await;
        self.controller = begin(&self.inner, Crash::Never, &self.clock, self.folder.path()).await;
        self.cut_agent(false);
    }

    /// Everything that is stored.
    pub(crate) fn entries(&self) -> Vec<(String, Bytes)> {
        let page = futures_now(self.inner.list("", "", usize::MAX)).unwrap();
        assert!(!page.more);
        page.entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    /// The file of a backup, as root's command gets it while the controller goes on.
    pub(crate) async fn back_up(&self) -> Vec<u8> {
        let mut client = StoreServiceClient::new(self.root());
        let mut chunks = client.back_up(BackUpRequest {}).await.unwrap().into_inner();
        let mut file = Vec::new();
        while let Some(next) = chunks.message().await.unwrap() {
            file.extend_from_slice(&next.chunk);
        }
        file
    }

    /// A new controller on a new store into which this backup was restored; people sign in again.
    pub(crate) async fn restore(&mut self, file: &[u8]) -> Restored {
        self.crashed = true;
        self.controller.tasks.stop().await;
        self.inner = Arc::new(MemoryStore::new());
        let backup = backup::file::read(file).unwrap();
        let now_ms = self.clock.now_ms();
        let done = backup::restore(&*self.inner, backup, Existing::Refuse, now_ms).await.unwrap();
        self.controller = begin(&self.inner, Crash::Never, &self.clock, self.folder.path()).await;
        let users: Vec<_> = self.world().users.iter().map(|((_, id), _)| id.to_string()).collect();
        for user in users {
            self.sign_in(&user).await;
        }
        self.cut_agent(false);
        done
    }

    /// The agent gets a new certificate and dials with it.
    pub(crate) fn enroll_agent_again(&mut self) {
        self.certified_ms = self.clock.now_ms() - BACKDATED_MS;
        self.cut_agent(false);
    }

    /// The clock goes on by this much at once, and everything is looked at after it.
    pub(crate) async fn skip(&self, by: Duration) {
        self.clock.advance(by);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.controller.store.dead.load(Ordering::SeqCst)
    }

    /// Whether any controller died.
    pub(crate) fn crashed(&self) -> bool {
        self.crashed || self.is_dead()
    }

    pub(crate) fn refuse_commits(&self, count: usize) {
        self.inner.fail_next(std::iter::repeat_n(Fault::Unavailable, count));
    }

    pub(crate) fn cut_agent(&self, cut: bool) {
        let agent = Peer::Daemon { role: Role::Agent, id: HOST.to_owned() };
        self.dial.send_replace((!cut).then(|| self.service(agent, None)));
    }

    pub(crate) fn shut_guests_down(&self) {
        for desktop in self.host.lock().unwrap().desktops.values_mut() {
            desktop.set_power(Power::Off);
            desktop.ready = false;
        }
        // Its agent notices and dials anew, which reports at once.
        self.cut_agent(false);
    }

    pub(crate) fn admin(&self) -> Service {
        self.user("admin")
    }

    pub(crate) fn user(&self, user: &str) -> Service {
        self.service(Peer::Anonymous, Some(format!("Bearer token-of-{user}")))
    }

    /// The installation's operator.
    pub(crate) fn root(&self) -> Service {
        self.service(Peer::Local { uid: 0 }, None)
    }

    pub(crate) fn gateway(&self) -> Service {
        self.gateway_of(GATEWAY)
    }

    /// A gateway by its id.
    pub(crate) fn gateway_of(&self, id: &str) -> Service {
        self.service(Peer::Daemon { role: Role::Gateway, id: id.to_owned() }, None)
    }

    pub(crate) fn world(&self) -> Arc<World> {
        self.controller.parts.handle.world()
    }

    /// Makes a tenant.
    pub(crate) async fn add_tenant(&self, tenant: &str) {
        let record =
            Tenant { display_name: tenant.to_owned(), create_ms: START_MS, ..Tenant::default() };
        let tenant = tenant.parse().unwrap();
        let change = Change::CreateTenant { tenant, record, request: None };
        self.controller.parts.handle.change(change).await.unwrap();
    }

    /// Makes a user, signed in with `token-of-<user>`.
    pub(crate) async fn add_user(&self, tenant: &str, user: &str, roles: &[&str]) {
        let record = User {
            display_name: user.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            password_hash: String::new(),
            create_ms: START_MS,
        };
        let (tenant, id) = (tenant.parse().unwrap(), user.parse().unwrap());
        let change = Change::CreateUser { tenant, user: id, record, request: None };
        self.controller.parts.handle.change(change).await.unwrap();
        self.sign_in(user).await;
    }

    /// Signs a user in, again if need be; users of different tenants have different names here.
    pub(crate) async fn sign_in(&self, user: &str) {
        let world = self.world();
        let known = world.users.iter().find(|((_, id), _)| id.as_str() == user);
        let ((tenant, id), _) = known.unwrap();
        let record = SignIn {
            tenant: tenant.clone(),
            user: id.clone(),
            create_ms: START_MS,
            expire_ms: START_MS + 1_000_000_000,
        };
        let token_sha256 = token_sha256(&format!("token-of-{user}"));
        let change = Change::CreateSignIn { token_sha256, record };
        self.controller.parts.handle.change(change).await.unwrap();
    }

    /// Controller time.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The world as a new controller would read it.
    pub(crate) fn stored_world(&self) -> World {
        let listing = self.inner.list("", "", usize::MAX);
        let page = futures_now(listing).unwrap();
        assert!(!page.more);
        let mut world = World::default();
        for entry in page.entries {
            if let Some(row) = records::row(&entry.key, &entry.value, 0).unwrap() {
                world.put(row);
            }
        }
        world
    }

    /// Revision of the newest commit.
    pub(crate) fn revision(&self) -> u64 {
        futures_now(self.inner.list("", "", 1)).unwrap().revision
    }

    pub(crate) fn verify(&self, grant: &[u8]) -> GrantClaims {
        let world = self.world();
        let keys: Vec<_> = world.grant_keys.values().map(|(key, _)| key.clone()).collect();
        verify(grant, &keys, self.clock.now_ms()).unwrap()
    }

    pub(crate) fn host_runs(&self, desktop: &str) -> bool {
        let id = desktop.rsplit('/').next().unwrap();
        let host = self.host.lock().unwrap();
        host.desktops.get(id).is_some_and(|one| one.power() == Power::Running)
    }

    /// How often the host has started it.
    pub(crate) fn host_starts(&self, desktop: &str) -> u64 {
        let id = desktop.rsplit('/').next().unwrap();
        self.host.lock().unwrap().desktops.get(id).map_or(0, |one| one.start_count)
    }

    pub(crate) fn host_has(&self, desktop: &str) -> bool {
        let id = desktop.rsplit('/').next().unwrap();
        self.host.lock().unwrap().desktops.contains_key(id)
    }

    pub(crate) fn host_is_empty(&self) -> bool {
        self.host.lock().unwrap().desktops.is_empty()
    }

    pub(crate) fn agent_knows(&self, session: &str, epoch: u64) -> bool {
        let id = session.rsplit('/').next().unwrap();
        self.host.lock().unwrap().sessions.iter().any(|one| one.0 == id && one.1 == epoch)
    }

    /// Waits until something holds, or fails when the controller dies or it takes a minute.
    pub(crate) async fn until(
        &self,
        holds: impl Fn(&Self) -> bool,
        what: &str,
    ) -> Result<(), Status> {
        for _ in 0..600 {
            if holds(self) {
                return Ok(());
            }
            if self.is_dead() {
                return Err(Status::unavailable("the controller died"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("in a minute it did not happen that {what}");
    }

    fn service(&self, peer: Peer, authorization: Option<String>) -> Service {
        let parts = &self.controller.parts;
        let audits = AuditLayer::new(parts.handle.clone(), parts.clock.clone());
        let layer = AuthorizationLayer::new(parts.handle.watch(), parts.clock.clone());
        let address = Some(([192, 0, 2, 7], 40_000).into());
        let info = PeerInfo { peer, address, connection: 1, certified_ms: self.certified_ms };
        let routes = server::routes(parts).unwrap().prepare();
        let service = tower::ServiceBuilder::new()
            .map_request(move |mut request: http::Request<Body>| {
                request.extensions_mut().insert(info.clone());
                if let Some(value) = &authorization {
                    request.headers_mut().insert("authorization", value.parse().unwrap());
                }
                request
            })
            .layer(audits)
            .layer(layer)
            .service(routes);
        BoxCloneSyncService::new(service.map_err(|never: Infallible| match never {}))
    }
}

/// Of a future that never waits.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("the memory store does not wait"),
    }
}

async fn begin(inner: &Arc<MemoryStore>, crash: Crash, clock: &Clock, folder: &Path) -> Controller {
    let store = Arc::new(Mortal {
        inner: Arc::clone(inner),
        crash,
        armed: AtomicBool::new(false),
        commits: AtomicU32::new(0),
        dead: AtomicBool::new(false),
    });
    let shared: Arc<dyn Store> = store.clone();
    let key = folder.join("controller.key");
    let authority =
        bootstrap::open(&*shared, clock, bootstrap::KeyFile::Own(&key), folder).await.unwrap();
    let tasks = Tasks::new();
    let limits = Limits { disconnect_ms: DISCONNECT_MS, ..Limits::default() };
    let own = reconcile::Own {
        id: "c1".to_owned(),
        address: String::new(),
        limits,
        chance: vidi_kit::Chance::system(),
    };
    let handle = reconcile::start(&tasks, Arc::clone(&shared), clock.clone(), own);
    let handle = handle.await.unwrap();
    let signer = GrantSigner::generate().unwrap();
    bootstrap::publish_grant_key(&handle, "c1", signer.public_key()).await.unwrap();
    let parts = Parts {
        handle,
        store: Arc::clone(&shared),
        authority: Arc::new(authority),
        directory: Arc::new(LocalDirectory::new(shared).unwrap()),
        clock: clock.clone(),
        tasks: tasks.clone(),
        signer: Arc::new(signer),
        controller: "c1".to_owned(),
        addresses: vec!["127.0.0.1:7443".to_owned()],
        images: Arc::new(ImageFolder::open(&folder.join("images")).unwrap()),
        forward: None,
    };
    Controller { tasks, store, parts }
}

async fn prepare(controller: &Controller) {
    let handle = &controller.parts.handle;
    let tenant = || "default".parse().unwrap();
    for user in ["ana", "ben", "admin"] {
        let record = User {
            display_name: user.to_owned(),
            roles: vec![if user == "admin" { "admin" } else { "user" }.to_owned()],
            password_hash: String::new(),
            create_ms: START_MS,
        };
        if handle.world().user(&tenant(), &user.parse().unwrap()).is_none() {
            let user = user.parse().unwrap();
            let change = Change::CreateUser { tenant: tenant(), user, record, request: None };
            handle.change(change).await.unwrap();
        }
        let record = SignIn {
            tenant: tenant(),
            user: user.parse().unwrap(),
            create_ms: START_MS,
            expire_ms: START_MS + 1_000_000_000,
        };
        let token_sha256 = token_sha256(&format!("token-of-{user}"));
        handle.change(Change::CreateSignIn { token_sha256, record }).await.unwrap();
    }
    let disk = ImageFile { file: "disk".to_owned(), sha256: "0".repeat(64), size_bytes: 1 };
    let guest = Guest {
        memory_mib: 128,
        vcpus: 1,
        video: Video::Qxl,
        readiness: Readiness::Helper,
        sound: false,
    };
    let manifest = Manifest { disk, kernel: None, initrd: None, cmdline: String::new(), guest };
    let change = Change::PutTemplate {
        tenant: tenant(),
        template: "micro".parse().unwrap(),
        display_name: String::new(),
        digest: format!("sha256:{}", "1".repeat(64)),
        manifest,
        draft: false,
    };
    handle.change(change).await.unwrap();
}

/// An agent that follows every wish at once, one visible state after the other.
async fn agent(host: Arc<Mutex<HostState>>, mut dialled: watch::Receiver<Option<Service>>) {
    loop {
        let service = dialled.borrow_and_update().clone();
        if let Some(service) = service {
            // Cancel-safe: the host's state is kept outside.
            tokio::select! {
                biased;
                changed = dialled.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = serve(&host, service) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn serve(host: &Mutex<HostState>, service: Service) {
    let (messages, outgoing) = mpsc::channel(64);
    let hello = AgentHello {
        agent_version: "test".to_owned(),
        hostname: "host".to_owned(),
        relay_port: 7444,
        relay_advertise: String::new(),
    };
    let hello = AgentMessage { message: Some(agent_message::Message::Hello(hello)) };
    messages.send(hello).await.unwrap();
    let mut client = AgentLinkClient::new(service);
    let Ok(link) = client.link(ReceiverStream::new(outgoing)).await else { return };
    let mut link = link.into_inner();
    let mut beat = tokio::time::interval(Duration::from_secs(10));
    let mut wanted_received = false;
    loop {
        // Cancel-safe: `message` keeps a part it has read.
        tokio::select! {
            biased;
            message = link.message() => {
                let Ok(Some(message)) = message else { return };
                wanted_received |= take(host, message);
                while let Some(report) = step(host, wanted_received) {
                    if messages.send(report).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            _ = beat.tick() => {}
        }
        if messages.send(report(host, wanted_received)).await.is_err() {
            return;
        }
    }
}

/// Whether it was the wanted set.
fn take(host: &Mutex<HostState>, message: ControllerMessage) -> bool {
    let mut host = host.lock().unwrap();
    match message.message {
        Some(controller_message::Message::Wanted(wanted)) => {
            host.wanted = Some(wanted);
            true
        }
        Some(controller_message::Message::LiveSessions(live)) => {
            host.sessions = live.sessions.into_iter().map(|one| (one.session, one.epoch)).collect();
            false
        }
        _ => false,
    }
}

/// One step of the host toward what is wanted, reported; none when there is nothing to do.
fn step(host: &Mutex<HostState>, wanted_received: bool) -> Option<AgentMessage> {
    let changed = {
        let host = &mut *host.lock().unwrap();
        let wanted = host.wanted.as_ref().filter(|_| wanted_received)?;
        let before = host.desktops.clone();
        let destroyed =
            |id: &String| wanted.desktops.iter().any(|one| one.destroy && one.id == *id);
        host.desktops.retain(|id, _| !destroyed(id));
        for one in wanted.desktops.iter().filter(|one| !one.destroy) {
            let new = || ObservedDesktop { id: one.id.clone(), ..Default::default() };
            let seen = host.desktops.entry(one.id.clone()).or_insert_with(new);
            let fresh = seen.generation != one.generation;
            seen.generation = one.generation;
            let next = match (seen.power(), one.power()) {
                (Power::Unspecified, _) => Power::Preparing,
                (Power::Preparing, WantedPower::Off) => Power::Off,
                (Power::Preparing, WantedPower::On) => Power::Starting,
                (Power::Off, WantedPower::On) if fresh => Power::Starting,
                (Power::Starting, _) => Power::Running,
                (Power::Running, WantedPower::Off) => Power::Off,
                (power, _) => power,
            };
            seen.ready = next == Power::Running;
            seen.start_count += u64::from(next == Power::Starting && seen.power() != next);
            seen.set_power(next);
        }
        host.desktops != before
    };
    changed.then(|| report(host, wanted_received))
}

fn report(host: &Mutex<HostState>, wanted_received: bool) -> AgentMessage {
    let host = host.lock().unwrap();
    let set = host.wanted.as_ref().filter(|_| wanted_received);
    let named = |id: &String| set.is_some_and(|set| set.desktops.iter().any(|one| one.id == *id));
    let (known, unknown): (Vec<_>, Vec<_>) = host.desktops.iter().partition(|(id, _)| named(id));
    let report = HostReport {
        cpus: 2,
        memory_total_mib: 4_096,
        memory_available_mib: 4_096,
        acceleration: "tcg".to_owned(),
        desktops: known.into_iter().map(|(_, one)| one.clone()).collect(),
        unknown: unknown.into_iter().map(|(id, _)| id.clone()).collect(),
        wanted_received,
        wanted_number: set.map(|set| set.number).unwrap_or_default(),
        ..Default::default()
    };
    AgentMessage { message: Some(agent_message::Message::Report(report)) }
}
