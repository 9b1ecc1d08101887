//! A watch on one member of etcd, which says `Lost` rather than leave anything out.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{Event, EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::time::Instant;

use crate::ports::{Batch, Change, Lost, Watch};

/// When nothing came for so long, the member is asked whether it is there.
const QUIET_MAX: Duration = Duration::from_secs(3);
/// After the question nothing more may come for so long; then the member is taken as gone.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);
/// Bytes of one answer. Who is far behind gets up to 1,000 commits in one; above this it is quicker to
/// list again.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What to ask etcd for: every commit behind `from` in the range of keys. etcd's requests count from
/// the first revision wanted.
pub(super) fn options(range_end: Vec<u8>, from: u64) -> WatchOptions {
    let first = i64::try_from(from.saturating_add(1)).unwrap_or(i64::MAX);
    WatchOptions::new().with_range(range_end).with_start_revision(first)
}

/// See the module.
pub(super) struct Watching {
    stream: WatchStream,
    /// What comes before each key of ours.
    store_prefix: String,
    /// Revision of the last batch.
    position: u64,
    ready: VecDeque<Batch>,
    /// When to ask, or to give up.
    check_at: Instant,
    asked: bool,
}

impl Watching {
    /// `stream` has said that the watch was made.
    pub(super) fn new(stream: WatchStream, store_prefix: String, from: u64) -> Self {
        let check_at = Instant::now() + QUIET_MAX;
        let ready = VecDeque::new();
        Self { stream, store_prefix, position: from, ready, check_at, asked: false }
    }

    fn take(&mut self, response: &WatchResponse) -> Result<(), Lost> {
        self.asked = false;
        self.check_at = Instant::now() + QUIET_MAX;
        if response.canceled() || response.compact_revision() != 0 {
            return Err(Lost);
        }
        for event in response.events() {
            let (revision, change) = read(event, &self.store_prefix).ok_or(Lost)?;
            match self.ready.back_mut() {
                // One commit comes in one answer.
                Some(batch) if batch.revision == revision && self.position == revision => {
                    batch.changes.push(change);
                }
                // Some versions repeat events or go back in time.
                _ if revision <= self.position => return Err(Lost),
                _ => {
                    self.position = revision;
                    self.ready.push_back(Batch { revision, changes: vec![change] });
                }
            }
        }
        Ok(())
    }
}

fn read(event: &Event, store_prefix: &str) -> Option<(u64, Change)> {
    let pair = event.kv()?;
    let key = pair.key_str().ok()?.strip_prefix(store_prefix)?.to_owned();
    let value = match event.event_type() {
        EventType::Put => Some(Bytes::copy_from_slice(pair.value())),
        EventType::Delete => None,
    };
    Some((u64::try_from(pair.mod_revision()).ok()?, Change { key, value }))
}

#[async_trait]
impl Watch for Watching {
    async fn next(&mut self) -> Result<Batch, Lost> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            match tokio::time::timeout_at(self.check_at, self.stream.message()).await {
                Ok(Ok(Some(response))) => self.take(&response)?,
                Ok(Ok(None) | Err(_)) => return Err(Lost),
                Err(_quiet) if self.asked => return Err(Lost),
                Err(_quiet) => {
                    self.asked = true;
                    self.check_at = Instant::now() + ANSWER_WAIT_MAX;
                    self.stream.request_progress().await.map_err(|_gone| Lost)?;
                }
            }
        }
    }
}
