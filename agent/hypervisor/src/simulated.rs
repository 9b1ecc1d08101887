//! A host in memory behind the same ports, with faults, for deterministic tests.
//!
//! Time is tokio's: under a paused clock a boot takes no time at all, in the same order every run.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::watch;
use tokio::time::Instant;
use vidi_kit::Tasks;
use vidi_kit::ids::{DesktopId, HostId, InstallationId};

use crate::error::{HypervisorError, VolumesError};
use crate::model::{
    DesktopMark, DomainPower, DomainSpec, HostFacts, HostVersions, ImageDigest, ObservedDomain,
    Ownership, PauseCause, ProbeGuest, ProbeOutcome,
};
use crate::ports::{GuestStream, HostMemory, Hypervisor, Screenshot, Volumes};

/// How often a guest that was not answered says that it is ready.
const READY_EVERY: Duration = Duration::from_secs(2);
/// Bytes in flight on a guest's port.
const PORT_BYTES: usize = 4096;
/// SPICE channels of a domain that wait for [`SimulatedHypervisor::take_spice_peers`].
const SPICE_PEERS_MAX: usize = 64;

/// How the simulated host behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// libvirt answers.
    pub available: bool,
    /// This many next starts are refused.
    pub starts_that_fail: u32,
    /// How long a start takes.
    pub start_takes: Duration,
    /// How long a guest takes from its start until it is ready.
    pub boot_takes: Duration,
    /// Guests become ready.
    pub guests_get_ready: bool,
    /// Guests listen to the power button.
    pub guests_shut_down: bool,
    /// What a probe with KVM finds.
    pub kvm: ProbeOutcome,
    /// What the host has.
    pub facts: HostFacts,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            available: true,
            starts_that_fail: 0,
            start_takes: Duration::from_millis(700),
            boot_takes: Duration::from_secs(6),
            guests_get_ready: true,
            guests_shut_down: true,
            kvm: ProbeOutcome::NotReady("simulated".to_owned()),
            facts: HostFacts { cpus: 2, memory_total_mib: 24_576, memory_available_mib: 20_480 },
        }
    }
}

struct Domain {
    observed: ObservedDomain,
    started: Instant,
    spice_peers: Vec<UnixStream>,
    /// Ends what is open on the guest's port; replaced when it is opened again.
    port: watch::Sender<()>,
}

struct State {
    behaviour: Behaviour,
    domains: BTreeMap<DesktopId, Domain>,
    starts: u64,
}

/// A simulated host's domains. Clones are the same host.
#[derive(Clone)]
pub struct SimulatedHypervisor {
    tasks: Tasks,
    host: HostId,
    installation: InstallationId,
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

impl fmt::Debug for SimulatedHypervisor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimulatedHypervisor").field("host", &self.host).finish()
    }
}

impl SimulatedHypervisor {
    /// An empty host; guests run in `tasks`.
    pub fn new(tasks: Tasks, host: HostId) -> Self {
        let state = State { behaviour: Behaviour::default(), domains: BTreeMap::new(), starts: 0 };
        Self {
            tasks,
            host,
            installation: InstallationId::generate(),
            state: Arc::new(Mutex::new(state)),
            changes: watch::Sender::new(0),
        }
    }

    /// The same host, for an agent of this installation.
    pub fn in_installation(mut self, installation: InstallationId) -> Self {
        self.installation = installation;
        self
    }

    /// The installation whose domains it starts.
    pub const fn installation(&self) -> InstallationId {
        self.installation
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().behaviour);
        self.hint();
    }

    /// A guest's process ends by itself.
    pub fn kill(&self, id: DesktopId) {
        self.lock().domains.remove(&id);
        self.hint();
    }

    /// Somebody pauses a domain, or resumes it, with another tool.
    pub fn set_power_from_outside(&self, id: DesktopId, power: DomainPower) {
        if let Some(domain) = self.lock().domains.get_mut(&id) {
            domain.observed.power = power;
        }
        self.hint();
    }

    /// A domain that is already there, of whomever.
    pub fn add_domain(&self, observed: ObservedDomain) {
        let domain = Domain {
            started: Instant::now(),
            spice_peers: Vec::new(),
            port: watch::Sender::new(()),
            observed,
        };
        self.lock().domains.insert(domain.observed.id, domain);
        self.hint();
    }

    /// The guest's ends of the SPICE sockets that were opened since the last call.
    pub fn take_spice_peers(&self, id: DesktopId) -> Vec<UnixStream> {
        self.lock()
            .domains
            .get_mut(&id)
            .map(|domain| std::mem::take(&mut domain.spice_peers))
            .unwrap_or_default()
    }

    /// How many domains were started so far.
    pub fn starts(&self) -> u64 {
        self.lock().starts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn reachable(&self) -> Result<MutexGuard<'_, State>, HypervisorError> {
        let state = self.lock();
        if state.behaviour.available {
            return Ok(state);
        }
        Err(HypervisorError::Unavailable {
            uri: "simulated".to_owned(),
            text: "made unavailable".to_owned(),
        })
    }

    /// Does `act` on a domain of ours; `touching` one that was paused from outside is refused.
    fn with_domain<T>(
        &self,
        id: DesktopId,
        touching: Touch,
        act: impl FnOnce(&mut Domain, &Behaviour) -> T,
    ) -> Result<T, HypervisorError> {
        let mut state = self.reachable()?;
        let State { behaviour, domains, .. } = &mut *state;
        let domain = domains.get_mut(&id).ok_or(HypervisorError::NoDomain(id))?;
        if domain.observed.mark().is_none() {
            return Err(HypervisorError::Foreign(id));
        }
        let paused = domain.observed.power == DomainPower::Paused(PauseCause::External);
        if paused && touching == Touch::Changes {
            return Err(HypervisorError::PausedExternal(id));
        }
        Ok(act(domain, behaviour))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Touch {
    Looks,
    Changes,
}

#[async_trait]
impl Hypervisor for SimulatedHypervisor {
    async fn list(&self) -> Result<Vec<ObservedDomain>, HypervisorError> {
        Ok(self.reachable()?.domains.values().map(|domain| domain.observed.clone()).collect())
    }

    async fn start(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let takes = self.reachable()?.behaviour.start_takes;
        tokio::time::sleep(takes).await;
        let mut state = self.reachable()?;
        let mark = DesktopMark {
            id: spec.id,
            installation: self.installation,
            host: self.host.clone(),
            generation: spec.generation,
            start_count: spec.start_count,
            acceleration: spec.acceleration,
        };
        if let Some(domain) = state.domains.get(&spec.id) {
            if domain.observed.mark() == Some(&mark) {
                return Ok(());
            }
            let text = "another domain of that id runs".to_owned();
            return Err(HypervisorError::Exists { id: spec.id, text });
        }
        if let Some(left) = state.behaviour.starts_that_fail.checked_sub(1) {
            state.behaviour.starts_that_fail = left;
            return Err(HypervisorError::Refused { what: "start", text: "simulated".to_owned() });
        }
        let observed = ObservedDomain {
            id: spec.id,
            name: format!("{}{}", crate::model::DOMAIN_NAME_PREFIX, spec.id),
            power: DomainPower::Running,
            ownership: Ownership::Ours(mark),
        };
        state.starts = state.starts.wrapping_add(1);
        drop(state);
        self.add_domain(observed);
        Ok(())
    }

    async fn shutdown(&self, id: DesktopId) -> Result<(), HypervisorError> {
        let listens =
            self.with_domain(id, Touch::Changes, |_, behaviour| behaviour.guests_shut_down)?;
        if listens {
            self.kill(id);
        }
        Ok(())
    }

    async fn destroy(&self, id: DesktopId) -> Result<(), HypervisorError> {
        match self.with_domain(id, Touch::Changes, |_, _| ()) {
            Ok(()) => self.kill(id),
            Err(HypervisorError::NoDomain(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn open_spice(&self, id: DesktopId) -> Result<OwnedFd, HypervisorError> {
        let failed = |error: std::io::Error| HypervisorError::Refused {
            what: "open spice",
            text: error.to_string(),
        };
        let (ours, peer) = UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        self.with_domain(id, Touch::Looks, |domain, _| {
            if domain.spice_peers.len() < SPICE_PEERS_MAX {
                domain.spice_peers.push(peer);
            }
        })?;
        Ok(ours.into())
    }

    async fn screenshot(&self, id: DesktopId) -> Result<Screenshot, HypervisorError> {
        self.with_domain(id, Touch::Looks, |_, _| Screenshot {
            mime_type: "image/x-portable-pixmap".to_owned(),
            bytes: Bytes::from_static(b"P6\n2 1\n255\n\x00\x00\x00\xff\xff\xff"),
        })
    }

    async fn open_guest_port(&self, id: DesktopId) -> Result<GuestStream, HypervisorError> {
        let (host, guest) = tokio::io::duplex(PORT_BYTES);
        let (open, ready_at) = self.with_domain(id, Touch::Looks, |domain, behaviour| {
            // The one that was open before ends when its sender goes.
            domain.port = watch::Sender::new(());
            let ready_at = domain.started + behaviour.boot_takes;
            (domain.port.subscribe(), behaviour.guests_get_ready.then_some(ready_at))
        })?;
        let _running = self.tasks.spawn("simulated guest", speak(guest, open, ready_at, id));
        Ok(Box::new(host))
    }

    async fn guest_agent_ping(&self, id: DesktopId) -> Result<(), HypervisorError> {
        self.with_domain(id, Touch::Looks, |domain, behaviour| {
            let up = domain.started + behaviour.boot_takes <= Instant::now();
            (up && behaviour.guests_get_ready).then_some(()).ok_or_else(|| {
                HypervisorError::NotNow("the guest agent does not answer".to_owned())
            })
        })?
    }

    async fn versions(&self) -> Result<HostVersions, HypervisorError> {
        drop(self.reachable()?);
        Ok(HostVersions { libvirt: "9.0.0".to_owned(), qemu: "7.2.22".to_owned() })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn boot_with_kvm(
        &self,
        _guest: &ProbeGuest,
        _within: Duration,
    ) -> Result<ProbeOutcome, HypervisorError> {
        Ok(self.reachable()?.behaviour.kvm.clone())
    }
}

impl HostMemory for SimulatedHypervisor {
    fn facts(&self) -> std::io::Result<HostFacts> {
        Ok(self.lock().behaviour.facts)
    }
}

/// The guest's helper: says `ready` until it hears `ok`, answers `ping`.
async fn speak(
    guest: DuplexStream,
    mut open: watch::Receiver<()>,
    ready_at: Option<Instant>,
    id: DesktopId,
) {
    let (reading, mut writing) = tokio::io::split(guest);
    let mut lines = BufReader::new(reading).lines();
    let mut acknowledged = ready_at.is_none();
    let mut next = ready_at.unwrap_or_else(Instant::now);
    loop {
        // Cancel-safe: `lines` keeps what it has read, the others hold nothing.
        let said = tokio::select! {
            biased;
            _gone = open.changed() => return,
            line = lines.next_line() => match line {
                Ok(Some(line)) if line == "ok" => {
                    acknowledged = true;
                    continue;
                }
                Ok(Some(line)) if line == "ping" => "pong\n".to_owned(),
                Ok(Some(_other)) => continue,
                Ok(None) | Err(_) => return,
            },
            () = tokio::time::sleep_until(next), if !acknowledged => {
                next = Instant::now() + READY_EVERY;
                format!("ready {id}\n")
            }
        };
        if writing.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Simulated volumes: names only.
#[derive(Clone, Debug)]
pub struct SimulatedVolumes(Arc<Mutex<VolumesState>>);

#[derive(Debug)]
struct VolumesState {
    images: BTreeMap<ImageDigest, ()>,
    partial: BTreeMap<ImageDigest, u64>,
    overlays: BTreeMap<DesktopId, ImageDigest>,
    free_mib: u64,
}

impl Default for SimulatedVolumes {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedVolumes {
    /// An empty storage with 100 GiB.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(VolumesState {
            images: BTreeMap::new(),
            partial: BTreeMap::new(),
            overlays: BTreeMap::new(),
            free_mib: 100 * 1024,
        })))
    }

    /// Sets the space left; with 0 every write fails.
    pub fn set_free_mib(&self, free_mib: u64) {
        self.lock().free_mib = free_mib;
    }

    fn lock(&self) -> MutexGuard<'_, VolumesState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_space(&self) -> Result<MutexGuard<'_, VolumesState>, VolumesError> {
        let state = self.lock();
        if state.free_mib == 0 {
            return Err(VolumesError::NoSpace(PathBuf::from("/simulated")));
        }
        Ok(state)
    }
}

#[async_trait]
impl Volumes for SimulatedVolumes {
    async fn image_present(&self, digest: &ImageDigest) -> Result<bool, VolumesError> {
        Ok(self.lock().images.contains_key(digest))
    }

    fn image_path(&self, digest: &ImageDigest) -> PathBuf {
        PathBuf::from(format!("/simulated/{digest}"))
    }

    fn overlay_path(&self, desktop: DesktopId) -> PathBuf {
        PathBuf::from(format!("/simulated/desktop-{desktop}.qcow2"))
    }

    async fn partial_bytes(&self, digest: &ImageDigest) -> Result<u64, VolumesError> {
        Ok(self.lock().partial.get(digest).copied().unwrap_or_default())
    }

    async fn append_partial(
        &self,
        digest: &ImageDigest,
        offset: u64,
        chunk: Bytes,
    ) -> Result<u64, VolumesError> {
        let mut state = self.with_space()?;
        let have = state.partial.entry(digest.clone()).or_default();
        if *have != offset {
            return Err(VolumesError::WrongOffset { have: *have, given: offset });
        }
        *have = have.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        Ok(*have)
    }

    async fn finish_image(&self, digest: &ImageDigest) -> Result<PathBuf, VolumesError> {
        let mut state = self.with_space()?;
        if state.partial.remove(digest).is_none() && !state.images.contains_key(digest) {
            return Err(VolumesError::NoImage(digest.to_string()));
        }
        state.images.insert(digest.clone(), ());
        drop(state);
        Ok(self.image_path(digest))
    }

    async fn ensure_overlay(
        &self,
        desktop: DesktopId,
        base: &ImageDigest,
    ) -> Result<PathBuf, VolumesError> {
        let mut state = self.with_space()?;
        if !state.images.contains_key(base) {
            return Err(VolumesError::NoImage(base.to_string()));
        }
        state.overlays.entry(desktop).or_insert_with(|| base.clone());
        drop(state);
        Ok(self.overlay_path(desktop))
    }

    async fn remove_overlay(&self, desktop: DesktopId) -> Result<(), VolumesError> {
        self.lock().overlays.remove(&desktop);
        Ok(())
    }

    async fn list_overlays(&self) -> Result<Vec<DesktopId>, VolumesError> {
        Ok(self.lock().overlays.keys().copied().collect())
    }

    async fn free_mib(&self) -> Result<u64, VolumesError> {
        Ok(self.lock().free_mib)
    }
}
