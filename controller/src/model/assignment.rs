//! The assignment machine of a desktop; its table is in docs/desktop-life.md.

use vidi_kit::ids::{SessionId, UserId};

/// Whose a desktop is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// Nobody's.
    Free,
    /// A session is on it.
    Claimed(SessionId),
    /// Kept for a user, who is not on it.
    Assigned(UserId),
}

/// What may happen to an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignmentEvent {
    /// A session of this user takes it.
    Claim(SessionId, UserId),
    /// This session gives it back; it returns to its owner, if it has one.
    Release(SessionId, Option<UserId>),
}

/// Why an assignment cannot change so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentRefusal {
    /// Another session is on it.
    InUse,
    /// It is kept for somebody else.
    NotTheirs,
}

impl Assignment {
    /// The only way from one state to the next; asking again is harmless.
    pub fn next(&self, event: &AssignmentEvent) -> Result<Self, AssignmentRefusal> {
        match (self, event) {
            (Self::Free, AssignmentEvent::Claim(session, _)) => Ok(Self::Claimed(*session)),
            (Self::Assigned(owner), AssignmentEvent::Claim(session, user)) if owner == user => {
                Ok(Self::Claimed(*session))
            }
            (Self::Assigned(_), AssignmentEvent::Claim(..)) => Err(AssignmentRefusal::NotTheirs),
            (Self::Claimed(holder), AssignmentEvent::Claim(session, _)) if holder == session => {
                Ok(self.clone())
            }
            (Self::Claimed(_), AssignmentEvent::Claim(..)) => Err(AssignmentRefusal::InUse),
            (Self::Claimed(holder), AssignmentEvent::Release(session, owner))
                if holder == session =>
            {
                Ok(owner.clone().map_or(Self::Free, Self::Assigned))
            }
            (Self::Free | Self::Claimed(_) | Self::Assigned(_), AssignmentEvent::Release(..)) => {
                Ok(self.clone())
            }
        }
    }

    /// The word for it, as in the table.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Claimed(_) => "claimed",
            Self::Assigned(_) => "assigned",
        }
    }
}
