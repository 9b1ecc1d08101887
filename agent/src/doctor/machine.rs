//! The machine: processor, KVM, memory, what the kernel offers, the clock.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use vidi_hypervisor::acceleration::{self, KVM_DEVICE};
use vidi_hypervisor::{Acceleration, HostMemory};

use super::Finding;
use super::access::owner_and_mode;
use crate::config::{AccelerationChoice, AgentConfig};

/// A host with less than this free runs no more desktops, MiB.
const MEMORY_FREE_MIN_MIB: u64 = 1_024;
/// 2025-01-01: a clock before it was never set.
const CLOCK_MIN_MS: i64 = 1_735_689_600_000;

/// What the processor can do.
pub(super) fn processor() -> Vec<Finding> {
    const CHECK: &str = "processor";
    let text = match fs::read_to_string("/proc/cpuinfo") {
        Ok(text) => text,
        Err(error) => return vec![unreadable(CHECK, "/proc/cpuinfo", &error)],
    };
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().map(str::trim) == Some(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "an unknown model".to_owned());
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &str| flags.split(' ').any(|one| one == flag);
    let kind = [("vmx", "Intel VT-x"), ("svm", "AMD-V")].into_iter().find(|(flag, _)| has(flag));
    vec![match kind {
        Some((_, kind)) => Finding::ok(CHECK, format!("{model} with {kind}")),
        None if Path::new(KVM_DEVICE).exists() => Finding::warn(
            CHECK,
            format!("{model}: shows neither vmx nor svm, and yet there is a {KVM_DEVICE}"),
            "a virtual machine with partial nesting may be so; the check \"acceleration\" decides",
        ),
        None => Finding::warn(
            CHECK,
            format!("{model}: no virtualisation; guests are emulated, 10 to 30 times slower"),
            "turn on VT-x or AMD-V in the firmware, or nesting where this is a virtual machine",
        ),
    }]
}

/// The device node, and who may use it.
pub(super) fn kvm() -> Vec<Finding> {
    const CHECK: &str = "kvm";
    let device = Path::new(KVM_DEVICE);
    let rights = match owner_and_mode(device) {
        Ok(rights) => rights,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let advice = "load it: modprobe kvm_intel or kvm_amd; dmesg | grep -i kvm says what is \
                          wrong; without it guests are emulated, and slow";
            return vec![Finding::warn(CHECK, format!("there is no {KVM_DEVICE}"), advice)];
        }
        Err(error) => return vec![unreadable(CHECK, KVM_DEVICE, &error)],
    };
    let mut found = format!("{KVM_DEVICE} is {rights}");
    if let Some(problem) = acceleration::kvm_device_problem(device) {
        let (what, advice) = problem.split_once("; run: ").unwrap_or((problem.as_str(), ""));
        return vec![Finding::warn(CHECK, format!("{found}: {what}"), format!("run: {advice}"))];
    }
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => found += " and can be opened",
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            found += "; this user may not open it, QEMU's may";
        }
        Err(error) => {
            let advice = "dmesg | grep -i kvm says why; guests are emulated until this is mended";
            return vec![Finding::warn(CHECK, format!("{found}, but opening it: {error}"), advice)];
        }
    }
    vec![Finding::ok(CHECK, found)]
}

/// How guests will run: by the configuration, or by the kept answer of the agent's probe, which was
/// for one version of QEMU.
pub(super) fn acceleration(config: &AgentConfig, qemu: Option<String>) -> Vec<Finding> {
    const CHECK: &str = "acceleration";
    let slow = "desktops are 10 to 30 times slower";
    match config.acceleration {
        AccelerationChoice::Kvm => {
            let advice = "set acceleration = \"probe\" to have it proved by a small guest";
            return vec![Finding::warn(CHECK, "KVM, because the configuration says so", advice)];
        }
        AccelerationChoice::Tcg => {
            let found = format!("emulation (TCG), because the configuration says so; {slow}");
            return vec![Finding::warn(CHECK, found, "set acceleration = \"probe\"")];
        }
        AccelerationChoice::Probe => {}
    }
    if !Path::new(KVM_DEVICE).exists() {
        let found = format!("emulation (TCG): there is no {KVM_DEVICE}; {slow}");
        return vec![Finding::warn(CHECK, found, "see the checks \"processor\" and \"kvm\"")];
    }
    let Some(folder) = &config.probe_image else {
        let found = format!("emulation (TCG): no probe_image is configured; {slow}");
        let advice = "set probe_image in agent.toml to the folder of the micro image; the package \
                      has it in /usr/share/vidi/images/micro";
        return vec![Finding::warn(CHECK, found, advice)];
    };
    let guest = match crate::reconcile::acceleration::probe_guest(folder) {
        Ok(guest) => guest,
        Err(error) => {
            let found = format!("emulation (TCG): the probe's image is not usable: {error}");
            let advice = "point probe_image in agent.toml to the folder of a micro image";
            return vec![Finding::warn(CHECK, found, advice)];
        }
    };
    let Some(qemu) = qemu else {
        let advice = "mend the check \"libvirt\" first";
        return vec![Finding::warn(CHECK, "not known: libvirt does not answer", advice)];
    };
    let cache = config.state.join("acceleration.json");
    vec![match acceleration::kept(&cache, qemu, &guest) {
        Some((Acceleration::Kvm, reason)) => Finding::ok(CHECK, format!("KVM: {reason}")),
        Some((Acceleration::Tcg, reason)) => Finding::warn(
            CHECK,
            format!("emulation (TCG): {reason}; {slow}"),
            format!(
                "{KVM_DEVICE} is there, yet a guest did not run with it: see dmesg; after a \
                     repair remove {} and restart vidi-agent",
                cache.display()
            ),
        ),
        None => Finding::warn(
            CHECK,
            "not tried yet with this kernel and QEMU, or not readable for this user",
            "start vidi-agent, which boots a small guest with KVM to see; run this again as root",
        ),
    }]
}

/// Memory, huge pages, swap.
pub(super) fn memory() -> Vec<Finding> {
    const CHECK: &str = "memory";
    let facts = match vidi_hypervisor::adapters::linux_host::LinuxHost.facts() {
        Ok(facts) => facts,
        Err(error) => return vec![unreadable(CHECK, "/proc/meminfo", &error)],
    };
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let number = |key: &str| meminfo(&text, key).unwrap_or(0);
    let (swap_mib, swap_free_mib) = (number("SwapTotal") / 1_024, number("SwapFree") / 1_024);
    let huge_mib = number("HugePages_Total") * number("Hugepagesize") / 1_024;
    let (total, available) = (facts.memory_total_mib, facts.memory_available_mib);
    let swap = match swap_mib {
        0 => "no swap".to_owned(),
        _ => format!("swap {} of {swap_mib} MiB used", swap_mib.saturating_sub(swap_free_mib)),
    };
    let found = format!("{available} of {total} MiB available, {swap}");
    if available < MEMORY_FREE_MIN_MIB {
        let advice = "stop something, or add memory: no further desktop fits";
        return vec![Finding::warn(CHECK, found, advice)];
    }
    if huge_mib != 0 {
        let advice =
            "desktops do not use them, so that memory is lost to them: vm.nr_hugepages = 0";
        let found = format!("{found}; {huge_mib} MiB are reserved as huge pages");
        return vec![Finding::warn(CHECK, found, advice)];
    }
    vec![Finding::ok(CHECK, found)]
}

/// A number of /proc/meminfo: kB, or pages without a unit.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// Kernel samepage merging.
pub(super) fn ksm() -> Vec<Finding> {
    const CHECK: &str = "ksm";
    const RUN: &str = "/sys/kernel/mm/ksm/run";
    vec![match fs::read_to_string(RUN).as_deref().map(str::trim) {
        Ok("0") => Finding::ok(CHECK, "the kernel can merge equal pages; it is off now"),
        Ok(_) => Finding::ok(CHECK, "the kernel merges equal pages of desktops"),
        Err(_) => Finding::warn(
            CHECK,
            format!("there is no {RUN}: equal pages of desktops are not merged"),
            "use a kernel with CONFIG_KSM; the distribution's has it",
        ),
    }]
}

/// Pressure stall information.
pub(super) fn pressure() -> Vec<Finding> {
    const CHECK: &str = "pressure";
    const MEMORY: &str = "/proc/pressure/memory";
    vec![match fs::read_to_string(MEMORY) {
        Ok(text) => {
            let average = text.split_whitespace().find_map(|word| word.strip_prefix("avg10="));
            Finding::ok(CHECK, format!("memory pressure {} %", average.unwrap_or("?")))
        }
        Err(_) => Finding::warn(
            CHECK,
            format!("{MEMORY} cannot be read: how short memory is cannot be told"),
            "boot with psi=1 on the kernel's command line",
        ),
    }]
}

/// The clock by itself; the check "controller" compares it.
pub(super) fn clock() -> Vec<Finding> {
    const CHECK: &str = "clock";
    let now_ms = vidi_kit::Clock::system().now_ms();
    if now_ms < CLOCK_MIN_MS {
        let advice = "set it and keep it set: apt install systemd-timesyncd, or chrony";
        return vec![Finding::fail(CHECK, "it was never set: no certificate is valid", advice)];
    }
    let keepers =
        ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid"];
    vec![match keepers.into_iter().find(|path| Path::new(path).exists()) {
        Some(keeper) => Finding::ok(CHECK, format!("kept by the network ({keeper})")),
        None => {
            Finding::ok(CHECK, "plausible; nothing that keeps it was found (chrony, timesyncd)")
        }
    }]
}

pub(super) fn unreadable(check: &'static str, path: &str, error: &io::Error) -> Finding {
    Finding::warn(check, format!("cannot read {path}: {error}"), "run this as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_meminfo_are_found_by_their_whole_name() {
        let text = "SwapTotalX: 9 kB\nSwapTotal:       2048 kB\nHugePages_Total:       3\n";
        assert_eq!(meminfo(text, "SwapTotal"), Some(2_048));
        assert_eq!(meminfo(text, "HugePages_Total"), Some(3));
        assert_eq!(meminfo(text, "Swap"), None);
    }

    #[test]
    fn this_machine_is_described() {
        for findings in [processor(), kvm(), memory(), ksm(), pressure(), clock()] {
            let finding = findings.first().unwrap();
            assert!(!finding.found.is_empty());
            assert_eq!(finding.advice.is_empty(), finding.result == super::super::Grade::Ok);
        }
    }
}
