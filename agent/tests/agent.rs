//! The agent's parts together: a controller over real TLS, real files, a simulated hypervisor.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use support::controller::{Controller, HOST};
use support::{Authority, until};
use tokio::sync::watch;
use vidi_agent::adapters::journal::SledJournal;
use vidi_agent::model::observed::HostState;
use vidi_agent::model::wanted::WantedSet as ModelSet;
use vidi_agent::ports::Journal;
use vidi_agent::reconcile::{Parts, Reconciler, acceleration};
use vidi_agent::rpc::controller_link::{ControllerLink, Hello, LinkParts, own_names};
use vidi_hypervisor::acceleration::AccelerationOptions;
use vidi_hypervisor::adapters::local_volumes::LocalVolumes;
use vidi_hypervisor::simulated::SimulatedHypervisor;
use vidi_hypervisor::{Acceleration, Hypervisor, ImageDigest, Volumes};
use vidi_kit::Tasks;
use vidi_kit::ids::DesktopId;
use vidi_kit::tls::Role;
use vidi_proto::v1::{
    GuestSettings, HostReport, ImageFile, ObservedDesktop, Power, Readiness, TemplateManifest,
    WantedDesktop, WantedPower, WantedSet,
};

struct Scene {
    folder: tempfile::TempDir,
    controller: Controller,
    controller_tasks: Tasks,
    address: std::net::SocketAddr,
    hypervisor: SimulatedHypervisor,
    manifest: TemplateManifest,
    agent: Tasks,
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    ImageDigest::from_bytes(&sha2::Sha256::digest(bytes).into()).to_string()
}

fn disk(folder: &std::path::Path) -> Bytes {
    let file = folder.join("base.qcow2");
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("16M");
    assert!(command.status().unwrap().success());
    std::fs::read(file).unwrap().into()
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let controller = Controller::new(Arc::new(Authority::new()));
        let controller_tasks = Tasks::new();
        let socket = folder.path().join("controller.sock");
        let any = ([127, 0, 0, 1], 0).into();
        let address = controller.serve(&controller_tasks, any, &socket).await;
        let kernel: Bytes = (0..3_u32 << 20).map(|at| (at ^ (at >> 9)) as u8).collect();
        let images = [disk(folder.path()), kernel, Bytes::from_static(b"an initrd")];
        let file = |image: &Bytes| ImageFile {
            file: "f".to_owned(),
            sha256: digest(image),
            size_bytes: image.len() as u64,
        };
        let manifest = TemplateManifest {
            disk: Some(file(&images[0])),
            kernel: Some(file(&images[1])),
            initrd: Some(file(&images[2])),
            cmdline: "quiet".to_owned(),
            guest: Some(GuestSettings {
                memory_mib: 128,
                vcpus: 1,
                video: 0,
                readiness: Readiness::Helper.into(),
                sound: false,
            }),
        };
        for image in images {
            controller.images.lock().unwrap().insert(digest(&image), image);
        }
        let hypervisor = SimulatedHypervisor::new(Tasks::new(), HOST.parse().unwrap());
        hypervisor.behave(|it| {
            it.start_takes = Duration::from_millis(20);
            it.boot_takes = Duration::from_millis(50);
        });
        let agent = Tasks::new();
        let mut scene =
            Self { folder, controller, controller_tasks, address, hypervisor, manifest, agent };
        scene.start_agent().await;
        scene
    }

    fn images_folder(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    fn volumes(&self) -> LocalVolumes {
        LocalVolumes::open(self.images_folder()).unwrap()
    }

    async fn start_agent(&mut self) {
        self.agent = Tasks::new();
        let tasks = &self.agent;
        let journal = SledJournal::open(&self.folder.path().join("journal")).unwrap();
        let journaled = journal.load().await.unwrap();
        let identity = Arc::new(self.controller.authority.identity(Role::Agent, HOST));
        let (_keep, identity) = watch::channel(identity);
        let (publish, state) = watch::channel(HostState::default());
        let link = ControllerLink::start(
            tasks,
            LinkParts {
                addresses: vec![self.address.to_string()],
                own: own_names(&identity).unwrap(),
                identity,
                hello: Hello {
                    hostname: "here".to_owned(),
                    relay_port: 7444,
                    relay_advertise: String::new(),
                },
                state,
                first_wanted: ModelSet {
                    desktops: journaled.wanted.clone(),
                    ..ModelSet::default()
                },
            },
        );
        let hypervisor: Arc<dyn Hypervisor> = Arc::new(self.hypervisor.clone());
        let options = AccelerationOptions {
            forced: Some(Acceleration::Tcg),
            guest: None,
            cache_file: self.folder.path().join("acceleration.json"),
        };
        let parts = Parts {
            hypervisor: Arc::clone(&hypervisor),
            volumes: Arc::new(self.volumes()),
            memory: Arc::new(self.hypervisor.clone()),
            source: Arc::new(link.clone()),
            journal: Arc::new(journal),
            wanted: link.wanted.clone(),
            acceleration: acceleration::start(tasks, hypervisor, options),
            ready_max: Duration::from_secs(600),
        };
        let reconciler = Reconciler::new(tasks, parts, journaled, publish);
        let _reconciling = tasks.spawn("reconcile", reconciler.run());
    }

    /// Another controller process at the same place.
    async fn start_controller(&mut self) {
        self.controller_tasks = Tasks::new();
        let socket = self.folder.path().join("controller-2.sock");
        self.controller.serve(&self.controller_tasks, self.address, &socket).await;
    }

    /// Ends the agent the way a crash does, as far as one process can: nothing is said or undone.
    async fn stop_agent(&self) {
        self.agent.stop().await;
        self.controller.report.send_replace(None);
    }

    fn want(&self, desktops: &[(DesktopId, u64, WantedPower)]) {
        self.want_and_destroy(desktops, &[]);
    }

    /// As a controller does that knows nothing more of the destroyed ones than their ids.
    fn want_and_destroy(
        &self,
        desktops: &[(DesktopId, u64, WantedPower)],
        destroyed: &[DesktopId],
    ) {
        let destroyed = destroyed.iter().map(|id| WantedDesktop {
            id: id.to_string(),
            destroy: true,
            ..Default::default()
        });
        let desktops = desktops.iter().map(|(id, generation, power)| WantedDesktop {
            id: id.to_string(),
            generation: *generation,
            power: (*power).into(),
            tenant: "default".to_owned(),
            display_name: "A desktop".to_owned(),
            template_digest: "sha256:1".to_owned(),
            manifest: Some(self.manifest.clone()),
            force_off: false,
            ..Default::default()
        });
        let desktops = desktops.chain(destroyed).collect();
        let number = self.controller.wanted.borrow().as_ref().map_or(1, |set| set.number + 1);
        self.controller.wanted.send_replace(Some(WantedSet { desktops, number }));
    }

    /// Waits for a report in which the desktop is as `what` says.
    async fn reported(
        &self,
        id: DesktopId,
        what: impl Fn(&ObservedDesktop) -> bool,
    ) -> ObservedDesktop {
        until(|| {
            let report = self.controller.report.borrow();
            let report = report.as_ref()?;
            report.desktops.iter().find(|one| one.id == id.to_string() && what(one)).cloned()
        })
        .await
    }

    /// Waits until the newest wanted set is answered and the desktop is nowhere in the answer.
    async fn gone(&self, id: DesktopId) {
        until(|| {
            let number = self.controller.wanted.borrow().as_ref()?.number;
            let report = self.controller.report.borrow();
            let answers =
                |report: &&HostReport| report.wanted_received && report.wanted_number == number;
            let report = report.as_ref().filter(answers)?;
            let id = id.to_string();
            let there = report.desktops.iter().any(|one| one.id == id);
            (!there && !report.unknown.contains(&id)).then_some(())
        })
        .await;
    }

    /// Waits until the host says that it has a desktop that it is not told of; its problems then.
    async fn unknown(&self, id: DesktopId) -> Vec<String> {
        until(|| {
            let report = self.controller.report.borrow();
            let report = report.as_ref().filter(|report| report.unknown == [id.to_string()])?;
            assert!(!report.desktops.iter().any(|one| one.id == id.to_string()));
            Some(report.problems.clone())
        })
        .await
    }

    async fn overlays(&self) -> BTreeSet<DesktopId> {
        self.volumes().list_overlays().await.unwrap().into_iter().collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.agent.stop_token().cancel();
        self.controller_tasks.stop_token().cancel();
    }
}

use WantedPower::{Off, On};

#[tokio::test]
async fn desktops_get_ready_and_images_come_once_and_go_on_where_they_broke_off() {
    let scene = Scene::new().await;
    let kernel = scene.manifest.kernel.clone().unwrap().sha256;
    *scene.controller.break_after.lock().unwrap() = Some(100_000);
    let ids: Vec<DesktopId> = (0..3).map(|_| DesktopId::generate()).collect();
    scene.want(&ids.iter().map(|id| (*id, 1, On)).collect::<Vec<_>>());
    for id in &ids {
        let ready = scene.reported(*id, |one| one.ready).await;
        assert_eq!((ready.power(), ready.generation, ready.start_count), (Power::Running, 1, 1));
        assert_eq!(ready.acceleration, "tcg");
    }
    let hello = scene.controller.hello.borrow().clone().unwrap();
    assert_eq!((hello.hostname.as_str(), hello.relay_port), ("here", 7444));
    let fetches = scene.controller.fetches.lock().unwrap().clone();
    let resumed = fetches.iter().filter(|(_, offset)| 0 < *offset).count();
    assert_eq!((fetches.len(), resumed), (4, 1), "three images and one resumption: {fetches:?}");
    let present = scene.volumes().image_present(&kernel.parse().unwrap()).await.unwrap();
    assert!(present);
    assert_eq!(scene.overlays().await, ids.iter().copied().collect());
}

#[tokio::test]
async fn a_restarted_agent_adopts_what_runs_and_a_deleted_desktop_leaves_nothing() {
    let mut scene = Scene::new().await;
    let (kept, deleted) = (DesktopId::generate(), DesktopId::generate());
    scene.want(&[(kept, 1, On), (deleted, 1, On)]);
    scene.reported(kept, |one| one.ready).await;
    scene.reported(deleted, |one| one.ready).await;
    scene.stop_agent().await;
    // While the agent is away one is deleted.
    scene.want_and_destroy(&[(kept, 1, On)], &[deleted]);
    scene.start_agent().await;
    let adopted = scene.reported(kept, |one| one.ready).await;
    assert_eq!(adopted.start_count, 1);
    scene.gone(deleted).await;
    assert_eq!(scene.hypervisor.starts(), 2, "nothing was started again");
    assert_eq!(scene.hypervisor.list().await.unwrap().len(), 1);
    assert_eq!(scene.overlays().await, BTreeSet::from([kept]));
}

#[tokio::test]
async fn desktops_go_on_while_the_controller_is_away() {
    let mut scene = Scene::new().await;
    let id = DesktopId::generate();
    scene.want(&[(id, 1, On)]);
    scene.reported(id, |one| one.ready).await;
    scene.stop_agent().await;
    scene.controller_tasks.stop().await;
    scene.start_agent().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.hypervisor.list().await.unwrap().len(), 1);
    scene.start_controller().await;
    scene.reported(id, |one| one.ready).await;
    assert_eq!(scene.hypervisor.starts(), 1);
}

#[tokio::test]
async fn a_journal_that_lost_the_wanted_set_ends_nothing() {
    let mut scene = Scene::new().await;
    let id = DesktopId::generate();
    scene.want(&[(id, 1, On)]);
    scene.reported(id, |one| one.ready).await;
    scene.stop_agent().await;
    scene.controller_tasks.stop().await;
    let journal = SledJournal::open(&scene.folder.path().join("journal")).unwrap();
    journal.save_wanted(&std::collections::BTreeMap::new()).await.unwrap();
    drop(journal);
    scene.start_agent().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(scene.hypervisor.list().await.unwrap().len(), 1);
    assert_eq!(scene.overlays().await, BTreeSet::from([id]));
    // The controller comes back: first it still wants the desktop, then it does not.
    scene.start_controller().await;
    scene.reported(id, |one| one.ready && one.reason.is_empty()).await;
    assert_eq!(scene.hypervisor.starts(), 1);
    scene.want_and_destroy(&[], &[id]);
    scene.gone(id).await;
    assert_eq!(scene.hypervisor.list().await.unwrap().len(), 0);
    assert_eq!(scene.overlays().await, BTreeSet::new());
}

#[tokio::test]
async fn what_a_restored_controller_does_not_know_runs_on_until_somebody_says_otherwise() {
    let mut scene = Scene::new().await;
    let (known, newer) = (DesktopId::generate(), DesktopId::generate());
    scene.want(&[(known, 1, On), (newer, 1, On)]);
    scene.reported(newer, |one| one.ready).await;
    // An older copy of what the controller knew.
    scene.want(&[(known, 1, On)]);
    let problems = scene.unknown(newer).await;
    assert!(problems.iter().any(|text| text.contains("remove-unknown")), "{problems:?}");
    // A new agent that was never told of it keeps it as well, on a new link.
    scene.stop_agent().await;
    std::fs::remove_dir_all(scene.folder.path().join("journal")).unwrap();
    scene.start_agent().await;
    scene.unknown(newer).await;
    scene.reported(known, |one| one.ready).await;
    assert_eq!(scene.hypervisor.list().await.unwrap().len(), 2);
    assert_eq!(scene.overlays().await, BTreeSet::from([known, newer]));
    assert_eq!(scene.hypervisor.starts(), 2);
    // A newer copy: it is as it was.
    scene.want(&[(known, 1, On), (newer, 1, On)]);
    let again = scene.reported(newer, |one| one.ready).await;
    assert_eq!((again.start_count, scene.hypervisor.starts()), (1, 2));
    // Or nobody misses it.
    scene.want(&[(known, 1, On)]);
    scene.unknown(newer).await;
    scene.want_and_destroy(&[(known, 1, On)], &[newer]);
    scene.gone(newer).await;
    assert_eq!(scene.overlays().await, BTreeSet::from([known]));
    assert_eq!(scene.hypervisor.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_crashed_or_went_down_with_the_machine_is_started_again() {
    let mut scene = Scene::new().await;
    let (id, off) = (DesktopId::generate(), DesktopId::generate());
    scene.want(&[(id, 1, On), (off, 1, On)]);
    let first = scene.reported(id, |one| one.ready).await;
    scene.reported(off, |one| one.ready).await;
    scene.hypervisor.power_off(off);
    scene.reported(off, |one| one.power() == Power::Off).await;
    scene.hypervisor.kill(id);
    let ended = scene.reported(id, |one| one.power() == Power::Starting).await;
    assert!(ended.reason.contains("unexpectedly"), "{}", ended.reason);
    let now_ms = vidi_kit::Clock::system().now_ms();
    assert!((now_ms - ended.since_ms).abs() < 10_000, "{} at {now_ms}", ended.since_ms);
    let second = scene.reported(id, |one| one.ready && one.start_count == 2).await;
    assert!(first.since_ms < second.since_ms, "{first:?} {second:?}");
    // The machine goes down while nobody looks; the controller is not there when it is up again.
    scene.stop_agent().await;
    scene.controller_tasks.stop().await;
    scene.hypervisor.reboot();
    scene.start_agent().await;
    until(|| (scene.hypervisor.starts() == 4).then_some(())).await;
    scene.start_controller().await;
    let third = scene.reported(id, |one| one.ready && one.start_count == 3).await;
    assert_eq!(third.generation, 1);
    let stayed = scene.reported(off, |one| one.power() == Power::Off).await;
    assert_eq!((stayed.start_count, stayed.since_ms), (1, 0), "nobody saw when that began");
    assert_eq!(scene.hypervisor.starts(), 4);
}

#[tokio::test]
async fn a_damaged_image_is_never_used_and_fetched_again() {
    let scene = Scene::new().await;
    let initrd = scene.manifest.initrd.clone().unwrap().sha256;
    let good = scene.controller.images.lock().unwrap()[&initrd].clone();
    let bad = Bytes::from(vec![b'x'; good.len()]);
    scene.controller.images.lock().unwrap().insert(initrd.clone(), bad);
    let id = DesktopId::generate();
    scene.want(&[(id, 1, On)]);
    let waits = scene.reported(id, |one| one.reason.contains("damaged")).await;
    assert_eq!(waits.power(), Power::Preparing);
    let problems = scene.controller.report.borrow().clone().unwrap().problems;
    assert!(problems.iter().any(|text| text.contains("damaged")), "{problems:?}");
    assert_eq!(scene.hypervisor.starts(), 0);
    scene.controller.images.lock().unwrap().insert(initrd, good);
    scene.reported(id, |one| one.ready).await;
}

#[tokio::test]
async fn a_failed_start_says_why_and_only_a_new_generation_tries_again() {
    let scene = Scene::new().await;
    scene.hypervisor.behave(|it| it.starts_that_fail = 1);
    let id = DesktopId::generate();
    scene.want(&[(id, 1, On)]);
    let failed = scene.reported(id, |one| one.power() == Power::Failed).await;
    assert!(failed.reason.contains("start failed"), "{}", failed.reason);
    scene.want(&[(id, 2, On)]);
    let ready = scene.reported(id, |one| one.ready).await;
    assert_eq!((ready.generation, ready.start_count), (2, 2));
    // The guest powers itself off: off it stays.
    scene.hypervisor.power_off(id);
    let off = scene.reported(id, |one| one.power() == Power::Off).await;
    assert!(off.reason.contains("by itself"), "{}", off.reason);
    scene.want(&[(id, 3, On)]);
    scene.reported(id, |one| one.ready && one.start_count == 3).await;
    scene.want(&[(id, 4, Off)]);
    scene.reported(id, |one| one.power() == Power::Off && one.generation == 4).await;
    assert_eq!(scene.overlays().await, BTreeSet::from([id]), "off is not deleted");
}

#[tokio::test]
async fn libvirt_away_is_a_problem_of_the_host_and_heals() {
    let scene = Scene::new().await;
    let id = DesktopId::generate();
    scene.want(&[(id, 1, On)]);
    scene.reported(id, |one| one.ready).await;
    scene.hypervisor.behave(|it| it.available = false);
    until(|| {
        let report = scene.controller.report.borrow();
        let problems = &report.as_ref()?.problems;
        problems.iter().any(|text| text.contains("cannot be reached")).then_some(())
    })
    .await;
    scene.reported(id, |one| one.ready).await;
    scene.hypervisor.behave(|it| it.available = true);
    until(|| scene.controller.report.borrow().as_ref()?.problems.is_empty().then_some(())).await;
}
