//! A desktop's whole life against a scripted agent and gateway, with the controller dying at every
//! one of its commits, before and after the store took it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed test"
)]

mod hosts;
mod invariants;
mod machines;
mod pools;
mod restored;
mod roles;
mod rollouts;
mod sharing;
mod stack;
mod tenancy;

use std::time::Duration;

use stack::{Crash, DISCONNECT_MS, GATEWAY, Stack};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vidi_controller::model::{EndCause, Presence};
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::operation_service_client::OperationServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::usage_service_client::UsageServiceClient;
use vidi_proto::v1::{
    CreateDesktopRequest, DeleteDesktopRequest, Desktop, GatewayCommand, GatewayMessage,
    GetDesktopRequest, GetOperationRequest, GetSessionRequest, IssueGrantRequest, ListAppsRequest,
    ListUsageRequest, OpenAppRequest, Operation, Power, PresentSession, ReleasePolicy,
    ReleaseSessionRequest, RestartDesktopRequest, Session, SessionEndCause, SessionState,
    StartDesktopRequest, StopDesktopRequest, Usage, WaitOperationRequest, operation,
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
async fn a_desktop_that_is_left_alone_is_destroyed_once_wherever_the_controller_dies() {
    for after in [false, true] {
        let mut lives = 0;
        for commit in 0..COMMITS_MAX {
            let mut stack = Stack::new(Crash::At { commit, after }).await;
            left_alone(&mut stack).await;
            lives += 1;
            if !stack.crashed() {
                break;
            }
        }
        assert!((5..COMMITS_MAX).contains(&lives), "{lives} lives");
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
    assert_eq!(ended.presence, Presence::Ended(EndCause::SwitchedOff));
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
    let grant = IssueGrantRequest {
        token: "token-of-ben".to_owned(),
        session: session.name,
        ..Default::default()
    };
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

#[tokio::test(start_paused = true)]
async fn a_repeated_request_has_the_first_answer_when_its_desktop_is_gone_too() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r-create").await.unwrap();
    let stop = || StopDesktopRequest {
        name: created.target.clone(),
        request_id: "r-stop".to_owned(),
        ..Default::default()
    };
    let delete = || DeleteDesktopRequest {
        name: created.target.clone(),
        request_id: "r-delete".to_owned(),
        ..Default::default()
    };
    let mut admin = DesktopServiceClient::new(stack.admin());
    let stopped = admin.stop_desktop(stop()).await.unwrap().into_inner();
    let deleted = admin.delete_desktop(delete()).await.unwrap().into_inner();
    assert_done(&ended(&mut stack, &deleted).await);
    assert_nothing_left(&stack);
    // Its first answer may have been lost on the way.
    assert_eq!(admin.delete_desktop(delete()).await.unwrap().into_inner().name, deleted.name);
    assert_eq!(admin.stop_desktop(stop()).await.unwrap().into_inner().name, stopped.name);
    let mut owner = DesktopServiceClient::new(stack.user("ana"));
    for request in [stop(), StopDesktopRequest { request_id: "r-other".to_owned(), ..stop() }] {
        let stranger = owner.stop_desktop(request).await;
        assert_eq!(stranger.unwrap_err().code(), Code::NotFound, "the answer is another's");
    }
}

#[tokio::test(start_paused = true)]
async fn a_click_that_is_repeated_does_not_begin_a_session_anew() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create_with(&stack, ReleasePolicy::Stop).await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let mut client = SessionServiceClient::new(stack.user("ana"));
    let click = OpenAppRequest { name: app(&stack).await, request_id: "r-click".to_owned() };
    let first = client.open_app(click.clone()).await.unwrap().into_inner();
    release(&stack, &first).await.unwrap();
    let repeated = client.open_app(click.clone()).await.unwrap().into_inner();
    assert_eq!((&repeated.name, repeated.state()), (&first.name, SessionState::Ended));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!stack.host_runs(&created.target), "nobody has clicked again");
    let click = OpenAppRequest { request_id: "r-other".to_owned(), ..click };
    assert_ne!(client.open_app(click).await.unwrap().into_inner().name, first.name);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_well_whoever_else_switches_the_desktop_off_or_destroys_it() {
    let mut stack = Stack::new(Crash::Never).await;
    for policy in [ReleasePolicy::Keep, ReleasePolicy::Stop, ReleasePolicy::Delete] {
        let created = create_with(&stack, policy).await.unwrap();
        assert_done(&ended(&mut stack, &created).await);
        let session = open(&stack).await.unwrap();
        // Its host hears of nothing before everything was asked.
        stack.cut_agent(true);
        let asked = stop(&stack, &created.target).await.unwrap();
        release(&stack, &session).await.unwrap();
        let forced = unplug(&stack, &created.target).await.unwrap();
        stack.cut_agent(false);
        assert_done(&ended(&mut stack, &asked).await);
        assert_done(&ended(&mut stack, &forced).await);
        assert!(!stack.host_runs(&created.target), "{policy:?}");
        let stays = policy != ReleasePolicy::Delete;
        assert_eq!(desktop(&stack, &created.target).await.is_ok(), stays, "{policy:?}");
        // Who has asked for it sees how it ended, also of what is gone.
        let request = WaitOperationRequest { name: forced.name, timeout_secs: 1 };
        let own = OperationServiceClient::new(stack.user("ana")).wait_operation(request).await;
        assert_done(&own.unwrap().into_inner());
        if stays {
            delete(&mut stack, &created.target).await;
        }
    }
    assert_nothing_left(&stack);
}

#[tokio::test(start_paused = true)]
async fn no_plug_is_pulled_of_what_is_off() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let stopped = stop(&stack, &created.target).await.unwrap();
    assert_done(&ended(&mut stack, &stopped).await);
    // Its host could not answer a new wish.
    stack.cut_agent(true);
    let stopped = unplug(&stack, &created.target).await.unwrap();
    assert_done(&wait(&stack, &stopped).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_an_operation_that_stop_and_delete_overtake_and_that_starts_what_is_off() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let starts = stack.host_starts(&created.target);
    let restarting = restart(&stack, &created.target, "").await.unwrap();
    assert_eq!(restarting.kind, "restart");
    let stopping = stop(&stack, &created.target).await.unwrap();
    assert_done(&ended(&mut stack, &stopping).await);
    assert_eq!(error(&ended(&mut stack, &restarting).await), "WRONG_STATE");
    assert_eq!(stack.host_starts(&created.target), starts, "it was not started again");
    let from_off = restart(&stack, &created.target, "").await.unwrap();
    assert_done(&ended(&mut stack, &from_off).await);
    assert_eq!(stack.host_starts(&created.target), starts + 1);
    // Asked twice at once, it restarts once.
    let first = restart(&stack, &created.target, "").await.unwrap();
    let second = restart(&stack, &created.target, "").await.unwrap();
    assert_done(&ended(&mut stack, &first).await);
    assert_done(&ended(&mut stack, &second).await);
    assert_eq!(stack.host_starts(&created.target), starts + 2);
    let last = restart(&stack, &created.target, "").await.unwrap();
    let request = DeleteDesktopRequest { name: created.target, ..Default::default() };
    let deleting = DesktopServiceClient::new(stack.admin()).delete_desktop(request).await;
    assert_done(&ended(&mut stack, &deleting.unwrap().into_inner()).await);
    assert!(
        ["WRONG_STATE", "NOT_FOUND"].contains(&error(&ended(&mut stack, &last).await).as_str())
    );
    assert_nothing_left(&stack);
}

#[tokio::test(start_paused = true)]
async fn a_released_desktop_goes_the_way_of_its_policy_and_any_other_end_of_a_session_does_not() {
    let mut stack = Stack::new(Crash::Never).await;
    for (policy, runs, stays) in [
        (ReleasePolicy::Keep, true, true),
        (ReleasePolicy::Stop, false, true),
        (ReleasePolicy::Unspecified, false, true),
        (ReleasePolicy::Delete, false, false),
    ] {
        let created = create_with(&stack, policy).await.unwrap();
        assert_done(&ended(&mut stack, &created).await);
        let session = open(&stack).await.unwrap();
        release(&stack, &session).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let found = desktop(&stack, &created.target).await;
        assert_eq!(found.is_ok(), stays, "{policy:?}");
        assert_eq!(stack.host_runs(&created.target), runs, "{policy:?}");
        if let Ok(found) = found {
            let shown = found.spec.unwrap().release_policy();
            let expected =
                if policy == ReleasePolicy::Unspecified { ReleasePolicy::Stop } else { policy };
            assert_eq!(shown, expected);
            delete(&mut stack, &created.target).await;
        }
    }
    // One that ends with its desktop's stop destroys nothing.
    let created = create_with(&stack, ReleasePolicy::Delete).await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    open(&stack).await.unwrap();
    let stopped = stop(&stack, &created.target).await.unwrap();
    assert_done(&ended(&mut stack, &stopped).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let found = desktop(&stack, &created.target).await.unwrap();
    assert_eq!(found.status.unwrap().session, "");
    assert_eq!(stack.world().live_sessions.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_judged_gone_before_a_whole_time_and_a_gateway_that_is_back_has_lost_nobody() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create_with(&stack, ReleasePolicy::Stop).await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let session = open(&stack).await.unwrap();
    let epoch = grant(&stack, &session.name).await.unwrap();
    let link = present(&stack, &session.name, epoch).await.unwrap();
    state(&stack, &session.name, SessionState::Connected).await.unwrap();
    let shown = desktop(&stack, &created.target).await.unwrap().status.unwrap();
    assert_eq!(shown.session_user, "tenants/default/users/ana");
    assert_eq!(shown.session_state(), SessionState::Connected);
    drop(link);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let link = present(&stack, &session.name, epoch).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let shown = desktop(&stack, &created.target).await.unwrap().status.unwrap();
    assert_eq!(shown.session_state(), SessionState::Connected, "a lost link has its grace");
    drop(link);
    let most = Duration::from_millis(DISCONNECT_MS.try_into().unwrap()) * 9 / 10;
    tokio::time::sleep(most).await;
    state(&stack, &session.name, SessionState::Disconnected).await.unwrap();
    // A new leader cannot know what was before.
    stack.restart().await;
    tokio::time::sleep(most).await;
    state(&stack, &session.name, SessionState::Disconnected).await.unwrap();
    assert!(stack.host_runs(&created.target));
    tokio::time::sleep(most).await;
    state(&stack, &session.name, SessionState::Ended).await.unwrap();
    assert!(!stack.host_runs(&created.target));
    let world = stack.world();
    let ended = world.sessions.values().next().unwrap();
    assert_eq!(ended.presence, Presence::Ended(EndCause::Away(120)));
    let shown = get_session(&stack, &session.name).await;
    assert_eq!((shown.end_cause(), shown.away_secs), (SessionEndCause::Away, 120));
    assert_eq!(shown.end_reason, "nobody was connected for 2 minutes");
    // Who comes back has the desktop started.
    let next = open(&stack).await.unwrap();
    assert_ne!(next.name, session.name);
    stack.until(|stack| stack.host_runs(&created.target), "it runs again").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_told_why_a_session_is_no_longer_its_own() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let session = open(&stack).await.unwrap();
    let epoch = grant(&stack, &session.name).await.unwrap();
    let mut link = present(&stack, &session.name, epoch).await.unwrap();
    state(&stack, &session.name, SessionState::Connected).await.unwrap();
    let (token, name) = ("token-of-ana".to_owned(), session.name.clone());
    let request = IssueGrantRequest { token, session: name, ..Default::default() };
    let mut other = GatewayLinkClient::new(stack.gateway_of("edge-2"));
    other.issue_grant(request).await.unwrap();
    let told = link.1.message().await.unwrap().unwrap().closed;
    assert!(told[0].elsewhere && told[0].cause() == SessionEndCause::Unspecified, "{told:?}");
    // It takes the session back, until that ends.
    let epoch = grant(&stack, &session.name).await.unwrap();
    let mut link = present(&stack, &session.name, epoch).await.unwrap();
    state(&stack, &session.name, SessionState::Connected).await.unwrap();
    release(&stack, &session).await.unwrap();
    let told = link.1.message().await.unwrap().unwrap().closed;
    assert!(!told[0].elsewhere && told[0].cause() == SessionEndCause::Released, "{told:?}");
    assert_eq!(told[0].reason, "signed off");
    assert_eq!(get_session(&stack, &session.name).await.end_cause(), SessionEndCause::Released);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_picture_is_not_gone() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create_with(&stack, ReleasePolicy::Stop).await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let session = open(&stack).await.unwrap();
    let half = Duration::from_millis(DISCONNECT_MS.try_into().unwrap()) / 2;
    for _ in 0..6 {
        grant(&stack, &session.name).await.unwrap();
        tokio::time::sleep(half).await;
    }
    state(&stack, &session.name, SessionState::Opening).await.unwrap();
    tokio::time::sleep(half).await;
    state(&stack, &session.name, SessionState::Ended).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn hours_used_are_right_over_the_death_of_a_controller() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let began_ms = stack.now_ms();
    let session = open(&stack).await.unwrap();
    let epoch = grant(&stack, &session.name).await.unwrap();
    let link = present(&stack, &session.name, epoch).await.unwrap();
    beat(&link, &session.name, epoch, 10).await;
    // The gateway finds the new controller within its grace: the interval goes on.
    stack.restart().await;
    drop(link);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let link = present(&stack, &session.name, epoch).await.unwrap();
    beat(&link, &session.name, epoch, 10).await;
    let now = used(&stack, "ana").await;
    assert!(now.running_now && now.connected_now, "{now:?}");
    drop(link);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let first = used(&stack, "admin").await;
    // A gateway that is lost is known to have had it when it was last heard.
    assert!((190..=206).contains(&first.connected_secs), "{first:?}");
    assert!(!first.connected_now);
    // Neither it nor its gateway comes back: the last minute is in doubt.
    let epoch = grant(&stack, &session.name).await.unwrap();
    let link = present(&stack, &session.name, epoch).await.unwrap();
    beat(&link, &session.name, epoch, 20).await;
    stack.restart().await;
    drop(link);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let second = used(&stack, "admin").await;
    let more = second.connected_secs - first.connected_secs;
    assert!((125..=201).contains(&more), "{more}");
    let ran = u64::try_from((stack.now_ms() - began_ms) / 1_000).unwrap();
    assert!(second.running_secs.abs_diff(ran) <= 2, "{second:?} {ran}");
    assert_eq!(second.desktop, created.target);
    assert_eq!(second.user, "tenants/default/users/ana");
    // What is gone is still listed.
    delete(&mut stack, &created.target).await;
    let last = used(&stack, "admin").await;
    assert!(!last.running_now && !last.connected_now);
    assert_eq!(last.connected_secs, second.connected_secs);
    let request = ListUsageRequest { parent: "tenants/default".to_owned(), ..Default::default() };
    let stranger = UsageServiceClient::new(stack.user("ben")).list_usage(request.clone()).await;
    assert_eq!(stranger.unwrap().into_inner().usage, []);
    let user = "tenants/default/users/ana".to_owned();
    let request = ListUsageRequest { user, ..request };
    let stranger = UsageServiceClient::new(stack.user("ben")).list_usage(request).await;
    assert_eq!(stranger.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_dies_right_after_a_user_has_left_loses_nothing() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let session = open(&stack).await.unwrap();
    let epoch = grant(&stack, &session.name).await.unwrap();
    let link = present(&stack, &session.name, epoch).await.unwrap();
    beat(&link, &session.name, epoch, 2).await;
    // The user leaves, the gateway says so, and the controller dies in the same second.
    link.0.send(GatewayMessage::default()).await.unwrap();
    state(&stack, &session.name, SessionState::Disconnected).await.unwrap();
    stack.restart().await;
    drop(link);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left = used(&stack, "admin").await;
    assert!((20..=22).contains(&left.connected_secs), "{left:?}");
    // Who is back within the gap was never gone.
    let epoch = grant(&stack, &session.name).await.unwrap();
    let link = present(&stack, &session.name, epoch).await.unwrap();
    state(&stack, &session.name, SessionState::Connected).await.unwrap();
    let intervals = stack.world().usage.len();
    for _ in 0..3 {
        link.0.send(GatewayMessage::default()).await.unwrap();
        state(&stack, &session.name, SessionState::Disconnected).await.unwrap();
        assert!(!used(&stack, "admin").await.connected_now);
        beat(&link, &session.name, epoch, 1).await;
        state(&stack, &session.name, SessionState::Connected).await.unwrap();
    }
    assert_eq!(stack.world().usage.len(), intervals, "one interval with its gaps");
    drop(link);
    invariants::check(&stack.stored_world());
}

/// The only line of usage that this user sees.
async fn used(stack: &Stack, user: &str) -> Usage {
    let request = ListUsageRequest { parent: "tenants/default".to_owned(), ..Default::default() };
    let listed = UsageServiceClient::new(stack.user(user)).list_usage(request).await;
    let mut usage = listed.unwrap().into_inner().usage;
    assert_eq!(usage.len(), 1, "{usage:?}");
    usage.remove(0)
}

#[tokio::test(start_paused = true)]
async fn nobody_fills_the_store() {
    const KEPT_MAX: usize = 64;
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    for _ in 0..KEPT_MAX * 2 {
        let session = open(&stack).await.unwrap();
        release(&stack, &session).await.unwrap();
        restart(&stack, &created.target, "").await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let world = stack.stored_world();
    assert!(world.operations.len() <= KEPT_MAX, "{}", world.operations.len());
    assert!(world.sessions.len() <= KEPT_MAX, "{}", world.sessions.len());
    assert!(world.operations.len() + 2 > KEPT_MAX, "the newest are kept");
    // A host that does not answer lets nobody pile operations up.
    stack.cut_agent(true);
    let mut refused = None;
    for _ in 0..KEPT_MAX {
        refused = refused.or(restart(&stack, &created.target, "").await.err());
    }
    let refused = refused.unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "LIMIT_EXCEEDED");
    assert!(stack.world().open_operations.len() <= KEPT_MAX / 2);
}

/// Create with the policy to destroy, open, attach, leave: nothing is left.
async fn left_alone(stack: &mut Stack) {
    let request = || CreateDesktopRequest {
        release_policy: ReleasePolicy::Delete.into(),
        ..creation("r-create")
    };
    let created = again(stack, async |stack| {
        let mut client = DesktopServiceClient::new(stack.admin());
        client.create_desktop(request()).await.map(tonic::Response::into_inner)
    })
    .await;
    assert_done(&ended(stack, &created).await);
    let session = again(stack, async |stack| open(stack).await).await;
    again(stack, async |stack| attach(stack, &session.name).await).await;
    again(stack, async |stack| {
        // A new leader judges nobody before a whole time, which is longer than one wait.
        tokio::time::sleep(Duration::from_millis(DISCONNECT_MS.try_into().unwrap())).await;
        let gone = |stack: &Stack| stack.world().desktops.is_empty() && stack.host_is_empty();
        stack.until(gone, "it is destroyed").await
    })
    .await;
    assert_nothing_left(stack);
}

/// Create, ready, open, grant, presence, restart, release, stop, start, delete; each step again with a
/// new controller when the old one died in it.
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
    let name = created.target.clone();
    let restarted = again(stack, async |stack| restart(stack, &name, "r-restart").await).await;
    assert_done(&ended(stack, &restarted).await);
    assert_eq!(stack.host_starts(&name), 2, "a restart is one more start");
    let same = again(stack, async |stack| open(stack).await).await;
    assert_eq!(same.name, session.name, "the session goes on");
    let released = again(stack, async |stack| release(stack, &session).await).await;
    assert_eq!(released.state(), SessionState::Ended);
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
    assert!(world.usage.values().all(|one| one.end_ms.is_some()), "{:?}", world.usage);
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
        release_policy: ReleasePolicy::Keep.into(),
        display_policy: None,
    }
}

async fn create_with(stack: &Stack, policy: ReleasePolicy) -> Result<Operation, Status> {
    let request = CreateDesktopRequest { release_policy: policy.into(), ..creation("") };
    let mut client = DesktopServiceClient::new(stack.admin());
    client.create_desktop(request).await.map(tonic::Response::into_inner)
}

async fn restart(stack: &Stack, name: &str, request_id: &str) -> Result<Operation, Status> {
    let (name, request_id) = (name.to_owned(), request_id.to_owned());
    let request = RestartDesktopRequest { name, request_id, ..Default::default() };
    let mut client = DesktopServiceClient::new(stack.user("ana"));
    client.restart_desktop(request).await.map(tonic::Response::into_inner)
}

async fn stop(stack: &Stack, name: &str) -> Result<Operation, Status> {
    let request = StopDesktopRequest { name: name.to_owned(), ..Default::default() };
    let mut client = DesktopServiceClient::new(stack.user("ana"));
    client.stop_desktop(request).await.map(tonic::Response::into_inner)
}

async fn unplug(stack: &Stack, name: &str) -> Result<Operation, Status> {
    let request =
        StopDesktopRequest { name: name.to_owned(), force: true, ..StopDesktopRequest::default() };
    let mut client = DesktopServiceClient::new(stack.user("ana"));
    client.stop_desktop(request).await.map(tonic::Response::into_inner)
}

async fn delete(stack: &mut Stack, name: &str) {
    let request = DeleteDesktopRequest { name: name.to_owned(), ..Default::default() };
    let deleting = DesktopServiceClient::new(stack.admin()).delete_desktop(request).await;
    assert_done(&ended(stack, &deleting.unwrap().into_inner()).await);
}

async fn desktop(stack: &Stack, name: &str) -> Result<Desktop, Status> {
    let request = GetDesktopRequest { name: name.to_owned() };
    let mut client = DesktopServiceClient::new(stack.admin());
    client.get_desktop(request).await.map(tonic::Response::into_inner)
}

async fn get_session(stack: &Stack, name: &str) -> Session {
    let request = GetSessionRequest { name: name.to_owned() };
    let found = SessionServiceClient::new(stack.user("ana")).get_session(request).await;
    found.unwrap().into_inner()
}

async fn release(stack: &Stack, session: &Session) -> Result<Session, Status> {
    let request = ReleaseSessionRequest { name: session.name.clone() };
    let mut client = SessionServiceClient::new(stack.user("ana"));
    client.release_session(request).await.map(tonic::Response::into_inner)
}

fn error(operation: &Operation) -> String {
    match &operation.result {
        Some(operation::Result::Error(error)) => error.reason.clone(),
        other => panic!("{other:?} is no error"),
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
    let request = IssueGrantRequest {
        token: "token-of-ana".to_owned(),
        session: session.to_owned(),
        ..Default::default()
    };
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
    let link = present(stack, session, epoch).await?;
    state(stack, session, SessionState::Connected).await?;
    drop(link);
    state(stack, session, SessionState::Disconnected).await?;
    Ok(epoch)
}

/// A gateway's link, as long as it is held.
type Link = (tokio::sync::mpsc::Sender<GatewayMessage>, tonic::Streaming<GatewayCommand>);

/// Says so again every 10 s, as a gateway does.
async fn beat(link: &Link, session: &str, epoch: u64, times: u32) {
    for _ in 0..times {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let present =
            PresentSession { session: session.to_owned(), viewers: 1, epoch, idle_secs: 0 };
        link.0
            .send(GatewayMessage { sessions: vec![present], ..Default::default() })
            .await
            .unwrap();
    }
}

/// Says over a new link that the session is attached.
async fn present(stack: &Stack, session: &str, epoch: u64) -> Result<Link, Status> {
    let present = PresentSession { session: session.to_owned(), viewers: 1, epoch, idle_secs: 0 };
    let (messages, outgoing) = tokio::sync::mpsc::channel(4);
    messages.send(GatewayMessage { sessions: vec![present], ..Default::default() }).await.unwrap();
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let commands = GatewayLinkClient::new(stack.gateway()).link(outgoing).await?.into_inner();
    Ok((messages, commands))
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
