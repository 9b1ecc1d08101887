//! One desktop: what is wanted, remembered and observed → what to report and which step comes next.
//!
//! ```text
//!  wanted on:      images ─▶ overlay ─▶ start ─▶ watch for ready ─▶ (runs)
//!  wanted off:     ask the guest, again, after 60 s pull the plug ─▶ (off)
//!  to be destroyed: pull the plug ─▶ remove the overlay ─▶ forget
//!  not named:      left as it is, whatever it is: absence is no order
//! ```

use std::collections::BTreeMap;

use uuid::Uuid;
use vidi_hypervisor::{
    Acceleration, DesktopMark, DomainPower, ImageDigest, ObservedDomain, Ownership, PauseCause,
};
use vidi_kit::ids::DesktopId;

use crate::model::observed::{DesktopReport, Power};
use crate::model::record::Record;
use crate::model::wanted::{Image, Template, Wanted, Wish};
use crate::plan::vanished::{self, Vanished};

/// A guest that was asked to go off and did not is switched off after this.
pub const SHUTDOWN_MS_MAX: i64 = 60_000;
/// The power button is pressed again after this: a guest that boots does not hear the first one.
pub const SHUTDOWN_AGAIN_MS: i64 = 10_000;
const FOREIGN: &str = "a domain of another installation or host has this desktop's name or UUID; it \
                       is left alone: remove it with virsh";
const NO_DISK: &str = "its disk is not there; is the images' folder mounted?";
const PAUSED: &str = "paused from outside; it is left alone: resume it with virsh";
const NO_WORD: &str = "waits for the controller's word";
const REMOVED: &str = "is removed";
const BY_GUEST: &str = "the guest went off by itself";
const CRASHED: &str = "its machine ended unexpectedly; it is started again";
const GIVEN_UP: &str = "its machine ended unexpectedly again and again; look at its log in libvirt's \
                        folder of logs on the host, then start the desktop again";
const UNREADY: &str = "its guest did not become ready in time; it is started again";
const GIVEN_UP_UNREADY: &str = "its guest did not become ready, again and again; look at its screen \
                                while it starts, give a slow one more time ([desktops] ready_secs in \
                                agent.toml), then start the desktop again";

/// All that is known of one desktop.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Which.
    pub id: DesktopId,
    /// What the controller wants; none: it does not list it.
    pub wanted: Option<&'a Wanted>,
    /// What is remembered; none: never told of.
    pub record: Option<&'a Record>,
    /// What the hypervisor lists.
    pub domain: Option<&'a ObservedDomain>,
    /// Its overlay is there.
    pub overlay: bool,
    /// What was seen only by this process.
    pub fleeting: &'a Fleeting,
}

/// What every desktop's plan looks at.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The images that are wanted by desktops that are to start.
    pub images: &'a BTreeMap<ImageDigest, ImageState>,
    /// How guests run; none while it is being found out.
    pub acceleration: Option<Acceleration>,
    /// This boot of the machine; nil: not known.
    pub boot: Uuid,
    /// The wanted set came on the connection that is open now.
    pub wanted_is_fresh: bool,
    /// A guest that runs for longer than this without becoming ready hangs.
    pub ready_ms_max: i64,
    /// Milliseconds of a clock that only goes up.
    pub now_ms: i64,
}

/// What this process knows of a desktop and forgets when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleeting {
    /// A step is being done: no other one until it has ended.
    pub busy: Option<Busy>,
    /// The guest that is being watched for its readiness.
    pub watched: Option<Watched>,
    /// When the guest was first asked to go off, and when last.
    pub shutdown_asked_ms: Option<(i64, i64)>,
    /// The start that was asked to go off, whatever is wanted of it now.
    pub told_off_start: Option<u64>,
    /// Since when a desktop that was started has no domain.
    pub absent_since_ms: Option<i64>,
    /// The start that runs, and since when this process sees it run.
    pub running_since_ms: Option<(u64, i64)>,
    /// A step did not work: not again before this, and why.
    pub retry: Option<(i64, String)>,
}

/// A start whose guest is being watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its number.
    pub start_count: u64,
    /// How long it has run since then, ms; time in which it stood still, or nobody could look, is not
    /// counted.
    pub ran_ms: i64,
}

/// What kind of step is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The domain is being started.
    Starting,
    /// Anything else.
    Other,
}

/// An image on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// Not here.
    Missing,
    /// On its way.
    Fetching,
    /// It could not be had; tried again by itself.
    Failing(String),
    /// Here and verified.
    Present,
}

/// What to do next for a desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Get this image; many may wait for one.
    Fetch(Image),
    /// Make the overlay.
    MakeOverlay(ImageDigest),
    /// Start the domain.
    Start(Box<Start>),
    /// Wait for the guest of this start to answer.
    WatchReadiness(u64),
    /// Pull the plug of this start, whose guest does not become ready.
    EndUnready(u64),
    /// Press the power button.
    Shutdown,
    /// Pull the plug.
    Destroy,
    /// Remember that this wish cannot be fulfilled, and why.
    GiveUp(String),
    /// Remove the overlay.
    RemoveOverlay,
    /// Nothing is left: forget it.
    Forget,
}

/// A start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Of this generation.
    pub generation: u64,
    /// Its number.
    pub start_count: u64,
    /// For people.
    pub title: String,
    /// What of.
    pub template: Template,
    /// How.
    pub acceleration: Acceleration,
    /// Ends in a row before it that nobody wanted.
    pub unwanted_ends: u32,
}

/// The plan of one desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For the controller; none for what it does not name, and for what is gone.
    pub report: Option<DesktopReport>,
    /// At most one; the next round sees what came of it.
    pub step: Option<Step>,
}

/// Decides.
pub fn plan(view: &View<'_>, around: &Surroundings<'_>) -> Verdict {
    let mut verdict = match (view.wanted, view.domain) {
        (Some(wanted), domain) if wanted.wish == Wish::Destroy => plan_destroyed(view, domain),
        (Some(wanted), Some(domain)) => match &domain.ownership {
            Ownership::Ours(mark) => plan_there(view, wanted, domain.power, mark, around),
            Ownership::Foreign => says(view, Power::Failed, FOREIGN),
        },
        (Some(wanted), None) => plan_absent(view, wanted, around),
        (None, domain) => plan_unnamed(view, domain, around),
    };
    let waits = view.fleeting.retry.as_ref().filter(|(until, _)| around.now_ms < *until);
    if let Some((_, reason)) = waits {
        verdict.step = None;
        if let Some(report) = verdict.report.as_mut().filter(|report| report.reason.is_empty()) {
            report.reason.clone_from(reason);
        }
    }
    if view.fleeting.busy.is_some() {
        verdict.step = None;
    }
    verdict
}

fn plan_there(
    view: &View<'_>,
    wanted: &Wanted,
    power: DomainPower,
    mark: &DesktopMark,
    around: &Surroundings<'_>,
) -> Verdict {
    let mut verdict = match power {
        // Ours are transient: what has no living process is a rest.
        DomainPower::Crashed | DomainPower::Off if wanted.wish == Wish::On => {
            says(view, Power::Starting, CRASHED).with(Step::Destroy)
        }
        DomainPower::Crashed | DomainPower::Off => says(view, Power::Off, "").with(Step::Destroy),
        DomainPower::Paused(PauseCause::External) => says(view, Power::Running, PAUSED),
        DomainPower::Starting
        | DomainPower::Running
        | DomainPower::ShuttingDown
        | DomainPower::Paused(PauseCause::IoError | PauseCause::Guest) => {
            plan_alive(view, wanted, power, mark, around)
        }
    };
    verdict.tell_start(view, mark);
    verdict
}

fn plan_alive(
    view: &View<'_>,
    wanted: &Wanted,
    power: DomainPower,
    mark: &DesktopMark,
    around: &Surroundings<'_>,
) -> Verdict {
    match wanted.wish {
        Wish::On => {
            let reason = match power {
                DomainPower::Paused(PauseCause::IoError) => {
                    "stands still after a disk error; is the images' disk full?"
                }
                DomainPower::Paused(_) => "the guest sleeps",
                DomainPower::ShuttingDown => "the guest is going down",
                _ => "",
            };
            let state =
                if power == DomainPower::Starting { Power::Starting } else { Power::Running };
            plan_readiness(view, says(view, state, reason), mark.start_count, around)
        }
        Wish::OffNow | Wish::Destroy => {
            says(view, Power::Running, "is switched off").with(Step::Destroy)
        }
        Wish::Off => {
            let verdict = says(view, Power::Running, "was asked to shut down");
            match view.fleeting.shutdown_asked_ms {
                Some((first, _)) if SHUTDOWN_MS_MAX <= around.now_ms.saturating_sub(first) => {
                    verdict.with(Step::Destroy)
                }
                Some((_, last)) if around.now_ms.saturating_sub(last) < SHUTDOWN_AGAIN_MS => {
                    verdict
                }
                Some(_) | None => verdict.with(Step::Shutdown),
            }
        }
    }
}

/// A start is watched until its guest is ready. One whose guest never gets there is ended, and then
/// started again like any that ended without anybody wanting it; not one that may have been ready
/// before this journal began.
fn plan_readiness(
    view: &View<'_>,
    verdict: Verdict,
    start_count: u64,
    around: &Surroundings<'_>,
) -> Verdict {
    if view.record.is_some_and(|it| it.ready_start == start_count) {
        return verdict;
    }
    let Some(watched) = view.fleeting.watched.filter(|it| it.start_count == start_count) else {
        return verdict.with(Step::WatchReadiness(start_count));
    };
    let begun_here = view.record.is_some_and(|it| it.begun_start == start_count);
    if begun_here && around.ready_ms_max <= watched.ran_ms {
        return says(view, Power::Starting, UNREADY).with(Step::EndUnready(start_count));
    }
    verdict
}

fn plan_absent(view: &View<'_>, wanted: &Wanted, around: &Surroundings<'_>) -> Verdict {
    // Whatever is wished by now: its QEMU may come any moment, and is dealt with then.
    if view.fleeting.busy == Some(Busy::Starting) {
        return says(view, Power::Starting, "");
    }
    if wanted.wish != Wish::On {
        return says(view, Power::Off, "");
    }
    if let Some(reason) = view.record.and_then(|record| record.failure_of(wanted.generation)) {
        return says(view, Power::Failed, reason);
    }
    let (again, given_up) = match view.record.is_some_and(Record::was_unready) {
        true => (UNREADY, GIVEN_UP_UNREADY),
        false => (CRASHED, GIVEN_UP),
    };
    match vanished::judge(view, wanted.generation, around.boot, around.now_ms) {
        Vanished::NotStarted => plan_start(view, wanted, around, 0),
        Vanished::ByGuest => says(view, Power::Off, BY_GUEST),
        Vanished::Waits => says(view, Power::Starting, again),
        Vanished::GivesUp => {
            says(view, Power::Failed, given_up).with(Step::GiveUp(given_up.to_owned()))
        }
        Vanished::Again(ends) => {
            let mut verdict = plan_start(view, wanted, around, ends);
            if let Some(report) = &mut verdict.report
                && report.power == Power::Preparing
            {
                report.power = Power::Starting;
                if report.reason.is_empty() {
                    again.clone_into(&mut report.reason);
                }
            }
            verdict
        }
    }
}

fn plan_start(
    view: &View<'_>,
    wanted: &Wanted,
    around: &Surroundings<'_>,
    unwanted_ends: u32,
) -> Verdict {
    let template = match &wanted.template {
        Ok(template) => template,
        Err(reason) => return says(view, Power::Failed, reason),
    };
    // Before any image is fetched: it would fill the disk under a folder that is not mounted.
    if !view.overlay && view.record.is_some_and(Record::has_disk) {
        return says(view, Power::Failed, NO_DISK);
    }
    for image in template.images() {
        let state = around.images.get(&image.digest).unwrap_or(&ImageState::Missing);
        match state {
            ImageState::Present => {}
            ImageState::Fetching => return says(view, Power::Preparing, "fetches its image"),
            ImageState::Failing(reason) => return says(view, Power::Preparing, reason),
            ImageState::Missing => {
                let verdict = says(view, Power::Preparing, "fetches its image");
                return verdict.with(Step::Fetch(image.clone()));
            }
        }
    }
    if !view.overlay {
        let step = Step::MakeOverlay(template.disk.digest.clone());
        return says(view, Power::Preparing, "").with(step);
    }
    let Some(acceleration) = around.acceleration else {
        return says(view, Power::Preparing, "waits until it is known how guests run here");
    };
    let start = Start {
        generation: wanted.generation,
        start_count: view.record.map_or(0, |record| record.start_count) + 1,
        title: wanted.title.clone(),
        template: template.clone(),
        acceleration,
        unwanted_ends,
    };
    says(view, Power::Preparing, "").with(Step::Start(Box::new(start)))
}

/// Its controller said that it is to be destroyed; it is reported until nothing of it is left.
fn plan_destroyed(view: &View<'_>, domain: Option<&ObservedDomain>) -> Verdict {
    match domain {
        // Its overlay may be the disk of that domain.
        Some(domain) if domain.ownership == Ownership::Foreign => {
            let left = view.record.is_some() || view.overlay;
            let report = says(view, Power::Failed, FOREIGN).report.filter(|_| left);
            Verdict { report, step: None }
        }
        Some(domain) if domain.power == DomainPower::Paused(PauseCause::External) => {
            let reason = format!("is to be removed, but is {}: left alone", domain.power);
            says(view, Power::Running, &reason)
        }
        Some(_) => says(view, Power::Running, REMOVED).with(Step::Destroy),
        None if view.overlay => says(view, Power::Off, REMOVED).with(Step::RemoveOverlay),
        None if view.record.is_some() => says(view, Power::Off, REMOVED).with(Step::Forget),
        None if view.fleeting.busy.is_some() => says(view, Power::Off, REMOVED),
        None => Verdict { report: None, step: None },
    }
}

/// No wanted set names it. Absence is no order: it is neither ended nor started, and nothing of it is
/// removed. Only a record that stands for nothing is dropped.
fn plan_unnamed(
    view: &View<'_>,
    domain: Option<&ObservedDomain>,
    around: &Surroundings<'_>,
) -> Verdict {
    let nothing = Verdict { report: None, step: None };
    let Some(record) = view.record else { return nothing };
    if domain.is_some_and(|domain| domain.ownership == Ownership::Foreign) {
        return nothing;
    }
    if !around.wanted_is_fresh {
        return plan_unsaid(view, domain);
    }
    let stands_for_nothing = domain.is_none() && !view.overlay && !record.has_disk();
    Verdict { step: stands_for_nothing.then_some(Step::Forget), ..nothing }
}

/// It was told of once, and no controller says now whether it still is: the set that does not name it
/// is an old one, or was lost. What does not run has no state that this host could tell.
fn plan_unsaid(view: &View<'_>, domain: Option<&ObservedDomain>) -> Verdict {
    let power = match domain.map(|domain| domain.power) {
        None | Some(DomainPower::Off | DomainPower::Crashed) => {
            return Verdict { report: None, step: None };
        }
        Some(DomainPower::Starting) => Power::Starting,
        Some(DomainPower::Running | DomainPower::ShuttingDown | DomainPower::Paused(_)) => {
            Power::Running
        }
    };
    let mut verdict = says(view, power, NO_WORD);
    if let Some(mark) = domain.and_then(ObservedDomain::mark) {
        verdict.tell_start(view, mark);
    }
    verdict
}

fn says(view: &View<'_>, power: Power, reason: &str) -> Verdict {
    let generation = view.wanted.map(|wanted| wanted.generation);
    let record = view.record;
    let report = DesktopReport {
        id: view.id,
        generation: generation.or(record.map(|it| it.generation)).unwrap_or_default(),
        power,
        reason: reason.to_owned(),
        ready: false,
        acceleration: None,
        start_count: record.map_or(0, |record| record.start_count),
        since_ms: None,
    };
    Verdict { report: Some(report), step: None }
}

impl Verdict {
    fn with(self, step: Step) -> Self {
        Self { step: Some(step), ..self }
    }

    /// Reports which start is there and whether its guest is ready.
    fn tell_start(&mut self, view: &View<'_>, mark: &DesktopMark) {
        let Some(report) = &mut self.report else { return };
        let alive = report.power == Power::Running;
        report.ready = alive && view.record.is_some_and(|it| it.ready_start == mark.start_count);
        report.acceleration = Some(mark.acceleration);
        report.start_count = report.start_count.max(mark.start_count);
    }
}
