//! Templates: upload, look at, delete.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::info;
use vidi_kit::ids::{TemplateId, TenantId};
use vidi_proto::v1::template_service_server::TemplateService;
use vidi_proto::v1::{
    DeleteTemplateRequest, DeleteTemplateResponse, DeleteTemplateVersionRequest,
    DeleteTemplateVersionResponse, ErrorReason, GetTemplateRequest, ListTemplateVersionsRequest,
    ListTemplateVersionsResponse, ListTemplatesRequest, ListTemplatesResponse,
    PublishTemplateRequest, RollBackTemplateRequest, Template, TemplateManifest, TemplateVersion,
    UploadTemplateHeader, UploadTemplateRequest, upload_template_request,
};

use super::authorization::Access;
use super::names::{self, id};
use super::page::Query;
use super::status::{invalid_field, not_found, status};
use super::wire::{check_display_name, child};
use super::{Parts, rollouts, wire};
use crate::contract::{manifest_from_wire, manifest_to_wire};
use crate::model::{Change, ImageFile, Manifest, TemplateChange};
use crate::plan::expiry::images_kept;
use crate::ports::{ImageError, Images};

/// Largest disk of a template.
const DISK_BYTES_MAX: u64 = 64 << 30;
/// Largest kernel or initrd.
const BOOT_BYTES_MAX: u64 = 1 << 30;
/// Largest chunk, as the contract says.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Longest kernel command line: what x86 Linux takes (`COMMAND_LINE_SIZE`).
const CMDLINE_BYTES_MAX: usize = 2_048;
/// Longest file name: what Linux takes (`NAME_MAX`).
const FILE_NAME_BYTES_MAX: usize = 255;
/// Memory of a guest, MiB, as the contract says.
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 64..=1_048_576;
/// Processors of a guest, as the contract says.
const VCPUS: std::ops::RangeInclusive<u32> = 1..=256;
/// An upload that brings nothing for this long is given up.
const CHUNK_SECS_MAX: Duration = Duration::from_secs(60);

/// The service.
#[derive(Debug)]
pub struct TemplatesRpc {
    parts: Parts,
    /// What earlier uploads and templates have left behind was removed.
    collected: OnceCell<()>,
}

impl TemplatesRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone(), collected: OnceCell::new() }
    }

    /// Before the first upload of this process, when no file is on its way in.
    async fn collect(&self) -> Result<(), Status> {
        let collecting = self.collected.get_or_try_init(async || {
            let kept = images_kept(&self.parts.handle.world());
            let removed = self.parts.images.keep_only(&kept).await?;
            if 0 < removed {
                info!(removed, "Unused image files removed");
            }
            Ok::<_, ImageError>(())
        });
        collecting.await?;
        Ok(())
    }

    async fn choose(
        &self,
        tenant: &TenantId,
        template: &TemplateId,
        change: impl FnOnce(TenantId, TemplateId) -> TemplateChange,
    ) -> Result<Response<Template>, Status> {
        let change = change(tenant.clone(), template.clone());
        self.parts.handle.change(Change::Template(change)).await?;
        self.read(tenant, template)
    }

    fn read(&self, tenant: &TenantId, template: &TemplateId) -> Result<Response<Template>, Status> {
        let world = self.parts.handle.world();
        let one = world.template(tenant, template);
        let one = one.ok_or_else(|| not_found("template", template.as_str()))?;
        Ok(Response::new(wire::template(&world, tenant, template, one)))
    }
}

#[tonic::async_trait]
impl TemplateService for TemplatesRpc {
    async fn upload_template(
        &self,
        request: Request<Streaming<UploadTemplateRequest>>,
    ) -> Result<Response<Template>, Status> {
        let access = Access::of(&request)?;
        let mut parts = Upload { stream: request.into_inner() };
        let header = parts.header().await?;
        let tenant = names::tenant("header.parent", &header.parent)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let template: TemplateId = id("header.template_id", &header.template_id)?;
        if !template.as_str().starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(invalid_field("header.template_id", "it starts with a letter"));
        }
        check_display_name(&header.display_name)?;
        let manifest = check_manifest(header.manifest.unwrap_or_default())?;
        self.collect().await?;
        for file in manifest.files() {
            parts.file(&*self.parts.images, file).await?;
        }
        parts.end().await?;
        let digest = manifest_digest(&manifest);
        info!(%tenant, %template, digest, "Template version uploaded");
        let change = Change::PutTemplate {
            tenant: tenant.clone(),
            template: template.clone(),
            display_name: header.display_name,
            digest,
            manifest,
            draft: header.draft,
        };
        self.parts.handle.change(change).await?;
        self.read(&tenant, &template)
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Result<Response<Template>, Status> {
        let access = Access::of(&request)?;
        let (tenant, template) = child("name", &request.get_ref().name, "templates")?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        self.read(&tenant, &template)
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Result<Response<ListTemplatesResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let query = Query::new("templates", &asked.parent, asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| id::<TemplateId>("page_token", after));
        let after = after.transpose()?.map(|after| (tenant.clone(), after));
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let found: Vec<_> = world
            .templates
            .from(start)
            .skip_while(|((of, _), _)| *of < tenant)
            .take_while(|((of, _), _)| *of == tenant)
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |((_, template), _)| template.to_string());
        let templates = found
            .into_iter()
            .take(query.size)
            .map(|((tenant, template), one)| wire::template(&world, tenant, template, one))
            .collect();
        Ok(Response::new(ListTemplatesResponse { templates, next_page_token }))
    }

    async fn list_template_versions(
        &self,
        request: Request<ListTemplateVersionsRequest>,
    ) -> Result<Response<ListTemplateVersionsResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let (tenant, template) = child("parent", &asked.parent, "templates")?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let one = world.template(&tenant, &template);
        let one = one.ok_or_else(|| not_found("template", template.as_str()))?;
        let query = Query::new("versions", &asked.parent, asked.page_size, &asked.page_token)?;
        let mut versions: Vec<_> = world.versions_of(&tenant, &template).collect();
        // Of one millisecond the digest decides, so that a page begins where the one before ended.
        versions.sort_by_key(|(digest, version)| (version.create_ms, (*digest).clone()));
        let behind = query.after.as_deref().map_or(0, |after| {
            let at = versions.iter().position(|(digest, _)| *digest == after);
            at.map_or(versions.len(), |at| at + 1)
        });
        let found: Vec<_> = versions.into_iter().skip(behind).take(query.size + 1).collect();
        let next_page_token = query.next(&found, |(digest, _)| (*digest).clone());
        let mut used: BTreeMap<&str, u32> = BTreeMap::new();
        for (_, desktop) in world.desktops_in(&tenant) {
            if desktop.spec.template == template {
                *used.entry(desktop.spec.template_digest.as_str()).or_default() += 1;
            }
        }
        let versions = found.into_iter().take(query.size).map(|(digest, version)| {
            let desktops = used.get(digest.as_str()).copied().unwrap_or_default();
            TemplateVersion { desktops, ..wire::version(one, digest, version) }
        });
        let versions = versions.collect();
        Ok(Response::new(ListTemplateVersionsResponse { versions, next_page_token }))
    }

    async fn publish_template(
        &self,
        request: Request<PublishTemplateRequest>,
    ) -> Result<Response<Template>, Status> {
        let access = Access::of(&request)?;
        let PublishTemplateRequest { name, digest, etag } = request.into_inner();
        let (tenant, template) = child("name", &name, "templates")?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let digest = rollouts::digest("digest", &digest)?;
        info!(%tenant, %template, digest, "Template version published");
        self.choose(&tenant, &template, |tenant, template| TemplateChange::Publish {
            tenant,
            template,
            digest,
            etag,
        })
        .await
    }

    async fn roll_back_template(
        &self,
        request: Request<RollBackTemplateRequest>,
    ) -> Result<Response<Template>, Status> {
        let access = Access::of(&request)?;
        let RollBackTemplateRequest { name, etag } = request.into_inner();
        let (tenant, template) = child("name", &name, "templates")?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        info!(%tenant, %template, "Template rolled back");
        self.choose(&tenant, &template, |tenant, template| TemplateChange::RollBack {
            tenant,
            template,
            etag,
        })
        .await
    }

    async fn delete_template_version(
        &self,
        request: Request<DeleteTemplateVersionRequest>,
    ) -> Result<Response<DeleteTemplateVersionResponse>, Status> {
        let access = Access::of(&request)?;
        let DeleteTemplateVersionRequest { name, digest } = request.into_inner();
        let (tenant, template) = child("name", &name, "templates")?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let digest = rollouts::digest("digest", &digest)?;
        let change = TemplateChange::DeleteVersion { tenant, template, digest };
        self.parts.handle.change(Change::Template(change)).await?;
        Ok(Response::new(DeleteTemplateVersionResponse {}))
    }

    async fn delete_template(
        &self,
        request: Request<DeleteTemplateRequest>,
    ) -> Result<Response<DeleteTemplateResponse>, Status> {
        let access = Access::of(&request)?;
        let DeleteTemplateRequest { name, etag } = request.into_inner();
        let (tenant, template) = child("name", &name, "templates")?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let change = Change::DeleteTemplate { tenant, template, etag };
        self.parts.handle.change(change).await?;
        Ok(Response::new(DeleteTemplateResponse {}))
    }
}

/// `sha256:<hex>` of the manifest's encoding: the version's name.
pub fn manifest_digest(manifest: &Manifest) -> String {
    let digest = Sha256::digest(manifest_to_wire(manifest).encode_to_vec());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A stream of parts.
struct Upload {
    stream: Streaming<UploadTemplateRequest>,
}

impl Upload {
    async fn next(&mut self) -> Result<Option<upload_template_request::Part>, Status> {
        let message = tokio::time::timeout(CHUNK_SECS_MAX, self.stream.message()).await;
        let message =
            message.map_err(|_elapsed| Status::deadline_exceeded("the upload stood still"))??;
        match message {
            None => Ok(None),
            Some(UploadTemplateRequest { part: Some(part) }) => Ok(Some(part)),
            Some(UploadTemplateRequest { part: None }) => {
                Err(invalid_field("part", "a header or a chunk is expected"))
            }
        }
    }

    async fn header(&mut self) -> Result<UploadTemplateHeader, Status> {
        match self.next().await? {
            Some(upload_template_request::Part::Header(header)) => Ok(header),
            Some(upload_template_request::Part::Chunk(_)) | None => {
                Err(invalid_field("part", "the first part is the header"))
            }
        }
    }

    /// Takes one file. One that is there already is read past: its bytes were checked before.
    async fn file(&mut self, images: &dyn Images, file: &ImageFile) -> Result<(), Status> {
        let mut writer = if images.has(&file.sha256, file.size_bytes).await {
            None
        } else {
            Some(images.receive(&file.sha256, file.size_bytes).await?)
        };
        let mut left = file.size_bytes;
        while 0 < left {
            let chunk = match self.next().await? {
                Some(upload_template_request::Part::Chunk(chunk)) => chunk,
                Some(upload_template_request::Part::Header(_)) => {
                    return Err(invalid_field("part", "there is one header"));
                }
                None => {
                    let (expected, found) = (file.size_bytes, file.size_bytes - left);
                    return Err(ImageError::SizeMismatch { expected, found }.into());
                }
            };
            if chunk.is_empty() || CHUNK_BYTES_MAX < chunk.len() {
                return Err(invalid_field("chunk", "1 byte to 1 MiB is expected"));
            }
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(length).ok_or_else(|| {
                invalid_field("chunk", "a chunk belongs to one file and ends with it")
            })?;
            if let Some(writer) = &mut writer {
                writer.write(chunk.into()).await?;
            }
        }
        match writer {
            Some(writer) => Ok(writer.finish().await?),
            None => Ok(()),
        }
    }

    async fn end(&mut self) -> Result<(), Status> {
        match self.next().await? {
            None => Ok(()),
            Some(_) => Err(invalid_field("chunk", "there is more than the manifest says")),
        }
    }
}

fn check_manifest(manifest: TemplateManifest) -> Result<Manifest, Status> {
    let field = "header.manifest";
    let rule = "a disk and guest settings (memory, vcpus, video, readiness) are expected";
    let manifest = manifest_from_wire(manifest).ok_or_else(|| invalid_field(field, rule))?;
    if manifest.kernel.is_none() && manifest.initrd.is_some() {
        return Err(invalid_field("header.manifest.initrd", "an initrd goes with a kernel"));
    }
    if CMDLINE_BYTES_MAX < manifest.cmdline.len() || manifest.cmdline.contains(char::is_control) {
        let rule = "at most 2,048 bytes without control characters are allowed";
        return Err(invalid_field("header.manifest.cmdline", rule));
    }
    if !MEMORY_MIB.contains(&manifest.guest.memory_mib) {
        let rule = "64 to 1,048,576 is expected";
        return Err(invalid_field("header.manifest.guest.memory_mib", rule));
    }
    if !VCPUS.contains(&manifest.guest.vcpus) {
        return Err(invalid_field("header.manifest.guest.vcpus", "1 to 256 is expected"));
    }
    check_file("header.manifest.disk", &manifest.disk, DISK_BYTES_MAX)?;
    for (field, file) in
        [("header.manifest.kernel", &manifest.kernel), ("header.manifest.initrd", &manifest.initrd)]
    {
        file.as_ref().map_or(Ok(()), |file| check_file(field, file, BOOT_BYTES_MAX))?;
    }
    Ok(manifest)
}

fn check_file(field: &str, file: &ImageFile, bytes_max: u64) -> Result<(), Status> {
    let plain = !file.file.is_empty()
        && file.file.len() <= FILE_NAME_BYTES_MAX
        && !file.file.contains(['/', '\0'])
        && file.file != "."
        && file.file != "..";
    if !plain {
        return Err(invalid_field(field, "a plain file name without a path is expected"));
    }
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if file.sha256.len() != 64 || !file.sha256.bytes().all(is_hex) {
        return Err(invalid_field(field, "its sha256 is 64 lower-case hexadecimal digits"));
    }
    if file.size_bytes == 0 || bytes_max < file.size_bytes {
        let rule = format!("its size is between 1 byte and {} GiB", bytes_max >> 30);
        return Err(invalid_field(field, &rule));
    }
    Ok(())
}

impl From<ImageError> for Status {
    fn from(error: ImageError) -> Self {
        match &error {
            ImageError::NotFound(_) => {
                status(Code::NotFound, ErrorReason::NotFound, error.to_string())
            }
            ImageError::DigestMismatch { .. } | ImageError::SizeMismatch { .. } => {
                status(Code::InvalidArgument, ErrorReason::DigestMismatch, error.to_string())
            }
            ImageError::DiskFull => {
                status(Code::ResourceExhausted, ErrorReason::StoreUnavailable, error.to_string())
            }
            ImageError::Io(source) => {
                tracing::error!(%source, "The folder of images cannot be used");
                status(Code::Unavailable, ErrorReason::StoreUnavailable, error.to_string())
            }
        }
    }
}
