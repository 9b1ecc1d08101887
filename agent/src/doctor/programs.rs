//! The programs that run guests: QEMU with SPICE, libvirt, virtlogd; and guests of others.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use uuid::Uuid;
use vidi_hypervisor::libvirt::{LibvirtHypervisor, LibvirtOptions};
use vidi_hypervisor::{HostVersions, Hypervisor, HypervisorError, ObservedDomain, Ownership};
use vidi_kit::ids::{HostId, InstallationId};
use vidi_kit::tls::CertificateName;

use super::{Finding, links, machine};
use crate::config::AgentConfig;

const QEMU: &str = "qemu-system-x86_64";
/// Older ones were not tried.
const QEMU_MAJOR_MIN: u32 = 7;
/// One run of QEMU that only prints; it takes 0.2 s.
const QEMU_SECS_MAX: Duration = Duration::from_secs(5);
/// libvirt's first answer takes 8 s on a slow machine.
const LIBVIRT_SECS_MAX: Duration = Duration::from_secs(12);
const INSTALL: &str = "apt install qemu-system-x86 seabios";
/// Domains that are named; more are counted.
const NAMED_MAX: usize = 5;

/// QEMU, its version, and whether it can do SPICE and qxl.
pub(super) async fn qemu() -> Vec<Finding> {
    const CHECK: &str = "qemu";
    let text = match ask_qemu(&["--version"]).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Finding::fail(CHECK, format!("{QEMU} is not there"), INSTALL)];
        }
        Err(error) => {
            let found = format!("{QEMU} cannot be run: {error}");
            return vec![Finding::fail(CHECK, found, "run it by hand to see why")];
        }
    };
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    let mut findings = vec![match major_version(&line) {
        Some(major) if QEMU_MAJOR_MIN <= major => Finding::ok(CHECK, line),
        _ => Finding::warn(
            CHECK,
            format!("{line}: older than what was tried"),
            format!("use QEMU {QEMU_MAJOR_MIN} or newer"),
        ),
    }];
    let devices = ask_qemu(&["-machine", "none", "-device", "help"]).await.unwrap_or_default();
    let spice = ask_qemu(&["-spice", "help"]).await.unwrap_or_default();
    let missing: Vec<&str> = [
        ("SPICE", spice.contains("disable-ticketing")),
        ("the video device qxl", devices.contains("\"qxl-vga\"")),
    ]
    .into_iter()
    .filter_map(|(name, there)| (!there).then_some(name))
    .collect();
    findings.push(if missing.is_empty() {
        Finding::ok("spice", "QEMU has SPICE and the video device qxl")
    } else {
        let advice = "install QEMU's modules: apt install qemu-system-common, and on newer releases \
                      qemu-system-modules-spice";
        Finding::fail("spice", format!("QEMU lacks {}", missing.join(" and ")), advice)
    });
    findings
}

async fn ask_qemu(arguments: &[&str]) -> io::Result<String> {
    let running =
        Command::new(QEMU).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(QEMU_SECS_MAX, running)
        .await
        .map_err(|_elapsed| io::Error::new(io::ErrorKind::TimedOut, "it does not end"))??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Of `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)`.
fn major_version(line: &str) -> Option<u32> {
    line.split("version ").nth(1)?.split('.').next()?.parse().ok()
}

/// libvirt; then what only it can tell: whose domains there are, how guests run.
pub(super) async fn libvirt(config: &AgentConfig) -> Vec<Finding> {
    const CHECK: &str = "libvirt";
    let name = links::own_name(config);
    let asked = tokio::time::timeout(LIBVIRT_SECS_MAX, ask_libvirt(config, name.as_ref())).await;
    let (versions, domains) = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            let found = error.to_string();
            let found = found.split("; check that").next().unwrap_or_default().to_owned();
            let mut findings = vec![Finding::fail(CHECK, found, libvirt_advice(&config.libvirt))];
            findings.extend(machine::acceleration(config, None));
            return findings;
        }
        Err(_elapsed) => {
            let secs = LIBVIRT_SECS_MAX.as_secs();
            let found = format!("no answer at {} within {secs} s", config.libvirt);
            let advice = "libvirtd hangs: restart it, which no guest notices: systemctl restart \
                          libvirtd";
            return vec![Finding::fail(CHECK, found, advice)];
        }
    };
    let found = format!("libvirt {} at {}", versions.libvirt, config.libvirt);
    let mut findings = vec![if config.libvirt.contains("/session") {
        let advice = "use qemu:///system: a session's libvirt has no user of its own for QEMU";
        Finding::warn(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }];
    findings.push(others_domains(&domains, name.as_ref()));
    findings.extend(machine::acceleration(config, Some(versions.qemu)));
    findings
}

/// Versions of libvirt and QEMU, and the domains that are Vidi's or look so.
async fn ask_libvirt(
    config: &AgentConfig,
    name: Option<&CertificateName>,
) -> Result<(HostVersions, Vec<ObservedDomain>), HypervisorError> {
    let nobody = || (InstallationId::new(Uuid::nil()), "nobody".parse::<HostId>());
    let (installation, host) = name
        .and_then(|name| Some((name.installation.parse().ok()?, name.id.parse::<HostId>())))
        .unwrap_or_else(nobody);
    let no_name = |_| HypervisorError::NotNow("the certificate names no host".to_owned());
    let libvirt = LibvirtHypervisor::open(LibvirtOptions {
        uri: config.libvirt.clone(),
        installation,
        host: host.map_err(no_name)?,
    })?;
    Ok((libvirt.versions().await?, libvirt.list().await?))
}

fn libvirt_advice(uri: &str) -> String {
    if let Some(socket) = socket_of(uri) {
        let socket = socket.display();
        return format!(
            "start the libvirtd that listens on {socket}, or correct libvirt in agent.toml"
        );
    }
    if uri != "qemu:///system" {
        return "correct libvirt in agent.toml; the usual one is \"qemu:///system\"".to_owned();
    }
    "apt install libvirt-daemon-system; systemctl start libvirtd; a user that is not root has to be in \
     the group libvirt"
        .to_owned()
}

/// `qemu+unix:///system?socket=/path`.
fn socket_of(uri: &str) -> Option<PathBuf> {
    let (_, query) = uri.split_once('?')?;
    let socket = query.split('&').find_map(|pair| pair.strip_prefix("socket="))?;
    Some(PathBuf::from(socket))
}

fn others_domains(domains: &[ObservedDomain], name: Option<&CertificateName>) -> Finding {
    const CHECK: &str = "domains";
    let foreign: Vec<_> =
        domains.iter().filter(|domain| domain.ownership == Ownership::Foreign).collect();
    if foreign.is_empty() {
        let own = domains.len();
        return Finding::ok(CHECK, format!("{own} desktops of this installation run here"));
    }
    let mut names: Vec<&str> = foreign.iter().map(|it| it.name.as_str()).take(NAMED_MAX).collect();
    if NAMED_MAX < foreign.len() {
        names.push("and more");
    }
    let whose = if name.is_some() {
        "of another installation, or of this host under another id"
    } else {
        "of an installation that this machine has not joined"
    };
    Finding::warn(
        CHECK,
        format!("{} desktops {whose} run here: {}", foreign.len(), names.join(", ")),
        "they are never touched; where nobody needs them: virsh destroy NAME",
    )
}

/// Without it libvirt starts no domain.
pub(super) fn virtlogd(config: &AgentConfig) -> Vec<Finding> {
    const CHECK: &str = "virtlogd";
    let socket = match socket_of(&config.libvirt) {
        Some(libvirt) => libvirt.with_file_name("virtlogd-sock"),
        None => PathBuf::from("/run/libvirt/virtlogd-sock"),
    };
    vec![look_at_socket(CHECK, &socket)]
}

fn look_at_socket(check: &'static str, socket: &Path) -> Finding {
    let at = socket.display();
    match UnixStream::connect(socket) {
        Ok(_connected) => Finding::ok(check, format!("answers at {at}")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::ok(check, format!("{at} is there; only root may ask more"))
        }
        Err(error) => Finding::fail(
            check,
            format!("does not answer at {at}: {error}; no guest can start"),
            "systemctl start virtlogd.socket, or where there is no systemd: virtlogd -d",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn a_version_is_read_from_what_qemu_prints() {
        assert_eq!(major_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"), Some(7));
        assert_eq!(major_version("QEMU emulator version 10.0.2"), Some(10));
        assert_eq!(major_version("something else"), None);
    }

    #[test]
    fn the_advice_about_libvirt_follows_its_uri() {
        assert!(libvirt_advice("qemu:///system").contains("systemctl start libvirtd"));
        assert!(libvirt_advice("qemu+unix:///system?socket=/r/s").contains("/r/s"));
        assert!(libvirt_advice("quemu:///system").contains("agent.toml"));
    }

    #[test]
    fn a_socket_that_nobody_listens_on_fails_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("virtlogd-sock");
        let finding = look_at_socket("virtlogd", &path);
        assert_eq!(finding.result, Grade::Fail);
        assert!(finding.advice.contains("virtlogd"));
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(look_at_socket("virtlogd", &path).result, Grade::Ok);
    }

    #[test]
    fn domains_of_others_are_named_and_left_alone() {
        let domain = |number: u128, ownership| ObservedDomain {
            id: vidi_kit::ids::DesktopId::new(Uuid::from_u128(number)),
            name: format!("vidi-{number}"),
            power: vidi_hypervisor::DomainPower::Running,
            ownership,
        };
        assert_eq!(others_domains(&[], None).result, Grade::Ok);
        let many: Vec<_> = (1..9).map(|number| domain(number, Ownership::Foreign)).collect();
        let finding = others_domains(&many, None);
        assert_eq!(finding.result, Grade::Warn);
        assert!(
            finding.found.starts_with("8 desktops") && finding.found.contains("vidi-5, and more")
        );
    }
}
