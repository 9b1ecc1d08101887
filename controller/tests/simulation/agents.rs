//! Machines and their agents: they do what their wanted set says, and report over links that break.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use vidi_controller::model::{Change, HostHello, HostReport, Refusal, UsageKind, World};
use vidi_controller::plan::wanted::{removals, wanted};
use vidi_kit::ids::{DesktopId, HostId};

use crate::dice::Dice;
use crate::sim::{START_MS, Serving, Sim, short};
use crate::truth::{Machine, News, Wish};

/// An agent looks after its desktops this often, ms.
const STEP_MS: u64 = 500;
/// It reports this often when nothing happens.
const REPORT_PERIOD: Duration = Duration::from_secs(10);
/// Who hears nothing for this long takes the link to be gone, ms.
const SILENCE_MS: u64 = 35_000;

/// One machine.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) sim: Arc<Sim>,
    pub(crate) host: HostId,
    dice: Dice,
    connections: AtomicU64,
    /// There is something to report.
    news: Notify,
    /// The link breaks.
    pub(crate) cut: Notify,
}

/// What the agent is told: all that it must have.
type WantedSet = (u64, Vec<(DesktopId, Wish)>);

/// One link, both ends of it and the line between them.
struct Link<'a> {
    agent: &'a Agent,
    serving: Serving,
    number: u64,
    /// The agent's own count of its links.
    connection: u64,
    up: VecDeque<(Instant, HostReport)>,
    down: VecDeque<(Instant, WantedSet)>,
    told_change: Option<u64>,
    told: Option<Vec<(DesktopId, Wish)>>,
}

impl Agent {
    /// A new machine, with power.
    pub(crate) fn begin(sim: &Arc<Sim>, host: &str, memory_mib: u64) -> Arc<Self> {
        let id: HostId = host.parse().unwrap();
        let machine = Machine { memory_mib, powered: true, agent_runs: true, ..Machine::default() };
        sim.truth().machines.insert(id.clone(), machine);
        let agent = Arc::new(Self {
            sim: Arc::clone(sim),
            host: id,
            dice: sim.dice(host),
            connections: AtomicU64::new(0),
            news: Notify::new(),
            cut: Notify::new(),
        });
        let works = Arc::clone(&agent);
        let _works = sim.tasks.spawn("machine", async move { works.work().await });
        let links = Arc::clone(&agent);
        let _links = sim.tasks.spawn("agent", async move { links.keep_linked().await });
        agent
    }

    async fn work(&self) {
        loop {
            self.dice.wait(STEP_MS, STEP_MS).await;
            let now_ms = self.sim.now_ms();
            let failing = if self.sim.is_calm() { 0 } else { 60 };
            let mut told = Vec::new();
            let mut truth = self.sim.truth();
            let Some(machine) = truth.machines.get_mut(&self.host) else { return };
            if !machine.powered || !machine.agent_runs {
                continue;
            }
            let ids: Vec<DesktopId> =
                machine.wanted.keys().chain(machine.domains.keys()).copied().collect();
            for id in ids {
                if let Some(news) = machine.step(id, now_ms, &self.dice, failing) {
                    told.push((id, news));
                }
            }
            for (id, news) in &told {
                match news {
                    News::Runs => truth.note(*id, UsageKind::Running, true, now_ms),
                    News::Rests => truth.note(*id, UsageKind::Running, false, now_ms),
                    News::Other => {}
                }
            }
            drop(truth);
            if told.iter().any(|(_, news)| *news == News::Runs) {
                self.sim.check_hosts();
            }
            if !told.is_empty() {
                self.tell(&told);
                self.news.notify_one();
            }
        }
    }

    fn tell(&self, told: &[(DesktopId, News)]) {
        let words: Vec<String> =
            told.iter().map(|(id, news)| format!("{} {news:?}", short(id))).collect();
        self.sim.say(self.host.as_str(), &words.join(", "));
    }

    /// Something of its desktops that nobody wanted.
    pub(crate) fn end_domain(&self, by_guest: bool) {
        let now_ms = self.sim.now_ms();
        let truth = self.sim.truth();
        let Some(machine) = truth.machines.get(&self.host) else { return };
        let running: Vec<DesktopId> =
            machine.domains.iter().filter(|(_, one)| one.runs()).map(|(id, _)| *id).collect();
        let Some(id) = self.dice.pick(&running).copied() else { return };
        drop(truth);
        self.end_one(id, by_guest, now_ms);
    }

    /// One of them ends, if it runs here.
    pub(crate) fn end_one(&self, id: DesktopId, by_guest: bool, now_ms: i64) {
        let mut truth = self.sim.truth();
        let Some(machine) = truth.machines.get_mut(&self.host) else { return };
        if machine.end(id, by_guest, now_ms) {
            truth.note(id, UsageKind::Running, false, now_ms);
            drop(truth);
            self.sim
                .fault(if by_guest { "guest shuts down" } else { "domain crashes" }, &short(id));
            self.news.notify_one();
        }
    }

    /// The machine goes down, and comes back after a while.
    pub(crate) async fn lose_power(&self, least_ms: u64, most_ms: u64) {
        let now_ms = self.sim.now_ms();
        if !self.power_off() {
            return;
        }
        self.sim.idle(&self.dice, least_ms, most_ms).await;
        self.up_again();
        self.doubt(self.sim.now_ms() - now_ms);
    }

    /// The machine goes down, if it was up.
    pub(crate) fn power_off(&self) -> bool {
        let now_ms = self.sim.now_ms();
        let mut truth = self.sim.truth();
        let Some(machine) = truth.machines.get_mut(&self.host) else { return false };
        if !machine.powered {
            return false;
        }
        for id in machine.lose_power(now_ms) {
            truth.note(id, UsageKind::Running, false, now_ms);
        }
        drop(truth);
        self.sim.fault("machine loses power", self.host.as_str());
        self.cut.notify_one();
        true
    }

    /// The agent ends, and starts again after a while; desktops run on.
    pub(crate) async fn restart_agent(&self, least_ms: u64, most_ms: u64) {
        self.end_agent();
        self.sim.idle(&self.dice, least_ms, most_ms).await;
        self.up_again();
    }

    /// The agent ends; desktops run on.
    pub(crate) fn end_agent(&self) {
        if let Some(machine) = self.sim.truth().machines.get_mut(&self.host) {
            machine.agent_runs = false;
        }
        self.sim.fault("agent ends", self.host.as_str());
        self.cut.notify_one();
    }

    /// Machine and agent are up, whatever was before.
    pub(crate) fn up_again(&self) {
        if let Some(machine) = self.sim.truth().machines.get_mut(&self.host) {
            (machine.powered, machine.agent_runs) = (true, true);
        }
        self.sim.say(self.host.as_str(), "is up again");
    }

    /// Nobody knew what went on here for this long.
    fn doubt(&self, ms: i64) {
        let mut truth = self.sim.truth();
        let Some(machine) = truth.machines.get(&self.host) else { return };
        let ids: Vec<DesktopId> = machine.domains.keys().copied().collect();
        for id in ids {
            truth.doubt(id, UsageKind::Running, ms);
        }
    }

    fn runs(&self) -> bool {
        self.sim.truth().machines.get(&self.host).is_some_and(|one| one.powered && one.agent_runs)
    }

    async fn keep_linked(&self) {
        loop {
            let unlinked_ms = self.sim.now_ms();
            while !self.runs() {
                self.dice.wait(200, 1_000).await;
            }
            self.dice.wait(100, 2_000).await;
            let Some(serving) = self.sim.leader(&self.dice) else { continue };
            let number = serving.life.links.fetch_add(1, Ordering::SeqCst) + 1;
            let link = Link {
                agent: self,
                serving,
                number,
                connection: self.connections.fetch_add(1, Ordering::SeqCst) + 1,
                up: VecDeque::new(),
                down: VecDeque::new(),
                told_change: None,
                told: None,
            };
            link.run(unlinked_ms).await;
        }
    }
}

impl Link<'_> {
    async fn run(mut self, unlinked_ms: i64) {
        let (life, handle) = (Arc::clone(&self.serving.life), self.serving.handle.clone());
        let sim = Arc::clone(&self.agent.sim);
        let host = self.agent.host.clone();
        // Cancel-safe: a change that was asked for goes on without its caller.
        let why = tokio::select! {
            biased;
            () = life.gone() => "the controller is gone",
            () = self.agent.cut.notified() => "cut",
            why = self.serve(unlinked_ms) => why,
        };
        sim.say(host.as_str(), &format!("link {} to {} ends: {why}", self.number, life.name));
        let dice = self.agent.dice.clone();
        let number = self.number;
        // What is on its way may still come, and the end is noticed late.
        let late = if dice.permille(500) { std::mem::take(&mut self.up) } else { VecDeque::new() };
        let _ending = sim.tasks.clone().spawn("link-end", async move {
            for (_, report) in late {
                dice.wait(0, 3_000).await;
                life.moves().await;
                let report = Box::new(report);
                let change = Change::HostReported { host: host.clone(), link: number, report };
                drop(handle.change(change).await);
            }
            dice.wait(0, if why == "cut" { SILENCE_MS } else { 100 }).await;
            life.moves().await;
            drop(handle.change_when_free(Change::HostUnlinked { host, link: number }).await);
        });
    }

    async fn serve(&mut self, unlinked_ms: i64) -> &'static str {
        let agent = self.agent;
        let (dice, sim) = (&agent.dice, &agent.sim);
        let life = Arc::clone(&self.serving.life);
        let serving = self.serving.clone();
        let handle = &serving.handle;
        let hello = HostHello {
            agent_version: "1".to_owned(),
            hostname: agent.host.to_string(),
            relay_address: format!("{}:7444", agent.host),
        };
        let (host, link) = (agent.host.clone(), self.number);
        dice.wait(1, 20).await;
        life.moves().await;
        let linked = Change::HostLinked { host, link, hello, certified_ms: START_MS };
        if handle.change(linked).await.is_err() {
            return "refused";
        }
        sim.say(agent.host.as_str(), &format!("link {} to {}", self.number, life.name));
        agent.doubt(sim.now_ms() - unlinked_ms + 2_000);
        let mut heard = 0;
        let mut beat = tokio::time::interval(REPORT_PERIOD);
        let never = Instant::now() + Duration::from_secs(1_000_000);
        loop {
            life.moves().await;
            let world = serving.world(&mut heard);
            self.tell(&world);
            let up = self.up.front().map_or(never, |(at, _)| *at);
            let down = self.down.front().map_or(never, |(at, _)| *at);
            // Cancel-safe: all of them only wait; what they wait for is taken below.
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(up) => {
                    let Some((_, report)) = self.up.pop_front() else { continue };
                    let (host, link) = (agent.host.clone(), self.number);
                    let change = Change::HostReported { host, link, report: Box::new(report) };
                    match handle.change(change).await {
                        Ok(_) | Err(Refusal::Busy) => {}
                        Err(_refusal) => return "a report was refused",
                    }
                }
                () = tokio::time::sleep_until(down) => {
                    if let Some((_, set)) = self.down.pop_front() {
                        self.take(set);
                    }
                }
                () = serving.changed(heard) => {}
                () = agent.news.notified() => self.report(),
                _ = beat.tick() => self.report(),
            }
        }
    }

    /// As the controller's end does: whole sets, when they differ from what was sent.
    fn tell(&mut self, world: &World) {
        let host = &self.agent.host;
        let change = world.host_changes.get(host).map_or(0, |change| **change);
        if self.told_change == Some(change) {
            return;
        }
        self.told_change = Some(change);
        let known = wanted(world, host);
        let destroyed = Wish { generation: 0, on: false, force_off: true, destroy: true };
        let unknown = removals(world, host).into_iter().map(|id| (id, destroyed));
        let set: Vec<(DesktopId, Wish)> =
            known.iter().map(|one| (one.id, Wish::from(one))).chain(unknown).collect();
        if self.told.as_ref() == Some(&set) {
            return;
        }
        let at = self.arrival(self.down.back().map(|(at, _)| *at));
        self.down.push_back((at, (world.sequence, set.clone())));
        self.told = Some(set);
    }

    fn take(&self, (number, set): WantedSet) {
        let agent = self.agent;
        let mut truth = agent.sim.truth();
        let Some(machine) = truth.machines.get_mut(&agent.host) else { return };
        let words: Vec<String> = set
            .iter()
            .map(|(id, wish)| {
                let what = match (wish.destroy, wish.on) {
                    (true, _) => "x",
                    (false, true) => "+",
                    (false, false) => "-",
                };
                format!("{}{what}{}", short(id), wish.generation)
            })
            .collect();
        machine.wanted = set.into_iter().collect();
        machine.wanted_link = self.connection;
        machine.wanted_number = number;
        drop(truth);
        agent.sim.say(agent.host.as_str(), &format!("wanted {number}: {}", words.join(" ")));
        agent.news.notify_one();
    }

    fn report(&mut self) {
        let agent = self.agent;
        let report = {
            let truth = agent.sim.truth();
            let Some(machine) = truth.machines.get(&agent.host) else { return };
            if !machine.agent_runs {
                return;
            }
            machine.report(self.connection, agent.sim.now_ms())
        };
        let at = self.arrival(self.up.back().map(|(at, _)| *at));
        self.up.push_back((at, report));
    }

    /// When something that is sent now arrives: in order, some of it late.
    fn arrival(&self, last: Option<Instant>) -> Instant {
        let (sim, dice) = (&self.agent.sim, &self.agent.dice);
        let late = sim.goes_wrong(dice, 10);
        let wait = if late { dice.span(500, 8_000) } else { dice.span(0, 20) };
        let at = Instant::now() + wait;
        last.map_or(at, |last| at.max(last))
    }
}
