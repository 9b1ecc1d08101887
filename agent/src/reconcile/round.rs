//! One round: observe everything, plan each desktop, begin its step, publish the whole.

use std::collections::{BTreeMap, BTreeSet};

use tokio_util::sync::CancellationToken;
use tracing::info;
use vidi_hypervisor::{ImageDigest, Ownership};
use vidi_kit::ids::DesktopId;

use crate::model::observed::HostState;
use crate::model::record::Record;
use crate::model::wanted::{Image, Template, Wanted, WantedSet, Wish};
use crate::plan::desktop::{
    Busy, Fleeting, ImageState, Start, Step, Surroundings, Verdict, View, plan,
};
use crate::reconcile::{Event, Observed, Reconciler, guest, images, jobs};

/// Below this a start may fill the disk that every desktop writes to.
const FREE_MIB_LOW: u64 = 1_024;

impl Reconciler {
    pub(super) async fn round(&mut self) {
        let mut problems = self.standing_problems();
        let wanted = self.parts.wanted.borrow().clone();
        if let Some(desktops) = &wanted.desktops {
            self.remember(desktops).await;
        }
        let observed = match self.observe(wanted).await {
            Ok(observed) => observed,
            Err(problem) => {
                // What runs is not known now: what was known last stays published.
                problems.insert(problem);
                self.published.send_if_modified(|state| {
                    let changed = state.problems != problems;
                    state.problems = problems;
                    changed
                });
                return;
            }
        };
        self.adopt(&observed).await;
        self.forget_fleeting(&observed);
        let images = self.image_states(&observed).await;
        let acceleration = self.parts.acceleration.borrow().clone();
        let mut state = HostState {
            observed: true,
            acceleration: acceleration.as_ref().map(|verdict| verdict.acceleration),
            versions: self.versions.clone(),
            images_free_mib: observed.free_mib,
            wanted_connection: observed.wanted.connection,
            ..HostState::default()
        };
        match self.parts.memory.facts() {
            Ok(facts) => state.facts = facts,
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
            wanted_is_fresh: observed.wanted.connection.is_some(),
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
        state.problems = problems;
        self.published.send_if_modified(|published| {
            let changed = *published != state;
            *published = state;
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
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.records.entry(*id) {
                let record = Record { generation, ..Record::default() };
                vacant.insert(record.clone());
                let saved = self.parts.journal.save_record(*id, &record).await;
                self.judge_journal(saved);
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
        })
    }

    /// What runs knows best which start it is.
    async fn adopt(&mut self, observed: &Observed) {
        for (id, domain) in &observed.domains {
            if let Some(mark) = domain.mark() {
                let (generation, start_count) = (mark.generation, mark.start_count);
                self.change_record(*id, |record| {
                    record.adopt(generation, start_count);
                })
                .await;
            }
        }
    }

    /// Drops what was true of a domain that is gone or another one now.
    fn forget_fleeting(&mut self, observed: &Observed) {
        let wanted = observed.wanted.desktops.as_ref();
        let fresh = observed.wanted.connection.is_some();
        let now_ms = self.now_ms();
        for id in self.everything(observed) {
            let mark = observed.domains.get(&id).and_then(|domain| domain.mark());
            let start = mark.map(|mark| mark.start_count);
            let wish = wanted.and_then(|set| set.get(&id)).map(|wanted| wanted.wish);
            let known = wish.is_some() || self.records.contains_key(&id);
            let there = mark.is_some() || observed.overlays.contains(&id);
            let fleeting = self.fleeting.entry(id).or_default();
            if start.is_none() || wish != Some(Wish::Off) {
                fleeting.shutdown_asked_ms = None;
            }
            if start.is_none() || fleeting.watched_start != start || wish != Some(Wish::On) {
                fleeting.watched_start = None;
                // Dropping the guard ends the watching task.
                self.watches.remove(&id);
            }
            if known || !there || !fresh {
                fleeting.unknown_since_ms = None;
            } else {
                fleeting.unknown_since_ms.get_or_insert(now_ms);
            }
        }
        self.fleeting.retain(|_, one| *one != Fleeting::default());
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
        if foreign {
            state.foreign.insert(id);
        } else if view.wanted.is_none() && view.record.is_none() {
            state.unknown.insert(id);
        }
        plan(&view, around)
    }

    async fn begin(&mut self, id: DesktopId, step: Step, observed: &Observed) {
        let now_ms = self.now_ms();
        let wanted = observed.wanted.desktops.as_ref().and_then(|set| set.get(&id));
        let generation = wanted.map(|wanted| wanted.generation).unwrap_or_default();
        let template = wanted.and_then(|wanted| wanted.template.as_ref().ok());
        let fleeting = self.fleeting.entry(id).or_default();
        match step {
            Step::Fetch(image) => return self.fetch(image),
            Step::WatchReadiness(start_count) => return self.watch(id, start_count, template),
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
                fleeting.busy = Some(Busy::Other);
            }
            Step::Start(ref start) => {
                fleeting.busy = Some(Busy::Starting);
                let Start { start_count, .. } = **start;
                // Before the start: no later one may have the same number.
                self.change_record(id, |record| record.start_count = start_count).await;
            }
            Step::RemoveOverlay => {
                fleeting.busy = Some(Busy::Other);
                // Before the removal: a desktop that is wanted again after it may be prepared anew.
                self.change_record(id, Record::lose_disk).await;
            }
            Step::MakeOverlay(_) | Step::Destroy | Step::Bury(_) => {
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
        self.fleeting.entry(id).or_default().watched_start = Some(start_count);
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
