//! What passes between a desktop and browsers: from flags, and for people.

use anyhow::bail;
use prost_types::FieldMask;
use vidi_proto::v1::{
    ClipboardWays, Desktop, DesktopSpec, DisplayPolicy, Permission, Recording, UpdateDesktopRequest,
};

use crate::arguments::{AfterUse, PolicyFlags, Switch, Ways, When};
use crate::desktops::policy_of;

/// Changes what was given, nothing else.
pub(crate) fn update(
    before: Desktop,
    name: Option<String>,
    after_use: Option<AfterUse>,
    flags: &PolicyFlags,
) -> anyhow::Result<UpdateDesktopRequest> {
    let old = before.spec.and_then(|spec| spec.display_policy).unwrap_or_default();
    let policy = with_flags(old, flags);
    let fields = [
        ("display_name", name.is_some()),
        ("spec.release_policy", after_use.is_some()),
        ("spec.display_policy", policy != old),
    ];
    let paths: Vec<String> =
        fields.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
    if paths.is_empty() {
        bail!("nothing to change: give --name, --after-use, or a policy other than it has");
    }
    let spec = DesktopSpec {
        release_policy: after_use.map(policy_of).unwrap_or_default().into(),
        display_policy: Some(policy),
        ..DesktopSpec::default()
    };
    let desktop = Desktop {
        name: before.name,
        display_name: name.unwrap_or_default(),
        // The policy is sent whole: what somebody else changed meanwhile must not be undone.
        etag: before.etag,
        spec: Some(spec),
        ..Desktop::default()
    };
    Ok(UpdateDesktopRequest { desktop: Some(desktop), update_mask: Some(FieldMask { paths }) })
}

/// A policy with what the flags say.
pub(crate) fn with_flags(mut policy: DisplayPolicy, flags: &PolicyFlags) -> DisplayPolicy {
    let set = |field: &mut i32, flag: Option<Switch>| {
        if let Some(flag) = flag {
            let permission = match flag {
                Switch::On => Permission::Allowed,
                Switch::Off => Permission::Denied,
            };
            *field = permission.into();
        }
    };
    set(&mut policy.files, flags.files);
    set(&mut policy.sound, flags.sound);
    set(&mut policy.microphone, flags.microphone);
    set(&mut policy.sharing, flags.sharing);
    set(&mut policy.raw, flags.raw);
    if let Some(ways) = flags.clipboard {
        let ways = match ways {
            Ways::Both => ClipboardWays::Both,
            Ways::ToGuest => ClipboardWays::ToGuest,
            Ways::FromGuest => ClipboardWays::FromGuest,
            Ways::Off => ClipboardWays::Off,
        };
        policy.clipboard = ways.into();
    }
    if let Some(when) = flags.recording {
        let when = match when {
            When::Never => Recording::Never,
            When::OnRequest => Recording::OnRequest,
            When::Always => Recording::Always,
        };
        policy.recording = when.into();
    }
    if let Some(watermark) = flags.watermark {
        policy.watermark = watermark == Switch::On;
    }
    policy
}

/// For people.
pub(crate) fn policy_fields(policy: &DisplayPolicy) -> [(&'static str, String); 8] {
    let permission = |permission, usual: &str| {
        match permission {
            Permission::Allowed => "on",
            Permission::Denied => "off",
            Permission::Unspecified => usual,
        }
        .to_owned()
    };
    let clipboard = match policy.clipboard() {
        ClipboardWays::Both | ClipboardWays::Unspecified => "both ways",
        ClipboardWays::ToGuest => "into the desktop",
        ClipboardWays::FromGuest => "out of the desktop",
        ClipboardWays::Off => "off",
    };
    let recording = match policy.recording() {
        Recording::Never | Recording::Unspecified => "never",
        Recording::OnRequest => "on request",
        Recording::Always => "always",
    };
    [
        ("clipboard", clipboard.to_owned()),
        ("files", permission(policy.files(), "on")),
        ("sound", permission(policy.sound(), "on")),
        ("microphone", permission(policy.microphone(), "on")),
        ("sharing", permission(policy.sharing(), "on")),
        ("raw", permission(policy.raw(), "off")),
        ("recording", recording.to_owned()),
        ("watermark", if policy.watermark { "on" } else { "off" }.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes_and_nothing_given_is_refused() {
        let flags = PolicyFlags {
            clipboard: None,
            files: None,
            sound: None,
            microphone: None,
            sharing: None,
            raw: None,
            recording: None,
            watermark: None,
        };
        let policy = DisplayPolicy { watermark: true, ..DisplayPolicy::default() };
        let spec = DesktopSpec { display_policy: Some(policy), ..DesktopSpec::default() };
        let before = Desktop { etag: "e".to_owned(), spec: Some(spec), ..Desktop::default() };
        assert!(update(before.clone(), None, None, &flags).is_err());
        let flags = PolicyFlags { files: Some(Switch::Off), ..flags };
        let request = update(before, None, None, &flags).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["spec.display_policy"]);
        let desktop = request.desktop.unwrap();
        let sent = desktop.spec.unwrap().display_policy.unwrap();
        assert_eq!(sent, DisplayPolicy { files: Permission::Denied.into(), ..policy });
        assert_eq!(desktop.etag, "e");
    }
}
