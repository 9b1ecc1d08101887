//! What the gateway knows, without any way to act on it.

mod networks;
mod recording;
mod terms;
mod visitor;
mod work;

pub mod raw;

use vidi_display::protocol::UserMessage;

pub use networks::{Network, Networks};
pub use recording::RecordingAbout;
pub use terms::{Recording, Terms};
pub use visitor::{Admitted, Peer, Visitor};
pub use work::{Turn, WorkBudget};

/// The controller's word that a session is no longer this gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its resource name.
    pub session: String,
    /// How its viewers' sockets close.
    pub code: CloseCode,
    /// Why, as docs/display-protocol.md tells it.
    pub text: String,
    /// It does not concern who has it attached by this epoch or a later one; none: whoever has it.
    pub epoch: Option<u64>,
}

/// What the controller says of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is over, or elsewhere.
    Ending(Ending),
    /// Its user is told something.
    Messages {
        /// The session's resource name.
        session: String,
        /// All that are young, oldest first.
        messages: Vec<UserMessage>,
    },
}

/// How the browser is told why its socket closes (docs/display-protocol.md, End).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The session ended.
    Ended,
    /// The browser broke the protocol.
    Protocol,
    /// Come back: the control plane or the gateway is away.
    TryAgain,
    /// The sign-in is over.
    SignedOut,
    /// Another viewer has taken the session over.
    TakenOver,
    /// The session is somebody else's and cannot be asked for, or none.
    NotYours,
    /// Not let in, or let go by the session's user.
    LetGo,
}

impl CloseCode {
    /// The code with this number; another gateway's that is not known here says to come back.
    pub fn of_number(number: u32) -> Self {
        let all = [
            Self::Ended,
            Self::Protocol,
            Self::SignedOut,
            Self::TakenOver,
            Self::NotYours,
            Self::LetGo,
        ];
        let mut all = all.into_iter();
        all.find(|code| u32::from(code.number()) == number).unwrap_or(Self::TryAgain)
    }

    /// The code on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::Ended => 1000,
            Self::Protocol => 1002,
            Self::TryAgain => 1012,
            Self::SignedOut => 4001,
            Self::TakenOver => 4002,
            Self::NotYours => 4003,
            Self::LetGo => 4004,
        }
    }
}

/// Why a session cannot be reached, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It may work in a moment: try again.
    TryAgain,
    /// Nothing is wrong: its pool has no desktop for it yet. Who asks keeps the place in the queue.
    Waits,
    /// The user's sign-in is over: the viewers go, the desktop stays.
    SignedOut,
    /// The session is over.
    Ended,
}
