//! Decides how guests are run: a device node proves nothing, so the micro guest is booted with KVM.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::error::HypervisorError;
use crate::model::{Acceleration, ProbeGuest, ProbeOutcome};
use crate::ports::Hypervisor;

/// The micro guest boots in 2 s with KVM; where it has not after this, KVM does not run guests.
const PROBE_SECS_MAX: Duration = Duration::from_secs(20);
/// The guest is a few MiB of files; the kept answer a few hundred bytes.
const CACHE_BYTES_MAX: u64 = 64 * 1024;
/// The device node of KVM.
pub const KVM_DEVICE: &str = "/dev/kvm";
const KVM_GROUP: &str = "kvm";
const GROUPS: &str = "/etc/group";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Only one guest at a time is booted for a probe in this process.
static PROBING: Mutex<()> = Mutex::const_new(());

/// How to decide.
#[derive(Clone, Debug)]
pub struct AccelerationOptions {
    /// Given by the configuration: no probe.
    pub forced: Option<Acceleration>,
    /// The micro guest's files; without them there is no probe.
    pub guest: Option<ProbeGuest>,
    /// Where the answer is kept for this boot, kernel and QEMU.
    pub cache_file: PathBuf,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccelerationVerdict {
    /// How to run guests.
    pub acceleration: Acceleration,
    /// Why, for people.
    pub reason: String,
    /// What an operator should mend on this host.
    pub problems: Vec<String>,
}

/// What the kept answer is valid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CacheKey {
    kernel: String,
    qemu: String,
    boot_id: String,
    guest: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Cached {
    key: CacheKey,
    kvm: bool,
    reason: String,
}

/// Decides, by the configuration, the kept answer or a probe of at most 20 s. Fails only when the
/// hypervisor cannot be asked; try again when it can.
pub async fn decide(
    hypervisor: &dyn Hypervisor,
    options: &AccelerationOptions,
) -> Result<AccelerationVerdict, HypervisorError> {
    let problems: Vec<String> = kvm_device_problem(Path::new(KVM_DEVICE)).into_iter().collect();
    let verdict = |acceleration, reason| Ok(AccelerationVerdict { acceleration, reason, problems });
    if let Some(forced) = options.forced {
        return verdict(forced, "the configuration says so".to_owned());
    }
    if !Path::new(KVM_DEVICE).exists() {
        let reason = format!("there is no {KVM_DEVICE}: the processor's virtualisation is off");
        return verdict(Acceleration::Tcg, reason);
    }
    let Some(guest) = &options.guest else {
        let reason = "KVM cannot be tried: the micro image is not on this host".to_owned();
        return verdict(Acceleration::Tcg, reason);
    };
    let _one_at_a_time = PROBING.lock().await;
    let key = cache_key(hypervisor.versions().await?.qemu, guest);
    if let Some((acceleration, reason)) = read_kept(&options.cache_file, &key) {
        return verdict(acceleration, reason);
    }
    let (kvm, reason) = match hypervisor.boot_with_kvm(guest, PROBE_SECS_MAX).await? {
        ProbeOutcome::Ready => (true, "the micro guest ran with KVM".to_owned()),
        ProbeOutcome::NotReady(text) => (false, format!("KVM does not run guests here: {text}")),
    };
    info!(kvm, reason, "Acceleration probed");
    write_cache(&options.cache_file, &Cached { key, kvm, reason: reason.clone() });
    verdict(of_kvm(kvm), reason)
}

/// The answer that a probe left in `cache_file`, and why, where it is still valid for this boot, kernel,
/// QEMU and guest. Nothing is booted.
pub fn kept(cache_file: &Path, qemu: String, guest: &ProbeGuest) -> Option<(Acceleration, String)> {
    read_kept(cache_file, &cache_key(qemu, guest))
}

const fn of_kvm(kvm: bool) -> Acceleration {
    if kvm { Acceleration::Kvm } else { Acceleration::Tcg }
}

/// Gives `/dev/kvm` to the group `kvm`, as udev does, where this process is root and it is not so.
/// Without that libvirt asks QEMU anew, for 100 s, at every start of a domain.
pub fn repair_kvm_device() {
    let device = Path::new(KVM_DEVICE);
    if kvm_device_problem(device).is_none() || !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(group) = group_id(KVM_GROUP) else { return };
    let repaired = std::os::unix::fs::chown(device, None, Some(group))
        .and_then(|()| std::fs::set_permissions(device, Permissions::from_mode(0o660)));
    match repaired {
        Ok(()) => info!("{KVM_DEVICE} given to the group {KVM_GROUP}, as udev would"),
        Err(error) => warn!(%error, "{KVM_DEVICE} cannot be given to the group {KVM_GROUP}"),
    }
}

/// What is wrong with the device's owner or mode, and what to do: "WHAT; run: COMMAND".
pub fn kvm_device_problem(device: &Path) -> Option<String> {
    const GROUP_MAY: u32 = 0o060;
    const OTHERS_MAY: u32 = 0o006;
    let metadata = std::fs::metadata(device).ok()?;
    let by_group =
        metadata.mode() & GROUP_MAY == GROUP_MAY && Some(metadata.gid()) == group_id(KVM_GROUP);
    if by_group || metadata.mode() & OTHERS_MAY == OTHERS_MAY {
        return None;
    }
    let device = device.display();
    Some(format!(
        "QEMU's user may not use {device}, which makes libvirt ask QEMU anew (100 s) at every \
         start; run: chgrp {KVM_GROUP} {device} && chmod 660 {device}"
    ))
}

fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string(GROUPS).ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn cache_key(qemu: String, guest: &ProbeGuest) -> CacheKey {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
    CacheKey { kernel, qemu, boot_id, guest: guest.boot.kernel.display().to_string() }
}

fn read_kept(path: &Path, key: &CacheKey) -> Option<(Acceleration, String)> {
    if CACHE_BYTES_MAX < std::fs::metadata(path).ok()?.len() {
        return None;
    }
    let cached: Cached = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (cached.key == *key).then(|| (of_kvm(cached.kvm), cached.reason))
}

/// An answer that cannot be kept costs a probe at the next start, no more.
fn write_cache(path: &Path, cached: &Cached) {
    let written = serde_json::to_vec(cached)
        .map_err(std::io::Error::from)
        .and_then(|bytes| vidi_kit::files::write_atomically(path, &bytes, 0o644));
    if let Err(error) = written {
        warn!(%error, path = %path.display(), "The probe's answer cannot be kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DirectBoot;
    use crate::simulated::SimulatedHypervisor;
    use vidi_kit::Tasks;

    fn options(folder: &Path) -> AccelerationOptions {
        let boot = DirectBoot {
            kernel: PathBuf::from("/k"),
            initrd: None,
            cmdline: "console=ttyS0".to_owned(),
        };
        AccelerationOptions {
            forced: None,
            guest: Some(ProbeGuest { boot, memory_mib: 256 }),
            cache_file: folder.join("acceleration.json"),
        }
    }

    #[tokio::test]
    async fn the_device_node_alone_never_means_kvm() {
        let folder = tempfile::tempdir().unwrap();
        let simulated = SimulatedHypervisor::new(Tasks::new(), "host".parse().unwrap());
        let without = AccelerationOptions { guest: None, ..options(folder.path()) };
        let verdict = decide(&simulated, &without).await.unwrap();
        assert_eq!(verdict.acceleration, Acceleration::Tcg);
        let forced = AccelerationOptions { forced: Some(Acceleration::Kvm), ..without };
        let verdict = decide(&simulated, &forced).await.unwrap();
        assert_eq!(verdict.acceleration, Acceleration::Kvm);
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_this_boot_kernel_and_qemu_only() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let guest = options.guest.clone().unwrap();
        let key = cache_key("7.2.22".to_owned(), &guest);
        let cached = Cached { key, kvm: true, reason: "ran".to_owned() };
        write_cache(&options.cache_file, &cached);
        let kept = |qemu: &str| kept(&options.cache_file, qemu.to_owned(), &guest);
        assert_eq!(kept("7.2.22"), Some((Acceleration::Kvm, "ran".to_owned())));
        assert_eq!(kept("8.0.0"), None);
        std::fs::write(&options.cache_file, "{").unwrap();
        assert_eq!(kept("7.2.22"), None);
    }

    #[test]
    fn a_device_that_only_root_may_use_is_a_problem_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("kvm");
        std::fs::write(&device, "").unwrap();
        std::fs::set_permissions(&device, Permissions::from_mode(0o600)).unwrap();
        assert!(kvm_device_problem(&device).unwrap().contains("chgrp kvm"));
        std::fs::set_permissions(&device, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(kvm_device_problem(&device), None);
    }
}
