//! What may pass between a guest and its viewers beside picture and input.

/// What the session's owner allows; everything unless said otherwise.
#[expect(clippy::struct_excessive_bools, reason = "each is a permission of its own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What a viewer copied can be pasted in the guest.
    pub clipboard_to_guest: bool,
    /// What is copied in the guest reaches viewers.
    pub clipboard_from_guest: bool,
    /// The guest's screen follows a viewer's window.
    pub resize: bool,
    /// Files of a viewer can be put into the guest.
    pub files: bool,
    /// What the guest plays reaches viewers.
    pub sound: bool,
    /// What a viewer's microphone hears reaches the guest.
    pub microphone: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            clipboard_to_guest: true,
            clipboard_from_guest: true,
            resize: true,
            files: true,
            sound: true,
            microphone: true,
        }
    }
}

impl Policy {
    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            clipboard_to_guest: self.clipboard_to_guest && other.clipboard_to_guest,
            clipboard_from_guest: self.clipboard_from_guest && other.clipboard_from_guest,
            resize: self.resize && other.resize,
            files: self.files && other.files,
            sound: self.sound && other.sound,
            microphone: self.microphone && other.microphone,
        }
    }
}
