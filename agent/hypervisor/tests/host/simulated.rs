//! The simulated host keeps the contract, and its faults are what they say.

use std::path::PathBuf;
use std::time::Duration;

use vidi_hypervisor::simulated::SimulatedHypervisor;
use vidi_hypervisor::{
    Acceleration, DomainPower, DomainSpec, Hypervisor, HypervisorError, ObservedDomain, Ownership,
    Video,
};
use vidi_kit::Tasks;
use vidi_kit::ids::DesktopId;

fn spec() -> DomainSpec {
    DomainSpec {
        id: DesktopId::generate(),
        generation: 1,
        start_count: 1,
        title: "Test".to_owned(),
        memory_mib: 256,
        vcpus: 1,
        video: Video::Qxl,
        sound: false,
        disk: PathBuf::from("/simulated/disk.qcow2"),
        boot: None,
        acceleration: Acceleration::Tcg,
    }
}

fn host() -> SimulatedHypervisor {
    let host = SimulatedHypervisor::new(Tasks::new(), "host-1".parse().unwrap());
    host.behave(|behaviour| {
        behaviour.start_takes = Duration::from_millis(1);
        behaviour.boot_takes = Duration::from_millis(5);
    });
    host
}

#[tokio::test]
async fn the_simulated_host_keeps_the_contract() {
    let host = host();
    let outside = |id, power| host.set_power_from_outside(id, power);
    crate::contract::a_desktop_lives(&host, &spec(), &outside).await;
}

#[tokio::test]
async fn faults_happen_as_asked_and_end() {
    let (host, spec) = (host(), spec());
    host.behave(|behaviour| behaviour.starts_that_fail = 1);
    assert!(matches!(host.start(&spec).await, Err(HypervisorError::Refused { .. })));
    host.start(&spec).await.unwrap();
    host.behave(|behaviour| behaviour.available = false);
    assert!(matches!(host.list().await, Err(HypervisorError::Unavailable { .. })));
    host.behave(|behaviour| behaviour.available = true);
    assert_eq!(host.list().await.unwrap().len(), 1);
    host.kill(spec.id);
    assert_eq!(host.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_foreign_domain_is_listed_and_left_alone() {
    let host = host();
    let id = DesktopId::generate();
    let name = format!("vidi-{id}");
    let ownership = Ownership::Foreign;
    host.add_domain(ObservedDomain { id, name, power: DomainPower::Running, ownership });
    assert_eq!(host.destroy(id).await, Err(HypervisorError::Foreign(id)));
    assert_eq!(host.list().await.unwrap().len(), 1);
}
