//! The store of one machine: sled on disk, everything in memory, one writer.
//!
//! ```text
//!  commit ─▶ queue ─▶ writer thread: check, apply_batch ×n, flush, fdatasync ─▶ map, watches, answers
//! ```
//! sled 0.34's `flush` calls `sync_file_range`, which does not survive a power cut, so the writer
//! syncs the file too. Readers see only what is on disk. Each record carries its revision and a
//! checksum; all are checked when the store is opened.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock, fstatvfs, syncfs};
use tokio::sync::{mpsc, oneshot, watch};

use super::history::{History, batch};
use super::memory::Map;
use super::rules::{Seat, check_commit};
use crate::ports::{
    CommitError, Committed, Expect, Leadership, NONCE_KEY, Page, Snapshot, Store, StoreError,
    Watch, Write,
};

/// Commits that wait for the writer; more callers wait outside the queue.
const QUEUE_MAX: usize = 256;
/// Commits that share one sync.
const GROUP_MAX: usize = 64;
/// Free bytes below which nothing is put any more: sled does not survive a full disk by itself.
const FREE_BYTES_MIN: u64 = 32 * 1024 * 1024;
/// Free bytes below which nothing is deleted either: sled writes a deletion down before it frees
/// anything, in segments of 512 KiB. Between the two limits the store can get smaller.
const FREE_BYTES_DELETING_MIN: u64 = 4 * 1024 * 1024;
/// From this size on sled may put a value into a file of its own, which it does not sync either.
const LARGE_BYTES: usize = 64 * 1024;
/// sled's page cache; the map in memory serves the reads.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Before each key of an entry.
const ENTRY: u8 = b'd';
/// The key of the store's revision.
const REVISION_KEY: &[u8] = b"r";
/// A record's revision and checksum come before its value.
const HEADER_BYTES: usize = 12;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two controllers must not share a folder.
    #[error(
        "another controller uses {folder} (process {process}): stop it, or give this one another \
         `state` folder"
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The other's process id, as it wrote it.
        process: String,
    },
    /// The folder or a file in it cannot be used.
    #[error("cannot use the store's folder {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// sled refuses.
    #[error("the store in {folder} cannot be opened")]
    Sled {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: sled::Error,
    },
    /// What is stored is damaged.
    #[error("the store in {folder} is damaged: {text}; restore it from a backup")]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// Which part.
        text: String,
    },
}

/// The store.
#[derive(Debug)]
pub struct SledStore {
    map: Arc<RwLock<Map>>,
    history: Arc<History>,
    seat: Seat,
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    broken: watch::Receiver<Option<String>>,
}

#[derive(Debug)]
struct Request {
    expect: Vec<Expect>,
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<Committed, CommitError>>,
}

impl SledStore {
    /// Opens the store in `folder`, which is made when it is not there. Blocks.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let in_folder = |source| OpenError::Folder { folder: folder.to_owned(), source };
        vidi_kit::files::make_folder(folder, 0o700).map_err(in_folder)?;
        let lock = take_lock(folder)?;
        let in_sled = |source| OpenError::Sled { folder: folder.to_owned(), source };
        let database = sled::Config::new()
            .path(folder.join("sled"))
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(in_sled)?;
        let map = load(&database)
            .map_err(|text| OpenError::Damaged { folder: folder.to_owned(), text })?;
        let file = File::open(folder.join("sled").join("db")).map_err(in_folder)?;
        // The files' names must survive a power cut too.
        for made in [folder.join("sled"), folder.to_owned()] {
            File::open(made).and_then(|it| it.sync_all()).map_err(in_folder)?;
        }
        Self::start(database, file, map, lock).map_err(in_folder)
    }

    fn start(database: sled::Db, file: File, map: Map, lock: File) -> io::Result<Self> {
        let history = History::new(map.revision);
        let revision = map.revision;
        let map = Arc::new(RwLock::new(map));
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let (sender, broken) = watch::channel(None);
        let writer = Writer {
            database,
            file,
            map: Arc::clone(&map),
            history: Arc::clone(&history),
            revision,
            broken: sender,
            _lock: lock,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(requests))?;
        let (queue, writer) = (Some(queue), Some(writer));
        Ok(Self { map, history, seat: Seat::new(), queue, writer, broken })
    }

    /// Resolves with the reason when this store cannot write any more, or is gone: only opening it
    /// again helps.
    pub fn broken(&self) -> impl Future<Output = String> + Send + use<> {
        let mut broken = self.broken.clone();
        async move {
            match broken.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_gone) => "its writer ended".to_owned(),
            }
        }
    }
}

impl Drop for SledStore {
    /// Waits for the writer, so that the folder is free when this returns.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was already reported to those who waited for it.
            drop(writer.join());
        }
    }
}

#[async_trait]
impl Store for SledStore {
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Page, StoreError> {
        Ok(self.map.read().unwrap_or_else(PoisonError::into_inner).list(prefix, after, limit))
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Committed, CommitError> {
        check_commit(expect, writes)?;
        let gone = || CommitError::Unavailable("the store is closed".to_owned());
        let (answer, answered) = oneshot::channel();
        let request = Request { expect: expect.to_vec(), writes: writes.to_vec(), answer };
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(request).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(CommitError::Unknown("the writer ended".to_owned())))
    }

    async fn watch(&self, prefix: &str, from: u64) -> Result<Box<dyn Watch>, StoreError> {
        self.history.watch(prefix, from)
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(self.map.read().unwrap_or_else(PoisonError::into_inner).snapshot())
    }

    async fn lead(&self, controller: &str) -> Result<Leadership, StoreError> {
        self.seat.take(self, controller).await
    }
}

struct Writer {
    database: sled::Db,
    file: File,
    map: Arc<RwLock<Map>>,
    history: Arc<History>,
    revision: u64,
    /// After a failed write nobody knows what is on disk: only opening again tells.
    broken: watch::Sender<Option<String>>,
    _lock: File,
}

/// A commit that is in sled's hands but not yet synced.
struct Applied {
    revision: u64,
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<Committed, CommitError>>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while requests.blocking_recv_many(&mut group, GROUP_MAX) != 0 {
            self.commit_group(&mut group);
        }
    }

    fn commit_group(&mut self, group: &mut Vec<Request>) {
        let mut applied = Vec::with_capacity(group.len());
        let mut pending = BTreeMap::new();
        for request in group.drain(..) {
            match self.apply(&request, &mut pending) {
                Ok(revision) => applied.push(Applied {
                    revision,
                    writes: request.writes,
                    answer: request.answer,
                }),
                // Who went away does not want to know.
                Err(error) => drop(request.answer.send(Err(error))),
            }
        }
        if applied.is_empty() {
            return;
        }
        let large = applied.iter().flat_map(|one| &one.writes).any(is_large);
        if let Err(error) = self.sync(large) {
            tracing::error!(%error, "The store cannot write; it must be opened again");
            self.broken.send_replace(Some(error.clone()));
            for one in applied {
                drop(one.answer.send(Err(CommitError::Unknown(error.clone()))));
            }
            return;
        }
        for one in applied {
            self.map
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .apply(one.revision, &one.writes);
            self.history.publish(batch(one.revision, &one.writes));
            drop(one.answer.send(Ok(Committed { revision: one.revision })));
        }
    }

    /// Checks a commit against the map and the commits before it in the group, and gives it to sled.
    fn apply(
        &mut self,
        request: &Request,
        pending: &mut BTreeMap<String, u64>,
    ) -> Result<u64, CommitError> {
        if let Some(broken) = &*self.broken.borrow() {
            return Err(CommitError::Unavailable(broken.clone()));
        }
        {
            let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
            for one in &request.expect {
                let found =
                    pending.get(&one.key).copied().unwrap_or_else(|| map.revision_of(&one.key));
                if found != one.revision {
                    return Err(CommitError::Conflict { key: one.key.clone() });
                }
            }
        }
        self.check_space(&request.writes)?;
        let revision = self.revision.saturating_add(1);
        let mut changes = sled::Batch::default();
        for write in &request.writes {
            match write {
                Write::Put { key, value } => {
                    changes.insert(entry_key(key), record(revision, key, value));
                    pending.insert(key.clone(), revision);
                }
                Write::Delete { key } => {
                    changes.remove(entry_key(key));
                    pending.insert(key.clone(), 0);
                }
            }
        }
        changes.insert(REVISION_KEY, record(revision, "", b""));
        self.database.apply_batch(changes).map_err(|error| {
            let text = error.to_string();
            tracing::error!(error = text, "The store cannot write; it must be opened again");
            self.broken.send_replace(Some(text.clone()));
            CommitError::Unknown(text)
        })?;
        self.revision = revision;
        Ok(revision)
    }

    fn check_space(&self, writes: &[Write]) -> Result<(), CommitError> {
        let unavailable = |text: String| CommitError::Unavailable(text);
        let space = fstatvfs(&self.file)
            .map_err(|error| unavailable(format!("cannot ask for free space: {error}")))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < free_bytes_min(writes) {
            let free_mib = free / 1024 / 1024;
            return Err(unavailable(format!(
                "the disk is full ({free_mib} MiB free): make room in the `state` folder"
            )));
        }
        Ok(())
    }

    fn sync(&self, large: bool) -> Result<(), String> {
        self.database.flush().map_err(|error| error.to_string())?;
        if large {
            syncfs(&self.file).map_err(|error| error.to_string())?;
        }
        self.file.sync_data().map_err(|error| error.to_string())
    }
}

/// Free bytes that a commit must find: deletions must pass where nothing else does.
fn free_bytes_min(writes: &[Write]) -> u64 {
    let is_delete = |write: &Write| matches!(write, Write::Delete { .. });
    let only_deletes = writes.iter().all(|write| is_delete(write) || write.key() == NONCE_KEY);
    if only_deletes && writes.iter().any(is_delete) {
        FREE_BYTES_DELETING_MIN
    } else {
        FREE_BYTES_MIN
    }
}

fn is_large(write: &Write) -> bool {
    matches!(write, Write::Put { value, .. } if LARGE_BYTES <= value.len())
}

fn entry_key(key: &str) -> Vec<u8> {
    [&[ENTRY], key.as_bytes()].concat()
}

/// Revision (8 bytes, big endian), CRC-32 of key, revision and value (4), value.
fn record(revision: u64, key: &str, value: &[u8]) -> Vec<u8> {
    let revision = revision.to_be_bytes();
    let checksum = checksum(&revision, key.as_bytes(), value).to_be_bytes();
    [revision.as_slice(), &checksum, value].concat()
}

fn checksum(revision: &[u8], key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [key, revision, value] {
        hasher.update(part);
    }
    hasher.finalize()
}

fn read_record<'a>(key: &[u8], record: &'a [u8]) -> Result<(u64, &'a [u8]), String> {
    let damaged = || format!("the record of {} is damaged", String::from_utf8_lossy(key));
    let (header, value) = record.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
    let (revision, stored) = header.split_at(8);
    if stored != checksum(revision, key, value).to_be_bytes() {
        return Err(damaged());
    }
    let revision = revision.try_into().map(u64::from_be_bytes).map_err(|_| damaged())?;
    Ok((revision, value))
}

fn load(database: &sled::Db) -> Result<Map, String> {
    let mut map = Map::default();
    if let Some(stored) = database.get(REVISION_KEY).map_err(|error| error.to_string())? {
        map.revision = read_record(b"", &stored)?.0;
    }
    for entry in database.scan_prefix([ENTRY]) {
        let (key, stored) = entry.map_err(|error| error.to_string())?;
        let key = key.get(1..).unwrap_or_default();
        let (revision, value) = read_record(key, &stored)?;
        let text = str::from_utf8(key).map_err(|error| error.to_string())?;
        if map.revision < revision {
            return Err(format!("the record of {text} is newer than the store"));
        }
        map.put(text, value, revision);
    }
    Ok(map)
}

/// Locks the folder for this process (flock(2)); the kernel frees it when the process ends.
fn take_lock(folder: &Path) -> Result<File, OpenError> {
    let in_folder = |source| OpenError::Folder { folder: folder.to_owned(), source };
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(folder.join("lock")).map_err(in_folder)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut process = String::new();
        // The number only helps to find it.
        drop(Read::take(&mut file, 32).read_to_string(&mut process));
        let process = if process.is_empty() { "unknown".to_owned() } else { process };
        return Err(OpenError::InUse { folder: folder.to_owned(), process });
    }
    file.set_len(0).map_err(in_folder)?;
    file.write_all(std::process::id().to_string().as_bytes()).map_err(in_folder)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_any_bit_changed_is_noticed() {
        let good = record(7, "desktop/a", b"value");
        assert_eq!(read_record(b"desktop/a", &good), Ok((7, b"value".as_slice())));
        for index in 0..good.len() * 8 {
            let mut bent = good.clone();
            bent[index / 8] ^= 1 << (index % 8);
            assert!(read_record(b"desktop/a", &bent).is_err(), "bit {index}");
        }
        assert!(read_record(b"desktop/b", &good).is_err());
        assert!(read_record(b"desktop/a", &good[..5]).is_err());
    }

    #[test]
    fn a_damaged_record_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        {
            let database = sled::open(folder.path().join("sled")).unwrap();
            database.insert(entry_key("user/default/admin"), b"damaged").unwrap();
            database.flush().unwrap();
        }
        let error = SledStore::open(folder.path()).expect_err("damaged").to_string();
        assert!(error.contains("user/default/admin"), "{error}");
    }

    #[test]
    fn deletions_pass_on_a_disk_that_is_full_for_everything_else() {
        let nonce = || Write::put(NONCE_KEY, "n");
        for deleting in [vec![Write::delete("a")], vec![Write::delete("a"), nonce()]] {
            assert_eq!(free_bytes_min(&deleting), FREE_BYTES_DELETING_MIN, "{deleting:?}");
        }
        let putting = || Write::put("b", "1");
        for full in [vec![], vec![nonce()], vec![Write::delete("a"), nonce(), putting()]] {
            assert_eq!(free_bytes_min(&full), FREE_BYTES_MIN, "{full:?}");
        }
    }

    #[tokio::test]
    async fn a_store_whose_disk_fails_is_broken_for_good_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        // A pipe cannot be synced: the kernel refuses it as it would report a failed disk.
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let file = File::options().read(true).write(true).open(&pipe).unwrap();
        let lock = take_lock(folder.path()).unwrap();
        let database = sled::open(folder.path().join("sled")).unwrap();
        let store = SledStore::start(database, file, Map::default(), lock).unwrap();
        let broken = store.broken();
        assert!(store.broken.borrow().is_none());
        let put = |key: &str| (Expect::absent(key), Write::put(key, "1"));
        let (expect, write) = put("a");
        let failed = store.commit(&[expect], &[write]).await.expect_err("not synced");
        assert!(matches!(failed, CommitError::Unknown(_)), "{failed:?}");
        let why = broken.await;
        let (expect, write) = put("b");
        let refused = store.commit(&[expect], &[write]).await;
        assert_eq!(refused, Err(CommitError::Unavailable(why)));
        // The end of a store's life resolves it, too: nobody waits for ever.
        let broken = store.broken();
        drop(store);
        broken.await;
    }

    #[test]
    fn a_second_store_on_the_folder_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = SledStore::open(folder.path()).unwrap();
        let error = SledStore::open(folder.path()).expect_err("in use").to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        SledStore::open(folder.path()).expect("free again");
    }
}
