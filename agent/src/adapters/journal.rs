//! The journal in sled.
//!
//! sled 0.34 does not sync its file on `flush`, so every write here does both; every value carries its
//! number and checksum. A journal that cannot be opened is put aside and begun anew: what runs is
//! learned from the hypervisor, what is wanted from the controller.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tracing::warn;
use vidi_kit::ids::DesktopId;

use crate::model::record::Record;
use crate::model::wanted::Wanted;
use crate::ports::{Journal, JournalError, Journaled};
use crate::records;

const WANTED_KEY: &[u8] = b"wanted";
const DESKTOP_PREFIX: &str = "desktop/";
/// Holds the number of the last write, which may have been a removal.
const HEAD_KEY: &[u8] = b"head";
/// Memory for sled's pages; the journal of a full host is below this.
const CACHE_BYTES: u64 = 4 << 20;

/// The journal.
#[derive(Clone, Debug)]
pub struct SledJournal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: sled::Db,
    /// sled's one file that has to be synced.
    file: File,
    /// Holds the number of the last write beside the journal: sled drops damaged parts of its own file
    /// without a word.
    head: File,
    /// The number of the last write; held over each write, so that numbers are in its order.
    sequence: Mutex<u64>,
    damage: Vec<String>,
}

impl SledJournal {
    /// Opens the journal in `folder`, which is made when it is not there.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        let mut damage = Vec::new();
        let (db, file) = match open_sled(folder) {
            Ok(opened) => opened,
            Err(error) => {
                let aside = put_aside(folder)?;
                damage.push(format!(
                    "the journal could not be opened ({error}) and was put aside as {}",
                    aside.display()
                ));
                open_sled(folder)?
            }
        };
        let head = open_head(&folder.with_extension("head"))?;
        let mut inner = Inner { db, file, head, sequence: Mutex::new(0), damage };
        let (last, found) = inner.inspect();
        let promised = inner.read_head();
        if last < promised {
            let text = format!("the journal has lost {} writes", promised.saturating_sub(last));
            inner.damage.push(text);
        }
        inner.sequence = Mutex::new(last.max(promised));
        inner.damage.extend(found);
        for text in &inner.damage {
            warn!(
                error = text,
                "The journal was damaged; what runs is learned from the hypervisor"
            );
        }
        Ok(Self(Arc::new(inner)))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Inner) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || guarded(|| act(&inner))).await.map_err(failed)?
    }

    async fn write(&self, key: Vec<u8>, body: Option<Vec<u8>>) -> Result<(), JournalError> {
        self.blocking(move |inner| inner.write(&key, body.as_deref())).await
    }
}

#[async_trait]
impl Journal for SledJournal {
    async fn load(&self) -> Result<Journaled, JournalError> {
        self.blocking(Inner::load).await
    }

    async fn save_wanted(&self, wanted: &BTreeMap<DesktopId, Wanted>) -> Result<(), JournalError> {
        self.write(WANTED_KEY.to_vec(), Some(records::encode_wanted(wanted))).await
    }

    async fn save_record(&self, id: DesktopId, record: &Record) -> Result<(), JournalError> {
        self.write(desktop_key(id), Some(records::encode_record(record))).await
    }

    async fn remove_record(&self, id: DesktopId) -> Result<(), JournalError> {
        self.write(desktop_key(id), None).await
    }
}

impl Inner {
    fn write(&self, key: &[u8], body: Option<&[u8]>) -> Result<(), JournalError> {
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let next = sequence.saturating_add(1);
        let mut batch = sled::Batch::default();
        match body {
            Some(body) => batch.insert(key, records::seal(next, body)),
            None => batch.remove(key),
        }
        batch.insert(HEAD_KEY, records::seal(next, &[]));
        self.db.apply_batch(batch).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        // After the write that it tells of: a crash in between leaves a lower number, which is fine.
        self.head.write_all_at(&records::seal(next, &[]), 0).map_err(failed)?;
        self.head.sync_data().map_err(failed)?;
        *sequence = next;
        Ok(())
    }

    /// 0 when there is none yet or it is not readable.
    fn read_head(&self) -> u64 {
        let mut value = [0; records::HEADER_BYTES];
        let read = self.head.read_exact_at(&mut value, 0).ok();
        read.and_then(|()| records::open(&value).ok()).map_or(0, |(sequence, _)| sequence)
    }

    fn load(&self) -> Result<Journaled, JournalError> {
        let mut journaled = Journaled { damage: self.damage.clone(), ..Journaled::default() };
        for pair in self.db.iter() {
            let (key, value) = pair.map_err(failed)?;
            let Ok((_, body)) = records::open(&value) else { continue };
            if *key == *WANTED_KEY {
                journaled.wanted = records::decode_wanted(body).ok();
            } else if let Some(id) = desktop_of(&key)
                && let Ok(record) = records::decode_record(body)
            {
                journaled.records.insert(id, record);
            }
        }
        Ok(journaled)
    }

    /// The highest number of all values, and what is wrong with them.
    fn inspect(&self) -> (u64, Vec<String>) {
        let inspected = guarded(|| {
            let (mut head, mut last, mut damage) = (0, 0, Vec::new());
            for pair in self.db.iter() {
                let (key, value) = pair.map_err(failed)?;
                let name = String::from_utf8_lossy(&key).into_owned();
                match records::open(&value) {
                    Ok((sequence, _)) if *key == *HEAD_KEY => head = sequence,
                    Ok((sequence, body)) => {
                        last = last.max(sequence);
                        let sound = if *key == *WANTED_KEY {
                            records::decode_wanted(body).is_ok()
                        } else {
                            desktop_of(&key).is_some() && records::decode_record(body).is_ok()
                        };
                        if !sound {
                            damage.push(format!("the journal's entry {name} is not readable"));
                        }
                    }
                    Err(error) => damage.push(format!("the journal's entry {name}: {error}")),
                }
            }
            Ok((head.max(last), damage))
        });
        inspected.unwrap_or_else(|error| (0, vec![error.to_string()]))
    }
}

fn open_sled(folder: &Path) -> Result<(sled::Db, File), JournalError> {
    guarded(|| {
        vidi_kit::files::make_folder(folder, 0o700).map_err(failed)?;
        let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES);
        let db = config.open().map_err(failed)?;
        // Everything is read once, so that damage is met here and not in the middle of work.
        for pair in db.iter() {
            drop(pair.map_err(failed)?);
        }
        let file = File::options().write(true).open(folder.join("db")).map_err(failed)?;
        Ok((db, file))
    })
}

fn open_head(path: &Path) -> Result<File, JournalError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed)
}

/// Some damage makes sled panic instead of returning an error.
fn guarded<T>(act: impl FnOnce() -> Result<T, JournalError>) -> Result<T, JournalError> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err(JournalError::Io("its files are damaged".to_owned())))
}

fn put_aside(folder: &Path) -> Result<PathBuf, JournalError> {
    let name = format!("damaged-{}", uuid::Uuid::now_v7().simple());
    let aside = folder.with_extension(name);
    std::fs::rename(folder, &aside).map_err(failed)?;
    Ok(aside)
}

fn desktop_key(id: DesktopId) -> Vec<u8> {
    format!("{DESKTOP_PREFIX}{id}").into_bytes()
}

fn desktop_of(key: &[u8]) -> Option<DesktopId> {
    std::str::from_utf8(key).ok()?.strip_prefix(DESKTOP_PREFIX)?.parse().ok()
}

fn failed(error: impl std::fmt::Display) -> JournalError {
    JournalError::Io(error.to_string())
}
