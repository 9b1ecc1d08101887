//! `vidi-controller backup` and `vidi-controller restore`: the files and the stores of the commands.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use tonic::Code;
use vidi_kit::transport::{connect_unix, describe};
use vidi_kit::{Clock, Tasks};
use vidi_proto::store::v1 as stored;
use vidi_proto::v1::BackUpRequest;
use vidi_proto::v1::store_service_client::StoreServiceClient;

use super::file::{Backup, Chunks, FILE_BYTES_MAX, FileError, read};
use super::restore::{Existing, RestoreError, restore};
use crate::adapters::authority::{KeyError, LocalAuthority, WrappingKey};
use crate::adapters::etcd::{self, EtcdSettings, EtcdStore, TlsFiles};
use crate::adapters::sled::{self, SledStore};
use crate::config::{ControllerConfig, StoreKind};
use crate::ports::{Store, StoreError, get};

const INSTALLATION_KEY: &str = "meta/installation";
const AUTHORITY_KEYS: [&str; 2] = ["pki/internal", "pki/page"];
/// Form of the stored records that this program knows.
const SCHEMA: u32 = crate::records::SCHEMA;

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no backup that can be used.
    #[error("{path} cannot be restored: {why}")]
    Backup {
        /// The file.
        path: PathBuf,
        /// Why.
        why: FileError,
    },
    /// There is nothing to back up, or to restore.
    #[error("there is no installation in {0}")]
    Nothing(&'static str),
    /// The backup is of a newer program.
    #[error("the backup has schema {0}, this program knows {SCHEMA}: use the newer version")]
    Newer(u32),
    /// The key of the backup's secrets is not here.
    #[error(
        "the backup's secrets cannot be read here; put the `key_file` of its time in its place"
    )]
    Key(#[from] KeyError),
    /// The embedded store cannot be opened.
    #[error(transparent)]
    Sled(#[from] sled::OpenError),
    /// etcd cannot be used.
    #[error(transparent)]
    Etcd(#[from] etcd::OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The controller does not give it out.
    #[error("the controller on {socket} does not answer as expected: {text}")]
    Controller {
        /// Its socket.
        socket: PathBuf,
        /// What it said.
        text: String,
    },
    /// The backup is not restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// Writes everything that is stored to a file. Answers what was done, for people.
pub async fn back_up(config: &ControllerConfig, path: &Path) -> Result<String, CommandError> {
    let in_file = |source| CommandError::File { path: path.to_owned(), source };
    let mut file = NewFile::begin(path).map_err(in_file)?;
    let serving = match config.store.kind {
        StoreKind::Sled => ask_controller(config, &mut file).await?,
        // Where several controllers share it, none of them need be up.
        StoreKind::Etcd => false,
    };
    if !serving {
        let tasks = Tasks::new();
        let opened = Opened::open(config, &tasks).await?;
        let chunks = chunks(&*opened.store, &Clock::system()).await;
        let written = match chunks {
            Ok(chunks) => file.write_all(chunks).map_err(in_file),
            Err(error) => Err(error),
        };
        tasks.stop().await;
        opened.close(config);
        written?;
    }
    file.file.sync_all().map_err(in_file)?;
    // What cannot be restored is no backup.
    let Backup { header, entries } = load(&file.temporary)?;
    let bytes = file.finish().map_err(in_file)?;
    Ok(format!(
        "{} bytes with {} entries of revision {} are in {}; keep the key file {} as well, elsewhere",
        bytes,
        entries.len(),
        header.revision,
        path.display(),
        config.key_file.display()
    ))
}

/// The bytes of a backup of this store.
pub async fn chunks(store: &dyn Store, clock: &Clock) -> Result<Chunks, CommandError> {
    let nothing = || CommandError::Nothing("the store");
    let entry = get(store, INSTALLATION_KEY).await?.ok_or_else(nothing)?;
    let installation = stored::Installation::decode(entry.value);
    let installation = installation.map_err(|error| StoreError::Damaged(error.to_string()))?;
    let snapshot = store.snapshot().await?;
    Ok(Chunks::new(snapshot, installation.id, clock.now_ms()))
}

/// Puts a backup into the store. Answers what was done, for people.
pub async fn put_back(
    config: &ControllerConfig,
    path: &Path,
    existing: Existing,
) -> Result<String, CommandError> {
    let backup = load(path)?;
    let clock = Clock::system();
    check(&backup, config, &clock)?;
    let header = backup.header.clone();
    let tasks = Tasks::new();
    let opened = Opened::open(config, &tasks).await?;
    let done = restore(&*opened.store, backup, existing, clock.now_ms()).await;
    let snapshot = if done.is_ok() { opened.cluster().await } else { None };
    tasks.stop().await;
    opened.close(config);
    let done = done?;
    let age_secs = clock.now_ms().saturating_sub(header.taken_ms).div_euclid(1_000);
    let mut text = format!(
        "{} entries of revision {}, taken {age_secs} s ago, are in the store; its {} desktops are left \
         as they are until their hosts or somebody say what they are",
        done.entries, header.revision, done.desktops
    );
    if 0 < done.forgotten {
        text.push_str(&format!(
            "\n{} desktops were in the store and are not in the backup; their hosts keep them as \
             unknown: {}",
            done.forgotten,
            done.forgotten_first.join(", ")
        ));
    }
    if let Some(mark) = snapshot.and_then(|cluster| other_mark(config, &cluster)) {
        // What it tells is of the etcd before.
        fs::remove_file(&mark)
            .map_err(|source| CommandError::File { path: mark.clone(), source })?;
        text.push_str(&format!(
            "\nthis is another cluster of etcd than before: {} was removed; remove it on every other \
             controller too",
            mark.display()
        ));
    }
    Ok(text)
}

/// The mark of this controller, if it is of another cluster.
fn other_mark(config: &ControllerConfig, cluster: &str) -> Option<PathBuf> {
    let mark = config.state.join("etcd-mark");
    let text = fs::read_to_string(&mark).ok()?;
    (text.lines().next() != Some(&format!("cluster {cluster}"))).then_some(mark)
}

fn load(path: &Path) -> Result<Backup, CommandError> {
    let in_file = |source| CommandError::File { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(in_file)?.len();
    if FILE_BYTES_MAX < size {
        let text = format!("it has {size} bytes, at most {FILE_BYTES_MAX} are expected");
        return Err(in_file(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    let bytes = fs::read(path).map_err(in_file)?;
    read(&bytes).map_err(|why| CommandError::Backup { path: path.to_owned(), why })
}

/// Refuses what no controller here could start on.
fn check(backup: &Backup, config: &ControllerConfig, clock: &Clock) -> Result<(), CommandError> {
    let damaged = |key: &str| StoreError::Damaged(format!("the entry {key} of the backup is none"));
    let find = |key: &'static str| {
        let found = backup.entries.iter().find(|entry| entry.key == key);
        found.map(|entry| entry.value.as_slice()).ok_or(CommandError::Nothing("the backup"))
    };
    let installation = stored::Installation::decode(find(INSTALLATION_KEY)?)
        .map_err(|_bytes| damaged(INSTALLATION_KEY))?;
    if SCHEMA < installation.schema {
        return Err(CommandError::Newer(installation.schema));
    }
    let [internal, page] = AUTHORITY_KEYS;
    let authority = |key| {
        stored::Authority::decode(find(key)?).map_err(|_bytes| CommandError::from(damaged(key)))
    };
    let key = Arc::new(WrappingKey::load(&config.key_file)?);
    let (internal, page) = (authority(internal)?, authority(page)?);
    LocalAuthority::open(clock.clone(), &key, installation.id, &internal, &page)?;
    Ok(())
}

/// Asks the controller that has the store open. Answers whether there is one.
async fn ask_controller(
    config: &ControllerConfig,
    file: &mut NewFile,
) -> Result<bool, CommandError> {
    let socket = &config.socket;
    let failed = |text: String| CommandError::Controller { socket: socket.clone(), text };
    let Ok(channel) = connect_unix(socket.clone()).await else { return Ok(false) };
    let answer = StoreServiceClient::new(channel).back_up(BackUpRequest {}).await;
    let mut chunks = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::PermissionDenied => {
            return Err(failed("only root may take a backup".to_owned()));
        }
        Err(status) => return Err(failed(status.message().to_owned())),
    };
    while let Some(next) = chunks.message().await.map_err(|status| failed(describe(&status)))? {
        let in_file = |source| CommandError::File { path: file.path.clone(), source };
        file.file.write_all(&next.chunk).map_err(in_file)?;
    }
    Ok(true)
}

/// The store, opened for a command.
struct Opened {
    store: Arc<dyn Store>,
    /// Where a command's own mark of etcd lies.
    folder: Option<PathBuf>,
}

impl Opened {
    async fn open(config: &ControllerConfig, tasks: &Tasks) -> Result<Self, CommandError> {
        match config.store.kind {
            StoreKind::Sled => {
                let folder = config.state.join("store");
                let in_folder = |source| CommandError::File { path: config.state.clone(), source };
                vidi_kit::files::make_folder(&config.state, 0o700).map_err(in_folder)?;
                Ok(Self { store: Arc::new(SledStore::open(&folder)?), folder: None })
            }
            StoreKind::Etcd => {
                // The controllers' marks are theirs: what is asked for here is asked for on purpose.
                let name = format!("vidi-{}", uuid::Uuid::new_v4().simple());
                let folder = std::env::temp_dir().join(name);
                let in_folder = |source| CommandError::File { path: folder.clone(), source };
                vidi_kit::files::make_folder(&folder, 0o700).map_err(in_folder)?;
                let mark = folder.join("mark");
                let opened = EtcdStore::open(settings(config, mark), tasks).await;
                if opened.is_err() {
                    drop(fs::remove_dir_all(&folder));
                }
                Ok(Self { store: Arc::new(opened?), folder: Some(folder) })
            }
        }
    }

    /// Id of the cluster of etcd.
    async fn cluster(&self) -> Option<String> {
        let folder = self.folder.as_ref()?;
        let text = tokio::fs::read_to_string(folder.join("mark")).await.ok()?;
        Some(text.lines().next()?.strip_prefix("cluster ")?.to_owned())
    }

    fn close(self, config: &ControllerConfig) {
        drop(self.store);
        match self.folder {
            // Of no use any more.
            Some(folder) => drop(fs::remove_dir_all(folder)),
            None => give_back(&config.state),
        }
    }
}

/// What a controller needs to reach etcd.
pub fn settings(config: &ControllerConfig, mark: PathBuf) -> EtcdSettings {
    let tls = config.store.has_tls().then(|| TlsFiles {
        ca: config.store.ca_file.clone(),
        certificate: config.store.certificate_file.clone(),
        key: config.store.certificate_key_file.clone(),
    });
    let (endpoints, prefix) = (config.store.endpoints.clone(), config.store.prefix.clone());
    EtcdSettings { endpoints, tls, prefix, mark }
}

/// What root has made in the folder of the store belongs to whom the state belongs to: the controller.
fn give_back(state: &Path) {
    let Ok(owner) = fs::metadata(state) else { return };
    let mut left = vec![state.join("store")];
    while let Some(path) = left.pop() {
        // Who is not root can give nothing away, and has nothing to.
        drop(std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid())));
        if path.is_dir() && !path.is_symlink() {
            let inside = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(inside.map(|entry| entry.path()));
        }
    }
}

/// A file that is there only when it is whole.
struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    file: fs::File,
    kept: bool,
}

impl NewFile {
    fn begin(path: &Path) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unique = uuid::Uuid::new_v4().simple();
        let temporary = path.with_file_name(format!(".{name}.{unique}"));
        let mut options = fs::OpenOptions::new();
        // It holds what signs certificates, wrapped, and hashes of passwords.
        let file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(Self { path: path.to_owned(), temporary, file, kept: false })
    }

    fn write_all(&mut self, chunks: Chunks) -> io::Result<()> {
        for chunk in chunks {
            self.file.write_all(&chunk)?;
        }
        Ok(())
    }

    /// Answers its bytes.
    fn finish(mut self) -> io::Result<u64> {
        let bytes = self.file.metadata()?.len();
        fs::rename(&self.temporary, &self.path)?;
        self.kept = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(bytes)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: the first error is the one that matters.
            drop(fs::remove_file(&self.temporary));
        }
    }
}
