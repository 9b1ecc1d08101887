//! Images and overlays in one folder of this host.
//!
//! ```text
//!  <folder>/                  0711: QEMU's own user passes, nobody lists
//!    <sha256>                 0444: a whole, verified image file
//!    partial-<sha256>         0600: what was fetched so far
//!    desktop-<id>.qcow2       0660: the overlay of a desktop
//!    new-<id>.qcow2           an overlay being made; never used
//! ```

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use vidi_kit::ids::DesktopId;

use crate::adapters::qcow2;
use crate::error::VolumesError;
use crate::model::ImageDigest;
use crate::ports::Volumes;

/// `qemu-img` takes tens of milliseconds; a dead disk must not hold a desktop's task for ever.
const TOOL_SECS_MAX: Duration = Duration::from_secs(60);
/// Bytes read at a time while a digest is made.
const DIGEST_CHUNK_BYTES: usize = 1 << 20;
/// Entries of the folder that are looked at: a host has hundreds of desktops, not a million files.
const ENTRIES_MAX: usize = 100_000;
/// libvirt gives an overlay to QEMU's user and group; an agent that is not root is in that group, and
/// has to read what a crash of the host left with that owner.
const OVERLAY_MODE: u32 = 0o660;

/// Images and overlays in a folder.
#[derive(Clone, Debug)]
pub struct LocalVolumes {
    folder: PathBuf,
}

impl LocalVolumes {
    /// Uses `folder` with mode 0711. It and the folders above it that are not there are made so,
    /// whatever the umask is: QEMU's own user passes through all of them.
    pub fn open(folder: PathBuf) -> Result<Self, VolumesError> {
        let missing: Vec<&Path> =
            folder.ancestors().skip(1).take_while(|above| !above.exists()).collect();
        fs::create_dir_all(&folder)
            .and_then(|()| {
                std::iter::once(folder.as_path())
                    .chain(missing)
                    .filter(|made| !made.as_os_str().is_empty())
                    .try_for_each(|made| fs::set_permissions(made, Permissions::from_mode(0o711)))
            })
            .map_err(|error| failed("make the folder", &folder, error))?;
        Ok(Self { folder })
    }

    fn partial_path(&self, digest: &ImageDigest) -> PathBuf {
        self.folder.join(format!("partial-{digest}"))
    }

    /// Runs `act` where blocking is allowed.
    async fn blocking<T, F>(&self, act: F) -> Result<T, VolumesError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, VolumesError> + Send + 'static,
    {
        let path = self.folder.clone();
        tokio::task::spawn_blocking(act).await.unwrap_or_else(|stopped| {
            Err(VolumesError::File { what: "use", path, source: io::Error::other(stopped) })
        })
    }
}

#[async_trait]
impl Volumes for LocalVolumes {
    async fn image_present(&self, digest: &ImageDigest) -> Result<bool, VolumesError> {
        let path = self.image_path(digest);
        self.blocking(move || path.try_exists().map_err(|error| failed("look at", &path, error)))
            .await
    }

    fn image_path(&self, digest: &ImageDigest) -> PathBuf {
        self.folder.join(digest.as_str())
    }

    fn overlay_path(&self, desktop: DesktopId) -> PathBuf {
        self.folder.join(format!("desktop-{desktop}.qcow2"))
    }

    async fn partial_bytes(&self, digest: &ImageDigest) -> Result<u64, VolumesError> {
        let path = self.partial_path(digest);
        self.blocking(move || match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(failed("look at", &path, error)),
        })
        .await
    }

    async fn append_partial(
        &self,
        digest: &ImageDigest,
        offset: u64,
        chunk: Bytes,
    ) -> Result<u64, VolumesError> {
        let path = self.partial_path(digest);
        self.blocking(move || append(&path, offset, &chunk)).await
    }

    async fn finish_image(&self, digest: &ImageDigest) -> Result<PathBuf, VolumesError> {
        let (partial, image) = (self.partial_path(digest), self.image_path(digest));
        let (expected, folder) = (digest.clone(), self.folder.clone());
        self.blocking(move || finish(&partial, &image, &folder, &expected)).await
    }

    async fn ensure_overlay(
        &self,
        desktop: DesktopId,
        base: &ImageDigest,
    ) -> Result<PathBuf, VolumesError> {
        let (overlay, base_path) = (self.overlay_path(desktop), self.image_path(base));
        let (base_name, below) = (base.clone(), base_path.clone());
        let looked_at = overlay.clone();
        let there = self.blocking(move || check_chain(&looked_at, &below, &base_name)).await?;
        if there {
            return Ok(overlay);
        }
        check_with_tool(&base_path, base).await?;
        let new = self.folder.join(format!("new-{desktop}.qcow2"));
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
        command.arg(&base_path).arg(&new);
        run_tool("create", &new, command).await?;
        let (folder, made) = (self.folder.clone(), overlay.clone());
        self.blocking(move || {
            let placed = OpenOptions::new()
                .read(true)
                .open(&new)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(OVERLAY_MODE)))
                .and_then(|()| fs::rename(&new, &made))
                .and_then(|()| File::open(&folder)?.sync_all());
            placed.map_err(|error| failed("put in place", &made, error))
        })
        .await?;
        Ok(overlay)
    }

    async fn remove_overlay(&self, desktop: DesktopId) -> Result<(), VolumesError> {
        let path = self.overlay_path(desktop);
        self.blocking(move || match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &path, error)),
        })
        .await
    }

    async fn list_overlays(&self) -> Result<Vec<DesktopId>, VolumesError> {
        let folder = self.folder.clone();
        self.blocking(move || {
            let entries = fs::read_dir(&folder).map_err(|error| failed("list", &folder, error))?;
            let mut desktops: Vec<DesktopId> = entries
                .take(ENTRIES_MAX)
                .filter_map(|entry| {
                    let name = entry.ok()?.file_name();
                    let id = name.to_str()?.strip_prefix("desktop-")?.strip_suffix(".qcow2")?;
                    id.parse().ok()
                })
                .collect();
            desktops.sort_unstable();
            Ok(desktops)
        })
        .await
    }

    async fn free_mib(&self) -> Result<u64, VolumesError> {
        let folder = self.folder.clone();
        self.blocking(move || {
            let space = rustix::fs::statvfs(&folder)
                .map_err(|error| failed("ask for the space in", &folder, error.into()))?;
            Ok(space.f_bavail.saturating_mul(space.f_frsize) >> 20)
        })
        .await
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> VolumesError {
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let folder = if path.is_dir() { Some(path) } else { path.parent() };
        return VolumesError::NoSpace(folder.unwrap_or(path).to_owned());
    }
    VolumesError::File { what, path: path.to_owned(), source }
}

fn append(path: &Path, offset: u64, chunk: &[u8]) -> Result<u64, VolumesError> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed("open", path, error))?;
    let have = file.seek(SeekFrom::End(0)).map_err(|error| failed("read", path, error))?;
    if have != offset {
        return Err(VolumesError::WrongOffset { have, given: offset });
    }
    if let Err(error) = file.write_all(chunk) {
        // A part of a chunk would make the next offset wrong; the first error is what matters.
        drop(file.set_len(offset));
        return Err(failed("write", path, error));
    }
    Ok(offset.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX)))
}

fn finish(
    partial: &Path,
    image: &Path,
    folder: &Path,
    expected: &ImageDigest,
) -> Result<PathBuf, VolumesError> {
    let file = match File::open(partial) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && image.exists() => {
            return Ok(image.to_owned());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(VolumesError::NoImage(expected.to_string()));
        }
        Err(error) => return Err(failed("open", partial, error)),
    };
    let found = digest_of(&file).map_err(|error| failed("read", partial, error))?;
    if found != *expected {
        // Best effort: a file that stays is refused again.
        drop(fs::remove_file(partial));
        return Err(VolumesError::WrongDigest {
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }
    file.sync_all()
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o444)))
        .and_then(|()| fs::rename(partial, image))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| failed("put in place", image, error))?;
    Ok(image.to_owned())
}

fn digest_of(mut file: &File) -> io::Result<ImageDigest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; DIGEST_CHUNK_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(ImageDigest::from_bytes(&hasher.finalize().into()));
        };
        hasher.update(read);
    }
}

/// Whether the overlay is there and lies on `base`; an error when either cannot be used.
fn check_chain(overlay: &Path, base: &Path, digest: &ImageDigest) -> Result<bool, VolumesError> {
    let bad = |text: String| VolumesError::BadImage { digest: digest.to_string(), text };
    let header = match qcow2::read_header(base) {
        Ok(header) => header.map_err(bad)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(VolumesError::NoImage(digest.to_string()));
        }
        Err(error) => return Err(failed("read", base, error)),
    };
    if let Some(backing) = header.backing {
        return Err(bad(format!("it has a backing file, {backing:?}")));
    }
    let refused = |text: String| VolumesError::File {
        what: "use the overlay",
        path: overlay.to_owned(),
        source: io::Error::other(text),
    };
    let overlay_header = match qcow2::read_header(overlay) {
        Ok(header) => header.map_err(refused)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("read", overlay, error)),
    };
    if overlay_header.backing.as_deref() != base.to_str() {
        return Err(refused(format!(
            "it lies on {:?}, not on {}; remove it to start from the new image",
            overlay_header.backing,
            base.display()
        )));
    }
    Ok(true)
}

/// Lets `qemu-img` open the image, which finds tables that point nowhere.
async fn check_with_tool(base: &Path, digest: &ImageDigest) -> Result<(), VolumesError> {
    let mut command = Command::new("qemu-img");
    command.args(["info", "--force-share", "-f", "qcow2", "--output=json"]).arg(base);
    match run_tool("info", base, command).await {
        Err(VolumesError::Tool { text, .. }) if !text.starts_with("cannot be run") => {
            Err(VolumesError::BadImage { digest: digest.to_string(), text })
        }
        other => other,
    }
}

async fn run_tool(
    what: &'static str,
    path: &Path,
    mut command: Command,
) -> Result<(), VolumesError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(TOOL_SECS_MAX, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let text = format!("cannot be run: {error}; install qemu-utils");
            return Err(VolumesError::Tool { what, text });
        }
        Err(_elapsed) => {
            let text = format!("did not end within {} s", TOOL_SECS_MAX.as_secs());
            return Err(VolumesError::Tool { what, text });
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if text.contains("No space left on device") {
        return Err(failed("write", path, io::ErrorKind::StorageFull.into()));
    }
    Err(VolumesError::Tool { what, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> (tempfile::TempDir, LocalVolumes) {
        let folder = tempfile::tempdir().unwrap();
        let volumes = LocalVolumes::open(folder.path().join("images")).unwrap();
        (folder, volumes)
    }

    fn digest(bytes: &[u8]) -> ImageDigest {
        ImageDigest::from_bytes(&Sha256::digest(bytes).into())
    }

    async fn put(volumes: &LocalVolumes, bytes: Vec<u8>) -> ImageDigest {
        let digest = digest(&bytes);
        volumes.append_partial(&digest, 0, bytes.into()).await.unwrap();
        volumes.finish_image(&digest).await.unwrap();
        digest
    }

    async fn qcow2_image(volumes: &LocalVolumes, arguments: &[&str]) -> ImageDigest {
        let path = volumes.folder.join("scratch");
        let status = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args(arguments)
            .arg(&path)
            .arg("8M")
            .status()
            .await
            .unwrap();
        assert!(status.success());
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        put(volumes, bytes).await
    }

    #[tokio::test]
    async fn an_image_arrives_in_chunks_goes_on_where_it_was_and_is_read_only() {
        let (_folder, volumes) = volumes();
        let digest = digest(b"hello world");
        assert_eq!(volumes.partial_bytes(&digest).await.unwrap(), 0);
        volumes.append_partial(&digest, 0, Bytes::from_static(b"hello ")).await.unwrap();
        assert_eq!(volumes.partial_bytes(&digest).await.unwrap(), 6);
        let again = volumes.append_partial(&digest, 0, Bytes::from_static(b"hello ")).await;
        assert!(matches!(again, Err(VolumesError::WrongOffset { have: 6, given: 0 })));
        volumes.append_partial(&digest, 6, Bytes::from_static(b"world")).await.unwrap();
        assert!(!volumes.image_present(&digest).await.unwrap());
        let path = volumes.finish_image(&digest).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        assert!(volumes.image_present(&digest).await.unwrap());
        assert_eq!(volumes.finish_image(&digest).await.unwrap(), path);
        assert!(0 < volumes.free_mib().await.unwrap());
    }

    #[tokio::test]
    async fn an_image_with_wrong_bytes_never_appears_and_is_fetched_from_the_start() {
        let (_folder, volumes) = volumes();
        let digest = digest(b"right");
        volumes.append_partial(&digest, 0, Bytes::from_static(b"wrong")).await.unwrap();
        let result = volumes.finish_image(&digest).await;
        assert!(matches!(result, Err(VolumesError::WrongDigest { .. })), "{result:?}");
        assert!(!volumes.image_present(&digest).await.unwrap());
        assert_eq!(volumes.partial_bytes(&digest).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_overlay_is_made_once_listed_and_removed() {
        let (_folder, volumes) = volumes();
        let base = qcow2_image(&volumes, &[]).await;
        let desktop = DesktopId::generate();
        let overlay = volumes.ensure_overlay(desktop, &base).await.unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let first = inode(&overlay);
        assert_eq!(inode(&volumes.ensure_overlay(desktop, &base).await.unwrap()), first);
        assert_eq!(volumes.list_overlays().await.unwrap(), [desktop]);
        let other = qcow2_image(&volumes, &["-o", "cluster_size=128k"]).await;
        assert!(volumes.ensure_overlay(desktop, &other).await.is_err());
        volumes.remove_overlay(desktop).await.unwrap();
        volumes.remove_overlay(desktop).await.unwrap();
        assert_eq!(volumes.list_overlays().await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_is_missing_damaged_or_reaches_other_files_is_no_base() {
        let (folder, volumes) = volumes();
        let desktop = DesktopId::generate();
        let missing = volumes.ensure_overlay(desktop, &digest(b"missing")).await;
        assert!(matches!(missing, Err(VolumesError::NoImage(_))), "{missing:?}");
        let text = put(&volumes, b"not a disk".to_vec()).await;
        let below = folder.path().join("below.raw");
        fs::write(&below, [0; 512]).unwrap();
        let below = below.to_str().unwrap().to_owned();
        let chained = qcow2_image(&volumes, &["-F", "raw", "-b", &below]).await;
        let good = qcow2_image(&volumes, &[]).await;
        let mut bytes = fs::read(volumes.image_path(&good)).unwrap();
        // The number of entries of the level 1 table, far beyond what the disk can have.
        bytes[36..40].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
        let damaged = put(&volumes, bytes).await;
        for base in [text, chained, damaged] {
            let result = volumes.ensure_overlay(desktop, &base).await;
            assert!(matches!(result, Err(VolumesError::BadImage { .. })), "{result:?}");
        }
        assert_eq!(volumes.list_overlays().await.unwrap(), []);
    }
}
