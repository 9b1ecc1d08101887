//! A desktop's whole life against a scripted agent and gateway, with the controller dying at every
//! one of its commits, before and after the store took it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed test"
)]

mod invariants;
mod stack;

use std::time::Duration;

use stack::{Crash, GATEWAY, Stack};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vidi_controller::model::Presence;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::operation_service_client::OperationServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::{
    CreateDesktopRequest, DeleteDesktopRequest, GatewayMessage, GetDesktopRequest,
    GetOperationRequest, IssueGrantRequest, ListAppsRequest, OpenAppRequest, Operation, Power,
    PresentSession, ReleaseSessionRequest, Session, SessionState, StartDesktopRequest,
    StopDesktopRequest, WaitOperationRequest, operation,
};

/// More commits than a life needs: the loop ends at the first life without a crash.
const COMMITS_MAX: u32 = 100;

#[tokio::test(start_paused = true)]
async fn a_desktop_lives_and_leaves_nothing() {
    let mut stack = Stack::new(Crash::Never).await;
    live(&mut stack).await;
    assert!(!stack.crashed());
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_dies_at_any_commit_leaves_no_half_things() {
    for after in [false, true] {
        let mut lives = 0;
        for commit in 0..COMMITS_MAX {
            let mut stack = Stack::new(Crash::At { commit, after }).await;
            live(&mut stack).await;
            lives += 1;
            if !stack.crashed() {
                break;
            }
        }
        assert!((10..COMMITS_MAX).contains(&lives), "{lives} lives");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_of_the_store_that_are_lost_are_found_again() {
    for commit in 0..12 {
        for lost in [Crash::AnswerLostAfter(commit), Crash::AnswerLostBefore(commit)] {
            let mut stack = Stack::new(lost).await;
            live(&mut stack).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_changes_nothing() {
    let mut stack = Stack::new(Crash::Never).await;
    stack.refuse_commits(1);
    let refused = create(&stack, "r1").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("nothing was changed"), "{}", refused.message());
    assert!(stack.world().desktops.is_empty());
    assert!(stack.world().operations.is_empty());
    live(&mut stack).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_keeps_its_desktops_and_a_deletion_waits_for_it() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = again(&mut stack, async |stack| create(stack, "r1").await).await;
    ended(&mut stack, &created).await;
    stack.cut_agent(true);
    tokio::time::sleep(Duration::from_secs(70)).await;
    let get = GetDesktopRequest { name: created.target.clone() };
    let desktop =
        DesktopServiceClient::new(stack.admin()).get_desktop(get).await.unwrap().into_inner();
    let status = desktop.status.unwrap();
    assert!(status.host_unreachable);
    assert_eq!(status.power(), Power::Running);
    assert!(!status.ready);
    let request = DeleteDesktopRequest { name: created.target, ..Default::default() };
    let deleting = DesktopServiceClient::new(stack.admin()).delete_desktop(request).await;
    let deleting = deleting.unwrap().into_inner();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let waiting = wait(&stack, &deleting).await.unwrap();
    assert!(!waiting.done);
    assert!(waiting.stage.contains("does not answer"), "{}", waiting.stage);
    stack.cut_agent(false);
    assert_done(&ended(&mut stack, &deleting).await);
    assert_nothing_left(&stack);
}

#[tokio::test(start_paused = true)]
async fn without_a_host_a_creation_ends_and_is_undone() {
    let mut stack = Stack::new(Crash::Never).await;
    stack.cut_agent(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let created = create(&stack, "r1").await.unwrap();
    let before = wait(&stack, &created).await.unwrap();
    assert!(before.stage.contains("is not connected"), "{}", before.stage);
    let ended = ended(&mut stack, &created).await;
    let Some(operation::Result::Error(error)) = ended.result else { panic!("{ended:?}") };
    assert_eq!(error.reason, "NO_HOST");
    assert_nothing_left(&stack);
}

#[tokio::test(start_paused = true)]
async fn waits_beyond_the_limit_are_told_to_come_again_and_hold_up_nothing_else() {
    const WAITS_MAX: usize = 256;
    let stack = Stack::new(Crash::Never).await;
    stack.cut_agent(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let name = create(&stack, "r1").await.unwrap().name;
    let client = OperationServiceClient::new(stack.admin());
    let mut waits = tokio::task::JoinSet::new();
    for _ in 0..=WAITS_MAX {
        let mut client = client.clone();
        let request = WaitOperationRequest { name: name.clone(), timeout_secs: 5 };
        waits.spawn(async move { client.wait_operation(request).await.map(|_| ()) });
    }
    // Who is refused is told at once, long before the first wait is over.
    let refused = waits.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "TRY_LATER");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let get = GetOperationRequest { name: name.clone() };
    assert!(!client.clone().get_operation(get).await.unwrap().into_inner().done);
    let rest = waits.join_all().await;
    assert_eq!(rest.iter().filter(|one| one.is_ok()).count(), WAITS_MAX);
    // Waits that are over leave their places.
    let request = WaitOperationRequest { name, timeout_secs: 1 };
    client.clone().wait_operation(request).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_shuts_itself_down_stays_off_and_its_session_ends() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = again(&mut stack, async |stack| create(stack, "r1").await).await;
    ended(&mut stack, &created).await;
    let session = open(&stack).await.unwrap();
    stack.shut_guests_down();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let world = stack.world();
    let desktop = world.desktops.values().next().unwrap();
    assert!(!desktop.spec.power_on);
    assert_eq!(desktop.status.power, vidi_controller::model::Power::Off);
    assert_eq!(desktop.status.session, None);
    let ended = world.sessions.values().next().unwrap();
    assert!(matches!(ended.presence, Presence::Ended(_)), "{ended:?}");
    let refused = grant(&stack, &session.name).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "a viewer's gateway gives up: {refused:?}");
    let next = open(&stack).await.unwrap();
    assert_ne!(next.name, session.name);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(apps_ready(&stack).await, "opening an app starts its desktop");
}

#[tokio::test(start_paused = true)]
async fn foreign_things_look_as_if_they_were_not_there() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = again(&mut stack, async |stack| create(stack, "r1").await).await;
    ended(&mut stack, &created).await;
    let session = open(&stack).await.unwrap();
    let get = GetDesktopRequest { name: created.target.clone() };
    let stranger = DesktopServiceClient::new(stack.user("ben")).get_desktop(get).await;
    assert_eq!(stranger.unwrap_err().code(), Code::NotFound);
    let stop = StopDesktopRequest { name: created.target.clone(), ..Default::default() };
    let stranger = DesktopServiceClient::new(stack.user("ben")).stop_desktop(stop).await;
    assert_eq!(stranger.unwrap_err().code(), Code::NotFound);
    let request = OpenAppRequest { name: app(&stack).await, ..Default::default() };
    let stranger = SessionServiceClient::new(stack.user("ben")).open_app(request).await;
    assert_eq!(stranger.unwrap_err().code(), Code::NotFound);
    let grant = IssueGrantRequest { token: "token-of-ben".to_owned(), session: session.name };
    let stranger = GatewayLinkClient::new(stack.gateway()).issue_grant(grant).await;
    assert_eq!(stranger.unwrap_err().code(), Code::NotFound);
    let name = created.name;
    let request = WaitOperationRequest { name, timeout_secs: 1 };
    let stranger = OperationServiceClient::new(stack.user("ben")).wait_operation(request).await;
    assert_eq!(stranger.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_has_the_first_answer_and_a_stale_etag_is_refused() {
    let stack = Stack::new(Crash::Never).await;
    let first = create(&stack, "r1").await.unwrap();
    assert_eq!(create(&stack, "r1").await.unwrap().name, first.name);
    let mut other = creation("r1");
    other.display_name = "Another".to_owned();
    let reused = DesktopServiceClient::new(stack.admin()).create_desktop(other).await;
    assert!(reused.unwrap_err().message().contains("used before"));
    assert_eq!(stack.world().desktops.len(), 1);
    let request =
        StopDesktopRequest { name: first.target, etag: "g0".to_owned(), ..Default::default() };
    let stale = DesktopServiceClient::new(stack.admin()).stop_desktop(request).await;
    assert_eq!(stale.unwrap_err().code(), Code::Aborted);
}

/// Create, ready, open, grant, presence, release, stop, start, delete; each step again with a new
/// controller when the old one died in it.
async fn live(stack: &mut Stack) {
    let created = again(stack, async |stack| create(stack, "r-create").await).await;
    assert_done(&ended(stack, &created).await);
    again(stack, async |stack| {
        stack.until(|stack| stack.host_runs(&created.target), "the host runs it").await
    })
    .await;
    let session = again(stack, async |stack| open(stack).await).await;
    let granted = again(stack, async |stack| grant(stack, &session.name).await).await;
    let epoch = again(stack, async |stack| attach(stack, &session.name).await).await;
    assert!(granted < epoch, "each grant has a higher epoch");
    again(stack, async |stack| {
        stack.until(|stack| stack.agent_knows(&session.name, epoch), "the agent knows it").await
    })
    .await;
    let released = again(stack, async |stack| {
        let request = ReleaseSessionRequest { name: session.name.clone() };
        let released = SessionServiceClient::new(stack.user("ana")).release_session(request).await;
        released.map(tonic::Response::into_inner)
    })
    .await;
    assert_eq!(released.state(), SessionState::Ended);
    let name = created.target.clone();
    let stopped = again(stack, async |stack| {
        let request = StopDesktopRequest {
            name: name.clone(),
            request_id: "r-stop".to_owned(),
            ..Default::default()
        };
        let stopped = DesktopServiceClient::new(stack.user("ana")).stop_desktop(request).await;
        stopped.map(tonic::Response::into_inner)
    })
    .await;
    assert_done(&ended(stack, &stopped).await);
    let started = again(stack, async |stack| {
        let request = StartDesktopRequest {
            name: name.clone(),
            request_id: "r-start".to_owned(),
            ..Default::default()
        };
        let started = DesktopServiceClient::new(stack.admin()).start_desktop(request).await;
        started.map(tonic::Response::into_inner)
    })
    .await;
    assert_done(&ended(stack, &started).await);
    let deleted = again(stack, async |stack| {
        let request = DeleteDesktopRequest {
            name: name.clone(),
            request_id: "r-delete".to_owned(),
            ..Default::default()
        };
        let deleted = DesktopServiceClient::new(stack.admin()).delete_desktop(request).await;
        deleted.map(tonic::Response::into_inner)
    })
    .await;
    assert_done(&ended(stack, &deleted).await);
    assert_nothing_left(stack);
}

fn assert_nothing_left(stack: &Stack) {
    let world = stack.stored_world();
    invariants::check(&world);
    assert!(world.desktops.is_empty(), "{:?}", world.desktops);
    assert!(world.allocations.is_empty(), "{:?}", world.allocations);
    assert!(world.open_operations.is_empty(), "{:?}", world.operations);
    assert!(world.live_sessions.is_empty(), "{:?}", world.sessions);
    assert!(world.operations.values().all(|one| one.end.is_some()));
    assert!(stack.host_is_empty());
}

/// Runs a step until it works; a controller that died is replaced by a new one on the same store.
async fn again<T>(stack: &mut Stack, step: impl AsyncFn(&Stack) -> Result<T, Status>) -> T {
    const TRIES_MAX: usize = 5;
    for _ in 0..TRIES_MAX {
        let tried = step(stack).await;
        match tried {
            Ok(done) => return done,
            Err(status) if stack.is_dead() => {
                assert_ne!(status.code(), Code::Internal, "{status:?}");
                stack.restart().await;
            }
            // A new controller has to hear from the host first.
            Err(status) if status.code() == Code::Unavailable => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(status) => panic!("{status:?}"),
        }
    }
    panic!("the step did not work in {TRIES_MAX} tries");
}

fn creation(request_id: &str) -> CreateDesktopRequest {
    CreateDesktopRequest {
        parent: "tenants/default".to_owned(),
        template: "tenants/default/templates/micro".to_owned(),
        display_name: "My Desk".to_owned(),
        assigned_user: "tenants/default/users/ana".to_owned(),
        start: true,
        request_id: request_id.to_owned(),
        validate_only: false,
        ..Default::default()
    }
}

async fn create(stack: &Stack, request_id: &str) -> Result<Operation, Status> {
    let mut client = DesktopServiceClient::new(stack.admin());
    client.create_desktop(creation(request_id)).await.map(tonic::Response::into_inner)
}

async fn wait(stack: &Stack, operation: &Operation) -> Result<Operation, Status> {
    let request = WaitOperationRequest { name: operation.name.clone(), timeout_secs: 5 };
    let mut client = OperationServiceClient::new(stack.admin());
    client.wait_operation(request).await.map(tonic::Response::into_inner)
}

/// The operation at its end.
async fn ended(stack: &mut Stack, operation: &Operation) -> Operation {
    const WAITS_MAX: usize = 200;
    for _ in 0..WAITS_MAX {
        let now = again(stack, async |stack| wait(stack, operation).await).await;
        if now.done {
            return now;
        }
        if stack.is_dead() {
            stack.restart().await;
        }
    }
    panic!("the operation does not end: {operation:?}");
}

fn assert_done(operation: &Operation) {
    assert!(operation.done);
    assert!(
        matches!(operation.result, Some(operation::Result::Resource(_))),
        "{operation:?} did not work"
    );
}

async fn app(stack: &Stack) -> String {
    let mut client = SessionServiceClient::new(stack.user("ana"));
    let apps = client.list_apps(ListAppsRequest {}).await.unwrap().into_inner().apps;
    assert_eq!(apps.len(), 1);
    assert_eq!(apps[0].name, "tenants/default/apps/my-desk");
    apps[0].name.clone()
}

async fn apps_ready(stack: &Stack) -> bool {
    let mut client = SessionServiceClient::new(stack.user("ana"));
    let apps = client.list_apps(ListAppsRequest {}).await.unwrap().into_inner().apps;
    apps.iter().all(|app| app.ready)
}

async fn open(stack: &Stack) -> Result<Session, Status> {
    let request = OpenAppRequest { name: app(stack).await, ..Default::default() };
    let mut client = SessionServiceClient::new(stack.user("ana"));
    let first = client.open_app(request.clone()).await?.into_inner();
    let second = client.open_app(request).await?.into_inner();
    assert_eq!(first.name, second.name, "asking again gives the same session");
    Ok(first)
}

async fn grant(stack: &Stack, session: &str) -> Result<u64, Status> {
    let request =
        IssueGrantRequest { token: "token-of-ana".to_owned(), session: session.to_owned() };
    let granted = GatewayLinkClient::new(stack.gateway()).issue_grant(request).await?.into_inner();
    let claims = stack.verify(&granted.grant);
    assert_eq!(claims.epoch, granted.epoch);
    assert_eq!(claims.gateway, GATEWAY);
    assert!(session.ends_with(&claims.session));
    assert_eq!(granted.relay_address, "192.0.2.7:7444");
    assert_eq!(granted.relay_name, "host-1.relay.vidi.internal");
    Ok(granted.epoch)
}

/// Takes a grant and says so over the gateway's link; then cuts the link.
async fn attach(stack: &Stack, session: &str) -> Result<u64, Status> {
    let epoch = grant(stack, session).await?;
    let present = PresentSession { session: session.to_owned(), viewers: 1, epoch };
    let (messages, outgoing) = tokio::sync::mpsc::channel(4);
    messages.send(GatewayMessage { sessions: vec![present] }).await.unwrap();
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let commands = GatewayLinkClient::new(stack.gateway()).link(outgoing).await?.into_inner();
    state(stack, session, SessionState::Connected).await?;
    drop((messages, commands));
    state(stack, session, SessionState::Disconnected).await?;
    Ok(epoch)
}

async fn state(stack: &Stack, session: &str, wanted: SessionState) -> Result<(), Status> {
    let id = session.rsplit('/').next().unwrap().parse().unwrap();
    let is = |stack: &Stack| {
        let world = stack.world();
        let one = world.session(&"default".parse().unwrap(), id);
        one.is_some_and(|one| {
            one.presence.word() == wanted.as_str_name().to_lowercase().rsplit('_').next().unwrap()
        })
    };
    stack.until(is, wanted.as_str_name()).await
}
