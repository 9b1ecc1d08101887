//! Hosts that are labelled, cordoned, drained and deleted, what fits on them, and a controller that was restored from an old copy.

use std::time::Duration;

use tonic::{Code, Status};
use vidi_controller::model::{EndCause, Presence};
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::host_service_client::HostServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::{
    CordonHostRequest, CreateDesktopRequest, DeleteHostRequest, DrainHostRequest,
    ExplainPlacementRequest, GetCapacityRequest, GetHostRequest, Host, HostSpec, ListAppsRequest,
    OpenAppRequest, Operation, RemoveUnknownDesktopRequest, SessionState, SimulatePoolRequest,
    StartDesktopRequest, UncordonHostRequest, UpdateHostRequest,
};

use crate::stack::{Crash, Stack};
use crate::{
    assert_done, assert_nothing_left, create, creation, delete, desktop, ended, open, release,
};

const HOST: &str = "hosts/host-1";

#[tokio::test(start_paused = true)]
async fn a_drain_stops_what_nobody_uses_and_waits_for_the_rest() {
    let mut stack = Stack::new(Crash::Never).await;
    let (used, session) = used_desktop(&mut stack).await;
    let idle = create_for_ben(&stack, "r2").await;
    assert_done(&ended(&mut stack, &idle).await);
    let host = drain(&stack, false).await;
    let spec = host.spec.unwrap();
    assert!(spec.cordoned && spec.draining);
    let text = host.status.unwrap().drain_blockers.join("\n");
    assert!(text.contains("\"My Desk\"") && text.contains("is in use by ana"), "{text}");
    stack.until(|stack| !stack.host_runs(&idle.target), "the idle one stops").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(stack.host_runs(&used), "what is in use goes on");
    let host = get(&stack).await.status.unwrap();
    assert_eq!((host.desktops, host.desktops_running), (2, 1));
    assert_eq!(host.drain_blockers.len(), 1, "{:?}", host.drain_blockers);

    // Nothing is started there, and nothing new comes.
    refused(start(&stack, &idle.target).await);
    refused(open_as(&stack, "ben").await);
    let again = open(&stack).await.unwrap();
    assert_eq!(again.name, session, "who is on it stays on it");
    let waiting = create(&stack, "r3").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = desktop(&stack, &waiting.target).await.unwrap().status.unwrap();
    assert!(status.reason.contains("is being drained"), "{}", status.reason);
    delete(&mut stack, &waiting.target).await;

    release(&stack, &again).await.unwrap();
    stack.until(|stack| !stack.host_runs(&used), "the used one stops").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let host = get(&stack).await.status.unwrap();
    assert_eq!((host.desktops, host.desktops_running), (2, 0));
    assert_eq!(host.drain_blockers, Vec::<String>::new(), "it is drained");
    refused(open_as(&stack, "ana").await);

    // It holds over a restart of the controller, until it is taken back.
    stack.restart().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    refused(start(&stack, &used).await);
    let request = UncordonHostRequest { name: HOST.to_owned(), ..Default::default() };
    let host = hosts(&stack).uncordon_host(request).await.unwrap().into_inner();
    assert_eq!(host.spec, Some(HostSpec::default()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        !stack.host_runs(&used) && !stack.host_runs(&idle.target),
        "what was stopped stays off"
    );
    assert_done(&ended_of(&mut stack, &idle.target).await);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_cannot_wait_ends_sessions_and_says_why() {
    let mut stack = Stack::new(Crash::Never).await;
    let (used, session) = used_desktop(&mut stack).await;
    drain(&stack, true).await;
    stack.until(|stack| !stack.host_runs(&used), "it stops").await.unwrap();
    let world = stack.world();
    let id = session.rsplit('/').next().unwrap().parse().unwrap();
    let ended = world.session(&"default".parse().unwrap(), id).unwrap();
    assert_eq!(ended.presence, Presence::Ended(EndCause::HostServiced));
    // Not its policy, which is for those who leave by themselves.
    assert!(desktop(&stack, &used).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_a_host_that_does_not_answer_says_that_it_knows_nothing() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    stack.cut_agent(true);
    tokio::time::sleep(Duration::from_secs(70)).await;
    let blockers = drain(&stack, true).await.status.unwrap().drain_blockers;
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    assert!(blockers[0].contains("is not connected"), "{blockers:?}");
    stack.cut_agent(false);
    stack.until(|stack| !stack.host_runs(&created.target), "it stops").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(get(&stack).await.status.unwrap().drain_blockers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_desktop_that_waits_is_placed_as_soon_as_a_host_takes_it() {
    let stack = Stack::new(Crash::Never).await;
    let request = CordonHostRequest { name: HOST.to_owned(), ..Default::default() };
    hosts(&stack).cordon_host(request).await.unwrap();
    let waiting = create(&stack, "r1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(5_300)).await;
    assert_eq!(desktop(&stack, &waiting.target).await.unwrap().status.unwrap().host, "");
    let request = UncordonHostRequest { name: HOST.to_owned(), ..Default::default() };
    hosts(&stack).uncordon_host(request).await.unwrap();
    // Sooner than with the next look at everything that waits.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(desktop(&stack, &waiting.target).await.unwrap().status.unwrap().host, HOST);
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_host_takes_nothing_new_and_an_old_etag_changes_nothing() {
    let stack = Stack::new(Crash::Never).await;
    let etag = get(&stack).await.etag;
    let request = CordonHostRequest { name: HOST.to_owned(), etag };
    let host = hosts(&stack).cordon_host(request.clone()).await.unwrap().into_inner();
    assert!(matches!(host.spec, Some(spec) if spec.cordoned && !spec.draining));
    let stale = hosts(&stack).cordon_host(request).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "{stale:?}");
    let created = create(&stack, "r1").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let status = desktop(&stack, &created.target).await.unwrap().status.unwrap();
    assert!(status.reason.contains("host-1 is cordoned"), "{}", status.reason);
    let missing = CordonHostRequest { name: "hosts/other".to_owned(), ..Default::default() };
    assert_eq!(hosts(&stack).cordon_host(missing).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_host_comes_back_only_under_a_new_certificate() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let request = DeleteHostRequest { name: HOST.to_owned(), etag: String::new() };
    let connected = hosts(&stack).delete_host(request.clone()).await.unwrap_err();
    assert_eq!(connected.code(), Code::FailedPrecondition, "{connected:?}");
    assert!(connected.message().contains("stop its agent first"), "{connected:?}");
    stack.cut_agent(true);
    tokio::time::sleep(Duration::from_secs(70)).await;
    let not_empty = hosts(&stack).delete_host(request.clone()).await.unwrap_err();
    assert!(not_empty.message().contains("desktops"), "{not_empty:?}");
    stack.cut_agent(false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    delete(&mut stack, &created.target).await;
    stack.cut_agent(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    hosts(&stack).delete_host(request).await.unwrap();
    assert!(stack.world().hosts.is_empty());

    // With what it has, it is nobody; also for a new controller.
    for _ in 0..2 {
        stack.cut_agent(false);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(stack.world().hosts.is_empty() && stack.world().hosts_live.is_empty());
        stack.restart().await;
    }
    stack.enroll_agent_again();
    let linked = |stack: &Stack| stack.world().hosts.len() == 1;
    stack.until(linked, "it links").await.unwrap();
    assert_done(&ended_of_new(&mut stack).await);
    // That it was removed is forgotten when the old certificate is no good anyhow.
    stack.skip(Duration::from_secs(26 * 3_600)).await;
    assert!(stack.world().removed_hosts.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restored_controller_destroys_nothing_that_it_does_not_know() {
    let mut stack = Stack::new(Crash::Never).await;
    let older = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &older).await);
    let backup = stack.back_up().await;
    let newer = create_for_ben(&stack, "r2").await;
    assert_done(&ended(&mut stack, &newer).await);
    stack.restore(&backup).await;
    let id = newer.target.rsplit('/').next().unwrap().to_owned();
    let lists = |stack: &Stack, unknown: &[String]| {
        let world = stack.world();
        let host = world.hosts_live.values().find_map(|live| live.report.clone());
        host.is_some_and(|report| {
            report.unknown.iter().map(ToString::to_string).collect::<Vec<_>>() == unknown
        })
    };
    let known = [id.clone()];
    stack.until(|stack| lists(stack, &known), "it is listed").await.unwrap();
    // For as long as it takes.
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert!(stack.host_runs(&newer.target) && stack.host_runs(&older.target));
    assert_eq!(get(&stack).await.status.unwrap().foreign_desktops, known);
    let text = drain(&stack, true).await.status.unwrap().drain_blockers.join("\n");
    assert!(text.contains(&id) && text.contains("unknown"), "{text}");

    // What is known here is not removed this way, and what is not there cannot be.
    let old_id = older.target.rsplit('/').next().unwrap().to_owned();
    for wrong in [old_id, uuid::Uuid::now_v7().to_string()] {
        let refused = remove_unknown(&stack, &wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    }
    remove_unknown(&stack, &id).await.unwrap();
    stack.until(|stack| lists(stack, &[]), "it is removed").await.unwrap();
    assert!(!stack.host_has(&newer.target) && stack.host_has(&older.target));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(stack.world().hosts.values().all(|host| host.removing.is_empty()));
    delete(&mut stack, &older.target).await;
    assert_nothing_left(&stack);
}

#[tokio::test(start_paused = true)]
async fn a_desktop_that_is_deleted_before_its_host_has_heard_of_it_leaves_nothing_there() {
    let mut stack = Stack::new(Crash::Never).await;
    for number in 0..20 {
        let created = create(&stack, &format!("r{number}")).await.unwrap();
        // Its host may have been told of it at any of these moments.
        tokio::time::sleep(Duration::from_millis(number * 3)).await;
        delete(&mut stack, &created.target).await;
        assert!(!stack.host_has(&created.target), "it was left on its host");
    }
    assert_nothing_left(&stack);
}

#[test]
fn a_removal_is_remembered_longer_than_any_certificate_lives() {
    use vidi_controller::adapters::authority::DAEMON_LIFE;
    use vidi_controller::plan::expiry::REMOVED_HOSTS_KEPT_MS;
    let kept = Duration::from_millis(REMOVED_HOSTS_KEPT_MS.unsigned_abs());
    assert!(DAEMON_LIFE < kept);
}

#[tokio::test(start_paused = true)]
async fn what_operators_say_of_a_host_is_kept_and_only_what_is_named_changes() {
    let mut stack = Stack::new(Crash::Never).await;
    let asked = |domain: &str, etag: String, path: &str| {
        let spec = HostSpec {
            failure_domain: domain.to_owned(),
            labels: [("cpu".to_owned(), "icelake".to_owned())].into(),
            cordoned: true,
            ..HostSpec::default()
        };
        let host = Some(Host { name: HOST.to_owned(), etag, spec: Some(spec), ..Host::default() });
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
        UpdateHostRequest { host, update_mask }
    };
    let etag = get(&stack).await.etag;
    let request = asked("rack-1", etag.clone(), "spec.failure_domain");
    let spec = hosts(&stack).update_host(request).await.unwrap().into_inner().spec.unwrap();
    assert_eq!(spec, HostSpec { failure_domain: "rack-1".to_owned(), ..HostSpec::default() });
    let stale = hosts(&stack).update_host(asked("rack-2", etag, "spec.labels")).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "{stale:?}");
    let request = asked("rack-2", String::new(), "spec.labels");
    hosts(&stack).update_host(request).await.unwrap();
    for wrong in [
        asked("Rack 1", String::new(), "spec.failure_domain"),
        asked("rack-1", String::new(), "spec.cordoned"),
    ] {
        let refused = hosts(&stack).update_host(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    stack.restart().await;
    let spec = get(&stack).await.spec.unwrap();
    assert_eq!(spec.failure_domain, "rack-1");
    assert_eq!(spec.labels.get("cpu").map(String::as_str), Some("icelake"));
    assert!(!spec.cordoned, "that was not named");
}

#[tokio::test(start_paused = true)]
async fn it_is_explained_where_a_desktop_goes_and_what_would_fit() {
    let mut stack = Stack::new(Crash::Never).await;
    let created = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &created).await);
    let request = ExplainPlacementRequest { desktop: created.target.clone(), ..Default::default() };
    let answer = hosts(&stack).explain_placement(request).await.unwrap().into_inner();
    assert_eq!((answer.host.as_str(), answer.reason.as_str()), (HOST, ""));
    let [host] = answer.hosts.as_slice() else { panic!("{:?}", answer.hosts) };
    assert!(host.current && host.obstacle.is_empty());
    assert_eq!((host.image, host.sharing), (0, 0), "it does not count for itself");
    let template = "tenants/default/templates/micro".to_owned();
    let request = ExplainPlacementRequest { template: template.clone(), ..Default::default() };
    let answer = hosts(&stack).explain_placement(request.clone()).await.unwrap().into_inner();
    assert!(0 < answer.hosts[0].image && 0 < answer.hosts[0].sharing, "{answer:?}");

    let simulated = SimulatePoolRequest { template, desktops: 10_000, ..Default::default() };
    let what_if = hosts(&stack).simulate_pool(simulated.clone()).await.unwrap().into_inner();
    let fitting = what_if.placed;
    assert!(0 < fitting && fitting < 10_000, "{what_if:?}");
    assert!(what_if.reason.contains("MiB of memory"), "{what_if:?}");
    assert_eq!(what_if.losses[0].homeless, fitting + 1, "there is no other host");
    let capacity = hosts(&stack).get_capacity(GetCapacityRequest {}).await.unwrap().into_inner();
    assert_eq!((capacity.hosts_open, capacity.can_lose_domains), (1, 0));
    assert_eq!(u64::from(fitting), capacity.memory_placeable_mib / what_if.memory_mib);
    let elsewhere =
        SimulatePoolRequest { failure_domain: "rack-9".to_owned(), ..simulated.clone() };
    let missing = hosts(&stack).simulate_pool(elsewhere).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing:?}");
    let none = SimulatePoolRequest { desktops: 0, ..simulated };
    let refused = hosts(&stack).simulate_pool(none).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");

    let cordon = CordonHostRequest { name: HOST.to_owned(), ..Default::default() };
    hosts(&stack).cordon_host(cordon).await.unwrap();
    let answer = hosts(&stack).explain_placement(request).await.unwrap().into_inner();
    assert_eq!(answer.hosts[0].obstacle, "is cordoned");
    assert_eq!(answer.reason, "no host can take it: host-1 is cordoned");
}

fn hosts(stack: &Stack) -> HostServiceClient<crate::stack::Service> {
    HostServiceClient::new(stack.root())
}

async fn get(stack: &Stack) -> Host {
    let request = GetHostRequest { name: HOST.to_owned() };
    hosts(stack).get_host(request).await.unwrap().into_inner()
}

async fn drain(stack: &Stack, stop_in_use: bool) -> Host {
    let request =
        DrainHostRequest { name: HOST.to_owned(), etag: get(stack).await.etag, stop_in_use };
    hosts(stack).drain_host(request).await.unwrap().into_inner()
}

async fn remove_unknown(stack: &Stack, id: &str) -> Result<Host, Status> {
    let request = RemoveUnknownDesktopRequest { name: HOST.to_owned(), desktop: id.to_owned() };
    hosts(stack).remove_unknown_desktop(request).await.map(tonic::Response::into_inner)
}

/// Ana's desktop with Ana on it; the names of both.
async fn used_desktop(stack: &mut Stack) -> (String, String) {
    let created = create(stack, "r1").await.unwrap();
    assert_done(&ended(stack, &created).await);
    let session = open(stack).await.unwrap();
    assert_ne!(session.state(), SessionState::Ended);
    (created.target, session.name)
}

async fn create_for_ben(stack: &Stack, request_id: &str) -> Operation {
    let request = CreateDesktopRequest {
        assigned_user: "tenants/default/users/ben".to_owned(),
        display_name: "Ben's".to_owned(),
        ..creation(request_id)
    };
    let mut client = DesktopServiceClient::new(stack.admin());
    client.create_desktop(request).await.unwrap().into_inner()
}

async fn start(stack: &Stack, name: &str) -> Result<Operation, Status> {
    let request = StartDesktopRequest { name: name.to_owned(), ..Default::default() };
    let mut client = DesktopServiceClient::new(stack.admin());
    client.start_desktop(request).await.map(tonic::Response::into_inner)
}

/// Starts it and waits for the end of that.
async fn ended_of(stack: &mut Stack, name: &str) -> Operation {
    let started = start(stack, name).await.unwrap();
    ended(stack, &started).await
}

async fn ended_of_new(stack: &mut Stack) -> Operation {
    let created = create(stack, "r-new").await.unwrap();
    ended(stack, &created).await
}

async fn open_as(stack: &Stack, user: &str) -> Result<Operation, Status> {
    let mut client = SessionServiceClient::new(stack.user(user));
    let apps = client.list_apps(ListAppsRequest {}).await?.into_inner().apps;
    let request = OpenAppRequest { name: apps[0].name.clone(), ..Default::default() };
    client.open_app(request).await.map(|_| Operation::default())
}

#[track_caller]
fn refused(result: Result<Operation, Status>) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("its host is being serviced"), "{status:?}");
}
