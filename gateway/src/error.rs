//! Why the gateway cannot do what was asked.

use tonic::Code;

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
    /// For the person in front of the desktop: no address, no library's words.
    pub fn for_people(&self) -> String {
        match self {
            Self::HostAway(_) | Self::Tls(_) | Self::Io(_) | Self::PageCertificate(_) => {
                "the desktop's host does not answer".to_owned()
            }
            Self::ControllerAway | Self::Refused(_) | Self::Relay(_) | Self::Spice(_) => {
                self.to_string()
            }
        }
    }

    /// What follows from it for a session.
    pub fn outlook(&self) -> Outlook {
        match self {
            Self::Refused(status) => match status.code() {
                Code::Unauthenticated => Outlook::SignedOut,
                Code::NotFound | Code::PermissionDenied => Outlook::Ended,
                _ => Outlook::TryAgain,
            },
            Self::ControllerAway
            | Self::HostAway(_)
            | Self::Relay(_)
            | Self::Spice(_)
            | Self::Tls(_)
            | Self::PageCertificate(_)
            | Self::Io(_) => Outlook::TryAgain,
        }
    }
}
