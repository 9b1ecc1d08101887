//! Brings one image to this host: from where the last try ended, verified, renamed into place.

use vidi_hypervisor::VolumesError;

use crate::model::wanted::Image;
use crate::ports::SourceError;
use crate::reconcile::Parts;

/// Fetches the image; an error says why it is not here, for people. What came so far is kept, unless
/// it is wrong.
pub async fn fetch(parts: &Parts, image: &Image) -> Result<(), String> {
    fetch_rest(parts, image).await.map_err(|error| match error {
        FetchError::Source(error) => error.to_string(),
        FetchError::Volumes(error) => vidi_kit::transport::describe(&error),
        FetchError::Short { have } => format!(
            "image {} ended after {have} of {} bytes; it is fetched again",
            image.digest, image.size_bytes
        ),
    })
}

enum FetchError {
    Source(SourceError),
    Volumes(VolumesError),
    Short { have: u64 },
}

impl From<VolumesError> for FetchError {
    fn from(error: VolumesError) -> Self {
        Self::Volumes(error)
    }
}

impl From<SourceError> for FetchError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

async fn fetch_rest(parts: &Parts, image: &Image) -> Result<(), FetchError> {
    let volumes = &parts.volumes;
    let mut have = volumes.partial_bytes(&image.digest).await?;
    if have < image.size_bytes {
        let mut chunks = parts.source.open(&image.digest, have).await?;
        // What is longer than it should be is wrong: verifying removes it.
        while have <= image.size_bytes
            && let Some(chunk) = chunks.next().await?
        {
            if !chunk.is_empty() {
                let bytes = chunk.len() as u64;
                have = volumes.append_partial(&image.digest, have, chunk).await?;
                metrics::counter!("vidi_agent_image_fetch_bytes_total").increment(bytes);
            }
        }
        if have < image.size_bytes {
            return Err(FetchError::Short { have });
        }
    }
    volumes.finish_image(&image.digest).await?;
    Ok(())
}
