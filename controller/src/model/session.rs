//! The session machine: one user on one desktop; its table is in docs/desktop-life.md.

use vidi_kit::ids::{DesktopId, GatewayId, TraceId, UserId};

/// One user on one desktop, from claim to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub user: UserId,
    /// On which desktop.
    pub desktop: DesktopId,
    /// Of the newest grant; 0 when there was none.
    pub epoch: u64,
    /// The gateway that got the newest grant.
    pub gateway: Option<GatewayId>,
    /// When it was claimed, ms since the epoch.
    pub create_ms: i64,
    /// When the state began, ms since the epoch; kept by the store for the end only.
    pub since_ms: i64,
    /// When a gateway last asked for a grant, ms since the epoch: somebody waits for the picture.
    /// Only in memory; 0 after a load.
    pub sought_ms: i64,
    /// Where it is. Between opening and its end only in memory.
    pub presence: Presence,
    /// Of the click that opened it.
    pub trace: Option<TraceId>,
}

/// Where a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Claimed, never seen at a gateway.
    Opening,
    /// A gateway has it attached.
    Connected,
    /// No gateway has it, since this time (ms since the epoch).
    Disconnected(i64),
    /// Over, with a reason for people.
    Ended(String),
}

/// What may happen to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A gateway says that it has it.
    Attached,
    /// No gateway has it any more, at this time (ms since the epoch).
    Detached(i64),
    /// It is over, for this reason.
    End(String),
}

impl Presence {
    /// The only way from one state to the next; an end is final and keeps its first reason.
    pub fn next(&self, event: &SessionEvent) -> Self {
        match (self, event) {
            (Self::Ended(_), _)
            | (Self::Opening | Self::Disconnected(_), SessionEvent::Detached(_)) => self.clone(),
            (Self::Opening | Self::Connected | Self::Disconnected(_), SessionEvent::Attached) => {
                Self::Connected
            }
            (Self::Connected, SessionEvent::Detached(since_ms)) => Self::Disconnected(*since_ms),
            (
                Self::Opening | Self::Connected | Self::Disconnected(_),
                SessionEvent::End(reason),
            ) => Self::Ended(reason.clone()),
        }
    }

    /// The word for it, as in the table.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Connected => "connected",
            Self::Disconnected(_) => "disconnected",
            Self::Ended(_) => "ended",
        }
    }
}

impl Session {
    /// Whether it goes on.
    pub const fn is_live(&self) -> bool {
        !matches!(self.presence, Presence::Ended(_))
    }
}
