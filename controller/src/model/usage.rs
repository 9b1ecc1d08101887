//! Intervals of use: when a desktop ran, when somebody was connected to it.

use vidi_kit::ids::{DesktopId, SessionId, TenantId, UserId};

/// What went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsageKind {
    /// The desktop's power was `running`.
    Running,
    /// A gateway had a session on it attached.
    Connected,
}

/// Which interval; the order is that of the keys in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageKey {
    /// The desktop's tenant.
    pub tenant: TenantId,
    /// The desktop, or a machine by [`super::Place::counted_as`].
    pub desktop: DesktopId,
    /// When it began, ms since the epoch; not negative.
    pub start_ms: i64,
    /// What went on.
    pub kind: UsageKind,
}

/// One interval.
///
/// INVARIANT: intervals of one desktop and kind do not overlap, and only the newest may be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageInterval {
    /// Running: whose the desktop was; connected: who was connected. None: nobody's.
    pub user: Option<UserId>,
    /// The desktop's name then.
    pub display_name: String,
    /// When it ended, ms since the epoch; none while it goes on.
    pub end_ms: Option<i64>,
    /// The session, of a connected one.
    pub session: Option<SessionId>,
    /// It is of a physical machine.
    pub machine: bool,
}

impl UsageKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Running, Self::Connected];
}
