//! Images over `AgentLink.FetchImage`.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tonic::{Status, Streaming};
use vidi_hypervisor::ImageDigest;
use vidi_proto::v1::agent_link_client::AgentLinkClient;
use vidi_proto::v1::{FetchImageRequest, FetchImageResponse};

use crate::ports::{ImageChunks, ImageSource, SourceError};
use crate::rpc::controller_link::ControllerLink;

/// A chunk is at most 1 MiB (`agent_link.proto`), and its framing.
const MESSAGE_BYTES_MAX: usize = (1 << 20) + 1_024;
/// A controller that sends nothing for this long is asked again.
const CHUNK_SECS_MAX: Duration = Duration::from_secs(30);

#[async_trait]
impl ImageSource for ControllerLink {
    async fn open(
        &self,
        digest: &ImageDigest,
        offset: u64,
    ) -> Result<Box<dyn ImageChunks>, SourceError> {
        let channel = self.channel().ok_or(SourceError::Away)?;
        let mut client = AgentLinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = FetchImageRequest { sha256: digest.to_string(), offset };
        let opened = tokio::time::timeout(CHUNK_SECS_MAX, client.fetch_image(request)).await;
        let stream = opened.map_err(|_| SourceError::Away)?.map_err(|status| refused(&status))?;
        Ok(Box::new(Chunks(stream.into_inner())))
    }
}

struct Chunks(Streaming<FetchImageResponse>);

#[async_trait]
impl ImageChunks for Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        let message = tokio::time::timeout(CHUNK_SECS_MAX, self.0.message()).await;
        let message = message.map_err(|_| SourceError::Away)?.map_err(|status| refused(&status))?;
        Ok(message.map(|message| message.chunk))
    }
}

fn refused(status: &Status) -> SourceError {
    if status.code() == tonic::Code::Unavailable {
        return SourceError::Away;
    }
    SourceError::Refused(status.message().to_owned())
}
