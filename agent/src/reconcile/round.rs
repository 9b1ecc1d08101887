//! One round: observe everything, plan each desktop, begin its step, publish the whole.

use std::collections::{BTreeMap, BTreeSet};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vidi_hypervisor::{DomainEnd, DomainPower, ImageDigest, Ownership};
use vidi_kit::clock::boottime_ms;
use vidi_kit::ids::DesktopId;

use crate::model::observed::{DesktopReport, HostState};
use crate::model::record::{Failure, Record};
use crate::model::wanted::{Image, Template, Wanted, WantedSet, Wish};
use crate::plan::desktop::{
    Busy, Fleeting, ImageState, Start, Step, Surroundings, Verdict, View, Watched, plan,
};
use crate::plan::vanished::{self, STEADY_MS};
use crate::reconcile::{Event, Observed, Reconciler, guest, images, jobs, whole_ms};

/// Rounds come more often than this; what changed between two that are further apart was not seen.
const UNSEEN_MS: i64 = 15_000;
/// Below this a start may fill the disk that every desktop writes to.
const FREE_MIB_LOW: u64 = 1_024;

impl Reconciler {
    pub(super) async fn round(&mut self) {
        self.save_unsaved().await;
        let mut problems = self.standing_problems();
        let wanted = self.parts.wanted.borrow().clone();
        if let Some(desktops) = &wanted.desktops {
            self.remember(desktops).await;
        }
        let observed = match self.observe(wanted).await {
            Ok(observed) => observed,
            Err(problem) => {
                problems.insert(problem);
                return self.publish_problems(problems);
            }
        };
        self.boot = observed.facts.as_ref().map_or(self.boot, |facts| facts.boot);
        self.adopt(&observed).await;
        self.learn_ends(&observed).await;
        self.forget_fleeting(&observed);
        self.count_steady_starts().await;
        let images = self.image_states(&observed).await;
        let acceleration = self.parts.acceleration.borrow().clone();
        let mut state = HostState {
            observed: true,
            hypervisor_answers: true,
            acceleration: acceleration.as_ref().map(|verdict| verdict.acceleration),
            versions: self.versions.clone(),
            images_free_mib: observed.free_mib,
            wanted_connection: observed.wanted.connection,
            wanted_number: observed.wanted.number,
            ..HostState::default()
        };
        match &observed.facts {
            Ok(facts) => state.facts = *facts,
            Err(error) => {
                problems.insert(format!("the host's memory cannot be read: {error}"));
            }
        }
        problems.extend(self.failing.values().map(|failing| failing.reason.clone()));
        if observed.free_mib < FREE_MIB_LOW {
            let text = format!("only {} MiB are free for images and disks", observed.free_mib);
            problems.insert(text);
        }
        let around = Surroundings {
            images: &images,
            acceleration: state.acceleration,
            boot: self.boot,
            wanted_is_fresh: observed.wanted.connection.is_some(),
            ready_ms_max: whole_ms(self.parts.ready_max),
            now_ms: self.now_ms(),
        };
        for id in self.everything(&observed) {
            let verdict = self.plan_one(id, &observed, &around, &mut state);
            // What is forgotten in this round is gone for the controller too.
            let gone = verdict.step == Some(Step::Forget);
            state.desktops.extend(verdict.report.filter(|_| !gone));
            if let Some(step) = verdict.step {
                self.begin(id, step, &observed).await;
            }
        }
        self.date(&mut state.desktops);
        if around.wanted_is_fresh && !state.unknown.is_empty() {
            problems.insert(unknown_problem(state.unknown.len()));
        }
        state.problems = problems;
        self.published.send_if_modified(|published| {
            let changed = *published != state;
            *published = state;
            changed
        });
    }

    /// What runs is not known now: what was known last stays published.
    fn publish_problems(&self, problems: BTreeSet<String>) {
        self.published.send_if_modified(|state| {
            let changed = state.problems != problems || state.hypervisor_answers;
            state.problems = problems;
            state.hypervisor_answers = false;
            changed
        });
    }

    fn standing_problems(&self) -> BTreeSet<String> {
        let acceleration = self.parts.acceleration.borrow();
        let verdict = acceleration.iter().flat_map(|verdict| verdict.problems.iter());
        verdict.chain(&self.damage).chain(&self.journal_problem).cloned().collect()
    }

    /// Journals the wanted set and a record for each of its desktops, before anything is done for it.
    async fn remember(&mut self, desktops: &BTreeMap<DesktopId, Wanted>) {
        if self.saved.as_ref() != Some(desktops) {
            let saved = self.parts.journal.save_wanted(desktops).await;
            if saved.is_ok() {
                self.saved = Some(desktops.clone());
            }
            self.judge_journal(saved);
        }
        for (id, wanted) in desktops {
            let generation = wanted.generation;
            // What is to be destroyed and is not known has nothing to be remembered.
            if wanted.wish == Wish::Destroy && !self.records.contains_key(id) {
                continue;
            }
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.records.entry(*id) {
                vacant.insert(Record { generation, ..Record::default() });
                self.save_record(*id).await;
            } else {
                self.change_record(*id, |record| record.generation = generation).await;
            }
        }
    }

    async fn observe(&mut self, wanted: WantedSet) -> Result<Observed, String> {
        let domains = self.parts.hypervisor.list().await.map_err(|error| error.to_string())?;
        if self.versions.libvirt.is_empty()
            && let Ok(versions) = self.parts.hypervisor.versions().await
        {
            self.versions = versions;
        }
        let volumes = &self.parts.volumes;
        let overlays = volumes.list_overlays().await.map_err(|error| error.to_string())?;
        let free_mib = volumes.free_mib().await.map_err(|error| error.to_string())?;
        Ok(Observed {
            wanted,
            domains: domains.into_iter().map(|domain| (domain.id, domain)).collect(),
            overlays: overlays.into_iter().collect(),
            free_mib,
            facts: self.parts.memory.facts(),
        })
    }

    /// What runs knows best which start it is.
    async fn adopt(&mut self, observed: &Observed) {
        for (id, domain) in &observed.domains {
            if let Some(mark) = domain.mark() {
                let wanted = observed.wanted.desktops.as_ref().and_then(|set| set.get(id));
                let told_off = self.fleeting.get(id).and_then(|one| one.told_off_start);
                let generation = vanished::fulfilled_by(mark, wanted, told_off);
                let (start_count, boot) = (mark.start_count, self.boot);
                self.change_record(*id, |record| record.adopt(generation, start_count, boot)).await;
            }
        }
    }

    /// Remembers whose guest has shut down, before anybody takes its end for a crash.
    async fn learn_ends(&mut self, observed: &Observed) {
        let gone = self.records.iter().filter(|(id, record)| {
            0 < record.started && !record.is_off_by_guest() && !observed.domains.contains_key(*id)
        });
        let by_guest: Vec<DesktopId> = gone
            .filter(|(id, _)| {
                // While another start is on its way, word of an end is of the one before.
                self.fleeting.get(*id).is_none_or(|one| one.busy != Some(Busy::Starting))
                    && self.parts.hypervisor.end_of(**id) == Some(DomainEnd::ByGuest)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in by_guest {
            info!(desktop = %id, "The guest has shut down");
            self.change_record(id, |record| record.guest_off_start = record.started).await;
        }
    }

    /// A start that was ready and has lasted ends a row of unwanted ends; its own would be the first of
    /// another.
    async fn count_steady_starts(&mut self) {
        let now_ms = self.now_ms();
        let steady = self.fleeting.iter().filter(|(id, one)| {
            one.running_since_ms.is_some_and(|(start, since)| {
                let was_ready = self.records.get(*id).is_some_and(|it| it.ready_start == start);
                was_ready && STEADY_MS <= now_ms.saturating_sub(since)
            })
        });
        let steady: Vec<DesktopId> = steady.map(|(id, _)| *id).collect();
        for id in steady {
            self.change_record(id, |record| record.unwanted_ends = 0).await;
        }
    }

    /// Drops what was true of a domain that is gone or another one now, and notes since when it is so.
    fn forget_fleeting(&mut self, observed: &Observed) {
        let wanted = observed.wanted.desktops.as_ref();
        let now_ms = self.now_ms();
        // What happened while nobody could look is not known.
        let looked_ms = self.listed_ms.map_or(0, |last| now_ms.saturating_sub(last)).min(UNSEEN_MS);
        for id in self.everything(observed) {
            let domain = observed.domains.get(&id);
            let start = domain.and_then(|domain| domain.mark()).map(|mark| mark.start_count);
            let one = wanted.and_then(|set| set.get(&id));
            let wish = one.map(|wanted| wanted.wish);
            let generation = one.map(|wanted| wanted.generation).unwrap_or_default();
            let may_go_on = self.records.get(&id).is_some_and(|record| {
                let failed = record.failure_of(generation).is_some();
                0 < record.started && !record.is_off_by_guest() && !failed
            });
            let fleeting = self.fleeting.entry(id).or_default();
            if start.is_none() || wish != Some(Wish::Off) {
                fleeting.shutdown_asked_ms = None;
            }
            let stands = domain.is_some_and(|it| matches!(it.power, DomainPower::Paused(_)));
            let ran_ms = if stands { 0 } else { looked_ms };
            fleeting.watched = fleeting
                .watched
                .filter(|it| start == Some(it.start_count) && wish == Some(Wish::On))
                .map(|it| Watched { ran_ms: it.ran_ms.saturating_add(ran_ms), ..it });
            if fleeting.watched.is_none() {
                // Dropping the guard ends the watching task.
                self.watches.remove(&id);
            }
            fleeting.told_off_start = fleeting.told_off_start.filter(|told| start == Some(*told));
            let is_absent = start.is_none() && may_go_on && wish == Some(Wish::On);
            let since = fleeting.absent_since_ms.unwrap_or(now_ms);
            fleeting.absent_since_ms = is_absent.then_some(since);
            if fleeting.running_since_ms.map(|(running, _)| running) != start {
                fleeting.running_since_ms = start.map(|start| (start, now_ms));
            }
        }
        self.fleeting.retain(|_, one| *one != Fleeting::default());
    }

    /// Says since when each desktop's power is what it is, as far as it was seen to begin.
    fn date(&mut self, desktops: &mut [DesktopReport]) {
        let now_ms = self.now_ms();
        // What changed while nobody looked began at an unknown time.
        let seen = self.listed_ms.is_some_and(|last| now_ms.saturating_sub(last) <= UNSEEN_MS);
        self.listed_ms = Some(now_ms);
        let before = std::mem::take(&mut self.powers);
        for report in desktops {
            report.since_ms = match before.get(&report.id) {
                Some((power, since)) if *power == report.power => *since,
                Some(_) if seen => Some(boottime_ms()),
                Some(_) | None => None,
            };
            self.powers.insert(report.id, (report.power, report.since_ms));
        }
    }

    async fn image_states(&mut self, observed: &Observed) -> BTreeMap<ImageDigest, ImageState> {
        let now_ms = self.now_ms();
        self.failing.retain(|_, failing| now_ms < failing.again_ms);
        let mut states = BTreeMap::new();
        let wanted = observed.wanted.desktops.iter().flatten();
        let starting = wanted
            .filter(|(id, wanted)| wanted.wish == Wish::On && !observed.domains.contains_key(*id));
        for (_, wanted) in starting {
            let Ok(template) = &wanted.template else { continue };
            for image in template.images() {
                if !states.contains_key(&image.digest) {
                    let state = self.image_state(image).await;
                    states.insert(image.digest.clone(), state);
                }
            }
        }
        states
    }

    async fn image_state(&self, image: &Image) -> ImageState {
        if self.fetching.contains(&image.digest) {
            return ImageState::Fetching;
        }
        if let Some(failing) = self.failing.get(&image.digest) {
            return ImageState::Failing(failing.reason.clone());
        }
        match self.parts.volumes.image_present(&image.digest).await {
            Ok(true) => ImageState::Present,
            Ok(false) => ImageState::Missing,
            Err(error) => ImageState::Failing(error.to_string()),
        }
    }

    /// Every desktop that somebody wants, remembers or sees.
    fn everything(&self, observed: &Observed) -> BTreeSet<DesktopId> {
        let wanted = observed.wanted.desktops.iter().flatten().map(|(id, _)| id);
        let seen = observed.domains.keys().chain(&observed.overlays);
        wanted.chain(self.records.keys()).chain(seen).copied().collect()
    }

    fn plan_one(
        &self,
        id: DesktopId,
        observed: &Observed,
        around: &Surroundings<'_>,
        state: &mut HostState,
    ) -> Verdict {
        let idle = Fleeting::default();
        let view = View {
            id,
            wanted: observed.wanted.desktops.as_ref().and_then(|set| set.get(&id)),
            record: self.records.get(&id),
            domain: observed.domains.get(&id),
            overlay: observed.overlays.contains(&id),
            fleeting: self.fleeting.get(&id).unwrap_or(&idle),
        };
        let foreign = view.domain.is_some_and(|domain| domain.ownership == Ownership::Foreign);
        let verdict = plan(&view, around);
        if foreign {
            state.foreign.insert(id);
        } else if view.wanted.is_none()
            && (view.record.is_none() || around.wanted_is_fresh)
            && verdict.step != Some(Step::Forget)
        {
            state.unknown.insert(id);
        }
        verdict
    }

    async fn begin(&mut self, id: DesktopId, step: Step, observed: &Observed) {
        let now_ms = self.now_ms();
        let wanted = observed.wanted.desktops.as_ref().and_then(|set| set.get(&id));
        let generation = wanted.map(|wanted| wanted.generation).unwrap_or_default();
        let template = wanted.and_then(|wanted| wanted.template.as_ref().ok());
        let mark = observed.domains.get(&id).and_then(|domain| domain.mark());
        let start = mark.map(|mark| mark.start_count);
        let fleeting = self.fleeting.entry(id).or_default();
        match step {
            Step::Fetch(image) => return self.fetch(image),
            Step::WatchReadiness(start_count) => return self.watch(id, start_count, template),
            Step::EndUnready(start_count) => {
                fleeting.busy = Some(Busy::Other);
                let ready_secs = self.parts.ready_max.as_secs();
                warn!(
                    trace = self.trace_of(id), desktop = %id, start_count, ready_secs,
                    "The guest did not become ready in time; its machine is ended and started again"
                );
                self.change_record(id, |record| record.unready_start = start_count).await;
            }
            Step::GiveUp(reason) => {
                warn!(desktop = %id, generation, reason, "Desktop failed");
                let failure = Failure { generation, reason };
                return self.change_record(id, |record| record.failure = Some(failure)).await;
            }
            Step::Forget => {
                info!(desktop = %id, "Desktop is gone");
                self.records.remove(&id);
                self.fleeting.remove(&id);
                self.backoffs.remove(&id);
                let saved = self.parts.journal.remove_record(id).await;
                return self.judge_journal(saved);
            }
            Step::Shutdown => {
                let first = fleeting.shutdown_asked_ms.map_or(now_ms, |(first, _)| first);
                fleeting.shutdown_asked_ms = Some((first, now_ms));
                fleeting.told_off_start = start;
                fleeting.busy = Some(Busy::Other);
            }
            Step::Start(ref start) => {
                fleeting.busy = Some(Busy::Starting);
                let Start { start_count, unwanted_ends, .. } = **start;
                // Before the start: no later one may have the same number.
                self.change_record(id, |record| {
                    record.start_count = start_count;
                    record.begun_start = start_count;
                    record.unwanted_ends = unwanted_ends;
                    record.counted_start = record.started;
                })
                .await;
            }
            Step::RemoveOverlay => {
                fleeting.busy = Some(Busy::Other);
                // Before the removal: a desktop that is wanted again after it may be prepared anew.
                self.change_record(id, Record::lose_disk).await;
            }
            Step::MakeOverlay(_) | Step::Destroy => {
                fleeting.busy = Some(Busy::Other);
            }
        }
        let parts = self.parts.clone();
        let events = self.events.clone();
        let _stepping = self.tasks.spawn("desktop-step", async move {
            let outcome = jobs::run(&parts, id, generation, step).await;
            // The reconciler is gone only when the process ends.
            drop(events.send(Event::Stepped(id, outcome)).await);
        });
    }

    fn fetch(&mut self, image: Image) {
        if !self.fetching.insert(image.digest.clone()) {
            return;
        }
        let (parts, events) = (self.parts.clone(), self.events.clone());
        let places = std::sync::Arc::clone(&self.fetch_places);
        let _fetching = self.tasks.spawn("fetch-image", async move {
            let _place = places.acquire().await;
            let result = images::fetch(&parts, &image).await;
            // As above.
            drop(events.send(Event::Fetched(image.digest, result)).await);
        });
    }

    fn watch(&mut self, id: DesktopId, start_count: u64, template: Option<&Template>) {
        let Some(readiness) = template.map(|template| template.readiness) else { return };
        self.fleeting.entry(id).or_default().watched = Some(Watched { start_count, ran_ms: 0 });
        let stop = CancellationToken::new();
        self.watches.insert(id, stop.clone().drop_guard());
        let (parts, events) = (self.parts.clone(), self.events.clone());
        let group = self.tasks.clone();
        let _watching = self.tasks.spawn("watch-readiness", async move {
            // Cancel-safe: a guest that was not heard says it again.
            tokio::select! {
                biased;
                () = group.stopping() => {}
                () = stop.cancelled() => {}
                () = guest::until_ready(&*parts.hypervisor, id, readiness) => {
                    // As above.
                    drop(events.send(Event::Ready(id, start_count)).await);
                }
            }
        });
    }
}

/// For the host's operator.
fn unknown_problem(count: usize) -> String {
    let these =
        if count == 1 { "1 desktop here is" } else { &format!("{count} desktops here are") };
    format!(
        "{these} unknown to the controller and left as they are: if it was restored from an old \
         backup, restore a newer one; what nobody misses is removed with `vidictl host \
         remove-unknown`"
    )
}
