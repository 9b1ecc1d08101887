//! Why the gateway cannot do what was asked.

use tonic::Code;
use tonic_types::StatusExt;
use vidi_spice::MoveTarget;

use crate::model::Outlook;

/// One variant for each thing that can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No controller answers now: try again.
    #[error("the control plane does not answer; try again in a moment")]
    ControllerAway,
    /// The controller refused; its own words.
    #[error("{}", .0.message())]
    Refused(#[source] Box<tonic::Status>),
    /// The host's relay does not answer; the details are for operators.
    #[error("the desktop's host does not answer: {0}")]
    HostAway(String),
    /// The relay refused, or ended what it had granted; its own words.
    #[error("the desktop's host says: {0}")]
    Relay(String),
    /// A physical machine does not answer; the details are for operators.
    #[error("the machine does not answer: {0}")]
    MachineAway(String),
    /// A physical machine is not the one that was expected; the details are for operators.
    #[error("the machine cannot be trusted: {0}")]
    MachineUntrusted(String),
    /// A SPICE server does not take the password that is kept for it.
    #[error("the machine refuses the display password that is kept for it: set the right one")]
    PasswordRefused,
    /// The desktop goes on on another host; where, in its server's words.
    #[error("the desktop has moved to another host")]
    Moved(MoveTarget),
    /// The desktop's display server spoke in a way that cannot be followed.
    #[error("the desktop's display cannot be followed: {0}")]
    Spice(String),
    /// TLS or certificates.
    #[error(transparent)]
    Tls(#[from] vidi_kit::tls::TlsError),
    /// A certificate or key for the pages is not usable.
    #[error("the page certificate is not usable: {0}")]
    PageCertificate(String),
    /// A port or a file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<tonic::Status> for GatewayError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl GatewayError {
    /// For the person in front of the desktop: no address, no library's words. A code goes before the
    /// sentence, by which the page says the same in the person's language (docs/display-protocol.md).
    pub fn for_people(&self) -> String {
        let (code, text) = match self {
            Self::HostAway(_) | Self::Tls(_) | Self::Io(_) | Self::PageCertificate(_) => {
                ("HOST_AWAY".to_owned(), "the desktop's host does not answer".to_owned())
            }
            Self::ControllerAway => ("CONTROLLER_AWAY".to_owned(), self.to_string()),
            Self::Refused(status) => (refused_code(status), self.to_string()),
            Self::MachineAway(_) => {
                ("MACHINE_AWAY".to_owned(), "the machine does not answer".to_owned())
            }
            Self::MachineUntrusted(_) => (
                "MACHINE_UNTRUSTED".to_owned(),
                "the machine does not show the certificate that is expected of it".to_owned(),
            ),
            Self::PasswordRefused => (
                "PASSWORD_REFUSED".to_owned(),
                "the machine refuses the display password that is kept for it".to_owned(),
            ),
            Self::Relay(_) | Self::Moved(_) => ("DISPLAY_LOST".to_owned(), self.to_string()),
            Self::Spice(_) => ("DISPLAY_UNREADABLE".to_owned(), self.to_string()),
        };
        format!("{code}: {text}")
    }

    /// What follows from it for a session.
    pub fn outlook(&self) -> Outlook {
        match self {
            Self::Refused(status) => match status.code() {
                Code::Unauthenticated => Outlook::SignedOut,
                Code::NotFound | Code::PermissionDenied => Outlook::Ended,
                Code::FailedPrecondition if reason_of(status).as_deref() == Some(WAITING) => {
                    Outlook::Waits
                }
                _ => Outlook::TryAgain,
            },
            Self::ControllerAway
            | Self::HostAway(_)
            | Self::MachineAway(_)
            | Self::MachineUntrusted(_)
            | Self::PasswordRefused
            | Self::Relay(_)
            | Self::Moved(_)
            | Self::Spice(_)
            | Self::Tls(_)
            | Self::PageCertificate(_)
            | Self::Io(_) => Outlook::TryAgain,
        }
    }
}

/// The reason of a session that waits for a desktop of its pool.
const WAITING: &str = "WAITING_FOR_DESKTOP";

fn reason_of(status: &tonic::Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// The controller's reason; with the place in the queue and the seconds until its end, where it is that.
fn refused_code(status: &tonic::Status) -> String {
    let Some(info) = status.get_details_error_info() else { return "REFUSED".to_owned() };
    if info.reason != WAITING {
        return info.reason;
    }
    let number = |key| info.metadata.get(key).and_then(|text| text.parse::<u32>().ok());
    let [position, secs] = ["position", "estimate_secs"].map(|key| number(key).unwrap_or_default());
    format!("{WAITING} {position} {secs}")
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn who_waits_for_a_desktop_is_told_the_place_in_the_queue_and_asks_on() {
        let metadata = [("position", "2"), ("estimate_secs", "40"), ("reason", "")];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let details = ErrorDetails::with_error_info("WAITING_FOR_DESKTOP", "vidi.io", metadata);
        let code = Code::FailedPrecondition;
        let error: GatewayError =
            tonic::Status::with_error_details(code, "none is ready", details).into();
        assert_eq!(error.for_people(), "WAITING_FOR_DESKTOP 2 40: none is ready");
        assert_eq!(error.outlook(), Outlook::Waits);
        let details = ErrorDetails::with_error_info("WRONG_STATE", "vidi.io", []);
        let error: GatewayError =
            tonic::Status::with_error_details(code, "it is off", details).into();
        assert_eq!(error.outlook(), Outlook::TryAgain);
    }

    #[test]
    fn what_people_are_told_begins_with_a_code_and_names_no_address() {
        let details = ErrorDetails::with_error_info("HOST_UNREACHABLE", "vidi.io", []);
        let status =
            tonic::Status::with_error_details(Code::Unavailable, "its host is away", details);
        let plain = tonic::Status::new(Code::Unavailable, "not now");
        for (error, told) in [
            (GatewayError::from(status), "HOST_UNREACHABLE: its host is away"),
            (GatewayError::from(plain), "REFUSED: not now"),
            (
                GatewayError::HostAway("10.0.0.7:7444 refused".to_owned()),
                "HOST_AWAY: the desktop's host does not answer",
            ),
        ] {
            assert_eq!(error.for_people(), told);
        }
    }
}
