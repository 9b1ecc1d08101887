//! What can end a channel, in words for people.

use std::fmt;

/// Why a channel cannot go on; after one of these the channel is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiceError {
    /// A message ends before its last field.
    #[error("the server's {what} is cut short; the stream is damaged, connect again")]
    Truncated {
        /// The message or structure that was read.
        what: &'static str,
    },
    /// A size or count is above its limit.
    #[error("the server's {what} is {value}, more than the {limit} that are allowed")]
    TooLarge {
        /// The size or count.
        what: &'static str,
        /// Its value on the wire.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A field holds what the protocol does not allow.
    #[error("the server's {what} is not valid: {problem}")]
    Malformed {
        /// The message or structure that was read.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The peer does not speak SPICE 2.
    #[error("the peer is not a usable spice server: {problem}")]
    NotSpice {
        /// What it did.
        problem: &'static str,
    },
    /// The server answered the link with an error.
    #[error("the spice server refused the channel: {0}")]
    Refused(Refusal),
    /// The password is longer than SPICE allows.
    #[error("the spice password is longer than {limit} bytes; set a shorter one")]
    PasswordTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The ticket could not be encrypted with the server's key.
    #[error("the server's public key cannot encrypt the spice ticket")]
    BadPublicKey,
    /// The owner hands in bytes but does not take the events.
    #[error("{limit} bytes wait to be decoded; take the events before handing in more")]
    InboxFull {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The owner does not take what is to be sent.
    #[error("{limit} bytes wait to be sent; the server does not read, connect again")]
    OutboxFull {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// Error number of a link or a disconnection (`enums.h`, `SpiceLinkErr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 0: no error; a normal end in DISCONNECTING.
    None,
    /// 1: an error without further explanation.
    Unspecific,
    /// 2: the link message did not begin with the magic number.
    InvalidMagic,
    /// 3: the link message was not understood.
    InvalidData,
    /// 4: another major version of SPICE.
    VersionMismatch,
    /// 5: the channel must use TLS.
    NeedSecured,
    /// 6: the channel must not use TLS.
    NeedUnsecured,
    /// 7: wrong or expired password.
    PermissionDenied,
    /// 8: no such session.
    BadConnectionId,
    /// 9: the server has no such channel.
    ChannelNotAvailable,
    /// Any other number.
    Other(u32),
}

impl Refusal {
    pub(crate) const fn from_wire(code: u32) -> Self {
        match code {
            0 => Self::None,
            1 => Self::Unspecific,
            2 => Self::InvalidMagic,
            3 => Self::InvalidData,
            4 => Self::VersionMismatch,
            5 => Self::NeedSecured,
            6 => Self::NeedUnsecured,
            7 => Self::PermissionDenied,
            8 => Self::BadConnectionId,
            9 => Self::ChannelNotAvailable,
            other => Self::Other(other),
        }
    }

    /// The number of this refusal.
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Unspecific => 1,
            Self::InvalidMagic => 2,
            Self::InvalidData => 3,
            Self::VersionMismatch => 4,
            Self::NeedSecured => 5,
            Self::NeedUnsecured => 6,
            Self::PermissionDenied => 7,
            Self::BadConnectionId => 8,
            Self::ChannelNotAvailable => 9,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::None => "no error",
            Self::Unspecific => "it gave no reason; look at the log of QEMU",
            Self::InvalidMagic => "it did not recognise the link message as spice",
            Self::InvalidData => "it did not understand the link message",
            Self::VersionMismatch => "it speaks another version of spice",
            Self::NeedSecured => "this channel must be opened over TLS",
            Self::NeedUnsecured => "this channel must be opened without TLS",
            Self::PermissionDenied => "the password is wrong or has expired; ask for a new one",
            Self::BadConnectionId => "the session is over; open the main channel again",
            Self::ChannelNotAvailable => "the desktop has no such channel",
            Self::Other(code) => return write!(formatter, "unknown error number {code}"),
        };
        formatter.write_str(sentence)
    }
}
