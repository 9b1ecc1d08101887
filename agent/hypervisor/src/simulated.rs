//! A host in memory behind the same ports, with faults, for deterministic tests.
//!
//! Time is tokio's: under a paused clock a boot takes no time at all, in the same order every run.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;
use vidi_kit::Tasks;
use vidi_kit::ids::{DesktopId, HostId, InstallationId};

use crate::error::HypervisorError;
use crate::model::{
    DesktopMark, DomainEnd, DomainPower, DomainSpec, HostFacts, HostVersions, ObservedDomain,
    Ownership, PauseCause, ProbeGuest, ProbeOutcome,
};
use crate::ports::{GuestStream, HostMemory, Hypervisor, Screenshot, SpiceReader};
pub use crate::simulated_volumes::SimulatedVolumes;

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
            facts: HostFacts {
                cpus: 2,
                memory_total_mib: 24_576,
                memory_available_mib: 20_480,
                boot: Uuid::from_u128(1),
            },
        }
    }
}

struct Domain {
    observed: ObservedDomain,
    started: Instant,
    spice_peers: Vec<UnixStream>,
    /// Ends what is open on the guest's port; replaced when it is opened again.
    port: watch::Sender<()>,
    /// The guest has heard `ok`. It does not notice that its port is opened anew, as a real one may
    /// not when that is done quickly.
    acknowledged: Arc<AtomicBool>,
}

struct State {
    behaviour: Behaviour,
    domains: BTreeMap<DesktopId, Domain>,
    ends: BTreeMap<DesktopId, DomainEnd>,
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
        let state = State {
            behaviour: Behaviour::default(),
            domains: BTreeMap::new(),
            ends: BTreeMap::new(),
            starts: 0,
        };
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

    /// A guest's process is killed, or crashes.
    pub fn kill(&self, id: DesktopId) {
        self.end(id, DomainEnd::Otherwise);
    }

    /// A guest shuts itself down.
    pub fn power_off(&self, id: DesktopId) {
        self.end(id, DomainEnd::ByGuest);
    }

    /// The machine goes down and comes up again: nothing runs, and nobody saw it end.
    pub fn reboot(&self) {
        let mut state = self.lock();
        state.domains.clear();
        state.ends.clear();
        let boot = &mut state.behaviour.facts.boot;
        *boot = Uuid::from_u128(boot.as_u128().wrapping_add(1));
        drop(state);
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
            acknowledged: Arc::default(),
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

    fn end(&self, id: DesktopId, end: DomainEnd) {
        let mut state = self.lock();
        if state.domains.remove(&id).is_some() {
            state.ends.insert(id, end);
        }
        drop(state);
        self.hint();
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
        let mark = DesktopMark::of(spec, self.installation, self.host.clone());
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
        state.ends.remove(&spec.id);
        drop(state);
        self.add_domain(observed);
        Ok(())
    }

    async fn shutdown(&self, id: DesktopId) -> Result<(), HypervisorError> {
        let listens =
            self.with_domain(id, Touch::Changes, |_, behaviour| behaviour.guests_shut_down)?;
        if listens {
            self.power_off(id);
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

    async fn open_spice(
        &self,
        id: DesktopId,
        _reader: SpiceReader,
    ) -> Result<OwnedFd, HypervisorError> {
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
        let (open, helper) = self.with_domain(id, Touch::Looks, |domain, behaviour| {
            // The one that was open before ends when its sender goes.
            domain.port = watch::Sender::new(());
            let ready_at = domain.started + behaviour.boot_takes;
            let helper = Helper {
                id,
                ready_at: behaviour.guests_get_ready.then_some(ready_at),
                acknowledged: Arc::clone(&domain.acknowledged),
            };
            (domain.port.subscribe(), helper)
        })?;
        let _running = self.tasks.spawn("simulated guest", helper.speak(guest, open));
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

    fn end_of(&self, id: DesktopId) -> Option<DomainEnd> {
        self.lock().ends.get(&id).copied()
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

/// The guest's helper.
struct Helper {
    id: DesktopId,
    /// None: it never comes so far.
    ready_at: Option<Instant>,
    acknowledged: Arc<AtomicBool>,
}

impl Helper {
    /// Says `ready` until it hears `ok`, and again when it is asked `who`; answers `ping`.
    async fn speak(self, guest: DuplexStream, mut open: watch::Receiver<()>) {
        let (reading, mut writing) = tokio::io::split(guest);
        let mut lines = BufReader::new(reading).lines();
        let mut next = self.ready_at.unwrap_or_else(Instant::now);
        loop {
            let speaks = self.ready_at.is_some() && !self.acknowledged.load(Ordering::Relaxed);
            // Cancel-safe: `lines` keeps what it has read, the others hold nothing.
            let said = tokio::select! {
                biased;
                _gone = open.changed() => return,
                line = lines.next_line() => match line {
                    Ok(Some(line)) if line == "ok" || line == "who" => {
                        self.acknowledged.store(line == "ok", Ordering::Relaxed);
                        continue;
                    }
                    Ok(Some(line)) if line == "ping" => "pong\n".to_owned(),
                    Ok(Some(_other)) => continue,
                    Ok(None) | Err(_) => return,
                },
                () = tokio::time::sleep_until(next), if speaks => {
                    next = Instant::now() + READY_EVERY;
                    format!("ready {}\n", self.id)
                }
            };
            if writing.write_all(said.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
