//! Resources of the model on the wire, and the checks that several services share.

use std::sync::Arc;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;
use vidi_kit::ids::{
    DesktopId, HostId, MachineId, OperationId, PoolId, SessionId, TemplateId, TenantId,
};
use vidi_proto::v1 as wire;

use super::Caller;
use super::names::{id, split};
use super::status::invalid_field;
use super::users::timestamp;
use crate::contract::{
    cause_to_wire, display_policy_to_wire, manifest_to_wire, policy_to_wire, power_to_wire,
};
use crate::model::{
    Allocation, Answer, Assignment, Desktop, Host, Operation, Place, Power, Presence, RequestKey,
    Session, Template, TemplateVersion, World,
};
use crate::plan::hosts::drain_blockers;

/// Longest display name, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 200;
/// Unknown desktops of a host that are listed; who has more restores a backup.
const UNKNOWN_DESKTOPS_MAX: usize = 1_000;
/// Longest request id, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What is said of a desktop whose state is not known, since it is of a backup.
const RESTORED: &str = "the store was restored from a backup: it is left as it is until somebody \
                        opens, starts, stops or deletes it";

/// What a desktop waits for, for people.
fn reason(one: &Desktop) -> String {
    match one.status.reason.as_str() {
        _ if one.spec.restored && !one.spec.deleting => RESTORED.to_owned(),
        reason => reason.to_owned(),
    }
}

/// A desktop of the world, as it is now.
pub fn desktop(world: &World, tenant: &TenantId, id: DesktopId, one: &Desktop) -> wire::Desktop {
    let (power, failure) = power_to_wire(&one.status.power);
    let assignment = match one.assignment() {
        Assignment::Free => wire::Assignment::Free,
        Assignment::Claimed(_) => wire::Assignment::Claimed,
        Assignment::Assigned(_) => wire::Assignment::Assigned,
    };
    let wanted = if one.spec.power_on { wire::WantedPower::On } else { wire::WantedPower::Off };
    let user = one.spec.assigned_user.as_ref();
    let session = one.status.session;
    let on_it = session.and_then(|id| {
        let known = world.session(tenant, id)?;
        Some(self::session(world, tenant, id, known))
    });
    wire::Desktop {
        name: desktop_name(tenant, id),
        spec: Some(wire::DesktopSpec {
            template: format!("tenants/{tenant}/templates/{}", one.spec.template),
            template_digest: one.spec.template_digest.clone(),
            assigned_user: user
                .map(|user| format!("tenants/{tenant}/users/{user}"))
                .unwrap_or_default(),
            power: wanted.into(),
            generation: one.spec.generation,
            restarting: one.spec.restarting,
            release_policy: policy_to_wire(world.release_policy(tenant, &one.spec)).into(),
            display_policy: Some(display_policy_to_wire(world.display_policy(tenant, &one.spec))),
            pool: one.spec.pool.map(|pool| pool_name(tenant, pool)).unwrap_or_default(),
        }),
        status: Some(wire::DesktopStatus {
            power: power.into(),
            reason: if failure.is_empty() { reason(one) } else { failure },
            ready: world.is_ready(one, id),
            host: one.status.host.as_ref().map(|host| format!("hosts/{host}")).unwrap_or_default(),
            assignment: assignment.into(),
            session: session.map(|session| session_name(tenant, session)).unwrap_or_default(),
            observed_generation: one.status.observed_generation,
            host_unreachable: world.is_host_silent(one),
            acceleration: one.status.acceleration.clone(),
            power_since: Some(timestamp(one.status.power_since_ms)),
            session_user: on_it.as_ref().map(|on_it| on_it.user.clone()).unwrap_or_default(),
            session_state: on_it.as_ref().map_or(0, |on_it| on_it.state),
            session_state_since: on_it.and_then(|on_it| on_it.state_since),
        }),
        create_time: Some(timestamp(one.spec.create_ms)),
        etag: World::desktop_etag(one),
        display_name: one.spec.display_name.clone(),
    }
}

/// `tenants/{t}/desktops/{d}`.
pub fn desktop_name(tenant: &TenantId, id: DesktopId) -> String {
    format!("tenants/{tenant}/desktops/{id}")
}

/// `tenants/{t}/machines/{m}`.
pub fn machine_name(tenant: &TenantId, id: MachineId) -> String {
    format!("tenants/{tenant}/machines/{id}")
}

/// `tenants/{t}/pools/{p}`.
pub fn pool_name(tenant: &TenantId, id: PoolId) -> String {
    format!("tenants/{tenant}/pools/{id}")
}

/// `tenants/{t}/sessions/{s}`.
pub fn session_name(tenant: &TenantId, id: SessionId) -> String {
    format!("tenants/{tenant}/sessions/{id}")
}

/// A session; its place in a queue, which hangs on the time, is left out.
pub fn session(world: &World, tenant: &TenantId, id: SessionId, one: &Session) -> wire::Session {
    let (state, cause) = match &one.presence {
        Presence::Opening => (wire::SessionState::Opening, None),
        Presence::Connected => (wire::SessionState::Connected, None),
        Presence::Disconnected(_) => (wire::SessionState::Disconnected, None),
        Presence::Ended(cause) => (wire::SessionState::Ended, Some(cause)),
    };
    let (end_cause, away_secs) = cause.map(cause_to_wire).unwrap_or_default();
    let (desktop, machine) = match one.place {
        Place::Desktop(id) => (desktop_name(tenant, id), String::new()),
        Place::Machine(id) => (String::new(), machine_name(tenant, id)),
        Place::Pool(_) => (String::new(), String::new()),
    };
    let attached = one.gateway.as_ref().filter(|_| one.presence == Presence::Connected);
    wire::Session {
        name: session_name(tenant, id),
        user: format!("tenants/{tenant}/users/{}", one.user),
        desktop,
        machine,
        problem: one.problem.clone(),
        state: state.into(),
        end_reason: cause.map(ToString::to_string).unwrap_or_default(),
        end_cause: end_cause.into(),
        away_secs,
        create_time: Some(timestamp(one.create_ms)),
        state_since: Some(timestamp(one.since_ms)),
        gateway: attached.map(ToString::to_string).unwrap_or_default(),
        etag: format!("e{}-{}", one.epoch, one.presence.word()),
        trace: one.trace.map(|id| id.to_string()).unwrap_or_default(),
        pool: one.pool.map(|pool| pool_name(tenant, pool)).unwrap_or_default(),
        queue: None,
        release_policy: release_policy(world, tenant, one).into(),
    }
}

/// What becomes of a session's desktop with its end; of one that waits, what its pool says.
fn release_policy(world: &World, tenant: &TenantId, one: &Session) -> wire::ReleasePolicy {
    let desktop = match one.place {
        Place::Desktop(id) => world.desktop(tenant, id),
        Place::Machine(_) | Place::Pool(_) => None,
    };
    let by_desktop = desktop.map(|desktop| world.release_policy(tenant, &desktop.spec));
    let by_pool = || Some(world.pool(tenant, one.pool?)?.settings.release_policy);
    let known = by_desktop.or_else(by_pool);
    known.map_or(wire::ReleasePolicy::Unspecified, policy_to_wire)
}

/// An operation.
pub fn operation(id: OperationId, one: &Operation) -> wire::Operation {
    let target = desktop_name(&one.tenant, one.desktop);
    let result = one.end.as_ref().map(|(_, result)| match result {
        Ok(()) => wire::operation::Result::Resource(target.clone()),
        Err(error) => wire::operation::Result::Error(wire::OperationError {
            reason: error.reason.as_str().to_owned(),
            message: error.message.clone(),
        }),
    });
    wire::Operation {
        name: format!("operations/{id}"),
        kind: one.kind.as_str().to_owned(),
        target,
        stage: one.stage.clone(),
        create_time: Some(timestamp(one.create_ms)),
        end_time: one.end.as_ref().map(|(end_ms, _)| timestamp(*end_ms)),
        done: one.end.is_some(),
        result,
        progress: None,
    }
}

/// A template with its published version.
pub fn template(
    world: &World,
    tenant: &TenantId,
    id: &TemplateId,
    one: &Template,
) -> wire::Template {
    let latest = world.version(tenant, id, &one.latest_digest);
    wire::Template {
        name: format!("tenants/{tenant}/templates/{id}"),
        display_name: one.display_name.clone(),
        latest: latest.map(|version| self::version(one, &one.latest_digest, version)),
        create_time: Some(timestamp(one.create_ms)),
        etag: World::template_etag(one),
        publish_time: Some(timestamp(one.publish_ms.max(one.create_ms))),
        published_before: one.published_before.iter().rev().cloned().collect(),
    }
}

/// A version of a template; how many desktops have it is left out.
pub fn version(
    template: &Template,
    digest: &str,
    version: &TemplateVersion,
) -> wire::TemplateVersion {
    wire::TemplateVersion {
        digest: digest.to_owned(),
        manifest: Some(manifest_to_wire(&version.manifest)),
        create_time: Some(timestamp(version.create_ms)),
        published: template.latest_digest == digest,
        desktops: 0,
    }
}

/// A host, with what its agent said last.
pub fn host(world: &World, id: &HostId, one: &Host) -> wire::Host {
    let placed: Vec<_> = world.allocations_of(id).collect();
    let runs = |(id, one): &&(DesktopId, &Arc<Allocation>)| {
        world.desktop(&one.tenant, *id).is_some_and(|one| one.status.power == Power::Running)
    };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut status = wire::HostStatus {
        memory_charged_mib: world.fleet.charged_mib(id),
        desktops: count(placed.len()),
        desktops_running: count(placed.iter().filter(runs).count()),
        drain_blockers: drain_blockers(world, id),
        ..wire::HostStatus::default()
    };
    if let Some(live) = world.hosts_live.get(id) {
        status.connected = live.is_linked();
        status.last_seen_time = Some(timestamp(live.last_seen_ms));
        status.agent_version.clone_from(&live.hello.agent_version);
        status.hostname.clone_from(&live.hello.hostname);
        status.relay_address.clone_from(&live.hello.relay_address);
        if let Some(report) = &live.report {
            status.cpus = report.cpus;
            status.memory_total_mib = report.memory_total_mib;
            status.memory_available_mib = report.memory_available_mib;
            status.acceleration.clone_from(&report.acceleration);
            status.problems.clone_from(&report.problems);
            let unknown = report.unknown.iter().take(UNKNOWN_DESKTOPS_MAX);
            status.foreign_desktops = unknown.map(ToString::to_string).collect();
            status.libvirt_version.clone_from(&report.libvirt_version);
            status.qemu_version.clone_from(&report.qemu_version);
            status.images_free_mib = report.images_free_mib;
        }
    }
    wire::Host {
        name: format!("hosts/{id}"),
        status: Some(status),
        create_time: Some(timestamp(one.create_ms)),
        etag: World::host_etag(one),
        spec: Some(wire::HostSpec {
            cordoned: one.cordoned,
            draining: one.draining,
            failure_domain: one.failure_domain.clone(),
            labels: one.labels.clone().into_iter().collect(),
        }),
    }
}

/// The ids of `tenants/{t}/<kind>/{id}`.
pub fn child<T: std::str::FromStr<Err = vidi_kit::ids::IdError>>(
    field: &str,
    name: &str,
    kind: &'static str,
) -> Result<(TenantId, T), Status> {
    let [tenant, child] = split(field, name, ["tenants", kind])?;
    Ok((id(field, tenant)?, id(field, child)?))
}

/// A name for people.
pub fn check_display_name(text: &str) -> Result<(), Status> {
    if DISPLAY_NAME_BYTES_MAX < text.len() {
        return Err(invalid_field("display_name", "at most 200 bytes are allowed"));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid_field("display_name", "control characters are not allowed"));
    }
    Ok(())
}

/// The key of a request; `body` is the request without its id, `method` keeps equal bodies of
/// different methods apart.
///
/// Who asks is part of what is compared: nobody gets the answer to another's request.
pub fn request_key(
    caller: &Caller,
    method: &str,
    request_id: &str,
    body: &impl Message,
) -> Result<Option<RequestKey>, Status> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let plain = request_id.len() <= REQUEST_ID_BYTES_MAX
        && request_id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if !plain {
        let rule = "at most 128 printable ASCII letters without a slash are expected";
        return Err(invalid_field("request_id", rule));
    }
    let by = match caller {
        Caller::User(who) => format!("tenants/{}/users/{}", who.tenant, who.user),
        _ => String::new(),
    };
    let mut hash = Sha256::new();
    hash.update(by.as_bytes());
    hash.update([0]);
    hash.update(method.as_bytes());
    hash.update([0]);
    hash.update(body.encode_to_vec());
    Ok(Some(RequestKey { id: request_id.to_owned(), body_sha256: hash.finalize().into(), by }))
}

/// The reconciler gave an answer of another kind than its change has.
pub fn unexpected(answer: &Answer) -> Status {
    tracing::error!(?answer, "The answer does not fit the change");
    Status::internal("the controller answered something else than was asked")
}
