//! A desktop's steps, done; and what came of them.

use tokio::time::Instant;
use vidi_hypervisor::{DirectBoot, DomainSpec, HypervisorError, VolumesError};
use vidi_kit::ids::DesktopId;

use crate::plan::desktop::{Start, Step};
use crate::reconcile::Parts;

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the next round sees it.
    Done,
    /// The domain runs.
    Started {
        /// Of this generation.
        generation: u64,
        /// Its number.
        start_count: u64,
    },
    /// It cannot be done for this generation.
    Failed {
        /// The generation.
        generation: u64,
        /// For people.
        reason: String,
    },
    /// It may be done later.
    Retry(String),
}

/// Does one step.
pub async fn run(parts: &Parts, id: DesktopId, generation: u64, step: Step) -> Outcome {
    let hypervisor = &parts.hypervisor;
    let volumes = &parts.volumes;
    match step {
        Step::MakeOverlay(base) => match volumes.ensure_overlay(id, &base).await {
            Ok(_path) => Outcome::Done,
            Err(error) => volume_outcome(&error, generation),
        },
        Step::Start(start) => run_start(parts, id, *start).await,
        Step::Shutdown => after(hypervisor.shutdown(id).await),
        Step::Destroy | Step::EndUnready(_) => after(hypervisor.destroy(id).await),
        Step::RemoveOverlay => match volumes.remove_overlay(id).await {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Retry(error.to_string()),
        },
        // These are the reconciler's own.
        Step::Fetch(_) | Step::WatchReadiness(_) | Step::GiveUp(_) | Step::Forget => Outcome::Done,
    }
}

async fn run_start(parts: &Parts, id: DesktopId, start: Start) -> Outcome {
    let volumes = &parts.volumes;
    let template = start.template;
    let boot = template.boot.map(|boot| DirectBoot {
        kernel: volumes.image_path(&boot.kernel.digest),
        initrd: Some(volumes.image_path(&boot.initrd.digest)),
        cmdline: boot.cmdline,
    });
    let (generation, start_count) = (start.generation, start.start_count);
    let spec = DomainSpec {
        id,
        generation,
        start_count,
        title: start.title,
        memory_mib: template.memory_mib,
        vcpus: template.vcpus,
        video: template.video,
        sound: template.sound,
        disk: volumes.overlay_path(id),
        boot,
        acceleration: start.acceleration,
    };
    let began = Instant::now();
    let (end, outcome) = match parts.hypervisor.start(&spec).await {
        Ok(()) => ("started", Outcome::Started { generation, start_count }),
        Err(error) if later(&error) => ("retried", Outcome::Retry(error.to_string())),
        Err(error) => ("failed", Outcome::Failed { generation, reason: error.to_string() }),
    };
    metrics::histogram!("vidi_agent_start_seconds").record(began.elapsed());
    metrics::counter!("vidi_agent_starts_total", "result" => end).increment(1);
    outcome
}

/// What may work without any change of the desktop: the next round sees how things are.
fn later(error: &HypervisorError) -> bool {
    match error {
        HypervisorError::Unavailable { .. }
        | HypervisorError::TimedOut { .. }
        | HypervisorError::Exists { .. }
        | HypervisorError::Busy => true,
        HypervisorError::NoDomain(_)
        | HypervisorError::Foreign(_)
        | HypervisorError::PausedExternal(_)
        | HypervisorError::NoMemory { .. }
        | HypervisorError::NotNow(_)
        | HypervisorError::BadSpec(_)
        | HypervisorError::Refused { .. } => false,
    }
}

fn after(result: Result<(), HypervisorError>) -> Outcome {
    match result {
        Ok(()) | Err(HypervisorError::NoDomain(_)) => Outcome::Done,
        Err(error) => Outcome::Retry(error.to_string()),
    }
}

fn volume_outcome(error: &VolumesError, generation: u64) -> Outcome {
    match error {
        VolumesError::BadImage { .. } => Outcome::Failed { generation, reason: error.to_string() },
        VolumesError::NoSpace(_)
        | VolumesError::NoImage(_)
        | VolumesError::WrongDigest { .. }
        | VolumesError::WrongOffset { .. }
        | VolumesError::Tool { .. }
        | VolumesError::File { .. } => Outcome::Retry(vidi_kit::transport::describe(error)),
    }
}
