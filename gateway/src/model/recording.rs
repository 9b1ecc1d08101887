//! What a recording is about.

/// Whose session, on which desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingAbout {
    /// `tenants/{t}/sessions/{uuid}`.
    pub session: String,
    /// `tenants/{t}/desktops/{uuid}` or `tenants/{t}/machines/{uuid}`.
    pub desktop: String,
    /// `tenants/{t}/users/{u}`.
    pub user: String,
    /// The same for people.
    pub user_display_name: String,
}
