//! A journal in memory, for tests. Clones are the same journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use vidi_kit::ids::DesktopId;

use crate::model::record::Record;
use crate::model::wanted::Wanted;
use crate::ports::{Journal, JournalError, Journaled};

/// The journal.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal(Arc<Mutex<Journaled>>);

impl MemoryJournal {
    fn with<T>(&self, act: impl FnOnce(&mut Journaled) -> T) -> Result<T, JournalError> {
        Ok(act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn load(&self) -> Result<Journaled, JournalError> {
        self.with(|journaled| journaled.clone())
    }

    async fn save_wanted(&self, wanted: &BTreeMap<DesktopId, Wanted>) -> Result<(), JournalError> {
        self.with(|journaled| journaled.wanted = Some(wanted.clone()))
    }

    async fn save_record(&self, id: DesktopId, record: &Record) -> Result<(), JournalError> {
        self.with(|journaled| drop(journaled.records.insert(id, record.clone())))
    }

    async fn remove_record(&self, id: DesktopId) -> Result<(), JournalError> {
        self.with(|journaled| drop(journaled.records.remove(&id)))
    }
}
