//! What may be done with the versions of a template.

use vidi_kit::ids::{TemplateId, TenantId};

/// Versions that were published before, of each template: enough to go back over a bad week.
pub const PUBLISHED_BEFORE_MAX: usize = 16;

/// A change of what is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateChange {
    /// New desktops get this version.
    Publish {
        /// In this tenant.
        tenant: TenantId,
        /// Of this template.
        template: TemplateId,
        /// Which.
        digest: String,
        /// As [`super::World::template_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// New desktops get the version that they got before the one that is published.
    RollBack {
        /// In this tenant.
        tenant: TenantId,
        /// Of this template.
        template: TemplateId,
        /// As [`super::World::template_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Forgets a version that nothing uses.
    DeleteVersion {
        /// In this tenant.
        tenant: TenantId,
        /// Of this template.
        template: TemplateId,
        /// Which.
        digest: String,
    },
}
