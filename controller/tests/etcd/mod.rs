//! Clusters of real etcd servers on loopback, which can be killed, paused, cut off and filled.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use vidi_controller::adapters::etcd::{EtcdSettings, EtcdStore, TlsFiles};
use vidi_kit::Tasks;

/// A cluster that does not answer by then will not.
const START_WAIT_MAX: Duration = Duration::from_secs(40);
/// Before all keys; as the configuration's default.
pub(crate) const PREFIX: &str = "/vidi/1/";

/// Ports of this process's servers: processes have addresses of their own.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// An address of 127.0.0.0/8 that no other process of this machine uses.
fn own_address() -> IpAddr {
    let [_, first, second, third] = (std::process::id() << 1).to_be_bytes();
    Ipv4Addr::new(127, first, second, third | 1).into()
}

/// An address for a server of this process.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::new(own_address(), NEXT_PORT.fetch_add(1, Ordering::SeqCst))
}

/// A cluster; its servers end with it.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) folder: TempDir,
    pub(crate) tasks: Tasks,
    tls: Option<TlsFiles>,
}

/// One server.
pub(crate) struct Member {
    pub(crate) client: SocketAddr,
    arguments: Vec<String>,
    child: Option<Child>,
    log: std::path::PathBuf,
}

impl Cluster {
    /// So many members, with these arguments besides.
    pub(crate) async fn start(count: usize, more: &[&str]) -> Self {
        Self::start_with(count, more, None).await
    }

    /// A single member with TLS, that asks clients for a certificate.
    pub(crate) async fn start_with_tls() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = make_certificates(folder.path());
        let [ca, certificate, key] = [&files.ca, &files.certificate, &files.key]
            .map(|path| path.to_str().unwrap().to_owned());
        let more = [
            "--client-cert-auth",
            &format!("--trusted-ca-file={ca}"),
            &format!("--cert-file={certificate}"),
            &format!("--key-file={key}"),
        ];
        Self::start_with(1, &more, Some((folder, files))).await
    }

    async fn start_with(count: usize, more: &[&str], tls: Option<(TempDir, TlsFiles)>) -> Self {
        let (folder, tls) = match tls {
            Some((folder, files)) => (folder, Some(files)),
            None => (tempfile::tempdir().unwrap(), None),
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let addresses: Vec<_> = (0..count).map(|_| (free_address(), free_address())).collect();
        let peers: Vec<_> = addresses
            .iter()
            .enumerate()
            .map(|(index, (_, peer))| format!("m{index}=http://{peer}"))
            .collect();
        let mut members = Vec::new();
        for (index, (client, peer)) in addresses.iter().enumerate() {
            let data = folder.path().join(format!("m{index}"));
            let mut arguments = vec![
                format!("--name=m{index}"),
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls={scheme}://{client}"),
                format!("--advertise-client-urls={scheme}://{client}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster={}", peers.join(",")),
                "--logger=zap".to_owned(),
                "--log-level=warn".to_owned(),
            ];
            arguments.extend(more.iter().map(|one| (*one).to_owned()));
            let log = folder.path().join(format!("m{index}.log"));
            members.push(Member { client: *client, arguments, child: None, log });
        }
        let mut cluster = Self { members, folder, tasks: Tasks::new(), tls };
        for index in 0..count {
            cluster.restart(index);
        }
        cluster.wait_for_leader().await;
        cluster
    }

    /// Starts a member that is not running, on the data that it has.
    pub(crate) fn restart(&mut self, index: usize) {
        let member = self.members.get_mut(index).unwrap();
        assert!(member.child.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(&member.log).unwrap();
        // Ends with this process, whatever ends it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "etcd"])
            .args(&member.arguments)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("etcd is needed: install the package etcd-server");
        member.child = Some(child);
    }

    /// Ends a member as a power cut of its process would.
    pub(crate) fn kill(&mut self, index: usize) {
        let mut child = self.members.get_mut(index).unwrap().child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops a member's process in its tracks.
    pub(crate) fn pause(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    /// The opposite.
    pub(crate) fn resume(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    fn signal(&self, index: usize, signal: Signal) {
        let child = self.members.get(index).unwrap().child.as_ref().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn endpoint(&self, address: SocketAddr) -> String {
        format!("{}://{address}", if self.tls.is_some() { "https" } else { "http" })
    }

    /// Of all members.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|one| self.endpoint(one.client)).collect()
    }

    /// A client of the test's own, for what an operator does.
    pub(crate) async fn operator(&self, index: usize) -> Client {
        let endpoint = self.endpoints().swap_remove(index);
        let options = etcd_client::ConnectOptions::new()
            .with_require_leader(true)
            .with_timeout(Duration::from_secs(5));
        Client::connect([endpoint], Some(options)).await.unwrap()
    }

    /// Settings of a store on these endpoints, with a mark of its own.
    pub(crate) fn settings(&self, endpoints: Vec<String>, mark: &str) -> EtcdSettings {
        let mark = self.folder.path().join(mark);
        EtcdSettings { endpoints, tls: self.tls.clone(), prefix: PREFIX.to_owned(), mark }
    }

    /// A store on all members.
    pub(crate) async fn store(&self) -> Arc<EtcdStore> {
        self.store_on(self.endpoints(), "mark").await
    }

    /// A store on these endpoints.
    pub(crate) async fn store_on(&self, endpoints: Vec<String>, mark: &str) -> Arc<EtcdStore> {
        let settings = self.settings(endpoints, mark);
        Arc::new(EtcdStore::open(settings, &self.tasks).await.unwrap())
    }

    /// The member that leads the cluster.
    pub(crate) async fn leader(&self) -> usize {
        let until = Instant::now() + START_WAIT_MAX;
        loop {
            for (index, member) in self.members.iter().enumerate() {
                if member.child.is_none() {
                    continue;
                }
                let status = self.operator(index).await.status().await;
                if let Ok(status) = status
                    && status.leader() != 0
                    && status.header().unwrap().member_id() == status.leader()
                {
                    return index;
                }
            }
            assert!(Instant::now() < until, "no leader");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn wait_for_leader(&self) {
        let until = Instant::now() + START_WAIT_MAX;
        while let Err(error) =
            EtcdStore::open(self.settings(self.endpoints(), "start-mark"), &self.tasks).await
        {
            let logs: Vec<_> =
                self.members.iter().map(|one| std::fs::read_to_string(&one.log)).collect();
            assert!(Instant::now() < until, "no etcd: {error}; {logs:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What an operator does with a full etcd: forget, make smaller, say that it is mended.
    pub(crate) async fn make_room(&self) {
        let mut operator = self.operator(0).await;
        let header = operator.get("x", None).await.unwrap().take_header().unwrap();
        let (revision, member) = (header.revision(), header.member_id());
        operator.compact(revision, Some(physical())).await.unwrap();
        operator.defragment().await.unwrap();
        let mut options = AlarmOptions::new();
        options.with_member(member);
        let alarm = operator.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options));
        alarm.await.unwrap();
    }
}

fn physical() -> etcd_client::CompactionOptions {
    etcd_client::CompactionOptions::new().with_physical()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            // What has ended already needs no end.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A CA, and one certificate that servers and clients share.
fn make_certificates(folder: &Path) -> TlsFiles {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = vec![own_address().to_string()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        ca: write("ca.pem", ca_certificate.pem()),
        certificate: write("etcd.pem", certificate.pem()),
        key: write("etcd-key.pem", key.serialize_pem()),
    }
}

/// What a wire lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Everything.
    Whole,
    /// What clients say, but not what they are answered.
    NoAnswers,
    /// Nothing, and nothing is closed either.
    Cut,
}

/// A wire to a member that can be cut without anybody being told.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    wire: watch::Sender<Wire>,
    _tasks: Tasks,
}

impl Proxy {
    pub(crate) async fn new(member: SocketAddr) -> Self {
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (wire, state) = watch::channel(Wire::Whole);
        let tasks = Tasks::new();
        let group = tasks.clone();
        let _accepting = tasks.spawn("proxy", async move {
            while let Ok((near, _)) = listener.accept().await {
                let state = state.clone();
                let _serving = group.spawn("wire", async move {
                    let Ok(far) = TcpStream::connect(member).await else { return };
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    // When one way ends, both do.
                    tokio::select! {
                        biased;
                        () = pass(near_in, far_out, state.clone(), &[Wire::Whole, Wire::NoAnswers]) => {}
                        () = pass(far_in, near_out, state, &[Wire::Whole]) => {}
                    }
                });
            }
        });
        Self { endpoint, wire, _tasks: tasks }
    }

    /// A wire to each member.
    pub(crate) async fn to_all(cluster: &Cluster) -> Vec<Self> {
        let mut proxies = Vec::new();
        for member in &cluster.members {
            proxies.push(Self::new(member.client).await);
        }
        proxies
    }

    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    through: &[Wire],
) {
    let mut bytes = vec![0; 65_536];
    loop {
        let Ok(count) = from.read(&mut bytes).await else { return };
        if count == 0 || wire.wait_for(|now| through.contains(now)).await.is_err() {
            return;
        }
        if to.write_all(bytes.get(..count).unwrap()).await.is_err() {
            return;
        }
    }
}
