//! A pool's life on one host that does what is wanted of it.

mod rollouts;
mod sizes;

use std::collections::BTreeMap;

use uuid::Uuid;
use vidi_kit::ids::{DesktopId, HostId, PoolId, SessionId, TenantId, UserId};

use super::claims::GIVEN_UP_MS;
use super::upkeep::{FAILURES_MAX, READY_MS_MAX};
use super::*;
use crate::model::schedule::Schedule;
use crate::model::{
    DisplayPolicy, EndCause, Guest, Host, HostHello, HostLive, HostReport, ImageFile, Manifest,
    Observed, Place, Power, Presence, Readiness, ReleasePolicy, Row, Session, Tenant, User, Video,
};
use crate::plan::settle::settle as settle_desktop;
use crate::plan::{decide, wanted};

const MINUTE_MS: i64 = 60_000;

struct Site {
    world: World,
    now_ms: i64,
    ids: u128,
}

fn tenant() -> TenantId {
    "t".parse().unwrap()
}

fn pool() -> PoolId {
    "office".parse().unwrap()
}

fn host(number: u8) -> HostId {
    format!("h{number}").parse().unwrap()
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn settings(kind: PoolKind, min_spare: u32, max_desktops: u32) -> PoolSettings {
    PoolSettings {
        display_name: "Office".to_owned(),
        template: "micro".parse().unwrap(),
        kind,
        min_spare,
        max_desktops,
        users: PoolUsers::Everyone,
        disconnect_secs: None,
        max_session_secs: None,
        idle_secs: None,
        user_sessions_max: None,
        schedule: Schedule::default(),
        forecast: false,
        release_policy: match kind {
            PoolKind::Floating => ReleasePolicy::Delete,
            PoolKind::Dedicated => ReleasePolicy::Stop,
        },
        display_policy: DisplayPolicy::default(),
    }
}

impl Site {
    /// With a pool, whose desktops are not made yet.
    fn new(settings: PoolSettings) -> Self {
        let mut world = World::default();
        let create_ms = 0;
        world.put(Row::Tenant(
            tenant(),
            Tenant { display_name: "T".to_owned(), create_ms, ..Tenant::default() },
        ));
        for name in ["ana", "ben", "cy"] {
            let record = User {
                display_name: name.to_owned(),
                roles: vec!["user".to_owned()],
                password_hash: String::new(),
                create_ms,
            };
            world.put(Row::User(tenant(), user(name), record));
        }
        let mut one = Self { world, now_ms: 1_000_000, ids: 1 };
        for number in 0..2 {
            one.world.put(Row::Host(host(number), Host::default()));
            one.report(number, |_| Power::Running);
        }
        one.publish("sha256:00");
        let change = Change::CreatePool {
            tenant: tenant(),
            pool: pool(),
            settings: Box::new(settings),
            request: None,
            validate_only: false,
        };
        one.ask(change).unwrap();
        one
    }

    fn publish(&mut self, digest: &str) {
        let disk = ImageFile { file: "d".to_owned(), sha256: "0".repeat(64), size_bytes: 1 };
        let (video, readiness) = (Video::Qxl, Readiness::Helper);
        let guest = Guest { memory_mib: 512, vcpus: 1, video, readiness, sound: false };
        let manifest = Manifest { disk, kernel: None, initrd: None, cmdline: String::new(), guest };
        let change = Change::PutTemplate {
            tenant: tenant(),
            template: "micro".parse().unwrap(),
            display_name: String::new(),
            digest: digest.to_owned(),
            manifest,
            draft: false,
        };
        self.ask(change).unwrap();
    }

    fn next_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    fn ask(&mut self, change: Change) -> Result<Answer, Refusal> {
        let (new_id, new_operation) = (self.next_id(), self.next_id());
        let view =
            View { world: &self.world, now_ms: self.now_ms, trace: None, new_id, new_operation };
        let decided = decide(view, change)?;
        decided.steps.into_iter().for_each(|step| self.world.apply(step));
        Ok(decided.answer)
    }

    fn update(&mut self, settings: PoolSettings) -> Result<Answer, Refusal> {
        let (settings, etag) = (Box::new(settings), String::new());
        let (tenant, pool, validate_only) = (tenant(), pool(), false);
        self.ask(Change::UpdatePool { tenant, pool, settings, etag, validate_only })
    }

    fn open(&mut self, name: &str) -> SessionId {
        let app = self.pool().app_id.clone();
        let change = Change::OpenApp { tenant: tenant(), app, user: user(name), request: None };
        match self.ask(change) {
            Ok(Answer::Session(_, id)) => id,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, session: SessionId) {
        let cause = EndCause::Released;
        self.ask(Change::ReleaseSession { tenant: tenant(), session, cause }).unwrap();
    }

    /// Lets follow what follows, without the hosts.
    fn settle(&mut self) {
        for _ in 0..20 {
            let mut steps = given_up(&self.world, self.now_ms);
            let desktops: Vec<_> = self.world.desktops.iter().map(|((_, id), _)| *id).collect();
            for id in desktops {
                steps.extend(settle_desktop(&self.world, &tenant(), id, self.now_ms));
            }
            if steps.is_empty() {
                let mut ids = (0..32).map(|offset| Uuid::from_u128(self.ids + 1 + offset));
                steps = settle(&self.world, &tenant(), pool(), self.now_ms, &mut ids);
                self.ids += 32;
            }
            if steps.is_empty() {
                return;
            }
            steps.into_iter().for_each(|step| self.world.apply(step));
        }
        panic!("the plans do not come to rest");
    }

    /// The host has what is wanted of it, in this power where it is wanted on.
    fn report(&mut self, number: u8, power: impl Fn(DesktopId) -> Power) {
        let wanted = wanted::wanted(&self.world, &host(number)).into_iter();
        let kept = wanted.filter(|one| !one.desktop.spec.deleting);
        let desktops: BTreeMap<DesktopId, Observed> = kept
            .map(|one| {
                let on = one.desktop.spec.host_power_on();
                let power = if on { power(one.id) } else { Power::Off };
                let ready = power == Power::Running;
                let generation = one.desktop.spec.generation;
                (one.id, Observed { generation, power, ready, ..Observed::default() })
            })
            .collect();
        let report = HostReport {
            memory_total_mib: 65_536,
            memory_available_mib: 65_536,
            acceleration: "kvm".to_owned(),
            wanted_received: true,
            wanted_number: self.world.sequence,
            desktops,
            ..HostReport::default()
        };
        let hello = HostHello { relay_address: "h:1".to_owned(), ..HostHello::default() };
        let live = HostLive { link: 1, report: Some(report), hello, ..HostLive::default() };
        self.live(number, live);
    }

    fn live(&mut self, number: u8, live: HostLive) {
        self.world.set_host_live(host(number), live);
        let there: Vec<_> = self.world.allocations_of(&host(number)).map(|(id, _)| id).collect();
        there.into_iter().for_each(|id| self.world.touch(tenant(), id));
    }

    fn silence(&mut self, number: u8) {
        self.live(number, HostLive { silent: true, ..HostLive::default() });
    }

    /// The hosts come to what is wanted of them, and what follows from that.
    fn turn(&mut self) {
        for _ in 0..4 {
            self.settle();
            for number in 0..2 {
                let linked = self.world.hosts_live.get(&host(number)).unwrap().is_linked();
                if linked {
                    self.report(number, |_| Power::Running);
                }
            }
        }
        self.settle();
    }

    fn pool(&self) -> &Pool {
        self.world.pool(&tenant(), pool()).unwrap()
    }

    fn count(&self, standing: Standing) -> u32 {
        self.world.pool_counts(&tenant(), pool()).get(standing)
    }

    fn session(&self, id: SessionId) -> &Session {
        self.world.session(&tenant(), id).unwrap()
    }

    fn desktop_of(&self, session: SessionId) -> Option<DesktopId> {
        match self.session(session).place {
            Place::Desktop(id) => Some(id),
            Place::Machine(_) | Place::Pool(_) => None,
        }
    }

    fn position(&self, id: SessionId) -> usize {
        queue_place(&self.world, &tenant(), id, self.now_ms).unwrap().position
    }
}

#[test]
fn a_floating_desktop_has_one_user_and_another_takes_its_place() {
    let mut site = Site::new(settings(PoolKind::Floating, 2, 5));
    site.turn();
    assert_eq!(site.count(Standing::Ready), 2);
    let first = site.open("ana");
    let desktop = site.desktop_of(first).unwrap();
    assert_eq!(site.open("ana"), first, "asking again gives the same");
    let other = site.open("ben");
    assert_ne!(site.desktop_of(other), Some(desktop));
    site.settle();
    assert_eq!(site.count(Standing::Coming), 2, "as many more are made in the same round");
    site.turn();
    site.now_ms += MINUTE_MS;
    site.release(first);
    let spec = &site.world.desktop(&tenant(), desktop).unwrap().spec;
    assert!(spec.deleting, "in the commit of the release");
    site.turn();
    assert!(site.world.desktop(&tenant(), desktop).is_none());
    assert_eq!((site.count(Standing::Ready), site.count(Standing::Taken)), (2, 1));
    let again = site.open("ana");
    assert_ne!(again, first);
    let hours = site.world.usage.iter().filter(|(key, _)| key.desktop == desktop);
    let hours: Vec<_> =
        hours.map(|(key, one)| (one.user.clone(), one.end_ms, key.start_ms)).collect();
    let [(of, Some(end_ms), start_ms)] = hours.as_slice() else { panic!("{hours:?}") };
    assert_eq!((of.as_ref(), end_ms - start_ms), (Some(&user("ana")), MINUTE_MS));
}

/// What happens to the desktop of a session.
type End = fn(&mut Site, DesktopId);

#[test]
fn whatever_ends_the_session_of_a_floating_desktop_destroys_it() {
    let ends: [(&str, End); 3] = [
        ("failed", |site, bad| {
            for number in 0..2 {
                site.report(number, |id| match id == bad {
                    true => Power::Failed("no disk".to_owned()),
                    false => Power::Running,
                });
            }
        }),
        ("switched off", |site, bad| {
            for number in 0..2 {
                site.report(number, |id| if id == bad { Power::Off } else { Power::Running });
            }
        }),
        ("drained", |site, bad| {
            let host = site.world.desktop(&tenant(), bad).unwrap().status.host.clone().unwrap();
            let drain = Change::DrainHost { host, etag: String::new(), stop_in_use: true };
            site.ask(drain).unwrap();
        }),
    ];
    for (what, end) in ends {
        let mut site = Site::new(settings(PoolKind::Floating, 1, 5));
        site.turn();
        let session = site.open("ana");
        let desktop = site.desktop_of(session).unwrap();
        site.turn();
        end(&mut site, desktop);
        site.settle();
        assert!(!site.session(session).is_live(), "{what}");
        let left = site.world.desktop(&tenant(), desktop);
        assert!(left.is_none_or(|left| left.spec.deleting), "{what}");
        site.turn();
        assert!(site.world.desktop(&tenant(), desktop).is_none(), "{what}");
        assert!(site.pool().failures_ms.is_empty(), "{what}: it had a user");
    }
}

#[test]
fn who_comes_when_none_is_ready_waits_in_turn() {
    let mut site = Site::new(settings(PoolKind::Floating, 0, 2));
    site.settle();
    assert!(site.world.desktops.is_empty());
    let [ana, ben, cy] = ["ana", "ben", "cy"].map(|name| site.open(name));
    assert_eq!([ana, ben, cy].map(|id| site.position(id)), [1, 2, 3]);
    assert_eq!(site.open("ben"), ben, "asking again keeps the place");
    site.settle();
    assert_eq!(site.count(Standing::Coming), 2, "never more than there may be");
    site.turn();
    assert!(site.desktop_of(ana).is_some() && site.desktop_of(ben).is_some());
    assert_eq!(site.position(cy), 1);
    let told = queue_place(&site.world, &tenant(), cy, site.now_ms).unwrap();
    assert_eq!(told.reason, "all its desktops are in use or on their way: it may have 2");
    site.release(ben);
    site.turn();
    assert!(site.desktop_of(cy).is_some());
    assert_eq!(site.world.pool_waiting_count(&tenant(), pool()), 0);
}

#[test]
fn nobody_overtakes_who_waits() {
    let mut site = Site::new(settings(PoolKind::Floating, 0, 5));
    let ana = site.open("ana");
    site.settle();
    for number in 0..2 {
        site.report(number, |_| Power::Running);
    }
    // The desktop is ready, and before anything follows another one comes.
    let desktops: Vec<_> = site.world.desktops.iter().map(|((_, id), _)| *id).collect();
    for id in desktops {
        let steps = settle_desktop(&site.world, &tenant(), id, site.now_ms);
        steps.into_iter().for_each(|step| site.world.apply(step));
    }
    assert_eq!(site.count(Standing::Ready), 1);
    let ben = site.open("ben");
    assert_eq!(site.desktop_of(ben), None);
    site.settle();
    assert!(site.desktop_of(ana).is_some());
    assert_eq!(site.position(ben), 1);
}

#[test]
fn who_waits_no_more_loses_the_place_and_who_asks_keeps_it() {
    let mut site = Site::new(settings(PoolKind::Floating, 0, 1));
    let held = site.open("cy");
    site.turn();
    assert!(site.desktop_of(held).is_some());
    let (gone, here) = (site.open("ana"), site.open("ben"));
    site.now_ms += GIVEN_UP_MS;
    site.world.seek(&tenant(), here, site.now_ms);
    site.settle();
    assert_eq!(site.session(gone).presence, Presence::Ended(EndCause::Away(60)));
    assert_eq!(site.position(here), 1);
    let mine = site.session(here);
    assert!(queue_place(&site.world, &tenant(), held, site.now_ms).is_none());
    assert_eq!((mine.place, mine.pool), (Place::Pool(pool()), Some(pool())));
}

#[test]
fn a_pool_says_how_long_it_takes() {
    let mut site = Site::new(settings(PoolKind::Floating, 0, 9));
    let ana = site.open("ana");
    site.settle();
    let place = queue_place(&site.world, &tenant(), ana, site.now_ms).unwrap();
    assert_eq!(place.estimate_secs, None, "nothing is known of it");
    site.world.add_pool_boot(tenant(), pool(), 30_000);
    site.world.add_pool_boot(tenant(), pool(), 50_000);
    site.now_ms += 10_000;
    let place = queue_place(&site.world, &tenant(), ana, site.now_ms).unwrap();
    assert_eq!(place.estimate_secs, Some(30));
    site.now_ms += 100_000;
    let place = queue_place(&site.world, &tenant(), ana, site.now_ms).unwrap();
    assert_eq!(place.estimate_secs, Some(1), "any moment");
    assert_eq!(site.world.pool_status(&tenant(), pool(), site.now_ms).ready_secs, Some(40));
}

#[test]
fn a_silent_host_costs_a_user_of_a_floating_pool_one_click() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 3));
    site.turn();
    let first = site.open("ana");
    let lost = site.desktop_of(first).unwrap();
    site.turn();
    let host = site.world.desktop(&tenant(), lost).unwrap().status.host.clone().unwrap();
    let number = u8::from(host.as_str() == "h1");
    site.silence(number);
    site.turn();
    let second = site.open("ana");
    assert_ne!(second, first);
    assert_eq!(site.session(first).presence, Presence::Ended(EndCause::HostLost));
    assert!(site.desktop_of(second).is_some_and(|other| other != lost));
    site.turn();
    assert_eq!(site.count(Standing::Ready), 1, "spares on the silent host are made anew");
    assert!(1 <= site.count(Standing::Stranded));
    site.report(number, |_| Power::Running);
    site.turn();
    assert!(site.world.desktop(&tenant(), lost).is_none(), "swept when the host is back");
    assert_eq!(site.count(Standing::Stranded), 0);
    assert!(site.pool().failures_ms.is_empty(), "that is no fault of the template");
}

#[test]
fn a_dedicated_desktop_stays_its_users() {
    let mut site = Site::new(settings(PoolKind::Dedicated, 1, 3));
    site.turn();
    let first = site.open("ana");
    let desktop = site.desktop_of(first).unwrap();
    site.release(first);
    site.turn();
    let kept = site.world.desktop(&tenant(), desktop).unwrap();
    assert!(!kept.spec.power_on && !kept.spec.deleting, "it stops");
    assert_eq!((site.count(Standing::Taken), site.count(Standing::Ready)), (1, 1));
    let second = site.open("ana");
    assert_eq!(site.desktop_of(second), Some(desktop));
    let mut keeps = settings(PoolKind::Dedicated, 1, 3);
    keeps.release_policy = ReleasePolicy::Keep;
    site.update(keeps).unwrap();
    site.turn();
    site.release(second);
    site.turn();
    assert!(site.world.desktop(&tenant(), desktop).unwrap().spec.power_on, "as the pool says now");
    let deletion = Change::DeleteUser { tenant: tenant(), user: user("ana"), etag: String::new() };
    assert!(site.ask(deletion).is_err(), "a user who has a desktop stays");
}

#[test]
fn failure_after_failure_suspends_a_pool_until_somebody_resumes_it() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 5));
    for _ in 0..FAILURES_MAX {
        site.settle();
        assert!(site.pool().suspended.is_none());
        for number in 0..2 {
            site.report(number, |_| Power::Failed("no disk".to_owned()));
        }
    }
    site.settle();
    assert_eq!(site.pool().suspended.as_ref().unwrap().reason, "no disk");
    site.turn();
    assert!(site.world.desktops.is_empty(), "none is made");
    let waits = site.open("ana");
    let told = queue_place(&site.world, &tenant(), waits, site.now_ms).unwrap();
    assert_eq!(told.reason, "no more desktops are made, since they failed: no disk");
    let resume = Change::ResumePool { tenant: tenant(), pool: pool(), etag: String::new() };
    site.ask(resume).unwrap();
    site.turn();
    assert!(site.desktop_of(waits).is_some());
}

#[test]
fn failures_that_lie_apart_do_not_suspend() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 5));
    for _ in 0..FAILURES_MAX * 2 {
        site.settle();
        for number in 0..2 {
            site.report(number, |_| Power::Failed("no disk".to_owned()));
        }
        site.settle();
        site.now_ms += 6 * MINUTE_MS;
    }
    assert!(site.pool().suspended.is_none());
}

#[test]
fn a_desktop_that_is_not_ready_in_time_has_failed() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 5));
    for _ in 0..FAILURES_MAX {
        site.settle();
        for number in 0..2 {
            site.report(number, |_| Power::Starting);
        }
        site.settle();
        site.now_ms += READY_MS_MAX;
    }
    site.settle();
    assert_eq!(site.pool().failures_ms.len(), 1, "they lie apart");
    assert!(site.pool().suspended.is_none());
    assert_eq!(site.count(Standing::Leaving), 1);
}

#[test]
fn a_link_that_breaks_and_a_new_leader_cost_no_spare() {
    let mut site = Site::new(settings(PoolKind::Floating, 3, 8));
    site.turn();
    let tenant = tenant();
    let ready = |site: &Site| -> Vec<DesktopId> {
        site.world.pool_standing(&tenant, pool(), Standing::Ready).collect()
    };
    let before = ready(&site);
    site.now_ms += READY_MS_MAX;
    for link in [0, 2] {
        for number in 0..2 {
            site.live(number, HostLive { link, ..HostLive::default() });
        }
        site.settle();
        assert_eq!((site.count(Standing::Coming), site.count(Standing::Leaving)), (3, 0));
    }
    site.turn();
    assert_eq!(ready(&site), before);
    assert!(site.pool().failures_ms.is_empty());
}

#[test]
fn a_new_version_replaces_spares_as_new_ones_get_ready_and_leaves_users_alone() {
    let mut site = Site::new(settings(PoolKind::Floating, 2, 4));
    site.turn();
    let session = site.open("ana");
    site.turn();
    site.publish("sha256:11");
    site.settle();
    assert_eq!((site.count(Standing::Outdated), site.count(Standing::Coming)), (2, 1));
    let clicks = site.open("ben");
    assert!(site.desktop_of(clicks).is_some(), "an older one is better than none");
    site.turn();
    assert_eq!((site.count(Standing::Outdated), site.count(Standing::Ready)), (0, 2));
    let own = site.world.desktop(&tenant(), site.desktop_of(session).unwrap()).unwrap();
    assert_eq!(own.spec.template_digest, "sha256:00");
    let tenant = tenant();
    for id in site.world.pool_standing(&tenant, pool(), Standing::Ready) {
        let spec = &site.world.desktop(&tenant, id).unwrap().spec;
        assert_eq!(spec.template_digest, "sha256:11");
    }
}

#[test]
fn fewer_spares_are_wanted_and_the_newest_go() {
    let mut site = Site::new(settings(PoolKind::Floating, 4, 6));
    site.turn();
    let session = site.open("ana");
    site.turn();
    site.update(settings(PoolKind::Floating, 1, 1)).unwrap();
    site.turn();
    assert_eq!(site.count(Standing::Ready), 0, "one may be, and that is in use");
    assert!(site.session(session).is_live());
    site.update(settings(PoolKind::Floating, 1, 6)).unwrap();
    site.turn();
    assert_eq!(site.count(Standing::Ready), 1);
}

#[test]
fn a_session_of_a_pool_lasts_as_long_as_that_says() {
    let mut short = settings(PoolKind::Floating, 1, 5);
    short.max_session_secs = Some(3_600);
    short.disconnect_secs = Some(60);
    let mut site = Site::new(short);
    site.turn();
    let session = site.open("ana");
    site.turn();
    site.now_ms += MINUTE_MS;
    site.settle();
    assert_eq!(site.session(session).presence, Presence::Ended(EndCause::Away(60)));
    site.turn();
    let session = site.open("ana");
    site.now_ms += 60 * MINUTE_MS;
    site.world.seek(&tenant(), session, site.now_ms);
    site.settle();
    assert_eq!(site.session(session).presence, Presence::Ended(EndCause::MaxTime));
}

#[test]
fn a_pool_goes_with_its_last_desktop_and_only_with_force_while_it_is_used() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 2));
    site.turn();
    let (used, _) = (site.open("ana"), site.open("ben"));
    site.turn();
    let waits = site.open("cy");
    let delete =
        |force| Change::DeletePool { tenant: tenant(), pool: pool(), etag: String::new(), force };
    let refusal = site.ask(delete(false)).unwrap_err();
    assert!(matches!(&refusal, Refusal::WrongState { .. }), "{refusal}");
    site.ask(delete(true)).unwrap();
    let template = Change::DeleteTemplate {
        tenant: tenant(),
        template: "micro".parse().unwrap(),
        etag: String::new(),
    };
    assert!(site.ask(template.clone()).is_err());
    let tenants = Change::DeleteTenant { tenant: tenant(), etag: String::new() };
    assert!(site.ask(tenants).is_err());
    site.turn();
    for id in [used, waits] {
        assert_eq!(site.session(id).presence, Presence::Ended(EndCause::Destroyed));
    }
    assert!(site.world.pools.is_empty() && site.world.desktops.is_empty());
    assert!(site.world.apps.is_empty());
    site.ask(template).unwrap();
}

#[test]
fn a_pool_is_only_on_the_menus_of_its_users() {
    let mut wish = settings(PoolKind::Floating, 1, 2);
    wish.users = PoolUsers::Listed([user("ana"), user("ben")].into());
    let mut site = Site::new(wish.clone());
    site.turn();
    let app = site.pool().app_id.clone();
    let opens = |name| Change::OpenApp {
        tenant: tenant(),
        app: app.clone(),
        user: user(name),
        request: None,
    };
    assert!(matches!(site.ask(opens("cy")), Err(Refusal::NotFound { .. })));
    let deletion = Change::DeleteUser { tenant: tenant(), user: user("ana"), etag: String::new() };
    site.ask(deletion).unwrap();
    assert!(!site.pool().is_for(&user("ana")), "the next of this name is not let in by it");
    wish.users = PoolUsers::Listed([user("nobody")].into());
    assert!(matches!(site.update(wish), Err(Refusal::NotFound { kind: "user", .. })));
}

#[test]
fn who_waits_and_may_no_more_waits_no_more() {
    let mut site = Site::new(settings(PoolKind::Floating, 0, 1));
    let session = site.open("ana");
    let mut wish = settings(PoolKind::Floating, 0, 1);
    wish.users = PoolUsers::Listed([user("ben")].into());
    site.update(wish).unwrap();
    site.settle();
    assert_eq!(site.session(session).presence, Presence::Ended(EndCause::ByAdministrator));
    site.turn();
    assert!(site.world.desktops.is_empty(), "what was being made for it goes");
}

#[test]
fn kind_and_template_of_a_pool_stay() {
    let mut site = Site::new(settings(PoolKind::Floating, 0, 1));
    assert!(site.update(settings(PoolKind::Dedicated, 0, 1)).is_err());
    let mut other = settings(PoolKind::Floating, 0, 1);
    other.template = "other".parse().unwrap();
    assert!(site.update(other).is_err());
    let before = World::pool_etag(site.pool());
    site.update(settings(PoolKind::Floating, 0, 2)).unwrap();
    let resume = Change::ResumePool { tenant: tenant(), pool: pool(), etag: before };
    assert!(matches!(site.ask(resume), Err(Refusal::EtagStale { .. })));
}

#[test]
fn what_no_pool_may_be_is_refused_by_its_field() {
    let bad = |change: fn(&mut PoolSettings)| {
        let mut one = settings(PoolKind::Floating, 1, 2);
        change(&mut one);
        one.check().unwrap_err().0
    };
    assert_eq!(settings(PoolKind::Dedicated, 2, 2).check(), Ok(()));
    assert_eq!(bad(|one| one.max_desktops = 0), "max_desktops");
    assert_eq!(bad(|one| one.max_desktops = 10_001), "max_desktops");
    assert_eq!(bad(|one| one.min_spare = 3), "min_spare");
    assert_eq!(bad(|one| one.disconnect_secs = Some(9)), "disconnect_secs");
    assert_eq!(bad(|one| one.max_session_secs = Some(59)), "max_session_secs");
    assert_eq!(bad(|one| one.release_policy = ReleasePolicy::Keep), "release_policy");
    assert_eq!(bad(|one| one.kind = PoolKind::Dedicated), "release_policy");
}
