//! The libvirt adapter against a private system libvirt and the micro guest, for real.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::net::AddressFamily;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use vidi_hypervisor::acceleration::{self, AccelerationOptions};
use vidi_hypervisor::adapters::local_volumes::LocalVolumes;
use vidi_hypervisor::guest_port::GuestPort;
use vidi_hypervisor::libvirt::{LibvirtHypervisor, LibvirtOptions};
use vidi_hypervisor::{
    Acceleration, DirectBoot, DomainPower, DomainSpec, Hypervisor, HypervisorError, ImageDigest,
    Ownership, ProbeGuest, SpiceReader, Video, Volumes,
};
use vidi_kit::ids::{DesktopId, InstallationId};

use crate::Micro;
use crate::contract::{self, find, hear, ready};
use crate::private_libvirt::PrivateLibvirt;

/// A daemon that was killed is started again and found within this.
const HEAL_SECS_MAX: Duration = Duration::from_secs(60);

/// The micro template where QEMU's own user can read it.
struct Placed {
    volumes: LocalVolumes,
    disk: ImageDigest,
    guest: ProbeGuest,
}

impl Placed {
    async fn below(folder: &Path) -> Self {
        let micro = Micro::built();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let volumes = LocalVolumes::open(folder.join("images")).unwrap();
        let disk = place(&volumes, &micro.disk).await;
        let kernel = place(&volumes, &micro.guest.boot.kernel).await;
        let initrd = place(&volumes, micro.guest.boot.initrd.as_deref().unwrap()).await;
        let boot = DirectBoot {
            kernel: volumes.image_path(&kernel),
            initrd: Some(volumes.image_path(&initrd)),
            ..micro.guest.boot
        };
        Self { volumes, disk, guest: ProbeGuest { boot, ..micro.guest } }
    }

    async fn spec(&self) -> DomainSpec {
        let id = DesktopId::generate();
        DomainSpec {
            id,
            generation: 1,
            start_count: 1,
            title: "Ana's <desktop> & more".to_owned(),
            memory_mib: self.guest.memory_mib,
            vcpus: 1,
            video: Video::Qxl,
            // Every libvirt that starts these guests also takes the sound card.
            sound: true,
            disk: self.volumes.ensure_overlay(id, &self.disk).await.unwrap(),
            boot: Some(self.guest.boot.clone()),
            acceleration: Acceleration::Tcg,
        }
    }
}

async fn place(volumes: &LocalVolumes, file: &Path) -> ImageDigest {
    use sha2::Digest;
    let bytes = std::fs::read(file).unwrap();
    let digest = ImageDigest::from_bytes(&sha2::Sha256::digest(&bytes).into());
    volumes.append_partial(&digest, 0, bytes.into()).await.unwrap();
    volumes.finish_image(&digest).await.unwrap();
    digest
}

fn adapter(libvirt: &PrivateLibvirt, installation: InstallationId) -> LibvirtHypervisor {
    LibvirtHypervisor::open(LibvirtOptions {
        uri: libvirt.uri.clone(),
        installation,
        host: "host-1".parse().unwrap(),
    })
    .unwrap()
}

#[tokio::test]
async fn libvirt_keeps_the_contract() {
    let libvirt = PrivateLibvirt::start("contract");
    let host = adapter(&libvirt, InstallationId::generate());
    let placed = Placed::below(libvirt.folder()).await;
    let spec = placed.spec().await;
    let outside = |id: DesktopId, power| {
        let verb = if power == DomainPower::Running { "resume" } else { "suspend" };
        libvirt.virsh(&[verb, &id.to_string()]);
    };
    contract::a_desktop_lives(&host, &spec, &outside).await;
}

#[tokio::test]
async fn a_desktop_outlives_the_daemon_and_is_found_again() {
    let libvirt = PrivateLibvirt::start("heal");
    let host = adapter(&libvirt, InstallationId::generate());
    let placed = Placed::below(libvirt.folder()).await;
    let spec = placed.spec().await;
    let begin = Instant::now();
    host.start(&spec).await.unwrap();
    eprintln!("running after {:.1} s", begin.elapsed().as_secs_f64());
    let mut port = GuestPort::new(host.open_guest_port(spec.id).await.unwrap());
    assert_eq!(ready(&mut port).await, spec.id.uuid());
    eprintln!("ready after {:.1} s", begin.elapsed().as_secs_f64());
    port.send_ok().await.unwrap();
    a_spice_server_answers(&host, spec.id).await;

    libvirt.kill_daemon();
    let begin = Instant::now();
    while port.next_line().await.unwrap().is_some() {}
    eprintln!("the port ended {:.2} s after the kill", begin.elapsed().as_secs_f64());
    let gone = host.list().await;
    assert!(matches!(gone, Err(HypervisorError::Unavailable { .. })), "{gone:?}");

    libvirt.start_again();
    let begin = Instant::now();
    while host.list().await.is_err() {
        assert!(begin.elapsed() < HEAL_SECS_MAX, "libvirt was not found again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("healed {:.1} s after the restart", begin.elapsed().as_secs_f64());
    assert_eq!(find(&host, spec.id).await.unwrap().mark().unwrap().generation, 1);
    // libvirt's lock on the port is the killed daemon's until that has been waited for.
    let port = loop {
        match host.open_guest_port(spec.id).await {
            Ok(port) => break port,
            Err(error) => assert!(begin.elapsed() < HEAL_SECS_MAX, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let mut port = GuestPort::new(port);
    assert_eq!(ready(&mut port).await, spec.id.uuid(), "the same guest, never restarted");
    port.send_ping().await.unwrap();
    hear(&mut port, "pong").await;
    a_spice_server_answers(&host, spec.id).await;
    host.destroy(spec.id).await.unwrap();
}

#[tokio::test]
async fn a_qemu_that_is_killed_did_not_end_by_its_guest() {
    let libvirt = PrivateLibvirt::start("ends");
    let host = adapter(&libvirt, InstallationId::generate());
    let placed = Placed::below(libvirt.folder()).await;
    for signal in ["KILL", "TERM"] {
        let spec = placed.spec().await;
        host.start(&spec).await.unwrap();
        libvirt.kill_qemu(spec.id, signal);
        contract::until(&host, spec.id, |found| found.is_none()).await;
        let end = contract::ended(&host, spec.id).await;
        assert_eq!(end, vidi_hypervisor::DomainEnd::Otherwise, "{signal}");
    }
}

#[tokio::test]
async fn what_another_installation_started_is_foreign_and_left_alone() {
    let libvirt = PrivateLibvirt::start("foreign");
    let other = adapter(&libvirt, InstallationId::generate());
    let host = adapter(&libvirt, InstallationId::generate());
    let placed = Placed::below(libvirt.folder()).await;
    let spec = placed.spec().await;
    other.start(&spec).await.unwrap();
    let id = spec.id;
    assert_eq!(find(&host, id).await.unwrap().ownership, Ownership::Foreign);
    let foreign = Err(HypervisorError::Foreign(id));
    assert_eq!(host.destroy(id).await, foreign);
    assert_eq!(host.shutdown(id).await, foreign);
    assert!(
        host.open_spice(id, SpiceReader::Edge).await.is_err()
            && host.open_guest_port(id).await.is_err()
    );
    assert!(matches!(host.start(&spec).await, Err(HypervisorError::Exists { .. })));
    other.destroy(id).await.unwrap();
}

#[tokio::test]
async fn acceleration_is_what_the_micro_guest_could_be_run_with() {
    let libvirt = PrivateLibvirt::start("probe");
    let host = adapter(&libvirt, InstallationId::generate());
    acceleration::repair_kvm_device();
    let options = AccelerationOptions {
        forced: None,
        guest: Some(Placed::below(libvirt.folder()).await.guest),
        cache_file: libvirt.folder().join("acceleration.json"),
    };
    let begin = Instant::now();
    let verdict = acceleration::decide(&host, &options).await.unwrap();
    eprintln!("{verdict:?} after {:.1} s", begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    assert_eq!(acceleration::decide(&host, &options).await.unwrap(), verdict);
    assert!(begin.elapsed() < Duration::from_secs(1), "the answer is kept");
    // Nothing stays behind, and nothing ever looked like a desktop.
    let deadline = Instant::now() + HEAL_SECS_MAX;
    while !libvirt.virsh(&["list", "--all", "--name"]).trim().is_empty() {
        assert!(Instant::now() < deadline, "the probe's guest stayed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(host.list().await.unwrap(), []);
}

#[tokio::test]
async fn without_libvirt_the_error_names_the_uri_and_says_what_to_do() {
    let host = LibvirtHypervisor::open(LibvirtOptions {
        uri: "qemu+unix:///system?socket=/nonexistent/libvirt-sock".to_owned(),
        installation: InstallationId::generate(),
        host: "host-1".parse().unwrap(),
    })
    .unwrap();
    let text = host.list().await.unwrap_err().to_string();
    assert!(text.contains("/nonexistent/libvirt-sock") && text.contains("libvirtd"), "{text}");
}

/// The link of a main channel (SPICE protocol, "Channel link"): REDQ, version 2.2, 18 bytes of
/// message without capabilities. The reply starts with REDQ and has error code 0.
async fn a_spice_server_answers(host: &LibvirtHypervisor, id: DesktopId) {
    let mut link = Vec::from(*b"REDQ");
    for word in [2_u32, 2, 18, 0] {
        link.extend_from_slice(&word.to_le_bytes());
    }
    link.extend_from_slice(&[1, 0]);
    for word in [0_u32, 0, 18] {
        link.extend_from_slice(&word.to_le_bytes());
    }
    for reader in [SpiceReader::Edge, SpiceReader::Onward] {
        let opened = host.open_spice(id, reader).await.unwrap();
        let is_tcp = rustix::net::sockopt::socket_domain(&opened) == Ok(AddressFamily::INET);
        assert_eq!(is_tcp, reader == SpiceReader::Onward, "only on TCP does the server compress");
        let socket = std::os::unix::net::UnixStream::from(opened);
        let mut socket = tokio::net::UnixStream::from_std(socket).unwrap();
        socket.write_all(&link).await.unwrap();
        let mut reply = [0; 20];
        let reading = socket.read_exact(&mut reply);
        tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
        assert!(reply.starts_with(b"REDQ"), "{reply:?}");
        assert_eq!(reply.get(16..20), Some([0; 4].as_slice()), "the link's error code");
    }
}
