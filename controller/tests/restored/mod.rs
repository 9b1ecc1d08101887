//! A backup that was restored, older than what runs: nothing is lost by it, nobody gets what may be
//! somebody's, and each thing is known again when somebody says so.

use std::time::Duration;

use prost::Message;
use tonic::Code;
use vidi_controller::adapters::memory::MemoryStore;
use vidi_controller::backup::{self, Existing, RESTORED_KEY, RestoreError};
use vidi_controller::model::PoolStatus;
use vidi_controller::ports::{Expect, Store, Write, get};
use vidi_controller::{bootstrap, records};
use vidi_kit::Clock;
use vidi_proto::store::v1 as stored;
use vidi_proto::v1 as wire;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::pool_service_client::PoolServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::store_service_client::StoreServiceClient;

use crate::stack::{Crash, DISCONNECT_MS, Stack};

const KIOSK: &str = "tenants/default/apps/kiosk";

async fn pool(stack: &Stack) {
    let pool = wire::Pool {
        display_name: "Kiosk".to_owned(),
        template: "tenants/default/templates/micro".to_owned(),
        kind: wire::PoolKind::Floating.into(),
        min_spare: 1,
        max_desktops: 4,
        everyone: true,
        ..Default::default()
    };
    let request = wire::CreatePoolRequest {
        parent: "tenants/default".to_owned(),
        pool_id: "kiosk".to_owned(),
        pool: Some(pool),
        ..Default::default()
    };
    PoolServiceClient::new(stack.admin()).create_pool(request).await.unwrap();
}

async fn until_pool(stack: &Stack, holds: impl Fn(PoolStatus) -> bool, what: &str) {
    let (tenant, pool) = ("default".parse().unwrap(), "kiosk".parse().unwrap());
    let now =
        |stack: &Stack| holds(stack.world().pool_status(&tenant, pool, Clock::system().now_ms()));
    stack.until(now, what).await.unwrap();
}

/// A desktop for a user, once it runs.
async fn create(stack: &Stack, user: &str) -> String {
    let request = wire::CreateDesktopRequest {
        parent: "tenants/default".to_owned(),
        template: "tenants/default/templates/micro".to_owned(),
        display_name: format!("Desk of {user}"),
        assigned_user: format!("tenants/default/users/{user}"),
        start: true,
        release_policy: wire::ReleasePolicy::Keep.into(),
        ..Default::default()
    };
    let mut client = DesktopServiceClient::new(stack.admin());
    let name = client.create_desktop(request).await.unwrap().into_inner().target;
    stack.until(|stack| stack.host_runs(&name), "it runs").await.unwrap();
    name
}

async fn get_desktop(stack: &Stack, name: &str) -> wire::Desktop {
    let request = wire::GetDesktopRequest { name: name.to_owned() };
    DesktopServiceClient::new(stack.admin()).get_desktop(request).await.unwrap().into_inner()
}

async fn stop(stack: &Stack, name: &str) {
    let request = wire::StopDesktopRequest { name: name.to_owned(), ..Default::default() };
    DesktopServiceClient::new(stack.admin()).stop_desktop(request).await.unwrap();
    stack.until(|stack| !stack.host_runs(name), "it is off").await.unwrap();
}

async fn open(stack: &Stack, user: &str, app: &str) -> wire::Session {
    let request = wire::OpenAppRequest { name: app.to_owned(), ..Default::default() };
    let mut client = SessionServiceClient::new(stack.user(user));
    client.open_app(request).await.unwrap().into_inner()
}

async fn apps(stack: &Stack, user: &str) -> Vec<String> {
    let mut client = SessionServiceClient::new(stack.user(user));
    let apps = client.list_apps(wire::ListAppsRequest {}).await.unwrap().into_inner().apps;
    apps.into_iter().map(|one| one.name).filter(|name| name != KIOSK).collect()
}

/// The desktop of a session of the pool, once it has one.
async fn desktop_of(stack: &Stack, session: &wire::Session) -> String {
    let id = session.name.rsplit('/').next().unwrap().parse().unwrap();
    let found = |stack: &Stack| {
        let world = stack.world();
        let one = world.session(&"default".parse().unwrap(), id)?;
        match one.place {
            vidi_controller::model::Place::Desktop(id) => Some(id),
            _ => None,
        }
    };
    stack.until(|stack| found(stack).is_some(), "it has a desktop").await.unwrap();
    format!("tenants/default/desktops/{}", found(stack).unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_old_backup_destroys_nothing_and_gives_nobody_what_may_be_somebodys() {
    let mut stack = Stack::new(Crash::Never).await;
    stack.add_user("default", "eva", &["user"]).await;
    pool(&stack).await;
    until_pool(&stack, |seen| seen.ready == 1, "one is ready").await;
    let anas = create(&stack, "ana").await;
    let bens = create(&stack, "ben").await;
    stop(&stack, &bens).await;
    let backup = stack.back_up().await;

    // After it: ben works again, ana has another desktop, eva has the one of the pool that was free.
    let bens_app = apps(&stack, "ben").await.remove(0);
    open(&stack, "ben", &bens_app).await;
    stack.until(|stack| stack.host_runs(&bens), "ben works").await.unwrap();
    let second = create(&stack, "ana").await;
    let taken = desktop_of(&stack, &open(&stack, "eva", KIOSK).await).await;
    until_pool(&stack, |seen| seen.ready == 1 && seen.claimed == 1, "the next is ready").await;
    let all = [&anas, &bens, &second, &taken];
    let starts = |stack: &Stack| all.map(|name| stack.host_starts(name));
    let before = starts(&stack);

    let done = stack.restore(&backup).await;
    assert_eq!((done.desktops, done.forgotten), (3, 0), "the store was empty");
    // Longer than sessions wait, hosts are silent and desktops may be late.
    stack.skip(Duration::from_millis(2 * DISCONNECT_MS.unsigned_abs())).await;
    stack.skip(Duration::from_secs(3_600)).await;
    for name in all {
        assert!(stack.host_runs(name), "{name}");
    }
    assert_eq!(starts(&stack), before, "none was started anew");

    // Nobody gets what eva may have; the pool makes others.
    let other = desktop_of(&stack, &open(&stack, "ana", KIOSK).await).await;
    let another = desktop_of(&stack, &open(&stack, "ben", KIOSK).await).await;
    assert!(other != taken && another != taken && other != another);
    let told = get_desktop(&stack, &taken).await.status.unwrap();
    assert!(told.reason.contains("restored from a backup"), "{told:?}");

    // Its host has said that it runs, as it was wanted: it is a desktop as any.
    assert_eq!(get_desktop(&stack, &anas).await.status.unwrap().reason, "");
    // Who opens what was off finds it as it is.
    open(&stack, "ben", &bens_app).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(starts(&stack), before);
    assert!(get_desktop(&stack, &bens).await.status.unwrap().ready);
    stop(&stack, &anas).await;
    stop(&stack, &bens).await;

    // What somebody wants destroyed is.
    let request = wire::DeleteDesktopRequest { name: taken.clone(), ..Default::default() };
    DesktopServiceClient::new(stack.admin()).delete_desktop(request).await.unwrap();
    stack.until(|stack| !stack.host_has(&taken), "it is gone").await.unwrap();
    assert!(stack.host_runs(&second), "nobody here knows it");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_since_a_backup_makes_room_and_what_is_off_may_be_stopped() {
    let mut stack = Stack::new(Crash::Never).await;
    pool(&stack).await;
    until_pool(&stack, |seen| seen.ready == 1, "one is ready").await;
    let bens = create(&stack, "ben").await;
    stop(&stack, &bens).await;
    let backup = stack.back_up().await;
    // The free desktop is used and destroyed after its user; ben works.
    let session = open(&stack, "ana", KIOSK).await;
    let gone = desktop_of(&stack, &session).await;
    let request = wire::ReleaseSessionRequest { name: session.name };
    SessionServiceClient::new(stack.user("ana")).release_session(request).await.unwrap();
    stack.until(|stack| !stack.host_has(&gone), "it is gone").await.unwrap();
    let app = apps(&stack, "ben").await.remove(0);
    open(&stack, "ben", &app).await;
    stack.until(|stack| stack.host_runs(&bens), "ben works").await.unwrap();

    stack.restore(&backup).await;
    until_pool(&stack, |seen| seen.ready == 1 && seen.desktops == 1, "it makes another").await;
    assert!(!stack.host_has(&gone));
    assert!(stack.host_runs(&bens), "it is off only in the backup");
    stop(&stack, &bens).await;
}

#[tokio::test(start_paused = true)]
async fn only_root_gets_a_backup() {
    let stack = Stack::new(Crash::Never).await;
    for service in [stack.admin(), stack.gateway()] {
        let refused = StoreServiceClient::new(service).back_up(wire::BackUpRequest {}).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_holds_something_is_replaced_only_when_asked_and_never_half_way() {
    let stack = Stack::new(Crash::Never).await;
    let anas = create(&stack, "ana").await;
    let file = stack.back_up().await;
    let read = || backup::file::read(&file).unwrap();
    let store = MemoryStore::new();
    let key = "desktop/default/00000000-0000-7000-8000-000000000001/spec";
    store.commit(&[Expect::absent(key)], &[Write::put(key, "x")]).await.unwrap();
    let refused = backup::restore(&store, read(), Existing::Refuse, 1).await.unwrap_err();
    assert!(matches!(refused, RestoreError::NotEmpty { desktops: 1, forgotten: 1 }), "{refused}");
    assert!(get(&store, key).await.unwrap().is_some());

    let done = backup::restore(&store, read(), Existing::Replace, 1).await.unwrap();
    assert_eq!((done.desktops, done.forgotten), (1, 1));
    assert_eq!(done.forgotten_first, ["00000000-0000-7000-8000-000000000001"]);
    assert!(get(&store, key).await.unwrap().is_none());
    assert!(!backup::unfinished(&store).await.unwrap());
    let id = anas.rsplit('/').next().unwrap();
    assert!(get(&store, &format!("desktop/default/{id}/spec")).await.unwrap().is_some());
    let left = store.list("signin/", "", 1).await.unwrap().entries;
    assert!(left.is_empty(), "everybody signs in again");

    // As it is when that was cut: nobody begins on it, and it is done again without being asked twice.
    let mark = stored::Restored { finished: false, ..Default::default() }.encode_to_vec();
    let leader = get(&store, "leader").await.unwrap().unwrap();
    let writes = [Write::put(RESTORED_KEY, mark), Write::delete("meta/installation")];
    store.commit(&[Expect::revision("leader", leader.revision)], &writes).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("controller.key");
    let (clock, key) = (Clock::manual(0), bootstrap::KeyFile::Own(&key));
    let refused = bootstrap::open(&store, &clock, key, folder.path()).await.unwrap_err();
    assert!(refused.to_string().contains("only in part"), "{refused}");
    let entry = get(&store, RESTORED_KEY).await.unwrap().unwrap();
    let refused = records::row(RESTORED_KEY, &entry.value, 0).unwrap_err();
    assert!(refused.to_string().contains("only in part"), "who stood by: {refused}");
    backup::restore(&store, read(), Existing::Refuse, 1).await.unwrap();
    assert!(get(&store, "meta/installation").await.unwrap().is_some());
    assert!(!backup::unfinished(&store).await.unwrap());
}
