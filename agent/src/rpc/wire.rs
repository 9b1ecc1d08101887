//! Wire to model and back: wanted and observed, policy and claims.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use vidi_hypervisor::{SpiceReader, Video};
use vidi_kit::ids::{DesktopId, IdError, SessionId};
use vidi_proto::v1::{
    self, GrantClaims, GuestSettings, HostReport, ImageFile, LiveSessions, ObservedDesktop,
    RelayPolicy, RelaySession, TemplateManifest, WantedDesktop, WantedPower, WantedSet,
};

use crate::model::attachment::{Claims, LiveSession, Policy};
use crate::model::observed::{DesktopReport, HostState, Power};
use crate::model::wanted::{Image, Readiness, Template, TemplateBoot, Wanted, Wish};

/// `GuestSettings.memory_mib` (templates.proto).
const MEMORY_MIB: RangeInclusive<u32> = 64..=1_048_576;
/// `GuestSettings.vcpus` (templates.proto).
const VCPUS: RangeInclusive<u32> = 1..=256;

/// Who reads a channel, as the contract's `onward` says it.
pub const fn reader_of(onward: bool) -> SpiceReader {
    if onward { SpiceReader::Onward } else { SpiceReader::Edge }
}

/// The relay's policy, parsed.
pub fn policy_from_wire(policy: &RelayPolicy) -> Result<Policy, IdError> {
    let mut live = BTreeMap::new();
    for session in &policy.sessions {
        let one = LiveSession { desktop: session.desktop.parse()?, epoch: session.epoch };
        live.insert(session.session.parse()?, one);
    }
    Ok(Policy {
        grant_keys: policy.grant_keys.clone(),
        installation: policy.installation_id.parse()?,
        host: policy.host.parse()?,
        clock_offset_ms: policy.clock_offset_ms,
        live: policy.sessions_known.then_some(live),
    })
}

/// The relay's policy, to be sent.
pub fn policy_to_wire(policy: &Policy) -> RelayPolicy {
    let sessions = policy.live.iter().flatten().map(|(session, live)| RelaySession {
        session: session.to_string(),
        desktop: live.desktop.to_string(),
        epoch: live.epoch,
    });
    RelayPolicy {
        grant_keys: policy.grant_keys.clone(),
        installation_id: policy.installation.to_string(),
        host: policy.host.to_string(),
        clock_offset_ms: policy.clock_offset_ms,
        sessions: sessions.collect(),
        sessions_known: policy.live.is_some(),
    }
}

/// The controller's live sessions, parsed.
pub fn live_from_wire(
    sessions: &LiveSessions,
) -> Result<BTreeMap<SessionId, LiveSession>, IdError> {
    sessions
        .sessions
        .iter()
        .map(|one| {
            let live = LiveSession { desktop: one.desktop.parse()?, epoch: one.epoch };
            Ok((one.session.parse()?, live))
        })
        .collect()
}

/// A verified grant's claims, parsed.
pub fn claims_from_wire(claims: &GrantClaims) -> Result<Claims, IdError> {
    Ok(Claims {
        installation: claims.installation_id.parse()?,
        host: claims.host.parse()?,
        gateway: claims.gateway.parse()?,
        session: claims.session.parse()?,
        desktop: claims.desktop.parse()?,
        epoch: claims.epoch,
        trace: claims.trace.parse().ok(),
    })
}

/// The wanted set, parsed. A desktop whose manifest cannot be used stays in the set with the reason; an
/// id that is none makes the whole set unusable: which desktop is meant is not known.
pub fn wanted_from_wire(set: &WantedSet) -> Result<BTreeMap<DesktopId, Wanted>, IdError> {
    set.desktops
        .iter()
        .map(|desktop| {
            let id = desktop.id.parse()?;
            let wish = match (desktop.power(), desktop.force_off) {
                _ if desktop.destroy => Wish::Destroy,
                (WantedPower::On, _) => Wish::On,
                (WantedPower::Off | WantedPower::Unspecified, false) => Wish::Off,
                (WantedPower::Off | WantedPower::Unspecified, true) => Wish::OffNow,
            };
            let wanted = Wanted {
                id,
                generation: desktop.generation,
                wish,
                title: desktop.display_name.clone(),
                // Only for logs: one that is malformed is as none.
                trace: desktop.trace.parse().ok(),
                template: template_from_wire(desktop),
            };
            Ok((id, wanted))
        })
        .collect()
}

fn template_from_wire(desktop: &WantedDesktop) -> Result<Template, String> {
    let unusable = |what: &str| format!("the template's manifest cannot be used: {what}");
    let manifest = desktop.manifest.as_ref().ok_or_else(|| unusable("it is missing"))?;
    let image = |file: Option<&ImageFile>, what: &str| {
        let file = file.ok_or_else(|| unusable(&format!("it has no {what}")))?;
        let digest = file.sha256.parse();
        let digest = digest.map_err(|error| unusable(&format!("its {what}: {error}")))?;
        Ok::<_, String>(Image { digest, size_bytes: file.size_bytes })
    };
    let boot = match (&manifest.kernel, &manifest.initrd) {
        (Some(kernel), Some(initrd)) => Some(TemplateBoot {
            kernel: image(Some(kernel), "kernel")?,
            initrd: image(Some(initrd), "initrd")?,
            cmdline: manifest.cmdline.clone(),
        }),
        (None, _) | (_, None) => None,
    };
    let guest = manifest.guest.ok_or_else(|| unusable("it has no guest settings"))?;
    if !MEMORY_MIB.contains(&guest.memory_mib) || !VCPUS.contains(&guest.vcpus) {
        return Err(unusable("memory or processors are out of their limits"));
    }
    Ok(Template {
        digest: desktop.template_digest.clone(),
        disk: image(manifest.disk.as_ref(), "disk")?,
        boot,
        memory_mib: guest.memory_mib,
        vcpus: guest.vcpus,
        video: match guest.video() {
            v1::Video::Qxl | v1::Video::Unspecified => Video::Qxl,
            v1::Video::Vga => Video::Vga,
            v1::Video::Virtio => Video::Virtio,
        },
        readiness: match guest.readiness() {
            v1::Readiness::Helper | v1::Readiness::Unspecified => Readiness::Helper,
            v1::Readiness::Agent => Readiness::Agent,
        },
        sound: guest.sound,
    })
}

/// For the journal.
pub fn wanted_to_wire(wanted: &Wanted) -> WantedDesktop {
    let power = match wanted.wish {
        Wish::On => WantedPower::On,
        Wish::Off | Wish::OffNow | Wish::Destroy => WantedPower::Off,
    };
    let template = wanted.template.as_ref().ok();
    WantedDesktop {
        id: wanted.id.to_string(),
        generation: wanted.generation,
        power: power.into(),
        display_name: wanted.title.clone(),
        template_digest: template.map(|it| it.digest.clone()).unwrap_or_default(),
        manifest: template.map(manifest_to_wire),
        force_off: wanted.wish == Wish::OffNow,
        trace: wanted.trace.map(|id| id.to_string()).unwrap_or_default(),
        destroy: wanted.wish == Wish::Destroy,
        ..WantedDesktop::default()
    }
}

fn manifest_to_wire(template: &Template) -> TemplateManifest {
    let image = |image: &Image| ImageFile {
        file: String::new(),
        sha256: image.digest.to_string(),
        size_bytes: image.size_bytes,
    };
    let boot = template.boot.as_ref();
    let video = match template.video {
        Video::Qxl => v1::Video::Qxl,
        Video::Vga => v1::Video::Vga,
        Video::Virtio => v1::Video::Virtio,
    };
    let readiness = match template.readiness {
        Readiness::Helper => v1::Readiness::Helper,
        Readiness::Agent => v1::Readiness::Agent,
    };
    TemplateManifest {
        disk: Some(image(&template.disk)),
        kernel: boot.map(|boot| image(&boot.kernel)),
        initrd: boot.map(|boot| image(&boot.initrd)),
        cmdline: boot.map(|boot| boot.cmdline.clone()).unwrap_or_default(),
        guest: Some(GuestSettings {
            memory_mib: template.memory_mib,
            vcpus: template.vcpus,
            video: video.into(),
            readiness: readiness.into(),
            sound: template.sound,
        }),
    }
}

/// The report, to be sent on `connection`; `offset_ms` is controller time minus `CLOCK_BOOTTIME`.
pub fn report_to_wire(state: &HostState, connection: u64, offset_ms: i64) -> HostReport {
    let names = |ids: &BTreeSet<DesktopId>| ids.iter().map(ToString::to_string).collect();
    HostReport {
        cpus: state.facts.cpus,
        memory_total_mib: state.facts.memory_total_mib,
        memory_available_mib: state.facts.memory_available_mib,
        acceleration: state.acceleration.map(|it| it.to_string()).unwrap_or_default(),
        problems: state.problems.iter().cloned().collect(),
        libvirt_version: state.versions.libvirt.clone(),
        qemu_version: state.versions.qemu.clone(),
        images_free_mib: state.images_free_mib,
        desktops: state.desktops.iter().map(|one| desktop_to_wire(one, offset_ms)).collect(),
        unknown: names(&state.unknown),
        foreign: names(&state.foreign),
        wanted_received: state.wanted_connection == Some(connection),
        wanted_number: state.wanted_number,
    }
}

fn desktop_to_wire(report: &DesktopReport, offset_ms: i64) -> ObservedDesktop {
    let power = match report.power {
        Power::Preparing => v1::Power::Preparing,
        Power::Off => v1::Power::Off,
        Power::Starting => v1::Power::Starting,
        Power::Running => v1::Power::Running,
        Power::Failed => v1::Power::Failed,
    };
    ObservedDesktop {
        id: report.id.to_string(),
        generation: report.generation,
        power: power.into(),
        reason: report.reason.clone(),
        ready: report.ready,
        acceleration: report.acceleration.map(|it| it.to_string()).unwrap_or_default(),
        start_count: report.start_count,
        since_ms: report.since_ms.map_or(0, |since| since.saturating_add(offset_ms)),
    }
}
