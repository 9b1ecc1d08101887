//! What a controller that stands by knows: a copy of what is stored, fed by a watch.
//!
//! ```text
//!  list ─▶ rows ─▶ world ─▶ published        watch from the first page on: put, delete
//!   ▲                                          │ lost, or in doubt
//!   └──────────────────────────────────────────┘ and every 5 minutes, since a watch may leave something out
//! ```
//! It decides nothing, and holds nothing that only a leader's memory has: who is linked, who is connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};
use vidi_kit::{Backoff, Chance, Clock};

use super::handle::Standing;
use crate::model::{Key, World};
use crate::ports::{Batch, LIST_ENTRIES_MAX, Page, Store, StoreError, Watch};
use crate::records;

/// Everything is listed again this often: versions of etcd are known that leave out what a watch should tell.
const RELIST_PERIOD: Duration = Duration::from_secs(300);

/// The copy of one store.
pub(super) struct Copy {
    store: Arc<dyn Store>,
    clock: Clock,
    chance: Chance,
    published: watch::Sender<Arc<World>>,
    standing: watch::Sender<Standing>,
}

/// What was read so far.
#[derive(Default)]
struct Rows {
    world: World,
    /// Of every row its key and the revision of its last change.
    known: BTreeMap<String, (u64, Key)>,
}

impl Copy {
    pub(super) fn new(
        (store, clock, chance): (Arc<dyn Store>, Clock, Chance),
        published: watch::Sender<Arc<World>>,
        standing: watch::Sender<Standing>,
    ) -> Self {
        Self { store, clock, chance, published, standing }
    }

    /// Follows what is stored, for as long as it is asked.
    pub(super) async fn follow(&self) {
        let mut backoff =
            Backoff::by(self.chance.clone(), Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let mut rows = Rows::default();
            // Sequences go on, so that who reads sees that something changed.
            rows.world.sequence = self.published.borrow().sequence + 1;
            match self.read(&mut rows).await {
                Ok((watching, _)) => {
                    info!(
                        desktops = rows.world.desktops.len(),
                        "A copy of what is stored is there"
                    );
                    backoff.reset();
                    self.tell(true);
                    self.keep(&mut rows, watching).await;
                    self.tell(false);
                }
                Err(error) => warn!(%error, "There is no copy of what is stored yet"),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    fn tell(&self, copied: bool) {
        self.standing.send_if_modified(|standing| {
            let changed = standing.copied != copied;
            standing.copied = copied;
            changed
        });
    }

    fn publish(&self, rows: &Rows) {
        self.published.send_replace(Arc::new(rows.world.clone()));
    }

    /// Takes in what is listed; what is not is gone. Answers the watch that goes on, and how many rows the
    /// one before should have told of.
    async fn read(&self, rows: &mut Rows) -> Result<(Box<dyn Watch>, usize), StoreError> {
        let mut listed = BTreeMap::new();
        let mut watching = None;
        let (mut after, mut mended, mut first) = (String::new(), 0, 0);
        let told = rows.world.revision;
        loop {
            let page = self.store.list("", &after, LIST_ENTRIES_MAX).await?;
            if watching.is_none() {
                first = page.revision;
                watching = Some(self.store.watch("", page.revision).await?);
            }
            let (more, last) = (page.more, page.entries.last().map(|last| last.key.clone()));
            mended += rows.take(page, told, &mut listed, self.clock.now_ms())?;
            match last {
                Some(last) if more => after = last,
                Some(_) | None => break,
            }
        }
        // What was made since the first page may not have been on its page.
        let gone = rows
            .known
            .iter()
            .filter(|(key, (revision, _))| *revision <= first && !listed.contains_key(*key));
        let gone: Vec<String> = gone.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| rows.delete(key));
        rows.world.revision = rows.world.revision.max(first);
        self.publish(rows);
        let none = || StoreError::Unavailable("there is no watch".to_owned());
        Ok((watching.ok_or_else(none)?, mended))
    }

    /// Until the watch is lost.
    async fn keep(&self, rows: &mut Rows, mut watching: Box<dyn Watch>) {
        let mut relist_at = Instant::now() + RELIST_PERIOD;
        loop {
            // Cancel-safe: `next` keeps what it has received.
            let next = tokio::select! {
                biased;
                () = tokio::time::sleep_until(relist_at) => None,
                next = watching.next() => Some(next),
            };
            let taken = match next {
                None => match self.read(rows).await {
                    Ok((anew, mended)) => {
                        watching = anew;
                        relist_at = Instant::now() + RELIST_PERIOD;
                        count_mended(mended);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Some(Ok(batch)) => {
                    let taken = rows.follow(batch, self.clock.now_ms());
                    self.publish(rows);
                    taken
                }
                Some(Err(_lost)) => return,
            };
            if let Err(error) = taken {
                warn!(%error, "The copy of what is stored is made anew");
                return;
            }
        }
    }
}

/// What a list had and the watch had left out.
fn count_mended(mended: usize) {
    if 0 < mended {
        let rows = u64::try_from(mended).unwrap_or(u64::MAX);
        metrics::counter!("vidi_controller_copy_mended_total").increment(rows);
        warn!(rows, "A watch of the store has left something out; the copy is right again");
    }
}

impl Rows {
    /// Takes a page in; answers how many rows the watch, which was at revision `told`, should have told of.
    fn take(
        &mut self,
        page: Page,
        told: u64,
        listed: &mut BTreeMap<String, ()>,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let mut mended = 0;
        for entry in page.entries {
            listed.insert(entry.key.clone(), ());
            if self.known.get(&entry.key).is_none_or(|(known, _)| *known < entry.revision) {
                let is_row = self.put(&entry.key, &entry.value, entry.revision, now_ms)?;
                mended += usize::from(is_row && entry.revision <= told);
            }
        }
        Ok(mended)
    }

    fn follow(&mut self, batch: Batch, now_ms: i64) -> Result<(), StoreError> {
        let revision = batch.revision;
        for change in batch.changes {
            // A list may have told of it before.
            let is_old = self.known.get(&change.key).is_some_and(|(known, _)| revision < *known);
            match change.value {
                _ if is_old => {}
                Some(value) => drop(self.put(&change.key, &value, revision, now_ms)?),
                None => self.delete(&change.key),
            }
        }
        self.world.revision = self.world.revision.max(revision);
        Ok(())
    }

    /// Answers whether it is a row.
    fn put(
        &mut self,
        key: &str,
        value: &[u8],
        revision: u64,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let row = records::row(key, value, now_ms)
            .map_err(|error| StoreError::Damaged(error.to_string()))?;
        let Some(row) = row else { return Ok(false) };
        self.known.insert(key.to_owned(), (revision, row.key()));
        self.world.put(row);
        Ok(true)
    }

    fn delete(&mut self, key: &str) {
        if let Some((_, row)) = self.known.remove(key) {
            self.world.delete(&row);
        }
    }
}

#[cfg(test)]
mod tests {
    use vidi_kit::Tasks;

    use super::*;
    use crate::adapters::memory::MemoryStore;
    use crate::model::{Row, Tenant};
    use crate::ports::{Expect, Write};

    async fn write(store: &MemoryStore, writes: &[Write]) -> u64 {
        let expect = Expect::absent("nothing");
        store.commit(&[expect], writes).await.unwrap().revision
    }

    fn tenant(id: &str) -> Write {
        let row = Row::Tenant(id.parse().unwrap(), Tenant::default());
        Write::put(records::key(&row.key()), records::value(&row))
    }

    struct Site {
        tasks: Tasks,
        store: Arc<MemoryStore>,
        world: watch::Receiver<Arc<World>>,
        stands: watch::Receiver<Standing>,
    }

    impl Site {
        fn start() -> Self {
            let (store, tasks) = (Arc::new(MemoryStore::new()), Tasks::new());
            let (published, world) = watch::channel(Arc::new(World::default()));
            let (standing, stands) = watch::channel(Standing::default());
            let shared: Arc<dyn Store> = store.clone();
            let parts = (shared, Clock::manual(5), Chance::system());
            let copy = Copy::new(parts, published, standing);
            let group = tasks.clone();
            let _following = tasks.spawn("copy", async move {
                tokio::select! {
                    biased;
                    () = group.stopping() => {}
                    () = copy.follow() => {}
                }
            });
            Self { tasks, store, world, stands }
        }

        async fn until(&mut self, revision: u64) -> Vec<String> {
            let world = self.world.wait_for(|world| revision <= world.revision).await.unwrap();
            world.tenants.iter().map(|(id, _)| id.to_string()).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_what_is_written_and_removed_and_is_made_anew_when_the_watch_is_lost() {
        let mut site = Site::start();
        let at = write(&site.store, &[tenant("a"), tenant("b")]).await;
        assert_eq!(site.until(at).await, ["a", "b"]);
        site.stands.wait_for(|standing| standing.copied).await.unwrap();
        let at = write(&site.store, &[Write::delete("tenant/a"), tenant("c")]).await;
        assert_eq!(site.until(at).await, ["b", "c"]);
        let sequence = site.world.borrow().sequence;
        site.store.lose_watches();
        site.stands.wait_for(|standing| !standing.copied).await.unwrap();
        let at = write(&site.store, &[Write::delete("tenant/b")]).await;
        assert_eq!(site.until(at).await, ["c"]);
        assert!(sequence <= site.world.borrow().sequence);
        site.tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_watch_leaves_out_is_found_by_the_next_list() {
        let mut site = Site::start();
        let at = write(&site.store, &[tenant("a"), tenant("b")]).await;
        site.until(at).await;
        site.stands.wait_for(|standing| standing.copied).await.unwrap();
        site.store.mute_watches(true);
        let at = write(&site.store, &[Write::delete("tenant/a"), tenant("c")]).await;
        tokio::time::sleep(RELIST_PERIOD / 2).await;
        assert!(site.world.borrow().revision < at, "nobody tells");
        site.store.mute_watches(false);
        let began = Instant::now();
        assert_eq!(site.until(at).await, ["b", "c"]);
        assert!(began.elapsed() <= RELIST_PERIOD);
        site.tasks.stop().await;
    }
}
