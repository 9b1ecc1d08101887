//! Versions, roll-outs, changes of many desktops and messages, over the API.

use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vidi_proto::v1 as wire;
use vidi_proto::v1::batch_service_client::BatchServiceClient;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::message_service_client::MessageServiceClient;
use vidi_proto::v1::operation_service_client::OperationServiceClient;
use vidi_proto::v1::pool_service_client::PoolServiceClient;
use vidi_proto::v1::rollout_service_client::RolloutServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::template_service_client::TemplateServiceClient;
use wire::upload_template_request::Part;
use wire::{PoolKind, RolloutState};

use crate::present;
use crate::stack::{Crash, Stack};

const TENANT: &str = "tenants/default";
const MICRO: &str = "tenants/default/templates/micro";
const KIOSK: &str = "tenants/default/pools/kiosk";

fn reason(refused: &Status) -> String {
    let details = refused.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Uploads a version, whose name it answers.
pub(crate) async fn upload(stack: &Stack, disk: &[u8], draft: bool) -> String {
    let sha256: String = Sha256::digest(disk).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = wire::ImageFile {
        file: "disk".to_owned(),
        sha256,
        size_bytes: u64::try_from(disk.len()).unwrap(),
    };
    let guest = wire::GuestSettings {
        memory_mib: 128,
        vcpus: 1,
        video: wire::Video::Qxl.into(),
        readiness: wire::Readiness::Helper.into(),
        sound: false,
    };
    let manifest = wire::TemplateManifest {
        disk: Some(file),
        guest: Some(guest),
        ..wire::TemplateManifest::default()
    };
    let hex = Sha256::digest(manifest.encode_to_vec());
    let digest: String = hex.iter().map(|byte| format!("{byte:02x}")).collect();
    let header = wire::UploadTemplateHeader {
        parent: TENANT.to_owned(),
        template_id: "micro".to_owned(),
        display_name: String::new(),
        manifest: Some(manifest),
        draft,
    };
    let parts = [Part::Header(header), Part::Chunk(disk.to_vec())];
    let parts = parts.map(|part| wire::UploadTemplateRequest { part: Some(part) });
    let mut client = TemplateServiceClient::new(stack.admin());
    client.upload_template(tokio_stream::iter(parts)).await.unwrap();
    format!("sha256:{digest}")
}

async fn versions(stack: &Stack) -> Vec<wire::TemplateVersion> {
    let request = wire::ListTemplateVersionsRequest {
        parent: MICRO.to_owned(),
        ..wire::ListTemplateVersionsRequest::default()
    };
    let mut client = TemplateServiceClient::new(stack.admin());
    client.list_template_versions(request).await.unwrap().into_inner().versions
}

async fn make_pool(stack: &Stack, min_spare: u32, max_desktops: u32) {
    let pool = wire::Pool {
        template: MICRO.to_owned(),
        kind: PoolKind::Floating.into(),
        min_spare,
        max_desktops,
        everyone: true,
        ..wire::Pool::default()
    };
    let request = wire::CreatePoolRequest {
        parent: TENANT.to_owned(),
        pool_id: "kiosk".to_owned(),
        pool: Some(pool),
        ..wire::CreatePoolRequest::default()
    };
    PoolServiceClient::new(stack.admin()).create_pool(request).await.unwrap();
    ready(stack, min_spare).await;
}

async fn ready(stack: &Stack, count: u32) {
    let (tenant, pool) = ("default".parse().unwrap(), "kiosk".parse().unwrap());
    let now =
        |stack: &Stack| stack.world().pool_status(&tenant, pool, stack.now_ms()).ready == count;
    stack.until(now, "as many are ready").await.unwrap();
}

fn rollout(digest: &str, plan: wire::RolloutPlan) -> wire::CreateRolloutRequest {
    wire::CreateRolloutRequest {
        parent: TENANT.to_owned(),
        rollout: Some(wire::Rollout {
            pool: KIOSK.to_owned(),
            digest: digest.to_owned(),
            plan: Some(plan),
            ..wire::Rollout::default()
        }),
        request_id: "r1".to_owned(),
        validate_only: false,
    }
}

async fn begin(
    stack: &Stack,
    request: wire::CreateRolloutRequest,
) -> Result<wire::Rollout, Status> {
    let mut client = RolloutServiceClient::new(stack.admin());
    client.create_rollout(request).await.map(tonic::Response::into_inner)
}

async fn get(stack: &Stack, name: &str) -> wire::Rollout {
    let request = wire::GetRolloutRequest { name: name.to_owned() };
    RolloutServiceClient::new(stack.admin()).get_rollout(request).await.unwrap().into_inner()
}

async fn until_state(stack: &Stack, name: &str, wanted: RolloutState) -> wire::Rollout {
    for _ in 0..1_200 {
        let one = get(stack, name).await;
        if one.status.as_ref().unwrap().state() == wanted {
            return one;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", get(stack, name).await);
}

#[tokio::test(start_paused = true)]
async fn a_draft_is_rolled_out_and_another_controller_goes_on_with_it() {
    let mut stack = Stack::new(Crash::Never).await;
    make_pool(&stack, 4, 8).await;
    let draft = upload(&stack, b"two", true).await;
    let listed = versions(&stack).await;
    let seen: Vec<_> = listed.iter().map(|one| (one.published, one.desktops)).collect();
    assert_eq!(seen, [(true, 4), (false, 0)], "a draft is for nobody");
    let plan = wire::RolloutPlan {
        canaries: 1,
        wave_percent: 50,
        soak_secs: 2,
        ..wire::RolloutPlan::default()
    };
    let dry = wire::CreateRolloutRequest { validate_only: true, ..rollout(&draft, plan) };
    assert_eq!(begin(&stack, dry).await.unwrap().name, "");
    let begun = begin(&stack, rollout(&draft, plan)).await.unwrap();
    assert_eq!(begun.plan.unwrap().ready_secs, 900, "what is not said is documented");
    let again = begin(&stack, rollout(&draft, plan)).await.unwrap();
    assert_eq!(again.name, begun.name, "the same request");
    let other = wire::CreateRolloutRequest { request_id: String::new(), ..rollout(&draft, plan) };
    let refused = begin(&stack, other).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "WRONG_STATE")
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    stack.restart().await;
    let ended = until_state(&stack, &begun.name, RolloutState::Done).await;
    assert!(ended.end_time.is_some() && ended.status.unwrap().step >= 2);
    ready(&stack, 4).await;
    stack.until(|stack| stack.world().desktops.len() == 4, "the old ones are gone").await.unwrap();
    let seen: Vec<_> =
        versions(&stack).await.iter().map(|one| (one.published, one.desktops)).collect();
    assert_eq!(seen, [(true, 0), (false, 4)]);
    let list = wire::ListRolloutsRequest {
        parent: TENANT.to_owned(),
        pool: KIOSK.to_owned(),
        ..wire::ListRolloutsRequest::default()
    };
    let listed = RolloutServiceClient::new(stack.admin()).list_rollouts(list).await.unwrap();
    assert_eq!(listed.into_inner().rollouts.len(), 1);
    // It is what the pool has, though another version is published.
    let mut templates = TemplateServiceClient::new(stack.admin());
    let forget = wire::DeleteTemplateVersionRequest { name: MICRO.to_owned(), digest: draft };
    let refused = templates.delete_template_version(forget).await.unwrap_err();
    assert_eq!(reason(&refused), "WRONG_STATE");
    let etag = get(&stack, &begun.name).await.etag;
    let mut client = RolloutServiceClient::new(stack.admin());
    let stale = wire::RollBackRolloutRequest { name: begun.name.clone(), etag: "old".to_owned() };
    let refused = client.roll_back_rollout(stale).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "ETAG_STALE"));
    let back = wire::RollBackRolloutRequest { name: begun.name.clone(), etag };
    client.roll_back_rollout(back).await.unwrap();
    until_state(&stack, &begun.name, RolloutState::RolledBack).await;
}

#[tokio::test(start_paused = true)]
async fn each_bad_roll_out_is_refused_for_its_reason() {
    let stack = Stack::new(Crash::Never).await;
    make_pool(&stack, 1, 2).await;
    let draft = upload(&stack, b"two", true).await;
    let plan = wire::RolloutPlan::default();
    let unknown = format!("sha256:{}", "e".repeat(64));
    let of_pool = |pool: &str| {
        let mut request = rollout(&draft, plan);
        request.rollout.as_mut().unwrap().pool = pool.to_owned();
        request
    };
    let many = wire::RolloutPlan { wave_percent: 101, ..plan };
    for (request, expected) in [
        (rollout(&unknown, plan), "NOT_FOUND"),
        (rollout("two", plan), "INVALID_FIELD"),
        (rollout(&draft, many), "INVALID_FIELD"),
        (of_pool("tenants/default/pools/none"), "NOT_FOUND"),
        (of_pool("tenants/other/pools/kiosk"), "NOT_FOUND"),
        (of_pool("kiosk"), "INVALID_FIELD"),
        (rollout(&versions(&stack).await[0].digest, plan), "WRONG_STATE"),
        (wire::CreateRolloutRequest::default(), "INVALID_FIELD"),
    ] {
        let refused = begin(&stack, request.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{request:?}");
    }
    let request = wire::GetRolloutRequest {
        name: format!("{TENANT}/rollouts/{}", vidi_kit::ids::RolloutId::generate()),
    };
    let mut client = RolloutServiceClient::new(stack.admin());
    assert_eq!(client.get_rollout(request).await.unwrap_err().code(), Code::NotFound);
    let mut user = RolloutServiceClient::new(stack.user("ana"));
    let refused = user.create_rollout(rollout(&draft, plan)).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ALLOWED");
}

async fn make_desktops(stack: &Stack, count: usize) {
    let mut client = DesktopServiceClient::new(stack.admin());
    for _ in 0..count {
        let request = wire::CreateDesktopRequest {
            parent: TENANT.to_owned(),
            template: MICRO.to_owned(),
            assigned_user: "tenants/default/users/ana".to_owned(),
            ..wire::CreateDesktopRequest::default()
        };
        client.create_desktop(request).await.unwrap();
    }
    let settled = |stack: &Stack| stack.world().open_operations.is_empty();
    stack.until(settled, "they are made").await.unwrap();
}

async fn wait(stack: &Stack, operation: &wire::Operation) -> wire::Operation {
    let request = wire::WaitOperationRequest { name: operation.name.clone(), timeout_secs: 120 };
    let mut client = OperationServiceClient::new(stack.admin());
    client.wait_operation(request).await.unwrap().into_inner()
}

fn start(filter: wire::DesktopFilter) -> wire::BatchStartDesktopsRequest {
    wire::BatchStartDesktopsRequest {
        parent: TENANT.to_owned(),
        filter: Some(filter),
        at_a_time: 2,
        request_id: "b1".to_owned(),
        validate_only: false,
    }
}

#[tokio::test(start_paused = true)]
async fn many_desktops_are_started_some_at_a_time_by_whichever_controller_leads() {
    let mut stack = Stack::new(Crash::Never).await;
    make_desktops(&stack, 7).await;
    let all = wire::DesktopFilter { template: MICRO.to_owned(), ..Default::default() };
    let mut client = BatchServiceClient::new(stack.admin());
    let dry = wire::BatchStartDesktopsRequest { validate_only: true, ..start(all.clone()) };
    let told = client.batch_start_desktops(dry).await.unwrap().into_inner();
    assert_eq!((told.progress.unwrap().total, told.name.as_str()), (7, ""));
    let begun = client.batch_start_desktops(start(all.clone())).await.unwrap().into_inner();
    let progress = begun.progress.clone().unwrap();
    assert_eq!((begun.kind.as_str(), progress.total, progress.done), ("batch-start", 7, 0));
    let again = client.batch_start_desktops(start(all.clone())).await.unwrap().into_inner();
    assert_eq!(again.name, begun.name, "the same request");
    let going = |stack: &Stack| {
        let batches = &stack.world().batches;
        batches.values().any(|one| 0 < one.done && one.done < 7)
    };
    stack.until(going, "some have started").await.unwrap();
    let most = stack.world().batches.values().map(|one| one.open.len()).max();
    assert!(most <= Some(2), "{most:?}");
    stack.restart().await;
    let ended = wait(&stack, &begun).await;
    let progress = ended.progress.unwrap();
    assert_eq!((ended.done, progress.done, progress.failed, progress.skipped), (true, 7, 0, 0));
    let running = |stack: &Stack| {
        let world = stack.world();
        world.desktops.iter().filter(|((_, id), one)| world.is_ready(one, *id)).count()
    };
    assert_eq!(running(&stack), 7);
    let mut operations = OperationServiceClient::new(stack.admin());
    let list = wire::ListOperationsRequest::default();
    let listed = operations.list_operations(list).await.unwrap().into_inner().operations;
    assert!(listed.iter().any(|one| one.name == begun.name), "beside those of single desktops");
    let mut own = OperationServiceClient::new(stack.user("ana"));
    let request = wire::GetOperationRequest { name: begun.name.clone() };
    assert_eq!(own.get_operation(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_named_what_is_not_found_is_skipped_and_a_batch_is_cancelled() {
    let stack = Stack::new(Crash::Never).await;
    make_desktops(&stack, 5).await;
    let mut client = BatchServiceClient::new(stack.admin());
    let restart = |filter: wire::DesktopFilter| wire::BatchRestartDesktopsRequest {
        parent: TENANT.to_owned(),
        filter: Some(filter),
        at_a_time: 1,
        ..wire::BatchRestartDesktopsRequest::default()
    };
    // Its host may not start anything.
    let host = "hosts/host-1".to_owned();
    let mut hosts = wire::host_service_client::HostServiceClient::new(stack.root());
    let drain = wire::DrainHostRequest { name: host, ..Default::default() };
    hosts.drain_host(drain.clone()).await.unwrap();
    let begun = client.batch_restart_desktops(restart(Default::default())).await.unwrap();
    let ended = wait(&stack, &begun.into_inner()).await;
    let progress = ended.progress.clone().unwrap();
    assert_eq!((progress.failed, progress.failures.len()), (5, 5), "{ended:?}");
    assert!(matches!(ended.result, Some(wire::operation::Result::Error(_))), "{ended:?}");
    let name = drain.name;
    hosts.uncordon_host(wire::UncordonHostRequest { name, ..Default::default() }).await.unwrap();
    let begun = client.batch_restart_desktops(restart(Default::default())).await.unwrap();
    let name = begun.into_inner().name;
    let some = |stack: &Stack| stack.world().batches.values().any(|one| 0 < one.done);
    stack.until(some, "one has started").await.unwrap();
    let mut operations = OperationServiceClient::new(stack.admin());
    let cancel = wire::CancelOperationRequest { name: name.clone() };
    operations.cancel_operation(cancel.clone()).await.unwrap();
    operations.cancel_operation(cancel).await.unwrap();
    let ended = wait(&stack, &wire::Operation { name, ..Default::default() }).await;
    let progress = ended.progress.unwrap();
    assert!(progress.cancelled && ended.done);
    assert_eq!(progress.done + progress.failed + progress.skipped, 5);
    assert!(0 < progress.skipped, "{progress:?}");
    let single = stack.world().operations.iter().next().map(|(id, _)| *id).unwrap();
    let cancel = wire::CancelOperationRequest { name: format!("operations/{single}") };
    let refused = operations.cancel_operation(cancel).await.unwrap_err();
    assert_eq!(reason(&refused), "WRONG_STATE");
    let host = |name: &str| wire::DesktopFilter { host: name.to_owned(), ..Default::default() };
    stack.add_user("default", "eva", &["helpdesk"]).await;
    let mut desk = BatchServiceClient::new(stack.user("eva"));
    let refused = desk.batch_restart_desktops(restart(host("hosts/host-1"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "hosts are for operators");
    let many = wire::BatchRestartDesktopsRequest { at_a_time: 201, ..restart(host("")) };
    assert_eq!(reason(&desk.batch_restart_desktops(many).await.unwrap_err()), "INVALID_FIELD");
    let odd = restart(wire::DesktopFilter { pool: "kiosk".to_owned(), ..Default::default() });
    assert_eq!(reason(&desk.batch_restart_desktops(odd).await.unwrap_err()), "INVALID_FIELD");
}

async fn open(stack: &Stack, user: &str) -> wire::Session {
    let request = wire::OpenAppRequest {
        name: "tenants/default/apps/kiosk".to_owned(),
        ..wire::OpenAppRequest::default()
    };
    SessionServiceClient::new(stack.user(user)).open_app(request).await.unwrap().into_inner()
}

async fn grant(stack: &Stack, user: &str, session: &str) -> u64 {
    let (token, session) = (format!("token-of-{user}"), session.to_owned());
    let request = wire::IssueGrantRequest { token, session, problem: String::new() };
    let mut client = wire::gateway_link_client::GatewayLinkClient::new(stack.gateway());
    client.issue_grant(request).await.unwrap().into_inner().epoch
}

/// The messages of the next command that has some.
async fn told(link: &mut crate::Link) -> Vec<(String, String)> {
    loop {
        let command = link.1.message().await.unwrap().unwrap();
        if let Some(of) = command.messages.into_iter().next() {
            return of.messages.into_iter().map(|one| (one.from, one.text)).collect();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_the_gateway_that_shows_the_desktop_and_any_later_one() {
    let mut stack = Stack::new(Crash::Never).await;
    make_pool(&stack, 2, 4).await;
    stack.add_user("default", "eva", &["helpdesk"]).await;
    let anas = open(&stack, "ana").await;
    let epoch = grant(&stack, "ana", &anas.name).await;
    let mut link = present(&stack, &anas.name, epoch).await.unwrap();
    let mut desk = MessageServiceClient::new(stack.user("eva"));
    let say = |text: &str, request_id: &str| wire::MessageDesktopRequest {
        name: anas.desktop.clone(),
        text: text.to_owned(),
        request_id: request_id.to_owned(),
    };
    desk.message_desktop(say("Lunch at one.\nBring friends.", "m1")).await.unwrap();
    desk.message_desktop(say("Lunch at one.\nBring friends.", "m1")).await.unwrap();
    let lunch = ("eva".to_owned(), "Lunch at one.\nBring friends.".to_owned());
    let first = told(&mut link).await;
    assert_eq!(first, std::slice::from_ref(&lunch), "once, though it was asked for twice");
    let batch = wire::BatchMessageDesktopsRequest {
        parent: TENANT.to_owned(),
        filter: Some(wire::DesktopFilter { pool: KIOSK.to_owned(), ..Default::default() }),
        text: "All go home.".to_owned(),
        ..Default::default()
    };
    let begun = BatchServiceClient::new(stack.admin()).batch_message_desktops(batch).await;
    let ended = wait(&stack, &begun.unwrap().into_inner()).await;
    let progress = ended.progress.unwrap();
    assert_eq!((progress.done, progress.failed), (1, 0), "only on hers is somebody");
    assert_eq!(progress.total, progress.done + progress.skipped);
    let home = ("Administrator".to_owned(), "All go home.".to_owned());
    assert_eq!(told(&mut link).await, [lunch.clone(), home.clone()]);
    // Another controller, and another attachment: who comes back reads them.
    drop(link);
    stack.restart().await;
    let linked = |stack: &Stack| stack.world().hosts_live.values().any(|one| one.report.is_some());
    stack.until(linked, "the host is back").await.unwrap();
    let epoch = grant(&stack, "ana", &anas.name).await;
    let mut link = present(&stack, &anas.name, epoch).await.unwrap();
    assert_eq!(told(&mut link).await, [lunch, home]);
    let mut desk = MessageServiceClient::new(stack.user("eva"));
    for wrong in ["", " \n", "a\u{1b}[31m", &"x".repeat(1_001)] {
        let refused = desk.message_desktop(say(wrong, "")).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_FIELD", "{wrong:?}");
    }
    let mut ben = MessageServiceClient::new(stack.user("ben"));
    let refused = ben.message_desktop(say("Hi", "")).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ALLOWED");
    let release = wire::ReleaseSessionRequest { name: anas.name.clone() };
    SessionServiceClient::new(stack.user("ana")).release_session(release).await.unwrap();
    let late = wire::MessageSessionRequest {
        name: anas.name.clone(),
        text: "Hi".to_owned(),
        request_id: String::new(),
    };
    let refused = desk.message_session(late).await.unwrap_err();
    assert_eq!(reason(&refused), "WRONG_STATE");
}
