//! What the controller is asked, always with the user's own token: may this be, and is it still so?

use tonic::{Code, Status};
use vidi_display::Policy;
use vidi_display::protocol::Part;
use vidi_kit::ids::DesktopId;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::{App, ListAppsRequest, OpenAppRequest, Session};

use crate::adapters::controller::{Controller, answered, bearer};
use crate::error::GatewayError;
use crate::model::{Recording, Terms};

/// Why not.
#[derive(Debug)]
pub(super) enum Denied {
    /// Nobody answers now: try again.
    Away(String),
    /// The sign-in is over.
    SignedOut,
    /// Not this user's, or not there.
    NotYours(String),
    /// The desktop's policy, or the gateway's configuration.
    Policy(&'static str),
    /// The session is over.
    Ended,
}

impl Denied {
    /// In words for people.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Away(text) | Self::NotYours(text) => text,
            Self::SignedOut => "sign in again",
            Self::Policy(text) => text,
            Self::Ended => "the session has ended",
        }
    }

    /// As metrics name it.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::SignedOut | Self::NotYours(_) | Self::Ended => "rights",
            Self::Policy(_) => "policy",
        }
    }
}

impl From<GatewayError> for Denied {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Refused(status) => (*status).into(),
            other => Self::Away(other.to_string()),
        }
    }
}

impl From<Status> for Denied {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::SignedOut,
            Code::NotFound | Code::PermissionDenied => Self::NotYours(status.message().to_owned()),
            _ => Self::Away(status.message().to_owned()),
        }
    }
}

/// The entry on the user's own menu that is this desktop, where other viewers are allowed to it.
pub(super) async fn own_app(
    controller: &Controller,
    token: &str,
    desktop: DesktopId,
    policy: Policy,
) -> Result<App, Denied> {
    let mut sessions = SessionServiceClient::new(controller.channel()?);
    let asking = sessions.list_apps(bearer(token, ListAppsRequest {}));
    let apps = answered(asking).await?.apps;
    let [end, machine_end] =
        ["desktops", "machines"].map(|collection| format!("/{collection}/{desktop}"));
    let is_meant = |app: &App| app.desktop.ends_with(&end) || app.machine.ends_with(&machine_end);
    let app = apps.into_iter().find(is_meant);
    let app = app.ok_or_else(|| Denied::NotYours("this desktop is not yours".to_owned()))?;
    // All of its terms come with its session: one is made only where there is something to open.
    judge(&Terms { raw: app.raw, ..Terms::default() }, policy)?;
    Ok(app)
}

/// The user's session on it, made where there is none.
pub(super) async fn open_app(
    controller: &Controller,
    token: &str,
    app: &App,
) -> Result<Session, Denied> {
    let mut sessions = SessionServiceClient::new(controller.channel()?);
    let request = OpenAppRequest { name: app.name.clone(), request_id: String::new() };
    Ok(answered(sessions.open_app(bearer(token, request))).await?)
}

/// Whether the session is still this user's and its desktop or machine still open to other viewers.
pub(super) async fn judge_session(
    controller: &Controller,
    token: &str,
    session: &str,
    policy: Policy,
) -> Result<(), Denied> {
    let id = session.rsplit('/').next().unwrap_or(session);
    let found = controller.admit(token, id).await?;
    if found.visitor.part != Part::Owner {
        return Err(Denied::NotYours("this session is somebody else's".to_owned()));
    }
    if found.has_ended {
        return Err(Denied::Ended);
    }
    judge(&found.terms, policy)
}

/// Other clients obey nobody: they are let in only where there is nothing to obey.
pub(super) fn judge(terms: &Terms, of_gateway: Policy) -> Result<(), Denied> {
    let everything = Policy::default();
    // A screen that does not follow the window is no secret.
    let restricts = |policy: Policy| Policy { resize: everything.resize, ..policy } != everything;
    Err(Denied::Policy(if !terms.raw {
        "other viewers are not allowed to this desktop; ask your administrator"
    } else if restricts(of_gateway) {
        "this gateway restricts what passes, which other viewers would not obey"
    } else if restricts(terms.policy) {
        "this desktop restricts what passes, which other viewers would not obey"
    } else if terms.recording != Recording::Never {
        "this desktop is recorded, which other viewers would not be"
    } else if terms.watermark {
        "this desktop's picture is watermarked, which other viewers would not show"
    } else {
        return Ok(());
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_viewers_are_let_in_only_where_nothing_is_restricted() {
        let all = || Terms { raw: true, ..Terms::default() };
        assert!(judge(&all(), Policy::default()).is_ok());
        let still = Policy { resize: false, ..Policy::default() };
        assert!(judge(&all(), still).is_ok(), "a screen of its own size is no secret");
        let restricted = [
            Policy { clipboard_to_guest: false, ..Policy::default() },
            Policy { clipboard_from_guest: false, ..Policy::default() },
            Policy { files: false, ..Policy::default() },
            Policy { sound: false, ..Policy::default() },
            Policy { microphone: false, ..Policy::default() },
        ];
        for policy in restricted {
            assert!(judge(&all(), policy).is_err(), "the gateway's own word: {policy:?}");
            assert!(judge(&Terms { policy, ..all() }, Policy::default()).is_err(), "{policy:?}");
        }
        for terms in [
            Terms::default(),
            Terms { recording: Recording::OnRequest, ..all() },
            Terms { recording: Recording::Always, ..all() },
            Terms { watermark: true, ..all() },
        ] {
            assert!(judge(&terms, Policy::default()).is_err(), "{terms:?}");
        }
    }

    #[test]
    fn what_the_controller_refuses_is_no_reason_to_try_again() {
        let refused = |code| Denied::from(GatewayError::from(Status::new(code, "so")));
        assert!(matches!(refused(Code::Unauthenticated), Denied::SignedOut));
        assert!(matches!(refused(Code::NotFound), Denied::NotYours(_)));
        assert!(matches!(refused(Code::Unavailable), Denied::Away(_)));
        assert!(matches!(Denied::from(GatewayError::ControllerAway), Denied::Away(_)));
    }
}
