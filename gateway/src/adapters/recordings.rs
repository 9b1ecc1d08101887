//! Recordings as files below one folder, which gateways may share: `{tenant}/{session}-{start}.vidirec`, and what each is about
//! beside it as JSON. The format is in docs/display-protocol.md, "Recordings".

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use vidi_kit::files::{make_folder, write_atomically};
use vidi_kit::ids::TenantId;
use vidi_kit::{Clock, Tasks};

use crate::config::RecordingConfig;
use crate::model::RecordingAbout;
use crate::ports::{RecordingEnd, RecordingEntry, RecordingPipe, Recordings};

/// How every recording begins.
const MAGIC: &[u8; 8] = b"VIDIREC1";
/// Messages that wait for the disk: with slices of 16 KiB about a MiB.
const ENTRIES_MAX: usize = 64;
/// What is written in one piece; a frame or two.
const WRITE_BYTES: usize = 256 << 10;
/// What is recorded waits so long for more at most.
const WRITE_PERIOD: Duration = Duration::from_secs(1);
/// A recording ends when the disk has less than this: the gateway's keys lie there as well.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// Old ones are looked for this often.
const SWEEP_PERIOD: Duration = Duration::from_secs(3_600);
/// Recordings of one tenant that are listed; the newest.
const LISTED_MAX: usize = 1_000;
/// Largest description that is read, in bytes; ours have some hundred.
const ABOUT_BYTES_MAX: u64 = 16 << 10;
const DAY_MS: i64 = 86_400_000;
const HOUR_SECS: u64 = 3_600;

/// The folder.
pub struct RecordingFolder {
    tasks: Tasks,
    clock: Clock,
    root: PathBuf,
    bytes_max: u64,
    time_max: Duration,
    /// Who writes here; others may in a folder that is shared.
    gateway: String,
}

/// What a recording is about, as the file beside it and the list say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Its name in addresses.
    #[serde(skip_deserializing)]
    pub name: String,
    /// `tenants/{t}/sessions/{uuid}`.
    pub session: String,
    /// The tenant's id.
    pub tenant: String,
    /// `tenants/{t}/desktops/{uuid}` or `tenants/{t}/machines/{uuid}`.
    pub desktop: String,
    /// `tenants/{t}/users/{u}`.
    pub user: String,
    /// The same for people.
    pub user_display_name: String,
    /// The gateway that wrote it.
    pub gateway: String,
    /// When it began.
    pub start: String,
    /// When it ended; none while it goes on, or where the gateway fell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why it ended before the session, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A recording that is being written.
struct Writing {
    folder: Arc<RecordingFolder>,
    about: About,
    path: PathBuf,
    ready: Vec<u8>,
    bytes: u64,
    /// The file was made, and by this one.
    made: bool,
}

impl fmt::Debug for RecordingFolder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RecordingFolder({})", self.root.display())
    }
}

/// As a port.
#[derive(Clone, Debug)]
pub struct KeptRecordings(Arc<RecordingFolder>);

impl RecordingFolder {
    /// Keeps this gateway's recordings in the folder that is configured, else below `state`, and removes old
    /// ones from now on.
    pub fn open(
        tasks: &Tasks,
        clock: &Clock,
        (state, gateway): (&Path, String),
        config: &RecordingConfig,
    ) -> io::Result<KeptRecordings> {
        let own = config.folder.as_os_str().is_empty();
        let root = if own { state.join("recordings") } else { config.folder.clone() };
        if own {
            make_folder(&root, 0o700)?;
        } else if !root.is_dir() {
            // Made here, it would be filled beside the file system that is to be mounted there.
            let text = format!("[recording] folder: {} is not there: mount it", root.display());
            return Err(io::Error::new(ErrorKind::NotFound, text));
        }
        let folder = Arc::new(Self {
            tasks: tasks.clone(),
            clock: clock.clone(),
            root,
            bytes_max: u64::from(config.mib_max) << 20,
            time_max: Duration::from_secs(u64::from(config.hours_max) * HOUR_SECS),
            gateway,
        });
        let (sweeper, stop) = (Arc::clone(&folder), tasks.stop_token());
        let hours_ms = i64::from(config.hours_max) * DAY_MS / 24;
        let kept_ms = i64::from(config.keep_days) * DAY_MS + hours_ms;
        // None of these goes on: their gateway was this one, before it started.
        let left = entries(&folder.root).flat_map(|tenant| entries(&tenant).collect::<Vec<_>>());
        let left: Vec<PathBuf> = left.filter(|path| has_extension(path, "json")).collect();
        let _sweeping = tasks.spawn("recordings-sweep", async move {
            let finisher = Arc::clone(&sweeper);
            let finishing = move || left.iter().for_each(|about| finisher.finish_left(about));
            drop(tokio::task::spawn_blocking(finishing).await);
            loop {
                let (folder, before_ms) =
                    (Arc::clone(&sweeper), sweeper.clock.now_ms().saturating_sub(kept_ms));
                drop(tokio::task::spawn_blocking(move || folder.sweep(before_ms)).await);
                // Cancel-safe: the next start sweeps again.
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(SWEEP_PERIOD) => {}
                }
            }
        });
        Ok(KeptRecordings(folder))
    }

    /// Writes down the end of a recording of this gateway, which fell meanwhile. Blocks.
    fn finish_left(&self, json: &Path) {
        let recording = json.with_extension("vidirec");
        let Some(mut about) = read_description(json) else { return };
        if about.gateway != self.gateway || about.end.is_some() {
            return;
        }
        let Ok(kept) = fs::metadata(&recording) else {
            // It fell before the first word.
            drop(fs::remove_file(json));
            return;
        };
        let end = kept.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        about.end = end.and_then(|end| i64::try_from(end.as_millis()).ok()).map(rfc3339);
        about.bytes = Some(kept.len());
        about.reason = "the gateway fell".to_owned();
        if let Err(error) = describe(json, &about) {
            warn!(file = %json.display(), %error, "A recording's end cannot be written down");
        }
    }

    /// Removes what began before this.
    fn sweep(&self, before_ms: i64) {
        for tenant in entries(&self.root) {
            for path in entries(&tenant) {
                if start_of(&recording_of(&path)).is_some_and(|start_ms| start_ms < before_ms) {
                    match fs::remove_file(&path) {
                        Ok(()) => info!(file = %path.display(), "An old recording is removed"),
                        // Another gateway was quicker.
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => {
                            warn!(file = %path.display(), %error, "Cannot remove a recording");
                        }
                    }
                }
            }
        }
    }
}

impl KeptRecordings {
    /// The recordings of a tenant, newest first. Blocks.
    pub fn list(&self, tenant: &TenantId) -> Vec<About> {
        let mut paths: Vec<(i64, PathBuf)> = entries(&self.0.root.join(tenant.as_str()))
            .filter(|path| has_extension(path, "vidirec"))
            .filter_map(|path| Some((start_of(&path.file_stem()?.to_string_lossy())?, path)))
            .collect();
        paths.sort_by_key(|(start_ms, _)| std::cmp::Reverse(*start_ms));
        paths.iter().take(LISTED_MAX).filter_map(|(_, path)| read_about(path)).collect()
    }

    /// A recording of a tenant and its length. Blocks.
    pub fn read(&self, tenant: &TenantId, name: &str) -> Option<(File, u64)> {
        start_of(name)?;
        let path = self.0.root.join(tenant.as_str()).join(format!("{name}.vidirec"));
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        Some((file, length))
    }
}

impl Recordings for KeptRecordings {
    fn begin(&self, about: RecordingAbout) -> RecordingPipe {
        let (entries, receiver) = mpsc::channel(ENTRIES_MAX);
        let (ended_sender, ended) = oneshot::channel();
        let folder = Arc::clone(&self.0);
        let time_max = folder.time_max;
        let writing = Writing::new(folder, about);
        let _writing = self.0.tasks.spawn("recording", async move {
            metrics::gauge!("vidi_gateway_recordings").increment(1.0);
            if let Err(end) = record(writing, receiver, time_max).await {
                // The session is gone first only at the gateway's own end.
                drop(ended_sender.send(end));
            }
            metrics::gauge!("vidi_gateway_recordings").decrement(1.0);
        });
        RecordingPipe { entries, ended }
    }
}

/// Writes until the session ends the recording (Ok) or it has to end (why).
async fn record(
    mut writing: Writing,
    mut entries: mpsc::Receiver<RecordingEntry>,
    time_max: Duration,
) -> Result<(), RecordingEnd> {
    let mut file = None;
    let ended = loop {
        let next = tokio::time::timeout(WRITE_PERIOD, entries.recv()).await;
        let is_late = next.is_err();
        let goes_on = match next {
            Ok(Some(RecordingEntry { at, .. })) if time_max < at => {
                break Err(RecordingEnd::Full("it has reached its longest time".to_owned()));
            }
            Ok(Some(entry)) => {
                writing.add(&entry);
                true
            }
            Ok(None) => false,
            Err(_elapsed) => true,
        };
        if !goes_on || is_late || WRITE_BYTES <= writing.ready.len() {
            let written = tokio::task::spawn_blocking(move || {
                let result = writing.write(&mut file);
                (writing, file, result)
            });
            let Ok((back, open, result)) = written.await else {
                return Err(RecordingEnd::Fault("its writer failed".to_owned()));
            };
            (writing, file) = (back, open);
            if let Err(end) = result {
                break Err(end);
            }
        }
        if !goes_on {
            break Ok(());
        }
    };
    let reason = match &ended {
        Ok(()) => String::new(),
        Err(RecordingEnd::Full(reason) | RecordingEnd::Fault(reason)) => reason.clone(),
    };
    drop(tokio::task::spawn_blocking(move || writing.finish(reason)).await);
    ended
}

impl Writing {
    fn new(folder: Arc<RecordingFolder>, about: RecordingAbout) -> Self {
        let start_ms = folder.clock.now_ms();
        let mut parts = about.session.split('/');
        let tenant = parts.nth(1).unwrap_or_default().to_owned();
        let name = format!("{}-{start_ms}", parts.next_back().unwrap_or_default());
        let path = folder.root.join(&tenant).join(format!("{name}.vidirec"));
        let about = About {
            name,
            session: about.session,
            tenant,
            desktop: about.desktop,
            user: about.user,
            user_display_name: about.user_display_name,
            gateway: folder.gateway.clone(),
            start: rfc3339(start_ms),
            end: None,
            bytes: None,
            reason: String::new(),
        };
        Self { folder, about, path, ready: MAGIC.to_vec(), bytes: 0, made: false }
    }

    fn add(&mut self, RecordingEntry { at, message }: &RecordingEntry) {
        let number = |value| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        self.ready.extend_from_slice(&number(at.as_millis()));
        self.ready.extend_from_slice(&number(message.len() as u128));
        self.ready.extend_from_slice(message);
    }

    /// Writes what is ready. Blocks.
    fn write(&mut self, file: &mut Option<File>) -> Result<(), RecordingEnd> {
        if self.ready.is_empty() {
            return Ok(());
        }
        if self.folder.bytes_max < self.bytes.saturating_add(self.ready.len() as u64) {
            return Err(RecordingEnd::Full("it has reached its largest size".to_owned()));
        }
        let written = self.try_write(file);
        written.map_err(|error| {
            RecordingEnd::Fault(match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    "the gateway's disk is full".to_owned()
                }
                _ => {
                    warn!(file = %self.path.display(), %error, "A recording cannot be written");
                    "the gateway's disk does not take it".to_owned()
                }
            })
        })
    }

    fn try_write(&mut self, file: &mut Option<File>) -> io::Result<()> {
        let open = match file {
            Some(open) => open,
            None => {
                if let Some(folder) = self.path.parent() {
                    make_folder(folder, 0o700)?;
                }
                // First what it is about: who finds one alone knows whose it was.
                self.describe()?;
                let mut options = OpenOptions::new();
                let new = options.write(true).create_new(true).mode(0o600).open(&self.path)?;
                self.made = true;
                file.insert(new)
            }
        };
        let free = rustix::fs::fstatvfs(&*open)?;
        if free.f_bavail.saturating_mul(free.f_frsize) < FREE_BYTES_MIN {
            return Err(ErrorKind::StorageFull.into());
        }
        open.write_all(&self.ready)?;
        self.bytes += self.ready.len() as u64;
        metrics::counter!("vidi_gateway_recorded_bytes_total").increment(self.ready.len() as u64);
        self.ready.clear();
        Ok(())
    }

    /// Writes down what it is about. Blocks.
    fn describe(&self) -> io::Result<()> {
        describe(&self.path.with_extension("json"), &self.about)
    }

    /// Writes down its end. Blocks.
    fn finish(mut self, reason: String) {
        if self.bytes == 0 {
            // Of what could not be begun nothing is left; most often there is nothing.
            drop(fs::remove_file(self.path.with_extension("json")));
            if self.made {
                drop(fs::remove_file(&self.path));
            }
            return;
        }
        self.about.end = Some(rfc3339(self.folder.clock.now_ms()));
        self.about.bytes = Some(self.bytes);
        self.about.reason = reason;
        if let Err(error) = self.describe() {
            warn!(file = %self.path.display(), %error, "A recording's end cannot be written down");
        }
    }
}

fn rfc3339(ms: i64) -> String {
    let nanos = i32::try_from(ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: ms.div_euclid(1_000), nanos }.to_string()
}

/// When a recording with this name began, ms since the epoch; none for what is no such name.
fn start_of(name: &str) -> Option<i64> {
    const UUID_CHARS: usize = 36;
    let (session, start) = name.split_at_checked(UUID_CHARS)?;
    let plain = |letter: char| letter.is_ascii_hexdigit() || letter == '-';
    let start = start.strip_prefix('-').filter(|start| start.len() <= 15)?;
    let digits = !start.is_empty() && start.bytes().all(|byte| byte.is_ascii_digit());
    (digits && session.chars().all(plain)).then(|| start.parse().ok()).flatten()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

/// The name of the recording to which a file belongs, also one of which only a part was written.
fn recording_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix('.').unwrap_or(&name);
    name.split('.').next().unwrap_or_default().to_owned()
}

fn describe(json: &Path, about: &About) -> io::Result<()> {
    write_atomically(json, &serde_json::to_vec(about)?, 0o600)
}

fn read_description(json: &Path) -> Option<About> {
    let is_small = fs::metadata(json).is_ok_and(|about| about.len() <= ABOUT_BYTES_MAX);
    let text = is_small.then(|| fs::read(json).ok())??;
    serde_json::from_slice(&text).ok()
}

/// What the file beside a recording says; its length is that of the recording now.
fn read_about(path: &Path) -> Option<About> {
    // One whose description is lost is listed by its name.
    let mut about = read_description(&path.with_extension("json")).unwrap_or_default();
    about.name = path.file_stem()?.to_string_lossy().into_owned();
    about.bytes = Some(fs::metadata(path).ok()?.len());
    Some(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "0198c1a2-0000-7000-8000-000000000001";
    const START_MS: i64 = 1_700_000_000_123;

    fn folder(config: &RecordingConfig) -> (tempfile::TempDir, KeptRecordings) {
        let root = tempfile::tempdir().unwrap();
        let kept = open(&root, "edge", config);
        (root, kept)
    }

    fn open(root: &tempfile::TempDir, gateway: &str, config: &RecordingConfig) -> KeptRecordings {
        let config = RecordingConfig { folder: root.path().to_owned(), ..config.clone() };
        let (clock, own) = (Clock::manual(START_MS), (Path::new("/nowhere"), gateway.to_owned()));
        RecordingFolder::open(&Tasks::new(), &clock, own, &config).unwrap()
    }

    fn about() -> RecordingAbout {
        RecordingAbout {
            session: format!("tenants/t/sessions/{SESSION}"),
            desktop: "tenants/t/desktops/d".to_owned(),
            user: "tenants/t/users/ana".to_owned(),
            user_display_name: "Ana".to_owned(),
        }
    }

    fn entry(ms: u64, message: &'static [u8]) -> RecordingEntry {
        RecordingEntry { at: Duration::from_millis(ms), message: message.into() }
    }

    /// Waits until the description has the end of the recording.
    async fn ended(kept: &KeptRecordings) -> About {
        const TRIES_MAX: usize = 1_000;
        for _ in 0..TRIES_MAX {
            let listed = kept.list(&"t".parse().unwrap());
            if let Some(about) = listed.into_iter().find(|about| about.end.is_some()) {
                return about;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the recording did not end")
    }

    #[tokio::test]
    async fn what_is_recorded_is_in_the_file_with_its_times_and_only_its_tenant_finds_it() {
        use std::io::Read;
        use std::os::unix::fs::PermissionsExt;
        let (root, kept) = folder(&RecordingConfig::default());
        let pipe = kept.begin(about());
        pipe.entries.send(entry(0, b"one")).await.unwrap();
        pipe.entries.send(entry(70_000, b"second")).await.unwrap();
        drop(pipe);
        let about = ended(&kept).await;
        assert_eq!(about.name, format!("{SESSION}-{START_MS}"));
        assert_eq!(about.start, "2023-11-14T22:13:20.123Z");
        assert_eq!((about.user.as_str(), about.reason.as_str()), ("tenants/t/users/ana", ""));
        let (mut file, length) = kept.read(&"t".parse().unwrap(), &about.name).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let expected = [
            b"VIDIREC1".as_slice(),
            &[0, 0, 0, 0, 3, 0, 0, 0],
            b"one",
            &70_000_u32.to_le_bytes(),
            &[6, 0, 0, 0],
            b"second",
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(Some(length), about.bytes);
        let file = root.path().join("t").join(format!("{}.vidirec", about.name));
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(kept.list(&"other".parse().unwrap()).is_empty());
        assert!(kept.read(&"other".parse().unwrap(), &about.name).is_none());
        for name in ["", "..", "../t", &format!("{SESSION}-"), &format!("{SESSION}-1/..")] {
            assert!(kept.read(&"t".parse().unwrap(), name).is_none(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_recording_ends_at_its_limits_and_says_why() {
        let (_root, kept) = folder(&RecordingConfig { hours_max: 1, ..RecordingConfig::default() });
        let pipe = kept.begin(about());
        pipe.entries.send(entry(0, b"one")).await.unwrap();
        pipe.entries.send(entry(3_600_001, b"late")).await.unwrap();
        let full = |text: &str| RecordingEnd::Full(text.to_owned());
        assert_eq!(pipe.ended.await.unwrap(), full("it has reached its longest time"));
        let (_root, kept) = folder(&RecordingConfig { mib_max: 1, ..RecordingConfig::default() });
        let pipe = kept.begin(about());
        let big: &'static [u8] = vec![7; 300 << 10].leak();
        while pipe.entries.send(entry(0, big)).await.is_ok() {}
        assert_eq!(pipe.ended.await.unwrap(), full("it has reached its largest size"));
        let about = ended(&kept).await;
        assert!(about.bytes.is_some_and(|bytes| 0 < bytes && bytes <= 1 << 20));
        assert_eq!(about.reason, "it has reached its largest size");
    }

    #[tokio::test]
    async fn old_recordings_are_removed_with_what_says_what_they_are_about() {
        let (root, kept) = folder(&RecordingConfig::default());
        let tenant = root.path().join("t");
        fs::create_dir(&tenant).unwrap();
        let file =
            |start_ms: i64, extension| tenant.join(format!("{SESSION}-{start_ms}.{extension}"));
        for (start_ms, extension) in [(5, "vidirec"), (5, "json"), (50, "vidirec"), (50, "json")] {
            fs::write(file(start_ms, extension), b"{}").unwrap();
        }
        fs::write(tenant.join("notes.txt"), b"mine").unwrap();
        // What a gateway left that fell while it wrote a description.
        let part = tenant.join(format!(".{SESSION}-5.json.0123abc"));
        fs::write(&part, b"{").unwrap();
        kept.0.sweep(50);
        assert!(!file(5, "vidirec").exists() && !file(5, "json").exists() && !part.exists());
        assert!(file(50, "vidirec").exists() && file(50, "json").exists());
        assert!(tenant.join("notes.txt").exists(), "what is no recording is left alone");
    }

    #[tokio::test]
    async fn gateways_that_share_a_folder_list_each_others_recordings_and_end_only_their_own() {
        let (root, kept) = folder(&RecordingConfig::default());
        let tenant = root.path().join("t");
        fs::create_dir(&tenant).unwrap();
        let left = |start_ms: i64, gateway: &str, has_file: bool| {
            let file = tenant.join(format!("{SESSION}-{start_ms}.vidirec"));
            let about = About { gateway: gateway.to_owned(), ..About::default() };
            describe(&file.with_extension("json"), &about).unwrap();
            if has_file {
                fs::write(&file, b"VIDIREC1").unwrap();
            }
            file
        };
        let (own, others) = (left(START_MS, "edge", true), left(START_MS + 1, "other", true));
        let unborn = left(START_MS + 2, "edge", false);
        let again = open(&root, "edge", &RecordingConfig::default());
        let about = ended(&again).await;
        assert_eq!((about.reason.as_str(), about.bytes), ("the gateway fell", Some(8)));
        assert_eq!(about.name, own.file_stem().unwrap().to_string_lossy());
        let other = read_about(&others).unwrap();
        assert_eq!((other.end, other.gateway.as_str()), (None, "other"), "it may go on");
        assert!(!unborn.with_extension("json").exists(), "it never began");
        assert_eq!(kept.list(&"t".parse().unwrap()).len(), 2);
    }

    #[tokio::test]
    async fn of_a_recording_that_cannot_be_begun_nothing_is_left() {
        let (root, kept) = folder(&RecordingConfig::default());
        let tenant = root.path().join("t");
        fs::create_dir(&tenant).unwrap();
        // Its place is taken by what is no file.
        let taken = tenant.join(format!("{SESSION}-{START_MS}.vidirec"));
        fs::create_dir(&taken).unwrap();
        let pipe = kept.begin(about());
        pipe.entries.send(entry(0, b"one")).await.unwrap();
        assert!(matches!(pipe.ended.await.unwrap(), RecordingEnd::Fault(_)));
        assert!(!taken.with_extension("json").exists());
    }

    #[test]
    fn a_shared_folder_that_is_not_mounted_is_told_and_not_made() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("recordings");
        let config = RecordingConfig { folder: folder.clone(), ..RecordingConfig::default() };
        let own = (root.path(), "edge".to_owned());
        let told = RecordingFolder::open(&Tasks::new(), &Clock::manual(0), own, &config);
        assert!(told.unwrap_err().to_string().contains("mount it") && !folder.exists());
    }
}
