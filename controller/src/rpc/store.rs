//! Everything that is stored, for a backup.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::info;
use vidi_proto::v1::store_service_server::StoreService;
use vidi_proto::v1::{BackUpRequest, BackUpResponse};

use super::Parts;
use crate::backup::command::chunks;

/// Pieces that wait for who takes the backup.
const CHUNKS_QUEUED_MAX: usize = 4;
/// Who takes no piece for this long is gone.
const CHUNK_SECS_MAX: Duration = Duration::from_secs(60);

/// The service.
#[derive(Debug)]
pub struct StoreRpc {
    parts: Parts,
}

impl StoreRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }
}

#[tonic::async_trait]
impl StoreService for StoreRpc {
    type BackUpStream = Pin<Box<dyn Stream<Item = Result<BackUpResponse, Status>> + Send>>;

    async fn back_up(
        &self,
        _request: Request<BackUpRequest>,
    ) -> Result<Response<Self::BackUpStream>, Status> {
        let chunks = chunks(&*self.parts.store, &self.parts.clock).await;
        let chunks = chunks.map_err(|error| Status::unavailable(error.to_string()))?;
        let (sender, stream) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let sending = async move {
            for chunk in chunks {
                let next = sender.send(Ok(BackUpResponse { chunk }));
                if !matches!(tokio::time::timeout(CHUNK_SECS_MAX, next).await, Ok(Ok(()))) {
                    return;
                }
            }
            info!("Backup taken");
        };
        let stop = self.parts.tasks.stop_token();
        let _sending = self.parts.tasks.spawn("back-up", async move {
            // Cancel-safe: a file without its end is no backup.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = sending => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
