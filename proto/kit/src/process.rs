//! What Prometheus' client libraries tell of a process, under their names; read when asked for.

use std::sync::OnceLock;

use crate::Clock;

/// The table of what is told: name, type, meaning.
pub const METRICS: [(&str, &str, &str); 5] = [
    ("process_cpu_seconds_total", "counter", "Processor time of the process, seconds."),
    ("process_resident_memory_bytes", "gauge", "Resident memory, bytes."),
    ("process_open_fds", "gauge", "Open file descriptors."),
    ("process_max_fds", "gauge", "Most file descriptors that the process may open."),
    ("process_start_time_seconds", "gauge", "When the process began, Unix time in seconds."),
];

/// Remembers when the process began, as near as it can be told from inside.
pub fn began() {
    start_seconds();
}

fn start_seconds() -> f64 {
    static START_MS: OnceLock<i64> = OnceLock::new();
    *START_MS.get_or_init(|| Clock::system().now_ms()) as f64 / 1_000.0
}

/// All of it, in Prometheus' text format; what cannot be read is left out.
pub fn render() -> String {
    let values =
        [cpu_seconds(), resident_bytes(), open_files(), max_files(), Some(start_seconds())];
    let mut text = String::new();
    for ((name, kind, help), value) in METRICS.iter().zip(values) {
        if let Some(value) = value {
            text.push_str(&format!(
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"
            ));
        }
    }
    text
}

fn cpu_seconds() -> Option<f64> {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9)
}

/// proc_pid_status(5): `VmRSS:    1234 kB`.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0)
}

fn open_files() -> Option<f64> {
    // The folder that is being read is open too.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(open as f64)
}

fn max_files() -> Option<f64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map(|most| most as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_this_process_is_there_and_plausible() {
        let text = render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.split(' ').next() == Some(name));
            line.and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap()
        };
        assert!((1e6..1e12).contains(&value("process_resident_memory_bytes")), "{text}");
        assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")), "{text}");
        assert!(0.0 < value("process_cpu_seconds_total"), "{text}");
        assert!(1.7e9 < value("process_start_time_seconds"), "{text}");
    }
}
