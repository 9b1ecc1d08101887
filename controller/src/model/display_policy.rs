//! What passes between a desktop and the browsers that show it, beside picture and input.

/// Decided for each desktop; the gateway enforces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisplayPolicy {
    /// Which ways the clipboard goes.
    pub clipboard: ClipboardWays,
    /// Files from the browser into the desktop.
    pub files: Permission,
    /// Sound out of the desktop.
    pub sound: Permission,
    /// The browser's microphone into the desktop.
    pub microphone: Permission,
    /// Others of the tenant may be let in by its user.
    pub sharing: Permission,
    /// The display as SPICE itself, for other SPICE clients.
    pub raw: Permission,
    /// When its picture is recorded.
    pub recording: Recording,
    /// The names of those who look and the time are drawn into the picture that is sent.
    pub watermark: bool,
}

/// Which ways a clipboard goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipboardWays {
    /// Into the desktop and out of it.
    Both,
    /// Only into it.
    ToGuest,
    /// Only out of it.
    FromGuest,
    /// Neither.
    Off,
}

/// Whether something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
}

/// When a session's picture is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Never.
    Never,
    /// When its user starts it.
    OnRequest,
    /// From the first viewer to the last.
    Always,
}

impl Default for DisplayPolicy {
    fn default() -> Self {
        Self {
            clipboard: ClipboardWays::Both,
            files: Permission::Allowed,
            sound: Permission::Allowed,
            microphone: Permission::Allowed,
            sharing: Permission::Allowed,
            raw: Permission::Denied,
            recording: Recording::Never,
            watermark: false,
        }
    }
}

impl DisplayPolicy {
    /// A sentence when it promises what cannot be kept: other SPICE clients obey no restriction, and
    /// nothing of theirs is recorded.
    pub fn check(self) -> Result<(), &'static str> {
        if self.raw == Permission::Denied {
            return Ok(());
        }
        let open = Self { raw: Permission::Allowed, sharing: self.sharing, ..Self::default() };
        if self == open {
            return Ok(());
        }
        Err(
            "raw is only possible where clipboard, files, sound and microphone are not restricted, \
             nothing is recorded and there is no watermark: other SPICE clients obey none of these",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_is_refused_beside_every_restriction_and_beside_recording() {
        let raw = DisplayPolicy { raw: Permission::Allowed, ..DisplayPolicy::default() };
        assert_eq!(raw.check(), Ok(()));
        assert_eq!(DisplayPolicy { sharing: Permission::Denied, ..raw }.check(), Ok(()));
        for refused in [
            DisplayPolicy { clipboard: ClipboardWays::FromGuest, ..raw },
            DisplayPolicy { files: Permission::Denied, ..raw },
            DisplayPolicy { sound: Permission::Denied, ..raw },
            DisplayPolicy { microphone: Permission::Denied, ..raw },
            DisplayPolicy { recording: Recording::OnRequest, ..raw },
            DisplayPolicy { recording: Recording::Always, ..raw },
            DisplayPolicy { watermark: true, ..raw },
        ] {
            assert!(refused.check().is_err(), "{refused:?}");
            assert_eq!(DisplayPolicy { raw: Permission::Denied, ..refused }.check(), Ok(()));
        }
    }
}
