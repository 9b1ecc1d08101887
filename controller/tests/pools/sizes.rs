//! Schedules, forecasts, assignments and streams of changes over the API.

use vidi_proto::v1::{ChangeKind, Weekday};

use super::*;

fn rule(from: &str, to: &str, min_spare: Option<u32>, most: Option<u32>) -> wire::ScheduleRule {
    wire::ScheduleRule {
        days: Vec::new(),
        from: from.to_owned(),
        to: to.to_owned(),
        min_spare,
        max_desktops: most,
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_is_kept_told_and_followed_and_each_bad_one_has_its_reason() {
    let stack = Stack::new(Crash::Never).await;
    let all_day = rule("00:00", "24:00", Some(2), None);
    let asked = wire::Pool {
        time_zone: "europe/rome".to_owned(),
        schedule: vec![all_day.clone()],
        forecast: true,
        idle_secs: 900,
        user_sessions_max: 3,
        ..kiosk()
    };
    let made = create(&stack, creation("kiosk", asked.clone())).await.unwrap();
    assert_eq!((made.time_zone.as_str(), made.schedule), ("Europe/Rome", vec![all_day]));
    assert_eq!((made.forecast, made.idle_secs, made.user_sessions_max), (true, 900, 3));
    until(&stack, |seen| seen.ready == 2, "as its schedule says").await;
    let status = get(&stack, KIOSK).await.unwrap().status.unwrap();
    assert_eq!((status.min_spare, status.max_desktops, status.spare_wanted), (2, 2, 2));
    assert_eq!(status.next_change, None, "it is every day's");
    let expected = status.forecast.unwrap();
    assert_eq!((expected.spare, expected.people), (0, 0.0));
    let friday = wire::ScheduleRule {
        days: vec![Weekday::Friday.into()],
        ..rule("22:00", "06:00", Some(0), Some(1))
    };
    let change = wire::Pool { name: KIOSK.to_owned(), schedule: vec![friday], ..kiosk() };
    let after = update(&stack, change, &["schedule"]).await.unwrap();
    assert_eq!((after.time_zone.as_str(), after.forecast), ("Europe/Rome", true));
    let next = after.status.unwrap().next_change.unwrap();
    assert!(next.clock.ends_with(" 22:00") || next.clock.ends_with(" 06:00"), "{next:?}");
    let bad = |rule| wire::Pool { schedule: vec![rule], ..kiosk() };
    for wrong in [
        wire::Pool { time_zone: "Mars/Olympus".to_owned(), ..kiosk() },
        wire::Pool { schedule: vec![rule("08:00", "09:00", Some(1), None); 17], ..kiosk() },
        bad(rule("8:00", "09:00", Some(1), None)),
        bad(rule("08:00", "08:00", Some(1), None)),
        bad(rule("08:00", "09:00", None, None)),
        bad(rule("08:00", "09:00", Some(3), Some(2))),
        bad(rule("08:00", "09:00", None, Some(10_001))),
        bad(wire::ScheduleRule { days: vec![0], ..rule("08:00", "09:00", Some(1), None) }),
        bad(wire::ScheduleRule { days: vec![8], ..rule("08:00", "09:00", Some(1), None) }),
        wire::Pool { forecast: true, kind: PoolKind::Dedicated.into(), ..kiosk() },
        wire::Pool { idle_secs: 5, ..kiosk() },
        wire::Pool { user_sessions_max: 101, ..kiosk() },
    ] {
        let refused = create(&stack, creation("second", wrong)).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_FIELD", "{refused:?}");
    }
    crate::invariants::check(&stack.stored_world());
}

#[tokio::test(start_paused = true)]
async fn a_day_is_foretold_of_floating_pools() {
    let stack = Stack::new(Crash::Never).await;
    create(&stack, creation("kiosk", kiosk())).await.unwrap();
    let ask = async |name: &str, day: &str| {
        let request = wire::ForecastPoolRequest { name: name.to_owned(), day: day.to_owned() };
        let mut client = PoolServiceClient::new(stack.admin());
        client.forecast_pool(request).await.map(|found| found.into_inner().quarters)
    };
    let quarters = ask(KIOSK, "").await.unwrap();
    assert_eq!(quarters.len(), 96);
    let noon = &quarters[48];
    assert_eq!((noon.clock.as_str(), noon.spare, noon.people), ("12:00", 1, None));
    for wrong in ["today", "2026-13-01", "2026-11-30T00:00"] {
        assert_eq!(reason(&ask(KIOSK, wrong).await.unwrap_err()), "INVALID_FIELD", "{wrong}");
    }
    let none = format!("{TENANT}/pools/none");
    assert_eq!(reason(&ask(&none, "").await.unwrap_err()), "NOT_FOUND");
    let dedicated = wire::Pool { kind: PoolKind::Dedicated.into(), ..kiosk() };
    create(&stack, creation("own", dedicated)).await.unwrap();
    let own = format!("{TENANT}/pools/own");
    assert_eq!(reason(&ask(&own, "2026-11-30").await.unwrap_err()), "WRONG_STATE");
}

#[tokio::test(start_paused = true)]
async fn a_desktop_of_a_dedicated_pool_is_assigned_and_leaves_it_when_it_is_not_any_more() {
    let stack = Stack::new(Crash::Never).await;
    let dedicated = wire::Pool { kind: PoolKind::Dedicated.into(), ..kiosk() };
    create(&stack, creation("kiosk", dedicated)).await.unwrap();
    until(&stack, |seen| seen.ready == 1, "one is ready").await;
    let listed = wire::ListDesktopsRequest {
        parent: TENANT.to_owned(),
        pool: KIOSK.to_owned(),
        ..Default::default()
    };
    let name = desktops(&stack, listed.clone()).await.unwrap().remove(0);
    let assign = async |user: &str, etag: &str| {
        let (name, etag) = (name.clone(), etag.to_owned());
        let user = format!("tenants/{user}");
        let request = wire::AssignDesktopRequest { name, user, etag };
        let mut client = DesktopServiceClient::new(stack.admin());
        client.assign_desktop(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(reason(&assign("default/users/ana", "old").await.unwrap_err()), "ETAG_STALE");
    assert_eq!(reason(&assign("other/users/ana", "").await.unwrap_err()), "NOT_FOUND");
    assert_eq!(reason(&assign("default/users/no", "").await.unwrap_err()), "NOT_FOUND");
    let theirs = assign("default/users/ana", "").await.unwrap();
    assert_eq!(theirs.spec.unwrap().assigned_user, "tenants/default/users/ana");
    let session = open(&stack, "ana").await.unwrap();
    assert_eq!(session.desktop, name);
    let refused = assign("default/users/ben", "").await.unwrap_err();
    assert_eq!(reason(&refused), "DESKTOP_IN_USE");
    release(&stack, "ana", &session.name).await;
    let request = wire::UnassignDesktopRequest { name: name.clone(), etag: String::new() };
    let mut client = DesktopServiceClient::new(stack.admin());
    let free = client.unassign_desktop(request).await.unwrap().into_inner().spec.unwrap();
    assert_eq!((free.pool.as_str(), free.assigned_user.as_str()), ("", ""));
    until(&stack, |seen| seen.ready == 1 && seen.claimed == 0, "the pool has another").await;
    assert!(!desktops(&stack, listed).await.unwrap().contains(&name));
    assert_ne!(open(&stack, "ana").await.unwrap().desktop, name);
    assign("default/users/ben", "").await.unwrap();
    crate::invariants::check(&stack.stored_world());
}

#[tokio::test(start_paused = true)]
async fn changes_of_pools_are_told_as_they_happen_and_from_where_one_stopped() {
    let stack = Stack::new(Crash::Never).await;
    create(&stack, creation("kiosk", kiosk())).await.unwrap();
    let watch = async |resume_token: &str| {
        let (parent, resume_token) = (TENANT.to_owned(), resume_token.to_owned());
        let request = wire::WatchPoolsRequest { parent, resume_token };
        PoolServiceClient::new(stack.admin()).watch_pools(request).await
    };
    let mut changes = watch("").await.unwrap().into_inner();
    let first = changes.message().await.unwrap().unwrap();
    assert_eq!((first.kind(), first.pool.unwrap().name.as_str()), (ChangeKind::Added, KIOSK));
    let token = loop {
        let change = changes.message().await.unwrap().unwrap();
        let status = change.pool.and_then(|pool| pool.status).unwrap_or_default();
        if status.ready == 1 {
            break change.resume_token;
        }
    };
    let change = wire::Pool { name: KIOSK.to_owned(), display_name: "Hall".to_owned(), ..kiosk() };
    update(&stack, change, &["display_name"]).await.unwrap();
    let named = |change: &wire::WatchPoolsResponse| {
        change.pool.as_ref().is_some_and(|pool| pool.display_name == "Hall")
    };
    while !named(&changes.message().await.unwrap().unwrap()) {}
    let mut again = watch(&token).await.unwrap().into_inner();
    assert!(named(&again.message().await.unwrap().unwrap()), "what was missed");
    delete(&stack, KIOSK, "", true).await.unwrap();
    for stream in [&mut changes, &mut again] {
        let gone = loop {
            let change = stream.message().await.unwrap().unwrap();
            if change.kind() == ChangeKind::Deleted {
                break change.pool.unwrap();
            }
        };
        assert_eq!((gone.name.as_str(), gone.status), (KIOSK, None));
    }
    assert_eq!(watch("x").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(watch("1-1").await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test(start_paused = true)]
async fn who_is_where_is_told_as_it_changes_and_an_end_once() {
    let stack = Stack::new(Crash::Never).await;
    create(&stack, creation("kiosk", kiosk())).await.unwrap();
    until(&stack, |seen| seen.ready == 1, "one is ready").await;
    let watch = async |client: crate::stack::Service| {
        let parent = TENANT.to_owned();
        let request = wire::WatchSessionsRequest { parent, resume_token: String::new() };
        SessionServiceClient::new(client).watch_sessions(request).await.unwrap().into_inner()
    };
    let mut all = watch(stack.admin()).await;
    let mut bens = watch(stack.user("ben")).await;
    for stream in [&mut all, &mut bens] {
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(first.kind(), ChangeKind::Bookmark, "there is none");
    }
    let session = open(&stack, "ana").await.unwrap();
    let began = loop {
        let change = all.message().await.unwrap().unwrap();
        if change.kind() != ChangeKind::Bookmark {
            break change;
        }
    };
    assert_eq!(began.kind(), ChangeKind::Added);
    let told = began.session.unwrap();
    assert_eq!(
        (told.name, told.user.as_str()),
        (session.name.clone(), "tenants/default/users/ana")
    );
    release(&stack, "ana", &session.name).await;
    let ended = loop {
        let change = all.message().await.unwrap().unwrap();
        if change.kind() == ChangeKind::Deleted {
            break change.session.unwrap();
        }
    };
    assert_eq!((ended.end_cause(), ended.name), (SessionEndCause::Released, session.name));
    let theirs = bens.message().await.unwrap().unwrap();
    assert_eq!(theirs.kind(), ChangeKind::Bookmark, "ana is none of ben's business");
}
