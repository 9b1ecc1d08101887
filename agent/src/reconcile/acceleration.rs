//! Finds out how guests run, and tells it once it is known.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tracing::{info, warn};
use vidi_hypervisor::acceleration::{AccelerationOptions, AccelerationVerdict, decide};
use vidi_hypervisor::{DirectBoot, Hypervisor, ProbeGuest};
use vidi_kit::{Backoff, Tasks};

/// What was found.
pub type Verdict = AccelerationVerdict;

const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_SECS_MAX: Duration = Duration::from_secs(10);
/// The micro guest's memory where its description does not say.
const PROBE_MEMORY_MIB: u32 = 256;

/// Starts finding out; libvirt may not be there yet.
pub fn start(
    tasks: &Tasks,
    hypervisor: Arc<dyn Hypervisor>,
    options: AccelerationOptions,
) -> watch::Receiver<Option<Verdict>> {
    let (sender, receiver) = watch::channel(None);
    let group = tasks.clone();
    let _probing = tasks.spawn("acceleration", async move {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_SECS_MAX);
        let finding = async {
            loop {
                match decide(&*hypervisor, &options).await {
                    Ok(verdict) => {
                        let reason = &verdict.reason;
                        info!(acceleration = %verdict.acceleration, reason, "Acceleration");
                        sender.send_replace(Some(verdict));
                        return;
                    }
                    Err(error) => {
                        warn!(%error, "Not known yet how guests run");
                        tokio::time::sleep(backoff.next_wait()).await;
                    }
                }
            }
        };
        // Cancel-safe: the probe's guest is ended by the hypervisor's adapter, or by its time limit.
        tokio::select! {
            biased;
            () = group.stopping() => {}
            () = finding => {}
        }
        // The receivers end with the process.
        group.stopping().await;
        drop(sender);
    });
    receiver
}

#[derive(Deserialize)]
struct TemplateFile {
    boot: BootTable,
    guest: GuestTable,
}

#[derive(Deserialize)]
struct BootTable {
    kernel: String,
    initrd: String,
    cmdline: String,
}

#[derive(Deserialize)]
struct GuestTable {
    memory_mib: Option<u32>,
}

/// The guest of a micro image's folder (`packaging/images/README.md`).
pub fn probe_guest(folder: &Path) -> Result<ProbeGuest, String> {
    let file = folder.join("template.toml");
    let text = std::fs::read_to_string(&file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let template: TemplateFile =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let boot = DirectBoot {
        kernel: folder.join(template.boot.kernel),
        initrd: Some(folder.join(template.boot.initrd)),
        cmdline: template.boot.cmdline,
    };
    Ok(ProbeGuest { boot, memory_mib: template.guest.memory_mib.unwrap_or(PROBE_MEMORY_MIB) })
}
