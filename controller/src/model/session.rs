//! The session machine: one user on one desktop or physical machine; its table is in docs/desktop-life.md.

use std::fmt;

use vidi_kit::ids::{DesktopId, GatewayId, MachineId, PoolId, TraceId, UserId};

/// One user on one desktop, from claim to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub user: UserId,
    /// On what.
    pub place: Place,
    /// The pool that its desktop is of, or that it waits for.
    pub pool: Option<PoolId>,
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
    /// Why its gateway did not reach the place the last time; empty: it did, or has not tried. Only in
    /// memory.
    pub problem: String,
    /// What its user was told last, oldest first; at most [`NOTICES_MAX`].
    pub notices: Vec<Notice>,
}

/// Messages to its user that a session keeps: as many as somebody reads who comes back.
pub const NOTICES_MAX: usize = 8;
/// Longest message, in bytes: what fits a note on a small screen.
pub const NOTICE_BYTES_MAX: usize = 1_000;

/// Something that a person tells the user of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Goes up from message to message of a session; 0: not given yet.
    pub number: u32,
    /// In the words of who sends it.
    pub text: String,
    /// Who that is, for people; empty: nobody in particular.
    pub from: String,
    /// When, ms since the epoch.
    pub at_ms: i64,
}

/// What a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A desktop on a host.
    Desktop(DesktopId),
    /// A physical machine.
    Machine(MachineId),
    /// None yet: it waits for a desktop of this pool.
    Pool(PoolId),
}

impl Place {
    /// The id under which its use is counted: that of a desktop, or a machine's in its form, which no
    /// desktop has. Nobody uses what one waits for: its id is that of nothing.
    pub const fn counted_as(self) -> DesktopId {
        match self {
            Self::Desktop(id) => id,
            Self::Machine(id) => DesktopId::new(id.uuid()),
            Self::Pool(_) => DesktopId::new(uuid::Uuid::nil()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Desktop(_) | Self::Machine(_) => self.counted_as().fmt(formatter),
            Self::Pool(id) => write!(formatter, "pools/{id}"),
        }
    }
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
    /// Over, for this cause.
    Ended(EndCause),
}

/// Why a session ended; written out, it is the sentence for logs and consoles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// Its own user was done with the desktop.
    Released,
    /// Somebody else with the right to do so has released it.
    ByAdministrator,
    /// Nobody was connected for so many seconds.
    Away(u32),
    /// Somebody was connected, and touched nothing for so many seconds.
    Idle(u32),
    /// Its desktop was switched off: by its own guest, or by whoever may.
    SwitchedOff,
    /// Its desktop was deleted.
    Destroyed,
    /// Its desktop failed.
    Failed,
    /// Its desktop was made and undone again: no host could take it.
    NoHost,
    /// Its desktop's host is drained, and the drain does not wait.
    HostServiced,
    /// Its pool lets a session last for so long and no longer.
    MaxTime,
    /// Its desktop's host does not answer; its user got another desktop of the pool.
    HostLost,
    /// All that is known of it is this sentence: it was stored before causes were.
    Told(String),
}

/// What may happen to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A gateway says that it has it.
    Attached,
    /// No gateway has it any more, at this time (ms since the epoch).
    Detached(i64),
    /// It is over, for this cause.
    End(EndCause),
}

impl Presence {
    /// The only way from one state to the next; an end is final and keeps its first cause.
    pub fn next(&self, event: &SessionEvent) -> Self {
        match (self, event) {
            (Self::Ended(_), _)
            | (Self::Opening | Self::Disconnected(_), SessionEvent::Detached(_)) => self.clone(),
            (Self::Opening | Self::Connected | Self::Disconnected(_), SessionEvent::Attached) => {
                Self::Connected
            }
            (Self::Connected, SessionEvent::Detached(since_ms)) => Self::Disconnected(*since_ms),
            (Self::Opening | Self::Connected | Self::Disconnected(_), SessionEvent::End(cause)) => {
                Self::Ended(cause.clone())
            }
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

impl fmt::Display for EndCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::Released => "signed off",
            Self::ByAdministrator => "ended by an administrator",
            Self::Away(secs) => {
                return write!(formatter, "nobody was connected for {}", spoken(*secs));
            }
            Self::Idle(secs) => {
                return write!(formatter, "nobody touched anything for {}", spoken(*secs));
            }
            Self::SwitchedOff => "the desktop was switched off",
            Self::Destroyed => "the desktop was deleted",
            Self::Failed => "the desktop failed",
            Self::NoHost => "no host can take the desktop",
            Self::HostServiced => "its host is being serviced",
            Self::MaxTime => "it lasted as long as a session of its pool may",
            Self::HostLost => "its host does not answer",
            Self::Told(sentence) => sentence,
        };
        formatter.write_str(sentence)
    }
}

/// A span of time for people.
fn spoken(secs: u32) -> String {
    match secs {
        0..120 => format!("{secs} seconds"),
        120..7_200 => format!("{} minutes", secs / 60),
        7_200.. => format!("{} hours", secs / 3_600),
    }
}
