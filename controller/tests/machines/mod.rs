//! A physical machine's life: on menus, claimed by one at a time, reached directly, counted, gone.

use std::time::Duration;

use tonic::{Code, Status};
use vidi_controller::model::{Place, UsageKind};
use vidi_proto::v1 as wire;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::machine_service_client::MachineServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::usage_service_client::UsageServiceClient;

use crate::stack::{Crash, DISCONNECT_MS, Stack};

const SECRET: &str = "open-sesame";
const APP: &str = "tenants/default/apps/lab-7";

fn lab() -> wire::Machine {
    wire::Machine {
        display_name: "Lab 7".to_owned(),
        address: "lab-7.example.org:5901".to_owned(),
        tls: true,
        ca: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned(),
        password: SECRET.to_owned(),
        ..Default::default()
    }
}

async fn create(stack: &Stack, machine: wire::Machine) -> Result<wire::Machine, Status> {
    let parent = "tenants/default".to_owned();
    let (machine, request_id) = (Some(machine), "m1".to_owned());
    let request = wire::CreateMachineRequest { parent, machine, request_id, validate_only: false };
    let mut client = MachineServiceClient::new(stack.admin());
    client.create_machine(request).await.map(tonic::Response::into_inner)
}

async fn update(
    stack: &Stack,
    machine: wire::Machine,
    mask: &[&str],
) -> Result<wire::Machine, Status> {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    let request =
        wire::UpdateMachineRequest { machine: Some(machine), update_mask, validate_only: false };
    let mut client = MachineServiceClient::new(stack.admin());
    client.update_machine(request).await.map(tonic::Response::into_inner)
}

async fn get(stack: &Stack, name: &str) -> Result<wire::Machine, Status> {
    let request = wire::GetMachineRequest { name: name.to_owned() };
    let mut client = MachineServiceClient::new(stack.admin());
    client.get_machine(request).await.map(tonic::Response::into_inner)
}

async fn menu(stack: &Stack, user: &str) -> Vec<wire::App> {
    let mut client = SessionServiceClient::new(stack.user(user));
    client.list_apps(wire::ListAppsRequest {}).await.unwrap().into_inner().apps
}

async fn open(stack: &Stack, user: &str) -> Result<wire::Session, Status> {
    let request = wire::OpenAppRequest { name: APP.to_owned(), ..Default::default() };
    let mut client = SessionServiceClient::new(stack.user(user));
    client.open_app(request).await.map(tonic::Response::into_inner)
}

async fn session(stack: &Stack, name: &str) -> wire::Session {
    let request = wire::GetSessionRequest { name: name.to_owned() };
    let mut client = SessionServiceClient::new(stack.admin());
    client.get_session(request).await.unwrap().into_inner()
}

async fn grant(
    stack: &Stack,
    session: &str,
    problem: &str,
) -> Result<wire::IssueGrantResponse, Status> {
    let (token, session) = ("token-of-ana".to_owned(), session.to_owned());
    let request = wire::IssueGrantRequest { token, session, problem: problem.to_owned() };
    let mut client = GatewayLinkClient::new(stack.gateway());
    client.issue_grant(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_claimed_by_one_at_a_time_and_reached_with_its_password() {
    let mut stack = Stack::new(Crash::Never).await;
    let made = create(&stack, lab()).await.unwrap();
    assert_eq!(create(&stack, lab()).await.unwrap().name, made.name, "asked again");
    assert_eq!((made.password.as_str(), made.has_password), ("", true));
    let stored = format!("{:?}", stack.entries());
    assert!(!stored.contains(SECRET), "the password is stored wrapped");
    for user in ["ana", "ben"] {
        let apps = menu(&stack, user).await;
        assert_eq!((apps[0].name.as_str(), apps[0].ready), (APP, true), "{user}");
        assert_eq!((&apps[0].machine, apps[0].desktop.as_str()), (&made.name, ""));
    }
    let first = open(&stack, "ana").await.unwrap();
    assert_eq!(open(&stack, "ana").await.unwrap().name, first.name, "the same session");
    assert_eq!((&first.machine, first.desktop.as_str()), (&made.name, ""));
    let refused = open(&stack, "ben").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(!menu(&stack, "ben").await[0].ready);
    let granted = grant(&stack, &first.name, "").await.unwrap();
    let direct = granted.direct.unwrap();
    assert_eq!((granted.epoch, granted.grant.len(), granted.relay_address.len()), (1, 0, 0));
    assert_eq!((direct.address.as_str(), direct.tls), ("lab-7.example.org:5901", true));
    assert_eq!((direct.password.as_str(), direct.ca), (SECRET, lab().ca));
    // Another controller takes it up from the store.
    stack.restart().await;
    assert_eq!(open(&stack, "ana").await.unwrap().name, first.name);
    let granted = grant(&stack, &first.name, "").await.unwrap();
    assert_eq!((granted.epoch, granted.direct.unwrap().password.as_str()), (2, SECRET));
    let shown = get(&stack, &made.name).await.unwrap().status.unwrap();
    assert_eq!(shown.session_user, "tenants/default/users/ana");
    let request = wire::ReleaseSessionRequest { name: first.name.clone() };
    SessionServiceClient::new(stack.user("ana")).release_session(request).await.unwrap();
    let next = open(&stack, "ben").await.unwrap();
    assert_ne!(next.name, first.name);
    // It goes with its session.
    let request = wire::DeleteMachineRequest { name: made.name.clone(), ..Default::default() };
    MachineServiceClient::new(stack.admin()).delete_machine(request).await.unwrap();
    assert_eq!(session(&stack, &next.name).await.end_cause(), wire::SessionEndCause::Destroyed);
    assert!(menu(&stack, "ben").await.is_empty());
    let gone = create(&stack, lab()).await.unwrap_err();
    assert!(gone.message().contains("deleted since"), "{}", gone.message());
    crate::invariants::check(&stack.stored_world());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_nobody_looks_at_is_free_again_and_its_hours_are_counted() {
    let stack = Stack::new(Crash::Never).await;
    let made = create(&stack, lab()).await.unwrap();
    let opened = open(&stack, "ana").await.unwrap();
    let epoch = grant(&stack, &opened.name, "").await.unwrap().epoch;
    let link = crate::present(&stack, &opened.name, epoch).await.unwrap();
    crate::state(&stack, &opened.name, wire::SessionState::Connected).await.unwrap();
    crate::beat(&link, &opened.name, epoch, 6).await;
    drop(link);
    let away = Duration::from_millis(DISCONNECT_MS.try_into().unwrap());
    tokio::time::sleep(away + Duration::from_secs(60)).await;
    let ended = session(&stack, &opened.name).await;
    assert_eq!((ended.end_cause(), ended.away_secs), (wire::SessionEndCause::Away, 120));
    assert!(menu(&stack, "ben").await[0].ready);
    let world = stack.world();
    let (key, interval) = world.usage.iter().next().unwrap();
    let place = world.machines.iter().map(|((_, id), _)| Place::Machine(*id)).next().unwrap();
    assert_eq!((key.desktop, key.kind), (place.counted_as(), UsageKind::Connected));
    let connected_ms = interval.end_ms.unwrap() - key.start_ms;
    assert!((45_000..=80_000).contains(&connected_ms), "{connected_ms}");
    let request =
        wire::ListUsageRequest { parent: "tenants/default".to_owned(), ..Default::default() };
    let mut client = UsageServiceClient::new(stack.admin());
    let usage = client.list_usage(request).await.unwrap().into_inner().usage;
    assert_eq!((usage.len(), &usage[0].machine, usage[0].desktop.as_str()), (1, &made.name, ""));
    crate::invariants::check(&stack.stored_world());
}

#[tokio::test(start_paused = true)]
async fn why_a_machine_is_not_reached_is_told_until_it_is() {
    let stack = Stack::new(Crash::Never).await;
    let made = create(&stack, lab()).await.unwrap();
    let opened = open(&stack, "ana").await.unwrap();
    grant(&stack, &opened.name, "").await.unwrap();
    let problem = "the machine does not answer: \u{1b}[2Jlab-7 is silent";
    let epoch = grant(&stack, &opened.name, problem).await.unwrap().epoch;
    let shown = get(&stack, &made.name).await.unwrap().status.unwrap().problem;
    assert_eq!(shown, "the machine does not answer: [2Jlab-7 is silent");
    assert!(!menu(&stack, "ana").await[0].ready);
    let link = crate::present(&stack, &opened.name, epoch).await.unwrap();
    crate::state(&stack, &opened.name, wire::SessionState::Connected).await.unwrap();
    assert_eq!(get(&stack, &made.name).await.unwrap().status.unwrap().problem, "");
    drop(link);
}

#[tokio::test(start_paused = true)]
async fn an_update_keeps_the_password_unless_it_is_named_and_a_stale_one_is_refused() {
    let stack = Stack::new(Crash::Never).await;
    let made = create(&stack, lab()).await.unwrap();
    let named = wire::Machine { address: "lab-8:5901".to_owned(), ..made.clone() };
    let told = update(&stack, named.clone(), &["address"]).await.unwrap_err();
    assert!(told.message().contains("give it again"), "another server gets no password: {told:?}");
    let named = wire::Machine { password: SECRET.to_owned(), ..named };
    let changed = update(&stack, named, &["address", "password"]).await.unwrap();
    assert_eq!((changed.address.as_str(), changed.has_password), ("lab-8:5901", true));
    let named = wire::Machine { display_name: "Lab 8".to_owned(), ..changed };
    let changed = update(&stack, named, &["display_name"]).await.unwrap();
    assert_eq!((changed.display_name.as_str(), changed.has_password), ("Lab 8", true));
    let stale = wire::Machine { display_name: "Old".to_owned(), ..made.clone() };
    let refused = update(&stack, stale, &["display_name"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    let anas = open(&stack, "ana").await.unwrap();
    let ben = wire::Machine {
        assigned_user: "tenants/default/users/ben".to_owned(),
        etag: String::new(),
        ..made.clone()
    };
    let changed = update(&stack, ben, &["assigned_user", "password"]).await.unwrap();
    assert!(!changed.has_password, "named and empty");
    let ended = session(&stack, &anas.name).await.end_cause();
    assert_eq!(ended, wire::SessionEndCause::ByAdministrator, "it is not hers any more");
    assert!(menu(&stack, "ana").await.is_empty());
    assert_eq!(open(&stack, "ana").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(menu(&stack, "ben").await.len(), 1);
    for wrong in ["", "lab", "lab:0"] {
        let machine =
            wire::Machine { address: wrong.to_owned(), etag: String::new(), ..made.clone() };
        let refused = update(&stack, machine, &["address"]).await.unwrap_err();
        assert!(refused.message().contains("host:port"), "{wrong}: {refused:?}");
    }
    let refused = update(&stack, made, &["status"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn a_machines_policy_is_told_with_the_menu_the_grant_and_while_it_is_looked_at() {
    let stack = Stack::new(Crash::Never).await;
    let allowed = wire::DisplayPolicy {
        raw: wire::Permission::Allowed.into(),
        ..wire::DisplayPolicy::default()
    };
    let made = create(&stack, wire::Machine { display_policy: Some(allowed), ..lab() }).await;
    let made = made.unwrap();
    assert!(menu(&stack, "ana").await[0].raw);
    let opened = open(&stack, "ana").await.unwrap();
    let granted = grant(&stack, &opened.name, "").await.unwrap();
    assert_eq!((&granted.machine, granted.desktop.as_str()), (&made.name, ""));
    assert_eq!(granted.display_policy.unwrap().raw(), wire::Permission::Allowed);
    let quiet = wire::DisplayPolicy {
        sound: wire::Permission::Denied.into(),
        files: wire::Permission::Denied.into(),
        clipboard: wire::ClipboardWays::Off.into(),
        recording: wire::Recording::Always.into(),
        ..wire::DisplayPolicy::default()
    };
    let both = wire::DisplayPolicy { raw: wire::Permission::Allowed.into(), ..quiet };
    let named = |policy| wire::Machine { display_policy: Some(policy), ..made.clone() };
    let refused = update(&stack, named(both), &["display_policy"]).await.unwrap_err();
    assert!(refused.message().contains("obey none of these"), "{refused:?}");
    update(&stack, named(quiet), &["display_policy"]).await.unwrap();
    assert!(!menu(&stack, "ana").await[0].raw);
    let session = opened.name.rsplit('/').next().unwrap().to_owned();
    let request = wire::AdmitRequest { token: "token-of-ana".to_owned(), session };
    let mut client = GatewayLinkClient::new(stack.gateway());
    let told = client.admit(request).await.unwrap().into_inner().display_policy.unwrap();
    assert_eq!((told.raw(), told.sound()), (wire::Permission::Denied, wire::Permission::Denied));
    assert_eq!(told.recording(), wire::Recording::Always);
}
