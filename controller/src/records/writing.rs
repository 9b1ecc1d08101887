//! The model as the store keeps it.

use bytes::Bytes;
use prost::Message;
use vidi_proto::store::v1 as stored;
use vidi_proto::v1 as wire;

use super::{SCHEMA, kind_to_stored, rollouts, schedule, tenancy};
use crate::contract::{
    cause_to_wire, display_policy_to_wire, manifest_to_wire, policy_to_wire, power_to_wire,
};
use crate::model::{
    DesktopSpec, DesktopStatus, Host, Machine, Operation, Place, Pool, PoolKind, PoolUsers,
    Presence, Row, Session,
};

/// A row's value in the store.
pub fn value(row: &Row) -> Bytes {
    match row {
        Row::Installation(one) => encode(&stored::Installation {
            id: one.id.to_string(),
            schema: SCHEMA,
            create_ms: one.create_ms,
        }),
        Row::GrantKey(_, public_key, create_ms) => {
            encode(&stored::GrantKey { public_key: public_key.clone(), create_ms: *create_ms })
        }
        Row::Tenant(..)
        | Row::Branding(..)
        | Row::User(..)
        | Row::Group(..)
        | Row::Member(..)
        | Row::SignIn(..)
        | Row::EnrollToken(..)
        | Row::HostRule(..)
        | Row::Audit(..)
        | Row::AuditHead(_) => tenancy::value(row),
        Row::Template(_, _, one) => encode(&stored::Template {
            display_name: one.display_name.clone(),
            latest_digest: one.latest_digest.clone(),
            create_ms: one.create_ms,
            publish_ms: one.publish_ms,
            published_before: one.published_before.clone(),
        }),
        Row::Version(_, _, _, one) => encode(&stored::TemplateVersion {
            manifest: manifest_to_wire(&one.manifest).encode_to_vec(),
            create_ms: one.create_ms,
        }),
        Row::Host(_, one) => encode(&host_to_stored(one)),
        Row::RemovedHost(_, remove_ms) => encode(&stored::RemovedHost { remove_ms: *remove_ms }),
        Row::Spec(_, _, one) => encode(&spec_to_stored(one)),
        Row::Status(_, _, one) => encode(&status_to_stored(one)),
        Row::Allocation(_, _, one) => encode(&stored::Allocation {
            tenant: one.tenant.to_string(),
            memory_mib: one.memory_mib,
        }),
        Row::Session(_, _, one) => encode(&session_to_stored(one)),
        Row::Machine(_, _, one) => encode(&machine_to_stored(one)),
        Row::Pool(_, _, one) => encode(&pool_to_stored(one)),
        Row::Forecast(_, _, one) => {
            encode(&stored::Forecast { learned: one.learned, means: one.parts().collect() })
        }
        Row::Operation(_, one) => encode(&operation_to_stored(one)),
        Row::Batch(_, one) => encode(&rollouts::batch_to_stored(one)),
        Row::Rollout(_, _, one) => encode(&rollouts::rollout_to_stored(one)),
        Row::Request(_, _, one) => encode(&stored::Request {
            body_sha256: one.body_sha256.to_vec(),
            operation: one.operation.map(|id| id.to_string()).unwrap_or_default(),
            resource: one.resource.clone(),
            create_ms: one.create_ms,
            by: one.by.clone(),
        }),
        Row::Usage(key, one) => encode(&stored::UsageInterval {
            kind: kind_to_stored(key.kind),
            user: one.user.as_ref().map(ToString::to_string).unwrap_or_default(),
            display_name: one.display_name.clone(),
            start_ms: key.start_ms,
            end_ms: one.end_ms.unwrap_or(0),
            session: one.session.map(|id| id.to_string()).unwrap_or_default(),
            machine: one.machine,
        }),
        Row::Alive(at_ms) => encode(&stored::Alive { at_ms: *at_ms }),
    }
}

pub(super) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// The number of a wire enum's value; those are not negative.
fn number(value: impl Into<i32>) -> u32 {
    u32::try_from(value.into()).unwrap_or(0)
}

fn host_to_stored(one: &Host) -> stored::Host {
    stored::Host {
        create_ms: one.create_ms,
        cordoned: one.cordoned,
        draining: one.draining,
        stop_in_use: one.stop_in_use,
        removing: one.removing.iter().map(ToString::to_string).collect(),
        failure_domain: one.failure_domain.clone(),
        labels: one.labels.clone().into_iter().collect(),
    }
}

fn spec_to_stored(one: &DesktopSpec) -> stored::DesktopSpec {
    stored::DesktopSpec {
        display_name: one.display_name.clone(),
        template: one.template.to_string(),
        template_digest: one.template_digest.clone(),
        assigned_user: one.assigned_user.as_ref().map(ToString::to_string).unwrap_or_default(),
        power_on: one.power_on,
        force_off: one.force_off,
        deleting: one.deleting,
        generation: one.generation,
        create_ms: one.create_ms,
        app_id: one.app_id.to_string(),
        restarting: one.restarting,
        release_policy: number(policy_to_wire(one.release_policy)),
        display_policy: display_policy_to_wire(one.display_policy).encode_to_vec(),
        trace: one.trace.map(|id| id.to_string()).unwrap_or_default(),
        pool: one.pool.map(|id| id.to_string()).unwrap_or_default(),
        restored: one.restored,
    }
}

fn status_to_stored(one: &DesktopStatus) -> stored::DesktopStatus {
    let (power, failure) = power_to_wire(&one.power);
    stored::DesktopStatus {
        power: number(power),
        reason: if failure.is_empty() { one.reason.clone() } else { failure },
        host: one.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        session: one.session.map(|id| id.to_string()).unwrap_or_default(),
        observed_generation: one.observed_generation,
        power_since_ms: one.power_since_ms,
        acceleration: one.acceleration.clone(),
    }
}

fn session_to_stored(one: &Session) -> stored::Session {
    let (desktop, machine) = match one.place {
        Place::Desktop(id) => (id.to_string(), String::new()),
        Place::Machine(id) => (String::new(), id.to_string()),
        Place::Pool(_) => (String::new(), String::new()),
    };
    let mut record = stored::Session {
        user: one.user.to_string(),
        desktop,
        machine,
        epoch: one.epoch,
        gateway: one.gateway.as_ref().map(ToString::to_string).unwrap_or_default(),
        create_ms: one.create_ms,
        trace: one.trace.map(|id| id.to_string()).unwrap_or_default(),
        pool: one.pool.map(|id| id.to_string()).unwrap_or_default(),
        notices: one.notices.iter().map(rollouts::notice_to_stored).collect(),
        ..stored::Session::default()
    };
    if let Presence::Ended(cause) = &one.presence {
        let (code, away_secs) = cause_to_wire(cause);
        record.ended = true;
        record.end_ms = one.since_ms;
        record.end_reason = cause.to_string();
        record.end_cause = number(code);
        record.away_secs = away_secs;
    }
    record
}

fn machine_to_stored(one: &Machine) -> stored::Machine {
    let settings = &one.settings;
    let sealed = settings.password.as_ref();
    stored::Machine {
        display_name: settings.display_name.clone(),
        address: settings.address.clone(),
        tls: settings.tls,
        ca: settings.ca.clone(),
        host_name: settings.host_name.clone(),
        wrapped_password: sealed.map(|sealed| sealed.wrapped.clone()).unwrap_or_default(),
        nonce: sealed.map(|sealed| sealed.nonce.clone()).unwrap_or_default(),
        assigned_user: settings.assigned_user.as_ref().map(ToString::to_string).unwrap_or_default(),
        app_id: one.app_id.to_string(),
        create_ms: one.create_ms,
        generation: one.generation,
        display_policy: display_policy_to_wire(settings.display_policy).encode_to_vec(),
    }
}

fn pool_to_stored(one: &Pool) -> stored::Pool {
    let settings = &one.settings;
    let (everyone, users) = match &settings.users {
        PoolUsers::Everyone => (true, Vec::new()),
        PoolUsers::Listed(users) => (false, users.iter().map(ToString::to_string).collect()),
    };
    let kind = match settings.kind {
        PoolKind::Floating => wire::PoolKind::Floating,
        PoolKind::Dedicated => wire::PoolKind::Dedicated,
    };
    let suspended = one.suspended.as_ref();
    stored::Pool {
        display_name: settings.display_name.clone(),
        template: settings.template.to_string(),
        kind: number(kind),
        min_spare: settings.min_spare,
        max_desktops: settings.max_desktops,
        idle_secs: settings.idle_secs.unwrap_or_default(),
        user_sessions_max: settings.user_sessions_max.unwrap_or_default(),
        time_zone: settings.schedule.zone.name().to_owned(),
        schedule: settings.schedule.rules.iter().map(schedule::rule_to_stored).collect(),
        forecast: settings.forecast,
        users,
        everyone,
        disconnect_secs: settings.disconnect_secs.unwrap_or(0),
        max_session_secs: settings.max_session_secs.unwrap_or(0),
        release_policy: number(policy_to_wire(settings.release_policy)),
        display_policy: display_policy_to_wire(settings.display_policy).encode_to_vec(),
        app_id: one.app_id.to_string(),
        create_ms: one.create_ms,
        generation: one.generation,
        deleting: one.deleting,
        suspended_ms: suspended.map_or(0, |one| one.since_ms),
        suspended_reason: suspended.map(|one| one.reason.clone()).unwrap_or_default(),
        failures_ms: one.failures_ms.clone(),
        pin_digest: one.pin.as_ref().map(|pin| pin.digest.clone()).unwrap_or_default(),
        pin_ms: one.pin.as_ref().map_or(0, |pin| pin.since_ms),
        trial: rollouts::trial_to_stored(one),
    }
}

fn operation_to_stored(one: &Operation) -> stored::Operation {
    let resource = format!("tenants/{}/desktops/{}", one.tenant, one.desktop);
    let mut record = stored::Operation {
        kind: one.kind.as_str().to_owned(),
        target: resource.clone(),
        user: one.user.as_ref().map(ToString::to_string).unwrap_or_default(),
        create_ms: one.create_ms,
        generation: one.generation,
        stage: one.stage.clone(),
        ..stored::Operation::default()
    };
    if let Some((end_ms, result)) = &one.end {
        record.done = true;
        record.end_ms = *end_ms;
        match result {
            Ok(()) => record.resource = resource,
            Err(error) => {
                record.error_reason = error.reason.as_str().to_owned();
                record.error_message.clone_from(&error.message);
            }
        }
    }
    record
}
