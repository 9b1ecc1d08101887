//! The controller's program on a real etcd: two of them, of which one leads and the other follows, and
//! clients that know both.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod etcd;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use vidi_kit::Tasks;
use vidi_kit::controllers::{self, is_away, leader_of};
use vidi_kit::enroll::{decode_token, with_token};
use vidi_kit::tls::{CONTROLLER_NAME, Role, anonymous_client_config, install_provider};
use vidi_kit::transport::{connect_tls, connect_unix, describe};
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::host_service_client::HostServiceClient;
use vidi_proto::v1::sign_in_service_client::SignInServiceClient;
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::{
    CreateEnrollTokenRequest, CreateTenantRequest, ListDesktopsRequest, ListTenantsRequest,
    SignInRequest, WatchDesktopsRequest,
};

use self::etcd::Cluster;

const WAIT_MAX: Duration = Duration::from_secs(40);
/// From a leader's death until another serves: a lease, a look at the key, and reading everything.
const FAILOVER_MAX: Duration = Duration::from_secs(8);

/// A controller's process; it ends with this.
struct Controller {
    folder: PathBuf,
    metrics: String,
    /// Where others reach it.
    address: String,
    child: Child,
}

impl Controller {
    fn start(cluster: &Cluster, id: &str, key_file: &Path) -> Self {
        let folder = cluster.folder.path().join(id);
        std::fs::create_dir_all(&folder).unwrap();
        let (listen, metrics) = (etcd::free_address(), etcd::free_address().to_string());
        let path = folder.display();
        let config = format!(
            "state = \"{path}/state\"\nlisten = \"{listen}\"\nadvertise = [\"{listen}\"]\nsocket = \"{path}/c.sock\"\n\
             key_file = \"{}\"\nid = \"{id}\"\n[store]\nkind = \"etcd\"\nendpoints = {:?}\n\
             [telemetry]\nlisten = \"{metrics}\"\n",
            key_file.display(),
            cluster.endpoints(),
        );
        std::fs::write(folder.join("controller.toml"), config).unwrap();
        let child = Self::run(&folder);
        Self { folder, metrics, address: listen.to_string(), child }
    }

    fn run(folder: &Path) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"));
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_vidi-controller"), "--config"])
            .arg(folder.join("controller.toml"))
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap()
    }

    /// Stops in order, as an upgrade does it.
    async fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        let until = Instant::now() + WAIT_MAX;
        loop {
            match self.child.try_wait().unwrap() {
                Some(ended) => break assert!(ended.success(), "{ended}\n{}", self.log()),
                None => assert!(Instant::now() < until, "it does not stop\n{}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Another process in the place of the one that was stopped, at the same address.
    fn start_again(&mut self) {
        self.child = Self::run(&self.folder);
    }

    /// A command of the program with this controller's configuration: whether it did it, and what it said.
    async fn command(&self, arguments: &[&str]) -> (bool, String) {
        let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_vidi-controller"))
            .arg("--config")
            .arg(self.folder.join("controller.toml"))
            .args(arguments)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(WAIT_MAX, run).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What `/ready` answers; nothing while it does not.
    async fn ready(&self) -> String {
        self.get("/ready").await
    }

    async fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(&self.metrics).await {
            let request = format!("GET {path} HTTP/1.0\r\nhost: here\r\n\r\n");
            drop(stream.write_all(request.as_bytes()).await);
            drop(stream.read_to_string(&mut answer).await);
        }
        answer
    }

    /// A figure of `/metrics`, by its name with its labels.
    async fn metric(&self, name: &str) -> f64 {
        let all = self.get("/metrics").await;
        let line = all.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("none");
        line.trim().parse().unwrap_or_else(|_| panic!("{name} in {all}"))
    }

    async fn wait_until_ready(&self, expected: &str) {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let answer = self.ready().await;
            if answer.contains(expected) {
                return;
            }
            assert!(Instant::now() < until, "{answer}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the first one that starts has made: the CA's certificate, and the first password.
    fn first_files(&self) -> (PathBuf, String) {
        let state = self.folder.join("state");
        (state.join("ca.pem"), std::fs::read_to_string(state.join("admin-password")).unwrap())
    }

    /// Nothing of what was written is lost, and there is nothing else but the first tenant.
    async fn has_all(&self, written: &[String]) {
        let tenants = self.list().await;
        assert_eq!(tenants.len(), 1 + written.len());
        for tenant in written {
            assert!(tenants.contains(&format!("tenants/{tenant}")), "{tenant} is lost");
        }
    }

    /// Its local socket, which may come a moment after it says how it stands.
    async fn local(&self) -> Channel {
        let until = Instant::now() + WAIT_MAX;
        loop {
            match connect_unix(self.folder.join("c.sock")).await {
                Ok(channel) => return channel,
                Err(error) => assert!(Instant::now() < until, "{error}\n{}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.local().await)
    }

    /// Creates a tenant, and asks again while nobody can decide.
    async fn create(&self, tenant: &str) {
        let until = Instant::now() + WAIT_MAX;
        let mut tenants = self.tenants().await;
        loop {
            let request = CreateTenantRequest {
                tenant_id: tenant.to_owned(),
                request_id: uuid::Uuid::new_v4().to_string(),
                ..CreateTenantRequest::default()
            };
            match tenants.create_tenant(request).await {
                Ok(_) => return,
                Err(status) if status.code() == tonic::Code::AlreadyExists => return,
                Err(status) => assert!(Instant::now() < until, "{status}\n{}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn list(&self) -> Vec<String> {
        let answer =
            self.tenants().await.list_tenants(ListTenantsRequest::default()).await.unwrap();
        answer.into_inner().tenants.into_iter().map(|tenant| tenant.name).collect()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // What has ended already needs no end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn a_second_controller_takes_over_with_everything_that_was_written() {
    let mut cluster = Cluster::start(3, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    let first = Controller::start(&cluster, "c1", &key);
    first.wait_until_ready(" 200 ").await;
    let second = Controller::start(&cluster, "c2", &key);
    second.wait_until_ready("it stands by").await;
    first.create("one").await;
    // etcd loses the member that leads it; the controller goes on.
    let member = cluster.leader().await;
    cluster.kill(member);
    first.create("two").await;
    assert!(!second.ready().await.contains(" 200 "), "two lead");
    cluster.restart(member);
    let killed = Instant::now();
    drop(first);
    second.wait_until_ready(" 200 ").await;
    let taken = killed.elapsed();
    eprintln!("a killed controller was followed after {} ms", taken.as_millis());
    assert!(taken < FAILOVER_MAX, "{taken:?}\n{}", second.log());
    assert_eq!(second.list().await, ["tenants/default", "tenants/one", "tenants/two"]);
    // In order: the next one need not wait for the lease.
    let first = Controller::start(&cluster, "c1", &key);
    first.wait_until_ready("it stands by").await;
    let stopped = Instant::now();
    second.signal(rustix::process::Signal::TERM);
    first.wait_until_ready(" 200 ").await;
    eprintln!("a stopped controller was followed after {} ms", stopped.elapsed().as_millis());
    first.create("three").await;
    assert_eq!(first.list().await.len(), 4);
}

/// Somebody who knows several controllers and does as docs/api.md says: another one, or again, when the
/// answer is `UNAVAILABLE` or the connection breaks.
#[derive(Clone)]
struct Client {
    addresses: Vec<String>,
    config: rustls::ClientConfig,
}

impl Client {
    fn new(addresses: Vec<String>, ca_file: &Path) -> Self {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        install_provider();
        let cas: Vec<_> = CertificateDer::pem_file_iter(ca_file)
            .unwrap()
            .map(|one| one.unwrap().to_vec())
            .collect();
        Self { addresses, config: anonymous_client_config(&cas).unwrap() }
    }

    async fn connect(&self, address: &str) -> Result<Channel, Status> {
        connect_tls(address, CONTROLLER_NAME, self.config.clone())
            .await
            .map_err(|error| Status::unavailable(describe(&error)))
    }

    async fn ask<T, Asking>(&self, call: impl Fn(Channel) -> Asking) -> T
    where
        Asking: Future<Output = Result<T, Status>>,
    {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let asking = controllers::ask(&self.addresses, |address| {
                let call = &call;
                async move { call(self.connect(&address).await?).await }
            });
            match asking.await {
                Ok(answer) => return answer,
                Err(status) => {
                    assert!(is_away(&status), "{status}");
                    assert!(Instant::now() < until, "{status}");
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn sign_in(&self, password: &str) -> MetadataValue<Ascii> {
        let request = SignInRequest {
            tenant: "default".to_owned(),
            user: "admin".to_owned(),
            password: password.trim().to_owned(),
        };
        let answer = self
            .ask(async |channel| SignInServiceClient::new(channel).sign_in(request.clone()).await);
        format!("Bearer {}", answer.await.into_inner().token).parse().unwrap()
    }

    async fn create(&self, token: &MetadataValue<Ascii>, tenant: &str) {
        let message = CreateTenantRequest {
            tenant_id: tenant.to_owned(),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..CreateTenantRequest::default()
        };
        self.ask(async |channel| {
            let mut request = Request::new(message.clone());
            request.metadata_mut().insert("authorization", token.clone());
            TenantServiceClient::new(channel).create_tenant(request).await
        })
        .await;
    }
}

/// Two controllers, of which the first one leads.
async fn two_controllers(cluster: &Cluster, key: &Path) -> (Controller, Controller) {
    std::fs::write(key, "5a".repeat(32)).unwrap();
    let first = Controller::start(cluster, "c1", key);
    first.wait_until_ready(" 200 ").await;
    let second = Controller::start(cluster, "c2", key);
    second.wait_until_ready(&format!("it stands by, {} leads", first.address)).await;
    (first, second)
}

#[tokio::test]
async fn who_stands_by_says_who_leads() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    let (first, second) = two_controllers(&cluster, &key).await;
    let health =
        HealthClient::new(second.local().await).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(health.into_inner().status(), ServingStatus::NotServing);
    // People and daemons that know the standby only are told of the leader.
    let (ca_file, password) = first.first_files();
    let standby = Client::new(vec![second.address.clone()], &ca_file);
    let sign_in = SignInRequest { user: "admin".to_owned(), ..SignInRequest::default() };
    let channel = standby.connect(&second.address).await.unwrap();
    let refused = SignInServiceClient::new(channel).sign_in(sign_in).await;
    assert_eq!(leader_of(&refused.unwrap_err()), Some(first.address.clone()));
    let token = standby.sign_in(&password).await;
    let message = CreateEnrollTokenRequest { role: "agent".to_owned(), id: "h1".to_owned() };
    let answer = standby.ask(async |channel| {
        let mut request = Request::new(message.clone());
        request.metadata_mut().insert("authorization", token.clone());
        HostServiceClient::new(channel).create_enroll_token(request).await
    });
    let mut contents = decode_token(&answer.await.into_inner().token).unwrap();
    contents.addresses = vec![second.address.clone()];
    let folder = tempfile::tempdir().unwrap();
    let identity = with_token(contents, Role::Agent, "", folder.path()).await.unwrap();
    assert_eq!(identity.name.id, "h1");
}

#[tokio::test]
async fn clients_of_both_go_on_when_the_leader_is_stopped_or_killed() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    let (first, second) = two_controllers(&cluster, &key).await;
    let (ca_file, password) = first.first_files();
    let both = |first: &Controller, second: &Controller| {
        Client::new(vec![first.address.clone(), second.address.clone()], &ca_file)
    };
    let client = both(&first, &second);
    let token = client.sign_in(&password).await;
    let writer = Writer::start(&cluster.tasks, &client, &token, "stopped");
    first.signal(rustix::process::Signal::TERM);
    second.wait_until_ready(" 200 ").await;
    let mut written = writer.stop().await;
    drop(first);
    let first = Controller::start(&cluster, "c1", &key);
    first.wait_until_ready(&format!("it stands by, {} leads", second.address)).await;
    let writer = Writer::start(&cluster.tasks, &both(&second, &first), &token, "killed");
    let killed = Instant::now();
    drop(second);
    first.wait_until_ready(" 200 ").await;
    eprintln!("a killed controller was followed after {} ms", killed.elapsed().as_millis());
    written.extend(writer.stop().await);
    first.has_all(&written).await;
}

#[tokio::test]
async fn who_stands_by_passes_peoples_calls_on() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    let (first, second) = two_controllers(&cluster, &key).await;
    let (ca_file, password) = first.first_files();
    let client = Client::new(vec![first.address.clone()], &ca_file);
    let token = client.sign_in(&password).await;
    // Root on the other machine.
    assert_eq!(second.list().await, ["tenants/default"]);
    second.create("one").await;
    // A person, with the token that the leader gave.
    let channel = client.connect(&second.address).await.unwrap();
    let by = |message: ListDesktopsRequest| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", token.clone());
        request
    };
    let list = || {
        by(ListDesktopsRequest {
            parent: "tenants/default".to_owned(),
            ..ListDesktopsRequest::default()
        })
    };
    let mut desktops = DesktopServiceClient::new(channel);
    assert!(desktops.list_desktops(list()).await.unwrap().into_inner().desktops.is_empty());
    // What was written elsewhere is read here a moment later, from the copy.
    first.create("two").await;
    let until = Instant::now() + WAIT_MAX;
    while second.list().await.len() < 3 {
        assert!(Instant::now() < until, "{}", second.log());
    }
    let counted = second.metric("vidi_controller_standby_calls_total{result=\"here\"}").await;
    assert!(1.0 <= counted, "{counted}");
    // A stream, which ends with the leader and is asked for again.
    let mut watch = Request::new(WatchDesktopsRequest {
        parent: "tenants/default".to_owned(),
        ..WatchDesktopsRequest::default()
    });
    watch.metadata_mut().insert("authorization", token.clone());
    let mut stream = desktops.watch_desktops(watch).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    drop(first);
    let broken = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended as if all had been told"),
            Err(broken) => break broken,
        }
    };
    assert!(is_away(&broken), "{broken:?}");
    // Nobody leads for a moment, then this one does, with what was written through it.
    second.wait_until_ready(" 200 ").await;
    assert_eq!(second.list().await, ["tenants/default", "tenants/one", "tenants/two"]);
    assert!(desktops.list_desktops(list()).await.unwrap().into_inner().desktops.is_empty());
}

#[tokio::test]
async fn a_leader_that_stands_still_holds_up_nobody_for_long_who_asks_another() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    let (first, second) = two_controllers(&cluster, &key).await;
    let (ca_file, password) = first.first_files();
    let client = Client::new(vec![first.address.clone()], &ca_file);
    let token = client.sign_in(&password).await;
    let other = Client::new(vec![second.address.clone()], &ca_file);
    other.create(&token, "before").await;
    first.signal(rustix::process::Signal::STOP);
    let stopped = Instant::now();
    other.create(&token, "after").await;
    let taken = stopped.elapsed();
    first.signal(rustix::process::Signal::CONT);
    eprintln!("a call that was passed to one that stands still was done after {taken:?}");
    assert!(taken < FAILOVER_MAX, "{taken:?}\n{}", second.log());
    first.wait_until_ready(&format!("it stands by, {} leads", second.address)).await;
    assert_eq!(second.list().await.len(), 3);
}

#[tokio::test]
async fn controllers_are_replaced_one_after_the_other_and_no_client_sees_an_error() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    let (mut first, mut second) = two_controllers(&cluster, &key).await;
    let (ca_file, password) = first.first_files();
    let both = Client::new(vec![first.address.clone(), second.address.clone()], &ca_file);
    let token = both.sign_in(&password).await;
    // One asks the leader first, the other the one that stands by.
    let turned = Client::new(vec![second.address.clone(), first.address.clone()], &ca_file);
    let writers = [
        Writer::start(&cluster.tasks, &both, &token, "left"),
        Writer::start(&cluster.tasks, &turned, &token, "right"),
    ];
    for _ in 0..2 {
        first.stop().await;
        second.wait_until_ready(" 200 ").await;
        first.start_again();
        first.wait_until_ready(&format!("it stands by, {} leads", second.address)).await;
        second.stop().await;
        first.wait_until_ready(" 200 ").await;
        second.start_again();
        second.wait_until_ready(&format!("it stands by, {} leads", first.address)).await;
    }
    let mut written = Vec::new();
    for writer in writers {
        written.extend(writer.stop().await);
    }
    first.has_all(&written).await;
}

#[tokio::test]
async fn a_backup_of_etcd_goes_back_into_it_or_into_another() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    let (mut first, mut second) = two_controllers(&cluster, &key).await;
    first.create("before").await;
    let file = cluster.folder.path().join("backup");
    let file = file.to_str().unwrap();
    let (done, said) = second.command(&["backup", file]).await;
    assert!(done && said.contains("controller.key"), "{said}");
    first.create("after").await;
    let (done, said) = second.command(&["restore", file, "--replace"]).await;
    assert!(!done && said.contains("a controller leads"), "{said}");
    assert_eq!(first.list().await.len(), 3);
    first.stop().await;
    second.stop().await;
    let (done, said) = second.command(&["restore", file]).await;
    assert!(!done && said.contains("--replace"), "{said}");
    // Not with another key: no controller could read its secrets.
    std::fs::write(&key, "5b".repeat(32)).unwrap();
    let (done, said) = second.command(&["restore", file, "--replace"]).await;
    assert!(!done && said.contains("key_file"), "{said}");
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    let (done, said) = second.command(&["restore", file, "--replace"]).await;
    assert!(done, "{said}");
    let expected = ["tenants/before", "tenants/default"];
    first.start_again();
    first.wait_until_ready(" 200 ").await;
    assert_eq!(first.list().await, expected);
    first.stop().await;

    // All of etcd is lost; the same controllers get another.
    let other = Cluster::start(1, &[]).await;
    for controller in [&first, &second] {
        let path = controller.folder.join("controller.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let (old, new) = (format!("{:?}", cluster.endpoints()), format!("{:?}", other.endpoints()));
        assert!(config.contains(&old));
        std::fs::write(&path, config.replace(&old, &new)).unwrap();
    }
    let (done, said) = first.command(&["restore", file]).await;
    assert!(done && said.contains("another cluster"), "{said}");
    first.start_again();
    first.wait_until_ready(" 200 ").await;
    assert_eq!(first.list().await, expected);
    // The other one remembers the etcd before, and says what to do.
    second.start_again();
    let until = Instant::now() + WAIT_MAX;
    while second.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "{}", second.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(second.log().contains("remove the file"), "{}", second.log());
    std::fs::remove_file(second.folder.join("state/etcd-mark")).unwrap();
    second.start_again();
    second.wait_until_ready(&format!("it stands by, {} leads", first.address)).await;
}

/// Makes one tenant after the other until it is stopped.
struct Writer {
    stop: Arc<AtomicBool>,
    writing: tokio::task::JoinHandle<Option<Vec<String>>>,
}

impl Writer {
    fn start(
        tasks: &Tasks,
        client: &Client,
        token: &MetadataValue<Ascii>,
        name: &'static str,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, token, stopping) = (client.clone(), token.clone(), Arc::clone(&stop));
        let writing = tasks.spawn("writer", async move {
            let mut written = Vec::new();
            while !stopping.load(Ordering::SeqCst) {
                let tenant = format!("{name}-{}", written.len());
                client.create(&token, &tenant).await;
                written.push(tenant);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            written
        });
        Self { stop, writing }
    }

    /// What it has written; at least one tenant more is written before.
    async fn stop(self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.stop.store(true, Ordering::SeqCst);
        let written = self.writing.await.unwrap().expect("a client saw an error");
        assert!(!written.is_empty());
        written
    }
}

#[tokio::test]
async fn a_controller_that_was_paused_does_not_lead_any_more() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    let first = Controller::start(&cluster, "c1", &key);
    first.wait_until_ready(" 200 ").await;
    let second = Controller::start(&cluster, "c2", &key);
    second.wait_until_ready("it stands by").await;
    first.signal(rustix::process::Signal::STOP);
    second.wait_until_ready(" 200 ").await;
    second.create("one").await;
    first.signal(rustix::process::Signal::CONT);
    first.wait_until_ready("does not lead").await;
    let mut tenants = first.tenants().await;
    let two = CreateTenantRequest { tenant_id: "two".to_owned(), ..CreateTenantRequest::default() };
    let refused = tenants.create_tenant(two).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert_eq!(second.list().await, ["tenants/default", "tenants/one"]);
}

#[tokio::test]
async fn a_controller_on_an_empty_etcd_wants_its_key_first() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    let mut first = Controller::start(&cluster, "c1", &key);
    let status = tokio::task::spawn_blocking(move || {
        let status = first.child.wait().unwrap();
        (status, first.log())
    });
    let (status, log) = tokio::time::timeout(WAIT_MAX, status).await.unwrap().unwrap();
    assert!(!status.success());
    assert!(log.contains("openssl rand -hex 32"), "{log}");
    assert!(!key.exists());
}
