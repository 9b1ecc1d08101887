//! The two daemons as they ship, against libvirt, QEMU and the micro guest: for `tests/run stack`.
//!
//! Needs root, and what `packaging/private-libvirt` and `packaging/images/build` need.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is a failed test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sha2::Digest;
use support::Authority;
use support::controller::{Controller, HOST};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vidi_hypervisor::ImageDigest;
use vidi_kit::grant::GrantSigner;
use vidi_kit::ids::{DesktopId, SessionId};
use vidi_kit::tls::{Role, dns_name};
use vidi_kit::transport::connect_tls;
use vidi_kit::{Clock, Tasks};
use vidi_proto::v1::relay_client::RelayClient;
use vidi_proto::v1::{
    AttachRequest, ChannelRequest, GrantClaims, GuestSettings, ImageFile, LiveSession,
    LiveSessions, ObservedDesktop, Power, Readiness, TemplateManifest, Video, WantedDesktop,
    WantedPower, WantedSet,
};

const GATEWAY: &str = "edge-1";
/// A guest boots in 10 s on two idle cores; other tests may use them.
const SECS_MAX: u64 = 150;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The last line that a script of `packaging` prints.
fn script(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(root().join("packaging").join(name))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name} {arguments:?} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

/// A libvirt of our own; ended with its guests in every case.
struct Libvirt {
    folder: PathBuf,
    uri: String,
}

impl Libvirt {
    fn start(folder: PathBuf) -> Self {
        let uri = script("private-libvirt", &["start", folder.to_str().unwrap()]);
        Self { folder, uri }
    }

    fn virsh(&self, arguments: &[&str]) -> String {
        let common = ["--quiet", "--connect", &self.uri];
        let output = Command::new("virsh").args(common).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn kill_qemu(&self, desktop: DesktopId) {
        let pid = self.folder.join(format!("run/qemu/vidi-{desktop}.pid"));
        let pid = std::fs::read_to_string(pid).unwrap();
        assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    }

    fn domains(&self) -> Vec<String> {
        let text = self.virsh(&["list", "--all", "--name"]);
        text.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        script("private-libvirt", &["stop", self.folder.to_str().unwrap()]);
    }
}

/// A daemon's process; killed like any other that disappears.
struct Daemon(Child);

impl Daemon {
    fn start(program: &str, config: &Path) -> Self {
        let child = Command::new(program).arg("--config").arg(config).spawn().unwrap();
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = tokio::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(SECS_MAX), "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The micro template; its files are given to the controller.
fn micro(controller: &Controller) -> TemplateManifest {
    let folder = PathBuf::from(script("images/build", &["micro"]));
    let text = std::fs::read_to_string(folder.join("template.toml")).unwrap();
    let template: toml::Table = text.parse().unwrap();
    let file = |table: &str, key: &str| {
        let name = template[table][key].as_str().unwrap();
        let bytes = bytes::Bytes::from(std::fs::read(folder.join(name)).unwrap());
        let sha256 = ImageDigest::from_bytes(&sha2::Sha256::digest(&bytes).into()).to_string();
        let size_bytes = bytes.len() as u64;
        controller.images.lock().unwrap().insert(sha256.clone(), bytes);
        Some(ImageFile { file: name.to_owned(), sha256, size_bytes })
    };
    TemplateManifest {
        disk: file("disk", "file"),
        kernel: file("boot", "kernel"),
        initrd: file("boot", "initrd"),
        cmdline: template["boot"]["cmdline"].as_str().unwrap().to_owned(),
        guest: Some(GuestSettings {
            memory_mib: template["guest"]["memory_mib"].as_integer().unwrap() as u32,
            vcpus: 1,
            video: Video::Qxl.into(),
            readiness: Readiness::Helper.into(),
            sound: false,
        }),
    }
}

struct Scene {
    controller: Controller,
    folder: PathBuf,
    relay_port: u16,
}

impl Scene {
    fn configure(&self, libvirt: &Libvirt, controller_port: u16) {
        let folder = self.folder.display();
        let agent = format!(
            "state = \"{folder}/agent\"\nimages = \"{folder}/images\"\nlibvirt = \"{}\"\n\
             acceleration = \"tcg\"\nrelay_socket = \"{folder}/relay.sock\"\n\
             [relay]\nport = {}\n[controller]\naddresses = [\"127.0.0.1:{controller_port}\"]\n\
             socket = \"{folder}/controller.sock\"\n[telemetry]\nlisten = \"127.0.0.1:{}\"\n",
            libvirt.uri,
            self.relay_port,
            free_port()
        );
        let relay = format!(
            "state = \"{folder}/relay\"\nlisten = \"127.0.0.1:{}\"\n\
             agent_socket = \"{folder}/relay.sock\"\n[telemetry]\nlisten = \"127.0.0.1:{}\"\n",
            self.relay_port,
            free_port()
        );
        std::fs::write(self.folder.join("agent.toml"), agent).unwrap();
        std::fs::write(self.folder.join("relay.toml"), relay).unwrap();
    }

    fn agent(&self) -> Daemon {
        Daemon::start(env!("CARGO_BIN_EXE_vidi-agent"), &self.folder.join("agent.toml"))
    }

    fn relay(&self) -> Daemon {
        Daemon::start(env!("CARGO_BIN_EXE_vidi-relay"), &self.folder.join("relay.toml"))
    }

    async fn reported(
        &self,
        what: &str,
        id: DesktopId,
        check: impl Fn(&ObservedDesktop) -> bool,
    ) -> ObservedDesktop {
        until(what, || {
            let report = self.controller.report.borrow();
            let desktops = &report.as_ref()?.desktops;
            desktops.iter().find(|one| one.id == id.to_string() && check(one)).cloned()
        })
        .await
    }

    /// Opens a SPICE channel the way a gateway does and answers the server's link reply.
    async fn spice_link_reply(
        &self,
        signer: &GrantSigner,
        session: SessionId,
        desktop: DesktopId,
        epoch: u64,
    ) -> Vec<u8> {
        let grant = signer.sign(&GrantClaims {
            installation_id: self.controller.authority.installation.to_string(),
            gateway: GATEWAY.to_owned(),
            session: session.to_string(),
            desktop: desktop.to_string(),
            host: HOST.to_owned(),
            epoch,
            expire_ms: Clock::system().now_ms() + 30_000,
            user: "ana".to_owned(),
            trace: String::new(),
        });
        let identity = self.controller.authority.identity(Role::Gateway, GATEWAY);
        let address = format!("127.0.0.1:{}", self.relay_port);
        let mut tries = 0;
        let channel = loop {
            let config = identity.client_config().unwrap();
            match connect_tls(&address, &dns_name(Role::Relay, HOST), config).await {
                Ok(channel) => break channel,
                Err(error) => assert!(tries < 100, "the relay is not there: {error}"),
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let mut client = RelayClient::new(channel);
        let mut events = client.attach(AttachRequest { grant }).await.unwrap().into_inner();
        assert_eq!(events.message().await.unwrap().unwrap().epoch, epoch);
        let (sender, requests) = mpsc::channel(4);
        sender.send(ChannelRequest::default()).await.unwrap();
        let mut answers = client.channel(ReceiverStream::new(requests)).await.unwrap().into_inner();
        // SpiceLinkHeader and SpiceLinkMess of the main channel (spice protocol, "link").
        let mut link = b"REDQ".to_vec();
        for field in [2_u32, 2, 18] {
            link.extend(field.to_le_bytes());
        }
        link.extend(0_u32.to_le_bytes());
        link.extend([1, 0]);
        for field in [0_u32, 0, 18] {
            link.extend(field.to_le_bytes());
        }
        sender.send(ChannelRequest { data: link.into(), ..Default::default() }).await.unwrap();
        let mut reply = Vec::new();
        while reply.len() < 20 + 178 {
            let answer = answers.message().await.unwrap().expect("the server hung up");
            reply.extend_from_slice(&answer.data);
        }
        reply
    }
}

async fn obeys_its_guest_alone(scene: &Scene, libvirt: &Libvirt, desktop: DesktopId) {
    // QEMU is killed: that is nobody's wish.
    libvirt.kill_qemu(desktop);
    scene.reported("ended", desktop, |one| one.reason.contains("unexpectedly")).await;
    let again = scene.reported("started again", desktop, |one| one.ready).await;
    assert_eq!((again.start_count, again.generation), (2, 1));
    let now_ms = Clock::system().now_ms();
    assert!(0 < again.since_ms && again.since_ms <= now_ms, "{} at {now_ms}", again.since_ms);
    // The guest shuts down: so it is.
    libvirt.virsh(&["shutdown", &desktop.to_string()]);
    let off = scene.reported("off", desktop, |one| one.power() == Power::Off).await;
    assert!(off.reason.contains("by itself"), "{off:?}");
}

async fn is_destroyed_only_by_order(scene: &Scene, libvirt: &Libvirt, wanted: WantedDesktop) {
    let desktop: DesktopId = wanted.id.parse().unwrap();
    // A controller that names it no more does not end it; one that says so does.
    let named = |number, desktops| {
        scene.controller.wanted.send_replace(Some(WantedSet { desktops, number }))
    };
    named(2, vec![WantedDesktop { generation: 2, ..wanted.clone() }]);
    scene.reported("on again", desktop, |one| one.ready && one.start_count == 3).await;
    named(3, Vec::new());
    until("unknown", || {
        let report = scene.controller.report.borrow();
        (report.as_ref()?.unknown == [desktop.to_string()]).then_some(())
    })
    .await;
    assert_eq!(libvirt.domains(), [format!("vidi-{desktop}")]);
    named(4, vec![WantedDesktop { generation: 3, destroy: true, ..wanted }]);
    until("deleted", || {
        let report = scene.controller.report.borrow();
        let report = report.as_ref().filter(|report| report.wanted_number == 4)?;
        (report.desktops.is_empty() && report.unknown.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_desktop_starts_is_reached_through_the_relay_survives_the_agent_and_leaves_nothing() {
    let folder = PathBuf::from(format!("/tmp/vidi-real-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let libvirt = Libvirt::start(folder.join("libvirt"));
    let tasks = Tasks::new();
    let controller = Controller::new(Arc::new(Authority::new()));
    let any = ([127, 0, 0, 1], 0).into();
    let address = controller.serve(&tasks, any, &folder.join("controller.sock")).await;
    let manifest = micro(&controller);
    let signer = GrantSigner::generate().unwrap();
    controller.keys.send_replace(vec![signer.public_key()]);
    let scene = Scene { controller, folder: folder.clone(), relay_port: free_port() };
    scene.configure(&libvirt, address.port());
    let agent = scene.agent();
    let relay = scene.relay();

    let (desktop, session) = (DesktopId::generate(), SessionId::generate());
    let wanted = WantedDesktop {
        id: desktop.to_string(),
        generation: 1,
        power: WantedPower::On.into(),
        display_name: "Micro & <real>".to_owned(),
        template_digest: "sha256:micro".to_owned(),
        manifest: Some(manifest),
        ..WantedDesktop::default()
    };
    scene
        .controller
        .wanted
        .send_replace(Some(WantedSet { desktops: vec![wanted.clone()], number: 1 }));
    let ready = scene.reported("ready", desktop, |one| one.ready).await;
    assert_eq!((ready.start_count, ready.acceleration.as_str()), (1, "tcg"));
    assert_eq!(libvirt.domains(), [format!("vidi-{desktop}")]);

    let live = LiveSession { session: session.to_string(), desktop: desktop.to_string(), epoch: 1 };
    scene.controller.live.send_replace(LiveSessions { sessions: vec![live] });
    let reply = scene.spice_link_reply(&signer, session, desktop, 1).await;
    assert_eq!((&reply[..4], &reply[16..20]), (&b"REDQ"[..], &[0; 4][..]), "link, without error");

    // Both daemons disappear; the domain does not notice, and they find it again.
    drop((agent, relay));
    scene.controller.report.send_replace(None);
    assert_eq!(libvirt.domains(), [format!("vidi-{desktop}")]);
    let agent = scene.agent();
    let relay = scene.relay();
    let adopted = scene.reported("adopted", desktop, |one| one.ready).await;
    assert_eq!(adopted.start_count, 1, "it was not started again");
    let reply = scene.spice_link_reply(&signer, session, desktop, 2).await;
    assert_eq!(&reply[..4], b"REDQ");

    obeys_its_guest_alone(&scene, &libvirt, desktop).await;
    drop(agent);
    scene.controller.report.send_replace(None);
    let agent = scene.agent();
    scene.reported("still off", desktop, |one| one.power() == Power::Off).await;
    assert_eq!(libvirt.domains(), Vec::<String>::new());

    is_destroyed_only_by_order(&scene, &libvirt, wanted).await;
    assert_eq!(libvirt.domains(), Vec::<String>::new());
    let images = folder.join("images").join(scene.controller.authority.installation.to_string());
    let left: Vec<_> = std::fs::read_dir(images)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(&desktop.to_string()))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    drop((agent, relay, libvirt));
    tasks.stop_token().cancel();
    std::fs::remove_dir_all(folder).unwrap();
}
