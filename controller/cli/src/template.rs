//! `template.toml`, and the upload of what it names.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vidi_proto::v1::template_service_client::TemplateServiceClient;
use vidi_proto::v1::upload_template_request::Part;
use vidi_proto::v1::{
    GuestSettings, ImageFile, Readiness, Template, TemplateManifest, UploadTemplateHeader,
    UploadTemplateRequest, Video,
};

use crate::connect::Api;

/// Bytes of a file in one message; the contract allows 1 MiB.
const CHUNK_BYTES: usize = 512 * 1024;
/// Chunks that are read ahead of the network.
const CHUNKS_AHEAD: usize = 4;
/// Largest `template.toml`, in bytes.
const TOML_BYTES_MAX: u64 = 64 * 1024;

/// `template.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateToml {
    name: String,
    disk: DiskToml,
    boot: Option<BootToml>,
    guest: GuestToml,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiskToml {
    file: String,
    sha256: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BootToml {
    kernel: String,
    kernel_sha256: String,
    initrd: String,
    initrd_sha256: String,
    #[serde(default)]
    cmdline: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestToml {
    memory_mib: u32,
    vcpus: u32,
    video: VideoToml,
    ready: ReadyToml,
    #[serde(default = "has_sound")]
    sound: bool,
}

/// A desktop for people has sound unless its template says otherwise.
const fn has_sound() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum VideoToml {
    Qxl,
    Vga,
    Virtio,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReadyToml {
    Helper,
    Agent,
}

/// A folder that can be uploaded.
#[derive(Debug)]
pub(crate) struct TemplateFolder {
    /// As in `template.toml`.
    pub name: String,
    manifest: TemplateManifest,
    folder: PathBuf,
}

impl TemplateFolder {
    /// Reads `template.toml` and looks for its files.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("template.toml");
        let cannot = || format!("cannot read {}", path.display());
        if TOML_BYTES_MAX < std::fs::metadata(&path).with_context(cannot)?.len() {
            bail!("{} is larger than {TOML_BYTES_MAX} bytes", path.display());
        }
        let text = std::fs::read_to_string(&path).with_context(cannot)?;
        let toml: TemplateToml = toml::from_str(&text).map_err(|error| {
            anyhow::anyhow!("{} is not valid: {}", path.display(), error.to_string().trim_end())
        })?;
        let boot = toml.boot.as_ref();
        let manifest = TemplateManifest {
            disk: Some(image(folder, &toml.disk.file, &toml.disk.sha256)?),
            kernel: boot.map(|it| image(folder, &it.kernel, &it.kernel_sha256)).transpose()?,
            initrd: boot.map(|it| image(folder, &it.initrd, &it.initrd_sha256)).transpose()?,
            cmdline: boot.map(|it| it.cmdline.clone()).unwrap_or_default(),
            guest: Some(GuestSettings {
                memory_mib: toml.guest.memory_mib,
                vcpus: toml.guest.vcpus,
                video: match toml.guest.video {
                    VideoToml::Qxl => Video::Qxl,
                    VideoToml::Vga => Video::Vga,
                    VideoToml::Virtio => Video::Virtio,
                }
                .into(),
                readiness: match toml.guest.ready {
                    ReadyToml::Helper => Readiness::Helper,
                    ReadyToml::Agent => Readiness::Agent,
                }
                .into(),
                sound: toml.guest.sound,
            }),
        };
        Ok(Self { name: toml.name, manifest, folder: folder.to_owned() })
    }

    /// Uploads it as a version of a template, to be published at once unless it is a draft. Each file is hashed on its way; one that is
    /// not what `template.toml` says ends the upload before its last chunk.
    pub(crate) async fn upload(
        &self,
        api: Api,
        parent: String,
        (template_id, display_name, draft): (String, String, bool),
    ) -> anyhow::Result<Template> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let manifest = Some(self.manifest.clone());
        let header = UploadTemplateHeader { parent, template_id, display_name, manifest, draft };
        let mut client = TemplateServiceClient::new(api);
        let uploading = client.upload_template(ReceiverStream::new(receiver));
        let reading = self.send(header, sender);
        tokio::pin!(uploading, reading);
        // Cancel-safe: a file that is not what it should be ends the command, and with it the call.
        tokio::select! {
            biased;
            read = &mut reading => read?,
            answer = &mut uploading => return Ok(answer?.into_inner()),
        }
        Ok(uploading.await?.into_inner())
    }

    async fn send(
        &self,
        header: UploadTemplateHeader,
        sender: mpsc::Sender<UploadTemplateRequest>,
    ) -> anyhow::Result<()> {
        // The call has ended when nobody receives any more: its answer says why.
        if sender.send(message(Part::Header(header))).await.is_err() {
            return std::future::pending().await;
        }
        let files = [&self.manifest.disk, &self.manifest.kernel, &self.manifest.initrd];
        for file in files.into_iter().flatten() {
            let mut source = Source::open(&self.folder, file).await?;
            while let Some(chunk) = source.next().await? {
                if sender.send(message(Part::Chunk(chunk))).await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
        Ok(())
    }
}

fn message(part: Part) -> UploadTemplateRequest {
    UploadTemplateRequest { part: Some(part) }
}

fn image(folder: &Path, file: &str, sha256: &str) -> anyhow::Result<ImageFile> {
    if file.is_empty() || file.contains('/') || file == ".." {
        bail!("\"{file}\" in template.toml is not a plain file name");
    }
    let path = folder.join(file);
    let size_bytes =
        std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
    Ok(ImageFile { file: file.to_owned(), sha256: sha256.to_lowercase(), size_bytes })
}

/// A file that is read in chunks; the last one only comes when the digest is right.
struct Source {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    left: u64,
    sha256: String,
}

impl Source {
    async fn open(folder: &Path, image: &ImageFile) -> anyhow::Result<Self> {
        let path = folder.join(&image.file);
        let file =
            File::open(&path).await.with_context(|| format!("cannot read {}", path.display()))?;
        let sha256 = image.sha256.clone();
        Ok(Self { path, file, hasher: Sha256::new(), left: image.size_bytes, sha256 })
    }

    async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let mut chunk = vec![0; size];
        self.file
            .read_exact(&mut chunk)
            .await
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        self.hasher.update(&chunk);
        self.left -= u64::try_from(size)?;
        if self.left == 0 {
            let digest = std::mem::take(&mut self.hasher).finalize();
            let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            if found != self.sha256 {
                bail!(
                    "{} has the sha256 {found}, template.toml says {}: build the template again",
                    self.path.display(),
                    self.sha256
                );
            }
        }
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
name = "Micro"
[disk]
file = "disk.img"
sha256 = "SHA"
[boot]
kernel = "disk.img"
kernel_sha256 = "SHA"
initrd = "disk.img"
initrd_sha256 = "SHA"
cmdline = "quiet"
[guest]
memory_mib = 64
vcpus = 1
video = "virtio"
ready = "helper"
"#;

    fn folder(toml: &str, size: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let content = vec![7_u8; size];
        let sha: String =
            Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(folder.path().join("disk.img"), &content).unwrap();
        std::fs::write(folder.path().join("template.toml"), toml.replace("SHA", &sha)).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_folder_becomes_a_header_and_the_chunks_of_its_files_in_order() {
        let folder = folder(TOML, CHUNK_BYTES + 1);
        let template = TemplateFolder::open(folder.path()).unwrap();
        let (sender, mut receiver) = mpsc::channel(100);
        template.send(UploadTemplateHeader::default(), sender).await.unwrap();
        let mut sizes = Vec::new();
        while let Some(message) = receiver.recv().await {
            match message.part.unwrap() {
                Part::Header(_) => sizes.push(0),
                Part::Chunk(chunk) => sizes.push(chunk.len()),
            }
        }
        assert_eq!(sizes, [0, CHUNK_BYTES, 1, CHUNK_BYTES, 1, CHUNK_BYTES, 1]);
        let guest = template.manifest.guest.unwrap();
        assert_eq!(guest.video, i32::from(Video::Virtio));
        assert!(guest.sound, "sound is there unless it is said otherwise");
    }

    #[test]
    fn a_template_can_be_without_sound() {
        let folder = folder(&format!("{TOML}sound = false\n"), 1);
        let template = TemplateFolder::open(folder.path()).unwrap();
        assert!(!template.manifest.guest.unwrap().sound);
    }

    #[tokio::test]
    async fn a_changed_file_ends_the_upload_before_its_last_chunk() {
        let folder = folder(TOML, 10);
        std::fs::write(folder.path().join("disk.img"), b"other bytes").unwrap();
        let template = TemplateFolder::open(folder.path()).unwrap();
        let (sender, mut receiver) = mpsc::channel(100);
        let error = template.send(UploadTemplateHeader::default(), sender).await.expect_err("bent");
        assert!(error.to_string().contains("disk.img"), "{error}");
        assert!(
            receiver.recv().await.is_some_and(|first| matches!(first.part, Some(Part::Header(_))))
        );
        assert!(receiver.recv().await.is_none());
    }

    #[test]
    fn what_is_wrong_with_a_template_toml_is_named() {
        for (from, to, expected) in [
            ("vcpus = 1", "vcpu = 1", "vcpu"),
            ("\"virtio\"", "\"cirrus\"", "cirrus"),
            ("file = \"disk.img\"", "file = \"../disk.img\"", "plain file name"),
            ("file = \"disk.img\"", "file = \"none.img\"", "none.img"),
        ] {
            let folder = folder(&TOML.replace(from, to), 10);
            let error = TemplateFolder::open(folder.path()).expect_err(to);
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
