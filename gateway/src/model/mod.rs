//! What the gateway knows, without any way to act on it.

use std::collections::BTreeMap;

/// Sessions that this gateway has attached and somebody looks at, by resource name.
pub type Presence = BTreeMap<String, Present>;

/// What is told of one attached session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Browsers that look at it.
    pub viewers: u32,
    /// Its attach epoch.
    pub epoch: u64,
}

/// The controller's word that a session is no longer this gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its resource name.
    pub session: String,
    /// How its viewers' sockets close.
    pub code: CloseCode,
    /// Why, as docs/display-protocol.md tells it.
    pub text: String,
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
    /// The session is somebody else's, or none.
    NotYours,
}

impl CloseCode {
    /// The code on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::Ended => 1000,
            Self::Protocol => 1002,
            Self::TryAgain => 1012,
            Self::SignedOut => 4001,
            Self::TakenOver => 4002,
            Self::NotYours => 4003,
        }
    }
}

/// Why a session cannot be reached, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It may work in a moment: try again.
    TryAgain,
    /// The user's sign-in is over: the viewers go, the desktop stays.
    SignedOut,
    /// The session is over.
    Ended,
}
