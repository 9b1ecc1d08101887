//! What an answer of etcd means for who asked: told apart by what a caller can do about it.

use std::error::Error as _;

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

/// etcd's words for its conditions (api/v3rpc/rpctypes/error.go), of which only some have a gRPC code
/// of their own.
const NO_LEADER: &str = "etcdserver: no leader";
const BUSY: &str = "etcdserver: too many requests";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
const LEASE_GONE: &str = "etcdserver: requested lease not found";
/// The client's own words for the same.
const KEEPER_LEASE_GONE: &str = "lease not found";
const TOO_LARGE: [&str; 3] = [
    "etcdserver: request is too large",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
];
/// tonic's words for an answer over the decoder's limit, which has the same code as others.
const OVERSIZE: &str = "message length too large";

/// Errors below an error that are looked at; tonic nests about five.
const SOURCES_MAX: usize = 16;

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The member was not reached: nothing was done.
    NotSent(String),
    /// The member has no leader, or too much to do, and refused before it did anything.
    NotNow(String),
    /// The member refused for good; nothing was done.
    Refused(String),
    /// The request is over a limit of etcd; nothing was done.
    TooLarge(String),
    /// The space quota is used up. What asked for it may have been done all the same.
    NoSpace,
    /// The answer is larger than what is decoded.
    Oversize,
    /// The revision that was asked for is forgotten.
    Compacted,
    /// The revision that was asked for has not been yet.
    Future,
    /// There is no such lease any more.
    LeaseGone,
    /// It may have been done.
    Unsure(String),
    /// What is stored is not ours.
    Foreign(String),
    /// etcd knows less than it did before.
    Backward(String),
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::of_status(status),
            Error::LeaseKeepAliveError(text) if text == KEEPER_LEASE_GONE => Self::LeaseGone,
            Error::TransportError(_) | Error::IoError(_) | Error::InvalidUri(_) => {
                Self::NotSent(told(error))
            }
            Error::InvalidArgs(_)
            | Error::WatchError(_)
            | Error::LeaseKeepAliveError(_)
            | Error::Utf8Error(_)
            | Error::ElectError(_)
            | Error::InvalidMetadataValue(_)
            | Error::EndpointError(_)
            | Error::EndpointsNotManaged
            | Error::Internal(_) => Self::Unsure(error.to_string()),
        }
    }

    fn of_status(status: &Status) -> Self {
        let message = status.message();
        let text = || match status.source() {
            Some(source) => told(source),
            None => message.trim_start_matches("etcdserver: ").to_owned(),
        };
        match message {
            NO_LEADER | BUSY => return Self::NotNow(text()),
            NO_SPACE => return Self::NoSpace,
            COMPACTED => return Self::Compacted,
            FUTURE => return Self::Future,
            LEASE_GONE => return Self::LeaseGone,
            _ if TOO_LARGE.contains(&message) => return Self::TooLarge(text()),
            _ if message.contains(OVERSIZE) => return Self::Oversize,
            _ => {}
        }
        if let Some(why) = connect_error(status) {
            return Self::NotSent(why);
        }
        match status.code() {
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => Self::Refused(text()),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Unsure(text()),
        }
    }

    /// The connection, not only the call, is in doubt.
    pub(super) const fn doubts_connection(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Unsure(_))
    }

    /// What to tell people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NotSent(text)
            | Self::NotNow(text)
            | Self::Refused(text)
            | Self::TooLarge(text)
            | Self::Unsure(text)
            | Self::Foreign(text)
            | Self::Backward(text) => text.clone(),
            Self::NoSpace => "etcd is full (its space quota is used up): compact and defragment \
                              it, then `etcdctl alarm disarm`; docs/operations.md tells how"
                .to_owned(),
            Self::Oversize => "an answer of etcd is too large".to_owned(),
            Self::Compacted => "etcd has forgotten the revision".to_owned(),
            Self::Future => "etcd has not come to the revision".to_owned(),
            Self::LeaseGone => "the lease has run out".to_owned(),
        }
    }
}

/// Why there was no connection: then nothing was sent. A connection that breaks later leaves no such
/// error.
fn connect_error(status: &Status) -> Option<String> {
    let mut source = status.source();
    for _ in 0..SOURCES_MAX {
        let error = source?;
        if error.downcast_ref::<ConnectError>().is_some() {
            return Some(told(error));
        }
        source = error.source();
    }
    None
}

/// The text of the innermost error: what wraps it only says that something failed.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    for _ in 0..SOURCES_MAX {
        match innermost.source() {
            Some(source) => innermost = source,
            None => break,
        }
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, message: &str) -> Failure {
        Failure::of(&Error::GRpcStatus(Status::new(code, message)))
    }

    #[test]
    fn only_what_cannot_have_been_done_is_told_as_not_done() {
        assert_eq!(of(Code::Unavailable, NO_LEADER), Failure::NotNow("no leader".to_owned()));
        let busy = of(Code::ResourceExhausted, BUSY);
        assert_eq!(busy, Failure::NotNow("too many requests".to_owned()));
        assert_eq!(of(Code::ResourceExhausted, NO_SPACE), Failure::NoSpace);
        assert_eq!(of(Code::OutOfRange, COMPACTED), Failure::Compacted);
        for unsure in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Cancelled, "operation was canceled"),
            (Code::Unknown, "h2 protocol error: error reading a body from connection"),
            (Code::DeadlineExceeded, "context deadline exceeded"),
            (Code::Internal, "a bug"),
        ] {
            assert!(matches!(of(unsure.0, unsure.1), Failure::Unsure(_)), "{unsure:?}");
        }
        let large = of(Code::InvalidArgument, "etcdserver: request is too large");
        assert_eq!(large, Failure::TooLarge("request is too large".to_owned()));
        let denied = of(Code::PermissionDenied, "etcdserver: permission denied");
        assert_eq!(denied, Failure::Refused("permission denied".to_owned()));
    }

    #[test]
    fn a_connection_that_was_never_made_is_found_below_other_errors() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        let failure = Failure::of(&Error::GRpcStatus(status));
        assert_eq!(failure, Failure::NotSent("connection refused".to_owned()));
    }
}
