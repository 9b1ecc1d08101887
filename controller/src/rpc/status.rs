//! Refusals and errors as gRPC statuses: the only place that makes them.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use vidi_proto::v1::ErrorReason;

use crate::model::Refusal;
use crate::ports::{AuthorityError, DirectoryError};

/// Domain of our `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "vidi.io";
/// When to come again where nothing better is known.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The reason as it travels: the enum's name without its prefix.
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// A status with its reason.
pub fn status(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    with_metadata(code, reason, message, [])
}

/// A status with its reason and what belongs to it.
pub fn with_metadata<const N: usize>(
    code: Code,
    reason: ErrorReason,
    message: impl Into<String>,
    metadata: [(&str, String); N],
) -> Status {
    Status::with_error_details(code, message, details(reason, metadata))
}

fn details<const N: usize>(reason: ErrorReason, metadata: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason_name(reason), DOMAIN, metadata)
}

/// A field is missing or malformed; `rule` says what is expected.
pub fn invalid_field(field: &str, rule: &str) -> Status {
    let mut details = details(ErrorReason::InvalidField, []);
    details.add_bad_request_violation(field, rule);
    let message = format!("the field {field} is not valid: {rule}");
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The caller's role does not allow it.
pub fn not_allowed() -> Status {
    let message = "you may not do this: ask somebody with the role for it";
    status(Code::PermissionDenied, ErrorReason::NotAllowed, message)
}

/// The caller is nobody, or not any more.
pub fn signed_out() -> Status {
    let message = "you are not signed in, or the sign-in has ended: sign in again";
    status(Code::Unauthenticated, ErrorReason::SignedOut, message)
}

/// User or password is wrong.
pub fn bad_credentials() -> Status {
    let message = "user or password is wrong";
    status(Code::Unauthenticated, ErrorReason::BadCredentials, message)
}

/// There is no such thing, or it is somebody else's: both look the same.
pub fn not_found(kind: &'static str, id: &str) -> Status {
    Refusal::not_found(kind, id).into()
}

/// A page token of another query, or no token at all.
pub fn page_token_invalid() -> Status {
    let message = "the page token belongs to another query or is no longer valid: start again";
    status(Code::InvalidArgument, ErrorReason::PageTokenInvalid, message)
}

/// Too much at once: the caller should come again.
pub fn try_later(message: impl Into<String>, wait: Duration) -> Status {
    let mut details = details(ErrorReason::TryLater, []);
    details.set_retry_info(Some(wait));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        let plain = |code, reason| status(code, reason, text.clone());
        match &refusal {
            Refusal::NotFound { .. } => plain(Code::NotFound, ErrorReason::NotFound),
            Refusal::AlreadyExists { .. } => plain(Code::AlreadyExists, ErrorReason::AlreadyExists),
            Refusal::EtagStale { .. } => plain(Code::Aborted, ErrorReason::EtagStale),
            Refusal::RequestIdReused(_) => {
                plain(Code::InvalidArgument, ErrorReason::RequestIdReused)
            }
            Refusal::WrongState { state, .. } => with_metadata(
                Code::FailedPrecondition,
                ErrorReason::WrongState,
                text,
                [("state", state.clone())],
            ),
            Refusal::MachineInUse(_) => plain(Code::FailedPrecondition, ErrorReason::DesktopInUse),
            Refusal::DesktopInUse(_) => plain(Code::FailedPrecondition, ErrorReason::DesktopInUse),
            Refusal::HostUnreachable(_) => plain(Code::Unavailable, ErrorReason::HostUnreachable),
            Refusal::HostRemoved(_) => plain(Code::PermissionDenied, ErrorReason::NotAllowed),
            Refusal::BadEnrollToken => plain(Code::PermissionDenied, ErrorReason::BadEnrollToken),
            Refusal::SignedOut => signed_out(),
            Refusal::LimitExceeded { limit, .. } => with_metadata(
                Code::ResourceExhausted,
                ErrorReason::LimitExceeded,
                text,
                [("limit", limit.to_string())],
            ),
            Refusal::QuotaExceeded { kind, limit, used } => with_metadata(
                Code::ResourceExhausted,
                ErrorReason::QuotaExceeded,
                text,
                [
                    ("quota", kind.as_str().to_owned()),
                    ("limit", limit.to_string()),
                    ("used", used.to_string()),
                ],
            ),
            Refusal::WaitingForDesktop { position, estimate_secs, reason } => with_metadata(
                Code::FailedPrecondition,
                ErrorReason::WaitingForDesktop,
                text,
                [
                    ("position", position.to_string()),
                    ("estimate_secs", estimate_secs.unwrap_or(0).to_string()),
                    ("reason", reason.clone()),
                ],
            ),
            Refusal::LinkReplaced => plain(Code::Aborted, ErrorReason::WrongState),
            Refusal::StoreUnavailable(_) => plain(Code::Unavailable, ErrorReason::StoreUnavailable),
            Refusal::NotLeader => plain(Code::Unavailable, ErrorReason::NotLeader),
            Refusal::Busy => try_later(text, RETRY_SOON),
        }
    }
}

impl From<AuthorityError> for Status {
    fn from(error: AuthorityError) -> Self {
        match &error {
            AuthorityError::BadRequest => invalid_field("csr", &error.to_string()),
            AuthorityError::BadName(_) => invalid_field("names", &error.to_string()),
            AuthorityError::Sign(source) => {
                tracing::error!(%source, "The certificate authority does not sign");
                Self::internal(error.to_string())
            }
        }
    }
}

impl From<DirectoryError> for Status {
    fn from(error: DirectoryError) -> Self {
        match &error {
            DirectoryError::Busy => try_later(error.to_string(), RETRY_SOON),
            DirectoryError::Unavailable(_) => {
                status(Code::Unavailable, ErrorReason::StoreUnavailable, error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_its_reason_and_names_the_field() {
        let refused = invalid_field("user_id", "1 to 64 letters are expected");
        let details = refused.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELD", "vidi.io"));
        let bad = details.bad_request().unwrap();
        assert_eq!(bad.field_violations[0].field, "user_id");
        let state: Status = Refusal::WrongState {
            kind: "desktop",
            id: "d".to_owned(),
            state: "starting".to_owned(),
            remedy: "wait",
        }
        .into();
        assert_eq!(state.code(), Code::FailedPrecondition);
        let details = state.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["state"], "starting");
    }
}
