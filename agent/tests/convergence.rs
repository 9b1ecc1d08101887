//! The plan against a small world: it never touches what is not ours or not named, never ends what is
//! wanted, and comes to rest.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;
use vidi_agent::model::observed::Power;
use vidi_agent::model::record::{Failure, Record};
use vidi_agent::model::wanted::{Image, Readiness, Template, Wanted, Wish};
use vidi_agent::plan::desktop::{
    Busy, Fleeting, ImageState, SHUTDOWN_MS_MAX, Step, Surroundings, Verdict, View, Watched, plan,
};
use vidi_agent::plan::vanished::{AGAIN_MS_FIRST, ENDING_MS_MAX, UNWANTED_ENDS_MAX, fulfilled_by};
use vidi_hypervisor::{
    Acceleration, DesktopMark, DomainPower, ImageDigest, ObservedDomain, Ownership, PauseCause,
    Video,
};
use vidi_kit::ids::{DesktopId, InstallationId};

fn digest() -> ImageDigest {
    ImageDigest::from_bytes(&[7; 32])
}

fn template() -> Template {
    Template {
        digest: "sha256:1".to_owned(),
        disk: Image { digest: digest(), size_bytes: 9 },
        boot: None,
        memory_mib: 256,
        vcpus: 1,
        video: Video::Qxl,
        readiness: Readiness::Helper,
        sound: false,
    }
}

fn wanted(id: DesktopId, generation: u64, wish: Wish) -> Wanted {
    Wanted { id, generation, wish, title: "d".to_owned(), trace: None, template: Ok(template()) }
}

fn domain(id: DesktopId, power: DomainPower, start: Option<(u64, u64)>) -> ObservedDomain {
    let ownership = start.map_or(Ownership::Foreign, |(generation, start_count)| {
        Ownership::Ours(DesktopMark {
            id,
            installation: InstallationId::new(id.uuid()),
            host: "host-1".parse().unwrap(),
            generation,
            start_count,
            acceleration: Acceleration::Tcg,
        })
    });
    ObservedDomain { id, name: format!("vidi-{id}"), power, ownership }
}

/// A guest that has not become ready after this hangs.
const READY_MS_MAX: i64 = 20_000;
/// The boot of the machine at first.
const BOOT: Uuid = Uuid::from_u128(1);

/// Everything that one decision looks at.
struct Case {
    id: DesktopId,
    wanted: Option<Wanted>,
    record: Option<Record>,
    domain: Option<ObservedDomain>,
    overlay: bool,
    fleeting: Fleeting,
    image: ImageState,
    fresh: bool,
    boot: Uuid,
    now_ms: i64,
}

impl Case {
    fn new() -> Self {
        let id = DesktopId::generate();
        Self {
            id,
            wanted: Some(wanted(id, 3, Wish::On)),
            record: Some(Record { generation: 3, ..Record::default() }),
            domain: None,
            overlay: true,
            fleeting: Fleeting::default(),
            image: ImageState::Present,
            fresh: true,
            boot: BOOT,
            now_ms: 1_000_000,
        }
    }

    fn runs(power: DomainPower) -> Self {
        let mut case = Self::new();
        case.domain = Some(domain(case.id, power, Some((3, 1))));
        let record = Record { start_count: 1, started_generation: 3, ..Record::default() };
        let record = Record { started: 1, started_boot: BOOT, ..record };
        case.record = Some(Record { generation: 3, ready_start: 1, ..record });
        case
    }

    /// Its domain went some time ago.
    fn vanished(ago_ms: i64) -> Self {
        let mut case = Self::runs(DomainPower::Running);
        case.domain = None;
        case.fleeting.absent_since_ms = Some(case.now_ms - ago_ms);
        case
    }

    fn record(&mut self) -> &mut Record {
        self.record.as_mut().unwrap()
    }

    fn wish(mut self, wish: Wish) -> Self {
        self.wanted.as_mut().unwrap().wish = wish;
        self
    }

    fn decide(&self) -> Verdict {
        let images = BTreeMap::from([(digest(), self.image.clone())]);
        let view = View {
            id: self.id,
            wanted: self.wanted.as_ref(),
            record: self.record.as_ref(),
            domain: self.domain.as_ref(),
            overlay: self.overlay,
            fleeting: &self.fleeting,
        };
        let around = Surroundings {
            images: &images,
            acceleration: Some(Acceleration::Tcg),
            boot: self.boot,
            wanted_is_fresh: self.fresh,
            ready_ms_max: READY_MS_MAX,
            now_ms: self.now_ms,
        };
        plan(&view, &around)
    }

    #[track_caller]
    fn expect(&self, power: Power, reason: &str, step: &str) {
        let verdict = self.decide();
        let report = verdict.report.expect("a report");
        assert_eq!(report.power, power, "{report:?}");
        assert!(report.reason.contains(reason), "{report:?}");
        let said = verdict.step.map_or("none".to_owned(), |step| format!("{step:?}"));
        assert!(said.starts_with(step), "{said} instead of {step}");
    }
}

#[test]
fn a_wanted_desktop_gets_its_image_its_overlay_and_its_start() {
    let mut case = Case::new();
    case.image = ImageState::Missing;
    case.expect(Power::Preparing, "image", "Fetch");
    case.image = ImageState::Fetching;
    case.expect(Power::Preparing, "image", "none");
    case.image = ImageState::Failing("the disk is full".to_owned());
    case.expect(Power::Preparing, "the disk is full", "none");
    case.image = ImageState::Present;
    case.overlay = false;
    case.expect(Power::Preparing, "", "MakeOverlay");
    case.overlay = true;
    case.expect(Power::Preparing, "", "Start(Start { generation: 3, start_count: 1");
    case.fleeting.busy = Some(Busy::Starting);
    case.expect(Power::Starting, "", "none");
}

#[test]
fn a_start_that_failed_is_tried_again_only_for_a_new_generation() {
    let mut case = Case::new();
    let failure = Failure { generation: 3, reason: "no memory".to_owned() };
    case.record = Some(Record { start_count: 4, failure: Some(failure), ..Record::default() });
    case.expect(Power::Failed, "no memory", "none");
    case.wanted.as_mut().unwrap().generation = 4;
    case.expect(Power::Preparing, "", "Start(Start { generation: 4, start_count: 5");
    case.wanted.as_mut().unwrap().template = Err("the manifest is bad".to_owned());
    case.expect(Power::Failed, "the manifest is bad", "none");
}

#[test]
fn a_guest_that_went_off_by_itself_stays_off_until_it_is_wanted_anew() {
    let mut case = Case::vanished(ENDING_MS_MAX);
    case.record().guest_off_start = 1;
    case.expect(Power::Off, "by itself", "none");
    // Not even another boot of the machine changes that.
    case.boot = Uuid::from_u128(2);
    case.expect(Power::Off, "by itself", "none");
    case.wanted.as_mut().unwrap().generation = 4;
    case.expect(Power::Preparing, "", "Start(Start { generation: 4, start_count: 2");
}

#[test]
fn a_running_start_fulfils_later_wishes_unless_it_was_asked_to_go_off() {
    let case = Case::runs(DomainPower::Running);
    let mark = case.domain.as_ref().unwrap().mark().unwrap();
    let later = wanted(case.id, 7, Wish::On);
    assert_eq!(fulfilled_by(mark, None, None), 3);
    assert_eq!(fulfilled_by(mark, Some(&later), None), 7);
    assert_eq!(fulfilled_by(mark, Some(&later), Some(1)), 3, "it is on its way off");
    assert_eq!(fulfilled_by(mark, Some(&wanted(case.id, 7, Wish::Off)), None), 3);
}

#[test]
fn what_ended_otherwise_is_started_again_once_word_of_its_guest_would_be_here() {
    let mut case = Case::vanished(ENDING_MS_MAX - 1);
    case.expect(Power::Starting, "unexpectedly", "none");
    case.fleeting.absent_since_ms = None;
    case.expect(Power::Starting, "unexpectedly", "none");
    let mut case = Case::vanished(ENDING_MS_MAX);
    case.expect(Power::Starting, "unexpectedly", "Start(Start { generation: 3, start_count: 2");
    // A record of the first form does not know the boot.
    case.record().started_boot = Uuid::nil();
    case.expect(Power::Starting, "unexpectedly", "Start(");
    case.overlay = false;
    case.expect(Power::Failed, "is the images' folder mounted?", "none");
}

#[test]
fn a_machine_that_went_down_costs_no_time_and_counts_for_nothing() {
    let mut case = Case::vanished(0);
    case.boot = Uuid::from_u128(2);
    case.record().unwanted_ends = UNWANTED_ENDS_MAX;
    let Some(Step::Start(start)) = case.decide().step else { unreachable!("it is not started") };
    assert_eq!((start.start_count, start.unwanted_ends), (2, UNWANTED_ENDS_MAX));
    case.expect(Power::Starting, "", "Start(");
}

#[test]
fn a_guest_that_ends_again_and_again_is_started_more_slowly_and_at_last_has_failed() {
    for ends in 1..=UNWANTED_ENDS_MAX {
        let pause_ms = if ends < 2 { 0 } else { AGAIN_MS_FIRST << (ends - 2) };
        let mut case = Case::vanished(ENDING_MS_MAX + pause_ms - 1);
        case.record().unwanted_ends = ends - 1;
        case.expect(Power::Starting, "unexpectedly", "none");
        case.now_ms += 1;
        let Some(Step::Start(start)) = case.decide().step else { unreachable!("{ends}") };
        assert_eq!(start.unwanted_ends, ends);
        // A start that does not work does not count its predecessor's end once more.
        case.record().unwanted_ends = ends;
        (case.record().counted_start, case.record().start_count) = (1, 2);
        let Some(Step::Start(start)) = case.decide().step else { unreachable!("{ends}") };
        assert_eq!((start.start_count, start.unwanted_ends), (3, ends));
    }
    let mut case = Case::vanished(ENDING_MS_MAX);
    case.record().unwanted_ends = UNWANTED_ENDS_MAX;
    case.expect(Power::Failed, "again and again", "GiveUp(");
    case.wanted.as_mut().unwrap().generation = 4;
    let Some(Step::Start(start)) = case.decide().step else { unreachable!("it is wanted anew") };
    assert_eq!(start.unwanted_ends, 0);
}

#[test]
fn a_start_for_a_restored_controller_counts_though_its_generation_is_older() {
    let mut case = Case::vanished(ENDING_MS_MAX);
    case.record().started_generation = 9;
    // That start was of a wish that nobody knows any more.
    let Some(Step::Start(start)) = case.decide().step else { unreachable!("it is not started") };
    assert_eq!((start.generation, start.start_count, start.unwanted_ends), (3, 2, 0));
    case.record().adopt(3, 2, BOOT);
    case.record().unwanted_ends = UNWANTED_ENDS_MAX;
    case.expect(Power::Failed, "again and again", "GiveUp(");
    case.record().guest_off_start = 2;
    case.expect(Power::Off, "by itself", "none");
}

#[test]
fn readiness_belongs_to_one_start() {
    let mut case = Case::runs(DomainPower::Running);
    assert!(case.decide().report.unwrap().ready);
    case.expect(Power::Running, "", "none");
    case.domain = Some(domain(case.id, DomainPower::Running, Some((3, 2))));
    assert!(!case.decide().report.unwrap().ready);
    case.expect(Power::Running, "", "WatchReadiness(2)");
    case.fleeting.watched = Some(Watched { start_count: 2, ran_ms: 0 });
    case.expect(Power::Running, "", "none");
}

#[test]
fn a_start_that_began_here_and_never_gets_ready_is_ended_and_started_again() {
    let mut case = Case::runs(DomainPower::Running);
    case.record().ready_start = 0;
    case.fleeting.watched = Some(Watched { start_count: 1, ran_ms: i64::MAX });
    case.expect(Power::Running, "", "none");
    case.record().begun_start = 1;
    case.expect(Power::Starting, "did not become ready", "EndUnready(1)");
    case.fleeting.watched = Some(Watched { start_count: 1, ran_ms: READY_MS_MAX - 1 });
    case.expect(Power::Running, "", "none");
    case.fleeting.watched = Some(Watched { start_count: 2, ran_ms: i64::MAX });
    case.expect(Power::Running, "", "WatchReadiness(1)");
    let paused = DomainPower::Paused(PauseCause::External);
    case.domain = Some(domain(case.id, paused, Some((3, 1))));
    case.fleeting.watched = Some(Watched { start_count: 1, ran_ms: i64::MAX });
    case.expect(Power::Running, "paused from outside", "none");

    let mut case = Case::vanished(ENDING_MS_MAX);
    (case.record().ready_start, case.record().unready_start) = (0, 1);
    case.expect(
        Power::Starting,
        "did not become ready",
        "Start(Start { generation: 3, start_count: 2",
    );
    case.record().unwanted_ends = UNWANTED_ENDS_MAX;
    case.expect(Power::Failed, "ready_secs", "GiveUp(");
    // The one after it crashed.
    case.record().started = 2;
    case.expect(Power::Failed, "ended unexpectedly", "GiveUp(");
}

#[test]
fn a_start_under_way_is_not_off_whatever_is_wished_by_now() {
    for wish in [Wish::On, Wish::Off] {
        let mut case = Case::new().wish(wish);
        case.fleeting.busy = Some(Busy::Starting);
        case.expect(Power::Starting, "", "none");
    }
}

#[test]
fn off_means_asked_again_and_after_a_minute_unplugged() {
    let mut case = Case::runs(DomainPower::Running).wish(Wish::Off);
    case.expect(Power::Running, "asked", "Shutdown");
    case.fleeting.shutdown_asked_ms = Some((case.now_ms - 9_000, case.now_ms - 9_000));
    case.expect(Power::Running, "asked", "none");
    case.fleeting.shutdown_asked_ms = Some((case.now_ms - 20_000, case.now_ms - 10_000));
    case.expect(Power::Running, "asked", "Shutdown");
    case.fleeting.shutdown_asked_ms = Some((case.now_ms - SHUTDOWN_MS_MAX, case.now_ms - 1));
    case.expect(Power::Running, "asked", "Destroy");
    let case = Case::runs(DomainPower::Running).wish(Wish::OffNow);
    case.expect(Power::Running, "", "Destroy");
    let mut case = Case::new().wish(Wish::Off);
    case.overlay = true;
    case.expect(Power::Off, "", "none");
}

#[test]
fn what_was_paused_from_outside_is_left_alone_whatever_is_wanted() {
    let paused = DomainPower::Paused(PauseCause::External);
    for wish in [Wish::On, Wish::Off, Wish::OffNow] {
        Case::runs(paused).wish(wish).expect(Power::Running, "paused from outside", "none");
    }
    let case = Case::runs(paused).wish(Wish::Destroy);
    case.expect(Power::Running, "paused(external)", "none");
    let mut case = Case::runs(DomainPower::Crashed);
    case.expect(Power::Starting, "unexpectedly", "Destroy");
    case = case.wish(Wish::Off);
    case.expect(Power::Off, "", "Destroy");
}

#[test]
fn a_desktop_that_is_to_be_destroyed_goes_step_by_step_and_is_told_of_until_it_is_gone() {
    for fresh in [true, false] {
        let mut case = Case::runs(DomainPower::Running).wish(Wish::Destroy);
        case.fresh = fresh;
        case.expect(Power::Running, "removed", "Destroy");
        case.domain = None;
        case.expect(Power::Off, "removed", "RemoveOverlay");
        case.overlay = false;
        case.expect(Power::Off, "removed", "Forget");
        case.record = None;
        assert_eq!(case.decide(), Verdict { report: None, step: None });
        // One that the controller never told of before, named by its operator.
        case.overlay = true;
        case.expect(Power::Off, "removed", "RemoveOverlay");
        // What was begun for it before is waited for.
        case.overlay = false;
        case.fleeting.busy = Some(Busy::Other);
        case.expect(Power::Off, "removed", "none");
        case.fleeting.busy = None;
        case.domain = Some(domain(case.id, DomainPower::Running, None));
        assert_eq!(case.decide(), Verdict { report: None, step: None }, "that is not ours");
        case.overlay = true;
        case.expect(Power::Failed, "another installation", "none");
    }
}

#[test]
fn what_no_set_names_is_left_as_it_is_for_ever() {
    let nothing = Verdict { report: None, step: None };
    for power in [DomainPower::Running, DomainPower::Crashed, DomainPower::Off] {
        for told in [true, false] {
            let mut case = Case::runs(power);
            case.wanted = None;
            if !told {
                case.record = None;
            }
            case.now_ms = i64::MAX;
            assert_eq!(case.decide(), nothing);
            // Neither is it started again, nor is its disk removed.
            (case.domain, case.boot) = (None, Uuid::from_u128(2));
            assert_eq!(case.decide(), nothing);
            // Its disk is out of sight, not gone.
            case.overlay = false;
            assert_eq!(case.decide(), nothing);
        }
    }
    // A desktop of which nothing was made yet.
    let mut case = Case::new();
    (case.wanted, case.overlay) = (None, false);
    assert_eq!(case.decide(), Verdict { report: None, step: Some(Step::Forget) });
    case.fresh = false;
    assert_eq!(case.decide(), nothing);
}

#[test]
fn before_the_controllers_word_what_runs_is_told_of_and_nothing_is_said_of_the_rest() {
    // No set at all (a damaged journal) and the journal's set without it look the same here.
    let mut case = Case::runs(DomainPower::Running);
    (case.wanted, case.fresh) = (None, false);
    case.expect(Power::Running, "waits for the controller's word", "none");
    let report = case.decide().report.unwrap();
    assert!(report.ready && report.start_count == 1, "{report:?}");
    // "Off" would be taken for its guest's own wish.
    case.domain = None;
    assert_eq!(case.decide(), Verdict { report: None, step: None });
    for (power, told) in [
        (DomainPower::Starting, Power::Starting),
        (DomainPower::Paused(PauseCause::External), Power::Running),
    ] {
        let mut case = Case::runs(power);
        (case.wanted, case.fresh) = (None, false);
        case.expect(told, "waits for the controller's word", "none");
    }
}

#[test]
fn a_disk_that_is_gone_is_not_replaced_by_an_empty_one() {
    let tried = Record { start_count: 1, ..Record::default() };
    let started = Record { started_generation: 2, ..tried.clone() };
    for record in [tried, started] {
        for image in [ImageState::Present, ImageState::Missing] {
            let mut case = Case::new();
            (case.record, case.overlay, case.image) = (Some(record.clone()), false, image);
            case.expect(Power::Failed, "is the images' folder mounted?", "none");
            case.image = ImageState::Present;
            // Mounted again.
            case.overlay = true;
            case.expect(Power::Preparing, "", "Start(Start { generation: 3, start_count: 2");
            // Removed as it was to be; then it is wanted once more.
            case.overlay = false;
            case.record.as_mut().unwrap().lose_disk();
            case.expect(Power::Preparing, "", "MakeOverlay");
            case.record = None;
            case.expect(Power::Preparing, "", "MakeOverlay");
            case.record = Some(record.clone());
            case.wish(Wish::Off).expect(Power::Off, "", "none");
        }
    }
}

#[test]
fn a_step_that_did_not_work_waits_and_its_reason_is_told() {
    let mut case = Case::new();
    case.fleeting.retry = Some((case.now_ms + 1, "libvirt is away".to_owned()));
    case.expect(Power::Preparing, "libvirt is away", "none");
    case.now_ms += 1;
    case.expect(Power::Preparing, "", "Start");
}

/// A host, as far as the plan can tell.
#[derive(Clone, Debug)]
struct World {
    wanted: BTreeMap<DesktopId, Wanted>,
    records: BTreeMap<DesktopId, Record>,
    domains: BTreeMap<DesktopId, ObservedDomain>,
    overlays: BTreeSet<DesktopId>,
    fleeting: BTreeMap<DesktopId, Fleeting>,
    /// Desktops whose guests went off by themselves.
    by_guest: BTreeSet<DesktopId>,
    image_here: bool,
    guests_listen: bool,
    guests_get_ready: bool,
    /// The wanted set came on the open connection.
    fresh: bool,
    boot: Uuid,
    now_ms: i64,
}

impl World {
    /// One round; the steps taken.
    fn round(&mut self) -> Vec<(DesktopId, Step)> {
        self.now_ms += 5_000;
        self.look();
        let ids = self.everything();
        let mut steps = Vec::new();
        for id in ids {
            let fleeting = self.fleeting.entry(id).or_default();
            let state = if self.image_here { ImageState::Present } else { ImageState::Missing };
            let images = BTreeMap::from([(digest(), state)]);
            let view = View {
                id,
                wanted: self.wanted.get(&id),
                record: self.records.get(&id),
                domain: self.domains.get(&id),
                overlay: self.overlays.contains(&id),
                fleeting,
            };
            let around = Surroundings {
                images: &images,
                acceleration: Some(Acceleration::Tcg),
                boot: self.boot,
                wanted_is_fresh: self.fresh,
                ready_ms_max: READY_MS_MAX,
                now_ms: self.now_ms,
            };
            let verdict = plan(&view, &around);
            let off = verdict.report.is_some_and(|report| report.power == Power::Off);
            let wanted_on = view.wanted.is_some_and(|wanted| wanted.wish == Wish::On);
            assert!(!(off && wanted_on) || self.by_guest.contains(&id), "off against its wish");
            steps.extend(verdict.step.map(|step| (id, step)));
        }
        for (id, step) in &steps {
            self.act(*id, step);
        }
        steps
    }

    fn everything(&self) -> BTreeSet<DesktopId> {
        let known = self.wanted.keys().chain(self.records.keys()).chain(self.domains.keys());
        known.chain(&self.overlays).copied().collect()
    }

    /// What the reconciler does before it plans.
    fn look(&mut self) {
        for (id, wanted) in &self.wanted {
            if wanted.wish != Wish::Destroy || self.records.contains_key(id) {
                self.records.entry(*id).or_default().generation = wanted.generation;
            }
        }
        for (id, domain) in &self.domains {
            if let (Some(record), Some(mark)) = (self.records.get_mut(id), domain.mark()) {
                let told_off = self.fleeting.get(id).and_then(|one| one.told_off_start);
                let generation = fulfilled_by(mark, self.wanted.get(id), told_off);
                record.adopt(generation, mark.start_count, self.boot);
            }
        }
        for id in &self.by_guest {
            if let Some(record) = self.records.get_mut(id) {
                record.guest_off_start = record.started;
            }
        }
        for id in self.everything() {
            let wanted_on = self.wanted.get(&id).is_some_and(|wanted| wanted.wish == Wish::On);
            let started = self.records.get(&id).is_some_and(|record| 0 < record.started);
            let fleeting = self.fleeting.entry(id).or_default();
            if !self.domains.contains_key(&id) {
                fleeting.shutdown_asked_ms = None;
                fleeting.watched = None;
            }
            if let Some(watched) = &mut fleeting.watched {
                watched.ran_ms += 5_000;
            }
            let absent = wanted_on && started && !self.domains.contains_key(&id);
            let since = fleeting.absent_since_ms.unwrap_or(self.now_ms);
            fleeting.absent_since_ms = absent.then_some(since);
        }
    }

    fn act(&mut self, id: DesktopId, step: &Step) {
        let foreign =
            self.domains.get(&id).is_some_and(|domain| domain.ownership == Ownership::Foreign);
        assert!(!foreign, "{step:?} on a domain that is not ours");
        let named = self.wanted.contains_key(&id);
        assert!(named || *step == Step::Forget, "{step:?} on what no controller spoke of");
        let destroyed = self.wanted.get(&id).is_some_and(|wanted| wanted.wish == Wish::Destroy);
        match step {
            Step::Fetch(_) => self.image_here = true,
            Step::MakeOverlay(_) => {
                assert!(self.image_here);
                assert!(!self.records.get(&id).unwrap().has_disk(), "its disk is replaced");
                self.overlays.insert(id);
            }
            Step::Start(start) => {
                assert!(self.overlays.contains(&id) && !self.domains.contains_key(&id));
                let record = self.records.get_mut(&id).unwrap();
                assert!(record.start_count < start.start_count, "a start's number is used once");
                assert!(start.unwanted_ends <= UNWANTED_ENDS_MAX, "it is started for ever");
                record.counted_start = record.started;
                record.start_count = start.start_count;
                record.begun_start = start.start_count;
                record.unwanted_ends = start.unwanted_ends;
                record.adopt(start.generation, start.start_count, self.boot);
                let mark = Some((start.generation, start.start_count));
                self.domains.insert(id, domain(id, DomainPower::Running, mark));
                self.by_guest.remove(&id);
            }
            Step::WatchReadiness(start) => self.watch(id, *start),
            Step::EndUnready(start) => {
                let record = self.records.get_mut(&id).unwrap();
                assert!(record.begun_start == *start && record.ready_start != *start, "{record:?}");
                record.unready_start = *start;
                self.domains.remove(&id);
            }
            Step::Shutdown => {
                let start = self.domains.get(&id).and_then(|one| one.mark()).unwrap().start_count;
                let fleeting = self.fleeting.entry(id).or_default();
                fleeting.told_off_start = Some(start);
                fleeting.shutdown_asked_ms = Some((self.now_ms - SHUTDOWN_MS_MAX, self.now_ms));
                if self.guests_listen {
                    self.domains.remove(&id);
                    self.by_guest.insert(id);
                }
            }
            Step::Destroy => {
                self.may_end(id);
                self.domains.remove(&id);
            }
            Step::GiveUp(reason) => {
                let generation = self.wanted.get(&id).unwrap().generation;
                let failure = Failure { generation, reason: reason.clone() };
                self.records.get_mut(&id).unwrap().failure = Some(failure);
            }
            Step::RemoveOverlay => {
                assert!(destroyed, "the disk of a desktop that nobody said to destroy");
                assert!(!self.domains.contains_key(&id), "the disk of a running desktop");
                self.overlays.remove(&id);
                if let Some(record) = self.records.get_mut(&id) {
                    record.lose_disk();
                }
            }
            Step::Forget => {
                assert!(!self.domains.contains_key(&id) && !self.overlays.contains(&id));
                let record = self.records.remove(&id).unwrap();
                assert!(destroyed || (self.fresh && !record.has_disk()), "{record:?} is forgotten");
            }
        }
    }

    fn watch(&mut self, id: DesktopId, start_count: u64) {
        if self.guests_get_ready {
            self.records.get_mut(&id).unwrap().ready_start = start_count;
        }
        let watched = Some(Watched { start_count, ran_ms: 0 });
        self.fleeting.entry(id).or_default().watched = watched;
    }

    fn may_end(&self, id: DesktopId) {
        let lives = !matches!(
            self.domains.get(&id).map(|domain| domain.power),
            Some(DomainPower::Off | DomainPower::Crashed) | None
        );
        let wanted_on = self.wanted.get(&id).is_some_and(|wanted| wanted.wish == Wish::On);
        assert!(!(lives && wanted_on), "a wanted, running desktop was ended");
    }

    fn happen(&mut self, event: Event) {
        let ours = |domain: &ObservedDomain| domain.mark().is_some();
        match event {
            Event::Killed(pick) | Event::PoweredOff(pick) => {
                let mut found = self.domains.iter().filter(|(_, domain)| ours(domain));
                let Some(id) = found.nth(pick).map(|(id, _)| *id) else { return };
                self.domains.remove(&id);
                if matches!(event, Event::PoweredOff(_)) {
                    self.by_guest.insert(id);
                }
            }
            Event::Rebooted => {
                self.boot = Uuid::from_u128(self.boot.as_u128() + 1);
                self.domains.retain(|_, domain| !ours(domain));
                self.fleeting.clear();
            }
            Event::AgentRestarted => {
                self.fleeting.clear();
                self.fresh = false;
            }
            Event::Linked => self.fresh = true,
        }
    }

    /// All that there is of a desktop.
    fn things_of(&self, id: DesktopId) -> (Option<&ObservedDomain>, bool) {
        (self.domains.get(&id), self.overlays.contains(&id))
    }
}

/// What happens to a host.
#[derive(Clone, Copy, Debug)]
enum Event {
    Killed(usize),
    PoweredOff(usize),
    Rebooted,
    AgentRestarted,
    Linked,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..8_usize).prop_map(Event::Killed),
        2 => (0..8_usize).prop_map(Event::PoweredOff),
        1 => Just(Event::Rebooted),
        1 => Just(Event::AgentRestarted),
        2 => Just(Event::Linked),
    ]
}

fn any_power() -> impl Strategy<Value = DomainPower> {
    prop::sample::select(vec![
        DomainPower::Starting,
        DomainPower::Running,
        DomainPower::Paused(PauseCause::External),
        DomainPower::Paused(PauseCause::IoError),
        DomainPower::ShuttingDown,
        DomainPower::Off,
        DomainPower::Crashed,
    ])
}

fn any_world() -> impl Strategy<Value = World> {
    let wish = prop::sample::select(vec![Wish::On, Wish::Off, Wish::OffNow, Wish::Destroy]);
    let desktop = (
        prop::option::of((1_u64..4, wish)),
        any::<bool>(),
        prop::option::of((any_power(), prop::option::of((1_u64..4, 1_u64..4)))),
        any::<bool>(),
    );
    (prop::collection::vec(desktop, 1..8), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(desktops, image_here, guests_listen, guests_get_ready)| {
            let mut world = World {
                wanted: BTreeMap::new(),
                records: BTreeMap::new(),
                domains: BTreeMap::new(),
                overlays: BTreeSet::new(),
                fleeting: BTreeMap::new(),
                by_guest: BTreeSet::new(),
                image_here,
                guests_listen,
                guests_get_ready,
                fresh: false,
                boot: BOOT,
                now_ms: 0,
            };
            for (wish, told, running, overlay) in desktops {
                let id = DesktopId::generate();
                if let Some((generation, wish)) = wish {
                    world.wanted.insert(id, wanted(id, generation, wish));
                }
                if told {
                    world.records.insert(id, Record::default());
                }
                if let Some((power, start)) = running {
                    world.domains.insert(id, domain(id, power, start));
                }
                if overlay {
                    world.overlays.insert(id);
                }
            }
            world
        },
    )
}

proptest! {
    #[test]
    fn every_world_comes_to_rest_where_it_is_wanted(
        mut world in any_world(),
        events in prop::collection::vec((any_event(), 0..4_usize), 0..30),
    ) {
        let foreign: Vec<ObservedDomain> = world
            .domains
            .values()
            .filter(|domain| domain.ownership == Ownership::Foreign)
            .cloned()
            .collect();
        for (event, rounds) in events {
            world.happen(event);
            for _ in 0..rounds {
                world.round();
            }
        }
        // The controller is away, for as long as it likes; then it is back.
        for fresh in [false, true] {
            world.fresh = fresh;
            let mut quiet = 0;
            // The longest waits are those for six starts that do not get ready, and before them.
            for _ in 0..200 {
                quiet = if world.round().is_empty() { quiet + 1 } else { 0 };
            }
            prop_assert!(100 < quiet, "still busy");
        }
        for domain in foreign {
            prop_assert_eq!(world.domains.get(&domain.id), Some(&domain));
        }
        for (id, wanted) in &world.wanted {
            let domain = world.domains.get(id);
            let left_alone = domain.is_some_and(|domain| {
                domain.mark().is_none()
                    || domain.power == DomainPower::Paused(PauseCause::External)
            });
            let record = world.records.get(id);
            match wanted.wish {
                _ if left_alone => {}
                Wish::On => {
                    let record = record.unwrap();
                    let by_guest = record.is_off_by_guest();
                    let failed = record.failure.is_some();
                    let no_disk = record.has_disk() && !world.overlays.contains(id);
                    let runs = domain.is_some();
                    prop_assert!(runs || by_guest || failed || no_disk, "{} does not run", id);
                }
                Wish::Off | Wish::OffNow => prop_assert!(domain.is_none(), "{} runs", id),
                Wish::Destroy => {
                    prop_assert_eq!(world.things_of(*id), (None, false));
                    prop_assert!(record.is_none(), "{:?} is remembered", record);
                }
            }
        }
    }

    /// A controller that was restored from an older copy names fewer desktops, or none.
    #[test]
    fn what_a_restored_controller_does_not_name_is_kept_as_it_is(
        mut world in any_world(),
        forgotten in prop::collection::vec(any::<bool>(), 8),
    ) {
        (world.fresh, world.guests_get_ready) = (true, true);
        for wanted in world.wanted.values_mut() {
            wanted.wish = Wish::On;
        }
        for _ in 0..50 {
            world.round();
        }
        let named: Vec<DesktopId> = world.wanted.keys().copied().collect();
        for (id, _) in named.iter().zip(&forgotten).filter(|(_, forgotten)| **forgotten) {
            world.wanted.remove(id);
        }
        let before = world.clone();
        for _ in 0..50 {
            world.round();
        }
        for (id, _) in named.iter().zip(&forgotten).filter(|(_, forgotten)| **forgotten) {
            prop_assert_eq!(world.things_of(*id), before.things_of(*id));
            // Restored from a newer copy, it is as it was.
            world.wanted.insert(*id, wanted(*id, before.records[id].generation, Wish::On));
        }
        for _ in 0..50 {
            world.round();
        }
        for id in named {
            prop_assert_eq!(world.things_of(id), before.things_of(id));
        }
    }
}
