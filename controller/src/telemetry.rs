//! What the controller counts; docs/operations.md says the same to people.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vidi_kit::Clock;
use vidi_kit::ids::HostId;
use vidi_kit::telemetry::{ANSWER_SECONDS, Health, Metric, START_SECONDS};

use crate::model::{PoolStatus, Power, Presence, World};
use crate::reconcile::Handle;

/// A commit that nobody knows of is tried for 60 s; a leader that is silent for longer is stuck.
const ROUND_SECS_MAX: Duration = Duration::from_secs(90);
/// Files of the store whose sizes are added up.
const FILES_MAX: usize = 1_000;
/// Tenants that have their own figures; those of all others are told together, as `other`.
const TENANTS_MAX: usize = 100;
/// Pools that have their own figures; those of all others are told together, as `other`.
const POOLS_MAX: usize = 200;

/// Says what the store takes on its disk, in bytes.
pub type StoreBytes = Box<dyn Fn() -> u64 + Send + Sync>;

/// All of it.
pub const METRICS: &[Metric] = &[
    Metric::gauge("vidi_controller_leading", "1 while this controller leads."),
    Metric::gauge("vidi_controller_desktops", "Desktops, by tenant and power.")
        .by_any(&["tenant", "power"]),
    Metric::gauge("vidi_controller_hosts", "Hosts, by state.")
        .by("state", &["connected", "unreachable"]),
    Metric::gauge(
        "vidi_controller_can_lose_domains",
        "Failure domains that may fail together now, and all desktops still fit on the rest.",
    ),
    Metric::gauge("vidi_controller_gateways", "Gateways that are linked."),
    Metric::gauge("vidi_controller_sessions", "Sessions that go on, by state.")
        .by("state", &["opening", "connected", "disconnected"]),
    Metric::gauge("vidi_controller_pool_desktops", "Desktops of pools, by tenant, pool and state.")
        .by_any(&["tenant", "pool", "state"]),
    Metric::gauge(
        "vidi_controller_pool_spare_wanted",
        "Free desktops that pools should have now, by schedule, forecast and queue.",
    )
    .by_any(&["tenant", "pool"]),
    Metric::gauge("vidi_controller_pool_waiting", "Users who wait for a desktop of a pool."),
    Metric::gauge("vidi_controller_pools_suspended", "Pools that make no more desktops."),
    Metric::counter(
        "vidi_controller_pool_suspensions_total",
        "Pools that failures have suspended.",
    ),
    Metric::counter("vidi_controller_pool_refills_total", "Desktops that were made for pools."),
    Metric::counter("vidi_controller_claims_total", "Claims of desktops of pools, by their luck.")
        .by("result", &["hit", "waited", "preparing"]),
    Metric::histogram(
        "vidi_controller_claim_wait_seconds",
        START_SECONDS,
        "From the claim of a desktop of a pool until there was one.",
    ),
    Metric::counter("vidi_controller_rollouts_total", "Roll-outs that have ended, by how.")
        .by("result", &["done", "rolled_back", "cancelled"]),
    Metric::counter(
        "vidi_controller_rollout_failures_total",
        "Desktops of versions that were rolled out that failed.",
    ),
    Metric::counter(
        "vidi_controller_batch_desktops_total",
        "Desktops with which a change of many has come to its end, by how.",
    )
    .by("result", &["done", "failed"]),
    Metric::counter("vidi_controller_messages_total", "Messages to users of sessions."),
    Metric::gauge("vidi_controller_operations_open", "Operations that have not ended."),
    Metric::gauge("vidi_controller_sign_ins", "Sign-ins that are kept."),
    Metric::counter("vidi_controller_sign_in_attempts_total", "Tries to sign in, by their end.")
        .by("result", &["right", "wrong", "throttled", "failed"]),
    Metric::counter(
        "vidi_controller_audit_entries_total",
        "Calls in the audit log, and those that there was no room for.",
    )
    .by("result", &["done", "refused", "omitted"]),
    Metric::gauge("vidi_controller_changes_queued", "Changes that wait for their decision."),
    Metric::counter("vidi_controller_decisions_total", "Changes decided, by their end.")
        .by("result", &["done", "refused", "busy"]),
    Metric::histogram(
        "vidi_controller_decision_seconds",
        ANSWER_SECONDS,
        "From a change's arrival in the queue to its durable answer.",
    ),
    Metric::counter("vidi_controller_commits_total", "Commits to the store, by their end.")
        .by("result", &["done", "refused", "deposed"]),
    Metric::histogram("vidi_controller_commit_seconds", ANSWER_SECONDS, "Commits to the store."),
    Metric::gauge("vidi_controller_store_bytes", "What the store takes on its disk."),
    Metric::counter(
        "vidi_controller_etcd_failures_total",
        "Calls that a member of etcd did not answer.",
    )
    .by_any(&["member"]),
    Metric::counter(
        "vidi_controller_standby_calls_total",
        "Calls while another controller leads, by what became of them.",
    )
    .by("result", &["here", "passed", "failed", "refused"]),
    Metric::counter(
        "vidi_controller_copy_mended_total",
        "Rows that a watch of the store had left out, found by listing everything again.",
    ),
    Metric::counter("vidi_controller_rpc_requests_total", "Calls, by method and gRPC code.")
        .by_any(&["method", "code"]),
    Metric::histogram(
        "vidi_controller_rpc_seconds",
        ANSWER_SECONDS,
        "Calls until their answer begins, by method.",
    )
    .by_any(&["method"]),
    Metric::gauge("vidi_controller_streams", "Answers that are still being sent, by method.")
        .by_any(&["method"]),
];

/// Makes `/ready` and `/live` follow the owner, and sets the gauges whenever they are read.
/// `store_bytes` says what the store takes on its disk.
pub fn watch(health: &Health, handle: &Handle, clock: Clock, store_bytes: StoreBytes) {
    health.loop_turns("leader", handle.pulse(), ROUND_SECS_MAX);
    let (leads, stores) = (handle.clone(), handle.clone());
    health.needs("leadership", move || {
        let standing = leads.standing();
        match (standing.leading, standing.leader.as_str()) {
            (true, _) => Ok(()),
            (false, "") => Err("this controller does not lead; it stands by".to_owned()),
            (false, leader) => {
                Err(format!("this controller does not lead; it stands by, {leader} leads"))
            }
        }
    });
    health.needs("store", move || match stores.standing().store_problem {
        None => Ok(()),
        Some(problem) => Err(format!("it did not take the last commit: {problem}")),
    });
    sample(health, handle.clone(), clock, store_bytes);
}

fn sample(health: &Health, handle: Handle, clock: Clock, store_bytes: StoreBytes) {
    let seen = Mutex::new(BTreeMap::new());
    let seen_pools = Mutex::new(BTreeMap::new());
    health.sample(move || {
        let world = handle.world();
        metrics::gauge!("vidi_controller_store_bytes").set(store_bytes() as f64);
        let standing = handle.standing();
        metrics::gauge!("vidi_controller_leading").set(f64::from(u8::from(standing.leading)));
        metrics::gauge!("vidi_controller_changes_queued").set(handle.queued() as f64);
        // The map is whole at every moment.
        set_desktops(&world, &mut seen.lock().unwrap_or_else(PoisonError::into_inner));
        let now_ms = clock.now_ms();
        set_pools(&world, now_ms, &mut seen_pools.lock().unwrap_or_else(PoisonError::into_inner));
        set_others(&world);
    });
}

/// Of an embedded store: the folder has a handful of files, and one folder of large values.
pub fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.take(FILES_MAX).flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
        Ok(found) => found.len(),
        Err(_gone) => 0,
    });
    sizes.sum()
}

type Series = (String, &'static str);

/// A series that was told once goes on at 0: a gauge that stays where it was would lie.
fn set_desktops(world: &World, seen: &mut BTreeMap<Series, usize>) {
    for count in seen.values_mut() {
        *count = 0;
    }
    for ((tenant, _), desktop) in world.desktops.iter() {
        let power = power_word(&desktop.status.power);
        let own = (tenant.to_string(), power);
        let known = seen.contains_key(&own) || seen.len() < TENANTS_MAX * POWERS;
        let series = if known { own } else { ("other".to_owned(), power) };
        *seen.entry(series).or_default() += 1;
    }
    for ((tenant, power), count) in seen.iter() {
        let gauge = metrics::gauge!(
            "vidi_controller_desktops", "tenant" => tenant.clone(), "power" => *power
        );
        gauge.set(*count as f64);
    }
}

type PoolSeries = (String, String);

/// Of each state, and how many free ones are wanted.
type PoolFigures = [u32; POOL_STATES.len() + 1];

/// As [`set_desktops`], of pools.
fn set_pools(world: &World, now_ms: i64, seen: &mut BTreeMap<PoolSeries, PoolFigures>) {
    for counts in seen.values_mut() {
        *counts = Default::default();
    }
    let (mut waiting, mut suspended) = (0, 0_u32);
    for ((tenant, id), pool) in world.pools.iter() {
        let own = (tenant.to_string(), id.to_string());
        let known = seen.contains_key(&own) || seen.len() < POOLS_MAX;
        let series = if known { own } else { ("other".to_owned(), "other".to_owned()) };
        let status = world.pool_status(tenant, *id, now_ms);
        let PoolStatus { ready, preparing, claimed, spare_wanted, .. } = status;
        let counts = seen.entry(series).or_default();
        for (count, more) in counts.iter_mut().zip([ready, preparing, claimed, spare_wanted]) {
            *count += more;
        }
        waiting += status.waiting;
        suspended += u32::from(pool.suspended.is_some());
    }
    for ((tenant, pool), counts) in seen.iter() {
        let wanted = counts.last().copied().unwrap_or_default();
        metrics::gauge!(
            "vidi_controller_pool_spare_wanted",
            "tenant" => tenant.clone(), "pool" => pool.clone()
        )
        .set(f64::from(wanted));
        for (state, count) in POOL_STATES.iter().zip(counts) {
            let gauge = metrics::gauge!(
                "vidi_controller_pool_desktops",
                "tenant" => tenant.clone(), "pool" => pool.clone(), "state" => *state
            );
            gauge.set(f64::from(*count));
        }
    }
    metrics::gauge!("vidi_controller_pool_waiting").set(f64::from(waiting));
    metrics::gauge!("vidi_controller_pools_suspended").set(f64::from(suspended));
}

const POOL_STATES: [&str; 3] = ["ready", "preparing", "claimed"];

/// Words of [`power_word`].
const POWERS: usize = 6;

const fn power_word(power: &Power) -> &'static str {
    match power {
        Power::Preparing => "preparing",
        Power::Off => "off",
        Power::Starting => "starting",
        Power::Running => "running",
        Power::Saved => "saved",
        Power::Failed(_) => "failed",
    }
}

fn set_others(world: &World) {
    let silent = |host: &HostId| world.hosts_live.get(host).is_none_or(|live| live.silent);
    let unreachable = world.hosts.iter().filter(|(host, _)| silent(host)).count();
    for (state, count) in
        [("unreachable", unreachable), ("connected", world.hosts.len() - unreachable)]
    {
        metrics::gauge!("vidi_controller_hosts", "state" => state).set(count as f64);
    }
    let mut sessions = BTreeMap::from([("opening", 0_u32), ("connected", 0), ("disconnected", 0)]);
    for (id, tenant) in world.live_sessions.iter() {
        if let Some(one) = world.session(tenant, *id)
            && !matches!(one.presence, Presence::Ended(_))
        {
            *sessions.entry(one.presence.word()).or_default() += 1;
        }
    }
    for (state, count) in sessions {
        metrics::gauge!("vidi_controller_sessions", "state" => state).set(f64::from(count));
    }
    metrics::gauge!("vidi_controller_can_lose_domains").set(world.fleet.can_lose() as f64);
    metrics::gauge!("vidi_controller_gateways").set(world.gateways.len() as f64);
    metrics::gauge!("vidi_controller_operations_open").set(world.open_operations.len() as f64);
    metrics::gauge!("vidi_controller_sign_ins").set(world.sign_ins.len() as f64);
}
