//! Who somebody is to a session, and on what terms: the controller's words in the gateway's.

use std::time::Duration;

use vidi_display::Policy;
use vidi_display::protocol::Part;
use vidi_kit::tls::{Role, dns_name};
use vidi_kit::trace;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::{self as wire, AdmitRequest, SessionState};

use super::controller::Controller;
use crate::error::GatewayError;
use crate::model::{Admitted, Peer, Recording, Terms, Visitor};

/// No answer in this time means that the controller is away.
const ANSWER_SECS_MAX: Duration = Duration::from_secs(10);

impl Controller {
    /// Asks who the person behind `token` is to the session with this id.
    pub async fn admit(&self, token: &str, session: &str) -> Result<Admitted, GatewayError> {
        let request = AdmitRequest { token: token.to_owned(), session: session.to_owned() };
        let mut client = GatewayLinkClient::new(self.channel()?);
        let asking = client.admit(trace::carried(request));
        let answer = tokio::time::timeout(ANSWER_SECS_MAX, asking)
            .await
            .map_err(|_elapsed| GatewayError::ControllerAway)??
            .into_inner();
        let part = match answer.part() {
            wire::Part::Owner => Part::Owner,
            wire::Part::HelpDesk => Part::HelpDesk,
            wire::Part::Colleague | wire::Part::Unspecified => Part::Colleague,
        };
        let own_name = dns_name(Role::Gateway, &self.own_id());
        let is_elsewhere = !answer.peer_address.is_empty() && answer.peer_name != own_name;
        let elsewhere =
            is_elsewhere.then_some(Peer { address: answer.peer_address, name: answer.peer_name });
        let session = answer.session.unwrap_or_default();
        Ok(Admitted {
            has_ended: session.state() == SessionState::Ended,
            // Only for logs: one that is malformed is as none.
            trace: session.trace.parse().ok(),
            session: session.name,
            visitor: Visitor { user: answer.caller, name: answer.caller_display_name, part },
            elsewhere,
        })
    }
}

/// What a grant says of its session.
pub(super) fn terms_of(answer: &wire::IssueGrantResponse) -> Terms {
    let policy = answer.display_policy.unwrap_or_default();
    let allows = |permission| permission != wire::Permission::Denied;
    use wire::ClipboardWays::{FromGuest, Off, ToGuest};
    Terms {
        policy: Policy {
            clipboard_to_guest: !matches!(policy.clipboard(), FromGuest | Off),
            clipboard_from_guest: !matches!(policy.clipboard(), ToGuest | Off),
            files: allows(policy.files()),
            sound: allows(policy.sound()),
            microphone: allows(policy.microphone()),
            ..Policy::default()
        },
        sharing: allows(policy.sharing()),
        raw: policy.raw() == wire::Permission::Allowed,
        recording: match policy.recording() {
            wire::Recording::Never | wire::Recording::Unspecified => Recording::Never,
            wire::Recording::OnRequest => Recording::OnRequest,
            wire::Recording::Always => Recording::Always,
        },
        watermark: policy.watermark,
        user_display_name: answer.user_display_name.clone(),
        desktop: answer.desktop.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_desktop_does_not_say_is_allowed_but_for_raw_and_what_it_denies_is_not() {
        assert_eq!(terms_of(&wire::IssueGrantResponse::default()), Terms::default());
        let policy = wire::DisplayPolicy {
            clipboard: wire::ClipboardWays::FromGuest.into(),
            files: wire::Permission::Denied.into(),
            sharing: wire::Permission::Denied.into(),
            raw: wire::Permission::Allowed.into(),
            recording: wire::Recording::Always.into(),
            watermark: true,
            ..Default::default()
        };
        let terms = terms_of(&wire::IssueGrantResponse {
            display_policy: Some(policy),
            ..Default::default()
        });
        let expected = Terms {
            policy: Policy { clipboard_to_guest: false, files: false, ..Policy::default() },
            sharing: false,
            raw: true,
            recording: Recording::Always,
            watermark: true,
            ..Terms::default()
        };
        assert_eq!(terms, expected);
    }
}
