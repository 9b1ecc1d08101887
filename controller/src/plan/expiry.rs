//! What has lain long enough: expired sign-ins and tokens, ended sessions and operations, answered
//! requests, old intervals of use.

use std::collections::BTreeSet;

use crate::model::{Key, Step, World};

/// Ended operations and sessions, answered requests and dead tokens are kept this long.
pub const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;

/// Ended roll-outs are kept this long: somebody asks which version came when.
pub const ROLLOUTS_KEPT_MS: i64 = 30 * KEPT_MS;

/// Intervals of use are kept this long: a year's bill with time to ask about it.
pub const USAGE_KEPT_MS: i64 = 400 * KEPT_MS;

/// That a host was removed is remembered until every certificate from before has expired: these live for
/// 24 hours, and clocks differ.
pub const REMOVED_HOSTS_KEPT_MS: i64 = 25 * 60 * 60 * 1_000;

/// At most `steps_max` removals; the next round takes the rest.
pub fn expired(world: &World, now_ms: i64, steps_max: usize) -> Vec<Step> {
    let old = move |since_ms: i64| KEPT_MS <= now_ms.saturating_sub(since_ms);
    let sign_ins = world
        .sign_ins
        .iter()
        .filter(move |(_, one)| one.expire_ms <= now_ms)
        .map(|(hash, _)| Key::SignIn(hash.clone()));
    let tokens = world
        .enroll_tokens
        .iter()
        .filter(move |(_, one)| old(one.expire_ms))
        .map(|(hash, _)| Key::EnrollToken(hash.clone()));
    let operations = world
        .operations
        .iter()
        .filter(move |(_, one)| one.end.as_ref().is_some_and(|(end_ms, _)| old(*end_ms)))
        .map(|(id, _)| Key::Operation(*id));
    let sessions = world
        .sessions
        .iter()
        .filter(move |(_, one)| !one.is_live() && old(one.since_ms))
        .map(|((tenant, id), _)| Key::Session(tenant.clone(), *id));
    let batches = world
        .batches
        .iter()
        .filter(move |(_, one)| one.end_ms.is_some_and(old))
        .map(|(id, _)| Key::Batch(*id));
    let rollouts = world
        .rollouts
        .iter()
        .filter(move |(_, one)| {
            one.end_ms.is_some_and(|end_ms| ROLLOUTS_KEPT_MS <= now_ms.saturating_sub(end_ms))
        })
        .map(|((tenant, id), _)| Key::Rollout(tenant.clone(), *id));
    let requests = world
        .requests
        .iter()
        .filter(move |(_, one)| old(one.create_ms))
        .map(|((tenant, id), _)| Key::Request(tenant.clone(), id.clone()));
    let usage = world
        .usage
        .iter()
        .filter(move |(_, one)| {
            one.end_ms.is_some_and(|end_ms| USAGE_KEPT_MS <= now_ms.saturating_sub(end_ms))
        })
        .map(|(key, _)| Key::Usage(key.clone()));
    let removed_hosts = world
        .removed_hosts
        .iter()
        .filter(move |(_, at_ms)| REMOVED_HOSTS_KEPT_MS <= now_ms.saturating_sub(***at_ms))
        .map(|(host, _)| Key::RemovedHost(host.clone()));
    sign_ins
        .chain(removed_hosts)
        .chain(usage)
        .chain(tokens)
        .chain(operations)
        .chain(batches)
        .chain(rollouts)
        .chain(sessions)
        .chain(requests)
        .take(steps_max)
        .map(Step::Delete)
        .collect()
}

/// SHA-256 of every file that a template's version is made of: what the folder of images must keep.
pub fn images_kept(world: &World) -> BTreeSet<String> {
    let files = world.versions.values().flat_map(|version| version.manifest.files());
    files.map(|file| file.sha256.clone()).collect()
}
