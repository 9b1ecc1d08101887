//! How a command ends: exit codes, and what to do about an error.

use std::fmt;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a command ends without what was asked for, where that is not an answer of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody answers; with why.
    Away(String),
    /// There is no such thing; with what.
    NotThere(String),
    /// The time given to wait is over; with what goes on.
    TimeOver(String),
    /// The question was answered with no.
    Declined,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(text) | Self::NotThere(text) | Self::TimeOver(text) => {
                formatter.write_str(text)
            }
            Self::Declined => formatter.write_str("nothing was changed"),
        }
    }
}

impl std::error::Error for Failure {}

/// As `vidictl --help` documents them; clap ends with 2.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    const FAILED: u8 = 1;
    const AWAY: u8 = 3;
    const NOT_ALLOWED: u8 = 4;
    const NOT_THERE: u8 = 5;
    const TIME_OVER: u8 = 6;
    const DECLINED: u8 = 7;
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return ExitCode::from(match failure {
            Failure::Away(_) => AWAY,
            Failure::NotThere(_) => NOT_THERE,
            Failure::TimeOver(_) => TIME_OVER,
            Failure::Declined => DECLINED,
        });
    }
    let Some(status) = error.downcast_ref::<Status>() else { return ExitCode::from(FAILED) };
    ExitCode::from(match status.code() {
        Code::Unavailable if reason(status).is_none() => AWAY,
        Code::Unauthenticated | Code::PermissionDenied => NOT_ALLOWED,
        Code::NotFound => NOT_THERE,
        _ => FAILED,
    })
}

/// The server's sentence and its reason, or our own error and its causes; then what to do, where
/// the sentence does not say it.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let Some(status) = error.downcast_ref::<Status>() else { return format!("{error:#}") };
    let reason = reason(status);
    let name = reason.clone().unwrap_or_else(|| format!("{:?}", status.code()));
    let text = format!("{} [{name}]", status.message());
    match hint(status.code(), reason.as_deref()) {
        Some(hint) => format!("{text}\n{hint}"),
        None => text,
    }
}

fn reason(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// What to do, by the reasons of `vidi.v1.ErrorReason`.
pub(crate) fn hint(code: Code, reason: Option<&str>) -> Option<&'static str> {
    let hint = match reason {
        Some("SIGNED_OUT") => "Sign in again: vidictl sign-in USER",
        Some("BAD_CREDENTIALS") => {
            "Check user and --tenant; an operator sets a password with vidictl user passwd USER"
        }
        Some("NOT_ALLOWED") => {
            "`vidictl whoami` says what you may do; an operator gives roles with vidictl user update"
        }
        Some("NOT_FOUND") => "The command with `list` instead shows what there is; mind --tenant",
        Some("ALREADY_EXISTS") => "Choose another name, or change the one that is there",
        Some("ETAG_STALE") => "It changed in between: try again",
        Some("NO_HOST") => {
            "`vidictl host list` shows what each host lacks; free memory or let a host join"
        }
        Some("DESKTOP_IN_USE") => {
            "`vidictl session list` shows who is on it; vidictl session release SESSION ends it"
        }
        Some("WAITING_FOR_DESKTOP") => {
            "`vidictl pool list` shows how many desktops are ready and what holds up the others"
        }
        Some("HOST_UNREACHABLE") => {
            "`vidictl host list` shows which host is away; on it: vidi-agent doctor"
        }
        Some("STORE_UNAVAILABLE") => {
            "Nothing was changed. Look at the controller's disk and log: journalctl -u vidi-controller"
        }
        Some("NOT_LEADER") => {
            "Ask the one that leads: run it there, or give all controllers with --server A:7443,B:7443 and \
             --ca. While another one takes over: again in a few seconds"
        }
        Some("TRY_LATER") => "Wait a minute, then try again",
        Some(_) => return None,
        None => match code {
            Code::Unavailable => "Is the controller running? systemctl status vidi-controller",
            Code::Unauthenticated => "Sign in first: vidictl sign-in USER",
            Code::Unimplemented => {
                "The controller does not know this command: it is older than this vidictl"
            }
            _ => return None,
        },
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str) -> anyhow::Error {
        let details = ErrorDetails::with_error_info(reason, "vidi.io", HashMap::new());
        Status::with_error_details(code, "it is not so", details).into()
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let is = |error: anyhow::Error, code: u8| {
            assert_eq!(
                format!("{:?}", exit_code(&error)),
                format!("{:?}", ExitCode::from(code)),
                "{error:?}"
            );
        };
        is(anyhow::anyhow!("something"), 1);
        is(refused(Code::FailedPrecondition, "WRONG_STATE"), 1);
        is(refused(Code::Unavailable, "STORE_UNAVAILABLE"), 1);
        is(Status::unavailable("connection refused").into(), 3);
        is(Failure::Away("nobody".to_owned()).into(), 3);
        is(refused(Code::Unauthenticated, "SIGNED_OUT"), 4);
        is(refused(Code::PermissionDenied, "NOT_ALLOWED"), 4);
        is(refused(Code::NotFound, "NOT_FOUND"), 5);
        is(Failure::NotThere("x".to_owned()).into(), 5);
        is(Failure::TimeOver("x".to_owned()).into(), 6);
        is(Failure::Declined.into(), 7);
    }

    #[test]
    fn a_refusal_says_its_sentence_its_reason_and_what_to_do() {
        let text = describe(&refused(Code::Unauthenticated, "SIGNED_OUT"));
        assert_eq!(text, "it is not so [SIGNED_OUT]\nSign in again: vidictl sign-in USER");
    }
}
