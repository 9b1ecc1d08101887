//! One-to-many changes: the same for every desktop that a filter finds, some at a time.

use vidi_kit::ids::{DesktopId, HostId, OperationId, PoolId, TemplateId, TenantId, UserId};

use super::change::RequestKey;
use super::power::Power;
use super::resources::{Desktop, OperationError};
use super::session::Notice;

/// Desktops that a filter names; more are a pool's or a template's.
pub const FILTER_DESKTOPS_MAX: usize = 1_000;
/// Failures of which a batch keeps the reasons; it counts all.
pub const BATCH_FAILURES_KEPT_MAX: usize = 50;
/// Changes of one batch that go on at a time, at most.
pub const AT_A_TIME_MAX: u32 = 200;

/// A one-to-many change as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What is done.
    pub kind: BatchKind,
    /// With desktops of this tenant.
    pub tenant: TenantId,
    /// With which of them.
    pub filter: DesktopFilter,
    /// So many at a time.
    pub at_a_time: u32,
    /// Desktops that it found when it began.
    pub total: u32,
    /// Those with which it is done.
    pub done: u32,
    /// Those with which it was not possible.
    pub failed: u32,
    /// Those that it did not find any more when it was their turn.
    pub skipped: u32,
    /// The first of those that failed; at most [`BATCH_FAILURES_KEPT_MAX`].
    pub failures: Vec<(DesktopId, OperationError)>,
    /// The last desktop whose turn was; they follow each other by id.
    pub after: Option<DesktopId>,
    /// Every one's turn was, or it was cancelled.
    pub all_begun: bool,
    /// Changes that go on.
    pub open: Vec<(DesktopId, OperationId)>,
    /// It was cancelled.
    pub cancelled: bool,
    /// When it began, ms since the epoch.
    pub create_ms: i64,
    /// When it ended, ms since the epoch.
    pub end_ms: Option<i64>,
}

/// What is done with many desktops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// They are started.
    Start,
    /// They are shut down.
    Stop {
        /// Pull the plug instead of asking the guest.
        force: bool,
    },
    /// They are shut down and started again.
    Restart {
        /// Pull the plug instead of asking the guest.
        force: bool,
    },
    /// Their users are told something.
    Message(Notice),
}

impl BatchKind {
    /// As in the API and the store.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Start => "batch-start",
            Self::Stop { .. } => "batch-stop",
            Self::Restart { .. } => "batch-restart",
            Self::Message(_) => "batch-message",
        }
    }
}

/// Which desktops of a tenant are meant: those for which all of it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesktopFilter {
    /// Of this pool.
    pub pool: Option<PoolId>,
    /// Of this template.
    pub template: Option<TemplateId>,
    /// Of this version of a template; empty: of any.
    pub template_digest: String,
    /// Assigned to this user.
    pub user: Option<UserId>,
    /// Placed on this host.
    pub host: Option<HostId>,
    /// One of these, sorted; none: any. At most [`FILTER_DESKTOPS_MAX`].
    pub desktops: Vec<DesktopId>,
    /// Whether they run; none: either.
    pub running: Option<bool>,
    /// Whether a session is on them; none: either.
    pub in_use: Option<bool>,
}

/// What is said, of many desktops how many: for the audit log.
impl std::fmt::Display for DesktopFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pool, template, template_digest, user, host, desktops, running, in_use } = self;
        let digest = (!template_digest.is_empty()).then_some(template_digest);
        let count = (!desktops.is_empty()).then_some(desktops.len());
        write_word(f, "pool", pool.as_ref())?;
        write_word(f, "template", template.as_ref())?;
        write_word(f, "version", digest)?;
        write_word(f, "user", user.as_ref())?;
        write_word(f, "host", host.as_ref())?;
        write_word(f, "desktops", count.as_ref())?;
        write_word(f, "running", running.as_ref())?;
        write_word(f, "in_use", in_use.as_ref())
    }
}

fn write_word(
    f: &mut std::fmt::Formatter<'_>,
    word: &str,
    value: Option<&impl std::fmt::Display>,
) -> std::fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "{word}={value} "))
}

impl DesktopFilter {
    /// Whether a desktop is meant; none that is being destroyed is.
    pub fn finds(&self, id: DesktopId, desktop: &Desktop) -> bool {
        let Desktop { spec, status } = desktop;
        let any = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        !spec.deleting
            && (self.desktops.is_empty() || self.desktops.binary_search(&id).is_ok())
            && self.pool.is_none_or(|pool| spec.pool == Some(pool))
            && self.template.as_ref().is_none_or(|template| spec.template == *template)
            && (self.template_digest.is_empty() || self.template_digest == spec.template_digest)
            && self.user.as_ref().is_none_or(|user| spec.assigned_user.as_ref() == Some(user))
            && self.host.as_ref().is_none_or(|host| status.host.as_ref() == Some(host))
            && any(self.running, matches!(status.power, Power::Starting | Power::Running))
            && any(self.in_use, status.session.is_some())
    }
}

/// A batch that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBatch {
    /// In this tenant.
    pub tenant: TenantId,
    /// What is to be done.
    pub kind: BatchKind,
    /// With which desktops.
    pub filter: DesktopFilter,
    /// So many at a time, at most [`AT_A_TIME_MAX`].
    pub at_a_time: u32,
    /// For repetition.
    pub request: Option<RequestKey>,
    /// Only say whether it would be possible, and for how many desktops.
    pub validate_only: bool,
}
