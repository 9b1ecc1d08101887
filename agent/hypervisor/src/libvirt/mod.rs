//! The hypervisor port over libvirt.
//!
//! ```text
//!  async callers ──▶ pool: 8 threads, one lane per domain, limits ──▶ virt ──▶ libvirtd
//!                     ▲ live connection
//!                    link: thread that connects, again and again ◀── events: close, life cycle
//! ```

mod convert;
mod ends;
mod events;
mod link;
mod owner;
mod pool;
mod xml;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;
use vidi_kit::ids::{DesktopId, HostId, InstallationId};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::stream::Stream;
use virt::sys;

use crate::error::HypervisorError;
use crate::guest_port::GuestPort;
use crate::model::{
    DomainEnd, DomainPower, DomainSpec, HostVersions, ObservedDomain, PauseCause, ProbeGuest,
    ProbeOutcome,
};
use crate::ports::{GuestStream, Hypervisor, Screenshot, SpiceReader};
use link::{Link, Live};
use owner::Owner;
use pool::Pool;
use xml::DiskCache;

/// Processes of this host that may connect in the moment in which a socket listens, before it is given up.
const STRANGERS_MAX: usize = 8;
/// A call that only asks. A first one may wait for a libvirtd that just starts.
const ASK_SECS_MAX: Duration = Duration::from_secs(30);
/// A start takes about a second; where libvirt asks QEMU anew for each (see `acceleration`), 100 s.
const START_SECS_MAX: Duration = Duration::from_secs(150);
/// libvirt forgets a domain a moment after it stopped listing it, and starts none of its name before.
const FORGET_TIME_MAX: Duration = Duration::from_secs(5);
/// A plug that is pulled: libvirt waits up to 30 s for a QEMU that does not listen.
const DESTROY_SECS_MAX: Duration = Duration::from_secs(60);
/// The guest agent's own limit; the call's is above it.
const AGENT_SECS_MAX: i32 = 5;
/// A screenshot of 8192x8192 pixels; a larger one is refused.
const SCREENSHOT_BYTES_MAX: usize = 256 << 20;
/// Bytes of a screenshot read at a time.
const SCREENSHOT_CHUNK_BYTES: usize = 256 << 10;
/// QEMU's last words in the reason of a probe.
const REASON_CHARS_MAX: usize = 300;
/// Domains are looked at in this lane, desktops in their own.
const LIST_LANE: Uuid = Uuid::nil();
/// The guest helper's port, for C.
const GUEST_PORT: &std::ffi::CStr = c"dev.vidi.guest.0";

/// Where libvirt is and whom its domains belong to.
#[derive(Clone, Debug)]
pub struct LibvirtOptions {
    /// As `qemu:///system` or `qemu+unix:///system?socket=...`.
    pub uri: String,
    /// This installation.
    pub installation: InstallationId,
    /// This host.
    pub host: HostId,
}

/// libvirt's QEMU driver. Heals by itself when the daemon goes and comes back.
#[derive(Debug)]
pub struct LibvirtHypervisor {
    options: LibvirtOptions,
    link: Link,
    pool: Arc<Pool>,
}

impl LibvirtHypervisor {
    /// Starts the threads and returns at once; calls fail with
    /// [`HypervisorError::Unavailable`] until libvirt answers.
    pub fn open(options: LibvirtOptions) -> Result<Self, HypervisorError> {
        let no_thread = |error: std::io::Error| HypervisorError::Refused {
            what: "start threads",
            text: error.to_string(),
        };
        let pool = Arc::new(Pool::start().map_err(no_thread)?);
        let link = Link::start(options.uri.clone()).map_err(no_thread)?;
        Ok(Self { options, link, pool })
    }

    /// Runs `call` with the live connection on one of the pool's threads.
    async fn call<T, F>(
        &self,
        lane: Uuid,
        what: &'static str,
        limit: Duration,
        call: F,
    ) -> Result<T, HypervisorError>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Live>) -> Result<T, HypervisorError> + Send + 'static,
    {
        let link = self.link.handle();
        self.pool
            .run(lane, what, limit, move || {
                let live = link.live()?;
                call(&live).map_err(|error| link.lost(&live).unwrap_or(error))
            })
            .await
    }

    /// Runs `call` with a domain of ours, in its lane.
    async fn with_domain<T, F>(
        &self,
        id: DesktopId,
        what: &'static str,
        limit: Duration,
        call: F,
    ) -> Result<T, HypervisorError>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Live>, &Domain) -> Result<T, HypervisorError> + Send + 'static,
    {
        let owner = self.owner();
        self.call(id.uuid(), what, limit, move |live| {
            let domain = lookup(live.connect(), id)?.ok_or(HypervisorError::NoDomain(id))?;
            owner.require(&domain, id)?;
            call(live, &domain)
        })
        .await
    }

    fn owner(&self) -> Owner {
        Owner::new(self.options.installation, self.options.host.clone())
    }

    /// Opens the guest's port of any domain.
    async fn open_port(
        &self,
        domain_id: Uuid,
        guard: impl FnOnce(&Domain) -> Result<(), HypervisorError> + Send + 'static,
    ) -> Result<GuestStream, HypervisorError> {
        let what = "open the guest port";
        let id = DesktopId::new(domain_id);
        let ours = self
            .call(domain_id, what, ASK_SECS_MAX, move |live| {
                let domain = lookup(live.connect(), id)?.ok_or(HypervisorError::NoDomain(id))?;
                guard(&domain)?;
                let (ours, theirs) = socket_pair(what)?;
                let pump = events::pump_guest_port(live.connect(), &domain, GUEST_PORT, theirs)
                    .map_err(|error| convert::error(what, id, &error))?;
                live.keep(pump);
                Ok(ours)
            })
            .await?;
        let stream =
            tokio::net::UnixStream::from_std(ours).map_err(|error| refused(what, &error))?;
        Ok(Box::new(stream))
    }

    /// Waits for a probe's guest to say `ready`.
    async fn hear_ready(&self, id: Uuid, deadline: Instant) -> ProbeOutcome {
        let listening = async {
            let stream = self.open_port(id, |_| Ok(())).await.map_err(|error| error.to_string())?;
            match GuestPort::new(stream).hear_ready(|_whoever| true).await {
                Ok(true) => Ok(()),
                Ok(false) => Err("the guest ended".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        };
        match tokio::time::timeout_at(deadline, listening).await {
            Ok(Ok(())) => ProbeOutcome::Ready,
            Ok(Err(text)) => ProbeOutcome::NotReady(text),
            Err(_elapsed) => ProbeOutcome::NotReady("the guest did not boot in time".to_owned()),
        }
    }

    async fn start_once(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        let what = "start";
        let (spec, owner) = (spec.clone(), self.owner());
        self.link.ends().forget(spec.id.uuid());
        self.call(spec.id.uuid(), what, START_SECS_MAX, move |live| {
            let mark = owner.mark_for(&spec);
            if let Some(domain) = lookup(live.connect(), spec.id)? {
                return owner.same_start(&domain, &mark);
            }
            let text = xml::desktop(&spec, &mark, disk_cache(&spec.disk))
                .map_err(HypervisorError::BadSpec)?;
            match Domain::create_xml(live.connect(), &text, sys::VIR_DOMAIN_NONE) {
                Ok(_domain) => Ok(()),
                // Somebody else may have been faster.
                Err(error) => match lookup(live.connect(), spec.id)? {
                    Some(domain) => owner.same_start(&domain, &mark),
                    None => Err(convert::error(what, spec.id, &error)),
                },
            }
        })
        .await
    }
}

#[async_trait]
impl Hypervisor for LibvirtHypervisor {
    async fn list(&self) -> Result<Vec<ObservedDomain>, HypervisorError> {
        let owner = self.owner();
        let what = "list the domains";
        self.call(LIST_LANE, what, ASK_SECS_MAX, move |live| {
            let domains = live.connect().list_all_domains(0);
            domains.and_then(|domains| owner.list(&domains)).map_err(|error| {
                HypervisorError::Refused { what, text: error.message().to_owned() }
            })
        })
        .await
    }

    async fn start(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        // One that is ending is still active at first, then being removed: libvirt refuses both times.
        let deadline = Instant::now() + FORGET_TIME_MAX;
        loop {
            let started = self.start_once(spec).await;
            if !matches!(started, Err(HypervisorError::NotNow(_))) || deadline <= Instant::now() {
                return started;
            }
            tokio::time::sleep(FORGET_TIME_MAX / 20).await;
        }
    }

    async fn shutdown(&self, id: DesktopId) -> Result<(), HypervisorError> {
        let what = "shut down";
        self.with_domain(id, what, ASK_SECS_MAX, move |_live, domain| {
            not_paused(domain, id)?;
            domain
                .shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                .map(drop)
                .map_err(|error| convert::error(what, id, &error))
        })
        .await
    }

    async fn destroy(&self, id: DesktopId) -> Result<(), HypervisorError> {
        let what = "destroy";
        let destroyed = self.with_domain(id, what, DESTROY_SECS_MAX, move |_live, domain| {
            not_paused(domain, id)?;
            domain.destroy().map_err(|error| convert::error(what, id, &error))
        });
        match destroyed.await {
            Err(HypervisorError::NoDomain(_)) => Ok(()),
            other => other,
        }
    }

    async fn open_spice(
        &self,
        id: DesktopId,
        reader: SpiceReader,
    ) -> Result<OwnedFd, HypervisorError> {
        let what = "open the display";
        self.with_domain(id, what, ASK_SECS_MAX, move |_live, domain| {
            let (ours, theirs) = match reader {
                SpiceReader::Edge => {
                    socket_pair(what).map(|(one, other)| (one.into(), other.into()))
                }
                SpiceReader::Onward => tcp_pair().map_err(|error| refused(what, &error)),
            }?;
            // libvirt sends a duplicate to QEMU; ours closes at the end of this block.
            domain
                .open_graphics(0, theirs.as_raw_fd(), sys::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
                .map_err(|error| convert::error(what, id, &error))?;
            Ok(ours)
        })
        .await
    }

    async fn screenshot(&self, id: DesktopId) -> Result<Screenshot, HypervisorError> {
        let what = "take a screenshot";
        self.with_domain(id, what, ASK_SECS_MAX, move |live, domain| {
            let failed = |error: virt::error::Error| convert::error(what, id, &error);
            let stream = Stream::new(live.connect(), 0).map_err(failed)?;
            let mime_type = domain.screenshot(&stream, 0, 0).map_err(failed)?;
            let bytes = read_whole(&stream, what).map_err(|error| match error {
                Read::Libvirt(error) => failed(error),
                Read::Refused(error) => error,
            })?;
            stream.finish().map_err(failed)?;
            Ok(Screenshot { mime_type, bytes })
        })
        .await
    }

    async fn open_guest_port(&self, id: DesktopId) -> Result<GuestStream, HypervisorError> {
        let owner = self.owner();
        self.open_port(id.uuid(), move |domain| owner.require(domain, id)).await
    }

    async fn guest_agent_ping(&self, id: DesktopId) -> Result<(), HypervisorError> {
        let what = "ping the guest agent";
        self.with_domain(id, what, ASK_SECS_MAX, move |_live, domain| {
            domain
                .qemu_agent_command(r#"{"execute":"guest-ping"}"#, AGENT_SECS_MAX, 0)
                .map(drop)
                .map_err(|error| convert::error(what, id, &error))
        })
        .await
    }

    async fn versions(&self) -> Result<HostVersions, HypervisorError> {
        let what = "ask for versions";
        self.call(LIST_LANE, what, ASK_SECS_MAX, move |live| {
            let failed = |error: virt::error::Error| HypervisorError::Refused {
                what,
                text: error.message().to_owned(),
            };
            Ok(HostVersions {
                libvirt: convert::version(live.connect().get_lib_version().map_err(failed)?),
                qemu: convert::version(live.connect().get_hyp_version().map_err(failed)?),
            })
        })
        .await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.link.changes()
    }

    fn end_of(&self, id: DesktopId) -> Option<DomainEnd> {
        self.link.ends().of(id.uuid())
    }

    async fn boot_with_kvm(
        &self,
        guest: &ProbeGuest,
        within: Duration,
    ) -> Result<ProbeOutcome, HypervisorError> {
        let deadline = Instant::now() + within;
        let id = Uuid::new_v4();
        let text = xml::probe(id, guest).map_err(HypervisorError::BadSpec)?;
        // In every case, also when the caller stops waiting, and by libvirt itself when this
        // process ends.
        let _gone_at_the_end =
            ProbeEnd { pool: Arc::clone(&self.pool), link: self.link.handle(), id };
        let what = "boot a guest with KVM";
        let created = self.call(id, what, within, move |live| {
            // A refusal is an outcome; only a lost connection is an error of the probe.
            match Domain::create_xml(live.connect(), &text, sys::VIR_DOMAIN_START_AUTODESTROY) {
                Ok(_domain) => Ok(None),
                Err(error) if live.connect().is_alive().unwrap_or(false) => {
                    Ok(Some(error.message().to_owned()))
                }
                Err(error) => {
                    Err(HypervisorError::Refused { what, text: error.message().to_owned() })
                }
            }
        });
        match created.await {
            Ok(None) => Ok(self.hear_ready(id, deadline).await),
            Ok(Some(text)) => {
                let line = text.lines().next().unwrap_or_default();
                Ok(ProbeOutcome::NotReady(line.chars().take(REASON_CHARS_MAX).collect()))
            }
            Err(HypervisorError::TimedOut { .. }) => {
                Ok(ProbeOutcome::NotReady("QEMU did not start in time".to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Destroys a probe's domain when it goes.
struct ProbeEnd {
    pool: Arc<Pool>,
    link: link::LinkHandle,
    id: Uuid,
}

impl Drop for ProbeEnd {
    fn drop(&mut self) {
        let (link, id) = (self.link.clone(), self.id);
        self.pool.run_detached(id, move || {
            let Ok(live) = link.live() else { return };
            if let Ok(Some(domain)) = lookup(live.connect(), DesktopId::new(id)) {
                // It ends with the connection at the latest.
                drop(domain.destroy());
            }
        });
    }
}

fn lookup(connect: &Connect, id: DesktopId) -> Result<Option<Domain>, HypervisorError> {
    match Domain::lookup_by_uuid(connect, id.uuid()) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if error.code() == ErrorNumber::NoDomain => Ok(None),
        Err(error) => Err(convert::error("look up", id, &error)),
    }
}

fn not_paused(domain: &Domain, id: DesktopId) -> Result<(), HypervisorError> {
    let (state, reason) =
        domain.get_state().map_err(|error| convert::error("look at", id, &error))?;
    if convert::power(state, reason) == DomainPower::Paused(PauseCause::External) {
        return Err(HypervisorError::PausedExternal(id));
    }
    Ok(())
}

/// Both ends nonblocking; QEMU sets its own as it likes.
fn socket_pair(what: &'static str) -> Result<(UnixStream, UnixStream), HypervisorError> {
    let pair = UnixStream::pair().and_then(|(ours, theirs)| {
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        Ok((ours, theirs))
    });
    pair.map_err(|error| refused(what, &error))
}

/// The same over TCP. The listener is there for this one connection, and takes no other.
fn tcp_pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    for _ in 0..STRANGERS_MAX {
        let (theirs, from) = listener.accept()?;
        if from != ours.local_addr()? {
            continue;
        }
        for end in [&ours, &theirs] {
            end.set_nonblocking(true)?;
            end.set_nodelay(true)?;
        }
        return Ok((ours.into(), theirs.into()));
    }
    Err(std::io::Error::other("too many strangers connect to this host's loopback"))
}

fn refused(what: &'static str, error: &std::io::Error) -> HypervisorError {
    HypervisorError::Refused { what, text: error.to_string() }
}

/// Whether the disk's file system takes O_DIRECT. A file that this user may not open says nothing.
fn disk_cache(disk: &Path) -> DiskCache {
    use rustix::fs::{Mode, OFlags};
    match rustix::fs::open(disk, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::INVAL) => DiskCache::Writeback,
        Ok(_) | Err(_) => DiskCache::None,
    }
}

enum Read {
    Libvirt(virt::error::Error),
    Refused(HypervisorError),
}

fn read_whole(stream: &Stream, what: &'static str) -> Result<Bytes, Read> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; SCREENSHOT_CHUNK_BYTES];
    loop {
        let count = stream.recv(&mut chunk).map_err(Read::Libvirt)?;
        let Some(part) = chunk.get(..count).filter(|part| !part.is_empty()) else {
            return Ok(bytes.into());
        };
        bytes.extend_from_slice(part);
        if SCREENSHOT_BYTES_MAX < bytes.len() {
            let text = "the picture is too large".to_owned();
            return Err(Read::Refused(HypervisorError::Refused { what, text }));
        }
    }
}
