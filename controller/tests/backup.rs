//! The commands of the controller's program on the embedded store: a backup while it serves and while it
//! does not, and back.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;
use tonic::transport::Channel;
use vidi_kit::transport::{bind, connect_unix};
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::{CreateTenantRequest, ListTenantsRequest};

const WAIT_MAX: Duration = Duration::from_secs(40);
const PROGRAM: &str = env!("CARGO_BIN_EXE_vidi-controller");

/// An installation in a folder: its configuration, its key and its state.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut free = Vec::new();
        for _ in 0..2 {
            free.push(bind(([127, 0, 0, 1], 0).into()).await.unwrap());
        }
        let [listen, metrics] = [0, 1].map(|at| free.get(at).unwrap().local_addr().unwrap());
        let path = folder.path().display();
        let config = format!(
            "state = \"{path}/state\"\nlisten = \"{listen}\"\nsocket = \"{path}/c.sock\"\n\
             key_file = \"{path}/key\"\n[telemetry]\nlisten = \"{metrics}\"\n"
        );
        std::fs::write(folder.path().join("c.toml"), config).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts the controller and waits until it answers.
    async fn serve(&self) -> (Child, TenantServiceClient<Channel>) {
        let child = Command::new(PROGRAM)
            .args(["--config", &self.path("c.toml")])
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let until = Instant::now() + WAIT_MAX;
        loop {
            if let Ok(channel) = connect_unix(self.path("c.sock").into()).await {
                return (child, TenantServiceClient::new(channel));
            }
            assert!(Instant::now() < until, "it does not serve");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What a command said, and whether it did it.
    async fn command(&self, arguments: &[&str]) -> (bool, String) {
        let config = self.path("c.toml");
        let run = Command::new(PROGRAM).args(["--config", &config]).args(arguments).output();
        let output = tokio::time::timeout(WAIT_MAX, run).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

async fn stop(mut child: Child) {
    let id = child.id().unwrap().try_into().unwrap();
    let pid = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(tokio::time::timeout(WAIT_MAX, child.wait()).await.unwrap().unwrap().success());
}

async fn create(tenants: &mut TenantServiceClient<Channel>, id: &str) {
    let request = CreateTenantRequest { tenant_id: id.to_owned(), ..Default::default() };
    tenants.create_tenant(request).await.unwrap();
}

async fn list(tenants: &mut TenantServiceClient<Channel>) -> Vec<String> {
    let answer = tenants.list_tenants(ListTenantsRequest::default()).await.unwrap().into_inner();
    answer.tenants.into_iter().map(|tenant| tenant.name).collect()
}

#[tokio::test]
async fn an_embedded_store_is_backed_up_while_it_serves_and_restored_elsewhere() {
    let (site, elsewhere) = (Site::new().await, Site::new().await);
    let file = site.path("backup");
    let (done, said) = site.command(&["backup", &file]).await;
    assert!(!done && said.contains("no installation"), "{said}");
    let (serving, mut tenants) = site.serve().await;
    create(&mut tenants, "before").await;
    let (done, said) = site.command(&["backup", &file]).await;
    assert!(done, "{said}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600, "it holds secrets");
    create(&mut tenants, "after").await;
    let (done, said) = site.command(&["restore", &file, "--replace"]).await;
    assert!(!done && said.contains("another controller uses"), "{said}");
    stop(serving).await;

    // The secrets of the backup can be read with its own key only.
    let (done, said) = elsewhere.command(&["restore", &file]).await;
    assert!(!done && said.contains("key"), "{said}");
    std::fs::copy(site.path("key"), elsewhere.path("key")).unwrap();
    let (done, said) = elsewhere.command(&["restore", &file]).await;
    assert!(done, "{said}");
    let (serving, mut tenants) = elsewhere.serve().await;
    assert_eq!(list(&mut tenants).await, ["tenants/before", "tenants/default"]);
    stop(serving).await;

    // Nobody serves: the command opens the store itself.
    let second = site.path("second");
    let (done, said) = site.command(&["backup", &second]).await;
    assert!(done, "{said}");
    let (done, said) = elsewhere.command(&["restore", &second]).await;
    assert!(!done && said.contains("--replace"), "{said}");
    let (done, said) = elsewhere.command(&["restore", &second, "--replace"]).await;
    assert!(done, "{said}");
    let (serving, mut tenants) = elsewhere.serve().await;
    let all = ["tenants/after", "tenants/before", "tenants/default"];
    assert_eq!(list(&mut tenants).await, all);
    stop(serving).await;
    let left = std::fs::read_dir(site.folder.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_nothing_is_touched() {
    let site = Site::new().await;
    let none = site.path("none");
    std::fs::write(&none, "something else").unwrap();
    let (done, said) = site.command(&["restore", &none]).await;
    assert!(!done && said.contains("not a backup"), "{said}");
    let (done, said) = site.command(&["restore", &site.path("missing")]).await;
    assert!(!done && said.contains("missing"), "{said}");
    assert!(!Path::new(&site.path("state/store")).exists());
}
