//! Reads the host's processors and memory from the kernel (proc(5)).

use std::io;

use crate::model::HostFacts;
use crate::ports::HostMemory;

const MEMINFO: &str = "/proc/meminfo";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The machine that this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxHost;

impl HostMemory for LinuxHost {
    fn facts(&self) -> io::Result<HostFacts> {
        let cpus = std::thread::available_parallelism()?.get();
        let (memory_total_mib, memory_available_mib) =
            parse_meminfo(&std::fs::read_to_string(MEMINFO)?)?;
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let boot = std::fs::read_to_string(BOOT_ID)?;
        let boot = boot.trim().parse().map_err(io::Error::other)?;
        Ok(HostFacts { cpus, memory_total_mib, memory_available_mib, boot })
    }
}

fn parse_meminfo(text: &str) -> io::Result<(u64, u64)> {
    let mib = |key: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(key)?.strip_suffix(" kB")?.trim().parse::<u64>().ok()
            })
            .map(|kib| kib / 1024)
            .ok_or_else(|| io::Error::other(format!("{MEMINFO} has no {key}")))
    };
    Ok((mib("MemTotal:")?, mib("MemAvailable:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mib() {
        let text = "MemTotal:       24690456 kB\nMemFree:  1 kB\nMemAvailable:   22334455 kB\n";
        assert_eq!(parse_meminfo(text).unwrap(), (24_111, 21_810));
        assert!(parse_meminfo("MemTotal: lots\n").is_err());
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let facts = LinuxHost.facts().unwrap();
        assert!(0 < facts.cpus && facts.memory_available_mib <= facts.memory_total_mib);
    }
}
