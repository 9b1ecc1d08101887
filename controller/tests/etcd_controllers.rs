//! The controller's program on a real etcd: two of them, of which one leads and the other follows.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod etcd;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use vidi_kit::transport::connect_unix;
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::{CreateTenantRequest, ListTenantsRequest};

use self::etcd::Cluster;

const WAIT_MAX: Duration = Duration::from_secs(40);
/// From a leader's death until another serves: a lease, a look at the key, and reading everything.
const FAILOVER_MAX: Duration = Duration::from_secs(8);

/// A controller's process; it ends with this.
struct Controller {
    folder: PathBuf,
    metrics: String,
    child: Child,
}

impl Controller {
    fn start(cluster: &Cluster, id: &str, key_file: &Path) -> Self {
        let folder = cluster.folder.path().join(id);
        std::fs::create_dir_all(&folder).unwrap();
        let (listen, metrics) = (etcd::free_address(), etcd::free_address().to_string());
        let path = folder.display();
        let config = format!(
            "state = \"{path}/state\"\nlisten = \"{listen}\"\nsocket = \"{path}/c.sock\"\n\
             key_file = \"{}\"\nid = \"{id}\"\n[store]\nkind = \"etcd\"\nendpoints = {:?}\n\
             [telemetry]\nlisten = \"{metrics}\"\n",
            key_file.display(),
            cluster.endpoints(),
        );
        let file = folder.join("controller.toml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_vidi-controller"), "--config"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, metrics, child }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What `/ready` answers; nothing while it does not.
    async fn ready(&self) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(&self.metrics).await {
            drop(stream.write_all(b"GET /ready HTTP/1.0\r\nhost: here\r\n\r\n").await);
            drop(stream.read_to_string(&mut answer).await);
        }
        answer
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

    async fn tenants(&self) -> TenantServiceClient<tonic::transport::Channel> {
        TenantServiceClient::new(connect_unix(self.folder.join("c.sock")).await.unwrap())
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
    second.wait_until_ready("it waits until it leads").await;
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
    first.wait_until_ready("it waits until it leads").await;
    let stopped = Instant::now();
    second.signal(rustix::process::Signal::TERM);
    first.wait_until_ready(" 200 ").await;
    eprintln!("a stopped controller was followed after {} ms", stopped.elapsed().as_millis());
    first.create("three").await;
    assert_eq!(first.list().await.len(), 4);
}

#[tokio::test]
async fn a_controller_that_was_paused_does_not_lead_any_more() {
    let cluster = Cluster::start(1, &[]).await;
    let key = cluster.folder.path().join("controller.key");
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    let first = Controller::start(&cluster, "c1", &key);
    first.wait_until_ready(" 200 ").await;
    let second = Controller::start(&cluster, "c2", &key);
    second.wait_until_ready("it waits until it leads").await;
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
