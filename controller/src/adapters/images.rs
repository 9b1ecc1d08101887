//! The templates' files in one folder, each named by its SHA-256; what is not whole is not there.
//!
//! ```text
//!  chunks ─▶ .incoming-<uuid> ─ sync ─ digest right? ─▶ rename to <sha256> ─ sync the folder
//! ```

use std::collections::BTreeSet;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncRead, AsyncSeekExt, AsyncWriteExt};
use tracing::warn;
use uuid::Uuid;

use crate::ports::{ImageError, ImageWriter, Images};

const INCOMING_PREFIX: &str = ".incoming-";

/// See the module.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    folder: PathBuf,
}

impl ImageFolder {
    /// Over a folder, which is made when it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        vidi_kit::files::make_folder(folder, 0o700)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Only names that are a digest lead to a file: nothing else of the disk can be reached.
    fn path(&self, sha256: &str) -> Result<PathBuf, ImageError> {
        let plain = sha256.len() == 64
            && sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if plain {
            Ok(self.folder.join(sha256))
        } else {
            Err(ImageError::NotFound(sha256.chars().take(64).collect()))
        }
    }
}

#[async_trait]
impl Images for ImageFolder {
    async fn has(&self, sha256: &str, size_bytes: u64) -> bool {
        let Ok(path) = self.path(sha256) else { return false };
        fs::metadata(path).await.is_ok_and(|found| found.is_file() && found.len() == size_bytes)
    }

    async fn receive(
        &self,
        sha256: &str,
        size_bytes: u64,
    ) -> Result<Box<dyn ImageWriter>, ImageError> {
        let target = self.path(sha256)?;
        let path = self.folder.join(format!("{INCOMING_PREFIX}{}", Uuid::new_v4().simple()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await
            .map_err(failed)?;
        Ok(Box::new(Incoming {
            file,
            path: Temporary(path),
            target,
            sha256: sha256.to_owned(),
            size_bytes,
            written: 0,
            hash: Sha256::new(),
        }))
    }

    async fn read(
        &self,
        sha256: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, ImageError> {
        let mut file = match File::open(self.path(sha256)?).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::NotFound(sha256.to_owned()));
            }
            Err(error) => return Err(failed(error)),
        };
        file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
        Ok(Box::new(file))
    }

    async fn keep_only(&self, sha256s: &BTreeSet<String>) -> Result<usize, ImageError> {
        let mut removed = 0;
        let mut entries = fs::read_dir(&self.folder).await.map_err(failed)?;
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with(INCOMING_PREFIX) || self.path(&name).is_ok();
            if ours && !sha256s.contains(&name) {
                fs::remove_file(entry.path()).await.map_err(failed)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

struct Incoming {
    file: File,
    path: Temporary,
    target: PathBuf,
    sha256: String,
    size_bytes: u64,
    written: u64,
    hash: Sha256,
}

#[async_trait]
impl ImageWriter for Incoming {
    async fn write(&mut self, chunk: Bytes) -> Result<(), ImageError> {
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        let found = self.written.saturating_add(length);
        if self.size_bytes < found {
            return Err(ImageError::SizeMismatch { expected: self.size_bytes, found });
        }
        self.hash.update(&chunk);
        self.file.write_all(&chunk).await.map_err(failed)?;
        self.written = found;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), ImageError> {
        if self.written != self.size_bytes {
            let (expected, found) = (self.size_bytes, self.written);
            return Err(ImageError::SizeMismatch { expected, found });
        }
        let digest = self.hash.finalize_reset();
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if found != self.sha256 {
            return Err(ImageError::DigestMismatch { expected: self.sha256.clone(), found });
        }
        self.file.flush().await.map_err(failed)?;
        self.file.sync_all().await.map_err(failed)?;
        fs::rename(&self.path.0, &self.target).await.map_err(failed)?;
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        File::open(folder).await.map_err(failed)?.sync_all().await.map_err(failed)
    }
}

/// A file that goes unless it was renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, "An unfinished upload stays until the next start");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn failed(error: io::Error) -> ImageError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::DiskFull,
        _ => ImageError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Of "vidi".
    fn digest(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[tokio::test]
    async fn a_file_is_kept_under_its_digest_and_read_from_an_offset() {
        let folder = tempfile::tempdir().unwrap();
        let images = ImageFolder::open(folder.path()).unwrap();
        let name = digest(b"vidi image");
        let mut writer = images.receive(&name, 10).await.unwrap();
        writer.write(Bytes::from_static(b"vidi ")).await.unwrap();
        assert!(!images.has(&name, 10).await, "not visible before its end");
        writer.write(Bytes::from_static(b"image")).await.unwrap();
        writer.finish().await.unwrap();
        assert!(images.has(&name, 10).await);
        let mut text = String::new();
        images.read(&name, 5).await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "image");
        assert_eq!(files(folder.path()), 1);
    }

    #[tokio::test]
    async fn a_wrong_or_cut_upload_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let images = ImageFolder::open(folder.path()).unwrap();
        let name = digest(b"vidi");
        let mut writer = images.receive(&name, 4).await.unwrap();
        writer.write(Bytes::from_static(b"VIDI")).await.unwrap();
        let wrong = writer.finish().await;
        assert!(matches!(wrong, Err(ImageError::DigestMismatch { .. })), "{wrong:?}");
        let mut writer = images.receive(&name, 4).await.unwrap();
        let long = writer.write(Bytes::from_static(b"vidi!")).await;
        assert!(matches!(long, Err(ImageError::SizeMismatch { found: 5, .. })), "{long:?}");
        drop(writer);
        let mut writer = images.receive(&name, 4).await.unwrap();
        writer.write(Bytes::from_static(b"vi")).await.unwrap();
        let short = writer.finish().await;
        assert!(matches!(short, Err(ImageError::SizeMismatch { found: 2, .. })), "{short:?}");
        assert_eq!(files(folder.path()), 0);
    }

    #[tokio::test]
    async fn only_digests_are_names_and_only_known_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let images = ImageFolder::open(folder.path()).unwrap();
        for wrong in ["../../etc/passwd", "", "ABC", &"g".repeat(64)] {
            assert!(images.read(wrong, 0).await.is_err(), "{wrong}");
        }
        for name in [digest(b"a"), digest(b"b"), ".incoming-1".to_owned(), "notes".to_owned()] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        assert_eq!(images.keep_only(&BTreeSet::from([digest(b"a")])).await.unwrap(), 2);
        assert!(folder.path().join(digest(b"a")).exists());
        assert!(folder.path().join("notes").exists(), "a stranger's file is left alone");
    }
}
