//! Why a change was refused.

use vidi_kit::ids::{DesktopId, HostId, MachineId};

use super::quota::QuotaKind;

/// Why a change was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing (or it is somebody else's).
    #[error("{kind} \"{id}\" was not found")]
    NotFound {
        /// user, template, desktop...
        kind: &'static str,
        /// As it was asked for.
        id: String,
    },
    /// There is one already.
    #[error("{kind} \"{id}\" exists already")]
    AlreadyExists {
        /// user, template...
        kind: &'static str,
        /// As it was asked for.
        id: String,
    },
    /// It changed since the caller read it.
    #[error("{kind} \"{id}\" changed since it was read: read it again, then retry")]
    EtagStale {
        /// user, template, desktop...
        kind: &'static str,
        /// As it was asked for.
        id: String,
    },
    /// The request id came before with another body.
    #[error("request_id \"{0}\" was used before for something else: take a new one")]
    RequestIdReused(String),
    /// The state does not allow it.
    #[error("{kind} \"{id}\" is {state}: {remedy}")]
    WrongState {
        /// user, template, desktop...
        kind: &'static str,
        /// Which.
        id: String,
        /// The state it is in.
        state: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Somebody else is on it.
    #[error("desktop \"{0}\" is in use by somebody else: end that session first")]
    DesktopInUse(DesktopId),
    /// Somebody else is on it.
    #[error("the machine is in use by somebody else: wait until they are done")]
    MachineInUse(MachineId),
    /// The desktop has no host that could be reached.
    #[error("host \"{0}\" does not answer: wait until it is back")]
    HostUnreachable(HostId),
    /// The host was deleted, and its certificate is older than that.
    #[error(
        "host \"{0}\" was removed from this installation: enrol it again, with a token from `vidictl \
         host enroll-token`"
    )]
    HostRemoved(HostId),
    /// The enrolment token is no good.
    #[error("the enrolment token is unknown, used or expired: ask for a new one")]
    BadEnrollToken,
    /// The sign-in is over.
    #[error("the sign-in has ended: sign in again")]
    SignedOut,
    /// Over a limit.
    #[error("there are too many {what}: at most {limit} are allowed, wait or remove some")]
    LimitExceeded {
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The tenant may not have more.
    #[error(
        "the quota of {limit} {} does not allow more ({used} are there): remove or stop some, or ask for a \
         larger quota",
        .kind.words()
    )]
    QuotaExceeded {
        /// Of what.
        kind: QuotaKind,
        /// At most so many.
        limit: u64,
        /// So many there are.
        used: u64,
    },
    /// The session has no desktop yet.
    #[error("the session waits for a desktop, at place {position}: ask again in a few seconds")]
    WaitingForDesktop {
        /// Its rank among those who wait for the same pool; 1: the next.
        position: usize,
        /// In so many seconds it has one, as far as is known.
        estimate_secs: Option<u32>,
        /// Why it takes longer than it should, for people; empty: desktops are being made.
        reason: String,
    },
    /// The link that it came by was replaced by a newer one.
    #[error("a newer link has taken over")]
    LinkReplaced,
    /// The store refused; a later try may succeed.
    #[error("the store did not take the change, nothing was changed: {0}")]
    StoreUnavailable(String),
    /// Another controller leads, or none does.
    #[error("this controller does not lead: ask another, or again in a moment")]
    NotLeader,
    /// More is asked than can be decided.
    #[error("the controller is too busy: try again in a moment")]
    Busy,
}

impl Refusal {
    /// [`Refusal::NotFound`] of anything that has a name.
    pub fn not_found(kind: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }
}
