//! Scenarios that people read: a fleet, what is done to it when, and what an operator sees then. The files are
//! in `tests/scenarios`, with their language in its README.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vidi_controller::model::{
    Change, DisplayPolicy, EndCause, PoolKind, PoolSettings, PoolUsers, ReleasePolicy,
};

use crate::agents::Agent;
use crate::controllers::Controller;
use crate::faults::Fleet;
use crate::gateways::Gateway;
use crate::people::Person;
use crate::run::furnish;
use crate::scribe::{Line, Scribe};
use crate::sim::{Shape, Sim, tenant};
use crate::watcher;

/// How far a line may be off, ms: who looks looks every 100 ms, and nobody counts on less.
const TOLERANCE_MS: i64 = 2_000;
/// Controllers, hosts, gateways or users of a scenario.
const COUNT_MAX: u64 = 20;
/// Between the end of somebody's visit and its last word.
const CALLS_MAX: usize = 5;

/// A file, read.
#[derive(Debug, Default)]
pub(crate) struct Scenario {
    counts: BTreeMap<String, u64>,
    memory_mib: u64,
    /// When, in ms of the run, and what is to be done.
    script: Vec<Line>,
    expected: Vec<Line>,
}

impl Scenario {
    /// What the text of a file says, or which line of it says nothing.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut scenario = Self::default();
        let mut expects = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let wrong = || format!("line {}: \"{line}\" is not understood", number + 1);
            if line.is_empty() {
                continue;
            } else if line == "expected" {
                expects = true;
            } else if let Some(fleet) = line.strip_prefix("fleet ") {
                scenario.read_fleet(fleet).ok_or_else(wrong)?;
            } else {
                let line = timed(line).ok_or_else(wrong)?;
                if expects { &mut scenario.expected } else { &mut scenario.script }.push(line);
            }
        }
        let ends = scenario.script.last().is_some_and(|(_, what)| what == "end");
        let in_order = scenario.script.is_sorted_by_key(|(at_ms, _)| *at_ms);
        if !ends || !in_order || scenario.memory_mib == 0 {
            return Err("a fleet, a script in the order of time and its end are needed".to_owned());
        }
        Ok(scenario)
    }

    /// `1 controller, 3 hosts of 4096 MiB, 1 gateway, 2 users`
    fn read_fleet(&mut self, text: &str) -> Option<()> {
        for part in text.split(", ") {
            let words: Vec<&str> = part.split(' ').collect();
            let (count, kind) = (words.first()?.parse::<u64>().ok()?, words.get(1)?);
            self.counts.insert(kind.trim_end_matches('s').to_owned(), count.min(COUNT_MAX));
            if let [_, _, "of", memory_mib, "MiB"] = words[..] {
                self.memory_mib = memory_mib.parse().ok()?;
            }
        }
        Some(())
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let count = self.counts.get(kind).copied().unwrap_or(0);
        (1..=count).map(|number| format!("{kind}-{number}")).collect()
    }

    /// Runs it in virtual time, on this thread; what an operator saw, and what must not have been.
    pub(crate) fn run(&self) -> (Vec<Line>, Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let count = |kind: &str| self.counts.get(kind).copied().unwrap_or(0);
            let sim = Sim::new(Shape {
                seed: 1,
                controllers: count("controller"),
                hosts: count("host"),
                gateways: count("gateway"),
                users: count("user"),
                busy_minutes: 0,
                gentle: true,
                scripted: true,
            });
            let scribe = self.play(&sim).await;
            let violations = std::mem::take(&mut sim.log().violations);
            (scribe.lines(), violations)
        })
    }

    async fn play(&self, sim: &Arc<Sim>) -> Arc<Scribe> {
        let _users = furnish(sim).await;
        let controllers = self.names("controller");
        let controllers = controllers.iter().map(|name| Controller::begin(sim, name)).collect();
        let mut agents = Vec::new();
        for name in self.names("host") {
            sim.checker().knows_host(name.parse().unwrap(), self.memory_mib);
            agents.push(Agent::begin(sim, &name, self.memory_mib));
        }
        let gateways = self.names("gateway");
        let gateways = gateways.iter().map(|name| Gateway::begin(sim, name)).collect();
        watcher::begin(sim);
        let scribe = Scribe::begin(sim);
        let fleet = Fleet { controllers, agents, gateways };
        let mut stage =
            Stage { sim, fleet, scribe: Arc::clone(&scribe), visits: BTreeMap::default() };
        let began = tokio::time::Instant::now();
        for (at_ms, what) in &self.script {
            let at = began + Duration::from_millis(u64::try_from(*at_ms).unwrap());
            tokio::time::sleep_until(at).await;
            let words: Vec<&str> = what.split(' ').collect();
            if !stage.act(&words).await {
                sim.violate(format!("\"{what}\" is nothing that can be done then"));
            }
        }
        scribe
    }

    /// What was seen and not expected, and the other way round; nothing when all is as written.
    pub(crate) fn differences(&self, seen: &[Line]) -> String {
        let mut unexpected = seen.to_vec();
        let mut text = String::new();
        for (at_ms, what) in &self.expected {
            let is_it = |line: &Line| line.1 == *what && (line.0 - at_ms).abs() <= TOLERANCE_MS;
            match unexpected.iter().position(is_it) {
                Some(index) => drop(unexpected.remove(index)),
                None => writeln!(text, "not seen:     {}", written(*at_ms, what)).unwrap(),
            }
        }
        for (at_ms, what) in unexpected {
            writeln!(text, "not expected: {}", written(at_ms, &what)).unwrap();
        }
        text
    }
}

/// Runs a file; what was seen, and what is wrong with it. With `bless` what was seen becomes what is expected.
pub(crate) fn run_file(path: &Path, bless: bool) -> (String, String) {
    let text = std::fs::read_to_string(path).unwrap();
    let scenario = match Scenario::read(&text) {
        Ok(scenario) => scenario,
        Err(what) => return (String::new(), what),
    };
    let (lines, violations) = scenario.run();
    let seen: String = lines.iter().map(|(at_ms, what)| written(*at_ms, what) + "\n").collect();
    let mut wrong = scenario.differences(&lines);
    if bless {
        let head = text.split("\nexpected\n").next().unwrap_or_default();
        std::fs::write(path, format!("{}\n\nexpected\n{seen}", head.trim_end())).unwrap();
        wrong.clear();
    }
    for violation in violations {
        writeln!(wrong, "must not be:  {violation}").unwrap();
    }
    (seen, wrong)
}

/// `12:30 what`
fn timed(line: &str) -> Option<Line> {
    let (time, what) = line.split_once(' ')?;
    let (minutes, secs) = time.split_once(':')?;
    let secs: i64 = minutes.parse::<i64>().ok()? * 60 + secs.parse::<i64>().ok()?;
    Some((secs * 1_000, what.trim().to_owned()))
}

fn written(at_ms: i64, what: &str) -> String {
    let secs = at_ms / 1_000;
    format!("{:02}:{:02} {what}", secs / 60, secs % 60)
}

/// Where a script is played.
struct Stage<'a> {
    sim: &'a Arc<Sim>,
    fleet: Fleet,
    scribe: Arc<Scribe>,
    visits: BTreeMap<String, tokio::task::AbortHandle>,
}

impl Stage<'_> {
    /// Does what these words say; false where they say nothing.
    async fn act(&mut self, words: &[&str]) -> bool {
        match *words {
            ["end"] => true,
            ["pool", name, "is", kind, spare, "spare", "of", most] => {
                self.make_pool(name, kind, (spare, most)).await
            }
            [user, "opens", pool] => self.open(user, pool),
            [user, "closes", "the", "browser"] => self.close(user),
            [user, "signs", "off"] => self.close(user) && self.release(user).await,
            ["store", "is", "away", "for", secs, "s"] => {
                let until_ms = self.sim.now_ms() + 1_000 * secs.parse::<i64>().unwrap();
                self.sim.store.away_until_ms.store(until_ms, Ordering::SeqCst);
                true
            }
            [who, ref what @ ..] => {
                self.to_host(who, what).await
                    || self.to_controller(who, what)
                    || self.to_gateway(who, what)
                    || self.to_desktop(who, what)
            }
            [] => false,
        }
    }

    async fn to_host(&self, who: &str, what: &[&str]) -> bool {
        let agent = self.fleet.agents.iter().find(|one| one.host.as_str() == who);
        let Some(agent) = agent else { return false };
        let (host, etag) = (agent.host.clone(), String::new());
        let change = match what {
            ["loses", "power"] => return agent.power_off(),
            ["has", "power"] | ["agent", "starts"] => {
                agent.up_again();
                return true;
            }
            ["agent", "ends"] => {
                agent.end_agent();
                return true;
            }
            ["link", "breaks"] => {
                agent.cut.notify_one();
                return true;
            }
            ["is", "cordoned"] => Change::CordonHost { host, etag },
            ["is", "uncordoned"] => Change::UncordonHost { host, etag },
            ["is", "drained"] => Change::DrainHost { host, etag, stop_in_use: false },
            ["is", "drained", "at", "once"] => Change::DrainHost { host, etag, stop_in_use: true },
            _ => return false,
        };
        self.ask(change).await;
        true
    }

    fn to_controller(&self, who: &str, what: &[&str]) -> bool {
        let found = self.fleet.controllers.iter().find(|one| one.name() == who);
        let Some(controller) = found.map(Arc::clone) else { return false };
        let tasks = self.sim.tasks.clone();
        match *what {
            ["dies"] => {
                drop(tasks.spawn("script", async move { controller.die().await }));
            }
            ["stands", "still", "for", secs, "s"] => {
                let ms = 1_000 * secs.parse::<u64>().unwrap();
                drop(tasks.spawn("script", async move { controller.pause(ms, ms).await }));
            }
            _ => return false,
        }
        true
    }

    fn to_gateway(&self, who: &str, what: &[&str]) -> bool {
        let gateway = self.fleet.gateways.iter().find(|one| one.id.as_str() == who);
        match (gateway, what) {
            (Some(gateway), ["dies"]) => gateway.fall(),
            (Some(gateway), ["is", "back"]) => gateway.rise(),
            (Some(gateway), ["link", "breaks"]) => gateway.cut.notify_one(),
            _ => return false,
        }
        true
    }

    fn to_desktop(&self, who: &str, what: &[&str]) -> bool {
        let Some(id) = self.scribe.desktop(who) else { return false };
        let by_guest = match what {
            ["crashes"] => false,
            ["shuts", "down"] => true,
            _ => return false,
        };
        for agent in &self.fleet.agents {
            agent.end_one(id, by_guest, self.sim.now_ms());
        }
        true
    }

    async fn make_pool(&self, name: &str, kind: &str, (spare, most): (&str, &str)) -> bool {
        let (kind, release_policy) = match kind {
            "floating" => (PoolKind::Floating, ReleasePolicy::Delete),
            "dedicated" => (PoolKind::Dedicated, ReleasePolicy::Stop),
            _ => return false,
        };
        let settings = PoolSettings {
            idle_secs: None,
            user_sessions_max: None,
            schedule: vidi_controller::model::schedule::Schedule::default(),
            forecast: false,
            display_name: name.to_owned(),
            template: "micro".parse().unwrap(),
            kind,
            min_spare: spare.parse().unwrap(),
            max_desktops: most.parse().unwrap(),
            users: PoolUsers::Everyone,
            disconnect_secs: None,
            max_session_secs: None,
            release_policy,
            display_policy: DisplayPolicy::default(),
        };
        let (pool, settings) = (name.parse().unwrap(), Box::new(settings));
        let (tenant, request, validate_only) = (tenant(), None, false);
        self.ask(Change::CreatePool { tenant, pool, settings, request, validate_only }).await;
        true
    }

    /// The browser stays open until it is closed, whatever happens to the picture.
    fn open(&mut self, user: &str, pool: &str) -> bool {
        let mut person = Person::new(self.sim, user, &self.fleet.gateways);
        let app = pool.parse().unwrap();
        let visit = self.sim.tasks.spawn("person", async move { person.stay(app).await });
        self.visits.insert(user.to_owned(), visit.abort_handle());
        true
    }

    fn close(&mut self, user: &str) -> bool {
        let Some(visit) = self.visits.remove(user) else { return false };
        visit.abort();
        let shown: Vec<_> = self.sim.truth().attached.keys().copied().collect();
        let dice = self.sim.dice("stage");
        let Some(serving) = self.sim.leader(&dice) else { return true };
        let world = serving.handle.world();
        for session in shown {
            let own =
                world.session(&tenant(), session).is_some_and(|one| one.user.as_str() == user);
            for gateway in self.fleet.gateways.iter().filter(|_| own) {
                gateway.leave(session);
            }
        }
        true
    }

    async fn release(&self, user: &str) -> bool {
        let Some(serving) = self.sim.leader(&self.sim.dice("stage")) else { return false };
        let world = serving.handle.world();
        let own = world.sessions.iter().find(|(_, one)| one.is_live() && one.user.as_str() == user);
        let Some(((_, session), _)) = own else { return false };
        let (tenant, session, cause) = (tenant(), *session, EndCause::Released);
        self.ask(Change::ReleaseSession { tenant, session, cause }).await;
        true
    }

    /// As an operator who asks again when nobody answers.
    async fn ask(&self, change: Change) {
        let dice = self.sim.dice("stage");
        for _ in 0..CALLS_MAX {
            if self.sim.call(&dice, change.clone()).await.is_ok() {
                return;
            }
            dice.wait(500, 500).await;
        }
        self.sim.violate(format!("{change:?} was not taken"));
    }
}
