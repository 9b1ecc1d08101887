//! Who somebody is to a session, and on what terms: the controller's words in the gateway's.

use vidi_display::Policy;
use vidi_display::protocol::Part;
use vidi_kit::tls::{Role, dns_name};
use vidi_kit::trace;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::{self as wire, AdmitRequest, SessionState};

use super::controller::{Controller, answered};
use crate::error::GatewayError;
use crate::model::{Admitted, Peer, Recording, Terms, Visitor};

impl Controller {
    /// Asks who the person behind `token` is to the session with this id.
    pub async fn admit(&self, token: &str, session: &str) -> Result<Admitted, GatewayError> {
        let request = AdmitRequest { token: token.to_owned(), session: session.to_owned() };
        let mut client = GatewayLinkClient::new(self.channel()?);
        let answer = answered(client.admit(trace::carried(request))).await?;
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
        let place = if session.desktop.is_empty() { &session.machine } else { &session.desktop };
        let terms = terms_of(answer.display_policy, &answer.user_display_name, place);
        Ok(Admitted {
            terms,
            has_ended: session.state() == SessionState::Ended,
            // Only for logs: one that is malformed is as none.
            trace: session.trace.parse().ok(),
            session: session.name,
            visitor: Visitor { user: answer.caller, name: answer.caller_display_name, part },
            elsewhere,
        })
    }
}

/// What the controller says of a session, in the gateway's words. A number that this gateway does not know
/// is a restriction that it does not know.
pub(super) fn terms_of(
    policy: Option<wire::DisplayPolicy>,
    user_display_name: &str,
    place: &str,
) -> Terms {
    use wire::ClipboardWays::{Both, FromGuest, ToGuest, Unspecified};
    use wire::Permission;
    let policy = policy.unwrap_or_default();
    let allows = |number: i32| {
        matches!(Permission::try_from(number), Ok(Permission::Allowed | Permission::Unspecified))
    };
    let clipboard = wire::ClipboardWays::try_from(policy.clipboard);
    Terms {
        policy: Policy {
            clipboard_to_guest: matches!(clipboard, Ok(Unspecified | Both | ToGuest)),
            clipboard_from_guest: matches!(clipboard, Ok(Unspecified | Both | FromGuest)),
            files: allows(policy.files),
            sound: allows(policy.sound),
            microphone: allows(policy.microphone),
            ..Policy::default()
        },
        sharing: allows(policy.sharing),
        raw: policy.raw() == Permission::Allowed,
        recording: match wire::Recording::try_from(policy.recording) {
            Ok(wire::Recording::Never | wire::Recording::Unspecified) => Recording::Never,
            Ok(wire::Recording::OnRequest) => Recording::OnRequest,
            // Those who look see that it is.
            Ok(wire::Recording::Always) | Err(_) => Recording::Always,
        },
        watermark: policy.watermark,
        user_display_name: user_display_name.to_owned(),
        desktop: place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_desktop_does_not_say_is_allowed_but_for_raw_and_what_it_denies_is_not() {
        assert_eq!(terms_of(None, "", ""), Terms::default());
        let policy = wire::DisplayPolicy {
            clipboard: wire::ClipboardWays::FromGuest.into(),
            files: wire::Permission::Denied.into(),
            sharing: wire::Permission::Denied.into(),
            raw: wire::Permission::Allowed.into(),
            recording: wire::Recording::OnRequest.into(),
            watermark: true,
            ..Default::default()
        };
        let expected = Terms {
            policy: Policy { clipboard_to_guest: false, files: false, ..Policy::default() },
            sharing: false,
            raw: true,
            recording: Recording::OnRequest,
            watermark: true,
            user_display_name: "Ana".to_owned(),
            desktop: "tenants/t/machines/m".to_owned(),
        };
        assert_eq!(terms_of(Some(policy), "Ana", "tenants/t/machines/m"), expected);
    }

    #[test]
    fn a_number_that_is_not_known_is_a_restriction() {
        const NEW: i32 = 99;
        let policy = wire::DisplayPolicy {
            clipboard: NEW,
            files: NEW,
            sound: NEW,
            microphone: NEW,
            sharing: NEW,
            raw: NEW,
            recording: NEW,
            watermark: false,
        };
        let policy_of_none = Policy {
            clipboard_to_guest: false,
            clipboard_from_guest: false,
            files: false,
            sound: false,
            microphone: false,
            ..Policy::default()
        };
        let expected = Terms {
            policy: policy_of_none,
            sharing: false,
            recording: Recording::Always,
            ..Terms::default()
        };
        assert_eq!(terms_of(Some(policy), "", ""), expected);
    }
}
