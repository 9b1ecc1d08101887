//! Roll-outs to a pool on hosts that do what is wanted of them.

use std::collections::BTreeSet;

use vidi_kit::ids::RolloutId;

use super::*;
use crate::model::rollout::Course;
use crate::model::{
    BatchKind, DesktopFilter, NewBatch, Rollout, RolloutChange, RolloutSettings, RolloutState,
    TemplateChange,
};
use crate::plan::batches;

const OLD: &str = "sha256:00";
const NEW: &str = "sha256:01";

fn plan(canaries: u32, wave_percent: u32, failures_max: u32) -> RolloutSettings {
    RolloutSettings { canaries, wave_percent, ready_secs: 300, soak_secs: 60, failures_max }
}

impl Site {
    /// A new version that is not published.
    fn upload(&mut self, digest: &str) {
        let template = || "micro".parse().unwrap();
        let known = self.world.version(&tenant(), &template(), OLD).unwrap();
        let change = Change::PutTemplate {
            tenant: tenant(),
            template: template(),
            display_name: String::new(),
            digest: digest.to_owned(),
            manifest: known.manifest.clone(),
            draft: true,
        };
        self.ask(change).unwrap();
    }

    fn publish_version(&mut self, digest: &str) {
        let change = TemplateChange::Publish {
            tenant: tenant(),
            template: "micro".parse().unwrap(),
            digest: digest.to_owned(),
            etag: String::new(),
        };
        self.ask(Change::Template(change)).unwrap();
    }

    fn roll_out(&mut self, digest: &str, settings: RolloutSettings) -> Result<RolloutId, Refusal> {
        let change = RolloutChange::Create {
            tenant: tenant(),
            pool: pool(),
            digest: digest.to_owned(),
            settings,
            request: None,
            validate_only: false,
        };
        match self.ask(Change::Rollout(change))? {
            Answer::Rollout(id) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn steer(&mut self, rollout: RolloutId, course: Course) -> Result<Answer, Refusal> {
        let (tenant, etag) = (tenant(), String::new());
        self.ask(Change::Rollout(RolloutChange::Steer { tenant, rollout, course, etag }))
    }

    fn rollout(&self, id: RolloutId) -> &Rollout {
        self.world.rollout(&tenant(), id).unwrap()
    }

    /// Desktops of a version that are not on their way out.
    fn of(&self, digest: &str) -> usize {
        let tenant = tenant();
        let all = self.world.desktops_in(&tenant).filter(|(_, one)| !one.spec.deleting);
        all.filter(|(_, one)| one.spec.template_digest == digest).count()
    }

    /// As [`Site::turn`], on hosts on which desktops of this version fail.
    fn turn_failing(&mut self, digest: &str) {
        for _ in 0..4 {
            self.settle();
            let failing: BTreeSet<DesktopId> = self
                .world
                .desktops_in(&tenant())
                .filter(|(_, one)| one.spec.template_digest == digest)
                .map(|(id, _)| id)
                .collect();
            for number in 0..2 {
                self.report(number, |id| match failing.contains(&id) {
                    true => Power::Failed("no picture".to_owned()),
                    false => Power::Running,
                });
            }
        }
        self.settle();
    }

    /// Some minutes, fewer than after which a session ends to which nobody is connected.
    fn go_on(&mut self) {
        for _ in 0..8 {
            self.now_ms += MINUTE_MS;
            self.turn();
        }
    }
}

#[test]
fn a_roll_out_begins_with_canaries_and_goes_on_when_they_were_watched() {
    let mut site = Site::new(settings(PoolKind::Floating, 4, 10));
    site.turn();
    let held = site.open("ana");
    let in_use = site.desktop_of(held).unwrap();
    site.turn();
    site.upload(NEW);
    site.turn();
    assert_eq!((site.of(OLD), site.of(NEW)), (5, 0), "a draft is for nobody");
    let id = site.roll_out(NEW, plan(1, 40, 0)).unwrap();
    site.turn();
    assert_eq!((site.of(OLD), site.of(NEW)), (4, 1), "one canary in the place of a free one");
    assert_eq!((site.rollout(id).state, site.rollout(id).step), (RolloutState::Running, 0));
    site.now_ms += 59_000;
    site.turn();
    assert_eq!(site.of(NEW), 1, "it is watched for a minute");
    site.now_ms += 1_000;
    site.turn();
    assert_eq!((site.rollout(id).step, site.of(NEW)), (1, 3), "two more: 40 percent of five");
    assert_eq!(site.count(Standing::Ready), 4, "as many are ready as before");
    site.go_on();
    assert_eq!(site.of(OLD), 1, "the one that somebody uses");
    assert!(!site.world.desktop(&tenant(), in_use).unwrap().spec.deleting);
    let one = site.rollout(id);
    assert_eq!(
        (one.state, one.reason.as_str()),
        (RolloutState::Running, "waits for the end of 1 sessions")
    );
    site.release(held);
    site.go_on();
    assert_eq!((site.rollout(id).state, site.of(OLD)), (RolloutState::Done, 0));
    assert!(site.pool().trial.is_none());
    site.turn();
    assert_eq!((site.of(NEW), site.count(Standing::Ready)), (4, 4));
}

#[test]
fn a_version_whose_desktops_fail_goes_back_by_itself_and_suspends_nothing() {
    let mut site = Site::new(settings(PoolKind::Floating, 3, 8));
    site.turn();
    let held = site.open("ana");
    let in_use = site.desktop_of(held).unwrap();
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 50, 1)).unwrap();
    site.turn_failing(NEW);
    let one = site.rollout(id);
    assert!(one.failed == 2 && one.failures.len() == 2, "{one:?}");
    site.turn();
    let one = site.rollout(id);
    assert_eq!(one.state, RolloutState::RolledBack);
    assert!(one.reason.contains("no picture"), "{}", one.reason);
    assert!(site.pool().suspended.is_none() && site.pool().failures_ms.is_empty());
    assert_eq!((site.of(OLD), site.of(NEW)), (4, 0));
    assert!(!site.world.desktop(&tenant(), in_use).unwrap().spec.deleting);
    site.go_on();
    assert_eq!(site.of(NEW), 0, "and no more are made");
}

#[test]
fn one_that_is_not_ready_in_its_time_has_failed() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 8));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 50, 0)).unwrap();
    site.settle();
    let slow = site.world.desktops_in(&tenant()).map(|(id, _)| id).last().unwrap();
    for number in 0..2 {
        site.report(number, |id| if id == slow { Power::Starting } else { Power::Running });
    }
    site.settle();
    site.now_ms += 299_000;
    site.settle();
    assert_eq!(site.rollout(id).failed, 0);
    site.now_ms += 1_000;
    site.settle();
    let one = site.rollout(id);
    assert_eq!((one.failed, one.state), (1, RolloutState::RolledBack));
    assert!(one.failures[0].reason.contains("after 5 minutes"), "{one:?}");
}

#[test]
fn one_that_fails_under_its_user_counts_too() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 8));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 10, 0)).unwrap();
    site.turn();
    let held = site.open("ana");
    let desktop = site.desktop_of(held).unwrap();
    let used = site.world.desktop(&tenant(), desktop).unwrap().spec.template_digest.clone();
    assert_eq!(used, NEW);
    site.turn_failing(NEW);
    site.turn();
    let one = site.rollout(id);
    assert_eq!(one.state, RolloutState::RolledBack, "{one:?}");
    assert!(one.failures[0].reason.starts_with("in use"), "{one:?}");
}

#[test]
fn a_pool_without_spares_gets_canaries_nevertheless_and_a_full_one_waits() {
    let mut site = Site::new(settings(PoolKind::Floating, 0, 2));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 100, 0)).unwrap();
    site.turn();
    assert_eq!((site.of(NEW), site.count(Standing::Ready)), (1, 1));
    site.go_on();
    assert_eq!(site.rollout(id).state, RolloutState::Done);
    let users = ["ana", "ben"].map(|name| site.open(name));
    site.turn();
    assert!(users.iter().all(|held| site.desktop_of(*held).is_some()));
    let next = "sha256:02";
    site.upload(next);
    let id = site.roll_out(next, plan(1, 100, 0)).unwrap();
    site.go_on();
    let one = site.rollout(id);
    assert_eq!((one.state, site.of(next)), (RolloutState::Running, 0));
    assert!(one.reason.contains("waits for room"), "{}", one.reason);
    for held in users {
        site.release(held);
    }
    site.go_on();
    assert_eq!(site.rollout(id).state, RolloutState::Done);
}

#[test]
fn a_full_pool_makes_room_for_canaries_among_its_free_desktops() {
    let mut site = Site::new(settings(PoolKind::Floating, 3, 3));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 34, 0)).unwrap();
    site.turn();
    assert_eq!((site.of(OLD), site.of(NEW)), (2, 1));
    site.go_on();
    assert_eq!((site.rollout(id).state, site.of(OLD)), (RolloutState::Done, 0));
}

#[test]
fn a_roll_out_pauses_goes_on_is_cancelled_and_goes_back() {
    let mut site = Site::new(settings(PoolKind::Floating, 4, 10));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 25, 0)).unwrap();
    let twice = site.roll_out(NEW, plan(1, 25, 0)).unwrap_err().to_string();
    assert!(twice.contains("already going on"), "{twice}");
    site.turn();
    site.steer(id, Course::Pause).unwrap();
    site.go_on();
    assert_eq!((site.rollout(id).state, site.of(NEW)), (RolloutState::Paused, 1));
    site.steer(id, Course::Pause).unwrap();
    site.steer(id, Course::Resume).unwrap();
    site.now_ms += MINUTE_MS;
    site.turn();
    site.now_ms += MINUTE_MS;
    site.turn();
    assert_eq!(site.of(NEW), 2);
    site.steer(id, Course::Cancel).unwrap();
    site.go_on();
    assert_eq!((site.rollout(id).state, site.of(NEW)), (RolloutState::Cancelled, 2), "used up");
    assert!(site.steer(id, Course::Resume).is_err());
    let held = site.open("ana");
    site.turn();
    site.release(held);
    site.go_on();
    assert!(site.of(NEW) <= 2, "no more are made");
    site.steer(id, Course::RollBack).unwrap();
    site.go_on();
    assert_eq!((site.rollout(id).state, site.of(NEW)), (RolloutState::RolledBack, 0));
    assert_eq!((site.of(OLD), site.pool().trial.is_none()), (4, true));
}

#[test]
fn what_was_ordered_last_counts_a_roll_out_or_a_publication() {
    let mut site = Site::new(settings(PoolKind::Floating, 2, 6));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(2, 100, 0)).unwrap();
    site.go_on();
    assert_eq!((site.rollout(id).state, site.of(NEW)), (RolloutState::Done, 2));
    assert!(site.roll_out(NEW, plan(1, 25, 0)).is_err(), "it has that version");
    site.steer(id, Course::RollBack).unwrap();
    site.go_on();
    assert_eq!((site.rollout(id).state, site.of(OLD)), (RolloutState::RolledBack, 2));
    let id = site.roll_out(NEW, plan(2, 100, 0)).unwrap();
    site.go_on();
    site.now_ms += 1;
    let other = "sha256:02";
    site.upload(other);
    site.publish_version(other);
    site.go_on();
    assert_eq!((site.of(NEW), site.of(other)), (0, 2));
    let late = site.steer(id, Course::RollBack).unwrap_err().to_string();
    assert!(late.contains("not the last"), "{late}");
}

#[test]
fn a_link_that_breaks_is_no_failure_of_a_version() {
    let mut site = Site::new(settings(PoolKind::Floating, 4, 10));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 25, 0)).unwrap();
    site.turn();
    for number in 0..2 {
        site.live(number, HostLive::default());
    }
    site.now_ms += 301_000;
    site.settle();
    assert_eq!((site.rollout(id).state, site.rollout(id).failed), (RolloutState::Running, 0));
    for number in 0..2 {
        site.report(number, |_| Power::Running);
    }
    site.go_on();
    site.go_on();
    assert_eq!((site.rollout(id).state, site.rollout(id).failed), (RolloutState::Done, 0));
}

#[test]
fn nothing_goes_back_to_a_version_that_was_deleted() {
    let mut site = Site::new(settings(PoolKind::Floating, 2, 6));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(2, 100, 0)).unwrap();
    site.go_on();
    site.publish_version(NEW);
    let (tenant, template) = (tenant(), "micro".parse().unwrap());
    let delete = TemplateChange::DeleteVersion { tenant, template, digest: OLD.to_owned() };
    site.ask(Change::Template(delete)).unwrap();
    let refused = site.steer(id, Course::RollBack).unwrap_err().to_string();
    assert!(refused.contains("deleted since"), "{refused}");
    site.go_on();
    assert_eq!((site.rollout(id).state, site.of(NEW)), (RolloutState::Done, 2));
}

#[test]
fn a_desktop_that_belongs_to_a_user_keeps_its_version() {
    let mut site = Site::new(settings(PoolKind::Dedicated, 1, 6));
    site.turn();
    let held = site.open("ana");
    let own = site.desktop_of(held).unwrap();
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 100, 0)).unwrap();
    site.go_on();
    let one = site.rollout(id);
    assert_eq!(one.state, RolloutState::Done);
    assert!(one.reason.starts_with("1 desktops that belong to users"), "{}", one.reason);
    let spec = &site.world.desktop(&tenant(), own).unwrap().spec;
    assert_eq!((spec.template_digest.as_str(), spec.deleting), (OLD, false));
    assert_eq!(site.of(NEW), 1);
}

#[test]
fn a_roll_out_ends_with_its_pool_and_uses_its_version() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 6));
    site.turn();
    site.upload(NEW);
    let id = site.roll_out(NEW, plan(1, 100, 0)).unwrap();
    let forget = |digest: &str| {
        Change::Template(TemplateChange::DeleteVersion {
            tenant: tenant(),
            template: "micro".parse().unwrap(),
            digest: digest.to_owned(),
        })
    };
    assert!(site.ask(forget(NEW)).is_err() && site.ask(forget(OLD)).is_err());
    let (etag, force) = (String::new(), false);
    site.ask(Change::DeletePool { tenant: tenant(), pool: pool(), etag, force }).unwrap();
    assert_eq!(site.rollout(id).state, RolloutState::Cancelled);
    site.turn();
    assert!(site.world.desktops.is_empty() && site.world.pools.is_empty());
    site.ask(forget(NEW)).unwrap();
    assert!(site.ask(forget(OLD)).is_err(), "it is published");
}

#[test]
fn a_template_goes_back_to_what_was_published_before() {
    let mut site = Site::new(settings(PoolKind::Floating, 1, 6));
    let back = || {
        Change::Template(TemplateChange::RollBack {
            tenant: tenant(),
            template: "micro".parse().unwrap(),
            etag: String::new(),
        })
    };
    assert!(site.ask(back()).is_err(), "there was none before");
    site.turn();
    site.publish("sha256:01");
    site.turn();
    assert_eq!((site.of(OLD), site.of(NEW)), (0, 1));
    site.ask(back()).unwrap();
    site.turn();
    assert_eq!((site.of(OLD), site.of(NEW)), (1, 0));
    assert!(site.ask(back()).is_err());
}

#[test]
fn many_are_restarted_without_those_that_wait_for_a_host() {
    let mut site = Site::new(settings(PoolKind::Floating, 2, 6));
    let etag = String::new;
    for number in 0..2 {
        site.ask(Change::CordonHost { host: host(number), etag: etag() }).unwrap();
    }
    site.settle();
    let restart = |site: &mut Site| {
        let new = NewBatch {
            tenant: tenant(),
            kind: BatchKind::Restart { force: false },
            filter: DesktopFilter::default(),
            at_a_time: 1,
            request: None,
            validate_only: false,
        };
        let Answer::Operation(id) = site.ask(Change::Batch(Box::new(new))).unwrap() else {
            panic!("no operation")
        };
        for _ in 0..3 {
            let mut ids = std::iter::once(site.next_id());
            let steps = batches::settle(&site.world, id, site.now_ms, &mut ids);
            steps.into_iter().for_each(|step| site.world.apply(step));
        }
        let batch = site.world.batches.get(&id).unwrap();
        (batch.skipped, batch.open.len(), batch.end_ms.is_some())
    };
    assert!(site.world.desktops.values().all(|one| one.status.host.is_none()));
    assert_eq!(restart(&mut site), (2, 0, true));
    assert!(site.world.desktops.values().all(|one| one.spec.generation == 1));
    for number in 0..2 {
        site.ask(Change::UncordonHost { host: host(number), etag: etag() }).unwrap();
    }
    site.turn();
    assert_eq!(restart(&mut site), (0, 1, false));
}
