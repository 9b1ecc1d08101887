//! Runs a session's encoding jobs on the gateway's few threads, fair between sessions.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use vidi_display::{EncodeJob, Encoded, JobId};

use crate::reconcile::registry::Registry;

/// Jobs of one session that may ask for a thread at a time. Threads are given out in the order of
/// asking: however many jobs a session has, another's job waits for no more than these.
pub(super) const ASKING_MAX: usize = 4;

/// Begins a job; its result comes, or none when its encoder panicked. `own` has the session's
/// [`ASKING_MAX`] permits.
pub(super) fn begin(
    registry: &Registry,
    own: Arc<Semaphore>,
    results: mpsc::Sender<(JobId, Option<Encoded>)>,
    job: EncodeJob,
) {
    let encoders = registry.encoders();
    let _encoding = registry.tasks().spawn("encode", async move {
        let turn = own.acquire_owned().await;
        let permit = encoders.acquire_owned().await;
        let id = job.id;
        let began = Instant::now();
        let encoded = tokio::task::spawn_blocking(move || vidi_display::encode(&job)).await;
        metrics::histogram!("vidi_gateway_encode_seconds").record(began.elapsed());
        drop((permit, turn));
        // The session is gone: so is the need.
        drop(results.send((id, encoded.ok())).await);
    });
}
