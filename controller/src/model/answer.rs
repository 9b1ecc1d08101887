//! What the reconciler answers to a change.

use vidi_kit::ids::{
    DesktopId, HostId, MachineId, OperationId, RolloutId, SessionId, TenantId, TraceId, UserId,
};

use super::display_policy::DisplayPolicy;
use super::machine::MachineSettings;
use super::session::Place;

/// What became of a change; the snapshot that holds its effect is published before this is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It would be for so many desktops.
    Found(u32),
    /// It goes on under this operation.
    Operation(OperationId),
    /// This session has it.
    Session(TenantId, SessionId),
    /// This machine is made.
    Machine(MachineId),
    /// The daemon's id.
    EnrollId(String),
    /// This roll-out is meant.
    Rollout(RolloutId),
    /// A grant may be signed.
    Granted(Granted),
}

/// What a grant is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whose session it is.
    pub user: UserId,
    /// Higher than any before.
    pub epoch: u64,
    /// Where its desktop or machine is.
    pub way: Way,
    /// Of the click that opened the session.
    pub trace: Option<TraceId>,
    /// The user's name, for people.
    pub user_display_name: String,
    /// What the desktop allows.
    pub display_policy: DisplayPolicy,
}

/// How a session's desktop or machine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the relay of the desktop's host.
    Relay {
        /// The desktop.
        desktop: DesktopId,
        /// Where that is.
        host: HostId,
        /// `host:port` of the host's relay.
        relay_address: String,
    },
    /// By a gateway itself.
    Direct(MachineId, Box<MachineSettings>),
}

impl Way {
    /// What it leads to.
    pub const fn place(&self) -> Place {
        match self {
            Self::Relay { desktop, .. } => Place::Desktop(*desktop),
            Self::Direct(machine, _) => Place::Machine(*machine),
        }
    }
}

/// Where a desktop could be put, or a sentence why nowhere.
pub type Placed = Result<HostId, String>;
