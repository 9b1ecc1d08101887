//! What the API and the store hold in the same form: manifests, power, policies, why sessions ended.

use vidi_proto::v1 as wire;

use crate::model::{
    ClipboardWays, DisplayPolicy, EndCause, Guest, ImageFile, Manifest, Permission, Power,
    Readiness, Recording, ReleasePolicy, Video,
};

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
            sound: manifest.guest.sound,
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
        guest: Guest {
            memory_mib: guest.memory_mib,
            vcpus: guest.vcpus,
            video,
            readiness,
            sound: guest.sound,
        },
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

/// The display policy of the API and the store.
pub fn display_policy_to_wire(policy: DisplayPolicy) -> wire::DisplayPolicy {
    let permission = |one| match one {
        Permission::Allowed => wire::Permission::Allowed.into(),
        Permission::Denied => wire::Permission::Denied.into(),
    };
    let clipboard = match policy.clipboard {
        ClipboardWays::Both => wire::ClipboardWays::Both,
        ClipboardWays::ToGuest => wire::ClipboardWays::ToGuest,
        ClipboardWays::FromGuest => wire::ClipboardWays::FromGuest,
        ClipboardWays::Off => wire::ClipboardWays::Off,
    };
    let recording = match policy.recording {
        Recording::Never => wire::Recording::Never,
        Recording::OnRequest => wire::Recording::OnRequest,
        Recording::Always => wire::Recording::Always,
    };
    wire::DisplayPolicy {
        clipboard: clipboard.into(),
        files: permission(policy.files),
        sound: permission(policy.sound),
        microphone: permission(policy.microphone),
        sharing: permission(policy.sharing),
        raw: permission(policy.raw),
        recording: recording.into(),
        watermark: policy.watermark,
    }
}

/// The model of a display policy; what says nothing is the default, and of a number that is not known
/// the field is named.
pub fn display_policy_from_wire(
    policy: &wire::DisplayPolicy,
) -> Result<DisplayPolicy, &'static str> {
    let permission = |field, number: i32, default| -> Result<Permission, &'static str> {
        Ok(match wire::Permission::try_from(number).map_err(|_unknown| field)? {
            wire::Permission::Unspecified => default,
            wire::Permission::Allowed => Permission::Allowed,
            wire::Permission::Denied => Permission::Denied,
        })
    };
    let usual = DisplayPolicy::default();
    let clipboard = wire::ClipboardWays::try_from(policy.clipboard);
    let recording = wire::Recording::try_from(policy.recording);
    Ok(DisplayPolicy {
        clipboard: match clipboard.map_err(|_unknown| "clipboard")? {
            wire::ClipboardWays::Unspecified => usual.clipboard,
            wire::ClipboardWays::Both => ClipboardWays::Both,
            wire::ClipboardWays::ToGuest => ClipboardWays::ToGuest,
            wire::ClipboardWays::FromGuest => ClipboardWays::FromGuest,
            wire::ClipboardWays::Off => ClipboardWays::Off,
        },
        files: permission("files", policy.files, usual.files)?,
        sound: permission("sound", policy.sound, usual.sound)?,
        microphone: permission("microphone", policy.microphone, usual.microphone)?,
        sharing: permission("sharing", policy.sharing, usual.sharing)?,
        raw: permission("raw", policy.raw, usual.raw)?,
        recording: match recording.map_err(|_unknown| "recording")? {
            wire::Recording::Unspecified => usual.recording,
            wire::Recording::Never => Recording::Never,
            wire::Recording::OnRequest => Recording::OnRequest,
            wire::Recording::Always => Recording::Always,
        },
        watermark: policy.watermark,
    })
}

/// The cause of the API and the store, and for how long nobody was connected or touched anything, in seconds.
pub const fn cause_to_wire(cause: &EndCause) -> (wire::SessionEndCause, u32) {
    match cause {
        EndCause::Told(_) => (wire::SessionEndCause::Unspecified, 0),
        EndCause::Released => (wire::SessionEndCause::Released, 0),
        EndCause::ByAdministrator => (wire::SessionEndCause::ByAdministrator, 0),
        EndCause::Away(secs) => (wire::SessionEndCause::Away, *secs),
        EndCause::Idle(secs) => (wire::SessionEndCause::Idle, *secs),
        EndCause::SwitchedOff => (wire::SessionEndCause::SwitchedOff, 0),
        EndCause::Destroyed => (wire::SessionEndCause::Destroyed, 0),
        EndCause::Failed => (wire::SessionEndCause::Failed, 0),
        EndCause::NoHost => (wire::SessionEndCause::NoHost, 0),
        EndCause::HostServiced => (wire::SessionEndCause::HostServiced, 0),
        EndCause::MaxTime => (wire::SessionEndCause::MaxTime, 0),
        EndCause::HostLost => (wire::SessionEndCause::HostLost, 0),
    }
}

/// The model of a cause; of one that is not known here its sentence is kept.
pub fn cause_from_wire(cause: wire::SessionEndCause, away_secs: u32, sentence: String) -> EndCause {
    match cause {
        wire::SessionEndCause::Unspecified => EndCause::Told(sentence),
        wire::SessionEndCause::Released => EndCause::Released,
        wire::SessionEndCause::ByAdministrator => EndCause::ByAdministrator,
        wire::SessionEndCause::Away => EndCause::Away(away_secs),
        wire::SessionEndCause::Idle => EndCause::Idle(away_secs),
        wire::SessionEndCause::SwitchedOff => EndCause::SwitchedOff,
        wire::SessionEndCause::Destroyed => EndCause::Destroyed,
        wire::SessionEndCause::Failed => EndCause::Failed,
        wire::SessionEndCause::NoHost => EndCause::NoHost,
        wire::SessionEndCause::HostServiced => EndCause::HostServiced,
        wire::SessionEndCause::MaxTime => EndCause::MaxTime,
        wire::SessionEndCause::HostLost => EndCause::HostLost,
    }
}
