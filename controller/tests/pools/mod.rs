//! A pool over the API: made, claimed from, waited for, changed, deleted; and each bad request's reason.

mod claims;
mod sizes;

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;
use vidi_controller::model::PoolStatus;
use vidi_proto::v1 as wire;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::pool_service_client::PoolServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use wire::{PoolKind, ReleasePolicy, SessionEndCause};

use crate::stack::{Crash, Stack};

const TENANT: &str = "tenants/default";
const KIOSK: &str = "tenants/default/pools/kiosk";
const APP: &str = "tenants/default/apps/kiosk";

fn kiosk() -> wire::Pool {
    wire::Pool {
        display_name: "Kiosk".to_owned(),
        template: "tenants/default/templates/micro".to_owned(),
        kind: PoolKind::Floating.into(),
        min_spare: 1,
        max_desktops: 2,
        everyone: true,
        ..Default::default()
    }
}

fn creation(id: &str, pool: wire::Pool) -> wire::CreatePoolRequest {
    wire::CreatePoolRequest {
        parent: TENANT.to_owned(),
        pool_id: id.to_owned(),
        pool: Some(pool),
        ..Default::default()
    }
}

async fn create(stack: &Stack, request: wire::CreatePoolRequest) -> Result<wire::Pool, Status> {
    let mut client = PoolServiceClient::new(stack.admin());
    client.create_pool(request).await.map(tonic::Response::into_inner)
}

async fn get(stack: &Stack, name: &str) -> Result<wire::Pool, Status> {
    let request = wire::GetPoolRequest { name: name.to_owned() };
    let mut client = PoolServiceClient::new(stack.admin());
    client.get_pool(request).await.map(tonic::Response::into_inner)
}

async fn update(stack: &Stack, pool: wire::Pool, mask: &[&str]) -> Result<wire::Pool, Status> {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = wire::UpdatePoolRequest { pool: Some(pool), update_mask, validate_only: false };
    let mut client = PoolServiceClient::new(stack.admin());
    client.update_pool(request).await.map(tonic::Response::into_inner)
}

async fn delete(stack: &Stack, name: &str, etag: &str, force: bool) -> Result<(), Status> {
    let request = wire::DeletePoolRequest { name: name.to_owned(), etag: etag.to_owned(), force };
    PoolServiceClient::new(stack.admin()).delete_pool(request).await.map(drop)
}

async fn app(stack: &Stack, user: &str) -> Option<wire::App> {
    let mut client = SessionServiceClient::new(stack.user(user));
    let apps = client.list_apps(wire::ListAppsRequest {}).await.unwrap().into_inner().apps;
    apps.into_iter().find(|one| one.name == APP)
}

async fn open(stack: &Stack, user: &str) -> Result<wire::Session, Status> {
    let request = wire::OpenAppRequest { name: APP.to_owned(), ..Default::default() };
    let mut client = SessionServiceClient::new(stack.user(user));
    client.open_app(request).await.map(tonic::Response::into_inner)
}

async fn session(stack: &Stack, name: &str) -> wire::Session {
    let request = wire::GetSessionRequest { name: name.to_owned() };
    SessionServiceClient::new(stack.admin()).get_session(request).await.unwrap().into_inner()
}

async fn release(stack: &Stack, user: &str, name: &str) {
    let request = wire::ReleaseSessionRequest { name: name.to_owned() };
    SessionServiceClient::new(stack.user(user)).release_session(request).await.unwrap();
}

async fn grant(stack: &Stack, user: &str, session: &str) -> Result<(), Status> {
    let (token, session) = (format!("token-of-{user}"), session.to_owned());
    let request = wire::IssueGrantRequest { token, session, problem: String::new() };
    GatewayLinkClient::new(stack.gateway()).issue_grant(request).await.map(drop)
}

async fn desktops(
    stack: &Stack,
    request: wire::ListDesktopsRequest,
) -> Result<Vec<String>, Status> {
    let listed = DesktopServiceClient::new(stack.admin()).list_desktops(request).await?;
    Ok(listed.into_inner().desktops.into_iter().map(|one| one.name).collect())
}

/// Waits until the counts of the pool are so.
async fn until(stack: &Stack, holds: impl Fn(PoolStatus) -> bool, what: &str) {
    let (tenant, pool) = ("default".parse().unwrap(), "kiosk".parse().unwrap());
    let now = |stack: &Stack| {
        holds(stack.world().pool_status(&tenant, pool, vidi_kit::Clock::system().now_ms()))
    };
    stack.until(now, what).await.unwrap();
}

fn reason(refused: &Status) -> String {
    let details = refused.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn who_finds_a_pool_empty_has_a_place_in_its_queue_and_then_a_desktop_of_its_own() {
    let stack = Stack::new(Crash::Never).await;
    stack.add_user("default", "eva", &["user"]).await;
    let made = create(&stack, creation("kiosk", kiosk())).await.unwrap();
    assert_eq!((made.name.as_str(), made.app.as_str()), (KIOSK, APP));
    assert_eq!(made.release_policy(), ReleasePolicy::Delete, "a floating one always");
    let first = app(&stack, "ana").await.unwrap();
    assert_eq!(
        (first.ready, first.pool.as_str(), first.state.as_str()),
        (false, KIOSK, "Preparing")
    );
    until(&stack, |seen| seen.ready == 1, "one is ready").await;
    let first = app(&stack, "ana").await.unwrap();
    assert_eq!((first.ready, first.release_policy()), (true, ReleasePolicy::Delete));
    let anas = open(&stack, "ana").await.unwrap();
    assert_eq!((anas.pool.as_str(), anas.queue.clone()), (KIOSK, None));
    assert_eq!(anas.release_policy(), ReleasePolicy::Delete);
    let counts = get(&stack, KIOSK).await.unwrap().status.unwrap();
    assert_eq!((counts.claimed, counts.preparing), (1, 1), "the next was begun with the claim");
    assert_eq!(open(&stack, "ana").await.unwrap().name, anas.name, "the same session");
    grant(&stack, "ana", &anas.name).await.unwrap();
    assert_eq!(app(&stack, "ana").await.unwrap().session, anas.name);
    until(&stack, |seen| seen.ready == 1 && seen.claimed == 1, "the next is ready").await;
    let bens = open(&stack, "ben").await.unwrap();
    assert_ne!(bens.desktop, anas.desktop);
    // The pool is at its most: the third waits.
    let evas = open(&stack, "eva").await.unwrap();
    let place = evas.queue.clone().unwrap();
    assert_eq!((place.position, evas.desktop.as_str(), evas.pool.as_str()), (1, "", KIOSK));
    assert!(place.reason.contains("it may have 2"), "{place:?}");
    let refused = grant(&stack, "eva", &evas.name).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "WAITING_FOR_DESKTOP")
    );
    let details = refused.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!((metadata["position"].as_str(), &metadata["reason"]), ("1", &place.reason));
    assert!(metadata["estimate_secs"].parse::<u32>().is_ok(), "{metadata:?}");
    let waits = app(&stack, "eva").await.unwrap();
    assert_eq!(
        (waits.session, waits.desktop.as_str(), waits.ready),
        (evas.name.clone(), "", false)
    );
    assert!(waits.state.starts_with("Waiting, number 1"), "{}", waits.state);
    let request = wire::ListSessionsRequest { parent: TENANT.to_owned(), ..Default::default() };
    let listed = SessionServiceClient::new(stack.admin()).list_sessions(request).await.unwrap();
    let listed = listed.into_inner().sessions.into_iter().find(|one| one.name == evas.name);
    assert_eq!(listed.unwrap().queue.unwrap().position, 1);
    let counts = get(&stack, KIOSK).await.unwrap().status.unwrap();
    assert_eq!((counts.desktops, counts.claimed, counts.waiting), (2, 2, 1));
    assert_eq!(counts.problem, place.reason);
    // A desktop is destroyed after its user; the one who waits gets a new one.
    release(&stack, "ana", &anas.name).await;
    until(&stack, |seen| seen.waiting == 0 && seen.claimed == 2, "eva has one").await;
    assert!(!stack.host_has(&anas.desktop), "single use");
    let evas = session(&stack, &evas.name).await;
    assert!(evas.queue.is_none() && !evas.desktop.is_empty() && evas.desktop != anas.desktop);
    grant(&stack, "eva", &evas.name).await.unwrap();
    crate::invariants::check(&stack.stored_world());
}

#[tokio::test(start_paused = true)]
async fn a_large_pool_is_made_at_once_in_few_commits_and_others_are_answered_meanwhile() {
    const DESKTOPS: u32 = 1_000;
    // Two rows for each and the nonce, in commits of 128; they are made so that a third would fit.
    const COMMITS_MAX: u64 = 2 + 1_000 / 40 + 2;
    let stack = Stack::new(Crash::Never).await;
    // Nothing but the pool itself is a reason for a round.
    stack.cut_agent(true);
    tokio::time::sleep(Duration::from_secs(70)).await;
    let (began, before) = (tokio::time::Instant::now(), stack.revision());
    let large = wire::Pool { min_spare: DESKTOPS, max_desktops: DESKTOPS, ..kiosk() };
    create(&stack, creation("kiosk", large)).await.unwrap();
    stack.add_user("default", "eva", &["user"]).await;
    let counts = || {
        let (tenant, pool) = ("default".parse().unwrap(), "kiosk".parse().unwrap());
        stack.world().pool_counts(&tenant, pool).all()
    };
    assert!(counts() < DESKTOPS, "who asks is answered before all are made");
    while counts() < DESKTOPS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let commits = stack.revision() - before;
    assert!(commits <= COMMITS_MAX, "{commits} commits");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_the_queue() {
    let stack = Stack::new(Crash::Never).await;
    let empty = wire::Pool { min_spare: 0, max_desktops: 1, ..kiosk() };
    create(&stack, creation("kiosk", empty)).await.unwrap();
    let anas = open(&stack, "ana").await.unwrap();
    let bens = open(&stack, "ben").await.unwrap();
    let position = |one: &wire::Session| one.queue.as_ref().map(|queue| queue.position);
    assert_eq!((position(&anas), position(&bens)), (Some(1), Some(2)));
    release(&stack, "ana", &anas.name).await;
    assert_eq!(session(&stack, &anas.name).await.end_cause(), SessionEndCause::Released);
    let bens = session(&stack, &bens.name).await;
    assert!(matches!(position(&bens), None | Some(1)), "{bens:?}");
    until(&stack, |seen| seen.claimed == 1 && seen.waiting == 0, "ben has one").await;
}

#[tokio::test(start_paused = true)]
async fn a_dedicated_desktop_stays_its_users_and_follows_its_pools_word() {
    let stack = Stack::new(Crash::Never).await;
    let dedicated = wire::Pool {
        kind: PoolKind::Dedicated.into(),
        everyone: false,
        users: vec!["tenants/default/users/ana".to_owned()],
        ..kiosk()
    };
    create(&stack, creation("kiosk", dedicated)).await.unwrap();
    assert!(app(&stack, "ben").await.is_none(), "it is not on his menu");
    assert_eq!(open(&stack, "ben").await.unwrap_err().code(), Code::NotFound);
    until(&stack, |seen| seen.ready == 1, "one is ready").await;
    let first = open(&stack, "ana").await.unwrap();
    assert_eq!(first.release_policy(), ReleasePolicy::Stop);
    release(&stack, "ana", &first.name).await;
    stack.until(|stack| !stack.host_runs(&first.desktop), "it is shut down").await.unwrap();
    let again = open(&stack, "ana").await.unwrap();
    assert_eq!(again.desktop, first.desktop);
    let mut request = wire::Pool { name: KIOSK.to_owned(), ..Default::default() };
    request.release_policy = ReleasePolicy::Keep.into();
    update(&stack, request, &["release_policy"]).await.unwrap();
    assert_eq!(session(&stack, &again.name).await.release_policy(), ReleasePolicy::Keep);
    assert_eq!(app(&stack, "ana").await.unwrap().release_policy(), ReleasePolicy::Keep);
    release(&stack, "ana", &again.name).await;
    let refused = delete(&stack, KIOSK, "", false).await.unwrap_err();
    assert_eq!(reason(&refused), "WRONG_STATE", "ana has one: {refused:?}");
    delete(&stack, KIOSK, "", true).await.unwrap();
    assert!(app(&stack, "ana").await.is_none());
    let gone = |stack: &Stack| stack.host_is_empty() && stack.world().pools.is_empty();
    stack.until(gone, "all of it is gone").await.unwrap();
    assert_eq!(reason(&get(&stack, KIOSK).await.unwrap_err()), "NOT_FOUND");
    crate::invariants::check(&stack.stored_world());
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_made_once_and_each_bad_request_has_its_reason() {
    let stack = Stack::new(Crash::Never).await;
    let refused = async |request| reason(&create(&stack, request).await.unwrap_err());
    let judged = wire::CreatePoolRequest { validate_only: true, ..creation("kiosk", kiosk()) };
    assert_eq!(create(&stack, judged).await.unwrap().name, KIOSK);
    assert_eq!(reason(&get(&stack, KIOSK).await.unwrap_err()), "NOT_FOUND", "only judged");
    let keyed =
        |pool| wire::CreatePoolRequest { request_id: "r1".to_owned(), ..creation("kiosk", pool) };
    let made = create(&stack, keyed(kiosk())).await.unwrap();
    assert_eq!(create(&stack, keyed(kiosk())).await.unwrap().etag, made.etag, "asked again");
    let other = wire::Pool { min_spare: 2, ..kiosk() };
    assert_eq!(refused(keyed(other)).await, "REQUEST_ID_REUSED");
    assert_eq!(refused(creation("kiosk", kiosk())).await, "ALREADY_EXISTS");
    for wrong in ["", "Kiosk", "1st", "a/b", &"x".repeat(41)] {
        assert_eq!(refused(creation(wrong, kiosk())).await, "INVALID_FIELD", "{wrong}");
    }
    let nothing = wire::CreatePoolRequest { pool: None, ..creation("second", kiosk()) };
    assert_eq!(refused(nothing).await, "INVALID_FIELD");
    let template = |name: &str| wire::Pool { template: name.to_owned(), ..kiosk() };
    for (missing, expected) in [
        (template("tenants/default/templates/none"), "NOT_FOUND"),
        (template("tenants/other/templates/micro"), "NOT_FOUND"),
        (template(""), "INVALID_FIELD"),
        (wire::Pool { max_desktops: 0, ..kiosk() }, "INVALID_FIELD"),
        (wire::Pool { min_spare: 3, ..kiosk() }, "INVALID_FIELD"),
        (wire::Pool { kind: 0, ..kiosk() }, "INVALID_FIELD"),
    ] {
        assert_eq!(refused(creation("second", missing)).await, expected);
    }
    let users = vec!["tenants/default/users/nobody".to_owned()];
    let nobody = wire::Pool { everyone: false, users, ..kiosk() };
    assert_eq!(refused(creation("second", nobody)).await, "NOT_FOUND");
    // Changes.
    let named = || wire::Pool { name: KIOSK.to_owned(), ..kiosk() };
    let changed = async |pool, mask: &[&str]| update(&stack, pool, mask).await;
    let larger = wire::Pool { max_desktops: 3, etag: made.etag.clone(), ..named() };
    let after = changed(larger.clone(), &["max_desktops"]).await.unwrap();
    assert_eq!((after.max_desktops, after.display_name.as_str()), (3, "Kiosk"));
    let again = wire::Pool { max_desktops: 4, ..larger };
    assert_eq!(reason(&changed(again, &["max_desktops"]).await.unwrap_err()), "ETAG_STALE");
    for (wrong, mask) in [
        (named(), "kind"),
        (named(), "template"),
        (named(), "status"),
        (wire::Pool { max_desktops: 0, ..named() }, "max_desktops"),
        (wire::Pool { min_spare: 9, ..named() }, "min_spare"),
        (wire::Pool { disconnect_secs: 1, ..named() }, "disconnect_secs"),
        (wire::Pool { release_policy: ReleasePolicy::Keep.into(), ..named() }, "release_policy"),
        (wire::Pool { name: "kiosk".to_owned(), ..kiosk() }, "min_spare"),
    ] {
        let refused = changed(wrong, &[mask]).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "INVALID_FIELD")
        );
    }
    let missing = wire::Pool { name: format!("{TENANT}/pools/none"), ..kiosk() };
    assert_eq!(reason(&changed(missing, &["min_spare"]).await.unwrap_err()), "NOT_FOUND");
    // What is in order stays so; a stale etag is one here, too.
    let resume = async |name: &str, etag: &str| {
        let request = wire::ResumePoolRequest { name: name.to_owned(), etag: etag.to_owned() };
        PoolServiceClient::new(stack.admin()).resume_pool(request).await
    };
    assert!(resume(KIOSK, "").await.unwrap().into_inner().status.unwrap().suspended.is_none());
    assert_eq!(reason(&resume(KIOSK, &made.etag).await.unwrap_err()), "ETAG_STALE");
    assert_eq!(reason(&delete(&stack, KIOSK, &made.etag, true).await.unwrap_err()), "ETAG_STALE");
    let none = format!("{TENANT}/pools/none");
    assert_eq!(reason(&resume(&none, "").await.unwrap_err()), "NOT_FOUND");
    assert_eq!(reason(&delete(&stack, &none, "", true).await.unwrap_err()), "NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn lists_are_paged_and_a_pools_desktops_are_a_list_of_their_own() {
    let stack = Stack::new(Crash::Never).await;
    let pool = wire::Pool { min_spare: 3, max_desktops: 3, ..kiosk() };
    create(&stack, creation("kiosk", pool)).await.unwrap();
    create(&stack, creation("lobby", wire::Pool { max_desktops: 1, ..kiosk() })).await.unwrap();
    until(&stack, |seen| seen.ready == 3, "all are ready").await;
    let mut client = PoolServiceClient::new(stack.admin());
    let page = |page_token: String| wire::ListPoolsRequest {
        parent: TENANT.to_owned(),
        page_size: 1,
        page_token,
    };
    let first = client.list_pools(page(String::new())).await.unwrap().into_inner();
    let second = client.list_pools(page(first.next_page_token.clone())).await.unwrap().into_inner();
    let names: Vec<_> = [&first, &second].map(|page| page.pools[0].name.clone()).into();
    assert_eq!(names, [KIOSK, "tenants/default/pools/lobby"]);
    assert_eq!(second.next_page_token, "");
    let wrong = client.list_pools(page("x".to_owned())).await.unwrap_err();
    assert_eq!(reason(&wrong), "PAGE_TOKEN_INVALID");
    let negative = wire::ListPoolsRequest { page_size: -1, ..page(String::new()) };
    assert_eq!(reason(&client.list_pools(negative).await.unwrap_err()), "INVALID_FIELD");
    // Desktops.
    let of = |pool: &str, page_token: String| wire::ListDesktopsRequest {
        parent: TENANT.to_owned(),
        page_size: 2,
        page_token,
        pool: pool.to_owned(),
    };
    let mut client = DesktopServiceClient::new(stack.admin());
    let first = client.list_desktops(of(KIOSK, String::new())).await.unwrap().into_inner();
    let second = client.list_desktops(of(KIOSK, first.next_page_token.clone())).await;
    let second = second.unwrap().into_inner();
    assert_eq!((first.desktops.len(), second.desktops.len()), (2, 1));
    let spec = |one: &wire::Desktop| one.spec.clone().unwrap();
    assert!(first.desktops.iter().chain(&second.desktops).all(|one| spec(one).pool == KIOSK));
    let lobby = "tenants/default/pools/lobby";
    assert_eq!(desktops(&stack, of(lobby, String::new())).await.unwrap().len(), 1);
    let foreign = desktops(&stack, of(lobby, first.next_page_token)).await.unwrap_err();
    assert_eq!(reason(&foreign), "PAGE_TOKEN_INVALID", "the token is another list's");
    for (wrong, expected) in [
        ("kiosk", "INVALID_FIELD"),
        ("tenants/default/pools/none", "NOT_FOUND"),
        ("tenants/other/pools/kiosk", "NOT_FOUND"),
    ] {
        let refused = desktops(&stack, of(wrong, String::new())).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{wrong}");
    }
    // A spare is nobody's: who only uses desktops does not see it.
    let mut client = DesktopServiceClient::new(stack.user("ana"));
    let own = client.list_desktops(of(KIOSK, String::new())).await.unwrap().into_inner();
    assert!(own.desktops.is_empty());
}
