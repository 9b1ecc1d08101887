//! Schedules, who is expected, and what limits one user.

use super::*;
use crate::model::forecast::QUARTER_MS;
use crate::model::schedule::{Rule, Size, Zone};
use crate::model::{DesktopTarget, GatewayLive};

const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

fn rule(from: &str, to: &str, min_spare: u32, max_desktops: u32) -> Rule {
    Rule {
        days: crate::model::schedule::Days::ALL,
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        min_spare: Some(min_spare),
        max_desktops: Some(max_desktops),
    }
}

fn minutes(count: i64) -> i64 {
    count * MINUTE_MS
}

impl Site {
    fn ready_at(&mut self, now_ms: i64) -> u32 {
        self.now_ms = now_ms;
        self.turn();
        self.count(Standing::Ready)
    }

    /// A user comes and goes at once.
    fn visit(&mut self) {
        let session = self.open("ana");
        self.turn();
        self.release(session);
        self.turn();
    }

    fn assign(&mut self, desktop: DesktopId, name: Option<&str>) -> Result<(), Refusal> {
        let etag = String::new();
        let target = DesktopTarget { tenant: tenant(), desktop, etag, request: None };
        self.ask(Change::AssignDesktop { target, user: name.map(user) }).map(drop)
    }
}

#[test]
fn a_schedule_changes_the_size_and_nobody_is_thrown_out_by_it() {
    let mut wish = settings(PoolKind::Floating, 1, 5);
    wish.disconnect_secs = Some(24 * 60 * 60);
    wish.schedule.rules = vec![rule("00:30", "01:00", 3, 4), rule("01:00", "02:00", 2, 1)];
    let mut site = Site::new(wish);
    assert_eq!(site.ready_at(minutes(20)), 1);
    let told = site.pool().next_size(site.now_ms);
    assert_eq!(told, Some((minutes(30), Size { min_spare: 3, max_desktops: 4 })));
    assert_eq!(site.ready_at(minutes(30) - 1), 1);
    assert_eq!(site.ready_at(minutes(30)), 3);
    let sessions = ["ana", "ben", "cy"].map(|name| site.open(name));
    site.turn();
    assert_eq!((site.count(Standing::Ready), site.count(Standing::Taken)), (1, 3), "four may be");
    assert_eq!(site.ready_at(minutes(60)), 0, "one may be, and three are in use");
    assert!(sessions.iter().all(|id| site.session(*id).is_live()));
    let problem = problem(&site.world, &tenant(), pool(), site.now_ms).unwrap();
    assert!(problem.ends_with("it may have 1"), "{problem}");
    sessions.into_iter().for_each(|id| site.release(id));
    site.turn();
    assert_eq!(site.count(Standing::Ready), 1);
    assert_eq!(site.ready_at(minutes(120)), 1);
}

#[test]
fn a_pool_without_room_by_its_schedule_makes_nothing_and_who_clicks_waits() {
    let mut wish = settings(PoolKind::Floating, 2, 5);
    wish.schedule.rules = vec![rule("00:00", "06:00", 0, 0)];
    let mut site = Site::new(wish);
    assert_eq!(site.ready_at(minutes(20)), 0);
    let session = site.open("ana");
    site.turn();
    assert_eq!((site.world.desktops.len(), site.position(session)), (0, 1));
    site.now_ms = minutes(6 * 60);
    site.world.seek(&tenant(), session, site.now_ms);
    site.turn();
    assert!(site.desktop_of(session).is_some());
}

#[test]
fn who_came_a_week_ago_finds_a_desktop_that_is_ready() {
    let mut wish = settings(PoolKind::Floating, 0, 20);
    wish.forecast = true;
    let mut site = Site::new(wish.clone());
    // Nobody is known yet: who comes first waits.
    assert_eq!(site.ready_at(minutes(60)), 0);
    for _ in 0..40 {
        site.visit();
    }
    assert!(4 < site.count(Standing::Ready), "it follows the rush");
    assert_eq!(site.ready_at(minutes(80)), 0, "and forgets it");
    let learned = site.world.forecast(&tenant(), pool()).unwrap().clone();
    assert_eq!(learned.mean(3 * 96 + 4), Some(40 * 8), "Thursday, 01:00");
    site.now_ms += 100;
    site.settle();
    assert_eq!(site.world.forecast(&tenant(), pool()), Some(&learned), "once and no more");
    // A controller that comes now knows it from the store.
    let mut again = World::default();
    for ((of, id), one) in site.world.sessions.iter() {
        again.put(Row::Session(of.clone(), *id, Session::clone(one)));
    }
    let arrivals = |world: &World| world.pool_arrivals(&tenant(), pool()).cloned();
    assert_eq!(arrivals(&again), arrivals(&site.world));
    let week = 7 * DAY_MS;
    assert_eq!(site.ready_at(week + minutes(50)), 0);
    let before = site.ready_at(week + minutes(60) - MINUTE_MS / 2);
    assert!((4..=16).contains(&before), "before the first one comes: {before}");
    let then = site.ready_at(week + minutes(60));
    assert!(before < then && then <= 20, "{then}");
    wish.max_desktops = 3;
    site.update(wish.clone()).unwrap();
    assert_eq!(site.ready_at(week + minutes(61)), 3, "never more than there may be");
    wish.forecast = false;
    site.update(wish.clone()).unwrap();
    assert_eq!(site.ready_at(week + minutes(62)), 0);
    wish.schedule.zone = Zone::find("Asia/Kolkata").unwrap();
    site.update(wish).unwrap();
    assert_eq!(site.world.forecast(&tenant(), pool()), None, "those were other clocks");
}

#[test]
fn a_day_is_foretold_quarter_by_quarter() {
    let mut wish = settings(PoolKind::Floating, 1, 20);
    wish.schedule.zone = Zone::find("Europe/Rome").unwrap();
    wish.schedule.rules = vec![rule("08:00", "18:00", 4, 6)];
    let mut site = Site::new(wish);
    site.now_ms = minutes(60);
    (0..20).for_each(|_| site.visit());
    site.ready_at(minutes(80));
    // 1970-03-05 is a Thursday as well; 1970-05-31 has 23 hours there.
    let zone = Zone::find("Europe/Rome").unwrap();
    let day = |text| forecast::day(&site.world, &tenant(), pool(), zone.begin_of(text).unwrap());
    let thursday = day("1970-03-05").unwrap();
    assert_eq!(thursday.len(), 96);
    let seen: Vec<(usize, u32, u32)> = [0, 7, 8, 31, 32, 71, 72]
        .map(|index| (index, thursday[index].spare, thursday[index].size.max_desktops))
        .to_vec();
    let expected =
        [(0, 1, 20), (7, 1, 20), (8, 9, 20), (31, 1, 20), (32, 4, 6), (71, 4, 6), (72, 1, 20)];
    assert_eq!(seen, expected, "20 people at 02:00 by the clocks of Rome");
    assert_eq!(thursday[8].mean_thousandths, Some(20_000));
    assert_eq!(day("1970-05-31").unwrap().len(), 92);
    assert_eq!(day("1970-09-27").unwrap().len(), 100);
    let whole = thursday.windows(2).all(|two| two[1].begin_ms - two[0].begin_ms == QUARTER_MS);
    assert!(whole);
    let site = Site::new(settings(PoolKind::Dedicated, 1, 2));
    assert_eq!(forecast::day(&site.world, &tenant(), pool(), 0), None);
}

#[test]
fn a_desktop_that_is_assigned_is_its_users_and_one_that_is_unassigned_is_no_pools() {
    let mut site = Site::new(settings(PoolKind::Dedicated, 1, 5));
    site.turn();
    let ready = |site: &Site| site.world.pool_standing(&tenant(), pool(), Standing::Ready).next();
    let theirs = ready(&site).unwrap();
    site.assign(theirs, Some("ana")).unwrap();
    site.assign(theirs, Some("ana")).unwrap();
    assert_eq!(site.assign(theirs, Some("eve")), Err(Refusal::not_found("user", "eve")));
    site.turn();
    let other = ready(&site).unwrap();
    assert!(site.assign(other, Some("ana")).is_err(), "ana has one of this pool");
    let session = site.open("ana");
    assert_eq!(site.desktop_of(session), Some(theirs));
    assert_eq!(site.assign(theirs, Some("ben")), Err(Refusal::DesktopInUse(theirs)));
    assert_eq!(site.assign(theirs, None), Err(Refusal::DesktopInUse(theirs)));
    site.release(session);
    site.turn();
    site.assign(theirs, None).unwrap();
    site.turn();
    let spec = &site.world.desktop(&tenant(), theirs).unwrap().spec;
    assert_eq!((spec.pool, &spec.assigned_user, spec.deleting), (None, &None, false));
    assert_ne!(spec.app_id, site.pool().app_id);
    assert_eq!((site.count(Standing::Ready), site.count(Standing::Taken)), (1, 0));
    let next = site.open("ana");
    assert_eq!(site.desktop_of(next), Some(other), "nobody finds what was somebody's");
    site.assign(theirs, Some("ben")).unwrap();
    let app = site.world.desktop(&tenant(), theirs).unwrap().spec.app_id.clone();
    let change = Change::OpenApp { tenant: tenant(), app, user: user("ben"), request: None };
    assert!(matches!(site.ask(change), Ok(Answer::Session(..))));
}

#[test]
fn only_what_stays_a_users_is_assigned_and_only_to_who_may_have_it() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 5));
    site.turn();
    let spare = site.world.pool_standing(&tenant(), pool(), Standing::Ready).next().unwrap();
    let refused = site.assign(spare, Some("ana")).unwrap_err().to_string();
    assert!(refused.contains("floating"), "{refused}");
    let mut wish = settings(PoolKind::Dedicated, 1, 1);
    wish.users = PoolUsers::Listed([user("ana"), user("cy")].into());
    let mut site = Site::new(wish);
    site.turn();
    let spare = site.world.pool_standing(&tenant(), pool(), Standing::Ready).next().unwrap();
    let refused = site.assign(spare, Some("ben")).unwrap_err().to_string();
    assert!(refused.contains("not for this user"), "{refused}");
    // Who waits gets one by that.
    site.assign(spare, Some("ana")).unwrap();
    site.open("cy");
    let refused = site.assign(spare, Some("cy")).unwrap_err().to_string();
    assert!(refused.contains("waits"), "{refused}");
}

#[test]
fn a_user_has_no_more_open_than_a_pool_lets_in() {
    let mut wish = settings(PoolKind::Dedicated, 1, 5);
    wish.user_sessions_max = Some(1);
    let mut site = Site::new(wish);
    let lab = Change::CreatePool {
        tenant: tenant(),
        pool: "lab".parse().unwrap(),
        settings: Box::new(settings(PoolKind::Floating, 0, 1)),
        request: None,
        validate_only: false,
    };
    site.ask(lab).unwrap();
    site.turn();
    let app = |site: &Site, pool: &str| {
        site.world.pool(&tenant(), pool.parse().unwrap()).unwrap().app_id.clone()
    };
    let open = |site: &mut Site, pool: &str| {
        let app = app(site, pool);
        let change = Change::OpenApp { tenant: tenant(), app, user: user("ana"), request: None };
        site.ask(change)
    };
    let Ok(Answer::Session(_, waits)) = open(&mut site, "lab") else { panic!("it waits") };
    let refused = open(&mut site, "office").unwrap_err().to_string();
    assert!(refused.contains("at most 1"), "{refused}");
    site.release(waits);
    let first = open(&mut site, "office").unwrap();
    assert_eq!(open(&mut site, "office"), Ok(first), "what is open is no new one");
    open(&mut site, "lab").unwrap();
    // The other pool does not mind; back to the own desktop it is one too many again.
    let Answer::Session(_, session) = open(&mut site, "office").unwrap() else { panic!() };
    site.release(session);
    assert!(open(&mut site, "office").is_err());
}

#[test]
fn who_touches_nothing_for_too_long_loses_the_session() {
    let mut wish = settings(PoolKind::Floating, 1, 5);
    wish.idle_secs = Some(900);
    let mut site = Site::new(wish);
    site.turn();
    let id = site.open("ana");
    let edge: vidi_kit::ids::GatewayId = "edge".parse().unwrap();
    let connected = Session {
        presence: Presence::Connected,
        gateway: Some(edge.clone()),
        epoch: 1,
        since_ms: site.now_ms,
        ..site.session(id).clone()
    };
    site.world.put(Row::Session(tenant(), id, connected));
    let tell = |site: &mut Site, touched_ms: i64| {
        let live = GatewayLive {
            link: 1,
            heard_ms: site.now_ms,
            sessions: [(id, 1)].into(),
            touched_ms: [(id, touched_ms)].into(),
            ..GatewayLive::default()
        };
        site.world.gateways.insert(edge.clone(), live);
        site.settle();
    };
    let mut touched_ms = site.now_ms;
    for _ in 0..2 {
        tell(&mut site, touched_ms);
        site.now_ms += minutes(15) - 1;
        tell(&mut site, touched_ms);
        assert!(site.session(id).is_live());
        touched_ms = site.now_ms;
    }
    tell(&mut site, touched_ms);
    site.now_ms += minutes(15);
    site.settle();
    assert!(site.session(id).is_live(), "it is not known what was touched since");
    tell(&mut site, touched_ms);
    assert_eq!(site.session(id).presence, Presence::Ended(EndCause::Idle(900)));
}
