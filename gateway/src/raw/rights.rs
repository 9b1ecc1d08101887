//! What the controller is asked, always with the user's own token: may this be, and is it still so?

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status};
use vidi_display::Policy;
use vidi_kit::ids::DesktopId;
use vidi_kit::trace;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::{
    App, ClipboardWays, DisplayPolicy, GetDesktopRequest, GetSessionRequest, ListAppsRequest,
    OpenAppRequest, Permission, Recording, Session, SessionState,
};

use crate::adapters::controller::Controller;
use crate::error::GatewayError;
use crate::model::{self, Terms};

/// No answer in this time means that the controller is away.
const ANSWER_SECS_MAX: Duration = Duration::from_secs(10);

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
        Self::Away(error.to_string())
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
    let channel = controller.channel()?;
    let mut sessions = SessionServiceClient::new(channel.clone());
    let asking = sessions.list_apps(bearer(token, ListAppsRequest {}));
    let apps = answered(asking).await?.apps;
    let [end, machine_end] =
        ["desktops", "machines"].map(|collection| format!("/{collection}/{desktop}"));
    let is_meant = |app: &App| app.desktop.ends_with(&end) || app.machine.ends_with(&machine_end);
    let app = apps.into_iter().find(is_meant);
    let app = app.ok_or_else(|| Denied::NotYours("this desktop is not yours".to_owned()))?;
    judge_desktop(channel, token, &app.desktop, policy).await?;
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
    answered(sessions.open_app(bearer(token, request))).await
}

/// Whether the session is still this user's and its desktop still open to other viewers.
pub(super) async fn judge_session(
    controller: &Controller,
    token: &str,
    session: &str,
    policy: Policy,
) -> Result<(), Denied> {
    let channel = controller.channel()?;
    let mut sessions = SessionServiceClient::new(channel.clone());
    let request = GetSessionRequest { name: session.to_owned() };
    let found = answered(sessions.get_session(bearer(token, request))).await?;
    if found.state() == SessionState::Ended {
        return Err(Denied::Ended);
    }
    judge_desktop(channel, token, &found.desktop, policy).await
}

/// Of a physical machine its user may not ask: what is allowed there comes with each grant alone.
async fn judge_desktop(
    channel: Channel,
    token: &str,
    desktop: &str,
    policy: Policy,
) -> Result<(), Denied> {
    if desktop.is_empty() {
        return Ok(());
    }
    let request = GetDesktopRequest { name: desktop.to_owned() };
    let mut desktops = DesktopServiceClient::new(channel);
    let found = answered(desktops.get_desktop(bearer(token, request))).await?;
    let of_desktop = found.spec.and_then(|spec| spec.display_policy).unwrap_or_default();
    judge(&of_desktop, policy).map_err(Denied::Policy)
}

/// Other clients obey nobody: they are let in only where there is nothing to obey.
pub(super) fn judge(of_desktop: &DisplayPolicy, of_gateway: Policy) -> Result<(), &'static str> {
    // A number that this gateway does not know is a restriction that it does not know.
    let clipboard = ClipboardWays::try_from(of_desktop.clipboard);
    let clipboard = matches!(clipboard, Ok(ClipboardWays::Unspecified | ClipboardWays::Both));
    let recording = Recording::try_from(of_desktop.recording);
    let recorded = !matches!(recording, Ok(Recording::Unspecified | Recording::Never));
    let denied = |permission: i32| {
        let permission = Permission::try_from(permission);
        !matches!(permission, Ok(Permission::Unspecified | Permission::Allowed))
    };
    if of_desktop.raw() != Permission::Allowed {
        return Err("other viewers are not allowed to this desktop; ask your administrator");
    }
    // A screen that does not follow the window is no secret.
    if (Policy { resize: true, ..of_gateway }) != Policy::default() {
        return Err("this gateway restricts what passes, which other viewers would not obey");
    }
    if !clipboard {
        return Err("this desktop's clipboard is restricted, which other viewers would not obey");
    }
    if denied(of_desktop.files) {
        return Err("files are kept out of this desktop, which other viewers would not obey");
    }
    if denied(of_desktop.sound) || denied(of_desktop.microphone) {
        return Err("this desktop's sound is restricted, which other viewers would not obey");
    }
    if recorded {
        return Err("this desktop is recorded, which other viewers would not be");
    }
    if of_desktop.watermark {
        return Err("this desktop's picture is watermarked, which other viewers would not show");
    }
    Ok(())
}

/// The same of what came with a grant.
pub(super) fn judge_terms(terms: &Terms, of_gateway: Policy) -> Result<(), Denied> {
    let everything = Policy::default();
    let passes = Policy { resize: everything.resize, ..terms.policy.and(of_gateway) } == everything;
    let is_kept = terms.recording != model::Recording::Never || terms.watermark;
    if terms.raw && passes && !is_kept {
        return Ok(());
    }
    Err(Denied::Policy("other viewers are not allowed to this desktop; ask your administrator"))
}

async fn answered<T>(
    asking: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Denied> {
    let answer = tokio::time::timeout(ANSWER_SECS_MAX, asking).await;
    let answer = answer.map_err(|_elapsed| GatewayError::ControllerAway)?;
    Ok(answer?.into_inner())
}

fn bearer<T>(token: &str, message: T) -> tonic::Request<T> {
    let mut request = trace::carried(message);
    if let Ok(value) = format!("Bearer {token}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> DisplayPolicy {
        DisplayPolicy { raw: Permission::Allowed.into(), ..DisplayPolicy::default() }
    }

    #[test]
    fn other_viewers_are_let_in_only_where_nothing_is_restricted() {
        assert!(judge(&allowed(), Policy::default()).is_ok());
        assert!(
            judge(&DisplayPolicy::default(), Policy::default()).is_err(),
            "it is off unless said"
        );
        let denied = Permission::Denied.into();
        for restricted in [
            DisplayPolicy { raw: denied, ..allowed() },
            DisplayPolicy { clipboard: ClipboardWays::ToGuest.into(), ..allowed() },
            DisplayPolicy { clipboard: ClipboardWays::FromGuest.into(), ..allowed() },
            DisplayPolicy { clipboard: ClipboardWays::Off.into(), ..allowed() },
            DisplayPolicy { files: denied, ..allowed() },
            DisplayPolicy { sound: denied, ..allowed() },
            DisplayPolicy { microphone: denied, ..allowed() },
            DisplayPolicy { recording: Recording::Always.into(), ..allowed() },
            DisplayPolicy { recording: Recording::OnRequest.into(), ..allowed() },
            DisplayPolicy { watermark: true, ..allowed() },
        ] {
            assert!(judge(&restricted, Policy::default()).is_err(), "{restricted:?}");
        }
        for restricted in [
            Policy { clipboard_to_guest: false, ..Policy::default() },
            Policy { clipboard_from_guest: false, ..Policy::default() },
        ] {
            assert!(judge(&allowed(), restricted).is_err(), "{restricted:?}");
        }
    }

    #[test]
    fn a_grant_decides_as_the_desktop_does() {
        let all = || Terms { raw: true, ..Terms::default() };
        assert!(judge_terms(&all(), Policy::default()).is_ok());
        let still = Policy { resize: false, ..Policy::default() };
        assert!(judge_terms(&all(), still).is_ok(), "a screen of its own size is no secret");
        let quiet = Policy { sound: false, ..Policy::default() };
        assert!(judge_terms(&all(), quiet).is_err(), "the gateway's own word");
        for terms in [
            Terms::default(),
            Terms { policy: quiet, ..all() },
            Terms { recording: model::Recording::OnRequest, ..all() },
            Terms { watermark: true, ..all() },
        ] {
            assert!(judge_terms(&terms, Policy::default()).is_err(), "{terms:?}");
        }
    }

    #[test]
    fn a_number_that_is_not_known_is_a_restriction() {
        for unknown in [
            DisplayPolicy { raw: 99, ..allowed() },
            DisplayPolicy { clipboard: 99, ..allowed() },
            DisplayPolicy { files: 99, ..allowed() },
            DisplayPolicy { recording: 99, ..allowed() },
        ] {
            assert!(judge(&unknown, Policy::default()).is_err(), "{unknown:?}");
        }
    }
}
