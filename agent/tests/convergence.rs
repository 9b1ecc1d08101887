//! The plan against a small world: it never touches what is not ours, never ends what is wanted, and
//! comes to rest.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vidi_agent::model::observed::Power;
use vidi_agent::model::record::{Failure, Record};
use vidi_agent::model::wanted::{Image, Readiness, Template, Wanted, Wish};
use vidi_agent::plan::desktop::{
    Busy, Fleeting, ImageState, SHUTDOWN_MS_MAX, Step, Surroundings, UNKNOWN_GRACE_MS, Verdict,
    View, plan,
};
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
    }
}

fn wanted(id: DesktopId, generation: u64, wish: Wish) -> Wanted {
    Wanted { id, generation, wish, title: "d".to_owned(), template: Ok(template()) }
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
            now_ms: 1_000_000,
        }
    }

    fn runs(power: DomainPower) -> Self {
        let mut case = Self::new();
        case.domain = Some(domain(case.id, power, Some((3, 1))));
        let record = Record { start_count: 1, started_generation: 3, ..Record::default() };
        case.record = Some(Record { generation: 3, ready_start: 1, ..record });
        case
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
            wanted_is_fresh: self.fresh,
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
    let mut case = Case::runs(DomainPower::Running);
    case.domain = None;
    case.expect(Power::Off, "by itself", "none");
    case.wanted.as_mut().unwrap().generation = 4;
    case.expect(Power::Preparing, "", "Start(Start { generation: 4, start_count: 2");
}

#[test]
fn readiness_belongs_to_one_start() {
    let mut case = Case::runs(DomainPower::Running);
    assert!(case.decide().report.unwrap().ready);
    case.expect(Power::Running, "", "none");
    case.domain = Some(domain(case.id, DomainPower::Running, Some((3, 2))));
    assert!(!case.decide().report.unwrap().ready);
    case.expect(Power::Running, "", "WatchReadiness(2)");
    case.fleeting.watched_start = Some(2);
    case.expect(Power::Running, "", "none");
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
    let mut case = Case::runs(paused);
    case.wanted = None;
    case.expect(Power::Running, "paused(external)", "none");
    Case::runs(DomainPower::Crashed).expect(Power::Failed, "crashed", "Bury");
}

#[test]
fn a_deleted_desktop_goes_step_by_step_and_an_unknown_one_only_after_its_grace() {
    let mut case = Case::runs(DomainPower::Running);
    case.wanted = None;
    case.expect(Power::Running, "removed", "Destroy");
    case.domain = None;
    case.expect(Power::Off, "removed", "RemoveOverlay");
    case.overlay = false;
    case.expect(Power::Off, "removed", "Forget");

    let mut case = Case::runs(DomainPower::Running);
    (case.wanted, case.record) = (None, None);
    assert_eq!(case.decide(), Verdict { report: None, step: None });
    case.fleeting.unknown_since_ms = Some(case.now_ms - UNKNOWN_GRACE_MS + 1);
    assert_eq!(case.decide().step, None);
    case.fleeting.unknown_since_ms = Some(case.now_ms - UNKNOWN_GRACE_MS);
    assert_eq!(case.decide().step, Some(Step::Destroy));
    case.fresh = false;
    assert_eq!(case.decide().step, None, "no controller said that it does not know it");
}

#[test]
fn only_a_set_of_the_open_connection_says_that_a_desktop_is_to_go() {
    // No set at all (a damaged journal) and the journal's set without it look the same here.
    let mut case = Case::runs(DomainPower::Running);
    (case.wanted, case.fresh) = (None, false);
    case.expect(Power::Running, "waits for the controller's word", "none");
    let report = case.decide().report.unwrap();
    assert!(report.ready && report.start_count == 1, "{report:?}");
    case.fresh = true;
    case.expect(Power::Running, "removed", "Destroy");

    for (overlay, step) in [(true, "RemoveOverlay"), (false, "Forget")] {
        (case.domain, case.overlay, case.fresh) = (None, overlay, false);
        case.expect(Power::Off, "waits for the controller's word", "none");
        case.fresh = true;
        case.expect(Power::Off, "removed", step);
    }
    for (power, told) in [
        (DomainPower::Crashed, Power::Failed),
        (DomainPower::Off, Power::Off),
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
#[derive(Clone, Debug, Default)]
struct World {
    wanted: BTreeMap<DesktopId, Wanted>,
    records: BTreeMap<DesktopId, Record>,
    domains: BTreeMap<DesktopId, ObservedDomain>,
    overlays: BTreeSet<DesktopId>,
    fleeting: BTreeMap<DesktopId, Fleeting>,
    image_here: bool,
    guests_listen: bool,
    /// The wanted set came on the open connection.
    fresh: bool,
    now_ms: i64,
}

impl World {
    /// One round; the steps taken.
    fn round(&mut self) -> Vec<(DesktopId, Step)> {
        self.now_ms += 5_000;
        for (id, wanted) in &self.wanted {
            self.records.entry(*id).or_default().generation = wanted.generation;
        }
        for (id, domain) in &self.domains {
            if let (Some(record), Some(mark)) = (self.records.get_mut(id), domain.mark()) {
                record.adopt(mark.generation, mark.start_count);
            }
        }
        let ids: BTreeSet<DesktopId> =
            self.wanted.keys().chain(self.records.keys()).copied().collect();
        let ids: BTreeSet<DesktopId> = ids
            .into_iter()
            .chain(self.domains.keys().copied())
            .chain(self.overlays.iter().copied())
            .collect();
        let mut steps = Vec::new();
        for id in ids {
            let fleeting = self.fleeting.entry(id).or_default();
            if !self.domains.contains_key(&id) {
                fleeting.shutdown_asked_ms = None;
            }
            let known = self.wanted.contains_key(&id) || self.records.contains_key(&id);
            if !known && self.fresh {
                fleeting.unknown_since_ms.get_or_insert(self.now_ms);
            }
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
                wanted_is_fresh: self.fresh,
                now_ms: self.now_ms,
            };
            if let Some(step) = plan(&view, &around).step {
                steps.push((id, step));
            }
        }
        for (id, step) in &steps {
            self.act(*id, step);
        }
        steps
    }

    fn act(&mut self, id: DesktopId, step: &Step) {
        let foreign =
            self.domains.get(&id).is_some_and(|domain| domain.ownership == Ownership::Foreign);
        assert!(!foreign, "{step:?} on a domain that is not ours");
        let said = self.fresh || self.wanted.contains_key(&id);
        assert!(said, "{step:?} on what no controller spoke of");
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
                record.start_count = start.start_count;
                record.adopt(start.generation, start.start_count);
                let mark = Some((start.generation, start.start_count));
                self.domains.insert(id, domain(id, DomainPower::Running, mark));
            }
            Step::WatchReadiness(start) => self.records.get_mut(&id).unwrap().ready_start = *start,
            Step::Shutdown => {
                self.fleeting.entry(id).or_default().shutdown_asked_ms =
                    Some((self.now_ms - SHUTDOWN_MS_MAX, self.now_ms));
                if self.guests_listen {
                    self.domains.remove(&id);
                }
            }
            Step::Destroy => {
                self.may_end(id);
                self.domains.remove(&id);
            }
            Step::Bury(reason) => {
                self.may_end(id);
                self.domains.remove(&id);
                let generation = self.wanted.get(&id).unwrap().generation;
                let failure = Failure { generation, reason: reason.clone() };
                self.records.get_mut(&id).unwrap().failure = Some(failure);
            }
            Step::RemoveOverlay => {
                assert!(!self.wanted.contains_key(&id), "the disk of a wanted desktop");
                assert!(!self.domains.contains_key(&id), "the disk of a running desktop");
                self.overlays.remove(&id);
                if let Some(record) = self.records.get_mut(&id) {
                    record.lose_disk();
                }
            }
            Step::Forget => {
                assert!(!self.domains.contains_key(&id) && !self.overlays.contains(&id));
                self.records.remove(&id);
            }
        }
    }

    fn may_end(&self, id: DesktopId) {
        let lives = !matches!(
            self.domains.get(&id).map(|domain| domain.power),
            Some(DomainPower::Off | DomainPower::Crashed) | None
        );
        let wanted_on = self.wanted.get(&id).is_some_and(|wanted| wanted.wish == Wish::On);
        assert!(!(lives && wanted_on), "a wanted, running desktop was ended");
    }
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
    let wish = prop::sample::select(vec![Wish::On, Wish::Off, Wish::OffNow]);
    let desktop = (
        prop::option::of((1_u64..4, wish)),
        any::<bool>(),
        prop::option::of((any_power(), prop::option::of((1_u64..4, 1_u64..4)))),
        any::<bool>(),
    );
    (prop::collection::vec(desktop, 1..8), any::<bool>(), any::<bool>()).prop_map(
        |(desktops, image_here, guests_listen)| {
            let mut world = World { image_here, guests_listen, ..World::default() };
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
    fn every_world_comes_to_rest_where_it_is_wanted(mut world in any_world()) {
        let foreign: Vec<ObservedDomain> = world
            .domains
            .values()
            .filter(|domain| domain.ownership == Ownership::Foreign)
            .cloned()
            .collect();
        // The controller is away at first, and longer than any grace.
        for _ in 0..100 {
            world.round();
        }
        world.fresh = true;
        let mut quiet = 0;
        // The longest wait is the grace of an unknown domain, 60 rounds.
        for _ in 0..200 {
            quiet = if world.round().is_empty() { quiet + 1 } else { 0 };
        }
        prop_assert!(100 < quiet, "still busy");
        for domain in foreign {
            prop_assert_eq!(world.domains.get(&domain.id), Some(&domain));
        }
        for (id, domain) in &world.domains {
            let left_alone = domain.mark().is_none()
                || domain.power == DomainPower::Paused(PauseCause::External);
            let wanted_on = world.wanted.get(id).is_some_and(|wanted| wanted.wish == Wish::On);
            prop_assert!(left_alone || wanted_on, "{:?} is left", domain);
        }
        for (id, wanted) in world.wanted.iter().filter(|(_, wanted)| wanted.wish == Wish::On) {
            let runs = world.domains.contains_key(id);
            let record = world.records.get(id).unwrap();
            let tried = record.started_generation == wanted.generation || record.failure.is_some();
            let no_disk = record.has_disk() && !world.overlays.contains(id);
            prop_assert!(runs || tried || no_disk, "{} was never started", id);
        }
        for id in &world.overlays {
            prop_assert!(world.wanted.contains_key(id) || world.domains.contains_key(id));
        }
    }
}
