//! Puts a backup into a store: under the leadership, in many commits, and marked until the last of them is
//! made, so that no controller decides on a part.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message;
use tracing::info;
use vidi_proto::store::v1 as stored;

use super::file::Backup;
use super::rows::restored;
use crate::ports::{
    COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX, CommitError, Expect, LIST_ENTRIES_MAX, Store,
    StoreError, Write, get,
};
use crate::records::RecordError;

/// Tells that a store was restored, and whether that was finished.
pub const RESTORED_KEY: &str = "meta/restored";
/// Who leads while a backup is restored.
const OWN_ID: &str = "restore";
/// A leader that is gone is followed after its lease, 4 s.
const LEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// Tries of one commit of which nobody knows whether it happened; doing it again does no harm.
const COMMIT_TRIES_MAX: u32 = 10;
/// Between two of them.
const COMMIT_WAIT: Duration = Duration::from_millis(500);
/// Desktops that are named when they are in the store and not in the backup.
const NAMED_MAX: usize = 10;
/// Keys of the leader, which are the store's own.
const LEADER: &str = "leader";

/// What to do with a store that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it, and refuse.
    Refuse,
    /// Put the backup in its place.
    Replace,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Entries that were written.
    pub entries: usize,
    /// Desktops of the backup.
    pub desktops: usize,
    /// Desktops that were in the store and are not in the backup.
    pub forgotten: usize,
    /// Ids of the first of those.
    pub forgotten_first: Vec<String>,
}

/// Why a backup is not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Somebody else decides.
    #[error("a controller leads: stop all controllers of this store first")]
    Leads,
    /// There is something already.
    #[error(
        "the store is not empty: it has {desktops} desktops, of which {forgotten} are not in the \
         backup. `--replace` puts the backup in its place"
    )]
    NotEmpty {
        /// Desktops in the store.
        desktops: usize,
        /// Those that the backup does not have.
        forgotten: usize,
    },
    /// An entry cannot be understood.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be written.
    #[error("a part of the backup was not written; restore it again: {0}")]
    Commit(CommitError),
}

/// Restores a backup.
pub async fn restore(
    store: &dyn Store,
    backup: Backup,
    existing: Existing,
    now_ms: i64,
) -> Result<Restored, RestoreError> {
    let header = backup.header;
    let mut puts = Vec::with_capacity(backup.entries.len());
    for entry in backup.entries {
        puts.extend(restored(entry, now_ms)?);
    }
    let leading = tokio::time::timeout(LEAD_WAIT_MAX, store.lead(OWN_ID)).await;
    let leadership = leading.map_err(|_elapsed| RestoreError::Leads)??;
    let fence = leadership.fence();
    let before = keys(store).await?;
    let after: BTreeSet<&str> = puts.iter().map(Write::key).collect();
    let done = compare(&before, &after);
    // A part of an earlier try may be thrown away.
    let is_part = unfinished(store).await?;
    if !before.is_empty() && !is_part && existing == Existing::Refuse {
        let desktops = before.iter().filter(|key| desktop_of(key).is_some()).count();
        return Err(RestoreError::NotEmpty { desktops, forgotten: done.forgotten });
    }
    let mark = |finished| {
        let mark = stored::Restored {
            revision: header.revision,
            cluster: header.cluster.clone(),
            taken_ms: header.taken_ms,
            restored_ms: now_ms,
            finished,
        };
        vec![Write::put(RESTORED_KEY, mark.encode_to_vec())]
    };
    commit(store, &fence, &mark(false)).await?;
    let is_gone = |key: &&String| !after.contains(key.as_str()) && *key != RESTORED_KEY;
    let deletes: Vec<Write> = before.iter().filter(is_gone).cloned().map(Write::delete).collect();
    let batches = Batches { writes: deletes.into_iter().chain(puts).peekable() };
    for batch in batches {
        commit(store, &fence, &batch).await?;
    }
    commit(store, &fence, &mark(true)).await?;
    info!(revision = header.revision, entries = done.entries, "Backup restored");
    Ok(done)
}

/// Whether a restore of this store was begun and not finished.
pub async fn unfinished(store: &dyn Store) -> Result<bool, StoreError> {
    let Some(entry) = get(store, RESTORED_KEY).await? else { return Ok(false) };
    let mark = stored::Restored::decode(entry.value);
    mark.map(|mark| !mark.finished).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// All keys but the leader's.
async fn keys(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let (mut keys, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.list("", &after, LIST_ENTRIES_MAX).await?;
        let last = page.entries.last().map(|entry| entry.key.clone());
        let found = page.entries.into_iter().map(|entry| entry.key);
        keys.extend(found.filter(|key| !key.starts_with(LEADER)));
        match last {
            Some(last) if page.more => after = last,
            Some(_) | None => return Ok(keys),
        }
    }
}

/// The id of a desktop, if this is the key of its spec.
fn desktop_of(key: &str) -> Option<&str> {
    key.strip_prefix("desktop/")?.strip_suffix("/spec")?.rsplit('/').next()
}

fn compare(before: &[String], after: &BTreeSet<&str>) -> Restored {
    let gone = before.iter().filter(|key| !after.contains(key.as_str()));
    let forgotten: Vec<&str> = gone.filter_map(|key| desktop_of(key)).collect();
    Restored {
        entries: after.len(),
        desktops: after.iter().filter(|key| desktop_of(key).is_some()).count(),
        forgotten: forgotten.len(),
        forgotten_first: forgotten.iter().take(NAMED_MAX).map(|id| (*id).to_owned()).collect(),
    }
}

/// Writes in as many as one commit takes.
struct Batches<I: Iterator<Item = Write>> {
    writes: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = Write>> Iterator for Batches<I> {
    type Item = Vec<Write>;

    fn next(&mut self) -> Option<Vec<Write>> {
        let mut batch = Vec::new();
        let mut bytes: usize = 0;
        while batch.len() < COMMIT_OPERATIONS_MAX {
            let fits =
                |write: &Write| batch.is_empty() || bytes + size(write) <= COMMIT_BYTES_MAX / 2;
            let Some(write) = self.writes.next_if(fits) else { break };
            bytes = bytes.saturating_add(size(&write));
            batch.push(write);
        }
        (!batch.is_empty()).then_some(batch)
    }
}

fn size(write: &Write) -> usize {
    match write {
        Write::Put { key, value } => key.len().saturating_add(value.len()),
        Write::Delete { key } => key.len(),
    }
}

async fn commit(store: &dyn Store, fence: &Expect, writes: &[Write]) -> Result<(), RestoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match store.commit(std::slice::from_ref(fence), writes).await {
            Ok(_committed) => return Ok(()),
            Err(CommitError::Conflict { .. }) => return Err(RestoreError::Leads),
            Err(CommitError::Unknown(_) | CommitError::Unavailable(_))
                if tries < COMMIT_TRIES_MAX =>
            {
                tokio::time::sleep(COMMIT_WAIT).await;
            }
            Err(error) => return Err(RestoreError::Commit(error)),
        }
    }
}
