//! What passes between a desktop and browsers: from flags, and for people.

use vidi_proto::v1::{ClipboardWays, DisplayPolicy, Permission, Recording};

use crate::arguments::{PolicyFlags, Switch, Ways, When};

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
