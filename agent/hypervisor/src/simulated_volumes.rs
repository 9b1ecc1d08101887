//! A simulated host's storage: names only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use vidi_kit::ids::DesktopId;

use crate::error::VolumesError;
use crate::model::ImageDigest;
use crate::ports::Volumes;

/// The storage. Clones are the same one.
#[derive(Clone, Debug)]
pub struct SimulatedVolumes(Arc<Mutex<VolumesState>>);

#[derive(Debug)]
struct VolumesState {
    images: BTreeSet<ImageDigest>,
    partial: BTreeMap<ImageDigest, u64>,
    overlays: BTreeSet<DesktopId>,
    free_mib: u64,
}

impl Default for SimulatedVolumes {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedVolumes {
    /// An empty storage with 100 GiB.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(VolumesState {
            images: BTreeSet::new(),
            partial: BTreeMap::new(),
            overlays: BTreeSet::new(),
            free_mib: 100 * 1024,
        })))
    }

    /// Sets the space left; with 0 every write fails.
    pub fn set_free_mib(&self, free_mib: u64) {
        self.lock().free_mib = free_mib;
    }

    fn lock(&self) -> MutexGuard<'_, VolumesState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_space(&self) -> Result<MutexGuard<'_, VolumesState>, VolumesError> {
        let state = self.lock();
        if state.free_mib == 0 {
            return Err(VolumesError::NoSpace(PathBuf::from("/simulated")));
        }
        Ok(state)
    }
}

#[async_trait]
impl Volumes for SimulatedVolumes {
    async fn image_present(&self, digest: &ImageDigest) -> Result<bool, VolumesError> {
        Ok(self.lock().images.contains(digest))
    }

    fn image_path(&self, digest: &ImageDigest) -> PathBuf {
        PathBuf::from(format!("/simulated/{digest}"))
    }

    fn overlay_path(&self, desktop: DesktopId) -> PathBuf {
        PathBuf::from(format!("/simulated/desktop-{desktop}.qcow2"))
    }

    async fn partial_bytes(&self, digest: &ImageDigest) -> Result<u64, VolumesError> {
        Ok(self.lock().partial.get(digest).copied().unwrap_or_default())
    }

    async fn append_partial(
        &self,
        digest: &ImageDigest,
        offset: u64,
        chunk: Bytes,
    ) -> Result<u64, VolumesError> {
        let mut state = self.with_space()?;
        let have = state.partial.entry(digest.clone()).or_default();
        if *have != offset {
            return Err(VolumesError::WrongOffset { have: *have, given: offset });
        }
        *have = have.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        Ok(*have)
    }

    async fn finish_image(&self, digest: &ImageDigest) -> Result<PathBuf, VolumesError> {
        let mut state = self.with_space()?;
        if state.partial.remove(digest).is_none() && !state.images.contains(digest) {
            return Err(VolumesError::NoImage(digest.to_string()));
        }
        state.images.insert(digest.clone());
        drop(state);
        Ok(self.image_path(digest))
    }

    async fn ensure_overlay(
        &self,
        desktop: DesktopId,
        base: &ImageDigest,
    ) -> Result<PathBuf, VolumesError> {
        let mut state = self.with_space()?;
        if !state.images.contains(base) {
            return Err(VolumesError::NoImage(base.to_string()));
        }
        state.overlays.insert(desktop);
        drop(state);
        Ok(self.overlay_path(desktop))
    }

    async fn remove_overlay(&self, desktop: DesktopId) -> Result<(), VolumesError> {
        self.lock().overlays.remove(&desktop);
        Ok(())
    }

    async fn list_overlays(&self) -> Result<Vec<DesktopId>, VolumesError> {
        Ok(self.lock().overlays.iter().copied().collect())
    }

    async fn free_mib(&self) -> Result<u64, VolumesError> {
        Ok(self.lock().free_mib)
    }
}
