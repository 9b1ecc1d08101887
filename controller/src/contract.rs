//! What the API and the store hold in the same form: manifests, power, policies.

use vidi_proto::v1 as wire;

use crate::model::{Guest, ImageFile, Manifest, Power, Readiness, ReleasePolicy, Video};

/// The wire form of a manifest; its encoding is what a version's digest is of.
pub fn manifest_to_wire(manifest: &Manifest) -> wire::TemplateManifest {
    let file = |one: &ImageFile| wire::ImageFile {
        file: one.file.clone(),
        sha256: one.sha256.clone(),
        size_bytes: one.size_bytes,
    };
    let video = match manifest.guest.video {
        Video::Qxl => wire::Video::Qxl,
        Video::Vga => wire::Video::Vga,
        Video::Virtio => wire::Video::Virtio,
    };
    let readiness = match manifest.guest.readiness {
        Readiness::Helper => wire::Readiness::Helper,
        Readiness::Agent => wire::Readiness::Agent,
    };
    wire::TemplateManifest {
        disk: Some(file(&manifest.disk)),
        kernel: manifest.kernel.as_ref().map(file),
        initrd: manifest.initrd.as_ref().map(file),
        cmdline: manifest.cmdline.clone(),
        guest: Some(wire::GuestSettings {
            memory_mib: manifest.guest.memory_mib,
            vcpus: manifest.guest.vcpus,
            video: video.into(),
            readiness: readiness.into(),
        }),
    }
}

/// The model of a manifest; none when a part that every manifest has is missing. Limits are judged
/// where it is uploaded.
pub fn manifest_from_wire(manifest: wire::TemplateManifest) -> Option<Manifest> {
    let file = |one: wire::ImageFile| ImageFile {
        file: one.file,
        sha256: one.sha256,
        size_bytes: one.size_bytes,
    };
    let guest = manifest.guest?;
    let video = match guest.video() {
        wire::Video::Qxl => Video::Qxl,
        wire::Video::Vga => Video::Vga,
        wire::Video::Virtio => Video::Virtio,
        wire::Video::Unspecified => return None,
    };
    let readiness = match guest.readiness() {
        wire::Readiness::Helper => Readiness::Helper,
        wire::Readiness::Agent => Readiness::Agent,
        wire::Readiness::Unspecified => return None,
    };
    Some(Manifest {
        disk: file(manifest.disk?),
        kernel: manifest.kernel.map(file),
        initrd: manifest.initrd.map(file),
        cmdline: manifest.cmdline,
        guest: Guest { memory_mib: guest.memory_mib, vcpus: guest.vcpus, video, readiness },
    })
}

/// The power of the API and the store, and the reason of a failure.
pub fn power_to_wire(power: &Power) -> (wire::Power, String) {
    match power {
        Power::Preparing => (wire::Power::Preparing, String::new()),
        Power::Off => (wire::Power::Off, String::new()),
        Power::Starting => (wire::Power::Starting, String::new()),
        Power::Running => (wire::Power::Running, String::new()),
        Power::Saved => (wire::Power::Saved, String::new()),
        Power::Failed(reason) => (wire::Power::Failed, reason.clone()),
    }
}

/// The model of a power; none for a word that is not one.
pub fn power_from_wire(power: wire::Power, reason: &str) -> Option<Power> {
    match power {
        wire::Power::Unspecified => None,
        wire::Power::Preparing => Some(Power::Preparing),
        wire::Power::Off => Some(Power::Off),
        wire::Power::Starting => Some(Power::Starting),
        wire::Power::Running => Some(Power::Running),
        wire::Power::Saved => Some(Power::Saved),
        wire::Power::Failed => Some(Power::Failed(reason.to_owned())),
    }
}

/// The policy of the API and the store.
pub const fn policy_to_wire(policy: ReleasePolicy) -> wire::ReleasePolicy {
    match policy {
        ReleasePolicy::Keep => wire::ReleasePolicy::Keep,
        ReleasePolicy::Stop => wire::ReleasePolicy::Stop,
        ReleasePolicy::Delete => wire::ReleasePolicy::Delete,
    }
}

/// The model of a policy; what says nothing is the default.
pub const fn policy_from_wire(policy: wire::ReleasePolicy) -> ReleasePolicy {
    match policy {
        wire::ReleasePolicy::Keep => ReleasePolicy::Keep,
        wire::ReleasePolicy::Unspecified | wire::ReleasePolicy::Stop => ReleasePolicy::Stop,
        wire::ReleasePolicy::Delete => ReleasePolicy::Delete,
    }
}
