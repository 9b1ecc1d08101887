//! What a session's desktop allows, and whose session it is: the controller's word, which comes with each
//! ticket, and with each answer about a visitor.

use vidi_display::Policy;

/// What holds for a session while it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What passes beside picture and input.
    pub policy: Policy,
    /// Others of the tenant may be let in by its user.
    pub sharing: bool,
    /// Other SPICE clients may have the display as it is.
    pub raw: bool,
    /// When its picture is recorded.
    pub recording: Recording,
    /// The names of all who look, and the time, are drawn into the picture that is sent.
    pub watermark: bool,
    /// Its user, for people.
    pub user_display_name: String,
    /// Its desktop's or machine's resource name.
    pub desktop: String,
}

/// When a session's picture is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recording {
    /// Never.
    #[default]
    Never,
    /// When its user starts it.
    OnRequest,
    /// From the first viewer to the last.
    Always,
}

impl Default for Terms {
    /// As a desktop of which nothing is said.
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            sharing: true,
            raw: false,
            recording: Recording::Never,
            watermark: false,
            user_display_name: String::new(),
            desktop: String::new(),
        }
    }
}
