//! The agent's own ports; the host's are `vidi_hypervisor::ports`.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use vidi_hypervisor::ImageDigest;
use vidi_kit::ids::DesktopId;

use crate::model::record::Record;
use crate::model::wanted::Wanted;

/// Where images come from.
#[async_trait]
pub trait ImageSource: Send + Sync + fmt::Debug {
    /// The image's bytes from `offset` on.
    async fn open(
        &self,
        digest: &ImageDigest,
        offset: u64,
    ) -> Result<Box<dyn ImageChunks>, SourceError>;
}

/// An image on its way.
#[async_trait]
pub trait ImageChunks: Send {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError>;
}

/// Why an image does not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No controller is connected.
    #[error("the image waits for a controller")]
    Away,
    /// The controller's words.
    #[error("the controller does not send the image: {0}")]
    Refused(String),
}

/// Remembers what a restart must not forget. A write has reached the disk when it returns.
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug {
    /// All of it.
    async fn load(&self) -> Result<Journaled, JournalError>;

    /// The last wanted set.
    async fn save_wanted(&self, wanted: &BTreeMap<DesktopId, Wanted>) -> Result<(), JournalError>;

    /// One desktop's record.
    async fn save_record(&self, id: DesktopId, record: &Record) -> Result<(), JournalError>;

    /// Forgets a desktop; harmless when it is not there.
    async fn remove_record(&self, id: DesktopId) -> Result<(), JournalError>;
}

/// What a journal held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journaled {
    /// The last wanted set; none when none was ever received.
    pub wanted: Option<BTreeMap<DesktopId, Wanted>>,
    /// A record for each desktop that the controller told of and that is not wholly gone.
    pub records: BTreeMap<DesktopId, Record>,
    /// What could not be read and was left out, for people.
    pub damage: Vec<String>,
}

/// Why a journal cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The disk, mostly.
    #[error("the agent's journal cannot be written or read: {0}")]
    Io(String),
}
