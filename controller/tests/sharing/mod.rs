//! What a desktop's display policy does, and who is let in to look at a session.

use tonic::Code;
use tonic_types::StatusExt;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::{
    AdmitRequest, AdmitResponse, ClipboardWays, Desktop, DesktopSpec, DisplayPolicy,
    GatewayMessage, IssueGrantRequest, Part, Permission, PresentSession, Recording, ReleasePolicy,
    UpdateDesktopRequest,
};

use crate::stack::{Crash, Stack};
use crate::{assert_done, create_with, desktop, ended, open};

/// Changes what the paths name.
async fn update(
    stack: &Stack,
    mut desktop: Desktop,
    paths: &[&str],
    change: impl FnOnce(&mut Desktop),
) -> Result<Desktop, tonic::Status> {
    change(&mut desktop);
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateDesktopRequest {
        desktop: Some(desktop),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let changed = DesktopServiceClient::new(stack.admin()).update_desktop(request).await;
    changed.map(tonic::Response::into_inner)
}

fn policy(desktop: &mut Desktop) -> &mut DisplayPolicy {
    let spec = desktop.spec.get_or_insert_with(DesktopSpec::default);
    spec.display_policy.get_or_insert_with(DisplayPolicy::default)
}

#[tokio::test(start_paused = true)]
async fn a_display_policy_is_kept_told_with_each_grant_and_refused_where_it_cannot_be() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create_with(&stack, ReleasePolicy::Keep).await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let before = desktop(&stack, &created.target).await.unwrap();
    let usual = before.spec.clone().unwrap().display_policy.unwrap();
    assert_eq!((usual.clipboard(), usual.raw()), (ClipboardWays::Both, Permission::Denied));

    let refused = update(&stack, before.clone(), &["spec.display_policy"], |desktop| {
        policy(desktop).set_raw(Permission::Allowed);
        policy(desktop).watermark = true;
    });
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("other SPICE clients obey none"), "{refused:?}");
    let refused = update(&stack, before.clone(), &["spec.power"], |_| {}).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_FIELD");

    let changed = update(&stack, before.clone(), &["spec.display_policy"], |desktop| {
        desktop.display_name = "is not named by the mask".to_owned();
        policy(desktop).set_clipboard(ClipboardWays::ToGuest);
        policy(desktop).set_recording(Recording::Always);
    });
    let changed = changed.await.unwrap();
    assert_eq!(changed.display_name, before.display_name);
    assert_eq!(changed.spec.as_ref().unwrap().generation, before.spec.as_ref().unwrap().generation);
    let stale = update(&stack, before, &["display_name"], |desktop| {
        desktop.display_name = "Other".to_owned();
    });
    assert_eq!(stale.await.unwrap_err().code(), Code::Aborted);

    let session = open(&stack).await.unwrap();
    let token = "token-of-ana".to_owned();
    let request = IssueGrantRequest { token, session: session.name, ..Default::default() };
    let granted = GatewayLinkClient::new(stack.gateway()).issue_grant(request).await.unwrap();
    let granted = granted.into_inner();
    assert_eq!(granted.desktop, created.target);
    let told = granted.display_policy.unwrap();
    assert_eq!((told.clipboard(), told.files()), (ClipboardWays::ToGuest, Permission::Allowed));
    assert_eq!(told.recording(), Recording::Always);
}

async fn admit(stack: &Stack, person: &str, session: &str) -> Result<AdmitResponse, Code> {
    let token = format!("token-of-{person}");
    let session = session.rsplit('/').next().unwrap().to_owned();
    let request = AdmitRequest { token, session };
    let admitted = GatewayLinkClient::new(stack.gateway()).admit(request).await;
    admitted.map(tonic::Response::into_inner).map_err(|status| status.code())
}

#[tokio::test(start_paused = true)]
async fn colleagues_and_the_help_desk_are_told_apart_and_for_other_tenants_there_is_no_session() {
    let mut stack = Stack::new(Crash::Never).await;
    stack.add_tenant("other").await;
    stack.add_user("default", "bob", &["user"]).await;
    stack.add_user("default", "eve", &["auditor"]).await;
    stack.add_user("default", "hal", &["helpdesk"]).await;
    stack.add_user("other", "mia", &["admin", "helpdesk", "user"]).await;
    stack.add_user("other", "ola", &["operator"]).await;
    let created = create_with(&stack, ReleasePolicy::Keep).await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let session = open(&stack).await.unwrap().name;
    for (person, part) in [
        ("ana", Part::Owner),
        ("bob", Part::Colleague),
        ("eve", Part::Colleague),
        ("hal", Part::HelpDesk),
    ] {
        let admitted = admit(&stack, person, &session).await.unwrap();
        assert_eq!(admitted.part(), part, "{person}");
        assert_eq!(admitted.caller, format!("tenants/default/users/{person}"));
        assert_eq!(admitted.peer_address, "", "it is attached nowhere yet");
        assert_eq!(admitted.session.unwrap().user, "tenants/default/users/ana");
    }
    for person in ["mia", "ola"] {
        assert_eq!(admit(&stack, person, &session).await.unwrap_err(), Code::NotFound);
    }
    assert_eq!(admit(&stack, "bob", "no-uuid").await.unwrap_err(), Code::InvalidArgument);

    // Attached, it is said where the gateway is.
    let (messages, outgoing) = tokio::sync::mpsc::channel(4);
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let token = "token-of-ana".to_owned();
    let request = IssueGrantRequest { token, session: session.clone(), ..Default::default() };
    let mut gateway = GatewayLinkClient::new(stack.gateway());
    let epoch = gateway.issue_grant(request).await.unwrap().into_inner().epoch;
    let present = PresentSession { session: session.clone(), viewers: 1, epoch, idle_secs: 0 };
    let peer_address = "edge.example:7445".to_owned();
    let message = GatewayMessage { sessions: vec![present], peer_address };
    messages.send(message).await.unwrap();
    let _link = gateway.link(outgoing).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let admitted = admit(&stack, "bob", &session).await.unwrap();
    assert_eq!(admitted.peer_address, "edge.example:7445");
    assert_eq!(admitted.peer_name, "edge-1.gateway.vidi.internal");

    // Where sharing is denied there is nothing to ask for; its user is let in all the same.
    let before = desktop(&stack, &created.target).await.unwrap();
    let denied = update(&stack, before, &["spec.display_policy"], |desktop| {
        policy(desktop).set_sharing(Permission::Denied);
    });
    denied.await.unwrap();
    for person in ["bob", "hal"] {
        assert_eq!(admit(&stack, person, &session).await.unwrap_err(), Code::NotFound);
    }
    assert!(admit(&stack, "ana", &session).await.is_ok());
}
