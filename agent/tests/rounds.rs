//! The agent's rounds in virtual time, on a simulated host: guests that do not become ready, a journal
//! that cannot be written.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use vidi_agent::adapters::memory_journal::MemoryJournal;
use vidi_agent::model::observed::{DesktopReport, HostState, Power};
use vidi_agent::model::record::Record;
use vidi_agent::model::wanted::{Image, Readiness, Template, Wanted, WantedSet, Wish};
use vidi_agent::ports::{ImageChunks, ImageSource, Journal, JournalError, Journaled, SourceError};
use vidi_agent::reconcile::{Parts, Reconciler};
use vidi_hypervisor::acceleration::AccelerationVerdict;
use vidi_hypervisor::simulated::{SimulatedHypervisor, SimulatedVolumes};
use vidi_hypervisor::{Acceleration, DomainPower, ImageDigest, PauseCause, Video, Volumes};
use vidi_kit::Tasks;
use vidi_kit::ids::DesktopId;

const READY_MAX: Duration = Duration::from_secs(600);
/// Rounds, pauses before starts, starts and boots of one try together take less.
const SLACK: Duration = Duration::from_secs(60);

/// No image has to come.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl ImageSource for Nowhere {
    async fn open(
        &self,
        _digest: &ImageDigest,
        _offset: u64,
    ) -> Result<Box<dyn ImageChunks>, SourceError> {
        Err(SourceError::Away)
    }
}

/// A journal on a disk that can be full.
#[derive(Debug, Default)]
struct FullDisk {
    journal: MemoryJournal,
    full: AtomicBool,
}

impl FullDisk {
    fn journal(&self) -> Result<&MemoryJournal, JournalError> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(JournalError::Io("the disk is full".to_owned())),
            false => Ok(&self.journal),
        }
    }
}

#[async_trait]
impl Journal for FullDisk {
    async fn load(&self) -> Result<Journaled, JournalError> {
        self.journal.load().await
    }

    async fn save_wanted(&self, wanted: &BTreeMap<DesktopId, Wanted>) -> Result<(), JournalError> {
        self.journal()?.save_wanted(wanted).await
    }

    async fn save_record(&self, id: DesktopId, record: &Record) -> Result<(), JournalError> {
        self.journal()?.save_record(id, record).await
    }

    async fn remove_record(&self, id: DesktopId) -> Result<(), JournalError> {
        self.journal()?.remove_record(id).await
    }
}

async fn start_agent(parts: &Parts) -> (Tasks, watch::Receiver<HostState>) {
    let tasks = Tasks::new();
    let (publish, state) = watch::channel(HostState::default());
    let journaled = parts.journal.load().await.unwrap();
    let reconciler = Reconciler::new(&tasks, parts.clone(), journaled, publish);
    let _reconciling = tasks.spawn("reconcile", reconciler.run());
    (tasks, state)
}

/// A host with one desktop that is wanted on.
struct Scene {
    id: DesktopId,
    hypervisor: SimulatedHypervisor,
    volumes: SimulatedVolumes,
    wanted: watch::Sender<WantedSet>,
    _acceleration: watch::Sender<Option<AccelerationVerdict>>,
    parts: Parts,
    agent: Tasks,
    state: watch::Receiver<HostState>,
}

impl Scene {
    /// The agent has been started.
    async fn new(readiness: Readiness) -> Self {
        let id = DesktopId::generate();
        let hypervisor = SimulatedHypervisor::new(Tasks::new(), "host-1".parse().unwrap());
        let volumes = SimulatedVolumes::new();
        let digest = ImageDigest::from_bytes(&[7; 32]);
        volumes.append_partial(&digest, 0, Bytes::from_static(b"disk")).await.unwrap();
        volumes.finish_image(&digest).await.unwrap();
        let template = Template {
            digest: "sha256:1".to_owned(),
            disk: Image { digest, size_bytes: 4 },
            boot: None,
            memory_mib: 256,
            vcpus: 1,
            video: Video::Qxl,
            readiness,
            sound: false,
        };
        let wish = Wish::On;
        let template = Ok(template);
        let one = Wanted { id, generation: 1, wish, title: String::new(), trace: None, template };
        let desktops = Some(BTreeMap::from([(id, one)]));
        let (wanted, wanted_news) =
            watch::channel(WantedSet { connection: Some(1), number: 1, desktops });
        let (acceleration, acceleration_news) = watch::channel(Some(AccelerationVerdict {
            acceleration: Acceleration::Tcg,
            reason: String::new(),
            problems: Vec::new(),
        }));
        let parts = Parts {
            hypervisor: Arc::new(hypervisor.clone()),
            volumes: Arc::new(volumes.clone()),
            memory: Arc::new(hypervisor.clone()),
            source: Arc::new(Nowhere),
            journal: Arc::new(MemoryJournal::default()),
            wanted: wanted_news,
            acceleration: acceleration_news,
            ready_max: READY_MAX,
        };
        let (agent, state) = start_agent(&parts).await;
        let _acceleration = acceleration;
        Self { id, hypervisor, volumes, wanted, _acceleration, parts, agent, state }
    }

    /// A host whose guests do not become ready.
    async fn hanging() -> Self {
        let scene = Self::new(Readiness::Helper).await;
        scene.hypervisor.behave(|it| it.guests_get_ready = false);
        scene
    }

    /// Another process, with this journal.
    async fn restart_agent(&mut self, journal: Arc<dyn Journal>) {
        self.agent.stop().await;
        self.parts.journal = journal;
        (self.agent, self.state) = start_agent(&self.parts).await;
    }

    /// Waits until the desktop is reported as `what` says.
    async fn reported(&self, what: impl Fn(&DesktopReport) -> bool) -> DesktopReport {
        let mut state = self.state.clone();
        let find = |state: &HostState| state.desktops.iter().find(|one| what(one)).cloned();
        let seen = state.wait_for(|state| find(state).is_some());
        let seen = tokio::time::timeout(20 * READY_MAX, seen).await.expect("it never came to be");
        find(&seen.unwrap()).unwrap()
    }

    /// Nothing was begun anew for so long.
    async fn goes_on(&self, period: Duration) {
        let starts = self.hypervisor.starts();
        tokio::time::sleep(period).await;
        assert_eq!(self.hypervisor.starts(), starts, "its start was not left alone");
        assert_eq!(self.volumes.list_overlays().await.unwrap(), [self.id]);
    }

    fn pause(&self, power: DomainPower) {
        self.hypervisor.set_power_from_outside(self.id, power);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_hangs_in_its_boot_is_started_again_and_is_well() {
    let scene = Scene::hanging().await;
    scene.reported(|one| one.power == Power::Running && !one.ready).await;
    scene.goes_on(READY_MAX - SLACK).await;
    let began = Instant::now();
    let ended = scene.reported(|one| one.power == Power::Starting).await;
    assert!(began.elapsed() < 2 * SLACK, "only after {:?}", began.elapsed());
    assert!(ended.reason.contains("did not become ready"), "{}", ended.reason);
    scene.hypervisor.behave(|it| it.guests_get_ready = true);
    let again = scene.reported(|one| one.ready).await;
    assert_eq!((again.start_count, again.generation), (2, 1));
    scene.goes_on(10 * READY_MAX).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_again_and_again_has_failed_until_it_is_wanted_anew() {
    let scene = Scene::hanging().await;
    let began = Instant::now();
    let failed = scene.reported(|one| one.power == Power::Failed).await;
    assert!(failed.reason.contains("ready_secs"), "{}", failed.reason);
    assert_eq!(scene.hypervisor.starts(), 6, "as often as one that crashes");
    let took = began.elapsed();
    assert!((6 * READY_MAX..6 * (READY_MAX + SLACK)).contains(&took), "{took:?}");
    scene.goes_on(10 * READY_MAX).await;
    scene.hypervisor.behave(|it| it.guests_get_ready = true);
    scene.wanted.send_modify(|set| {
        set.desktops.as_mut().unwrap().get_mut(&scene.id).unwrap().generation = 2;
    });
    let ready = scene.reported(|one| one.ready).await;
    assert_eq!((ready.start_count, ready.generation), (7, 2));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_was_ready_once_in_its_start_is_left_alone_by_every_later_agent() {
    for readiness in [Readiness::Helper, Readiness::Agent] {
        let mut scene = Scene::new(readiness).await;
        scene.reported(|one| one.ready).await;
        scene.hypervisor.behave(|it| it.guests_get_ready = false);
        scene.goes_on(3 * READY_MAX).await;
        let kept = Arc::clone(&scene.parts.journal);
        scene.restart_agent(kept).await;
        scene.goes_on(3 * READY_MAX).await;
        // A journal that was lost does not say whether it was ready: it may be in use.
        scene.restart_agent(Arc::new(MemoryJournal::default())).await;
        scene.goes_on(3 * READY_MAX).await;
        let kept = Arc::clone(&scene.parts.journal);
        scene.restart_agent(kept).await;
        scene.goes_on(3 * READY_MAX).await;
        assert!(!scene.reported(|one| one.power == Power::Running).await.ready);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_stands_while_the_guest_does_or_nobody_can_look() {
    for cause in [PauseCause::External, PauseCause::IoError] {
        let scene = Scene::hanging().await;
        scene.reported(|one| one.power == Power::Running).await;
        scene.goes_on(READY_MAX / 2).await;
        scene.pause(DomainPower::Paused(cause));
        scene.goes_on(10 * READY_MAX).await;
        scene.pause(DomainPower::Running);
        scene.hypervisor.behave(|it| it.available = false);
        scene.goes_on(10 * READY_MAX).await;
        scene.hypervisor.behave(|it| it.available = true);
        scene.goes_on(READY_MAX / 2 - SLACK).await;
        let began = Instant::now();
        scene.reported(|one| one.power == Power::Starting).await;
        assert!(began.elapsed() < 2 * SLACK, "only after {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_restarted_in_the_middle_waits_the_whole_time_anew_and_then_ends_it() {
    let mut scene = Scene::hanging().await;
    scene.reported(|one| one.power == Power::Running).await;
    scene.goes_on(READY_MAX / 2).await;
    let kept = Arc::clone(&scene.parts.journal);
    scene.restart_agent(kept).await;
    scene.goes_on(READY_MAX - SLACK).await;
    scene.reported(|one| one.power == Power::Starting).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_full_disk_did_not_take_is_written_when_there_is_room() {
    let mut scene = Scene::new(Readiness::Helper).await;
    scene.reported(|one| one.ready).await;
    let disk = Arc::new(FullDisk::default());
    disk.full.store(true, Ordering::Relaxed);
    scene.restart_agent(Arc::clone(&disk) as Arc<dyn Journal>).await;
    scene.reported(|one| one.ready).await;
    let mut state = scene.state.clone();
    let told = |state: &HostState| state.problems.iter().any(|text| text.contains("full"));
    state.wait_for(|state| told(state)).await.unwrap();
    assert_eq!(disk.load().await.unwrap().records.len(), 0);
    disk.full.store(false, Ordering::Relaxed);
    state.wait_for(|state| !told(state)).await.unwrap();
    let record = disk.load().await.unwrap().records[&scene.id].clone();
    assert_eq!((record.started, record.ready_start), (1, 1));
}
