//! What every adapter of the hypervisor port must do.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use vidi_hypervisor::guest_port::{GuestLine, GuestPort};
use vidi_hypervisor::picture::has_many_colours;
use vidi_hypervisor::{
    DomainEnd, DomainPower, DomainSpec, Hypervisor, HypervisorError, ObservedDomain, PauseCause,
    SpiceReader,
};
use vidi_kit::ids::DesktopId;

/// A boot under emulation on a busy machine.
pub(crate) const READY_SECS_MAX: Duration = Duration::from_secs(120);
/// A change that was asked for.
const LEVEL_SECS_MAX: Duration = Duration::from_secs(40);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Pauses or resumes a domain with another tool.
pub(crate) type FromOutside<'a> = &'a dyn Fn(DesktopId, DomainPower);

/// From nothing to nothing, through a whole life. `spec` boots the micro guest.
pub(crate) async fn a_desktop_lives(
    host: &dyn Hypervisor,
    spec: &DomainSpec,
    outside: FromOutside<'_>,
) {
    let id = spec.id;
    assert_eq!(find(host, id).await, None);
    for missing in [host.shutdown(id).await, host.screenshot(id).await.map(drop)] {
        assert_eq!(missing, Err(HypervisorError::NoDomain(id)));
    }
    assert_eq!(host.destroy(id).await, Ok(()), "destroying what is gone is done");

    let mut changes = host.changes();
    changes.mark_unchanged();
    host.start(spec).await.unwrap();
    tokio::time::timeout(LEVEL_SECS_MAX, changes.changed()).await.unwrap().unwrap();
    let observed = find(host, id).await.unwrap();
    assert_eq!(observed.name, format!("vidi-{id}"));
    assert_eq!(observed.power, DomainPower::Running);
    let mark = observed.mark().unwrap();
    assert_eq!((mark.generation, mark.start_count), (spec.generation, spec.start_count));
    assert_eq!(mark.acceleration, spec.acceleration);

    assert_eq!(host.start(spec).await, Ok(()), "the same start again is the same start");
    let newer = DomainSpec { start_count: spec.start_count + 1, ..spec.clone() };
    let refused = host.start(&newer).await;
    assert!(matches!(refused, Err(HypervisorError::Exists { .. })), "{refused:?}");

    let mut port = GuestPort::new(host.open_guest_port(id).await.unwrap());
    assert_eq!(ready(&mut port).await, id.uuid());
    port.send_ok().await.unwrap();
    port.send_ping().await.unwrap();
    hear(&mut port, "pong").await;
    let picture = host.screenshot(id).await.unwrap();
    assert_eq!(has_many_colours(&picture), Ok(true), "a ready guest has drawn its first picture");
    // Who opens the port takes it over, and hears `ready` again when it asks.
    let mut second = GuestPort::new(host.open_guest_port(id).await.unwrap());
    assert_eq!(ready(&mut second).await, id.uuid());
    drop(host.open_spice(id, SpiceReader::Edge).await.unwrap());

    outside(id, DomainPower::Paused(PauseCause::External));
    until(host, id, |found| {
        found.is_some_and(|found| found.power == DomainPower::Paused(PauseCause::External))
    })
    .await;
    let paused = Err(HypervisorError::PausedExternal(id));
    assert_eq!(host.shutdown(id).await, paused);
    assert_eq!(host.destroy(id).await, paused);
    outside(id, DomainPower::Running);
    until(host, id, |found| found.is_some_and(|found| found.power == DomainPower::Running)).await;

    host.shutdown(id).await.unwrap();
    until(host, id, |found| found.is_none()).await;
    assert_eq!(ended(host, id).await, DomainEnd::ByGuest, "the guest heard the power button");

    host.start(&newer).await.unwrap();
    assert_eq!(host.end_of(id), None, "a new start is not an old one's end");
    assert_eq!(find(host, id).await.unwrap().mark().unwrap().start_count, newer.start_count);
    host.destroy(id).await.unwrap();
    until(host, id, |found| found.is_none()).await;
    assert_eq!(ended(host, id).await, DomainEnd::Otherwise, "the plug was pulled");
}

/// Waits for word of how a domain ended.
pub(crate) async fn ended(host: &dyn Hypervisor, id: DesktopId) -> DomainEnd {
    let deadline = Instant::now() + LEVEL_SECS_MAX;
    loop {
        if let Some(end) = host.end_of(id) {
            return end;
        }
        assert!(Instant::now() < deadline, "nobody says how it ended");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The domain in the list.
pub(crate) async fn find(host: &dyn Hypervisor, id: DesktopId) -> Option<ObservedDomain> {
    host.list().await.unwrap().into_iter().find(|domain| domain.id == id)
}

/// Waits until the list shows what is wanted.
pub(crate) async fn until(
    host: &dyn Hypervisor,
    id: DesktopId,
    wanted: impl Fn(Option<&ObservedDomain>) -> bool,
) {
    let deadline = Instant::now() + LEVEL_SECS_MAX;
    loop {
        let found = find(host, id).await;
        if wanted(found.as_ref()) {
            return;
        }
        assert!(Instant::now() < deadline, "it still is {found:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Asks for `ready`, as the agent does, and gives the identity in it.
pub(crate) async fn ready(port: &mut GuestPort) -> Uuid {
    let mut identity = None;
    let waiting = port.hear_ready(|said| identity.replace(said).is_none());
    tokio::time::timeout(READY_SECS_MAX, waiting).await.unwrap().unwrap();
    identity.expect("the port ended")
}

/// Waits for a line.
pub(crate) async fn hear(port: &mut GuestPort, wanted: &str) {
    let waiting = async {
        loop {
            match port.next_line().await.unwrap() {
                Some(GuestLine::Other(line)) if line == wanted => return,
                Some(_) => {}
                None => panic!("the port ended"),
            }
        }
    };
    tokio::time::timeout(LEVEL_SECS_MAX, waiting).await.unwrap();
}
