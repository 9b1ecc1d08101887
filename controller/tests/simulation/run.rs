//! One run: a fleet in which things go wrong for a while, then nothing does, and all comes to rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vidi_controller::model::{
    Guest, ImageFile, Manifest, Readiness, Row, Step, Template, TemplateVersion, Tenant, User,
    Video,
};
use vidi_controller::ports::{Expect, Store, Write};
use vidi_controller::records;
use vidi_kit::ids::UserId;

use crate::agents::Agent;
use crate::controllers::Controller;
use crate::faults::{self, Fleet};
use crate::gateways::Gateway;
use crate::operators::Operator;
use crate::people::Person;
use crate::quiet::{miscounted, missing};
use crate::sim::{START_MS, Shape, Sim, tenant};
use crate::tenancy::unrecorded;
use crate::{provider, rollouts, watcher};

/// After the last fault everything is at rest within this time: a desktop that finds no host is given up
/// after 10 min, a session whose user is gone ends after 2.
pub(crate) const QUIET_MINUTES_MAX: i64 = 15;
const MINUTE_MS: i64 = 60_000;

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) shape: Shape,
    pub(crate) log: String,
    pub(crate) violations: Vec<String>,
    pub(crate) virtual_ms: i64,
    pub(crate) faults: u64,
    pub(crate) commits: u64,
    pub(crate) visited: Vec<String>,
}

impl Outcome {
    /// What somebody needs who looks for the cause.
    pub(crate) fn story(&self) -> String {
        const LINES: usize = 50;
        let lines: Vec<&str> = self.log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        format!(
            "seed {}, {} s of virtual time, {:?}\n{}\n{}\nreplay: tests/run sim --seeds 1 --first-seed {}",
            self.shape.seed,
            self.virtual_ms / 1_000,
            self.shape,
            last.join("\n"),
            self.violations.join("\n"),
            self.shape.seed,
        )
    }
}

/// Runs a seed, in virtual time, on this thread.
pub(crate) fn run(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let sim = Sim::new(Shape::of(seed));
        live(&sim).await;
        let checker = sim.checker();
        let (commits, visited) = (checker.commits, checker.visited.iter().cloned().collect());
        drop(checker);
        let mut log = sim.log();
        Outcome {
            shape: sim.shape,
            virtual_ms: sim.now_ms() - START_MS,
            faults: log.faults.values().sum(),
            log: std::mem::take(&mut log.text),
            violations: std::mem::take(&mut log.violations),
            commits,
            visited,
        }
    })
}

async fn live(sim: &Arc<Sim>) {
    let users = furnish(sim).await;
    let shape = sim.shape;
    sim.say("run", &format!("{shape:?}"));
    let named =
        |kind: &str, count: u64| (1..=count).map(|number| format!("{kind}-{number}")).collect();
    let names: Vec<String> = named("controller", shape.controllers);
    let controllers = names.iter().map(|name| Controller::begin(sim, name)).collect();
    let dice = sim.dice("fleet");
    let names: Vec<String> = named("host", shape.hosts);
    let mut agents = Vec::new();
    for name in &names {
        let memory_mib = 1_500 + dice.below(3_000);
        sim.checker().knows_host(name.parse().unwrap(), memory_mib);
        agents.push(Agent::begin(sim, name, memory_mib));
    }
    let names: Vec<String> = named("gateway", shape.gateways);
    let gateways: Vec<Arc<Gateway>> = names.iter().map(|name| Gateway::begin(sim, name)).collect();
    for user in &users {
        Person::begin(sim, user.as_str(), &gateways);
    }
    Operator::begin(sim, "operator-1", &users);
    Operator::begin(sim, "operator-2", &users);
    provider::begin(sim, &users);
    rollouts::begin(sim);
    watcher::begin(sim);
    doubt(sim);
    faults::begin(sim, &Fleet { controllers, agents, gateways });
    // Cancel-safe: what goes on is of no interest any more.
    tokio::select! {
        biased;
        () = sim.violated.notified() => {}
        () = until_rest(sim) => {}
    }
}

async fn until_rest(sim: &Arc<Sim>) {
    tokio::time::sleep(Duration::from_secs(sim.shape.busy_minutes * 60)).await;
    sim.calm_down();
    let calm_ms = sim.now_ms();
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let Some(missing) = missing(sim) else { break };
        if QUIET_MINUTES_MAX * MINUTE_MS < sim.now_ms() - calm_ms {
            sim.violate(format!("{missing}, {QUIET_MINUTES_MAX} min after the last fault"));
            return;
        }
    }
    sim.say("run", "at rest");
    for what in miscounted(sim).into_iter().chain(unrecorded(sim)) {
        sim.violate(what);
    }
}

/// While nobody leads, or who does is slow, nobody knows exactly what goes on.
fn doubt(sim: &Arc<Sim>) {
    const PERIOD_MS: i64 = 500;
    let watched = Arc::clone(sim);
    let _doubts = sim.tasks.spawn("doubt", async move {
        let dice = watched.dice("doubt");
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let leads = watched.leader(&dice);
            let well = leads.is_some_and(|one| {
                !one.life.paused.load(Ordering::SeqCst)
                    && one.handle.standing().store_problem.is_none()
            });
            if !well {
                watched.truth().doubt_all_ms += PERIOD_MS;
            }
        }
    });
}

/// A tenant with users and a template, as they are stored.
pub(crate) async fn furnish(sim: &Arc<Sim>) -> Vec<UserId> {
    let tenant = tenant();
    let named = Tenant { display_name: "t".to_owned(), create_ms: START_MS, ..Tenant::default() };
    let disk = ImageFile { file: "d".to_owned(), sha256: "0".repeat(64), size_bytes: 1 };
    let (video, readiness) = (Video::Qxl, Readiness::Helper);
    let guest = Guest { memory_mib: 512, vcpus: 1, video, readiness, sound: false };
    let manifest = Manifest { disk, kernel: None, initrd: None, cmdline: String::new(), guest };
    let digest = format!("sha256:{}", "0".repeat(64));
    let template = Template {
        display_name: "Micro".to_owned(),
        latest_digest: digest.clone(),
        create_ms: START_MS,
        publish_ms: START_MS,
        published_before: Vec::new(),
    };
    let id = || "micro".parse().unwrap();
    let version = TemplateVersion { manifest, create_ms: START_MS };
    let mut rows = vec![
        Row::Tenant(tenant.clone(), named),
        Row::Template(tenant.clone(), id(), template),
        Row::Version(tenant.clone(), id(), digest, version.clone()),
    ];
    rows.extend(
        rollouts::drafts().map(|draft| Row::Version(tenant.clone(), id(), draft, version.clone())),
    );
    let users: Vec<UserId> =
        (1..=sim.shape.users).map(|number| format!("user-{number}").parse().unwrap()).collect();
    for user in &users {
        let record = User {
            display_name: user.to_string(),
            roles: vec!["user".to_owned()],
            password_hash: String::new(),
            create_ms: START_MS,
        };
        rows.push(Row::User(tenant.clone(), user.clone(), record));
    }
    let writes: Vec<Write> = rows.into_iter().map(|row| records::write(&Step::Put(row))).collect();
    let expect = [Expect::absent("tenant/t")];
    let done = sim.store.memory.commit(&expect, &writes).await.unwrap();
    sim.committed("run", done.revision, &writes);
    users
}
